//! What one hardware_vtep database should hold of the intent, whole or one MAC at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

use uuid::Uuid;

use super::{Attachment, Intent};
use crate::devices;
use crate::switch::{Locator, LogicalSwitchName, PortVlan, RemoteMac, SwitchState};
use crate::trail::MacKey;

/// What one switch should hold, and what had to give way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    /// The state.
    pub state: SwitchState,
    /// Resources (by id) that two declarations claim differently on this switch: the older one is in the state, the
    /// younger one is here with the reason.
    pub conflicts: BTreeMap<Uuid, String>,
    /// The remote ends of tunnels, and whether the switch is to watch them by BFD.
    pub bfd: BTreeMap<Ipv4Addr, bool>,
    /// The remote gateway connections that each network's MACs come from, the oldest first.
    sources: BTreeMap<LogicalSwitchName, Vec<Source>>,
}

/// Where remote MACs of a network come from: a remote gateway connection and the tunnel to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Source {
    connection: Uuid,
    locator: Locator,
}

/// Two declarations compete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contested;

impl Intent {
    /// What the database of these physical switches should hold.
    pub fn desired(&self, switches: &BTreeSet<Arc<str>>) -> Desired {
        let mut desired = Desired::default();
        // Oldest first, so that an older declaration wins over a younger one wherever the two claim the same thing.
        for (id, attachment) in by_age(&self.attachments, |held| held.revision) {
            self.attach(switches, id, attachment, &mut desired);
        }
        for port in self.ports.values() {
            let Some((name, host)) = self.name_of(port.network).zip(port.host) else {
                continue;
            };
            if let Some(held) = desired.state.logical_switches.get_mut(name) {
                let remote = port.at(host);
                held.flood.insert(remote.locator);
                held.macs.insert(port.mac, remote);
            }
        }
        let stretches = self
            .stretches
            .iter()
            .filter_map(|(id, held)| Some((*id, held.connection?, &held.macs)));
        let mut stretches: Vec<_> = stretches.collect();
        stretches.sort_by_key(|(id, connection, _)| (connection.revision, *id));
        for (id, connection, macs) in stretches {
            let Some((name, locator)) = self.reach(&connection) else {
                continue;
            };
            if !self.is_on(switches, connection.gateway) {
                continue;
            }
            let Some(held) = desired.state.logical_switches.get_mut(name) else {
                continue;
            };
            if connection.flood {
                held.flood.insert(locator);
            }
            if let Some(remote) = self.remote_gateways.get(&connection.remote_gateway) {
                // Two remote gateways of one address are one tunnel.
                *desired.bfd.entry(remote.ip).or_default() |= remote.bfd;
            }
            let sources = desired.sources.entry(name.clone()).or_default();
            let first = sources.is_empty();
            sources.push(Source {
                connection: id,
                locator,
            });
            let remotes = macs
                .iter()
                .map(|(mac, ip)| (*mac, RemoteMac { locator, ip: *ip }));
            // Nothing to give way to, and in order: a hundred thousand are built at once.
            if held.macs.is_empty() {
                held.macs = remotes.collect();
                continue;
            }
            // Of two connections of a network on the same switch that declare a MAC the second gives way.
            for (mac, remote) in remotes {
                // A MAC that is also a port's goes to the remote gateway: what is declared remote wins, so that an
                // orchestrator can announce a move before the catalogue follows.
                let taken = held
                    .macs
                    .get(&mac)
                    .is_some_and(|other| !first && other.locator.tunnel_key.is_some());
                if taken {
                    desired
                        .conflicts
                        .entry(id)
                        .or_insert_with(|| format!("remote MAC {mac} is also declared by an older connection of this network on the same switch"));
                } else {
                    held.macs.insert(mac, remote);
                }
            }
        }
        desired
    }

    /// What `desired` would say of one MAC if it were made anew, where nothing but remote MACs has changed since it was made.
    ///
    /// # Errors
    /// More than one connection declares the MAC, or the network has conflicts: who gives way is seen from everything.
    pub fn desired_mac(
        &self,
        desired: &Desired,
        key: &MacKey,
    ) -> Result<Option<RemoteMac>, Contested> {
        let (name, mac) = key;
        let sources = desired.sources.get(name).map_or(&[][..], Vec::as_slice);
        let mut declared = None;
        for source in sources {
            if desired.conflicts.contains_key(&source.connection) {
                return Err(Contested);
            }
            let stretch = self.stretches.get(&source.connection);
            let Some(ip) = stretch.and_then(|stretch| stretch.macs.get(mac)) else {
                continue;
            };
            if declared.is_some() {
                return Err(Contested);
            }
            declared = Some(RemoteMac {
                locator: source.locator,
                ip: *ip,
            });
        }
        Ok(declared.or_else(|| {
            let network = name.as_str().parse().ok()?;
            let port = self.ports.get(self.stations.get(&(network, *mac))?)?;
            Some(port.at(port.host?))
        }))
    }

    fn attach(
        &self,
        switches: &BTreeSet<Arc<str>>,
        id: Uuid,
        attachment: &Attachment,
        desired: &mut Desired,
    ) {
        let Some(network) = self.networks.get(&attachment.network) else {
            return;
        };
        let Some(vni) = network.vni else {
            let reason = format!("network {} is not a VXLAN network", network.name);
            desired.conflicts.insert(id, reason);
            return;
        };
        let gateway = self.gateways.get(&attachment.gateway);
        let devices = gateway.map_or(&[][..], |gateway| &gateway.devices);
        for device in devices
            .iter()
            .filter(|device| switches.contains(&device.name))
        {
            let held = desired
                .state
                .logical_switches
                .entry(network.name.clone())
                .or_default();
            held.owned = true;
            held.tunnel_key = Some(vni);
            held.mtu = network.mtu;
            for (port, vlans) in &device.interfaces {
                for vlan in devices::bound(vlans, attachment.vlan) {
                    let port_vlan = PortVlan {
                        port: port.clone(),
                        vlan,
                    };
                    let bound = desired
                        .state
                        .bindings
                        .entry(port_vlan)
                        .or_insert_with(|| network.name.clone());
                    if *bound != network.name {
                        let reason = format!("{port} vlan {vlan} already carries network {bound}");
                        desired.conflicts.insert(id, reason);
                    }
                }
            }
        }
    }

    fn is_on(&self, switches: &BTreeSet<Arc<str>>, gateway: Uuid) -> bool {
        self.gateways
            .get(&gateway)
            .is_some_and(|held| held.devices.iter().any(|d| switches.contains(&d.name)))
    }
}

fn by_age<V>(
    held: &BTreeMap<Uuid, V>,
    revision: impl Fn(&V) -> u64,
) -> impl Iterator<Item = (Uuid, &V)> {
    let mut sorted: Vec<_> = held.iter().map(|(id, value)| (*id, value)).collect();
    sorted.sort_by_key(|(id, value)| (revision(value), *id));
    sorted.into_iter()
}
