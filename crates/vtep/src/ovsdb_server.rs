//! The switch's database: Debian's ovsdb-server on a database in the state directory.
//!
//! It is started detached and outlives us, by whatever signal we end: controllers stay connected to it, and a restart of
//! ours is no restart of theirs. `l2gw vtep down` stops it.

use std::fs;
use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ovsdb::Target;

use crate::error::{Error, Missing};
use crate::kernel::vlan::VlanForm;

/// Where Debian's openvswitch-vtep puts the schema.
const SCHEMA: &str = "/usr/share/openvswitch/vtep.ovsschema";
const COMMON: &str = "openvswitch-common";
const VTEP: &str = "openvswitch-vtep";

/// Controllers an administrator or `--manager` enters into the database.
const MANAGERS: &str = "db:hardware_vtep,Global,managers";

/// `sun_path` holds 108 bytes; the longest name of ours below the directory takes seven.
const LONGEST_STATE_DIR: usize = 100;

const STOP_WITHIN: Duration = Duration::from_secs(5);

/// Where a database comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// It was there.
    Kept,
    /// It was created just now and says nothing yet.
    Created,
}

/// An ovsdb-server in a state directory, running or not.
#[derive(Clone, Debug)]
pub(crate) struct OvsdbServer {
    directory: PathBuf,
    listen: Vec<Target>,
}

impl OvsdbServer {
    /// The server of a state directory, which is an absolute path.
    pub(crate) fn new(directory: PathBuf, listen: Vec<Target>) -> Result<Self, Error> {
        if directory.as_os_str().len() > LONGEST_STATE_DIR {
            return Err(Error::LongStateDir(directory));
        }
        Ok(Self { directory, listen })
    }

