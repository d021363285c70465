//! The SQLite engine: one thread that writes, a few that read, each with a connection of its own.
//!
//! ```text
//!  Store::write ──▶ queue ──▶ writer ───────▶ WAL ──fsync──▶ answers, revision
//!  Store::read  ──▶ queue ──▶ reader 1..N ──▶ snapshot ────▶ answers
//! ```
//! The database is in WAL mode: readers see the last commit before they began and block nobody. Dropping the queues is
//! what closes the engine: the threads finish what waits and end; the writer is the last to let go of the file.

mod connection;
mod fault;
mod file;
mod readers;
mod references;
mod session;
mod statement;
mod value;
mod writer;

use std::path::Path;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;

use self::file::DatabaseFile;
use self::writer::Writer;
use crate::OpenError;
use crate::engine::{Engine, ReadJob, WriteJob};

/// An open database.
pub(crate) struct Sqlite {
    queues: Mutex<Option<Queues>>,
    revisions: watch::Receiver<u64>,
}

struct Queues {
    writes: Sender<Box<dyn WriteJob>>,
    reads: Sender<Box<dyn ReadJob>>,
}

impl Sqlite {
    /// Opens the database in this file. Blocks.
    pub(crate) fn open(path: &Path) -> Result<Self, OpenError> {
        Self::start(DatabaseFile::open(path)?)
    }

    /// Makes a database that is gone when it is closed. Blocks. It lies in a file like any other, so that it behaves
    /// like any other.
    pub(crate) fn open_temporary() -> Result<Self, OpenError> {
        Self::start(DatabaseFile::temporary()?)
    }

    fn start(file: DatabaseFile) -> Result<Self, OpenError> {
        let path = file.path().to_owned();
        let (writes, waiting_writes) = channel();
        let (reads, waiting_reads) = channel();
        let writer = Writer::open(file)?;
        let revisions = writer.revisions();
        readers::start(&path, waiting_reads)
            .and_then(|()| writer.start(waiting_writes))
            .map_err(|cause| OpenError::Engine {
                path,
                cause: cause.into(),
            })?;
        Ok(Self {
            queues: Mutex::new(Some(Queues { writes, reads })),
            revisions,
        })
    }

    /// Queues with `queue`. A job that nobody takes is dropped, which its caller learns.
    fn queue(&self, queue: impl FnOnce(&Queues)) {
        let queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        queues.as_ref().map(queue);
    }
}

impl Engine for Sqlite {
    fn write(&self, job: Box<dyn WriteJob>) {
        self.queue(|queues| drop(queues.writes.send(job)));
    }

    fn read(&self, job: Box<dyn ReadJob>) {
        self.queue(|queues| drop(queues.reads.send(job)));
    }

    fn revisions(&self) -> watch::Receiver<u64> {
        self.revisions.clone()
    }

    fn close(&self) {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        *queues = None;
    }
}
