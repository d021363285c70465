//! The API over real sockets and a real database, without switches.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "clippy knows tests by their attribute; what they share is test code too"
)]

mod engine;
mod fixture;

mod audit;
mod auth;
mod bodies;
mod bulk;
mod connections;
mod contract;
mod devices;
mod discovery;
mod health;
mod lists;
mod metrics;
mod nonsense;
mod old_switches;
mod quotas;
mod remote;
mod revisions;
mod running;
mod schemathesis;
mod segments;
mod sockets;
mod vectors;
