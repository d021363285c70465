//! What comes from and goes to each remote gateway is counted for itself, and so is what nobody declared; of a port, what
//! passes.

use std::net::UdpSocket;
use std::sync::atomic::AtomicBool;

use model::switch::SwitchState;
use testkit::capture::send_times;
use testkit::frame::{BROADCAST, Ethernet};
use vtep::kernel::counters;
use vtep::kernel::desired::{NodeConfig, desired};
use vtep::kernel::state::Peer;
use vtep::kernel::traffic::{Count, Traffic, TunnelTraffic};
use vtep::kernel::underlay::Side;

use crate::frames::{EXPERIMENTAL, Lab, TENANT, tunnelled};
use crate::support::{assert_same, bind, config, flood, mac, name, picture, wan};

/// Of a frame of ours in a tunnel: IPv4, UDP, VXLAN and Ethernet headers, and 60 bytes.
const LENGTH: u64 = 20 + 8 + 8 + 14 + 60;

const FIRST: &str = "192.0.2.2";
const SECOND: &str = "192.0.2.3";

/// The network at the tenant's port, flooded to two remote gateways with the same key.
fn two_remote_gateways() -> SwitchState {
    let mut switch = picture();
    switch.bindings.clear();
    bind(&mut switch, "net-a", "up", 0);
    flood(&mut switch, "net-a", wan(SECOND, 456));
    switch
}

fn of(ip: &str) -> Peer {
    let ip = ip.parse().unwrap();
    Peer { ip, vni: 456 }
}

fn count(packets: u64) -> Count {
    let bytes = packets * LENGTH;
    Count { packets, bytes }
}

/// A lab whose links are up, and which counts from zero again.
struct Counting {
    lab: Lab,
    before: Traffic,
}

impl Counting {
    fn new(elsewhere: bool) -> Self {
        let lab = Lab::build(config(), two_remote_gateways(), elsewhere);
        let mut counting = Self {
            lab,
            before: Traffic::default(),
        };
        for _ in 0..400 {
            counting.tenant_sends(BROADCAST, 1);
            counting.arrive(FIRST, ("192.0.2.1", 4789), 456, 1);
            counting.arrive("10.0.0.66", ("10.0.0.1", 4789), 123, 1);
            let seen = counting.read();
            let tunnels = seen.tunnels.values();
            let mut sent = tunnels.map(|tunnel| tunnel.sent.packets);
            if seen.tunnels.len() == 2
                && sent.all(|packets| packets > 0)
                && seen.tunnels[&of(FIRST)].received.packets > 0
                && seen.undeclared[&(Side::Inside, 123)] > 0
            {
                // What waited for an address of the underlay, or for a processor, has left as well when they stand still.
                let mut quiet = 0;
                for _ in 0..200 {
                    std::thread::sleep(std::time::Duration::from_millis(100));
                    let now = counting.read();
                    quiet = if now == counting.before { quiet + 1 } else { 0 };
                    counting.before = now;
                    if quiet == 3 {
                        return counting;
                    }
                }
            }
        }
        panic!("nothing gets through: {:?}", counting.read());
    }

    fn read(&self) -> Traffic {
        self.lab.in_gateway(|kernel| kernel.traffic().unwrap())
    }

    /// What was counted of a tunnel since the beginning.
    fn tunnel(&self, ip: &str) -> TunnelTraffic {
        let now = self.read().tunnels[&of(ip)];
        let before = self.before.tunnels[&of(ip)];
        let since = |now: Count, before: Count| Count {
            packets: now.packets - before.packets,
            bytes: now.bytes - before.bytes,
        };
        TunnelTraffic {
            received: since(now.received, before.received),
            sent: since(now.sent, before.sent),
            flood_dropped: now.flood_dropped - before.flood_dropped,
        }
    }

    fn undeclared(&self, side: Side, key: u32) -> u64 {
        self.read().undeclared[&(side, key)] - self.before.undeclared[&(side, key)]
    }

