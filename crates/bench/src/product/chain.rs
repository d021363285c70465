//! The whole chain on one border gateway in a network namespace: API, database, ovsdb-server, `l2gw vtep`, kernel.

use std::net::TcpStream;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::unistd::Pid;
use testkit::daemon::Daemon;
use testkit::installation::Installation;
use testkit::netns::Netns;
use testkit::run::run as run_program;
use testkit::topology::{Cloud, CloudPlan, Topology};

use super::api::Api;
use crate::Plan;
use crate::floor;
use crate::measurement::{Budget, Measurement, Samples, Statistic, Unit};
use crate::memory::Memory;
use crate::report::Section;
use crate::stations::Station;
use crate::watch::kernel::KernelWatch;
use crate::watch::ovsdb::OvsdbWatch;

/// Budgets, in seconds and bytes.
const CHAIN_WITHIN: f64 = 6.0;
const ONE_WITHIN: f64 = 0.05;
const SERVER_IDLE: f64 = 25e6;
const SERVER_FULL: f64 = 150e6;
/// Until memory and processor are at rest again after a bulk, and between two single MACs.
const SETTLES_IN: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(50);

pub(crate) fn measure(plan: &Plan) -> Section {
    Section {
        title: "From the API into the kernel",
        how: "`l2gw server` and `l2gw vtep` in the network namespace of a border gateway, everything real. One POST; a \
              monitor of the ovsdb-server and a listener to the kernel's own notifications say when the last MAC is \
              there: for the kernel, when each has its entry in the VXLAN device's forwarding database, in the \
              bridge's, and its neighbour entry. Then all are read back and counted. Floor: the same entries by raw \
              batched netlink into a kernel namespace of its own, seen by the same listener. Memory: after the bulk, \
              at rest.",
        outcome: measure_all(plan),
    }
}

#[derive(Default)]
struct Runs {
    to_ovsdb: Samples,
    to_kernel: Samples,
    behind_ovsdb: Samples,
    netlink: Samples,
    active: Samples,
    one_to_ovsdb: Samples,
    one_to_kernel: Samples,
    restart_events: Samples,
    restart: Samples,
    cold_start: Samples,
    delete: Samples,
    server: [Samples; 2],
    vtep: [Samples; 2],
    ovsdb_server: [Samples; 2],
}

fn measure_all(plan: &Plan) -> Result<Vec<Measurement>> {
    let (size, times) = plan.largest();
    let mut runs = Runs::default();
    for n in 0..times {
        // Each latency is a sample of its own; one run has enough of them.
        let singles = if n == 0 { plan.samples() } else { 0 };
        run(plan, size, singles, &mut runs)?;
        runs.netlink.push_time(floor::netlink::write(size)?);
    }
    let netlink = "raw batched netlink";
    let [server_idle, server_full] = runs.server;
    let [vtep_idle, vtep_full] = runs.vtep;
    let [ovsdb_idle, ovsdb_full] = runs.ovsdb_server;
    let at_most =
        |value, judged, measurement: Measurement| measurement.budget(Budget::AtMost(value), judged);
    Ok(vec![
        Measurement::time(format!("{size} MACs in ovsdb-server, after the POST was sent"), runs.to_ovsdb),
        at_most(
            CHAIN_WITHIN,
            Statistic::Median,
            Measurement::time(format!("{size} MACs in the kernel, after the POST was sent"), runs.to_kernel),
        ),
        Measurement::time(format!("{size} MACs in the kernel, after ovsdb-server had all"), runs.behind_ovsdb)
            .above(netlink, runs.netlink.clone())
            .budget(Budget::TimesFloor(2.0), Statistic::Median),
        Measurement::time(
            format!("`l2gw vtep` from its start to {size} MACs in an empty kernel, ovsdb-server holding them"),
            runs.cold_start,
        )
        .above(netlink, runs.netlink),
        Measurement::time("the API says ACTIVE, after the POST was sent", runs.active),
        at_most(
            ONE_WITHIN,
            Statistic::P99,
            Measurement::time(format!("one MAC on top of {size} in ovsdb-server, after the POST was sent"), runs.one_to_ovsdb),
        ),
        at_most(
            ONE_WITHIN,
            Statistic::P99,
            Measurement::time(format!("one MAC on top of {size} in the kernel, after the POST was sent"), runs.one_to_kernel),
        ),
        at_most(
            0.0,
            Statistic::Max,
            Measurement::new(
                "restart of `l2gw vtep`, all in place: changes in the kernel",
                Unit::Count,
                runs.restart_events,
            ),
        ),
        Measurement::time("restart of `l2gw vtep`, all in place: until it does the next MAC", runs.restart),
        Measurement::time(format!("DELETE of the connection with {size} MACs, until the kernel has none"), runs.delete),
        at_most(SERVER_IDLE, Statistic::Max, Measurement::memory("server's memory, idle (RSS)", server_idle)),
        at_most(
            SERVER_FULL,
            Statistic::Max,
            Measurement::memory(format!("server's memory with {size} MACs (RSS)"), server_full),
        ),
        Measurement::memory("vtep's memory, idle (RSS)", vtep_idle),
        Measurement::memory(format!("vtep's memory with {size} MACs (RSS)"), vtep_full),
        Measurement::memory("ovsdb-server's memory, idle (RSS)", ovsdb_idle),
        Measurement::memory(format!("ovsdb-server's memory with {size} MACs (RSS)"), ovsdb_full),
    ])
}

