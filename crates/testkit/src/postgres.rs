//! A real PostgreSQL (Debian's postgresql) with a cluster of its own, on a Unix socket in its directory and on a TCP port
//! of 127.0.0.1. It touches no cluster of the system.
//!
//! PostgreSQL refuses to run as root; as root the cluster belongs to the user `postgres`, which the package makes. A
//! shell watches over it: when the process that started it ends, however it ends, the cluster is stopped and removed. So
//! it can also live in a static, which is never dropped.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, ensure};
use nix::unistd::{Uid, User};

use crate::janitor::Janitor;
use crate::port::free_port;

/// Where Debian installs the programs, one directory for each major version.
const VERSIONS: &str = "/usr/lib/postgresql";

/// The superuser of the cluster. Nobody needs a password.
const SUPERUSER: &str = "l2gw";

/// A cluster: running, or stopped and ready to be started again on the same addresses.
#[derive(Debug)]
pub struct Postgres {
    directory: PathBuf,
    programs: PathBuf,
    port: u16,
    databases: AtomicU32,
    /// Stops the cluster and removes its directory.
    _janitor: Janitor,
}

impl Postgres {
    /// A running cluster without a database of ours.
    ///
    /// # Errors
    /// PostgreSQL is not installed or does not start.
    pub fn start() -> Result<Self> {
        let programs = programs()?;
        let janitor = Janitor::start("l2gw-postgres-", "data/postmaster.pid", "QUIT")?;
        let directory = janitor.directory().to_owned();
        let port = free_port()?;
        let cluster = Self {
            directory,
            programs,
            port,
            databases: AtomicU32::new(0),
            _janitor: janitor,
        };
        if Uid::effective().is_root() {
            let owner = User::from_name("postgres")?.context("user postgres")?;
            std::os::unix::fs::chown(
                &cluster.directory,
                Some(owner.uid.as_raw()),
                Some(owner.gid.as_raw()),
            )?;
        }
        fs::set_permissions(&cluster.directory, fs::Permissions::from_mode(0o755))?;
        let data = cluster.data();
        let mut initdb = cluster.program("initdb");
        initdb.arg("-D").arg(&data);
        initdb.args(["-U", SUPERUSER, "-A", "trust", "-E", "UTF8", "--locale=C"]);
        // That is about the new files; commits are synced.
        initdb.arg("--no-sync");
        run(initdb)?;
        cluster.configure(&[
            ("listen_addresses", "127.0.0.1"),
            ("port", &cluster.port.to_string()),
            ("unix_socket_directories", &cluster.socket_directory()),
            ("max_connections", "300"),
            ("shared_buffers", "128MB"),
        ])?;
        cluster.start_again()?;
        Ok(cluster)
    }

    /// Starts it again after [`Self::kill`].
    ///
    /// # Errors
    /// It does not start; with what its log says.
    pub fn start_again(&self) -> Result<()> {
        let mut start = self.program("pg_ctl");
        start.arg("-D").arg(self.data());
        start.arg("-l").arg(self.directory.join("log"));
        start.args(["-w", "-t", "60", "start"]);
        run(start)
            .with_context(|| fs::read_to_string(self.directory.join("log")).unwrap_or_default())
    }

    /// Ends it as a crash would (pg_ctl's mode `immediate`): every connection breaks, nothing is written any more.
    ///
    /// # Errors
    /// It does not run.
    pub fn kill(&self) -> Result<()> {
        let mut stop = self.program("pg_ctl");
        stop.arg("-D").arg(self.data());
        stop.args(["-w", "-m", "immediate", "stop"]);
        run(stop)
    }

