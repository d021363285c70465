//! The difference between two kernel states, as ordered steps.
//!
//! [`plan`] is pure and total, and keeps these laws (each is a property test):
//!
//! 1. Applying `plan(desired, actual)` to `actual` gives `desired` on everything of ours.
//! 2. `plan(desired, desired)` is empty: a second run writes nothing.
//! 3. Any prefix of a plan, then a new plan, still converges: being interrupted costs nothing.
//! 4. What is not ours is never touched.
//!
//! [`plan_within`] looks at given entries alone, for when all else is known to be equal, and then plans the same steps in
//! the same order.
//!
//! The order is make before break: who may enter, then devices, then where frames go, then up, and only then removals. A
//! bridge is up before its neighbour entries, which it loses when it goes down; a VXLAN device is up last, so that it
//! never forwards without its port flags. Removing a device comes early only where a new one needs its key.

mod ports;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use model::value::MacAddress;

use super::name::InterfaceName;
use super::scope::{Entries, Scope};
use super::state::{Bridge, BridgePort, KernelState, Pinned, PortFlags, Vxlan};
use super::step::Step;
use super::vlan::{self, Steering};

/// What to do, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The changes, in the order in which they must be made.
    pub steps: Vec<Step>,
}

impl Plan {
    /// Whether the kernel already holds what it should.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// The plan in one line: how many steps of each kind.
    pub fn summary(&self) -> String {
        let mut counts: Vec<(&str, usize)> = Vec::new();
        for step in &self.steps {
            let kind = kind(step);
            match counts.iter_mut().find(|(known, _)| *known == kind) {
                Some((_, count)) => *count += 1,
                None => counts.push((kind, 1)),
            }
        }
        let parts: Vec<String> = counts
            .iter()
            .map(|(kind, count)| format!("{count} {kind}"))
            .collect();
        parts.join(", ")
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in &self.steps {
            writeln!(f, "{step}")?;
        }
        Ok(())
    }
}

fn kind(step: &Step) -> &'static str {
    match step {
        Step::BypassBridgeNetfilter => "bridge netfilter bypassed",
        Step::DeleteDevice(_) => "devices deleted",
        Step::ReplaceFilter(_) | Step::ChangeFilter { .. } => "filter changes",
        Step::RemoveFilter => "filter removed",
        Step::PutGuard(_) => "guards of ports changed",
        Step::CreateBridge(..) => "bridges created",
        Step::CreateVxlan(..) => "vxlans created",
        Step::CreateVlan(..) => "vlans created",
        Step::ChangeBridge { .. }
        | Step::ChangeVxlan { .. }
        | Step::ChangeVlan { .. }
        | Step::SetHostSide(..) => "device settings",
        Step::Steer(..) => "interfaces steered",
        Step::Attach { .. } => "ports attached",
        Step::Detach { .. } => "ports detached",
        Step::SetPortFlags(..) => "port settings",
        Step::BringUp(_) => "brought up",
        Step::PutStation { .. } => "stations put",
        Step::RemoveStation { .. } => "stations removed",
        Step::AddFlood(..) | Step::RemoveFlood(..) => "flood changes",
        Step::PutNeighbour { .. } => "neighbours put",
        Step::RemoveNeighbour { .. } => "neighbours removed",
    }
}

/// The steps that make `actual` hold what `desired` says.
pub fn plan(desired: &KernelState, actual: &KernelState) -> Plan {
    let mut planner = Planner::new(desired, actual);
    if actual.bridge_netfilter && !desired.bridges.is_empty() {
        planner.before.push(Step::BypassBridgeNetfilter);
    }
    planner.filter();
    planner.guard();
    for (name, bridge) in &desired.bridges {
        planner.bridge(*name, bridge);
    }
    // First, because a sub-interface can't be up while its port is down.
    for (name, interface) in &desired.interfaces {
        planner.interface(*name, interface);
    }
    for (name, device) in &desired.vlans {
        planner.vlan(*name, device);
    }
    for (name, vxlan) in &desired.vxlans {
        planner.vxlan(*name, vxlan);
    }
    planner.remaining_pins();
    planner.detach();
    planner.into_plan()
}

/// The steps that make `actual` hold what `desired` says, where they differ in these entries at most.
pub fn plan_within(desired: &KernelState, actual: &KernelState, scope: &Scope) -> Plan {
    let mut planner = Planner::within(desired, actual);
    for name in scope.bridges() {
        let entries = scope.of(name);
        if let (Some(bridge), Some(entries)) = (desired.bridges.get(&name), entries) {
            planner.bridge_entries(name, bridge, actual.bridges.get(&name), Some(entries));
        }
    }
    for (name, vxlan) in &desired.vxlans {
        if let Some(entries) = vxlan.port.bridge.and_then(|bridge| scope.of(bridge)) {
            let held = actual.vxlans.get(name);
            planner.stations(*name, vxlan, held, Some(&entries.stations));
        }
    }
    planner.remaining_pins();
    planner.into_entries()
}

