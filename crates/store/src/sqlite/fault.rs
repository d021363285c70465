//! SQLite's errors as faults.

use model::fault::Fault;
use rusqlite::ErrorCode;

use crate::engine::Refusal;
use crate::job::unavailable;

/// Why a statement that writes was refused.
pub(super) fn refusal(error: rusqlite::Error) -> Refusal {
    match error.sqlite_error_code() {
        Some(ErrorCode::ConstraintViolation) => Refusal::Constraint(error.to_string()),
        _ => Refusal::Fault(fault(error)),
    }
}

/// The fault for an error that is nobody's fault but the machine's or ours.
pub(super) fn fault(error: rusqlite::Error) -> Fault {
    match error.sqlite_error_code() {
        Some(
            ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::DiskFull
            | ErrorCode::SystemIoFailure
            | ErrorCode::CannotOpen
            | ErrorCode::ReadOnly
            | ErrorCode::OutOfMemory
            | ErrorCode::FileLockingProtocolFailed,
        ) => unavailable(error),
        _ => Fault::internal(error),
    }
}
