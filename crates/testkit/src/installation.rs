//! The product as an operator installs it on a border gateway: `l2gw vtep`, `l2gw server`, and the commands typed there.

use std::ffi::OsStr;
use std::net::Ipv4Addr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use serde_json::Value;
use tempfile::TempDir;

use crate::daemon::Daemon;
use crate::run::{CONVERGES_WITHIN, eventually, quoted, run};
use crate::topology::{Cloud, Station};

/// How long a program may take from its start to its first answer, on a machine with other things to do.
const READY_WITHIN: Duration = Duration::from_secs(20);
/// The tenant network's name in every cloud.
pub const NETWORK: &str = "net";
/// The gateway's name in every cloud.
pub const GATEWAY: &str = "bgw";

/// Both programs and the database of one border gateway. Dropping it ends them and removes their files.
#[derive(Debug)]
pub struct Installation<'a> {
    cloud: &'a Cloud,
    binary: PathBuf,
    directory: TempDir,
    vtep: Option<Daemon>,
    server: Option<Daemon>,
    /// The switches to drive, in OVS notation, instead of the one of `l2gw vtep`.
    others: Vec<String>,
    /// Options of `l2gw vtep` beside the necessary ones.
    vtep_options: Vec<String>,
    echo: bool,
}

impl<'a> Installation<'a> {
    /// Files for an installation of the program `binary` on the border gateway of `cloud`; nothing runs yet.
    ///
    /// # Errors
    /// No directory can be made.
    pub fn new(binary: impl Into<PathBuf>, cloud: &'a Cloud) -> Result<Self> {
        // Named after the namespace: what is left of a killed test is found by it.
        let prefix = format!("{}.", cloud.gateway.netns.name());
        let directory = tempfile::Builder::new().prefix(&prefix).tempdir()?;
        Ok(Self {
            cloud,
            binary: binary.into(),
            directory,
            vtep: None,
            server: None,
            others: Vec::new(),
            vtep_options: Vec::new(),
            echo: false,
        })
    }

    /// Has the server drive these switches, targets in OVS notation, and not the one of `l2gw vtep`.
    #[must_use]
    pub fn driving(mut self, targets: impl IntoIterator<Item = String>) -> Self {
        self.others = targets.into_iter().collect();
        self
    }

