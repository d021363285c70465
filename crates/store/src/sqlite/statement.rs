//! The statements, derived from the resource table.

use model::fault::Fault;
use model::resource::{Attribute, Resource, Shape};
use model::row::Row;

use super::value::{Bound, encode};
use crate::schema::stored;
use crate::{Direction, Query};

/// How many values the filters of one query may name: SQLite binds at most 32,766.
const MAX_VALUES: usize = 32_000;

/// A statement with what is to be bound to its question marks.
pub(super) struct Statement<'q> {
    pub(super) sql: String,
    pub(super) binds: Vec<Bound<'q>>,
}

impl<'q> Statement<'q> {
    fn push(&mut self, sql: &str) {
        self.sql.push_str(sql);
    }

    fn bind(&mut self, sql: &str, value: Bound<'q>) {
        self.sql.push_str(sql);
        self.binds.push(value);
    }
}

/// The row of a marker: everything after it in the order of the query is behind it.
pub(super) struct Marker {
    /// Its place in the order of insertion.
    pub(super) key: i64,
    /// Its values.
    pub(super) row: Row,
}

/// `"revision"` and the stored attributes: what [`super::value::decode`] reads.
pub(super) fn columns(resource: &'static Resource) -> String {
    let mut sql = String::from("\"revision\"");
    for (_, attribute) in stored(resource) {
        sql.push_str(&format!(", \"{}\"", attribute.name));
    }
    sql
}

/// Takes the revision and then the stored attributes.
pub(super) fn insert(resource: &'static Resource) -> String {
    format!(
        "INSERT INTO \"{}\" ({}) VALUES (?{})",
        resource.collection,
        columns(resource),
        ", ?".repeat(stored(resource).count())
    )
}

/// Takes the revision, then what [`changing`] answers, and then what [`lasting`] answers.
pub(super) fn update(resource: &'static Resource) -> String {
    let mut sql = format!("UPDATE \"{}\" SET \"revision\" = ?", resource.collection);
    for (_, attribute) in changing(resource) {
        sql.push_str(&format!(", \"{}\" = ?", attribute.name));
    }
    sql.push_str(" WHERE TRUE");
    for (_, attribute) in lasting(resource) {
        sql.push_str(&format!(" AND \"{}\" IS ?", attribute.name));
    }
    sql
}

/// The stored attributes that an update writes.
pub(super) fn changing(
    resource: &'static Resource,
) -> impl Iterator<Item = (usize, &'static Attribute)> {
    stored(resource).filter(|(_, attribute)| !is_lasting(attribute))
}

/// The stored attributes that a row keeps for life: the id and the references.
pub(super) fn lasting(
    resource: &'static Resource,
) -> impl Iterator<Item = (usize, &'static Attribute)> {
    stored(resource).filter(|(_, attribute)| is_lasting(attribute))
}

fn is_lasting(attribute: &Attribute) -> bool {
    matches!(attribute.shape, Shape::Id | Shape::Reference(..))
}

/// Takes an id.
pub(super) fn find(resource: &'static Resource) -> String {
    format!(
        "SELECT {} FROM \"{}\" WHERE \"id\" = ?",
        columns(resource),
        resource.collection
    )
}

/// The rows that were written after a revision, in the order in which they were written; all rows after revision 0.
pub(super) fn written_since(resource: &'static Resource, since: u64) -> Statement<'static> {
    let mut statement = Statement {
        sql: format!(
            "SELECT {} FROM \"{}\"",
            columns(resource),
            resource.collection
        ),
        binds: Vec::new(),
    };
    if since == 0 {
        statement.push(" ORDER BY \"key\"");
    } else {
        let since = Bound::Integer(since.cast_signed());
        statement.bind(" WHERE \"revision\" > ?", since);
        statement.push(" ORDER BY \"revision\", \"key\"");
    }
    statement
}

/// The rows of a query. `marker` is the row of the query's marker, if it has one.
pub(super) fn select<'q>(
    query: &'q Query,
    marker: Option<&'q Marker>,
) -> Result<Statement<'q>, Fault> {
    let resource = Resource::of(query.kind);
    let columns = columns(resource);
    let sort = sort(query)?;
    let mut statement = Statement {
        sql: format!("SELECT {columns} FROM "),
        binds: Vec::new(),
    };
    if query.reverse {
        statement.push(&format!("(SELECT \"key\", {columns} FROM "));
    }
    statement.push(&format!("\"{}\" WHERE TRUE", resource.collection));
    filter(query, &mut statement)?;
    if let Some(marker) = marker {
        statement.push(" AND ");
        behind(&sort, marker, query.reverse, &mut statement);
    }
    statement.push(&order(&sort, query.reverse));
    if let Some(limit) = query.limit {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        statement.bind(" LIMIT ?", Bound::Integer(limit));
    }
    if query.reverse {
        statement.push(")");
        statement.push(&order(&sort, false));
    }
    Ok(statement)
}

