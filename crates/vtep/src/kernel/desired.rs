//! What the kernel should hold for what the database says: a pure function.
//!
//! - A logical switch is realised when one of our ports is bound to it, as on hardware switches.
//! - Frames are never relayed between two inside tunnels (they share one device, which does not send back what it
//!   received) nor between two WAN tunnels (same device, or isolated ports); always between inside, WAN and ports.
//! - Stations named by a row stay where the row says: pinned on the bridge, whoever else sends with their address. On the
//!   inside, stations without a row are learnt from their frames, by the bridge (which port) and by the VXLAN device
//!   (which host), so that answers to them go to one host instead of all. What the device learns can't overrule a row:
//!   its static entries win, and which port a pinned address is on is the bridge's to say. On the WAN nothing is
//!   learnt: what is there is the administrator's to declare.
//! - The bridge answers ARP and neighbour solicitations for stations whose row has an address, and then keeps such
//!   requests off the WAN.

mod wanted;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use model::switch::{Locator, LogicalSwitch, LogicalSwitchName, RemoteMac, SwitchState};
use model::value::{MacAddress, VlanId, Vni, is_tunnel_endpoint};

use super::filter;
use super::guard::Guard;
use super::name::InterfaceName;
use super::state::{
    ALIAS, Bridge, BridgePort, BridgeSettings, Destination, Filter, GROUP, HostSide, KernelState,
    Link, Peer, Pinned, PortFlags, Vxlan, VxlanIdentity,
};
use super::storm::WAN_FLOOD_PORT;
use super::underlay::{End, Side, Underlay};
use super::vlan::{self, VlanForm};
use crate::loops::GATEWAYS;

pub use self::wanted::{MoreThanEntries, Wanted};

/// The UDP port VXLAN frames are sent to on either side (RFC 7348 section 5).
pub const VXLAN_PORT: u16 = 4789;

/// The UDP port our WAN devices listen on where they share the underlay with the inside ones. Frames from declared remote
/// gateways are steered to it by the filter, so a WAN key may equal an inside key: the kernel tells the devices of an
/// underlay apart by key and port alone.
pub const WAN_LISTEN_PORT: u16 = 14789;

/// IFALIASZ without the terminating zero.
const LONGEST_ALIAS: usize = 255;

/// What is given to the switch at start and does not come from the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeConfig {
    /// `Physical_Switch.name`.
    pub switch: Arc<str>,
    /// Our address towards inside hosts.
    pub tunnel_ip: Ipv4Addr,
    /// Our address towards remote gateways; may be the same.
    pub wan_ip: Ipv4Addr,
    /// Where our address towards remote gateways is.
    pub wan_underlay: Underlay,
    /// Physical ports by `Physical_Port.name`; `None` leads nowhere.
    pub ports: BTreeMap<Arc<str>, Option<InterfaceName>>,
    /// The longest packets of networks that don't say how long theirs are; and the smallest MTU of the devices we make.
    /// Longer packets than the way carries are answered with "fragmentation needed" or sent in outer fragments by the VXLAN
    /// devices; a bridge would drop in silence what is longer than its own MTU, so that is never less than this.
    pub mtu: u32,
    /// Whether this kernel has IPv6.
    pub ipv6: bool,
    /// How VLANs of physical ports become devices.
    pub vlan_form: VlanForm,
    /// Frames a second that a network may flood towards each remote gateway.
    pub bum_limit: Option<u32>,
}

impl NodeConfig {
    /// Whether the far end of a tunnel of ours can be there.
    fn is_peer(&self, ip: Ipv4Addr) -> bool {
        ![self.tunnel_ip, self.wan_ip].contains(&ip) && is_tunnel_endpoint(ip)
    }

    /// The longest packets of a network's stations.
    fn tenants_mtu(&self, network: &LogicalSwitch) -> u32 {
        network.mtu.map_or(self.mtu, u32::from)
    }

    /// The address the bridge answers for because of a row, where it answers at all.
    fn answered(&self, row: &RemoteMac) -> Option<IpAddr> {
        row.ip.filter(|ip| self.ipv6 || ip.is_ipv4())
    }
}

/// What the kernel should hold, and what of the database it can't.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    /// What the kernel should hold.
    pub state: KernelState,
    /// What can't be had, each with its reason.
    pub refusals: BTreeSet<Refusal>,
    /// The longest packets of the stations of each bridge.
    pub tenants_mtus: BTreeMap<InterfaceName, u32>,
    /// The `Physical_Port.name` that an interface, or a device made for one of its VLANs, belongs to.
    pub ports: BTreeMap<InterfaceName, Arc<str>>,
}

