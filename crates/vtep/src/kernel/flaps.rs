//! Stations that move back and forth between ports of a bridge: what a loop looks like from within.
//!
//! A frame that goes round comes in on a port that its sender is not behind, again and again. The kernel tells of each move
//! (RTM_NEWNEIGH). A station that really moves does so once in a while, and stays.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use model::value::MacAddress;

use super::entries::FdbEntry;

/// This many moves within that time are a loop: virtual machines move once a second at the very most.
const MOST_MOVES: u32 = 6;
const WINDOW: Duration = Duration::from_secs(1);

/// Stations remembered at most, some 40 bytes each.
const MOST_STATIONS: usize = 100_000;

/// Where stations were learnt last, and how often they moved lately.
#[derive(Debug, Default)]
pub(crate) struct Flaps {
    /// By bridge and address.
    stations: HashMap<(u32, MacAddress), Station>,
    found: Vec<Flap>,
}

#[derive(Debug)]
struct Station {
    port: u32,
    /// Where it was since then.
    ports: BTreeSet<u32>,
    moves: u32,
    since: Instant,
}

/// A station that was seen to flap, by numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Flap {
    pub(crate) bridge: u32,
    pub(crate) mac: MacAddress,
    pub(crate) ports: BTreeSet<u32>,
}

impl Flaps {
    /// Takes in that a bridge learnt or forgot a station.
    pub(crate) fn note(&mut self, entry: &FdbEntry, gone: bool, at: Instant) {
        let Some(bridge) = entry.controller else {
            return;
        };
        let key = (bridge, entry.mac);
        if gone || !entry.is_learnt() {
            self.stations.remove(&key);
            return;
        }
        if self.stations.len() >= MOST_STATIONS {
            self.stations.clear();
        }
        let station = self.stations.entry(key).or_insert(Station {
            port: entry.device,
            ports: BTreeSet::new(),
            moves: 0,
            since: at,
        });
        if station.port == entry.device {
            return;
        }
        if at.saturating_duration_since(station.since) > WINDOW {
            (station.moves, station.since) = (0, at);
            station.ports.clear();
        }
        station.moves += 1;
        station.ports.extend([station.port, entry.device]);
        station.port = entry.device;
        // Each further move says that it goes on.
        if station.moves >= MOST_MOVES && self.found.iter().all(|flap| flap.bridge != bridge) {
            let (mac, ports) = (entry.mac, station.ports.clone());
            self.found.push(Flap { bridge, mac, ports });
        }
    }

    /// What was found since the last call, one of each bridge.
    pub(crate) fn take(&mut self) -> Vec<Flap> {
        std::mem::take(&mut self.found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: MacAddress = MacAddress::new([2, 0, 0, 0, 0, 1]);

    /// Moves of one station, each a time and a port.
    fn flapped(moves: impl IntoIterator<Item = (u64, u32)>) -> usize {
        let start = Instant::now();
        let mut flaps = Flaps::default();
        let mut found = 0;
        for (millis, port) in moves {
            let entry = FdbEntry::learnt(9, port, MAC);
            flaps.note(&entry, false, start + Duration::from_millis(millis));
            found += flaps.take().len();
        }
        found
    }

    #[test]
    fn a_station_that_moves_back_and_forth_is_told_of() {
        let moves = |n| (0..n).map(|n| (n * 10, n as u32 % 2));
        assert_eq!(flapped(moves(6)), 0);
        assert_eq!(flapped(moves(7)), 1);
        assert_eq!(flapped(moves(9)), 3, "as long as it goes on");
    }

    #[test]
    fn a_station_that_moves_once_a_second_is_not() {
        assert_eq!(flapped((0..1000).map(|n| (n * 1000, n as u32 % 2))), 0);
        // Nor one that is heard often, and moves between three places twice a second.
        assert_eq!(flapped((0..1000).map(|n| (n * 100, n as u32 / 5 % 3))), 0);
    }

    #[test]
    fn one_that_is_forgotten_in_between_has_not_moved() {
        let start = Instant::now();
        let mut flaps = Flaps::default();
        for port in (0..100).map(|n| n % 2) {
            let entry = FdbEntry::learnt(9, port, MAC);
            flaps.note(&entry, false, start);
            flaps.note(&entry, true, start);
        }
        assert_eq!(flaps.take(), []);
    }
}
