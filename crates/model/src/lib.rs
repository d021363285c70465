//! The pure heart of l2gw: what the resources are, what may be said about them, what a switch should hold, and how to
//! get it there.
//!
//! Nothing here knows tokio, SQL, sockets or a clock. Everything is a function from values to values, so every rule can
//! be tested without a machine behind it.
//!
//! | module | its one job |
//! |---|---|
//! | [`value`] | the field's value types: MAC addresses, VNIs, VLAN ids |
//! | [`switch`] | what a hardware_vtep database holds, as values |
//! | [`mod@plan`] | the difference between two such states, as ordered steps |
#![deny(missing_docs)]

pub mod plan;
pub mod switch;
pub mod value;
