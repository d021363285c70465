//! Many switches at once, each its database alone.

use std::time::Instant;

use anyhow::Result;

use super::programming::switch;
use super::server::Server;
use crate::Plan;
use crate::floor;
use crate::measurement::{Measurement, Samples};
use crate::memory::Memory;
use crate::report::Section;
use crate::watch::ovsdb::OvsdbWatch;

/// MACs on each switch.
const MACS: u32 = 1_000;

pub(crate) fn measure(plan: &Plan) -> Section {
    Section {
        title: "A hundred switches at once",
        how: "`l2gw server` and 100 ovsdb-servers, each a switch; a gateway of all of them, on a network with 1,000 MACs: \
              every switch holds all. One POST; monitors on connections of their own say when the last row is on the last \
              switch. Floor: the same rows by bare pipelined inserts into 100 fresh ovsdb-servers at once. Killed and \
              started: `kill -9`, a new server on the same database, until the API says ACTIVE, which it says when every \
              switch shows everything.",
        outcome: measure_all(plan),
    }
}

fn measure_all(plan: &Plan) -> Result<Vec<Measurement>> {
    let count = if plan.quick { 10 } else { 100 };
    let names: Vec<_> = (0..count).map(|n| format!("bench-{n}")).collect();
    let switches: Vec<_> = names
        .iter()
        .map(|name| switch(name))
        .collect::<Result<_>>()?;
    let mut arguments = vec!["--allow-unknown-devices".to_owned()];
    for switch in &switches {
        arguments.extend(["--device".to_owned(), switch.unix_target()]);
    }
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let server = Server::start(&plan.binary, &arguments)?;
    let mut api = server.api()?;
    let connection = server.explain(api.stretch_network_over(&names))?;
    server.explain(api.wait_active(&connection))?;
    let watches: Vec<_> = switches
        .iter()
        .map(|switch| OvsdbWatch::start(&switch.unix_target()))
        .collect::<Result<_>>()?;

    let post = server.explain(api.post_macs(&connection, 0..MACS))?;
    let mut last = post.sent;
    for watch in &watches {
        last = last.max(server.explain(watch.wait(usize::try_from(MACS)?))?);
    }
    let everywhere = last.duration_since(post.sent);
    server.explain(api.wait_active(&connection))?;
    let active = post.sent.elapsed();
    let one = server.explain(api.post_macs(&connection, MACS..MACS + 1))?;
    let mut last = one.sent;
    for watch in &watches {
        last = last.max(server.explain(watch.wait(usize::try_from(MACS)? + 1))?);
    }
    let one_more = last.duration_since(one.sent);
    let memory = Memory::of(server.pid()?)?.resident;
    drop(watches);

    let killed = Instant::now();
    let server = server.kill_and_start_again(&plan.binary, &arguments)?;
    let mut api = server.api()?;
    server.explain(api.wait_active(&connection))?;
    let restarted = killed.elapsed();
    drop((server, switches));
    let bare = floor::ovsdb::insert_everywhere(count, MACS)?;

    let time = |what: String, took| Measurement::time(what, of(took));
    Ok(vec![
        time(
            format!("{MACS} MACs on each of {count} switches, after the POST was sent"),
            everywhere,
        )
        .above("bare pipelined inserts", of(bare)),
        time(
            format!("the API says ACTIVE of {count} switches, after the POST was sent"),
            active,
        ),
        time(
            format!("one MAC more on each of {count} switches, after the POST was sent"),
            one_more,
        ),
        time(
            format!("server killed and started, until {count} switches are compared and ACTIVE"),
            restarted,
        ),
        Measurement::memory(
            format!("memory of the server with {count} switches of {MACS} MACs (RSS)"),
            [memory].into_iter().collect(),
        ),
    ])
}

fn of(took: std::time::Duration) -> Samples {
    let mut samples = Samples::default();
    samples.push_time(took);
    samples
}