    /// Somebody of the underlay sends to the gateway.
    fn arrive(&self, source: &str, to: (&str, u16), vni: u32, times: usize) {
        let (packet, _) = tunnelled(vni);
        let sent = self.lab.underlay.enter(|| {
            let socket = UdpSocket::bind((source, 0))?;
            for _ in 0..times {
                socket.send_to(&packet, to)?;
            }
            Ok(())
        });
        sent.unwrap();
    }

    fn tenant_sends(&self, to: [u8; 6], times: usize) {
        let frame = Ethernet {
            to,
            from: TENANT,
            ethertype: EXPERIMENTAL,
            payload: vec![9; 60],
        };
        send_times(&self.lab.tenant, "eth0", &frame, times).unwrap();
    }

    /// Waits until it is so, and asserts that it stays so while nothing is sent.
    fn comes_to<T: PartialEq + std::fmt::Debug>(wanted: T, mut look: impl FnMut() -> T) {
        for _ in 0..200 {
            if look() == wanted {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        assert_eq!(look(), wanted);
    }
}

#[test]
fn each_remote_gateway_is_counted_for_itself() {
    each_is_counted_for_itself(&Counting::new(false));
}

#[test]
fn each_remote_gateway_in_another_network_namespace_is_counted_for_itself() {
    each_is_counted_for_itself(&Counting::new(true));
}

fn each_is_counted_for_itself(counting: &Counting) {
    // One sends, the other does not.
    counting.arrive(FIRST, ("192.0.2.1", 4789), 456, 7);
    let received = |ip| move || counting.tunnel(ip).received;
    Counting::comes_to(count(7), received(FIRST));
    assert_eq!(counting.tunnel(SECOND), TunnelTraffic::default());

    // A copy of what is flooded for each, and what is for a declared station goes to one.
    counting.tenant_sends(BROADCAST, 5);
    counting.tenant_sends(mac(3).octets(), 3);
    let sent = |ip| move || counting.tunnel(ip).sent;
    Counting::comes_to(count(5), sent(FIRST));
    Counting::comes_to(count(8), sent(SECOND));

    // Nobody declared these: they don't enter, and are nobody's.
    counting.arrive("192.0.2.66", ("192.0.2.1", 4789), 456, 4);
    counting.arrive("10.0.0.66", ("10.0.0.1", 4789), 123, 6);
    Counting::comes_to(4, || counting.undeclared(Side::Wan, 456));
    Counting::comes_to(6, || counting.undeclared(Side::Inside, 123));
    // Nor is a declared one with a key that is not its own.
    counting.arrive(FIRST, ("192.0.2.1", 4789), 457, 2);
    assert_eq!(counting.tunnel(FIRST).received, count(7));
    assert_eq!(counting.tunnel(SECOND).received, count(0));
}

#[test]
fn what_is_not_flooded_beyond_the_limit_is_counted_by_remote_gateway() {
    let config = NodeConfig {
        bum_limit: Some(40),
        ..config()
    };
    let mut switch = two_remote_gateways();
    let net = switch.logical_switches.get_mut(&name("net-a")).unwrap();
    net.flood.remove(&wan(SECOND, 456));
    let counting = Counting {
        lab: Lab::build(config, switch, false),
        before: Traffic::default(),
    };
    Counting::comes_to(true, || {
        counting.tenant_sends(BROADCAST, 100);
        counting.read().tunnels[&of(FIRST)].flood_dropped >= 100
    });
    let tunnels = counting.read().tunnels;
    assert!(tunnels[&of(FIRST)].sent.packets > 0, "{tunnels:?}");
    assert_eq!(tunnels[&of(SECOND)], TunnelTraffic::default());
}

#[test]
fn counters_outlive_restarts_and_changes_and_end_with_their_tunnel() {
    let counting = Counting::new(false);
    counting.arrive(FIRST, ("192.0.2.1", 4789), 456, 7);
    counting.arrive(SECOND, ("192.0.2.1", 4789), 456, 2);
    Counting::comes_to(count(2), || counting.tunnel(SECOND).received);
    let counted = counting.read();
    let never = AtomicBool::new(false);

    // A switch that starts has nothing to write.
    let wanted = counting.lab.wanted();
    let report = counting
        .lab
        .in_gateway(|kernel| kernel.converge(&wanted, &never).unwrap());
    assert!(report.plan.is_empty(), "{}", report.plan);
    assert_eq!(counting.read(), counted);

    // One comes.
    let mut more = two_remote_gateways();
    flood(&mut more, "net-a", wan("192.0.2.4", 456));
    let converge = |switch: &SwitchState, config: &NodeConfig| {
        let lab = &counting.lab;
        let wanted = desired(switch, config).state;
        let report = lab.in_gateway_as(config, |kernel| {
            let report = kernel.converge(&wanted, &never).unwrap();
            assert!(report.failures.is_empty(), "{:?}", report.failures);
            report.plan.to_string()
        });
        assert_same(&lab.seen(), &wanted);
        report
    };
    converge(&more, &counting.lab.config);
    let mut expected = counted.clone();
    expected
        .tunnels
        .insert(of("192.0.2.4"), TunnelTraffic::default());
    assert_eq!(counting.read(), expected);

    // Other options are other rules: the table is replaced.
    let unlimited = NodeConfig {
        bum_limit: None,
        ..counting.lab.config.clone()
    };
    let plan = converge(&more, &unlimited);
    assert!(plan.contains("replace filter"), "{plan}");
    assert_eq!(counting.read(), expected);

    // One goes, and comes back.
    let mut fewer = two_remote_gateways();
    let net = fewer.logical_switches.get_mut(&name("net-a")).unwrap();
    net.flood.remove(&wan(SECOND, 456));
    net.macs.remove(&mac(3));
    converge(&fewer, &unlimited);
    let mut expected = counted.clone();
    expected.tunnels.remove(&of(SECOND));
    assert_eq!(counting.read(), expected);
    converge(&two_remote_gateways(), &unlimited);
    expected
        .tunnels
        .insert(of(SECOND), TunnelTraffic::default());
    assert_eq!(counting.read(), expected);
}

#[test]
fn a_port_in_a_bridge_itself_counts_what_passes_and_no_tagged_frames() {
    let counting = Counting::new(false);
    let lab = &counting.lab;
    let read = || {
        let counted = lab.gateway.enter(|| Ok(counters::read()?)).unwrap();
        counted[&"eth1".parse().unwrap()]
    };
    let before = read();
    let tagged = Ethernet {
        to: BROADCAST,
        from: TENANT,
        ethertype: 0x8100,
        payload: [&[0, 7][..], &EXPERIMENTAL.to_be_bytes(), &[9; 60]].concat(),
    };
    send_times(&lab.tenant, "eth0", &tagged, 50).unwrap();
    counting.tenant_sends(BROADCAST, 7);
    counting.arrive(FIRST, ("192.0.2.1", 4789), 456, 4);
    let since = || {
        let now = read();
        [
            now.received_packets - before.received_packets,
            now.received_bytes - before.received_bytes,
            now.sent_packets - before.sent_packets,
            now.sent_bytes - before.sent_bytes,
        ]
    };
    Counting::comes_to([7, 7 * 74, 4, 4 * 74], since);

    // Another port comes: the guard is put in place anew, and goes on from where it was.
    lab.gateway
        .ip("link add eth2 type veth peer name eth3")
        .unwrap();
    let ports = [("up", "eth1"), ("more", "eth2")];
    let ports = ports.map(|(name, device)| (name.into(), Some(device.parse().unwrap())));
    let config = NodeConfig {
        ports: ports.into(),
        ..lab.config.clone()
    };
    let mut switch = two_remote_gateways();
    bind(&mut switch, "net-a", "more", 0);
    let wanted = desired(&switch, &config).state;
    let report = lab.in_gateway_as(&config, |kernel| {
        kernel.converge(&wanted, &AtomicBool::new(false)).unwrap()
    });
    assert!(report.failures.is_empty(), "{:?}", report.failures);
    assert_eq!(since(), [7, 7 * 74, 4, 4 * 74]);
}
