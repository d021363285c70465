//! What one hardware_vtep database holds, as values: the common language of the controller (which writes it), the
//! software VTEP (which reads it) and the planner (which compares two of them).
//!
//! One [`SwitchState`] is one OVSDB database. It may describe several physical switches (a fabric behind one endpoint):
//! logical switches and MACs are shared by all of them, bindings name the switch they are on.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use crate::value::{MacAddress, VlanId, Vni};

/// `Logical_Switch.name`. Ours are named by the network's UUID, as hardware demands; other controllers may use any text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogicalSwitchName(Arc<str>);

impl LogicalSwitchName {
    /// The name as written in the database.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self(name.into())
    }

    /// The name as written in the database.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LogicalSwitchName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// One end of a tunnel, `Physical_Locator` with encapsulation `vxlan_over_ipv4`.
///
/// The key tells the side: without one the peer is an inside host and the logical switch's own key is used; with one the
/// peer is a remote gateway across the WAN, also when the key happens to equal the logical switch's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Locator {
    /// `Physical_Locator.dst_ip`.
    pub ip: Ipv4Addr,
    /// `Physical_Locator.tunnel_key`.
    pub tunnel_key: Option<Vni>,
}

impl fmt::Display for Locator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.tunnel_key {
            Some(key) => write!(f, "{} key {key}", self.ip),
            None => write!(f, "{}", self.ip),
        }
    }
}

/// Where a MAC address is reached: one row of `Ucast_Macs_Remote`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RemoteMac {
    /// The tunnel that leads there.
    pub locator: Locator,
    /// The station's address, given so that the switch can answer ARP and neighbour requests for it.
    pub ip: Option<IpAddr>,
}

impl fmt::Display for RemoteMac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "via {}", self.locator)?;
        match self.ip {
            Some(ip) => write!(f, " ip {ip}"),
            None => Ok(()),
        }
    }
}

/// One layer-2 network on the switch: a `Logical_Switch` row and the rows that belong to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogicalSwitch {
    /// Whether the row carries our mark. Rows without it belong to somebody else and are left alone, unless we are asked
    /// for a network of that name: then they are adopted.
    pub owned: bool,
    /// `Logical_Switch.tunnel_key`: the key of tunnels to inside hosts.
    pub tunnel_key: Option<Vni>,
    /// `Logical_Switch.other_config:mtu`, a key of our own: the longest packets of the network's stations, in bytes.
    pub mtu: Option<u16>,
    /// Where frames of unknown, broadcast and multicast destination go: the `unknown-dst` row of `Mcast_Macs_Remote`.
    pub flood: BTreeSet<Locator>,
    /// `Ucast_Macs_Remote`.
    pub macs: BTreeMap<MacAddress, RemoteMac>,
}

/// A VLAN of a port of a physical switch: the key under which `Physical_Port.vlan_bindings` binds a logical switch.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortVlan {
    /// The port.
    pub port: PhysicalPort,
    /// The VLAN; 0 for untagged frames.
    pub vlan: VlanId,
}

impl fmt::Display for PortVlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} vlan {}", self.port, self.vlan)
    }
}

/// A port, by the names of its switch and its own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PhysicalPort {
    /// `Physical_Switch.name`.
    pub switch: Arc<str>,
    /// `Physical_Port.name`.
    pub name: Arc<str>,
}

impl fmt::Display for PhysicalPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.switch, self.name)
    }
}

/// Rows the schema allows and no controller should leave: a second row for the same key (the first one in uuid order counts
/// as the state, the others are surplus), and rows that are no part of any state.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Surplus {
    /// Further `unknown-dst` rows of a logical switch.
    Flood(LogicalSwitchName),
    /// Further `Ucast_Macs_Remote` rows for a MAC of a logical switch.
    Mac(LogicalSwitchName, MacAddress),
    /// Rows of a logical switch in `Ucast_Macs_Remote` whose MAC is none, and in `Mcast_Macs_Remote` for single groups:
    /// what floods goes to the `unknown-dst` row's destinations.
    Stray(LogicalSwitchName),
}

impl Surplus {
    /// The logical switch that the rows are on.
    pub fn logical_switch(&self) -> &LogicalSwitchName {
        match self {
            Self::Flood(name) | Self::Mac(name, _) | Self::Stray(name) => name,
        }
    }
}

/// One hardware_vtep database, as wanted or as observed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SwitchState {
    /// The layer-2 networks by name.
    pub logical_switches: BTreeMap<LogicalSwitchName, LogicalSwitch>,
    /// `Physical_Port.vlan_bindings` of all ports.
    pub bindings: BTreeMap<PortVlan, LogicalSwitchName>,
    /// The ports that exist. Only the switch adds or removes ports: meaningful in what was observed, ignored in what is
    /// wanted.
    pub ports: BTreeSet<PhysicalPort>,
    /// Rows too many. Always empty in what is wanted.
    pub surplus: BTreeSet<Surplus>,
}

impl SwitchState {
    /// How many rows these logical switches take: their own, a MAC's each, one for flooding, and their bindings.
    pub fn rows(&self, which: impl Fn(&LogicalSwitchName) -> bool) -> usize {
        let counted = self.logical_switches.iter().filter(|(name, _)| which(name));
        let rows =
            counted.map(|(_, held)| 1 + held.macs.len() + usize::from(!held.flood.is_empty()));
        let bound = self.bindings.values().filter(|name| which(name));
        rows.sum::<usize>() + bound.count()
    }
}
