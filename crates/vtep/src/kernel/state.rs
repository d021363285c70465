//! What of the kernel is the switch's, as values: the common language of `desired`,
//! `observe`, `plan` and `apply`.
//!
//! | in the database | in the kernel |
//! |---|---|
//! | logical switch | [`Bridge`] |
//! | its tunnels to inside hosts | one [`Vxlan`] with the logical switch's key |
//! | its tunnels to remote gateways | one [`Vxlan`] per WAN key, its port isolated from the other WAN ports |
//! | `Ucast_Macs_Remote` row | an entry of the VXLAN device's forwarding database and a pinned one of the bridge's |
//! | its `ipaddr` | a neighbour entry on the bridge |
//! | locator in `unknown-dst` | an all-zero entry of the VXLAN device's forwarding database |
//! | binding of a VLAN of a physical port | a [`VlanDevice`], or the interface itself, enslaved to the bridge |
//! | who may send frames in | the [`Filter`] |
//!
//! Learnt entries are nobody's statement about what should be: they are in neither state.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use model::value::MacAddress;

use super::guard::Guard;
use super::name::InterfaceName;
use super::underlay::{Side, Underlay};
use super::vlan::{Steering, VlanDevice};

/// The kernel state that belongs to this switch, as wanted or as observed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KernelState {
    /// Bridges of ours.
    pub bridges: BTreeMap<InterfaceName, Bridge>,
    /// VXLAN devices of ours.
    pub vxlans: BTreeMap<InterfaceName, Vxlan>,
    /// Devices of ours that stand for VLANs of physical ports.
    pub vlans: BTreeMap<InterfaceName, VlanDevice>,
    /// Other interfaces that are, or should be, ports of our bridges. Wanted: the bound ones. Observed: those given to
    /// the switch, whether bound or not, and whatever else hangs on a bridge of ours or has a program of ours.
    pub interfaces: BTreeMap<InterfaceName, Interface>,
    /// The packet filters that decide whose frames enter, one in each underlay, while there is anything to enter.
    pub filters: BTreeMap<Underlay, Filter>,
    /// Keeps tagged frames off ports that are in a bridge themselves, while there is one.
    pub guard: Option<Guard>,
    /// Whether bridged frames go through the host's IP packet filter (`net.bridge.bridge-nf-call-*`): costs a third of
    /// the throughput, tracks tenants' connections in the host and reassembles their fragments.
    pub bridge_netfilter: bool,
}

/// What every device of ours has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// IFLA_IFALIAS: marks the device as ours and names the logical switch.
    pub alias: Arc<str>,
    /// IFLA_GROUP: [`GROUP`].
    pub group: u32,
    /// IFLA_MTU: the longest IP packet that passes.
    pub mtu: u32,
}

/// IFLA_GROUP of every device of ours: the filter names them by it, and so may an operator (`ip link show group 77`).
pub const GROUP: u32 = 77;

/// How every alias of ours begins.
pub const ALIAS: &str = "l2gw:";

/// The bridge of a logical switch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bridge {
    /// Name and size.
    pub link: Link,
    /// The bridge's own behaviour.
    pub settings: BridgeSettings,
    /// How the host's own network stack sees it.
    pub host: HostSide,
    /// IFF_UP.
    pub up: bool,
    /// Which addresses are nailed to which port: the static entries of the bridge's forwarding database on ports of ours.
    pub pinned: BTreeMap<MacAddress, Pinned>,
    /// Permanent neighbour entries of ours, from which the bridge answers ARP and neighbour solicitations.
    pub neighbours: BTreeMap<IpAddr, MacAddress>,
}

/// The bridge's own behaviour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BridgeSettings {
    /// IFLA_ADDRESS. The same for all gateways' bridges: what loop protection sends there ends at the first of them.
    pub address: MacAddress,
    /// IFLA_BR_STP_STATE.
    pub spanning_tree: bool,
    /// IFLA_BR_FORWARD_DELAY in hundredths of a second.
    pub forward_delay: u32,
    /// IFLA_BR_MCAST_SNOOPING.
    pub multicast_snooping: bool,
    /// IFLA_BR_VLAN_FILTERING.
    pub vlan_filtering: bool,
}

