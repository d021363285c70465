//! A connection to a database file.

use std::path::Path;
use std::time::Duration;

use model::fault::Fault;
use model::row::{Row, Value};
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{CachedStatement, OpenFlags, ToSql};

use super::fault::{fault, refusal};
use super::file::DatabaseFile;
use super::schema::migrate;
use crate::OpenError;
use crate::engine::{Connection, Each, Refusal, Savepoint};
use crate::references::unfit;
use crate::schema::stored;
use crate::statement;
use crate::value::{Bound, Cell, Cells, encode};

/// How long a statement waits for another process (a backup, somebody's shell) that has the database locked.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);

/// Statements kept prepared by a connection.
const PREPARED: usize = 64;

/// So many pages (of 4 KiB) may wait in the write-ahead log to be copied into the database.
const PAGES_IN_LOG: i64 = 1000;

/// A connection that cannot write.
pub(crate) struct Reading(rusqlite::Connection);

/// The connection that writes. The file is let go of after it.
pub(crate) struct Writing {
    pub(crate) inner: rusqlite::Connection,
    _file: DatabaseFile,
}

/// Opens a connection as all of ours are.
pub(super) fn open(path: &Path, access: OpenFlags) -> rusqlite::Result<rusqlite::Connection> {
    // A connection stays on its thread.
    let access = access | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = rusqlite::Connection::open_with_flags(path, access)?;
    connection.busy_timeout(LOCK_PATIENCE)?;
    connection.set_prepared_statement_cache_capacity(PREPARED);
    Ok(connection)
}

impl Reading {
    /// Opens one.
    pub(crate) fn open(path: &Path) -> rusqlite::Result<Self> {
        Ok(Self(open(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?))
    }
}

impl Writing {
    /// Opens the one, and brings the schema up to date.
    pub(super) fn open(file: DatabaseFile) -> Result<Self, OpenError> {
        Ok(Self {
            inner: migrate(file.path())?,
            _file: file,
        })
    }

    /// `PRAGMA wal_checkpoint`: how many pages of the log are not in the database yet. What cannot be copied now, because
    /// a reader needs the old pages or the disk is full, is copied another time; nothing is lost meanwhile.
    fn checkpoint(&self, mode: &str) -> Option<i64> {
        let sql = format!("PRAGMA wal_checkpoint({mode})");
        let waiting = self.inner.query_row(&sql, [], |row| {
            Ok(row.get::<_, i64>(1)? - row.get::<_, i64>(2)?)
        });
        let failed =
            |error| tracing::warn!(%error, mode, "the write-ahead log was not checkpointed");
        waiting.map_err(failed).ok()
    }
}

/// What both kinds have in common.
trait Sqlite {
    /// How their transactions begin.
    const BEGIN: &'static str;
    fn inner(&self) -> &rusqlite::Connection;
    fn tidy(&self) {}
    fn finish(&self) {}
}

impl Sqlite for Reading {
    const BEGIN: &'static str = "BEGIN";

    fn inner(&self) -> &rusqlite::Connection {
        &self.0
    }
}

impl Sqlite for Writing {
    const BEGIN: &'static str = "BEGIN IMMEDIATE";

    fn inner(&self) -> &rusqlite::Connection {
        &self.inner
    }

    /// Copies the write-ahead log into the database when it is long. This is not left to SQLite, which would do it within
    /// the commit: here the answers are out already.
    fn tidy(&self) {
        let in_log = self.checkpoint("NOOP");
        if in_log.is_some_and(|pages| pages > PAGES_IN_LOG) {
            self.checkpoint("PASSIVE");
        }
    }

    fn finish(&self) {
        self.checkpoint("TRUNCATE");
    }
}

impl<S: Sqlite> Connection for S {
    fn begin(&mut self) -> Result<(), Fault> {
        run(self.inner(), S::BEGIN)
    }

    fn commit(&mut self) -> Result<(), Fault> {
        run(self.inner(), "COMMIT")
    }

    fn rollback(&mut self) -> Result<(), Fault> {
        run(self.inner(), "ROLLBACK")
    }

    fn in_transaction(&self) -> bool {
        !self.inner().is_autocommit()
    }

