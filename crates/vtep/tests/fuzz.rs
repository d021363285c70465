//! Whatever arrives at the BFD port, it is a packet or it is not, and sessions go on.

use std::net::Ipv4Addr;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use testkit::fuzz;
use vtep::bfd::frame::{Addresses, decapsulate, encapsulate};
use vtep::bfd::packet::ControlPacket;
use vtep::bfd::session::{Params, Session};

#[test]
fn any_datagram_is_a_packet_or_none_and_sessions_go_on() {
    let local = Ipv4Addr::new(192, 0, 2, 1);
    let mut now = Instant::now();
    let number = |n| NonZeroU32::new(n).unwrap();
    // A handshake, and what an up session says.
    let (mut a, mut b) = (
        Session::new(Params::default(), number(1), now),
        Session::new(Params::default(), number(2), now),
    );
    let mut recordings = Vec::new();
    for _ in 0..6 {
        now += Duration::from_secs(2);
        let packet = a.tick(now, 0.5).unwrap();
        recordings.push(encapsulate(&packet, local, Addresses::REMOTE).to_vec());
        let answers = [b.receive(&packet, now), b.tick(now, 0.5)];
        for packet in answers.into_iter().flatten() {
            a.receive(&packet, now);
            recordings.push(encapsulate(&packet, local, Addresses::LOCAL).to_vec());
        }
    }
    let words = ["\u{8}\0\0\0\0\0\0\0", "\u{8}\0E", "\u{e}\u{c8}", " ", "\0"];
    let mut packets = 0_u64;
    fuzz::run(&recordings, &words, |input| {
        now += Duration::from_millis(100);
        if let Ok(packet) = decapsulate(input) {
            packets += 1;
            assert_eq!(ControlPacket::decode(&packet.encode()), Ok(packet));
            let again = encapsulate(&packet, local, Addresses::REMOTE);
            assert_eq!(decapsulate(&again), Ok(packet));
            a.receive(&packet, now);
        }
        a.tick(now, 0.5);
        assert!(a.deadline() + Duration::from_secs(1) > now);
        a.status();
    });
    assert!(
        packets > 100,
        "{packets} packets: the recordings do not reach the protocol"
    );
}
