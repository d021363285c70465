//! What an engine does for the sessions that run on it: one connection, transactions, statements.
//!
//! Statements are the same text for every engine: `$1`, `$2` … for the values by their number, and nothing that
//! PostgreSQL and SQLite do not both understand. Where the engines differ is the schema ([`crate::schema::Dialect`]),
//! how rows go in by the hundred thousand, and what can go wrong.

use std::ops::ControlFlow;

use model::fault::Fault;
use model::row::Row;

use crate::value::{Bound, Cells};

/// A connection to a database. Of the methods below `begin`, all but `tidy` and `finish` are for a transaction.
pub(crate) trait Connection {
    /// Begins a transaction, on a new connection if the old one was lost.
    ///
    /// # Errors
    /// Unavailable.
    fn begin(&mut self) -> Result<(), Fault>;

    /// Ends the transaction; it is on the disk afterwards.
    ///
    /// # Errors
    /// Nothing was changed, or nobody can tell just now; then the fault says so.
    fn commit(&mut self) -> Result<(), Fault>;

    /// Ends the transaction as if it had never been.
    ///
    /// # Errors
    /// The connection is lost, and with it the transaction.
    fn rollback(&mut self) -> Result<(), Fault>;

    /// Whether the transaction that was begun is still there: some errors end it.
    fn in_transaction(&self) -> bool;

    /// Sets a savepoint, or goes back to one.
    ///
    /// # Errors
    /// The transaction is lost.
    fn savepoint(&mut self, step: Savepoint) -> Result<(), Fault>;

    /// Runs a statement that answers nothing, and returns how many rows it touched. If it is refused, the transaction
    /// is as it was before.
    ///
    /// # Errors
    /// A constraint, or something that is nobody's fault but the machine's or ours.
    fn execute(&mut self, sql: &str, binds: &[Bound<'_>]) -> Result<u64, Refusal>;

    /// Shows `each` the rows that a statement answers, until there are no more or `each` breaks off.
    ///
    /// # Errors
    /// What `each` answers; or the database cannot be read.
    fn query(&mut self, sql: &str, binds: &[Bound<'_>], each: &mut Each<'_>) -> Result<(), Fault>;

    /// Inserts rows of one kind with the revisions that they have. If one is refused, those before it stay: whoever
    /// calls has a savepoint.
    ///
    /// # Errors
    /// The index of the row that was refused, and why.
    fn insert(&mut self, rows: &[Row]) -> Result<(), (usize, Refusal)>;

    /// What can wait until the answers are out.
    fn tidy(&mut self) {}

    /// The last thing before the connection is closed in good order.
    fn finish(&mut self) {}
}

/// The steps of a savepoint. They nest.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Savepoint {
    /// What follows can be undone.
    Set,
    /// What followed stays.
    Release,
    /// What followed is undone.
    Undo,
}

/// Is shown the rows of an answer, and says whether it wants to see more.
pub(crate) type Each<'e> = dyn FnMut(&dyn Cells) -> Result<ControlFlow<()>, Fault> + 'e;

/// Why a statement was refused.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// By a constraint; in the engine's own words.
    Constraint(String),
    /// By something else.
    Fault(Fault),
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// For statements that no constraint can refuse.
impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Constraint(cause) => Self::internal(cause),
            Refusal::Fault(fault) => fault,
        }
    }
}

/// Runs `work` within a savepoint; an error undoes all of it and nothing else.
pub(crate) fn atomically<C: Connection, T>(
    connection: &mut C,
    work: impl FnOnce(&mut C) -> Result<T, Fault>,
) -> Result<T, Fault> {
    connection.savepoint(Savepoint::Set)?;
    let result = work(connection);
    let end = match &result {
        Ok(_) => connection.savepoint(Savepoint::Release),
        // With the transaction the savepoint is gone too.
        Err(_) if !connection.in_transaction() => Ok(()),
        Err(_) => connection.savepoint(Savepoint::Undo),
    };
    match (result, end) {
        (Ok(value), Ok(())) => Ok(value),
        (Err(fault), Ok(())) | (_, Err(fault)) => Err(fault),
    }
}

/// The first column of the first row, if there is one: a number.
pub(crate) fn number<C: Connection>(
    connection: &mut C,
    sql: &str,
    binds: &[Bound<'_>],
) -> Result<Option<i64>, Fault> {
    let mut first = None;
    connection.query(sql, binds, &mut |row| {
        first = Some(row.integer(0)?);
        Ok(ControlFlow::Break(()))
    })?;
    Ok(first)
}

/// The revision of the database. As the first statement of a transaction it fixes the snapshot.
pub(crate) fn revision<C: Connection>(connection: &mut C) -> Result<u64, Fault> {
    let revision = number(connection, "SELECT \"revision\" FROM \"state\"", &[])?;
    revision
        .map(i64::cast_unsigned)
        .ok_or_else(|| Fault::internal("the database has no revision"))
}
