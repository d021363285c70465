//! What tests, demo and benchmarks stand on: clouds made of network namespaces ([`topology`]), frames captured and
//! counted ([`capture`]), and the product installed on their border gateways ([`installation`]).
//!
//! Everything real: kernel VXLAN and bridges, ping, ovsdb-server. Everything goes away when it is dropped. Needs root.

pub mod capture;
pub mod certificates;
pub mod daemon;
pub mod emulator;
pub mod frame;
pub mod fuzz;
pub mod http;
pub mod installation;
mod janitor;
pub mod keystone;
pub mod netns;
pub mod ovsdb_cluster;
pub mod ovsdb_gate;
pub mod ovsdb_server;
pub mod ping;
pub mod port;
pub mod postgres;
pub mod python;
pub mod run;
pub mod shell;
pub mod stream;
pub mod tls_relay;
pub mod topology;
