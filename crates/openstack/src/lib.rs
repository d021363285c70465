//! Talks to OpenStack. To Keystone: log in, find services, ask whose a token is. To a Neutron-style service: requests, its error bodies, pages, and the look-up of names.
//!
//! | module | its one job |
//! |---|---|
//! | [`settings`] | what options, OS_* variables and clouds.yaml say |
//! | [`clouds`] | clouds.yaml and secure.yaml |
//! | [`login`] | who logs in, how, and for which project |
//! | [`keystone`] | the Identity API: log in, ask about a token |
//! | [`catalog`] | which service answers where |
//! | [`connect`](mod@connect) | from settings to a client |
//! | [`validator`] | whose token a request carries, remembered for a while |
//! | [`tls`] | whom connections trust |
//! | [`endpoint`] | where a service answers |
//! | [`client`] | one request and its answer |
//! | [`page`] | a list's answer, read one record at a time |
//! | [`lookup`] | names to ids, as neutronclient does it |
//! | [`error`] | everything that can go wrong, in words for the person who typed the command |
#![deny(missing_docs)]

pub mod catalog;
pub mod client;
pub mod clouds;
pub mod connect;
pub mod endpoint;
pub mod error;
pub mod keystone;
pub mod login;
pub mod lookup;
pub mod page;
pub mod settings;
pub mod tls;
pub mod validator;

pub use client::Client;
pub use connect::connect;
pub use endpoint::Endpoint;
pub use error::Error;
pub use keystone::Keystone;
pub use login::Login;
pub use settings::Settings;
pub use tls::Trust;
pub use validator::Validator;
