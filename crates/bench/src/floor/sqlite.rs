//! Bare SQLite: the product's own rows into a table of the same columns and indexes, and out of it as JSON.
//!
//! Table, indexes and rows are copied from the database that the product has just filled, so that the floor cannot
//! drift away from what the product does.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, BufWriter, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags, params_from_iter};
use uuid::Uuid;

/// The table of remote MACs.
const TABLE: &str = "l2_remote_macs";

/// The table of remote MACs of a database of the product: what makes it, what is in it.
#[derive(Debug)]
pub(crate) struct Table {
    schema: Vec<String>,
    columns: usize,
    rows: Vec<Vec<Value>>,
}

impl Table {
    /// Reads it from a database, which may be in use.
    pub(crate) fn read(database: &Path) -> Result<Self> {
        let connection = Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        let schema = connection
            .prepare(
                "SELECT sql FROM sqlite_schema WHERE tbl_name = ? AND sql IS NOT NULL ORDER BY type = 'index'",
            )?
            .query_map([TABLE], |row| row.get(0))?
            .collect::<Result<Vec<String>, _>>()?;
        ensure!(!schema.is_empty(), "no table {TABLE}");
        let mut select = connection.prepare(&format!("SELECT * FROM {TABLE} ORDER BY rowid"))?;
        let columns = select.column_count();
        let rows = select
            .query_map([], |row| (0..columns).map(|c| row.get(c)).collect())?
            .collect::<Result<_, _>>()?;
        Ok(Self {
            schema,
            columns,
            rows,
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }
}

/// A database with that one table.
#[derive(Debug)]
pub(crate) struct Bare(Connection);

impl Bare {
    /// Makes the table, empty, in a new file; journal and durability as the product has them.
    pub(crate) fn create(file: &Path, table: &Table) -> Result<Self> {
        let connection = Connection::open(file)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "cache_size", -16 * 1024)?;
        // The tables that it refers to are not here.
        connection.pragma_update(None, "foreign_keys", false)?;
        for statement in &table.schema {
            connection.execute_batch(statement)?;
        }
        Ok(Self(connection))
    }

    /// Inserts the rows in one durable transaction by one prepared statement.
    pub(crate) fn insert(&mut self, table: &Table) -> Result<Duration> {
        let marks = vec!["?"; table.columns].join(",");
        let sql = format!("INSERT INTO {TABLE} VALUES ({marks})");
        let start = Instant::now();
        let transaction = self.0.transaction()?;
        {
            let mut insert = transaction.prepare(&sql)?;
            for row in &table.rows {
                insert.execute(params_from_iter(row))?;
            }
        }
        transaction.commit()?;
        Ok(start.elapsed())
    }

    /// Serves the list of all rows as JSON over HTTP, written by hand, to one client and once.
    pub(crate) fn serve(self) -> Result<(SocketAddr, JoinHandle<Result<()>>)> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let server = std::thread::spawn(move || {
            let (stream, _) = listener.accept()?;
            // The request is read, since closing with unread input resets the connection; there is only one it can be.
            for line in BufReader::new(&stream).lines() {
                if line?.is_empty() {
                    break;
                }
            }
            self.write_list(stream)
        });
        Ok((address, server))
    }

    fn write_list(&self, stream: impl Write) -> Result<()> {
        let mut out = BufWriter::with_capacity(64 * 1024, stream);
        out.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{\"l2_remote_macs\": [")?;
        let mut select = self.0.prepare(&format!(
            "SELECT id, mac, ipaddr, rgw_connection, tenant_id FROM {TABLE} ORDER BY rowid"
        ))?;
        let mut rows = select.query([])?;
        let mut text = String::new();
        let mut comma = "";
        while let Some(row) = rows.next()? {
            text.clear();
            let id = uuid(row.get_ref(0)?.as_blob()?)?;
            let [_, _, a, b, c, d, e, f] = row.get_ref(1)?.as_i64()?.to_be_bytes();
            let ip = row.get_ref(2)?.as_blob()?.first_chunk::<4>().copied();
            let ip = Ipv4Addr::from(ip.context("not an IPv4 address")?);
            let connection = uuid(row.get_ref(3)?.as_blob()?)?;
            let tenant = row.get_ref(4)?.as_str_or_null()?.unwrap_or_default();
            write!(
                text,
                "{comma}{{\"id\": \"{id}\", \"uuid\": \"{id}\", \
                 \"mac\": \"{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}\", \
                 \"ipaddr\": \"{ip}\", \"rgw_connection\": \"{connection}\", \
                 \"status\": \"DOWN\", \"status_reason\": \"\", \
                 \"tenant_id\": \"{tenant}\", \"project_id\": \"{tenant}\"}}"
            )?;
            out.write_all(text.as_bytes())?;
            comma = ", ";
        }
        out.write_all(b"]}")?;
        out.flush()?;
        Ok(())
    }
}

fn uuid(bytes: &[u8]) -> Result<Uuid> {
    Ok(Uuid::from_slice(bytes)?)
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;
    use crate::http::Client;

    #[test]
    fn what_was_copied_is_inserted_and_listed() -> Result<()> {
        let directory = tempfile::tempdir()?;
        let original = directory.path().join("original");
        Connection::open(&original)?.execute_batch(
            "CREATE TABLE l2_remote_macs (key INTEGER PRIMARY KEY, id BLOB, mac INTEGER, ipaddr BLOB,
                 rgw_connection BLOB, tenant_id TEXT) STRICT;
             CREATE INDEX by_mac ON l2_remote_macs (mac);
             INSERT INTO l2_remote_macs VALUES
                 (1, zeroblob(16), 0x02b000000001, x'64400001', zeroblob(16), 'p'),
                 (2, zeroblob(16), 0x02b000000002, x'64400002', zeroblob(16), NULL)",
        )?;
        let table = Table::read(&original)?;
        assert_eq!((table.len(), table.schema.len()), (2, 2));
        let mut bare = Bare::create(&directory.path().join("copy"), &table)?;
        bare.insert(&table)?;
        let (address, server) = bare.serve()?;
        let answer = Client::over(TcpStream::connect(address)?)?.request("GET", "/", "")?;
        server.join().unwrap()?;
        let list: serde_json::Value = serde_json::from_slice(&answer.body)?;
        let second = &list["l2_remote_macs"][1];
        assert_eq!(second["mac"], "02:b0:00:00:00:02");
        assert_eq!(second["ipaddr"], "100.64.0.2");
        Ok(())
    }
}
