//! The smallest replica, and waiting for what a connection does.

use std::collections::BTreeMap;
use std::time::Duration;

use ovsdb::{
    Change, Connection, ConnectionOptions, DatabaseSchema, Link, MonitoredTable, Operation,
    Replica, Row, RowError, Session, SessionOptions, Tls, TlsFiles, Transaction,
};
use serde::Deserialize;
use testkit::certificates::Credentials;
use uuid::Uuid;

pub(crate) const DB: &str = "hardware_vtep";
const PATIENCE: Duration = Duration::from_secs(60);

/// The names of the logical switches.
#[derive(Debug, Default)]
pub(crate) struct Names(pub(crate) BTreeMap<Uuid, String>);

impl Replica for Names {
    fn tables() -> &'static [MonitoredTable] {
        &[MonitoredTable {
            table: "Logical_Switch",
            columns: &["name"],
        }]
    }

    fn new(_: &DatabaseSchema) -> Self {
        Self::default()
    }

    fn apply(&mut self, _: &str, uuid: Uuid, change: Change<'_>) -> Result<(), RowError> {
        #[derive(Deserialize)]
        struct Columns {
            name: String,
        }
        match change {
            Change::Put(text) | Change::Modify(text) => {
                let columns: Columns = serde_json::from_str(text.get())?;
                self.0.insert(uuid, columns.name);
            }
            Change::Delete => drop(self.0.remove(&uuid)),
        }
        Ok(())
    }
}

pub(crate) fn files(credentials: &Credentials) -> TlsFiles {
    TlsFiles {
        private_key: credentials.private_key.clone(),
        certificate: credentials.certificate.clone(),
        ca_certificate: credentials.ca_certificate.clone(),
    }
}

pub(crate) fn with_tls(credentials: &Credentials) -> SessionOptions {
    SessionOptions {
        tls: Some(Tls::load(files(credentials)).unwrap()),
        ..SessionOptions::default()
    }
}

/// Options for tests that wait for the second attempt.
pub(crate) fn impatient(session: SessionOptions) -> ConnectionOptions {
    ConnectionOptions {
        session,
        first_pause: Duration::from_millis(10),
        longest_pause: Duration::from_millis(100),
        longest_rest: Duration::from_millis(100),
    }
}

/// Inserts a logical switch.
pub(crate) fn insertion(name: &str) -> Transaction {
    let row = Row::new().with("name", name.to_owned());
    Transaction::new().with(Operation::insert("Logical_Switch", row))
}

pub(crate) async fn insert(session: &Session, name: &str) {
    session.transact(DB, &insertion(name)).await.unwrap();
}

pub(crate) fn names(connection: &Connection<Names>) -> Vec<String> {
    connection
        .replica()
        .read(|names| names.map(|names| names.0.values().cloned().collect()))
        .unwrap_or_default()
}

/// Waits until the link is as it should be, woken by the connection alone.
pub(crate) async fn until<T>(
    connection: &Connection<Names>,
    mut look: impl FnMut(&Link) -> Option<T>,
) -> T {
    let mut wakeups = connection.wakeups();
    let wait = async {
        loop {
            if let Some(found) = look(&connection.link()) {
                return found;
            }
            wakeups.changed().await.unwrap();
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap()
}

/// Waits until the link is down for a reason with these words in it.
pub(crate) async fn until_down(connection: &Connection<Names>, words: &str) -> String {
    until(connection, |link| match link {
        Link::Down { reason } if reason.contains(words) => Some(reason.to_string()),
        _ => None,
    })
    .await
}

pub(crate) async fn until_up(connection: &Connection<Names>) -> Session {
    until(connection, |link| match link {
        Link::Up { session, .. } => Some(session.clone()),
        _ => None,
    })
    .await
}
