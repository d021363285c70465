//! Bad days under traffic: processes killed, a remote gateway that gets another address, a VM that moves to and fro.
//!
//! Frames are counted by pings, which cross the gateways both ways: over IPv4 from one VM and over IPv6 from the other.

use std::net::Ipv4Addr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use testkit::frame::{ARP, BROADCAST, Ethernet};
use testkit::installation::Installation;
use testkit::netns::Netns;
use testkit::ping::{PingStream, ping};
use testkit::run::{CONVERGES_WITHIN, eventually, run};
use testkit::topology::{Cloud, CloudPlan, ETH0, Station, Topology, WAN};

use crate::{Site, WAN_VNI, connect, joined};

/// Pings a second each way.
const PINGS: u32 = 200;
/// Of them at least so many in every second: the machine has other things to do.
const THIN: u32 = 20;
/// How long traffic flows before and after what happens.
const A_WHILE: Duration = Duration::from_secs(1);
/// A station that is declared while processes are dead.
const LATE: &str = "02:00:00:00:00:77";
/// How long a VM that moved may be out of reach.
const REACHABLE_WITHIN: Duration = Duration::from_secs(1);
/// Moves there and back, where the environment does not say (`L2GW_MOVES`).
const MOVES: usize = 5;

/// Pings from each of two VMs to the other.
struct Traffic {
    since: Instant,
    streams: [PingStream; 2],
}

impl Traffic {
    fn start(a: &Station, b: &Station) -> Result<Self> {
        let (at_a, _) = (a.with_ipv6()?, b.with_ipv6()?);
        eventually("IPv6 crosses the WAN", CONVERGES_WITHIN, || {
            ensure!(ping(&b.netns, at_a, 1)?.none(), "no answer");
            Ok(())
        })?;
        let traffic = Self {
            since: Instant::now(),
            streams: [
                a.ping_stream(b, PINGS)?,
                PingStream::start(&b.netns, at_a, PINGS)?,
            ],
        };
        thread::sleep(A_WHILE);
        Ok(traffic)
    }

    /// How many pings were not answered, in either direction.
    fn lost(self) -> Result<u32> {
        thread::sleep(A_WHILE);
        let seconds = u32::try_from(self.since.elapsed().as_secs())?;
        let mut lost = 0;
        for stream in self.streams {
            let loss = stream.stop()?;
            ensure!(loss.sent >= THIN * seconds, "the traffic was thin: {loss}");
            lost += loss.sent.saturating_sub(loss.received);
        }
        Ok(lost)
    }
}

/// Declares a station and waits until it is in the kernel: the gateway is at work.
fn declare_late(site: &Site<'_>, gateway: &Netns) -> Result<()> {
    site.installation
        .succeed(&["l2-remote-mac-create", LATE, &site.connection])?;
    site.installation.wait_active(&site.connection)?;
    // ACTIVE is what the switch's database says; its daemon has to find that back first.
    eventually("the station is in the kernel", CONVERGES_WITHIN, || {
        let entries = forwarding(gateway, LATE)?;
        ensure!(entries.len() == 2, "{entries:#?}");
        Ok(())
    })
}

/// What the kernel's forwarding databases say of a station.
fn forwarding(gateway: &Netns, mac: &str) -> Result<Vec<String>> {
    let shown = run(gateway.command("bridge").args(["fdb", "show"]))?;
    let lines = shown.lines().filter(|line| line.starts_with(mac));
    Ok(lines.map(str::to_owned).collect())
}

