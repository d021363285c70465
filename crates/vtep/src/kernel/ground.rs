//! What loop protection must know of the kernel: which ports belong to which network, what leads to the WAN, and which
//! stations flap.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use model::switch::LogicalSwitchName;
use model::value::VlanId;

use super::name::{InterfaceName, fingerprint};
use super::vlan::{Steering, VlanKind};
use super::{Kernel, reflex};
use crate::loops::{Ground, Port, Protected, Wire};

impl Kernel {
    /// The networks of these bridges as they were last seen. What is `off`, bridges off the WAN and ports off their bridges, is
    /// cut or about to be.
    pub(crate) fn ground<'n>(
        &self,
        networks: impl Iterator<Item = (&'n LogicalSwitchName, InterfaceName)>,
        off: &BTreeSet<InterfaceName>,
    ) -> Ground {
        let mut ports: BTreeMap<InterfaceName, Vec<Port>> = BTreeMap::new();
        for (device, bridge) in self.known.ports() {
            if let Some(index) = self.indexes.index(device) {
                let port = Port {
                    index,
                    device,
                    label: self.known.label(device).into(),
                    is_cut: self.known.is_cut(device) || off.contains(&device),
                    wire: self.wire(device).unwrap_or(Wire {
                        interface: index,
                        vlan: None,
                    }),
                };
                ports.entry(bridge).or_default().push(port);
            }
        }
        let mut wan: BTreeMap<InterfaceName, Wan> = BTreeMap::new();
        let mut inside: BTreeMap<InterfaceName, Vec<u32>> = BTreeMap::new();
        for (name, vxlan) in &self.known.vxlans {
            let (Some(bridge), Some(index)) = (vxlan.port.bridge, self.indexes.index(*name)) else {
                continue;
            };
            if vxlan.is_wan() {
                let wan = wan.entry(bridge).or_default();
                wan.devices.push(index);
                wan.remotes.extend(vxlan.flood.iter().map(|to| to.ip));
                wan.is_cut |= vxlan.port.cut;
            } else {
                inside.entry(bridge).or_default().push(index);
            }
        }
        let protected = networks.filter_map(|(name, bridge)| {
            let index = self.indexes.index(bridge)?;
            let wan = wan.remove(&bridge).unwrap_or_default();
            let network = Protected {
                name: name.clone(),
                fingerprint: fingerprint(&[name.as_str().as_bytes()]),
                ports: ports.remove(&bridge).unwrap_or_default(),
                wan: wan.devices,
                remotes: wan.remotes,
                inside: inside.remove(&bridge).unwrap_or_default(),
                is_cut: wan.is_cut || off.contains(&bridge),
            };
            Some((index, network))
        });
        Ground {
            networks: protected.collect(),
        }
    }

    /// Where the frames of a VLAN's device leave the host.
    fn wire(&self, device: InterfaceName) -> Option<Wire> {
        let (port, vlan) = match self.known.vlans.get(&device)?.kind {
            VlanKind::Subinterface { of, vlan } => (of?, vlan),
            VlanKind::Inner { outer } => match self.known.vlans.get(&outer?)?.steering {
                Steering::Out { vlan, to } => (to, vlan.get()),
                _ => return None,
            },
            VlanKind::Outer { .. } => return None,
        };
        Some(Wire {
            interface: self.indexes.index(port)?,
            vlan: Some(vlan).filter(|vlan| *vlan != VlanId::UNTAGGED.get()),
        })
    }

    /// Cuts a port off its bridge before the next pass finds that it is to be done: with frames that go round, that may have a
    /// hundred thousand notifications before it.
    pub(crate) fn cut_at_once(&mut self, port: InterfaceName) {
        let number = self.indexes.index(port);
        reflex::cut(&mut self.netlink, number.as_slice());
        self.stale.links = true;
    }

    /// Stations found to flap since the last call.
    pub(crate) fn take_flaps(&mut self) -> Vec<Flapping> {
        let flaps = self.flaps.take().into_iter();
        let told = flaps.filter_map(|flap| {
            let bridge = self.indexes.name(flap.bridge)?;
            let devices = flap.ports.iter().map(|index| self.indexes.name(*index));
            let devices: Vec<_> = devices.collect();
            let label = |device: &Option<_>| match device {
                Some(device) => self.known.label(*device),
                None => "an interface that is gone".to_owned(),
            };
            let labels: Vec<_> = devices.iter().map(label).collect();
            let ours: BTreeSet<_> = self.known.ports().map(|(device, _)| device).collect();
            let ports = devices.into_iter().flatten();
            let mut ports: Vec<_> = ports.filter(|device| ours.contains(device)).collect();
            ports.sort_by_key(|device| (self.known.label(*device), *device));
            let last = ports.pop();
            Some(Flapping {
                bridge,
                number: flap.bridge,
                // One alone may be the way to a machine that somebody else has the address of, too.
                port: last.filter(|_| !ports.is_empty()),
                alone: last.filter(|_| ports.is_empty()),
                cause: format!(
                    "{} moves back and forth between {}: they are joined outside",
                    flap.mac,
                    labels.join(" and ")
                ),
            })
        });
        told.collect()
    }
}

/// A network's way to remote gateways.
#[derive(Default)]
struct Wan {
    devices: Vec<u32>,
    remotes: BTreeSet<Ipv4Addr>,
    is_cut: bool,
}

/// A station that moves back and forth between ports of a bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Flapping {
    pub(crate) bridge: InterfaceName,
    /// Of the bridge.
    pub(crate) number: u32,
    /// The last one of several physical ports that it was seen on.
    pub(crate) port: Option<InterfaceName>,
    /// The physical port that it was seen on, if that is the only one.
    pub(crate) alone: Option<InterfaceName>,
    /// In words.
    pub(crate) cause: String,
}
