//! Counts resources by kind and status.
//!
//! Statuses are read back from the switches and stored nowhere, so counting means looking at every remote resource. That
//! is a fraction of a second for 100,000; so that no scrape interval can make it a burden, a count is good for some
//! seconds, and longer the longer it took.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use model::fault::Fault;
use model::resource::{Kind, Resource};
use model::status::Status;
use model::table;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use store::{Query, Store};
use tokio::sync::Mutex;

use crate::status::Board;

/// How long a count is good at least.
const FRESH: Duration = Duration::from_secs(5);
/// A count is good for so many times as long as it took: counting never takes more than a twentieth of one processor.
const RATIO: u32 = 20;

const STATUSES: [Status; 4] = [Status::Active, Status::Build, Status::Down, Status::Error];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ResourceLabels {
    kind: &'static str,
    status: &'static str,
}

pub(super) type Resources = Family<ResourceLabels, Gauge>;

type Counts = BTreeMap<(Kind, &'static str), i64>;

pub(super) struct Census {
    store: Store,
    board: Arc<Board>,
    last: Mutex<Option<Count>>,
}

struct Count {
    counts: Counts,
    good_until: Instant,
}

impl Census {
    pub(super) fn new(store: Store, board: Arc<Board>) -> Self {
        Self {
            store,
            board,
            last: Mutex::default(),
        }
    }

    /// The counts, at most some seconds old. Whoever asks while they are made waits for them.
    pub(super) async fn resources(&self) -> Result<Resources, Fault> {
        let mut last = self.last.lock().await;
        let now = Instant::now();
        let counts = match last.take().filter(|last| now < last.good_until) {
            Some(count) => &last.insert(count).counts,
            None => {
                let counts = self.count().await?;
                let good_for = FRESH.max(now.elapsed() * RATIO);
                let good_until = Instant::now() + good_for;
                &last.insert(Count { counts, good_until }).counts
            }
        };
        let family = Resources::default();
        for ((kind, status), count) in counts {
            let kind = Resource::of(*kind).member;
            family
                .get_or_create(&ResourceLabels { kind, status })
                .set(*count);
        }
        Ok(family)
    }

    async fn count(&self) -> Result<Counts, Fault> {
        let board = Arc::clone(&self.board);
        let work = move |snapshot: &mut dyn store::Snapshot| {
            let mut counts = Counts::new();
            for resource in table::ALL {
                let kind = resource.kind;
                let query = Query::all(kind);
                if !follows_switches(kind) {
                    let count = i64::try_from(snapshot.count(&query)?).unwrap_or(i64::MAX);
                    counts.insert((kind, Status::Active.as_str()), count);
                    continue;
                }
                for status in STATUSES {
                    counts.insert((kind, status.as_str()), 0);
                }
                snapshot.select(&query, &mut |row| {
                    let status = board.report(row).status.as_str();
                    *counts.entry((kind, status)).or_default() += 1;
                    ControlFlow::Continue(())
                })?;
            }
            Ok(counts)
        };
        self.store.read(work).await
    }
}

/// Whether the status of its resources is what the switches hold of them; all others are always ACTIVE.
fn follows_switches(kind: Kind) -> bool {
    match kind {
        Kind::L2RemoteGateway | Kind::L2RemoteGatewayConnection | Kind::L2RemoteMac => true,
        Kind::Network | Kind::Port | Kind::L2Gateway | Kind::L2GatewayConnection => false,
    }
}
