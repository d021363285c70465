//! One transaction: what [`Snapshot`] and [`Transaction`] do, on one connection.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use model::fault::Fault;
use model::lineage::{Lineage, Moment};
use model::resource::{Attribute, Kind, Resource};
use model::row::{Row, Value};
use model::table;
use rusqlite::{CachedStatement, Connection, OptionalExtension};
use uuid::Uuid;

use super::fault::fault;
use super::references;
use super::statement::{self, Marker, Statement};
use super::value::{Bound, decode, encode};
use crate::engine::unavailable;
use crate::schema::stored;
use crate::{Change, Query, Snapshot, Transaction};

/// A transaction that has begun on a connection. For readers the connection itself refuses to write.
pub(super) struct Session<'c> {
    connection: &'c Connection,
    /// The revision of the database when the transaction began.
    revision: u64,
    /// Whether something was changed since.
    changed: bool,
    /// How many deletions were noted since.
    pub(super) deletions: u64,
}

impl<'c> Session<'c> {
    /// A transaction that began at this revision.
    pub(super) fn new(connection: &'c Connection, revision: u64) -> Self {
        Self {
            connection,
            revision,
            changed: false,
            deletions: 0,
        }
    }

    /// The revision of the database as this transaction leaves it.
    pub(super) fn revision_after(&self) -> u64 {
        self.revision + u64::from(self.changed)
    }

    /// Runs `change`, all of it or nothing, and hands it the revision it makes.
    fn change<T>(
        &mut self,
        change: impl FnOnce(&Connection, u64) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let next = self.revision + 1;
        let result = atomically(self.connection, || change(self.connection, next))?;
        self.changed = true;
        Ok(result)
    }

    fn marker(&self, query: &Query) -> Result<Option<Marker>, Fault> {
        let Some(id) = query.marker else {
            return Ok(None);
        };
        let resource = Resource::of(query.kind);
        let sql = format!(
            "SELECT \"key\" FROM \"{}\" WHERE \"id\" = ?",
            resource.collection
        );
        let key = self.scalar(&sql, Bound::from(id))?;
        let row = find(self.connection, query.kind, id)?;
        Ok(key.zip(row).map(|(key, row)| Marker { key, row }))
    }

    fn scalar(&self, sql: &str, value: Bound<'_>) -> Result<Option<i64>, Fault> {
        let mut statement = self.connection.prepare_cached(sql).map_err(fault)?;
        let first = statement.query_row([value], |row| row.get(0));
        first.optional().map_err(fault)
    }

