//! The audit log: who changed what, what was there before and after, and who was refused. A stream of its own, one JSON
//! object a line.
//!
//! ```text
//!  handler ── Changes ──▶ router ── Record ──▶ the thread that writes ──▶ file, fdatasync ──▶ answer
//! ```
//!
//! Rules:
//! - No change is answered 2xx before its record is as durable as the change. Records that wait are written and synced
//!   together, as the database's commits are.
//! - A change that was made is recorded also when its client went away meanwhile: such requests run on tasks of their own.
//! - While the log cannot be written, records wait, and further changes are refused with 503 before they are made. What
//!   cannot be written even at the end goes to the server's own log.
//! - Tokens, headers and bodies are never in it. What a change says of a resource is what the API would show of it.
//! - A line never grows with a bulk: see [`change::PER_RECORD`].

mod change;
mod file;
mod record;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use model::fault::{Fault, FaultKind};
use tokio::sync::{mpsc, oneshot, watch};

pub(crate) use self::change::{Changes, Recorder, gone_with};
pub(crate) use self::record::{Outcome, Record};

/// How long a client waits for its record to be written before it is told that the log is in trouble.
const PATIENCE: Duration = Duration::from_secs(5);
/// As many records may wait for the thread; then requests wait.
const WAITING: usize = 1024;
/// How long the end of the server waits for requests that are still being recorded.
const LAST: Duration = Duration::from_secs(5);

/// Options of `l2gw server` about the audit log.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct AuditOptions {
    /// File for the audit log: every change and every refused one, a JSON object a line. It is appended to, and opened
    /// anew on SIGHUP.
    #[arg(long, value_name = "FILE")]
    pub audit_log: Option<PathBuf>,
}

/// Why there is no audit log.
#[derive(Debug, thiserror::Error)]
#[error("cannot open the audit log {}: {cause}", path.display())]
pub struct AuditError {
    /// The file.
    pub path: PathBuf,
    /// What the operating system said.
    pub cause: io::Error,
}

/// The audit log; clones share it.
#[derive(Clone)]
pub struct Audit {
    path: Arc<Path>,
    queue: mpsc::Sender<Entry>,
    shared: Arc<Shared>,
    /// How many changes are being made.
    under_way: watch::Sender<usize>,
}

/// What the thread that writes and everybody else have in common.
#[derive(Default)]
struct Shared {
    failing: AtomicBool,
    written: AtomicU64,
    /// The file to go on with.
    next: Mutex<Option<File>>,
    /// Nobody waits any more: what cannot be written now never will be.
    ending: AtomicBool,
}

/// What the thread is asked.
enum Entry {
    /// To write a record, and to say so when it is durable if somebody waits for it.
    Write(Box<Record>, Option<oneshot::Sender<()>>),
    /// To look at what is shared.
    Wake,
}

impl Audit {
    /// Opens the log, if there is to be one.
    ///
    /// # Errors
    /// The file cannot be opened or made.
    pub(crate) fn open(options: AuditOptions) -> Result<Option<Self>, AuditError> {
        let Some(path) = options.audit_log else {
            return Ok(None);
        };
        let failed = |cause| AuditError {
            path: path.clone(),
            cause,
        };
        let file = file::open(&path).map_err(failed)?;
        let shared = Arc::<Shared>::default();
        let (queue, entries) = mpsc::channel(WAITING);
        file::start(file, Arc::clone(&shared), entries).map_err(failed)?;
        Ok(Some(Self {
            path: path.into(),
            queue,
            shared,
            under_way: watch::Sender::new(0),
        }))
    }

    /// Goes on with a new file of the same name: the old one was renamed.
    pub(crate) fn reopen(&self) -> Result<(), AuditError> {
        let file = file::open(&self.path).map_err(|cause| AuditError {
            path: self.path.to_path_buf(),
            cause,
        })?;
        *self.shared.next() = Some(file);
        // A queue that is full wakes the thread as well.
        let _ = self.queue.try_send(Entry::Wake);
        Ok(())
    }

    /// Whether the log cannot be written at present.
    pub(crate) fn is_failing(&self) -> bool {
        self.shared.failing.load(Ordering::Relaxed)
    }

    /// How many records were written since the server started.
    pub(crate) fn written(&self) -> u64 {
        self.shared.written.load(Ordering::Relaxed)
    }

    /// Notes that a change begins; it ends when what this returns is dropped.
    ///
    /// # Errors
    /// 503: it could not be recorded.
    pub(crate) fn begin(&self) -> Result<UnderWay, Fault> {
        if self.is_failing() {
            return Err(Fault::unavailable("The audit log", "it cannot be written"));
        }
        self.under_way.send_modify(|count| *count += 1);
        Ok(UnderWay(self.under_way.clone()))
    }

    /// Records a change that was made. Returns when the record is durable.
    ///
    /// # Errors
    /// 503: it is not, for the time being; it is kept until it is.
    pub(crate) async fn made(&self, record: Record) -> Result<(), Fault> {
        let (sender, durable) = oneshot::channel();
        let entry = Entry::Write(Box::new(record), Some(sender));
        let written = async {
            self.queue.send(entry).await.map_err(drop)?;
            durable.await.map_err(drop)
        };
        match tokio::time::timeout(PATIENCE, written).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(Fault::new(
                FaultKind::Unavailable,
                "The change was made, but the audit log is not available right now. It will be recorded later.",
            )),
        }
    }

    /// Records what changed nothing. Returns when it is sure to be written.
    pub(crate) async fn note(&self, record: Record) {
        // The thread ends when the server does; nobody is refused after that.
        let _ = self.queue.send(Entry::Write(Box::new(record), None)).await;
    }

    /// Finishes the records of requests that are under way.
    pub(crate) async fn close(self) {
        let mut under_way = self.under_way.subscribe();
        let all = under_way.wait_for(|count| *count == 0);
        if tokio::time::timeout(LAST, all).await.is_err() {
            tracing::warn!("changes were still under way when the audit log was closed");
        }
        self.note(Record::event("stop", None)).await;
        self.shared.ending.store(true, Ordering::Relaxed);
        let (sender, written) = oneshot::channel();
        let last = Entry::Write(Box::new(Record::nothing()), Some(sender));
        if self.queue.send(last).await.is_ok() {
            // Without an answer the thread has ended, which is what was asked for.
            let _ = tokio::time::timeout(LAST, written).await;
        }
    }
}

impl Shared {
    fn next(&self) -> std::sync::MutexGuard<'_, Option<File>> {
        self.next.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A change that is being made.
pub(crate) struct UnderWay(watch::Sender<usize>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}
