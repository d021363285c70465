//! The statements, derived from the resource table.

use model::fault::Fault;
use model::resource::{Attribute, Resource, Shape};
use model::row::Row;

use crate::schema::{never_null, stored};
use crate::value::{Bound, encode};
use crate::{Direction, Query};

/// How many values the filters of one query may name: SQLite binds at most 32,766, PostgreSQL 65,535.
const MAX_VALUES: usize = 32_000;

/// A statement with what is to be bound to its `$1`, `$2` …
pub(crate) struct Statement<'q> {
    pub(crate) sql: String,
    pub(crate) binds: Vec<Bound<'q>>,
}

impl<'q> Statement<'q> {
    fn push(&mut self, sql: &str) {
        self.sql.push_str(sql);
    }

    /// Adds `sql` and, behind it, a place for `value`.
    fn bind(&mut self, sql: &str, value: Bound<'q>) {
        self.binds.push(value);
        self.sql.push_str(&format!("{sql}${}", self.binds.len()));
    }
}

/// The row of a marker: everything after it in the order of the query is behind it.
pub(crate) struct Marker {
    /// Its place in the order of insertion.
    pub(crate) key: i64,
    /// Its values.
    pub(crate) row: Row,
}

/// `"revision"` and the stored attributes: what [`crate::value::decode`] reads.
pub(crate) fn columns(resource: &'static Resource) -> String {
    let mut sql = String::from("\"revision\"");
    for (_, attribute) in stored(resource) {
        sql.push_str(&format!(", \"{}\"", attribute.name));
    }
    sql
}

/// Takes the revision and then the stored attributes.
pub(crate) fn insert(resource: &'static Resource) -> String {
    let mut places = String::from("$1");
    for place in 0..stored(resource).count() {
        places.push_str(&format!(", ${}", place + 2));
    }
    format!(
        "INSERT INTO \"{}\" ({}) VALUES ({places})",
        resource.collection,
        columns(resource)
    )
}

/// Takes the revision, then what [`changing`] answers, and then what [`lasting`] answers.
pub(crate) fn update(resource: &'static Resource) -> String {
    let mut sql = format!("UPDATE \"{}\" SET \"revision\" = $1", resource.collection);
    let mut place = 1;
    for (_, attribute) in changing(resource) {
        place += 1;
        sql.push_str(&format!(", \"{}\" = ${place}", attribute.name));
    }
    sql.push_str(" WHERE TRUE");
    for (_, attribute) in lasting(resource) {
        place += 1;
        // An id is never null, and an index is used for it only if we say so.
        let equals = match attribute.shape {
            Shape::Id => "=",
            _ => "IS NOT DISTINCT FROM",
        };
        sql.push_str(&format!(" AND \"{}\" {equals} ${place}", attribute.name));
    }
    sql
}

/// The stored attributes that an update writes.
pub(crate) fn changing(
    resource: &'static Resource,
) -> impl Iterator<Item = (usize, &'static Attribute)> {
    stored(resource).filter(|(_, attribute)| !is_lasting(attribute))
}

/// The stored attributes that a row keeps for life: the id and the references.
pub(crate) fn lasting(
    resource: &'static Resource,
) -> impl Iterator<Item = (usize, &'static Attribute)> {
    stored(resource).filter(|(_, attribute)| is_lasting(attribute))
}

fn is_lasting(attribute: &Attribute) -> bool {
    matches!(attribute.shape, Shape::Id | Shape::Reference(..))
}

/// Takes an id.
pub(crate) fn find(resource: &'static Resource) -> String {
    format!(
        "SELECT {} FROM \"{}\" WHERE \"id\" = $1",
        columns(resource),
        resource.collection
    )
}

/// The rows that were written after a revision, in the order in which they were written; all rows after revision 0.
pub(crate) fn written_since(resource: &'static Resource, since: u64) -> Statement<'static> {
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
        statement.bind(" WHERE \"revision\" > ", since);
        statement.push(" ORDER BY \"revision\", \"key\"");
    }
    statement
}

/// The rows of a query. `marker` is the row of the query's marker, if it has one.
pub(crate) fn select<'q>(
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
        statement.bind(" LIMIT ", Bound::Integer(limit));
    }
    if query.reverse {
        statement.push(") AS \"page\"");
        statement.push(&order(&sort, false));
    }
    Ok(statement)
}

/// The number of rows that match the filters of a query.
pub(crate) fn count(query: &Query) -> Result<Statement<'_>, Fault> {
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
        statement.bind(&glue, *value);
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
        // Said aloud because PostgreSQL holds null for the largest.
        let word = if descends(*direction, reverse) {
            "DESC NULLS LAST"
        } else {
            "NULLS FIRST"
        };
        sql.push_str(&format!("\"{}\" {word}, ", attribute.name));
    }
    sql.push_str(if reverse { "\"key\" DESC" } else { "\"key\"" });
    sql
}

/// Rows behind the marker: behind it in the first attribute, or equal in that and behind it in the others. Null stands
/// before everything else.
fn behind<'q>(
    sort: &[(&'static Attribute, Direction)],
    marker: &'q Marker,
    reverse: bool,
    statement: &mut Statement<'q>,
) {
    let [(attribute, direction), others @ ..] = sort else {
        let sign = if reverse { '<' } else { '>' };
        statement.bind(&format!("\"key\" {sign} "), Bound::Integer(marker.key));
        return;
    };
    let resource = marker.row.resource;
    let name = attribute.name;
    let value = marker.row.get(name);
    let value = encode(attribute.shape, value).unwrap_or(Bound::Null);
    let null = matches!(value, Bound::Null);
    // The first comparison of some says no more than the others; from it an engine sees where in its index to begin.
    let (open, close) = match (descends(*direction, reverse), null) {
        (false, true) => (format!("(\"{name}\" IS NOT NULL"), ")"),
        (true, true) => ("(FALSE".to_owned(), ")"),
        (false, false) => {
            statement.bind(&format!("(\"{name}\" >= "), value);
            (format!(" AND (\"{name}\" > "), "))")
        }
        (true, false) if never_null(resource, attribute) => {
            statement.bind(&format!("(\"{name}\" <= "), value);
            (format!(" AND (\"{name}\" < "), "))")
        }
        (true, false) => (format!("(\"{name}\" IS NULL OR \"{name}\" < "), ")"),
    };
    if null {
        statement.push(&open);
        statement.push(&format!(" OR (\"{name}\" IS NULL AND "));
    } else {
        statement.bind(&open, value);
        statement.bind(&format!(" OR (\"{name}\" = "), value);
        statement.push(" AND ");
    }
    behind(others, marker, reverse, statement);
    statement.push(")");
    statement.push(close);
}
