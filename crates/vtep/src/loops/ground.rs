//! What loop protection stands on: the networks and their ports as the last pass saw them, by the kernel's numbers.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

use model::switch::LogicalSwitchName;

use super::cuts::Place;
use super::probe::Leg;
use crate::kernel::name::InterfaceName;

/// What there is to protect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ground {
    /// By the number of the bridge.
    pub(crate) networks: BTreeMap<u32, Protected>,
}

/// A network as it is in the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Protected {
    pub(crate) name: LogicalSwitchName,
    /// What its probes call it.
    pub(crate) fingerprint: u64,
    pub(crate) ports: Vec<Port>,
    /// Numbers of the devices that lead to remote gateways.
    pub(crate) wan: Vec<u32>,
    /// The remote gateways that it floods to.
    pub(crate) remotes: BTreeSet<Ipv4Addr>,
    /// Numbers of the devices that lead to inside hosts.
    pub(crate) inside: Vec<u32>,
    /// Whether it is off the WAN.
    pub(crate) is_cut: bool,
}

/// A port frames are exchanged through with a segment that is not ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Port {
    /// The number of the interface in the bridge.
    pub(crate) index: u32,
    /// Its device, in the bridge.
    pub(crate) device: InterfaceName,
    /// What people call it.
    pub(crate) label: Arc<str>,
    /// Whether it is off the network.
    pub(crate) is_cut: bool,
    /// Where its frames leave the host.
    pub(crate) wire: Wire,
}

/// An interface's number, and the VLAN whose tag frames bear there, if any. To put a frame there is a fifth of the work it is
/// to send it through the devices that stand for the VLAN, and thousands of networks are probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wire {
    pub(crate) interface: u32,
    pub(crate) vlan: Option<u16>,
}

impl Ground {
    /// As it is once these places are cut, which no pass has seen yet.
    pub(crate) fn cut(&mut self, places: &[(Place, Vec<u32>)]) {
        for (place, _) in places {
            let of_it = |network: &&mut Protected| network.name == place.network;
            for network in self.networks.values_mut().filter(of_it) {
                match place.port {
                    None => network.is_cut = true,
                    Some(device) => {
                        let ports = network.ports.iter_mut();
                        for port in ports.filter(|port| port.device == device) {
                            port.is_cut = true;
                        }
                    }
                }
            }
        }
    }
}

impl Protected {
    /// What is off: a port, or the way to the WAN.
    pub(super) fn off(&self) -> impl Iterator<Item = Option<InterfaceName>> {
        let ports = self.ports.iter().filter(|port| port.is_cut);
        let wan = self.is_cut.then_some(None);
        wan.into_iter().chain(ports.map(|port| Some(port.device)))
    }

    /// Where a frame goes that is flooded on this leg.
    pub(super) fn wires(&self, leg: Leg) -> Vec<Wire> {
        let ports = self.ports.iter().filter(|port| !port.is_cut);
        let wan = self.wan.iter().filter(|_| !self.is_cut);
        match leg {
            Leg::Local => ports.map(|port| port.wire).collect(),
            Leg::Wan => wan
                .map(|device| Wire {
                    interface: *device,
                    vlan: None,
                })
                .collect(),
        }
    }

    pub(super) fn ports(&self) -> Vec<u32> {
        self.ports.iter().map(|port| port.index).collect()
    }

    /// Its way to the WAN.
    pub(super) fn place(&self) -> (Place, Vec<u32>) {
        let network = self.name.clone();
        let place = Place {
            network,
            port: None,
        };
        let devices = if self.is_cut { &[][..] } else { &self.wan };
        (place, devices.to_vec())
    }
}

impl Port {
    pub(super) fn place(&self, network: &Protected) -> (Place, Vec<u32>) {
        let network = network.name.clone();
        let place = Place {
            network,
            port: Some(self.device),
        };
        let device = (!self.is_cut).then_some(self.index);
        (place, device.into_iter().collect())
    }
}
