//! Tunnels to remote gateways that run in a network namespace of their own: both sides stand on VXLAN's own port, so a WAN
//! key may equal the inside key of the same network or of another.

use std::sync::atomic::AtomicBool;

use model::switch::SwitchState;
use testkit::capture::Capture;
use testkit::netns::Netns;
use vtep::kernel::name::InterfaceName;

use crate::frames::{Lab, TENANT, frame_from};
use crate::support::{add_at, assert_same, bind, config, flood, inside, mac, name, station, wan};

/// The network of the tenant's port has key 123 inside and towards one remote gateway; towards another one it has 456, which
/// is the inside key of the other network.
fn same_keys() -> SwitchState {
    let mut switch = SwitchState::default();
    add_at(&mut switch, "net-a", 123, 0);
    switch.bindings.clear();
    add_at(&mut switch, "net-b", 456, 8);
    bind(&mut switch, "net-a", "up", 0);
    flood(&mut switch, "net-a", inside("10.0.0.11"));
    flood(&mut switch, "net-a", wan("192.0.2.2", 123));
    flood(&mut switch, "net-a", wan("192.0.2.3", 456));
    flood(&mut switch, "net-b", inside("10.0.0.12"));
    let there = wan("192.0.2.2", 123);
    station(&mut switch, "net-a", mac(2), there, Some("172.16.0.2"));
    switch
}

fn lab() -> Lab {
    Lab::build(config(), same_keys(), true)
}

/// Who a broadcast of the tenant left for on an interface of the underlay: far end and key, sorted.
fn left(lab: &Lab, interface: &str) -> Vec<(String, u32)> {
    let capture = Capture::start(&lab.underlay, interface).unwrap();
    lab.tenant_sends(&frame_from(TENANT));
    let captured = capture.finish().unwrap();
    let packets = captured.into_iter().filter_map(|seen| seen.vxlan());
    let ours = packets.filter(|packet| packet.inner.from == TENANT);
    let mut left: Vec<_> = ours
        .map(|packet| (packet.destination.to_string(), packet.vni))
        .collect();
    left.sort();
    left
}

fn shown(netns: &Netns, program: &str, arguments: &str) -> String {
    let mut command = netns.command(program);
    let output = command.args(arguments.split(' ')).output().unwrap();
    assert!(output.status.success(), "{program} {arguments}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn equal_keys_inside_and_on_the_wan_are_told_apart_on_one_udp_port() {
    let lab = lab();
    assert_same(&lab.seen(), &lab.wanted());
    let devices = shown(&lab.gateway, "ip", "-d link show type vxlan");
    assert_eq!(devices.matches("dstport 4789").count(), 4, "{devices}");
    // Links take their time to come up, and the underlay to find neighbours.
    for interface in ["und", "wan"] {
        for _ in 0..100 {
            if !left(&lab, interface).is_empty() {
                break;
            }
        }
    }
    // One copy each way that is declared, and none with a key where it does not belong.
    assert_eq!(left(&lab, "und"), [("10.0.0.11".to_owned(), 123)]);
    assert_eq!(
        left(&lab, "wan"),
        [("192.0.2.2".to_owned(), 123), ("192.0.2.3".to_owned(), 456)]
    );
    for (source, to, vni, copies) in [
        ("10.0.0.11", "10.0.0.1", 123, 1),
        ("192.0.2.2", "192.0.2.1", 123, 1),
        ("192.0.2.3", "192.0.2.1", 456, 1),
        // With a key that another one may use.
        ("192.0.2.2", "192.0.2.1", 456, 0),
        ("192.0.2.3", "192.0.2.1", 123, 0),
        ("10.0.0.11", "10.0.0.1", 456, 0),
        // Of the other network.
        ("10.0.0.12", "10.0.0.1", 456, 0),
        // Nobody we know.
        ("192.0.2.66", "192.0.2.1", 123, 0),
        ("192.0.2.66", "192.0.2.1", 456, 0),
        ("10.0.0.66", "10.0.0.1", 123, 0),
    ] {
        let arrived = lab.entering(source, (to, 4789), vni);
        assert_eq!(arrived, copies, "{source} to {to} key {vni}");
    }
}

#[test]
fn a_second_run_writes_nothing_and_what_others_do_is_put_right() {
    let lab = lab();
    let never = AtomicBool::new(false);
    let wanted = lab.wanted();
    let elsewhere = lab.elsewhere.as_ref().unwrap();
    let gateway = &lab.gateway;
    let device = InterfaceName::wan(&name("net-a"), model::value::Vni::new(123).unwrap());
    lab.in_gateway(|kernel| {
        let report = kernel.converge(&wanted, &never).unwrap();
        assert!(report.plan.is_empty(), "{}", report.plan);
        assert_eq!(kernel.writes(), 0);
        let here = format!(
            "link delete {device}\n\
             link add {device} group 77 type vxlan id 123 local 192.0.2.1 dstport 14789 nolearning"
        );
        let meddlings: [(&str, &dyn Fn()); 5] = [
            ("its device is gone", &|| {
                gateway.ip(&format!("link delete {device}")).unwrap();
            }),
            ("its device runs in another underlay", &|| {
                gateway.ip(&here).unwrap();
            }),
            ("the packet filter there is gone", &|| {
                shown(elsewhere, "nft", "flush ruleset");
            }),
            ("somebody else may send", &|| {
                let element = "add element inet l2gw wan { 192.0.2.66 . 123 }";
                shown(elsewhere, "nft", element);
            }),
            ("the packet filter here is gone", &|| {
                shown(gateway, "nft", "flush ruleset");
            }),
        ];
        for (what, meddle) in meddlings {
            meddle();
            assert!(kernel.is_stale().unwrap(), "not noticed: {what}");
            let report = kernel.converge(&wanted, &never).unwrap();
            assert!(report.failures.is_empty(), "{what}: {:?}", report.failures);
            assert!(!report.plan.is_empty(), "{what}");
            assert_same(&lab.seen(), &wanted);
        }
        // A network that loops is cut off remote gateways, wherever they are.
        let mut cut = wanted.clone();
        cut.cut(&[InterfaceName::bridge(&name("net-a"))].into());
        assert_ne!(cut, wanted);
        for state in [&cut, &wanted] {
            kernel.converge(state, &never).unwrap();
            assert_same(&lab.seen(), state);
        }
    });
}
