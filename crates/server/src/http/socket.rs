//! What listeners accept, and from whom.

use std::fmt;
use std::net::SocketAddr;

use axum::serve::Listener;
use tokio::net::unix;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_rustls::server::TlsStream;

use crate::tls::TlsListener;

/// Who is at the other end of a connection, as far as the kernel knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// An address and a port.
    Tcp(SocketAddr),
    /// A user of this machine: the user's number.
    Unix(Option<u32>),
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(Some(user)) => write!(f, "unix:uid={user}"),
            Self::Unix(None) => f.write_str("unix"),
        }
    }
}

/// How addresses of the connection's listener begin, for links.
#[derive(Clone, Copy, Debug)]
pub struct Scheme(pub(crate) &'static str);

/// A listener that HTTP can be served on.
pub trait Socket: Listener {
    /// How its addresses begin.
    const SCHEME: Scheme = Scheme("http");

    /// Prepares a connection that was accepted, and says who is at its other end.
    fn admit(io: &Self::Io, from: &Self::Addr) -> Peer;
}

impl Socket for TcpListener {
    fn admit(io: &TcpStream, from: &SocketAddr) -> Peer {
        at_once(io);
        Peer::Tcp(*from)
    }
}

impl Socket for TlsListener {
    const SCHEME: Scheme = Scheme("https");

    fn admit(io: &TlsStream<TcpStream>, from: &SocketAddr) -> Peer {
        at_once(io.get_ref().0);
        Peer::Tcp(*from)
    }
}

impl Socket for UnixListener {
    fn admit(io: &UnixStream, _: &unix::SocketAddr) -> Peer {
        Peer::Unix(io.peer_cred().ok().map(|credentials| credentials.uid()))
    }
}

/// Replies are written whole: waiting for more to send would only delay them.
fn at_once(connection: &TcpStream) {
    if let Err(cause) = connection.set_nodelay(true) {
        tracing::debug!(%cause, "TCP_NODELAY");
    }
}
