//! The controller between a real database and a real ovsdb-server.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "clippy knows tests by their attribute; what they share is test code too"
)]

mod bench;
mod continuity;
mod convergence;
mod converted;
mod guard;
mod joined;
mod lock;
mod quarrel;
mod several;
mod tunnels;
