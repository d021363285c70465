//! The controller between a real database and a real ovsdb-server.

mod bench;
mod convergence;
mod guard;
mod tunnels;
