//! The PostgreSQL engine (version 13 and later), for operators who keep all their state in one well-kept place.
//!
//! It does what the SQLite engine does. One server writes a database: its writing session holds an advisory lock, so a
//! second server that is pointed at the same database refuses to start, and takes over if it is started again after the
//! first has ended. Sessions must be sessions: a pooler that hands out transactions (PgBouncer's transaction mode) loses
//! the lock and prepared statements.
//!
//! A connection that is lost takes with it what was not committed, and whoever waits for that is told that the database
//! is unavailable. The next transaction begins on a new connection. A commit whose answer was lost is looked up by
//! what it left ([`verdict`]); where the server stays away for longer, whoever waits is told that the outcome is not known.

mod connection;
mod fault;
mod schema;
mod server;
mod statistics;
mod tls;
mod value;
mod verdict;

pub(crate) use self::connection::{Access, Session};
pub(crate) use self::server::Server;
pub use self::server::without_password;

use crate::OpenError;
use crate::job::unavailable;
use crate::threads::Threads;
use crate::writer::Writer;

/// Opens the database. Blocks.
pub(crate) fn open(server: Server) -> Result<Threads, OpenError> {
    let name = server.name.clone();
    let writer = Session::open(server.clone(), Access::Write)?;
    let writer = Writer::new(writer).map_err(|fault| OpenError::engine(&name, fault))?;
    let reader = move || Session::open(server.clone(), Access::Read).map_err(unavailable);
    Threads::start(writer, reader).map_err(|cause| OpenError::engine(&name, cause))
}
