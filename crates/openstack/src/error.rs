//! Everything that can go wrong between a command and a service.

use std::time::Duration;

use model::resource::Resource;
use serde::Deserialize;
use thiserror::Error;

/// Why there is no answer, or not the one that was asked for.
#[derive(Debug, Error)]
pub enum Error {
    /// The service cannot be reached.
    #[error("Unable to reach the server at {endpoint}: {cause}.")]
    Unreachable {
        /// Its address.
        endpoint: String,
        /// What the network said.
        cause: String,
    },
    /// The service took too long.
    #[error("The server at {endpoint} did not answer within {} s.", timeout.as_secs())]
    Timeout {
        /// Its address.
        endpoint: String,
        /// How long it was given.
        timeout: Duration,
    },
    /// The service refused.
    #[error("{0}")]
    Refused(Refusal),
    /// Keystone does not answer, or not as it should.
    #[error("Unable to reach Keystone at {endpoint}: {cause}.")]
    NoKeystone {
        /// Its address.
        endpoint: String,
        /// What the network, or Keystone, said.
        cause: String,
    },
    /// Keystone refused.
    #[error("{} (HTTP {}){}", refusal.message, refusal.status, refusal.request_id.as_ref().map(|id| format!(" (Request-ID: {id})")).unwrap_or_default())]
    Keystone {
        /// Its address.
        endpoint: String,
        /// What it said.
        refusal: Refusal,
    },
    /// What was told about where and how to log in makes no sense, or is not enough.
    #[error("{0}")]
    Configuration(String),
    /// What came back is not what a Neutron-style service says.
    #[error("The server at {endpoint} gave an answer that makes no sense: {cause}.")]
    Garbled {
        /// Its address.
        endpoint: String,
        /// What was wrong with it.
        cause: String,
    },
    /// No resource has this name or id.
    #[error("Unable to find {} with {} '{key}'", resource.member, if resource.named { "name or id" } else { "id" })]
    NotFound {
        /// What was looked for.
        resource: &'static Resource,
        /// What it was looked for by.
        key: String,
    },
    /// Several resources have this name.
    #[error("Multiple {} matches found for name '{key}', use an ID to be more specific.", resource.member)]
    Ambiguous {
        /// What was looked for.
        resource: &'static Resource,
        /// The name.
        key: String,
    },
}

impl Error {
    /// Whether the service says that what was named is not there.
    pub fn is_not_found(&self) -> bool {
        match self {
            Self::NotFound { .. } => true,
            Self::Refused(refusal) => refusal.status == 404,
            _ => false,
        }
    }
}

/// An error answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// The exception's name, empty where the body had none.
    pub kind: String,
    /// What was wrong.
    pub message: String,
    /// By which the service's log can be searched.
    pub request_id: Option<String>,
}

/// The answer of a Neutron-style service, or of Keystone and the middleware that speaks for it.
#[derive(Deserialize)]
struct Body {
    #[serde(rename = "NeutronError", alias = "error")]
    error: NeutronError,
}

#[derive(Deserialize)]
struct NeutronError {
    #[serde(rename = "type", default)]
    kind: String,
    message: String,
    #[serde(default)]
    detail: String,
}

impl Refusal {
    /// Reads an error answer. A body that is no NeutronError (a proxy's page) becomes the message, shortened.
    pub(crate) fn read(status: u16, request_id: Option<String>, body: &[u8]) -> Self {
        const LONGEST: usize = 300;
        let (kind, message) = match serde_json::from_slice::<Body>(body) {
            Ok(Body { error }) if error.detail.is_empty() => (error.kind, error.message),
            Ok(Body { error }) => (error.kind, format!("{}\n{}", error.message, error.detail)),
            Err(_) => {
                let text: String = String::from_utf8_lossy(body)
                    .chars()
                    .take(LONGEST)
                    .collect();
                let message = format!("The server answered {status}: {}", text.trim());
                (String::new(), message)
            }
        };
        Self {
            status,
            kind,
            message,
            request_id,
        }
    }
}

impl std::fmt::Display for Refusal {
    /// The message, and the request's id on a line of its own as the neutron shell prints it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)?;
        match &self.request_id {
            Some(id) => write!(f, "\nNeutron server returns request_ids: ['{id}']"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_neutron_error_reads_as_the_neutron_shell_prints_it() {
        let body =
            br#"{"NeutronError": {"type": "L2GatewayNotFound", "message": "L2 Gateway x could not be found", "detail": ""}}"#;
        let refusal = Refusal::read(404, Some("req-1".to_owned()), body);
        assert_eq!(refusal.kind, "L2GatewayNotFound");
        insta::assert_snapshot!(refusal, @r"
        L2 Gateway x could not be found
        Neutron server returns request_ids: ['req-1']
        ");
    }

    #[test]
    fn keystones_answer_is_understood() {
        let body = br#"{"error": {"code": 401, "message": "The request you have made requires authentication.", "title": "Unauthorized"}}"#;
        let refusal = Refusal::read(401, None, body);
        insta::assert_snapshot!(refusal, @"The request you have made requires authentication.");
    }

    #[test]
    fn another_body_is_shown_as_it_came() {
        let refusal = Refusal::read(502, None, b"<html>Bad Gateway</html>\n");
        insta::assert_snapshot!(refusal, @"The server answered 502: <html>Bad Gateway</html>");
    }
}
