//! SQLite's errors as faults.

use model::fault::Fault;
use rusqlite::ErrorCode;

use crate::engine::unavailable;

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