/// Steps collected by phase, so that one walk over both states can put them in an order that makes before it breaks.
struct Planner<'a> {
    desired: &'a KernelState,
    actual: &'a KernelState,
    /// Devices that must go before others can come.
    early: BTreeSet<InterfaceName>,
    /// Entries to pin and to unpin, by bridge, until the VXLAN device's half of the entry claims them.
    pins: BTreeMap<InterfaceName, Pins>,
    before: Vec<Step>,
    bridges: Vec<Step>,
    vxlans: Vec<Step>,
    ports: Vec<Step>,
    bridges_up: Vec<Step>,
    put: Vec<Step>,
    up: Vec<Step>,
    /// Frames are steered to a VLAN's device once it can take them.
    steer: Vec<Step>,
    remove: Vec<Step>,
    /// Devices of VLANs that are too much and in nobody's way.
    late_vlans: Vec<InterfaceName>,
    filter_gone: bool,
    guard_gone: Option<Step>,
}

#[derive(Default)]
struct Pins {
    put: BTreeMap<MacAddress, InterfaceName>,
    remove: BTreeMap<MacAddress, InterfaceName>,
}

impl<'a> Planner<'a> {
    fn new(desired: &'a KernelState, actual: &'a KernelState) -> Self {
        let wanted_identities: BTreeSet<_> = desired
            .vxlans
            .iter()
            .filter(|(name, wanted)| {
                let held = actual.vxlans.get(name);
                held.is_none_or(|held| held.identity != wanted.identity)
            })
            .map(|(_, wanted)| wanted.identity)
            .collect();
        let (early_vlans, late_vlans) = vlan::doomed(&desired.vlans, &actual.vlans);
        let early = actual
            .vxlans
            .iter()
            .filter(|(name, held)| match desired.vxlans.get(name) {
                Some(wanted) => wanted.identity != held.identity,
                None => wanted_identities.contains(&held.identity),
            })
            .map(|(name, _)| *name)
            .chain(early_vlans)
            .collect();
        Self {
            early,
            late_vlans,
            ..Self::within(desired, actual)
        }
    }

    /// For states that have the same devices.
    fn within(desired: &'a KernelState, actual: &'a KernelState) -> Self {
        Self {
            desired,
            actual,
            early: BTreeSet::new(),
            pins: BTreeMap::new(),
            before: Vec::new(),
            bridges: Vec::new(),
            vxlans: Vec::new(),
            ports: Vec::new(),
            bridges_up: Vec::new(),
            put: Vec::new(),
            up: Vec::new(),
            steer: Vec::new(),
            remove: Vec::new(),
            late_vlans: Vec::new(),
            filter_gone: false,
            guard_gone: None,
        }
    }

    fn filter(&mut self) {
        match (&self.desired.filter, &self.actual.filter) {
            (Some(wanted), Some(held)) if wanted == held => {}
            (Some(wanted), Some(held)) if wanted.rules == held.rules => {
                self.before.push(Step::ChangeFilter {
                    add: Box::new(wanted.beyond(held)),
                    remove: Box::new(held.beyond(wanted)),
                });
            }
            (Some(wanted), _) => self
                .before
                .push(Step::ReplaceFilter(Box::new(wanted.clone()))),
            (None, held) => self.filter_gone = held.is_some(),
        }
    }

    fn bridge(&mut self, name: InterfaceName, wanted: &Bridge) {
        let held = self.actual.bridges.get(&name);
        match held {
            None => {
                let shape = Box::new(wanted.shape());
                self.bridges.push(Step::CreateBridge(name, shape));
            }
            Some(held) if held.link != wanted.link || held.settings != wanted.settings => {
                self.bridges.push(Step::ChangeBridge {
                    name,
                    was: Box::new(held.shape()),
                    shape: Box::new(wanted.shape()),
                });
            }
            Some(_) => {}
        }
        if held.is_none_or(|held| held.host != wanted.host) {
            self.ports.push(Step::SetHostSide(name, wanted.host));
        }
        if !held.is_some_and(|held| held.up) {
            self.bridges_up.push(Step::BringUp(name));
        }
        self.bridge_entries(name, wanted, held, None);
    }

