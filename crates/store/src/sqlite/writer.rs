//! The thread that writes.
//!
//! Writes that wait are carried out together: each in a savepoint of its own, all in one transaction with one commit,
//! and so with one fsync. While that runs the next ones queue up, so the slower the disk the larger the groups. Nobody is
//! answered before the commit, for good or bad: even a collision is true only if the row collided with is.

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::{Duration, Instant};

use model::fault::Fault;
use rusqlite::Connection;
use tokio::sync::watch;

use super::connection::open_writer;
use super::file::DatabaseFile;
use super::readers::revision;
use super::session::{Session, atomically, execute};
use super::value::Bound;
use crate::OpenError;
use crate::engine::{WriteJob, unavailable};

/// A group takes no more writes after this time: the first one has waited long enough.
const GROUP_PATIENCE: Duration = Duration::from_millis(50);

/// So many pages (of 4 KiB) may wait in the write-ahead log to be copied into the database.
const PAGES_IN_LOG: i64 = 1000;

/// So many deletions are remembered for those who follow the database. Whoever is further behind reads it anew.
const TOMBSTONES: u64 = 100_000;

type Queue = Receiver<Box<dyn WriteJob>>;
type Ended = (Box<dyn WriteJob>, Result<(), Fault>);

/// Owns the database file and the connection that writes it. Fields are dropped in this order: whoever waits for the end
/// of `revisions` finds the file free.
pub(super) struct Writer {
    connection: Connection,
    /// The revision of the last commit.
    revision: u64,
    /// How many deletions the database remembers.
    tombstones: u64,
    _file: DatabaseFile,
    revisions: watch::Sender<u64>,
}

impl Writer {
    /// Opens the database and brings its schema up to date.
    pub(super) fn open(file: DatabaseFile) -> Result<Self, OpenError> {
        let connection = open_writer(file.path())?;
        let revision = revision(&connection).map_err(|fault| OpenError::Engine {
            path: file.path().to_owned(),
            cause: fault.into(),
        })?;
        Ok(Self {
            connection,
            revision,
            tombstones: 0,
            _file: file,
            revisions: watch::Sender::new(revision),
        })
    }

    /// The revision after every commit.
    pub(super) fn revisions(&self) -> watch::Receiver<u64> {
        self.revisions.subscribe()
    }

    /// Starts the thread. It ends when the queue is closed and empty.
    pub(super) fn start(mut self, queue: Queue) -> io::Result<()> {
        let thread = thread::Builder::new().name("store-write".to_owned());
        thread.spawn(move || {
            while let Ok(first) = queue.recv() {
                self.run_group(first, &queue);
                self.checkpoint_if_long();
            }
            self.checkpoint("TRUNCATE");
        })?;
        Ok(())
    }

    /// Carries out `first` and what waits behind it, commits, and answers.
    fn run_group(&mut self, first: Box<dyn WriteJob>, queue: &Queue) {
        let mut ended = Vec::new();
        let committed = match execute(&self.connection, "BEGIN IMMEDIATE", &[]) {
            Ok(()) => self.run_all(first, queue, &mut ended),
            Err(fault) => {
                // Those behind it need not wait for the lock one after the other.
                let waiting = std::iter::once(first).chain(queue.try_iter());
                ended.extend(waiting.map(|job| (job, Ok(()))));
                Err(fault)
            }
        };
        match &committed {
            Ok(revision) if *revision != self.revision => {
                self.revision = *revision;
                self.revisions.send_replace(*revision);
            }
            Ok(_) => {}
            Err(fault) => {
                tracing::error!(%fault, writes = ended.len(), "the database took no writes");
            }
        }
        for (job, end) in ended {
            job.answer(end.and_then(|()| committed.clone().map(drop)));
        }
    }

    /// The revision that was committed. Every job that was run is in `ended`.
    fn run_all(
        &mut self,
        first: Box<dyn WriteJob>,
        queue: &Queue,
        ended: &mut Vec<Ended>,
    ) -> Result<u64, Fault> {
        let begun = Instant::now();
        let mut revision = self.revision;
        let mut deletions = 0;
        let mut next = Some(first);
        while let Some(mut job) = next {
            let mut session = Session::new(&self.connection, revision);
            let end = run(&self.connection, job.as_mut(), &mut session);
            if end.is_ok() {
                revision = session.revision_after();
                deletions += session.deletions;
            }
            ended.push((job, end));
            if self.connection.is_autocommit() {
                return Err(unavailable("SQLite rolled the transaction back"));
            }
            let patient = begun.elapsed() < GROUP_PATIENCE;
            next = if patient { queue.try_recv().ok() } else { None };
        }
        let tombstones = self.tombstones + deletions;
        self.commit(revision, tombstones).inspect_err(|_| {
            // Where SQLite has rolled back by itself there is nothing left to roll back.
            if !self.connection.is_autocommit() {
                let _ = execute(&self.connection, "ROLLBACK", &[]);
            }
        })?;
        self.tombstones = if tombstones > TOMBSTONES {
            0
        } else {
            tombstones
        };
        Ok(revision)
    }

    fn commit(&self, revision: u64, tombstones: u64) -> Result<(), Fault> {
        if revision != self.revision {
            let revision = Bound::Integer(revision.cast_signed());
            let sql = "UPDATE \"state\" SET \"revision\" = ?";
            execute(&self.connection, sql, &[revision])?;
        }
        if tombstones > TOMBSTONES {
            let sql = "UPDATE \"state\" SET \"forgotten\" = \"revision\"";
            execute(&self.connection, sql, &[])?;
            execute(&self.connection, "DELETE FROM \"tombstones\"", &[])?;
        }
        execute(&self.connection, "COMMIT", &[])
    }

