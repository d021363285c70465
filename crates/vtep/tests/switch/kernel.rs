//! The kernel side against a real kernel, each test in a network namespace of its own.

use std::sync::atomic::AtomicBool;

use model::switch::SwitchState;
use model::value::Vni;
use vtep::kernel::desired::{NodeConfig, desired};
use vtep::kernel::name::InterfaceName;
use vtep::kernel::plan::plan;
use vtep::kernel::state::KernelState;
use vtep::kernel::{Kernel, Report};

use crate::support::*;

/// What a command prints as JSON.
fn json(program: &str, arguments: &str) -> serde_json::Value {
    let text = run(program, arguments);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{program}: {error}: {text}"))
}

/// Converges, and proves that it did: nothing refused, and an independent look finds just what is wanted.
fn converge(kernel: &mut Kernel, switch: &SwitchState) -> Report {
    let wanted = wanted(switch);
    let never = AtomicBool::new(false);
    let first = kernel.converge(&wanted, &never).unwrap();
    let mut last = None;
    while last.as_ref().unwrap_or(&first).is_unfinished() {
        last = Some(kernel.converge(&wanted, &never).unwrap());
    }
    for report in last.iter().chain([&first]) {
        assert!(report.failures.is_empty(), "{:?}", report.failures);
    }
    assert_same(&seen(), &wanted);
    first
}

#[test]
fn a_network_becomes_devices_and_entries() {
    namespace();
    let report = converge(&mut open(), &picture());
    assert!(
        report.plan.summary().contains("1 bridges created"),
        "{}",
        report.plan
    );

    let bridge = InterfaceName::bridge(&name("net-a"));
    let inside = InterfaceName::inside(&name("net-a"));
    let wan = InterfaceName::wan(&name("net-a"), Vni::new(456).unwrap());
    let link = json("ip", &format!("-j -d link show {wan}"));
    assert_eq!(link[0]["linkinfo"]["info_data"]["id"], 456);
    assert_eq!(link[0]["linkinfo"]["info_data"]["port"], 14789);
    assert_eq!(link[0]["linkinfo"]["info_data"]["local"], "192.0.2.1");
    assert_eq!(link[0]["linkinfo"]["info_slave_data"]["isolated"], true);
    assert_eq!(
        link[0]["linkinfo"]["info_slave_data"]["neigh_suppress"],
        true
    );
    assert_eq!(link[0]["linkinfo"]["info_slave_data"]["learning"], false);
    assert_eq!(link[0]["ifalias"], "l2gw:wan net=net-a");
    let link = json("ip", &format!("-j -d link show {inside}"));
    assert_eq!(link[0]["linkinfo"]["info_data"]["id"], 123);
    assert_eq!(link[0]["linkinfo"]["info_data"]["port"], 4789);
    assert_eq!(link[0]["linkinfo"]["info_slave_data"]["isolated"], false);

    let fdb = run("bridge", &format!("fdb show dev {wan}"));
    let has = |text: &str| fdb.lines().any(|line| line.contains(text));
    assert!(has("00:00:00:00:00:00 dst 192.0.2.2 port 14790"), "{fdb}");
    assert!(has("02:00:00:00:00:02 dst 192.0.2.2 port 4789"), "{fdb}");
    assert!(has("02:00:00:00:00:03 dst 192.0.2.3 port 4789"), "{fdb}");
    let stuck = format!("02:00:00:00:00:03 sticky master {bridge} static");
    assert!(has(&stuck), "{fdb}");
    let neighbours = run("ip", &format!("neigh show dev {bridge} nud permanent"));
    assert!(
        neighbours.contains("172.16.0.2 lladdr 02:00:00:00:00:02"),
        "{neighbours}"
    );
    let neighbours = run("ip", &format!("-6 neigh show dev {bridge} nud permanent"));
    assert!(
        neighbours.contains("fd00::3 lladdr 02:00:00:00:00:03"),
        "{neighbours}"
    );
}

#[test]
fn a_second_run_writes_nothing() {
    namespace();
    let mut kernel = open();
    converge(&mut kernel, &picture());
    let writes = kernel.writes();
    converge(&mut kernel, &picture());
    assert_eq!(kernel.writes(), writes);
}

#[test]
fn a_restart_with_everything_in_place_writes_nothing() {
    namespace();
    converge(&mut open(), &picture());
    let mut restarted = open();
    converge(&mut restarted, &picture());
    assert_eq!(restarted.writes(), 0);
}

