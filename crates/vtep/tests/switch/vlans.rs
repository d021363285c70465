//! VLANs of physical ports, frames counted: a trunk port and another one, with machines behind them, and an underlay.
//!
//! The kernel takes tags off before a capture sees a frame, so at the far end of a port a packet filter sorts frames by
//! VLAN into devices, which are captured.

use std::net::{Ipv6Addr, UdpSocket};
use std::sync::atomic::AtomicBool;

use model::switch::SwitchState;
use testkit::capture::{Capture, send};
use testkit::frame::{BROADCAST, Ethernet, Mac};
use testkit::netns::{Netns, unique_prefix};
use vtep::kernel::desired::{NodeConfig, desired};
use vtep::kernel::name::InterfaceName;
use vtep::kernel::state::KernelState;
use vtep::kernel::vlan::VlanForm;
use vtep::kernel::{Kernel, Report};

use crate::frames::who_has;
use crate::support::*;

/// An EtherType nobody else uses (IEEE 802, local experimental).
const EXPERIMENTAL: u16 = 0x88b5;
const DOT1Q: u16 = 0x8100;
const DOT1AD: u16 = 0x88a8;
const LLDP: Mac = [0x01, 0x80, 0xc2, 0, 0, 0x0e];
const TENANT: Mac = [2, 0, 0, 0, 0xee, 1];

/// Where the filter at the far end of a port sorts frames to: the VLANs the tests use, and the rest.
const SORTED: [(&str, &str); 5] = [
    ("v100", "vlan id 100"),
    ("v200", "vlan id 200"),
    ("v300", "vlan id 300"),
    ("v0", "vlan id 0"),
    ("untagged", ""),
];

/// The gateway, what is behind its two ports, and the underlay.
struct Lab {
    gateway: Netns,
    ports: [Netns; 2],
    underlay: Netns,
    config: NodeConfig,
}

/// Frames of ours that arrived, by place: "one v100" or "vni 456 to 192.0.2.2".
type Arrived = Vec<(String, Ethernet)>;

impl Lab {
    fn new() -> Self {
        let prefix = unique_prefix();
        let [gateway, one, two, underlay] =
            ["g", "1", "2", "u"].map(|name| Netns::create(&format!("{prefix}{name}")).unwrap());
        for (interface, port) in [("eth1", &one), ("eth2", &two)] {
            port.without_ipv6().unwrap();
            let far = port.name();
            gateway
                .ip(&format!(
                    "link add {interface} type veth peer name eth0 netns {far}\nlink set {interface} up"
                ))
                .unwrap();
            let mut rules = "add table netdev sort\nadd chain netdev sort eth0 \
                { type filter hook ingress device eth0 priority 0; }\n"
                .to_owned();
            for (device, found_by) in SORTED {
                port.ip(&format!(
                    "link add {device} type veth peer name p{device}\n\
                     link set {device} up\nlink set p{device} up"
                ))
                .unwrap();
                rules += &format!("add rule netdev sort eth0 {found_by} fwd to {device}\n");
            }
            port.ip("link set eth0 up").unwrap();
            port.enter(|| {
                feed("nft", &rules);
                Ok(())
            })
            .unwrap();
        }
        gateway
            .ip(&format!(
                "link add und mtu 1600 type veth peer name und mtu 1600 netns {}\nlink set und up\n\
                 addr add 10.0.0.1/24 dev und\naddr add 192.0.2.1/24 dev und",
                underlay.name()
            ))
            .unwrap();
        underlay
            .ip("link set und up\n\
                 addr add 10.0.0.11/24 dev und\naddr add 10.0.0.12/24 dev und\n\
                 addr add 192.0.2.2/24 dev und\naddr add 192.0.2.3/24 dev und")
            .unwrap();
        let config = NodeConfig {
            ports: [
                ("one".into(), Some("eth1".parse().unwrap())),
                ("two".into(), Some("eth2".parse().unwrap())),
            ]
            .into(),
            ..steered()
        };
        let lab = Self {
            gateway,
            ports: [one, two],
            underlay,
            config,
        };
        let wanted = desired(&networks(), &lab.config).state;
        let report =
            lab.in_gateway(|kernel| kernel.converge(&wanted, &AtomicBool::new(false)).unwrap());
        assert!(report.failures.is_empty(), "{:?}", report.failures);
        lab.comes_up();
        lab
    }

