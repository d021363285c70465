//! The statements, derived from the resource table.

use model::fault::Fault;
use model::resource::{Attribute, Resource, Shape};

use crate::Query;
use crate::page::{Marker, Order};
use crate::schema::stored;
use crate::value::{Bound, encode};

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

    /// The place of a value; it may stand in the text more than once.
    pub(crate) fn place(&mut self, value: Bound<'q>) -> String {
        self.binds.push(value);
        format!("${}", self.binds.len())
    }

    /// Adds `sql` and, behind it, a place for `value`.
    fn bind(&mut self, sql: &str, value: Bound<'q>) {
        let place = self.place(value);
        self.push(sql);
        self.push(&place);
    }
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
    let mut statement = Statement {
        sql: String::new(),
        binds: Vec::new(),
    };
    filter(query, &mut statement)?;
    let filters = std::mem::take(&mut statement.sql);
    let order = Order::new(query, query.reverse)?;
    let stretches = match marker {
        Some(marker) => order.behind(marker, &mut statement),
        None => vec!["TRUE".to_owned()],
    };
    let limit = query.limit.map(|limit| {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        statement.place(Bound::Integer(limit))
    });
    let limit = limit.map_or_else(String::new, |place| format!(" LIMIT {place}"));
    let sorted = order.sql();
    let from = |condition: &str| {
        let table = resource.collection;
        format!(
            "SELECT {columns}, \"key\" FROM \"{table}\" WHERE ({condition}){filters}{sorted}{limit}"
        )
    };
    let mut sql = if query.limit.is_some() && stretches.len() > 1 {
        // Each stretch is cut off for itself, so that none is read beyond a page.
        let stretches = stretches.iter().zip(1..);
        let stretches = stretches
            .map(|(stretch, n)| format!("SELECT * FROM ({}) AS \"stretch{n}\"", from(stretch)));
        let together = stretches.collect::<Vec<_>>().join(" UNION ALL ");
        format!("SELECT * FROM ({together}) AS \"together\"{sorted}{limit}")
    } else {
        from(&stretches.join(" OR "))
    };
    if query.reverse {
        let forwards = Order::new(query, false)?.sql();
        sql = format!("SELECT * FROM ({sql}) AS \"page\"{forwards}");
    }
    statement.sql = sql;
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
pub(crate) fn column(
    resource: &'static Resource,
    position: usize,
) -> Result<&'static Attribute, Fault> {
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
