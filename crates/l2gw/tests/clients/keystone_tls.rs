//! A Keystone that speaks TLS: whom the server and the commands trust, and what they say of one whom they do not.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::ensure;
use serde_json::json;
use tempfile::TempDir;
use testkit::certificates::{CertificateAuthority, Credentials};
use testkit::keystone::{ADMIN, SERVICE};
use testkit::run::eventually;
use testkit::tls_relay::TlsRelay;

use crate::site::{KEYSTONE, Site, printed, program, typed};

const NETWORKS: &str = "/v2.0/networks";
/// How long something may take that Keystone has a part in, on a machine with other things to do.
const PATIENCE: Duration = Duration::from_secs(60);

/// Keystone behind TLS.
struct Secured {
    credentials: Credentials,
    /// A CA that has signed nothing.
    other: CertificateAuthority,
    relay: TlsRelay,
    _files: (CertificateAuthority, TempDir),
}

impl Secured {
    fn start() -> Self {
        let authority = CertificateAuthority::new().unwrap();
        let credentials = authority.issue("127.0.0.1").unwrap();
        let directory = TempDir::new().unwrap();
        let url = KEYSTONE.url();
        let address = url.trim_start_matches("http://").split('/').next();
        let (host, port) = address.unwrap().split_once(':').unwrap();
        let server = (host, port.parse().unwrap());
        Self {
            relay: TlsRelay::start(&credentials, server, directory.path()).unwrap(),
            credentials,
            other: CertificateAuthority::new().unwrap(),
            _files: (authority, directory),
        }
    }

    fn url(&self) -> String {
        format!("https://127.0.0.1:{}/v3", self.relay.port)
    }

    fn wrong_ca(&self) -> PathBuf {
        self.other.directory().join("ca.pem")
    }

    /// A server that asks this Keystone, with a further variable.
    fn asked(&self, variable: (&str, &Path)) -> Site {
        Site::asking_nobody(|command, _| {
            command.args(["--keystone-url", &self.url()]);
            command.envs(SERVICE.variables(&KEYSTONE));
            command.env("OS_AUTH_URL", self.url());
            command.env(variable.0, variable.1);
        })
    }
}

#[test]
fn a_server_asks_a_keystone_whose_ca_it_was_given_or_unseen() {
    let secured = Secured::start();
    let token = KEYSTONE.token(&ADMIN).unwrap();
    for variable in [
        ("OS_CACERT", &*secured.credentials.ca_certificate),
        ("OS_INSECURE", Path::new("true")),
    ] {
        let site = secured.asked(variable);
        let answer = site.get(Some(&token), NETWORKS);
        assert_eq!(answer.status, 200, "{}: {}", answer.body, site.log());
        assert_eq!(site.get(Some("made-up"), NETWORKS).status, 401);
    }
}

#[test]
fn a_server_tells_nothing_to_a_keystone_of_another_ca_and_says_why() {
    let secured = Secured::start();
    let token = KEYSTONE.token(&ADMIN).unwrap();
    for site in [
        secured.asked(("OS_CACERT", &secured.wrong_ca())),
        // The machine's own CAs know nothing of it either.
        secured.asked(("OS_INSECURE", Path::new("false"))),
    ] {
        let answer = site.get(Some(&token), NETWORKS);
        assert_eq!(answer.status, 503, "{}", answer.body);
        assert!(answer.header("retry-after").is_some());
        let said = eventually("the log says why", PATIENCE, || {
            let log = site.log();
            ensure!(log.contains("cannot be asked whose tokens are"), "{log}");
            Ok(log)
        });
        let said = said.unwrap();
        let url = format!(
            "Unable to reach Keystone at https://127.0.0.1:{}",
            secured.relay.port
        );
        assert!(said.contains(&url), "{said}");
        assert!(said.contains("certificate"), "{said}");
        let detail = site.get(None, "/healthcheck?detailed").body;
        assert!(detail.contains("KEYSTONE UNAVAILABLE"), "{detail}");
    }
}

#[test]
fn a_ca_file_that_is_none_is_said_at_the_start() {
    let secured = Secured::start();
    for (text, said) in [(None, "No such file"), (Some("no PEM"), "no certificate")] {
        let directory = TempDir::new().unwrap();
        let file = directory.path().join("ca.pem");
        if let Some(text) = text {
            std::fs::write(&file, text).unwrap();
        }
        let mut command = program();
        command.args(["server", "--listen", "127.0.0.1:0", "--database"]);
        command.arg(directory.path().join("l2gw.db"));
        command.args(["--keystone-url", &secured.url()]);
        command.envs(SERVICE.variables(&KEYSTONE));
        command.env("OS_CACERT", &file);
        let ended = refused_to_start(command);
        assert!(ended.contains(&file.display().to_string()), "{ended}");
        assert!(ended.contains(said), "{ended}");
    }
}

/// What a server says that does not start.
fn refused_to_start(mut command: Command) -> String {
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn a_command_logs_in_where_it_trusts_keystone() {
    let secured = Secured::start();
    let site = Site::start();
    let types = |variable: (&str, &Path)| {
        let mut command = program();
        command.args(["network", "list", "-f", "json"]);
        command.envs(site.variables(&ADMIN));
        command.env("OS_AUTH_URL", secured.url());
        command.env(variable.0, variable.1);
        typed(command)
    };
    let trusted = types(("OS_CACERT", &secured.credentials.ca_certificate));
    assert_eq!(printed(&trusted), json!([]));
    assert_eq!(printed(&types(("OS_INSECURE", Path::new("1")))), json!([]));
    let distrusted = types(("OS_CACERT", &secured.wrong_ca()));
    assert_eq!((distrusted.code, &*distrusted.out), (1, ""));
    let said = &distrusted.err;
    assert!(
        said.contains("Unable to reach Keystone at https://"),
        "{said}"
    );
    assert!(said.contains("certificate"), "{said}");
}