/// A part of the database that this switch can't realise.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// A binding whose device name collides with another one's.
    Binding {
        /// `Physical_Port.name`.
        port: Arc<str>,
        /// The VLAN.
        vlan: VlanId,
    },
    /// A logical switch has tunnels to inside hosts but no key for them.
    NoTunnelKey(LogicalSwitchName),
    /// A locator names this switch itself or no host at all.
    NotAPeer(LogicalSwitchName, Ipv4Addr),
    /// A row names a group or the all-zero address instead of a station's.
    NotAStation(LogicalSwitchName, MacAddress),
    /// Two logical switches whose device names collide; the one named is left out.
    NameCollision(LogicalSwitchName),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Binding { port, vlan } => {
                write!(
                    f,
                    "port {port} vlan {vlan}: its device name is taken by another one"
                )
            }
            Self::NoTunnelKey(name) => {
                write!(f, "logical switch {name}: inside hosts but no tunnel_key")
            }
            Self::NotAPeer(name, ip) => {
                write!(
                    f,
                    "logical switch {name}: {ip} can't be the far end of a tunnel"
                )
            }
            Self::NotAStation(name, mac) => {
                write!(f, "logical switch {name}: {mac} is no station's address")
            }
            Self::NameCollision(name) => {
                write!(
                    f,
                    "logical switch {name}: its device name is taken by another one"
                )
            }
        }
    }
}

/// What the kernel should hold when the database holds `switch`.
pub fn desired(switch: &SwitchState, config: &NodeConfig) -> Desired {
    let mut desired = Desired::default();
    for (port_vlan, name) in &switch.bindings {
        if port_vlan.port.switch != config.switch {
            continue;
        }
        let Some(logical_switch) = switch.logical_switches.get(name) else {
            continue;
        };
        let interface = config.ports.get(&port_vlan.port.name).copied().flatten();
        let bridge = InterfaceName::bridge(name);
        let alias = alias(name, "");
        let mtu = config.tenants_mtu(logical_switch);
        desired.tenants_mtus.entry(bridge).or_insert(mtu);
        match desired.state.bridges.get(&bridge) {
            None => Realisation::new(name, logical_switch, config, alias).into(&mut desired),
            Some(same) if same.link.alias == alias => {}
            Some(_) => {
                desired
                    .refusals
                    .insert(Refusal::NameCollision(name.clone()));
                continue;
            }
        }
        if let Some(interface) = interface {
            let at = (interface, port_vlan.vlan);
            let made = InterfaceName::vlan(interface, port_vlan.vlan);
            if desired.state.vlans.contains_key(&made) {
                desired.refusals.insert(Refusal::Binding {
                    port: port_vlan.port.name.clone(),
                    vlan: port_vlan.vlan,
                });
                continue;
            }
            let outer = InterfaceName::outer_end(interface, port_vlan.vlan);
            for device in [interface, made, outer] {
                let port = port_vlan.port.name.clone();
                desired.ports.insert(device, port);
            }
            let form = config.vlan_form;
            vlan::bind(&mut desired.state, form, config.mtu.max(mtu), at, bridge);
        }
    }
    if !desired.state.bridges.is_empty() {
        desired.state.filters = filters(&desired.state, config);
    }
    desired.state.guard = Guard::of(&desired.state);
    desired
}

impl KernelState {
    /// Cuts these bridges off the WAN and these ports off their bridges, and no others.
    pub fn cut(&mut self, off: &BTreeSet<InterfaceName>) {
        for vxlan in self.vxlans.values_mut().filter(|vxlan| vxlan.is_wan()) {
            let bridge = vxlan.port.bridge;
            vxlan.port.cut = bridge.is_some_and(|bridge| off.contains(&bridge));
        }
        let vlans = self.vlans.iter_mut();
        let vlans = vlans.map(|(name, held)| (name, &mut held.port));
        let whole = self.interfaces.iter_mut();
        let whole = whole.map(|(name, held)| (name, &mut held.port));
        for (name, port) in vlans.chain(whole) {
            port.cut = port.bridge.is_some() && off.contains(name);
        }
    }
}

