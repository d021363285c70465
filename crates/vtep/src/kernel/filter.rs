//! The packet filter in front of the VXLAN devices: table `inet l2gw`, in each underlay.
//!
//! A Linux VXLAN device takes frames from any address that knows its key, and the kernel tells the devices of an underlay
//! apart by key and UDP port alone. So before a frame reaches one:
//!
//! - where devices have VXLAN's own port, frames with one of their keys pass from the far ends declared for that key, and
//!   from nobody else: towards inside hosts, and towards remote gateways that have an underlay for themselves;
//! - where inside devices have that port, frames from a declared remote gateway with that gateway's key are steered to the
//!   WAN devices' own;
//! - frames with the key 0 from a declared far end, which BFD travels in, are steered to [`bfd`](crate::bfd);
//! - nobody reaches the ports of either in another way;
//! - what comes from and goes to each remote gateway is counted, and what others send (see [`traffic`](super::traffic));
//! - what is flooded towards the WAN is limited (see [`storm`]);
//! - frames that tenants address to the host itself (it answers on every interface for addresses of any) are dropped: where
//!   the devices are, which is the switch's own network namespace.
//!
//! Frames with keys that are not ours are not ours to judge: other VXLAN devices of the host work on.
//!
//! The sets hold pairs of address and VNI, the VNI taken as bits 96 to 119 behind the UDP header's start (RFC 7348
//! section 5). Where an element counts, it is not touched while it is wanted, and a table that takes another's place goes on
//! from its counts. Sets are written as text and read as JSON, because a set of such raw bits can only be declared in the text
//! form (`typeof`). Rules are recognised by the fingerprint in their comment, because every nft release prints them a
//! little differently.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{Display, Write as _};
use std::io;
use std::net::Ipv4Addr;

use serde::Deserialize;

use super::desired::{NodeConfig, VXLAN_PORT};
use super::elements::Count;
use super::name::fingerprint;
use super::nft::{Element, Listing};
use super::state::{Filter, GROUP, Peer};
use super::traffic::Counts;
use super::underlay::{End, Side, Underlay};
use super::{nft, storm};
use crate::bfd;

const TABLE: &str = "inet l2gw";

/// The key BFD travels with; of no network.
pub(super) const BFD_KEY: u32 = 0;

/// The sets whose elements are stated. Finding one in a set that counts is what is counted.
const SETS: [(&str, &str); 5] = [
    (WAN, "typeof ip saddr . @th,96,24; counter;"),
    (INSIDE, "typeof ip saddr . @th,96,24;"),
    (SENT, "typeof ip daddr . @th,96,24; counter;"),
    (KEYS, "typeof @th,96,24; counter;"),
    (STEERED_KEYS, "typeof @th,96,24; counter;"),
];
pub(super) const WAN: &str = "wan";
const INSIDE: &str = "inside";
pub(super) const SENT: &str = "sent";
pub(super) const KEYS: &str = "keys";
pub(super) const STEERED_KEYS: &str = "steered_keys";

pub(super) struct Rule {
    pub(super) chain: &'static str,
    pub(super) why: &'static str,
    pub(super) text: String,
}

impl Rule {
    fn fingerprint(&self) -> String {
        // With other sets a rule is another one.
        let sets = SETS.iter().flat_map(|(name, kind)| [*name, *kind]);
        let parts = [self.chain, &self.text].into_iter().chain(sets);
        let parts: Vec<&[u8]> = parts.map(str::as_bytes).collect();
        let hash = fingerprint(&parts);
        format!("{} [{hash:016x}]", self.why)
    }
}

