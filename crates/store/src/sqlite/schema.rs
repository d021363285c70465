//! The way of a database file to the present version of its schema.

use std::path::Path;

use model::resource::Resource;
use model::table;
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use super::connection::open;
use crate::OpenError;
use crate::schema::{Dialect, migration};

/// "l2gw": says whose a database is (`PRAGMA application_id`).
const APPLICATION_ID: i32 = i32::from_be_bytes(*b"l2gw");

/// Opens the connection that writes; the database is at the present version afterwards.
pub(super) fn migrate(path: &Path) -> Result<Connection, OpenError> {
    migrated(path, table::ALL, table::SCHEMA_VERSION)
}

/// The version of the schema; 0 for a new file.
pub(super) fn version(path: &Path) -> Result<u32, OpenError> {
    let failed = |error| refused(path, error);
    let connection = open(path, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(failed)?;
    let found = schema_version(&connection).map_err(failed)?;
    found.ok_or_else(|| OpenError::Foreign(path.display().to_string()))
}

fn migrated(
    path: &Path,
    table: &[&'static Resource],
    version: u32,
) -> Result<Connection, OpenError> {
    let failed = |error| refused(path, error);
    let mut connection = open(path, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(failed)?;
    let found = schema_version(&connection).map_err(failed)?;
    let found = found.ok_or_else(|| OpenError::Foreign(path.display().to_string()))?;
    if found > version {
        return Err(OpenError::Newer {
            database: path.display().to_string(),
            found,
            known: version,
        });
    }
    configure(&connection).map_err(failed)?;
    climb(&mut connection, table, found, version).map_err(failed)?;
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

fn climb(
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
        transaction.execute_batch(&migration(&Dialect::SQLITE, table, version))?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", to)?;
    transaction.commit()?;
    tracing::info!(from, to, "migrated the database's schema");
    Ok(())
}

fn refused(path: &Path, error: rusqlite::Error) -> OpenError {
    let database = path.display().to_string();
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => OpenError::Foreign(database),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => OpenError::Locked(database),
        _ => OpenError::engine(&database, error),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use model::fault::FaultKind;
    use model::resource::{Attribute, Default, Kind, Shape, Template};
    use tempfile::{TempDir, tempdir};

    use super::*;

    fn file() -> (TempDir, PathBuf) {
        let directory = tempdir().unwrap();
        let path = directory.path().join("l2gw.db");
        std::fs::File::create(&path).unwrap();
        (directory, path)
    }

    fn pragma(connection: &Connection, name: &str) -> rusqlite::types::Value {
        connection
            .pragma_query_value(None, name, |row| row.get(0))
            .unwrap()
    }

    #[test]
    fn the_writer_is_durable_and_checks_references_and_readers_cannot_write() {
        let (_directory, path) = file();
        let writer = migrate(&path).unwrap();
        assert_eq!(pragma(&writer, "journal_mode"), "wal".to_owned().into());
        // 2 is FULL.
        assert_eq!(pragma(&writer, "synchronous"), 2.into());
        assert_eq!(pragma(&writer, "foreign_keys"), 1.into());
        let reader = open(&path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
        let refused = reader.execute_batch("INSERT INTO \"seen_devices\" VALUES ('tor1')");
        let code = refused.unwrap_err().sqlite_error_code();
        assert_eq!(code, Some(ErrorCode::ReadOnly));
    }

    /// A resource in the table of some version.
    const fn gateway(
        kind: Kind,
        collection: &'static str,
        attributes: &'static [Attribute],
        since: u32,
    ) -> Resource {
        Resource {
            kind,
            member: collection,
            collection,
            path: collection,
            dashed: None,
            nested: None,
            noun: collection,
            command: collection,
            short_command: collection,
            about: collection,
            extension: None,
            updatable: true,
            named: true,
            attributes,
            unique: &[],
            not_found: Template(FaultKind::NetworkNotFound, "{}"),
            in_use: Template(FaultKind::NetworkInUse, "{}"),
            since,
        }
    }

    const ID: Attribute = Attribute::new("id", Shape::Id, "");

    #[test]
    fn an_older_database_gets_what_newer_versions_add_and_keeps_its_rows() {
        const PRIORITY: Attribute = Attribute {
            since: 2,
            ..Attribute::new("priority", Shape::Integer(0, 9), "").optional(Default::Integer(5))
        };
        const BACKUP: Attribute = Attribute {
            since: 2,
            ..Attribute::new(
                "backup_id",
                Shape::Reference(Kind::L2Gateway, model::resource::OnDelete::Restrict),
                "",
            )
            .required()
        };
        static OLD: Resource = gateway(Kind::Network, "old", &[ID], 1);
        static OLD_NOW: Resource = gateway(Kind::Network, "old", &[ID, PRIORITY, BACKUP], 1);
        static NEW: Resource = gateway(Kind::Port, "new", &[ID], 2);

        let (_directory, path) = file();
        let connection = migrated(&path, &[&OLD], 1).unwrap();
        let row = "INSERT INTO \"old\" (\"revision\", \"id\") VALUES (1, x'00')";
        connection.execute_batch(row).unwrap();
        drop(connection);

        let connection = migrated(&path, &[&OLD_NOW, &NEW], 2).unwrap();
        let old = connection.query_row(
            "SELECT \"priority\", \"backup_id\" IS NULL FROM \"old\"",
            [],
            |row| Ok((row.get::<_, i64>(0)?, row.get::<_, bool>(1)?)),
        );
        assert_eq!(old.unwrap(), (5, true));
        let new = connection.query_row("SELECT count(*) FROM \"new\"", [], |row| {
            row.get::<_, i64>(0)
        });
        assert_eq!(new.unwrap(), 0);
        assert_eq!(schema_version(&connection).unwrap(), Some(2));
        drop(connection);

        let older = migrated(&path, &[&OLD], 1);
        assert!(matches!(
            older,
            Err(OpenError::Newer {
                found: 2,
                known: 1,
                ..
            })
        ));
    }

    #[test]
    fn a_migration_that_fails_changes_nothing() {
        // The same table twice cannot be created.
        static ONE: Resource = gateway(Kind::Network, "one", &[ID], 1);
        let (_directory, path) = file();
        assert!(migrated(&path, &[&ONE, &ONE], 1).is_err());
        migrated(&path, &[&ONE], 1).unwrap();
    }
}
