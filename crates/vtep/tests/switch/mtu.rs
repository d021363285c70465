//! Packets of 1,500 bytes over a WAN whose links carry 1,500: an answer or fragments, never silence.

use std::net::{Ipv4Addr, Ipv6Addr};

use testkit::capture::{Capture, send};
use testkit::frame::{BROADCAST, Ethernet, IPV4};

use crate::frames::{EXPERIMENTAL, Lab, TENANT};
use crate::support::{config, mac};

const IPV6: u16 = 0x86dd;

/// What the links carry, and what is left of it for tenants.
const LINK: usize = 1500;
const TENANTS: u32 = 1450;

/// A UDP packet of that length to the station behind the remote gateway (RFC 791).
fn ipv4(length: usize, dont_fragment: bool) -> Ethernet {
    let [l0, l1] = u16::try_from(length).unwrap().to_be_bytes();
    let flags = if dont_fragment { 0x40 } else { 0 };
    let head = [0x45, 0, l0, l1, 0, 7, flags, 0, 64, 17, 0, 0];
    let source = Ipv4Addr::new(172, 16, 0, 99).octets();
    let to = Ipv4Addr::new(172, 16, 0, 2).octets();
    let mut payload = [&head[..], &source, &to].concat();
    let words = payload.chunks(2);
    let sum: u32 = words
        .map(|w| u32::from(u16::from_be_bytes([w[0], w[1]])))
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let checksum = !u16::try_from((folded & 0xffff) + (folded >> 16)).unwrap();
    payload[10..12].copy_from_slice(&checksum.to_be_bytes());
    payload.resize(length, 0x5a);
    to_station(IPV4, payload)
}

/// The same by IPv6 (RFC 8200), where nobody on the way fragments.
fn ipv6(length: usize) -> Ethernet {
    let [l0, l1] = u16::try_from(length - 40).unwrap().to_be_bytes();
    let source = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0x99).octets();
    let to = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2).octets();
    let head = [0x60, 0, 0, 0, l0, l1, 17, 64];
    let mut payload = [&head[..], &source, &to].concat();
    payload.resize(length, 0x5a);
    to_station(IPV6, payload)
}

fn to_station(ethertype: u16, payload: Vec<u8>) -> Ethernet {
    Ethernet {
        to: mac(2).octets(),
        from: TENANT,
        ethertype,
        payload,
    }
}

/// What is left for the underlay, and what comes back to the tenant.
fn sent(lab: &Lab, frame: &Ethernet) -> (Vec<Ethernet>, Vec<Ethernet>) {
    let [wan, home] = [(&lab.underlay, lab.wan_cable()), (&lab.tenant, "eth0")]
        .map(|(netns, interface)| Capture::start(netns, interface).unwrap());
    send(&lab.tenant, "eth0", frame).unwrap();
    let received = |capture: Capture| {
        let seen = capture.finish().unwrap().into_iter();
        let seen = seen.filter(|seen| !seen.outgoing);
        seen.map(|seen| seen.frame).collect::<Vec<_>>()
    };
    let mut home = received(home);
    // The host's own stack on the other end of the cable has things to say as well.
    home.retain(|frame| frame.to == TENANT);
    (received(wan), home)
}

/// Labs of both forms, once a frame gets through.
fn labs() -> [Lab; 2] {
    [Lab::new(), Lab::elsewhere(config())].map(ready)
}

fn ready(lab: Lab) -> Lab {
    let hello = Ethernet {
        to: BROADCAST,
        from: TENANT,
        ethertype: EXPERIMENTAL,
        payload: vec![1; 60],
    };
    for _ in 0..200 {
        let (wan, _) = sent(&lab, &hello);
        if wan.iter().any(|frame| frame.vxlan().is_some()) {
            return lab;
        }
    }
    panic!("nothing gets through");
}

/// Bytes of outer IPv4 packets to the remote gateway.
fn outer(wan: &[Ethernet]) -> Vec<usize> {
    let to = [192, 0, 2, 2];
    let packets = wan.iter().filter(|frame| frame.ethertype == IPV4);
    let packets = packets.filter(|frame| frame.payload[16..20] == to);
    packets.map(|frame| frame.payload.len()).collect()
}

#[test]
fn what_fits_passes_in_one_piece() {
    for lab in labs() {
        for frame in [ipv4(1450, true), ipv4(1450, false), ipv6(1450)] {
            let (wan, home) = sent(&lab, &frame);
            assert_eq!(outer(&wan), [LINK], "{wan:?}");
            assert_eq!(home, []);
        }
    }
}

#[test]
fn what_may_be_fragmented_arrives_in_outer_fragments() {
    for lab in labs() {
        let (wan, home) = sent(&lab, &ipv4(LINK, false));
        let pieces = outer(&wan);
        assert_eq!(pieces.len(), 2, "{pieces:?}");
        // Each with a header of its own.
        assert_eq!(pieces.iter().sum::<usize>(), LINK + 50 + 20);
        assert!(pieces.iter().all(|piece| *piece <= LINK), "{pieces:?}");
        assert_eq!(home, []);
    }
}

#[test]
fn what_may_not_is_answered_with_the_size_that_fits() {
    labs().iter().for_each(is_answered);
}

fn is_answered(lab: &Lab) {
    let (wan, home) = sent(lab, &ipv4(LINK, true));
    assert_eq!(outer(&wan), Vec::<usize>::new());
    let [answer] = &home[..] else {
        panic!("{home:?}");
    };
    // ICMP "fragmentation needed" (RFC 1191 section 4) from the station it was for.
    assert_eq!((answer.ethertype, answer.payload[9]), (IPV4, 1));
    let icmp = &answer.payload[20..];
    assert_eq!(icmp[..2], [3, 4]);
    assert_eq!(u32::from(u16::from_be_bytes([icmp[6], icmp[7]])), TENANTS);

    let (wan, home) = sent(lab, &ipv6(LINK));
    assert_eq!(outer(&wan), Vec::<usize>::new());
    let [answer] = &home[..] else {
        panic!("{home:?}");
    };
    // ICMPv6 "packet too big" (RFC 4443 section 3.2).
    assert_eq!((answer.ethertype, answer.payload[6]), (IPV6, 58));
    let icmp = &answer.payload[40..];
    assert_eq!(icmp[0], 2);
    let mtu = u32::from_be_bytes(icmp[4..8].try_into().unwrap());
    assert_eq!(mtu, TENANTS);
}
