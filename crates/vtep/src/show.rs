//! `l2gw vtep show`: what the switch forwards, read from the kernel and the local database at this moment.
//!
//! It asks no daemon: that one may be the trouble. Without a database the kernel's side is shown.

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::Duration;

use hardware_vtep::{Database, NAME};
use model::switch::{LogicalSwitch, SwitchState};
use model::value::MacAddress;
use ovsdb::{Connection, ConnectionOptions, Target};
use serde::Serialize;

use crate::error::Error;
use crate::kernel::desired::WAN_LISTEN_PORT;
use crate::kernel::name::InterfaceName;
use crate::kernel::state::{ALIAS, Bridge, KernelState};
use crate::kernel::storm;
use crate::kernel::{Kernel, LearntStation};
use crate::loops::{Cut, on_disk};
use crate::options::{Format, ShowOptions};

/// ovsdb-server answers at once or not at all.
const DATABASE_WITHIN: Duration = Duration::from_secs(3);

/// What is forwarded, in words or as JSON.
///
/// # Errors
/// The kernel can't be read.
pub async fn show(options: &ShowOptions) -> Result<String, Error> {
    let database = database(&options.state_dir.join("db.sock")).await;
    let work = tokio::task::spawn_blocking(move || {
        let mut kernel = Kernel::open(crate::down::nobody())?;
        let state = kernel.observe()?.clone();
        let learnt = kernel.learnt_in_detail()?;
        // Without the packet filter there is no limit either.
        let dropped = storm::dropped().unwrap_or_default();
        Ok((state, learnt, dropped))
    });
    let read = work.await.map_err(|error| Error::Runtime(error.into()))?;
    let (kernel, learnt, dropped) = read.map_err(Error::Kernel)?;
    let mut view = View::new(&kernel, &learnt, database.as_ref());
    // Without a state directory there is none.
    view.add_drops(&kernel, &dropped);
    view.add_cuts(&kernel, &on_disk(&options.state_dir).unwrap_or_default());
    Ok(match options.format {
        Format::Text => view.to_string(),
        Format::Json => {
            let json = serde_json::to_string_pretty(&view);
            json.map_err(|error| Error::Output(error.into()))? + "\n"
        }
    })
}

