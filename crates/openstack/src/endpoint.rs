//! Where a service answers.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use reqwest::Url;
use thiserror::Error;

/// The address of a Neutron-style service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A base URL, without its `/v2.0`.
    Http(Url),
    /// A unix socket.
    Unix {
        /// Its path.
        socket: PathBuf,
        /// What requests on it call the service.
        base: Url,
    },
}

/// A text that is no address of a service.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BadEndpoint {
    /// It is no URL.
    #[error("{0}; it looks like http://HOST:PORT or unix:PATH")]
    NotUrl(String),
    /// It is a URL of another protocol.
    #[error("only http://, https:// and unix: are spoken here, not {0}:")]
    Scheme(String),
}

impl FromStr for Endpoint {
    type Err = BadEndpoint;

    /// Accepts `http://HOST[:PORT][/PREFIX]` and the same with `https:`, also as Keystone catalogues write it, with `/v2.0` behind, and `unix:PATH`.
    fn from_str(text: &str) -> Result<Self, BadEndpoint> {
        if let Some(path) = text.strip_prefix("unix:") {
            if path.is_empty() {
                return Err(BadEndpoint::NotUrl("no path behind unix:".to_owned()));
            }
            let (socket, base) = (path.into(), parse("http://localhost")?);
            return Ok(Self::Unix { socket, base });
        }
        let base = text.trim_end_matches('/');
        let base = base.strip_suffix("/v2.0").unwrap_or(base);
        // `host:9720` would parse as a URL whose scheme is the host.
        if !base.contains("://") {
            return Err(BadEndpoint::NotUrl("no http:// in front".to_owned()));
        }
        let url = parse(base)?;
        match url.scheme() {
            "http" | "https" => Ok(Self::Http(url)),
            other => Err(BadEndpoint::Scheme(other.to_owned())),
        }
    }
}

fn parse(url: &str) -> Result<Url, BadEndpoint> {
    Url::parse(url).map_err(|cause| BadEndpoint::NotUrl(cause.to_string()))
}

impl Endpoint {
    /// The URL of a resource: its path below `/v2.0`, each segment percent-encoded.
    pub(crate) fn url(&self, path: &[&str]) -> Url {
        self.below(&[&["v2.0"], path].concat())
    }

    /// The URL of a path, each segment percent-encoded.
    pub(crate) fn below(&self, path: &[&str]) -> Url {
        let (Self::Http(mut url) | Self::Unix { base: mut url, .. }) = self.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        url
    }

    /// Whether certificates play a part.
    pub(crate) fn is_encrypted(&self) -> bool {
        matches!(self, Self::Http(url) if url.scheme() == "https")
    }

    /// Whether it is on this machine, where no proxy leads.
    pub(crate) fn is_local(&self) -> bool {
        match self {
            Self::Unix { .. } => true,
            Self::Http(url) => match url.host_str() {
                Some("localhost" | "[::1]") => true,
                Some(host) => host
                    .parse::<std::net::Ipv4Addr>()
                    .is_ok_and(|ip| ip.is_loopback()),
                None => false,
            },
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(url) => f.write_str(url.as_str().trim_end_matches('/')),
            Self::Unix { socket, .. } => write!(f, "unix:{}", socket.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_catalogue_entry_and_a_bare_address_mean_the_same() {
        for text in [
            "http://127.0.0.1:9720",
            "http://127.0.0.1:9720/",
            "http://127.0.0.1:9720/v2.0",
            "http://127.0.0.1:9720/v2.0/",
        ] {
            let endpoint: Endpoint = text.parse().unwrap();
            assert_eq!(endpoint.to_string(), "http://127.0.0.1:9720");
            assert_eq!(
                endpoint.url(&["l2-gateways"]).as_str(),
                "http://127.0.0.1:9720/v2.0/l2-gateways"
            );
            assert!(endpoint.is_local());
        }
    }

    #[test]
    fn a_prefix_stays_and_segments_cannot_leave_the_path() {
        let endpoint: Endpoint = "http://cloud.example/networking".parse().unwrap();
        assert_eq!(
            endpoint.url(&["networks", "a/b?c"]).as_str(),
            "http://cloud.example/networking/v2.0/networks/a%2Fb%3Fc"
        );
        assert!(!endpoint.is_local());
    }

    #[test]
    fn a_unix_socket_is_local() {
        let endpoint: Endpoint = "unix:/run/l2gw.sock".parse().unwrap();
        assert_eq!(endpoint.to_string(), "unix:/run/l2gw.sock");
        assert!(endpoint.is_local());
        assert_eq!(endpoint.url(&["ports"]).path(), "/v2.0/ports");
    }

    #[test]
    fn what_is_no_address_is_told_so() {
        let refused = |text: &str| text.parse::<Endpoint>().unwrap_err().to_string();
        insta::assert_snapshot!(refused("localhost:9720"), @"no http:// in front; it looks like http://HOST:PORT or unix:PATH");
        insta::assert_snapshot!(refused("http://:1"), @"empty host; it looks like http://HOST:PORT or unix:PATH");
        insta::assert_snapshot!(refused("unix:"), @"no path behind unix:; it looks like http://HOST:PORT or unix:PATH");
        insta::assert_snapshot!(refused("ftp://a"), @"only http://, https:// and unix: are spoken here, not ftp:");
    }
}
