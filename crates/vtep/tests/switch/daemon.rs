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
    let wanted = wanted(switch);
    for _ in 0..400 {
        let seen = tokio::task::block_in_place(seen);
        if seen.bridges == wanted.bridges
            && seen.vxlans == wanted.vxlans
            && seen.filter == wanted.filter
        {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    assert_same(&seen(), &wanted);
}

fn links() -> String {
    ip("-o link show")
}

#[test]
fn what_a_controller_writes_is_forwarded() {
    in_namespace(|| async {
        let mut switch = Switch::new();
        switch.start("");
        let controller = switch.controller();
        let (description, ips, ports) = until(&controller, "the switch", |held| {
            let switch = held.physical_switches().remove("vtep")?;
            let ports: Vec<String> = switch.ports.keys().map(ToString::to_string).collect();
            Some((switch.description, switch.tunnel_ips, ports))
        })
        .await;
        assert_eq!(description, "l2gw software VTEP, WAN 192.0.2.1");
        assert_eq!(ips, ["10.0.0.1".to_owned()].into());
        assert_eq!(ports, ["border"]);

        write(&controller, &picture()).await;
        forwards(&picture()).await;
        let mut more = picture();
        station(
            &mut more,
            "net-a",
            mac(9),
            wan("192.0.2.2", 456),
            Some("172.16.0.9"),
        );
        write(&controller, &more).await;
        forwards(&more).await;
    });
}

#[test]
fn a_restart_changes_nothing_in_the_kernel() {
    in_namespace(|| async {
        let mut switch = Switch::new();
        switch.start("");
        let controller = switch.controller();
        write(&controller, &picture()).await;
        forwards(&picture()).await;
        switch.kill().await;
        let server = switch.server();
        assert!(server.is_some(), "the database must outlive the daemon");

        let mut watcher = open();
        settle(&mut watcher);
        assert_same(watcher.observe().unwrap(), &wanted(&picture()));
        switch.start("");
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(
            !watcher.is_stale().unwrap(),
            "the restart wrote to the kernel"
        );
        assert_eq!(switch.server(), server);

        // And it is at work again.
        let mut less = picture();
        less.logical_switches
            .values_mut()
            .for_each(|l| l.macs.clear());
        write(&controller, &less).await;
        forwards(&less).await;
    });
}

#[test]
fn a_database_server_that_dies_is_started_again_and_forwarding_goes_on() {
    in_namespace(|| async {
        let mut switch = Switch::new();
        switch.start("");
        let controller = switch.controller();
        write(&controller, &picture()).await;
        forwards(&picture()).await;
        let first = switch.server().unwrap();
        let mut watcher = open();
        settle(&mut watcher);
        run("kill", &format!("-KILL {first}"));
        for _ in 0..400 {
            if switch.server().is_some_and(|server| server != first) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        assert_ne!(switch.server().as_ref(), Some(&first));
        let mut less = picture();
        less.logical_switches
            .values_mut()
            .for_each(|l| l.macs.clear());
        assert!(!watcher.is_stale().unwrap(), "the kernel was touched");
        let controller = switch.controller();
        write(&controller, &less).await;
        forwards(&less).await;
    });
}

#[test]
fn what_cannot_be_done_is_told_in_the_database() {
    in_namespace(|| async {
        ip("link add eth9 type veth peer name far9");
        let mut switch = Switch::new();
        switch.start("--port uplink=eth9");
        let controller = switch.controller();
        write(&controller, &picture()).await;
        forwards(&picture()).await;
        let mut wanted = picture();
        bind(&mut wanted, "net-a", "uplink", 7);
        add(&mut wanted, "net-b", 123);
        write(&controller, &wanted).await;
        let told = until(&controller, "faults", |held| {
            let words = held.faults().remove("vtep")?;
            (words.contains("on port uplink") && words.contains("VNI")).then_some(words)
        })
        .await;
        assert!(
            told.contains("only untagged bindings (vlan 0) are supported"),
            "{told}"
        );
        assert!(told.contains("net=net-b"), "{told}");
        assert!(
            told.contains("A VXLAN device with the specified VNI already exists"),
            "{told}"
        );

        write(&controller, &picture()).await;
        until(&controller, "no faults", |held| {
            held.faults().is_empty().then_some(())
        })
        .await;
        forwards(&picture()).await;
    });
}

#[test]
fn what_others_break_is_put_right() {
    in_namespace(|| async {
        let mut switch = Switch::new();
        switch.start("");
        let controller = switch.controller();
        write(&controller, &picture()).await;
        forwards(&picture()).await;
        run("nft", "flush ruleset");
        forwards(&picture()).await;
        let bridge = vtep::kernel::name::InterfaceName::bridge(&name("net-a"));
        ip(&format!("link delete {bridge}"));
        forwards(&picture()).await;
    });
}

#[test]
fn down_takes_everything_back() {
    in_namespace(|| async {
        let before = links();
        let mut switch = Switch::new();
        switch.start("");
        let controller = switch.controller();
        write(&controller, &picture()).await;
        forwards(&picture()).await;
        switch.kill().await;
        switch.down().await;
        assert_eq!(links(), before);
        assert_eq!(seen(), KernelState::default());
        assert_eq!(switch.server(), None);

        // The database is still there.
        switch.start("");
        forwards(&picture()).await;
    });
}

#[test]
fn a_lost_database_does_not_stop_forwarding() {
    in_namespace(|| async {
        let mut lost = Switch::new();
        lost.start("");
        write(&lost.controller(), &picture()).await;
        forwards(&picture()).await;
        lost.kill().await;

        let mut switch = Switch::new();
        switch.start("");
        let controller = switch.controller();
        until(&controller, "the switch", |held| held.switch_names().next()).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_same(&seen(), &wanted(&picture()));

        // The first network a controller asks for ends that.
        let mut other = SwitchState::default();
        add(&mut other, "net-z", 999);
        write(&controller, &other).await;
        forwards(&other).await;
        // Then silence is an order.
        write(&controller, &SwitchState::default()).await;
        forwards(&SwitchState::default()).await;
    });
}

#[test]
fn it_listens_where_it_is_told_also_after_a_restart() {
    in_namespace(|| async {
        let reachable = |port: u16| std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
        let mut switch = Switch::new();
        switch.start("--listen ptcp:6641:127.0.0.1");
        let controller = switch.controller();
        let is_up = |held: &hardware_vtep::Database| held.switch_names().next();
        until(&controller, "the switch", is_up).await;
        assert!(reachable(6641));
        switch.kill().await;
        switch.start("--listen ptcp:6642:127.0.0.1");
        for _ in 0..400 {
            if reachable(6642) && !reachable(6641) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("6641: {}, 6642: {}", reachable(6641), reachable(6642));
    });
}

#[test]
fn what_keeps_it_from_starting_is_said_in_a_line() {
    in_namespace(|| async {
        let mut switch = Switch::new();
        assert_eq!(
            switch.refusal("--port up=eth7").await,
            "--port up=eth7: this host has no interface eth7"
        );
        let taken = std::net::TcpListener::bind(("127.0.0.1", 6641)).unwrap();
        let told = switch.refusal("--listen ptcp:6641:127.0.0.1").await;
        assert!(
            told.starts_with("--listen ptcp:6641:127.0.0.1: Address already in use"),
            "{told}"
        );
        drop(taken);

        switch.start("");
        let controller = switch.controller();
        until(&controller, "the switch", |held| held.switch_names().next()).await;
        let told = switch.refusal("").await;
        assert!(told.ends_with("in use by a running l2gw vtep"), "{told}");
    });
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
    let frame = Ethernet {
        to: BROADCAST,
        from: station.octets(),
        ethertype: 0x88b5,
        payload: vec![1; 60],
    };
    send(server, "eth0", &frame).unwrap();
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

#[test]
fn learnt_stations_are_told_and_move_and_age_out() {
    in_namespace(|| async {
        let [first, second] = bare_metal();
        let mut switch = Switch::new();
        switch.start("--port one=eth9 --port two=eth8");
        let controller = switch.controller();
        let mut wanted = picture();
        add(&mut wanted, "net-b", 124);
        bind(&mut wanted, "net-a", "one", 0);
        bind(&mut wanted, "net-b", "two", 0);
        write(&controller, &wanted).await;
        forwards(&wanted).await;
        is_heard(&first, "eth9").await;
        is_heard(&second, "eth8").await;

        says_hello(&first, mac(0xaa));
        says_hello(&first, mac(0xab));
        // Declared behind an inside host: it can't be learnt elsewhere.
        says_hello(&first, mac(1));
        learnt(&controller, &[(mac(0xaa), "net-a"), (mac(0xab), "net-a")]).await;

        // It moves to another network; the old one is told to forget it, as a switch's ageing would in time.
        says_hello(&second, mac(0xaa));
        run("bridge", &format!("fdb del {} dev eth9 master", mac(0xaa)));
        learnt(&controller, &[(mac(0xaa), "net-b"), (mac(0xab), "net-a")]).await;

        // The kernel forgets who is silent.
        let bridge = vtep::kernel::name::InterfaceName::bridge(&name("net-a"));
        ip(&format!("link set {bridge} type bridge ageing_time 100"));
        learnt(&controller, &[(mac(0xaa), "net-b")]).await;

        // Nor is anything told of a port that was taken out.
        wanted
            .bindings
            .retain(|_, network| *network != name("net-b"));
        write(&controller, &wanted).await;
        learnt(&controller, &[]).await;
    });
}

#[test]
fn show_tells_what_is_forwarded_and_what_is_not() {
    in_namespace(|| async {
        let [server, _other] = bare_metal();
        let mut switch = Switch::new();
        switch.start("--port one=eth9");
        let controller = switch.controller();
        let mut wanted = picture();
        bind(&mut wanted, "net-a", "one", 0);
        write(&controller, &wanted).await;
        forwards(&wanted).await;
        is_heard(&server, "eth9").await;
        says_hello(&server, mac(0xaa));
        learnt(&controller, &[(mac(0xaa), "net-a")]).await;

        let shown = switch.shown().await;
        assert_eq!(shown["database"], true);
        let network = &shown["networks"][0];
        assert_eq!(network["name"], "net-a");
        assert_eq!(network["up"], true);
        assert_eq!(network["bindings"][1], "one vlan 0");
        assert_eq!(network["interfaces"][0]["name"], "eth9");
        let tunnels: Vec<_> = network["tunnels"].as_array().unwrap().iter().collect();
        let told = |tunnel: &serde_json::Value| {
            let [side, ip, key, floods] =
                ["side", "remote_ip", "key", "floods"].map(|column| tunnel[column].to_string());
            format!("{side} {ip} {key} {floods}").replace('"', "")
        };
        let tunnels: Vec<_> = tunnels.into_iter().map(told).collect();
        assert_eq!(
            tunnels,
            [
                "inside 10.0.0.11 123 true",
                "inside 10.0.0.12 123 true",
                "wan 192.0.2.2 456 true",
                "wan 192.0.2.3 456 false"
            ]
        );
        assert_eq!(
            stations(&shown),
            [
                "02:00:00:00:00:01 172.16.0.1 10.0.0.11 declared forwarding",
                "02:00:00:00:00:02 172.16.0.2 192.0.2.2 declared forwarding",
                "02:00:00:00:00:03 fd00::3 192.0.2.3 declared forwarding",
                "02:00:00:00:00:aa null eth9 learnt forwarding",
            ]
        );
        assert!(network["macs"][3]["age"].as_u64().unwrap() < 60);

        // With nobody there to repair it, a loss shows.
        switch.kill().await;
        let key = model::value::Vni::new(456).unwrap();
        let device = vtep::kernel::name::InterfaceName::wan(&name("net-a"), key);
        run("bridge", &format!("fdb del {} dev {device} master", mac(2)));
        assert_eq!(
            stations(&switch.shown().await)[1],
            "02:00:00:00:00:02 172.16.0.2 192.0.2.2 declared missing"
        );

        // And the kernel's side shows without a database.
        run("kill", &format!("-KILL {}", switch.server().unwrap()));
        let shown = switch.shown().await;
        assert_eq!(shown["database"], false);
        assert_eq!(shown["networks"][0]["name"], "net-a");
        assert_eq!(
            stations(&shown)[0],
            "02:00:00:00:00:01 172.16.0.1 10.0.0.11 declared unchecked"
        );
    });
}

#[test]
fn trace_tells_where_a_frame_goes_and_why() {
    in_namespace(|| async {
        let [server, _other] = bare_metal();
        let mut switch = Switch::new();
        switch.start("--port one=eth9");
        let controller = switch.controller();
        let mut wanted = picture();
        bind(&mut wanted, "net-a", "one", 0);
        write(&controller, &wanted).await;
        forwards(&wanted).await;
        is_heard(&server, "eth9").await;
        says_hello(&server, mac(0xaa));
        learnt(&controller, &[(mac(0xaa), "net-a")]).await;

        let far = switch.traced("net-a", mac(2), Some("172.16.0.2")).await;
        for reason in [
            "sent to 192.0.2.2 through gw",
            "with key 456 to UDP port 4789",
            "answers from 192.0.2.2 with key 456 are admitted",
            "who asks for 172.16.0.2 is answered by the bridge: 02:00:00:00:00:02",
            "database: a row says 192.0.2.2",
        ] {
            assert!(far.contains(reason), "{reason}: {far}");
        }
        let near = switch.traced("net-a", mac(0xaa), None).await;
        assert!(near.starts_with("sent to port eth9\nbecause "), "{near}");
        let unknown = switch.traced("net-a", mac(0xbb), Some("172.16.0.9")).await;
        for reason in [
            "flooded: 02:00:00:00:00:bb is neither declared nor learnt",
            "to port eth9\n",
            "to 10.0.0.12 through gl",
            "to 192.0.2.2 through gw",
            "who asks for 172.16.0.9 is not answered by the bridge",
            "database: no row",
        ] {
            assert!(unknown.contains(reason), "{reason}: {unknown}");
        }
        assert!(
            !unknown.contains("192.0.2.3"),
            "it does not flood: {unknown}"
        );
        let nowhere = switch.traced("net-z", mac(2), None).await;
        assert!(
            nowhere.contains("the database has no such logical switch"),
            "{nowhere}"
        );
    });
}

/// What is shown of the first network's stations.
fn stations(shown: &serde_json::Value) -> Vec<String> {
    let macs = shown["networks"][0]["macs"].as_array().unwrap().iter();
    let columns = ["mac", "ip", "at", "source", "state"];
    macs.map(|mac| {
        let columns = columns.map(|column| mac[column].to_string());
        columns.join(" ").replace('"', "")
    })
    .collect()
}

#[test]
fn hundreds_of_stations_that_speak_at_once_starve_nobody() {
    in_namespace(|| async {
        let [server, _other] = bare_metal();
        let mut switch = Switch::new();
        switch.start("--port one=eth9");
        let controller = switch.controller();
        let mut wanted = picture();
        bind(&mut wanted, "net-a", "one", 0);
        write(&controller, &wanted).await;
        forwards(&wanted).await;
        is_heard(&server, "eth9").await;

        let stations: Vec<_> = (0x1000..0x1100)
            .map(|number| (mac(number), "net-a"))
            .collect();
        for (station, _) in &stations {
            says_hello(&server, *station);
        }
        // Meanwhile somebody declares a station and somebody else breaks something.
        station(&mut wanted, "net-a", mac(9), wan("192.0.2.2", 456), None);
        write(&controller, &wanted).await;
        run("nft", "flush ruleset");
        forwards(&wanted).await;
        learnt(&controller, &stations).await;
    });
}
