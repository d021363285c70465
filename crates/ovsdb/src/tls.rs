//! TLS as Open vSwitch does it (ovsdb-server(1), "Public Key Infrastructure Options"; its `lib/stream-ssl.c`).
//!
//! Both sides show a certificate, and each accepts what one pinned CA signed. Public CAs mean nothing here, and neither
//! do host names: switches are dialled by address, and their certificates name a switch or nothing at all. Who may
//! sign with the CA's key therefore decides who may take part.
//!
//! A CA file may also hold the peer's own certificate, as administrators do with certificates that sign themselves:
//! exactly that certificate is then trusted, also beyond its dates (as RFC 7671 section 5.1 has it for DANE-EE).
//! Certificates must be of X.509 version 3, as `ovs-pki` makes them.
//!
//! The files are looked at before every handshake and read again when they changed. While they do not make sense, for
//! instance because only the key was replaced so far, the last ones that did stay in use. Sessions that are up stay up.

use std::fmt;
use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use ring::digest;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::client::verify_server_cert_signed_by_trust_anchor;
use tokio_rustls::rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, ring as ring_provider, verify_tls12_signature,
    verify_tls13_signature,
};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem};
use tokio_rustls::rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use tokio_rustls::rustls::server::{ParsedCertificate, VerifierBuilderError, WebPkiClientVerifier};
use tokio_rustls::rustls::{
    self, ClientConfig, DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig,
    SignatureScheme,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use x509_cert::Certificate;
use x509_cert::der::Decode as _;

/// The PEM files that say who we are and whom we trust.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TlsFiles {
    /// Our private key (OVS: `-p`, `--private-key`).
    pub private_key: PathBuf,
    /// Our certificate, and the certificates between it and the CA if there are any (OVS: `-c`, `--certificate`).
    pub certificate: PathBuf,
    /// The certificates of the CA that signed the peers' (OVS: `-C`, `--ca-cert`).
    pub ca_certificate: PathBuf,
}

/// Why certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is missing, unreadable or no PEM file of its kind.
    #[error("{}: {source}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: pem::Error,
    },
    /// The CA file holds no certificate.
    #[error("{}: there is no certificate in it", .0.display())]
    NoCa(PathBuf),
    /// The certificates in the CA file cannot sign anything.
    #[error("{}: {source}", .path.display())]
    Ca {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: VerifierBuilderError,
    },
    /// Key and certificate do not belong together, or are of a kind that is not supported.
    #[error("{}: {source}", .path.display())]
    Identity {
        /// The certificate's file.
        path: PathBuf,
        /// What is wrong.
        source: rustls::Error,
    },
}

/// Who we are and whom we trust, kept in step with the files. Clones are the same.
#[derive(Clone)]
pub struct Tls {
    files: Arc<TlsFiles>,
    loaded: Arc<Mutex<Loaded>>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Tls").field(&self.files).finish()
    }
}

struct Loaded {
    stamps: [Stamp; 3],
    connector: TlsConnector,
    acceptor: TlsAcceptor,
}

/// What changes when a file is replaced or written: inode, length and time of change.
type Stamp = Option<(u64, u64, i64, i64)>;

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// See [`TlsError`].
    pub fn load(files: TlsFiles) -> Result<Self, TlsError> {
        let loaded = Loaded::read(&files)?;
        Ok(Self {
            files: Arc::new(files),
            loaded: Arc::new(Mutex::new(loaded)),
        })
    }

    /// Reads the files again if they changed, for handshakes to come; returns whether they had.
    ///
    /// Every handshake does this by itself. Calling it (on SIGHUP) only tells earlier what is wrong with new files.
    ///
    /// # Errors
    /// See [`TlsError`]; what was read before stays in use.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if loaded.stamps == stamps(&self.files) {
            return Ok(false);
        }
        *loaded = Loaded::read(&self.files)?;
        Ok(true)
    }

    pub(crate) fn connector(&self) -> TlsConnector {
        self.refresh();
        let loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        loaded.connector.clone()
    }

    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        self.refresh();
        let loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        loaded.acceptor.clone()
    }

    fn refresh(&self) {
        match self.reload() {
            Ok(true) => {
                tracing::info!(certificate = %self.files.certificate.display(), "read the TLS certificates again");
            }
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(%error, "the TLS certificates changed and make no sense; the earlier ones stay in use");
            }
        }
    }
}

/// The name that a handshake wants; it is sent to nobody, because it is an address, and not compared.
pub(crate) fn server_name(ip: IpAddr) -> ServerName<'static> {
    ServerName::IpAddress(ip.into())
}