#[test]
fn our_own_changes_leave_nothing_to_look_at_for_ever() {
    namespace();
    let mut kernel = open();
    converge(&mut kernel, &picture());
    // The first look may find links and filter changed, by us; it writes nothing, so that ends it.
    settle(&mut kernel);

    let mut switch = picture();
    station(
        &mut switch,
        "net-a",
        mac(9),
        wan("192.0.2.2", 456),
        Some("172.16.0.9"),
    );
    let report = converge(&mut kernel, &switch);
    assert_eq!(report.plan.steps.len(), 2, "{}", report.plan);
    assert!(
        !kernel.is_stale().unwrap(),
        "one more MAC must not cost a look"
    );
}

#[test]
fn whatever_others_break_is_noticed_and_put_right() {
    namespace();
    let mut kernel = open();
    converge(&mut kernel, &picture());
    let network = name("net-a");
    let bridge = InterfaceName::bridge(&network);
    let inside = InterfaceName::inside(&network);
    let wan = InterfaceName::wan(&network, Vni::new(456).unwrap());
    let damages = [
        ("ip", format!("link delete {wan}")),
        ("ip", format!("link delete {bridge}")),
        ("ip", format!("link set {wan} nomaster")),
        ("ip", format!("link set {wan} down")),
        ("ip", format!("link set {bridge} mtu 1400")),
        ("ip", format!("link set {inside} group 0")),
        ("ip", format!("link set {inside} alias nothing")),
        ("ip", format!("link set {bridge} type bridge stp_state 1")),
        (
            "ip",
            format!("link set {inside} type vxlan id 123 nolearning"),
        ),
        ("bridge", format!("link set dev {wan} isolated off")),
        ("bridge", format!("link set dev {wan} neigh_suppress off")),
        ("bridge", format!("link set dev {wan} learning on")),
        (
            "bridge",
            format!("fdb del 00:00:00:00:00:00 dev {wan} dst 192.0.2.2 port 14790 self"),
        ),
        (
            "bridge",
            format!("fdb append 00:00:00:00:00:00 dev {wan} dst 192.0.2.9 port 4789 self"),
        ),
        (
            "bridge",
            format!("fdb append 00:00:00:00:00:00 dev {wan} dst 192.0.2.9 port 4790 vni 7 self"),
        ),
        (
            "bridge",
            format!("fdb del 02:00:00:00:00:02 dev {wan} self"),
        ),
        (
            "bridge",
            format!("fdb del 02:00:00:00:00:02 dev {wan} master"),
        ),
        (
            "bridge",
            format!("fdb replace 02:00:00:00:00:02 dev {wan} dst 192.0.2.77 port 4789 self"),
        ),
        (
            "bridge",
            format!("fdb add 02:00:00:00:00:77 dev {wan} dst 192.0.2.77 self static"),
        ),
        (
            "bridge",
            format!("fdb replace 02:00:00:00:00:02 dev {inside} master static"),
        ),
        (
            "bridge",
            format!("fdb add 02:00:00:00:00:78 dev {inside} master static"),
        ),
        ("ip", format!("neigh del 172.16.0.2 dev {bridge}")),
        (
            "ip",
            format!("neigh replace 172.16.0.2 lladdr 02:00:00:00:00:aa dev {bridge} nud permanent"),
        ),
        ("nft", "flush ruleset".to_owned()),
        ("nft", "flush chain inet l2gw prerouting".to_owned()),
        (
            "nft",
            "delete element inet l2gw wan { 192.0.2.2 . 456 }".to_owned(),
        ),
        (
            "nft",
            "add element inet l2gw inside { 10.66.66.66 . 123 }".to_owned(),
        ),
        ("ip", format!("link set {bridge} down")),
    ];
    for (program, damage) in damages {
        converge(&mut kernel, &picture());
        settle(&mut kernel);
        run(program, &damage);
        assert!(kernel.is_stale().unwrap(), "unnoticed: {program} {damage}");
        let report = converge(&mut kernel, &picture());
        assert!(!report.plan.is_empty(), "unrepaired: {program} {damage}");
    }

    // Only kernels with br_netfilter can be made to filter bridged frames.
    let switch = std::path::Path::new("/proc/sys/net/bridge/bridge-nf-call-iptables");
    if switch.exists() {
        converge(&mut kernel, &picture());
        settle(&mut kernel);
        std::fs::write(switch, "1").unwrap();
        assert!(kernel.is_stale().unwrap());
        converge(&mut kernel, &picture());
        assert_eq!(std::fs::read_to_string(switch).unwrap().trim(), "0");
    }
}

