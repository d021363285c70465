//! Open vSwitch's own emulator of a hardware_vtep switch, as Debian ships it: ovs-vtep drives an ovs-vswitchd whose
//! datapath is in user space, so that it needs no kernel module and stays in its namespace.
//!
//! Its schema has `Physical_Locator.tunnel_key`, and it ignores that: it sends with the key of the logical switch.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use tempfile::TempDir;

use crate::daemon::Daemon;
use crate::ovsdb_server::{VTEP_SCHEMA, ovsdb_tool};
use crate::run::run;
use crate::topology::{Cloud, WAN};

/// The schema of the vswitch's own configuration.
const VSWITCH_SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";
/// The emulator.
const OVS_VTEP: &str = "/usr/share/openvswitch/scripts/ovs-vtep";
/// How long each program may take until it does what it is for.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// An emulated switch on the border gateway of a cloud. Its tunnels end at the gateway's WAN address; the gateway's
/// interfaces to bare metal are its ports. Dropping it ends its programs.
#[derive(Debug)]
pub struct Emulator {
    name: String,
    directory: TempDir,
    /// In the order in which they are to end.
    _programs: [Daemon; 3],
}

impl Emulator {
    /// Makes the border gateway of `cloud` an emulated switch.
    ///
    /// # Errors
    /// A program is missing, or does not get ready.
    pub fn start(cloud: &Cloud) -> Result<Self> {
        let netns = &cloud.gateway.netns;
        let prefix = format!("{}.", netns.name());
        let directory = tempfile::Builder::new().prefix(&prefix).tempdir()?;
        let at = |name: &str| directory.path().join(name);
        let databases = [
            (at("conf.db"), VSWITCH_SCHEMA),
            (at("vtep.db"), VTEP_SCHEMA),
        ];
        for (database, schema) in &databases {
            ovsdb_tool(
                Command::new("ovsdb-tool")
                    .arg("create")
                    .arg(database)
                    .arg(schema),
            )?;
        }
        let inside = |program: &str| {
            let mut command = netns.command(program);
            // Both speak to `db.sock` and leave their own sockets there.
            command.env("OVS_RUNDIR", directory.path());
            command
        };
        let quiet = ["-vconsole:off", "-vsyslog:off"];
        let logged = |name: &str| format!("--log-file={}", at(name).display());

        let mut server = inside("ovsdb-server");
        server
            .args(databases.iter().map(|(database, _)| database))
            .arg(format!("--remote=punix:{}", at("db.sock").display()))
            .args([&logged("ovsdb-server.log"), "--no-chdir"])
            .args(quiet);
        let mut server = Daemon::start(server, &at("ovsdb-server.out"))?;
        let name = format!("sw-{}", cloud.name);
        let control =
            |program: &str, words: &[&str]| run(inside(program).arg("--timeout=20").args(words));
        server.wait_until("it takes commands", READY_WITHIN, || {
            control("ovs-vsctl", &["--no-wait", "init"])?;
            control("vtep-ctl", &["list-ps"])
        })?;

        let mut vswitch = inside("ovs-vswitchd");
        vswitch
            .args([&logged("ovs-vswitchd.log"), "--no-chdir"])
            .args(quiet);
        let mut vswitch = Daemon::start(vswitch, &at("ovs-vswitchd.out"))?;
        // The underlay is a bridge of the same datapath: what tunnels send leaves by whatever bridge has their address.
        let wan_ip = cloud.gateway.wan_ip;
        netns.ip(&format!("address flush dev {WAN}"))?;
        let mut bridges = String::new();
        for (bridge, ports) in [("br-phy", vec![WAN]), (name.as_str(), ports(cloud))] {
            bridges.push_str(&format!(
                "-- add-br {bridge} -- set Bridge {bridge} datapath_type=netdev "
            ));
            for port in ports {
                bridges.push_str(&format!("-- add-port {bridge} {port} "));
            }
        }
        let words: Vec<_> = bridges.split_whitespace().skip(1).collect();
        vswitch.wait_until("it has made the bridges", READY_WITHIN, || {
            // Repeated: the first one may find the vswitch not ready and give up waiting.
            let made = control("ovs-vsctl", &["list-br"])?;
            if made.trim().is_empty() {
                control("ovs-vsctl", &words)?;
            }
            netns.ip("link set br-phy up")
        })?;
        netns.ip(&format!("address add {wan_ip}/24 dev br-phy"))?;

        control(
            "vtep-ctl",
            &[
                "add-ps",
                &name,
                "--",
                "set",
                "Physical_Switch",
                &name,
                &format!("tunnel_ips={wan_ip}"),
            ],
        )?;
        let mut emulator = inside(OVS_VTEP);
        emulator
            .args([&logged("ovs-vtep.log"), "--no-chdir"])
            .args(quiet)
            .arg(&name);
        let mut emulator = Daemon::start(emulator, &at("ovs-vtep.out"))?;
        emulator.wait_until("it has put its ports up", READY_WITHIN, || {
            let put_up = control("vtep-ctl", &["list-ports", &name])?;
            ensure!(put_up.lines().count() == ports(cloud).len(), "{put_up}");
            Ok(())
        })?;
        Ok(Self {
            name,
            directory,
            _programs: [emulator, vswitch, server],
        })
    }

    /// What it calls itself, and the API calls a device.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where its database listens, in OVS notation.
    #[must_use]
    pub fn target(&self) -> String {
        format!("unix:{}", self.path("db.sock").display())
    }

    /// Runs a command of vtep-ctl(8), and returns what it prints.
    ///
    /// # Errors
    /// It fails.
    pub fn vtep_ctl<S: AsRef<OsStr>>(&self, words: &[S]) -> Result<String> {
        let database = format!("--db={}", self.target());
        run(Command::new("vtep-ctl").arg(database).args(words))
    }

    /// What its programs logged, for a test that failed.
    #[must_use]
    pub fn logs(&self) -> String {
        let logs = ["ovs-vtep.log", "ovs-vswitchd.log", "ovs-vtep.out"];
        let read = |name: &&str| fs::read_to_string(self.path(name)).unwrap_or_default();
        logs.iter().map(read).collect()
    }

    fn path(&self, name: &str) -> PathBuf {
        Path::new(self.directory.path()).join(name)
    }
}

fn ports(cloud: &Cloud) -> Vec<&str> {
    let hosts = cloud.bare_metal.iter();
    hosts.map(|host| host.interface.as_str()).collect()
}
