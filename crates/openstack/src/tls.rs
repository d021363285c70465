//! Whom connections trust, and how they are made.

use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::{Certificate, ClientBuilder, Identity};

use crate::endpoint::Endpoint;
use crate::error::Error;

/// How long a TCP connection may take; longer only helps against a server that is not there.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// Whom a client trusts, and by which certificate it is known itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    /// PEM file with the only CAs that are trusted; those of the machine where there is none (`--os-cacert`).
    pub cacert: Option<PathBuf>,
    /// PEM file with the client's own certificate (`--os-cert`).
    pub cert: Option<PathBuf>,
    /// PEM file with its private key, unless it is in the same file (`--os-key`).
    pub key: Option<PathBuf>,
    /// Nobody's certificate is checked (`--insecure`).
    pub insecure: bool,
}

/// Chooses the implementation of cryptography for the whole process, unless it has one. Whoever uses `reqwest` or `rustls`
/// beside this crate calls it first.
pub fn choose_cryptography() {
    // An error says that there is one already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

impl Trust {
    /// A client of `endpoint` that waits at most `timeout` for each sign of life.
    pub(crate) fn connect(
        &self,
        endpoint: &Endpoint,
        timeout: Duration,
    ) -> Result<reqwest::Client, Error> {
        build(endpoint, self.builder(endpoint, timeout)?)
    }

    /// The same, with a new connection for every request.
    pub(crate) fn connect_each_time(
        &self,
        endpoint: &Endpoint,
        timeout: Duration,
    ) -> Result<reqwest::Client, Error> {
        let builder = self.builder(endpoint, timeout)?;
        build(endpoint, builder.pool_max_idle_per_host(0))
    }

    fn builder(&self, endpoint: &Endpoint, timeout: Duration) -> Result<ClientBuilder, Error> {
        choose_cryptography();
        let mut builder = ClientBuilder::new()
            .connect_timeout(timeout.min(CONNECT_WITHIN))
            .read_timeout(timeout)
            // A token must not follow a redirection to another host.
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("l2gw/", env!("CARGO_PKG_VERSION")));
        if endpoint.is_local() {
            builder = builder.no_proxy();
        }
        if let Endpoint::Unix { socket, .. } = endpoint {
            builder = builder.unix_socket(socket.as_path());
        }
        if endpoint.is_encrypted() {
            self.apply(builder)
        } else {
            // Reading the machine's CAs takes longer than a whole command may.
            Ok(builder.tls_certs_only([]))
        }
    }

    fn apply(&self, mut builder: ClientBuilder) -> Result<ClientBuilder, Error> {
        if let Some(path) = &self.cacert {
            let bundle = Certificate::from_pem_bundle(&read(path)?)
                .map_err(|cause| Error::Configuration(format!("{}: {cause}", path.display())))?;
            if bundle.is_empty() {
                let message = format!("{}: there is no certificate in it", path.display());
                return Err(Error::Configuration(message));
            }
            builder = builder.tls_certs_only(bundle);
        }
        if let Some(path) = &self.cert {
            let mut pem = read(path)?;
            if let Some(key) = &self.key {
                pem.push(b'\n');
                pem.extend(read(key)?);
            }
            let identity = Identity::from_pem(&pem)
                .map_err(|cause| Error::Configuration(format!("{}: {cause}", path.display())))?;
            builder = builder.identity(identity);
        }
        Ok(builder.tls_danger_accept_invalid_certs(self.insecure))
    }
}

fn build(endpoint: &Endpoint, builder: ClientBuilder) -> Result<reqwest::Client, Error> {
    builder.build().map_err(|cause| Error::Unreachable {
        endpoint: endpoint.to_string(),
        cause: innermost(&cause),
    })
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path)
        .map_err(|cause| Error::Configuration(format!("{}: {cause}", path.display())))
}

/// The cause at the bottom: `Connection refused` instead of four sentences around it, without the errno.
pub(crate) fn innermost(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    let text = cause.to_string();
    match text.split_once(" (os error") {
        Some((words, _)) => words.to_owned(),
        None => text,
    }
}