    fn savepoint(&mut self, step: Savepoint) -> Result<(), Fault> {
        // Some errors (a full disk) end the whole transaction; a savepoint would then silently begin a new one.
        if !self.in_transaction() {
            return Err(crate::job::unavailable("the transaction was rolled back"));
        }
        match step {
            Savepoint::Set => run(self.inner(), "SAVEPOINT step"),
            Savepoint::Release => run(self.inner(), "RELEASE step"),
            Savepoint::Undo => {
                run(self.inner(), "ROLLBACK TO step")?;
                run(self.inner(), "RELEASE step")
            }
        }
    }

    fn execute(&mut self, sql: &str, binds: &[Bound<'_>]) -> Result<u64, Refusal> {
        let mut statement = prepare(self.inner(), sql)?;
        let done = statement.execute(rusqlite::params_from_iter(binds));
        done.map(|rows| rows as u64).map_err(refusal)
    }

    fn query(&mut self, sql: &str, binds: &[Bound<'_>], each: &mut Each<'_>) -> Result<(), Fault> {
        let mut statement = prepare(self.inner(), sql)?;
        for (number, value) in (1..).zip(binds) {
            // To SQLite `$2` is a name, and its place that of its first occurrence.
            let place = statement.parameter_index(&format!("${number}"));
            if let Some(place) = place.map_err(fault)? {
                bind(&mut statement, place, *value)?;
            }
        }
        let mut results = statement.raw_query();
        while let Some(result) = results.next().map_err(fault)? {
            if each(result)?.is_break() {
                break;
            }
        }
        Ok(())
    }

    fn insert(&mut self, rows: &[Row]) -> Result<(), (usize, Refusal)> {
        let Some(first) = rows.first() else {
            return Ok(());
        };
        let sql = statement::insert(first.resource);
        let mut statement = prepare(self.inner(), &sql).map_err(|fault| (0, fault.into()))?;
        for (place, row) in rows.iter().enumerate() {
            insert(&mut statement, row).map_err(|refusal| (place, refusal))?;
        }
        Ok(())
    }

    fn tidy(&mut self) {
        Sqlite::tidy(self);
    }

    fn finish(&mut self) {
        Sqlite::finish(self);
    }
}

fn run(connection: &rusqlite::Connection, sql: &str) -> Result<(), Fault> {
    prepare(connection, sql)?.execute([]).map_err(fault)?;
    Ok(())
}

fn prepare<'c>(
    connection: &'c rusqlite::Connection,
    sql: &str,
) -> Result<CachedStatement<'c>, Fault> {
    connection.prepare_cached(sql).map_err(fault)
}

/// Inserts one of many rows: nothing is allocated.
fn insert(statement: &mut CachedStatement<'_>, row: &Row) -> Result<(), Refusal> {
    bind(statement, 1, Bound::Integer(row.revision.cast_signed()))?;
    for (place, (position, attribute)) in stored(row.resource).enumerate() {
        let value = row.values.get(position).unwrap_or(&Value::Null);
        let Some(value) = encode(attribute.shape, value) else {
            return Err(unfit(row.resource, attribute, value).into());
        };
        bind(statement, place + 2, value)?;
    }
    statement.raw_execute().map_err(refusal)?;
    Ok(())
}

fn bind(statement: &mut CachedStatement<'_>, place: usize, value: Bound<'_>) -> Result<(), Fault> {
    statement.raw_bind_parameter(place, value).map_err(fault)
}

impl ToSql for Bound<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Integer(value) => ValueRef::Integer(*value),
            Self::Text(value) => ValueRef::Text(value.as_bytes()),
            Self::Bytes4(value) => ValueRef::Blob(value),
            Self::Bytes16(value) => ValueRef::Blob(value),
        }))
    }
}

impl Cells for rusqlite::Row<'_> {
    fn cell(&self, place: usize) -> Result<Cell<'_>, Fault> {
        Ok(match self.get_ref(place).map_err(fault)? {
            ValueRef::Null => Cell::Null,
            ValueRef::Integer(number) => Cell::Integer(number),
            ValueRef::Text(text) => Cell::Text(std::str::from_utf8(text).map_err(Fault::internal)?),
            ValueRef::Blob(bytes) => Cell::Bytes(bytes),
            ValueRef::Real(number) => {
                return Err(Fault::internal(format!("{number} is nothing that we keep")));
            }
        })
    }
}
