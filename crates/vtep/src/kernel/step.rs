//! One change to the kernel, and what it does to a [`KernelState`].
//!
//! [`KernelState::apply`] is the kernel's behaviour as measured: the planner's laws are tested against it, and after a
//! plan was carried out the daemon uses it to know the new state without asking the kernel again.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use model::value::MacAddress;

use super::guard::Guard;
use super::name::InterfaceName;
use super::state::{
    Bridge, BridgePort, BridgeSettings, Destination, Filter, HostSide, KernelState, Link, Pinned,
    PortFlags, Vxlan,
};
use super::vlan::{Steering, VlanDevice, VlanKind, VlanShape};

/// One change to the kernel. Each is idempotent and names everything it needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Take bridged frames out of the host's packet filter.
    BypassBridgeNetfilter,
    /// Delete a device of ours, with all that hangs on it.
    DeleteDevice(InterfaceName),
    /// Put the whole packet filter in place, in one transaction.
    ReplaceFilter(Box<Filter>),
    /// Let peers in or shut them out, in one transaction.
    ChangeFilter {
        /// What to add to the sets.
        add: Box<Filter>,
        /// What to take from the sets.
        remove: Box<Filter>,
    },
    /// Remove the packet filter.
    RemoveFilter,
    /// Put the guard of ports in place, in one transaction, or remove it.
    PutGuard(Option<Box<Guard>>),
    /// Create a bridge, down.
    CreateBridge(InterfaceName, Box<BridgeShape>),
    /// Change a bridge on the fly.
    ChangeBridge {
        /// Its name.
        name: InterfaceName,
        /// What it is.
        was: Box<BridgeShape>,
        /// What it should be.
        shape: Box<BridgeShape>,
    },
    /// Create a VXLAN device, down and in no bridge.
    CreateVxlan(InterfaceName, Box<VxlanShape>),
    /// Change a VXLAN device on the fly.
    ChangeVxlan {
        /// Its name.
        name: InterfaceName,
        /// What it is.
        was: Box<VxlanShape>,
        /// What it should be.
        shape: Box<VxlanShape>,
    },
    /// Create the device of a VLAN, with its other end if it has one, down and in no bridge.
    CreateVlan(InterfaceName, Box<VlanShape>),
    /// Change name and size of the device of a VLAN.
    ChangeVlan {
        /// Its name.
        name: InterfaceName,
        /// What it is.
        was: Box<Link>,
        /// What it should be.
        link: Box<Link>,
    },
    /// Set where a program takes what arrives on an interface.
    Steer(InterfaceName, Box<Steering>),
    /// Set how the host's own network stack sees a device.
    SetHostSide(InterfaceName, HostSide),
    /// Make an interface a port of a bridge. Its port flags are the default again.
    Attach {
        /// The interface.
        interface: InterfaceName,
        /// The bridge.
        bridge: InterfaceName,
    },
    /// Take an interface out of a bridge of ours.
    Detach {
        /// The interface.
        interface: InterfaceName,
        /// The bridge.
        bridge: InterfaceName,
    },
    /// Set what a bridge port does.
    SetPortFlags(InterfaceName, PortFlags),
    /// Set an interface up.
    BringUp(InterfaceName),
    /// Say where frames to a station go.
    PutStation {
        /// The VXLAN device.
        port: InterfaceName,
        /// The station.
        mac: MacAddress,
        /// What to set in the device's forwarding database.
        destination: Option<Destination>,
        /// Whether to pin the station to this port of the bridge.
        pin: bool,
    },
    /// Take back where frames to a station go.
    RemoveStation {
        /// The VXLAN device.
        port: InterfaceName,
        /// The station.
        mac: MacAddress,
        /// Whether to remove it from the device's forwarding database.
        forget: bool,
        /// Whether to remove it from the bridge's.
        unpin: bool,
    },
    /// Send frames of unknown destination there too.
    AddFlood(InterfaceName, Destination),
    /// Stop sending frames of unknown destination there.
    RemoveFlood(InterfaceName, Destination),
    /// Let a bridge answer for an address.
    PutNeighbour {
        /// The bridge.
        bridge: InterfaceName,
        /// The address.
        ip: IpAddr,
        /// Whose it is.
        mac: MacAddress,
    },
    /// Let a bridge no longer answer for an address.
    RemoveNeighbour {
        /// The bridge.
        bridge: InterfaceName,
        /// The address.
        ip: IpAddr,
    },
}

