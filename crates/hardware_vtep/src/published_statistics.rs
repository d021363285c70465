//! The switch's half of counters: `Physical_Port.vlan_stats` and the rows of `Logical_Binding_Stats` that it names.
//!
//! Both are ephemeral, kept in memory alone and lost with the server; nobody of ours monitors them. So the publisher
//! remembers its own rows, and begins anew where the server has them no more.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::switch::PhysicalPort;
use ovsdb::value::Name;
use ovsdb::{Atom, Datum, Operation, Row, Session, SharedReplica, TransactError, Transaction};
use uuid::Uuid;

use crate::database::Database;
use crate::schema::{NAME, table};

/// `Logical_Binding_Stats`: what a VLAN of a port counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BindingStats {
    /// Packets from the port into the network.
    pub packets_from_local: u64,
    /// Their bytes.
    pub bytes_from_local: u64,
    /// Packets from the network to the port.
    pub packets_to_local: u64,
    /// Their bytes.
    pub bytes_to_local: u64,
}

impl BindingStats {
    fn row(self) -> Row {
        // Counters of the schema are signed.
        let count = |count| i64::try_from(count).unwrap_or(i64::MAX);
        Row::new()
            .with("packets_from_local", count(self.packets_from_local))
            .with("bytes_from_local", count(self.bytes_from_local))
            .with("packets_to_local", count(self.packets_to_local))
            .with("bytes_to_local", count(self.bytes_to_local))
    }
}

/// What VLANs of ports counted, by `Physical_Port.name` and VLAN.
type Stats = BTreeMap<(Arc<str>, u16), BindingStats>;

/// Publishes counters of a physical switch.
#[derive(Debug)]
pub struct StatisticsPublisher {
    switch: Arc<str>,
    /// The rows the server has of us.
    rows: BTreeMap<(Arc<str>, u16), (Uuid, BindingStats)>,
}

impl StatisticsPublisher {
    /// For the switch of this name. Nothing is published yet.
    pub fn new(switch: Arc<str>) -> Self {
        Self {
            switch,
            rows: BTreeMap::new(),
        }
    }

    /// Makes the database say this of our ports, in one transaction. Returns how many rows were written. Ports that the
    /// database does not have are left out, and so is everything where its schema has no counters.
    ///
    /// # Errors
    /// See [`TransactError`]; the next call writes everything.
    pub async fn publish(
        &mut self,
        session: &Session,
        replica: &SharedReplica<Database>,
        mut stats: Stats,
    ) -> Result<usize, TransactError> {
        let before = std::mem::take(&mut self.rows);
        let ports = replica.read(|database| {
            let known = |port: &Arc<str>| {
                let database = database?;
                let (switch, name) = (Arc::clone(&self.switch), Arc::clone(port));
                let row = database.port_row(&PhysicalPort { switch, name })?;
                Some((Arc::clone(port), row))
            };
            let has_counters = database.is_some_and(|held| held.capabilities().vlan_stats);
            let names = stats.keys().chain(before.keys()).map(|(port, _)| port);
            let ports: BTreeMap<_, _> = names.filter(|_| has_counters).filter_map(known).collect();
            ports
        });
        stats.retain(|(port, _), _| ports.contains_key(port));
        let mut writing = Writing::default();
        let gone = before.keys().filter(|key| !stats.contains_key(key));
        writing
            .changed
            .extend(gone.map(|(port, _)| Arc::clone(port)));
        for (key, now) in stats {
            writing.row(key, now, &before);
        }
        writing.refer_from(&ports);
        if writing.transaction.is_empty() {
            self.rows = before;
            return Ok(0);
        }
        let outcome = session.transact(NAME, &writing.transaction).await?;
        let lost = writing
            .updates
            .iter()
            .any(|place| outcome.count(*place) == Some(0));
        if lost {
            // Another server, or the same one started again: the rows of before are gone.
            return Ok(0);
        }
        let count = writing.updates.len() + writing.inserts.len();
        let made = writing
            .inserts
            .into_iter()
            .filter_map(|(place, key, now)| Some((key, (outcome.inserted(place)?, now))));
        self.rows = writing.kept.into_iter().chain(made).collect();
        Ok(count)
    }
}

/// A transaction in the making.
#[derive(Default)]
struct Writing {
    transaction: Transaction,
    kept: BTreeMap<(Arc<str>, u16), (Uuid, BindingStats)>,
    updates: Vec<usize>,
    inserts: Vec<(usize, (Arc<str>, u16), BindingStats)>,
    /// Ports whose VLANs are others than before.
    changed: BTreeSet<Arc<str>>,
}

impl Writing {
    fn row(
        &mut self,
        key: (Arc<str>, u16),
        now: BindingStats,
        before: &BTreeMap<(Arc<str>, u16), (Uuid, BindingStats)>,
    ) {
        match before.get(&key) {
            Some((uuid, then)) => {
                if *then != now {
                    let update = Operation::update(table::LOGICAL_BINDING_STATS, *uuid, now.row());
                    self.updates.push(self.transaction.push(update));
                }
                self.kept.insert(key, (*uuid, now));
            }
            None => {
                let name = Name::from(format!("stats{}", self.transaction.len()));
                let insert = Operation::insert_named(table::LOGICAL_BINDING_STATS, name, now.row());
                let place = self.transaction.push(insert);
                self.changed.insert(Arc::clone(&key.0));
                self.inserts.push((place, key, now));
            }
        }
    }

    /// Rows are there as long as a port names them.
    fn refer_from(&mut self, ports: &BTreeMap<Arc<str>, Uuid>) {
        for port in &self.changed {
            let Some(row) = ports.get(port) else { continue };
            let mut stats = Vec::new();
            for ((of, vlan), (uuid, _)) in &self.kept {
                if of == port {
                    stats.push((Atom::Integer(i64::from(*vlan)), Atom::Uuid(*uuid)));
                }
            }
            for (place, (of, vlan), _) in &self.inserts {
                if of == port {
                    let name = Name::from(format!("stats{place}"));
                    stats.push((Atom::Integer(i64::from(*vlan)), Atom::NamedUuid(name)));
                }
            }
            let column = Row::new().with("vlan_stats", Datum::Map(stats));
            let update = Operation::update(table::PHYSICAL_PORT, *row, column);
            self.transaction.push(update);
        }
    }
}
