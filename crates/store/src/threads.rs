//! The threads of an open database: one that writes, a few that read, each with a connection of its own.
//!
//! ```text
//!  Store::write ──▶ queue ──▶ writer ───────▶ commit ──fsync──▶ answers, revision
//!  Store::read  ──▶ queue ──▶ reader 1..N ──▶ snapshot ───────▶ answers
//! ```
//! Dropping the queues is what closes the database: the threads finish what waits and end; the writer is the last to let
//! go of it.

use std::io;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, PoisonError};

use model::fault::Fault;
use tokio::sync::watch;

use crate::engine::Connection;
use crate::job::{ReadJob, WriteJob};
use crate::readers;
use crate::writer::Writer;

/// An open database.
pub(crate) struct Threads {
    queues: Mutex<Option<Queues>>,
    revisions: watch::Receiver<u64>,
}

struct Queues {
    writes: Sender<Box<dyn WriteJob>>,
    reads: Sender<Box<dyn ReadJob>>,
}

impl Threads {
    /// Starts them; `reader` opens a connection that cannot write.
    pub(crate) fn start<W, R>(
        writer: Writer<W>,
        reader: impl Fn() -> Result<R, Fault> + Clone + Send + 'static,
    ) -> io::Result<Self>
    where
        W: Connection + Send + 'static,
        R: Connection,
    {
        let (writes, waiting_writes) = channel();
        let (reads, waiting_reads) = channel();
        let revisions = writer.revisions();
        readers::start(reader, waiting_reads)?;
        writer.start(waiting_writes)?;
        Ok(Self {
            queues: Mutex::new(Some(Queues { writes, reads })),
            revisions,
        })
    }

    /// Queues a write.
    pub(crate) fn write(&self, job: Box<dyn WriteJob>) {
        self.queue(|queues| drop(queues.writes.send(job)));
    }

    /// Queues a read.
    pub(crate) fn read(&self, job: Box<dyn ReadJob>) {
        self.queue(|queues| drop(queues.reads.send(job)));
    }

    /// The revision after every commit; the channel closes when the database is closed.
    pub(crate) fn revisions(&self) -> watch::Receiver<u64> {
        self.revisions.clone()
    }

    /// Takes no more jobs and closes the database after those that wait.
    pub(crate) fn close(&self) {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        *queues = None;
    }

    /// Queues with `queue`. A job that nobody takes is dropped, which its caller learns.
    fn queue(&self, queue: impl FnOnce(&Queues)) {
        let queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        queues.as_ref().map(queue);
    }
}
