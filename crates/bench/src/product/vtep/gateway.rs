//! Runs of `l2gw vtep` on border gateways of their own.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use testkit::daemon::Daemon;
use testkit::installation::Installation;
use testkit::stream::Stream;
use testkit::topology::{Cloud, CloudPlan, Topology};

use super::database::{Controller, JOINED_KEY};
use super::{Runs, Size};
use crate::Plan;
use crate::floor;
use crate::measurement::Samples;
use crate::memory::Memory;
use crate::processor;
use crate::watch::kernel::KernelWatch;

/// Until memory and processor are at rest again after a bulk.
const SETTLES_IN: Duration = Duration::from_secs(3);
/// How long nothing happens, so that it is seen what that costs.
const REST: Duration = Duration::from_secs(30);
/// Between two single MACs.
const PAUSE: Duration = Duration::from_millis(50);
/// So many times as many single MACs are declared beside looks at everything, to see several of these.
const LOOKS: usize = 3;
/// Changes in the kernel for one MAC: forwarding entries of the device and of the bridge, a neighbour entry.
const CHANGES_PER_MAC: usize = 3;
/// Devices of a network: bridge, inside, WAN.
const DEVICES: u32 = 3;
/// The physical port of networks that have one.
const PORT: &str = "port";
/// Networks written by one transaction where there are more than a thousand.
const NETWORKS_AT_ONCE: u32 = 1_000;
/// Frames a second, each way, across the gateway while it is restarted.
const FRAMES: u32 = 1_000;

/// The product on one border gateway, and who writes and watches there.
struct Gateway<'a> {
    installation: Installation<'a>,
    vtep: Option<Daemon>,
    kernel: KernelWatch,
    controller: Controller,
}

impl<'a> Gateway<'a> {
    fn start(plan: &Plan, cloud: &'a Cloud) -> Result<Self> {
        Self::start_with(plan, cloud, &[])
    }

    fn start_with(plan: &Plan, cloud: &'a Cloud, options: &[&str]) -> Result<Self> {
        let installation = Installation::new(&plan.binary, cloud)?;
        let mut installation = installation.with_vtep_options(options.iter().copied());
        installation.start_vtep()?;
        let vtep = installation.take_vtep()?;
        Ok(Self {
            kernel: KernelWatch::start(&cloud.gateway.netns)?,
            controller: Controller::connect(&installation.device_socket())?,
            vtep: Some(vtep),
            installation,
        })
    }

    /// Ends `l2gw vtep`, starts it again, and declares a station: all that it has to do.
    fn restart(&mut self, next: u32, runs: &mut Runs) -> Result<()> {
        let before = self.kernel.events();
        let daemon = self.vtep.take().context("l2gw vtep does not run")?;
        let status = daemon.terminate()?;
        ensure!(status.success(), "l2gw vtep ended with {status}");
        let start = Instant::now();
        let log = self.installation.path("vtep.log");
        self.vtep = Some(Daemon::start(self.installation.vtep_command(), &log)?);
        self.controller.stations(next..next + 1)?;
        let there = self.kernel.wait(usize::try_from(next)? + 1)?;
        runs.restart.push_time(there.duration_since(start));
        sleep(SETTLES_IN);
        let changes = self.kernel.events() - before;
        runs.restart_changes
            .push(changes.saturating_sub(CHANGES_PER_MAC) as f64);
        Ok(())
    }

    fn memory(&self) -> Result<f64> {
        let vtep = self.vtep.as_ref().context("l2gw vtep does not run")?;
        Ok(Memory::of(vtep.pid()?)?.resident)
    }

    /// Not all at once with the namespace: the kernel would change no device for anybody for a minute.
    fn take_down(&mut self) -> Result<()> {
        let daemon = self.vtep.take().context("l2gw vtep does not run")?;
        daemon.terminate()?;
        let directory = self.installation.state_directory();
        let directory = directory.display().to_string();
        let down = ["vtep", "down", "--state-dir", &directory];
        self.installation.succeed(&down).map(drop)
    }

    fn explain<T>(&self, outcome: Result<T>) -> Result<T> {
        let log = self.vtep.as_ref().map(Daemon::log_tail);
        outcome.with_context(|| format!("log ends with:\n{}", log.unwrap_or_default()))
    }
}

fn one_gateway() -> Result<Topology> {
    Topology::of(&[CloudPlan {
        name: "a",
        vni: 123,
        computes: 0,
    }])
}

/// Many stations in one network. Returns what a bare dump of them takes.
pub(super) fn stations(
    plan: &Plan,
    size: Size,
    singles: bool,
    runs: &mut Runs,
) -> Result<Duration> {
    let topology = one_gateway()?;
    let mut gateway = Gateway::start(plan, topology.cloud(0)?)?;
    let outcome = many_stations(&mut gateway, size, singles, runs);
    gateway.explain(outcome)
}

