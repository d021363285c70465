//! The packet filter in front of the VXLAN devices: table `inet l2gw`.
//!
//! A Linux VXLAN device takes frames from any address that knows its key, and the kernel tells devices apart by key and
//! UDP port alone. So before a frame reaches one:
//!
//! - frames from a declared remote gateway with that gateway's key are steered to the WAN devices' own UDP port;
//! - frames with an inside key pass from the inside hosts declared for that key, and from nobody else;
//! - frames with the key 0 from a declared far end, which BFD travels in, are steered to [`bfd`](crate::bfd);
//! - nobody reaches the ports of either in another way;
//! - what is flooded towards the WAN is limited (see [`storm`]);
//! - frames that tenants address to the host itself (it answers on every interface for addresses of any) are dropped.
//!
//! Frames with keys that are not ours are not ours to judge: other VXLAN devices of the host work on.
//!
//! The sets hold pairs of source address and VNI, the VNI taken as bits 96 to 119 behind the UDP header's start (RFC 7348
//! section 5). They are written as text and read as JSON, because a set of such raw bits can only be declared in the text
//! form (`typeof`). Rules are recognised by the fingerprint in their comment, because every nft release prints them a
//! little differently.

use std::collections::BTreeSet;
use std::fmt::{Display, Write as _};
use std::io;
use std::net::Ipv4Addr;

use serde::Deserialize;

use super::desired::{NodeConfig, VXLAN_PORT, WAN_LISTEN_PORT};
use super::name::fingerprint;
use super::nft::Listing;
use super::state::{Filter, GROUP, Peer};
use super::{nft, storm};
use crate::bfd;

const TABLE: &str = "inet l2gw";

/// The key BFD travels with; of no network.
pub(super) const BFD_KEY: u32 = 0;

pub(super) struct Rule {
    pub(super) chain: &'static str,
    pub(super) why: &'static str,
    pub(super) text: String,
}

impl Rule {
    fn fingerprint(&self) -> String {
        let hash = fingerprint(&[self.chain.as_bytes(), self.text.as_bytes()]);
        format!("{} [{hash:016x}]", self.why)
    }
}

fn rules(config: &NodeConfig) -> Vec<Rule> {
    let (tunnel_ip, wan_ip) = (config.tunnel_ip, config.wan_ip);
    let rule = |chain, why, text| Rule { chain, why, text };
    let peers = "ip saddr . @th,96,24";
    let key = format!("@th,96,24 {BFD_KEY} {peers}");
    let mut rules = Vec::from(steering(
        "declared remote gateways reach BFD",
        &format!("ip daddr {wan_ip} {key} @wan"),
        bfd::LISTEN_PORT,
    ));
    rules.extend(steering(
        "declared inside hosts reach BFD",
        &format!("ip daddr {tunnel_ip} {key} @inside"),
        bfd::LISTEN_PORT,
    ));
    rules.extend(steering(
        "declared remote gateways reach the WAN devices",
        &format!("ip daddr {wan_ip} {peers} @wan"),
        WAN_LISTEN_PORT,
    ));
    rules.extend([
        rule(
            "prerouting",
            "declared inside hosts reach the inside devices",
            format!(
                "ip daddr {tunnel_ip} udp dport {VXLAN_PORT} ip saddr . @th,96,24 @inside notrack accept"
            ),
        ),
        rule(
            "prerouting",
            "nobody else sends with an inside key",
            format!("udp dport {VXLAN_PORT} @th,96,24 @inside_keys drop"),
        ),
        rule(
            "prerouting",
            "no first fragment hides its key in the second",
            format!("ip frag-off & 0x2000 != 0 udp dport {VXLAN_PORT} ip length < 76 drop"),
        ),
        rule(
            "prerouting",
            "nobody reaches the WAN devices directly",
            format!("udp dport {WAN_LISTEN_PORT} drop"),
        ),
        rule(
            "prerouting",
            "nobody reaches BFD directly",
            format!("udp dport {} drop", bfd::LISTEN_PORT),
        ),
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
    rules.extend(storm::rules(config.bum_limit));
    rules
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

/// What identifies the rules for a switch, in order.
pub(crate) fn fingerprints(config: &NodeConfig) -> Vec<String> {
    let rules = rules(config);
    rules.iter().map(Rule::fingerprint).collect()
}

/// The whole table, in place of whatever is there.
pub(crate) fn replacement(filter: &Filter, config: &NodeConfig) -> String {
    let mut text = format!("add table {TABLE}\ndelete table {TABLE}\ntable {TABLE} {{\n");
    let pairs = "typeof ip saddr . @th,96,24";
    set(&mut text, "wan", pairs, &filter.wan);
    set(&mut text, "inside", pairs, &filter.inside);
    let keys = "typeof @th,96,24";
    set(&mut text, "inside_keys", keys, &filter.inside_keys);
    storm::sets(&mut text, config.bum_limit);
    let rules = rules(config);
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
        elements(&mut text, verb, "wan", &change.wan);
        elements(&mut text, verb, "inside", &change.inside);
        elements(&mut text, verb, "inside_keys", &change.inside_keys);
    }
    text
}

/// The table's removal.
pub(crate) fn removal() -> String {
    format!("delete table {TABLE}\n")
}

fn set<T: Display>(text: &mut String, name: &str, kind: &str, held: &BTreeSet<T>) {
    let _ = write!(text, "set {name} {{ {kind}; ");
    if !held.is_empty() {
        let _ = write!(text, "elements = {{ {} }}; ", list(held));
    }
    text.push_str("}\n");
}

fn elements<T: Display>(text: &mut String, verb: &str, name: &str, held: &BTreeSet<T>) {
    if !held.is_empty() {
        let _ = writeln!(text, "{verb} element {TABLE} {name} {{ {} }}", list(held));
    }
}

fn list<T: Display>(held: &BTreeSet<T>) -> String {
    let mut list = String::new();
    for element in held {
        let _ = write!(list, "{}{element}", if list.is_empty() { "" } else { ", " });
    }
    list
}

/// What is in place; nothing where there is no table of ours.
pub(crate) fn observe() -> io::Result<Option<Filter>> {
    Ok(nft::table("inet")?.map(listed))
}

fn listed(listing: Listing<Element>) -> Filter {
    let mut filter = Filter {
        rules: listing.rules,
        ..Filter::default()
    };
    for set in listing.sets {
        if storm::is_filled_by_rules(&set.name) {
            continue;
        }
        for element in set.elements {
            match (set.name.as_str(), element) {
                ("wan", Element::Peer { concat: (ip, vni) }) => {
                    filter.wan.insert(Peer { ip, vni });
                }
                ("inside", Element::Peer { concat: (ip, vni) }) => {
                    filter.inside.insert(Peer { ip, vni });
                }
                ("inside_keys", Element::Key(vni)) => {
                    filter.inside_keys.insert(vni);
                }
                // Not of our making: as good as a foreign rule, the whole table is written anew.
                (name, _) => filter.rules.push(format!("foreign element in {name}")),
            }
        }
    }
    filter
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Element {
    Key(u32),
    Peer { concat: (Ipv4Addr, u32) },
    Other(serde::de::IgnoredAny),
}