/// The product on one border gateway.
struct Gateway<'a> {
    cloud: &'a Cloud,
    installation: Installation<'a>,
    server: Daemon,
    vtep: Option<Daemon>,
}

fn run(plan: &Plan, size: u32, singles: usize, runs: &mut Runs) -> Result<()> {
    let cloud = CloudPlan {
        name: "a",
        vni: 123,
        computes: 0,
    };
    let topology = Topology::of(&[cloud])?;
    let cloud = topology.cloud(0)?;
    let mut installation = Installation::new(&plan.binary, cloud)?;
    installation.start()?;
    let (server, vtep) = (installation.take_server()?, installation.take_vtep()?);
    let mut gateway = Gateway {
        cloud,
        installation,
        server,
        vtep: Some(vtep),
    };
    let outcome = gateway.run(size, singles, runs);
    outcome.with_context(|| gateway.log_tails())
}

impl Gateway<'_> {
    fn run(&mut self, size: u32, singles: usize, runs: &mut Runs) -> Result<()> {
        let netns = &self.cloud.gateway.netns;
        let mut api = self.api()?;
        let connection = api.stretch_network(&self.installation.device())?;
        api.wait_active(&connection)?;
        sleep(SETTLES_IN);
        self.weigh(0, runs)?;

        let socket = format!("unix:{}", self.installation.device_socket().display());
        let ovsdb = OvsdbWatch::start(&socket)?;
        let kernel = KernelWatch::start(netns)?;
        let post = api.post_macs(&connection, 0..size)?;
        let in_ovsdb = ovsdb.wait(usize::try_from(size)?)?;
        let in_kernel = kernel.wait(usize::try_from(size)?)?;
        runs.to_ovsdb.push_time(in_ovsdb.duration_since(post.sent));
        runs.to_kernel
            .push_time(in_kernel.duration_since(post.sent));
        runs.behind_ovsdb
            .push_time(in_kernel.saturating_duration_since(in_ovsdb));
        api.wait_active(&connection)?;
        runs.active.push_time(post.sent.elapsed());
        read_back(netns, usize::try_from(size)?)?;
        sleep(SETTLES_IN);
        self.weigh(1, runs)?;

        let mut next = size;
        for _ in 0..singles {
            let post = api.post_macs(&connection, next..next + 1)?;
            next += 1;
            let in_ovsdb = ovsdb.wait(usize::try_from(next)?)?;
            let in_kernel = kernel.wait(usize::try_from(next)?)?;
            runs.one_to_ovsdb
                .push_time(in_ovsdb.duration_since(post.sent));
            runs.one_to_kernel
                .push_time(in_kernel.duration_since(post.sent));
            sleep(PAUSE);
        }
        drop(ovsdb);

        self.restart(&mut api, &connection, &kernel, next, runs)?;
        next += 1;
        self.cold_start(&kernel, next, runs)?;

        let delete = api.delete_connection(&connection)?;
        let gone = kernel.wait(0)?;
        runs.delete
            .push_time(gone.saturating_duration_since(delete.sent));
        Ok(())
    }

    fn api(&self) -> Result<Api> {
        let connect = || Ok(TcpStream::connect("127.0.0.1:9720")?);
        Api::over(self.cloud.gateway.netns.enter(connect)?)
    }

    /// Ends `l2gw vtep`, starts it again, and counts what happened to the kernel until it is at work again: a MAC that is
    /// declared meanwhile is all that it has to do.
    fn restart(
        &mut self,
        api: &mut Api,
        connection: &str,
        kernel: &KernelWatch,
        number: u32,
        runs: &mut Runs,
    ) -> Result<()> {
        /// A forwarding entry of the device, one of the bridge, a neighbour entry.
        const OF_ONE_MAC: usize = 3;
        sleep(SETTLES_IN);
        let before = kernel.events();
        self.end_vtep()?;
        let start = Instant::now();
        self.start_vtep()?;
        api.post_macs(connection, number..number + 1)?;
        let there = kernel.wait(usize::try_from(number)? + 1)?;
        runs.restart.push_time(there.duration_since(start));
        sleep(SETTLES_IN);
        let events = kernel.events() - before;
        runs.restart_events
            .push(events.saturating_sub(OF_ONE_MAC) as f64);
        Ok(())
    }

    /// Empties the kernel behind the back of `l2gw vtep`, and starts it.
    fn cold_start(&mut self, kernel: &KernelWatch, stations: u32, runs: &mut Runs) -> Result<()> {
        let netns = &self.cloud.gateway.netns;
        self.end_vtep()?;
        for kind in ["vxlan", "bridge"] {
            let listed = run_program(
                netns
                    .command("ip")
                    .args(["-o", "link", "show", "type", kind]),
            )?;
            for line in listed.lines() {
                let name = line.split(": ").nth(1).context("no name")?;
                netns.ip(&format!("link delete {name}"))?;
            }
        }
        kernel.wait(0)?;
        let start = Instant::now();
        self.start_vtep()?;
        let there = kernel.wait(usize::try_from(stations)?)?;
        runs.cold_start.push_time(there.duration_since(start));
        sleep(SETTLES_IN);
        Ok(())
    }

    fn end_vtep(&mut self) -> Result<()> {
        let daemon = self.vtep.take().context("l2gw vtep does not run")?;
        let status = daemon.terminate()?;
        ensure!(status.success(), "l2gw vtep ended with {status}");
        Ok(())
    }

    fn start_vtep(&mut self) -> Result<()> {
        let log = self.installation.path("vtep.log");
        self.vtep = Some(Daemon::start(self.installation.vtep_command(), &log)?);
        Ok(())
    }

    /// Takes the memory of all three programs, idle (0) or full (1).
    fn weigh(&self, when: usize, runs: &mut Runs) -> Result<()> {
        let vtep = self.vtep.as_ref().context("l2gw vtep does not run")?;
        for (samples, pid) in [
            (&mut runs.server, self.server.pid()?),
            (&mut runs.vtep, vtep.pid()?),
            (&mut runs.ovsdb_server, self.ovsdb_server()?),
        ] {
            let samples = samples.get_mut(when).context("idle or full")?;
            samples.push(Memory::of(pid)?.resident);
        }
        Ok(())
    }

    fn ovsdb_server(&self) -> Result<Pid> {
        let processes = self.cloud.gateway.netns.processes()?;
        let named = |pid: &Pid| {
            let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            name.trim_end() == "ovsdb-server"
        };
        processes.into_iter().find(named).context("no ovsdb-server")
    }

    fn log_tails(&self) -> String {
        let vtep = self.vtep.as_ref().map(Daemon::log_tail);
        format!(
            "logs end with:\nserver: {}\nvtep: {}",
            self.server.log_tail(),
            vtep.unwrap_or_default()
        )
    }
}

/// Reads the kernel's tables as an operator does, and counts.
fn read_back(netns: &Netns, stations: usize) -> Result<()> {
    let forwarding = run_program(netns.command("bridge").args(["fdb", "show"]))?;
    let neighbours = run_program(
        netns
            .command("ip")
            .args(["neigh", "show", "nud", "permanent"]),
    )?;
    let prefix = Station::nth(0).mac_text();
    let prefix = prefix.get(..5).unwrap_or_default();
    let forwarding = forwarding
        .lines()
        .filter(|line| line.starts_with(prefix))
        .count();
    let lladdr = format!("lladdr {prefix}");
    let neighbours = neighbours
        .lines()
        .filter(|line| line.contains(&lladdr))
        .count();
    ensure!(
        (forwarding, neighbours) == (2 * stations, stations),
        "read back: {forwarding} forwarding and {neighbours} neighbour entries of {stations} MACs"
    );
    Ok(())
}
