//! Tells the database which stations the kernel learnt on physical ports (`Ucast_Macs_Local`, vtep(5)).
//!
//! Switches learn in bursts, and a database takes longer to write a station than the kernel to learn it. So what is told is
//! always the whole of what is learnt at that time, not each change; at most once in a while; and by a task of its own,
//! while kernel and database go on being made to match.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hardware_vtep::{Database, LearntMacs, publish_local_macs};
use ovsdb::{Session, SharedReplica, TransactError};
use tokio::task::JoinSet;

/// The time between two tellings.
const EVERY: Duration = Duration::from_secs(1);

/// When is told what was learnt, and the telling under way.
#[derive(Default)]
pub(crate) struct Telling {
    requested: bool,
    begun: Option<Instant>,
    /// One at most; ended with us.
    task: JoinSet<Result<usize, TransactError>>,
}

impl Telling {
    /// Something may have been learnt, or the database may say something else than we told.
    pub(crate) fn request(&mut self) {
        self.requested = true;
    }

    /// Until it is time to tell. May be dropped and called again at any time.
    pub(crate) async fn due(&mut self) {
        while let Some(outcome) = self.task.join_next().await {
            match outcome {
                Ok(Ok(0)) => {}
                Ok(Ok(written)) => tracing::debug!(written, "learnt stations told"),
                Ok(Err(error)) => {
                    tracing::warn!(%error, "learnt stations not told");
                    self.requested = true;
                }
                Err(error) => tracing::error!(%error, "learnt stations not told"),
            }
        }
        if !self.requested {
            return std::future::pending().await;
        }
        if let Some(begun) = self.begun {
            tokio::time::sleep_until((begun + EVERY).into()).await;
        }
    }

    /// A telling begins: what is requested from now on is another one.
    pub(crate) fn begin(&mut self) {
        self.requested = false;
        self.begun = Some(Instant::now());
    }

    /// Makes the database say what was learnt.
    pub(crate) fn tell(
        &mut self,
        session: Session,
        replica: Arc<SharedReplica<Database>>,
        tunnel_ip: Ipv4Addr,
        learnt: LearntMacs,
    ) {
        self.task
            .spawn(async move { publish_local_macs(&session, &replica, tunnel_ip, &learnt).await });
    }
}
