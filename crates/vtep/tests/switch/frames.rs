//! Whose frames enter, and what becomes of them: a switch between a tenant's machine on a physical port and an underlay
//! from which anybody can send.

use std::net::{Ipv4Addr, UdpSocket};
use std::sync::atomic::AtomicBool;

use model::switch::SwitchState;
use model::value::MacAddress;
use testkit::capture::{Capture, send};
use testkit::frame::{ARP, BROADCAST, Ethernet, IPV4, Mac};
use testkit::netns::{Netns, unique_prefix};
use vtep::kernel::Kernel;
use vtep::kernel::desired::{NodeConfig, desired};
use vtep::kernel::netns::{NetworkNamespace, Underlays};
use vtep::kernel::state::KernelState;

use crate::support::{assert_same, bind, config, mac, picture};

/// An EtherType nobody else uses (IEEE 802, local experimental).
pub(crate) const EXPERIMENTAL: u16 = 0x88b5;

pub(crate) const TENANT: Mac = [2, 0, 0, 0, 0xee, 1];

/// The gateway, the tenant's machine on its port, and the underlay.
pub(crate) struct Lab {
    pub(crate) gateway: Netns,
    pub(crate) tenant: Netns,
    pub(crate) underlay: Netns,
    /// Where tunnels to remote gateways run, if not on the gateway itself.
    pub(crate) elsewhere: Option<Netns>,
    underlays: Underlays,
    pub(crate) config: NodeConfig,
    switch: SwitchState,
}

impl Lab {
    pub(crate) fn new() -> Self {
        Self::with(config())
    }

    /// With the options of a switch, but for its port.
    pub(crate) fn with(config: NodeConfig) -> Self {
        Self::build(config, at_the_port(), false)
    }

    /// The same, with tunnels to remote gateways in another network namespace.
    pub(crate) fn elsewhere(config: NodeConfig) -> Self {
        Self::build(config, at_the_port(), true)
    }

    /// For what a database says, its port bound there. `elsewhere`: tunnels to remote gateways run in another network
    /// namespace, which has a cable of its own to the underlay.
    pub(crate) fn build(config: NodeConfig, switch: SwitchState, elsewhere: bool) -> Self {
        let prefix = unique_prefix();
        let [gateway, tenant, underlay] =
            ["g", "t", "u"].map(|name| Netns::create(&format!("{prefix}{name}")).unwrap());
        tenant.without_ipv6().unwrap();
        gateway
            .ip(&format!(
                "link add eth1 type veth peer name eth0 netns {}\n\
                 link add und type veth peer name und netns {}\n\
                 link set eth1 up\nlink set und up\naddr add 10.0.0.1/24 dev und",
                tenant.name(),
                underlay.name()
            ))
            .unwrap();
        tenant.ip("link set eth0 up").unwrap();
        underlay
            .ip("link set und up\n\
                 addr add 10.0.0.11/24 dev und\naddr add 10.0.0.12/24 dev und\naddr add 10.0.0.66/24 dev und")
            .unwrap();
        let elsewhere = elsewhere.then(|| Netns::create(&format!("{prefix}w")).unwrap());
        let (gateways_end, cable) = match &elsewhere {
            None => (&gateway, "und"),
            Some(elsewhere) => {
                let cable = format!(
                    "link add wan type veth peer name wan netns {}\nlink set wan up",
                    underlay.name()
                );
                elsewhere.ip(&cable).unwrap();
                underlay.ip("link set wan up").unwrap();
                (elsewhere, "wan")
            }
        };
        gateways_end
            .ip(&format!("addr add 192.0.2.1/24 dev {cable}"))
            .unwrap();
        underlay
            .ip(&format!(
                "addr add 192.0.2.2/24 dev {cable}\naddr add 192.0.2.3/24 dev {cable}\naddr add 192.0.2.66/24 dev {cable}"
            ))
            .unwrap();
        let mut underlays = Underlays::default();
        let wan_underlay = elsewhere.as_ref().map(|elsewhere| {
            let add = || Ok(underlays.add(NetworkNamespace::named(elsewhere.name())?)?);
            gateway.enter(add).unwrap()
        });
        let mut ports = config.ports.clone();
        ports.insert("up".into(), Some("eth1".parse().unwrap()));
        let config = NodeConfig {
            ports,
            wan_underlay: wan_underlay.unwrap_or_default(),
            ..config
        };
        let lab = Self {
            elsewhere,
            underlays,
            switch,
            gateway,
            tenant,
            underlay,
            config,
        };
        let wanted = lab.wanted();
        let report =
            lab.in_gateway(|kernel| kernel.converge(&wanted, &AtomicBool::new(false)).unwrap());
        assert!(report.failures.is_empty(), "{:?}", report.failures);
        lab
    }

