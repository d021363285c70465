//! What constraints say, in the words of the resource table.
//!
//! The database enforces them; it does not say well which one was violated (SQLite says nothing at all of foreign keys).
//! So after a refusal we look which it was, and before a deletion we look what stands against it.

use std::ops::ControlFlow;

use model::fault::Fault;
use model::resource::{Attribute, Kind, OnDelete, Resource, Shape};
use model::row::{Row, Value};
use model::table;
use uuid::Uuid;

use crate::engine::{Connection, Refusal, number};
use crate::value::{Bound, encode};

/// The fault for the refusal of a statement that writes `row`.
pub(crate) fn violation<C: Connection>(connection: &mut C, row: &Row, refusal: Refusal) -> Fault {
    let cause = match refusal {
        Refusal::Constraint(cause) => cause,
        Refusal::Fault(fault) => return fault,
    };
    let found = collision(connection, row).and_then(|collision| match collision {
        Some(collision) => Ok(Some(collision)),
        None => dangling(connection, row),
    });
    match found {
        Ok(Some(violation)) => violation.with_detail(cause),
        Ok(None) => Fault::internal(cause),
        Err(fault) => fault,
    }
}

/// The fault for a value that an attribute of this shape cannot have. A reference that is no UUID leads nowhere;
/// everything else should not have come so far.
pub(crate) fn unfit(resource: &Resource, attribute: &Attribute, value: &Value) -> Fault {
    match (attribute.shape, value) {
        (Shape::Reference(target, _), Value::Text(text)) => {
            Resource::of(target).not_found.fill(text)
        }
        _ => Fault::internal(format!(
            "{}.{} cannot be {value:?}",
            resource.collection, attribute.name
        )),
    }
}

/// The constraint by which another row stands in the way.
fn collision<C: Connection>(connection: &mut C, row: &Row) -> Result<Option<Fault>, Fault> {
    for unique in row.resource.unique {
        let mut sql = format!(
            "SELECT \"key\" FROM \"{}\" WHERE \"id\" <> $1",
            row.resource.collection
        );
        let mut binds = vec![Bound::from(row.id())];
        let mut texts = Vec::new();
        for attribute in unique.attributes {
            let value = row.get(attribute);
            let shape = row.resource.attribute(attribute).map(|a| a.shape);
            binds.extend(shape.and_then(|shape| encode(shape, value)));
            sql.push_str(&format!(" AND \"{attribute}\" = ${}", binds.len()));
            texts.push(value.text());
        }
        if exists(connection, &sql, &binds)? {
            return Ok(Some(Resource::collision(unique, &texts)));
        }
    }
    Ok(None)
}

/// The first reference that leads nowhere.
fn dangling<C: Connection>(connection: &mut C, row: &Row) -> Result<Option<Fault>, Fault> {
    for attribute in row.resource.attributes {
        let Shape::Reference(target, _) = attribute.shape else {
            continue;
        };
        let Value::Uuid(id) = row.get(attribute.name) else {
            continue;
        };
        let target = Resource::of(target);
        let sql = format!(
            "SELECT \"key\" FROM \"{}\" WHERE \"id\" = $1",
            target.collection
        );
        if !exists(connection, &sql, &[Bound::from(*id)])? {
            return Ok(Some(target.not_found.fill(&id.to_string())));
        }
    }
    Ok(None)
}

fn exists<C: Connection>(
    connection: &mut C,
    sql: &str,
    binds: &[Bound<'_>],
) -> Result<bool, Fault> {
    Ok(number(connection, sql, binds)?.is_some())
}

/// Refuses the deletion of a row if a reference restricts it, or restricts a row that would have to go with it.
pub(crate) fn refuse_if_in_use<C: Connection>(
    connection: &mut C,
    kind: Kind,
    id: Uuid,
) -> Result<(), Fault> {
    let doomed = (Resource::of(kind), String::from("$1"));
    let mut to_visit = vec![doomed];
    while let Some((target, ids)) = to_visit.pop() {
        let mut cascades = Vec::new();
        for (source, attribute, on_delete) in references_to(target.kind) {
            let from = format!(
                "FROM \"{}\" WHERE \"{}\" IN ({ids})",
                source.collection, attribute.name
            );
            match on_delete {
                OnDelete::Restrict => {
                    let sql = format!("SELECT \"{}\" {from} LIMIT 1", attribute.name);
                    if let Some(used) = self::id(connection, &sql, id)? {
                        return Err(target.in_use.fill(&used.to_string()));
                    }
                }
                OnDelete::Cascade => cascades.push((source, format!("SELECT \"id\" {from}"))),
            }
        }
        to_visit.extend(cascades);
    }
    Ok(())
}

/// The first id that a statement about `bound` answers.
fn id<C: Connection>(connection: &mut C, sql: &str, bound: Uuid) -> Result<Option<Uuid>, Fault> {
    let mut first = None;
    connection.query(sql, &[Bound::from(bound)], &mut |row| {
        first = Some(row.uuid(0)?);
        Ok(ControlFlow::Break(()))
    })?;
    Ok(first)
}

/// Every attribute of the table that refers to resources of this kind.
fn references_to(
    kind: Kind,
) -> impl Iterator<Item = (&'static Resource, &'static Attribute, OnDelete)> {
    table::ALL.iter().flat_map(move |resource| {
        let attributes = resource.attributes.iter();
        attributes.filter_map(move |attribute| match attribute.shape {
            Shape::Reference(target, on_delete) if target == kind => {
                Some((*resource, attribute, on_delete))
            }
            _ => None,
        })
    })
}