impl Vxlan {
    /// Whether it leads to remote gateways.
    pub fn is_wan(&self) -> bool {
        self.identity.side() == Side::Wan
    }
}

/// Devices of one logical switch in the making.
struct Realisation<'a> {
    name: &'a LogicalSwitchName,
    bridge_name: InterfaceName,
    bridge: Bridge,
    config: &'a NodeConfig,
    inside: Option<(InterfaceName, Vxlan)>,
    wan: BTreeMap<Vni, (InterfaceName, Vxlan)>,
    refusals: BTreeSet<Refusal>,
}

impl<'a> Realisation<'a> {
    fn new(
        name: &'a LogicalSwitchName,
        logical_switch: &LogicalSwitch,
        config: &'a NodeConfig,
        alias: Arc<str>,
    ) -> Self {
        let suppress = logical_switch.macs.values().any(counts_for_suppression);
        let mut new = Self {
            name,
            bridge_name: InterfaceName::bridge(name),
            bridge: Bridge {
                link: Link {
                    alias,
                    group: GROUP,
                    mtu: config.mtu.max(config.tenants_mtu(logical_switch)),
                },
                settings: BridgeSettings {
                    address: GATEWAYS,
                    spanning_tree: false,
                    forward_delay: 0,
                    multicast_snooping: false,
                    vlan_filtering: false,
                },
                host: HostSide {
                    ipv6: config.ipv6,
                    link_local: false,
                    answers_arp: false,
                },
                up: true,
                pinned: BTreeMap::new(),
                neighbours: BTreeMap::new(),
            },
            config,
            inside: None,
            wan: BTreeMap::new(),
            refusals: BTreeSet::new(),
        };
        if let Some(key) = logical_switch.tunnel_key {
            new.inside = Some((InterfaceName::inside(name), new.inside_device(key)));
        }
        new.stations(logical_switch, suppress);
        for locator in &logical_switch.flood {
            if let Some((_, vxlan, mut destination)) = new.tunnel(*locator, suppress) {
                if vxlan.is_wan() && config.bum_limit.is_some() {
                    destination.udp_port = WAN_FLOOD_PORT;
                }
                vxlan.flood.insert(destination);
            }
        }
        new
    }

    fn stations(&mut self, logical_switch: &LogicalSwitch, suppress: bool) {
        // Entries are collected in order and only then made maps: building a map from sorted entries costs a tenth.
        let mut entries: BTreeMap<Option<Vni>, Vec<_>> = BTreeMap::new();
        let mut pinned = Vec::with_capacity(logical_switch.macs.len());
        let mut neighbours: Vec<(IpAddr, _)> = Vec::new();
        for (mac, remote) in &logical_switch.macs {
            if !mac.is_unicast() {
                self.refusals
                    .insert(Refusal::NotAStation(self.name.clone(), *mac));
                continue;
            }
            let Some((port, _, destination)) = self.tunnel(remote.locator, suppress) else {
                continue;
            };
            entries
                .entry(remote.locator.tunnel_key)
                .or_default()
                .push((*mac, destination));
            pinned.push((*mac, Pinned { port, sticky: true }));
            if let Some(ip) = self.config.answered(remote).filter(|_| suppress) {
                neighbours.push((ip, *mac));
            }
        }
        self.bridge.pinned = pinned.into_iter().collect();
        // Of two stations that claim an address, the lower MAC has it: any choice will do that is always the same.
        neighbours.sort_unstable();
        neighbours.dedup_by_key(|(ip, _)| *ip);
        self.bridge.neighbours = neighbours.into_iter().collect();
        for (key, entries) in entries {
            let device = match key {
                None => self.inside.as_mut(),
                Some(key) => self.wan.get_mut(&key),
            };
            if let Some((_, vxlan)) = device {
                vxlan.fdb = entries.into_iter().collect();
            }
        }
    }

    /// The device a locator's frames leave by and where it sends them, unless the locator names no peer.
    fn tunnel(
        &mut self,
        locator: Locator,
        suppress: bool,
    ) -> Option<(InterfaceName, &mut Vxlan, Destination)> {
        if !self.config.is_peer(locator.ip) {
            self.refusals
                .insert(Refusal::NotAPeer(self.name.clone(), locator.ip));
            return None;
        }
        let (device, vxlan) = match locator.tunnel_key {
            None => match self.inside.as_mut() {
                Some(inside) => inside,
                None => {
                    self.refusals
                        .insert(Refusal::NoTunnelKey(self.name.clone()));
                    return None;
                }
            },
            Some(key) => {
                if !self.wan.contains_key(&key) {
                    let device = self.wan_device(key, suppress);
                    self.wan
                        .insert(key, (InterfaceName::wan(self.name, key), device));
                }
                self.wan.get_mut(&key)?
            }
        };
        let destination = destination(locator, vxlan);
        Some((*device, vxlan, destination))
    }

