//! What is special about one kind of resource: checked and filled in within the write transaction, so that what was
//! checked still holds when it is written.
//!
//! The order of the checks is that of `networking-l2gw` 22.0.0, except that a gateway is looked up before anything is
//! said about its segmentation ids.

mod connection;
pub(crate) mod device;
mod gateway;
mod network;
pub mod quota;
mod remote;
mod switch;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ops::ControlFlow;
use std::sync::Arc;

use model::fault::Fault;
use model::resource::{Kind, Resource, Shape};
use model::row::{Row, Value};
use store::{Query, Snapshot, Transaction};
use uuid::Uuid;

use crate::status::Board;

use self::quota::{Allowance, Quotas};

/// The rules, as this server was told to apply them.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// What the switches say themselves.
    pub board: Arc<Board>,
    /// Physical switches that were never seen, and networks that no switch could carry, may be used all the same.
    pub unknown_devices: bool,
    /// How many resources a project may have unless something else was set for it.
    pub quotas: Quotas,
}

impl Rules {
    /// Completes rows that a body described and inserts them, all or none.
    ///
    /// # Errors
    /// The first fault; in a `bulk` it names the row's index.
    pub(crate) fn create(
        &self,
        tx: &mut dyn Transaction,
        rows: &mut [Row],
        bulk: bool,
    ) -> Result<(), Fault> {
        let at =
            |index: usize| move |fault: Fault| if bulk { fault.at_index(index) } else { fault };
        let mut known = Known::default();
        let mut allowance = Allowance::default();
        let now = now();
        let mut prepared = 0;
        for (index, row) in rows.iter_mut().enumerate() {
            row.set("id", Value::Uuid(Uuid::now_v7()));
            stamp(row, now);
            self.complete(tx, &mut known, row).map_err(at(index))?;
            allowance.take(tx, self.quotas, row).map_err(at(index))?;
            if looks_at_its_like(row.resource.kind) {
                tx.insert(std::slice::from_mut(row)).map_err(at(index))?;
            } else {
                prepared += 1;
            }
        }
        match (prepared, rows) {
            (0, _) => Ok(()),
            // The store names an index only where there are several.
            (1, rows) => tx.insert(rows).map_err(at(0)),
            (_, rows) => tx.insert(rows),
        }
    }

    /// Makes changes that a body described, and writes the row if they change anything.
    ///
    /// # Errors
    /// The first fault.
    pub(crate) fn update(
        &self,
        tx: &mut dyn Transaction,
        row: &mut Row,
        changes: Vec<(usize, Value)>,
    ) -> Result<(), Fault> {
        let before = row.clone();
        for (place, value) in changes {
            if let Some(slot) = row.values.get_mut(place) {
                *slot = value;
            }
        }
        Known::default().resolve(tx, row)?;
        match row.resource.kind {
            Kind::L2Gateway => gateway::update(self, tx, &before, row)?,
            Kind::L2RemoteGateway => remote::update_gateway(self, tx, &before, row)?,
            _ => {}
        }
        if row.values != before.values {
            stamp(row, now());
            tx.update(row)?;
        }
        Ok(())
    }

    fn complete(
        &self,
        tx: &mut dyn Transaction,
        known: &mut Known,
        row: &mut Row,
    ) -> Result<(), Fault> {
        known.resolve(tx, row)?;
        match row.resource.kind {
            Kind::Network => network::create(tx, &mut known.keys, row),
            Kind::Port | Kind::L2RemoteGateway => Ok(()),
            Kind::L2Gateway => gateway::create(row),
            Kind::L2GatewayConnection => connection::create(self, tx, known, row),
            Kind::L2RemoteGatewayConnection => remote::create_connection(self, tx, known, row),
            Kind::L2RemoteMac => remote::create_mac(tx, known, row),
        }
    }
}

/// Notes when the row was changed, where it can be.
fn stamp(row: &mut Row, seconds: i64) {
    let places = row.resource.attributes.iter().zip(&mut row.values);
    for (attribute, slot) in places {
        if attribute.shape == Shape::UpdatedAt {
            *slot = Value::Integer(seconds);
        }
    }
}

fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

/// Whether the rules of a kind look at other rows of that kind, so that a bulk must be inserted row by row.
fn looks_at_its_like(kind: Kind) -> bool {
    match kind {
        Kind::L2GatewayConnection | Kind::L2RemoteGatewayConnection => true,
        Kind::Network
        | Kind::Port
        | Kind::L2Gateway
        | Kind::L2RemoteGateway
        | Kind::L2RemoteMac => false,
    }
}

/// What rows refer to, and what they must not have in common. A bulk of MACs looks its connection up once.
#[derive(Default)]
struct Known {
    rows: HashMap<(Kind, Uuid), Row>,
    keys: network::Keys,
}

impl Known {
    /// Makes sure that everything the row refers to exists, in the order of its attributes.
    fn resolve(&mut self, tx: &mut dyn Snapshot, row: &Row) -> Result<(), Fault> {
        for (attribute, value) in row.resource.attributes.iter().zip(&row.values) {
            if let Shape::Reference(kind, _) = attribute.shape
                && *value != Value::Null
            {
                self.get(tx, kind, value)?;
            }
        }
        Ok(())
    }

    /// What an attribute of the row refers to.
    fn referred(&mut self, tx: &mut dyn Snapshot, row: &Row, name: &str) -> Result<&Row, Fault> {
        match row.resource.attribute(name).map(|a| a.shape) {
            Some(Shape::Reference(kind, _)) => self.get(tx, kind, row.get(name)),
            _ => Err(Fault::internal(format!("{name} is no reference"))),
        }
    }

    fn get(&mut self, tx: &mut dyn Snapshot, kind: Kind, value: &Value) -> Result<&Row, Fault> {
        let missing = || Resource::of(kind).not_found.fill(&value.text());
        let Value::Uuid(id) = value else {
            return Err(missing());
        };
        match self.rows.entry((kind, *id)) {
            Entry::Occupied(entry) => Ok(entry.into_mut()),
            Entry::Vacant(entry) => {
                let row = tx.get(kind, *id)?.ok_or_else(missing)?;
                Ok(entry.insert(row))
            }
        }
    }
}

/// The rows that a query finds. Only for what there is little of.
fn collect(tx: &mut dyn Snapshot, query: &Query) -> Result<Vec<Row>, Fault> {
    let mut rows = Vec::new();
    tx.select(query, &mut |row| {
        rows.push(row.clone());
        ControlFlow::Continue(())
    })?;
    Ok(rows)
}
