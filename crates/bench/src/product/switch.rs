//! One switch that holds many MACs: what changes there, and what it costs to find that nothing has. The switch is its
//! database alone: no `l2gw vtep` takes processor time.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use testkit::ovsdb_server::OvsdbServer;

use super::api::Api;
use super::programming::switch;
use super::server::Server;
use crate::Plan;
use crate::floor;
use crate::measurement::{Budget, Measurement, Samples, Statistic, Unit};
use crate::memory::Memory;
use crate::report::Section;
use crate::watch::PATIENCE;
use crate::watch::ovsdb::{OvsdbWatch, Watch, Way};

/// Budgets, in seconds.
const ONE_USUALLY_WITHIN: f64 = 0.01;
const ONE_NEARLY_ALWAYS_WITHIN: f64 = 0.05;
const MOVED_WITHIN: f64 = 3.0;
const GONE_WITHIN: f64 = 2.0;
const DUMPED_WITHIN: Budget = Budget::TimesFloor(1.5);
/// Until memory and processor are at rest again after a bulk.
const SETTLES_IN: Duration = Duration::from_secs(3);
/// Between two single MACs.
const PAUSE: Duration = Duration::from_millis(20);
/// Where the remote gateway moves.
const ELSEWHERE: &str = "10.9.0.98";

pub(crate) fn measure(plan: &Plan) -> Section {
    Section {
        title: "A switch that holds many MACs",
        how: "`l2gw server` and an ovsdb-server of its own that is a switch with one port; a monitor on a connection of \
              its own says when rows come, change and go. One more: single POSTs. Another way: PUT of the remote \
              gateway's address, until every row has its new locator. A new session: ovsdb-server hangs up on \
              everybody; until the API says ACTIVE again after it said DOWN, the pause before dialling included; its \
              floor: connecting and the dump of the same columns by a client that keeps nothing, right before. Writes \
              are what the database's log grew by. Gone: DELETE of the connection. Memory at rest; of a second switch: \
              what it adds when it comes with the same MACs.",
        outcome: measure_all(plan),
    }
}

#[derive(Default)]
struct Runs {
    one: Samples,
    moved: Samples,
    reconnected: Samples,
    dump: Samples,
    written: Samples,
    gone: Samples,
    full: Samples,
    second: Samples,
}

fn measure_all(plan: &Plan) -> Result<Vec<Measurement>> {
    let (size, times) = plan.largest();
    let mut runs = Runs::default();
    for n in 0..times {
        // Each latency is a sample of its own; one run has enough of them.
        let singles = if n == 0 { plan.samples() } else { 0 };
        run(plan, size, singles, &mut runs)?;
        runs.second.push(second(plan, size)?);
    }
    let one = format!("one MAC on top of {size} in ovsdb-server, after the POST was sent");
    let again = format!("a new session with a switch that holds {size} right rows");
    let at_most = Budget::AtMost;
    Ok(vec![
        Measurement::time(format!("{one}: usually"), runs.one.clone())
            .budget(at_most(ONE_USUALLY_WITHIN), Statistic::Median),
        Measurement::time(format!("{one}: nearly always"), runs.one)
            .budget(at_most(ONE_NEARLY_ALWAYS_WITHIN), Statistic::P99),
        Measurement::time(
            format!("another address of the remote gateway, until {size} MACs lead there"),
            runs.moved,
        )
        .budget(at_most(MOVED_WITHIN), Statistic::Median),
        Measurement::time(format!("{again}, until it is ACTIVE"), runs.reconnected)
            .above("bare dump", runs.dump)
            .budget(DUMPED_WITHIN, Statistic::Median),
        Measurement::new(format!("{again}: bytes written"), Unit::Count, runs.written)
            .budget(at_most(0.0), Statistic::Max),
        Measurement::time(
            format!("DELETE of the connection with {size} MACs, until ovsdb-server has none"),
            runs.gone,
        )
        .budget(at_most(GONE_WITHIN), Statistic::Median),
        Measurement::memory(
            format!("memory of the server with {size} MACs on one switch (RSS)"),
            runs.full,
        ),
        Measurement::memory(
            format!("what a second switch with the same {size} MACs adds"),
            runs.second,
        ),
    ])
}

