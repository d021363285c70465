//! What the kernel should hold, kept between passes and patched where only MACs changed.
//!
//! [`Wanted::patch`] does for a few rows of `Ucast_Macs_Remote` what [`desired`] does for all of them, and gives the same
//! result (a property test). It gives up, and asks for a whole look, wherever a row decides more than its own entries:
//!
//! - the first or last row behind a far end: a device, or who may send, comes or goes with it;
//! - the first or last row for whose address requests are kept off the WAN: all neighbour entries come or go with it;
//! - a row that can't be had: it is told of.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use model::switch::{Locator, LogicalSwitch, LogicalSwitchName, RemoteMac, SwitchState};
use model::value::MacAddress;

use super::{Desired, NodeConfig, alias, counts_for_suppression, desired, destination};
use crate::kernel::name::InterfaceName;
use crate::kernel::scope::Scope;
use crate::kernel::state::{KernelState, Pinned};

/// What the kernel should hold, and what is needed to patch it.
#[derive(Debug)]
pub struct Wanted {
    desired: Desired,
    /// The realised logical switches.
    networks: HashMap<LogicalSwitchName, Network>,
    /// Bridges that are cut off the WAN, and ports that are cut off their bridges.
    cut: BTreeSet<InterfaceName>,
}

/// A logical switch as it was last looked at.
#[derive(Debug)]
struct Network {
    bridge: InterfaceName,
    rows: BTreeMap<MacAddress, RemoteMac>,
    /// By how many rows and flood lists a far end is named.
    uses: HashMap<Locator, usize>,
    /// Rows that make the bridge answer for addresses.
    suppressing: usize,
    /// Addresses that several stations claim: the lowest has it.
    shared: BTreeMap<IpAddr, BTreeSet<MacAddress>>,
    /// Every row has its entries.
    is_whole: bool,
}

/// The rows decide more than their own entries: everything must be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MoreThanEntries;

impl Wanted {
    /// What the kernel should hold when the database holds `switch`.
    pub fn new(switch: &SwitchState, config: &NodeConfig) -> Self {
        let desired = desired(switch, config);
        let networks = switch
            .logical_switches
            .iter()
            .filter_map(|(name, logical_switch)| {
                let bridge = InterfaceName::bridge(name);
                let realised = desired.state.bridges.get(&bridge)?;
                if realised.link.alias != alias(name, "") {
                    return None;
                }
                let network = Network::new(bridge, logical_switch, &desired.state, config);
                Some((name.clone(), network))
            })
            .collect();
        Self {
            desired,
            networks,
            cut: BTreeSet::new(),
        }
    }

    /// Cuts these bridges off the WAN and these ports off their bridges, and no others. Whether that is another set than
    /// before.
    pub fn cut(&mut self, off: BTreeSet<InterfaceName>) -> bool {
        if self.cut == off {
            return false;
        }
        self.desired.state.cut(&off);
        self.cut = off;
        true
    }

    /// The realised logical switches and their bridges.
    pub fn bridges(&self) -> impl Iterator<Item = (&LogicalSwitchName, InterfaceName)> {
        self.networks
            .iter()
            .map(|(name, network)| (name, network.bridge))
    }

    /// What the kernel should hold, and what of the database it can't.
    pub fn desired(&self) -> &Desired {
        &self.desired
    }

    /// Takes in that the rows of these stations, and nothing else, may have changed since the last look. Returns which
    /// entries may have changed. After an error this is good for nothing any more.
    pub fn patch<'k>(
        &mut self,
        switch: &SwitchState,
        config: &NodeConfig,
        keys: impl IntoIterator<Item = (&'k LogicalSwitchName, MacAddress)>,
    ) -> Result<Scope, MoreThanEntries> {
        let mut scope = Scope::default();
        let mut touched: HashMap<&LogicalSwitchName, Vec<MacAddress>> = HashMap::new();
        for (name, mac) in keys {
            touched.entry(name).or_default().push(mac);
        }
        for (name, macs) in touched {
            // A logical switch that is bound to no port has no entries.
            let Some(network) = self.networks.get_mut(name) else {
                continue;
            };
            let logical_switch = switch.logical_switches.get(name).ok_or(MoreThanEntries)?;
            let mut patch = Patch {
                name,
                network,
                state: &mut self.desired.state,
                config,
                scope: &mut scope,
            };
            patch.rows(logical_switch, &macs)?;
        }
        Ok(scope)
    }
}

impl Network {
    fn new(
        bridge: InterfaceName,
        logical_switch: &LogicalSwitch,
        state: &KernelState,
        config: &NodeConfig,
    ) -> Self {
        let rows = &logical_switch.macs;
        let mut uses = HashMap::new();
        for locator in &logical_switch.flood {
            uses.insert(*locator, 1);
        }
        // Neighbouring stations mostly sit behind the same far end: spares a look-up for each of them.
        let mut run: Option<(Locator, usize)> = None;
        for row in rows.values() {
            match &mut run {
                Some((locator, count)) if *locator == row.locator => *count += 1,
                _ => {
                    if let Some((locator, count)) = run.replace((row.locator, 1)) {
                        *uses.entry(locator).or_default() += count;
                    }
                }
            }
        }
        if let Some((locator, count)) = run {
            *uses.entry(locator).or_default() += count;
        }
        let suppressing = rows.values().filter(|row| counts_for_suppression(row));
        let held = state.bridges.get(&bridge);
        let mut network = Self {
            bridge,
            rows: rows.clone(),
            uses,
            suppressing: suppressing.count(),
            shared: BTreeMap::new(),
            is_whole: held.is_some_and(|held| held.pinned.len() == rows.len()),
        };
        if let Some(held) = held.filter(|_| network.suppressing > 0) {
            network.find_shared(&held.neighbours, config);
        }
        network
    }

