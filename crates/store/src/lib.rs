//! The database: everything that was asked of us and must outlive us.
//!
//! The schema and every statement are derived from the resource table ([`model::table::ALL`]); nothing here lists
//! attributes. What is kept is what clients asked for. What switches hold is never kept: it is read from them.
//!
//! Rules:
//! - One writer. A write is answered after its commit is on the disk, or it changed nothing.
//! - Readers see a snapshot; they neither wait for the writer nor make it wait.
//! - Every write that changed something is one revision further, and every row knows the revision that wrote it. Whoever
//!   follows the database waits on [`Store::revisions`] and asks [`Snapshot::changes`]; the channel is a wake-up only.
//!
//! | module | its one job |
//! |---|---|
//! | `query` | which rows, in which order, and what changed |
//! | `location` | what a database URL means |
//! | `job`, `threads`, `writer`, `readers` | work, and the threads that do it: group commit, snapshots |
//! | `session` | one transaction: what [`Snapshot`] and [`Transaction`] do |
//! | `schema`, `statement`, `value`, `references` | SQL, derived from the resource table |
//! | `engine` | what an engine does for all of these |
//! | `sqlite` | the SQLite engine |
//! | `postgres` | the PostgreSQL engine |
//! | [`upkeep`] | version, check, backup and copy, for operators |
//! | `error` | why a database cannot be opened |
#![deny(missing_docs)]

mod engine;
mod error;
mod job;
mod location;
mod page;
mod postgres;
mod query;
mod readers;
mod references;
mod schema;
mod session;
mod sqlite;
mod statement;
mod threads;
pub mod upkeep;
mod value;
mod writer;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use model::fault::Fault;
use model::lineage::Lineage;
use model::resource::Kind;
use model::row::Row;
use tokio::sync::watch;
use uuid::Uuid;

pub use crate::error::OpenError;
pub use crate::postgres::without_password;
pub use crate::query::{Change, Direction, Filter, Query};

use crate::threads::Threads;

/// A handle on the database; clones share it. The database closes when the last one is gone, or by [`Store::close`].
#[derive(Clone)]
pub struct Store {
    threads: Arc<Threads>,
}

impl Store {
    /// Opens the database and brings its schema up to date; makes it where there is none.
    ///
    /// `url` is `sqlite:///absolute/path`, `sqlite:relative/path`, a plain path, or `sqlite::memory:` for a database of
    /// its own that is gone with the last handle; or `postgres://USER@HOST:PORT/NAME`.
    ///
    /// # Errors
    /// One line for whoever starts the server: not writable, not a database, of a newer version, used by another server.
    pub async fn open(url: &str) -> Result<Self, OpenError> {
        Ok(Self {
            threads: Arc::new(location::open(url).await?),
        })
    }

    /// Runs `work` in a transaction, on the one thread that writes. Returns after the commit is durable.
    ///
    /// Writes that wait at the same time share one commit; each still stands or falls alone. A write whose caller went
    /// away is carried out all the same.
    ///
    /// # Errors
    /// What `work` answers; an internal fault if it panics; unavailable while the database is locked by another process,
    /// the disk is full or the store is closed. In every case nothing was changed.
    pub async fn write<T, F>(&self, work: F) -> Result<T, Fault>
    where
        T: Send + 'static,
        F: FnOnce(&mut dyn Transaction) -> Result<T, Fault> + Send + 'static,
    {
        let (job, answer) = job::write_job(work);
        self.threads.write(job);
        job::answered(answer).await
    }

    /// Runs `work` on a snapshot, on one of a few threads that read. A `work` that waits for a slow client keeps its
    /// thread and its snapshot for so long.
    ///
    /// # Errors
    /// What `work` answers; an internal fault if it panics; unavailable if the database cannot be read or the store is
    /// closed.
    pub async fn read<T, F>(&self, work: F) -> Result<T, Fault>
    where
        T: Send + 'static,
        F: FnOnce(&mut dyn Snapshot) -> Result<T, Fault> + Send + 'static,
    {
        let (job, answer) = job::read_job(work);
        self.threads.read(job);
        job::answered(answer).await
    }

    /// Wakes after every commit that changed something. The value is the revision of the database; the channel closes
    /// with the database.
    pub fn revisions(&self) -> watch::Receiver<u64> {
        self.threads.revisions()
    }