    /// A bridge's entries: all, or those that are named.
    fn bridge_entries(
        &mut self,
        name: InterfaceName,
        wanted: &Bridge,
        held: Option<&Bridge>,
        only: Option<&Entries>,
    ) {
        let pins = self.pins(name, wanted, held, only.map(|only| &only.stations));
        self.pins.insert(name, pins);

        let nothing = BTreeMap::new();
        let neighbours = held
            .filter(|held| held.up)
            .map_or(&nothing, |held| &held.neighbours);
        let only = only.map(|only| &only.neighbours);
        for (ip, wanted, held) in pairs(&wanted.neighbours, neighbours, only) {
            match (wanted, held) {
                (Some(mac), held) if Some(mac) != held => self.put.push(Step::PutNeighbour {
                    bridge: name,
                    ip: *ip,
                    mac: *mac,
                }),
                (None, Some(_)) => self.remove.push(Step::RemoveNeighbour {
                    bridge: name,
                    ip: *ip,
                }),
                _ => {}
            }
        }
    }

    fn pins(
        &self,
        name: InterfaceName,
        wanted: &Bridge,
        held: Option<&Bridge>,
        only: Option<&BTreeSet<MacAddress>>,
    ) -> Pins {
        let nothing = BTreeMap::new();
        let held = held.map_or(&nothing, |held| &held.pinned);
        let mut pins = Pins::default();
        // Pins vanish with the port's place in the bridge. Stations share few ports, so the last answer mostly serves.
        let mut last: Option<(InterfaceName, bool)> = None;
        let mut stays = |port: InterfaceName| match last {
            Some((known, stays)) if known == port => stays,
            _ => {
                let wanted = self.desired.vxlans.get(&port);
                let stays = !self.early.contains(&port)
                    && wanted.is_some_and(|v| v.port.bridge == Some(name));
                last = Some((port, stays));
                stays
            }
        };
        for (mac, wanted, held) in pairs(&wanted.pinned, held, only) {
            let held: Option<&Pinned> = held.filter(|pinned| !self.early.contains(&pinned.port));
            match (wanted, held) {
                (Some(wanted), held) if Some(wanted) != held => {
                    pins.put.insert(*mac, wanted.port);
                }
                (None, Some(held)) if stays(held.port) => {
                    pins.remove.insert(*mac, held.port);
                }
                _ => {}
            }
        }
        pins
    }

    fn vxlan(&mut self, name: InterfaceName, wanted: &Vxlan) {
        let held = self
            .actual
            .vxlans
            .get(&name)
            .filter(|_| !self.early.contains(&name));
        match held.map(Vxlan::shape) {
            None => {
                let shape = Box::new(wanted.shape());
                self.vxlans.push(Step::CreateVxlan(name, shape));
            }
            Some(was) if was != wanted.shape() => self.vxlans.push(Step::ChangeVxlan {
                name,
                was: Box::new(was),
                shape: Box::new(wanted.shape()),
            }),
            Some(_) => {}
        }
        self.port(name, &wanted.port, held.map(|held| &held.port));
        if held.is_none_or(|held| held.host != wanted.host) {
            self.ports.push(Step::SetHostSide(name, wanted.host));
        }
        if !held.is_some_and(|held| held.up) {
            self.up.push(Step::BringUp(name));
        }

        self.stations(name, wanted, held, None);
        let nothing = BTreeSet::new();
        let flood = held.map_or(&nothing, |held| &held.flood);
        for to in wanted.flood.difference(flood) {
            self.put.push(Step::AddFlood(name, *to));
        }
        for to in flood.difference(&wanted.flood) {
            self.remove.push(Step::RemoveFlood(name, *to));
        }
    }

    /// A VXLAN device's stations: all, or those that are named.
    fn stations(
        &mut self,
        name: InterfaceName,
        wanted: &Vxlan,
        held: Option<&Vxlan>,
        only: Option<&BTreeSet<MacAddress>>,
    ) {
        let nothing = BTreeMap::new();
        let fdb = held.map_or(&nothing, |held| &held.fdb);
        let mut no_pins = Pins::default();
        let bridge = wanted.port.bridge;
        let pins = bridge
            .and_then(|bridge| self.pins.get_mut(&bridge))
            .unwrap_or(&mut no_pins);
        for (mac, wanted, held) in pairs(&wanted.fdb, fdb, only) {
            match (wanted, held) {
                (Some(to), held) if Some(to) != held => self.put.push(Step::PutStation {
                    port: name,
                    mac: *mac,
                    destination: Some(*to),
                    pin: claim(&mut pins.put, mac, name),
                }),
                (None, Some(_)) => self.remove.push(Step::RemoveStation {
                    port: name,
                    mac: *mac,
                    forget: true,
                    unpin: claim(&mut pins.remove, mac, name),
                }),
                _ => {}
            }
        }
    }

