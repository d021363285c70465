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
use tokio::sync::watch;
use uuid::Uuid;

use crate::engine::{Connection, atomically, revision};
use crate::job::{WriteJob, unavailable};
use crate::session::Session;
use crate::value::Bound;

/// A group takes no more writes after this time: the first one has waited long enough.
const GROUP_PATIENCE: Duration = Duration::from_millis(50);

/// So many deletions at least are remembered for those who follow the database, and twice as many at most where one write
/// does not make more. Whoever is further behind reads it anew.
const TOMBSTONES: u64 = 50_000;

type Queue = Receiver<Box<dyn WriteJob>>;
type Ended = (Box<dyn WriteJob>, Result<(), Fault>);

/// Owns the connection that writes the database. Fields are dropped in this order: whoever waits for the end of
/// `revisions` finds the database free.
pub(crate) struct Writer<C> {
    pub(crate) connection: C,
    remembered: Remembered,
    revisions: watch::Sender<u64>,
}

/// Which deletions the database remembers. They go by halves: if all went at once, even who is only one write behind would
/// have to read everything.
#[derive(Clone, Copy)]
struct Remembered {
    /// The last revision of the older half.
    older: u64,
    /// How many deletions there were since: the younger half.
    younger: u64,
}

impl<C: Connection + Send + 'static> Writer<C> {
    /// Begins to write a database whose schema is up to date.
    pub(crate) fn new(mut connection: C) -> Result<Self, Fault> {
        connection.begin()?;
        let revision = revision(&mut connection)?;
        forget_deletions(&mut connection, revision)?;
        begin_timeline(&mut connection, revision)?;
        connection.commit()?;
        Ok(Self {
            connection,
            remembered: Remembered {
                older: revision,
                younger: 0,
            },
            revisions: watch::Sender::new(revision),
        })
    }

    /// The revision after every commit.
    pub(crate) fn revisions(&self) -> watch::Receiver<u64> {
        self.revisions.subscribe()
    }

    /// Starts the thread. It ends when the queue is closed and empty.
    pub(crate) fn start(mut self, queue: Queue) -> io::Result<()> {
        let thread = thread::Builder::new().name("store-write".to_owned());
        thread.spawn(move || {
            while let Ok(first) = queue.recv() {
                self.run_group(first, &queue);
                self.connection.tidy();
            }
            self.connection.finish();
        })?;
        Ok(())
    }

    /// Carries out `first` and what waits behind it, commits, and answers.
    fn run_group(&mut self, first: Box<dyn WriteJob>, queue: &Queue) {
        let mut ended = Vec::new();
        let committed = match self.connection.begin() {
            Ok(()) => self.run_all(first, queue, &mut ended),
            Err(fault) => {
                // Those behind it need not wait one after the other.
                let waiting = std::iter::once(first).chain(queue.try_iter());
                ended.extend(waiting.map(|job| (job, Ok(()))));
                Err(fault)
            }
        };
        match &committed {
            Ok(revision) => {
                self.revisions.send_if_modified(|known| {
                    let newer = *known != *revision;
                    *known = *revision;
                    newer
                });
            }
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
        // Not from memory: while the connection was lost, others may have written.
        let before = match revision(&mut self.connection) {
            Ok(revision) => revision,
            Err(fault) => {
                ended.push((first, Ok(())));
                let _ = self.connection.rollback();
                return Err(fault);
            }
        };
        let mut revision = before;
        let mut deletions = 0;
        let mut next = Some(first);
        while let Some(mut job) = next {
            let (end, after, deleted) = run(&mut self.connection, job.as_mut(), revision);
            if end.is_ok() {
                revision = after;
                deletions += deleted;
            }
            ended.push((job, end));
            if !self.connection.in_transaction() {
                return Err(unavailable("the transaction was rolled back"));
            }
            let patient = begun.elapsed() < GROUP_PATIENCE;
            next = if patient { queue.try_recv().ok() } else { None };
        }
        let younger = self.remembered.younger + deletions;
        let full = younger > TOMBSTONES;
        let changed = (revision != before).then_some(revision);
        self.commit(changed, full).inspect_err(|_| {
            // Where the database has rolled back by itself there is nothing left to roll back.
            if self.connection.in_transaction() {
                let _ = self.connection.rollback();
            }
        })?;
        self.remembered = if full {
            Remembered {
                older: revision,
                younger: 0,
            }
        } else {
            Remembered {
                younger,
                ..self.remembered
            }
        };
        Ok(revision)
    }

    /// Commits, with the new revision if there is one, and without the older half of the deletions if the younger is full.
    fn commit(&mut self, revision: Option<u64>, full: bool) -> Result<(), Fault> {
        if let Some(revision) = revision {
            let revision = Bound::Integer(revision.cast_signed());
            let sql = "UPDATE \"state\" SET \"revision\" = $1";
            self.connection.execute(sql, &[revision])?;
        }
        if full {
            forget_deletions(&mut self.connection, self.remembered.older)?;
        }
        self.connection.commit()
    }
}

/// Forgets those up to a revision. At the start those are all: nobody who asks has seen an earlier run, who follows the
/// database begins with everything.
fn forget_deletions<C: Connection>(connection: &mut C, until: u64) -> Result<(), Fault> {
    let until = [Bound::Integer(until.cast_signed())];
    let sql = "DELETE FROM \"tombstones\" WHERE \"revision\" <= $1";
    if connection.execute(sql, &until)? > 0 {
        // While the connection was lost, another server may have forgotten more.
        let sql = "UPDATE \"state\" SET \"forgotten\" = $1 WHERE \"forgotten\" < $1";
        connection.execute(sql, &until)?;
    }
    Ok(())
}

