//! The whole switch: a real ovsdb-server, a controller that writes to it, and the kernel of a network namespace.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Parser;
use hardware_vtep::{Database, NAME};
use model::switch::SwitchState;
use model::value::MacAddress;
use ovsdb::{Connection, ConnectionOptions, Target};
use testkit::capture::send;
use testkit::frame::{BROADCAST, Ethernet};
use testkit::netns::{Netns, unique_prefix};
use tokio::task::JoinHandle;
use vtep::kernel::state::KernelState;

use crate::support::*;

mod convergence;
mod counted;
mod elsewhere;
mod learnt;
mod loops;
mod random;
mod restart;
mod start;
mod tell;
mod tunnels;
mod vlans;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    options: vtep::Options,
}

/// A switch in a network namespace and a directory of its own.
struct Switch {
    directory: tempfile::TempDir,
    daemon: Option<JoinHandle<Result<(), vtep::Error>>>,
}

/// Runs a test on a runtime inside a fresh network namespace.
fn in_namespace<F: Future<Output = ()>>(test: impl FnOnce() -> F) {
    namespace();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(test());
}

impl Switch {
    fn new() -> Self {
        let directory = tempfile::Builder::new()
            .prefix("l2gw-vtep-")
            .tempdir()
            .unwrap();
        Self {
            directory,
            daemon: None,
        }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn socket(&self) -> PathBuf {
        self.path().join("db.sock")
    }

    /// The daemon's options: the switch of `support::config`, and `more`.
    fn options(&self, more: &str) -> vtep::Options {
        let line = format!(
            "vtep --name vtep --tunnel-ip 10.0.0.1 --wan-ip 192.0.2.1 --state-dir {} {more}",
            self.path().display()
        );
        Line::try_parse_from(line.split_whitespace())
            .unwrap_or_else(|error| panic!("{error}"))
            .options
    }

    /// Starts the daemon.
    fn start(&mut self, more: &str) {
        self.daemon = Some(tokio::spawn(vtep::run(self.options(more))));
    }

    /// Ends the daemon in mid-air.
    async fn kill(&mut self) {
        let daemon = self.daemon.take().unwrap();
        daemon.abort();
        assert!(daemon.await.unwrap_err().is_cancelled());
    }

    /// Runs the daemon until it gives up, and tells why.
    async fn refusal(&self, more: &str) -> String {
        let run = vtep::run(self.options(more));
        let given_up = tokio::time::timeout(Duration::from_secs(20), run).await;
        given_up
            .expect("it must not start")
            .unwrap_err()
            .to_string()
    }

    /// What `show -f json` prints.
    async fn shown(&self) -> serde_json::Value {
        let options = vtep::options::ShowOptions {
            network: None,
            state_dir: self.path().to_owned(),
            format: vtep::options::Format::Json,
        };
        let text = vtep::show::show(&options).await.unwrap();
        serde_json::from_str(&text).unwrap()
    }

    async fn traced(&self, network: &str, mac: MacAddress, ip: Option<&str>) -> String {
        let options = vtep::options::TraceOptions {
            network: network.to_owned(),
            mac,
            ip: ip.map(|ip| ip.parse().unwrap()),
            state_dir: self.path().to_owned(),
        };
        vtep::trace::trace(&options).await.unwrap()
    }

    async fn down(&self) {
        let line = format!("vtep down --state-dir {}", self.path().display());
        let options = Line::try_parse_from(line.split_whitespace())
            .unwrap_or_else(|e| panic!("{e}"))
            .options;
        vtep::run(options).await.unwrap();
    }

    /// Where a controller sits.
    fn controller(&self) -> Connection<Database> {
        let target = Target::Unix(self.socket());
        Connection::start(target.into(), NAME, ConnectionOptions::default())
    }

    /// ovsdb-server's process, while it runs.
    fn server(&self) -> Option<String> {
        let pid = std::fs::read_to_string(self.path().join("ovsdb-server.pid")).ok()?;
        let pid = pid.trim().to_owned();
        std::fs::read(format!("/proc/{pid}/cmdline"))
            .ok()
            .filter(|line| !line.is_empty())?;
        Some(pid)
    }
}

impl Drop for Switch {
    /// The daemon first: it would start its ovsdb-server again.
    fn drop(&mut self) {
        if let Some(daemon) = self.daemon.take() {
            daemon.abort();
            while !daemon.is_finished() {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        while let Some(pid) = self.server() {
            run("kill", &format!("-KILL {pid}"));
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// Waits until the controller sees what it waits for.
async fn until<T>(
    connection: &Connection<Database>,
    what: &str,
    mut test: impl FnMut(&Database) -> Option<T>,
) -> T {
    let mut wakeups = connection.wakeups();
    let wait = async {
        loop {
            if let Some(result) = connection.replica().read(|held| held.and_then(&mut test)) {
                return result;
            }
            wakeups.changed().await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait)
        .await
        .expect(what)
}

/// Writes what should be, as a controller does.
async fn write(connection: &Connection<Database>, desired: &SwitchState) {
    until(connection, "ports", |held| {
        (!held.state().ports.is_empty()).then_some(())
    })
    .await;
    let (session, _) = connection.up().await;
    let plan = connection
        .replica()
        .read(|held| model::plan::plan(desired, held.unwrap().state()));
    assert!(plan.blocked.is_empty(), "{:?}", plan.blocked);
    let failures = hardware_vtep::apply(&session, connection.replica(), &plan).await;
    assert!(failures.is_empty(), "{failures:?}");
}

/// Waits until the kernel holds what the database says.
async fn forwards(switch: &SwitchState) {
    holds(&wanted(switch), seen).await;
}

/// Waits until the kernel is seen to hold this.
async fn holds(wanted: &KernelState, look: impl Fn() -> KernelState) {
    for _ in 0..400 {
        let seen = tokio::task::block_in_place(&look);
        if seen.bridges == wanted.bridges
            && seen.vxlans == wanted.vxlans
            && seen.filters == wanted.filters
        {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    assert_same(&look(), wanted);
}

/// A switch with the daemon's `options` that forwards what a controller has written, and that controller.
async fn forwarding(options: &str, wanted: &SwitchState) -> (Switch, Connection<Database>) {
    let mut switch = Switch::new();
    switch.start(options);
    let controller = switch.controller();
    write(&controller, wanted).await;
    forwards(wanted).await;
    (switch, controller)
}

fn links() -> String {
    ip("-o link show")
}

/// A bare-metal server behind `eth9` and another one behind `eth8`.
fn bare_metal() -> [Netns; 2] {
    ["eth9", "eth8"].map(|interface| {
        let server = Netns::create(&unique_prefix()).unwrap();
        server.ipv6_on_new_interfaces(false).unwrap();
        let place = server.name();
        ip(&format!(
            "link add {interface} type veth peer name eth0 netns {place}"
        ));
        server.ip("link set eth0 up").unwrap();
        server
    })
}

/// Waits until what the server sends arrives; links and bridge ports take their time to come up.
async fn is_heard(server: &Netns, port: &str) {
    let probe = mac(0xfff);
    for _ in 0..400 {
        says_hello(server, probe);
        if run("bridge", &format!("fdb show dev {port}")).contains(&probe.to_string()) {
            run("bridge", &format!("fdb del {probe} dev {port} master"));
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("nothing arrives at {port}");
}

fn says_hello(server: &Netns, station: MacAddress) {
    send(server, "eth0", &hello(station)).unwrap();
}

fn hello(station: MacAddress) -> Ethernet {
    Ethernet {
        to: BROADCAST,
        from: station.octets(),
        ethertype: 0x88b5,
        payload: vec![1; 60],
    }
}

/// Waits until the database says that exactly these stations were learnt, each in its network, behind our tunnel end.
async fn learnt(controller: &Connection<Database>, wanted: &[(MacAddress, &str)]) {
    let mut seen = Vec::new();
    for _ in 0..400 {
        seen = controller.replica().read(|held| {
            let rows = held.into_iter().flat_map(Database::local_macs);
            let mut rows: Vec<_> = rows
                .map(|row| (row.mac, row.logical_switch.to_string(), row.tunnel_ip))
                .collect();
            rows.sort();
            rows
        });
        let ours = wanted.iter().map(|(mac, network)| {
            let tunnel_ip = Some("10.0.0.1".parse().unwrap());
            (*mac, (*network).to_owned(), tunnel_ip)
        });
        if ours.eq(seen.iter().cloned()) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("told: {seen:?}, not {wanted:?}");
}
