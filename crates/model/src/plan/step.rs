//! What can be done to a switch, and what becomes of a state by it.

use std::collections::BTreeSet;

use crate::switch::{
    Locator, LogicalSwitch, LogicalSwitchName, PortVlan, RemoteMac, Surplus, SwitchState,
};
use crate::value::{MacAddress, Vni};

/// One change to a switch. Each is idempotent and names everything it needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Insert a logical switch, marked ours.
    CreateLogicalSwitch {
        /// Its name.
        name: LogicalSwitchName,
        /// Its key towards inside hosts.
        tunnel_key: Option<Vni>,
        /// The longest packets of its stations, in bytes.
        mtu: Option<u16>,
    },
    /// Mark a logical switch that somebody else left under our network's name as ours.
    AdoptLogicalSwitch {
        /// Its name.
        name: LogicalSwitchName,
    },
    /// Change the key towards inside hosts.
    RekeyLogicalSwitch {
        /// Its name.
        name: LogicalSwitchName,
        /// The key it has.
        was: Option<Vni>,
        /// The key it should have.
        tunnel_key: Option<Vni>,
    },
    /// Change what is said of the longest packets of its stations.
    SetMtu {
        /// Its name.
        name: LogicalSwitchName,
        /// What is said, in bytes.
        was: Option<u16>,
        /// What should be.
        mtu: Option<u16>,
    },
    /// Insert or replace a remote MAC.
    PutMac {
        /// The logical switch it is on.
        logical_switch: LogicalSwitchName,
        /// The address.
        mac: MacAddress,
        /// What the switch holds for it.
        was: Option<RemoteMac>,
        /// What it should hold.
        remote: RemoteMac,
    },
    /// Set the whole list of flood destinations; an empty one removes the row.
    SetFlood {
        /// The logical switch it is for.
        logical_switch: LogicalSwitchName,
        /// What the switch holds.
        was: BTreeSet<Locator>,
        /// What it should hold.
        locators: BTreeSet<Locator>,
    },
    /// Bind a VLAN of a port to a logical switch, replacing a binding of ours.
    Bind {
        /// The port and VLAN.
        port_vlan: PortVlan,
        /// What it is bound to.
        was: Option<LogicalSwitchName>,
        /// What it should be bound to.
        logical_switch: LogicalSwitchName,
    },
    /// Remove a binding of ours.
    Unbind {
        /// The port and VLAN.
        port_vlan: PortVlan,
        /// What it is bound to.
        was: LogicalSwitchName,
    },
    /// Remove a remote MAC.
    RemoveMac {
        /// The logical switch it is on.
        logical_switch: LogicalSwitchName,
        /// The address.
        mac: MacAddress,
        /// What the switch holds for it.
        was: RemoteMac,
    },
    /// Remove rows that no state has.
    RemoveSurplus(
        /// Which.
        Surplus,
    ),
    /// Delete a logical switch of ours with all its MAC rows, the switch's own included.
    DeleteLogicalSwitch {
        /// Its name.
        name: LogicalSwitchName,
    },
}

impl Step {
    /// Whether the step leaves everything that the switch holds where it is.
    pub fn only_adds(&self) -> bool {
        match self {
            Self::CreateLogicalSwitch { .. } => true,
            Self::PutMac { was, .. } => was.is_none(),
            Self::SetFlood { was, locators, .. } => was.is_subset(locators),
            Self::Bind { was, .. } => was.is_none(),
            // What is adopted is changed: from then on it is ours to remove.
            Self::AdoptLogicalSwitch { .. }
            | Self::RekeyLogicalSwitch { .. }
            | Self::SetMtu { .. }
            | Self::Unbind { .. }
            | Self::RemoveMac { .. }
            | Self::RemoveSurplus(_)
            | Self::DeleteLogicalSwitch { .. } => false,
        }
    }

    /// Whether the step only takes something away.
    pub fn only_removes(&self) -> bool {
        match self {
            Self::Unbind { .. }
            | Self::RemoveMac { .. }
            | Self::RemoveSurplus(_)
            | Self::DeleteLogicalSwitch { .. } => true,
            Self::SetFlood { was, locators, .. } => locators.is_subset(was),
            Self::CreateLogicalSwitch { .. }
            | Self::AdoptLogicalSwitch { .. }
            | Self::RekeyLogicalSwitch { .. }
            | Self::SetMtu { .. }
            | Self::PutMac { .. }
            | Self::Bind { .. } => false,
        }
    }

    /// The other logical switch that the step takes something from.
    pub fn displaces(&self) -> Option<&LogicalSwitchName> {
        match self {
            Self::Bind { was, .. } => was.as_ref(),
            _ => None,
        }
    }

    /// The logical switch that the step is about.
    pub fn logical_switch(&self) -> &LogicalSwitchName {
        match self {
            Self::CreateLogicalSwitch { name, .. }
            | Self::AdoptLogicalSwitch { name }
            | Self::RekeyLogicalSwitch { name, .. }
            | Self::SetMtu { name, .. }
            | Self::DeleteLogicalSwitch { name } => name,
            Self::RemoveSurplus(surplus) => surplus.logical_switch(),
            Self::PutMac { logical_switch, .. }
            | Self::SetFlood { logical_switch, .. }
            | Self::Bind { logical_switch, .. }
            | Self::RemoveMac { logical_switch, .. } => logical_switch,
            Self::Unbind { was, .. } => was,
        }
    }
}

impl SwitchState {
    /// What the state becomes when a switch carries out a step: the meaning of the steps, and the twin of a switch in
    /// tests.
    pub fn apply(&mut self, step: &Step) {
        match step {
            Step::CreateLogicalSwitch {
                name,
                tunnel_key,
                mtu,
            } => {
                let held = self.logical_switches.entry(name.clone()).or_default();
                held.owned = true;
                held.tunnel_key = *tunnel_key;
                held.mtu = *mtu;
            }
            Step::SetMtu { name, mtu, .. } => self.edit(name, |held| held.mtu = *mtu),
            Step::AdoptLogicalSwitch { name } => self.edit(name, |held| held.owned = true),
            Step::RekeyLogicalSwitch {
                name, tunnel_key, ..
            } => self.edit(name, |held| held.tunnel_key = *tunnel_key),
            Step::PutMac {
                logical_switch,
                mac,
                remote,
                ..
            } => self.edit(logical_switch, |held| {
                held.macs.insert(*mac, *remote);
            }),
            Step::SetFlood {
                logical_switch,
                locators,
                ..
            } => self.edit(logical_switch, |held| held.flood.clone_from(locators)),
            Step::Bind {
                port_vlan,
                logical_switch,
                ..
            } => {
                self.bindings
                    .insert(port_vlan.clone(), logical_switch.clone());
            }
            Step::Unbind { port_vlan, .. } => {
                self.bindings.remove(port_vlan);
            }
            Step::RemoveMac {
                logical_switch,
                mac,
                ..
            } => {
                self.edit(logical_switch, |held| {
                    held.macs.remove(mac);
                });
                self.surplus
                    .remove(&Surplus::Mac(logical_switch.clone(), *mac));
            }
            Step::RemoveSurplus(surplus) => {
                self.surplus.remove(surplus);
            }
            Step::DeleteLogicalSwitch { name } => {
                self.logical_switches.remove(name);
                self.surplus
                    .retain(|surplus| surplus.logical_switch() != name);
            }
        }
    }

    fn edit(&mut self, name: &LogicalSwitchName, change: impl FnOnce(&mut LogicalSwitch)) {
        if let Some(held) = self.logical_switches.get_mut(name) {
            change(held);
        }
    }
}
