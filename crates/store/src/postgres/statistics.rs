//! When PostgreSQL is to look at a table again: a bulk makes another table of it, and until the server's own autovacuum
//! comes by, a minute later or more, it plans for the old one and sorts a million rows for a page.

use std::collections::BTreeMap;

/// So many rows more are no other table.
const LEAST: u64 = 20_000;

/// What was copied into tables since they were looked at.
#[derive(Debug, Default)]
pub(super) struct Statistics(BTreeMap<&'static str, Table>);

#[derive(Debug, Default)]
struct Table {
    rows: u64,
    copied: u64,
}

impl Statistics {
    /// So many rows came into a table.
    pub(super) fn copied(&mut self, table: &'static str, rows: usize) {
        self.0.entry(table).or_default().copied += u64::try_from(rows).unwrap_or(u64::MAX);
    }

    /// Tables that have grown by a fifth and more than a little since they were looked at. They count as looked at now.
    pub(super) fn due(&mut self) -> Vec<&'static str> {
        let mut due = Vec::new();
        for (name, table) in &mut self.0 {
            if table.copied > LEAST.max(table.rows / 5) {
                table.rows += std::mem::take(&mut table.copied);
                due.push(*name);
            }
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_due_when_it_grew_much_and_then_not_again() {
        let mut statistics = Statistics::default();
        statistics.copied("macs", 20_000);
        statistics.copied("ports", 7);
        assert!(statistics.due().is_empty());
        statistics.copied("macs", 180_000);
        assert_eq!(statistics.due(), ["macs"]);
        assert!(statistics.due().is_empty());
        statistics.copied("macs", 40_000);
        assert!(statistics.due().is_empty());
        statistics.copied("macs", 1);
        assert_eq!(statistics.due(), ["macs"]);
    }
}
