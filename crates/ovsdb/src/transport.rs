//! Byte streams to peers that we dial.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use crate::target::Target;
use crate::tls::{Tls, server_name};

/// Why a target could not be dialled.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The target is one to listen on.
    #[error("{0} is a target to listen on, it cannot be dialled")]
    Passive(Target),
    /// The target wants TLS, and no certificates are configured.
    #[error("{0} needs a private key, a certificate and a CA certificate")]
    NoCertificates(Target),
    /// Nobody accepted the connection, or the handshake failed.
    #[error("{target}: {source}")]
    Unreachable {
        /// The target.
        target: Target,
        /// Why not.
        source: io::Error,
    },
}

/// A byte stream of any kind.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Stream for T {}

/// Dials an active target, for at most `timeout`.
pub(crate) async fn dial(
    target: &Target,
    tls: Option<&Tls>,
    timeout: Duration,
) -> Result<Box<dyn Stream>, ConnectError> {
    let attempt = async {
        Ok::<Box<dyn Stream>, io::Error>(match target {
            Target::Tcp(address) => Box::new(at_once(TcpStream::connect(address).await?)?),
            Target::Ssl(address) => {
                let connector = tls.ok_or(io::ErrorKind::Unsupported)?.connector();
                let stream = at_once(TcpStream::connect(address).await?)?;
                Box::new(connector.connect(server_name(address.ip()), stream).await?)
            }
            Target::Unix(path) => Box::new(UnixStream::connect(path).await?),
            _ => return Err(io::ErrorKind::Unsupported.into()),
        })
    };
    if target.is_passive() {
        return Err(ConnectError::Passive(target.clone()));
    }
    if matches!(target, Target::Ssl(_)) && tls.is_none() {
        return Err(ConnectError::NoCertificates(target.clone()));
    }
    tokio::time::timeout(timeout, attempt)
        .await
        .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "no answer")))
        .map_err(|source| ConnectError::Unreachable {
            target: target.clone(),
            source,
        })
}

/// Requests are small and answered one by one: they do not wait to fill a segment.
pub(crate) fn at_once(stream: TcpStream) -> io::Result<TcpStream> {
    stream.set_nodelay(true)?;
    Ok(stream)
}
