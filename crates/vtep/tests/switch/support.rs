//! A network namespace per test thread, gone when the thread ends, and the words to say what is in it.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use model::switch::{
    Locator, LogicalSwitch, LogicalSwitchName, PhysicalPort, PortVlan, RemoteMac, SwitchState,
};
use model::value::{MacAddress, VlanId, Vni};
use nix::sched::{CloneFlags, unshare};
use vtep::kernel::Kernel;
use vtep::kernel::desired::{NodeConfig, desired};
use vtep::kernel::plan::plan;
use vtep::kernel::state::KernelState;
use vtep::kernel::underlay::Underlay;
use vtep::kernel::vlan::VlanForm;

/// Moves this thread into a fresh network namespace with the switch's own addresses.
pub(crate) fn namespace() {
    unshare(CloneFlags::CLONE_NEWNET).expect("root may make a network namespace");
    for line in [
        "link set lo up",
        "addr add 10.0.0.1/32 dev lo",
        "addr add 192.0.2.1/32 dev lo",
    ] {
        ip(line);
    }
}

/// What the environment says about a run.
pub(crate) fn variable<T: std::str::FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok()?.parse().ok()
}

/// Runs ip(8).
pub(crate) fn ip(arguments: &str) -> String {
    run("ip", arguments)
}

/// Runs a command of this thread's namespace.
pub(crate) fn run(program: &str, arguments: &str) -> String {
    let output = Command::new(program)
        .args(arguments.split_whitespace())
        .output()
        .expect(program);
    assert!(
        output.status.success(),
        "{program} {arguments}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// Gives a command of this thread's namespace its standard input.
pub(crate) fn feed(program: &str, input: &str) {
    let mut child = Command::new(program)
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .expect(program);
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    assert!(child.wait().unwrap().success(), "{program}: {input}");
}

pub(crate) fn config() -> NodeConfig {
    NodeConfig {
        switch: "vtep".into(),
        tunnel_ip: "10.0.0.1".parse().unwrap(),
        wan_ip: "192.0.2.1".parse().unwrap(),
        wan_underlay: Underlay::Own,
        ports: [("border".into(), None)].into(),
        mtu: 1500,
        ipv6: true,
        vlan_form: VlanForm::Subinterfaces,
        bum_limit: Some(10_000),
    }
}

pub(crate) fn inside(ip: &str) -> Locator {
    Locator {
        ip: ip.parse().unwrap(),
        tunnel_key: None,
    }
}

pub(crate) fn wan(ip: &str, key: u32) -> Locator {
    Locator {
        ip: ip.parse().unwrap(),
        tunnel_key: Vni::new(key),
    }
}

pub(crate) fn mac(last: u32) -> MacAddress {
    MacAddress::from_u64(0x0200_0000_0000 | u64::from(last))
}

pub(crate) fn name(text: &str) -> LogicalSwitchName {
    LogicalSwitchName::new(text)
}

/// Adds a logical switch and binds it to the n-th VLAN of the port that leads nowhere.
pub(crate) fn add(switch: &mut SwitchState, network: &str, key: u32) {
    let vlan = u16::try_from(switch.bindings.len()).unwrap();
    add_at(switch, network, key, vlan);
}

/// The same, in this VLAN.
pub(crate) fn add_at(switch: &mut SwitchState, network: &str, key: u32, vlan: u16) {
    bind(switch, network, "border", vlan);
    let logical_switch = LogicalSwitch {
        owned: true,
        tunnel_key: Vni::new(key),
        ..LogicalSwitch::default()
    };
    switch
        .logical_switches
        .insert(name(network), logical_switch);
}

pub(crate) fn bind(switch: &mut SwitchState, network: &str, port: &str, vlan: u16) {
    let port = PhysicalPort {
        switch: "vtep".into(),
        name: port.into(),
    };
    let vlan = VlanId::new(vlan).unwrap();
    switch
        .bindings
        .insert(PortVlan { port, vlan }, name(network));
}

pub(crate) fn flood(switch: &mut SwitchState, network: &str, locator: Locator) {
    let logical_switch = switch.logical_switches.get_mut(&name(network)).unwrap();
    logical_switch.flood.insert(locator);
}

pub(crate) fn station(
    switch: &mut SwitchState,
    network: &str,
    mac: MacAddress,
    locator: Locator,
    ip: Option<&str>,
) {
    let ip = ip.map(|ip| ip.parse().unwrap());
    let logical_switch = switch.logical_switches.get_mut(&name(network)).unwrap();
    logical_switch.macs.insert(mac, RemoteMac { locator, ip });
}

/// One network as in the specification's picture: 123 inside, 456 on the WAN, two hosts, two remote gateways.
pub(crate) fn picture() -> SwitchState {
    let mut switch = SwitchState::default();
    add(&mut switch, "net-a", 123);
    flood(&mut switch, "net-a", inside("10.0.0.11"));
    flood(&mut switch, "net-a", inside("10.0.0.12"));
    flood(&mut switch, "net-a", wan("192.0.2.2", 456));
    station(
        &mut switch,
        "net-a",
        mac(1),
        inside("10.0.0.11"),
        Some("172.16.0.1"),
    );
    station(
        &mut switch,
        "net-a",
        mac(2),
        wan("192.0.2.2", 456),
        Some("172.16.0.2"),
    );
    station(
        &mut switch,
        "net-a",
        mac(3),
        wan("192.0.2.3", 456),
        Some("fd00::3"),
    );
    switch
}

pub(crate) fn wanted(switch: &SwitchState) -> KernelState {
    desired(switch, &config()).state
}

pub(crate) fn open() -> Kernel {
    Kernel::open(config()).unwrap()
}

/// Looks until the kernel has told all there is to tell of what was done; of a carrier that comes it tells later.
pub(crate) fn settle(kernel: &mut Kernel) {
    let begun = Instant::now();
    let mut news = begun;
    kernel.observe().unwrap();
    while news.elapsed() < LINK_WATCH {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "the kernel does not come to rest"
        );
        std::thread::sleep(Duration::from_millis(20));
        if kernel.is_stale().unwrap() {
            kernel.observe().unwrap();
            news = Instant::now();
        }
    }
}

/// The kernel tells of carriers that came and went once a second at most (net/core/link_watch.c), that is up to a second
/// after what caused it.
const LINK_WATCH: Duration = Duration::from_millis(1_100);

/// What a fresh look finds.
pub(crate) fn seen() -> KernelState {
    open().observe().unwrap().clone()
}

/// Everything of ours is as wanted; if not, what is missing and what is too much is said as plans.
pub(crate) fn assert_same(seen: &KernelState, wanted: &KernelState) {
    let interfaces = wanted.interfaces.iter();
    let same = seen.bridges == wanted.bridges
        && seen.vxlans == wanted.vxlans
        && seen.vlans == wanted.vlans
        && seen.filters == wanted.filters
        && seen.guard == wanted.guard
        && interfaces
            .into_iter()
            .all(|(name, interface)| seen.interfaces.get(name) == Some(interface));
    assert!(
        same,
        "left to do:\n{}to undo:\n{}",
        plan(wanted, seen),
        plan(seen, wanted)
    );
}