/// How the host's own network stack sees a device. A tenant must neither find an address of the host there nor hear it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostSide {
    /// Whether IPv6 runs on it (`disable_ipv6` is 0). A bridge needs it to answer neighbour solicitations; on a VXLAN
    /// device it would cost a multicast route per device, quadratic in their number.
    pub ipv6: bool,
    /// Whether it gives itself a link-local address (IFLA_INET6_ADDR_GEN_MODE) and so speaks MLD to tenants.
    pub link_local: bool,
    /// Whether the host answers ARP for its own addresses there, whatever interface they are on (`arp_ignore` below 8).
    pub answers_arp: bool,
}

/// A static entry of a bridge's forwarding database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pinned {
    /// The port frames go to.
    pub port: InterfaceName,
    /// NTF_STICKY: no frame moves it to another port. Without it, whoever sends with the address takes it over.
    pub sticky: bool,
}

/// A VXLAN device, one end of all tunnels of a logical switch that share a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vxlan {
    /// Name and size.
    pub link: Link,
    /// What the kernel tells devices apart by, and cannot change on a live one.
    pub identity: VxlanIdentity,
    /// IFLA_VXLAN_LOCAL: the source address of what it sends.
    pub local: Option<Ipv4Addr>,
    /// IFLA_VXLAN_LEARNING: remember which tunnel a source address came from.
    pub learning: bool,
    /// How the host's own network stack sees it.
    pub host: HostSide,
    /// Its place in a bridge.
    pub port: BridgePort,
    /// IFF_UP.
    pub up: bool,
    /// Where frames to an address go.
    pub fdb: BTreeMap<MacAddress, Destination>,
    /// Where frames to unknown addresses and to groups go.
    pub flood: BTreeSet<Destination>,
}

/// The kernel allows one VXLAN device for each such triple, whatever else differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct VxlanIdentity {
    /// IFLA_LINK_NETNSID: where its UDP socket is.
    pub underlay: Underlay,
    /// IFLA_VXLAN_ID.
    pub vni: u32,
    /// IFLA_VXLAN_PORT: the UDP port it listens on.
    pub udp_port: u16,
}

/// The far end of a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Destination {
    /// NDA_DST.
    pub ip: Ipv4Addr,
    /// NDA_PORT.
    pub udp_port: u16,
    /// NDA_VNI.
    pub vni: u32,
}

/// An interface that is not of our making.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    /// Its place in a bridge.
    pub port: BridgePort,
    /// IFF_UP.
    pub up: bool,
    /// Where what arrives on it goes instead.
    pub steering: Steering,
    /// Whether we made it take frames for any address (IFF_PROMISC): where frames are steered no bridge sees to it.
    pub promiscuous: bool,
}

/// An interface's place in a bridge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BridgePort {
    /// IFLA_MASTER.
    pub bridge: Option<InterfaceName>,
    /// What it does as a port; the default while it is none.
    pub flags: PortFlags,
    /// IFLA_BRPORT_STATE is "disabled" although the device is up: the bridge takes no frame from it and gives it none. So
    /// a loop is cut. Whatever else is set of the device joins it again.
    pub cut: bool,
}

/// What a bridge port does. The default is what the kernel gives a fresh port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortFlags {
    /// IFLA_BRPORT_ISOLATED: exchanges no frames with other isolated ports. Keeps WAN tunnels from relaying to each other.
    pub isolated: bool,
    /// IFLA_BRPORT_LEARNING.
    pub learning: bool,
    /// IFLA_BRPORT_NEIGH_SUPPRESS: ARP and neighbour solicitations the bridge can answer don't leave here.
    pub suppresses_neighbours: bool,
    /// IFLA_BRPORT_MODE: sends frames back out of the port they came from.
    pub hairpin: bool,
    /// IFLA_BRPORT_UNICAST_FLOOD, IFLA_BRPORT_MCAST_FLOOD and IFLA_BRPORT_BCAST_FLOOD: all of them.
    pub floods: bool,
}

impl Default for PortFlags {
    fn default() -> Self {
        Self {
            isolated: false,
            learning: true,
            suppresses_neighbours: false,
            hairpin: false,
            floods: true,
        }
    }
}

