//! Connections, and the way of a database to the present version of its schema.

use std::path::Path;
use std::time::Duration;

use model::resource::Resource;
use model::table;
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use crate::OpenError;
use crate::schema::migration;

/// How long a statement waits for another process (a backup, somebody's shell) that has the database locked.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);

/// "l2gw": says whose a database is (`PRAGMA application_id`).
const APPLICATION_ID: i32 = i32::from_be_bytes(*b"l2gw");

/// Statements kept prepared by a connection.
const PREPARED: usize = 64;

/// The connection that writes; the database is at the present version afterwards.
pub(super) fn open_writer(path: &Path) -> Result<Connection, OpenError> {
    migrated(path, table::ALL, table::SCHEMA_VERSION)
}

/// A connection that cannot write.
pub(super) fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    open(path, OpenFlags::SQLITE_OPEN_READ_ONLY)
}

fn migrated(
    path: &Path,
    table: &[&'static Resource],
    version: u32,
) -> Result<Connection, OpenError> {
    let failed = |error| refused(path, error);
    let mut connection = open(path, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(failed)?;
    let found = schema_version(&connection).map_err(failed)?;
    let found = found.ok_or_else(|| OpenError::Foreign(path.to_owned()))?;
    if found > version {
        return Err(OpenError::Newer {
            path: path.to_owned(),
            found,
            known: version,
        });
    }
    configure(&connection).map_err(failed)?;
    migrate(&mut connection, table, found, version).map_err(failed)?;
    forget_deletions(&connection).map_err(failed)?;
    Ok(connection)
}

fn open(path: &Path, access: OpenFlags) -> rusqlite::Result<Connection> {
    // A connection stays on its thread.
    let connection = Connection::open_with_flags(path, access | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(LOCK_PATIENCE)?;
    connection.set_prepared_statement_cache_capacity(PREPARED);
    Ok(connection)
}

/// `PRAGMA user_version`; 0 for a new file, `None` for a database that is not ours.
fn schema_version(connection: &Connection) -> rusqlite::Result<Option<u32>> {
    let number = |sql| connection.query_row(sql, [], |row| row.get::<_, i32>(0));
    let version = number("PRAGMA user_version")?;
    let ours = match number("PRAGMA application_id")? {
        APPLICATION_ID => true,
        0 => version == 0 && number("SELECT count(*) FROM sqlite_schema")? == 0,
        _ => false,
    };
    Ok(u32::try_from(version).ok().filter(|_| ours))
}

fn configure(connection: &Connection) -> rusqlite::Result<()> {
    let mode = connection
        .pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get::<_, String>(0))?;
    if mode != "wal" {
        tracing::warn!(
            mode,
            "the database's file system has no shared memory: readers and writer block each other"
        );
    }
    // Every commit is on the disk before it is answered.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    // In KiB where negative: a large bulk stays in memory until its commit.
    connection.pragma_update(None, "cache_size", -16 * 1024)?;
    // The writer checkpoints by itself, after it has answered.
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    // In bytes: what a bulk leaves of the write-ahead log's file once it is copied.
    connection.pragma_update(None, "journal_size_limit", 64 << 20)
}

fn migrate(
    connection: &mut Connection,
    table: &[&'static Resource],
    from: u32,
    to: u32,
) -> rusqlite::Result<()> {
    if from == to {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for version in from + 1..=to {
        transaction.execute_batch(&migration(table, version))?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", to)?;
    transaction.commit()?;
    tracing::info!(from, to, "migrated the database's schema");
    Ok(())
}

/// Nobody who asks has seen an earlier run: who follows the database begins with everything.
fn forget_deletions(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(
        "BEGIN IMMEDIATE;
         UPDATE \"state\" SET \"forgotten\" = \"revision\" WHERE EXISTS (SELECT 1 FROM \"tombstones\");
         DELETE FROM \"tombstones\";
         COMMIT",
    )
}

fn refused(path: &Path, error: rusqlite::Error) -> OpenError {
    let path = path.to_owned();
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => OpenError::Foreign(path),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => OpenError::Locked(path),
        _ => OpenError::Engine {
            path,
            cause: error.into(),
        },
    }
}