    fn in_gateway<T: Send>(&self, what: impl FnOnce(&mut Kernel) -> T + Send) -> T {
        let work = || Ok(what(&mut Kernel::open(self.config.clone()).unwrap()));
        self.gateway.enter(work).unwrap()
    }

    /// Links and bridge ports take their time.
    fn comes_up(&self) {
        for _ in 0..200 {
            let arrived = self.arriving(|| self.port_sends(0, &tagged(100, &hello())));
            if arrived.len() == 4 {
                return;
            }
        }
        panic!("nothing passes");
    }

    /// The frames that our tests send and that arrive anywhere while `what` happens, in order of place.
    fn arriving(&self, what: impl FnOnce()) -> Arrived {
        let mut arrived = self.everything(what);
        arrived.retain(|(_, frame)| frame.from == TENANT);
        arrived
    }

    fn everything(&self, what: impl FnOnce()) -> Arrived {
        let mut captures = Vec::new();
        for (name, port) in ["one", "two"].into_iter().zip(&self.ports) {
            for (device, _) in SORTED {
                let capture = Capture::start(port, device).unwrap();
                captures.push((format!("{name} {device}"), capture));
            }
        }
        let underlay = Capture::start(&self.underlay, "und").unwrap();
        what();
        let mut arrived = Arrived::new();
        // Once the underlay is quiet, which is furthest away, the others are.
        for seen in underlay.finish().unwrap() {
            if let Some(vxlan) = seen.vxlan().filter(|_| !seen.outgoing) {
                let place = format!("vni {} to {}", vxlan.vni, vxlan.destination);
                arrived.push((place, vxlan.inner));
            }
        }
        for (place, capture) in captures {
            let frames = capture.so_far().into_iter();
            let sorted = frames.filter(|seen| seen.outgoing).map(|seen| seen.frame);
            arrived.extend(sorted.map(|frame| (place.clone(), frame)));
        }
        arrived.sort_by(|(a, _), (b, _)| a.cmp(b));
        arrived
    }

    fn port_sends(&self, port: usize, frame: &Ethernet) {
        send(&self.ports[port], "eth0", frame).unwrap();
    }

    /// A remote gateway, or an inside host, sends through a tunnel.
    fn tunnel_sends(&self, source: &str, to: &str, vni: u32, frame: &Ethernet) {
        let [_, a, b, c] = vni.to_be_bytes();
        let packet = [&[8, 0, 0, 0, a, b, c, 0][..], &frame.bytes()].concat();
        let sent = self.underlay.enter(|| {
            let socket = UdpSocket::bind((source, 0))?;
            Ok(socket.send_to(&packet, (to, 4789))?)
        });
        sent.unwrap();
    }

    /// Where a frame from a port arrives, and that it arrives unchanged.
    fn spreads(&self, port: usize, frame: &Ethernet, as_seen: &Ethernet) -> Vec<String> {
        let arrived = self.arriving(|| self.port_sends(port, frame));
        for (place, frame) in &arrived {
            assert_eq!(frame, as_seen, "{place}");
        }
        arrived.into_iter().map(|(place, _)| place).collect()
    }
}

/// Three networks: net-a on VLAN 100 of one port and untagged on the other, net-b on VLAN 200 of the one and 100 of the
/// other, net-c untagged on the one.
fn networks() -> SwitchState {
    let mut switch = picture();
    add(&mut switch, "net-b", 124);
    flood(&mut switch, "net-b", wan("192.0.2.3", 457));
    add(&mut switch, "net-c", 125);
    flood(&mut switch, "net-c", wan("192.0.2.3", 458));
    switch.bindings.clear();
    bind(&mut switch, "net-a", "one", 100);
    bind(&mut switch, "net-a", "two", 0);
    bind(&mut switch, "net-b", "one", 200);
    bind(&mut switch, "net-b", "two", 100);
    bind(&mut switch, "net-c", "one", 0);
    switch
}

fn steered() -> NodeConfig {
    NodeConfig {
        vlan_form: VlanForm::Steered,
        ..config()
    }
}

fn hello() -> Ethernet {
    Ethernet {
        to: BROADCAST,
        from: TENANT,
        ethertype: EXPERIMENTAL,
        payload: vec![1; 60],
    }
}

