//! Stations that a VXLAN device learnt and that have since moved: what it learnt leads to where they were.
//!
//! A device towards inside hosts learns which host a station is behind, and keeps that for minutes (its ageing). When a row
//! says that the station is elsewhere, or no longer does, that entry must go: it would swallow frames as soon as the
//! bridge sends them that way again. Learnt entries are in no [`KernelState`]: they are followed here by notifications
//! and looks, and those of stations whose row changed are removed after each plan.

use std::collections::{HashMap, HashSet};

use model::value::MacAddress;

use super::entries::FdbEntry;
use super::name::InterfaceName;
use super::state::KernelState;
use super::step::Step;

/// Stations remembered at most. Beyond that ageing has to do.
const MOST: usize = 200_000;

/// What VXLAN devices have learnt, by their numbers.
#[derive(Debug, Default)]
pub(crate) struct Strays {
    learnt: HashMap<u32, HashSet<MacAddress>>,
    count: usize,
}

impl Strays {
    /// Takes in an entry that was learnt, confirmed or forgotten.
    pub(crate) fn note(&mut self, entry: &FdbEntry, gone: bool) {
        let is_learnt = entry.learnt_tunnel().is_some();
        if is_learnt && !gone {
            if self.count < MOST
                && self
                    .learnt
                    .entry(entry.device)
                    .or_default()
                    .insert(entry.mac)
            {
                self.count += 1;
            }
        } else if entry.controller.is_none() {
            self.remove(entry.device, entry.mac);
        }
    }

    /// A device knows nothing of a station any more, or was told.
    pub(crate) fn remove(&mut self, device: u32, mac: MacAddress) {
        let learnt = self.learnt.get_mut(&device);
        if learnt.is_some_and(|learnt| learnt.remove(&mac)) {
            self.count -= 1;
        }
    }

    /// Forgets what some devices learnt, or all: it is looked at anew.
    pub(crate) fn forget(&mut self, device: Option<u32>) {
        match device {
            Some(device) => drop(self.learnt.remove(&device)),
            None => self.learnt.clear(),
        }
        self.count = self.learnt.values().map(HashSet::len).sum();
    }

    /// What is to be removed after these steps: device and station.
    pub(crate) fn of_moved(
        &self,
        steps: &[Step],
        state: &KernelState,
        index: impl Fn(InterfaceName) -> Option<u32>,
    ) -> Vec<(u32, MacAddress)> {
        if self.count == 0 {
            return Vec::new();
        }
        let mut learning: HashMap<InterfaceName, Vec<u32>> = HashMap::new();
        for (name, vxlan) in state.vxlans.iter().filter(|(_, held)| held.learning) {
            if let (Some(bridge), Some(device)) = (vxlan.port.bridge, index(*name)) {
                learning.entry(bridge).or_default().push(device);
            }
        }
        let moved = steps.iter().filter_map(|step| match step {
            Step::PutStation {
                port,
                mac,
                pin: true,
                ..
            }
            | Step::RemoveStation {
                port,
                mac,
                unpin: true,
                ..
            } => Some((state.bridge_of(*port)?, *mac)),
            _ => None,
        });
        let strays = moved.flat_map(|(bridge, mac)| {
            let devices = learning.get(&bridge).into_iter().flatten();
            let learnt = devices.filter(move |device| {
                let learnt = self.learnt.get(device);
                learnt.is_some_and(|learnt| learnt.contains(&mac))
            });
            learnt.map(move |device| (*device, mac))
        });
        strays.collect()
    }
}
