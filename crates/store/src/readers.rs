//! The threads that read.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use model::fault::Fault;

use crate::engine::{Connection, revision};
use crate::job::ReadJob;
use crate::session::Session;
use crate::writer::panicked;

/// So many reads are under way at the same time; more of them wait.
const READERS: usize = 4;

type Queue = Arc<Mutex<Receiver<Box<dyn ReadJob>>>>;

/// Starts them. They end when the queue is closed and empty.
pub(crate) fn start<C, F>(open: F, queue: Receiver<Box<dyn ReadJob>>) -> io::Result<()>
where
    C: Connection,
    F: Fn() -> Result<C, Fault> + Clone + Send + 'static,
{
    let queue = Arc::new(Mutex::new(queue));
    for number in 1..=READERS {
        let queue = Arc::clone(&queue);
        let open = open.clone();
        thread::Builder::new()
            .name(format!("store-read-{number}"))
            .spawn(move || read(&open, &queue))?;
    }
    Ok(())
}

fn read<C: Connection>(open: &dyn Fn() -> Result<C, Fault>, queue: &Queue) {
    // Opened with the first job: most servers never read four things at once.
    let mut connection = None;
    while let Some(mut job) = next(queue) {
        let end = match opened(&mut connection, open) {
            Ok(connection) => run(connection, job.as_mut()),
            Err(fault) => Err(fault),
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

fn opened<'c, C>(
    connection: &'c mut Option<C>,
    open: &dyn Fn() -> Result<C, Fault>,
) -> Result<&'c mut C, Fault> {
    match connection {
        Some(connection) => Ok(connection),
        None => Ok(connection.insert(open()?)),
    }
}

fn run<C: Connection>(connection: &mut C, job: &mut dyn ReadJob) -> Result<(), Fault> {
    connection.begin()?;
    let end = revision(connection).and_then(|revision| {
        let mut session = Session::new(connection, revision);
        let work = AssertUnwindSafe(|| job.run(&mut session));
        catch_unwind(work).unwrap_or_else(|panic| Err(panicked(panic)))
    });
    let ended = connection.rollback();
    end.and(ended)
}
