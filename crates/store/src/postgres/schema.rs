//! The way of a database to the present version of its schema, and whose it is.

use std::thread;
use std::time::{Duration, Instant};

use model::resource::Resource;

use super::connection::Session;
use crate::OpenError;
use crate::schema::{Dialect, migration};

/// "l2gw": names the advisory lock of the one server that writes.
const LOCK: i32 = i32::from_be_bytes(*b"l2gw");

/// How long the lock may take: the server that had it may be ending just now, or PostgreSQL still at what a killed one
/// had asked for last.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);

/// Where the version is.
const VERSION: &str = "l2gw_schema";

/// Takes the lock, which this session has until it ends.
pub(super) fn lock(session: &mut Session) -> Result<(), OpenError> {
    let begun = Instant::now();
    let sql = format!("SELECT pg_try_advisory_lock({LOCK})");
    while session.ask(&sql)?.as_deref() != Some("t") {
        if begun.elapsed() > LOCK_PATIENCE {
            return Err(OpenError::InUse(session.name().to_owned()));
        }
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// The version of the schema; 0 for an empty database.
pub(super) fn version(session: &mut Session) -> Result<u32, OpenError> {
    let count = |tables: &str| {
        format!("SELECT count(*) FROM pg_tables WHERE schemaname = current_schema(){tables}")
    };
    if session.ask(&count(&format!(" AND tablename = '{VERSION}'")))? == Some("1".into()) {
        let version = session.ask(&format!("SELECT \"version\" FROM \"{VERSION}\""))?;
        let version = version.and_then(|version| version.parse().ok());
        return version.ok_or_else(|| OpenError::Foreign(session.name().to_owned()));
    }
    match session.ask(&count(""))?.as_deref() {
        Some("0") => Ok(0),
        _ => Err(OpenError::Foreign(session.name().to_owned())),
    }
}

/// Brings the schema to version `to`, all the way or not at all.
pub(super) fn migrate(
    session: &mut Session,
    table: &[&'static Resource],
    to: u32,
) -> Result<(), OpenError> {
    let from = version(session)?;
    if from > to {
        return Err(OpenError::Newer {
            database: session.name().to_owned(),
            found: from,
            known: to,
        });
    }
    if from == to {
        return Ok(());
    }
    let mut sql = String::from("BEGIN;\n");
    if from == 0 {
        sql.push_str(&format!(
            "CREATE TABLE \"{VERSION}\" (\"version\" bigint NOT NULL);\nINSERT INTO \"{VERSION}\" VALUES (0);\n"
        ));
    }
    for version in from + 1..=to {
        sql.push_str(&migration(&Dialect::POSTGRES, table, version));
    }
    sql.push_str(&format!(
        "UPDATE \"{VERSION}\" SET \"version\" = {to};\nCOMMIT"
    ));
    if let Err(error) = session.ask(&sql) {
        // What was begun must not stay open; if the session is lost, it does not.
        let _ = session.ask("ROLLBACK");
        return Err(error);
    }
    tracing::info!(from, to, "migrated the database's schema");
    Ok(())
}
