//! One transaction: what [`Snapshot`] and [`Transaction`] do, on one connection of whichever engine.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use model::fault::Fault;
use model::lineage::{Lineage, Moment};
use model::resource::{Kind, Resource};
use model::row::Row;
use model::table;
use uuid::Uuid;

use crate::engine::{Connection, atomically, number};
use crate::page::Marker;
use crate::references;
use crate::statement::{self, Statement};
use crate::value::{Bound, Cells, bounds, decode};
use crate::{Change, Query, Snapshot, Transaction};

/// A transaction that has begun on a connection. For readers the connection itself refuses to write.
pub(crate) struct Session<'c, C> {
    connection: &'c mut C,
    /// The revision of the database when the transaction began.
    revision: u64,
    /// Whether something was changed since.
    changed: bool,
    /// How many deletions were noted since.
    pub(crate) deletions: u64,
}

impl<'c, C: Connection> Session<'c, C> {
    /// A transaction that began at this revision.
    pub(crate) fn new(connection: &'c mut C, revision: u64) -> Self {
        Self {
            connection,
            revision,
            changed: false,
            deletions: 0,
        }
    }

    /// The revision of the database as this transaction leaves it.
    pub(crate) fn revision_after(&self) -> u64 {
        self.revision + u64::from(self.changed)
    }

    /// Runs `change`, all of it or nothing, and hands it the revision it makes.
    fn change<T>(
        &mut self,
        change: impl FnOnce(&mut C, u64) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let next = self.revision + 1;
        let result = atomically(self.connection, |connection| change(connection, next))?;
        self.changed = true;
        Ok(result)
    }

    fn marker(&mut self, query: &Query) -> Result<Option<Marker>, Fault> {
        let Some(id) = query.marker else {
            return Ok(None);
        };
        let resource = Resource::of(query.kind);
        let sql = format!(
            "SELECT \"key\" FROM \"{}\" WHERE \"id\" = $1",
            resource.collection
        );
        let key = number(self.connection, &sql, &[Bound::from(id)])?;
        let row = find(self.connection, query.kind, id)?;
        Ok(key.zip(row).map(|(key, row)| Marker { key, row }))
    }

    /// Shows `each` the rows of a statement that selects [`statement::columns`].
    fn rows(
        &mut self,
        kind: Kind,
        statement: &Statement<'_>,
        each: &mut dyn FnMut(&Row) -> ControlFlow<()>,
    ) -> Result<(), Fault> {
        let mut row = Row::empty(kind);
        self.connection
            .query(&statement.sql, &statement.binds, &mut |result| {
                decode(result, &mut row)?;
                Ok(each(&row))
            })
    }

