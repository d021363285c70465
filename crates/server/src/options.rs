//! What the operator says on the command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use crate::api::Limits;
use crate::audit::AuditOptions;
use crate::auth::options::AuthOptions;
use crate::controller::connections::SwitchOptions;
use crate::http::Bounds;
use crate::operations::OperationsOptions;
use crate::rules::quota::Quota;

/// Options of `l2gw server`.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Where to answer: ADDR:PORT, or unix:PATH. Without a token file or Keystone, an address on loopback.
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:9720")]
    pub listen: Listen,
    /// Where everything is kept: sqlite:///absolute/path or a plain path; l2gw.db in the state directory where left out.
    #[arg(long, value_name = "URL")]
    pub database: Option<String>,
    /// Where the switches are.
    #[command(flatten)]
    pub switches: SwitchOptions,
    /// Accept connections on physical switches that were never seen, and of networks that no switch can carry.
    #[arg(long)]
    pub allow_unknown_devices: bool,
    /// How many resources of a kind a project may have unless PUT /v2.0/quotas says otherwise; unlimited where left out,
    /// and by -1. Repeat it for other resources.
    #[arg(long, value_name = "RESOURCE=LIMIT")]
    pub quota: Vec<Quota>,
    /// Who may ask.
    #[command(flatten)]
    pub auth: AuthOptions,
    /// Certificate to show on the TCP port, in PEM, with those between it and the CA; read again on SIGHUP.
    #[arg(long, value_name = "FILE", requires = "tls_private_key")]
    pub tls_certificate: Option<PathBuf>,
    /// Its private key, in PEM.
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    pub tls_private_key: Option<PathBuf>,
    /// Largest request body, in bytes.
    #[arg(long, value_name = "BYTES", default_value_t = Limits::DEFAULT.body)]
    pub body_limit: usize,
    /// Most bytes of request bodies under way at a time, those over 64 KiB; further ones wait, up to 30 s, and are then
    /// answered 503. Twice --body-limit where left out.
    #[arg(long, value_name = "BYTES")]
    pub body_total_limit: Option<usize>,
    /// Most connections of clients at a time; when all are at work, further ones are answered 503.
    #[arg(long, value_name = "NUMBER", default_value_t = Bounds::DEFAULT.connections)]
    pub connection_limit: usize,
    /// Who changed what.
    #[command(flatten)]
    pub audit: AuditOptions,
    /// For those who watch the server.
    #[command(flatten)]
    pub operations: OperationsOptions,
}

/// Where the server answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// A TCP port.
    Tcp(SocketAddr),
    /// A unix socket; file permissions say who may connect.
    Unix(PathBuf),
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("unix:") {
            Some("") => Err("unix: needs a path".to_owned()),
            Some(path) => Ok(Self::Unix(path.into())),
            None => text
                .parse()
                .map(Self::Tcp)
                .map_err(|_| "expected ADDR:PORT with an IP address, or unix:PATH".to_owned()),
        }
    }
}

/// The directory for what must outlive a restart: systemd's (`StateDirectory=`), `/var/lib/l2gw` for root, otherwise the
/// user's own (XDG Base Directory Specification).
pub(crate) fn state_directory() -> PathBuf {
    let of = |variable: &str| {
        std::env::var_os(variable)
            .filter(|v| !v.is_empty())
            .map(PathBuf::from)
    };
    if let Some(directory) = of("STATE_DIRECTORY") {
        return directory;
    }
    let users = of("XDG_STATE_HOME").or_else(|| of("HOME").map(|home| home.join(".local/state")));
    match users {
        Some(users) if !nix::unistd::Uid::effective().is_root() => users.join("l2gw"),
        _ => "/var/lib/l2gw".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_sockets_are_told_apart() {
        assert_eq!(
            "[::1]:9720".parse(),
            Ok(Listen::Tcp("[::1]:9720".parse().unwrap()))
        );
        assert_eq!(
            "unix:/run/l2gw.sock".parse(),
            Ok(Listen::Unix("/run/l2gw.sock".into()))
        );
        for wrong in ["unix:", "9720", "example.org:9720", ""] {
            assert!(wrong.parse::<Listen>().is_err(), "{wrong}");
        }
    }
}
