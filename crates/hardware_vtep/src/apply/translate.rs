//! Steps into operations on rows.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use model::plan::Step;
use model::switch::{Locator, LogicalSwitchName, PortVlan, Surplus};
use model::value::Vni;
use ovsdb::value::Name;
use ovsdb::{Atom, Condition, Datum, Mutation, Operation, Row, Transaction};
use uuid::Uuid;

use super::{BATCH, Failure, Operations, StepError};
use crate::database::Database;
use crate::schema::{DESCRIPTION_MARK, MARK, MTU, SOURCE_NODE, UNKNOWN_DST, VXLAN, table};

/// Some steps as one transaction.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) transaction: Transaction,
    pub(super) operations: Operations,
    /// Steps that could not be translated.
    pub(super) failures: Vec<Failure>,
    /// Where the next batch begins.
    pub(super) end: usize,
    /// Locators that this transaction inserts, by the name it gives them.
    inserted: BTreeMap<Locator, Name>,
}

impl Batch {
    /// Translates the steps that `order` names, from its element `from`, until the transaction is long enough.
    pub(super) fn fill(
        &mut self,
        database: Option<&Database>,
        steps: &[Step],
        order: &[usize],
        from: usize,
    ) {
        self.end = from;
        for index in order.get(from..).unwrap_or_default() {
            let begin = self.transaction.len();
            if begin >= BATCH {
                break;
            }
            self.end += 1;
            let translated = match (database, steps.get(*index)) {
                (Some(database), Some(step)) => self.step(database, step),
                _ => Err(StepError::Missing("database that was read".to_owned())),
            };
            match translated {
                Ok(()) => {
                    let end = self.transaction.len();
                    if end > begin {
                        self.operations.push((*index, begin..end));
                    }
                }
                Err(error) => self.failures.push(Failure {
                    step: *index,
                    error,
                }),
            }
        }
    }

