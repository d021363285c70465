//! JSON-RPC 1.0 as RFC 7047 section 4 uses it: requests, notifications (requests with a null id) and replies.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// Any message, its parts still text. Which parts are there tells what it is.
#[derive(Debug, Deserialize)]
pub(crate) struct Message<'a> {
    #[serde(borrow)]
    pub(crate) id: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(crate) method: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(crate) params: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(crate) result: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(crate) error: Option<&'a RawValue>,
}

impl<'a> Message<'a> {
    pub(crate) fn parse(text: &'a [u8]) -> serde_json::Result<Self> {
        serde_json::from_slice(text)
    }

    /// The id, when it is one of ours: our requests count from 1.
    pub(crate) fn own_id(&self) -> Option<u64> {
        self.id.and_then(|id| id.get().parse().ok())
    }

    /// The result of a reply, or the error that stands in its place.
    pub(crate) fn into_result(self) -> Result<&'a RawValue, RpcError> {
        match (self.error, self.result) {
            (Some(error), _) => Err(RpcError::parse(error)),
            (None, Some(result)) => Ok(result),
            (None, None) => Err(RpcError {
                error: "the reply has neither result nor error".to_owned(),
                details: None,
            }),
        }
    }
}

/// The error of a reply. RFC 7047 section 3.1 makes it an object with `error` and `details`; ovsdb-server also sends a
/// plain string, for an unknown method.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, thiserror::Error)]
pub struct RpcError {
    /// The kind of error, a short constant text.
    pub error: String,
    /// What exactly is wrong, for people.
    #[serde(default)]
    pub details: Option<String>,
}

impl RpcError {
    fn parse(raw: &RawValue) -> Self {
        serde_json::from_str(raw.get())
            .or_else(|_| {
                serde_json::from_str(raw.get()).map(|error| Self {
                    error,
                    details: None,
                })
            })
            .unwrap_or_else(|_| Self {
                error: raw.get().to_owned(),
                details: None,
            })
    }
}

impl fmt::Display for RpcError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.details {
            Some(details) => write!(f, "{}: {details}", self.error),
            None => f.write_str(&self.error),
        }
    }
}

/// The text of a request.
pub(crate) fn request<P: Serialize>(
    id: u64,
    method: &str,
    params: &P,
) -> serde_json::Result<Vec<u8>> {
    #[derive(Serialize)]
    struct Request<'a, P> {
        id: u64,
        method: &'a str,
        params: &'a P,
    }
    serde_json::to_vec(&Request { id, method, params })
}

/// The text of a reply to the peer's request `id`.
pub(crate) fn reply(
    id: &RawValue,
    result: Option<&RawValue>,
    error: Option<&'static str>,
) -> serde_json::Result<Vec<u8>> {
    #[derive(Serialize)]
    struct Reply<'a> {
        id: &'a RawValue,
        result: Option<&'a RawValue>,
        error: Option<&'static str>,
    }
    serde_json::to_vec(&Reply { id, result, error })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        Message::parse(text.as_bytes())
            .unwrap()
            .into_result()
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn errors_come_as_object_or_string() {
        assert_eq!(
            error(r#"{"id":1,"result":null,"error":"unknown method"}"#),
            "unknown method"
        );
        assert_eq!(
            error(
                r#"{"id":1,"result":null,"error":{"error":"unknown database","details":"x","syntax":"y"}}"#
            ),
            "unknown database: x"
        );
        assert_eq!(error(r#"{"id":1,"error":[7]}"#), "[7]");
        assert!(error(r#"{"id":1}"#).contains("neither"));
    }
}
