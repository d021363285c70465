//! The switch's half of writing: what it is, which ports it has, what it complains about, and whom it dials.
//!
//! Rows that are right are left alone, so that ports keep their uuids and thereby their bindings over restarts, and a
//! start that changes nothing writes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

use ovsdb::column::Set;
use ovsdb::value::Name;
use ovsdb::{
    Atom, Datum, Mutation, Operation, Row, Session, SharedReplica, Target, TransactError,
    Transaction,
};
use uuid::Uuid;

use crate::database::Database;
use crate::rows::PhysicalSwitchRow;
use crate::schema::{Capabilities, NAME, table};

/// What a physical switch says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Publication {
    /// `Physical_Switch.name`, unique in the database.
    pub name: Arc<str>,
    /// `Physical_Switch.description`.
    pub description: String,
    /// `Physical_Switch.tunnel_ips`: where others send their tunnels.
    pub tunnel_ips: BTreeSet<Ipv4Addr>,
    /// `Physical_Switch.switch_fault_status`: faults of vtep(5), as `mac_table_exhaustion`, or of our own: each a
    /// [`Complaint`](crate::Complaint).
    pub faults: BTreeSet<String>,
    /// All ports by `Physical_Port.name`. Others of this switch are removed, together with their bindings.
    pub ports: BTreeMap<Arc<str>, PublishedPort>,
    /// Controllers that the switch's ovsdb-server shall dial or wait for (`Manager.target`). Further ones, which an
    /// administrator wrote there, stay.
    pub managers: BTreeSet<Target>,
}

/// What a physical switch says of a port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PublishedPort {
    /// `Physical_Port.description`.
    pub description: String,
    /// `Physical_Port.port_fault_status`: faults of vtep(5), as `invalid_vlan_map`, or of our own.
    pub faults: BTreeSet<String>,
}

/// Makes the database say what `publication` says, in one transaction. Returns whether anything had to be written.
///
/// # Errors
/// See [`TransactError`]; nothing was written, and trying again is right: another writer may have been faster.
pub async fn publish(
    session: &Session,
    replica: &SharedReplica<Database>,
    publication: &Publication,
) -> Result<bool, TransactError> {
    let transaction = replica.read(|database| {
        database.map_or_else(Transaction::new, |held| difference(held, publication))
    });
    if transaction.is_empty() {
        return Ok(false);
    }
    session.transact(NAME, &transaction).await?;
    Ok(true)
}

fn difference(database: &Database, publication: &Publication) -> Transaction {
    let mut transaction = Transaction::new();
    let held = database
        .switches
        .iter()
        .find(|(_, row)| row.name == publication.name);
    let mut switches = Vec::new();
    match held {
        Some((uuid, row)) => update_switch(&mut transaction, database, *uuid, row, publication),
        None => switches.push(insert_switch(&mut transaction, database, publication)),
    }
    let managers = insert_managers(&mut transaction, database, publication);
    refer_from_global(&mut transaction, database, switches, managers);
    transaction
}

fn insert_switch(
    transaction: &mut Transaction,
    database: &Database,
    publication: &Publication,
) -> Atom {
    let capabilities = database.capabilities();
    let ports = publication
        .ports
        .iter()
        .map(|(name, port)| insert_port(transaction, capabilities, name, port))
        .collect();
    let nothing = PhysicalSwitchRow::default();
    let row = switch_columns(capabilities, &nothing, publication)
        .with("name", publication.name.to_string())
        .with("ports", Datum::Set(ports));
    let insert = Operation::insert_named(table::PHYSICAL_SWITCH, "switch", row);
    transaction.push(insert);
    Atom::NamedUuid("switch".into())
}

