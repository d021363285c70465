//! Keys that others have: two logical switches of one key on a switch would be one network, and the frames of two tenants
//! in it. Some hardware mixes them without a word, other hardware complains, Linux refuses the second.
//!
//! So a network whose key a logical switch of another controller has is not put on the switch. What is there of it already
//! is left in use, and kept right where it changes or goes: the other one may have come later, and nobody is to lose a
//! network to that. But nothing is added to it until the other logical switch is gone or one of the two has another key.

use std::collections::BTreeMap;

use crate::switch::{LogicalSwitch, LogicalSwitchName, SwitchState};
use crate::value::Vni;

/// The logical switch of another controller that has a key, and is not the one of this name: by name networks are adopted.
pub fn foreign_with_key<'s>(
    held: &'s SwitchState,
    key: Vni,
    but: &LogicalSwitchName,
) -> Option<&'s LogicalSwitchName> {
    let mut foreign = held.logical_switches.iter();
    let found = foreign.find(|(name, l)| !l.owned && *name != but && l.tunnel_key == Some(key));
    found.map(|(name, _)| name)
}

/// The networks that are wanted and whose keys others have on the switch: each with the key and their logical switch.
pub(super) fn taken<'s>(
    desired: &'s SwitchState,
    actual: &'s SwitchState,
) -> BTreeMap<&'s LogicalSwitchName, (Vni, &'s LogicalSwitchName)> {
    let foreign = actual.logical_switches.iter();
    let foreign =
        foreign.filter(|(name, l)| !l.owned && !desired.logical_switches.contains_key(*name));
    let by_key: BTreeMap<Vni, &LogicalSwitchName> = foreign
        .filter_map(|(name, l)| Some((l.tunnel_key?, name)))
        .collect();
    if by_key.is_empty() {
        return BTreeMap::new();
    }
    let wanted = desired.logical_switches.iter();
    wanted
        .filter_map(|(name, l)| {
            let key = l.tunnel_key?;
            Some((name, (key, *by_key.get(&key)?)))
        })
        .collect()
}

/// What may be wanted of a network for the time being: what is held of it, as it should be.
pub(super) fn without_additions(wanted: &LogicalSwitch, held: &LogicalSwitch) -> LogicalSwitch {
    let macs = wanted.macs.iter();
    let macs = macs.filter(|(mac, _)| held.macs.contains_key(*mac));
    LogicalSwitch {
        owned: wanted.owned,
        tunnel_key: held.tunnel_key,
        mtu: wanted.mtu,
        flood: match held.flood.is_subset(&wanted.flood) {
            true => held.flood.clone(),
            false => wanted.flood.clone(),
        },
        macs: macs.map(|(mac, remote)| (*mac, *remote)).collect(),
    }
}