/// Whose frames enter an underlay. See [`filter`](super::filter) for the rules made of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Inside hosts and the key each may use; each may use key 0, for BFD.
    pub inside: BTreeSet<Peer>,
    /// Remote gateways and the key each may use; each may use key 0, for BFD.
    pub wan: BTreeSet<Peer>,
    /// Tunnels to remote gateways, with whom what is sent is counted.
    pub sent: BTreeSet<Peer>,
    /// Keys of VXLAN devices on VXLAN's own port: what nobody else may send.
    pub keys: BTreeSet<u32>,
    /// Keys of VXLAN devices that frames are steered to: what others send is counted, and reaches none of them.
    pub steered_keys: BTreeSet<u32>,
    /// A fingerprint of each rule, in order.
    pub rules: Vec<String>,
}

/// A tunnel somebody may send through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Peer {
    /// Its source address.
    pub ip: Ipv4Addr,
    /// Its key.
    pub vni: u32,
}

impl KernelState {
    /// Whether nothing of ours is there.
    pub fn is_empty(&self) -> bool {
        self.bridges.is_empty()
            && self.vxlans.is_empty()
            && self.vlans.is_empty()
            && self.filters.is_empty()
            && self.guard.is_none()
    }

    /// Whether it is the name of a device of ours.
    pub fn has_device(&self, name: InterfaceName) -> bool {
        self.bridges.contains_key(&name)
            || self.vxlans.contains_key(&name)
            || self.vlans.contains_key(&name)
    }

    /// The remote gateways that may send, with their keys.
    pub fn remote_gateways(&self) -> impl Iterator<Item = &Peer> {
        self.filters.values().flat_map(|filter| &filter.wan)
    }

    /// The bridge an interface is a port of.
    pub fn bridge_of(&self, interface: InterfaceName) -> Option<InterfaceName> {
        let vxlan = self.vxlans.get(&interface).map(|v| v.port.bridge);
        vxlan
            .or_else(|| self.vlans.get(&interface).map(|v| v.port.bridge))
            .or_else(|| self.interfaces.get(&interface).map(|i| i.port.bridge))
            .flatten()
    }

    /// Whether a physical port, or a VLAN of one, is cut off its bridge.
    pub fn is_cut(&self, port: InterfaceName) -> bool {
        let vlan = self.vlans.get(&port).map(|held| held.port.cut);
        let whole = self.interfaces.get(&port).map(|held| held.port.cut);
        vlan.or(whole).unwrap_or_default()
    }

    /// Whether a port of a bridge is up, and for a VLAN's device its other end too.
    pub fn is_up(&self, port: InterfaceName) -> bool {
        let Some(vlan) = self.vlans.get(&port) else {
            return self.interfaces.get(&port).is_some_and(|held| held.up);
        };
        let other = vlan.kind.other_end();
        vlan.up && other.is_none_or(|other| self.vlans.get(&other).is_some_and(|held| held.up))
    }

    /// Physical ports, or VLANs of them, that are in a bridge: what stations are learnt on.
    pub fn ports(&self) -> impl Iterator<Item = (InterfaceName, InterfaceName)> {
        let vlans = self.vlans.iter().map(|(name, held)| (name, &held.port));
        let whole = self
            .interfaces
            .iter()
            .map(|(name, held)| (name, &held.port));
        vlans
            .chain(whole)
            .filter_map(|(name, port)| Some((*name, port.bridge?)))
    }
}

impl Filter {
    /// Who may send, of a side.
    pub fn peers(&self, side: Side) -> &BTreeSet<Peer> {
        match side {
            Side::Inside => &self.inside,
            Side::Wan => &self.wan,
        }
    }

    pub(super) fn peers_mut(&mut self, side: Side) -> &mut BTreeSet<Peer> {
        match side {
            Side::Inside => &mut self.inside,
            Side::Wan => &mut self.wan,
        }
    }
}

impl From<(Ipv4Addr, u32)> for Peer {
    fn from((ip, vni): (Ipv4Addr, u32)) -> Self {
        Self { ip, vni }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} . {}", self.ip, self.vni)
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{} vni {}", self.ip, self.udp_port, self.vni)
    }
}

impl fmt::Display for VxlanIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            vni,
            udp_port,
            underlay,
        } = self;
        write!(f, "vni {vni} udp port {udp_port}{underlay}")
    }
}
