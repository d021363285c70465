//! What operators asked for, and what follows from it for one switch.
//!
//! [`Intent`] is the replica of the resources that matter to switches, fed row by row from the database. [`Intent::desired`]
//! turns it into the [`SwitchState`](crate::switch::SwitchState) that one hardware_vtep database should hold. Both are
//! pure: the same rows in any order give the same state.

mod desired;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use indexmap::IndexMap;
use serde::Deserialize;
use uuid::Uuid;

pub use self::desired::{Contested, Desired};
use crate::devices;
use crate::fault::Fault;
use crate::resource::Kind;
use crate::row::Row;
use crate::switch::{Locator, LogicalSwitchName, PhysicalPort, RemoteMac};
use crate::trail::Touch;
use crate::value::{MacAddress, VlanId, Vni};

/// The resources that matter to switches, by id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Intent {
    networks: BTreeMap<Uuid, Network>,
    ports: BTreeMap<Uuid, Port>,
    /// The ports by network and address; two never share both.
    stations: IndexMap<(Uuid, MacAddress), Uuid>,
    gateways: BTreeMap<Uuid, Gateway>,
    attachments: BTreeMap<Uuid, Attachment>,
    remote_gateways: BTreeMap<Uuid, RemoteGateway>,
    stretches: BTreeMap<Uuid, Stretch>,
    /// Where a remote MAC is kept: below its stretch, so that a state of 100,000 of them is built in key order. No
    /// `HashMap`: where as many go as come, its room doubles without need.
    remote_macs: IndexMap<Uuid, (Uuid, MacAddress)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Network {
    name: LogicalSwitchName,
    /// The key inside the cloud; none for a network that is not VXLAN.
    vni: Option<Vni>,
    /// The longest packets of its stations, in bytes.
    mtu: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Gateway {
    revision: u64,
    devices: Vec<Device>,
}

/// A physical switch of a gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Device {
    name: Arc<str>,
    /// Its ports, and the VLANs of each that names some.
    interfaces: Vec<(PhysicalPort, Vec<VlanId>)>,
}

/// A station inside the cloud.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Port {
    network: Uuid,
    mac: MacAddress,
    ip: Option<IpAddr>,
    /// Where its host ends its tunnels; none while nobody said.
    host: Option<Ipv4Addr>,
}

/// The far end of WAN tunnels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct RemoteGateway {
    revision: u64,
    ip: Ipv4Addr,
    /// Whether switches are to watch the tunnels to it.
    bfd: bool,
}

/// A network attached to a gateway: an l2_gateway_connection.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Attachment {
    revision: u64,
    gateway: Uuid,
    network: Uuid,
    /// The VLAN on interfaces that name none.
    vlan: VlanId,
}

/// A network stretched to a remote gateway: an l2_remote_gateway_connection and its MACs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Stretch {
    /// Absent while only its MACs have arrived.
    connection: Option<Connection>,
    macs: BTreeMap<MacAddress, Option<IpAddr>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Connection {
    revision: u64,
    gateway: Uuid,
    network: Uuid,
    remote_gateway: Uuid,
    tunnel_key: Vni,
    flood: bool,
}

/// What a remote resource needs switches to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    /// The physical switches of its gateway.
    pub devices: Vec<Arc<str>>,
    /// The network it is on.
    pub logical_switch: LogicalSwitchName,
    /// The network's own key.
    pub network_key: Option<Vni>,
    /// The tunnel that leads to it.
    pub locator: Locator,
    /// Whether the tunnel is flooded.
    pub flood: bool,
    /// Whether the tunnel is to be watched by BFD.
    pub bfd: bool,
    /// The remote gateway connection.
    pub connection: Uuid,
    /// The revision of the youngest of what this follows from: a look at the switches from before does not count.
    pub revision: u64,
}

/// How much is declared for a physical switch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Declared {
    /// Networks attached to it.
    pub networks: usize,
    /// Remote gateway connections over it.
    pub connections: usize,
    /// Remote MACs behind those.
    pub remote_macs: usize,
}

impl Port {
    /// Where the station is reached while its host ends its tunnels here.
    fn at(&self, host: Ipv4Addr) -> RemoteMac {
        RemoteMac {
            locator: Locator {
                ip: host,
                tunnel_key: None,
            },
            ip: self.ip,
        }
    }
}

