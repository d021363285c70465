//! The store on real databases: SQLite files and a PostgreSQL server.
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "what fails here is a failed test"
)]

mod durability;
mod engines;
mod laws;
mod opening;
mod oracle;
mod outages;
mod paging;
mod references;
mod rows;
mod transactions;
mod upkeep;