/// Two clouds, one of whose gateways is struck while frames flow: none is lost, and it comes back to work.
fn no_frame_is_lost_when(strike: impl FnOnce(&mut Installation<'_>) -> Result<()>) -> Result<()> {
    let topology = Topology::two_clouds()?;
    let [a, b] = topology.all()?;
    let [mut at_a, _at_b] = joined(&topology)?;
    let traffic = Traffic::start(a.vm()?, b.vm()?)?;
    strike(&mut at_a.installation)?;
    declare_late(&at_a, &a.gateway.netns).with_context(|| at_a.installation.log_tails())?;
    let lost = traffic.lost()?;
    ensure!(lost == 0, "{lost} lost; {}", at_a.installation.log_tails());
    Ok(())
}

#[test]
fn a_killed_database_loses_no_frame_and_what_is_declared_meanwhile_arrives() -> Result<()> {
    no_frame_is_lost_when(|installation| installation.kill_database())
}

#[test]
fn switch_daemon_and_database_killed_at_once_lose_no_frame_and_come_back() -> Result<()> {
    no_frame_is_lost_when(|installation| {
        installation.take_vtep()?.kill()?;
        installation.kill_database()?;
        thread::sleep(A_WHILE);
        installation.start_vtep()
    })
}

/// The second address of cloud b's gateway.
const OTHER_WAN_IP: &str = "10.9.0.102";

/// Lets the gateway, which is made by hand, send from its other address; it is reached at both.
fn send_from_other_address(gateway: &Netns) -> Result<()> {
    gateway.ip(&format!("link set outside type vxlan local {OTHER_WAN_IP}"))
}

#[test]
fn a_remote_gateway_changes_its_address_and_loses_what_it_sends_before_both_sides_know()
-> Result<()> {
    let topology = Topology::two_clouds()?;
    let [a, b] = topology.all()?;
    let at_a = changing_gateway(&topology)?;
    let traffic = Traffic::start(a.vm()?, b.vm()?)?;
    let told = Instant::now();
    at_a.installation.succeed(&[
        "l2-remote-gateway-update",
        "rgw-b",
        "--ip-address",
        OTHER_WAN_IP,
    ])?;
    at_a.installation.wait_active(&at_a.connection)?;
    send_from_other_address(&b.gateway.netns)?;
    let apart = told.elapsed();
    let lost = traffic.lost()?;
    // What it sent from its old address after we knew the new one: of both streams, for either crosses it twice.
    let bound = 2.0 * f64::from(PINGS) * apart.as_secs_f64() + 2.0;
    println!(
        "{lost} pings lost, at {} a second, while the sides differed for {apart:?}",
        2 * PINGS
    );
    ensure!(f64::from(lost) <= bound, "{lost} lost in {apart:?}");
    ensure!(a.vm()?.ping(b.vm()?, 5)?.none(), "not joined any more");
    Ok(())
}

#[test]
fn a_remote_gateway_declared_at_both_addresses_changes_them_without_loss() -> Result<()> {
    let topology = Topology::two_clouds()?;
    let [a, b] = topology.all()?;
    let at_a = changing_gateway(&topology)?;
    let installation = &at_a.installation;
    let traffic = Traffic::start(a.vm()?, b.vm()?)?;
    // Frames from the new address are let in, and none is sent there yet.
    installation.succeed(&["l2-remote-gateway-create", "rgw-b2", OTHER_WAN_IP])?;
    let second = installation.connect("rgw-b2", WAN_VNI, false)?;
    installation.declare_mac(&second, b.vm()?, None)?;
    installation.wait_active(&second)?;
    // As when a station is declared late, the kernel follows the database.
    eventually("the new address is let in", CONVERGES_WITHIN, || {
        let rules = run(a.gateway.netns.command("nft").args(["list", "ruleset"]))?;
        ensure!(rules.contains(OTHER_WAN_IP), "{rules}");
        Ok(())
    })?;
    send_from_other_address(&b.gateway.netns)?;
    thread::sleep(A_WHILE);
    installation.succeed(&[
        "l2-remote-gateway-update",
        "rgw-b",
        "--ip-address",
        OTHER_WAN_IP,
    ])?;
    installation.wait_active(&at_a.connection)?;
    installation.succeed(&["l2-remote-gateway-connection-delete", &second])?;
    installation.wait_active(&at_a.connection)?;
    // Only when nothing goes there is the old address of no use any more.
    eventually("nothing goes to the old address", CONVERGES_WITHIN, || {
        let entries = run(a.gateway.netns.command("bridge").args(["fdb", "show"]))?;
        let old = format!(" dst {} ", b.gateway.wan_ip);
        ensure!(!entries.contains(&old), "{entries}");
        Ok(())
    })?;
    b.gateway
        .netns
        .ip(&format!("address delete {}/24 dev {WAN}", b.gateway.wan_ip))?;
    let lost = traffic.lost()?;
    ensure!(lost == 0, "{lost} lost; {}", installation.log_tails());
    Ok(())
}

/// Cloud a with the product, cloud b with a gateway made by hand that has two addresses; joined.
fn changing_gateway(topology: &Topology) -> Result<Site<'_>> {
    let [a, b] = topology.all()?;
    let netns = &b.gateway.netns;
    netns.ip(&format!("address add {OTHER_WAN_IP}/24 dev {WAN}"))?;
    // Or the second address would go with the first.
    netns.sysctl(&format!("net/ipv4/conf/{WAN}/promote_secondaries"), "1")?;
    let at_a = connect(a, b, true)?;
    b.stretch_by_hand(WAN_VNI, &[a.gateway.wan_ip])?;
    at_a.installation.wait_active(&at_a.connection)?;
    a.vm()?.wait_until_reaches(b.vm()?)?;
    Ok(at_a)
}