    /// The underlay's interface that leads to remote gateways.
    pub(crate) fn wan_cable(&self) -> &'static str {
        match self.elsewhere {
            Some(_) => "wan",
            None => "und",
        }
    }

    pub(crate) fn wanted(&self) -> KernelState {
        desired(&self.switch, &self.config).state
    }

    pub(crate) fn in_gateway<T: Send>(&self, what: impl FnOnce(&mut Kernel) -> T + Send) -> T {
        self.in_gateway_as(&self.config, what)
    }

    /// The same, for a switch with other options.
    pub(crate) fn in_gateway_as<T: Send>(
        &self,
        config: &NodeConfig,
        what: impl FnOnce(&mut Kernel) -> T + Send,
    ) -> T {
        let work = || {
            let kernel = Kernel::open_with(config.clone(), self.underlays.clone());
            Ok(what(&mut kernel.unwrap()))
        };
        self.gateway.enter(work).unwrap()
    }

    pub(crate) fn seen(&self) -> KernelState {
        self.in_gateway(|kernel| kernel.observe().unwrap().clone())
    }

    /// The gateway's MAC address on the underlay.
    fn address_of_underlay(&self) -> Mac {
        let path = "/sys/class/net/und/address";
        let read = self.gateway.command("cat").arg(path).output().unwrap();
        let text = String::from_utf8(read.stdout).unwrap();
        let mac: MacAddress = text.trim().parse().unwrap();
        mac.octets()
    }

    /// What arrives at the tenant's machine while `what` happens.
    fn arriving(&self, what: impl FnOnce()) -> Vec<Ethernet> {
        let capture = Capture::start(&self.tenant, "eth0").unwrap();
        what();
        let captured = capture.finish().unwrap();
        let arrived = captured.into_iter().filter(|seen| !seen.outgoing);
        arrived.map(|seen| seen.frame).collect()
    }

    /// The tenant's machine sends.
    pub(crate) fn tenant_sends(&self, frame: &Ethernet) {
        send(&self.tenant, "eth0", frame).unwrap();
    }

    /// Whether a frame that somebody on the underlay sends through a tunnel reaches the tenant's machine.
    fn enters(&self, source: &str, to: (&str, u16), vni: u32) -> bool {
        self.entering(source, to, vni) > 0
    }

    /// How often it does.
    pub(crate) fn entering(&self, source: &str, to: (&str, u16), vni: u32) -> usize {
        let (packet, inner) = tunnelled(vni);
        let arrived = self.arriving(|| {
            let sent = self.underlay.enter(|| {
                let socket = UdpSocket::bind((source, 0))?;
                Ok(socket.send_to(&packet, to)?)
            });
            sent.unwrap();
        });
        arrived.iter().filter(|frame| **frame == inner).count()
    }
}

/// The network of the specification's picture, bound to the tenant's port.
fn at_the_port() -> SwitchState {
    let mut switch: SwitchState = picture();
    switch.bindings.clear();
    bind(&mut switch, "net-a", "up", 0);
    switch
}

