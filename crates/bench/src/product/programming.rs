//! From the API into a switch's ovsdb-server. The switch is its database alone: no `l2gw vtep` takes processor time.

use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use testkit::ovsdb_server::OvsdbServer;
use testkit::run::run as run_program;

use super::server::Server;
use crate::Plan;
use crate::floor;
use crate::floor::ovsdb::Echo;
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
              connection of its own says when the last row is there. \"After the answer\" begins when the POST's answer \
              has been read. Floor: the same rows by a bare pipelined insert (100 to a transaction, 32 transactions under \
              way) into a fresh ovsdb-server, seen by the same monitor. Read back: whoever inserts is told of the rows by \
              a monitor of what a controller reads, as a controller must be that says what a switch holds. Nothing is \
              written to a switch that is not durable in the database before: bare SQLite, then the bare insert, read \
              back, is the least that can pass after a POST was sent. Processor time is what a process used from the POST \
              until the last row is there.",
        outcome: measure_all(plan),
    }
}

fn measure_all(plan: &Plan) -> Result<Vec<Measurement>> {
    let mut measurements = Vec::new();
    let (largest, _) = plan.largest();
    for &(size, times) in plan.sizes() {
        let mut runs = Runs::default();
        for _ in 0..times {
            runs.add(run(plan, size)?, size)?;
        }
        measurements.extend(runs.measurements(size, size == largest));
    }
    Ok(measurements)
}

/// What was measured with one number of MACs: of the product, and of the floors.
#[derive(Default)]
struct Runs {
    from_post: Samples,
    until_first: Samples,
    from_first: Samples,
    from_answer: Samples,
    of_server: Samples,
    of_switch: Samples,
    sqlite: Samples,
    bare: Bares,
    read_back: Bares,
}

/// A floor in ovsdb-server.
#[derive(Default)]
struct Bares {
    took: Samples,
    /// Behind bare SQLite.
    behind_sqlite: Samples,
    of_switch: Samples,
}

impl Bares {
    fn add(&mut self, size: u32, echo: Echo, sqlite: Duration) -> Result<()> {
        let inserted = floor::ovsdb::insert(size, echo)?;
        self.took.push_time(inserted.took);
        self.behind_sqlite.push_time(sqlite + inserted.took);
        self.of_switch.push_time(inserted.processor);
        Ok(())
    }
}

impl Runs {
    /// Adds a run, and the floors right behind it.
    fn add(&mut self, run: Run, size: u32) -> Result<()> {
        self.from_post.push(run.post);
        self.until_first.push(run.first);
        self.from_first.push(run.post - run.first);
        self.from_answer.push(run.answer);
        self.of_server.push_time(run.server_processor);
        self.of_switch.push_time(run.switch_processor);
        self.sqlite.push_time(run.sqlite);
        self.bare.add(size, Echo::None, run.sqlite)?;
        self.read_back.add(size, Echo::Inserter, run.sqlite)
    }

    fn measurements(self, size: u32, budgeted: bool) -> Vec<Measurement> {
        let (bare, read_back) = ("bare insert", "bare insert, read back");
        let macs = format!("{size} MACs in ovsdb-server");
        let since_post = format!("{macs}, after the POST was sent");
        let since_answer = format!("{macs}, after the answer");
        let processor = format!("processor time of ovsdb-server until it has {size} MACs");
        let row =
            |what: &str, samples: &Samples| Measurement::time(what.to_owned(), samples.clone());
        let after_answer =
            row(&since_answer, &self.from_answer).above(bare, self.bare.took.clone());
        vec![
            row(&since_post, &self.from_post).above(bare, self.bare.took),
            row(&since_post, &self.from_post)
                .above("bare SQLite, then bare insert", self.bare.behind_sqlite),
            row(&since_post, &self.from_post).above(
                "bare SQLite, then bare insert, read back",
                self.read_back.behind_sqlite,
            ),
            Measurement::time(
                format!("the first of {macs}, after the POST was sent"),
                self.until_first,
            )
            .above("bare SQLite", self.sqlite),
            Measurement::time(format!("{macs}, after the first of them"), self.from_first)
                .above(read_back, self.read_back.took.clone()),
            match budgeted {
                true => after_answer.budget(Budget::TimesFloor(1.3), Statistic::Median),
                false => after_answer,
            },
            row(&since_answer, &self.from_answer).above(read_back, self.read_back.took),
            row(&processor, &self.of_switch).above(bare, self.bare.of_switch),
            row(&processor, &self.of_switch).above(read_back, self.read_back.of_switch),
            Measurement::time(
                format!("processor time of the server until then, {size} MACs"),
                self.of_server,
            ),
        ]
    }
}

/// One POST.
struct Run {
    /// Seconds until all are there, since it was sent.
    post: f64,
    /// Seconds until the first is there, since it was sent.
    first: f64,
    /// Since it was answered until all are there.
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
        first: watch
            .first()?
            .saturating_duration_since(post.sent)
            .as_secs_f64(),
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