    /// Starts `l2gw vtep` with these options too.
    #[must_use]
    pub fn with_vtep_options<'o>(mut self, options: impl IntoIterator<Item = &'o str>) -> Self {
        self.vtep_options = options.into_iter().map(str::to_owned).collect();
        self
    }

    /// Prints every command that is typed, and its output.
    #[must_use]
    pub fn echoing(mut self) -> Self {
        self.echo = true;
        self
    }

    /// Starts `l2gw vtep`, then `l2gw server`, each as soon as what it needs is there.
    ///
    /// # Errors
    /// One of them ended or does not get ready.
    pub fn start(&mut self) -> Result<()> {
        self.start_vtep()?;
        self.start_server()
    }

    /// Starts `l2gw vtep`, and waits until its switch is in its database.
    ///
    /// # Errors
    /// It ended or does not get ready.
    pub fn start_vtep(&mut self) -> Result<()> {
        let mut daemon = self.start_daemon(&self.vtep_arguments(), &self.path("vtep.log"))?;
        let (device, socket) = (self.device(), self.device_socket());
        daemon.wait_until("its switch is in its database", READY_WITHIN, || {
            let rows = run(Command::new("ovsdb-client")
                .args(["--timeout=5", "--format=csv", "dump"])
                .args([
                    &format!("unix:{}", socket.display()),
                    "hardware_vtep",
                    "Physical_Switch",
                    "name",
                ]))?;
            ensure!(
                rows.lines().any(|row| row == device),
                "Physical_Switch rows: {rows}"
            );
            Ok(())
        })?;
        self.vtep = Some(daemon);
        Ok(())
    }

    /// Starts `l2gw server`, and waits until it answers.
    ///
    /// # Errors
    /// It ended or does not get ready.
    pub fn start_server(&mut self) -> Result<()> {
        let mut daemon = self.start_daemon(&self.server_arguments(), &self.path("server.log"))?;
        daemon.wait_until("it answers", READY_WITHIN, || {
            self.query(&["l2-gateway-list"])
        })?;
        self.server = Some(daemon);
        Ok(())
    }

    /// `l2gw vtep` for this border gateway.
    #[must_use]
    pub fn vtep_command(&self) -> Command {
        self.command(&self.vtep_arguments())
    }

    /// `l2gw server` for this border gateway.
    #[must_use]
    pub fn server_command(&self) -> Command {
        self.command(&self.server_arguments())
    }

    fn vtep_arguments(&self) -> Vec<String> {
        let gateway = &self.cloud.gateway;
        let (tunnel_ip, wan_ip) = (gateway.tunnel_ip.to_string(), gateway.wan_ip.to_string());
        let mut arguments = [
            "vtep",
            "--name",
            &self.device(),
            "--tunnel-ip",
            &tunnel_ip,
            "--wan-ip",
            &wan_ip,
        ]
        .map(str::to_owned)
        .to_vec();
        for interface in self.port_interfaces() {
            arguments.extend(["--port".to_owned(), format!("{interface}={interface}")]);
        }
        if let Some(outside) = &gateway.wan_netns {
            arguments.extend(["--wan-netns".to_owned(), outside.name().to_owned()]);
        }
        arguments.extend([
            "--state-dir".to_owned(),
            self.state_directory().display().to_string(),
        ]);
        arguments.extend(self.vtep_options.iter().cloned());
        arguments
    }

    fn server_arguments(&self) -> Vec<String> {
        let own = || vec![format!("unix:{}", self.device_socket().display())];
        let targets = Some(&self.others).filter(|others| !others.is_empty());
        let database = self.path("l2gw.sqlite").display().to_string();
        let mut arguments = ["server", "--database", &database]
            .map(str::to_owned)
            .to_vec();
        for target in targets.cloned().unwrap_or_else(own) {
            arguments.extend(["--device".to_owned(), target]);
        }
        arguments
    }

    /// The running `l2gw vtep`, taken out to be ended; [`Self::start_vtep`] starts a new one.
    ///
    /// # Errors
    /// It is not running.
    pub fn take_vtep(&mut self) -> Result<Daemon> {
        self.vtep.take().context("l2gw vtep is not running")
    }

    /// The running `l2gw server`, taken out to be ended; [`Self::start_server`] starts a new one.
    ///
    /// # Errors
    /// It is not running.
    pub fn take_server(&mut self) -> Result<Daemon> {
        self.server.take().context("l2gw server is not running")
    }

    /// Ends `l2gw vtep` and the switch's database with it, so that the switch is away as if its power were cut.
    ///
    /// # Errors
    /// `l2gw vtep` is not running, or does not end when asked to.
    pub fn power_off_switch(&mut self) -> Result<()> {
        self.take_vtep()?.terminate()?;
        self.kill_database()?;
        eventually("the switch's database is gone", READY_WITHIN, || {
            ensure!(
                UnixStream::connect(self.device_socket()).is_err(),
                "it still listens"
            );
            Ok(())
        })
    }

    /// Kills the switch's ovsdb-server (SIGKILL), which gives it no chance to finish anything.
    ///
    /// # Errors
    /// The processes of the border gateway cannot be listed, or none is one.
    pub fn kill_database(&self) -> Result<()> {
        let mut killed = false;
        for pid in self.cloud.gateway.netns.processes()? {
            let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            if name.trim_end() == "ovsdb-server" {
                // It may have ended since it was listed.
                killed |= kill(pid, Signal::SIGKILL).is_ok();
            }
        }
        ensure!(killed, "no ovsdb-server runs");
        Ok(())
    }

    /// The name of this border gateway's switch, as the API calls a device.
    #[must_use]
    pub fn device(&self) -> String {
        format!("bgw-{}", self.cloud.name)
    }

    /// What `l2gw vtep` keeps its own state in.
    #[must_use]
    pub fn state_directory(&self) -> PathBuf {
        self.path("vtep")
    }

    /// Where the switch's database listens.
    #[must_use]
    pub fn device_socket(&self) -> PathBuf {
        self.state_directory().join("db.sock")
    }

    /// A file of this installation.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Leaves the programs running and the files in place, and says where they are.
    #[must_use]
    pub fn keep(self) -> PathBuf {
        let Self {
            directory,
            vtep,
            server,
            ..
        } = self;
        // Dropping them would kill the programs.
        std::mem::forget((vtep, server));
        directory.keep()
    }

    /// Types `l2gw ARGUMENTS…` and returns how it ended and what it said, whatever that was.
    ///
    /// # Errors
    /// The program cannot be run.
    pub fn l2gw<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Result<Output> {
        self.show_typed(arguments, "");
        let output = self.command(arguments).output()?;
        self.show_said(&output);
        Ok(output)
    }

    /// Types `l2gw ARGUMENTS…`, which must succeed, and returns its standard output.
    ///
    /// # Errors
    /// It failed: its standard error.
    pub fn succeed<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Result<String> {
        succeeded(arguments, self.l2gw(arguments)?)
    }

    /// Asks something by `l2gw ARGUMENTS… -f json`, never echoed.
    ///
    /// # Errors
    /// It failed, or the answer is not JSON.
    pub fn query<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Result<Value> {
        let output = self.command(arguments).args(["-f", "json"]).output()?;
        let json = succeeded(arguments, output)?;
        serde_json::from_str(&json).with_context(|| format!("not JSON: {json}"))
    }

    /// Declares the cloud's network with its VMs, and attaches it to the border gateway.
    ///
    /// # Errors
    /// A command failed.
    pub fn attach_network(&self) -> Result<()> {
        self.succeed(&[
            "network",
            "create",
            NETWORK,
            "--segmentation-id",
            &self.cloud.vni.to_string(),
        ])?;
        for (vm, compute) in self.cloud.vms.iter().zip(&self.cloud.computes) {
            self.declare_port(vm, compute.tunnel_ip)?;
        }
        // A gateway without ports for hosts has the port `border`, which leads nowhere.
        let interfaces = match self.port_interfaces().as_slice() {
            [] => "border".to_owned(),
            interfaces => interfaces.join(";"),
        };
        let device = format!("name={},interface_names={interfaces}", self.device());
        self.succeed(&["l2-gateway-create", GATEWAY, "--device", &device])?;
        self.connect_once_seen()
    }

    /// Connects gateway and network, once the server has seen the gateway's switch: just after its start it has not.
    fn connect_once_seen(&self) -> Result<()> {
        let command = [
            "l2-gateway-connection-create",
            GATEWAY,
            NETWORK,
            "--default-segmentation-id",
            "0",
        ];
        self.show_typed(&command, "");
        let unseen = format!("Device {} could not be found", self.device());
        let output = eventually("the server sees the switch", READY_WITHIN, || {
            let output = self.command(&command).output()?;
            ensure!(
                !String::from_utf8_lossy(&output.stderr).contains(&unseen),
                "{unseen}"
            );
            Ok(output)
        })?;
        self.show_said(&output);
        succeeded(&command, output)?;
        Ok(())
    }

    /// Declares the border gateway of another cloud; its name is `rgw-` and that cloud's.
    ///
    /// # Errors
    /// The command failed.
    pub fn declare_remote(&self, remote: &Cloud) -> Result<String> {
        let name = format!("rgw-{}", remote.name);
        self.succeed(&[
            "l2-remote-gateway-create",
            &name,
            &remote.gateway.wan_ip.to_string(),
        ])?;
        Ok(name)
    }

    /// Connects the network to a declared remote gateway and returns the connection's UUID.
    ///
    /// # Errors
    /// The command failed.
    pub fn connect(&self, remote: &str, wan_vni: u32, flood: bool) -> Result<String> {
        let flood = if flood { "True" } else { "False" };
        let shown = self.succeed(&[
            "l2-remote-gateway-connection-create",
            GATEWAY,
            NETWORK,
            remote,
            "--seg-id",
            &wan_vni.to_string(),
            "--flood",
            flood,
        ])?;
        table_field(&shown, "id")
    }

    /// Declares a station behind the remote gateway of `connection`, by MAC address alone or with its IP address.
    ///
    /// # Errors
    /// The command failed.
    pub fn declare_mac(
        &self,
        connection: &str,
        station: &Station,
        ip: Option<Ipv4Addr>,
    ) -> Result<()> {
        let mac = station.mac_text();
        let mac_ip = ip.map_or_else(|| mac.clone(), |ip| format!("{mac};{ip}"));
        self.succeed(&["l2-remote-mac-create", &mac_ip, connection])?;
        Ok(())
    }

    /// Declares a station behind the tunnel end of an inside host.
    ///
    /// # Errors
    /// The command failed.
    pub fn declare_port(&self, station: &Station, host: Ipv4Addr) -> Result<()> {
        let (mac, ip) = (station.mac_text(), station.ip.to_string());
        let host = host.to_string();
        let command = ["port", "create", NETWORK, &mac, "--ip", &ip];
        self.succeed(&[&command[..], &["--tunneling-ip", &host]].concat())?;
        Ok(())
    }

    /// What the switch makes of a remote connection: its `status`.
    ///
    /// # Errors
    /// The command failed, or the answer has no status.
    pub fn status(&self, connection: &str) -> Result<String> {
        let shown = self.query(&["l2-remote-gateway-connection-show", connection])?;
        match shown.get("status").and_then(Value::as_str) {
            Some(status) => Ok(status.to_owned()),
            None => bail!("no status in {shown}"),
        }
    }

    /// Waits until the switch really holds a remote connection, its status being ACTIVE.
    ///
    /// # Errors
    /// It takes too long; with the connection as it is then.
    pub fn wait_active(&self, connection: &str) -> Result<()> {
        eventually(
            "the remote gateway connection is ACTIVE",
            CONVERGES_WITHIN,
            || {
                let shown = self.query(&["l2-remote-gateway-connection-show", connection])?;
                ensure!(
                    shown.get("status").and_then(Value::as_str) == Some("ACTIVE"),
                    "it is {shown}"
                );
                Ok(())
            },
        )
    }

    /// The last lines of the running programs' logs, each under its own headline.
    #[must_use]
    pub fn log_tails(&self) -> String {
        let mut tails = String::new();
        for (name, daemon) in [("vtep", &self.vtep), ("server", &self.server)] {
            if let Some(daemon) = daemon {
                let said = daemon.log_tail();
                tails.push_str(&format!(
                    "cloud {}, end of the log of l2gw {name}:\n{said}\n",
                    self.cloud.name
                ));
            }
        }
        tails
    }

    /// The border gateway's interfaces that lead to hosts or switches. Each is a switch port of the same name.
    fn port_interfaces(&self) -> Vec<&str> {
        let hosts = self.cloud.bare_metal.iter();
        let segments = self.cloud.segments.iter();
        hosts
            .map(|host| host.interface.as_str())
            .chain(segments.map(|segment| segment.interface.as_str()))
            .collect()
    }

    /// `l2gw ARGUMENTS…` on the border gateway, without the caller's own OpenStack settings.
    fn command<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Command {
        let mut command = self.cloud.gateway.netns.command(&self.binary);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("OS_") {
                command.env_remove(name);
            }
        }
        command.args(arguments);
        command
    }

    fn start_daemon(&self, arguments: &[String], log: &Path) -> Result<Daemon> {
        self.show_typed(arguments, " &");
        Daemon::start(self.command(arguments), log)
    }

    /// Shows what a typed command said.
    fn show_said(&self, output: &Output) {
        if self.echo {
            print!(
                "{}{}",
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            );
        }
    }

    /// Shows a command as it is typed on this border gateway.
    fn show_typed<S: AsRef<OsStr>>(&self, arguments: &[S], end: &str) {
        if self.echo {
            let words: Vec<_> = arguments
                .iter()
                .map(|word| quoted(&word.as_ref().to_string_lossy()))
                .collect();
            println!("cloud-{}$ l2gw {}{end}", self.cloud.name, words.join(" "));
        }
    }
}

/// The standard output of a client command that is to have succeeded.
fn succeeded<S: AsRef<OsStr>>(arguments: &[S], output: Output) -> Result<String> {
    if !output.status.success() {
        let words: Vec<_> = arguments
            .iter()
            .map(|word| word.as_ref().to_string_lossy())
            .collect();
        let said = String::from_utf8_lossy(&output.stderr);
        bail!(
            "`l2gw {}` ended with {}: {}",
            words.join(" "),
            output.status,
            said.trim_end()
        );
    }
    String::from_utf8(output.stdout).context("not UTF-8")
}

/// The value beside `field` in a Field/Value table.
fn table_field(table: &str, field: &str) -> Result<String> {
    for line in table.lines() {
        let mut cells = line.split('|').map(str::trim);
        if (cells.next(), cells.next()) == (Some(""), Some(field)) {
            return Ok(cells.next().context("a row without value")?.to_owned());
        }
    }
    bail!("no row `{field}` in\n{table}")
}