    /// Copies the write-ahead log into the database when it is long. This is not left to SQLite, which would do it within
    /// the commit: here the answers are out already.
    fn checkpoint_if_long(&self) {
        let in_log = self.checkpoint("NOOP");
        if in_log.is_some_and(|pages| pages > PAGES_IN_LOG) {
            self.checkpoint("PASSIVE");
        }
    }

    /// `PRAGMA wal_checkpoint`: how many pages of the log are not in the database yet. What cannot be copied now, because
    /// a reader needs the old pages or the disk is full, is copied another time; nothing is lost meanwhile.
    fn checkpoint(&self, mode: &str) -> Option<i64> {
        let sql = format!("PRAGMA wal_checkpoint({mode})");
        let waiting = self.connection.query_row(&sql, [], |row| {
            Ok(row.get::<_, i64>(1)? - row.get::<_, i64>(2)?)
        });
        let failed =
            |error| tracing::warn!(%error, mode, "the write-ahead log was not checkpointed");
        waiting.map_err(failed).ok()
    }
}

fn run(
    connection: &Connection,
    job: &mut dyn WriteJob,
    session: &mut Session<'_>,
) -> Result<(), Fault> {
    atomically(connection, || {
        let work = AssertUnwindSafe(|| job.run(session));
        catch_unwind(work).unwrap_or_else(|panic| Err(panicked(panic)))
    })
}

/// The fault for work that panicked.
pub(super) fn panicked(panic: Box<dyn Any + Send>) -> Fault {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    let fault = Fault::internal(format!("panic: {}", text.unwrap_or("without a message")));
    tracing::error!(%fault, "work on the database panicked");
    fault
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use model::fault::FaultKind;

    use super::*;
    use crate::engine::{Answer, write_job};

    fn devices(names: usize) -> (Box<dyn WriteJob>, Answer<()>) {
        let names: Vec<_> = (0..names)
            .map(|number| format!("{number:0>1000}"))
            .collect();
        write_job(move |transaction| transaction.remember_devices(&names))
    }

    /// `PRAGMA max_page_count` is SQLite's own way to be out of space.
    fn allow(writer: &Writer, pages: i64) {
        let set = writer
            .connection
            .pragma_update(None, "max_page_count", pages);
        // It answers with a row, which is no error here.
        assert!(matches!(
            set,
            Ok(()) | Err(rusqlite::Error::ExecuteReturnedResults)
        ));
    }

    #[test]
    fn a_full_disk_is_unavailable_until_there_is_space() {
        let mut writer = Writer::open(DatabaseFile::temporary().unwrap()).unwrap();
        let pages = writer
            .connection
            .pragma_query_value(None, "page_count", |row| row.get(0));
        let pages: i64 = pages.unwrap();
        allow(&writer, pages + 10);

        let (queue, waiting) = channel();
        let (small, mut small_answer) = devices(1);
        let (large, mut large_answer) = devices(1000);
        queue.send(large).unwrap();
        writer.run_group(small, &waiting);
        let small_end = small_answer.try_recv().unwrap();
        let fault = large_answer.try_recv().unwrap().unwrap_err();
        assert_eq!(fault.kind, FaultKind::Unavailable, "{fault}");
        assert!(!fault.message.contains("full"), "that is for the log");

        // Whatever was told of the small one is true.
        let mut session = Session::new(&writer.connection, writer.revision);
        let seen = crate::Snapshot::seen_devices(&mut session).unwrap();
        assert_eq!(seen.len(), usize::from(small_end.is_ok()));
        assert_eq!(*writer.revisions.borrow(), seen.len() as u64);

        allow(&writer, pages + 10_000);
        let (large, mut large_answer) = devices(1000);
        writer.run_group(large, &waiting);
        large_answer.try_recv().unwrap().unwrap();
    }

    #[test]
    fn deletions_beyond_what_is_remembered_are_forgotten() {
        let mut writer = Writer::open(DatabaseFile::temporary().unwrap()).unwrap();
        let (_queue, waiting) = channel();
        let delete = |writer: &mut Writer| {
            let (job, mut answer) = write_job(|transaction| {
                let mut row = model::row::Row::empty(model::resource::Kind::L2Gateway);
                row.set("id", model::row::Value::Uuid(uuid::Uuid::from_u128(1)));
                row.set("name", "a".into());
                row.set("devices", "[]".into());
                let id = row.id();
                transaction.insert(&mut [row])?;
                transaction.delete(model::resource::Kind::L2Gateway, id)
            });
            writer.run_group(job, &waiting);
            assert!(answer.try_recv().unwrap().unwrap());
        };
        let remembered = |writer: &Writer| {
            let sql = "SELECT (SELECT count(*) FROM \"tombstones\"), \"forgotten\" FROM \"state\"";
            let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?));
            writer.connection.query_row(sql, [], read).unwrap()
        };
        delete(&mut writer);
        assert_eq!(remembered(&writer), (1, 0));
        writer.tombstones = TOMBSTONES;
        delete(&mut writer);
        assert_eq!(remembered(&writer), (0, 2));
        delete(&mut writer);
        assert_eq!(remembered(&writer), (1, 2));
    }
}