    /// Places an interface in its bridge, with its flags.
    fn port(&mut self, interface: InterfaceName, wanted: &BridgePort, held: Option<&BridgePort>) {
        let mut flags = held.map(|held| held.flags).unwrap_or_default();
        let held = held.and_then(|held| held.bridge);
        if let Some(bridge) = wanted.bridge.filter(|bridge| held != Some(*bridge)) {
            self.ports.push(Step::Attach { interface, bridge });
            flags = PortFlags::default();
        }
        if wanted.bridge.is_some() && flags != wanted.flags {
            self.ports.push(Step::SetPortFlags(interface, wanted.flags));
        }
    }

    /// Pins whose other half is right already.
    fn remaining_pins(&mut self) {
        for pins in std::mem::take(&mut self.pins).into_values() {
            let put = pins.put.into_iter().map(|(mac, port)| Step::PutStation {
                port,
                mac,
                destination: None,
                pin: true,
            });
            self.put.extend(put);
            let remove = pins.remove.into_iter();
            self.remove
                .extend(remove.map(|(mac, port)| Step::RemoveStation {
                    port,
                    mac,
                    forget: false,
                    unpin: true,
                }));
        }
    }

    /// Whatever hangs on a bridge of ours and is not bound there, or is steered; a bridge that goes lets go by itself.
    fn detach(&mut self) {
        for (name, held) in &self.actual.interfaces {
            if held.steering != Steering::Nothing && !self.desired.interfaces.contains_key(name) {
                let steering = Box::default();
                self.remove.push(Step::Steer(*name, steering));
            }
            let bridge = held.port.bridge;
            let bridge = bridge.filter(|bridge| self.desired.bridges.contains_key(bridge));
            let kept = self.desired.interfaces.contains_key(name);
            if let Some(bridge) = bridge.filter(|_| !kept) {
                self.remove.push(Step::Detach {
                    interface: *name,
                    bridge,
                });
            }
        }
    }

    fn into_plan(self) -> Plan {
        let late = |name: &&InterfaceName| !self.early.contains(*name);
        let vxlans = self.actual.vxlans.keys();
        let vxlans = vxlans.filter(|name| !self.desired.vxlans.contains_key(name));
        let bridges = self.actual.bridges.keys();
        let bridges = bridges.filter(|name| !self.desired.bridges.contains_key(name));
        let mut steps: Vec<Step> = self.early.iter().copied().map(Step::DeleteDevice).collect();
        for phase in [
            self.before,
            self.bridges,
            self.vxlans,
            self.ports,
            self.bridges_up,
            self.put,
            self.up,
            self.steer,
            self.remove,
        ] {
            steps.extend(phase);
        }
        let vlans = &self.late_vlans;
        let gone = vxlans.filter(late).chain(vlans).chain(bridges).copied();
        steps.extend(gone.map(Step::DeleteDevice));
        steps.extend(self.guard_gone);
        if self.filter_gone {
            steps.push(Step::RemoveFilter);
        }
        Plan { steps }
    }

    /// Where nothing but entries was looked at.
    fn into_entries(self) -> Plan {
        let mut steps = self.put;
        steps.extend(self.remove);
        Plan { steps }
    }
}

fn claim(
    pins: &mut BTreeMap<MacAddress, InterfaceName>,
    mac: &MacAddress,
    port: InterfaceName,
) -> bool {
    let mine = pins.get(mac) == Some(&port);
    if mine {
        pins.remove(mac);
    }
    mine
}

/// What either map holds under each key in order: of all keys, or of those given.
fn pairs<'m, K: Ord, V>(
    wanted: &'m BTreeMap<K, V>,
    held: &'m BTreeMap<K, V>,
    only: Option<&'m BTreeSet<K>>,
) -> Box<dyn Iterator<Item = (&'m K, Option<&'m V>, Option<&'m V>)> + 'm> {
    match only {
        None => Box::new(union(wanted, held)),
        Some(keys) => Box::new(keys.iter().map(|key| (key, wanted.get(key), held.get(key)))),
    }
}

/// Both maps' keys in order, each with what either holds. Walking only what is wanted would leave the rest for ever.
fn union<'m, K: Ord, V>(
    wanted: &'m BTreeMap<K, V>,
    held: &'m BTreeMap<K, V>,
) -> impl Iterator<Item = (&'m K, Option<&'m V>, Option<&'m V>)> {
    let mut wanted = wanted.iter().peekable();
    let mut held = held.iter().peekable();
    std::iter::from_fn(move || {
        let order = match (wanted.peek(), held.peek()) {
            (Some((w, _)), Some((h, _))) => w.cmp(h),
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (None, None) => return None,
        };
        let wanted = if order.is_le() { wanted.next() } else { None };
        let held = if order.is_ge() { held.next() } else { None };
        let (key, _) = wanted.or(held)?;
        Some((key, wanted.map(|(_, v)| v), held.map(|(_, v)| v)))
    })
}

#[cfg(test)]
mod tests;