impl Intent {
    /// Takes a row as it is now, and tells what switches may have to hold otherwise because of it.
    ///
    /// # Errors
    /// A structured value that the database keeps is not what validation let in; the row is not taken.
    pub fn put(&mut self, row: &Row) -> Result<Touch, Fault> {
        let id = row.id();
        match row.resource.kind {
            Kind::Network => {
                let vxlan = row.text("provider:network_type") == "vxlan";
                let network = Network {
                    name: LogicalSwitchName::new(id.to_string()),
                    vni: row.vni("provider:segmentation_id").filter(|_| vxlan),
                    mtu: row.integer("mtu").and_then(|mtu| u16::try_from(mtu).ok()),
                };
                self.networks.insert(id, network);
            }
            Kind::Port => {
                let (Some(network), Some(mac)) = (row.uuid("network_id"), row.mac("mac_address"))
                else {
                    return Err(incomplete(row));
                };
                let port = Port {
                    network,
                    mac,
                    ip: first_ip(row)?,
                    host: tunneling_ip(row)?,
                };
                self.forget_port(id);
                self.stations.insert((network, mac), id);
                self.ports.insert(id, port);
            }
            Kind::L2Gateway => {
                let gateway = Gateway {
                    revision: row.revision,
                    devices: devices_of(row)?,
                };
                self.gateways.insert(id, gateway);
            }
            Kind::L2GatewayConnection => {
                let (Some(gateway), Some(network)) =
                    (row.uuid("l2_gateway_id"), row.uuid("network_id"))
                else {
                    return Err(incomplete(row));
                };
                let vlan = row
                    .integer("segmentation_id")
                    .and_then(|vlan| u16::try_from(vlan).ok())
                    .and_then(VlanId::new)
                    .unwrap_or(VlanId::UNTAGGED);
                let attachment = Attachment {
                    revision: row.revision,
                    gateway,
                    network,
                    vlan,
                };
                self.attachments.insert(id, attachment);
            }
            Kind::L2RemoteGateway => {
                let ip = row.ipv4("ipaddr").ok_or_else(|| incomplete(row))?;
                let bfd = row.flag("bfd");
                let remote = RemoteGateway {
                    revision: row.revision,
                    ip,
                    bfd,
                };
                self.remote_gateways.insert(id, remote);
            }
            Kind::L2RemoteGatewayConnection => {
                let connection = (|| {
                    Some(Connection {
                        revision: row.revision,
                        gateway: row.uuid("l2_gateway_id")?,
                        network: row.uuid("network_id")?,
                        remote_gateway: row.uuid("l2_remote_gateway_id")?,
                        tunnel_key: row.vni("segmentation_id")?,
                        flood: row.flag("flood"),
                    })
                })();
                let connection = connection.ok_or_else(|| incomplete(row))?;
                self.stretches.entry(id).or_default().connection = Some(connection);
            }
            Kind::L2RemoteMac => {
                let (Some(connection), Some(mac)) = (row.uuid("rgw_connection"), row.mac("mac"))
                else {
                    return Err(incomplete(row));
                };
                self.remote_macs.insert(id, (connection, mac));
                let stretch = self.stretches.entry(connection).or_default();
                stretch.macs.insert(mac, row.ip("ipaddr"));
                return Ok(self.touched(connection, mac));
            }
        }
        Ok(Touch::Everything)
    }

    /// Forgets a resource and what the database deletes along with it, and tells what switches may have to hold otherwise
    /// because of it.
    pub fn remove(&mut self, kind: Kind, id: Uuid) -> Touch {
        match kind {
            Kind::Network => {
                self.networks.remove(&id);
                self.attachments.retain(|_, held| held.network != id);
            }
            Kind::Port => self.forget_port(id),
            Kind::L2Gateway => {
                self.gateways.remove(&id);
            }
            Kind::L2GatewayConnection => {
                self.attachments.remove(&id);
            }
            Kind::L2RemoteGateway => {
                self.remote_gateways.remove(&id);
            }
            Kind::L2RemoteGatewayConnection => {
                if self
                    .stretches
                    .remove(&id)
                    .is_some_and(|s| !s.macs.is_empty())
                {
                    self.remote_macs
                        .retain(|_, (connection, _)| *connection != id);
                }
            }
            Kind::L2RemoteMac => {
                let Some((connection, mac)) = self.remote_macs.swap_remove(&id) else {
                    return Touch::Nothing;
                };
                if let Some(stretch) = self.stretches.get_mut(&connection) {
                    stretch.macs.remove(&mac);
                }
                return self.touched(connection, mac);
            }
        }
        Touch::Everything
    }

    fn forget_port(&mut self, id: Uuid) {
        if let Some(port) = self.ports.remove(&id) {
            let station = (port.network, port.mac);
            // Two ports may have swapped their addresses, and the other one have been first.
            if self.stations.get(&station) == Some(&id) {
                self.stations.swap_remove(&station);
            }
        }
    }

    /// What a change of a remote MAC touches; nothing before its connection has arrived, which touches everything.
    fn touched(&self, connection: Uuid, mac: MacAddress) -> Touch {
        let connection = self.stretches.get(&connection);
        let connection = connection.and_then(|stretch| stretch.connection);
        let network = connection.and_then(|connection| self.name_of(connection.network));
        network.map_or(Touch::Nothing, |name| Touch::Mac((name.clone(), mac)))
    }

    /// Those of some physical switches that have a network attached to them.
    pub fn with_gateways(&self, mut switches: BTreeSet<Arc<str>>) -> BTreeSet<Arc<str>> {
        let attached = self.attachments.values();
        let gateways: BTreeSet<_> = attached.map(|attachment| attachment.gateway).collect();
        let devices = gateways.iter().filter_map(|id| self.gateways.get(id));
        let named: BTreeSet<_> = devices.flat_map(|g| &g.devices).map(|d| &d.name).collect();
        switches.retain(|name| named.contains(name));
        switches
    }