    fn find_shared(&mut self, neighbours: &BTreeMap<IpAddr, MacAddress>, config: &NodeConfig) {
        let claims = || {
            let rows = self.rows.iter();
            rows.filter_map(|(mac, row)| Some((config.answered(row)?, *mac)))
        };
        if claims().count() == neighbours.len() {
            return;
        }
        let mut shared: BTreeMap<IpAddr, BTreeSet<MacAddress>> = BTreeMap::new();
        for (ip, mac) in claims() {
            if let Some(owner) = neighbours.get(&ip).filter(|owner| **owner != mac) {
                shared.entry(ip).or_default().extend([*owner, mac]);
            }
        }
        self.shared = shared;
    }
}

/// A patch in the making.
struct Patch<'a> {
    name: &'a LogicalSwitchName,
    network: &'a mut Network,
    state: &'a mut KernelState,
    config: &'a NodeConfig,
    scope: &'a mut Scope,
}

impl Patch<'_> {
    fn rows(
        &mut self,
        logical_switch: &LogicalSwitch,
        macs: &[MacAddress],
    ) -> Result<(), MoreThanEntries> {
        if !self.network.is_whole {
            return Err(MoreThanEntries);
        }
        let suppressed = self.network.suppressing > 0;
        let mut left = Vec::new();
        for mac in macs {
            let new = logical_switch.macs.get(mac).copied();
            let old = match new {
                Some(row) => self.network.rows.insert(*mac, row),
                None => self.network.rows.remove(mac),
            };
            if old == new {
                continue;
            }
            self.count(old, new)?;
            left.extend(old.map(|row| row.locator));
            self.station(*mac, old, new)?;
            if suppressed {
                self.neighbour(*mac, old, new);
            }
        }
        let unused = |locator: &Locator| !self.network.uses.contains_key(locator);
        if suppressed != (self.network.suppressing > 0) || left.iter().any(unused) {
            return Err(MoreThanEntries);
        }
        Ok(())
    }

    fn count(
        &mut self,
        old: Option<RemoteMac>,
        new: Option<RemoteMac>,
    ) -> Result<(), MoreThanEntries> {
        let Network {
            uses, suppressing, ..
        } = self.network;
        if let Some(row) = new {
            *suppressing += usize::from(counts_for_suppression(&row));
            *uses.get_mut(&row.locator).ok_or(MoreThanEntries)? += 1;
        }
        if let Some(row) = old {
            *suppressing -= usize::from(counts_for_suppression(&row));
            let count = uses.get_mut(&row.locator).ok_or(MoreThanEntries)?;
            *count -= 1;
            if *count == 0 {
                uses.remove(&row.locator);
            }
        }
        Ok(())
    }

    /// Where frames to a station go.
    fn station(
        &mut self,
        mac: MacAddress,
        old: Option<RemoteMac>,
        new: Option<RemoteMac>,
    ) -> Result<(), MoreThanEntries> {
        let KernelState {
            bridges, vxlans, ..
        } = &mut *self.state;
        let bridge = bridges
            .get_mut(&self.network.bridge)
            .ok_or(MoreThanEntries)?;
        let entries = self.scope.of_mut(self.network.bridge);
        entries.stations.insert(mac);
        let device = |row: &RemoteMac| match row.locator.tunnel_key {
            None => InterfaceName::inside(self.name),
            Some(key) => InterfaceName::wan(self.name, key),
        };
        let port = new.as_ref().map(device);
        if let Some(left) = old.as_ref().map(device).filter(|left| Some(*left) != port) {
            let vxlan = vxlans.get_mut(&left).ok_or(MoreThanEntries)?;
            vxlan.fdb.remove(&mac);
        }
        match (new, port) {
            (Some(row), Some(port)) => {
                if !mac.is_unicast() || !self.config.is_peer(row.locator.ip) {
                    return Err(MoreThanEntries);
                }
                let vxlan = vxlans.get_mut(&port).ok_or(MoreThanEntries)?;
                let to = destination(row.locator, vxlan);
                vxlan.fdb.insert(mac, to);
                bridge.pinned.insert(mac, Pinned { port, sticky: true });
            }
            _ => {
                bridge.pinned.remove(&mac);
            }
        }
        Ok(())
    }

    /// For what the bridge answers.
    fn neighbour(&mut self, mac: MacAddress, old: Option<RemoteMac>, new: Option<RemoteMac>) {
        let answered = |row: Option<RemoteMac>| row.and_then(|row| self.config.answered(&row));
        let (old, new) = (answered(old), answered(new));
        let Some(bridge) = self.state.bridges.get_mut(&self.network.bridge) else {
            return;
        };
        if old == new {
            return;
        }
        let (neighbours, shared) = (&mut bridge.neighbours, &mut self.network.shared);
        let entries = self.scope.of_mut(self.network.bridge);
        entries.neighbours.extend(old.into_iter().chain(new));
        if let Some(ip) = old {
            let others = shared.get_mut(&ip).map(|claims| {
                claims.remove(&mac);
                (claims.first().copied(), claims.len())
            });
            match others {
                Some((Some(owner), claims)) => {
                    neighbours.insert(ip, owner);
                    if claims < 2 {
                        shared.remove(&ip);
                    }
                }
                _ => drop(neighbours.remove(&ip)),
            }
        }
        if let Some(ip) = new {
            let owner = neighbours.entry(ip).or_insert(mac);
            if *owner != mac {
                shared.entry(ip).or_default().extend([*owner, mac]);
                *owner = mac.min(*owner);
            }
        }
    }
}
