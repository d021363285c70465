//! What an engine does, and the work that is handed to it.
//!
//! Work is generic in what it answers, an engine is not: a job carries the work, its answer and the way back in one
//! object. An engine runs a job's work within a transaction and tells it how the transaction ended.

use std::sync::Arc;

use model::fault::Fault;
use tokio::sync::{oneshot, watch};

use crate::location::Location;
use crate::sqlite::Sqlite;
use crate::{OpenError, Snapshot, Transaction};

/// A database engine.
pub(crate) trait Engine: Send + Sync {
    /// Queues a write.
    fn write(&self, job: Box<dyn WriteJob>);
    /// Queues a read.
    fn read(&self, job: Box<dyn ReadJob>);
    /// The revision after every commit; the channel closes when the database is closed.
    fn revisions(&self) -> watch::Receiver<u64>;
    /// Takes no more jobs and closes the database after those that wait.
    fn close(&self);
}

/// Opens the engine that a URL names.
pub(crate) async fn open(url: &str) -> Result<Arc<dyn Engine>, OpenError> {
    let location = url.parse()?;
    let open = move || -> Result<Arc<dyn Engine>, OpenError> {
        match location {
            Location::File(path) => Ok(Arc::new(Sqlite::open(&path)?)),
            Location::Temporary => Ok(Arc::new(Sqlite::open_temporary()?)),
            Location::Postgres => Err(OpenError::Postgres),
        }
    };
    let opened = tokio::task::spawn_blocking(open).await;
    opened.unwrap_or_else(|cause| {
        Err(OpenError::Engine {
            path: url.into(),
            cause: cause.into(),
        })
    })
}

/// Work within a write transaction.
pub(crate) trait WriteJob: Send {
    /// Does the work. Called once.
    fn run(&mut self, transaction: &mut dyn Transaction) -> Result<(), Fault>;
    /// Answers the caller: with the work's own answer if the transaction was committed, otherwise with the fault.
    fn answer(self: Box<Self>, end: Result<(), Fault>);
}

/// Work on a snapshot.
pub(crate) trait ReadJob: Send {
    /// Does the work. Called once.
    fn run(&mut self, snapshot: &mut dyn Snapshot) -> Result<(), Fault>;
    /// Answers the caller.
    fn answer(self: Box<Self>, end: Result<(), Fault>);
}

/// The way back to whoever asked.
pub(crate) type Answer<T> = oneshot::Receiver<Result<T, Fault>>;

struct Job<T, F> {
    work: Option<F>,
    result: Option<T>,
    caller: oneshot::Sender<Result<T, Fault>>,
}

impl<T, F> Job<T, F> {
    fn new(work: F) -> (Box<Self>, Answer<T>) {
        let (caller, answer) = oneshot::channel();
        let job = Self {
            work: Some(work),
            result: None,
            caller,
        };
        (Box::new(job), answer)
    }

    fn run_with<S>(&mut self, on: S) -> Result<(), Fault>
    where
        F: FnOnce(S) -> Result<T, Fault>,
    {
        let work = self
            .work
            .take()
            .ok_or_else(|| Fault::internal("a job was run twice"))?;
        self.result = Some(work(on)?);
        Ok(())
    }

    fn tell(self, end: Result<(), Fault>) {
        let answer = end.and_then(|()| {
            self.result
                .ok_or_else(|| Fault::internal("a job was answered before it was run"))
        });
        // Whoever went away meanwhile does not want to know.
        let _ = self.caller.send(answer);
    }
}

impl<T, F> WriteJob for Job<T, F>
where
    T: Send,
    F: FnOnce(&mut dyn Transaction) -> Result<T, Fault> + Send,
{
    fn run(&mut self, transaction: &mut dyn Transaction) -> Result<(), Fault> {
        self.run_with(transaction)
    }

    fn answer(self: Box<Self>, end: Result<(), Fault>) {
        self.tell(end);
    }
}

impl<T, F> ReadJob for Job<T, F>
where
    T: Send,
    F: FnOnce(&mut dyn Snapshot) -> Result<T, Fault> + Send,
{
    fn run(&mut self, snapshot: &mut dyn Snapshot) -> Result<(), Fault> {
        self.run_with(snapshot)
    }

    fn answer(self: Box<Self>, end: Result<(), Fault>) {
        self.tell(end);
    }
}

pub(crate) fn write_job<T, F>(work: F) -> (Box<dyn WriteJob>, Answer<T>)
where
    T: Send + 'static,
    F: FnOnce(&mut dyn Transaction) -> Result<T, Fault> + Send + 'static,
{
    let (job, answer) = Job::new(work);
    (job, answer)
}

pub(crate) fn read_job<T, F>(work: F) -> (Box<dyn ReadJob>, Answer<T>)
where
    T: Send + 'static,
    F: FnOnce(&mut dyn Snapshot) -> Result<T, Fault> + Send + 'static,
{
    let (job, answer) = Job::new(work);
    (job, answer)
}

/// Waits for an answer. A job that the engine dropped was not run.
pub(crate) async fn answered<T>(answer: Answer<T>) -> Result<T, Fault> {
    answer
        .await
        .unwrap_or_else(|_| Err(unavailable("it is closed")))
}

/// The database does not answer.
pub(crate) fn unavailable(cause: impl std::fmt::Display) -> Fault {
    Fault::unavailable("The database", cause)
}