/// A VM that is in one of two clouds: on its host in each it is the same station, with its link up in one alone.
struct Mover<'a> {
    places: [Place<'a>; 2],
}

/// A cloud the VM may be in.
struct Place<'a> {
    station: &'a Station,
    host: Ipv4Addr,
    gateway: &'a Netns,
    /// Somebody there who talks to it.
    peer: &'a Station,
    cloud: &'a Cloud,
    site: Site<'a>,
}

impl Place<'_> {
    /// Takes back what was declared of the VM in a list of resources.
    fn take_back(&self, list: &[&str], delete: &[&str]) -> Result<()> {
        let mac = self.station.mac_text();
        let listed = self.site.installation.query(list)?;
        let text = |row: &Value, name| Some(row.get(name)?.as_str()?.to_ascii_lowercase());
        let is_its = |row: &&Value| {
            let macs = ["mac", "mac_address"].map(|name| text(row, name));
            macs.contains(&Some(mac.clone()))
        };
        let row = listed.as_array().into_iter().flatten().find(is_its);
        let id = row.and_then(|row| text(row, "id"));
        let id = id.with_context(|| format!("{mac} is not in {listed}"))?;
        self.site.installation.succeed(&[delete, &[&id]].concat())?;
        Ok(())
    }

    /// What the cloud's own control plane does when a VM is gone (Neutron's l2population): hosts forget it. They are no
    /// business of the border gateway's, and would send frames to its old host until they are tired of it.
    fn hosts_forget(&self) -> Result<()> {
        let device = format!("vxlan{}", self.cloud.vni);
        for host in &self.cloud.computes {
            let forget = ["fdb", "delete", &self.station.mac_text(), "dev", &device];
            // Who never heard of it has nothing to forget.
            host.netns.command("bridge").args(forget).output()?;
        }
        Ok(())
    }

    fn declare_gone(&self) -> Result<()> {
        let Site {
            installation,
            connection,
        } = &self.site;
        self.take_back(&["port", "list"], &["port", "delete"])?;
        installation.declare_mac(connection, self.station, Some(self.station.ip))
    }

    fn declare_arrived(&self) -> Result<()> {
        self.take_back(&["l2-remote-mac-list"], &["l2-remote-mac-delete"])?;
        self.site.installation.declare_port(self.station, self.host)
    }

    /// That the gateway's kernel knows the VM at one place: behind its host, or behind the other gateway.
    fn knows_it_at(&self, far_end: Ipv4Addr) -> Result<()> {
        let mac = self.station.mac_text();
        let entries = forwarding(self.gateway, &mac)?;
        let (tunnels, pins): (Vec<_>, Vec<_>) =
            entries.iter().partition(|entry| entry.contains(" dst "));
        let right = format!(" dst {far_end} ");
        let (Ok([tunnel]), Ok([_])) = (<[_; 1]>::try_from(tunnels), <[_; 1]>::try_from(pins))
        else {
            bail!("stale entries: {entries:#?}");
        };
        ensure!(tunnel.contains(&right), "not at {far_end}: {entries:#?}");
        Ok(())
    }
}

