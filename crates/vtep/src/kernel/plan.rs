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

mod entries;
mod ports;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::name::InterfaceName;
use super::scope::Scope;
use super::state::{Bridge, BridgePort, KernelState, PortFlags, Vxlan};
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
            let kind = step.kind();
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

/// The steps that make `actual` hold what `desired` says.
pub fn plan(desired: &KernelState, actual: &KernelState) -> Plan {
    let mut planner = Planner::new(desired, actual);
    if actual.bridge_netfilter && !desired.bridges.is_empty() {
        planner.before.push(Step::BypassBridgeNetfilter);
    }
    planner.filters();
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
    pins: BTreeMap<InterfaceName, entries::Pins>,
    before: Vec<Step>,
    /// What must not wait for the rest of a long plan.
    first: Vec<Step>,
    bridges: Vec<Step>,
    vxlans: Vec<Step>,
    ports: Vec<Step>,
    /// Frames of VLANs' devices are steered to their ports: one step behind the other, for many are carried out at once.
    steer_out: Vec<Step>,
    bridges_up: Vec<Step>,
    put: Vec<Step>,
    up: Vec<Step>,
    /// Only what is up can be cut.
    cuts: Vec<Step>,
    /// Frames are steered to a VLAN's device once it can take them.
    steer: Vec<Step>,
    remove: Vec<Step>,
    /// Devices of VLANs that are too much and in nobody's way.
    late_vlans: Vec<InterfaceName>,
    filters_gone: Vec<Step>,
    guard_gone: Option<Step>,
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
            first: Vec::new(),
            bridges: Vec::new(),
            vxlans: Vec::new(),
            ports: Vec::new(),
            steer_out: Vec::new(),
            bridges_up: Vec::new(),
            put: Vec::new(),
            up: Vec::new(),
            cuts: Vec::new(),
            steer: Vec::new(),
            remove: Vec::new(),
            late_vlans: Vec::new(),
            filters_gone: Vec::new(),
            guard_gone: None,
        }
    }

    fn filters(&mut self) {
        for (underlay, wanted) in &self.desired.filters {
            match self.actual.filters.get(underlay) {
                Some(held) if wanted == held => {}
                Some(held) if wanted.rules == held.rules => {
                    self.before.push(Step::ChangeFilter {
                        underlay: *underlay,
                        add: Box::new(wanted.beyond(held)),
                        remove: Box::new(held.beyond(wanted)),
                    });
                }
                _ => {
                    let wanted = Box::new(wanted.clone());
                    self.before.push(Step::ReplaceFilter(*underlay, wanted));
                }
            }
        }
        let held = self.actual.filters.keys();
        let gone = held.filter(|underlay| !self.desired.filters.contains_key(underlay));
        self.filters_gone = gone.copied().map(Step::RemoveFilter).collect();
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
        let stays = held.filter(|held| held.up && held.shape() == wanted.shape());
        self.cut(name, &wanted.port, stays.map(|held| &held.port));

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

    /// A port whose device stays as it is, and up, is cut at once; one that is changed, which joins it, after that.
    fn cut(&mut self, name: InterfaceName, wanted: &BridgePort, stays: Option<&BridgePort>) {
        let place = |port: &BridgePort| (port.bridge, port.flags);
        match stays.filter(|held| place(held) == place(wanted)) {
            Some(held) if held.cut == wanted.cut => {}
            Some(_) if wanted.cut => self.first.push(Step::SetCut(name, true)),
            None if !wanted.cut => {}
            _ => self.cuts.push(Step::SetCut(name, wanted.cut)),
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
        let mut steps = self.first;
        steps.extend(self.early.iter().copied().map(Step::DeleteDevice));
        for phase in [
            self.before,
            self.bridges,
            self.vxlans,
            self.ports,
            self.steer_out,
            self.bridges_up,
            self.put,
            self.up,
            self.cuts,
            self.steer,
            self.remove,
        ] {
            steps.extend(phase);
        }
        let vlans = &self.late_vlans;
        let gone = vxlans.filter(late).chain(vlans).chain(bridges).copied();
        steps.extend(gone.map(Step::DeleteDevice));
        steps.extend(self.guard_gone);
        steps.extend(self.filters_gone);
        Plan { steps }
    }

    /// Where nothing but entries was looked at.
    fn into_entries(self) -> Plan {
        let mut steps = self.put;
        steps.extend(self.remove);
        Plan { steps }
    }
}

#[cfg(test)]
mod tests;
