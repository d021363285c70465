//! One run on one border gateway.

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

use super::{Memories, Runs};
use crate::Plan;
use crate::floor;
use crate::memory::Memory;
use crate::product::api::Api;
use crate::stations::Station;
use crate::watch::kernel::KernelWatch;
use crate::watch::ovsdb::OvsdbWatch;

/// Until memory and processor are at rest again after a bulk.
const SETTLES_IN: Duration = Duration::from_secs(3);
/// Between two single MACs.
const PAUSE: Duration = Duration::from_millis(50);
/// Changes in the kernel for one MAC: forwarding entries of the device and of the bridge, a neighbour entry.
const CHANGES_PER_MAC: usize = 3;

/// The product on one border gateway.
struct Gateway<'a> {
    cloud: &'a Cloud,
    installation: Installation<'a>,
    server: Daemon,
    vtep: Option<Daemon>,
}

/// Goes all the way once. Returns what a bare dump of the switch's database takes.
pub(super) fn run(plan: &Plan, size: u32, singles: usize, runs: &mut Runs) -> Result<Duration> {
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
    fn run(&mut self, size: u32, singles: usize, runs: &mut Runs) -> Result<Duration> {
        let netns = &self.cloud.gateway.netns;
        let mut api = self.api()?;
        let connection = api.stretch_network(&self.installation.device())?;
        api.wait_active(&connection)?;
        sleep(SETTLES_IN);
        self.weigh(&mut runs.idle)?;

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
        self.weigh(&mut runs.full)?;

        let mut next = size;
        for _ in 0..singles {
            let post = api.post_macs(&connection, next..next + 1)?;
            next += 1;
            let in_ovsdb = ovsdb.wait(usize::try_from(next)?)?;
            let in_kernel = kernel.wait(usize::try_from(next)?)?;
            runs.one_answered
                .push_time(post.answered.duration_since(post.sent));
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
        let dump = floor::ovsdb::dump(&socket, usize::try_from(next)?)?;

        let delete = api.delete_connection(&connection)?;
        let gone = kernel.wait(0)?;
        runs.delete
            .push_time(gone.saturating_duration_since(delete.sent));
        Ok(dump)
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
        sleep(SETTLES_IN);
        let before = kernel.events();
        self.end_vtep()?;
        let start = Instant::now();
        self.start_vtep()?;
        api.post_macs(connection, number..number + 1)?;
        let there = kernel.wait(usize::try_from(number)? + 1)?;
        runs.restart.push_time(there.duration_since(start));
        sleep(SETTLES_IN);
        let changes = kernel.events() - before;
        runs.restart_changes
            .push(changes.saturating_sub(CHANGES_PER_MAC) as f64);
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

    /// Takes the memory of all three programs.
    fn weigh(&self, memories: &mut Memories) -> Result<()> {
        let vtep = self.vtep.as_ref().context("l2gw vtep does not run")?;
        for (samples, pid) in [
            (&mut memories.server, self.server.pid()?),
            (&mut memories.vtep, vtep.pid()?),
            (&mut memories.ovsdb_server, self.ovsdb_server()?),
        ] {
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