    /// Shows `each` the rows of a statement that selects [`statement::columns`].
    fn rows(
        &self,
        kind: Kind,
        statement: &Statement<'_>,
        each: &mut dyn FnMut(&Row) -> ControlFlow<()>,
    ) -> Result<(), Fault> {
        let prepared = self.connection.prepare_cached(&statement.sql);
        let mut prepared = prepared.map_err(fault)?;
        bind_all(&mut prepared, &statement.binds)?;
        let mut results = prepared.raw_query();
        let mut row = Row::empty(kind);
        while let Some(result) = results.next().map_err(fault)? {
            decode(result, &mut row)?;
            if each(&row).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn deleted_since(&self, since: u64, each: &mut dyn FnMut(Change<'_>)) -> Result<(), Fault> {
        let sql = "SELECT \"kind\", \"id\" FROM \"tombstones\" WHERE \"revision\" > ? ORDER BY \"revision\"";
        let mut prepared = self.connection.prepare_cached(sql).map_err(fault)?;
        let mut results = prepared.query([since.cast_signed()]).map_err(fault)?;
        while let Some(result) = results.next().map_err(fault)? {
            let collection = result.get_ref(0).map_err(fault)?.as_str();
            let collection = collection.map_err(Fault::internal)?;
            let resource = table::ALL.iter().find(|r| r.collection == collection);
            let id = result.get::<_, [u8; 16]>(1).map_err(fault)?;
            // A kind that is not in the table any more has no rows that anybody could know.
            if let Some(resource) = resource {
                each(Change::Deleted(resource.kind, Uuid::from_bytes(id)));
            }
        }
        Ok(())
    }
}

impl Snapshot for Session<'_> {
    fn revision(&mut self) -> Result<u64, Fault> {
        Ok(self.revision_after())
    }

    fn get(&mut self, kind: Kind, id: Uuid) -> Result<Option<Row>, Fault> {
        find(self.connection, kind, id)
    }

    fn select(
        &mut self,
        query: &Query,
        each: &mut dyn FnMut(&Row) -> ControlFlow<()>,
    ) -> Result<(), Fault> {
        let marker = self.marker(query)?;
        let statement = statement::select(query, marker.as_ref())?;
        if query.marker.is_some() && marker.is_none() {
            return Ok(());
        }
        self.rows(query.kind, &statement, each)
    }

    fn count(&mut self, query: &Query) -> Result<u64, Fault> {
        let statement = statement::count(query)?;
        let prepared = self.connection.prepare_cached(&statement.sql);
        let mut prepared = prepared.map_err(fault)?;
        let binds = rusqlite::params_from_iter(&statement.binds);
        let count = prepared.query_row(binds, |row| row.get::<_, i64>(0));
        Ok(count.map_err(fault)?.cast_unsigned())
    }

    fn changes(&mut self, since: u64, each: &mut dyn FnMut(Change<'_>)) -> Result<u64, Fault> {
        let now = self.revision_after();
        let forgotten = self
            .connection
            .query_row("SELECT \"forgotten\" FROM \"state\"", [], |row| {
                row.get::<_, i64>(0)
            })
            .map_err(fault)?
            .cast_unsigned();
        // A revision that is still to come is one of another database, or of this one before it was restored.
        let known = (forgotten..=now).contains(&since);
        if since != 0 && !known {
            each(Change::Reset);
        }
        let since = if known { since } else { 0 };
        if since != 0 {
            self.deleted_since(since, each)?;
        }
        for resource in table::ALL {
            let statement = statement::written_since(resource, since);
            self.rows(resource.kind, &statement, &mut |row| {
                each(Change::Written(row));
                ControlFlow::Continue(())
            })?;
        }
        Ok(now)
    }

    fn seen_devices(&mut self) -> Result<BTreeSet<String>, Fault> {
        let sql = "SELECT \"name\" FROM \"seen_devices\"";
        let mut statement = self.connection.prepare_cached(sql).map_err(fault)?;
        let names = statement.query_map([], |row| row.get(0)).map_err(fault)?;
        names.map(|name| name.map_err(fault)).collect()
    }

    fn lineage(&mut self) -> Result<Lineage, Fault> {
        let sql = "SELECT \"id\", \"revision\" FROM \"timelines\" ORDER BY \"key\"";
        let mut statement = self.connection.prepare_cached(sql).map_err(fault)?;
        let beginnings = statement.query_map([], |row| {
            Ok(Moment {
                timeline: Uuid::from_bytes(row.get(0)?),
                revision: row.get::<_, i64>(1)?.cast_unsigned(),
            })
        });
        let beginnings = beginnings.map_err(fault)?;
        let beginnings: Result<_, _> = beginnings.map(|moment| moment.map_err(fault)).collect();
        Ok(Lineage::new(beginnings?))
    }
}

impl Transaction for Session<'_> {
    fn insert(&mut self, rows: &mut [Row]) -> Result<(), Fault> {
        if rows.is_empty() {
            return Ok(());
        }
        self.change(|connection, revision| insert_all(connection, rows, revision))?;
        for row in rows {
            row.revision = self.revision_after();
        }
        Ok(())
    }

    fn update(&mut self, row: &mut Row) -> Result<(), Fault> {
        self.change(|connection, revision| {
            let resource = row.resource;
            let mut statement = prepare(connection, &statement::update(resource))?;
            let attributes = statement::changing(resource).chain(statement::lasting(resource));
            bind_row(&mut statement, row, revision, attributes)?;
            match statement.raw_execute() {
                Ok(0) if find(connection, resource.kind, row.id())?.is_some() => {
                    Err(Fault::internal(format!(
                        "an update gives {} {} another parent",
                        resource.member,
                        row.id()
                    )))
                }
                Ok(0) => Err(resource.not_found.fill(&row.id().to_string())),
                Ok(_) => Ok(()),
                Err(error) => Err(references::violation(connection, row, error)),
            }
        })?;
        row.revision = self.revision_after();
        Ok(())
    }

    fn delete(&mut self, kind: Kind, id: Uuid) -> Result<bool, Fault> {
        let resource = Resource::of(kind);
        if find(self.connection, kind, id)?.is_none() {
            return Ok(false);
        }
        self.change(|connection, revision| {
            references::refuse_if_in_use(connection, kind, id)?;
            let sql = format!("DELETE FROM \"{}\" WHERE \"id\" = ?", resource.collection);
            execute(connection, &sql, &[Bound::from(id)])?;
            execute(
                connection,
                // The same id can come and go twice within one write.
                "INSERT OR IGNORE INTO \"tombstones\" VALUES (?, ?, ?)",
                &[
                    Bound::Integer(revision.cast_signed()),
                    Bound::Text(resource.collection),
                    Bound::from(id),
                ],
            )
        })?;
        self.deletions += 1;
        Ok(true)
    }

    fn remember_devices(&mut self, names: &[String]) -> Result<(), Fault> {
        let known = self.seen_devices()?;
        let new: Vec<_> = names.iter().filter(|name| !known.contains(*name)).collect();
        if new.is_empty() {
            return Ok(());
        }
        self.change(|connection, _| {
            for name in new {
                let sql = "INSERT OR IGNORE INTO \"seen_devices\" VALUES (?)";
                execute(connection, sql, &[Bound::Text(name)])?;
            }
            Ok(())
        })
    }
}

/// Runs `work` within a savepoint; an error undoes all of it and nothing else.
pub(super) fn atomically<T>(
    connection: &Connection,
    work: impl FnOnce() -> Result<T, Fault>,
) -> Result<T, Fault> {
    // Some errors (a full disk) end the whole transaction; a savepoint would then silently begin a new one.
    if connection.is_autocommit() {
        return Err(unavailable("the transaction was rolled back"));
    }
    let run = |sql| execute(connection, sql, &[]);
    run("SAVEPOINT step")?;
    let result = work();
    let end = match &result {
        Ok(_) => run("RELEASE step"),
        Err(_) if connection.is_autocommit() => Ok(()),
        Err(_) => run("ROLLBACK TO step").and_then(|()| run("RELEASE step")),
    };
    match (result, end) {
        (Ok(value), Ok(())) => Ok(value),
        (Err(fault), Ok(())) | (_, Err(fault)) => Err(fault),
    }
}

/// Runs a statement that answers nothing.
pub(super) fn execute(
    connection: &Connection,
    sql: &str,
    binds: &[Bound<'_>],
) -> Result<(), Fault> {
    let mut statement = prepare(connection, sql)?;
    let done = statement.execute(rusqlite::params_from_iter(binds));
    done.map_err(fault)?;
    Ok(())
}

fn prepare<'c>(connection: &'c Connection, sql: &str) -> Result<CachedStatement<'c>, Fault> {
    connection.prepare_cached(sql).map_err(fault)
}

fn find(connection: &Connection, kind: Kind, id: Uuid) -> Result<Option<Row>, Fault> {
    let mut statement = prepare(connection, &statement::find(Resource::of(kind)))?;
    let mut results = statement.query([Bound::from(id)]).map_err(fault)?;
    let Some(result) = results.next().map_err(fault)? else {
        return Ok(None);
    };
    let mut row = Row::empty(kind);
    decode(result, &mut row)?;
    Ok(Some(row))
}

fn insert_all(connection: &Connection, rows: &[Row], revision: u64) -> Result<(), Fault> {
    let mut index = 0;
    for alike in rows.chunk_by(|a, b| a.resource.kind == b.resource.kind) {
        let Some(first) = alike.first() else { continue };
        let mut statement = prepare(connection, &statement::insert(first.resource))?;
        for row in alike {
            insert_one(connection, &mut statement, row, revision).map_err(|fault| {
                // A machine that fails does not fail because of this item.
                if rows.len() > 1 && fault.kind.status() < 500 {
                    fault.at_index(index)
                } else {
                    fault
                }
            })?;
            index += 1;
        }
    }
    Ok(())
}

fn insert_one(
    connection: &Connection,
    statement: &mut CachedStatement<'_>,
    row: &Row,
    revision: u64,
) -> Result<(), Fault> {
    bind_row(statement, row, revision, stored(row.resource))?;
    match statement.raw_execute() {
        Ok(_) => Ok(()),
        Err(error) => Err(references::violation(connection, row, error)),
    }
}

/// Binds the revision and then the row's values of these attributes.
fn bind_row(
    statement: &mut CachedStatement<'_>,
    row: &Row,
    revision: u64,
    attributes: impl Iterator<Item = (usize, &'static Attribute)>,
) -> Result<(), Fault> {
    bind(statement, 1, Bound::Integer(revision.cast_signed()))?;
    for (place, (position, attribute)) in attributes.enumerate() {
        let value = row.values.get(position).unwrap_or(&Value::Null);
        let Some(value) = encode(attribute.shape, value) else {
            return Err(references::unfit(row.resource, attribute, value));
        };
        bind(statement, place + 2, value)?;
    }
    Ok(())
}

fn bind_all(statement: &mut CachedStatement<'_>, binds: &[Bound<'_>]) -> Result<(), Fault> {
    for (place, value) in binds.iter().enumerate() {
        bind(statement, place + 1, *value)?;
    }
    Ok(())
}

fn bind(statement: &mut CachedStatement<'_>, place: usize, value: Bound<'_>) -> Result<(), Fault> {
    statement.raw_bind_parameter(place, value).map_err(fault)
}
