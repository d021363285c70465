//! From options to a running server and back to nothing.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use openstack::Validator;
use store::{OpenError, Store};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::signal::unix::{SignalKind, signal};

use crate::api::{Api, Bodies, Limits, router};
use crate::audit::{Audit, AuditError, Record};
use crate::auth::Auth;
use crate::auth::options::AuthError;
use crate::controller::connections::{Certificates, Connections, ConnectionsError};
use crate::controller::{self, Controllers};
use crate::http::{self, Bounds};
use crate::operations::{self, Operations};
use crate::options::{Listen, Options, state_directory};
use crate::rules::Rules;
use crate::rules::quota::Quotas;
use crate::tls::{Certificate, CertificateError, TlsListener};

/// Why the server does not start: one line for whoever starts it.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address is reachable from other machines.
    #[error(
        "refusing to listen on {0} without authentication: use a loopback address such as 127.0.0.1:9720, or unix:PATH, or name --token-file or --keystone-url"
    )]
    NotLoopback(SocketAddr),
    /// Bodies that are allowed would never find room.
    #[error(
        "--body-total-limit {total} is less than --body-limit {body}: a body of that size would never be taken"
    )]
    BodyLimits {
        /// Of one, in bytes.
        body: usize,
        /// Of all, in bytes.
        total: usize,
    },
    /// The port or socket cannot be had.
    #[error("cannot listen on {address}: {cause}")]
    Listen {
        /// As given.
        address: String,
        /// What the operating system said.
        cause: io::Error,
    },
    /// The state directory cannot be made.
    #[error("cannot make the state directory {path}: {cause}")]
    StateDirectory {
        /// Which one.
        path: PathBuf,
        /// What the operating system said.
        cause: io::Error,
    },
    /// Switches cannot be reached, nor reach us.
    #[error(transparent)]
    Connections(#[from] ConnectionsError),
    /// Callers cannot be told apart.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// The certificate cannot be used.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// Changes cannot be recorded.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The database cannot be opened.
    #[error(transparent)]
    Database(#[from] OpenError),
    /// Signals cannot be received, or the socket failed while it was served.
    #[error("the server failed: {0}")]
    Failed(#[from] io::Error),
}

/// A server that has all it needs.
pub struct Server {
    socket: Socket,
    store: Store,
    controllers: Controllers,
    operations: Operations,
    bounds: Bounds,
    audit: Option<Audit>,
    reload: Reload,
    /// The TCP address it answers on, if it does.
    pub address: Option<SocketAddr>,
    /// Where metrics are told, if not there.
    pub metrics_address: Option<SocketAddr>,
}

enum Socket {
    Tcp(TcpListener),
    Tls(TlsListener),
    Unix(UnixListener, PathBuf),
}

/// Runs the server until SIGTERM or SIGINT; requests in flight are finished first.
///
/// # Errors
/// It cannot start.
pub async fn run(options: Options) -> Result<(), StartError> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    if let Err(cause) = http::raise_file_limit() {
        tracing::warn!(%cause, "the limit of open files stays as it is");
    }
    let server = Server::start(options).await?;
    let reload = server.reload.clone();
    let reloading = tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            reload.reload();
        }
    });
    let told = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("told to end; finishing requests in flight");
    };
    let served = server.serve(told).await;
    reloading.abort();
    served
}

/// What is read again on SIGHUP. What makes no sense then leaves what was read before in place, and the log says why.
#[derive(Clone)]
struct Reload {
    auth: Arc<Auth>,
    certificate: Option<Arc<Certificate>>,
    switches: Certificates,
    audit: Option<Audit>,
}

impl Reload {
    fn reload(&self) {
        let certificate = self.certificate.as_ref().map(|c| c.reload());
        let wrong = certificate.and_then(Result::err).map(|e| e.to_string());
        let wrong = wrong.into_iter().chain(self.auth.reload());
        let audit = self.audit.as_ref().map(Audit::reopen);
        let audit = audit.and_then(Result::err).map(|e| e.to_string());
        let wrong: Vec<_> = wrong.chain(self.switches.reload()).chain(audit).collect();
        for wrong in &wrong {
            tracing::error!("{wrong}; what was read before stays in use");
        }
        if wrong.is_empty() {
            tracing::info!(
                "read token file, policy and certificates again, and opened the audit log anew"
            );
        }
    }
}

