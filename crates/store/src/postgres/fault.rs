//! PostgreSQL's errors as faults. Codes are those of the manual's appendix A.

use std::error::Error as _;

use model::fault::Fault;
use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

use crate::engine::Refusal;
use crate::job::unavailable;

/// Whether the session is gone, or about to go.
pub(super) fn is_lost(error: &Error) -> bool {
    match error.code() {
        None => true,
        // Connection exceptions, and shutdowns of all kinds.
        Some(code) => code.code().starts_with("08") || code.code().starts_with("57P"),
    }
}

/// Why a statement that writes was refused.
pub(super) fn refusal(error: &Error) -> Refusal {
    match error.code() {
        Some(code) if code.code().starts_with("23") => Refusal::Constraint(told(error)),
        _ => Refusal::Fault(fault(error)),
    }
}

/// The fault for an error that is nobody's fault but the machine's or ours.
pub(super) fn fault(error: &Error) -> Fault {
    let machine = error.code().is_none_or(|code| {
        // Insufficient resources (a full disk), operator intervention, system errors.
        ["53", "57", "58"]
            .iter()
            .any(|class| code.code().starts_with(class))
            || [
                &SqlState::LOCK_NOT_AVAILABLE,
                &SqlState::T_R_SERIALIZATION_FAILURE,
                &SqlState::T_R_DEADLOCK_DETECTED,
                &SqlState::READ_ONLY_SQL_TRANSACTION,
            ]
            .contains(&code)
    });
    if machine || is_lost(error) {
        unavailable(told(error))
    } else {
        Fault::internal(told(error))
    }
}

/// The whole story in one line.
pub(super) fn told(error: &Error) -> String {
    if let Some(refused) = error.as_db_error() {
        let detail = refused.detail().map(|detail| format!(" ({detail})"));
        return format!("{}{}", refused.message(), detail.unwrap_or_default());
    }
    let mut story = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        story.push_str(&format!(": {error}"));
        cause = error.source();
    }
    story.replace('\n', " ")
}
