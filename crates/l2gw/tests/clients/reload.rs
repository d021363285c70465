//! SIGHUP: token file, policy and certificate are read again; what makes no sense then changes nothing, and is logged.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::ensure;
use testkit::certificates::{CertificateAuthority, Credentials};
use testkit::daemon::Daemon;

use crate::site::{READY_WITHIN, Site, program, typed};

/// How long the server may take to notice, on a machine with other things to do.
const PATIENCE: Duration = Duration::from_secs(60);
const GATEWAYS: &str = "/v2.0/l2-gateways";
const OLD: &str = "administrators-first-token";
const NEW: &str = "administrators-second-token";
const MEMBER: &str = "members-token-012345";

/// Tells the server to read its files again, and waits until it has said what it thinks of them.
fn reload(site: &mut Site, says: &str) {
    let said_before = site.log().matches(says).count();
    site.server.hang_up().unwrap();
    let log = site.path("log");
    let noticed = site.server.wait_until(says, PATIENCE, || {
        let said = fs::read_to_string(&log)?.matches(says).count();
        ensure!(said > said_before, "it has not said so");
        Ok(())
    });
    noticed.unwrap();
}

const READ: &str = "read token file, policy and certificates again";

fn write_tokens(path: &Path, administrators: &str) {
    let text = format!(
        "- {{token: {administrators}, user: root, project_id: ops, roles: [admin]}}\n\
         - {{token: {MEMBER}, user: alice, project_id: p1, roles: [member]}}\n"
    );
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn the_token_file_is_read_again_and_a_bad_one_changes_nothing() {
    let mut site = Site::asking_nobody(|command, directory| {
        let tokens = directory.join("tokens.yaml");
        write_tokens(&tokens, OLD);
        command.arg("--token-file").arg(tokens);
    });
    let answers = |site: &Site| [OLD, NEW, MEMBER].map(|t| site.get(Some(t), GATEWAYS).status);
    assert_eq!(answers(&site), [200, 401, 403]);
    write_tokens(&site.path("tokens.yaml"), "short");
    reload(
        &mut site,
        "the token is shorter than 16 characters; what was read before stays",
    );
    assert_eq!(answers(&site), [200, 401, 403]);
    write_tokens(&site.path("tokens.yaml"), NEW);
    reload(&mut site, READ);
    assert_eq!(answers(&site), [401, 200, 403]);
}

#[test]
fn the_policy_is_read_again_and_a_bad_one_changes_nothing() {
    let mut site = Site::asking_nobody(|command, directory| {
        let tokens = directory.join("tokens.yaml");
        write_tokens(&tokens, OLD);
        let policy = directory.join("policy.yaml");
        fs::write(&policy, "").unwrap();
        command.arg("--token-file").arg(tokens);
        command.arg("--policy-file").arg(policy);
    });
    let members = |site: &Site| site.get(Some(MEMBER), GATEWAYS).status;
    assert_eq!(members(&site), 403);
    fs::write(site.path("policy.yaml"), "get_l2_gateway: role:member\n").unwrap();
    reload(&mut site, READ);
    assert_eq!(members(&site), 200);
    // Had the good half of it been taken, she could not read any more.
    fs::write(
        site.path("policy.yaml"),
        "get_l2_gateway: '!'\ncreate_l2_gateway: rule:nope\n",
    )
    .unwrap();
    let says =
        "policy.yaml:2: create_l2_gateway: there is no rule 'nope'; what was read before stays";
    reload(&mut site, says);
    assert_eq!(members(&site), 200);
}

#[test]
fn the_certificate_is_read_again_and_a_bad_one_changes_nothing() {
    let copy = |from: &Credentials, directory: &Path| {
        fs::copy(&from.certificate, directory.join("server.pem")).unwrap();
        fs::copy(&from.private_key, directory.join("server.key")).unwrap();
    };
    let authorities = [(); 2].map(|()| CertificateAuthority::new().unwrap());
    let [old, new] = authorities
        .each_ref()
        .map(|a| a.issue("127.0.0.1").unwrap());
    let mut site = Site::asking_nobody(|command, directory| {
        copy(&old, directory);
        let file = |name: &str| directory.join(name);
        command.arg("--tls-certificate").arg(file("server.pem"));
        command.arg("--tls-private-key").arg(file("server.key"));
    });
    let trusts = |site: &Site, ca: &PathBuf| {
        let mut command = program();
        command.args(["network", "list", "--os-cacert"]).arg(ca);
        command.args(["--os-endpoint", &format!("https://{}", site.address)]);
        typed(command).code == 0
    };
    let shown = |site: &Site| [&old, &new].map(|c| trusts(site, &c.ca_certificate));
    assert_eq!(shown(&site), [true, false]);
    // The new certificate with the old key: half of a renewal.
    fs::copy(&new.certificate, site.path("server.pem")).unwrap();
    reload(&mut site, "server.pem: ");
    assert_eq!(shown(&site), [true, false]);
    fs::copy(&new.private_key, site.path("server.key")).unwrap();
    reload(&mut site, READ);
    assert_eq!(shown(&site), [false, true]);
}

#[test]
fn only_whoever_authenticates_callers_may_listen_beyond_loopback() {
    let directory = tempfile::tempdir().unwrap();
    let tokens = directory.path().join("tokens.yaml");
    write_tokens(&tokens, OLD);
    let server = |listen: &str, options: &[&str]| {
        let mut command = program();
        command.args(["server", "--listen", listen]).args(options);
        command
            .arg("--database")
            .arg(directory.path().join("l2gw.db"));
        command
    };
    for listen in ["0.0.0.0:0", "[::]:0", "198.51.100.1:9720"] {
        let refused = typed(server(listen, &[]));
        assert_eq!(refused.code, 1, "{}", refused.err);
        let said = "without authentication: use a loopback address such as 127.0.0.1:9720";
        assert!(refused.err.contains(said), "{}", refused.err);
    }
    let tokens = tokens.display().to_string();
    let log = directory.path().join("log");
    let serving = server("0.0.0.0:0", &["--token-file", &tokens]);
    let mut serving = Daemon::start(serving, &log).unwrap();
    let told = serving.wait_until("it serves and warns", READY_WITHIN, || {
        let said = fs::read_to_string(&log)?;
        for text in [
            "answering on http://0.0.0.0:",
            "tokens cross the network unencrypted: see --tls-certificate",
        ] {
            ensure!(said.contains(text), "{said}");
        }
        Ok(())
    });
    told.unwrap();
}