    /// Adds the operations of one step; none if it fails, none if there is nothing to do any more.
    fn step(&mut self, database: &Database, step: &Step) -> Result<(), StepError> {
        match step {
            Step::CreateLogicalSwitch {
                name,
                tunnel_key,
                mtu,
            } => {
                let row = marked(database, *mtu)
                    .with("name", name.as_str().to_owned())
                    .with("tunnel_key", key(*tunnel_key));
                self.push(Operation::insert(table::LOGICAL_SWITCH, row));
            }
            Step::AdoptLogicalSwitch { name } => {
                let uuid = logical_switch(database, name)?;
                self.adopt(database, uuid);
            }
            Step::RekeyLogicalSwitch {
                name, tunnel_key, ..
            } => {
                let uuid = logical_switch(database, name)?;
                let row = Row::new().with("tunnel_key", key(*tunnel_key));
                self.push(Operation::update(table::LOGICAL_SWITCH, uuid, row));
            }
            Step::SetMtu { name, mtu, .. } => {
                let uuid = logical_switch(database, name)?;
                if database.capabilities().logical_switch_other_config {
                    let mut mutations = vec![Mutation::delete("other_config", Datum::set([MTU]))];
                    if let Some(mtu) = mtu {
                        let said = Datum::map([(MTU, mtu.to_string())]);
                        mutations.push(Mutation::insert("other_config", said));
                    }
                    self.push(Operation::mutate(table::LOGICAL_SWITCH, uuid, mutations));
                }
            }
            Step::PutMac {
                logical_switch: name,
                mac,
                remote,
                ..
            } => {
                let on = logical_switch(database, name)?;
                supported(database, remote.locator)?;
                let locator = self.locator(database, remote.locator);
                let row = Row::new()
                    .with("locator", locator)
                    .with("ipaddr", ip_text(remote.ip));
                self.push(match database.first_mac_row(on, *mac) {
                    Some(uuid) => Operation::update(table::UCAST_MACS_REMOTE, uuid, row),
                    None => Operation::insert(
                        table::UCAST_MACS_REMOTE,
                        row.with("MAC", mac.to_string()).with("logical_switch", on),
                    ),
                });
            }
            Step::SetFlood {
                logical_switch: name,
                locators,
                ..
            } => {
                let on = logical_switch(database, name)?;
                for locator in locators {
                    supported(database, *locator)?;
                }
                self.set_flood(database, on, locators);
            }
            Step::Bind {
                port_vlan,
                logical_switch: name,
                ..
            } => {
                let to = logical_switch(database, name)?;
                let port = port(database, port_vlan)?;
                let vlan = port_vlan.vlan.get();
                // Inserting alone would silently keep the old binding of the VLAN, and writing the whole column would
                // undo what others bind in this instant.
                let mutations = [
                    Mutation::delete("vlan_bindings", Datum::set([vlan])),
                    Mutation::insert("vlan_bindings", Datum::map([(vlan, to)])),
                ];
                self.push(Operation::mutate(table::PHYSICAL_PORT, port, mutations));
            }
            Step::Unbind { port_vlan, was } => {
                // A port or logical switch that is gone took the binding along.
                if let (Ok(port), Ok(from)) =
                    (port(database, port_vlan), logical_switch(database, was))
                {
                    // The pair, so that a binding that somebody else put there since stays.
                    let pair = Datum::map([(port_vlan.vlan.get(), from)]);
                    let mutations = [Mutation::delete("vlan_bindings", pair)];
                    self.push(Operation::mutate(table::PHYSICAL_PORT, port, mutations));
                }
            }
            Step::RemoveMac {
                logical_switch: name,
                mac,
                ..
            } => {
                if let Ok(on) = logical_switch(database, name) {
                    let rows = database.mac_rows(on, *mac).iter().copied();
                    self.delete(table::UCAST_MACS_REMOTE, rows);
                }
            }
            Step::RemoveSurplus(Surplus::Mac(name, mac)) => {
                if let Ok(on) = logical_switch(database, name) {
                    let first = database.first_mac_row(on, *mac);
                    let rows = database.mac_rows(on, *mac).iter().copied();
                    let others = rows.filter(|uuid| Some(*uuid) != first);
                    self.delete(table::UCAST_MACS_REMOTE, others);
                }
            }
            Step::RemoveSurplus(Surplus::Flood(name)) => {
                if let Ok(on) = logical_switch(database, name) {
                    let first = database.first_flood_row(on);
                    let rows = database.flood_rows(on).iter().copied();
                    let others = rows.filter(|uuid| Some(*uuid) != first);
                    self.delete(table::MCAST_MACS_REMOTE, others);
                }
            }
            Step::RemoveSurplus(Surplus::Stray(name)) => {
                if let Ok(on) = logical_switch(database, name) {
                    let rows = database.stray_rows(on);
                    let deletions = rows.map(|(table, row)| Operation::delete(table, row));
                    self.transaction.extend(deletions);
                }
            }
            Step::DeleteLogicalSwitch { name } => {
                if let Ok(uuid) = logical_switch(database, name) {
                    self.delete_logical_switch(uuid);
                }
            }
        }
        Ok(())
    }

    fn push(&mut self, operation: Operation) {
        self.transaction.push(operation);
    }

    fn delete(&mut self, table: &'static str, rows: impl Iterator<Item = Uuid>) {
        self.transaction
            .extend(rows.map(|uuid| Operation::delete(table, uuid)));
    }

    /// Puts our mark on a row of somebody else, next to what they wrote there.
    fn adopt(&mut self, database: &Database, uuid: Uuid) {
        let mut row = Row::new();
        if database.capabilities().logical_switch_other_config {
            let mutations = [
                Mutation::delete("other_config", Datum::set([MARK])),
                Mutation::insert("other_config", mark()),
            ];
            self.push(Operation::mutate(table::LOGICAL_SWITCH, uuid, mutations));
        } else {
            row = row.with("description", DESCRIPTION_MARK);
        }
        if database.capabilities().replication_mode {
            row = row.with("replication_mode", SOURCE_NODE);
        }
        if !row.is_empty() {
            self.push(Operation::update(table::LOGICAL_SWITCH, uuid, row));
        }
    }

