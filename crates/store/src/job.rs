//! Work that is handed to the threads of a database.
//!
//! Work is generic in what it answers, the threads are not: a job carries the work, its answer and the way back in one
//! object. A thread runs a job's work within a transaction and tells it how the transaction ended.

use model::fault::Fault;
use tokio::sync::oneshot;

use crate::{Snapshot, Transaction};

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

/// Waits for an answer. A job that was dropped was not run.
pub(crate) async fn answered<T>(answer: Answer<T>) -> Result<T, Fault> {
    answer
        .await
        .unwrap_or_else(|_| Err(unavailable("it is closed")))
}

/// The database does not answer.
pub(crate) fn unavailable(cause: impl std::fmt::Display) -> Fault {
    Fault::unavailable("The database", cause)
}
