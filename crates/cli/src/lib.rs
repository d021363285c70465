//! The client commands: every one is derived from the resource table, none lists attributes a second time.
//!
//! ```text
//!  resource table ──▶ tree ──▶ clap ──▶ run ──▶ openstack::Client
//!                     argument   ▲       └────▶ output ──▶ console
//!                                └ the binary adds its daemons beside
//! ```
//!
//! | module | its one job |
//! |---|---|
//! | [`tree`] | the commands under both spellings, and which of them was typed |
//! | [`argument`] | from an attribute to an argument and back to JSON |
//! | [`connection`] | options that say where the server is |
//! | [`run`](mod@run) | what each verb does |
//! | `look` | the commands that look at switches |
//! | [`bulk`] | thousands of stations from a file in one request |
//! | [`output`] | columns and formats |
//! | [`console`] | where a command reads and writes; tests put buffers there |
//! | [`failure`] | why a command failed and its exit code |
#![deny(missing_docs)]

pub mod argument;
pub mod bulk;
pub mod connection;
pub mod console;
mod example;
pub mod failure;
mod look;
pub mod output;
pub mod run;
pub mod tree;

pub use console::Console;
pub use run::run;
pub use tree::{command, parse};
