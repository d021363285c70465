//! How controllers get their connections: switches that we dial, and switches that dial us.

use std::path::PathBuf;

use super::claims::{Claims, LEAST_MEMORY};
use ovsdb::{
    Budget, ConnectionOptions, Endpoint, ListenError, Listener, SessionOptions, Target, Tls,
    TlsError, TlsFiles,
};

/// Options of `l2gw server` that say where the switches are.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct SwitchOptions {
    /// OVSDB server of a switch to dial: tcp:IP:PORT, ssl:IP:PORT or unix:PATH; repeat it for more. The members of a
    /// cluster are one device, separated by commas; the leader is sought among them. ssl: may be followed by
    /// key=FILE,cert=FILE,ca=FILE, for certificates of this switch's own.
    #[arg(long = "device", value_name = "TARGET")]
    pub devices: Vec<Endpoint>,
    /// Where switches may dial us: ptcp:PORT, ptcp:PORT:IP, pssl:PORT, pssl:PORT:IP or punix:PATH; repeat it for more. They are told apart
    /// by their names and certificates. Without TLS whoever reaches the port may claim to be any switch.
    #[arg(long, value_name = "TARGET", value_parser = passive)]
    pub ovsdb_listen: Vec<Target>,
    /// How many physical switches may become known by dialling us, those of --device counted; 1000 where left out. One that names
    /// more is turned away, those that are known are served.
    #[arg(long, value_name = "NUMBER")]
    pub ovsdb_listen_limit: Option<usize>,
    /// Most bytes of memory that those who dial us take together, 1073741824 where left out; a switch takes 26 MB for 100,000
    /// MACs, and as much again while it connects. A quarter of it is for callers that no gateway names. Who has the most is
    /// closed when it is not enough.
    #[arg(long, value_name = "BYTES", value_parser = memory)]
    pub ovsdb_listen_memory: Option<usize>,
    /// PEM file with the private key to show to switches, for ssl: and pssl:.
    #[arg(long, value_name = "FILE", requires_all = ["ovsdb_certificate", "ovsdb_ca_cert"])]
    pub ovsdb_private_key: Option<PathBuf>,
    /// PEM file with the certificate of that key.
    #[arg(long, value_name = "FILE", requires = "ovsdb_private_key")]
    pub ovsdb_certificate: Option<PathBuf>,
    /// PEM file with the certificate of the CA that signed the switches' certificates. Nobody else's signature counts, and
    /// names in certificates are not compared with addresses.
    #[arg(long, value_name = "FILE", requires = "ovsdb_private_key")]
    pub ovsdb_ca_cert: Option<PathBuf>,
}

fn passive(text: &str) -> Result<Target, String> {
    let target: Target = text.parse().map_err(|error| format!("{error}"))?;
    if target.is_passive() {
        return Ok(target);
    }
    Err("switches are waited for at ptcp:PORT[:IP], pssl:PORT[:IP] or punix:PATH; what is to be dialled is a --device"
        .to_owned())
}

fn memory(text: &str) -> Result<usize, String> {
    let bytes: usize = text.parse().map_err(|error| format!("{error}"))?;
    if bytes >= LEAST_MEMORY {
        return Ok(bytes);
    }
    Err(format!("{LEAST_MEMORY} bytes are the least"))
}

/// Why the switches cannot be reached, nor reach us.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionsError {
    /// Certificates are missing or make no sense.
    #[error("TLS for OVSDB: {0}")]
    Tls(#[from] TlsError),
    /// A target cannot be listened on.
    #[error("cannot wait for switches: {0}")]
    Listen(#[from] ListenError),
    /// A target wants TLS, and no certificates are configured.
    #[error(
        "{0} needs --ovsdb-private-key, --ovsdb-certificate and --ovsdb-ca-cert, or key=FILE,cert=FILE,ca=FILE of its own"
    )]
    NoCertificates(Endpoint),
}

/// What controllers are made of: endpoints to dial, and open doors.
#[derive(Debug)]
pub struct Connections {
    pub(super) dialled: Vec<(Endpoint, ConnectionOptions)>,
    pub(super) listeners: Vec<Listener>,
    /// What those may claim who come there.
    pub(super) claims: Claims,
    /// What they may have together.
    pub(super) budget: Budget,
    pub(super) certificates: Certificates,
}

impl Default for Connections {
    fn default() -> Self {
        let claims = Claims::default();
        Self {
            dialled: Vec::new(),
            listeners: Vec::new(),
            claims,
            budget: claims.budget(None),
            certificates: Certificates::default(),
        }
    }
}

/// All certificates in use with switches, each once.
#[derive(Clone, Debug, Default)]
pub struct Certificates(Vec<Tls>);