    /// The socket it listens on for us.
    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.join("db.sock")
    }

    /// Whether it answers.
    pub(crate) fn is_running(&self) -> bool {
        UnixStream::connect(self.socket()).is_ok()
    }

    /// Starts it, on a fresh database if there is none, unless it runs already; and makes it listen where it should. Says
    /// which database it works on.
    pub(crate) fn ensure(&self) -> Result<Origin, Error> {
        if self.is_running() {
            self.listen_as_told()?;
            return Ok(Origin::Kept);
        }
        for target in &self.listen {
            self.can_listen(target)?;
        }
        let origin = self.create_database()?;
        self.start()?;
        tracing::info!(socket = %self.socket().display(), "ovsdb-server started");
        Ok(origin)
    }

    fn database(&self) -> PathBuf {
        self.directory.join("vtep.db")
    }

    fn pidfile(&self) -> PathBuf {
        self.directory.join("ovsdb-server.pid")
    }

    fn control(&self) -> PathBuf {
        self.directory.join("ctl")
    }

    fn create_database(&self) -> Result<Origin, Error> {
        if self.database().exists() {
            return Ok(Origin::Kept);
        }
        if let Some(missing) = missing_schema() {
            return Err(missing.into());
        }
        let output = Command::new("ovsdb-tool")
            .arg("create")
            .args([self.database().as_path(), Path::new(SCHEMA)])
            .output();
        succeed("ovsdb-tool", output).map(drop)?;
        tracing::info!(database = %self.database().display(), "database created");
        Ok(Origin::Created)
    }

    fn start(&self) -> Result<(), Error> {
        let path = |option: &str, path: PathBuf| format!("--{option}={}", path.display());
        let mut command = Command::new("ovsdb-server");
        command
            .arg(self.database())
            .args(["--detach", "--no-chdir", "-vconsole:off", "-vsyslog:off"])
            .arg(path("pidfile", self.pidfile()))
            .arg(path("unixctl", self.control()))
            .arg(path("log-file", self.directory.join("ovsdb-server.log")))
            .arg(path("remote=punix", self.socket()).replace("punix=", "punix:"))
            .arg(format!("--remote={MANAGERS}"))
            .env("OVS_RUNDIR", &self.directory)
            .stdin(Stdio::null());
        for target in &self.listen {
            command.arg(format!("--remote={target}"));
        }
        // It goes to the background by itself once it listens.
        succeed("ovsdb-server", command.output())?;
        if self.is_running() {
            Ok(())
        } else {
            let silence = format!("no answer on {}", self.socket().display());
            Err(Error::OvsdbServer(silence))
        }
    }

    /// A running server may have been started with other `--listen` options.
    fn listen_as_told(&self) -> Result<(), Error> {
        // One that somebody else started listens where they told it to, unless it can be told otherwise.
        if !self.control().exists() {
            return match self.listen.first() {
                None => Ok(()),
                Some(target) => Err(Error::ForeignServer {
                    target: target.to_string(),
                    socket: self.socket(),
                    control: self.control(),
                }),
            };
        }
        let listed = self.appctl("ovsdb-server/list-remotes", None)?;
        let listed: Vec<&str> = listed.lines().map(str::trim).collect();
        let wanted: Vec<String> = self.listen.iter().map(Target::to_string).collect();
        for target in &self.listen {
            if !listed.contains(&target.to_string().as_str()) {
                self.can_listen(target)?;
                let target = target.to_string();
                self.appctl("ovsdb-server/add-remote", Some(&target))?;
                tracing::info!(target, "ovsdb-server listens");
            }
        }
        for remote in listed {
            if remote.starts_with("ptcp:") && !wanted.iter().any(|wanted| wanted == remote) {
                self.appctl("ovsdb-server/remove-remote", Some(remote))?;
                tracing::info!(target = remote, "ovsdb-server no longer listens");
            }
        }
        Ok(())
    }

    /// ovsdb-server only logs that it can't listen, so we try before it does.
    fn can_listen(&self, target: &Target) -> Result<(), Error> {
        let Target::PassiveTcp(address) = target else {
            return Ok(());
        };
        TcpListener::bind(address)
            .map(drop)
            .map_err(|source| Error::Listen {
                target: target.to_string(),
                source,
            })
    }

    fn appctl(&self, command: &str, argument: Option<&str>) -> Result<String, Error> {
        let output = Command::new("ovs-appctl")
            .arg("-t")
            .arg(self.control())
            .arg(command)
            .args(argument)
            .stdin(Stdio::null())
            .output();
        let output = succeed("ovs-appctl", output)?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Stops it, if it runs and is ours. Says whether there was one to stop.
    pub(crate) fn stop(&self) -> Result<bool, Error> {
        let Some(pid) = self.pid() else {
            return Ok(false);
        };
        let asked = Instant::now();
        while self.pid() == Some(pid) {
            match kill(pid, Signal::SIGTERM) {
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(error) => return Err(Error::OvsdbServer(format!("can't be stopped: {error}"))),
            }
            if asked.elapsed() > STOP_WITHIN {
                return Err(Error::OvsdbServer(format!("process {pid} does not stop")));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(true)
    }

    /// The process, if the pidfile names one that works on our database: numbers are given out again.
    fn pid(&self) -> Option<Pid> {
        let text = fs::read_to_string(self.pidfile()).ok()?;
        let pid: i32 = text.trim().parse().ok().filter(|pid| *pid > 1)?;
        let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let mut words = line.split(|byte| *byte == 0);
        let program = words.next()?;
        let database = self.database();
        let ours = program.ends_with(b"ovsdb-server")
            && words.any(|word| word == database.as_os_str().as_encoded_bytes());
        ours.then(|| Pid::from_raw(pid))
    }
}

/// The programs we start that are not there. `vlans` is the form of physical ports' VLANs, where there are ports.
pub(crate) fn missing_programs(vlans: Option<VlanForm>) -> impl Iterator<Item = Missing> {
    let steered = (vlans == Some(VlanForm::Steered)).then_some(("tc", "iproute2"));
    let programs = [
        ("ovsdb-server", COMMON),
        ("ovsdb-tool", COMMON),
        ("ovs-appctl", COMMON),
        ("nft", "nftables"),
    ];
    programs
        .into_iter()
        .chain(steered)
        .filter_map(|(program, package)| {
            let found = Command::new(program)
                .arg("--version")
                .stdin(Stdio::null())
                .output();
            found
                .is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
                .then_some(Missing { program, package })
        })
}

/// The schema a new database is made from, if it is not there.
pub(crate) fn missing_schema() -> Option<Missing> {
    (!Path::new(SCHEMA).exists()).then_some(Missing {
        program: SCHEMA,
        package: VTEP,
    })
}

fn succeed(program: &str, output: io::Result<Output>) -> Result<Output, Error> {
    let output = output.map_err(|error| Error::OvsdbServer(format!("{program}: {error}")))?;
    if output.status.success() {
        return Ok(output);
    }
    let words = String::from_utf8_lossy(&output.stderr);
    let line = words
        .lines()
        .rfind(|line| !line.trim().is_empty())
        .unwrap_or("failed without a word");
    Err(Error::OvsdbServer(format!("{program}: {line}")))
}
