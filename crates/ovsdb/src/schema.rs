//! Which tables and columns a server has (RFC 7047 section 3.2), as far as a client asks.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde::de::IgnoredAny;

/// The schema of one database, as `get_schema` returns it.
///
/// Requests are built from it, because one unknown column fails a whole transaction or monitor. What a switch can do is
/// told by the columns it has, not by the version: vendors pick columns.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct DatabaseSchema {
    /// The database's name.
    pub name: String,
    /// Its version, for people; empty on servers older than the RFC.
    #[serde(default)]
    pub version: String,
    tables: BTreeMap<String, TableSchema>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct TableSchema {
    #[serde(deserialize_with = "names")]
    columns: BTreeSet<String>,
}

fn names<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<BTreeSet<String>, D::Error> {
    Ok(BTreeMap::<String, IgnoredAny>::deserialize(deserializer)?
        .into_keys()
        .collect())
}

impl DatabaseSchema {
    /// Bytes that it takes, roughly.
    pub(crate) fn weight(&self) -> usize {
        let names = self.tables.values().flat_map(|table| &table.columns);
        names
            .chain(self.tables.keys())
            .map(|name| 64 + name.len())
            .sum()
    }

    /// Whether the database has the table.
    pub fn has_table(&self, table: &str) -> bool {
        self.tables.contains_key(table)
    }

    /// Whether the database has the table and the table has the column.
    pub fn has_column(&self, table: &str, column: &str) -> bool {
        self.tables
            .get(table)
            .is_some_and(|table| table.columns.contains(column))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_looked_up_by_name() {
        let schema: DatabaseSchema = serde_json::from_str(
            r#"{"name":"db","version":"1.0.0","cksum":"1 2","tables":{"T":{"columns":{"c":{"type":"string"}},"isRoot":true}}}"#,
        )
        .unwrap();
        assert!(schema.has_table("T") && schema.has_column("T", "c"));
        assert!(
            !schema.has_table("U") && !schema.has_column("T", "d") && !schema.has_column("U", "c")
        );
    }
}
