//! Keeps tagged frames out of, and away from, ports that are in a bridge themselves, and counts the others: table
//! `bridge l2gw`.
//!
//! Such a port carries the network bound to VLAN 0, whose frames have no tag, or a priority in it alone. Without the guard
//! the bridge would take frames of every VLAN that nobody bound for that network's, and a tenant could send into any VLAN
//! of the port. Ports whose VLANs are steered need none: the programs see to it.
//!
//! What the interface counts is not what belongs to the network: it counts tagged frames, too, be they dropped here or those of
//! sub-interfaces, and our own probes. So what passes is counted here.
//!
//! Frames are dropped before the bridge learns from them. The table is there only while there is such a port.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write as _;
use std::io;

use super::counters::Counters;
use super::elements::{self, Count, Family};
use super::name::{InterfaceName, fingerprint};
use super::nft::{self, Element, ListedSet};
use super::state::KernelState;

const TABLE: &str = "bridge l2gw";

/// Sets that all hold the ports.
const SETS: [(&str, &str); 3] = [
    ("ports", "type ifname;"),
    (RECEIVED, "type ifname; counter;"),
    (SENT, "type ifname; counter;"),
];
const RECEIVED: &str = "received";
const SENT: &str = "sent";

/// Of a frame's bytes the packet filter of bridges does not count those of its Ethernet header, as interfaces do.
const ETHERNET_HEADER: u64 = 14;

/// Chain, hook and rule. 0 is no VLAN but a priority alone (IEEE 802.1Q section 9.6).
const RULES: [(&str, &str); 6] = [
    ("prerouting", "iifname @ports vlan id 1-4095 drop"),
    ("prerouting", "iifname @ports ether type 8021ad drop"),
    ("prerouting", "iifname @received"),
    ("forward", "oifname @ports vlan id 1-4095 drop"),
    ("forward", "oifname @ports ether type 8021ad drop"),
    ("forward", "oifname @sent"),
];

/// Ports that tagged frames pass neither way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Guard {
    /// Their interfaces.
    pub ports: BTreeSet<InterfaceName>,
    /// A fingerprint of each rule, in order.
    pub rules: Vec<String>,
}

impl Guard {
    /// For the ports that are in a bridge themselves, if there are any.
    pub(super) fn of(state: &KernelState) -> Option<Self> {
        let in_bridge = state.interfaces.iter();
        let in_bridge = in_bridge.filter(|(_, interface)| interface.port.bridge.is_some());
        let ports: BTreeSet<InterfaceName> = in_bridge.map(|(name, _)| *name).collect();
        let rules = RULES.map(|(chain, text)| comment(chain, text)).to_vec();
        (!ports.is_empty()).then_some(Self { ports, rules })
    }
}

/// Rules are recognised by it, because every nft release prints them a little differently.
fn comment(chain: &str, text: &str) -> String {
    // With other sets a rule is another one.
    let sets = SETS.iter().flat_map(|(name, kind)| [*name, *kind]);
    let parts: Vec<&[u8]> = [chain, text]
        .into_iter()
        .chain(sets)
        .map(str::as_bytes)
        .collect();
    let why = match text.ends_with("drop") {
        true => "no tagged frames here",
        false => "what passes is counted",
    };
    format!("{why} [{:016x}]", fingerprint(&parts))
}

/// Puts the guard in place of whatever is there, in one transaction; what was counted goes on being counted.
pub(super) fn put(guard: Option<&Guard>) -> io::Result<()> {
    let Some(guard) = guard else {
        return nft::run(&format!("delete table {TABLE}\n"));
    };
    let mut text = format!("add table {TABLE}\ndelete table {TABLE}\ntable {TABLE} {{\n");
    for (set, kind) in SETS {
        // Unless it can't be read, which is no reason to let tagged frames pass.
        let counts = elements::counted::<InterfaceName>(Family::Bridge, set).unwrap_or_default();
        let element = |port| match counts.get(port) {
            Some(count) => format!("\"{port}\" {count}"),
            None => format!("\"{port}\""),
        };
        let elements: Vec<String> = guard.ports.iter().map(element).collect();
        let elements = elements.join(", ");
        let _ = writeln!(text, "set {set} {{ {kind} elements = {{ {elements} }}; }}");
    }
    for chain in ["prerouting", "forward"] {
        let _ = writeln!(
            text,
            "chain {chain} {{\ntype filter hook {chain} priority filter; policy accept;"
        );
        for (_, rule) in RULES.iter().filter(|(of, _)| *of == chain) {
            let _ = writeln!(text, "{rule} comment \"{}\"", comment(chain, rule));
        }
        text.push_str("}\n");
    }
    text.push_str("}\n");
    nft::run(&text)
}

/// What is in place; nothing where there is no table of ours.
pub(super) fn observe() -> io::Result<Option<Guard>> {
    let Some(listing) = nft::table::<Element<String>>("bridge")? else {
        return Ok(None);
    };
    let mut guard = Guard {
        rules: listing.rules,
        ..Guard::default()
    };
    let held = |set: ListedSet<Element<String>>| {
        let names = set.elements.into_iter().filter_map(Element::value);
        names.filter_map(|name| name.parse().ok()).collect()
    };
    let sets: BTreeSet<BTreeSet<InterfaceName>> = listing.sets.into_iter().map(held).collect();
    if sets.len() > 1 {
        // Not of our making: as good as a foreign rule.
        guard.rules.push("sets that differ".to_owned());
    }
    guard.ports = sets.into_iter().flatten().collect();
    Ok(Some(guard))
}

/// Puts what passed in place of what the interfaces of guarded ports counted.
///
/// # Errors
/// The kernel can't be talked to.
pub(super) fn correct(counted: &mut HashMap<InterfaceName, Counters>) -> io::Result<()> {
    let received = elements::counted::<InterfaceName>(Family::Bridge, RECEIVED)?;
    let sent = elements::counted::<InterfaceName>(Family::Bridge, SENT)?;
    let with_header = |count: Count| count.bytes + count.packets * ETHERNET_HEADER;
    for (port, received) in received {
        if let Some(counters) = counted.get_mut(&port) {
            let sent = sent.get(&port).copied().unwrap_or_default();
            counters.received_packets = received.packets;
            counters.received_bytes = with_header(received);
            counters.sent_packets = sent.packets;
            counters.sent_bytes = with_header(sent);
        }
    }
    Ok(())
}
