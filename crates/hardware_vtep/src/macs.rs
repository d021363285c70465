//! A table of unicast MACs, remote or local, and where each MAC of a logical switch is in it.

use std::collections::{BTreeMap, HashMap};

use model::value::MacAddress;
use ovsdb::{Change, RowError};
use uuid::Uuid;

use crate::rows::{Table, Transition, UcastMacRow, change};

/// A MAC on a logical switch.
pub(crate) type Key = (Uuid, MacAddress);

/// `Ucast_Macs_Remote` or `Ucast_Macs_Local`.
#[derive(Debug, Default)]
pub(crate) struct UcastMacs {
    rows: Table<UcastMacRow>,
    /// By logical switch.
    index: HashMap<Uuid, BTreeMap<MacAddress, Rows>>,
}

impl UcastMacs {
    /// Takes a change, and returns how the row was and is.
    pub(crate) fn change(
        &mut self,
        uuid: Uuid,
        update: Change<'_>,
    ) -> Result<Transition<UcastMacRow>, RowError> {
        let rows = change(&mut self.rows, uuid, update)?;
        let (before, after) = (
            rows.before.and_then(|row| row.key()),
            rows.after.and_then(|row| row.key()),
        );
        if before != after {
            if let Some((logical_switch, mac)) = before
                && let Some(macs) = self.index.get_mut(&logical_switch)
            {
                if macs.get_mut(&mac).is_some_and(|rows| rows.remove(uuid)) {
                    macs.remove(&mac);
                }
                if macs.is_empty() {
                    self.index.remove(&logical_switch);
                }
            }
            if let Some((logical_switch, mac)) = after {
                let macs = self.index.entry(logical_switch).or_default();
                macs.entry(mac)
                    .and_modify(|rows| rows.insert(uuid))
                    .or_insert(Rows::One(uuid));
            }
        }
        if after.is_none() && before.is_none() {
            tracing::debug!(%uuid, "ignored a unicast row whose MAC is no MAC address");
        }
        Ok(rows)
    }

    /// How many rows there are.
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Bytes that it takes, roughly.
    pub(crate) fn weight(&self) -> usize {
        self.rows.weight()
    }

    pub(crate) fn get(&self, uuid: Uuid) -> Option<&UcastMacRow> {
        self.rows.get(&uuid)
    }

    /// All rows for a MAC of a logical switch, in uuid order.
    pub(crate) fn rows_of(&self, logical_switch: Uuid, mac: MacAddress) -> &[Uuid] {
        self.index
            .get(&logical_switch)
            .and_then(|macs| macs.get(&mac))
            .map_or(&[], Rows::as_slice)
    }

    /// All MACs, each once.
    pub(crate) fn keys(&self) -> impl Iterator<Item = Key> {
        self.index
            .iter()
            .flat_map(|(logical_switch, macs)| macs.keys().map(move |mac| (*logical_switch, *mac)))
    }

    /// All rows, in no order.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (Uuid, &UcastMacRow)> {
        self.rows.iter().map(|(uuid, row)| (*uuid, row))
    }
}

/// The rows that compete for one key, in uuid order; nearly always one.
#[derive(Debug)]
pub(crate) enum Rows {
    One(Uuid),
    Many(Vec<Uuid>),
}

impl Rows {
    pub(crate) fn as_slice(&self) -> &[Uuid] {
        match self {
            Self::One(uuid) => std::slice::from_ref(uuid),
            Self::Many(uuids) => uuids,
        }
    }

    pub(crate) fn insert(&mut self, uuid: Uuid) {
        let mut uuids = self.as_slice().to_vec();
        if let Err(place) = uuids.binary_search(&uuid) {
            uuids.insert(place, uuid);
            *self = Self::Many(uuids);
        }
    }

    /// Returns whether none is left.
    pub(crate) fn remove(&mut self, uuid: Uuid) -> bool {
        match self {
            Self::One(only) => *only == uuid,
            Self::Many(uuids) => {
                uuids.retain(|other| *other != uuid);
                match uuids.as_slice() {
                    [] => true,
                    [only] => {
                        *self = Self::One(*only);
                        false
                    }
                    _ => false,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use serde_json::value::to_raw_value;

    use super::*;

    fn insert(macs: &mut UcastMacs, number: u32) {
        let mac = MacAddress::from_u64(0x0200_0000_0000 + u64::from(number)).to_string();
        let net = Uuid::from_u128(1);
        let row = json!({"MAC": mac, "logical_switch": ["uuid", net], "locator": ["uuid", net]});
        let row = to_raw_value(&row).unwrap();
        macs.change(row_of(number), Change::Put(&row)).unwrap();
    }

    /// As unordered as those of a database.
    fn row_of(number: u32) -> Uuid {
        let bits = u128::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
        Uuid::from_u128(bits)
    }

    #[test]
    fn as_many_rows_take_as_much_room_however_many_came_and_went() {
        let mut macs = UcastMacs::default();
        for number in 0..10_000 {
            insert(&mut macs, number);
        }
        let room = macs.rows.capacity();
        for number in 0..100_000 {
            insert(&mut macs, number + 10_000);
            macs.change(row_of(number), Change::Delete).unwrap();
        }
        assert_eq!((macs.len(), macs.rows.capacity()), (10_000, room));
        assert_eq!(macs.keys().count(), 10_000);
    }
}
