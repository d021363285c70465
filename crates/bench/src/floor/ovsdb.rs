//! Bare pipelined OVSDB: the rows that the controller writes, into an ovsdb-server of its own.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures_util::{StreamExt as _, pin_mut};
use ovsdb::{Atom, Datum, Operation, Row, Session, SessionOptions, Transaction};
use testkit::ovsdb_server::OvsdbServer;
use tokio::runtime::Runtime;
use uuid::Uuid;

use crate::processor;
use crate::stations::{Station, stations};
use crate::watch::ovsdb::{DATABASE, OvsdbWatch, Watch, Whole, monitor};

/// Rows per transaction and transactions under way: ovsdb-server is fastest with a few thousand rows in its input.
const ROWS: usize = 100;
const WINDOW: usize = 32;

/// What an insert took.
pub(crate) struct Inserted {
    pub(crate) took: Duration,
    /// The processor time that ovsdb-server used.
    pub(crate) processor: Duration,
}

/// Who is told of what is inserted, besides the witness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Echo {
    /// Nobody: whoever inserts knows only that it was taken.
    None,
    /// Whoever inserts, of all that a controller reads: what it takes to say what a switch holds.
    Inserter,
}

/// Inserts so many remote MACs into a fresh ovsdb-server, under the eyes of the same witness as the product.
pub(crate) fn insert(rows: u32, echo: Echo) -> Result<Inserted> {
    let server = OvsdbServer::start()?;
    let watch = OvsdbWatch::start(&server.unix_target())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let before = processor::used_by(server.pid()?)?;
    let start = Instant::now();
    runtime.block_on(insert_all(server.unix_target(), rows, echo))?;
    let there = watch.wait(usize::try_from(rows)?)?;
    end(runtime);
    Ok(Inserted {
        took: there.duration_since(start),
        processor: processor::used_by(server.pid()?)? - before,
    })
}

/// What is still under way is of no interest.
fn end(runtime: Runtime) {
    runtime.shutdown_background();
}

/// Inserts so many remote MACs into each of several fresh ovsdb-servers at once; until the last one has all.
pub(crate) fn insert_everywhere(servers: usize, rows: u32) -> Result<Duration> {
    let servers: Vec<_> = (0..servers)
        .map(|_| OvsdbServer::start())
        .collect::<Result<_>>()?;
    let targets = servers.iter().map(OvsdbServer::unix_target);
    let watches: Vec<_> = targets
        .clone()
        .map(|target| OvsdbWatch::start(&target))
        .collect::<Result<_>>()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let start = Instant::now();
    let inserts = targets.map(|target| insert_all(target, rows, Echo::None));
    runtime.block_on(futures_util::future::try_join_all(inserts))?;
    let mut last = start;
    for watch in &watches {
        last = last.max(watch.wait(usize::try_from(rows)?)?);
    }
    end(runtime);
    Ok(last.duration_since(start))
}

/// Reads the remote MACs of an ovsdb-server as a controller does that connects, and keeps nothing of them.
pub(crate) fn dump(target: &str, rows: usize) -> Result<Duration> {
    let start = Instant::now();
    let watch = Watch::<Whole>::start(target)?;
    let took = start.elapsed();
    ensure!(watch.rows()? == rows, "{} rows dumped", watch.rows()?);
    Ok(took)
}

async fn insert_all(target: String, rows: u32, echo: Echo) -> Result<()> {
    let session = Session::connect(&target.parse()?, &SessionOptions::default()).await?;
    if echo == Echo::Inserter {
        monitor::<Whole>(&session).await?;
    }
    let (switch, locator) = insert_first(&session).await?;
    let rest: Vec<_> = stations(1..rows).collect();
    let transactions = rest.chunks(ROWS).map(|chunk| {
        let insert = |station: &Station| mac(*station, switch.into(), locator.into());
        chunk.iter().map(insert).collect::<Transaction>()
    });
    let outcomes = session.pipeline(DATABASE, transactions, WINDOW);
    pin_mut!(outcomes);
    while let Some(outcome) = outcomes.next().await {
        outcome?;
    }
    Ok(())
}

/// Logical switch, locator and the first MAC together: a locator that nobody refers to is collected.
async fn insert_first(session: &Session) -> Result<(Uuid, Uuid)> {
    let transaction = Transaction::new()
        .with(Operation::insert_named(
            "Logical_Switch",
            "switch",
            Row::new()
                .with("name", Uuid::from_u128(1).to_string())
                .with("tunnel_key", 123_i64),
        ))
        .with(Operation::insert_named(
            "Physical_Locator",
            "locator",
            Row::new()
                .with("encapsulation_type", "vxlan_over_ipv4")
                .with("dst_ip", "198.51.100.1")
                .with("tunnel_key", 456_i64),
        ))
        .with(mac(
            Station::nth(0),
            Atom::NamedUuid("switch".into()),
            Atom::NamedUuid("locator".into()),
        ));
    let outcome = session.transact(DATABASE, &transaction).await?;
    let inserted = |operation| outcome.inserted(operation).context("no uuid");
    Ok((inserted(0)?, inserted(1)?))
}

fn mac(station: Station, switch: Atom, locator: Atom) -> Operation {
    let row = Row::new()
        .with("MAC", station.mac_text())
        .with("logical_switch", Datum::Atom(switch))
        .with("locator", Datum::Atom(locator))
        .with("ipaddr", station.ip.to_string());
    Operation::insert("Ucast_Macs_Remote", row)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_inserted_is_seen() -> Result<()> {
        for echo in [Echo::None, Echo::Inserter] {
            let inserted = insert(1000, echo)?;
            assert!(inserted.took > Duration::ZERO);
        }
        Ok(())
    }
}
