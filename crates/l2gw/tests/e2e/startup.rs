//! Starts that must fail, each with one line that names the trouble, and ends that must not.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use testkit::certificates::CertificateAuthority;
use testkit::daemon::Daemon;
use testkit::installation::Installation;
use testkit::netns::{Netns, unique_prefix};
use testkit::run::CONVERGES_WITHIN;
use testkit::topology::Topology;

use crate::l2gw;

/// A namespace and a directory where one program is started.
struct Place {
    netns: Netns,
    directory: TempDir,
}

impl Place {
    fn new() -> Result<Self> {
        Ok(Self {
            netns: Netns::create(&unique_prefix())?,
            directory: TempDir::new()?,
        })
    }

    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    /// `l2gw ARGUMENTS…`, ended after ten seconds should it start to serve.
    fn l2gw(&self, arguments: &[&str]) -> Command {
        let mut command = self.netns.command("timeout");
        command
            .args(["--kill-after=1", "10"])
            .arg(l2gw())
            .args(arguments);
        command
    }

    /// Checks that `l2gw ARGUMENTS…` fails and says why in one line in which `named` occurs.
    fn fails_in_one_line(&self, arguments: &[&str], named: &str) -> Result<()> {
        let output = self.l2gw(arguments).output()?;
        let (said, status) = (String::from_utf8_lossy(&output.stderr), output.status);
        ensure!(
            matches!(status.code(), Some(1 | 2)),
            "it did not fail, but ended with {status}: {said}"
        );
        ensure!(
            said.trim_end().lines().count() == 1,
            "one line, not:\n{said}"
        );
        ensure!(said.contains(named), "`{named}` is not in: {said}");
        Ok(())
    }
}

#[test]
fn a_server_whose_port_is_in_use_says_so_and_ends() -> Result<()> {
    let place = Place::new()?;
    let taken = place
        .netns
        .enter(|| TcpListener::bind("127.0.0.1:0").context("no port is free"))?;
    let address = taken.local_addr()?.to_string();
    let database = place.path("l2gw.sqlite");
    place.fails_in_one_line(
        &["server", "--listen", &address, "--database", &database],
        &address,
    )
}

#[test]
fn a_server_whose_database_cannot_be_written_says_so_and_ends() -> Result<()> {
    let place = Place::new()?;
    // Root may write anywhere; but below a file there is no directory, not even for root.
    std::fs::write(place.path("file"), "")?;
    let database = place.path("file/l2gw.sqlite");
    place.fails_in_one_line(&["server", "--database", &database], &database)
}

#[test]
fn a_server_without_authentication_refuses_to_listen_to_the_world() -> Result<()> {
    let place = Place::new()?;
    let database = place.path("l2gw.sqlite");
    place.fails_in_one_line(
        &[
            "server",
            "--listen",
            "0.0.0.0:9720",
            "--database",
            &database,
        ],
        "0.0.0.0:9720",
    )
}

#[test]
fn a_server_told_a_device_it_cannot_understand_says_so_and_ends() -> Result<()> {
    let place = Place::new()?;
    let database = place.path("l2gw.sqlite");
    place.fails_in_one_line(
        &[
            "server",
            "--database",
            &database,
            "--device",
            "carrier-pigeon:6640",
        ],
        "pigeon",
    )
}

#[test]
fn a_switch_with_a_port_on_an_interface_that_does_not_exist_says_so_and_ends() -> Result<()> {
    let place = Place::new()?;
    place.netns.ip("address add 192.0.2.1/32 dev lo")?;
    let state = place.path("vtep");
    let switch = [
        "vtep",
        "--name",
        "bgw",
        "--tunnel-ip",
        "192.0.2.1",
        "--state-dir",
        &state,
    ];
    place.fails_in_one_line(
        &[&switch[..], &["--port", "port1=nosuch0"]].concat(),
        "nosuch0",
    )?;
    assert_eq!(
        place.netns.processes()?,
        [],
        "an ovsdb-server was left behind"
    );
    Ok(())
}