/// From here on the database goes a way of its own: a copy of it that is opened elsewhere, or again later, goes another.
fn begin_timeline<C: Connection>(connection: &mut C, revision: u64) -> Result<(), Fault> {
    let sql = "INSERT INTO \"timelines\" (\"id\", \"revision\") VALUES ($1, $2)";
    let revision = Bound::Integer(revision.cast_signed());
    connection.execute(sql, &[Bound::from(Uuid::new_v4()), revision])?;
    Ok(())
}

/// How the job ended, the revision afterwards, and how many deletions it noted.
fn run<C: Connection>(
    connection: &mut C,
    job: &mut dyn WriteJob,
    revision: u64,
) -> (Result<(), Fault>, u64, u64) {
    let mut after = revision;
    let mut deletions = 0;
    let end = atomically(connection, |connection| {
        let mut session = Session::new(connection, revision);
        let work = AssertUnwindSafe(|| job.run(&mut session));
        let end = catch_unwind(work).unwrap_or_else(|panic| Err(panicked(panic)));
        after = session.revision_after();
        deletions = session.deletions;
        end
    });
    (end, after, deletions)
}

/// The fault for work that panicked.
pub(crate) fn panicked(panic: Box<dyn Any + Send>) -> Fault {
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
    use rusqlite::Row;

    use super::*;
    use crate::job::{Answer, write_job};
    use crate::sqlite::{Writing, temporary_writer};

    fn devices(names: usize) -> (Box<dyn WriteJob>, Answer<()>) {
        let names: Vec<_> = (0..names)
            .map(|number| format!("{number:0>1000}"))
            .collect();
        write_job(move |transaction| transaction.remember_devices(&names))
    }

    /// `PRAGMA max_page_count` is SQLite's own way to be out of space.
    fn allow(writer: &Writer<Writing>, pages: i64) {
        let set = writer
            .connection
            .inner
            .pragma_update(None, "max_page_count", pages);
        // It answers with a row, which is no error here.
        assert!(matches!(
            set,
            Ok(()) | Err(rusqlite::Error::ExecuteReturnedResults)
        ));
    }

    #[test]
    fn a_full_disk_is_unavailable_until_there_is_space() {
        let mut writer = Writer::new(temporary_writer()).unwrap();
        let pages = writer
            .connection
            .inner
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
        let mut session = Session::new(&mut writer.connection, 0);
        let seen = crate::Snapshot::seen_devices(&mut session).unwrap();
        assert_eq!(seen.len(), usize::from(small_end.is_ok()));
        assert_eq!(*writer.revisions.borrow(), seen.len() as u64);

        allow(&writer, pages + 10_000);
        let (large, mut large_answer) = devices(1000);
        writer.run_group(large, &waiting);
        large_answer.try_recv().unwrap().unwrap();
    }

    /// Creates and deletes a gateway in one write.
    fn delete(writer: &mut Writer<Writing>) {
        let (job, mut answer) = write_job(|transaction| {
            let mut row = model::row::Row::empty(model::resource::Kind::L2Gateway);
            row.set("id", model::row::Value::Uuid(uuid::Uuid::from_u128(1)));
            row.set("name", "a".into());
            row.set("devices", "[]".into());
            let id = row.id();
            transaction.insert(&mut [row])?;
            transaction.delete(model::resource::Kind::L2Gateway, id)
        });
        let (_queue, waiting) = channel();
        writer.run_group(job, &waiting);
        assert!(answer.try_recv().unwrap().unwrap());
    }

    #[test]
    fn deletions_beyond_what_is_remembered_are_forgotten() {
        let mut writer = Writer::new(temporary_writer()).unwrap();
        let remembered = |writer: &Writer<Writing>| {
            let sql = "SELECT (SELECT count(*) FROM \"tombstones\"), \"forgotten\" FROM \"state\"";
            let read = |row: &Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?));
            writer.connection.inner.query_row(sql, [], read).unwrap()
        };
        delete(&mut writer);
        assert_eq!(remembered(&writer), (1, 0));
        writer.remembered.younger = TOMBSTONES;
        delete(&mut writer);
        assert_eq!(remembered(&writer), (2, 0), "the older half was empty");
        delete(&mut writer);
        assert_eq!(remembered(&writer), (3, 0));
        writer.remembered.younger = TOMBSTONES;
        delete(&mut writer);
        assert_eq!(remembered(&writer), (2, 2), "the younger half stays");
    }

    #[test]
    fn who_follows_closely_reads_no_more_than_what_was_deleted_since() {
        let mut writer = Writer::new(temporary_writer()).unwrap();
        delete(&mut writer);
        for revision in 2..6 {
            writer.remembered.younger = TOMBSTONES;
            delete(&mut writer);
            let mut session = Session::new(&mut writer.connection, revision);
            let mut seen = Vec::new();
            let each = &mut |change: crate::Change<'_>| seen.push(format!("{change:?}"));
            crate::Snapshot::changes(&mut session, revision - 1, each).unwrap();
            assert!(
                matches!(&*seen, [only] if only.starts_with("Deleted")),
                "{seen:?}"
            );
        }
    }
}
