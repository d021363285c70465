//! What constraints say, in the words of the resource table.
//!
//! SQLite enforces them; it does not say well which one was violated (for foreign keys not at all). So after a refusal
//! we look which it was, and before a deletion we look what stands against it.

use model::fault::Fault;
use model::resource::{Attribute, Kind, OnDelete, Resource, Shape};
use model::row::{Row, Value};
use model::table;
use rusqlite::{Connection, OptionalExtension};
use uuid::Uuid;

use super::fault::fault;
use super::value::{Bound, encode};

/// The fault for an error of a statement that writes `row`.
pub(super) fn violation(connection: &Connection, row: &Row, error: rusqlite::Error) -> Fault {
    if error.sqlite_error_code() != Some(rusqlite::ErrorCode::ConstraintViolation) {
        return fault(error);
    }
    let found = collision(connection, row).and_then(|collision| match collision {
        Some(collision) => Ok(Some(collision)),
        None => dangling(connection, row),
    });
    match found {
        Ok(Some(violation)) => violation.with_detail(error),
        Ok(None) => Fault::internal(error),
        Err(fault) => fault,
    }
}

/// The fault for a value that an attribute of this shape cannot have. A reference that is no UUID leads nowhere;
/// everything else should not have come so far.
pub(super) fn unfit(resource: &Resource, attribute: &Attribute, value: &Value) -> Fault {
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
fn collision(connection: &Connection, row: &Row) -> Result<Option<Fault>, Fault> {
    for unique in row.resource.unique {
        let mut sql = format!(
            "SELECT 1 FROM \"{}\" WHERE \"id\" <> ?",
            row.resource.collection
        );
        let mut binds = vec![Bound::from(row.id())];
        let mut texts = Vec::new();
        for attribute in unique.attributes {
            let value = row.get(attribute);
            let shape = row.resource.attribute(attribute).map(|a| a.shape);
            sql.push_str(&format!(" AND \"{attribute}\" = ?"));
            binds.extend(shape.and_then(|shape| encode(shape, value)));
            texts.push(value.text());
        }
        if exists(connection, &sql, &binds)? {
            return Ok(Some(Resource::collision(unique, &texts)));
        }
    }
    Ok(None)
}

/// The first reference that leads nowhere.
fn dangling(connection: &Connection, row: &Row) -> Result<Option<Fault>, Fault> {
    for attribute in row.resource.attributes {
        let Shape::Reference(target, _) = attribute.shape else {
            continue;
        };
        let Value::Uuid(id) = row.get(attribute.name) else {
            continue;
        };
        let target = Resource::of(target);
        let sql = format!("SELECT 1 FROM \"{}\" WHERE \"id\" = ?", target.collection);
        if !exists(connection, &sql, &[Bound::from(*id)])? {
            return Ok(Some(target.not_found.fill(&id.to_string())));
        }
    }
    Ok(None)
}

fn exists(connection: &Connection, sql: &str, binds: &[Bound<'_>]) -> Result<bool, Fault> {
    let mut statement = connection.prepare_cached(sql).map_err(fault)?;
    let binds = rusqlite::params_from_iter(binds);
    statement.exists(binds).map_err(fault)
}

/// Refuses the deletion of a row if a reference restricts it, or restricts a row that would have to go with it.
pub(super) fn refuse_if_in_use(connection: &Connection, kind: Kind, id: Uuid) -> Result<(), Fault> {
    let doomed = (Resource::of(kind), String::from("?"));
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
                    let mut statement = connection.prepare_cached(&sql).map_err(fault)?;
                    let used =
                        statement.query_row([Bound::from(id)], |row| row.get::<_, [u8; 16]>(0));
                    if let Some(used) = used.optional().map_err(fault)? {
                        let used = Uuid::from_bytes(used).to_string();
                        return Err(target.in_use.fill(&used));
                    }
                }
                OnDelete::Cascade => cascades.push((source, format!("SELECT \"id\" {from}"))),
            }
        }
        to_visit.extend(cascades);
    }
    Ok(())
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
