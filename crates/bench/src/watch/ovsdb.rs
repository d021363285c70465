//! A monitor of `Ucast_Macs_Remote`, on a connection of its own.

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

/// How many remote MACs there are, and since when.
#[derive(Debug)]
struct Macs {
    rows: usize,
    changed: Instant,
}

impl Replica for Macs {
    fn tables() -> &'static [MonitoredTable] {
        // One column, the shortest that there is, so that the witness costs little.
        &[MonitoredTable {
            table: "Ucast_Macs_Remote",
            columns: &["ipaddr"],
        }]
    }

    fn new(_: &DatabaseSchema) -> Self {
        Self {
            rows: 0,
            changed: Instant::now(),
        }
    }

    fn apply(&mut self, _: &str, _: Uuid, change: Change<'_>) -> Result<(), RowError> {
        match change {
            Change::Put(_) => self.rows += 1,
            Change::Modify(_) => {}
            Change::Delete => self.rows -= 1,
        }
        Ok(())
    }

    fn settle(&mut self) {
        self.changed = Instant::now();
    }
}

/// A witness of the remote MACs in an ovsdb-server.
pub(crate) struct OvsdbWatch {
    replica: Arc<SharedReplica<Macs>>,
    session: Session,
    runtime: Runtime,
}

impl OvsdbWatch {
    /// Begins to watch the server at this target, in OVS notation.
    pub(crate) fn start(target: &str) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let target: Target = target.parse()?;
        let replica = Arc::new(SharedReplica::<Macs>::default());
        let session = runtime.block_on(async {
            let session = Session::connect(&target, &SessionOptions::default()).await?;
            let schema = Arc::new(session.schema(DATABASE).await?);
            session.monitor(&schema, &replica).await?;
            anyhow::Ok(session)
        })?;
        Ok(Self {
            replica,
            session,
            runtime,
        })
    }

    /// How many remote MACs there are.
    pub(crate) fn rows(&self) -> Result<usize> {
        Ok(self.state()?.0)
    }

    /// Waits until there are so many remote MACs, and says when the last change came.
    pub(crate) fn wait(&self, rows: usize) -> Result<Instant> {
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
                let (there, since) = self.state()?;
                Ok((there == rows).then_some(since))
            },
            || format!("{:?} remote MACs in the database, not {rows}", self.rows()),
        )
    }

    fn state(&self) -> Result<(usize, Instant)> {
        let state = |macs: Option<&Macs>| macs.map(|macs| (macs.rows, macs.changed));
        self.replica.read(state).context("nothing monitored")
    }
}