fn rules(config: &NodeConfig, underlay: Underlay) -> Vec<Rule> {
    let rule = |chain, why, text| Rule { chain, why, text };
    let here = config.ends().into_iter().rev();
    let ends: Vec<End> = here.filter(|end| end.underlay == underlay).collect();
    let steered = || ends.iter().filter(|end| !end.has_vxlan_port());
    let peers = "ip saddr . @th,96,24";
    let (to_bfd, to_devices) = (
        |side| match side {
            Side::Wan => "declared remote gateways reach BFD",
            Side::Inside => "declared inside hosts reach BFD",
        },
        |side| match side {
            Side::Wan => "declared remote gateways reach the WAN devices",
            Side::Inside => "declared inside hosts reach the inside devices",
        },
    );
    let mut rules = Vec::new();
    for end in &ends {
        let (ip, set) = (end.ip, end.side.as_str());
        let key = format!("@th,96,24 {BFD_KEY} {peers}");
        let whose = format!("ip daddr {ip} {key} @{set}");
        rules.extend(steering(to_bfd(end.side), &whose, bfd::LISTEN_PORT));
    }
    for end in steered() {
        let (ip, set) = (end.ip, end.side.as_str());
        let whose = format!("ip daddr {ip} {peers} @{set}");
        rules.extend(steering(to_devices(end.side), &whose, end.udp_port));
    }
    for end in ends.iter().filter(|end| end.has_vxlan_port()) {
        let (ip, set) = (end.ip, end.side.as_str());
        rules.push(rule(
            "prerouting",
            to_devices(end.side),
            format!("ip daddr {ip} udp dport {VXLAN_PORT} {peers} @{set} notrack accept"),
        ));
    }
    rules.extend(steered().map(|end| {
        let ip = end.ip;
        rule(
            "prerouting",
            "what others send towards the WAN devices is counted",
            format!("ip daddr {ip} udp dport {VXLAN_PORT} @th,96,24 @{STEERED_KEYS}"),
        )
    }));
    rules.extend([
        rule(
            "prerouting",
            "nobody else sends with a key of ours",
            format!("udp dport {VXLAN_PORT} @th,96,24 @{KEYS} drop"),
        ),
        rule(
            "prerouting",
            "no first fragment hides its key in the second",
            format!("ip frag-off & 0x2000 != 0 udp dport {VXLAN_PORT} ip length < 76 drop"),
        ),
    ]);
    rules.extend(steered().map(|end| {
        rule(
            "prerouting",
            "nobody reaches the WAN devices directly",
            format!("udp dport {} drop", end.udp_port),
        )
    }));
    rules.push(rule(
        "prerouting",
        "nobody reaches BFD directly",
        format!("udp dport {} drop", bfd::LISTEN_PORT),
    ));
    if underlay == Underlay::Own {
        rules.extend([
            rule(
                "input",
                "no tenant reaches this host",
                format!("iifgroup {GROUP} drop"),
            ),
            rule(
                "forward",
                "no tenant is routed by this host",
                format!("iifgroup {GROUP} oifgroup != {GROUP} drop"),
            ),
        ]);
    }
    rules.extend(ends.iter().filter(|end| end.side == Side::Wan).map(|end| {
        let ip = end.ip;
        // First, so that known stations' frames pass nothing else.
        rule(
            "output",
            "what is sent to remote gateways is counted",
            format!("udp dport {VXLAN_PORT} ip saddr {ip} ip daddr . @th,96,24 @{SENT} accept"),
        )
    }));
    rules.extend(storm::rules(limit(config, underlay)));
    rules
}

/// What is flooded towards remote gateways leaves by their underlay.
fn limit(config: &NodeConfig, underlay: Underlay) -> Option<u32> {
    config
        .bum_limit
        .filter(|_| underlay == config.end(Side::Wan).underlay)
}

/// Frames of some far ends take another port. Most VXLAN devices but Linux's send without a checksum (RFC 7348 section
/// 5), and nft, which corrects the checksum, would turn that into a wrong one: it has to stay none.
fn steering(why: &'static str, whose: &str, port: u16) -> [Rule; 2] {
    ["udp checksum 0", ""].map(|none| {
        let then = none.replace("checksum", "checksum set");
        let text = format!(
            "udp dport {VXLAN_PORT} {none} {whose} notrack udp dport set {port} {then} accept"
        );
        Rule {
            chain: "prerouting",
            why,
            text: text.replace("  ", " "),
        }
    })
}

/// What identifies the rules for a switch in an underlay, in order.
pub(crate) fn fingerprints(config: &NodeConfig, underlay: Underlay) -> Vec<String> {
    let rules = rules(config, underlay);
    rules.iter().map(Rule::fingerprint).collect()
}

/// The whole table, in place of whatever is there, which had counted this.
pub(crate) fn replacement(
    filter: &Filter,
    counts: &Counts,
    config: &NodeConfig,
    underlay: Underlay,
) -> String {
    let mut text = format!("add table {TABLE}\ndelete table {TABLE}\ntable {TABLE} {{\n");
    for (name, held) in filter.tunnel_sets() {
        set(&mut text, name, held, counts.tunnels.get(name));
    }
    for (name, held) in filter.key_sets() {
        set(&mut text, name, held, counts.keys.get(name));
    }
    storm::sets(&mut text, limit(config, underlay));
    let rules = rules(config, underlay);
    for (chain, priority) in [
        ("prerouting", "raw"),
        ("input", "filter"),
        ("forward", "filter"),
        ("output", "raw"),
    ] {
        let _ = write!(
            text,
            "chain {chain} {{\ntype filter hook {chain} priority {priority}; policy accept;\n"
        );
        for rule in rules.iter().filter(|rule| rule.chain == chain) {
            let _ = writeln!(text, "{} comment \"{}\"", rule.text, rule.fingerprint());
        }
        text.push_str("}\n");
    }
    text.push_str("}\n");
    text
}