/// The bytes of a VXLAN packet (RFC 7348 section 5) around a frame of ours.
pub(crate) fn tunnelled(vni: u32) -> (Vec<u8>, Ethernet) {
    let inner = Ethernet {
        to: BROADCAST,
        from: [2, 0, 0, 0, 0xdd, 1],
        ethertype: EXPERIMENTAL,
        payload: vec![7; 60],
    };
    let [_, a, b, c] = vni.to_be_bytes();
    let packet = [&[8, 0, 0, 0, a, b, c, 0][..], &inner.bytes()].concat();
    (packet, inner)
}

/// An IPv4 fragment (RFC 791) of a UDP datagram, from eight times `offset` on.
fn fragment(source: Ipv4Addr, to: Ipv4Addr, offset: u16, more: bool, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(20 + payload.len()).unwrap().to_be_bytes();
    let place = (offset | u16::from(more) << 13).to_be_bytes();
    let mut header = [
        &[0x45, 0][..],
        &length,
        &[0x12, 0x34],
        &place,
        &[64, 17, 0, 0],
        &source.octets(),
        &to.octets(),
    ]
    .concat();
    let words = header
        .chunks(2)
        .map(|w| u32::from(u16::from_be_bytes([w[0], w[1]])));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let checksum = !u16::try_from((folded & 0xffff) + (folded >> 16)).unwrap();
    header[10..12].copy_from_slice(&checksum.to_be_bytes());
    [&header, payload].concat()
}

fn octets(mac: MacAddress) -> Mac {
    mac.octets()
}

/// An ARP request from the tenant's machine (RFC 826).
pub(crate) fn who_has(target: Ipv4Addr) -> Ethernet {
    let head = [0, 1, 8, 0, 6, 4, 0, 1];
    let source = [172, 16, 0, 99];
    let payload = [&head[..], &TENANT, &source, &[0; 6], &target.octets()].concat();
    Ethernet {
        to: BROADCAST,
        from: TENANT,
        ethertype: ARP,
        payload,
    }
}

/// Who an ARP answer among the frames says has the address.
fn answer(frames: &[Ethernet]) -> Option<Mac> {
    let answer = frames
        .iter()
        .find(|frame| frame.is_arp() && frame.payload[7] == 2)?;
    answer.payload[8..14].try_into().ok()
}

pub(crate) fn frame_from(source: Mac) -> Ethernet {
    Ethernet {
        to: BROADCAST,
        from: source,
        ethertype: EXPERIMENTAL,
        payload: vec![1; 60],
    }
}

#[test]
fn frames_enter_from_declared_peers_with_their_own_key_alone() {
    let lab = Lab::new();
    for (source, to, vni, enters) in [
        ("10.0.0.11", ("10.0.0.1", 4789), 123, true),
        ("192.0.2.2", ("192.0.2.1", 4789), 456, true),
        // Nobody we know, with either key.
        ("10.0.0.66", ("10.0.0.1", 4789), 123, false),
        ("192.0.2.66", ("192.0.2.1", 4789), 456, false),
        // Known, with the other side's key, or on the other side's address.
        ("10.0.0.11", ("10.0.0.1", 4789), 456, false),
        ("192.0.2.2", ("192.0.2.1", 4789), 123, false),
        ("10.0.0.11", ("192.0.2.1", 4789), 123, false),
        ("192.0.2.2", ("10.0.0.1", 4789), 456, false),
        // Past the steering.
        ("192.0.2.2", ("192.0.2.1", 14789), 456, false),
        ("10.0.0.66", ("192.0.2.1", 14789), 456, false),
    ] {
        assert_eq!(
            lab.enters(source, to, vni),
            enters,
            "{source} to {to:?} vni {vni}"
        );
    }
}

