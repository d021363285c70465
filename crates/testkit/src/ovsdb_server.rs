//! A real ovsdb-server (Debian's openvswitch-common) with a database of its own, on a Unix socket and a TCP port of
//! 127.0.0.1, for as long as the value lives.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::port::free_port;

/// The schema as openvswitch-vtep installs it, version 1.7.0.
pub const VTEP_SCHEMA: &str = "/usr/share/openvswitch/vtep.ovsschema";

/// The schema as switches of 2014 have it, version 1.3.0, as far as that differs: no keys of locators, no replication mode,
/// no faults, nowhere to put a mark but the description.
///
/// # Errors
/// [`VTEP_SCHEMA`] is not there or not what it was.
pub fn vtep_schema_without_locator_keys() -> Result<String> {
    let text = fs::read_to_string(VTEP_SCHEMA)
        .with_context(|| format!("{VTEP_SCHEMA} (package openvswitch-vtep)"))?;
    let mut schema: serde_json::Value = serde_json::from_str(&text)?;
    let document = schema.as_object_mut().context("not an object")?;
    document.insert("version".to_owned(), "1.3.0".into());
    document.remove("cksum");
    for (table, column) in [
        ("Physical_Locator", "tunnel_key"),
        ("Logical_Switch", "replication_mode"),
        ("Logical_Switch", "other_config"),
        ("Physical_Switch", "switch_fault_status"),
        ("Physical_Port", "port_fault_status"),
    ] {
        schema
            .pointer_mut(&format!("/tables/{table}/columns"))
            .and_then(|columns| columns.as_object_mut()?.remove(column))
            .with_context(|| format!("{VTEP_SCHEMA} has no {table}.{column}"))?;
    }
    let indexes = schema.pointer_mut("/tables/Physical_Locator/indexes");
    *indexes.context("no index of locators")? =
        serde_json::json!([["encapsulation_type", "dst_ip"]]);
    Ok(schema.to_string())
}

/// The schema as switches of 2013 have it, version 1.2.0, as far as that differs: no tunnels either, and so no BFD.
///
/// # Errors
/// As [`vtep_schema_without_locator_keys`].
pub fn vtep_schema_without_tunnels() -> Result<String> {
    let mut schema: serde_json::Value = serde_json::from_str(&vtep_schema_without_locator_keys()?)?;
    let document = schema.as_object_mut().context("not an object")?;
    document.insert("version".to_owned(), "1.2.0".into());
    for (table, thing) in [
        ("/tables", "Tunnel"),
        ("/tables/Physical_Switch/columns", "tunnels"),
    ] {
        schema
            .pointer_mut(table)
            .and_then(|within| within.as_object_mut()?.remove(thing))
            .with_context(|| format!("{VTEP_SCHEMA} has no {table}/{thing}"))?;
    }
    Ok(schema.to_string())
}

/// How long a start may take; a database with 100,000 rows is up in half a second.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// A running ovsdb-server, or one that was killed and can be started again on the same database and addresses.
#[derive(Debug)]
pub struct OvsdbServer {
    directory: TempDir,
    port: u16,
    arguments: Vec<String>,
    process: Option<Child>,
}

impl OvsdbServer {
    /// A server of an empty hardware_vtep database.
    pub fn start() -> Result<Self> {
        let schema = fs::read_to_string(VTEP_SCHEMA)
            .with_context(|| format!("{VTEP_SCHEMA} (package openvswitch-vtep)"))?;
        Self::with_schema(&schema)
    }

    /// A server of an empty database with this schema (the JSON text of RFC 7047 section 3.2).
    pub fn with_schema(schema: &str) -> Result<Self> {
        Self::of(|directory| {
            let schema_file = directory.join("schema");
            fs::write(&schema_file, schema)?;
            ovsdb_tool(
                Command::new("ovsdb-tool")
                    .arg("create")
                    .args([&directory.join("db"), &schema_file]),
            )
        })
    }

    /// A server of a copy of this database: the file `db` in another server's directory.
    pub fn with_copy_of(database: &Path) -> Result<Self> {
        Self::of(|directory| {
            fs::copy(database, directory.join("db"))?;
            Ok(())
        })
    }

