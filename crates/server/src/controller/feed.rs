//! Keeps the intent's replica in step with the database.

use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use model::intent::Intent;
use model::lineage::Lineage;
use model::trail::{Touch, Trail};
use store::{Change, Store};
use tokio::sync::watch;

use crate::lock::{read, write};

/// The intent as of a revision of the database.
#[derive(Debug, Default)]
pub(crate) struct Replica {
    /// The revision; 0 before the first read.
    pub revision: u64,
    /// What operators asked for.
    pub intent: Intent,
    /// What of it changed lately.
    pub trail: Trail,
    /// Where the database has been before.
    pub lineage: Lineage,
    /// When the newest of the changes in it was committed.
    pub committed: Option<Instant>,
}

/// Follows the database until it is closed. `changed` wakes the controllers; the facts are in the replica.
pub(super) async fn follow(
    store: Store,
    replica: Arc<RwLock<Replica>>,
    changed: watch::Sender<Option<u64>>,
) {
    let mut revisions = store.revisions();
    let mut committed = None;
    loop {
        revisions.borrow_and_update();
        let target = Arc::clone(&replica);
        let since = read(&replica).revision;
        let read = store
            .read(move |snapshot| {
                // Under the lock for the whole read, so that nobody sees half a transaction.
                let mut replica = write(&target);
                let mut failed = None;
                let revision = snapshot.changes(since, &mut |change| {
                    let touched = match change {
                        Change::Written(row) => replica.intent.put(row),
                        Change::Reset => {
                            replica.intent = Intent::default();
                            Ok(Touch::Everything)
                        }
                        Change::Deleted(kind, id) => Ok(replica.intent.remove(kind, id)),
                    };
                    match touched {
                        Ok(touch) => replica.trail.note(touch),
                        Err(fault) => failed = failed.take().or(Some(fault)),
                    }
                });
                let revision = match failed {
                    Some(fault) => return Err(fault),
                    None => revision?,
                };
                replica.lineage = snapshot.lineage()?;
                replica.revision = revision;
                replica.committed = committed;
                Ok(revision)
            })
            .await;
        match read {
            Ok(revision) => {
                changed.send_replace(Some(revision));
            }
            Err(fault) => {
                // The replica may hold a part of the changes; reading them again is harmless.
                tracing::warn!(%fault, "the controllers cannot read the database; trying again in 1 s");
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            }
        }
        if revisions.changed().await.is_err() {
            return;
        }
        committed = Some(Instant::now());
    }
}