fn many_stations(
    gateway: &mut Gateway<'_>,
    size: Size,
    singles: bool,
    runs: &mut Runs,
) -> Result<Duration> {
    sleep(SETTLES_IN);
    runs.idle.push(gateway.memory()?);
    let Gateway {
        kernel, controller, ..
    } = gateway;
    let all = usize::try_from(size.stations)?;
    controller.networks(1)?;
    kernel.wait(1)?;
    let committed = controller.stations(1..size.stations)?;
    let there = kernel.wait(all)?;
    runs.small
        .push_time(there.saturating_duration_since(committed));
    if singles {
        sleep(SETTLES_IN);
        for next in (size.stations..).take(size.singles) {
            let committed = controller.stations(next..next + 1)?;
            let there = kernel.wait(usize::try_from(next)? + 1)?;
            runs.one
                .push_time(there.saturating_duration_since(committed));
            sleep(PAUSE);
        }
    }
    controller.remove_stations(1)?;
    kernel.wait(1)?;
    sleep(SETTLES_IN);
    let committed = controller.stations_at_once(1..size.stations)?;
    let there = kernel.wait(all)?;
    runs.large
        .push_time(there.saturating_duration_since(committed));
    let socket = format!("unix:{}", gateway.installation.device_socket().display());
    floor::ovsdb::dump(&socket, all)
}

/// Single stations on top of many, while everything is looked at again and again.
pub(super) fn beside_looks(plan: &Plan, size: Size, runs: &mut Runs) -> Result<()> {
    let topology = one_gateway()?;
    let mut gateway = Gateway::start_with(plan, topology.cloud(0)?, &["--look-every", "1"])?;
    let outcome = singles(&mut gateway, size, runs);
    gateway.explain(outcome)
}

fn singles(gateway: &mut Gateway<'_>, size: Size, runs: &mut Runs) -> Result<()> {
    let Gateway {
        kernel, controller, ..
    } = gateway;
    controller.networks(1)?;
    controller.stations(1..size.stations)?;
    kernel.wait(usize::try_from(size.stations)?)?;
    sleep(SETTLES_IN);
    for next in (size.stations..).take(LOOKS * size.singles) {
        let committed = controller.stations(next..next + 1)?;
        let there = kernel.wait(usize::try_from(next)? + 1)?;
        runs.beside_looks
            .push_time(there.saturating_duration_since(committed));
        sleep(PAUSE);
    }
    Ok(())
}

/// Many networks: made, restarted, deleted, where somebody may wait meanwhile; between two clouds that another network joins.
pub(super) fn networks(
    plan: &Plan,
    size: Size,
    somebody_waits: bool,
    runs: &mut Runs,
) -> Result<()> {
    let topology = Topology::two_clouds()?;
    let [near, far] = topology.all()?;
    let mut gateway = Gateway::start(plan, near)?;
    let outcome = many_networks(&mut gateway, (near, far), size, runs)
        .and_then(|()| deletion(&mut gateway, size, somebody_waits, runs));
    gateway.explain(outcome)
}

fn many_networks(
    gateway: &mut Gateway<'_>,
    (near, far): (&Cloud, &Cloud),
    size: Size,
    runs: &mut Runs,
) -> Result<()> {
    let networks = usize::try_from(size.networks)?;
    let devices = usize::try_from(DEVICES * size.networks)?;
    let (sent, _) = gateway.controller.networks(size.networks)?;
    let up = gateway.kernel.wait_up(devices)?;
    let there = gateway.kernel.wait(networks)?;
    runs.networks.push_time(up.max(there).duration_since(sent));

    gateway.controller.stations(size.networks..size.stations)?;
    gateway.kernel.wait(usize::try_from(size.stations)?)?;
    gateway.controller.join(near, far.gateway.wan_ip)?;
    gateway
        .kernel
        .wait_up(devices + usize::try_from(DEVICES)?)?;
    far.stretch_by_hand(JOINED_KEY, &[near.gateway.wan_ip])?;
    near.vm()?.wait_until_reaches(far.vm()?)?;
    sleep(SETTLES_IN);
    runs.memory.push(gateway.memory()?);

    let frames = Stream::between(near.vm()?, far.vm()?, FRAMES)?;
    gateway.restart(size.stations, runs)?;
    for way in frames.stop()? {
        runs.frames.push(way.rate());
        runs.lost.push(way.lost() as f64);
    }
    Ok(())
}