/// What one message sets of a bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BridgeShape {
    /// Name and size.
    pub link: Link,
    /// The bridge's own behaviour.
    pub settings: BridgeSettings,
}

/// What one message sets of a VXLAN device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VxlanShape {
    /// Name and size.
    pub link: Link,
    /// Key and UDP port.
    pub identity: super::state::VxlanIdentity,
    /// Source address.
    pub local: Option<std::net::Ipv4Addr>,
    /// Whether it learns.
    pub learning: bool,
}

impl Bridge {
    /// What one message sets of it.
    pub fn shape(&self) -> BridgeShape {
        BridgeShape {
            link: self.link.clone(),
            settings: self.settings.clone(),
        }
    }
}

impl Vxlan {
    /// What one message sets of it.
    pub fn shape(&self) -> VxlanShape {
        VxlanShape {
            link: self.link.clone(),
            identity: self.identity,
            local: self.local,
            learning: self.learning,
        }
    }
}

impl Step {
    /// The interface the step is about, if one.
    pub fn interface(&self) -> Option<InterfaceName> {
        match self {
            Self::BypassBridgeNetfilter
            | Self::ReplaceFilter(_)
            | Self::ChangeFilter { .. }
            | Self::RemoveFilter
            | Self::PutGuard(_) => None,
            Self::DeleteDevice(name)
            | Self::CreateBridge(name, _)
            | Self::ChangeBridge { name, .. }
            | Self::CreateVxlan(name, _)
            | Self::ChangeVxlan { name, .. }
            | Self::CreateVlan(name, _)
            | Self::ChangeVlan { name, .. }
            | Self::Steer(name, _)
            | Self::SetHostSide(name, _)
            | Self::SetPortFlags(name, _)
            | Self::BringUp(name)
            | Self::AddFlood(name, _)
            | Self::RemoveFlood(name, _) => Some(*name),
            Self::Attach { interface, .. } | Self::Detach { interface, .. } => Some(*interface),
            Self::PutStation { port, .. } | Self::RemoveStation { port, .. } => Some(*port),
            Self::PutNeighbour { bridge, .. } | Self::RemoveNeighbour { bridge, .. } => {
                Some(*bridge)
            }
        }
    }
}

/// What a fresh device looks like to the host until it is told otherwise.
pub(super) const FRESH: HostSide = HostSide {
    ipv6: true,
    link_local: true,
    answers_arp: true,
};

