//! What loop protection must know of the kernel: which ports belong to which network, what leads to the WAN, and which
//! stations flap.

use std::collections::{BTreeMap, BTreeSet};

use model::switch::LogicalSwitchName;
use model::value::VlanId;

use super::name::{InterfaceName, fingerprint};
use super::vlan::{Steering, VlanKind};
use super::{Kernel, reflex};
use crate::loops::{Ground, Port, Protected, Wire};

impl Kernel {
    /// The networks of these bridges as they were last seen.
    pub(crate) fn ground<'n>(
        &self,
        networks: impl Iterator<Item = (&'n LogicalSwitchName, InterfaceName)>,
    ) -> Ground {
        let mut ports: BTreeMap<InterfaceName, Vec<Port>> = BTreeMap::new();
        for (device, bridge) in self.known.ports() {
            if let Some(index) = self.indexes.index(device) {
                let port = Port {
                    index,
                    device,
                    label: self.known.label(device).into(),
                    is_cut: self.known.is_cut(device),
                    wire: self.wire(device).unwrap_or(Wire {
                        interface: index,
                        vlan: None,
                    }),
                };
                ports.entry(bridge).or_default().push(port);
            }
        }
        let mut wan: BTreeMap<InterfaceName, (Vec<u32>, bool)> = BTreeMap::new();
        let mut inside: BTreeMap<InterfaceName, Vec<u32>> = BTreeMap::new();
        for (name, vxlan) in &self.known.vxlans {
            let (Some(bridge), Some(index)) = (vxlan.port.bridge, self.indexes.index(*name)) else {
                continue;
            };
            if vxlan.is_wan() {
                let (devices, is_cut) = wan.entry(bridge).or_default();
                devices.push(index);
                *is_cut |= vxlan.port.cut;
            } else {
                inside.entry(bridge).or_default().push(index);
            }
        }
        let protected = networks.filter_map(|(name, bridge)| {
            let index = self.indexes.index(bridge)?;
            let (wan, is_cut) = wan.remove(&bridge).unwrap_or_default();
            let network = Protected {
                name: name.clone(),
                fingerprint: fingerprint(&[name.as_str().as_bytes()]),
                ports: ports.remove(&bridge).unwrap_or_default(),
                wan,
                inside: inside.remove(&bridge).unwrap_or_default(),
                is_cut,
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

    /// Cuts a port off its bridge, or a bridge off the WAN, before the next pass finds that it is to be done: with frames that
    /// go round, that may have a hundred thousand notifications before it.
    pub(crate) fn cut_at_once(&mut self, place: InterfaceName) {
        let wan = self.known.vxlans.iter();
        let wan = wan.filter(|(_, held)| held.is_wan() && held.port.bridge == Some(place));
        let devices: Vec<_> = match self.known.bridges.contains_key(&place) {
            true => wan.map(|(name, _)| *name).collect(),
            false => vec![place],
        };
        let numbers = devices.iter().filter_map(|name| self.indexes.index(*name));
        reflex::cut(&mut self.netlink, &numbers.collect::<Vec<_>>());
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

/// A station that moves back and forth between ports of a bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Flapping {
    pub(crate) bridge: InterfaceName,
    /// The last one of several physical ports that it was seen on.
    pub(crate) port: Option<InterfaceName>,
    /// The physical port that it was seen on, if that is the only one.
    pub(crate) alone: Option<InterfaceName>,
    /// In words.
    pub(crate) cause: String,
}
