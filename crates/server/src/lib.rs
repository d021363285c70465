//! `l2gw server`: the REST API, the rules of its resources, and one controller per switch.
//!
//! ```text
//!  clients ──▶ api ──▶ rules ──▶ store ──revisions──▶ controller ──OVSDB──▶ switches
//!               ▲                                          │
//!               └───────────── status (read back) ◀────────┘
//! ```
//!
//! | module | its one job |
//! |---|---|
//! | [`options`] | what the operator says on the command line |
//! | [`serve`] | from options to a running server and back to nothing |
//! | [`http`] | connections: their bounds and their ends |
//! | [`api`] | REST, derived from the resource table |
//! | [`auth`] | who asks, and what they may do |
//! | [`audit`] | who changed what, and who was refused: a log of its own |
//! | [`tls`] | TLS for the listener |
//! | [`rules`] | what is special about one kind of resource |
//! | [`controller`] | makes the switches hold what operators asked for |
//! | [`operations`] | what operators' tools ask of a running server |
//! | [`health`] | whether a load balancer should send requests here |
//! | [`metrics`] | what Prometheus reads |
//! | [`account`] | what each controller tells of its endpoint |
//! | [`status`] | what the switches hold, read back |
//! | [`withheld`] | what a controller must not do for the time being |

pub mod account;
pub mod api;
pub mod audit;
pub mod auth;
pub mod controller;
pub mod health;
pub mod http;
mod lock;
pub mod metrics;
pub mod operations;
pub mod options;
pub mod rules;
pub mod serve;
pub mod status;
pub mod tls;
pub mod withheld;

pub use crate::options::Options;
pub use crate::serve::{Server, StartError, run};
