//! `l2gw vtep show`: what the switch forwards, read from the kernel and the local database at this moment.
//!
//! It asks no daemon: that one may be the trouble. Without a database the kernel's side is shown.

mod text;

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::Duration;

use hardware_vtep::{Database, NAME, Tunnel as TunnelRow};
use model::switch::{LogicalSwitch, LogicalSwitchName, SwitchState};
use model::value::MacAddress;
use ovsdb::{Connection, ConnectionOptions, Target};
use serde::Serialize;

use crate::error::Error;
use crate::kernel::counters::{self, Counters};
use crate::kernel::name::InterfaceName;
use crate::kernel::state::{ALIAS, Bridge, KernelState, Peer};
use crate::kernel::traffic::{Traffic, TunnelTraffic};
use crate::kernel::underlay::Side;
use crate::kernel::{Kernel, LearntStation};
use crate::loops::{Cut, Place, on_disk};
use crate::options::{Format, ShowOptions};
use crate::places::Places;

/// ovsdb-server answers at once or not at all.
const DATABASE_WITHIN: Duration = Duration::from_secs(3);

/// What is forwarded, in words or as JSON.
///
/// # Errors
/// The kernel can't be read.
pub async fn show(options: &ShowOptions) -> Result<String, Error> {
    let database = database(&options.state_dir.join("db.sock")).await;
    let (places, bad) = Places::remembered(&options.state_dir)?;
    let (wan, underlays) = (places.wan, places.underlays.clone());
    let work = tokio::task::spawn_blocking(move || {
        let mut kernel = Kernel::open_with(crate::down::nobody(wan), underlays)?;
        let state = kernel.observe()?.clone();
        let learnt = kernel.learnt_in_detail()?;
        // Without the packet filter there is no limit either.
        let dropped = kernel.flood_drops().unwrap_or_default();
        let traffic = kernel.traffic().unwrap_or_default();
        Ok((state, learnt, dropped, traffic, counters::read()?))
    });
    let read = work.await.map_err(|error| Error::Runtime(error.into()))?;
    let (kernel, learnt, dropped, traffic, counted) = read.map_err(Error::Kernel)?;
    let asked = database.as_ref().map(|held| &held.state);
    let mut view = View::new(&kernel, &learnt, asked, &places);
    view.not_looked_at = bad.iter().map(ToString::to_string).collect();
    if let Some(network) = &options.network {
        view.networks.retain(|shown| shown.name == *network);
        if view.networks.is_empty() {
            return Err(Error::NoSuchNetwork(network.clone()));
        }
    }
    view.add_counters(&counted);
    view.add_bfd(&database.map(|held| held.tunnels).unwrap_or_default());
    view.add_drops(&kernel, &dropped);
    view.add_traffic(&traffic);
    // Without a state directory there is none.
    view.add_cuts(&kernel, &on_disk(&options.state_dir).unwrap_or_default());
    Ok(match options.format {
        Format::Text => view.text(options.network.is_some()),
        Format::Json => {
            let json = serde_json::to_string_pretty(&view);
            json.map_err(|error| Error::Output(error.into()))? + "\n"
        }
    })
}

/// What the database holds.
pub(crate) struct Held {
    /// What it asks for.
    pub(crate) state: SwitchState,
    /// What it says of tunnels, by far end.
    pub(crate) tunnels: BTreeMap<Ipv4Addr, TunnelRow>,
}

/// What the database holds, if it answers.
pub(crate) async fn database(socket: &Path) -> Option<Held> {
    let target = Target::Unix(socket.to_owned());
    let connection: Connection<Database> =
        Connection::start(target.into(), NAME, ConnectionOptions::default());
    tokio::time::timeout(DATABASE_WITHIN, connection.up())
        .await
        .ok()?;
    connection.replica().read(|database| {
        let database = database?;
        let tunnels = database.tunnels();
        Some(Held {
            state: database.state().clone(),
            tunnels: tunnels
                .filter_map(|row| Some((row.remote?.ip, row)))
                .collect(),
        })
    })
}