    /// A server of the database that `create` makes: the file `db` in the directory it is given.
    pub(crate) fn of(create: impl FnOnce(&Path) -> Result<()>) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("l2gw-ovsdb-").tempdir()?;
        create(directory.path())?;
        let mut server = Self {
            directory,
            // The server can choose a port itself, but tells it in its log alone, and another one after a restart.
            port: free_port()?,
            arguments: Vec::new(),
            process: None,
        };
        server.start_again()?;
        Ok(server)
    }

    /// Restarts the server with further arguments, as `--remote=ssl:127.0.0.1:6640`.
    pub fn restart_with<T: Into<String>>(
        &mut self,
        arguments: impl IntoIterator<Item = T>,
    ) -> Result<()> {
        self.kill()?;
        self.arguments = arguments.into_iter().map(Into::into).collect();
        self.start_again()
    }

    /// The directory of database, log and socket.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The Unix socket.
    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("db.sock")
    }

    /// The Unix socket in OVS notation.
    pub fn unix_target(&self) -> String {
        format!("unix:{}", self.socket().display())
    }

    /// The TCP port in OVS notation.
    pub fn tcp_target(&self) -> String {
        format!("tcp:127.0.0.1:{}", self.port)
    }

    /// Whether the server was started and not killed since.
    pub fn is_running(&self) -> bool {
        self.process.is_some()
    }

    /// Kills the server (SIGKILL). The database stays.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            process.kill()?;
            process.wait()?;
        }
        Ok(())
    }

    /// Starts a killed server again, and waits until both sockets accept.
    pub fn start_again(&mut self) -> Result<()> {
        ensure!(self.process.is_none(), "ovsdb-server runs already");
        let at = |name| self.directory.path().join(name);
        let option = |name: &str, file| format!("--{name}={}", at(file).display());
        let process = Command::new("ovsdb-server")
            .arg(at("db"))
            .arg(format!("--remote=punix:{}", at("db.sock").display()))
            .arg(format!("--remote=ptcp:{}:127.0.0.1", self.port))
            .args([
                option("unixctl", "ctl"),
                option("pidfile", "pid"),
                option("log-file", "log"),
            ])
            .args(["-vconsole:off", "-vsyslog:off"])
            .args(&self.arguments)
            .env("OVS_RUNDIR", self.directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("ovsdb-server (package openvswitch-common)")?;
        let process = self.process.insert(process);
        let deadline = Instant::now() + START_TIMEOUT;
        // The socket file is there before the server listens on it: only a connection tells.
        while UnixStream::connect(self.directory.path().join("db.sock")).is_err()
            || UnixStream::connect(self.directory.path().join("ctl")).is_err()
            || TcpStream::connect(("127.0.0.1", self.port)).is_err()
        {
            let log = || fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
            if let Some(status) = process.try_wait()? {
                bail!("ovsdb-server ended ({status}): {}", log());
            }
            ensure!(
                Instant::now() < deadline,
                "ovsdb-server does not answer: {}",
                log()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        if !self.arguments.is_empty() {
            // Further remotes are open when it does anything at all: commands are taken in its main loop alone.
            self.control(&["version"])?;
        }
        Ok(())
    }

    /// Runs a command of ovs-appctl(8) in the server, and returns what it prints.
    pub fn control(&self, command: &[&str]) -> Result<String> {
        let output = Command::new("ovs-appctl")
            .arg("-t")
            .arg(self.directory.path().join("ctl"))
            .args(command)
            .output()
            .context("ovs-appctl (package openvswitch-common)")?;
        ensure!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8(output.stdout)?)
    }

    /// What the server sends to a client that sends these requests one after the other, up to its `list_dbs` at the end:
    /// a recording for [`crate::fuzz`].
    pub fn record(&self, requests: &[serde_json::Value]) -> Result<Vec<u8>> {
        let mut stream = UnixStream::connect(self.socket())?;
        stream.set_read_timeout(Some(START_TIMEOUT))?;
        let end = serde_json::json!({"id": "end", "method": "list_dbs", "params": []});
        for request in requests.iter().chain([&end]) {
            stream.write_all(request.to_string().as_bytes())?;
        }
        let mut recording = Vec::new();
        let mut chunk = [0; 4096];
        while !String::from_utf8_lossy(&recording).contains(r#""id":"end""#) {
            let length = stream.read(&mut chunk)?;
            ensure!(length > 0, "the server hung up");
            recording.extend_from_slice(chunk.get(..length).unwrap_or_default());
        }
        Ok(recording)
    }

    /// Stops the process where it is (SIGSTOP): connections stay, nothing is answered.
    pub fn freeze(&self) -> Result<()> {
        self.signal(Signal::SIGSTOP)
    }

    /// Lets a frozen process go on.
    pub fn thaw(&self) -> Result<()> {
        self.signal(Signal::SIGCONT)
    }

    /// The process.
    pub fn pid(&self) -> Result<Pid> {
        let process = self.process.as_ref().context("ovsdb-server does not run")?;
        Ok(Pid::from_raw(i32::try_from(process.id())?))
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill(self.pid()?, signal)?)
    }
}

/// Runs ovsdb-tool(1).
pub(crate) fn ovsdb_tool(command: &mut Command) -> Result<()> {
    let output = command
        .output()
        .context("ovsdb-tool (package openvswitch-common)")?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

impl Drop for OvsdbServer {
    fn drop(&mut self) {
        // Nobody is left to be told of an error.
        let _ = self.kill();
    }
}