impl KernelState {
    /// What the kernel holds after a step succeeded.
    pub fn apply(&mut self, step: &Step) {
        match step {
            Step::BypassBridgeNetfilter => self.bridge_netfilter = false,
            Step::DeleteDevice(name) => self.delete(*name),
            Step::ReplaceFilter(filter) => self.filter = Some(Filter::clone(filter)),
            Step::ChangeFilter { add, remove } => {
                if let Some(filter) = &mut self.filter {
                    filter.change(add, remove);
                }
            }
            Step::RemoveFilter => self.filter = None,
            Step::PutGuard(guard) => self.guard = guard.as_deref().cloned(),
            Step::CreateBridge(name, shape) => {
                let bridge = Bridge {
                    link: shape.link.clone(),
                    settings: shape.settings.clone(),
                    host: FRESH,
                    up: false,
                    pinned: BTreeMap::new(),
                    neighbours: BTreeMap::new(),
                };
                self.bridges.insert(*name, bridge);
            }
            Step::ChangeBridge { name, shape, .. } => {
                if let Some(bridge) = self.bridges.get_mut(name) {
                    bridge.link = shape.link.clone();
                    bridge.settings = shape.settings.clone();
                }
            }
            Step::CreateVxlan(name, shape) => {
                let vxlan = Vxlan {
                    link: shape.link.clone(),
                    identity: shape.identity,
                    local: shape.local,
                    learning: shape.learning,
                    host: FRESH,
                    port: BridgePort::default(),
                    up: false,
                    fdb: BTreeMap::new(),
                    flood: std::collections::BTreeSet::new(),
                };
                self.vxlans.insert(*name, vxlan);
            }
            Step::ChangeVxlan { name, shape, .. } => {
                if let Some(vxlan) = self.vxlans.get_mut(name) {
                    vxlan.link = shape.link.clone();
                    vxlan.local = shape.local;
                    vxlan.learning = shape.learning;
                }
            }
            Step::CreateVlan(name, shape) => self.create_vlan(*name, shape),
            Step::ChangeVlan { name, link, .. } => {
                if let Some(vlan) = self.vlans.get_mut(name) {
                    vlan.link = Link::clone(link);
                }
            }
            Step::Steer(name, steering) => self.steer(*name, steering),
            Step::SetHostSide(name, host) => {
                if let Some(vlan) = self.vlans.get_mut(name) {
                    vlan.host = *host;
                }
                if let Some(bridge) = self.bridges.get_mut(name) {
                    bridge.host = *host;
                }
                if let Some(vxlan) = self.vxlans.get_mut(name) {
                    vxlan.host = *host;
                }
            }
            Step::Attach { interface, bridge } => self.attach(*interface, Some(*bridge)),
            Step::Detach { interface, .. } => self.attach(*interface, None),
            Step::SetPortFlags(name, flags) => {
                if let Some(port) = self.port_mut(*name) {
                    port.flags = *flags;
                }
            }
            Step::BringUp(name) => {
                for up in [
                    self.bridges.get_mut(name).map(|b| &mut b.up),
                    self.vxlans.get_mut(name).map(|v| &mut v.up),
                    self.vlans.get_mut(name).map(|v| &mut v.up),
                    self.interfaces.get_mut(name).map(|i| &mut i.up),
                ]
                .into_iter()
                .flatten()
                {
                    *up = true;
                }
            }
            entry => self.apply_entry(entry),
        }
    }

    fn apply_entry(&mut self, step: &Step) {
        match step {
            Step::PutStation {
                port,
                mac,
                destination,
                pin,
            } => {
                let Some(vxlan) = self.vxlans.get_mut(port) else {
                    return;
                };
                if let Some(destination) = destination {
                    vxlan.fdb.insert(*mac, *destination);
                }
                let bridge = vxlan.port.bridge.filter(|_| *pin);
                if let Some(bridge) = bridge.and_then(|name| self.bridges.get_mut(&name)) {
                    let pinned = Pinned {
                        port: *port,
                        sticky: true,
                    };
                    bridge.pinned.insert(*mac, pinned);
                }
            }
            Step::RemoveStation {
                port,
                mac,
                forget,
                unpin,
            } => {
                let Some(vxlan) = self.vxlans.get_mut(port) else {
                    return;
                };
                if *forget {
                    vxlan.fdb.remove(mac);
                }
                let bridge = vxlan.port.bridge.filter(|_| *unpin);
                if let Some(bridge) = bridge.and_then(|name| self.bridges.get_mut(&name)) {
                    bridge.pinned.remove(mac);
                }
            }
            Step::AddFlood(name, destination) => {
                if let Some(vxlan) = self.vxlans.get_mut(name) {
                    vxlan.flood.insert(*destination);
                }
            }
            Step::RemoveFlood(name, destination) => {
                if let Some(vxlan) = self.vxlans.get_mut(name) {
                    vxlan.flood.remove(destination);
                }
            }
            Step::PutNeighbour { bridge, ip, mac } => {
                // The kernel drops all neighbours of a device that goes down, and takes none while it is.
                if let Some(bridge) = self.bridges.get_mut(bridge).filter(|b| b.up) {
                    bridge.neighbours.insert(*ip, *mac);
                }
            }
            Step::RemoveNeighbour { bridge, ip } => {
                if let Some(bridge) = self.bridges.get_mut(bridge) {
                    bridge.neighbours.remove(ip);
                }
            }
            _ => {}
        }
    }

    fn delete(&mut self, name: InterfaceName) {
        self.attach(name, None);
        self.vxlans.remove(&name);
        self.delete_vlan(name);
        if self.bridges.remove(&name).is_none() {
            return;
        }
        let vlans = self.vlans.values_mut().map(|v| &mut v.port);
        let ports = self.vxlans.values_mut().map(|v| &mut v.port).chain(vlans);
        for port in ports.chain(self.interfaces.values_mut().map(|i| &mut i.port)) {
            if port.bridge == Some(name) {
                *port = BridgePort::default();
            }
        }
    }