    /// Finishes the writes that wait, refuses new ones on every handle, and closes the database. Returns when another
    /// process may open it.
    pub async fn close(self) {
        let mut revisions = self.threads.revisions();
        self.threads.close();
        drop(self);
        while revisions.changed().await.is_ok() {}
    }
}

/// What can be read, all as of one moment.
pub trait Snapshot {
    /// The revision of the database: how many writes ever changed something. Within a write that changed something it
    /// is already the next one.
    ///
    /// # Errors
    /// The database cannot be read; this holds for every method of the trait.
    fn revision(&mut self) -> Result<u64, Fault>;

    /// The row of this id.
    ///
    /// # Errors
    /// The database cannot be read.
    fn get(&mut self, kind: Kind, id: Uuid) -> Result<Option<Row>, Fault>;

    /// Shows `each` the rows that `query` asks for, in its order, until there are no more or `each` breaks off. The row is
    /// one buffer, filled anew each time: whoever keeps it clones it.
    ///
    /// # Errors
    /// The database cannot be read, or the query names an attribute that is not stored.
    fn select(
        &mut self,
        query: &Query,
        each: &mut dyn FnMut(&Row) -> ControlFlow<()>,
    ) -> Result<(), Fault>;

    /// How many rows match the filters of `query`; its order, limit and marker don't matter.
    ///
    /// # Errors
    /// As [`Snapshot::select`].
    fn count(&mut self, query: &Query) -> Result<u64, Fault>;

    /// Shows `each` what changed after revision `since`, and returns the revision to ask after next time. 0 asks for
    /// everything. Applied in the order shown, the changes turn the state of `since` into the present one.
    ///
    /// # Errors
    /// The database cannot be read.
    fn changes(&mut self, since: u64, each: &mut dyn FnMut(Change<'_>)) -> Result<u64, Fault>;

    /// The names of all physical switches a controller has ever seen.
    ///
    /// # Errors
    /// The database cannot be read.
    fn seen_devices(&mut self) -> Result<BTreeSet<String>, Fault>;

    /// How many rows of a kind a project may have, where that was set; negative for "as many as it likes".
    ///
    /// # Errors
    /// The database cannot be read.
    fn quotas(&mut self, project: &str) -> Result<BTreeMap<Kind, i64>, Fault>;

    /// The projects for which [`Snapshot::quotas`] knows something, in order.
    ///
    /// # Errors
    /// The database cannot be read.
    fn projects_with_quotas(&mut self) -> Result<Vec<String>, Fault>;

    /// The timelines of the database: one for each time it was opened by [`Store::open`].
    ///
    /// # Errors
    /// The database cannot be read.
    fn lineage(&mut self) -> Result<Lineage, Fault>;
}

/// What can be changed, all of it or nothing.
pub trait Transaction: Snapshot {
    /// Inserts rows whose ids the caller has set, all or none, and sets their revision.
    ///
    /// # Errors
    /// The fault of the [`model::resource::Unique`] that a row violates, or `not_found` of what a reference of it leads
    /// to; where several rows were given it names the row's index.
    fn insert(&mut self, rows: &mut [Row]) -> Result<(), Fault>;

    /// Writes the stored attributes of the row with this id, and sets its revision. References are for life: otherwise
    /// whoever follows [`Snapshot::changes`] could not tell what a deletion takes with it.
    ///
    /// # Errors
    /// As [`Transaction::insert`]; the resource's own `not_found` if there is no such row; an internal fault if the row
    /// in the database has other references.
    fn update(&mut self, row: &mut Row) -> Result<(), Fault>;

    /// Deletes a row and, along references that say so, the rows that have no meaning without it. `false` if there was
    /// none.
    ///
    /// # Errors
    /// `in_use` of the row, or of the row further down that would have to go too, to which a reference restricts.
    fn delete(&mut self, kind: Kind, id: Uuid) -> Result<bool, Fault>;

    /// Replaces what [`Snapshot::quotas`] knows of a project.
    ///
    /// # Errors
    /// The database cannot be written.
    fn put_quotas(&mut self, project: &str, quotas: &BTreeMap<Kind, i64>) -> Result<(), Fault>;

    /// Remembers names of physical switches for [`Snapshot::seen_devices`]. Names that are known change nothing.
    ///
    /// # Errors
    /// The database cannot be written.
    fn remember_devices(&mut self, names: &[String]) -> Result<(), Fault>;

    /// Forgets the name of a physical switch. `false` if it was not known.
    ///
    /// # Errors
    /// The database cannot be written.
    fn forget_device(&mut self, name: &str) -> Result<bool, Fault>;
}