impl Certificates {
    /// Reads changed certificates at once, and returns what is wrong with them: then those from before stay in use. Every
    /// handshake looks for changes by itself.
    pub fn reload(&self) -> Vec<String> {
        let reload = |tls: &Tls| match tls.reload() {
            Ok(true) => {
                tracing::info!(?tls, "read changed certificates");
                None
            }
            Ok(false) => None,
            Err(error) => Some(format!("TLS for OVSDB: {error}")),
        };
        self.0.iter().filter_map(reload).collect()
    }
}

impl Connections {
    /// Reads the certificates and opens the doors.
    ///
    /// # Errors
    /// See [`ConnectionsError`].
    pub async fn open(options: SwitchOptions) -> Result<Self, ConnectionsError> {
        let mut connections = Self::default();
        let SwitchOptions {
            devices,
            ovsdb_listen,
            ovsdb_listen_limit,
            ovsdb_listen_memory,
            ovsdb_private_key,
            ovsdb_certificate,
            ovsdb_ca_cert,
        } = options;
        connections.claims = ovsdb_listen_limit.map_or_else(Claims::default, Claims::up_to);
        connections.budget = connections.claims.budget(ovsdb_listen_memory);
        let tls = match (ovsdb_private_key, ovsdb_certificate, ovsdb_ca_cert) {
            (Some(private_key), Some(certificate), Some(ca_certificate)) => {
                Some(connections.load(TlsFiles {
                    private_key,
                    certificate,
                    ca_certificate,
                })?)
            }
            _ => None,
        };
        for target in ovsdb_listen {
            let options = Claims::bound(session(tls.clone()));
            let listener = Listener::bind(&target, options, &connections.budget).await?;
            tracing::info!(target = %listener.target(), "waiting for switches");
            connections.listeners.push(listener);
        }
        for endpoint in devices {
            let tls = match endpoint.tls() {
                Some(own) => Some(connections.load(own.clone())?),
                None => tls.clone(),
            };
            let encrypted = |target: &Target| matches!(target, Target::Ssl(_));
            if tls.is_none() && endpoint.targets().iter().any(encrypted) {
                return Err(ConnectionsError::NoCertificates(endpoint));
            }
            let options = ConnectionOptions {
                session: session(tls),
                ..ConnectionOptions::default()
            };
            connections.dialled.push((endpoint, options));
        }
        Ok(connections)
    }

    fn load(&mut self, files: TlsFiles) -> Result<Tls, TlsError> {
        let tls = Tls::load(files)?;
        self.certificates.0.push(tls.clone());
        Ok(tls)
    }
}

fn session(tls: Option<Tls>) -> SessionOptions {
    SessionOptions {
        tls,
        ..SessionOptions::default()
    }
}

/// To be dialled without TLS.
impl From<Endpoint> for Connections {
    fn from(endpoint: Endpoint) -> Self {
        Self {
            dialled: vec![(endpoint, ConnectionOptions::default())],
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        switches: SwitchOptions,
    }

    fn parse(line: &str) -> Result<SwitchOptions, String> {
        Line::try_parse_from(std::iter::once("l2gw").chain(line.split_whitespace()))
            .map(|line| line.switches)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn devices_may_be_clusters_and_have_certificates_of_their_own() {
        let options = parse(
            "--device tcp:192.0.2.1:6640,tcp:192.0.2.2:6640 \
             --device ssl:192.0.2.3:6640,key=/k,cert=/c,ca=/a --ovsdb-listen ptcp:6640",
        )
        .unwrap();
        let [cluster, own] = options.devices.as_slice() else {
            panic!("{options:?}");
        };
        assert_eq!(cluster.targets().len(), 2);
        assert_eq!(own.tls().unwrap().ca_certificate, PathBuf::from("/a"));
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_the_way_out() {
        for (line, words) in [
            ("--device ptcp:6640", "to listen on"),
            ("--ovsdb-listen tcp:192.0.2.1:6640", "is a --device"),
            ("--ovsdb-private-key /k", "--ovsdb-certificate"),
            ("--ovsdb-ca-cert /a", "--ovsdb-private-key"),
            ("--ovsdb-listen-memory 1000", "67108864 bytes are the least"),
        ] {
            let error = parse(line).unwrap_err();
            assert!(error.contains(words), "{line}: {error}");
        }
    }

    #[tokio::test]
    async fn tls_without_certificates_and_ports_in_use_are_told_at_the_start() {
        let options = parse("--device ssl:192.0.2.3:6640").unwrap();
        let error = Connections::open(options).await.unwrap_err().to_string();
        assert!(
            error.contains("ssl:192.0.2.3:6640 needs --ovsdb-private-key"),
            "{error}"
        );
        let options = parse("--ovsdb-listen ptcp:0:192.0.2.1").unwrap();
        let error = Connections::open(options).await.unwrap_err().to_string();
        assert!(
            error.starts_with("cannot wait for switches: ptcp:0:192.0.2.1: "),
            "{error}"
        );
    }
}
