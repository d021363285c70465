//! A monitor of `Ucast_Macs_Remote`, on a connection of its own.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use ovsdb::{
    Change, DatabaseSchema, MonitoredTable, Replica, RowError, Session, SessionOptions,
    SharedReplica, Target,
};
use tokio::runtime::Runtime;
use uuid::Uuid;

/// The only database of a switch.
pub(crate) const DATABASE: &str = "hardware_vtep";

/// What a witness looks at of each row.
pub(crate) trait Sight: Send + Sync + 'static {
    /// Of `Ucast_Macs_Remote`.
    const COLUMNS: &'static [&'static str];
}

/// That it is there: one column, the shortest that there is, so that the witness costs little.
#[derive(Debug)]
pub(crate) struct Presence;

impl Sight for Presence {
    const COLUMNS: &'static [&'static str] = &["ipaddr"];
}

/// Where it leads.
#[derive(Debug)]
pub(crate) struct Way;

impl Sight for Way {
    const COLUMNS: &'static [&'static str] = &["locator"];
}

/// All that a controller reads.
#[derive(Debug)]
pub(crate) struct Whole;

impl Sight for Whole {
    const COLUMNS: &'static [&'static str] = &["MAC", "logical_switch", "locator", "ipaddr"];
}

/// How many remote MACs there are, how many changes they saw, and since when.
#[derive(Debug)]
pub(crate) struct Macs<S> {
    rows: usize,
    modified: usize,
    /// When the first one was there.
    first: Option<Instant>,
    changed: Instant,
    sight: PhantomData<S>,
}

impl<S: Sight> Replica for Macs<S> {
    fn tables() -> &'static [MonitoredTable] {
        const {
            &[MonitoredTable {
                table: "Ucast_Macs_Remote",
                columns: S::COLUMNS,
            }]
        }
    }

    fn new(_: &DatabaseSchema) -> Self {
        Self {
            rows: 0,
            modified: 0,
            first: None,
            changed: Instant::now(),
            sight: PhantomData,
        }
    }

    fn apply(&mut self, _: &str, _: Uuid, change: Change<'_>) -> Result<(), RowError> {
        match change {
            Change::Put(_) => self.rows += 1,
            Change::Modify(_) => self.modified += 1,
            Change::Delete => self.rows -= 1,
        }
        Ok(())
    }

    fn settle(&mut self) {
        self.changed = Instant::now();
        if self.rows > 0 {
            self.first.get_or_insert(self.changed);
        }
    }
}

/// Has a session told of all remote MACs.
pub(crate) async fn monitor<S: Sight>(session: &Session) -> Result<Arc<SharedReplica<Macs<S>>>> {
    let replica = Arc::new(SharedReplica::default());
    let schema = Arc::new(session.schema(DATABASE).await?);
    session.monitor(&schema, &replica).await?;
    Ok(replica)
}

/// A witness of how many remote MACs there are in an ovsdb-server.
pub(crate) type OvsdbWatch = Watch<Presence>;

/// A witness of the remote MACs in an ovsdb-server.
pub(crate) struct Watch<S> {
    replica: Arc<SharedReplica<Macs<S>>>,
    session: Session,
    runtime: Runtime,
}

impl<S: Sight> Watch<S> {
    /// Begins to watch the server at this target, in OVS notation. When it returns, all that was there has been read.
    pub(crate) fn start(target: &str) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let target: Target = target.parse()?;
        let (session, replica) = runtime.block_on(async {
            let session = Session::connect(&target, &SessionOptions::default()).await?;
            let replica = monitor(&session).await?;
            anyhow::Ok((session, replica))
        })?;
        Ok(Self {
            replica,
            session,
            runtime,
        })
    }

    /// How many remote MACs there are.
    pub(crate) fn rows(&self) -> Result<usize> {
        self.state(|macs| macs.rows)
    }

    /// Waits until there are so many remote MACs, and says when the last change came.
    pub(crate) fn wait(&self, rows: usize) -> Result<Instant> {
        self.wait_for(rows, "remote MACs in the database", |macs| macs.rows)
    }

    /// When there was a remote MAC for the first time.
    pub(crate) fn first(&self) -> Result<Instant> {
        self.state(|macs| macs.first)?.context("no remote MAC yet")
    }

    /// Waits until there were so many modifications since the beginning, and says when the last change came.
    pub(crate) fn wait_modified(&self, times: usize) -> Result<Instant> {
        self.wait_for(times, "modifications of remote MACs", |macs| macs.modified)
    }

    fn wait_for(&self, count: usize, what: &str, of: fn(&Macs<S>) -> usize) -> Result<Instant> {
        super::wait(
            || {
                let ended = self.runtime.block_on(async {
                    let now = std::future::ready(());
                    tokio::select! {
                        biased;
                        reason = self.session.ended() => Some(reason),
                        () = now => None,
                    }
                });
                ensure!(ended.is_none(), "the monitor ended: {ended:?}");
                let (there, since) = self.state(|macs| (of(macs), macs.changed))?;
                Ok((there == count).then_some(since))
            },
            || format!("{:?} {what}, not {count}", self.state(of)),
        )
    }

    fn state<T>(&self, look: impl FnOnce(&Macs<S>) -> T) -> Result<T> {
        self.replica
            .read(|macs| macs.map(look))
            .context("nothing monitored")
    }
}