/// What the database asks for, if it answers.
pub(crate) async fn database(socket: &Path) -> Option<SwitchState> {
    let target = Target::Unix(socket.to_owned());
    let connection: Connection<Database> =
        Connection::start(target.into(), NAME, ConnectionOptions::default());
    tokio::time::timeout(DATABASE_WITHIN, connection.up())
        .await
        .ok()?;
    connection
        .replica()
        .read(|database| database.map(|database| database.state().clone()))
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct View {
    /// Whether the database answered.
    database: bool,
    networks: Vec<Network>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Network {
    /// `Logical_Switch.name`.
    name: String,
    bridge: String,
    up: bool,
    /// Why and until when it is off the WAN.
    cut: Option<ShownCut>,
    /// Frames not flooded towards the WAN because of the limit.
    flood_dropped: u64,
    bindings: Vec<String>,
    interfaces: Vec<Port>,
    tunnels: Vec<Tunnel>,
    macs: Vec<Mac>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct ShownCut {
    cause: String,
    /// Seconds ago.
    since: u64,
    /// Seconds from now; nothing: until it is joined by hand.
    left: Option<u64>,
    /// Whether all its WAN devices are off the bridge in the kernel.
    in_kernel: bool,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Port {
    /// The interface, and its VLAN where that has a device of its own.
    name: String,
    device: String,
    up: bool,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Tunnel {
    side: Side,
    remote_ip: Ipv4Addr,
    key: u32,
    device: String,
    /// Whether frames to unknown addresses and to groups go there.
    floods: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Side {
    Inside,
    Wan,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Mac {
    mac: String,
    ip: Option<IpAddr>,
    /// The port or the tunnel's far end.
    at: String,
    source: Source,
    state: State,
    /// Since it was last heard, in seconds.
    age: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Source {
    /// A row of the database.
    Declared,
    /// A frame.
    Learnt,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    /// As the database says, or as learnt.
    Forwarding,
    /// The database says so, the kernel does not.
    Missing,
    /// The kernel has it, the database does not.
    Surplus,
    /// The kernel has it, the database did not answer.
    Unchecked,
}

impl View {
    fn new(kernel: &KernelState, learnt: &[LearntStation], database: Option<&SwitchState>) -> Self {
        let mut named: BTreeMap<InterfaceName, String> = BTreeMap::new();
        for (name, bridge) in &kernel.bridges {
            let alias = bridge.link.alias.strip_prefix(ALIAS).unwrap_or_default();
            named.insert(*name, alias.trim_start_matches("net=").to_owned());
        }
        let mut wanted: BTreeMap<InterfaceName, &LogicalSwitch> = BTreeMap::new();
        for network in database.into_iter().flat_map(|d| d.bindings.values()) {
            let bridge = InterfaceName::bridge(network);
            named.insert(bridge, network.to_string());
            let logical_switch = database.and_then(|d| d.logical_switches.get(network));
            wanted.extend(logical_switch.map(|wanted| (bridge, wanted)));
        }
        let networks = named.into_iter().map(|(bridge, name)| {
            let bindings = database.into_iter().flat_map(|d| &d.bindings);
            let bindings = bindings
                .filter(|(_, network)| network.as_str() == name)
                .map(|(at, _)| format!("{} vlan {}", at.port.name, at.vlan));
            Network {
                up: kernel.bridges.get(&bridge).is_some_and(|held| held.up),
                cut: None,
                flood_dropped: 0,
                bridge: bridge.to_string(),
                bindings: bindings.collect(),
                interfaces: interfaces(kernel, bridge),
                tunnels: tunnels(kernel, bridge),
                macs: macs(
                    kernel,
                    bridge,
                    learnt,
                    database.map(|_| wanted.get(&bridge).copied()),
                ),
                name,
            }
        });
        Self {
            database: database.is_some(),
            networks: networks.collect(),
        }
    }
}

impl View {
    fn add_drops(&mut self, kernel: &KernelState, dropped: &BTreeMap<u32, u64>) {
        for network in &mut self.networks {
            let wan = kernel.vxlans.values().filter(|held| {
                let bridge = held.port.bridge.map(|bridge| bridge.to_string());
                held.is_wan() && bridge.as_ref() == Some(&network.bridge)
            });
            let dropped = wan.filter_map(|held| dropped.get(&held.identity.vni));
            network.flood_dropped = dropped.sum();
        }
    }

    fn add_cuts(&mut self, kernel: &KernelState, cuts: &BTreeMap<String, Cut>) {
        let now = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH);
        let now = now.map_or(0, |now| now.as_secs());
        for network in &mut self.networks {
            let Some(cut) = cuts.get(&network.name) else {
                continue;
            };
            let mut wan = kernel.vxlans.values().filter(|held| {
                let bridge = held.port.bridge.map(|bridge| bridge.to_string());
                held.is_wan() && bridge.as_ref() == Some(&network.bridge)
            });
            network.cut = Some(ShownCut {
                cause: cut.cause.clone(),
                since: now.saturating_sub(cut.since),
                left: cut.until.map(|until| until.saturating_sub(now)),
                in_kernel: wan.all(|held| held.cut),
            });
        }
    }
}

fn interfaces(kernel: &KernelState, bridge: InterfaceName) -> Vec<Port> {
    let ports = kernel.ports();
    ports
        .filter(|(_, of)| *of == bridge)
        .map(|(name, _)| Port {
            name: kernel.label(name),
            device: name.to_string(),
            up: kernel.is_up(name),
        })
        .collect()
}

fn tunnels(kernel: &KernelState, bridge: InterfaceName) -> Vec<Tunnel> {
    let mut tunnels = BTreeMap::new();
    for (name, vxlan) in &kernel.vxlans {
        if vxlan.port.bridge != Some(bridge) {
            continue;
        }
        let side = match vxlan.identity.udp_port {
            WAN_LISTEN_PORT => Side::Wan,
            _ => Side::Inside,
        };
        for destination in vxlan.fdb.values().chain(&vxlan.flood) {
            let tunnel = Tunnel {
                side,
                remote_ip: destination.ip,
                key: destination.vni,
                device: name.to_string(),
                floods: vxlan.flood.iter().any(|to| to.ip == destination.ip),
            };
            tunnels.insert((*name, destination.ip, destination.vni), tunnel);
        }
    }
    let mut tunnels: Vec<_> = tunnels.into_values().collect();
    tunnels.sort();
    tunnels
}

/// The outer `wanted` tells whether the database answered, the inner one whether it has the network.
fn macs(
    kernel: &KernelState,
    bridge: InterfaceName,
    learnt: &[LearntStation],
    wanted: Option<Option<&LogicalSwitch>>,
) -> Vec<Mac> {
    let mut macs: BTreeMap<MacAddress, Mac> = BTreeMap::new();
    let held = kernel.bridges.get(&bridge);
    for (mac, remote) in wanted.flatten().into_iter().flat_map(|w| &w.macs) {
        let there = held.and_then(|held| declared(kernel, held, *mac)) == Some(remote.locator.ip);
        let entry = Mac {
            mac: mac.to_string(),
            ip: remote.ip,
            at: remote.locator.ip.to_string(),
            source: Source::Declared,
            state: if there {
                State::Forwarding
            } else {
                State::Missing
            },
            age: None,
        };
        macs.insert(*mac, entry);
    }
    let pinned = held.into_iter().flat_map(|held| held.pinned.keys());
    for (held, mac) in pinned.filter_map(|mac| Some((held?, *mac))) {
        macs.entry(mac).or_insert_with(|| {
            let neighbours = held.neighbours.iter();
            let mut ips = neighbours.filter_map(|(ip, of)| (*of == mac).then_some(*ip));
            Mac {
                mac: mac.to_string(),
                ip: ips.next(),
                at: declared(kernel, held, mac).map_or_else(|| "-".to_owned(), |ip| ip.to_string()),
                source: Source::Declared,
                state: match wanted {
                    Some(_) => State::Surplus,
                    None => State::Unchecked,
                },
                age: None,
            }
        });
    }
    for station in learnt.iter().filter(|station| station.bridge == bridge) {
        macs.entry(station.mac).or_insert_with(|| Mac {
            mac: station.mac.to_string(),
            ip: None,
            at: match station.host {
                Some(host) => host.to_string(),
                None => kernel.label(station.port),
            },
            source: Source::Learnt,
            state: State::Forwarding,
            age: Some(station.age.as_secs()),
        });
    }
    macs.into_values().collect()
}

/// The far end of the tunnel that both halves of a declared station's entry lead to.
fn declared(kernel: &KernelState, bridge: &Bridge, mac: MacAddress) -> Option<Ipv4Addr> {
    let port = bridge.pinned.get(&mac)?.port;
    let destination = kernel.vxlans.get(&port)?.fdb.get(&mac)?;
    Some(destination.ip)
}

impl Display for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.database {
            writeln!(
                f,
                "the database does not answer: this is the kernel's side alone"
            )?;
        }
        if self.networks.is_empty() {
            writeln!(f, "no networks")?;
        }
        for network in &self.networks {
            write!(f, "{network}")?;
        }
        Ok(())
    }
}

impl Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let up = |up| if up { "up" } else { "down" };
        writeln!(
            f,
            "network {} ({}, {})",
            self.name,
            self.bridge,
            up(self.up)
        )?;
        if let Some(cut) = &self.cut {
            let left = match cut.left {
                Some(left) => format!("for {left} s more unless the loop is seen again"),
                None => "until it is released".to_owned(),
            };
            let missing = if cut.in_kernel {
                ""
            } else {
                " (NOT YET in the kernel)"
            };
            writeln!(
                f,
                "  CUT OFF THE WAN{missing} since {} s, {left}: {} (l2gw vtep release {})",
                cut.since, cut.cause, self.name
            )?;
        }
        for binding in &self.bindings {
            writeln!(f, "  binding    {binding}")?;
        }
        for Port {
            name, up: is_up, ..
        } in &self.interfaces
        {
            writeln!(f, "  interface  {name:<17} {}", up(*is_up))?;
        }
        for tunnel in &self.tunnels {
            let side = match tunnel.side {
                Side::Inside => "inside",
                Side::Wan => "wan",
            };
            let floods = if tunnel.floods { "floods" } else { "" };
            let (ip, key) = (tunnel.remote_ip.to_string(), tunnel.key);
            let line = format!("  tunnel     {ip:<17} {side:<6} key {key:<8} {floods}");
            writeln!(f, "{}", line.trim_end())?;
        }
        if self.flood_dropped > 0 {
            let dropped = self.flood_dropped;
            writeln!(
                f,
                "  bum-limit  {dropped} frames not flooded towards the WAN"
            )?;
        }
        for mac in &self.macs {
            let ip = mac.ip.map_or_else(|| "-".to_owned(), |ip| ip.to_string());
            let source = match (mac.source, mac.age) {
                (Source::Learnt, Some(age)) => format!("learnt, heard {age} s ago"),
                (Source::Learnt, None) => "learnt".to_owned(),
                (Source::Declared, _) => "declared".to_owned(),
            };
            let state = match mac.state {
                State::Forwarding => "",
                State::Missing => ", MISSING in the kernel",
                State::Surplus => ", not in the database",
                State::Unchecked => ", not checked",
            };
            let at = &mac.at;
            writeln!(
                f,
                "  mac        {} {ip:<15} at {at:<15} {source}{state}",
                mac.mac
            )?;
        }
        Ok(())
    }
}