#[test]
fn what_is_not_ours_is_left_alone() {
    namespace();
    ip("link add br9 type bridge");
    ip("link add vx9 type vxlan id 999 dstport 4789 local 10.0.0.1 nolearning");
    ip("link set vx9 master br9 group 77");
    run(
        "bridge",
        "fdb append 00:00:00:00:00:00 dev vx9 dst 10.9.9.9 self",
    );
    run("nft", "add table inet others");
    let links = |_: ()| {
        let links = json("ip", "-j link show");
        let foreign =
            |link: &&serde_json::Value| ["br9", "vx9"].contains(&link["ifname"].as_str().unwrap());
        let links: Vec<_> = links
            .as_array()
            .unwrap()
            .iter()
            .filter(foreign)
            .cloned()
            .collect();
        (links, run("bridge", "fdb show dev vx9"))
    };
    let before = links(());
    let mut kernel = open();
    converge(&mut kernel, &picture());
    converge(&mut kernel, &SwitchState::default());
    assert_eq!(links(()), before);
    assert!(run("nft", "list tables").contains("others"));
}

#[test]
fn what_somebody_else_deletes_meanwhile_is_as_good_as_deleted() {
    namespace();
    let mut kernel = open();
    let never = AtomicBool::new(false);
    for gone in [1, 3] {
        kernel.converge(&wanted(&picture()), &never).unwrap();
        let held = kernel.observe().unwrap().clone();
        let plan = plan(&KernelState::default(), &held);
        // A VXLAN device, or all devices there are.
        let devices = held.vxlans.keys().chain(held.bridges.keys());
        for device in devices.take(gone) {
            ip(&format!("link delete {device}"));
        }
        let report = kernel.carry_out(plan, &never).unwrap();
        assert!(report.failures.is_empty(), "{:?}", report.failures);
        assert_eq!(seen(), KernelState::default());
    }
}

#[test]
fn a_network_that_goes_leaves_nothing() {
    namespace();
    let mut kernel = open();
    converge(&mut kernel, &picture());
    converge(&mut kernel, &SwitchState::default());
    assert_eq!(ip("link show group 77"), "");
    assert_eq!(run("nft", "list ruleset"), "");
}

#[test]
fn a_station_moves_between_tunnels_without_a_gap() {
    namespace();
    let mut kernel = open();
    converge(&mut kernel, &picture());
    let mut moved = picture();
    station(
        &mut moved,
        "net-a",
        mac(1),
        wan("192.0.2.3", 456),
        Some("172.16.0.1"),
    );
    let report = converge(&mut kernel, &moved);
    let steps: Vec<String> = report.plan.steps.iter().map(ToString::to_string).collect();
    let put = steps
        .iter()
        .position(|s| s.starts_with("put 02:00:00:00:00:01 at gw"))
        .unwrap();
    let remove = steps
        .iter()
        .position(|s| s.starts_with("remove 02:00:00:00:00:01 from gl"))
        .unwrap();
    assert!(put < remove, "{steps:?}");
    assert!(steps[put].ends_with("pinned"), "{steps:?}");
    assert!(steps[remove].ends_with("(fdb only)"), "{steps:?}");
    converge(&mut kernel, &picture());
}

#[test]
fn keys_may_be_the_same_inside_and_on_the_wan() {
    namespace();
    let mut switch = SwitchState::default();
    add(&mut switch, "net-a", 500);
    add(&mut switch, "net-b", 600);
    flood(&mut switch, "net-a", wan("192.0.2.2", 500));
    flood(&mut switch, "net-a", wan("192.0.2.2", 600));
    flood(&mut switch, "net-a", inside("10.0.0.11"));
    let mut kernel = open();
    converge(&mut kernel, &switch);

    // A changed key means new devices, also when two networks swap theirs.
    let keys: Vec<_> = switch
        .logical_switches
        .values()
        .map(|l| l.tunnel_key)
        .collect();
    for (logical_switch, key) in switch.logical_switches.values_mut().zip(keys.iter().rev()) {
        logical_switch.tunnel_key = *key;
    }
    converge(&mut kernel, &switch);
}