impl Server {
    /// Opens socket and database and starts the controllers.
    ///
    /// # Errors
    /// It cannot start.
    pub async fn start(options: Options) -> Result<Self, StartError> {
        openstack::tls::choose_cryptography();
        let limits = limits(options.body_limit, options.body_total_limit)?;
        let certificate = match options.tls_certificate.zip(options.tls_private_key) {
            Some((chain, key)) => Some(Arc::new(Certificate::read(chain, key)?)),
            None => None,
        };
        let auth = Arc::new(options.auth.open()?);
        let (socket, place, address) =
            listen(&options.listen, auth.tells_callers_apart(), &certificate).await?;
        let url = match options.database {
            Some(url) => url,
            None => default_database()?,
        };
        let audit = Audit::open(options.audit)?;
        let store = Store::open(&url).await?;
        if let Some(audit) = &audit {
            let revision = *store.revisions().borrow();
            audit.note(Record::event("start", Some(revision))).await;
        }
        let connections = Connections::open(options.switches).await?;
        let controllers = controller::start(&store, connections);
        let reload = Reload {
            auth: Arc::clone(&auth),
            certificate,
            switches: controllers.certificates.clone(),
            audit: audit.clone(),
        };
        let board = Arc::clone(&controllers.board);
        let api = Api {
            store: store.clone(),
            report: Arc::new(move |row| board.report(row)),
            board: Arc::clone(&controllers.board),
            auth,
            rules: Rules {
                board: Arc::clone(&controllers.board),
                unknown_devices: options.allow_unknown_devices,
                quotas: Quotas::new(&options.quota),
            },
            audit: audit.clone(),
            bodies: Bodies::new(limits),
        };
        let operations = operations::in_front_of(
            router(api.clone()),
            options.operations,
            &options.listen,
            &api,
            &controllers.callers,
            reload.auth.keystone(),
        )
        .await?;
        if let Some(keystone) = reload.auth.keystone().cloned() {
            tokio::spawn(greet(keystone));
        }
        tracing::info!(
            database = store::without_password(&url),
            "answering on {place}"
        );
        Ok(Self {
            socket,
            store,
            controllers,
            metrics_address: operations.metrics_address,
            operations,
            bounds: Bounds {
                connections: options.connection_limit,
                ..Bounds::DEFAULT
            },
            audit,
            reload,
            address,
        })
    }

    /// Answers until `told` is over and requests in flight are finished, then closes the database.
    ///
    /// # Errors
    /// The socket failed.
    pub async fn serve(
        self,
        told: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), StartError> {
        let (router, bounds) = (self.operations.router, self.bounds);
        match self.socket {
            Socket::Tcp(listener) => http::serve(listener, router, bounds, told).await,
            Socket::Tls(listener) => http::serve(listener, router, bounds, told).await,
            Socket::Unix(listener, path) => {
                http::serve(listener, router, bounds, told).await;
                if let Err(cause) = std::fs::remove_file(&path) {
                    tracing::warn!(%cause, path = %path.display(), "the socket was not removed");
                }
            }
        }
        self.controllers.stop().await;
        self.store.close().await;
        if let Some(audit) = self.audit {
            audit.close().await;
        }
        Ok(())
    }
}

/// The bounds of bodies. As long as nobody says how much all of them may take together, two of the largest have room.
fn limits(body: usize, total: Option<usize>) -> Result<Limits, StartError> {
    let bodies = total.unwrap_or(body.saturating_mul(2));
    if bodies < body {
        return Err(StartError::BodyLimits {
            body,
            total: bodies,
        });
    }
    Ok(Limits {
        body,
        bodies,
        ..Limits::DEFAULT
    })
}

/// Says at once what would otherwise show with the first request: that Keystone is away, or does not know the service user.
async fn greet(keystone: Validator) {
    let place = keystone.keystone().endpoint();
    match keystone.check().await {
        Ok(()) => tracing::info!("Keystone at {place} knows the service user"),
        Err(cause) => tracing::warn!(
            "Keystone at {place} cannot be asked whose tokens are, so requests with one get 503: {cause}"
        ),
    }
}

async fn listen(
    listen: &Listen,
    authenticated: bool,
    certificate: &Option<Arc<Certificate>>,
) -> Result<(Socket, String, Option<SocketAddr>), StartError> {
    match listen {
        Listen::Tcp(address) if !address.ip().is_loopback() && !authenticated => {
            Err(StartError::NotLoopback(*address))
        }
        Listen::Tcp(address) => {
            let failed = |cause| StartError::Listen {
                address: address.to_string(),
                cause,
            };
            let listener = TcpListener::bind(address).await.map_err(failed)?;
            let bound = listener.local_addr().map_err(failed)?;
            let Some(certificate) = certificate else {
                if !bound.ip().is_loopback() {
                    tracing::warn!("tokens cross the network unencrypted: see --tls-certificate");
                }
                let place = format!("http://{bound}");
                return Ok((Socket::Tcp(listener), place, Some(bound)));
            };
            let listener = TlsListener::new(listener, Arc::clone(certificate)).map_err(failed)?;
            let place = format!("https://{bound}");
            Ok((Socket::Tls(listener), place, Some(bound)))
        }
        Listen::Unix(path) => {
            let place = format!("unix:{}", path.display());
            let listener = bind_unix(path).await.map_err(|cause| StartError::Listen {
                address: place.clone(),
                cause,
            })?;
            Ok((Socket::Unix(listener, path.clone()), place, None))
        }
    }
}

/// Binds a unix socket that its owner alone may connect to. One that a server left behind when it was killed is replaced;
/// one that somebody answers on is not.
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

fn default_database() -> Result<String, StartError> {
    let path = state_directory();
    match std::fs::create_dir_all(&path) {
        Ok(()) => Ok(path.join("l2gw.db").display().to_string()),
        Err(cause) => Err(StartError::StateDirectory { path, cause }),
    }
}