/// What BFD says of a tunnel that it is asked to watch, in words.
pub(crate) fn bfd(row: &TunnelRow) -> Option<String> {
    let said = |key| row.bfd_status.get(key).map(String::as_str);
    if !row.is_checked() {
        return None;
    }
    Some(match (said("enabled"), said("state")) {
        (Some("false"), _) => format!("not watched: {}", said("info").unwrap_or_default()),
        (_, None) => "unknown: l2gw vtep has not said anything yet".to_owned(),
        (_, Some("up")) if said("forwarding") == Some("false") => {
            format!("up, but {}", said("remote_diagnostic").unwrap_or_default())
        }
        (_, Some("up")) => "up".to_owned(),
        (_, Some(state)) => match said("diagnostic") {
            None | Some("No Diagnostic") => format!("{state}: the far end is not heard"),
            Some(diagnostic) => format!("{state}: {diagnostic}"),
        },
    })
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct View {
    /// Whether the database answered.
    database: bool,
    /// Network namespaces of tunnels that can't be looked into, and why.
    not_looked_at: Vec<String>,
    networks: Vec<Network>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Network {
    /// `Logical_Switch.name`.
    name: String,
    bridge: String,
    up: bool,
    /// The longest packets of its stations, in bytes, if the network says so.
    mtu: Option<u16>,
    /// The longest that its devices take.
    device_mtu: Option<u32>,
    /// Why and until when it is off the WAN.
    cut: Option<ShownCut>,
    /// Frames not flooded towards the WAN because of the limit.
    flood_dropped: u64,
    bindings: Vec<String>,
    interfaces: Vec<Port>,
    tunnels: Vec<Tunnel>,
    devices: Vec<Device>,
    macs: Vec<Mac>,
}

/// All tunnels of a network with one key.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Device {
    side: Side,
    key: u32,
    device: String,
    /// The network namespace they run in, if it is not the switch's own.
    netns: Option<String>,
    #[serde(flatten)]
    counted: Counters,
    /// Packets with its key from addresses that are not declared for it.
    undeclared_dropped: u64,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct ShownCut {
    cause: String,
    /// Seconds ago.
    since: u64,
    /// Seconds from now; nothing: until it is joined by hand.
    left: Option<u64>,
    /// Whether the devices are off the bridge in the kernel.
    in_kernel: bool,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Port {
    /// The interface, and its VLAN where that has a device of its own.
    name: String,
    device: String,
    up: bool,
    /// Why and until when it is off the network.
    cut: Option<ShownCut>,
    #[serde(flatten)]
    counted: Counters,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Tunnel {
    side: Side,
    remote_ip: Ipv4Addr,
    key: u32,
    device: String,
    /// Whether frames to unknown addresses and to groups go there.
    floods: bool,
    /// What went through it; of tunnels to inside hosts only their device counts.
    traffic: Option<TunnelTraffic>,
    /// What BFD says, where it is asked to.
    bfd: Option<String>,
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
    fn new(
        kernel: &KernelState,
        learnt: &[LearntStation],
        database: Option<&SwitchState>,
        places: &Places,
    ) -> Self {
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
                mtu: wanted.get(&bridge).and_then(|wanted| wanted.mtu),
                device_mtu: kernel.bridges.get(&bridge).map(|held| held.link.mtu),
                cut: None,
                flood_dropped: 0,
                bridge: bridge.to_string(),
                bindings: bindings.collect(),
                interfaces: interfaces(kernel, bridge),
                tunnels: tunnels(kernel, bridge),
                devices: devices(kernel, bridge, places),
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
            not_looked_at: Vec::new(),
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

    fn add_counters(&mut self, counted: &HashMap<InterfaceName, Counters>) {
        let of = |device: &str| {
            let name = device.parse().ok();
            name.and_then(|name| counted.get(&name)).copied()
        };
        for network in &mut self.networks {
            for port in &mut network.interfaces {
                port.counted = of(&port.device).unwrap_or_default();
            }
            for device in &mut network.devices {
                device.counted = of(&device.device).unwrap_or_default();
            }
        }
    }

    fn add_traffic(&mut self, traffic: &Traffic) {
        for network in &mut self.networks {
            for tunnel in &mut network.tunnels {
                let Tunnel {
                    remote_ip: ip,
                    key: vni,
                    ..
                } = *tunnel;
                let counted = traffic.tunnels.get(&Peer { ip, vni });
                tunnel.traffic = counted.filter(|_| tunnel.side == Side::Wan).copied();
            }
            for device in &mut network.devices {
                let undeclared = traffic.undeclared.get(&(device.side, device.key));
                device.undeclared_dropped = undeclared.copied().unwrap_or_default();
            }
        }
    }

    fn add_bfd(&mut self, rows: &BTreeMap<Ipv4Addr, TunnelRow>) {
        for tunnel in self.networks.iter_mut().flat_map(|it| &mut it.tunnels) {
            tunnel.bfd = rows.get(&tunnel.remote_ip).and_then(bfd);
        }
    }

    fn add_cuts(&mut self, kernel: &KernelState, cuts: &BTreeMap<Place, Cut>) {
        let now = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH);
        let now = now.map_or(0, |now| now.as_secs());
        let shown = |network: &str, port: Option<InterfaceName>, in_kernel: bool| {
            let network = LogicalSwitchName::new(network);
            let cut = cuts.get(&Place { network, port })?;
            Some(ShownCut {
                cause: cut.cause.clone(),
                since: now.saturating_sub(cut.since),
                left: cut.until.map(|until| until.saturating_sub(now)),
                in_kernel,
            })
        };
        for network in &mut self.networks {
            for port in &mut network.interfaces {
                if let Ok(device) = port.device.parse() {
                    port.cut = shown(&network.name, Some(device), kernel.is_cut(device));
                }
            }
            let mut wan = kernel.vxlans.values().filter(|held| {
                let bridge = held.port.bridge.map(|bridge| bridge.to_string());
                held.is_wan() && bridge.as_ref() == Some(&network.bridge)
            });
            network.cut = shown(&network.name, None, wan.all(|held| held.port.cut));
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
            cut: None,
            counted: Counters::default(),
        })
        .collect()
}

fn devices(kernel: &KernelState, bridge: InterfaceName, places: &Places) -> Vec<Device> {
    let vxlans = kernel.vxlans.iter();
    let mut devices: Vec<_> = vxlans
        .filter(|(_, vxlan)| vxlan.port.bridge == Some(bridge))
        .map(|(name, vxlan)| Device {
            side: vxlan.identity.side(),
            key: vxlan.identity.vni,
            device: name.to_string(),
            netns: places.name(vxlan.identity.underlay),
            counted: Counters::default(),
            undeclared_dropped: 0,
        })
        .collect();
    devices.sort_by_key(|device| (device.side, device.key));
    devices
}

fn tunnels(kernel: &KernelState, bridge: InterfaceName) -> Vec<Tunnel> {
    let mut tunnels = BTreeMap::new();
    for (name, vxlan) in &kernel.vxlans {
        if vxlan.port.bridge != Some(bridge) {
            continue;
        }
        for destination in vxlan.fdb.values().chain(&vxlan.flood) {
            let tunnel = Tunnel {
                side: vxlan.identity.side(),
                remote_ip: destination.ip,
                key: destination.vni,
                device: name.to_string(),
                floods: vxlan.flood.iter().any(|to| to.ip == destination.ip),
                traffic: None,
                bfd: None,
            };
            tunnels.insert((*name, destination.ip, destination.vni), tunnel);
        }
    }
    let mut tunnels: Vec<_> = tunnels.into_values().collect();
    tunnels.sort_by_key(|tunnel| (tunnel.side, tunnel.remote_ip, tunnel.key));
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
    let neighbours = held.into_iter().flat_map(|held| &held.neighbours);
    // The first of several addresses: others are read before it.
    let ips: HashMap<MacAddress, IpAddr> = neighbours.rev().map(|(ip, mac)| (*mac, *ip)).collect();
    let pinned = held.into_iter().flat_map(|held| held.pinned.keys());
    for (held, mac) in pinned.filter_map(|mac| Some((held?, *mac))) {
        macs.entry(mac).or_insert_with(|| Mac {
            mac: mac.to_string(),
            ip: ips.get(&mac).copied(),
            at: declared(kernel, held, mac).map_or_else(|| "-".to_owned(), |ip| ip.to_string()),
            source: Source::Declared,
            state: match wanted {
                Some(_) => State::Surplus,
                None => State::Unchecked,
            },
            age: None,
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
