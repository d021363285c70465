//! The threads that read.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use model::fault::Fault;
use rusqlite::Connection;

use super::connection::open_reader;
use super::fault::fault;
use super::session::{Session, execute};
use super::writer::panicked;
use crate::engine::{ReadJob, unavailable};

/// So many reads are under way at the same time; more of them wait.
const READERS: usize = 4;

type Queue = Arc<Mutex<Receiver<Box<dyn ReadJob>>>>;

/// Starts them. They end when the queue is closed and empty.
pub(super) fn start(path: &Path, queue: Receiver<Box<dyn ReadJob>>) -> io::Result<()> {
    let queue = Arc::new(Mutex::new(queue));
    for number in 1..=READERS {
        let queue = Arc::clone(&queue);
        let path = path.to_owned();
        thread::Builder::new()
            .name(format!("store-read-{number}"))
            .spawn(move || read(path, &queue))?;
    }
    Ok(())
}

fn read(path: PathBuf, queue: &Queue) {
    // Opened with the first job: most servers never read four things at once.
    let mut connection = None;
    while let Some(mut job) = next(queue) {
        let end = match opened(&mut connection, &path) {
            Ok(connection) => run(connection, job.as_mut()),
            Err(error) => Err(unavailable(error)),
        };
        if let Err(fault) = &end
            && fault.kind.status() >= 500
        {
            tracing::warn!(%fault, "a read failed");
        }
        job.answer(end);
    }
}

fn next(queue: &Queue) -> Option<Box<dyn ReadJob>> {
    let queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
    queue.recv().ok()
}

fn opened<'c>(
    connection: &'c mut Option<Connection>,
    path: &Path,
) -> rusqlite::Result<&'c Connection> {
    match connection {
        Some(connection) => Ok(connection),
        None => Ok(connection.insert(open_reader(path)?)),
    }
}

fn run(connection: &Connection, job: &mut dyn ReadJob) -> Result<(), Fault> {
    execute(connection, "BEGIN", &[])?;
    let end = revision(connection).and_then(|revision| {
        let mut session = Session::new(connection, revision);
        let work = AssertUnwindSafe(|| job.run(&mut session));
        catch_unwind(work).unwrap_or_else(|panic| Err(panicked(panic)))
    });
    let ended = execute(connection, "ROLLBACK", &[]);
    end.and(ended)
}

/// The revision; the first statement of a transaction, so the one that fixes its snapshot.
pub(super) fn revision(connection: &Connection) -> Result<u64, Fault> {
    let sql = "SELECT \"revision\" FROM \"state\"";
    let mut statement = connection.prepare_cached(sql).map_err(fault)?;
    let revision = statement.query_row([], |row| row.get::<_, i64>(0));
    Ok(revision.map_err(fault)?.cast_unsigned())
}