fn tagged(vlan: u16, frame: &Ethernet) -> Ethernet {
    tagged_by(DOT1Q, vlan, frame)
}

/// IEEE 802.1Q: the tag goes between the addresses and the type.
fn tagged_by(standard: u16, tag: u16, frame: &Ethernet) -> Ethernet {
    let tag = [tag.to_be_bytes(), frame.ethertype.to_be_bytes()].concat();
    Ethernet {
        ethertype: standard,
        payload: [&tag, &frame.payload[..]].concat(),
        ..frame.clone()
    }
}

/// Where a broadcast in net-a goes from VLAN 100 of port one.
const NET_A: [&str; 4] = [
    "two untagged",
    "vni 123 to 10.0.0.11",
    "vni 123 to 10.0.0.12",
    "vni 456 to 192.0.2.2",
];

#[test]
fn a_frame_reaches_the_network_of_its_vlan_alone_and_once() {
    let lab = Lab::new();
    let hello = hello();
    assert_eq!(lab.spreads(0, &tagged(100, &hello), &hello), NET_A);
    let net_b = ["two v100", "vni 457 to 192.0.2.3"];
    assert_eq!(lab.spreads(0, &tagged(200, &hello), &hello), net_b);
    // With a priority and drop eligibility too.
    assert_eq!(lab.spreads(0, &tagged(0xf000 | 200, &hello), &hello), net_b);
    let net_b = ["one v200", "vni 457 to 192.0.2.3"];
    assert_eq!(lab.spreads(1, &tagged(100, &hello), &hello), net_b);
    // Without a VLAN: no tag, or one that gives a priority alone.
    let net_c = ["vni 458 to 192.0.2.3"];
    assert_eq!(lab.spreads(0, &hello, &hello), net_c);
    assert_eq!(lab.spreads(0, &tagged(0xe000, &hello), &hello), net_c);
    // A VLAN nobody bound, and a tag of another standard.
    let nowhere: [&str; 0] = [];
    assert_eq!(lab.spreads(0, &tagged(300, &hello), &hello), nowhere);
    let provider = tagged_by(DOT1AD, 100, &hello);
    assert_eq!(lab.spreads(0, &provider, &hello), nowhere);
    // What no bridge passes on.
    let control = Ethernet {
        to: LLDP,
        ..hello.clone()
    };
    assert_eq!(lab.spreads(0, &control, &control), nowhere);
    assert_eq!(lab.spreads(0, &tagged(100, &control), &control), nowhere);
}

#[test]
fn a_frame_from_afar_leaves_with_the_tag_of_each_port() {
    let lab = Lab::new();
    let hello = hello();
    let from = |source: &str, to: &str, vni: u32, frame: &Ethernet| -> Vec<String> {
        let arrived = lab.arriving(|| lab.tunnel_sends(source, to, vni, frame));
        for (place, seen) in &arrived {
            assert_eq!(seen, frame, "{place}");
        }
        arrived.into_iter().map(|(place, _)| place).collect()
    };
    let inside = ["vni 123 to 10.0.0.11", "vni 123 to 10.0.0.12"];
    assert_eq!(
        from("192.0.2.2", "192.0.2.1", 456, &hello),
        ["one v100", "two untagged", inside[0], inside[1]]
    );
    assert_eq!(
        from("192.0.2.3", "192.0.2.1", 457, &hello),
        ["one v200", "two v100"]
    );
    assert_eq!(
        from("192.0.2.3", "192.0.2.1", 458, &hello),
        ["one untagged"]
    );

    // A tenant's own tag passes inside a VLAN; without one it would lead into any VLAN of the port.
    let doubly = tagged(300, &hello);
    let arrived = lab.arriving(|| lab.tunnel_sends("192.0.2.3", "192.0.2.1", 457, &doubly));
    let places: Vec<_> = arrived.iter().map(|(place, _)| place.as_str()).collect();
    assert_eq!(places, ["one v200", "two v100"]);
    assert!(
        arrived.iter().all(|(_, frame)| *frame == doubly),
        "{arrived:?}"
    );
    let nowhere: [&str; 0] = [];
    let hopping = tagged(100, &hello);
    assert_eq!(from("192.0.2.3", "192.0.2.1", 458, &hopping), nowhere);
    // And back: the outer tag decides, the inner one is payload.
    let arrived = lab.arriving(|| lab.port_sends(0, &tagged(200, &tagged(300, &hello))));
    let places: Vec<_> = arrived.iter().map(|(place, _)| place.as_str()).collect();
    assert_eq!(places, ["two v100", "vni 457 to 192.0.2.3"]);
    assert!(
        arrived.iter().all(|(_, frame)| *frame == doubly),
        "{arrived:?}"
    );
}

