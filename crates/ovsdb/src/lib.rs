//! An OVSDB client: RFC 7047 with Open vSwitch's extensions (ovsdb-server(7)), on tokio. It knows no schema.
//!
//! From the wire upwards:
//!
//! | module | concept |
//! |---|---|
//! | [`target`] | where a server is: OVS notation, `tcp:192.0.2.1:6640`, `unix:/run/db.sock` |
//! | [`framing`] | JSON objects back to back in a byte stream |
//! | [`value`], [`mod@column`] | values we write; columns we read, into plain Rust types |
//! | [`operation`], [`outcome`] | what a transaction does, and what became of it |
//! | [`schema`] | which tables and columns this server has |
//! | [`session`] | one connection: pipelined requests, probes, monitors |
//! | [`replica`] | the monitored tables, as the schema crate's own types |
//! | [`tls`] | who we are and whom we trust |
//! | [`listener`] | peers that dial us |
//! | [`budget`] | what those may have together |
//! | [`endpoint`] | the targets of one database, which may be a cluster's |
//! | [`connection`] | a session and its replica, kept up |
//!
//! Two rules hold everywhere:
//!
//! - **Order.** What the server sends is handled in the order it arrives. ovsdb-server sends the monitor update of a
//!   transaction before its reply (`ovsdb/jsonrpc-server.c`), so when [`Session::transact`] returns, the replica
//!   already shows what it wrote.
//! - **Wake-ups carry no facts.** A watcher is told *that* something changed; what is true now is in the replica.
#![deny(missing_docs)]

mod backoff;
pub mod budget;
mod cluster;
pub mod column;
pub mod connection;
pub mod endpoint;
pub mod framing;
pub mod listener;
mod message;
pub mod operation;
pub mod outcome;
pub mod replica;
pub mod schema;
pub mod session;
pub mod target;
pub mod tls;
mod transport;
pub mod value;

pub use budget::Budget;
pub use connection::{Connection, ConnectionOptions, Link};
pub use endpoint::Endpoint;
pub use listener::{Caller, ListenError, Listener};
pub use operation::{Condition, Mutation, Operation, Transaction};
pub use outcome::{OperationFailure, OperationResult, Outcome, TransactError};
pub use replica::{Change, MonitoredTable, Replica, RowError, SharedReplica};
pub use schema::DatabaseSchema;
pub use session::{Disconnected, Lock, RequestError, Session, SessionOptions};
pub use target::Target;
pub use tls::{PeerCertificate, Tls, TlsError, TlsFiles};
pub use transport::ConnectError;
pub use value::{Atom, Datum, Row};
