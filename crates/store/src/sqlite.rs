//! The SQLite engine: the database is in WAL mode, so readers see the last commit before they began and block nobody.

mod connection;
mod fault;
mod file;
mod schema;

use std::path::Path;

pub(crate) use self::connection::Writing;

use self::connection::Reading;
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
