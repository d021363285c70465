//! The limit on what is flooded towards the WAN: rules of table `inet l2gw` for what this host sends.
//!
//! Which frames are broadcast, to a group or to an unknown station is known to the VXLAN device alone, which then sends
//! them to each destination of its all-zero entry. Those entries name a UDP port of their own, so that what is flooded shows
//! in the outer header; the rules count it, drop what is too much, and put VXLAN's port there. Known stations' frames don't
//! have that port: nothing is done to them. If the rules are gone, what is flooded arrives at no VXLAN device, instead of
//! without a limit.
//!
//! | what | limit, in frames a second |
//! |---|---|
//! | from one station to groups or everybody | a quarter, so that one that goes mad leaves the others theirs |
//! | of one network to groups or everybody | `--bum-limit` |
//! | of one network to unknown stations | ten times as much: networks whose stations are not declared live on it |
//!
//! Each remote gateway's copy counts for itself, and so does what is dropped. Bursts may be as large as a second's frames.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;

use super::desired::VXLAN_PORT;
use super::elements::{self, Count, Family};
use super::filter::{Rule, SENT};
use super::state::Peer;

/// The UDP port of what WAN devices flood, between the device and the rules.
pub const WAN_FLOOD_PORT: u16 = 14790;

/// A key and who it is for: bits behind the start of the UDP header, the inner frame begins at 128.
const NETWORK: &str = "ip daddr . @th,96,24";
const STATION: &str = "ip daddr . @th,96,24 . @th,176,48";
/// The lowest bit of the first octet of a destination: a group's address (IEEE 802 section 8.2).
const TO_GROUPS: &str = "@th,135,1 1";
const TO_ONE: &str = "@th,135,1 0";

/// Sets that the rules fill: nobody else states anything in them.
const STATIONS: &str = "bum_station";
const GROUPS: &str = "bum";
const UNKNOWN: &str = "bum_unknown";
const DROPPED: &str = "bum_dropped";

/// Whether the kernel fills a set by itself.
pub(super) fn is_filled_by_rules(set: &str) -> bool {
    [STATIONS, GROUPS, UNKNOWN, DROPPED].contains(&set)
}

/// Declares the sets for a limit, if there is one.
pub(super) fn sets(text: &mut String, limit: Option<u32>) {
    if limit.is_none() {
        return;
    }
    for (name, key, timeout) in [
        (STATIONS, STATION, "10s"),
        (GROUPS, NETWORK, "1m"),
        (UNKNOWN, NETWORK, "1m"),
    ] {
        let _ = writeln!(
            text,
            "set {name} {{ typeof {key}; size 65535; flags dynamic; timeout {timeout}; }}"
        );
    }
    let _ = writeln!(
        text,
        "set {DROPPED} {{ typeof {NETWORK}; size 65535; flags dynamic; timeout 1d; counter; }}"
    );
}

/// The rules for a limit, if there is one.
pub(super) fn rules(limit: Option<u32>) -> Vec<Rule> {
    let Some(limit) = limit else {
        return Vec::new();
    };
    let flooded = format!("udp dport {WAN_FLOOD_PORT}");
    let over = |why, which: &str, set: &str, key: &str, rate: u32| Rule {
        chain: "output",
        why,
        text: format!(
            "{flooded} {which} update @{set} {{ {key} limit rate over {rate}/second burst {rate} packets }} \
             update @{DROPPED} {{ {NETWORK} }} drop"
        ),
    };
    let pass = |none: &str, then: &str| Rule {
        chain: "output",
        why: "what is flooded leaves as all else",
        text: format!("{flooded}{none} udp dport set {VXLAN_PORT}{then} accept"),
    };
    vec![
        over(
            "no station floods the WAN alone",
            TO_GROUPS,
            STATIONS,
            STATION,
            (limit / 4).max(1),
        ),
        over(
            "no network floods the WAN",
            TO_GROUPS,
            GROUPS,
            NETWORK,
            limit,
        ),
        over(
            "no network floods the WAN with frames to nobody",
            TO_ONE,
            UNKNOWN,
            NETWORK,
            limit.saturating_mul(10),
        ),
        Rule {
            chain: "output",
            why: "what is flooded to remote gateways is counted",
            text: format!("{flooded} {NETWORK} @{SENT}"),
        },
        // A checksum that is none stays none: nft would correct it.
        pass(" udp checksum 0", " udp checksum set 0"),
        pass("", ""),
    ]
}

/// The copies of frames that were not flooded to each remote gateway since the rules were put in place in the calling
/// thread's network namespace.
///
/// # Errors
/// The packet filter can't be read.
pub(super) fn dropped() -> io::Result<BTreeMap<Peer, Count>> {
    elements::counted(Family::Inet, DROPPED)
}
