//! What the store should do, said as simply as possible: rows in a list.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use model::fault::{Fault, FaultKind};
use model::resource::{Kind, OnDelete, Resource, Shape};
use model::row::{Row, Value};
use model::table;
use store::{Direction, Query};
use uuid::Uuid;

/// A database in a list, in the order of insertion.
#[derive(Clone, Default)]
pub(crate) struct Oracle {
    pub(crate) rows: Vec<Row>,
    pub(crate) revision: u64,
}

impl Oracle {
    pub(crate) fn insert(&mut self, rows: &[Row]) -> Result<(), Fault> {
        let mut next = self.clone();
        next.revision += 1;
        for (index, row) in rows.iter().enumerate() {
            let refused = |fault: Fault| match rows.len() {
                1 => fault,
                _ => fault.at_index(index),
            };
            next.check(row).map_err(refused)?;
            let mut row = row.clone();
            row.revision = next.revision;
            next.rows.push(row);
        }
        *self = next;
        Ok(())
    }

    pub(crate) fn update(&mut self, row: &Row) -> Result<(), Fault> {
        self.check(row)?;
        self.revision += 1;
        let revision = self.revision;
        let old = self.rows.iter_mut().find(|old| old.id() == row.id());
        *old.unwrap() = Row {
            revision,
            ..row.clone()
        };
        Ok(())
    }

    /// Whether it was deleted; if it is refused, the faults that say so rightly.
    pub(crate) fn delete(&mut self, id: Uuid) -> Result<bool, BTreeSet<u16>> {
        let doomed = doomed(&self.rows, id);
        let mut refusals = BTreeSet::new();
        for row in &self.rows {
            for (attribute, target, on_delete) in references(row.resource) {
                let restricts = on_delete == OnDelete::Restrict;
                if restricts && row.uuid(attribute).is_some_and(|id| doomed.contains(&id)) {
                    refusals.insert(number(Resource::of(target).in_use.0));
                }
            }
        }
        if !refusals.is_empty() {
            return Err(refusals);
        }
        let before = self.rows.len();
        self.rows.retain(|row| !doomed.contains(&row.id()));
        let deleted = self.rows.len() < before;
        self.revision += u64::from(deleted);
        Ok(deleted)
    }

    pub(crate) fn select(&self, query: &Query) -> Vec<Row> {
        let mut rows = self.matching(query);
        sort(query, &mut rows);
        if let Some(marker) = query.marker {
            let all = Query {
                filters: Vec::new(),
                ..query.clone()
            };
            let mut order = self.matching(&all);
            sort(query, &mut order);
            let place = |id| order.iter().position(|row| row.id() == id);
            match place(marker) {
                None => rows.clear(),
                Some(marker) if query.reverse => rows.retain(|r| place(r.id()) < Some(marker)),
                Some(marker) => rows.retain(|r| place(r.id()) > Some(marker)),
            }
        }
        let limit = query.limit.map_or(rows.len(), |limit| limit as usize);
        if query.reverse {
            rows.split_off(rows.len().saturating_sub(limit))
        } else {
            rows.truncate(limit);
            rows
        }
    }

    /// The rows that match a query's filters.
    pub(crate) fn matching(&self, query: &Query) -> Vec<Row> {
        let matches = |row: &&Row| {
            row.resource.kind == query.kind
                && query
                    .filters
                    .iter()
                    .all(|filter| filter.any_of.contains(at(row, filter.attribute)))
        };
        self.rows.iter().filter(matches).cloned().collect()
    }

