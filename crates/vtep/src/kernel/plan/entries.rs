//! Steps for entries: stations on VXLAN devices and bridges, and the addresses bridges answer for.
//!
//! A station has an entry in the VXLAN device's forwarding database (where its frames go) and one in the bridge's (its
//! pin: which port it is behind). Most often both change at once, and then one message does both: the bridge's walk
//! notes what is to be pinned and unpinned, the device's walk claims it, and [`Planner::remaining_pins`] does the rest.

use std::collections::{BTreeMap, BTreeSet};

use model::value::MacAddress;

use super::Planner;
use crate::kernel::name::InterfaceName;
use crate::kernel::scope::Entries;
use crate::kernel::state::{Bridge, Pinned, Vxlan};
use crate::kernel::step::Step;

/// Stations of one bridge to pin to a port, and to unpin from one.
#[derive(Default)]
pub(super) struct Pins {
    put: BTreeMap<MacAddress, InterfaceName>,
    remove: BTreeMap<MacAddress, InterfaceName>,
}

impl Planner<'_> {
    /// A bridge's entries: all, or those that are named.
    pub(super) fn bridge_entries(
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

    /// A VXLAN device's stations: all, or those that are named.
    pub(super) fn stations(
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

    /// Pins whose other half is right already.
    pub(super) fn remaining_pins(&mut self) {
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
