//! Where an OVSDB peer is, in Open vSwitch's notation (ovsdb(7), "Connection Methods").

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

/// The port registered for OVSDB (RFC 7047 section 7), used where a target names none.
pub const DEFAULT_PORT: u16 = 6640;

/// One way to reach, or to be reached by, an OVSDB peer.
///
/// Parses and prints Open vSwitch's notation; IPv6 addresses stand in brackets, names are not resolved.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// `tcp:IP[:PORT]`: dial over plain TCP.
    Tcp(SocketAddr),
    /// `ssl:IP[:PORT]`: dial over TLS.
    Ssl(SocketAddr),
    /// `unix:PATH`: dial a Unix domain socket.
    Unix(PathBuf),
    /// `ptcp:[PORT][:IP]`: listen for plain TCP; without IP on every IPv4 address.
    PassiveTcp(SocketAddr),
    /// `pssl:[PORT][:IP]`: listen for TLS; without IP on every IPv4 address.
    PassiveSsl(SocketAddr),
    /// `punix:PATH`: listen on a Unix domain socket.
    PassiveUnix(PathBuf),
}

impl Target {
    /// Whether we wait for the peer to dial us instead of dialling it.
    pub fn is_passive(&self) -> bool {
        matches!(
            self,
            Self::PassiveTcp(_) | Self::PassiveSsl(_) | Self::PassiveUnix(_)
        )
    }
}

/// A text that is no [`Target`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{text}\" is no OVSDB target: {reason} (expected tcp:IP:PORT, ssl:IP:PORT, unix:PATH, ptcp:PORT[:IP] or pssl:PORT[:IP])"
)]
pub struct TargetError {
    text: String,
    reason: &'static str,
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).map_err(|reason| TargetError {
            text: text.to_owned(),
            reason,
        })
    }
}

fn parse(text: &str) -> Result<Target, &'static str> {
    let (method, rest) = text
        .split_once(':')
        .ok_or("it names no connection method")?;
    match method {
        "tcp" => active_address(rest).map(Target::Tcp),
        "ssl" => active_address(rest).map(Target::Ssl),
        "ptcp" => passive_address(rest).map(Target::PassiveTcp),
        "pssl" => passive_address(rest).map(Target::PassiveSsl),
        "unix" | "punix" if rest.is_empty() => Err("the path is empty"),
        "unix" => Ok(Target::Unix(PathBuf::from(rest))),
        "punix" => Ok(Target::PassiveUnix(PathBuf::from(rest))),
        _ => Err("its connection method is unknown"),
    }
}

/// `IP`, `IP:PORT`, `[IPv6]` or `[IPv6]:PORT`.
fn active_address(text: &str) -> Result<SocketAddr, &'static str> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, parse_port(port)?),
        _ => (text, DEFAULT_PORT),
    };
    if port == 0 {
        return Err("port 0 cannot be dialled");
    }
    Ok(SocketAddr::new(parse_ip(host)?, port))
}

/// Empty, `PORT`, `PORT:IP` or `:IP`.
fn passive_address(text: &str) -> Result<SocketAddr, &'static str> {
    let (port, host) = text
        .split_once(':')
        .map_or((text, None), |(port, host)| (port, Some(host)));
    let port = if port.is_empty() {
        DEFAULT_PORT
    } else {
        parse_port(port)?
    };
    let ip = host.map_or(Ok(IpAddr::V4(Ipv4Addr::UNSPECIFIED)), parse_ip)?;
    Ok(SocketAddr::new(ip, port))
}

fn parse_port(text: &str) -> Result<u16, &'static str> {
    text.parse()
        .map_err(|_| "the port is no number from 0 to 65535")
}

fn parse_ip(text: &str) -> Result<IpAddr, &'static str> {
    let bare = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(text);
    bare.parse().map_err(|_| "the host is no IP address")
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // SocketAddr prints "IP:PORT" and "[IPv6]:PORT", which is the active notation.
        let passive =
            |f: &mut fmt::Formatter<'_>, method: &str, address: &SocketAddr| match address.ip() {
                ip if ip == IpAddr::V4(Ipv4Addr::UNSPECIFIED) => {
                    write!(f, "{method}:{}", address.port())
                }
                IpAddr::V4(ip) => write!(f, "{method}:{}:{ip}", address.port()),
                IpAddr::V6(ip) => write!(f, "{method}:{}:[{ip}]", address.port()),
            };
        match self {
            Self::Tcp(address) => write!(f, "tcp:{address}"),
            Self::Ssl(address) => write!(f, "ssl:{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::PassiveTcp(address) => passive(f, "ptcp", address),
            Self::PassiveSsl(address) => passive(f, "pssl", address),
            Self::PassiveUnix(path) => write!(f, "punix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_notation_prints_as_it_was_written() {
        for text in [
            "tcp:192.0.2.1:6640",
            "ssl:192.0.2.1:6641",
            "tcp:[2001:db8::1]:6640",
            "unix:/run/vtep/db.sock",
            "ptcp:6640",
            "ptcp:0:127.0.0.1",
            "pssl:6640:[2001:db8::1]",
            "punix:/run/vtep/db.sock",
        ] {
            assert_eq!(text.parse::<Target>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_missing_port_is_the_registered_one() {
        assert_eq!(
            "tcp:192.0.2.1".parse::<Target>().unwrap().to_string(),
            "tcp:192.0.2.1:6640"
        );
        assert_eq!(
            "tcp:[2001:db8::1]".parse::<Target>().unwrap().to_string(),
            "tcp:[2001:db8::1]:6640"
        );
        assert_eq!("ptcp:".parse::<Target>().unwrap().to_string(), "ptcp:6640");
    }

    #[test]
    fn errors_say_what_is_wrong() {
        for (text, reason) in [
            ("192.0.2.1", "names no connection method"),
            ("udp:192.0.2.1:1", "connection method is unknown"),
            ("tcp:switch1:6640", "host is no IP address"),
            ("tcp:192.0.2.1:66400", "port is no number"),
            ("tcp:192.0.2.1:0", "port 0 cannot be dialled"),
            ("unix:", "path is empty"),
        ] {
            let error = text.parse::<Target>().unwrap_err().to_string();
            assert!(error.contains(reason) && error.contains(text), "{error}");
        }
    }
}
