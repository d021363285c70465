//! How peers are reached, recognised, given up and reached again, against real ovsdb-servers.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod cluster;
mod fixture;
mod listening;
mod pauses;
mod returning;
mod silence;
mod tls;