    fn attach(&mut self, interface: InterfaceName, bridge: Option<InterfaceName>) {
        let Some(port) = self.port_mut(interface) else {
            return;
        };
        let left = port.bridge;
        *port = BridgePort {
            bridge,
            flags: PortFlags::default(),
        };
        if let Some(left) = left.and_then(|name| self.bridges.get_mut(&name)) {
            left.pinned.retain(|_, pinned| pinned.port != interface);
        }
    }

    fn port_mut(&mut self, name: InterfaceName) -> Option<&mut BridgePort> {
        if let Some(vlan) = self.vlans.get_mut(&name) {
            return Some(&mut vlan.port);
        }
        match self.vxlans.get_mut(&name) {
            Some(vxlan) => Some(&mut vxlan.port),
            None => self.interfaces.get_mut(&name).map(|i| &mut i.port),
        }
    }

    fn create_vlan(&mut self, name: InterfaceName, shape: &VlanShape) {
        let device = |kind| VlanDevice::fresh(shape.link.clone(), kind);
        if let VlanKind::Inner { outer: Some(outer) } = shape.kind {
            let inner = Some(name);
            self.vlans.insert(outer, device(VlanKind::Outer { inner }));
        }
        self.vlans.insert(name, device(shape.kind));
    }

    fn steer(&mut self, name: InterfaceName, steering: &Steering) {
        if let Some(vlan) = self.vlans.get_mut(&name) {
            vlan.steering = steering.clone();
        }
        if let Some(interface) = self.interfaces.get_mut(&name) {
            interface.steering = steering.clone();
            interface.promiscuous = *steering != Steering::Nothing;
        }
    }

    fn delete_vlan(&mut self, name: InterfaceName) {
        let Some(device) = self.vlans.remove(&name) else {
            return;
        };
        let other = device.kind.other_end();
        if let Some(other) = other {
            self.attach(other, None);
            self.vlans.remove(&other);
        }
        // A program that leads to a device that is gone leads nowhere, also once there is a new one of that name.
        for interface in self.interfaces.values_mut() {
            if let Steering::In(devices) = &interface.steering
                && devices.values().any(|to| *to == name || Some(*to) == other)
            {
                interface.steering = Steering::Unknown;
            }
        }
    }
}

impl Filter {
    /// What must be added to `held` to hold at least what `self` holds.
    pub(super) fn beyond(&self, held: &Self) -> Self {
        Self {
            inside: &self.inside - &held.inside,
            wan: &self.wan - &held.wan,
            inside_keys: &self.inside_keys - &held.inside_keys,
            rules: Vec::new(),
        }
    }

