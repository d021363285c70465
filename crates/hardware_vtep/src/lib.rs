//! The OVSDB schema `hardware_vtep` (vtep(5), versions 1.0.0 to 1.7.0) in the product's own types.
//!
//! | module | concept |
//! |---|---|
//! | [`schema`] | which tables and columns matter to us, and what a switch's schema lacks of them |
//! | [`database`] | the replica: a switch as [`model::switch::SwitchState`], kept current with every update |
//! | [`mod@apply`] | the controller's half: carries out a [`model::plan::Plan`] |
//! | [`mod@stamp`] | the controller's note on the switch, of which database it served last |
//! | [`fit`] | what a switch's schema cannot do, found before anything is written |
//! | [`replication`] | that our logical switches flood to every destination |
//! | [`physical_switches`] | what the physical switches say of themselves |
//! | [`switch_names`] | which physical switches there are, and nothing else |
//! | [`complaint`] | what a switch complains about, and which logical switch it concerns |
//! | [`tunnels`] | what a switch says of its tunnels, and whether it checks them |
//! | [`local_macs`] | the MACs that a switch has learnt: reading them, and publishing them |
//! | [`published_statistics`] | the switch's half of counters |
//! | [`published_tunnels`] | the switch's half of tunnels: which it has, and what BFD says of them |
//! | [`mod@publish`] | the switch's half: puts up what the switch is, its ports and its faults |
//!
//! The server stores anything of the right type: MAC addresses that are none, keys of 40 bits, two rows for one MAC.
//! Reading tolerates all of it, and says so in the log; writing is valid because the types of [`model`] are.
#![deny(missing_docs)]

pub mod apply;
pub mod complaint;
pub mod database;
pub mod fit;
pub mod local_macs;
mod macs;
pub mod physical_switches;
pub mod publish;
pub mod published_statistics;
pub mod published_tunnels;
pub mod replication;
mod rows;
pub mod schema;
pub mod stamp;
pub mod switch_names;
pub mod tunnels;

pub use apply::{Failure, StepError, apply, apply_fenced};
pub use complaint::{Complaint, Complaints};
pub use database::Database;
pub use local_macs::{LearntMacs, LocalMac, publish_local_macs};
pub use physical_switches::PhysicalSwitch;
pub use publish::{Publication, PublishedPort, publish};
pub use published_statistics::{BindingStats, StatisticsPublisher};
pub use published_tunnels::{PublishedTunnel, publish_tunnels};
pub use replication::repair_replication;
pub use schema::{Capabilities, NAME};
pub use stamp::{Note, stamp};
pub use switch_names::SwitchNames;
pub use tunnels::{Tunnel, set_bfd};