impl Mover<'_> {
    /// Stops the VM in one cloud, starts it in the other, where it tells its neighbours, and declares it to both gateways. It
    /// must be reached from both clouds within a second of that.
    fn move_to(&self, there: usize) -> Result<()> {
        let [first, second] = &self.places;
        let (old, new) = match there {
            0 => (second, first),
            _ => (first, second),
        };
        old.station.netns.ip(&format!("link set {ETH0} down"))?;
        new.station.netns.ip(&format!("link set {ETH0} up"))?;
        old.hosts_forget()?;
        old.declare_gone()?;
        new.declare_arrived()?;
        let declared = Instant::now();
        new.station.send(&gratuitous_arp(new.station))?;
        for peer in [old.peer, new.peer] {
            eventually("the VM answers", REACHABLE_WITHIN, || {
                let ip = new.station.ip.to_string();
                let ping = ["-n", "-c1", "-W0.1", &ip];
                run(peer.netns.command("ping").args(ping))
            })
            .with_context(|| format!("{:?} after it was declared", declared.elapsed()))?;
        }
        Ok(())
    }
}

/// What a host tells its neighbours when a VM has arrived (RFC 5227 section 2.3).
fn gratuitous_arp(station: &Station) -> Ethernet {
    let head = [0, 1, 8, 0, 6, 4, 0, 1];
    let (mac, ip) = (station.mac, station.ip.octets());
    Ethernet {
        to: BROADCAST,
        from: mac,
        ethertype: ARP,
        payload: [&head[..], &mac, &ip, &[0; 6], &ip].concat(),
    }
}

#[test]
fn a_vm_that_moves_to_and_fro_is_reached_within_a_second_and_leaves_nothing_behind() -> Result<()> {
    let plans = [("a", 123), ("b", 789)].map(|(name, vni)| CloudPlan {
        name,
        vni,
        computes: 2,
    });
    let mut topology = Topology::of(&plans)?;
    // The same VM in both clouds.
    let (mac, ip) = (topology.clouds[0].vms[1].mac, topology.clouds[0].vms[1].ip);
    let copy = &mut topology.clouds[1].vms[1];
    (copy.mac, copy.ip) = (mac, ip);
    let mac = copy.mac_text();
    copy.netns.ip(&format!(
        "address flush dev {ETH0}\nlink set {ETH0} down\nlink set {ETH0} address {mac}\n\
         address add {ip}/24 dev {ETH0}"
    ))?;
    let [a, b] = topology.all()?;
    let places = [(a, b), (b, a)].map(|(here, there)| -> Result<_> {
        Ok(Place {
            station: here.vms.get(1).context("no VM")?,
            host: here.computes.get(1).context("no host")?.tunnel_ip,
            gateway: &here.gateway.netns,
            peer: here.vm()?,
            cloud: here,
            site: connect(here, there, true)?,
        })
    });
    let [at_a, at_b] = places;
    let mover = Mover {
        places: [at_a?, at_b?],
    };
    let [at_a, at_b] = &mover.places;
    at_b.declare_gone()?;
    for place in &mover.places {
        place
            .site
            .installation
            .wait_active(&place.site.connection)?;
    }
    at_a.peer.wait_until_reaches(at_b.peer)?;

    let moves = std::env::var("L2GW_MOVES")
        .ok()
        .and_then(|n| n.parse().ok());
    for round in 0..moves.unwrap_or(MOVES) {
        for there in [1, 0] {
            mover
                .move_to(there)
                .with_context(|| format!("round {round}, to cloud {there}"))?;
        }
    }
    for (place, far_end) in [(at_a, at_a.host), (at_b, a.gateway.wan_ip)] {
        eventually("both kernels know one place", CONVERGES_WITHIN, || {
            place.knows_it_at(far_end)
        })?;
    }
    Ok(())
}
