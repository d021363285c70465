//! Which physical switches a database has, and nothing else: all that must be known of somebody who dialled us before its
//! whole database is taken in.

use std::collections::BTreeSet;
use std::sync::Arc;

use ovsdb::{Change, DatabaseSchema, MonitoredTable, Replica, RowError};
use uuid::Uuid;

use crate::rows::{PhysicalSwitchRow, Table, change};
use crate::schema::table;

/// The names of the physical switches of one hardware_vtep database.
#[derive(Debug, Default)]
pub struct SwitchNames(Table<PhysicalSwitchRow>);

impl SwitchNames {
    /// The names.
    pub fn names(&self) -> BTreeSet<Arc<str>> {
        self.0.values().map(|row| Arc::clone(&row.name)).collect()
    }
}

impl Replica for SwitchNames {
    fn tables() -> &'static [MonitoredTable] {
        &[MonitoredTable {
            table: table::PHYSICAL_SWITCH,
            columns: &["name"],
        }]
    }

    fn new(_: &DatabaseSchema) -> Self {
        Self::default()
    }

    fn apply(&mut self, _: &str, uuid: Uuid, update: Change<'_>) -> Result<(), RowError> {
        change(&mut self.0, uuid, update).map(drop)
    }

    fn rows(&self) -> usize {
        self.0.len()
    }

    fn weight(&self) -> usize {
        self.0.weight()
    }
}
