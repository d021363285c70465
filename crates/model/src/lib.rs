//! The pure heart of l2gw: what the resources are, what may be said about them, what a switch should hold, and how to
//! get it there.
//!
//! Nothing here knows tokio, SQL, sockets or a clock. Everything is a function from values to values, so every rule can
//! be tested without a machine behind it.
//!
//! | module | its one job |
//! |---|---|
//! | [`value`] | the field's value types: MAC addresses, VNIs, VLAN ids |
//! | [`fault`] | every way a request can fail, in one table: Neutron type, HTTP status, retry class |
//! | [`resource`] | what can be said about a resource and its attributes |
//! | [`mod@table`] | the resource table: SQL, REST, CLI and OpenAPI are derived from it |
//! | [`view`] | what can be looked at and is not declared: the same for it |
//! | [`row`] | one resource as values, in the order of its attributes |
//! | [`validate`] | bodies and query filters to rows and values |
//! | [`devices`] | the device list of a gateway |
//! | [`segments`] | the segments of a network that has several |
//! | [`spelling`] | which known name somebody meant |
//! | [`encode`] | rows to the JSON of answers |
//! | [`status`] | BUILD, ACTIVE, DOWN, ERROR and why |
//! | [`intent`] | what operators asked for, and what follows from it for one switch |
//! | [`lineage`] | which states of which database are in a database's own past |
//! | [`switch`] | what a hardware_vtep database holds, as values |
//! | [`mod@plan`] | the difference between two such states, as ordered steps |
//! | [`trail`] | which MACs changed lately, so that not everything is compared for one of them |
#![deny(missing_docs)]

pub mod devices;
pub mod encode;
pub mod fault;
pub mod intent;
pub mod lineage;
pub mod plan;
pub mod resource;
pub mod row;
pub mod segments;
pub mod spelling;
pub mod status;
pub mod switch;
pub mod table;
pub mod trail;
pub mod validate;
pub mod value;
pub mod view;
