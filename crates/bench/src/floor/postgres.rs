//! Bare PostgreSQL: the product's own rows into a table of the same columns and indexes, by psql.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use testkit::postgres::Postgres;

/// Copies the remote MACs of a database of the product into a table like theirs in the same database; how long that took.
pub(crate) fn bulk_copy(cluster: &Postgres, database: &str, directory: &Path) -> Result<Duration> {
    let file = directory.join("rows");
    let file = file.display();
    cluster.sql(database, &format!("\\copy l2_remote_macs TO '{file}'"))?;
    cluster.sql(
        database,
        "CREATE TABLE bare (LIKE l2_remote_macs INCLUDING ALL)",
    )?;
    let begun = Instant::now();
    cluster.sql(database, &format!("\\copy bare FROM '{file}'"))?;
    Ok(begun.elapsed())
}