    /// Whether a gateway names this physical switch.
    pub fn names(&self, switch: &str) -> bool {
        let mut devices = self.gateways.values().flat_map(|gateway| &gateway.devices);
        devices.any(|device| *device.name == *switch)
    }

    /// What a remote gateway connection needs; nothing while something it refers to is missing.
    pub fn need(&self, connection: Uuid) -> Option<Need> {
        let found = self.stretches.get(&connection)?.connection?;
        let (name, locator) = self.reach(&found)?;
        let gateway = self.gateways.get(&found.gateway)?;
        let remote = self.remote_gateways.get(&found.remote_gateway)?;
        let devices = gateway.devices.iter();
        Some(Need {
            devices: devices.map(|device| device.name.clone()).collect(),
            logical_switch: name.clone(),
            network_key: self.networks.get(&found.network).and_then(|n| n.vni),
            locator,
            flood: found.flood,
            bfd: remote.bfd,
            connection,
            revision: found.revision.max(gateway.revision).max(remote.revision),
        })
    }

    /// How much is declared for a physical switch.
    pub fn declared(&self, switch: &str) -> Declared {
        let has = |gateway: &Uuid| {
            let gateway = self.gateways.get(gateway);
            gateway.is_some_and(|held| held.devices.iter().any(|d| *d.name == *switch))
        };
        let attached = self.attachments.values().filter(|held| has(&held.gateway));
        let networks: BTreeSet<_> = attached.map(|held| held.network).collect();
        let mut declared = Declared {
            networks: networks.len(),
            ..Declared::default()
        };
        for stretch in self.stretches.values() {
            if stretch.connection.is_some_and(|held| has(&held.gateway)) {
                declared.connections += 1;
                declared.remote_macs += stretch.macs.len();
            }
        }
        declared
    }

    /// Whether the gateway of a remote connection has a port.
    pub fn has_port(&self, connection: Uuid, port: &PhysicalPort) -> bool {
        let connection = self.stretches.get(&connection).and_then(|s| s.connection);
        let gateway = connection.and_then(|held| self.gateways.get(&held.gateway));
        let devices = gateway.map_or(&[][..], |gateway| &gateway.devices);
        let mut interfaces = devices.iter().flat_map(|device| &device.interfaces);
        interfaces.any(|(own, _)| own == port)
    }

    /// The connections to a remote gateway.
    pub fn connections_to(&self, remote_gateway: Uuid) -> impl Iterator<Item = Uuid> {
        self.stretches.iter().filter_map(move |(id, held)| {
            (held.connection?.remote_gateway == remote_gateway).then_some(*id)
        })
    }

    fn name_of(&self, network: Uuid) -> Option<&LogicalSwitchName> {
        self.networks.get(&network).map(|network| &network.name)
    }

    fn reach(&self, connection: &Connection) -> Option<(&LogicalSwitchName, Locator)> {
        let locator = Locator {
            ip: self.remote_gateways.get(&connection.remote_gateway)?.ip,
            tunnel_key: Some(connection.tunnel_key),
        };
        Some((self.name_of(connection.network)?, locator))
    }
}

fn devices_of(row: &Row) -> Result<Vec<Device>, Fault> {
    let devices = devices::parse(row.text("devices"))?.into_iter();
    Ok(devices
        .map(|device| {
            let name: Arc<str> = device.name.into();
            let interfaces = device.interfaces.into_iter().map(|interface| {
                let port = PhysicalPort {
                    switch: name.clone(),
                    name: interface.name.into(),
                };
                (port, interface.vlans)
            });
            Device {
                interfaces: interfaces.collect(),
                name: name.clone(),
            }
        })
        .collect())
}

/// A row of `Ucast_Macs_Remote` has room for one address: the first one answers.
fn first_ip(row: &Row) -> Result<Option<IpAddr>, Fault> {
    #[derive(Deserialize)]
    struct FixedIp {
        ip_address: IpAddr,
    }
    let ips: Vec<FixedIp> = json(row, "fixed_ips")?;
    Ok(ips.first().map(|ip| ip.ip_address))
}

/// Where the host of a port ends its tunnels (`binding:profile`); none while nobody said.
///
/// # Errors
/// The database keeps what validation did not let in.
pub fn tunneling_ip(row: &Row) -> Result<Option<Ipv4Addr>, Fault> {
    #[derive(Deserialize)]
    struct Profile {
        tunneling_ip: Option<Ipv4Addr>,
    }
    let profile: Profile = json(row, "binding:profile")?;
    Ok(profile.tunneling_ip)
}

fn json<'a, T: Deserialize<'a>>(row: &'a Row, attribute: &str) -> Result<T, Fault> {
    serde_json::from_str(row.text(attribute)).map_err(|error| {
        Fault::internal(format!(
            "{} {}: {attribute}: {error}",
            row.resource.noun,
            row.id()
        ))
    })
}

fn incomplete(row: &Row) -> Fault {
    Fault::internal(format!(
        "{} {} lacks an attribute that it must have",
        row.resource.noun,
        row.id()
    ))
}

#[cfg(test)]
mod tests;
