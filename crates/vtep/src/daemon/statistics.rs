//! What ports counted, told in the database (`Physical_Port.vlan_stats`, vtep(5)).
//!
//! Nobody needs it often, and every telling is a transaction that all who watch the table are told of: it is rare, and
//! rarer the longer it takes. A gateway without physical ports has nothing to tell and looks at nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hardware_vtep::{BindingStats, Database, StatisticsPublisher};
use ovsdb::{Connection, Link};
use tokio::sync::watch;

use crate::kernel::counters::{Counters, Meter};
use crate::kernel::outline::{Outline, PortDevice};

/// Between two tellings of the same bindings at least.
const EVERY: Duration = Duration::from_secs(10);

/// Between two tellings where bindings changed in between.
const AT_LEAST: Duration = Duration::from_secs(1);

/// Between two tellings is so many times as much time as one takes: of one processor a two-hundredth at most.
const RATIO: u32 = 200;

/// Tells what ports counted until it is dropped.
pub(super) async fn tell(
    switch: Arc<str>,
    connection: Arc<Connection<Database>>,
    mut outline: watch::Receiver<Option<Arc<Outline>>>,
) {
    let mut publisher = StatisticsPublisher::new(switch);
    let mut meter = Meter::default();
    let mut told = false;
    loop {
        let ports = match &*outline.borrow_and_update() {
            Some(outline) => outline.ports.clone(),
            None => Vec::new(),
        };
        // Of ports that are bound no more nothing is to be left.
        if ports.is_empty() && !told {
            if outline.changed().await.is_err() {
                return;
            }
            continue;
        }
        let begun = Instant::now();
        told = !ports.is_empty();
        let read = tokio::task::spawn_blocking(move || {
            let stats = of(ports, &mut meter);
            (meter, stats.ok())
        });
        let stats;
        (meter, stats) = read.await.unwrap_or_default();
        if let Some(stats) = stats
            && let Link::Up { session, .. } = connection.link()
            && let Err(error) = publisher
                .publish(&session, connection.replica(), stats)
                .await
        {
            tracing::debug!(%error, "counters of ports not told");
            told = true;
        }
        let pause = EVERY.max(begun.elapsed() * RATIO);
        tokio::time::sleep(AT_LEAST).await;
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            changed = outline.changed() => if changed.is_err() { return },
        }
    }
}

fn of(
    ports: Vec<PortDevice>,
    meter: &mut Meter,
) -> std::io::Result<BTreeMap<(Arc<str>, u16), BindingStats>> {
    if ports.is_empty() {
        return Ok(BTreeMap::new());
    }
    let counted = meter.read()?;
    let stats = ports.into_iter().filter_map(|port| {
        let counters = counted.get(&port.device)?;
        Some(((port.port, port.vlan.get()), seen_from_outside(*counters)))
    });
    Ok(stats.collect())
}

/// What the device in the bridge receives comes from the port.
fn seen_from_outside(counters: Counters) -> BindingStats {
    BindingStats {
        packets_from_local: counters.received_packets,
        bytes_from_local: counters.received_bytes,
        packets_to_local: counters.sent_packets,
        bytes_to_local: counters.sent_bytes,
    }
}