#[test]
fn one_address_may_serve_both_sides() {
    namespace();
    let both = NodeConfig {
        wan_ip: config().tunnel_ip,
        ..config()
    };
    let wanted = desired(&picture(), &both).state;
    let never = AtomicBool::new(false);
    let mut kernel = Kernel::open(both.clone()).unwrap();
    let report = kernel.converge(&wanted, &never).unwrap();
    assert!(report.failures.is_empty(), "{:?}", report.failures);
    let mut restarted = Kernel::open(both).unwrap();
    assert_same(restarted.observe().unwrap(), &wanted);
    assert!(restarted.converge(&wanted, &never).unwrap().plan.is_empty());

    // Back to two addresses, without making a device anew.
    let report = converge(&mut open(), &picture());
    assert!(
        !report.plan.to_string().contains("create"),
        "{}",
        report.plan
    );
}

#[test]
fn a_key_taken_by_another_network_is_refused_until_it_is_free() {
    namespace();
    let mut kernel = open();
    let mut switch = SwitchState::default();
    add(&mut switch, "net-b", 123);
    converge(&mut kernel, &switch);
    add(&mut switch, "net-a", 123);
    flood(&mut switch, "net-a", inside("10.0.0.11"));
    add(&mut switch, "net-c", 124);
    let never = AtomicBool::new(false);
    let report = kernel.converge(&wanted(&switch), &never).unwrap();
    let failures: Vec<String> = report.failures.iter().map(ToString::to_string).collect();
    assert_eq!(failures.len(), 1, "{failures:?}");
    assert!(
        failures[0].contains("A VXLAN device with the specified VNI already exists"),
        "{failures:?}"
    );
    let held = seen();
    assert!(
        held.vxlans
            .contains_key(&InterfaceName::inside(&name("net-b")))
    );
    assert!(
        held.vxlans
            .contains_key(&InterfaceName::inside(&name("net-c")))
    );

    switch.logical_switches.remove(&name("net-b"));
    converge(&mut kernel, &switch);
}

#[test]
fn an_interface_is_bound_and_let_go() {
    namespace();
    ip("link add eth9 type veth peer name far9");
    let with_port = NodeConfig {
        ports: [
            ("border".into(), None),
            ("uplink".into(), Some("eth9".parse().unwrap())),
        ]
        .into(),
        ..config()
    };
    let mut kernel = Kernel::open(with_port.clone()).unwrap();
    let mut bound = picture();
    bind(&mut bound, "net-a", "uplink", 0);
    let never = AtomicBool::new(false);
    let target = desired(&bound, &with_port).state;
    kernel.converge(&target, &never).unwrap();
    let link = json("ip", "-j link show eth9");
    let bridge = InterfaceName::bridge(&name("net-a"));
    assert_eq!(link[0]["master"], bridge.as_str());
    assert!(link[0]["flags"].as_array().unwrap().contains(&"UP".into()));

    // A station that somebody nails to the port is taken back to where it belongs.
    settle(&mut kernel);
    run(
        "bridge",
        "fdb replace 02:00:00:00:00:02 dev eth9 master static",
    );
    assert!(kernel.is_stale().unwrap());
    kernel.converge(&target, &never).unwrap();
    assert_same(&seen(), &target);

    // So are the rules that keep tagged frames off it.
    for damage in [
        "delete table bridge l2gw",
        "flush chain bridge l2gw forward",
    ] {
        settle(&mut kernel);
        run("nft", damage);
        assert!(kernel.is_stale().unwrap(), "{damage}");
        kernel.converge(&target, &never).unwrap();
        assert_same(&seen(), &target);
    }

    kernel
        .converge(&desired(&picture(), &with_port).state, &never)
        .unwrap();
    let link = json("ip", "-j link show eth9");
    assert!(link[0]["master"].is_null(), "{link}");
}

#[test]
fn the_host_is_deaf_and_mute_towards_tenants() {
    namespace();
    converge(&mut open(), &picture());
    let bridge = InterfaceName::bridge(&name("net-a"));
    let setting = |key: &str| {
        let value = std::fs::read_to_string(format!("/proc/sys/net/{key}"));
        value.unwrap().trim().to_owned()
    };
    assert_eq!(setting(&format!("ipv4/conf/{bridge}/arp_ignore")), "8");
    assert_eq!(setting(&format!("ipv6/conf/{bridge}/disable_ipv6")), "0");
    let addresses = json("ip", &format!("-j addr show {bridge}"));
    assert_eq!(addresses[0]["addr_info"].as_array().unwrap().len(), 0);
}

