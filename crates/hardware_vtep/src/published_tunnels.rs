//! The switch's half of `Tunnel`: which tunnels it has, and what BFD says of them.
//!
//! One row for each far end, whatever keys its tunnels have: its locators name no key. What a controller asked of a
//! tunnel (`bfd_params`, `bfd_config_remote`) stays as long as the tunnel does.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use model::switch::Locator;
use ovsdb::column::Map;
use ovsdb::value::Name;
use ovsdb::{
    Atom, Datum, Mutation, Operation, Row, Session, SharedReplica, TransactError, Transaction,
};
use uuid::Uuid;

use crate::database::Database;
use crate::rows::TunnelRow;
use crate::schema::{NAME, VXLAN, table};

/// What a switch says of a tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishedTunnel {
    /// The switch's end.
    pub local: Ipv4Addr,
    /// `bfd_config_local`.
    pub bfd_config_local: BTreeMap<&'static str, String>,
    /// `bfd_status`; what is there stays where there is nothing to say.
    pub bfd_status: Option<BTreeMap<&'static str, String>>,
}

/// Makes the database say that the physical switch `switch` has these tunnels, by far end, and no others, in one
/// transaction. Returns whether anything had to be written. A database whose schema has no BFD (before 1.3.0), or that
/// does not have the switch yet, is left alone.
///
/// # Errors
/// See [`TransactError`]; nothing was written, and trying again is right: another writer may have been faster.
pub async fn publish_tunnels(
    session: &Session,
    replica: &SharedReplica<Database>,
    switch: &str,
    wanted: &BTreeMap<Ipv4Addr, PublishedTunnel>,
) -> Result<bool, TransactError> {
    let transaction = replica.read(|database| {
        database.map_or_else(Transaction::new, |held| difference(held, switch, wanted))
    });
    if transaction.is_empty() {
        return Ok(false);
    }
    session.transact(NAME, &transaction).await?;
    Ok(true)
}

fn difference(
    database: &Database,
    switch: &str,
    wanted: &BTreeMap<Ipv4Addr, PublishedTunnel>,
) -> Transaction {
    let mut transaction = Transaction::new();
    let held = database
        .switches
        .iter()
        .find(|(_, row)| *row.name == *switch);
    let Some((uuid, row)) = held.filter(|_| database.capabilities().bfd) else {
        return transaction;
    };
    let mut missing: BTreeMap<_, _> = wanted.iter().collect();
    let mut extra = Vec::new();
    for tunnel in &row.tunnels.0 {
        let Some(held) = database.tunnels.get(tunnel) else {
            continue;
        };
        match claim(database, held, &mut missing) {
            Some(wanted) => update(&mut transaction, *tunnel, held, wanted),
            None => extra.push(*tunnel),
        }
    }
    let mut locators = Locators {
        database,
        made: BTreeMap::new(),
    };
    let new: Vec<Atom> = missing
        .into_iter()
        .map(|(far, tunnel)| insert(&mut transaction, &mut locators, *far, tunnel))
        .collect();
    let mut mutations = Vec::new();
    if !extra.is_empty() {
        mutations.push(Mutation::delete("tunnels", Datum::set(extra)));
    }
    if !new.is_empty() {
        mutations.push(Mutation::insert("tunnels", Datum::Set(new)));
    }
    if !mutations.is_empty() {
        transaction.push(Operation::mutate(table::PHYSICAL_SWITCH, *uuid, mutations));
    }
    transaction
}

/// What a row is to say. The second row of a tunnel, and one that begins elsewhere, is none.
fn claim<'w>(
    database: &Database,
    held: &TunnelRow,
    missing: &mut BTreeMap<&Ipv4Addr, &'w PublishedTunnel>,
) -> Option<&'w PublishedTunnel> {
    let far = database.locator(held.remote)?.ip;
    let near = database.locator(held.local)?.ip;
    missing.get(&far).filter(|wanted| wanted.local == near)?;
    missing.remove(&far)
}

fn update(transaction: &mut Transaction, tunnel: Uuid, held: &TunnelRow, wanted: &PublishedTunnel) {
    let mut row = Row::new();
    if !says(&held.bfd_config_local, &wanted.bfd_config_local) {
        row = row.with("bfd_config_local", map(&wanted.bfd_config_local));
    }
    if let Some(status) = &wanted.bfd_status
        && !says(&held.bfd_status, status)
    {
        row = row.with("bfd_status", map(status));
    }
    if !row.is_empty() {
        transaction.push(Operation::update(table::TUNNEL, tunnel, row));
    }
}

fn insert(
    transaction: &mut Transaction,
    locators: &mut Locators<'_>,
    far: Ipv4Addr,
    tunnel: &PublishedTunnel,
) -> Atom {
    let local = locators.of(tunnel.local, transaction);
    let remote = locators.of(far, transaction);
    let mut row = Row::new()
        .with("local", local)
        .with("remote", remote)
        .with("bfd_config_local", map(&tunnel.bfd_config_local));
    if let Some(status) = &tunnel.bfd_status {
        row = row.with("bfd_status", map(status));
    }
    let reference = Name::from(format!("tunnel{}", transaction.len()));
    transaction.push(Operation::insert_named(
        table::TUNNEL,
        reference.clone(),
        row,
    ));
    Atom::NamedUuid(reference)
}

/// Locators without a key: those there are, and those this transaction makes.
struct Locators<'d> {
    database: &'d Database,
    made: BTreeMap<Ipv4Addr, Name>,
}

impl Locators<'_> {
    fn of(&mut self, ip: Ipv4Addr, transaction: &mut Transaction) -> Atom {
        let tunnel_key = None;
        if let Some(row) = self.database.locator_row(Locator { ip, tunnel_key }) {
            return Atom::Uuid(row);
        }
        let reference = self.made.entry(ip).or_insert_with(|| {
            let reference = Name::from(format!("locator{}", transaction.len()));
            let row = Row::new()
                .with("encapsulation_type", VXLAN)
                .with("dst_ip", ip);
            let insert = Operation::insert_named(table::PHYSICAL_LOCATOR, reference.clone(), row);
            transaction.push(insert);
            reference
        });
        Atom::NamedUuid(reference.clone())
    }
}

fn says(held: &Map<String, String>, wanted: &BTreeMap<&'static str, String>) -> bool {
    held.0.len() == wanted.len()
        && wanted
            .iter()
            .all(|(key, value)| held.get(*key) == Some(value))
}

fn map(pairs: &BTreeMap<&'static str, String>) -> Datum {
    Datum::map(pairs.iter().map(|(key, value)| (*key, value.clone())))
}
