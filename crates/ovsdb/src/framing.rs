//! JSON objects out of a byte stream.
//!
//! RFC 7047 section 4.1 sends JSON-RPC objects back to back, without delimiter or length: where one ends is known
//! only by counting brackets outside strings. [`Framer`] looks at every byte once, however the stream is split, so a
//! dump of many megabytes costs time proportional to its length.

/// Largest message accepted by default, in bytes. A dump of 100,000 MAC rows is 22 MB.
pub const DEFAULT_MESSAGE_LIMIT: usize = 512 << 20;

/// Why a byte stream is not a sequence of JSON objects. The stream cannot be used any further.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FramingError {
    /// Something else stood where an object had to begin.
    #[error("the peer does not speak OVSDB: byte {byte:#04x} where a JSON object must begin")]
    NotAnObject {
        /// The offending byte.
        byte: u8,
    },
    /// A message outgrew the limit.
    #[error("the peer sent a message of more than {limit} bytes")]
    TooLong {
        /// The limit, in bytes.
        limit: usize,
    },
}

/// Cuts a byte stream into JSON objects. It does not check that they are well-formed inside; the decoder does.
#[derive(Debug)]
pub struct Framer {
    /// The beginning of the message whose end has not come yet.
    partial: Vec<u8>,
    depth: usize,
    in_string: bool,
    escaped: bool,
    limit: usize,
}

impl Default for Framer {
    fn default() -> Self {
        Self::new(DEFAULT_MESSAGE_LIMIT)
    }
}

impl Framer {
    /// A framer that refuses messages of more than `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self {
            partial: Vec::new(),
            depth: 0,
            in_string: false,
            escaped: false,
            limit,
        }
    }

    /// Bytes that the beginning of a message takes whose end has not come yet.
    pub fn unfinished(&self) -> usize {
        self.partial.capacity()
    }

    /// Takes bytes from the front of `input` up to the end of one message, and returns that message.
    ///
    /// `None` means that `input` is used up and the message goes on.
    ///
    /// # Errors
    /// [`FramingError`] when the stream is no sequence of objects or a message exceeds the limit.
    pub fn next_message(&mut self, input: &mut &[u8]) -> Result<Option<Vec<u8>>, FramingError> {
        if self.depth == 0 {
            *input = input.trim_ascii_start();
        }
        let end = self.scan(input)?;
        let (taken, rest) = input
            .split_at_checked(end.unwrap_or(input.len()))
            .unwrap_or((input, &[]));
        if self.partial.len() + taken.len() > self.limit {
            return Err(FramingError::TooLong { limit: self.limit });
        }
        self.partial.extend_from_slice(taken);
        *input = rest;
        Ok(end.map(|_| std::mem::take(&mut self.partial)))
    }

    /// The offset behind the bracket that closes the current message, if it is in `input`.
    fn scan(&mut self, input: &[u8]) -> Result<Option<usize>, FramingError> {
        let mut rest = input;
        loop {
            if self.in_string {
                self.leave_string(&mut rest);
            }
            let Some((&byte, behind)) = rest.split_first() else {
                return Ok(None);
            };
            rest = behind;
            match byte {
                b'{' => self.depth += 1,
                byte if self.depth == 0 => return Err(FramingError::NotAnObject { byte }),
                b'[' => self.depth += 1,
                b'"' => self.in_string = true,
                b'}' | b']' => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        return Ok(Some(input.len() - rest.len()));
                    }
                }
                _ => {}
            }
        }
    }

    /// Takes what belongs to a string from the front of `input`. Most of a dump stands in strings.
    fn leave_string(&mut self, input: &mut &[u8]) {
        if self.escaped
            && let Some((_, behind)) = input.split_first()
        {
            self.escaped = false;
            *input = behind;
        }
        while let Some(place) = memchr::memchr2(b'"', b'\\', input) {
            let (found, behind) = input.split_at_checked(place + 1).unwrap_or((input, &[]));
            *input = behind;
            if found.ends_with(b"\"") {
                self.in_string = false;
                return;
            }
            // What it escapes may not have come yet.
            match input.split_first() {
                Some((_, behind)) => *input = behind,
                None => self.escaped = true,
            }
        }
        *input = &[];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(framer: &mut Framer, chunks: &[&[u8]]) -> Result<Vec<Vec<u8>>, FramingError> {
        let mut messages = Vec::new();
        for chunk in chunks {
            let mut rest = *chunk;
            while let Some(message) = framer.next_message(&mut rest)? {
                messages.push(message);
            }
            assert!(rest.is_empty());
        }
        Ok(messages)
    }

    fn json() -> impl Strategy<Value = serde_json::Value> {
        use serde_json::Value;
        let text = prop_oneof![r#"[\[\]{}"\\a ]{0,12}"#, any::<String>()];
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            text.clone().prop_map(Value::from)
        ];
        leaf.prop_recursive(4, 32, 5, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::vec((text.clone(), inner), 0..5).prop_map(|pairs| Value::from(
                    pairs.into_iter().collect::<serde_json::Map<_, _>>()
                )),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_split_of_any_messages_gives_the_same_messages(
            values in prop::collection::vec((json(), "[ \n\r\t]{0,3}"), 0..6),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        ) {
            let messages: Vec<Vec<u8>> =
                values.iter().map(|(value, _)| serde_json::json!({"id": value}).to_string().into_bytes()).collect();
            let mut stream = Vec::new();
            for (message, (_, space)) in messages.iter().zip(&values) {
                stream.extend_from_slice(message);
                stream.extend_from_slice(space.as_bytes());
            }
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
            cuts.extend([0, stream.len()]);
            cuts.sort_unstable();
            let chunks: Vec<&[u8]> = cuts.windows(2).map(|pair| &stream[pair[0]..pair[1]]).collect();
            prop_assert_eq!(frame(&mut Framer::default(), &chunks).unwrap(), messages);
        }
    }

    #[test]
    fn garbage_names_the_byte() {
        let error = frame(&mut Framer::default(), &[b"{} HTTP/1.1 400"]).unwrap_err();
        assert_eq!(error, FramingError::NotAnObject { byte: b'H' });
    }

    #[test]
    fn a_message_over_the_limit_is_refused_before_it_ends() {
        let mut framer = Framer::new(16);
        assert_eq!(
            frame(&mut framer, &[b"{\"a\":\"0123", b"4567890"]),
            Err(FramingError::TooLong { limit: 16 })
        );
        assert_eq!(
            frame(&mut Framer::new(16), &[b"{\"a\":\"0123456\"} {}"])
                .unwrap()
                .len(),
            2
        );
    }
}
