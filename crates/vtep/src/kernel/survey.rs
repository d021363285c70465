//! A look at everything that nobody waits for.
//!
//! To read a hundred thousand entries takes the kernel a second or more, and notifications tell of all changes but those that
//! somebody lost. So it is done beside the passes, by a thread and with a socket of its own, and what comes of it are doubts:
//! where it saw something else than is known, a pass looks again. What we changed meanwhile was seen as it was before, or
//! as it is now; neither is a reason to doubt.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io;
use std::net::IpAddr;

use model::value::MacAddress;

use super::name::InterfaceName;
use super::netlink::Netlink;
use super::netns::Underlays;
use super::observe::{self, Indexes};
use super::state::{Bridge, KernelState, Vxlan};
use super::step::Step;
use super::strays::Strays;
use super::{Kernel, entries, guard, look, sysctl, tc};

/// Takes one survey.
#[derive(Debug)]
pub struct Surveyor {
    given: BTreeSet<InterfaceName>,
    underlays: Underlays,
}

/// What of the kernel is the switch's, as it was some time between the beginning and the end of the look.
#[derive(Debug)]
pub struct Survey {
    state: KernelState,
    indexes: Indexes,
}

impl Surveyor {
    /// Looks at everything, in a thread of the switch's network namespace.
    ///
    /// # Errors
    /// The kernel can't be talked to.
    pub fn look(self) -> io::Result<Survey> {
        let netlink = &mut Netlink::open()?;
        let steering = tc::observe(netlink)?;
        let (mut state, indexes) = observe::links(netlink, &self.given, &steering)?;
        // Those that are known are followed by notifications.
        let strays = &mut Strays::default();
        entries::observe(netlink, &mut state, strays, &indexes, None)?;
        state.filters = look::filters(&self.underlays)?;
        state.guard = guard::observe()?;
        state.bridge_netfilter = sysctl::bridge_netfilter();
        Ok(Survey { state, indexes })
    }
}

/// What was changed by us since a survey began.
#[derive(Debug, Default)]
pub(super) struct Touched {
    /// Stations by bridge.
    stations: HashSet<(InterfaceName, MacAddress)>,
    neighbours: HashSet<(InterfaceName, IpAddr)>,
    /// Devices of which more was changed.
    devices: HashSet<InterfaceName>,
}

impl Touched {
    /// Takes in what is about to be changed.
    pub(super) fn note(&mut self, steps: &[Step], state: &KernelState) {
        for step in steps {
            match step {
                Step::PutStation { port, mac, .. } | Step::RemoveStation { port, mac, .. } => {
                    match state.bridge_of(*port) {
                        Some(bridge) => drop(self.stations.insert((bridge, *mac))),
                        None => drop(self.devices.insert(*port)),
                    }
                }
                Step::PutNeighbour { bridge, ip, .. } | Step::RemoveNeighbour { bridge, ip } => {
                    self.neighbours.insert((*bridge, *ip));
                }
                step => self.devices.extend(step.interface()),
            }
        }
    }
}

impl Kernel {
    /// Begins a survey; [`Self::compare`] ends it.
    pub fn surveyor(&mut self) -> Surveyor {
        self.touched = Some(Touched::default());
        Surveyor {
            given: self.given.clone(),
            underlays: self.underlays.clone(),
        }
    }

    /// Makes the next call look again wherever the survey that was begun last saw something else than is known.
    pub fn compare(&mut self, survey: &mut Survey) {
        let Survey { state, indexes } = survey;
        let touched = self.touched.take().unwrap_or_default();
        // Whether we cut them does not show.
        for name in &indexes.dark {
            if let (Some(seen), Some(known)) = (state.port_mut(*name), self.known.port_mut(*name)) {
                seen.cut = known.cut;
            }
        }
        self.stale.links |= !have_same_links(&self.known, state)
            || !indexes.are_same(&self.indexes)
            || state.bridge_netfilter != self.known.bridge_netfilter;
        // They are told apart by the devices there are.
        self.stale.steering |=
            state.vlans != self.known.vlans || state.interfaces != self.known.interfaces;
        self.stale.filter |= state.filters != self.known.filters || state.guard != self.known.guard;
        self.compare_entries(state, &touched);
        self.learnt.doubt_everything();
    }