fn update_switch(
    transaction: &mut Transaction,
    database: &Database,
    uuid: Uuid,
    held: &PhysicalSwitchRow,
    publication: &Publication,
) {
    let capabilities = database.capabilities();
    let row = switch_columns(capabilities, held, publication);
    if !row.is_empty() {
        transaction.push(Operation::update(table::PHYSICAL_SWITCH, uuid, row));
    }
    let mut missing = publication.ports.clone();
    let mut extra = Vec::new();
    for (port, held) in database.ports_of(held) {
        // The second port of a name is not found here any more.
        let Some(wanted) = missing.remove(&held.name) else {
            extra.push(port);
            continue;
        };
        let row = port_columns(capabilities, &held.description, &held.faults, &wanted);
        if !row.is_empty() {
            transaction.push(Operation::update(table::PHYSICAL_PORT, port, row));
        }
    }
    let new: Vec<Atom> = missing
        .iter()
        .map(|(name, port)| insert_port(transaction, capabilities, name, port))
        .collect();
    let mut mutations = Vec::new();
    if !extra.is_empty() {
        mutations.push(Mutation::delete("ports", Datum::set(extra)));
    }
    if !new.is_empty() {
        mutations.push(Mutation::insert("ports", Datum::Set(new)));
    }
    if !mutations.is_empty() {
        transaction.push(Operation::mutate(table::PHYSICAL_SWITCH, uuid, mutations));
    }
}

/// The columns of the switch that are to change.
fn switch_columns(
    capabilities: Capabilities,
    held: &PhysicalSwitchRow,
    publication: &Publication,
) -> Row {
    let tunnel_ips = publication
        .tunnel_ips
        .iter()
        .map(Ipv4Addr::to_string)
        .collect();
    let mut row = Row::new();
    if held.description != publication.description {
        row = row.with("description", publication.description.clone());
    }
    row = texts(row, "tunnel_ips", &held.tunnel_ips, &tunnel_ips);
    if capabilities.switch_fault_status {
        let column = "switch_fault_status";
        row = texts(row, column, &held.faults, &publication.faults);
    }
    row
}

/// The columns of a port that are to change.
fn port_columns(
    capabilities: Capabilities,
    description: &str,
    faults: &Set<String>,
    wanted: &PublishedPort,
) -> Row {
    let mut row = Row::new();
    if description != wanted.description {
        row = row.with("description", wanted.description.clone());
    }
    if capabilities.port_fault_status {
        row = texts(row, "port_fault_status", faults, &wanted.faults);
    }
    row
}

/// Adds the column unless it holds these texts.
fn texts(row: Row, column: &'static str, held: &Set<String>, wanted: &BTreeSet<String>) -> Row {
    if held.0.iter().collect::<BTreeSet<_>>() == wanted.iter().collect() {
        return row;
    }
    row.with(column, Datum::set(wanted.iter().cloned()))
}

fn insert_port(
    transaction: &mut Transaction,
    capabilities: Capabilities,
    name: &Arc<str>,
    port: &PublishedPort,
) -> Atom {
    let reference = Name::from(format!("port{}", transaction.len()));
    let row = port_columns(capabilities, "", &Set::default(), port).with("name", name.to_string());
    let insert = Operation::insert_named(table::PHYSICAL_PORT, reference.clone(), row);
    transaction.push(insert);
    Atom::NamedUuid(reference)
}

fn insert_managers(
    transaction: &mut Transaction,
    database: &Database,
    publication: &Publication,
) -> Vec<Atom> {
    let held: BTreeSet<&str> = database
        .globals
        .values()
        .flat_map(|global| &global.managers.0)
        .filter_map(|uuid| database.managers.get(uuid))
        .map(|manager| manager.target.as_str())
        .collect();
    publication
        .managers
        .iter()
        .map(Target::to_string)
        .filter(|target| !held.contains(target.as_str()))
        .map(|target| {
            let reference = Name::from(format!("manager{}", transaction.len()));
            let row = Row::new().with("target", target);
            let insert = Operation::insert_named(table::MANAGER, reference.clone(), row);
            transaction.push(insert);
            Atom::NamedUuid(reference)
        })
        .collect()
}

/// Switches and managers exist only as long as `Global` refers to them. A fresh database has no row of it, and never
/// may have two.
fn refer_from_global(
    transaction: &mut Transaction,
    database: &Database,
    switches: Vec<Atom>,
    managers: Vec<Atom>,
) {
    if switches.is_empty() && managers.is_empty() {
        return;
    }
    transaction.push(match database.globals.keys().next() {
        Some(uuid) => {
            let mutations = [("switches", switches), ("managers", managers)]
                .map(|(column, rows)| Mutation::insert(column, Datum::Set(rows)));
            Operation::mutate(table::GLOBAL, *uuid, mutations)
        }
        None => Operation::insert(
            table::GLOBAL,
            Row::new()
                .with("switches", Datum::Set(switches))
                .with("managers", Datum::Set(managers)),
        ),
    });
}
