//! What a URL of PostgreSQL means.

use std::str::FromStr;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::tls::{self, Verification};
use crate::OpenError;

/// Where Debian's PostgreSQL has its socket: for URLs that name no host.
const SOCKETS: &str = "/var/run/postgresql";

/// How long an address may take to answer.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);

/// A database on a server.
#[derive(Clone)]
pub(crate) struct Server {
    /// The URL without its password.
    pub(super) name: String,
    pub(super) config: Config,
    pub(super) tls: MakeRustlsConnect,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Server").field(&self.name).finish()
    }
}

impl FromStr for Server {
    type Err = OpenError;

    /// As libpq reads it (PostgreSQL's manual, section 34.1.1.2). Of its parameters about TLS there are `sslmode`
    /// (disable, prefer, require or verify-full) and `sslrootcert` (a file, or `system`).
    fn from_str(url: &str) -> Result<Self, OpenError> {
        let name = without_password(url);
        let refused = |cause: String| OpenError::Postgres {
            url: name.clone(),
            cause,
        };
        let (place, parameters) = url.split_once('?').unwrap_or((url, ""));
        let mut mode = None;
        let mut roots = None;
        let mut others = Vec::new();
        for parameter in parameters.split('&').filter(|p| !p.is_empty()) {
            let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            let value = || percent_decode_str(value).decode_utf8_lossy().into_owned();
            match key {
                "sslmode" => mode = Some(value()),
                "sslrootcert" => roots = Some(value()),
                _ => others.push(parameter),
            }
        }
        let mut config: Config = format!("{place}?{}", others.join("&"))
            .parse()
            .map_err(|error| refused(super::fault::told(&error)))?;
        let (ssl_mode, verification) = match mode.as_deref() {
            Some("disable") => (SslMode::Disable, Verification::None),
            None | Some("prefer") => (SslMode::Prefer, Verification::None),
            Some("require") => (SslMode::Require, Verification::None),
            Some("verify-full") => (SslMode::Require, Verification::Full(roots)),
            Some(other) => {
                return Err(refused(format!(
                    "sslmode is disable, prefer, require or verify-full, not '{other}'"
                )));
            }
        };
        let tls = tls::connector(verification).map_err(refused)?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            config.host_path(SOCKETS);
        }
        if config.get_password().is_none()
            && let Ok(password) = std::env::var("PGPASSWORD")
        {
            config.password(password);
        }
        config
            .ssl_mode(ssl_mode)
            .application_name("l2gw")
            .connect_timeout(CONNECT_PATIENCE)
            // A server that went away without a word is noticed.
            .keepalives_idle(Duration::from_secs(10))
            .keepalives_interval(Duration::from_secs(5))
            .keepalives_retries(3)
            .tcp_user_timeout(Duration::from_secs(25));
        Ok(Self { name, config, tls })
    }
}

impl Server {
    /// Whether the two are one database, as far as their names tell.
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.place() == other.place()
    }

    /// Hosts, ports and name; what is left out is what libpq takes for it.
    fn place(&self) -> (&[Host], Vec<u16>, Option<&str>) {
        /// PostgreSQL's own.
        const PORT: u16 = 5432;
        let ports = match self.config.get_ports() {
            [] => vec![PORT],
            ports => ports.to_vec(),
        };
        let name = self.config.get_dbname().or(self.config.get_user());
        (self.config.get_hosts(), ports, name)
    }
}

/// The URL of a database as logs and errors may show it; whatever is no URL is shown as it is.
pub fn without_password(url: &str) -> String {
    let (place, parameters) = url.split_once('?').unwrap_or((url, ""));
    let mut shown = place.to_owned();
    if let Some((scheme, rest)) = place.split_once("://")
        && let Some((user, rest)) = rest.rsplit_once('@')
    {
        let user = user.split_once(':').map_or(user, |(user, _)| user);
        shown = format!("{scheme}://{user}@{rest}");
    }
    let parameters: Vec<_> = parameters
        .split('&')
        .filter(|parameter| !parameter.is_empty() && !parameter.starts_with("password="))
        .collect();
    if !parameters.is_empty() {
        shown.push('?');
        shown.push_str(&parameters.join("&"));
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_read_as_libpq_reads_it_and_shown_without_its_password() {
        let url = "postgres://l2gw:se%40cret@db.example:5433/net?sslmode=require&password=other";
        let server: Server = url.parse().unwrap();
        assert_eq!(
            server.name,
            "postgres://l2gw@db.example:5433/net?sslmode=require"
        );
        assert!(!format!("{server:?}").contains("cret"));
        let config = server.config;
        assert_eq!(config.get_user(), Some("l2gw"));
        assert_eq!(config.get_dbname(), Some("net"));
        assert_eq!(config.get_ports(), [5433]);
        assert_eq!(config.get_ssl_mode(), SslMode::Require);
        assert!(matches!(config.get_hosts(), [Host::Tcp(host)] if host == "db.example"));

        for (url, socket) in [
            ("postgres:///net", SOCKETS),
            ("postgresql://l2gw@%2Frun%2Fpg/net", "/run/pg"),
            ("postgres://l2gw@/net?host=/run/pg", "/run/pg"),
        ] {
            let server: Server = url.parse().unwrap();
            let hosts = server.config.get_hosts();
            let unix = std::path::Path::new(socket);
            assert!(
                matches!(hosts, [Host::Unix(path)] if path == unix),
                "{hosts:?}"
            );
        }
    }

    #[test]
    fn what_does_not_fit_is_named_without_the_password() {
        for (url, cause) in [
            ("postgres://u:secret@h/d?sslmode=verify-ca", "sslmode is"),
            ("postgres://u:secret@h/d?colour=red", "colour"),
            (
                "postgres://u:secret@h/d?sslmode=verify-full&sslrootcert=/nowhere",
                "/nowhere",
            ),
        ] {
            let line = url.parse::<Server>().unwrap_err().to_string();
            assert!(
                line.contains(cause) && !line.contains("secret") && !line.contains('\n'),
                "{line}"
            );
        }
    }
}
