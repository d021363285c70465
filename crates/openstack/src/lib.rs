//! Talks to a Neutron-style service: requests, its error bodies, pages, and the look-up of names.
//!
//! | module | its one job |
//! |---|---|
//! | [`endpoint`] | where a service answers |
//! | [`client`] | one request and its answer |
//! | [`page`] | a list's answer, read one record at a time |
//! | [`lookup`] | names to ids, as neutronclient does it |
//! | [`error`] | everything that can go wrong, in words for the person who typed the command |
#![deny(missing_docs)]

pub mod client;
pub mod endpoint;
pub mod error;
pub mod lookup;
pub mod page;

pub use client::Client;
pub use endpoint::Endpoint;
pub use error::Error;