    fn set_flood(&mut self, database: &Database, on: Uuid, locators: &BTreeSet<Locator>) {
        if locators.is_empty() {
            // All rows: with the first one alone gone, the second would be the state. A set cannot be empty.
            let rows = database.flood_rows(on).iter().copied();
            self.delete(table::MCAST_MACS_REMOTE, rows);
            return;
        }
        let members = locators
            .iter()
            .map(|locator| self.locator(database, *locator))
            .collect();
        // Sets are immutable: a new one takes the old one's place, and the server collects the old one.
        let set = format!("set{}", self.transaction.len());
        self.push(Operation::insert_named(
            table::PHYSICAL_LOCATOR_SET,
            set.clone(),
            Row::new().with("locators", Datum::Set(members)),
        ));
        let row = Row::new().with("locator_set", Atom::NamedUuid(set.into()));
        self.push(match database.first_flood_row(on) {
            Some(uuid) => Operation::update(table::MCAST_MACS_REMOTE, uuid, row),
            None => Operation::insert(
                table::MCAST_MACS_REMOTE,
                row.with("MAC", UNKNOWN_DST).with("logical_switch", on),
            ),
        });
    }

    /// A reference to a locator's row, which is inserted if there is none.
    fn locator(&mut self, database: &Database, locator: Locator) -> Atom {
        if let Some(name) = self.inserted.get(&locator) {
            return Atom::NamedUuid(name.clone());
        }
        if let Some(uuid) = database.locator_row(locator) {
            return Atom::Uuid(uuid);
        }
        let name = Name::from(format!("locator{}", self.transaction.len()));
        let mut row = Row::new()
            .with("encapsulation_type", VXLAN)
            .with("dst_ip", locator.ip);
        if let Some(vni) = locator.tunnel_key {
            row = row.with("tunnel_key", vni.get());
        }
        self.push(Operation::insert_named(
            table::PHYSICAL_LOCATOR,
            name.clone(),
            row,
        ));
        self.inserted.insert(locator, name.clone());
        Atom::NamedUuid(name)
    }

    /// Deletes a logical switch and the rows that keep it, those that the switch learnt included.
    fn delete_logical_switch(&mut self, uuid: Uuid) {
        for table in [
            table::UCAST_MACS_REMOTE,
            table::MCAST_MACS_REMOTE,
            table::UCAST_MACS_LOCAL,
            table::MCAST_MACS_LOCAL,
        ] {
            let of_it = [Condition::new("logical_switch", "==", uuid)];
            self.push(Operation::delete_where(table, of_it));
        }
        self.push(Operation::delete(table::LOGICAL_SWITCH, uuid));
    }
}

fn mark() -> Datum {
    Datum::map([(MARK, "owned")])
}

/// The columns that make a logical switch ours, and what goes into them.
fn marked(database: &Database, mtu: Option<u16>) -> Row {
    let capabilities = database.capabilities();
    let row = Row::new().with("description", DESCRIPTION_MARK);
    let row = match capabilities.logical_switch_other_config {
        true => {
            let said = mtu.map(|mtu| (MTU, mtu.to_string()));
            let ours = [(MARK, "owned".to_owned())].into_iter().chain(said);
            row.with("other_config", Datum::map(ours))
        }
        false => row,
    };
    match capabilities.replication_mode {
        true => row.with("replication_mode", SOURCE_NODE),
        false => row,
    }
}

fn key(vni: Option<Vni>) -> Datum {
    Datum::optional(vni.map(Vni::get))
}

/// `ipaddr`, where empty means that there is none.
fn ip_text(ip: Option<IpAddr>) -> Datum {
    ip.map_or(Datum::from(""), Datum::from)
}

fn supported(database: &Database, locator: Locator) -> Result<(), StepError> {
    if locator.tunnel_key.is_none() || database.capabilities().locator_tunnel_key {
        return Ok(());
    }
    Err(StepError::Unsupported {
        column: "Physical_Locator.tunnel_key",
        subject: format!("tunnel {locator}"),
    })
}

fn logical_switch(database: &Database, name: &LogicalSwitchName) -> Result<Uuid, StepError> {
    database
        .logical_switch_row(name)
        .ok_or_else(|| StepError::Missing(format!("logical switch {name}")))
}

fn port(database: &Database, port_vlan: &PortVlan) -> Result<Uuid, StepError> {
    database
        .port_row(&port_vlan.port)
        .ok_or_else(|| StepError::Missing(format!("port {}", port_vlan.port)))
}
