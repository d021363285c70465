//! Where one database is to be had.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::target::{Target, TargetError};
use crate::tls::TlsFiles;

/// The targets of one database: one server, or the members of a cluster, of which the leader is sought.
///
/// Parses and prints targets separated by commas, as ovsdb-client(1) takes them. `key=FILE`, `cert=FILE` and `ca=FILE`
/// may follow, for certificates of this endpoint's own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    targets: Vec<Target>,
    tls: Option<TlsFiles>,
}

impl Endpoint {
    /// The targets, at least one.
    pub fn targets(&self) -> &[Target] {
        &self.targets
    }

    /// The certificates to use here, where they are not those of everybody.
    pub fn tls(&self) -> Option<&TlsFiles> {
        self.tls.as_ref()
    }
}

impl From<Target> for Endpoint {
    fn from(target: Target) -> Self {
        Self {
            targets: vec![target],
            tls: None,
        }
    }
}

/// A text that is no [`Endpoint`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// One of its parts is no target.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// There is no target in it.
    #[error("\"{0}\" names no target")]
    NoTarget(String),
    /// A target to listen on among those to dial.
    #[error("{0} is a target to listen on, not one to dial")]
    Passive(Target),
    /// Some of the three files are missing, or one is given twice.
    #[error("\"{0}\": key=FILE, cert=FILE and ca=FILE are needed together, each once")]
    Files(String),
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let mut targets = Vec::new();
        let (mut keys, mut certificates, mut cas) = (Vec::new(), Vec::new(), Vec::new());
        for part in text.split(',') {
            match part.split_once('=') {
                Some(("key", file)) => keys.push(PathBuf::from(file)),
                Some(("cert", file)) => certificates.push(PathBuf::from(file)),
                Some(("ca", file)) => cas.push(PathBuf::from(file)),
                _ => {
                    let target: Target = part.parse()?;
                    if target.is_passive() {
                        return Err(EndpointError::Passive(target));
                    }
                    targets.push(target);
                }
            }
        }
        if targets.is_empty() {
            return Err(EndpointError::NoTarget(text.to_owned()));
        }
        let tls = match (&mut *keys, &mut *certificates, &mut *cas) {
            ([], [], []) => None,
            ([key], [certificate], [ca]) => Some(TlsFiles {
                private_key: std::mem::take(key),
                certificate: std::mem::take(certificate),
                ca_certificate: std::mem::take(ca),
            }),
            _ => return Err(EndpointError::Files(text.to_owned())),
        };
        Ok(Self { targets, tls })
    }
}

/// The targets alone: this is the endpoint's name, in logs and for people.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, target) in self.targets.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{target}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_is_its_targets_separated_by_commas() {
        let text = "tcp:192.0.2.1:6640,tcp:192.0.2.2:6640";
        let endpoint: Endpoint = text.parse().unwrap();
        assert_eq!(endpoint.targets().len(), 2);
        assert_eq!(endpoint.to_string(), text);
        assert_eq!(endpoint.tls(), None);
    }

    #[test]
    fn files_make_an_endpoint_show_its_own_certificate() {
        let endpoint: Endpoint = "ssl:192.0.2.1:6640,key=/a.key,cert=/a.pem,ca=/ca.pem"
            .parse()
            .unwrap();
        assert_eq!(endpoint.to_string(), "ssl:192.0.2.1:6640");
        assert_eq!(endpoint.tls().unwrap().certificate, PathBuf::from("/a.pem"));
    }

    #[test]
    fn errors_say_what_is_wrong() {
        for (text, reason) in [
            ("tcp:192.0.2.1:1,", "names no connection method"),
            ("key=/a,cert=/b,ca=/c", "names no target"),
            ("ssl:192.0.2.1:1,key=/a", "needed together"),
            ("ssl:192.0.2.1:1,key=/a,key=/a,cert=/b,ca=/c", "each once"),
            ("ptcp:6640", "to listen on"),
        ] {
            let error = text.parse::<Endpoint>().unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }
}
