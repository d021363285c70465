//! Looks at what is in doubt, and takes the rest of the known state over as it is.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use super::doubts::Stale;
use super::name::InterfaceName;
use super::netns::Underlays;
use super::observe::{self, Indexes};
use super::state::{Filter, KernelState};
use super::underlay::Underlay;
use super::{Kernel, entries, filter, guard, sysctl, tc};

/// From this many bridges on, looking at all of them is cheaper than at each.
const LOOK_AT_ALL: usize = 16;

impl Kernel {
    /// Looks at what may have changed since the last look; whether there was any such thing.
    pub(super) fn catch_up(&mut self) -> io::Result<bool> {
        self.take_in()?;
        let stale = std::mem::take(&mut self.stale);
        let any = stale.is_anything();
        // Half a look is none.
        self.look(stale)
            .inspect_err(|_| self.stale = Stale::everything())?;
        Ok(any)
    }

    fn look(&mut self, stale: Stale) -> io::Result<()> {
        let mut everywhere = stale.entries;
        let mut bridges = stale.bridges;
        if stale.steering {
            self.steering = tc::observe(&mut self.netlink)?;
        }
        if stale.links || stale.steering {
            self.learnt.doubt_everything();
            let (seen, indexes) = observe::links(&mut self.netlink, &self.given, &self.steering)?;
            let mut old = std::mem::replace(&mut self.known, seen);
            let old_indexes = std::mem::replace(&mut self.indexes, indexes);
            // Whether we cut them does not show, and makes no difference until they have a carrier.
            for name in &self.indexes.dark {
                if let (Some(port), Some(old)) = (self.known.port_mut(*name), old.port_mut(*name)) {
                    port.cut = old.cut;
                }
            }
            self.known.filters = old.filters.clone();
            self.known.guard = old.guard.clone();
            self.known.bridge_netfilter = sysctl::bridge_netfilter();
            if !everywhere {
                everywhere = !self.carry_over(old, &old_indexes, &mut bridges);
            }
        }
        bridges.retain(|bridge| self.known.bridges.contains_key(bridge));
        if everywhere || bridges.len() >= LOOK_AT_ALL {
            self.look_at_entries(None)?;
        } else {
            for bridge in bridges {
                self.look_at_entries(Some(bridge))?;
            }
        }
        if stale.filter {
            self.known.filters = filters(&self.underlays)?;
            self.known.guard = guard::observe()?;
        }
        Ok(())
    }

    fn look_at_entries(&mut self, only: Option<InterfaceName>) -> io::Result<()> {
        let (netlink, strays) = (&mut self.netlink, &mut self.strays);
        entries::observe(netlink, &mut self.known, strays, &self.indexes, only)
    }

    /// Takes the entries of devices that are still the same from the last look; the bridges of others are to be looked at.
    /// Says whether that suffices.
    fn carry_over(
        &mut self,
        mut old: KernelState,
        old_indexes: &Indexes,
        changed: &mut BTreeSet<InterfaceName>,
    ) -> bool {
        let indexes = &self.indexes;
        let same = |name: InterfaceName| indexes.index(name) == old_indexes.index(name);
        for (name, bridge) in &mut self.known.bridges {
            match old.bridges.remove(name).filter(|_| same(*name)) {
                // A bridge that went down and up again has lost its neighbours.
                Some(old) if old.up && bridge.up => {
                    bridge.pinned = old.pinned;
                    bridge.neighbours = old.neighbours;
                }
                _ => {
                    changed.insert(*name);
                }
            }
        }
        for (name, vxlan) in &mut self.known.vxlans {
            let place = vxlan.port.bridge;
            match old.vxlans.remove(name).filter(|_| same(*name)) {
                Some(old) if old.port.bridge == place => {
                    vxlan.fdb = old.fdb;
                    vxlan.flood = old.flood;
                }
                // In no bridge it is in no bridge's look.
                _ if place.is_none() => return false,
                old => {
                    changed.extend(place);
                    changed.extend(old.and_then(|old| old.port.bridge));
                }
            }
        }
        // Pins of a device that is gone went with it.
        let gone: Vec<_> = old.vxlans.into_values().collect();
        changed.extend(gone.into_iter().filter_map(|vxlan| vxlan.port.bridge));
        true
    }
}

/// The packet filters there are, by underlay.
pub(super) fn filters(underlays: &Underlays) -> io::Result<BTreeMap<Underlay, Filter>> {
    let look = |underlay| {
        let seen = underlays.at(underlay, filter::observe).transpose()?;
        Some((underlay, seen))
    };
    let seen = underlays.all().filter_map(look);
    seen.map(|(underlay, filter)| Ok((underlay, filter?)))
        .collect()
}