#[test]
fn asked_to_stop_it_stops_and_the_next_run_completes() {
    namespace();
    let mut kernel = open();
    let stop = AtomicBool::new(true);
    let report = kernel.converge(&wanted(&picture()), &stop).unwrap();
    assert_eq!(report.left_out, report.plan.steps.len());
    assert!(report.left_out > 0);
    converge(&mut kernel, &picture());
}

#[test]
fn many_networks_come_and_go() {
    namespace();
    let mut switch = SwitchState::default();
    for number in 0..100_u32 {
        let network = format!("net-{number}");
        add(&mut switch, &network, 1000 + number);
        flood(&mut switch, &network, inside("10.0.0.11"));
        flood(&mut switch, &network, wan("192.0.2.2", 5000 + number));
        station(
            &mut switch,
            &network,
            mac(number),
            wan("192.0.2.2", 5000 + number),
            Some("172.16.0.2"),
        );
    }
    let mut kernel = open();
    converge(&mut kernel, &switch);
    let half: Vec<_> = switch.logical_switches.keys().take(50).cloned().collect();
    for network in half {
        switch.logical_switches.remove(&network);
    }
    converge(&mut kernel, &switch);
    let empty = KernelState::default();
    assert!(!plan(&empty, kernel.observe().unwrap()).is_empty());
    converge(&mut kernel, &SwitchState::default());
}

#[test]
fn a_network_is_cut_off_the_wan_and_joined_again() {
    namespace();
    let mut kernel = open();
    let mut wanted = wanted(&picture());
    let bridges = wanted.bridges.keys().copied().collect();
    let never = AtomicBool::new(false);
    // At once, and from the start.
    for cut in [false, true, false, true] {
        match cut {
            true => wanted.cut(&bridges),
            false => wanted.cut(&std::collections::BTreeSet::new()),
        }
        let report = kernel.converge(&wanted, &never).unwrap();
        assert!(report.failures.is_empty(), "{:?}", report.failures);
        assert_same(&seen(), &wanted);
        let devices = run("bridge", "-d link show");
        let off = devices.matches("state disabled").count();
        assert_eq!(off, usize::from(cut), "{devices}");
        let again = kernel.converge(&wanted, &never).unwrap();
        assert!(again.plan.is_empty(), "{}", again.plan);
    }
    let device = *wanted
        .vxlans
        .keys()
        .find(|name| wanted.vxlans[name].is_wan())
        .unwrap();
    for undone in [
        format!("link set {device} down"),
        format!("link set {device} nomaster"),
        format!("link delete {device}"),
    ] {
        ip(&undone);
        let report = kernel.converge(&wanted, &never).unwrap();
        assert!(
            report.failures.is_empty(),
            "{undone}: {:?}",
            report.failures
        );
        assert_same(&seen(), &wanted);
        assert!(
            run("bridge", "-d link show").contains("state disabled"),
            "{undone}"
        );
    }
}

#[test]
fn more_than_it_can_listen_to_makes_it_look_at_everything() {
    namespace();
    let wanted = wanted(&picture());
    let mut kernel = open();
    converge(&mut kernel, &picture());
    settle(&mut kernel);
    assert_eq!(kernel.losses(), 0);
    // Somebody else's device: a hundred thousand entries come and go while nobody listens, and one of ours goes, too.
    ip("link add other type vxlan id 77 dstport 4790 local 10.0.0.1 nolearning");
    let entry =
        |verb: &str, number: u32| format!("fdb {verb} {} dev other dst 10.0.0.9\n", mac(number));
    let some = || 0x10_0000..0x10_0000 + 40_000_u32;
    let batch: String = some()
        .map(|number| entry("add", number))
        .chain(some().map(|number| entry("del", number)))
        .collect();
    let device = InterfaceName::wan(&name("net-a"), Vni::new(456).unwrap());
    let file = tempfile::NamedTempFile::new().unwrap();
    let break_ours = format!("fdb del {} dev {device} master\n", mac(2));
    std::fs::write(file.path(), batch + &break_ours).unwrap();
    run("bridge", &format!("-batch {}", file.path().display()));

    assert_ne!(
        kernel.observe().unwrap(),
        &wanted,
        "the loss went unnoticed"
    );
    assert_eq!(kernel.losses(), 1);
    converge(&mut kernel, &picture());
    assert_same(&seen(), &wanted);
}