    fn check(&self, row: &Row) -> Result<(), Fault> {
        for unique in row.resource.unique {
            let values = |row: &Row| -> Vec<Value> {
                unique
                    .attributes
                    .iter()
                    .map(|name| row.get(name).clone())
                    .collect()
            };
            let mine = values(row);
            let collides = self.rows.iter().any(|other| {
                other.resource.kind == row.resource.kind
                    && other.id() != row.id()
                    && !mine.contains(&Value::Null)
                    && values(other) == mine
            });
            if collides {
                let texts: Vec<_> = mine.iter().map(Value::text).collect();
                return Err(Resource::collision(unique, &texts));
            }
        }
        for (attribute, target, _) in references(row.resource) {
            let Some(id) = row.uuid(attribute) else {
                continue;
            };
            let found = |row: &Row| row.resource.kind == target && row.id() == id;
            if !self.rows.iter().any(found) {
                return Err(Resource::of(target).not_found.fill(&id.to_string()));
            }
        }
        Ok(())
    }
}

/// What goes with the row of this id, itself included.
pub(crate) fn doomed(rows: &[Row], id: Uuid) -> BTreeSet<Uuid> {
    let mut doomed = BTreeSet::from([id]);
    loop {
        let before = doomed.len();
        for row in rows {
            let cascades = references(row.resource).any(|(attribute, _, on_delete)| {
                on_delete == OnDelete::Cascade
                    && row.uuid(attribute).is_some_and(|id| doomed.contains(&id))
            });
            if cascades {
                doomed.insert(row.id());
            }
        }
        if doomed.len() == before {
            return doomed;
        }
    }
}

/// A kind of fault as something that has an order.
pub(crate) fn number(kind: FaultKind) -> u16 {
    let place = FaultKind::ALL.iter().position(|other| *other == kind);
    place.unwrap().try_into().unwrap()
}

/// Where an attribute's value is: mirrors have none of their own.
pub(crate) fn stored_position(resource: &Resource, position: usize) -> Option<usize> {
    let attribute = &resource.attributes[position];
    match attribute.shape {
        Shape::Mirror(of) => resource.position(of),
        _ => attribute.is_stored().then_some(position),
    }
}

fn at(row: &Row, position: usize) -> &Value {
    &row.values[stored_position(row.resource, position).unwrap()]
}

fn references(resource: &'static Resource) -> impl Iterator<Item = (&'static str, Kind, OnDelete)> {
    let attributes = resource.attributes.iter();
    attributes.filter_map(|attribute| match attribute.shape {
        Shape::Reference(target, on_delete) => Some((attribute.name, target, on_delete)),
        _ => None,
    })
}

/// Sorts rows that are in the order of insertion.
fn sort(query: &Query, rows: &mut [Row]) {
    // Stable: equal ones stay as they are.
    if matches!(query.sort.last(), Some((_, Direction::Descending))) {
        rows.reverse();
    }
    rows.sort_by(|a, b| compare(query, a, b));
}

fn compare(query: &Query, a: &Row, b: &Row) -> Ordering {
    for (position, direction) in &query.sort {
        let order = sort_key(at(a, *position)).cmp(&sort_key(at(b, *position)));
        let order = match direction {
            Direction::Ascending => order,
            Direction::Descending => order.reverse(),
        };
        if order != Ordering::Equal {
            return order;
        }
    }
    Ordering::Equal
}

/// Null first, numbers as numbers, everything else byte by byte.
fn sort_key(value: &Value) -> (u8, i64, Vec<u8>) {
    match value {
        Value::Null => (0, 0, Vec::new()),
        Value::Bool(truth) => (1, i64::from(*truth), Vec::new()),
        Value::Integer(number) => (1, *number, Vec::new()),
        Value::Mac(mac) => (1, mac.to_u64() as i64, Vec::new()),
        Value::Text(text) => (2, 0, text.as_bytes().to_vec()),
        Value::Uuid(id) => (2, 0, id.as_bytes().to_vec()),
        Value::Ip(std::net::IpAddr::V4(ip)) => (2, 0, ip.octets().to_vec()),
        Value::Ip(std::net::IpAddr::V6(ip)) => (2, 0, ip.octets().to_vec()),
    }
}

/// Every kind there is.
pub(crate) fn kinds() -> Vec<Kind> {
    table::ALL.iter().map(|resource| resource.kind).collect()
}
