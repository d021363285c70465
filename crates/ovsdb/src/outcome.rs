//! What became of a transaction.
//!
//! A failed transaction is no JSON-RPC error. The reply to `transact` is an array with one result per operation; when an
//! operation fails, its place holds the error and the rest are null; when the *commit* fails (an index, referential
//! integrity), every operation looks well and one **further** element holds the error (RFC 7047 section 4.1.3).

use std::fmt;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::column::Reference;
use crate::message::RpcError;
use crate::session::{Disconnected, RequestError};

/// The result of one operation.
#[derive(Clone, Debug)]
pub enum OperationResult {
    /// Of an insert: the uuid of the row. A row that nothing refers to may be gone already, if its table is no root.
    Inserted(Uuid),
    /// Of an update, mutate or delete: how many rows.
    Count(u64),
    /// Of a select: the rows, still text.
    Rows(Box<RawValue>),
    /// Of everything else.
    Done,
}

/// The results of a transaction that happened.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    results: Vec<OperationResult>,
}

/// Why an operation, and with it the whole transaction, failed. Nothing of it happened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct OperationFailure {
    /// The index of the operation; `None` when the commit failed.
    pub operation: Option<usize>,
    /// The server's words.
    pub error: RpcError,
}

impl fmt::Display for OperationFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.operation {
            Some(index) => write!(f, "operation {index}: {}", self.error),
            None => write!(f, "commit: {}", self.error),
        }
    }
}

/// Why a transaction has no outcome.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TransactError {
    /// An operation or the commit failed; nothing happened.
    #[error("{0}")]
    Failed(#[source] OperationFailure),
    /// The server refused the whole request; nothing happened.
    #[error("the server refused the transaction: {0}")]
    Rejected(#[source] RpcError),
    /// The connection ended. Whether the transaction happened is unknown; the replica will tell after reconnecting.
    #[error("{0}")]
    Disconnected(#[source] Disconnected),
    /// The reply is not what RFC 7047 describes.
    #[error("the reply to the transaction makes no sense: {0}")]
    Malformed(String),
}

impl From<RequestError> for TransactError {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::Disconnected(reason) => Self::Disconnected(reason),
            RequestError::Rejected(error) => Self::Rejected(error),
            RequestError::Malformed(text) => Self::Malformed(text),
        }
    }
}

/// One element of the array as it stands in the reply.
#[derive(Deserialize)]
struct Element {
    uuid: Option<Reference>,
    count: Option<u64>,
    rows: Option<Box<RawValue>>,
    error: Option<String>,
    details: Option<String>,
}

impl Outcome {
    /// Reads the reply to a transaction of `operations` operations.
    pub(crate) fn parse(raw: &RawValue, operations: usize) -> Result<Self, TransactError> {
        let elements: Vec<Option<Element>> = serde_json::from_str(raw.get())
            .map_err(|error| TransactError::Malformed(error.to_string()))?;
        let mut results = Vec::with_capacity(operations);
        for (index, element) in elements.into_iter().enumerate() {
            let Some(element) = element else { continue };
            if let Some(error) = element.error {
                return Err(TransactError::Failed(OperationFailure {
                    operation: (index < operations).then_some(index),
                    error: RpcError {
                        error,
                        details: element.details,
                    },
                }));
            }
            results.push(match (element.uuid, element.count, element.rows) {
                (Some(uuid), ..) => OperationResult::Inserted(uuid.0),
                (_, Some(count), _) => OperationResult::Count(count),
                (_, _, Some(rows)) => OperationResult::Rows(rows),
                // wait, commit, comment and assert: {} (RFC 7047 section 5.2 says so for each).
                _ => OperationResult::Done,
            });
        }
        if results.len() == operations {
            Ok(Self { results })
        } else {
            Err(TransactError::Malformed(format!(
                "{} results for {operations} operations",
                results.len()
            )))
        }
    }

    /// The results in the order of the operations.
    pub fn results(&self) -> &[OperationResult] {
        &self.results
    }

    /// The uuid that the insert at `index` gave its row.
    pub fn inserted(&self, index: usize) -> Option<Uuid> {
        match self.results.get(index)? {
            OperationResult::Inserted(uuid) => Some(*uuid),
            _ => None,
        }
    }

    /// How many rows the update, mutate or delete at `index` met.
    pub fn count(&self, index: usize) -> Option<u64> {
        match self.results.get(index)? {
            OperationResult::Count(count) => Some(*count),
            _ => None,
        }
    }

    /// The rows that the select at `index` found, decoded with the types of [`crate::column`].
    ///
    /// # Errors
    /// [`TransactError::Malformed`] when the operation was no select or a column is of another type.
    pub fn rows<T: DeserializeOwned>(&self, index: usize) -> Result<Vec<T>, TransactError> {
        match self.results.get(index) {
            Some(OperationResult::Rows(rows)) => serde_json::from_str(rows.get())
                .map_err(|error| TransactError::Malformed(error.to_string())),
            _ => Err(TransactError::Malformed(format!(
                "operation {index} is no select"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str, operations: usize) -> Result<Outcome, TransactError> {
        Outcome::parse(&RawValue::from_string(text.to_owned()).unwrap(), operations)
    }

    #[test]
    fn the_further_element_is_the_failure_of_the_commit() {
        let text = r#"[{"count":1},{"uuid":["uuid","00000000-0000-0000-0000-000000000001"]},{"error":"constraint violation","details":"d"}]"#;
        let error = parse(text, 2).unwrap_err();
        assert_eq!(error.to_string(), "commit: constraint violation: d");
        let error = parse(text, 3).unwrap_err();
        assert_eq!(error.to_string(), "operation 2: constraint violation: d");
    }

    #[test]
    fn a_failed_operation_leaves_the_rest_null() {
        let error = parse(r#"[{},{"error":"timed out"},null]"#, 3).unwrap_err();
        assert_eq!(error.to_string(), "operation 1: timed out");
    }

    #[test]
    fn missing_results_are_no_success() {
        assert!(matches!(parse("[{}]", 2), Err(TransactError::Malformed(_))));
        assert!(matches!(parse("{}", 0), Err(TransactError::Malformed(_))));
        let outcome = parse(r#"[{"rows":[{"n":1}]},{"count":2}]"#, 2).unwrap();
        assert_eq!(outcome.count(1), Some(2));
        assert_eq!(outcome.inserted(1), None);
        assert!(outcome.rows::<serde_json::Value>(1).is_err());
        assert_eq!(outcome.rows::<serde_json::Value>(0).unwrap().len(), 1);
    }
}
