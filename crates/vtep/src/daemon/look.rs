//! Looks at everything, in threads of their own beside the passes, which go on meanwhile: at the kernel, for notifications may
//! be lost, and at what the database asks for, for what is kept of it may be wrong.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use hardware_vtep::Database;
use ovsdb::SharedReplica;
use tokio::task::JoinSet;
use tokio::time::{Instant, Interval, MissedTickBehavior};

use super::worker::Asked;
use crate::kernel::desired::NodeConfig;
use crate::kernel::survey::{Survey, Surveyor};

/// A look to be taken.
pub(super) struct Look {
    pub(super) surveyor: Surveyor,
    pub(super) replica: Arc<SharedReplica<Database>>,
    pub(super) config: Arc<NodeConfig>,
}

/// What it came to.
pub(super) struct Looked {
    pub(super) survey: Survey,
    /// As of its end; nothing before the database was seen.
    pub(super) asked: Option<Asked>,
}

impl Look {
    fn take(self) -> io::Result<Looked> {
        let survey = self.surveyor.look()?;
        // Copied, because nobody writes into the replica while it is read.
        let database = self.replica.read(|database| {
            database.map(|database| (database.state().clone(), database.trail().mark()))
        });
        Ok(Looked {
            survey,
            asked: database.map(|(switch, mark)| Asked::by(&switch, mark, &self.config)),
        })
    }
}

/// When a look is taken, and the one under way.
pub(super) struct Looks {
    clock: Interval,
    /// One at most.
    under_way: JoinSet<io::Result<Looked>>,
}

impl Looks {
    pub(super) fn every(pause: Duration) -> Self {
        let mut clock = tokio::time::interval_at(Instant::now() + pause, pause);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            clock,
            under_way: JoinSet::new(),
        }
    }

    /// Until one has come to its end, or, with nothing, until one is to begin. May be dropped and called again at any time.
    pub(super) async fn due(&mut self) -> Option<Looked> {
        while let Some(ended) = self.under_way.join_next().await {
            match ended.map_err(io::Error::other).flatten() {
                Ok(looked) => return Some(looked),
                Err(error) => tracing::error!(%error, "not everything could be looked at"),
            }
        }
        self.clock.tick().await;
        None
    }

    pub(super) fn begin(&mut self, look: Look) {
        self.under_way.spawn_blocking(move || look.take());
    }
}
