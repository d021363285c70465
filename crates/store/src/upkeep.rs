//! What operators do to a database beside letting a server use it.

use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use model::fault::Fault;
use model::resource::Kind;
use model::row::Row;
use model::table;

use crate::engine::{Connection, number, revision};
use crate::location::Location;
use crate::postgres::{Access, Session as PostgresSession};
use crate::query::Query;
use crate::session::{Session, insert_all};
use crate::sqlite::{self, Reading};
use crate::value::{Bound, Cell, Cells};
use crate::{OpenError, Snapshot, Store};

/// So many rows are on their way from one database to the other at a time.
const BATCH: usize = 10_000;

/// The tables beside the resources whose rows a copy takes along, and their columns.
const BESIDES: &[(&str, &[&str])] = &[
    ("seen_devices", &["name"]),
    ("timelines", &["id", "revision"]),
    ("quotas", &["project", "kind", "rows"]),
];

/// Why something could not be done to a database, in one line.
#[derive(Debug, thiserror::Error)]
pub enum UpkeepError {
    /// It cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// There is none.
    #[error("there is no database {0}")]
    Missing(String),
    /// The file for a backup is there already, or cannot be written.
    #[error("cannot write {path}: {cause}")]
    Backup {
        /// Which file.
        path: PathBuf,
        /// What the operating system or SQLite said.
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A backup of PostgreSQL is PostgreSQL's business.
    #[error("'{0}' is no SQLite database: PostgreSQL is backed up by pg_dump")]
    NotSqlite(String),
    /// The target of a copy is not empty.
    #[error("{0} is not empty: rows are copied into a new database only")]
    NotEmpty(String),
    /// What the database holds is not what it should hold.
    #[error("{database} is not in order: {cause}")]
    Damaged {
        /// Which database.
        database: String,
        /// What is wrong.
        cause: String,
    },
    /// The source of a copy is its target.
    #[error("{from} and {to} are the same database: rows are copied into another one")]
    Same {
        /// The source.
        from: String,
        /// The target.
        to: String,
    },
    /// A copy is not like its original.
    #[error("the copy is not like the original: {0}")]
    Different(String),
    /// It could not be read or written.
    #[error("{}", .0.detail.as_ref().unwrap_or(&.0.message))]
    Database(Fault),
}

impl From<Fault> for UpkeepError {
    fn from(fault: Fault) -> Self {
        Self::Database(fault)
    }
}

/// How many rows of each kind there are.
pub type Census = Vec<(Kind, u64)>;

/// The version of a database's schema; it is not changed, and a server may use it meanwhile.
///
/// # Errors
/// There is none, or it is not ours.
pub async fn version(url: &str) -> Result<u32, UpkeepError> {
    blocking(url, |location, url| match location {
        Location::File(path) => Ok(sqlite::version(existing(&path)?)?),
        Location::Temporary => Err(UpkeepError::Missing(url)),
        Location::Postgres(server) => Ok(PostgresSession::open(*server, Access::Read)?.version()?),
    })
    .await
}

/// Brings a database's schema up to date, as the next start of a server would; makes it where there is none.
///
/// # Errors
/// As [`Store::open`].
pub async fn upgrade(url: &str) -> Result<(), OpenError> {
    Store::open(url).await?.close().await;
    Ok(())
}

/// Reads everything that a database holds and says what is damaged. A server may use it meanwhile.
///
/// # Errors
/// It is damaged, of another version, or cannot be read.
pub async fn check(url: &str) -> Result<Census, UpkeepError> {
    blocking(url, |location, url| match location {
        Location::File(path) => {
            let path = existing(&path)?;
            current(&url, sqlite::version(path)?)?;
            if let Some(cause) = sqlite::damage(path)? {
                return Err(UpkeepError::Damaged {
                    database: url,
                    cause,
                });
            }
            let mut reading =
                Reading::open(path).map_err(|error| OpenError::engine(&url, error))?;
            census(&mut reading)
        }
        Location::Temporary => Err(UpkeepError::Missing(url)),
        Location::Postgres(server) => {
            let mut session = PostgresSession::open(*server, Access::Read)?;
            current(&url, session.version()?)?;
            census(&mut session)
        }
    })
    .await
}

/// Copies a SQLite database into a new file as it is at this moment. A server may use it, and write it, meanwhile.
///
/// # Errors
/// The file exists, or one of the two cannot be read or written. Then there is no file.
pub async fn backup(url: &str, file: &Path) -> Result<(), UpkeepError> {
    let file = file.to_owned();
    blocking(url, move |location, url| {
        let Location::File(path) = location else {
            return Err(UpkeepError::NotSqlite(url));
        };
        current(&url, sqlite::version(existing(&path)?)?)?;
        let failed = |cause: Box<dyn std::error::Error + Send + Sync>| UpkeepError::Backup {
            path: file.clone(),
            cause,
        };
        if file.exists() {
            let exists = io::Error::from(io::ErrorKind::AlreadyExists);
            return Err(failed(exists.into()));
        }
        // Under its name there is never half a backup.
        let mut unfinished = file.clone().into_os_string();
        unfinished.push(".part");
        let unfinished = PathBuf::from(unfinished);
        let written = sqlite::backup(&path, &unfinished)
            .map_err(Into::into)
            .and_then(|()| Ok(File::open(&unfinished)?.sync_all()?))
            .and_then(|()| Ok(std::fs::rename(&unfinished, &file)?));
        written.map_err(|cause: Box<dyn std::error::Error + Send + Sync>| {
            let _ = std::fs::remove_file(&unfinished);
            failed(cause)
        })
    })
    .await
}

/// Copies all rows into a new database, of whichever engine, and compares them afterwards. No server may use either of
/// the two meanwhile.
///
/// # Errors
/// They are one; one of them is in use or cannot be opened; the target is not empty; rows differ.
pub async fn copy(from: &str, to: &str) -> Result<Census, UpkeepError> {
    let target: Location = to.parse()?;
    let name = crate::without_password(to);
    blocking(from, move |source, from| match target {
        // Otherwise each of our own two connections would be another server to the other one.
        target if source.is(&target) => Err(UpkeepError::Same { from, to: name }),
        Location::File(path) => copy_from(source, from, sqlite::open_to_write(&path)?, &name),
        Location::Temporary => Err(UpkeepError::Missing(name)),
        Location::Postgres(server) => {
            let target = PostgresSession::open(*server, Access::Write)?;
            copy_from(source, from, target, &name)
        }
    })
    .await
}

fn copy_from<T: Connection>(
    source: Location,
    from: String,
    mut target: T,
    to: &str,
) -> Result<Census, UpkeepError> {
    let census = match source {
        Location::File(path) => {
            let mut source = sqlite::open_to_write(existing(&path)?)?;
            transfer(&mut source, &mut target, to)
        }
        Location::Temporary => Err(UpkeepError::Missing(from)),
        Location::Postgres(server) => {
            let mut source = PostgresSession::open(*server, Access::Write)?;
            transfer(&mut source, &mut target, to)
        }
    };
    target.finish();
    census
}

/// Copies everything in one transaction, and compares.
fn transfer<S: Connection, T: Connection>(
    source: &mut S,
    target: &mut T,
    to: &str,
) -> Result<Census, UpkeepError> {
    source.begin()?;
    let now = revision(source)?;
    target.begin()?;
    if !is_empty(target)? {
        return Err(UpkeepError::NotEmpty(to.to_owned()));
    }
    let mut census = Census::new();
    for resource in table::ALL {
        let mut rows = 0;
        batches(source, resource.kind, &mut |batch| {
            rows += batch.len() as u64;
            insert_all(target, batch)
        })?;
        census.push((resource.kind, rows));
    }
    for (table, columns) in BESIDES {
        copy_besides(source, target, table, columns)?;
    }
    // Who follows the database begins with everything.
    let sql = "UPDATE \"state\" SET \"revision\" = $1, \"forgotten\" = $1";
    let bound = Bound::Integer(now.cast_signed());
    target.execute(sql, &[bound]).map_err(Fault::from)?;
    target.commit()?;

    target.begin()?;
    for resource in table::ALL {
        let mut marker = None;
        let mut difference = None;
        batches(source, resource.kind, &mut |batch| {
            let query = Query {
                limit: Some(batch.len() as u64),
                marker,
                ..Query::all(resource.kind)
            };
            let mut originals = batch.iter();
            Session::new(target, now).select(&query, &mut |copy| {
                let original = originals.next();
                if original
                    .is_none_or(|row| row.values != copy.values || row.revision != copy.revision)
                {
                    difference = Some(copy.id());
                    return ControlFlow::Break(());
                }
                ControlFlow::Continue(())
            })?;
            difference = difference.or(originals.next().map(Row::id));
            marker = batch.last().map(Row::id);
            Ok(())
        })?;
        if let Some(id) = difference {
            let difference = format!("{} {id}", resource.member);
            return Err(UpkeepError::Different(difference));
        }
    }
    target.rollback()?;
    source.rollback()?;
    Ok(census)
}

fn is_empty<C: Connection>(connection: &mut C) -> Result<bool, Fault> {
    for resource in table::ALL {
        let sql = format!("SELECT \"key\" FROM \"{}\" LIMIT 1", resource.collection);
        if number(connection, &sql, &[])?.is_some() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Shows `each` the rows of a kind, many at a time.
fn batches<C: Connection>(
    connection: &mut C,
    kind: Kind,
    each: &mut dyn FnMut(&[Row]) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let revision = revision(connection)?;
    let mut batch = Vec::with_capacity(BATCH);
    let mut failed = None;
    Session::new(connection, revision).select(&Query::all(kind), &mut |row| {
        batch.push(row.clone());
        if batch.len() == BATCH {
            failed = each(&batch).err();
            batch.clear();
        }
        match failed {
            Some(_) => ControlFlow::Break(()),
            None => ControlFlow::Continue(()),
        }
    })?;
    match failed {
        Some(fault) => Err(fault),
        None => each(&batch),
    }
}

/// Copies the rows of a table beside the resources; there are few.
fn copy_besides<S: Connection, T: Connection>(
    source: &mut S,
    target: &mut T,
    table: &str,
    columns: &[&str],
) -> Result<(), Fault> {
    let names = columns.join("\", \"");
    let places: Vec<_> = (1..=columns.len()).map(|n| format!("${n}")).collect();
    let select = format!("SELECT \"{names}\" FROM \"{table}\" ORDER BY 1");
    let select = match table {
        // Their order is their meaning.
        "timelines" => format!("SELECT \"{names}\" FROM \"{table}\" ORDER BY \"key\""),
        _ => select,
    };
    let insert = format!(
        "INSERT INTO \"{table}\" (\"{names}\") VALUES ({})",
        places.join(", ")
    );
    source.query(&select, &[], &mut |row| {
        let values = (0..columns.len()).map(|place| bound(row, place));
        let values: Vec<_> = values.collect::<Result<_, Fault>>()?;
        target.execute(&insert, &values)?;
        Ok(ControlFlow::Continue(()))
    })
}

fn bound(row: &dyn Cells, place: usize) -> Result<Bound<'_>, Fault> {
    Ok(match row.cell(place)? {
        Cell::Null => Bound::Null,
        Cell::Integer(number) => Bound::Integer(number),
        Cell::Text(text) => Bound::Text(text),
        Cell::Bytes(bytes) => Bound::Bytes16(bytes.try_into().map_err(Fault::internal)?),
    })
}

async fn blocking<T: Send + 'static>(
    url: &str,
    work: impl FnOnce(Location, String) -> Result<T, UpkeepError> + Send + 'static,
) -> Result<T, UpkeepError> {
    let location = url.parse()?;
    let name = crate::without_password(url);
    let worked = tokio::task::spawn_blocking(move || work(location, name)).await;
    worked.map_err(|cause| OpenError::engine(url, cause))?
}

fn existing(path: &Path) -> Result<&Path, UpkeepError> {
    match path.exists() {
        true => Ok(path),
        false => Err(UpkeepError::Missing(path.display().to_string())),
    }
}

/// Reads every row of a database.
fn census<C: Connection>(connection: &mut C) -> Result<Census, UpkeepError> {
    connection.begin()?;
    let revision = revision(connection)?;
    let mut census = Vec::new();
    for resource in table::ALL {
        let mut rows = 0;
        let query = Query::all(resource.kind);
        Session::new(connection, revision).select(&query, &mut |_| {
            rows += 1;
            ControlFlow::Continue(())
        })?;
        census.push((resource.kind, rows));
    }
    connection.rollback()?;
    Ok(census)
}

/// Whether this l2gw knows the schema.
fn current(database: &str, found: u32) -> Result<(), UpkeepError> {
    if found == table::SCHEMA_VERSION {
        return Ok(());
    }
    let cause = format!(
        "its schema has version {found}, this l2gw needs {}; see l2gw db upgrade",
        table::SCHEMA_VERSION
    );
    Err(UpkeepError::Damaged {
        database: database.to_owned(),
        cause,
    })
}
