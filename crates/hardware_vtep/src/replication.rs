//! `Logical_Switch.replication_mode` of our logical switches, which others may change or a restored backup lack.

use ovsdb::{Lock, Operation, Row, Session, SharedReplica, TransactError};

use crate::apply::fenced;
use crate::database::Database;
use crate::schema::{NAME, SOURCE_NODE, table};

/// Has all our logical switches flood to every destination; with a lock only its owner does it. Returns how many did not.
///
/// A plan does not speak of this: a switch that floods to one destination alone holds all that was wanted, and still
/// loses frames.
///
/// # Errors
/// See [`TransactError`].
pub async fn repair_replication(
    session: &Session,
    replica: &SharedReplica<Database>,
    fence: Option<&Lock>,
) -> Result<usize, TransactError> {
    let wrong = replica.read(|database| {
        database
            .filter(|held| held.capabilities().replication_mode)
            .map(|held| held.not_flooding_to_all().collect::<Vec<_>>())
            .unwrap_or_default()
    });
    if wrong.is_empty() {
        return Ok(0);
    }
    let count = wrong.len();
    let operations = wrong.into_iter().map(|uuid| {
        let row = Row::new().with("replication_mode", SOURCE_NODE);
        Operation::update(table::LOGICAL_SWITCH, uuid, row)
    });
    session.transact(NAME, &fenced(fence, operations)).await?;
    Ok(count)
}
