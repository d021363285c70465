//! TLS for the listener: handshakes beside each other, certificates that can be replaced while it runs.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::serve::Listener;
use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Who does not finish the handshake within this time is cut off.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);
/// As many connections may have finished their handshake before the first of them is served.
const WAITING: usize = 64;

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {reason}", path.display())]
pub struct CertificateError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong.
    pub reason: String,
}

/// The certificate that the server shows, kept in step with its files.
pub(crate) struct Certificate {
    chain: PathBuf,
    key: PathBuf,
    acceptor: RwLock<TlsAcceptor>,
}

impl Certificate {
    /// Reads the certificate, with those between it and the CA behind it, and its private key.
    pub(crate) fn read(chain: PathBuf, key: PathBuf) -> Result<Self, CertificateError> {
        let acceptor = RwLock::new(acceptor(&chain, &key)?);
        Ok(Self {
            chain,
            key,
            acceptor,
        })
    }

    /// Reads the files again; on failure the earlier certificate stays.
    pub(crate) fn reload(&self) -> Result<(), CertificateError> {
        let acceptor = acceptor(&self.chain, &self.key)?;
        *self
            .acceptor
            .write()
            .unwrap_or_else(PoisonError::into_inner) = acceptor;
        Ok(())
    }

    fn acceptor(&self) -> TlsAcceptor {
        let acceptor = self.acceptor.read();
        acceptor.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn acceptor(chain: &Path, key: &Path) -> Result<TlsAcceptor, CertificateError> {
    let wrong = |path: &Path, reason: &dyn std::fmt::Display| CertificateError {
        path: path.to_owned(),
        reason: reason.to_string(),
    };
    let certificates = CertificateDer::pem_file_iter(chain)
        .and_then(|certificates| certificates.collect::<Result<Vec<_>, _>>())
        .map_err(|cause| wrong(chain, &cause))?;
    if certificates.is_empty() {
        return Err(wrong(chain, &"there is no certificate in it"));
    }
    let secret = PrivateKeyDer::from_pem_file(key).map_err(|cause| wrong(key, &cause))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|cause| wrong(chain, &cause))?
        .with_no_client_auth()
        .with_single_cert(certificates, secret)
        .map_err(|cause| wrong(chain, &cause))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// A listener whose connections are encrypted. A client that is slow to shake hands keeps no other one waiting.
pub(crate) struct TlsListener {
    address: SocketAddr,
    ready: mpsc::Receiver<(TlsStream<TcpStream>, SocketAddr)>,
    accepting: JoinHandle<()>,
}

impl TlsListener {
    /// Encrypts what connects to `listener`.
    pub(crate) fn new(
        mut listener: TcpListener,
        certificate: Arc<Certificate>,
    ) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let (sender, ready) = mpsc::channel(WAITING);
        let accepting = tokio::spawn(async move {
            loop {
                // axum's own accept: it waits when the process has no more file descriptors.
                let (connection, peer) = Listener::accept(&mut listener).await;
                let handshake = certificate.acceptor().accept(connection);
                let sender = sender.clone();
                tokio::spawn(async move {
                    match tokio::time::timeout(HANDSHAKE_WITHIN, handshake).await {
                        // The receiver is gone when the server ends.
                        Ok(Ok(encrypted)) => drop(sender.send((encrypted, peer)).await),
                        Ok(Err(cause)) => tracing::debug!(%peer, %cause, "TLS handshake"),
                        Err(_) => tracing::debug!(%peer, "TLS handshake took too long"),
                    }
                });
            }
        });
        Ok(Self {
            address,
            ready,
            accepting,
        })
    }
}

impl Drop for TlsListener {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.ready.recv().await {
            Some(connection) => connection,
            // The accepting task keeps a sender for as long as the listener lives.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}
