//! One record: who, from where, what, and what came of it.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::Changes;
use crate::auth::Caller;

/// Longest message that a record repeats, in bytes.
const MAX_MESSAGE: usize = 1000;

/// One record. Where many resources were changed it is written as several lines that differ in `part` and `changes`.
pub(crate) struct Record {
    /// Everything but the changes; nothing at all for a record that is only waited for.
    head: Option<Map<String, Value>>,
    changes: Option<Changes>,
}

/// What came of a request.
pub(crate) struct Outcome {
    pub(crate) status: u16,
    /// Type and message of what it was refused with.
    pub(crate) refusal: Option<(&'static str, String)>,
}

impl Record {
    /// What somebody asked for.
    pub(crate) fn of_request(
        request_id: &str,
        asked: Map<String, Value>,
        caller: Option<&Caller>,
        outcome: Outcome,
        changes: Option<Changes>,
    ) -> Self {
        let mut head = now();
        head.insert("request_id".to_owned(), request_id.into());
        if let Some(caller) = caller {
            head.insert("user".to_owned(), (*caller.user).into());
            head.insert("user_id".to_owned(), (*caller.user_id).into());
            head.insert("project_id".to_owned(), (*caller.project_id).into());
            head.insert("roles".to_owned(), json!(*caller.roles));
        }
        head.extend(asked);
        head.insert("status".to_owned(), outcome.status.into());
        if let Some((kind, message)) = outcome.refusal {
            let end = message.floor_char_boundary(MAX_MESSAGE);
            let message = message.get(..end).unwrap_or_default();
            head.insert(
                "error".to_owned(),
                json!({"type": kind, "message": message}),
            );
        }
        Self {
            head: Some(head),
            changes,
        }
    }

    /// What the server itself does, and the revision of its database: whoever compares it with the last record sees
    /// whether anything happened that is in none.
    pub(crate) fn event(action: &str, revision: Option<u64>) -> Self {
        let mut head = now();
        head.insert("action".to_owned(), action.into());
        head.insert("version".to_owned(), env!("CARGO_PKG_VERSION").into());
        if let Some(revision) = revision {
            head.insert("revision".to_owned(), revision.into());
        }
        Self {
            head: Some(head),
            changes: None,
        }
    }

    /// What is not written, and yet waited for.
    pub(super) fn nothing() -> Self {
        Self {
            head: None,
            changes: None,
        }
    }

    /// Shows `each` the lines, without what ends them.
    pub(super) fn lines(&self, mut each: impl FnMut(&[u8])) {
        let Some(head) = &self.head else {
            return;
        };
        let mut head = Value::from(head.clone()).to_string().into_bytes();
        let parts = self.changes.as_ref().map_or(&[][..], Changes::parts);
        if parts.is_empty() {
            each(&head);
            return;
        }
        // The brace comes back behind the changes.
        head.pop();
        let count = parts.len();
        let mut line = Vec::new();
        for (place, part) in parts.iter().enumerate() {
            line.clear();
            line.extend_from_slice(&head);
            if count > 1 {
                let place = format!(",\"part\":{},\"parts\":{count}", place + 1);
                line.extend_from_slice(place.as_bytes());
            }
            line.extend_from_slice(b",\"changes\":[");
            line.extend_from_slice(part);
            line.extend_from_slice(b"]}");
            each(&line);
        }
    }
}

fn now() -> Map<String, Value> {
    let now = Timestamp::now();
    let now = Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now);
    Map::from_iter([("time".to_owned(), now.to_string().into())])
}
