//! The SQLite engine: the database is in WAL mode, so readers see the last commit before they began and block nobody.

mod connection;
mod fault;
mod file;
mod schema;

use std::path::Path;

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{OpenFlags, OptionalExtension};

pub(crate) use self::connection::{Reading, Writing};

use self::file::DatabaseFile;
use crate::OpenError;
use crate::job::unavailable;
use crate::threads::Threads;
use crate::writer::Writer;

/// Opens the database in this file. Blocks.
pub(crate) fn open(path: &Path) -> Result<Threads, OpenError> {
    start(DatabaseFile::open(path)?)
}

/// Makes a database that is gone when it is closed. Blocks. It lies in a file like any other, so that it behaves like any
/// other.
pub(crate) fn open_temporary() -> Result<Threads, OpenError> {
    start(DatabaseFile::temporary()?)
}

/// Opens the connection that writes, for something else than a server. Blocks.
pub(crate) fn open_to_write(path: &Path) -> Result<Writing, OpenError> {
    Writing::open(DatabaseFile::open(path)?)
}

/// The version of the schema of the database in this file, which is not changed.
pub(crate) fn version(path: &Path) -> Result<u32, OpenError> {
    schema::version(path)
}

/// What SQLite finds wrong with the database in this file: its pages, its indexes, its references.
pub(crate) fn damage(path: &Path) -> Result<Option<String>, OpenError> {
    let name = path.display().to_string();
    damage_found(path).map_err(|error| OpenError::engine(&name, error))
}

fn damage_found(path: &Path) -> rusqlite::Result<Option<String>> {
    let connection = connection::open(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let found: String = connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    if found != "ok" {
        return Ok(Some(found.replace('\n', " ")));
    }
    let sql = "SELECT \"table\", \"parent\" FROM pragma_foreign_key_check";
    let dangling = connection.query_row(sql, [], |row| {
        let (table, parent) = (row.get::<_, String>(0)?, row.get::<_, String>(1)?);
        Ok(format!("a row of {table} refers to nothing in {parent}"))
    });
    dangling.optional()
}

/// Copies the database in the file `from` into the new file `to`, as of one moment. Those who use it go on.
pub(crate) fn backup(from: &Path, to: &Path) -> rusqlite::Result<()> {
    let source = connection::open(from, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let mut target = rusqlite::Connection::open(to)?;
    let backup = Backup::new(&source, &mut target)?;
    // All pages in one step, and so in one snapshot: with smaller ones every commit would make it begin anew.
    match backup.step(-1)? {
        StepResult::Done => Ok(()),
        _ => Err(rusqlite::Error::SqliteFailure(
            rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY),
            None,
        )),
    }
}

fn start(file: DatabaseFile) -> Result<Threads, OpenError> {
    let path = file.path().to_owned();
    let name = path.display().to_string();
    let writer = Writing::open(file)?;
    let writer = Writer::new(writer).map_err(|fault| OpenError::engine(&name, fault))?;
    let reader = move || Reading::open(&path).map_err(unavailable);
    Threads::start(writer, reader).map_err(|cause| OpenError::engine(&name, cause))
}

/// What writes a database that is gone afterwards, for tests of the writer.
#[cfg(test)]
pub(crate) fn temporary_writer() -> Writing {
    Writing::open(DatabaseFile::temporary().unwrap()).unwrap()
}
