//! `l2gw server` alone, on a loopback port.

use std::ffi::OsStr;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::unistd::Pid;
use tempfile::TempDir;
use testkit::daemon::Daemon;
use testkit::port::free_port;

use super::api::Api;

/// How long a start may take.
const STARTS_WITHIN: Duration = Duration::from_secs(20);

/// A running server with an empty database in a directory of its own.
#[derive(Debug)]
pub(crate) struct Server {
    daemon: Daemon,
    address: SocketAddr,
    /// From the start of the program to its first answer.
    pub(crate) ready_after: Duration,
    directory: TempDir,
}

impl Server {
    /// Starts `binary` as a server on a new SQLite database, with further arguments.
    pub(crate) fn start(binary: &Path, arguments: &[&str]) -> Result<Self> {
        Self::launch(binary, None, arguments)
    }

    /// Starts `binary` as a server on the database of a URL.
    pub(crate) fn start_on(binary: &Path, database: &str, arguments: &[&str]) -> Result<Self> {
        Self::launch(binary, Some(database), arguments)
    }

    /// Kills the server and starts it again on the same database and address.
    pub(crate) fn kill_and_start_again(self, binary: &Path, arguments: &[&str]) -> Result<Self> {
        self.daemon.kill()?;
        let (daemon, ready_after) =
            run(binary, None, arguments, self.directory.path(), self.address)?;
        Ok(Self {
            daemon,
            ready_after,
            ..self
        })
    }

    fn launch(binary: &Path, database: Option<&str>, arguments: &[&str]) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("l2gw-bench-").tempdir()?;
        let address = (Ipv4Addr::LOCALHOST, free_port()?).into();
        let (daemon, ready_after) = run(binary, database, arguments, directory.path(), address)?;
        Ok(Self {
            daemon,
            address,
            ready_after,
            directory,
        })
    }

    pub(crate) fn api(&self) -> Result<Api> {
        connect(self.address)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn pid(&self) -> Result<Pid> {
        self.daemon.pid()
    }

    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.directory.path().join("l2gw.sqlite")
    }

    /// Adds the end of the server's log to an error.
    pub(crate) fn explain<T>(&self, outcome: Result<T>) -> Result<T> {
        outcome.with_context(|| format!("the server's log ends with: {}", self.daemon.log_tail()))
    }
}

/// Starts a server whose files are in this directory, and waits for its first answer; how long that took.
fn run(
    binary: &Path,
    database: Option<&str>,
    arguments: &[&str],
    directory: &Path,
    address: SocketAddr,
) -> Result<(Daemon, Duration)> {
    let mut command = l2gw(binary);
    command.args(["server", "--listen", &address.to_string(), "--database"]);
    match database {
        Some(url) => command.arg(url),
        None => command.arg(directory.join("l2gw.sqlite")),
    };
    command.args(arguments);
    let start = Instant::now();
    let daemon = Daemon::start(command, &directory.join("log"))?;
    while let Err(error) = connect(address).and_then(|mut api| api.ping()) {
        if start.elapsed() > STARTS_WITHIN {
            return Err(error.context(daemon.log_tail()));
        }
        sleep(Duration::from_millis(1));
    }
    Ok((daemon, start.elapsed()))
}

fn connect(address: SocketAddr) -> Result<Api> {
    Api::over(TcpStream::connect(address)?)
}

/// The program, without the caller's own OpenStack settings.
pub(crate) fn l2gw(binary: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(binary);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("OS_") {
            command.env_remove(name);
        }
    }
    command
}