    fn deleted_since(&mut self, since: u64, each: &mut dyn FnMut(Change<'_>)) -> Result<(), Fault> {
        let sql = "SELECT \"kind\", \"id\" FROM \"tombstones\" WHERE \"revision\" > $1 ORDER BY \"revision\"";
        let since = Bound::Integer(since.cast_signed());
        self.connection.query(sql, &[since], &mut |result| {
            let collection = result.text(0)?;
            let resource = table::ALL.iter().find(|r| r.collection == collection);
            // A kind that is not in the table any more has no rows that anybody could know.
            if let Some(resource) = resource {
                each(Change::Deleted(resource.kind, result.uuid(1)?));
            }
            Ok(ControlFlow::Continue(()))
        })
    }

    /// Shows `each` every row of a statement.
    fn every(
        &mut self,
        sql: &str,
        each: &mut dyn FnMut(&dyn Cells) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        self.connection.query(sql, &[], &mut |row| {
            each(row)?;
            Ok(ControlFlow::Continue(()))
        })
    }
}

impl<C: Connection> Snapshot for Session<'_, C> {
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
        let count = number(self.connection, &statement.sql, &statement.binds)?;
        Ok(count.unwrap_or_default().cast_unsigned())
    }

    fn changes(&mut self, since: u64, each: &mut dyn FnMut(Change<'_>)) -> Result<u64, Fault> {
        let now = self.revision_after();
        let sql = "SELECT \"forgotten\" FROM \"state\"";
        let forgotten = number(self.connection, sql, &[])?.unwrap_or_default();
        // A revision that is still to come is one of another database, or of this one before it was restored.
        let known = (forgotten.cast_unsigned()..=now).contains(&since);
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
        let mut names = BTreeSet::new();
        self.every("SELECT \"name\" FROM \"seen_devices\"", &mut |row| {
            names.insert(row.text(0)?.to_owned());
            Ok(())
        })?;
        Ok(names)
    }

    fn quotas(&mut self, project: &str) -> Result<BTreeMap<Kind, i64>, Fault> {
        let mut quotas = BTreeMap::new();
        let sql = "SELECT \"kind\", \"rows\" FROM \"quotas\" WHERE \"project\" = $1";
        let project = Bound::Text(project);
        self.connection.query(sql, &[project], &mut |row| {
            let collection = row.text(0)?;
            let resource = table::ALL.iter().find(|r| r.collection == collection);
            if let Some(resource) = resource {
                quotas.insert(resource.kind, row.integer(1)?);
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(quotas)
    }

    fn projects_with_quotas(&mut self) -> Result<Vec<String>, Fault> {
        let mut projects = Vec::new();
        let sql = "SELECT DISTINCT \"project\" FROM \"quotas\" ORDER BY \"project\"";
        self.every(sql, &mut |row| {
            projects.push(row.text(0)?.to_owned());
            Ok(())
        })?;
        Ok(projects)
    }

    fn lineage(&mut self) -> Result<Lineage, Fault> {
        let mut beginnings = Vec::new();
        let sql = "SELECT \"id\", \"revision\" FROM \"timelines\" ORDER BY \"key\"";
        self.every(sql, &mut |row| {
            beginnings.push(Moment {
                timeline: row.uuid(0)?,
                revision: row.integer(1)?.cast_unsigned(),
            });
            Ok(())
        })?;
        Ok(Lineage::new(beginnings))
    }
}

impl<C: Connection> Transaction for Session<'_, C> {
    fn insert(&mut self, rows: &mut [Row]) -> Result<(), Fault> {
        if rows.is_empty() {
            return Ok(());
        }
        self.change(|connection, revision| {
            for row in &mut *rows {
                row.revision = revision;
            }
            insert_all(connection, rows)
        })
    }

    fn update(&mut self, row: &mut Row) -> Result<(), Fault> {
        self.change(|connection, revision| {
            row.revision = revision;
            let resource = row.resource;
            let attributes = statement::changing(resource).chain(statement::lasting(resource));
            let binds = bounds(row, attributes)?;
            match connection.execute(&statement::update(resource), &binds) {
                Ok(0) if find(connection, resource.kind, row.id())?.is_some() => {
                    Err(Fault::internal(format!(
                        "an update gives {} {} another parent",
                        resource.member,
                        row.id()
                    )))
                }
                Ok(0) => Err(resource.not_found.fill(&row.id().to_string())),
                Ok(_) => Ok(()),
                Err(refusal) => Err(references::violation(connection, row, refusal)),
            }
        })
    }

    fn delete(&mut self, kind: Kind, id: Uuid) -> Result<bool, Fault> {
        let resource = Resource::of(kind);
        if find(self.connection, kind, id)?.is_none() {
            return Ok(false);
        }
        self.change(|connection, revision| {
            references::refuse_if_in_use(connection, kind, id)?;
            let sql = format!("DELETE FROM \"{}\" WHERE \"id\" = $1", resource.collection);
            connection.execute(&sql, &[Bound::from(id)])?;
            connection.execute(
                // The same id can come and go twice within one write.
                "INSERT INTO \"tombstones\" VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
                &[
                    Bound::Integer(revision.cast_signed()),
                    Bound::Text(resource.collection),
                    Bound::from(id),
                ],
            )?;
            Ok(())
        })?;
        self.deletions += 1;
        Ok(true)
    }

    fn put_quotas(&mut self, project: &str, quotas: &BTreeMap<Kind, i64>) -> Result<(), Fault> {
        self.change(|connection, _| {
            let sql = "DELETE FROM \"quotas\" WHERE \"project\" = $1";
            connection.execute(sql, &[Bound::Text(project)])?;
            for (kind, rows) in quotas {
                let sql = "INSERT INTO \"quotas\" VALUES ($1, $2, $3)";
                let kind = Bound::Text(Resource::of(*kind).collection);
                let values = [Bound::Text(project), kind, Bound::Integer(*rows)];
                connection.execute(sql, &values)?;
            }
            Ok(())
        })
    }

    fn remember_devices(&mut self, names: &[String]) -> Result<(), Fault> {
        let known = self.seen_devices()?;
        let new: Vec<_> = names.iter().filter(|name| !known.contains(*name)).collect();
        if new.is_empty() {
            return Ok(());
        }
        self.change(|connection, _| {
            for name in new {
                let sql = "INSERT INTO \"seen_devices\" VALUES ($1) ON CONFLICT DO NOTHING";
                connection.execute(sql, &[Bound::Text(name)])?;
            }
            Ok(())
        })
    }

    fn forget_device(&mut self, name: &str) -> Result<bool, Fault> {
        if !self.seen_devices()?.contains(name) {
            return Ok(false);
        }
        self.change(|connection, _| {
            let sql = "DELETE FROM \"seen_devices\" WHERE \"name\" = $1";
            connection.execute(sql, &[Bound::Text(name)])?;
            Ok(true)
        })
    }
}

fn find<C: Connection>(connection: &mut C, kind: Kind, id: Uuid) -> Result<Option<Row>, Fault> {
    let mut found = None;
    let sql = statement::find(Resource::of(kind));
    connection.query(&sql, &[Bound::from(id)], &mut |result| {
        let mut row = Row::empty(kind);
        decode(result, &mut row)?;
        found = Some(row);
        Ok(ControlFlow::Break(()))
    })?;
    Ok(found)
}

/// Inserts rows with the revisions that they have.
pub(crate) fn insert_all<C: Connection>(connection: &mut C, rows: &[Row]) -> Result<(), Fault> {
    let mut before = 0;
    for alike in rows.chunk_by(|a, b| a.resource.kind == b.resource.kind) {
        if let Err((place, refusal)) = connection.insert(alike) {
            let fault = match alike.get(place) {
                Some(row) => references::violation(connection, row, refusal),
                None => refusal.into(),
            };
            // A machine that fails does not fail because of this item.
            return Err(if rows.len() > 1 && fault.kind.status() < 500 {
                fault.at_index(before + place)
            } else {
                fault
            });
        }
        before += alike.len();
    }
    Ok(())
}
