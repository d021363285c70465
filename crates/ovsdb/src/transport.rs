//! Byte streams to peers that we dial.
//!
//! TLS (`ssl:`) belongs here, as a further arm of [`dial`]. Listening (`ptcp:`, `pssl:`) does not: a listener hands each
//! accepted stream to [`crate::Session::over`].

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use crate::target::Target;

/// Why a target could not be dialled.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The target is well-formed, but this version cannot use it.
    #[error("{target}: {missing} is not supported yet, use tcp: or unix:")]
    Unsupported {
        /// The target.
        target: Target,
        /// What would be needed.
        missing: &'static str,
    },
    /// Nobody accepted the connection.
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
    timeout: Duration,
) -> Result<Box<dyn Stream>, ConnectError> {
    let unsupported = |missing| ConnectError::Unsupported {
        target: target.clone(),
        missing,
    };
    let attempt = async {
        match target {
            Target::Tcp(address) => {
                let stream = TcpStream::connect(address).await;
                // Requests are small and answered one by one: do not wait to fill a segment.
                stream.and_then(|stream| {
                    stream
                        .set_nodelay(true)
                        .map(|()| Box::new(stream) as Box<dyn Stream>)
                })
            }
            Target::Unix(path) => UnixStream::connect(path)
                .await
                .map(|stream| Box::new(stream) as Box<dyn Stream>),
            _ => Err(io::Error::from(io::ErrorKind::Unsupported)),
        }
    };
    match target {
        Target::Ssl(_) => return Err(unsupported("TLS")),
        Target::PassiveTcp(_) | Target::PassiveSsl(_) | Target::PassiveUnix(_) => {
            return Err(unsupported("listening for switches"));
        }
        Target::Tcp(_) | Target::Unix(_) => {}
    }
    tokio::time::timeout(timeout, attempt)
        .await
        .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "no answer")))
        .map_err(|source| ConnectError::Unreachable {
            target: target.clone(),
            source,
        })
}
