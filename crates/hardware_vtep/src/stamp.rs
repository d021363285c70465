//! The controller's note on the switch, in `Global.other_config`: `l2gw`, `l2gw_switches` and `l2gw_server`.
//!
//! It stays on the switch when the controller goes, so that the next one sees whose writing it finds, and for which
//! physical switches it was written; and who is locked out sees who writes. What the note says of its writer is the controller's business.

use std::collections::BTreeSet;
use std::sync::Arc;

use ovsdb::{Datum, Lock, Mutation, Operation, Session};
use uuid::Uuid;

use crate::apply::{StepError, fenced};
use crate::database::Database;
use crate::schema::{MARK, NAME, table};

/// The key of the names of physical switches, a JSON array.
const SWITCHES: &str = "l2gw_switches";

/// The key of where the writer runs, for people.
const SERVER: &str = "l2gw_server";

/// As much is repeated of what stands there.
const SHOWN: usize = 100;

/// What a controller notes.
#[derive(Clone, Copy, Debug)]
pub struct Note<'n> {
    /// What it writes from.
    pub state: &'n str,
    /// Where it runs, for people.
    pub server: &'n str,
}

impl Database {
    /// The note, if there is one.
    pub fn stamp(&self) -> Option<&str> {
        self.noted(MARK)
    }

    /// The physical switches that the database listed when it was left, if it says so.
    pub fn stamped_switches(&self) -> Option<BTreeSet<Arc<str>>> {
        let names: BTreeSet<String> = serde_json::from_str(self.noted(SWITCHES)?).ok()?;
        Some(names.into_iter().map(Arc::from).collect())
    }

    /// Where the controller runs that wrote last, if it says so, in its words.
    pub fn stamped_server(&self) -> Option<String> {
        let shown = self.noted(SERVER)?.chars().take(SHOWN);
        Some(shown.filter(|c| !c.is_control()).collect())
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

    fn noted(&self, key: &str) -> Option<&str> {
        let row = self.globals.values().next()?;
        row.other_config.get(key).map(String::as_str)
    }

    /// The keys of a note that are not as they would be written now.
    fn stale(&self, note: Note<'_>) -> Vec<(&'static str, String)> {
        let names: BTreeSet<_> = self.switch_names().collect();
        let names: Vec<&str> = names.iter().map(|name| &**name).collect();
        let names = serde_json::Value::from(names).to_string();
        let keys = [
            (MARK, note.state.to_owned()),
            (SWITCHES, names),
            (SERVER, note.server.to_owned()),
        ];
        let stale = |(key, value): &(&str, String)| self.noted(key) != Some(value);
        keys.into_iter().filter(stale).collect()
    }
}

/// Leaves a note in place of the last one, if the session owns the lock. Other keys of the column stay. Nothing is
/// written where the note is there already.
///
/// # Errors
/// The schema has no room for it, or the server refused.
pub async fn stamp(
    session: &Session,
    replica: &ovsdb::SharedReplica<Database>,
    note: Note<'_>,
    fence: Option<&Lock>,
) -> Result<(), StepError> {
    let due = replica.read(|database| {
        let held = database?;
        Some((held.stamped_row()?, held.stale(note)))
    });
    let (row, stale) = due.ok_or_else(|| StepError::Unsupported {
        column: "Global.other_config",
        subject: "a note of who wrote last".to_owned(),
    })?;
    if stale.is_empty() {
        return Ok(());
    }
    let mutations: Vec<_> = stale
        .into_iter()
        .flat_map(|(key, value)| {
            [
                Mutation::delete("other_config", Datum::set([key])),
                Mutation::insert("other_config", Datum::map([(key, value)])),
            ]
        })
        .collect();
    let write = Operation::mutate(table::GLOBAL, row, mutations);
    session.transact(NAME, &fenced(fence, [write])).await?;
    Ok(())
}
