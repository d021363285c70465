//! How peers are reached, recognised and given up, against real ovsdb-servers.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod cluster;
mod fixture;
mod listening;
mod silence;
mod tls;