    fn compare_entries(&mut self, seen: &KernelState, touched: &Touched) {
        for (name, seen) in &seen.bridges {
            let Some(known) = self.known.bridges.get(name) else {
                continue;
            };
            let station = |mac: &MacAddress| touched.stations.contains(&(*name, *mac));
            let neighbour = |ip: &IpAddr| touched.neighbours.contains(&(*name, *ip));
            if !touched.devices.contains(name)
                && (differ(&known.pinned, &seen.pinned, station)
                    || differ(&known.neighbours, &seen.neighbours, neighbour))
            {
                self.stale.bridges.insert(*name);
            }
        }
        for (name, seen) in &seen.vxlans {
            let Some(known) = self.known.vxlans.get(name) else {
                continue;
            };
            let bridge = known.port.bridge;
            let station = |mac: &MacAddress| {
                bridge.is_some_and(|bridge| touched.stations.contains(&(bridge, *mac)))
            };
            if !touched.devices.contains(name)
                && (known.flood != seen.flood || differ(&known.fdb, &seen.fdb, station))
            {
                match bridge {
                    Some(bridge) => drop(self.stale.bridges.insert(bridge)),
                    None => self.stale.entries = true,
                }
            }
        }
    }
}

/// Whether two states have the same devices, whatever entries these have.
fn have_same_links(one: &KernelState, other: &KernelState) -> bool {
    let bridge = |one: &Bridge, other: &Bridge| {
        (one.up, one.host, &one.link, &one.settings)
            == (other.up, other.host, &other.link, &other.settings)
    };
    let vxlan = |one: &Vxlan, other: &Vxlan| {
        (one.up, one.host, one.port) == (other.up, other.host, other.port)
            && one.shape() == other.shape()
    };
    are_alike(&one.bridges, &other.bridges, bridge)
        && are_alike(&one.vxlans, &other.vxlans, vxlan)
        && one.vlans == other.vlans
        && one.interfaces == other.interfaces
}

fn are_alike<T>(
    one: &BTreeMap<InterfaceName, T>,
    other: &BTreeMap<InterfaceName, T>,
    alike: impl Fn(&T, &T) -> bool,
) -> bool {
    let mut pairs = one.iter().zip(other);
    one.len() == other.len() && pairs.all(|((a, one), (b, other))| a == b && alike(one, other))
}

/// Whether two tables differ in more than what was changed meanwhile. One walk along both: they have a hundred thousand entries.
fn differ<K: Ord, V: PartialEq>(
    known: &BTreeMap<K, V>,
    seen: &BTreeMap<K, V>,
    changed: impl Fn(&K) -> bool,
) -> bool {
    let (mut known, mut seen) = (known.iter().peekable(), seen.iter().peekable());
    loop {
        let key = match (known.peek(), seen.peek()) {
            (None, None) => return false,
            (Some((key, _)), None) | (None, Some((key, _))) => *key,
            (Some((a, _)), Some((b, _))) => *a.min(b),
        };
        let held = known.next_if(|(other, _)| *other == key);
        let found = seen.next_if(|(other, _)| *other == key);
        if held.map(|(_, value)| value) != found.map(|(_, value)| value) && !changed(key) {
            return true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_differ_where_nobody_changed_them() {
        let table = |entries: &[(u8, u8)]| entries.iter().copied().collect::<BTreeMap<_, _>>();
        let known = table(&[(1, 1), (3, 3), (5, 5)]);
        let nothing = |_: &u8| false;
        assert!(!differ(&known, &known, nothing));
        for seen in [
            table(&[(1, 1), (3, 3)]),
            table(&[(1, 1), (3, 4), (5, 5)]),
            table(&[(1, 1), (2, 2), (3, 3), (5, 5)]),
            table(&[(1, 1), (3, 3), (5, 5), (7, 7)]),
            table(&[]),
        ] {
            assert!(differ(&known, &seen, nothing), "{seen:?}");
            let changed = |key: &u8| known.get(key) != seen.get(key);
            assert!(!differ(&known, &seen, changed), "{seen:?}");
        }
    }
}