impl Loaded {
    fn read(files: &TlsFiles) -> Result<Self, TlsError> {
        // Before the contents: what changes in between is read again.
        let stamps = stamps(files);
        let key = || {
            PrivateKeyDer::from_pem_file(&files.private_key)
                .map_err(|source| unreadable(&files.private_key, source))
        };
        let chain = certificates(&files.certificate)?;
        let provider = Arc::new(ring_provider::default_provider());
        let ca = Arc::new(PinnedCa::read(&files.ca_certificate, &provider)?);
        let wrong = |source| TlsError::Identity {
            path: files.certificate.clone(),
            source,
        };
        let client = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(wrong)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&ca) as Arc<dyn ServerCertVerifier>)
            .with_client_auth_cert(chain.clone(), key()?)
            .map_err(wrong)?;
        let server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(wrong)?
            .with_client_cert_verifier(ca)
            .with_single_cert(chain, key()?)
            .map_err(wrong)?;
        Ok(Self {
            stamps,
            connector: TlsConnector::from(Arc::new(client)),
            acceptor: TlsAcceptor::from(Arc::new(server)),
        })
    }
}

fn stamps(files: &TlsFiles) -> [Stamp; 3] {
    [
        &files.private_key,
        &files.certificate,
        &files.ca_certificate,
    ]
    .map(|path| {
        let file = fs::metadata(path).ok()?;
        Some((file.ino(), file.len(), file.ctime(), file.ctime_nsec()))
    })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|source| unreadable(path, source))
}

fn unreadable(path: &Path, source: pem::Error) -> TlsError {
    TlsError::File {
        path: path.to_owned(),
        source,
    }
}

/// Accepts what the CA file's certificates signed, and those certificates themselves.
#[derive(Debug)]
struct PinnedCa {
    certificates: Vec<CertificateDer<'static>>,
    anchors: Arc<RootCertStore>,
    algorithms: WebPkiSupportedAlgorithms,
    clients: Arc<dyn ClientCertVerifier>,
}

impl PinnedCa {
    fn read(path: &Path, provider: &Arc<CryptoProvider>) -> Result<Self, TlsError> {
        let certificates = certificates(path)?;
        let mut anchors = RootCertStore::empty();
        anchors.add_parsable_certificates(certificates.iter().cloned());
        if anchors.is_empty() {
            return Err(TlsError::NoCa(path.to_owned()));
        }
        let anchors = Arc::new(anchors);
        let clients =
            WebPkiClientVerifier::builder_with_provider(Arc::clone(&anchors), Arc::clone(provider))
                .build()
                .map_err(|source| TlsError::Ca {
                    path: path.to_owned(),
                    source,
                })?;
        Ok(Self {
            certificates,
            anchors,
            algorithms: provider.signature_verification_algorithms,
            clients,
        })
    }

    fn names(&self, certificate: &CertificateDer<'_>) -> bool {
        self.certificates.iter().any(|own| own == certificate)
    }
}

impl ServerCertVerifier for PinnedCa {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if !self.names(end_entity) {
            verify_server_cert_signed_by_trust_anchor(
                &ParsedCertificate::try_from(end_entity)?,
                &self.anchors,
                intermediates,
                now,
                self.algorithms.all,
            )?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for PinnedCa {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.clients.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        if self.names(end_entity) {
            return Ok(ClientCertVerified::assertion());
        }
        self.clients
            .verify_client_cert(end_entity, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// A peer's certificate, which the CA vouches for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PeerCertificate {
    /// Its subject as a text (RFC 4514), `CN=tor1,O=Example`; where it has none, the fingerprint.
    pub subject: String,
    /// Its SHA-256 fingerprint as `openssl x509 -fingerprint -sha256` prints it.
    pub fingerprint: String,
}

impl PeerCertificate {
    /// The certificate that a finished handshake proved.
    pub(crate) fn of(session: &rustls::CommonState) -> Option<Self> {
        let der = session.peer_certificates()?.first()?;
        let octets: Vec<String> = digest::digest(&digest::SHA256, der)
            .as_ref()
            .iter()
            .map(|octet| format!("{octet:02X}"))
            .collect();
        let fingerprint = octets.join(":");
        // Names are somebody's by the subject of his certificate: all without one would be one.
        let subject = Certificate::from_der(der).map(|it| it.tbs_certificate.subject.to_string());
        let subject = subject.ok().filter(|subject| !subject.is_empty());
        Some(Self {
            subject: subject.unwrap_or_else(|| fingerprint.clone()),
            fingerprint,
        })
    }
}

impl fmt::Display for PeerCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.subject, self.fingerprint)
    }
}