#[test]
fn frames_without_a_checksum_enter_as_well() {
    let lab = Lab::new();
    let gateway = lab.address_of_underlay();
    for (source, to, vni) in [
        ([192, 0, 2, 2], [192, 0, 2, 1], 456),
        ([10, 0, 0, 11], [10, 0, 0, 1], 123),
    ] {
        let (packet, inner) = tunnelled(vni);
        let length = u16::try_from(8 + packet.len()).unwrap().to_be_bytes();
        // RFC 7348 section 5: the UDP checksum should be zero, and of most devices but Linux's it is.
        let udp = [&[0xc0, 0, 0x12, 0xb5][..], &length, &[0, 0], &packet].concat();
        let frame = Ethernet {
            to: gateway,
            from: [2, 0, 0, 0, 0xcc, 1],
            ethertype: IPV4,
            payload: fragment(source.into(), to.into(), 0, false, &udp),
        };
        let arrived = lab.arriving(|| send(&lab.underlay, "und", &frame).unwrap());
        assert!(arrived.contains(&inner), "from {source:?}: {arrived:?}");
    }
}

#[test]
fn a_key_cannot_be_hidden_in_a_second_fragment() {
    let lab = Lab::new();
    let to = Ipv4Addr::new(10, 0, 0, 1);
    let gateway = lab.address_of_underlay();
    let enters = |source: [u8; 4], head: usize| {
        let (packet, inner) = tunnelled(123);
        let length = u16::try_from(8 + packet.len()).unwrap().to_be_bytes();
        let udp = [&[0xc0, 0, 0x12, 0xb5][..], &length, &[0, 0], &packet].concat();
        let (first, second) = udp.split_at(head);
        let send = |offset: usize, more, part: &[u8]| {
            let offset = u16::try_from(offset / 8).unwrap();
            let frame = Ethernet {
                to: gateway,
                from: [2, 0, 0, 0, 0xcc, 1],
                ethertype: IPV4,
                payload: fragment(source.into(), to, offset, more, part),
            };
            send(&lab.underlay, "und", &frame).unwrap();
        };
        let arrived = lab.arriving(|| {
            send(0, true, first);
            send(head, false, second);
        });
        arrived.contains(&inner)
    };
    // A peer's frames may well be in fragments; its first one shows the key.
    assert!(enters([10, 0, 0, 11], 64));
    assert!(!enters([10, 0, 0, 66], 64));
    assert!(!enters([10, 0, 0, 66], 8));
}

#[test]
fn a_declared_station_cannot_be_taken_over() {
    let lab = Lab::new();
    for station in [mac(1), mac(2)] {
        lab.tenant_sends(&frame_from(octets(station)));
    }
    lab.tenant_sends(&frame_from(TENANT));
    assert_same(&lab.seen(), &lab.wanted());
    // Whereas a station nobody declared is learnt where it is.
    let fdb = lab
        .gateway
        .command("bridge")
        .args(["fdb", "show", "dev", "eth1"])
        .output()
        .unwrap();
    let fdb = String::from_utf8(fdb.stdout).unwrap();
    assert!(fdb.contains("02:00:00:00:ee:01"), "{fdb}");
    assert!(!fdb.contains("02:00:00:00:00:0"), "{fdb}");
}

#[test]
fn the_bridge_answers_for_declared_stations_and_not_for_the_host() {
    let lab = Lab::new();
    let ask = |target: &str| {
        let target = target.parse().unwrap();
        answer(&lab.arriving(|| lab.tenant_sends(&who_has(target))))
    };
    assert_eq!(ask("172.16.0.2"), Some(octets(mac(2))));
    // One that is inside hears the question itself.
    assert_eq!(ask("172.16.0.1"), None);
    assert_eq!(ask("10.0.0.1"), None);
    assert_eq!(ask("192.0.2.1"), None);
}