#[test]
fn a_tagged_frame_may_be_as_long_as_one_without() {
    let lab = Lab::new();
    let long = Ethernet {
        payload: vec![7; 1500],
        ..hello()
    };
    assert_eq!(lab.spreads(0, &tagged(100, &long), &long), NET_A);
    // From the port without a tag to the one with: 1,518 bytes.
    assert_eq!(
        lab.spreads(1, &long, &long),
        ["one v100", NET_A[1], NET_A[2], NET_A[3]]
    );
}

#[test]
fn neighbours_are_answered_with_the_tag_they_asked_with() {
    let lab = Lab::new();
    for (port, tag, place) in [(0, Some(100), "one v100"), (1, None, "two untagged")] {
        // Declared with an address of each family; see `picture`.
        for (question, answer) in [
            (who_has([172, 16, 0, 2].into()), mac(2)),
            (solicitation("fd00::3".parse().unwrap()), mac(3)),
        ] {
            let asked = tag.map_or_else(|| question.clone(), |tag| tagged(tag, &question));
            let seen = lab.everything(|| lab.port_sends(port, &asked));
            let answers = seen
                .iter()
                .filter(|(_, frame)| frame.from == answer.octets());
            let answers: Vec<_> = answers.map(|(place, _)| place.as_str()).collect();
            assert_eq!(answers, [place], "{seen:?}");
            let to_remotes = |(place, _): &&(String, Ethernet)| place.starts_with("vni 456");
            assert_eq!(seen.iter().filter(to_remotes).count(), 0, "{seen:?}");
        }
    }
}

/// A neighbour solicitation (RFC 4861 section 4.3) from the tenant's machine.
fn solicitation(target: Ipv6Addr) -> Ethernet {
    let source: Ipv6Addr = "fd00::99".parse().unwrap();
    let [.., a, b, c] = target.octets();
    let group = Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c]);
    let link_layer = [&[1, 1][..], &TENANT].concat();
    let mut message = [
        &[135, 0, 0, 0, 0, 0, 0, 0][..],
        &target.octets(),
        &link_layer,
    ]
    .concat();
    let pseudo_header = [
        &source.octets()[..],
        &group.octets(),
        &[0, 0, 0, 32, 0, 0, 0, 58],
        &message,
    ]
    .concat();
    let words = pseudo_header
        .chunks(2)
        .map(|w| u32::from(u16::from_be_bytes([w[0], w[1]])));
    let sum: u32 = words.sum();
    let checksum = !u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap();
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
    let header = [0x60, 0, 0, 0, 0, 32, 58, 255];
    Ethernet {
        to: [0x33, 0x33, 0xff, a, b, c],
        from: TENANT,
        ethertype: 0x86dd,
        payload: [&header[..], &source.octets(), &group.octets(), &message].concat(),
    }
}

/// This thread's namespace with two ports, and a kernel that holds [`networks`].
fn two_ports() -> (NodeConfig, Kernel, KernelState) {
    namespace();
    for (port, far) in [("eth1", "far1"), ("eth2", "far2")] {
        ip(&format!("link add {port} type veth peer name {far}"));
        ip(&format!("link set {far} up"));
    }
    let config = NodeConfig {
        ports: [
            ("one".into(), Some("eth1".parse().unwrap())),
            ("two".into(), Some("eth2".parse().unwrap())),
        ]
        .into(),
        ..steered()
    };
    let wanted = desired(&networks(), &config).state;
    let mut kernel = Kernel::open(config.clone()).unwrap();
    settled(&mut kernel, &wanted);
    (config, kernel, wanted)
}

/// Converges until there is nothing to do, and proves it by an independent look.
fn settled(kernel: &mut Kernel, wanted: &KernelState) -> Report {
    let never = AtomicBool::new(false);
    let first = kernel.converge(wanted, &never).unwrap();
    assert!(first.failures.is_empty(), "{:?}", first.failures);
    for _ in 0..10 {
        let next = kernel.converge(wanted, &never).unwrap();
        assert!(next.failures.is_empty(), "{:?}", next.failures);
        if next.plan.is_empty() {
            settle(kernel);
            let mut independent = Kernel::open(steered()).unwrap();
            assert_same(independent.observe().unwrap(), wanted);
            return first;
        }
    }
    panic!("never done");
}