/// Elements added to and taken from the sets.
pub(crate) fn change(add: &Filter, remove: &Filter) -> String {
    let mut text = String::new();
    for (verb, change) in [("add", add), ("delete", remove)] {
        for (name, held) in change.tunnel_sets() {
            elements(&mut text, verb, name, held);
        }
        for (name, held) in change.key_sets() {
            elements(&mut text, verb, name, held);
        }
    }
    text
}

/// The table's removal.
pub(crate) fn removal() -> String {
    format!("delete table {TABLE}\n")
}

fn set<T: Display + Ord>(
    text: &mut String,
    name: &str,
    held: &BTreeSet<T>,
    counted: Option<&BTreeMap<T, Count>>,
) {
    let kind = SETS.iter().find(|(of, _)| *of == name);
    let kind = kind.map(|(_, kind)| *kind).unwrap_or_default();
    let _ = write!(text, "set {name} {{ {kind} ");
    if !held.is_empty() {
        let _ = write!(text, "elements = {{ {} }}; ", list(held, counted));
    }
    text.push_str("}\n");
}

fn elements<T: Display + Ord>(text: &mut String, verb: &str, name: &str, held: &BTreeSet<T>) {
    if !held.is_empty() {
        let list = list(held, None);
        let _ = writeln!(text, "{verb} element {TABLE} {name} {{ {list} }}");
    }
}

/// Elements, each with what it begins to count from.
fn list<T: Display + Ord>(held: &BTreeSet<T>, counted: Option<&BTreeMap<T, Count>>) -> String {
    let mut list = String::new();
    for element in held {
        let _ = write!(list, "{}{element}", if list.is_empty() { "" } else { ", " });
        if let Some(count) = counted.and_then(|it| it.get(element)) {
            let _ = write!(list, " {count}");
        }
    }
    list
}

impl Filter {
    /// The sets of tunnels, by name.
    pub(super) fn tunnel_sets(&self) -> [(&'static str, &BTreeSet<Peer>); 3] {
        [(WAN, &self.wan), (INSIDE, &self.inside), (SENT, &self.sent)]
    }

    /// The sets of keys, by name.
    pub(super) fn key_sets(&self) -> [(&'static str, &BTreeSet<u32>); 2] {
        [(KEYS, &self.keys), (STEERED_KEYS, &self.steered_keys)]
    }

    /// Takes in what was found in a set; whether it can be there.
    fn take(&mut self, set: &str, found: Found) -> bool {
        match (set, found) {
            (WAN, Found::Peer { concat }) => self.wan.insert(concat.into()),
            (INSIDE, Found::Peer { concat }) => self.inside.insert(concat.into()),
            (SENT, Found::Peer { concat }) => self.sent.insert(concat.into()),
            (KEYS, Found::Key(vni)) => self.keys.insert(vni),
            (STEERED_KEYS, Found::Key(vni)) => self.steered_keys.insert(vni),
            _ => false,
        }
    }
}

/// What is in place in the calling thread's network namespace; nothing where there is no table of ours.
pub(crate) fn observe() -> io::Result<Option<Filter>> {
    Ok(nft::table("inet")?.map(listed))
}

fn listed(listing: Listing<Element<Found>>) -> Filter {
    let mut filter = Filter {
        rules: listing.rules,
        ..Filter::default()
    };
    for set in listing.sets {
        if storm::is_filled_by_rules(&set.name) {
            continue;
        }
        for element in set.elements {
            let known = element.value();
            if !known.is_some_and(|found| filter.take(&set.name, found)) {
                // Not of our making: as good as a foreign rule, the whole table is written anew.
                let foreign = format!("foreign element in {}", set.name);
                filter.rules.push(foreign);
            }
        }
    }
    filter
}

/// What our sets hold.
#[derive(Deserialize)]
#[serde(untagged)]
enum Found {
    Key(u32),
    Peer { concat: (Ipv4Addr, u32) },
}
