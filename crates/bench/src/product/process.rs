//! What an operator feels: one create, one command, one start; and what the program weighs.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::server::{Server, l2gw};
use crate::Plan;
use crate::floor::disk::Journal;
use crate::measurement::{Budget, Measurement, Samples, Statistic, Unit};
use crate::memory::Memory;
use crate::report::Section;

/// A whole command, and a start.
const COMMAND_WITHIN: f64 = 0.02;
const STARTS_WITHIN: f64 = 0.05;
/// A create may take so much longer than the disk, in seconds.
const CREATE_BEYOND_DISK: f64 = 0.002;
/// The release build.
const BINARY: f64 = 20e6;
const IDLE: f64 = 25e6;
/// What an idle server may still have to put away after its start.
const SETTLES_IN: Duration = Duration::from_secs(1);

pub(crate) fn measure(plan: &Plan) -> Section {
    Section {
        title: "Single calls, commands, start and size",
        how: "`l2gw server` without a switch. Create: POST of one remote gateway on a connection that is kept alive; \
              floor: append 4 KiB to a file on the same disk and fdatasync, turn about. Command: the whole process, \
              from start to end; floor: the process `true`. Start: from exec to the first answer, new database.",
        outcome: measure_all(plan),
    }
}

fn measure_all(plan: &Plan) -> Result<Vec<Measurement>> {
    let server = Server::start(&plan.binary, &[])?;
    std::thread::sleep(SETTLES_IN);
    let idle = Memory::of(server.pid()?)?;
    let mut measurements = vec![
        Measurement::memory(
            "server's memory, idle (RSS)",
            [idle.resident].into_iter().collect(),
        )
        .budget(Budget::AtMost(IDLE), Statistic::Max),
        Measurement::memory("the same (PSS)", [idle.proportional].into_iter().collect()),
    ];
    measurements.push(server.explain(creates(plan, &server))?);
    measurements.push(commands(plan, &server)?);
    measurements.push(starts(plan)?);
    let size = std::fs::metadata(&plan.binary)?.len() as f64;
    measurements.push(
        Measurement::new("release binary", Unit::Memory, [size].into_iter().collect())
            .budget(Budget::AtMost(BINARY), Statistic::Max),
    );
    Ok(measurements)
}

fn creates(plan: &Plan, server: &Server) -> Result<Measurement> {
    let mut api = server.api()?;
    let mut journal = Journal::create(server.directory())?;
    let (mut create, mut floor) = (Samples::default(), Samples::default());
    for n in 0..plan.samples() {
        let ip = format!("203.0.113.{}", n % 250 + 1);
        let start = Instant::now();
        api.create_remote_gateway(&ip)?;
        create.push_time(start.elapsed());
        floor.push_time(journal.append()?);
    }
    let within = floor.of(Statistic::Median).unwrap_or_default() + CREATE_BEYOND_DISK;
    Ok(
        Measurement::time("create of one remote gateway, durable", create)
            .above("append and fdatasync", floor)
            .budget(Budget::AtMost(within), Statistic::Median),
    )
}

fn commands(plan: &Plan, server: &Server) -> Result<Measurement> {
    let (mut command, mut floor) = (Samples::default(), Samples::default());
    for _ in 0..plan.samples() {
        let mut list = l2gw(&plan.binary);
        list.arg("l2-remote-gateway-list")
            .env("OS_ENDPOINT", format!("http://{}", server.address()));
        command.push_time(spent_in(list)?);
        floor.push_time(spent_in(std::process::Command::new("true"))?);
    }
    let listed = format!("`l2gw l2-remote-gateway-list` of {}", plan.samples());
    Ok(Measurement::time(listed, command)
        .above("process `true`", floor)
        .budget(Budget::AtMost(COMMAND_WITHIN), Statistic::Median))
}

/// How long a process takes from start to end.
fn spent_in(mut command: std::process::Command) -> Result<Duration> {
    let start = Instant::now();
    let output = command.output()?;
    let took = start.elapsed();
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {said}");
    Ok(took)
}

fn starts(plan: &Plan) -> Result<Measurement> {
    let mut samples = Samples::default();
    for _ in 0..10 {
        samples.push_time(Server::start(&plan.binary, &[])?.ready_after);
    }
    let start = Measurement::time("start of the server to its first answer", samples);
    Ok(start.budget(Budget::AtMost(STARTS_WITHIN), Statistic::Median))
}