#[test]
fn what_is_in_place_is_left_as_it_is_over_restarts() {
    let (config, mut kernel, wanted) = two_ports();
    let writes = kernel.writes();
    settled(&mut kernel, &wanted);
    assert_eq!(kernel.writes(), writes);
    let mut restarted = Kernel::open(config).unwrap();
    settled(&mut restarted, &wanted);
    assert_eq!(restarted.writes(), 0);
}

#[test]
fn whatever_others_break_of_a_vlan_is_noticed_and_put_right() {
    let (_, mut kernel, wanted) = two_ports();
    let port = "eth1".parse().unwrap();
    let vlan = model::value::VlanId::new(100).unwrap();
    let inner = InterfaceName::vlan(port, vlan);
    let outer = InterfaceName::outer_end(port, vlan);
    for (program, damage) in [
        ("ip", format!("link delete {inner}")),
        ("ip", format!("link delete {outer}")),
        ("ip", format!("link set {inner} nomaster")),
        (
            "ip",
            format!(
                "link set {outer} master {}",
                InterfaceName::bridge(&name("net-b"))
            ),
        ),
        ("ip", format!("link set {inner} down")),
        ("ip", format!("link set {outer} down")),
        ("ip", format!("link set {inner} mtu 1400")),
        ("ip", format!("link set {outer} mtu 1400")),
        ("ip", format!("link set {outer} alias nothing")),
        ("ip", format!("link set {inner} group 0")),
        ("bridge", format!("link set dev {inner} isolated on")),
        ("ip", "link set eth1 promisc off".to_owned()),
        ("ip", "link set eth1 down".to_owned()),
        ("tc", "filter delete dev eth1 ingress".to_owned()),
        ("tc", format!("filter delete dev {outer} ingress")),
        ("tc", "qdisc delete dev eth1 clsact".to_owned()),
        ("tc", format!("qdisc delete dev {outer} clsact")),
    ] {
        settled(&mut kernel, &wanted);
        run(program, &damage);
        assert!(kernel.is_stale().unwrap(), "unnoticed: {program} {damage}");
        let report = settled(&mut kernel, &wanted);
        assert!(!report.plan.is_empty(), "unrepaired: {program} {damage}");
    }
}

#[test]
fn a_binding_that_goes_leaves_nothing_and_the_others_undisturbed() {
    let (config, mut kernel, _) = two_ports();
    // Somebody else's, on the same hook; it is never reached.
    run(
        "tc",
        "filter add dev eth2 egress pref 9 protocol ip u32 match u32 0 0",
    );
    let foreign = run("tc", "filter show dev eth2 egress");
    let kept = InterfaceName::vlan("eth1".parse().unwrap(), model::value::VlanId::UNTAGGED);
    let number = ip(&format!("-o link show {kept}"));

    let mut fewer = networks();
    fewer.bindings.retain(|at, _| at.vlan.get() != 100);
    settled(&mut kernel, &desired(&fewer, &config).state);
    assert_eq!(ip(&format!("-o link show {kept}")), number);

    let nothing = KernelState::default();
    settled(&mut kernel, &nothing);
    assert_eq!(ip("link show group 77"), "");
    for port in ["eth1", "eth2"] {
        assert_eq!(run("tc", &format!("filter show dev {port} ingress")), "");
        assert!(!ip(&format!("link show {port}")).contains("PROMISC"));
    }
    assert!(!run("tc", "qdisc show dev eth1").contains("clsact"));
    assert_eq!(run("tc", "filter show dev eth2 egress"), foreign);
}

#[test]
fn a_port_may_change_its_form() {
    let (config, mut kernel, _) = two_ports();
    let mut untagged = networks();
    untagged.bindings.retain(|at, _| at.vlan.get() == 0);
    let whole = NodeConfig {
        vlan_form: VlanForm::Subinterfaces,
        ..config.clone()
    };
    settled(&mut kernel, &desired(&untagged, &whole).state);
    settled(&mut kernel, &desired(&networks(), &config).state);
}