/// The number of rows that match the filters of a query.
pub(super) fn count(query: &Query) -> Result<Statement<'_>, Fault> {
    let mut statement = Statement {
        sql: format!(
            "SELECT count(*) FROM \"{}\" WHERE TRUE",
            Resource::of(query.kind).collection
        ),
        binds: Vec::new(),
    };
    filter(query, &mut statement)?;
    Ok(statement)
}

fn filter<'q>(query: &'q Query, statement: &mut Statement<'q>) -> Result<(), Fault> {
    let resource = Resource::of(query.kind);
    for filter in &query.filters {
        let attribute = column(resource, filter.attribute)?;
        let name = attribute.name;
        let values = filter.any_of.iter();
        let values = values.filter_map(|value| encode(attribute.shape, value));
        let (nulls, values): (Vec<_>, Vec<_>) =
            values.partition(|value| matches!(value, Bound::Null));
        match (nulls.is_empty(), values.is_empty()) {
            (true, true) => statement.push(" AND FALSE"),
            (false, true) => statement.push(&format!(" AND \"{name}\" IS NULL")),
            (true, false) => {
                statement.push(" AND ");
                one_of(name, &values, statement);
            }
            (false, false) => {
                statement.push(&format!(" AND (\"{name}\" IS NULL OR "));
                one_of(name, &values, statement);
                statement.push(")");
            }
        }
    }
    if statement.binds.len() > MAX_VALUES {
        return Err(Fault::refused(format_args!(
            "a query can name at most {MAX_VALUES} values, this one names {}",
            statement.binds.len()
        )));
    }
    Ok(())
}

fn one_of<'q>(name: &str, values: &[Bound<'q>], statement: &mut Statement<'q>) {
    let mut glue = format!("\"{name}\" IN (");
    for value in values {
        statement.push(&glue);
        statement.bind("?", *value);
        ", ".clone_into(&mut glue);
    }
    statement.push(")");
}

/// The attribute at this position, or the one that it mirrors.
fn column(resource: &'static Resource, position: usize) -> Result<&'static Attribute, Fault> {
    let attribute = resource.attributes.get(position);
    let attribute = attribute.and_then(|attribute| match attribute.shape {
        Shape::Mirror(of) => resource.attribute(of),
        _ => Some(attribute),
    });
    attribute
        .filter(|attribute| attribute.is_stored())
        .ok_or_else(|| {
            Fault::internal(format!(
                "a query names attribute {position} of {}, which is not stored",
                resource.collection
            ))
        })
}

fn sort(query: &Query) -> Result<Vec<(&'static Attribute, Direction)>, Fault> {
    let resource = Resource::of(query.kind);
    let keys = query.sort.iter();
    keys.map(|(position, direction)| Ok((column(resource, *position)?, *direction)))
        .collect()
}

fn descends(direction: Direction, reverse: bool) -> bool {
    (direction == Direction::Descending) != reverse
}

fn order(sort: &[(&'static Attribute, Direction)], reverse: bool) -> String {
    let mut sql = String::from(" ORDER BY ");
    for (attribute, direction) in sort {
        let word = if descends(*direction, reverse) {
            " DESC"
        } else {
            ""
        };
        sql.push_str(&format!("\"{}\"{word}, ", attribute.name));
    }
    sql.push_str(if reverse { "\"key\" DESC" } else { "\"key\"" });
    sql
}

/// Rows behind the marker: behind it in the first attribute, or equal in that and behind it in the others. Null stands
/// before everything else, as SQLite sorts it.
fn behind<'q>(
    sort: &[(&'static Attribute, Direction)],
    marker: &'q Marker,
    reverse: bool,
    statement: &mut Statement<'q>,
) {
    let [(attribute, direction), others @ ..] = sort else {
        let sign = if reverse { '<' } else { '>' };
        statement.bind(&format!("\"key\" {sign} ?"), Bound::Integer(marker.key));
        return;
    };
    let name = attribute.name;
    let value = marker.row.get(name);
    let value = encode(attribute.shape, value).unwrap_or(Bound::Null);
    let null = matches!(value, Bound::Null);
    match (descends(*direction, reverse), null) {
        (false, true) => statement.push(&format!("(\"{name}\" IS NOT NULL")),
        (false, false) => statement.bind(&format!("(\"{name}\" > ?"), value),
        (true, true) => statement.push("(FALSE"),
        (true, false) => statement.bind(&format!("(\"{name}\" IS NULL OR \"{name}\" < ?"), value),
    }
    statement.bind(&format!(" OR (\"{name}\" IS ? AND "), value);
    behind(others, marker, reverse, statement);
    statement.push("))");
}
