//! From the API into a switch's ovsdb-server. The switch is its database alone: no `l2gw vtep` takes processor time.

use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use testkit::ovsdb_server::OvsdbServer;
use testkit::run::run as run_program;

use super::server::Server;
use crate::Plan;
use crate::floor;
use crate::floor::sqlite::{Bare, Table};
use crate::measurement::{Budget, Measurement, Samples, Statistic};
use crate::processor;
use crate::report::Section;
use crate::watch::ovsdb::OvsdbWatch;

/// The switch's name.
const SWITCH: &str = "bench";

pub(crate) fn measure(plan: &Plan) -> Section {
    Section {
        title: "From the API into ovsdb-server",
        how: "`l2gw server` and an ovsdb-server of its own that is a switch with one port. One POST; a monitor on a \
              connection of its own says when the last row is there. \"After the answer\" begins when the POST's \
              answer has been read. Floor: the same rows by a bare pipelined insert (100 to a transaction, 32 \
              transactions under way) into a fresh ovsdb-server, seen by the same monitor. Nothing is written to a switch \
              that is not durable in the database before: bare SQLite, then the bare insert, is the least that can pass \
              after a POST was sent. Processor time is what a process used from the POST until the last row \
              is there.",
        outcome: measure_all(plan),
    }
}

fn measure_all(plan: &Plan) -> Result<Vec<Measurement>> {
    let mut measurements = Vec::new();
    let (largest, _) = plan.largest();
    for &(size, times) in plan.sizes() {
        let (mut from_post, mut from_answer) = (Samples::default(), Samples::default());
        let (mut bare, mut both) = (Samples::default(), Samples::default());
        let (mut of_server, mut of_switch) = (Samples::default(), Samples::default());
        let mut of_bare_switch = Samples::default();
        for _ in 0..times {
            let Run {
                post,
                answer,
                sqlite,
                server_processor,
                switch_processor,
            } = run(plan, size)?;
            from_post.push(post);
            from_answer.push(answer);
            let inserted = floor::ovsdb::insert(size)?;
            bare.push_time(inserted.took);
            both.push_time(sqlite + inserted.took);
            of_server.push_time(server_processor);
            of_switch.push_time(switch_processor);
            of_bare_switch.push_time(inserted.processor);
        }
        let beside_both = Measurement::time(
            format!("{size} MACs in ovsdb-server, after the POST was sent, beside both floors"),
            from_post.clone(),
        );
        let beside_both = beside_both.above("bare SQLite, then bare pipelined insert", both);
        let from_post = Measurement::time(
            format!("{size} MACs in ovsdb-server, after the POST was sent"),
            from_post,
        );
        let from_answer = Measurement::time(
            format!("{size} MACs in ovsdb-server, after the answer"),
            from_answer,
        );
        let floor = "bare pipelined insert";
        measurements.push(from_post.above(floor, bare.clone()));
        measurements.push(beside_both);
        let from_answer = from_answer.above(floor, bare);
        measurements.push(if size == largest {
            from_answer.budget(Budget::TimesFloor(1.3), Statistic::Median)
        } else {
            from_answer
        });
        let of_switch = Measurement::time(
            format!("processor time of ovsdb-server until it has {size} MACs"),
            of_switch,
        );
        measurements.push(of_switch.above("bare pipelined insert", of_bare_switch));
        measurements.push(Measurement::time(
            format!("processor time of the server until then, {size} MACs"),
            of_server,
        ));
    }
    Ok(measurements)
}

/// One POST.
struct Run {
    /// Seconds until all are there, since it was sent.
    post: f64,
    /// Since it was answered.
    answer: f64,
    /// The same rows by bare SQLite.
    sqlite: Duration,
    /// The processor time that the server used since it was sent.
    server_processor: Duration,
    /// That ovsdb-server used.
    switch_processor: Duration,
}

fn run(plan: &Plan, size: u32) -> Result<Run> {
    let switch = switch(SWITCH)?;
    let server = Server::start(
        &plan.binary,
        &["--device", &switch.unix_target(), "--allow-unknown-devices"],
    )?;
    let mut api = server.api()?;
    let connection = server.explain(api.stretch_network(SWITCH))?;
    server.explain(api.wait_active(&connection))?;
    let watch = OvsdbWatch::start(&switch.unix_target())?;
    let taken = || {
        anyhow::Ok((
            processor::used_by(server.pid()?)?,
            processor::used_by(switch.pid()?)?,
        ))
    };
    let before = taken()?;
    let post = server.explain(api.post_macs(&connection, 0..size))?;
    let there = server.explain(watch.wait(usize::try_from(size)?))?;
    let after = taken()?;
    let since = |instant| there.saturating_duration_since(instant).as_secs_f64();
    let table = Table::read(&server.database())?;
    let mut bare = Bare::create(&server.directory().join("bare.sqlite"), &table)?;
    Ok(Run {
        post: since(post.sent),
        answer: since(post.answered),
        sqlite: bare.insert(&table)?,
        server_processor: after.0 - before.0,
        switch_processor: after.1 - before.1,
    })
}

/// An ovsdb-server that is a switch of this name with a port named `border`.
pub(crate) fn switch(name: &str) -> Result<OvsdbServer> {
    let server = OvsdbServer::start()?;
    let database = format!("--db={}", server.unix_target());
    let arguments = [&database, "add-ps", name, "--", "add-port", name, "border"];
    run_program(Command::new("vtep-ctl").args(arguments).args([
        "--",
        "set",
        "Physical_Switch",
        name,
        "tunnel_ips=10.9.0.1",
    ]))?;
    Ok(server)
}
