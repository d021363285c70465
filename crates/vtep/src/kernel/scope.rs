//! Which entries may differ between what is wanted and what is there, when all else is known to be equal.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use model::value::MacAddress;

use super::name::InterfaceName;

/// Entries by bridge. Naming one that does not differ, or that is nowhere, is harmless.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope(BTreeMap<InterfaceName, Entries>);

/// Entries of one bridge and its VXLAN devices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entries {
    /// Stations, on the bridge and on its VXLAN devices.
    pub stations: BTreeSet<MacAddress>,
    /// Addresses the bridge answers for.
    pub neighbours: BTreeSet<IpAddr>,
}

impl Scope {
    /// The entries of a bridge; empty before the first is named.
    pub fn of_mut(&mut self, bridge: InterfaceName) -> &mut Entries {
        self.0.entry(bridge).or_default()
    }

    /// The entries of a bridge, if any are named.
    pub fn of(&self, bridge: InterfaceName) -> Option<&Entries> {
        self.0.get(&bridge)
    }

    /// The bridges of which entries are named.
    pub fn bridges(&self) -> impl Iterator<Item = InterfaceName> {
        self.0.keys().copied()
    }

    /// Whether no entry is named.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
