//! What a step does: the kernel's behaviour as measured.
//!
//! The planner's laws are tested against it, and after a plan was carried out the daemon uses it to know the new state
//! without asking the kernel again.

use std::collections::{BTreeMap, BTreeSet};

use super::Step;
use crate::kernel::name::InterfaceName;
use crate::kernel::state::{
    Bridge, BridgePort, Filter, HostSide, KernelState, Link, Pinned, Vxlan,
};
use crate::kernel::vlan::{Steering, VlanDevice, VlanKind, VlanShape};

/// What a fresh device looks like to the host until it is told otherwise.
pub(in crate::kernel) const FRESH: HostSide = HostSide {
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
            Step::ReplaceFilter(underlay, filter) => {
                self.filters.insert(*underlay, Filter::clone(filter));
            }
            Step::ChangeFilter {
                underlay,
                add,
                remove,
            } => {
                if let Some(filter) = self.filters.get_mut(underlay) {
                    filter.change(add, remove);
                }
            }
            Step::RemoveFilter(underlay) => drop(self.filters.remove(underlay)),
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
                    flood: BTreeSet::new(),
                };
                self.vxlans.insert(*name, vxlan);
            }
            Step::ChangeVxlan { name, shape, .. } => {
                if let Some(vxlan) = self.vxlans.get_mut(name) {
                    vxlan.link = shape.link.clone();
                    vxlan.local = shape.local;
                    vxlan.learning = shape.learning;
                }
                self.join(*name);
            }
            Step::CreateVlan(name, shape) => self.create_vlan(*name, shape),
            Step::ChangeVlan { name, link, .. } => {
                if let Some(vlan) = self.vlans.get_mut(name) {
                    vlan.link = Link::clone(link);
                }
                self.join(*name);
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
                self.join(*name);
                if let Some(port) = self.port_mut(*name) {
                    port.flags = *flags;
                }
            }
            Step::SetCut(name, cut) => {
                let up = self.is_device_up(*name);
                if let Some(port) = self.port_mut(*name) {
                    port.cut = *cut && up && port.bridge.is_some();
                }
            }
            Step::BringUp(name) => {
                self.join(*name);
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

    /// Whatever is set of a device enables it as a port.
    fn join(&mut self, name: InterfaceName) {
        if let Some(port) = self.port_mut(name) {
            port.cut = false;
        }
    }

    fn is_device_up(&self, name: InterfaceName) -> bool {
        let vxlan = self.vxlans.get(&name).map(|held| held.up);
        let vlan = self.vlans.get(&name).map(|held| held.up);
        let whole = self.interfaces.get(&name).map(|held| held.up);
        vxlan.or(vlan).or(whole).unwrap_or_default()
    }

    fn attach(&mut self, interface: InterfaceName, bridge: Option<InterfaceName>) {
        self.join(interface);
        let Some(port) = self.port_mut(interface) else {
            return;
        };
        let left = port.bridge;
        *port = BridgePort {
            bridge,
            ..BridgePort::default()
        };
        if let Some(left) = left.and_then(|name| self.bridges.get_mut(&name)) {
            left.pinned.retain(|_, pinned| pinned.port != interface);
        }
    }

    pub(in crate::kernel) fn port_mut(&mut self, name: InterfaceName) -> Option<&mut BridgePort> {
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
    pub(in crate::kernel) fn beyond(&self, held: &Self) -> Self {
        Self {
            inside: &self.inside - &held.inside,
            wan: &self.wan - &held.wan,
            sent: &self.sent - &held.sent,
            keys: &self.keys - &held.keys,
            steered_keys: &self.steered_keys - &held.steered_keys,
            rules: Vec::new(),
        }
    }

    fn change(&mut self, add: &Self, remove: &Self) {
        for (held, remove, add) in [
            (&mut self.inside, &remove.inside, &add.inside),
            (&mut self.wan, &remove.wan, &add.wan),
            (&mut self.sent, &remove.sent, &add.sent),
        ] {
            *held = &(&*held - remove) | add;
        }
        for (held, remove, add) in [
            (&mut self.keys, &remove.keys, &add.keys),
            (
                &mut self.steered_keys,
                &remove.steered_keys,
                &add.steered_keys,
            ),
        ] {
            *held = &(&*held - remove) | add;
        }
    }
}
