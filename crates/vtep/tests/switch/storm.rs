//! What a network floods towards the WAN is limited, what it sends to declared stations is not.

use std::time::{Duration, Instant};

use testkit::capture::{Capture, Captured, send_times};
use testkit::frame::{BROADCAST, Ethernet, Mac, Vxlan};
use vtep::kernel::desired::NodeConfig;

use crate::frames::{EXPERIMENTAL, Lab, TENANT};
use crate::support::{config, mac};

/// Frames a second of a network; a station has 25, unknown stations get 1,000.
const LIMIT: u32 = 100;

fn frame(from: Mac, to: Mac, mark: u8) -> Ethernet {
    Ethernet {
        to,
        from,
        ethertype: EXPERIMENTAL,
        payload: vec![mark; 60],
    }
}

/// What left for the remote gateway that floods.
fn left(captured: Vec<Captured>) -> Vec<Vxlan> {
    let packets = captured.into_iter().filter_map(|seen| seen.vxlan());
    packets
        .filter(|packet| packet.destination.to_string() == "192.0.2.2")
        .collect()
}

fn with_limit(bum_limit: Option<u32>) -> NodeConfig {
    NodeConfig {
        bum_limit,
        ..config()
    }
}

struct Storm {
    lab: Lab,
    began: Instant,
}

impl Storm {
    fn new(limit: Option<u32>) -> Self {
        Self::at(Lab::with(with_limit(limit)))
    }

    fn at(lab: Lab) -> Self {
        let storm = Self {
            lab,
            began: Instant::now(),
        };
        storm.until_links_are_up();
        storm
    }

    /// Links take their time, and the underlay has to find neighbours.
    fn until_links_are_up(&self) {
        for _ in 0..200 {
            if !self
                .passed(&frame([2, 0, 0, 0, 0xee, 0xff], BROADCAST, 0), 1)
                .is_empty()
            {
                return;
            }
        }
        panic!("nothing gets through");
    }

    /// Sends a frame many times and returns what leaves of it.
    fn passed(&self, frame: &Ethernet, times: usize) -> Vec<Vxlan> {
        let capture = Capture::start(&self.lab.underlay, self.lab.wan_cable()).unwrap();
        send_times(&self.lab.tenant, "eth0", frame, times).unwrap();
        let mut left = left(capture.finish().unwrap());
        left.retain(|packet| packet.inner == *frame);
        left
    }

    /// How many frames a rate allows for since the beginning, its burst included.
    fn allowance(&self, rate: usize) -> usize {
        rate + rate * (self.began.elapsed() + Duration::from_secs(1)).as_millis() as usize / 1000
    }
}

#[test]
fn a_flood_of_one_station_is_limited_and_the_others_get_through() {
    is_limited_and_the_others_get_through(&Storm::new(Some(LIMIT)));
}

#[test]
fn a_flood_is_limited_in_another_network_namespace_too() {
    let lab = Lab::elsewhere(with_limit(Some(LIMIT)));
    is_limited_and_the_others_get_through(&Storm::at(lab));
}

fn is_limited_and_the_others_get_through(storm: &Storm) {
    let flood = storm.passed(&frame(TENANT, BROADCAST, 1), 2000);
    let most = storm.allowance(25);
    assert!(
        (20..=most).contains(&flood.len()),
        "{} of at most {most}",
        flood.len()
    );
    // On the wire it looks as all VXLAN does.
    assert!(flood.iter().all(|packet| packet.vni == 456));

    for other in 0..5 {
        let asks = frame([2, 0, 0, 0, 0xee, 0x10 + other], BROADCAST, 2);
        assert_eq!(storm.passed(&asks, 4).len(), 4, "another station asks");
    }
    let to_station = frame(TENANT, mac(2).octets(), 3);
    assert_eq!(storm.passed(&to_station, 3000).len(), 3000, "declared");

    let dropped = storm.lab.in_gateway(|kernel| kernel.flood_drops().unwrap());
    assert_eq!(dropped.keys().copied().collect::<Vec<_>>(), [456]);
    assert_eq!(dropped[&456], 2000 - flood.len() as u64);
}

#[test]
fn a_flood_of_many_stations_and_one_to_nobody_are_limited() {
    let storm = Storm::new(Some(LIMIT));
    let capture = Capture::start(&storm.lab.underlay, "und").unwrap();
    for station in 0..100 {
        let from = [2, 0, 0, 0, 0xed, station];
        send_times(&storm.lab.tenant, "eth0", &frame(from, BROADCAST, 4), 10).unwrap();
    }
    let mut left = left(capture.finish().unwrap());
    left.retain(|packet| packet.inner.payload == vec![4; 60]);
    let left = left.len();
    let most = storm.allowance(LIMIT as usize);
    assert!(left <= most, "{left} of at most {most}");

    let nobody = frame(TENANT, mac(0x999).octets(), 5);
    let passed = storm.passed(&nobody, 20_000).len();
    let most = storm.allowance(10 * LIMIT as usize);
    assert!((900..=most).contains(&passed), "{passed} of at most {most}");
}

#[test]
fn without_a_limit_nothing_is_dropped() {
    let storm = Storm::new(None);
    assert_eq!(storm.passed(&frame(TENANT, BROADCAST, 6), 3000).len(), 3000);
    assert!(
        storm
            .lab
            .in_gateway(|kernel| kernel.flood_drops().unwrap())
            .is_empty()
    );
}
