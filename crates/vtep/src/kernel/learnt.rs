//! Stations the kernel learnt on physical ports.
//!
//! They are nobody's statement about what should be, so they are no part of a [`KernelState`]. What is learnt on the inside
//! is behind another tunnel end and not ours to tell of; on the WAN nothing is learnt.
//!
//! Notifications only say which bridges to look at: a station that moves to another port is told of at its new port alone,
//! and one that becomes a declared one is not told of as forgotten.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use model::value::MacAddress;

use super::entries::FdbEntry;
use super::message;
use super::name::InterfaceName;
use super::netlink::Netlink;
use super::observe::Indexes;
use super::state::KernelState;
use crate::loops::is_probe_source;

/// Learnt stations by bridge.
pub type Stations = BTreeMap<InterfaceName, BTreeSet<MacAddress>>;

/// What was learnt, and where to look again.
#[derive(Debug, Default)]
pub(crate) struct Learnt {
    stations: Stations,
    stale: BTreeSet<InterfaceName>,
    everywhere: bool,
}

impl Learnt {
    /// Makes the next look one at all bridges.
    pub(crate) fn doubt_everything(&mut self) {
        self.everywhere = true;
    }

    /// Makes the next look include a bridge.
    pub(crate) fn doubt(&mut self, bridge: InterfaceName) {
        self.stale.insert(bridge);
    }

    pub(crate) fn is_stale(&self) -> bool {
        self.everywhere || !self.stale.is_empty()
    }

    /// Looks where something may have changed, at the ports that `state` knows.
    pub(crate) fn look(
        &mut self,
        netlink: &mut Netlink,
        state: &KernelState,
        indexes: &Indexes,
    ) -> io::Result<&Stations> {
        let mut ports: BTreeMap<InterfaceName, Vec<InterfaceName>> = BTreeMap::new();
        for (name, bridge) in state.ports() {
            if state.bridges.contains_key(&bridge) {
                ports.entry(bridge).or_default().push(name);
            }
        }
        if self.everywhere {
            self.stale = ports.keys().copied().collect();
        }
        self.stations.retain(|bridge, _| ports.contains_key(bridge));
        // Forgotten only once all went well.
        for bridge in &self.stale {
            let mut stations = BTreeSet::new();
            for port in ports.get(bridge).into_iter().flatten() {
                let Some(index) = indexes.index(*port) else {
                    continue;
                };
                let entries = netlink.dump(&message::dump_fdb(Some(index)), FdbEntry::parse)?;
                let learnt = entries
                    .into_iter()
                    .filter(|entry| entry.device == index && entry.is_learnt())
                    // No station, but another gateway that looks for loops.
                    .filter(|entry| !is_probe_source(entry.mac));
                stations.extend(learnt.map(|entry| entry.mac));
            }
            if stations.is_empty() {
                self.stations.remove(bridge);
            } else {
                self.stations.insert(*bridge, stations);
            }
        }
        self.stale.clear();
        self.everywhere = false;
        Ok(&self.stations)
    }
}

/// A station the kernel learnt, for people to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LearntStation {
    /// The bridge that learnt it.
    pub bridge: InterfaceName,
    /// Its port.
    pub port: InterfaceName,
    /// Its address.
    pub mac: MacAddress,
    /// Since it was last heard.
    pub age: Duration,
    /// The inside host it is behind, if the port is a VXLAN device.
    pub host: Option<Ipv4Addr>,
}

/// Every learnt station of our bridges.
pub(crate) fn in_detail(
    netlink: &mut Netlink,
    state: &KernelState,
    indexes: &Indexes,
) -> io::Result<Vec<LearntStation>> {
    let entries = netlink.dump(&message::dump_fdb(None), FdbEntry::parse)?;
    let hosts: HashMap<(u32, MacAddress), Ipv4Addr> = entries
        .iter()
        .filter_map(|entry| Some(((entry.device, entry.mac), entry.learnt_tunnel()?)))
        .collect();
    let learnt = entries.iter().filter(|entry| entry.is_learnt());
    let learnt = learnt.filter(|entry| !is_probe_source(entry.mac));
    let stations = learnt.filter_map(|entry| {
        let bridge = indexes.name(entry.controller?)?;
        state.bridges.get(&bridge)?;
        Some(LearntStation {
            bridge,
            port: indexes.name(entry.device)?,
            mac: entry.mac,
            age: entry.age(),
            host: hosts.get(&(entry.device, entry.mac)).copied(),
        })
    });
    Ok(stations.collect())
}