/// The first network and the joined one stay.
fn deletion(
    gateway: &mut Gateway<'_>,
    size: Size,
    somebody_waits: bool,
    runs: &mut Runs,
) -> Result<()> {
    let deleted = gateway.controller.remove_networks()?;
    let left = usize::try_from(2 * DEVICES)?;
    let mut next = size.stations + 1;
    while somebody_waits && gateway.kernel.up() > left {
        let committed = gateway.controller.station_of_first(next)?;
        let there = gateway.kernel.wait_for(next)?;
        runs.beside_deletion
            .push_time(there.saturating_duration_since(committed));
        next += 1;
        sleep(PAUSE);
    }
    let gone = gateway.kernel.wait_up(left)?;
    let took = gone.saturating_duration_since(deleted);
    match somebody_waits {
        true => runs.waited_for_deletion.push_time(took),
        false => runs.deletion.push_time(took),
    }
    Ok(())
}

/// As many networks as a host may have.
pub(super) fn most_networks(plan: &Plan, size: Size, runs: &mut Runs) -> Result<()> {
    let topology = one_gateway()?;
    let mut gateway = Gateway::start(plan, topology.cloud(0)?)?;
    let outcome = fill(&mut gateway, size, runs);
    gateway.explain(outcome)
}

fn fill(gateway: &mut Gateway<'_>, size: Size, runs: &mut Runs) -> Result<()> {
    let mut first = None;
    let mut left = size.most_networks;
    while left > 0 {
        let count = left.min(NETWORKS_AT_ONCE);
        let (sent, _) = gateway.controller.networks(count)?;
        first.get_or_insert(sent);
        left -= count;
    }
    let up = gateway
        .kernel
        .wait_up(usize::try_from(DEVICES * size.most_networks)?)?;
    let there = gateway.kernel.wait(usize::try_from(size.most_networks)?)?;
    let since = first.context("no network")?;
    runs.most_networks
        .push_time(up.max(there).duration_since(since));
    sleep(SETTLES_IN);
    runs.most_memory.push(gateway.memory()?);
    gateway.take_down()
}

/// Networks that have ports, and in which nothing happens once they are there.
pub(super) fn at_rest(plan: &Plan, size: Size, runs: &mut Runs) -> Result<()> {
    let mut topology = one_gateway()?;
    let cloud = topology.clouds.first_mut().context("no cloud")?;
    cloud.add_segment(PORT)?;
    // Every kernel has this form.
    let form = ["--vlan-form", "tc"];
    let mut gateway = Gateway::start_with(plan, topology.cloud(0)?, &form)?;
    let outcome = rest(&mut gateway, size, runs);
    gateway.explain(outcome)?;
    frames(topology.cloud(0)?, size, runs)
}

fn rest(gateway: &mut Gateway<'_>, size: Size, runs: &mut Runs) -> Result<()> {
    let networks = usize::try_from(size.networks)?;
    let (sent, _) = gateway.controller.networks(size.networks)?;
    gateway.kernel.wait(networks)?;
    let devices = usize::try_from(DEVICES * size.networks)?;
    // The pairs, and the port, which is told of because it takes frames for any address now.
    gateway.kernel.wait_up(devices + 2 * networks + 1)?;
    // The port's own comes last.
    let steered = gateway.kernel.wait_steered(networks + 1)?;
    runs.vlans.push_time(steered.duration_since(sent));
    sleep(2 * SETTLES_IN);
    let used = |gateway: &Gateway<'_>| {
        let vtep = gateway.vtep.as_ref().context("l2gw vtep does not run")?;
        processor::used_by(vtep.pid()?)
    };
    let (before, since) = (used(gateway)?, Instant::now());
    sleep(REST);
    let (after, took) = (used(gateway)?, since.elapsed());
    let a_minute = (after - before).div_duration_f64(took) * 60.0;
    runs.rest.push(a_minute);
    gateway.take_down()
}

/// What as many frames as are sent at rest cost whoever sends them.
fn frames(cloud: &Cloud, size: Size, runs: &mut Runs) -> Result<()> {
    let netns = &cloud.gateway.netns;
    let used = floor::frames::send(netns, PORT, size.networks, REST)?;
    runs.bare_rest
        .push_time(used.div_f64(REST.as_secs_f64()) * 60);
    Ok(())
}

/// Networks whose tunnels to remote gateways run in a network namespace of their own.
pub(super) fn elsewhere(plan: &Plan, size: Size, runs: &mut Runs) -> Result<()> {
    let mut topology = one_gateway()?;
    let cloud = topology.clouds.first_mut().context("no cloud")?;
    cloud.move_wan()?;
    let mut gateway = Gateway::start(plan, topology.cloud(0)?)?;
    let outcome = set_up(&mut gateway, size, &mut runs.elsewhere);
    gateway.explain(outcome)
}

fn set_up(gateway: &mut Gateway<'_>, size: Size, took: &mut Samples) -> Result<()> {
    let (sent, _) = gateway.controller.networks(size.networks)?;
    let devices = usize::try_from(DEVICES * size.networks)?;
    let up = gateway.kernel.wait_up(devices)?;
    let there = gateway.kernel.wait(usize::try_from(size.networks)?)?;
    took.push_time(up.max(there).duration_since(sent));
    gateway.take_down()
}