#[test]
fn a_port_without_vlans_passes_no_tagged_frames() {
    let lab = Lab::new();
    let hello = frame_from(TENANT);
    let tagged = |standard: u16, tag: u16| {
        let tag = [tag.to_be_bytes(), hello.ethertype.to_be_bytes()].concat();
        Ethernet {
            ethertype: standard,
            payload: [&tag, &hello.payload[..]].concat(),
            ..hello.clone()
        }
    };
    // 0x8100 is a VLAN's tag, 0x88a8 a provider's; VLAN 0 is none, but a priority.
    let cases = [
        (hello.clone(), true),
        (tagged(0x8100, 0xe000), true),
        (tagged(0x8100, 100), false),
        (tagged(0x88a8, 100), false),
    ];
    for (frame, passes) in &cases {
        let capture = Capture::start(&lab.underlay, "und").unwrap();
        lab.tenant_sends(frame);
        let tunnelled = capture.finish().unwrap().into_iter();
        let ours = tunnelled.filter_map(|seen| seen.vxlan());
        let ours = ours.filter(|vxlan| vxlan.inner.from == TENANT).count();
        assert_eq!(ours > 0, *passes, "out: {frame:?}");

        let bytes = [&[8, 0, 0, 0, 0, 1, 200, 0][..], &frame.bytes()].concat();
        let arrived = lab.arriving(|| {
            let sent = lab.underlay.enter(|| {
                let socket = UdpSocket::bind(("192.0.2.2", 0))?;
                Ok(socket.send_to(&bytes, ("192.0.2.1", 4789))?)
            });
            sent.unwrap();
        });
        let arrived = arrived.iter().filter(|seen| seen.from == TENANT).count();
        assert_eq!(arrived > 0, *passes, "in: {frame:?}");
    }
    // Nobody learns from what is not let in.
    lab.tenant_sends(&Ethernet {
        from: [2, 0, 0, 0, 0xee, 9],
        ..tagged(0x8100, 100)
    });
    let fdb = lab
        .gateway
        .command("bridge")
        .args(["fdb", "show", "dev", "eth1"])
        .output()
        .unwrap();
    let fdb = String::from_utf8(fdb.stdout).unwrap();
    assert!(fdb.contains("02:00:00:00:ee:01"), "{fdb}");
    assert!(!fdb.contains("02:00:00:00:ee:09"), "{fdb}");
}

#[test]
fn what_was_learnt_of_a_station_is_forgotten_when_its_row_says_it_moved() {
    let lab = Lab::new();
    let never = AtomicBool::new(false);
    let station = MacAddress::new([2, 0, 0, 0, 0xdd, 1]);
    let says_hello_from = |host: &str| {
        let (packet, _) = tunnelled(123);
        let sent = lab.underlay.enter(|| {
            let socket = UdpSocket::bind((host, 0))?;
            Ok(socket.send_to(&packet, ("10.0.0.1", 4789))?)
        });
        sent.unwrap();
    };
    let inside = vtep::kernel::name::InterfaceName::inside(&crate::support::name("net-a"));
    let learnt = || {
        let shown = lab
            .gateway
            .command("bridge")
            .args(["fdb", "show", "dev", inside.as_str()])
            .output()
            .unwrap();
        let shown = String::from_utf8(shown.stdout).unwrap();
        let lines = shown
            .lines()
            .filter(|line| line.contains(&station.to_string()));
        let dst = lines.filter_map(|line| line.split("dst ").nth(1)?.split(' ').next());
        dst.map(str::to_owned).collect::<Vec<_>>()
    };
    lab.in_gateway(|kernel| {
        let at_home = lab.wanted();
        let mut abroad = lab.switch.clone();
        crate::support::station(
            &mut abroad,
            "net-a",
            station,
            crate::support::wan("192.0.2.2", 456),
            None,
        );
        let abroad = desired(&abroad, &lab.config).state;
        for host in ["10.0.0.11", "10.0.0.12", "10.0.0.11"] {
            for _ in 0..200 {
                says_hello_from(host);
                if learnt() == [host] {
                    break;
                }
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            assert_eq!(learnt(), [host]);
            for wanted in [&abroad, &at_home] {
                let report = kernel.converge(wanted, &never).unwrap();
                assert!(report.failures.is_empty(), "{:?}", report.failures);
                assert_eq!(learnt(), Vec::<String>::new());
                // What it says while its row is behind teaches the device again; the next row ends it.
                says_hello_from(host);
            }
            // Another look starts from scratch.
            kernel.distrust();
        }
    });
}