#[test]
fn a_switch_whose_wan_is_in_a_namespace_that_does_not_exist_says_so_and_ends() -> Result<()> {
    let place = Place::new()?;
    let state = place.path("vtep");
    let switch = ["vtep", "--name", "bgw", "--state-dir", &state];
    let ends = ["--tunnel-ip", "192.0.2.1", "--wan-ip", "198.51.100.1"];
    place.fails_in_one_line(
        &[&switch[..], &ends, &["--wan-netns", "nosuch0"]].concat(),
        "this host has no network namespace nosuch0",
    )?;
    assert_eq!(
        place.netns.processes()?,
        [],
        "an ovsdb-server was left behind"
    );
    Ok(())
}

#[test]
fn sighup_reads_the_certificates_for_switches_again_and_a_bad_one_changes_nothing() -> Result<()> {
    let place = Place::new()?;
    let authority = CertificateAuthority::new()?;
    let files = authority.issue("server")?;
    let mut command = place.netns.command(l2gw());
    command
        .args(["server", "--database", &place.path("l2gw.sqlite")])
        .args(["--ovsdb-listen", "pssl:6640:127.0.0.1"])
        .arg("--ovsdb-private-key")
        .arg(&files.private_key)
        .arg("--ovsdb-certificate")
        .arg(&files.certificate)
        .arg("--ovsdb-ca-cert")
        .arg(&files.ca_certificate);
    let mut server = Daemon::start(command, Path::new(&place.path("server.log")))?;
    let said = |server: &mut Daemon, words: &str| {
        let log = std::path::PathBuf::from(place.path("server.log"));
        server.wait_until(words, CONVERGES_WITHIN, || {
            let log = std::fs::read_to_string(&log)?;
            ensure!(log.contains(words), "{log}");
            Ok(())
        })
    };
    said(&mut server, "answering on")?;
    let good = std::fs::read(&files.certificate)?;
    std::fs::write(&files.certificate, "nonsense")?;
    server.hang_up()?;
    said(&mut server, "TLS for OVSDB: ")?;

    let renewed = authority.issue("renewed")?;
    ensure!(
        std::fs::read(&renewed.certificate)? != good,
        "it is a new one"
    );
    std::fs::copy(&renewed.private_key, &files.private_key)?;
    std::fs::copy(&renewed.certificate, &files.certificate)?;
    server.hang_up()?;
    said(&mut server, "read changed certificates")?;
    said(
        &mut server,
        "read token file, policy and certificates again",
    )?;
    let status = server.terminate()?;
    assert_eq!(status.code(), Some(0));
    Ok(())
}

#[test]
fn sigterm_ends_server_and_switch_with_code_0() -> Result<()> {
    let topology = Topology::two_clouds()?;
    let mut installation = Installation::new(l2gw(), topology.cloud(0)?)?;
    installation.start()?;
    for (name, daemon) in [
        ("server", installation.take_server()?),
        ("vtep", installation.take_vtep()?),
    ] {
        let status = daemon.terminate()?;
        assert_eq!(status.code(), Some(0), "l2gw {name}: {status}");
    }
    Ok(())
}

#[test]
fn a_vtep_without_a_packet_filter_does_not_run_open() -> Result<()> {
    let place = Place::new()?;
    let programs = place.directory.path().join("programs");
    std::fs::create_dir(&programs)?;
    for program in ["ip", "timeout", "ovsdb-server", "ovsdb-tool", "ovs-appctl"] {
        let found = std::env::var("PATH")?
            .split(':')
            .map(|directory| Path::new(directory).join(program))
            .find(|path| path.exists())
            .with_context(|| format!("no {program}"))?;
        std::os::unix::fs::symlink(found, programs.join(program))?;
    }
    let state = place.path("vtep");
    let arguments = [
        "vtep",
        "--name",
        "sw",
        "--tunnel-ip",
        "10.0.0.1",
        "--state-dir",
        &state,
    ];
    let output = place.l2gw(&arguments).env("PATH", &programs).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(
        said,
        "l2gw vtep: nft is missing; on Debian: apt-get install nftables\n"
    );
    assert_eq!(output.status.code(), Some(1));
    Ok(())
}
