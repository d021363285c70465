//! Peers that dial us: `ptcp:`, `pssl:` and `punix:`.
//!
//! Hardware mostly works this way round: the switch's ovsdb-server has a `Manager` row and dials its controller.
//! Whoever dials is still the OVSDB server of the conversation; only the TCP connection begins at the other end.

use std::io;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};

use crate::budget::{Budget, Share};
use crate::session::{Session, SessionOptions};
use crate::target::Target;
use crate::tls::{PeerCertificate, Tls};
use crate::transport::{Stream, at_once};

/// After a failure to accept, which is nearly always the lack of file descriptors, others get time to return some.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why a target cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The target is one to dial.
    #[error("{0} is a target to dial, nobody can be waited for there")]
    Active(Target),
    /// The target wants TLS, and no certificates are configured.
    #[error("{0} needs a private key, a certificate and a CA certificate")]
    NoCertificates(Target),
    /// The address cannot be had.
    #[error("{target}: {source}")]
    Unavailable {
        /// The target.
        target: Target,
        /// Why not.
        source: io::Error,
    },
}

/// A peer that dialled us, its handshake done.
#[derive(Debug)]
pub struct Caller {
    /// The session with it.
    pub session: Session,
    /// Where it calls from, for people: `tcp:192.0.2.1:45678`. It says nothing about who it is.
    pub address: String,
    /// The certificate it showed; `None` without TLS.
    pub certificate: Option<PeerCertificate>,
    /// What it may have of what all callers have together.
    pub share: Share,
}

/// Waits for peers, until it is dropped. Sessions that began outlive it.
#[derive(Debug)]
pub struct Listener {
    target: Target,
    callers: mpsc::Receiver<Caller>,
    task: AbortHandle,
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Listener {
    /// Starts to listen on a passive target. Who calls has a share of the budget, from before its handshake.
    ///
    /// # Errors
    /// See [`ListenError`].
    pub async fn bind(
        target: &Target,
        options: SessionOptions,
        budget: &Budget,
    ) -> Result<Self, ListenError> {
        let unavailable = |source| ListenError::Unavailable {
            target: target.clone(),
            source,
        };
        let (socket, target) = match target {
            Target::PassiveTcp(address) => {
                let listener = TcpListener::bind(address).await.map_err(unavailable)?;
                let bound = Target::PassiveTcp(listener.local_addr().map_err(unavailable)?);
                (Socket::Tcp(listener, None), bound)
            }
            Target::PassiveSsl(address) => {
                let tls = options.tls.clone();
                let tls = tls.ok_or_else(|| ListenError::NoCertificates(target.clone()))?;
                let listener = TcpListener::bind(address).await.map_err(unavailable)?;
                let bound = Target::PassiveSsl(listener.local_addr().map_err(unavailable)?);
                (Socket::Tcp(listener, Some(tls)), bound)
            }
            Target::PassiveUnix(path) => {
                let listener = bind_unix(path).await.map_err(unavailable)?;
                (Socket::Unix(listener), target.clone())
            }
            Target::Tcp(_) | Target::Ssl(_) | Target::Unix(_) => {
                return Err(ListenError::Active(target.clone()));
            }
        };
        let (accepted, callers) = mpsc::channel(1);
        let doorkeeper = Doorkeeper {
            target: target.clone(),
            options,
            budget: budget.clone(),
            accepted,
        };
        let task = tokio::spawn(doorkeeper.run(socket)).abort_handle();
        Ok(Self {
            target,
            callers,
            task,
        })
    }

    /// The target listened on, with the port that the system chose where port 0 was asked for.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// The next peer. One that does not finish its handshake holds up nobody.
    pub async fn accept(&mut self) -> Caller {
        match self.callers.recv().await {
            Some(caller) => caller,
            // The task runs as long as `self`; on a runtime that is shutting down nobody will come any more.
            None => std::future::pending().await,
        }
    }
}

enum Socket {
    Tcp(TcpListener, Option<Tls>),
    Unix(UnixListener),
}

/// A connection whose handshake is still to come.
struct Knock {
    stream: Box<dyn Stream>,
    address: String,
    source: Option<IpAddr>,
    tls: Option<Tls>,
}

impl Socket {
    async fn accept(&self) -> io::Result<Knock> {
        Ok(match self {
            Self::Tcp(listener, tls) => {
                let (stream, address) = listener.accept().await?;
                let method = if tls.is_some() { "ssl" } else { "tcp" };
                Knock {
                    stream: Box::new(at_once(stream)?),
                    source: Some(address.ip()),
                    address: format!("{method}:{address}"),
                    tls: tls.clone(),
                }
            }
            Self::Unix(listener) => Knock {
                stream: Box::new(listener.accept().await?.0),
                address: "unix:".to_owned(),
                source: None,
                tls: None,
            },
        })
    }
}

/// Accepts connections and sees them through their handshakes.
struct Doorkeeper {
    target: Target,
    options: SessionOptions,
    budget: Budget,
    accepted: mpsc::Sender<Caller>,
}

impl Doorkeeper {
    async fn run(self, socket: Socket) {
        let mut handshakes = JoinSet::new();
        let mut refused = false;
        loop {
            while handshakes.try_join_next().is_some() {}
            match socket.accept().await {
                Ok(knock) => {
                    let share = match self.budget.admit(knock.source) {
                        Ok(share) => share,
                        Err(reason) => {
                            if !std::mem::replace(&mut refused, true) {
                                let address = knock.address;
                                tracing::warn!(target = %self.target, address, reason, "callers are turned away");
                            }
                            continue;
                        }
                    };
                    refused = false;
                    share.room().await;
                    let (options, accepted) = (self.options.clone(), self.accepted.clone());
                    handshakes.spawn(async move {
                        let address = knock.address.clone();
                        tokio::select! {
                            () = welcome(knock, share.clone(), options, accepted) => {}
                            reason = share.closed() => {
                                tracing::warn!(address, %reason, "closed a caller before its handshake was done");
                            }
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(target = %self.target, %error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

async fn welcome(
    knock: Knock,
    share: Share,
    options: SessionOptions,
    accepted: mpsc::Sender<Caller>,
) {
    let Knock {
        stream,
        address,
        tls,
        ..
    } = knock;
    let (session, certificate) = match tls {
        None => (
            Session::counted(stream, &options, Some(share.clone())),
            None,
        ),
        Some(tls) => {
            let handshake = tls.acceptor().accept(stream);
            let stream = match tokio::time::timeout(options.connect_timeout, handshake).await {
                Ok(Ok(stream)) => stream,
                Ok(Err(error)) => {
                    tracing::warn!(address, %error, "a TLS handshake failed");
                    return;
                }
                Err(_) => {
                    tracing::warn!(address, "a TLS handshake took too long");
                    return;
                }
            };
            let certificate = PeerCertificate::of(stream.get_ref().1);
            let session = Session::counted(stream, &options, Some(share.clone()));
            (session, certificate)
        }
    };
    // Without a listener the session ends right here.
    let _ = accepted
        .send(Caller {
            session,
            address,
            certificate,
            share,
        })
        .await;
}

/// Binds a Unix socket that its owner alone may connect to. One that was left behind is replaced; one that somebody
/// answers on is not.
async fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    match UnixStream::connect(path).await {
        Ok(_) => return Err(io::ErrorKind::AddrInUse.into()),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path)?;
        }
        Err(_) => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}
