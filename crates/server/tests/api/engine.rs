//! The database engine below the servers of this suite. It is built twice: the program `api` keeps its data in SQLite,
//! `api_postgres` (a link to the same directory) in PostgreSQL, and what clients see is the same.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{LazyLock, Mutex};

use tempfile::TempDir;
use testkit::postgres::Postgres;

const ON_POSTGRES: bool = matches!(env!("CARGO_CRATE_NAME").as_bytes(), b"api_postgres");

/// One cluster for all tests of this run.
static CLUSTER: LazyLock<Postgres> = LazyLock::new(|| Postgres::start().unwrap());

/// The databases by the directory of their test.
static DATABASES: LazyLock<Mutex<HashMap<PathBuf, String>>> = LazyLock::new(Mutex::default);

/// The database that belongs to a directory: the same one whenever it is asked for.
pub(crate) fn database_of(directory: &TempDir) -> String {
    if !ON_POSTGRES {
        return directory.path().join("l2gw.db").display().to_string();
    }
    let mut databases = DATABASES.lock().unwrap();
    let database = databases
        .entry(directory.path().to_owned())
        .or_insert_with(|| CLUSTER.create_database().unwrap());
    database.clone()
}
