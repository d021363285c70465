//! A model of the API, as simple as can be: lists of what was created and not deleted, and what a switch should hold of
//! them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

/// Where a tunnel leads, and its key, if it has one of its own.
pub(crate) type Tunnel = (Ipv4Addr, Option<u32>);

/// What a switch holds of one network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) key: u32,
    pub(crate) flood: BTreeSet<Tunnel>,
    pub(crate) macs: BTreeMap<u64, (Tunnel, Option<IpAddr>)>,
    /// Names of ports, and VLANs.
    pub(crate) bindings: BTreeSet<(String, u16)>,
}

pub(crate) struct Network {
    pub(crate) id: String,
    pub(crate) key: u32,
}

pub(crate) struct Port {
    pub(crate) id: String,
    pub(crate) network: String,
    pub(crate) mac: u64,
    pub(crate) ip: Ipv4Addr,
    pub(crate) host: Ipv4Addr,
}

pub(crate) struct Gateway {
    pub(crate) id: String,
    pub(crate) ports: Vec<String>,
}

pub(crate) struct Attachment {
    pub(crate) id: String,
    pub(crate) gateway: String,
    pub(crate) network: String,
    pub(crate) vlan: u16,
}

pub(crate) struct Remote {
    pub(crate) id: String,
    pub(crate) ip: Ipv4Addr,
}

pub(crate) struct Connection {
    pub(crate) id: String,
    pub(crate) network: String,
    pub(crate) remote: String,
    pub(crate) key: u32,
    pub(crate) flood: bool,
}

pub(crate) struct RemoteMac {
    pub(crate) id: String,
    pub(crate) connection: String,
    pub(crate) mac: u64,
    pub(crate) ip: Option<IpAddr>,
}

/// Each list in the order of creation.
#[derive(Default)]
pub(crate) struct Model {
    pub(crate) networks: Vec<Network>,
    pub(crate) ports: Vec<Port>,
    pub(crate) gateways: Vec<Gateway>,
    pub(crate) attachments: Vec<Attachment>,
    pub(crate) remotes: Vec<Remote>,
    pub(crate) connections: Vec<Connection>,
    pub(crate) macs: Vec<RemoteMac>,
}

impl Model {
    /// What the switch should hold, by network.
    pub(crate) fn expected(&self) -> BTreeMap<String, Held> {
        let mut expected: BTreeMap<String, Held> = BTreeMap::new();
        for attachment in &self.attachments {
            let of = |id: &String| self.networks.iter().find(|network| network.id == *id);
            let held = expected.entry(attachment.network.clone()).or_default();
            held.key = of(&attachment.network).unwrap().key;
            let gateway = self.gateways.iter().find(|g| g.id == attachment.gateway);
            for port in &gateway.unwrap().ports {
                held.bindings.insert((port.clone(), attachment.vlan));
            }
        }
        for port in &self.ports {
            if let Some(held) = expected.get_mut(&port.network) {
                let tunnel = (port.host, None);
                held.flood.insert(tunnel);
                held.macs.insert(port.mac, (tunnel, Some(port.ip.into())));
            }
        }
        for connection in &self.connections {
            let held = expected.get_mut(&connection.network).unwrap();
            let remote = self.remotes.iter().find(|r| r.id == connection.remote);
            let tunnel = (remote.unwrap().ip, Some(connection.key));
            if connection.flood {
                held.flood.insert(tunnel);
            }
            for mac in self.macs.iter().filter(|m| m.connection == connection.id) {
                // What is declared remote wins over a port, and the older connection over the younger.
                let port = held.macs.get(&mac.mac).is_none_or(|(to, _)| to.1.is_none());
                if port {
                    held.macs.insert(mac.mac, (tunnel, mac.ip));
                }
            }
        }
        expected
    }

    /// The connections that a MAC of theirs is lost to an older one of the same network.
    pub(crate) fn conflicts(&self) -> BTreeSet<&str> {
        let mut taken = BTreeSet::new();
        let mut conflicts = BTreeSet::new();
        for connection in &self.connections {
            for mac in self.macs.iter().filter(|m| m.connection == connection.id) {
                if !taken.insert((&connection.network, mac.mac)) {
                    conflicts.insert(connection.id.as_str());
                }
            }
        }
        conflicts
    }

    pub(crate) fn delete_network(&mut self, id: &str) {
        self.networks.retain(|network| network.id != id);
        self.ports.retain(|port| port.network != id);
        self.attachments
            .retain(|attachment| attachment.network != id);
    }

    pub(crate) fn disconnect(&mut self, id: &str) {
        self.connections.retain(|connection| connection.id != id);
        self.macs.retain(|mac| mac.connection != id);
    }
}
