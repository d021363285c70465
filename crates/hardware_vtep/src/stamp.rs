//! The controller's note on the switch: `Global.other_config:l2gw`.
//!
//! It stays on the switch when the controller goes, so that the next one sees whose writing it finds. What the note says
//! is the controller's business.

use ovsdb::{Datum, Lock, Mutation, Operation, Session};
use uuid::Uuid;

use crate::apply::{StepError, fenced};
use crate::database::Database;
use crate::schema::{MARK, NAME, table};

impl Database {
    /// The note, if there is one.
    pub fn stamp(&self) -> Option<&str> {
        let row = self.globals.values().next()?;
        row.other_config.get(MARK).map(String::as_str)
    }

    /// Where the note can be left: the row of `Global`, in a schema that has room for it. Every database that has a
    /// physical switch has that row.
    fn stamped_row(&self) -> Option<Uuid> {
        let row = self.globals.keys().next().copied();
        row.filter(|_| self.capabilities().global_other_config)
    }

    /// Whether a note can be left.
    pub fn can_be_stamped(&self) -> bool {
        self.stamped_row().is_some()
    }
}

/// Leaves a note in place of the last one, if the session owns the lock. Other keys of the column stay.
///
/// # Errors
/// The schema has no room for it, or the server refused.
pub async fn stamp(
    session: &Session,
    replica: &ovsdb::SharedReplica<Database>,
    text: &str,
    fence: Option<&Lock>,
) -> Result<(), StepError> {
    let row = replica.read(|database| database.and_then(Database::stamped_row));
    let row = row.ok_or_else(|| StepError::Unsupported {
        column: "Global.other_config",
        subject: "a note of who wrote last".to_owned(),
    })?;
    let mutations = [
        Mutation::delete("other_config", Datum::set([MARK])),
        Mutation::insert("other_config", Datum::map([(MARK, text.to_owned())])),
    ];
    let write = Operation::mutate(table::GLOBAL, row, mutations);
    session.transact(NAME, &fenced(fence, [write])).await?;
    Ok(())
}