    fn inside_device(&self, key: Vni) -> Vxlan {
        Vxlan {
            learning: true,
            ..self.device(key, self.config.end(Side::Inside), PortFlags::default())
        }
    }

    fn wan_device(&self, key: Vni, suppress: bool) -> Vxlan {
        let flags = PortFlags {
            isolated: true,
            learning: false,
            suppresses_neighbours: suppress,
            ..PortFlags::default()
        };
        self.device(key, self.config.end(Side::Wan), flags)
    }

    fn device(&self, key: Vni, end: End, flags: PortFlags) -> Vxlan {
        Vxlan {
            link: Link {
                alias: alias(self.name, end.side.as_str()),
                ..self.bridge.link.clone()
            },
            identity: VxlanIdentity {
                underlay: end.underlay,
                vni: key.get(),
                udp_port: end.udp_port,
            },
            local: Some(end.ip),
            learning: false,
            host: HostSide::default(),
            port: BridgePort {
                bridge: Some(self.bridge_name),
                flags,
                cut: false,
            },
            up: true,
            fdb: BTreeMap::new(),
            flood: BTreeSet::new(),
        }
    }

    fn into(self, desired: &mut Desired) {
        let devices = self.inside.into_iter().chain(self.wan.into_values());
        for (name, vxlan) in devices {
            desired.state.vxlans.insert(name, vxlan);
        }
        desired.state.bridges.insert(self.bridge_name, self.bridge);
        desired.refusals.extend(self.refusals);
    }
}

/// Whether a row makes the bridge answer for addresses and keep requests for them off the WAN.
fn counts_for_suppression(row: &RemoteMac) -> bool {
    row.ip.is_some() && row.locator.tunnel_key.is_some()
}

/// Where a device sends frames to reach a far end.
fn destination(locator: Locator, vxlan: &Vxlan) -> Destination {
    Destination {
        ip: locator.ip,
        udp_port: VXLAN_PORT,
        vni: vxlan.identity.vni,
    }
}

/// Marks a device as ours and tells the reader what it is for.
fn alias(logical_switch: &LogicalSwitchName, side: &str) -> Arc<str> {
    let mut alias = match side {
        "" => format!("{ALIAS}net={logical_switch}"),
        side => format!("{ALIAS}{side} net={logical_switch}"),
    };
    let end = (0..=LONGEST_ALIAS.min(alias.len()))
        .rev()
        .find(|end| alias.is_char_boundary(*end));
    alias.truncate(end.unwrap_or_default());
    alias.into()
}

/// Every tunnel's far end may send through that tunnel, and nobody else: a filter in each underlay.
fn filters(state: &KernelState, config: &NodeConfig) -> BTreeMap<Underlay, Filter> {
    let empty = |end: End| {
        let filter = Filter {
            rules: filter::fingerprints(config, end.underlay),
            ..Filter::default()
        };
        (end.underlay, filter)
    };
    let mut filters: BTreeMap<_, _> = config.ends().map(empty).into();
    for vxlan in state.vxlans.values() {
        let VxlanIdentity {
            underlay,
            vni,
            udp_port,
        } = vxlan.identity;
        let filter = filters.entry(underlay).or_default();
        let keys = if udp_port == VXLAN_PORT {
            &mut filter.keys
        } else {
            &mut filter.steered_keys
        };
        keys.insert(vni);
        let side = vxlan.identity.side();
        let mut last = None;
        for destination in vxlan.fdb.values().chain(&vxlan.flood) {
            // Neighbouring stations mostly sit behind the same tunnel: spares a look-up for each of them.
            if last != Some(*destination) {
                last = Some(*destination);
                let Destination { ip, vni, .. } = *destination;
                let peers = filter.peers_mut(side);
                peers.extend([vni, filter::BFD_KEY].map(|vni| Peer { ip, vni }));
                if side == Side::Wan {
                    filter.sent.insert(Peer { ip, vni });
                }
            }
        }
    }
    filters
}
