//! What loop protection must know of the kernel: which ports belong to which network, and what leads to the WAN.

use std::collections::BTreeMap;

use model::switch::LogicalSwitchName;

use super::Kernel;
use super::name::{InterfaceName, fingerprint};
use crate::loops::{Ground, Port, Protected};

impl Kernel {
    /// The networks of these bridges as they were last seen.
    pub(crate) fn ground<'n>(
        &self,
        networks: impl Iterator<Item = (&'n LogicalSwitchName, InterfaceName)>,
    ) -> Ground {
        let mut ports: BTreeMap<InterfaceName, Vec<Port>> = BTreeMap::new();
        for (port, bridge) in self.known.ports() {
            if let Some(index) = self.indexes.index(port) {
                let label = self.known.label(port).into();
                ports.entry(bridge).or_default().push(Port { index, label });
            }
        }
        let mut wan: BTreeMap<InterfaceName, (Vec<u32>, bool)> = BTreeMap::new();
        for (name, vxlan) in self.known.vxlans.iter().filter(|(_, held)| held.is_wan()) {
            if let (Some(bridge), Some(index)) = (vxlan.port.bridge, self.indexes.index(*name)) {
                let (devices, is_cut) = wan.entry(bridge).or_default();
                devices.push(index);
                *is_cut |= vxlan.cut;
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
                is_cut,
            };
            Some((index, network))
        });
        Ground {
            networks: protected.collect(),
        }
    }

    /// Stations found to flap since the last call, in words, by the bridge.
    pub(crate) fn take_flaps(&mut self) -> Vec<(InterfaceName, String)> {
        let flaps = self.flaps.take().into_iter();
        let told = flaps.filter_map(|flap| {
            let bridge = self.indexes.name(flap.bridge)?;
            let label = |index| match self.indexes.name(index) {
                Some(name) => self.known.label(name),
                None => format!("interface {index}"),
            };
            let [one, other] = flap.ports.map(label);
            let cause = format!(
                "{} moves back and forth between {one} and {other}: they are joined outside",
                flap.mac
            );
            Some((bridge, cause))
        });
        told.collect()
    }
}
