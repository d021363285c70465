//! A server with its database that drives the switch `tor`, a bare ovsdb-server; without namespaces.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use testkit::daemon::Daemon;
use testkit::ovsdb_server::OvsdbServer;
use testkit::run::{CONVERGES_WITHIN, eventually, run};

use crate::l2gw;

/// A directory with a server's database, and the server if it runs.
pub(crate) struct Place {
    directory: TempDir,
    /// Of the server's environment.
    environment: Vec<(String, String)>,
    server: Option<Daemon>,
}

impl Place {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self {
            directory: tempfile::Builder::new().prefix("l2gw-driven-").tempdir()?,
            environment: Vec::new(),
            server: None,
        })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// `l2gw ARGUMENTS…` of a client of this server.
    pub(crate) fn l2gw(&self, arguments: &[&str]) -> Result<String> {
        let endpoint = format!("unix:{}", self.path("api.sock").display());
        run(Command::new(l2gw())
            .args(["--os-endpoint", &endpoint])
            .args(arguments))
    }

    /// Starts a server with the database, which drives this switch, and waits until it answers.
    pub(crate) fn start(&mut self, device: Option<&str>) -> Result<()> {
        let mut command = Command::new(l2gw());
        let listen = format!("unix:{}", self.path("api.sock").display());
        command
            .args(["server", "--listen", &listen, "--database"])
            .arg(self.path("l2gw.sqlite"));
        match device {
            Some(device) => command.args(["--device", device]),
            None => command.arg("--allow-unknown-devices"),
        };
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        let mut server = Daemon::start(command, &self.path("server.log"))?;
        server.wait_until("it answers", CONVERGES_WITHIN, || {
            self.l2gw(&["l2-gateway-list"])
        })?;
        self.server = Some(server);
        Ok(())
    }

    pub(crate) fn stop(&mut self) -> Result<()> {
        let server = self.server.take().context("it does not run")?;
        ensure!(server.terminate()?.success(), "it ends well");
        Ok(())
    }

    /// The database file, while no server runs.
    pub(crate) fn copy_to(&self, other: &Self) -> Result<()> {
        std::fs::copy(self.path("l2gw.sqlite"), other.path("l2gw.sqlite"))?;
        Ok(())
    }

    /// Waits until the server says that the switch holds all it should and nothing else.
    pub(crate) fn wait_until_right(&self) -> Result<()> {
        eventually("the switch is as it should be", CONVERGES_WITHIN, || {
            self.l2gw(&["audit", "tor"])
        })?;
        Ok(())
    }

    /// Gives servers that are started from now on a variable.
    pub(crate) fn set(&mut self, name: &str, value: impl Into<String>) {
        self.environment.push((name.to_owned(), value.into()));
    }

    pub(crate) fn kill(&mut self) -> Result<()> {
        self.server.take().context("it does not run")?.kill()
    }

    /// Declares a network on port `p1` of the switch `tor`, stretched to a remote gateway.
    pub(crate) fn stretch(&self) -> Result<()> {
        let port = ["02:00:00:01:00:00", "--tunneling-ip", "192.0.2.1"];
        let device = "name=tor,interface_names=p1";
        for line in [
            &["network", "create", "net", "--segmentation-id", "123"][..],
            &[&["port", "create", "net"], &port[..]].concat(),
            &["l2-gateway-create", "gw", "--device", device],
            &[
                "l2-gateway-connection-create",
                "gw",
                "net",
                "--default-segmentation-id",
                "7",
            ],
            &["l2-remote-gateway-create", "far", "203.0.113.1"],
            &[
                "l2-remote-gateway-connection-create",
                "gw",
                "net",
                "far",
                "--seg-id",
                "456",
            ],
        ] {
            self.l2gw(line)?;
        }
        Ok(())
    }

    /// The id of the only remote connection.
    pub(crate) fn connection(&self) -> Result<String> {
        let listed = self.l2gw(&[
            "l2-remote-gateway-connection-list",
            "-f",
            "value",
            "-c",
            "id",
        ])?;
        Ok(listed.trim().to_owned())
    }
}

/// What a command of vtep-ctl(8) prints.
pub(crate) fn vtep_ctl(switch: &OvsdbServer, line: &str) -> Result<String> {
    run(Command::new("vtep-ctl")
        .arg(format!("--db={}", switch.unix_target()))
        .args(line.split_whitespace()))
}