    fn change(&mut self, add: &Self, remove: &Self) {
        self.inside = &(&self.inside - &remove.inside) | &add.inside;
        self.wan = &(&self.wan - &remove.wan) | &add.wan;
        self.inside_keys = &(&self.inside_keys - &remove.inside_keys) | &add.inside_keys;
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BypassBridgeNetfilter => f.write_str("bypass bridge netfilter"),
            Self::DeleteDevice(name) => write!(f, "delete {name}"),
            Self::ReplaceFilter(filter) => write!(
                f,
                "replace filter: {} inside, {} wan",
                filter.inside.len(),
                filter.wan.len()
            ),
            Self::ChangeFilter { add, remove } => {
                f.write_str("change filter:")?;
                let changes = [("+", add), ("-", remove)];
                for (sign, change) in changes {
                    for peer in &change.inside {
                        write!(f, " {sign}inside {peer}")?;
                    }
                    for peer in &change.wan {
                        write!(f, " {sign}wan {peer}")?;
                    }
                    for key in &change.inside_keys {
                        write!(f, " {sign}key {key}")?;
                    }
                }
                Ok(())
            }
            Self::RemoveFilter => f.write_str("remove filter"),
            Self::PutGuard(Some(guard)) => {
                f.write_str("no tagged frames on")?;
                guard.ports.iter().try_for_each(|port| write!(f, " {port}"))
            }
            Self::PutGuard(None) => f.write_str("remove guard of ports"),
            Self::CreateBridge(name, shape) => {
                write!(f, "create bridge {name}: {}", shape.link.alias)
            }
            Self::ChangeBridge { name, was, shape } => {
                write!(f, "change bridge {name}:")?;
                change(f, "alias", &was.link.alias, &shape.link.alias)?;
                change(f, "group", &was.link.group, &shape.link.group)?;
                change(f, "mtu", &was.link.mtu, &shape.link.mtu)?;
                let (was, now) = (&was.settings, &shape.settings);
                change(f, "address", &was.address, &now.address)?;
                change(f, "stp", &was.spanning_tree, &now.spanning_tree)?;
                change(f, "delay", &was.forward_delay, &now.forward_delay)?;
                change(
                    f,
                    "snooping",
                    &was.multicast_snooping,
                    &now.multicast_snooping,
                )?;
                change(f, "vlans", &was.vlan_filtering, &now.vlan_filtering)
            }
            Self::CreateVxlan(name, shape) => {
                write!(
                    f,
                    "create vxlan {name}: {} {}",
                    shape.link.alias, shape.identity
                )
            }
            Self::ChangeVxlan { name, was, shape } => {
                write!(f, "change vxlan {name}:")?;
                change(f, "alias", &was.link.alias, &shape.link.alias)?;
                change(f, "group", &was.link.group, &shape.link.group)?;
                change(f, "mtu", &was.link.mtu, &shape.link.mtu)?;
                change(f, "learning", &was.learning, &shape.learning)?;
                let ip = |local: Option<_>| local.unwrap_or(std::net::Ipv4Addr::UNSPECIFIED);
                change(f, "local", &ip(was.local), &ip(shape.local))
            }
            Self::CreateVlan(name, shape) => {
                write!(f, "create vlan {name}: {}", shape.link.alias)
            }
            Self::ChangeVlan { name, was, link } => {
                write!(f, "change vlan {name}:")?;
                change(f, "alias", &was.alias, &link.alias)?;
                change(f, "group", &was.group, &link.group)?;
                change(f, "mtu", &was.mtu, &link.mtu)
            }
            Self::Steer(name, steering) => write!(f, "steer {name} {steering}"),
            Self::SetHostSide(name, host) => write!(
                f,
                "host side of {name}: ipv6 {} link-local {} arp {}",
                host.ipv6, host.link_local, host.answers_arp
            ),
            Self::Attach { interface, bridge } => write!(f, "attach {interface} to {bridge}"),
            Self::Detach { interface, bridge } => write!(f, "detach {interface} from {bridge}"),
            Self::SetPortFlags(name, flags) => write!(
                f,
                "port {name}: isolated {} learning {} suppress {} hairpin {} flood {}",
                flags.isolated,
                flags.learning,
                flags.suppresses_neighbours,
                flags.hairpin,
                flags.floods
            ),
            Self::BringUp(name) => write!(f, "bring up {name}"),
            Self::PutStation {
                port,
                mac,
                destination,
                pin,
            } => {
                write!(f, "put {mac} at {port}")?;
                if let Some(destination) = destination {
                    write!(f, " to {destination}")?;
                }
                f.write_str(if *pin { " pinned" } else { "" })
            }
            Self::RemoveStation {
                port,
                mac,
                forget,
                unpin,
            } => {
                let what = match (forget, unpin) {
                    (true, false) => " (fdb only)",
                    (false, true) => " (pin only)",
                    _ => "",
                };
                write!(f, "remove {mac} from {port}{what}")
            }
            Self::AddFlood(name, to) => write!(f, "flood {name} to {to}"),
            Self::RemoveFlood(name, to) => write!(f, "no longer flood {name} to {to}"),
            Self::PutNeighbour { bridge, ip, mac } => {
                write!(f, "answer for {ip} on {bridge}: {mac}")
            }
            Self::RemoveNeighbour { bridge, ip } => {
                write!(f, "no longer answer for {ip} on {bridge}")
            }
        }
    }
}

fn change<T: PartialEq + fmt::Display>(
    f: &mut fmt::Formatter<'_>,
    what: &str,
    was: &T,
    now: &T,
) -> fmt::Result {
    if was == now {
        return Ok(());
    }
    write!(f, " {what} {was} -> {now}")
}
