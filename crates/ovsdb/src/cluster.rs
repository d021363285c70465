//! What a server says of its own databases: the database `_Server` (ovsdb-server(5)), which tells a standalone server
//! from a member of a cluster, and the cluster's leader from the others.
//!
//! Only the leader is talked to. Others pass writes on, but show them late, and one that lost its cluster shows the past.

use std::collections::HashMap;
use std::sync::Arc;

use serde::Deserialize;
use uuid::Uuid;

use crate::replica::{Change, MonitoredTable, Replica, RowError, SharedReplica};
use crate::schema::DatabaseSchema;
use crate::session::{RequestError, Session};

/// Open vSwitch 2.9 and later have it.
const SERVER: &str = "_Server";

/// The rows of `_Server.Database`.
#[derive(Debug, Default)]
pub(crate) struct Databases {
    rows: HashMap<Uuid, Row>,
    /// Bytes of their texts, those of rows that went included: real ones stay.
    text: usize,
}

#[derive(Debug, Default)]
struct Row {
    name: String,
    model: String,
    connected: bool,
    leader: bool,
}

#[derive(Deserialize)]
struct Columns {
    name: Option<String>,
    model: Option<String>,
    connected: Option<bool>,
    leader: Option<bool>,
}

impl Replica for Databases {
    fn tables() -> &'static [MonitoredTable] {
        &[MonitoredTable {
            table: "Database",
            columns: &["name", "model", "connected", "leader"],
        }]
    }

    fn new(_: &DatabaseSchema) -> Self {
        Self::default()
    }

    fn apply(&mut self, _table: &str, uuid: Uuid, change: Change<'_>) -> Result<(), RowError> {
        let text = match change {
            Change::Put(text) => {
                self.rows.remove(&uuid);
                text
            }
            Change::Modify(text) => text,
            Change::Delete => {
                self.rows.remove(&uuid);
                return Ok(());
            }
        };
        let columns: Columns = serde_json::from_str(text.get())?;
        self.text += text.get().len();
        let row = self.rows.entry(uuid).or_default();
        row.name = columns.name.unwrap_or(std::mem::take(&mut row.name));
        row.model = columns.model.unwrap_or(std::mem::take(&mut row.model));
        row.connected = columns.connected.unwrap_or(row.connected);
        row.leader = columns.leader.unwrap_or(row.leader);
        Ok(())
    }

    fn weight(&self) -> usize {
        self.rows.len() * (size_of::<Row>() + 64) + self.text
    }
}

/// A server's standing in its cluster, kept current.
pub(crate) struct Standing {
    /// `None` where the server says nothing of itself: it is old, or a vendor's, and stands alone.
    databases: Option<Arc<SharedReplica<Databases>>>,
    database: String,
}

impl Standing {
    /// Asks, and follows the answer as long as the session lasts.
    pub(crate) async fn of(session: &Session, database: &str) -> Result<Self, RequestError> {
        let mut databases = None;
        let names = match session.list_databases().await {
            Err(RequestError::Rejected(_)) => Vec::new(),
            names => names?,
        };
        if names.iter().any(|name| name == SERVER) {
            let schema = Arc::new(session.schema(SERVER).await?);
            let replica = Arc::new(SharedReplica::default());
            session.monitor(&schema, &replica).await?;
            databases = Some(replica);
        }
        Ok(Self {
            databases,
            database: database.to_owned(),
        })
    }

    /// Why this server is not to be talked to; `None` if it is.
    pub(crate) fn objection(&self) -> Option<&'static str> {
        self.databases.as_ref()?.read(|databases| {
            let row = databases?
                .rows
                .values()
                .find(|row| row.name == self.database)?;
            match (row.model.as_str(), row.connected, row.leader) {
                ("clustered", false, _) => Some("this member has lost its cluster"),
                ("clustered", true, false) => Some("this member is not the cluster's leader"),
                _ => None,
            }
        })
    }

    /// Waits until there is an objection.
    pub(crate) async fn objected(&self) -> &'static str {
        let Some(databases) = &self.databases else {
            return std::future::pending().await;
        };
        let mut wakeups = databases.wakeups();
        loop {
            if let Some(objection) = self.objection() {
                return objection;
            }
            if wakeups.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }
}