fn run(plan: &Plan, size: u32, singles: usize, runs: &mut Runs) -> Result<()> {
    let switch = switch("bench")?;
    let device = switch.unix_target();
    let server = Server::start(
        &plan.binary,
        &["--device", &device, "--allow-unknown-devices"],
    )?;
    let mut api = server.api()?;
    let connection = server.explain(api.stretch_network("bench"))?;
    server.explain(api.wait_active(&connection))?;
    let watch = OvsdbWatch::start(&device)?;
    api.post_macs(&connection, 0..size)?;
    server.explain(watch.wait(usize::try_from(size)?))?;
    server.explain(api.wait_active(&connection))?;
    sleep(SETTLES_IN);
    runs.full.push(Memory::of(server.pid()?)?.resident);

    let mut next = size;
    for _ in 0..singles {
        let post = api.post_macs(&connection, next..next + 1)?;
        next += 1;
        let there = server.explain(watch.wait(usize::try_from(next)?))?;
        runs.one.push_time(there.duration_since(post.sent));
        sleep(PAUSE);
    }
    drop(watch);
    let rows = usize::try_from(next)?;

    let ways = Watch::<Way>::start(&device)?;
    let put = api.move_remote_gateway(ELSEWHERE)?;
    let moved = server.explain(ways.wait_modified(rows))?;
    runs.moved.push_time(moved.duration_since(put.sent));
    drop(ways);
    server.explain(api.wait_active(&connection))?;
    sleep(SETTLES_IN);

    runs.dump.push_time(floor::ovsdb::dump(&device, rows)?);
    let before = log_length(&switch)?;
    let cut = Instant::now();
    switch.control(&["ovsdb-server/reconnect"])?;
    server.explain(until(&mut api, &connection, |status| status != "ACTIVE"))?;
    server.explain(until(&mut api, &connection, |status| status == "ACTIVE"))?;
    runs.reconnected.push_time(cut.elapsed());
    sleep(SETTLES_IN);
    runs.written
        .push(log_length(&switch)?.abs_diff(before) as f64);

    let watch = OvsdbWatch::start(&device)?;
    ensure!(watch.rows()? == rows, "{} rows", watch.rows()?);
    let delete = api.delete_connection(&connection)?;
    let gone = server.explain(watch.wait(0))?;
    runs.gone.push_time(gone.duration_since(delete.sent));
    Ok(())
}

/// What the server's memory grows by when a second switch with as many MACs comes.
fn second(plan: &Plan, size: u32) -> Result<f64> {
    let rows = usize::try_from(size)?;
    let (first, mut second) = (switch("one")?, switch("two")?);
    let (one, two) = (first.unix_target(), second.unix_target());
    second.kill()?;
    let server = Server::start(
        &plan.binary,
        &[
            "--device",
            &one,
            "--device",
            &two,
            "--allow-unknown-devices",
        ],
    )?;
    let mut api = server.api()?;
    let connection = server.explain(api.stretch_network_over(&["one", "two"]))?;
    let watch = OvsdbWatch::start(&one)?;
    api.post_macs(&connection, 0..size)?;
    server.explain(watch.wait(rows))?;
    sleep(SETTLES_IN);
    let before = Memory::of(server.pid()?)?.resident;
    second.start_again()?;
    server.explain(api.wait_active(&connection))?;
    let watch = OvsdbWatch::start(&two)?;
    server.explain(watch.wait(rows))?;
    sleep(SETTLES_IN);
    Ok(Memory::of(server.pid()?)?.resident - before)
}

/// The length of the log in which ovsdb-server keeps its database: every commit that changes something adds to it.
fn log_length(switch: &OvsdbServer) -> Result<u64> {
    Ok(std::fs::metadata(switch.directory().join("db"))?.len())
}

fn until(api: &mut Api, connection: &str, right: impl Fn(&str) -> bool) -> Result<()> {
    let begun = Instant::now();
    loop {
        let status = api.status(connection)?;
        if right(&status) {
            return Ok(());
        }
        ensure!(begun.elapsed() < PATIENCE, "it stays {status}");
        sleep(Duration::from_millis(1));
    }
}
