//! A raw HTTP/1.1 client: writes a request as it is, reads the whole answer, understands nothing of it.
//!
//! It takes as little of the two cores as a client can, so that what is measured is the server.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;

use anyhow::{Context, Result, bail, ensure};

/// Bytes per read; the answers are large.
const BUFFER: usize = 256 * 1024;

/// A connection that is kept alive.
#[derive(Debug)]
pub(crate) struct Client {
    stream: BufReader<TcpStream>,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

/// How the end of a body is told (RFC 9112 section 6.3).
enum Length {
    Bytes(usize),
    Chunked,
    UntilClosed,
}

impl Client {
    pub(crate) fn over(stream: TcpStream) -> Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self {
            stream: BufReader::with_capacity(BUFFER, stream),
        })
    }

    pub(crate) fn request(&mut self, method: &str, path: &str, body: &str) -> Result<Answer> {
        let length = body.len();
        // One write, so that a small request is one segment.
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        self.stream.get_mut().write_all(request.as_bytes())?;
        self.answer()
            .with_context(|| format!("the answer to {method} {path}"))
    }

    fn answer(&mut self) -> Result<Answer> {
        let line = self.line()?;
        let status = line.split(' ').nth(1).and_then(|word| word.parse().ok());
        let status = status.with_context(|| format!("not HTTP: {line:?}"))?;
        let mut length = Length::UntilClosed;
        loop {
            let line = self.line()?.to_ascii_lowercase();
            let Some((name, value)) = line.split_once(':') else {
                ensure!(line.is_empty(), "not a header: {line:?}");
                break;
            };
            match (name, value.trim()) {
                ("content-length", value) => length = Length::Bytes(value.parse()?),
                ("transfer-encoding", "chunked") => length = Length::Chunked,
                _ => {}
            }
        }
        let mut body = Vec::new();
        match length {
            _ if status == 204 => {}
            Length::Bytes(bytes) => self.take(bytes, &mut body)?,
            Length::UntilClosed => drop(self.stream.read_to_end(&mut body)?),
            Length::Chunked => loop {
                let size = self.line()?;
                let size = usize::from_str_radix(&size, 16).context("the size of a chunk")?;
                self.take(size, &mut body)?;
                ensure!(self.line()?.is_empty(), "no end after a chunk");
                if size == 0 {
                    break;
                }
            },
        }
        Ok(Answer { status, body })
    }

    fn take(&mut self, bytes: usize, body: &mut Vec<u8>) -> Result<()> {
        body.reserve(bytes);
        let taken = (&mut self.stream).take(bytes as u64).read_to_end(body)?;
        ensure!(taken == bytes, "{taken} of {bytes} bytes");
        Ok(())
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        match line.strip_suffix("\r\n") {
            Some(line) => Ok(line.to_owned()),
            None => bail!("the connection was closed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    fn answered_with(answer: &'static str) -> Result<Answer> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
        });
        let answer = Client::over(TcpStream::connect(address)?)?.request("GET", "/", "");
        server.join().unwrap();
        answer
    }

    #[test]
    fn bodies_end_by_length_by_chunk_or_by_close() -> Result<()> {
        for answer in [
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello",
        ] {
            let answer = answered_with(answer)?;
            assert_eq!(
                (answer.status, answer.body.as_slice()),
                (200, &b"hello"[..])
            );
        }
        Ok(())
    }

    #[test]
    fn half_a_body_is_an_error() {
        for answer in [
            "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
            "",
        ] {
            assert!(answered_with(answer).is_err(), "{answer:?}");
        }
    }
}