    /// Adds settings to its configuration, for the next start.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn configure(&self, settings: &[(&str, &str)]) -> Result<()> {
        use std::io::Write as _;
        let path = self.data().join("postgresql.conf");
        let mut file = fs::OpenOptions::new().append(true).open(path)?;
        for (name, value) in settings {
            writeln!(file, "{name} = '{value}'")?;
        }
        Ok(())
    }

    /// Gives it a certificate for 127.0.0.1 that it signed itself, `server.crt` in its data, and starts it anew.
    ///
    /// # Errors
    /// openssl is not installed, or the cluster does not start.
    pub fn use_tls(&self) -> Result<()> {
        let mut certificate = self.program_at(Path::new("openssl"));
        certificate.args(["req", "-x509", "-newkey", "ec", "-nodes", "-days", "2"]);
        certificate.args(["-pkeyopt", "ec_paramgen_curve:prime256v1"]);
        certificate.args(["-subj", "/CN=l2gw test"]);
        certificate.args(["-addext", "subjectAltName=IP:127.0.0.1"]);
        certificate.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
        certificate
            .arg("-keyout")
            .arg(self.data().join("server.key"));
        certificate.arg("-out").arg(self.data().join("server.crt"));
        run(certificate)?;
        self.configure(&[("ssl", "on")])?;
        self.kill()?;
        self.start_again()
    }

    /// Makes an empty database and returns its URL, by the Unix socket.
    ///
    /// # Errors
    /// The cluster does not run.
    pub fn create_database(&self) -> Result<String> {
        let number = self.databases.fetch_add(1, Ordering::Relaxed);
        let name = format!("test{number}");
        self.sql("postgres", &format!("CREATE DATABASE {name}"))?;
        Ok(self.url(&name))
    }

    /// The URL of a database, by the Unix socket.
    pub fn url(&self, database: &str) -> String {
        let host = self.socket_directory().replace('/', "%2F");
        format!("postgres://{SUPERUSER}@{host}:{}/{database}", self.port)
    }

    /// The URL of a database, by TCP.
    pub fn tcp_url(&self, database: &str) -> String {
        format!("postgres://{SUPERUSER}@127.0.0.1:{}/{database}", self.port)
    }

    /// Runs SQL in a database by psql, and returns what it answers, a line for each row.
    ///
    /// # Errors
    /// The cluster does not run, or refuses the SQL.
    pub fn sql(&self, database: &str, sql: &str) -> Result<String> {
        let mut psql = Command::new(self.programs.join("psql"));
        psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", sql]);
        psql.arg(self.url(database));
        let output = psql.output().context("psql")?;
        ensure!(
            output.status.success(),
            "{sql}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8(output.stdout)?.trim_end().to_owned())
    }

    /// The directory of the cluster's files.
    pub fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    fn socket_directory(&self) -> String {
        self.directory.display().to_string()
    }

    /// A program of PostgreSQL as the owner of the cluster runs it.
    fn program(&self, name: &str) -> Command {
        self.program_at(&self.programs.join(name))
    }

    fn program_at(&self, program: &Path) -> Command {
        let mut command = if Uid::effective().is_root() {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]);
            command.arg(program);
            command
        } else {
            Command::new(program)
        };
        // Whatever this process's own directory is, the owner may not enter it.
        command.current_dir(&self.directory);
        command
    }
}

/// The programs of the newest version that is installed.
fn programs() -> Result<PathBuf> {
    let versions =
        fs::read_dir(VERSIONS).with_context(|| format!("{VERSIONS} (package postgresql)"))?;
    let version = |path: &Path| -> Option<u32> { path.file_name()?.to_str()?.parse().ok() };
    let mut installed: Vec<_> = versions
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.join("bin/initdb").exists())
        .collect();
    installed.sort_by_key(|path| version(path));
    let newest = installed.pop();
    Ok(newest
        .with_context(|| format!("{VERSIONS} is empty (package postgresql)"))?
        .join("bin"))
}

/// Runs a program to its end. Its output goes to a file: a server that it leaves behind would keep a pipe open.
fn run(mut command: Command) -> Result<()> {
    let mut output = tempfile::tempfile()?;
    let status = command
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output.try_clone()?)
        .status()
        .with_context(|| format!("{command:?}"))?;
    if !status.success() {
        use std::io::{Read as _, Seek as _};
        let mut told = String::new();
        output.rewind()?;
        output.read_to_string(&mut told)?;
        anyhow::bail!("{command:?}: {status}: {told}");
    }
    Ok(())
}
