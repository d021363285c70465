//! Keeps tagged frames out of, and away from, ports that are in a bridge themselves: table `bridge l2gw`.
//!
//! Such a port carries the network bound to VLAN 0, whose frames have no tag, or a priority in it alone. Without the guard
//! the bridge would take frames of every VLAN that nobody bound for that network's, and a tenant could send into any VLAN
//! of the port. Ports whose VLANs are steered need none: the programs see to it.
//!
//! Frames are dropped before the bridge learns from them. The table is there only while there is such a port.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io;

use super::name::{InterfaceName, fingerprint};
use super::nft;
use super::state::KernelState;

const TABLE: &str = "bridge l2gw";

/// Chain, hook and rule. 0 is no VLAN but a priority alone (IEEE 802.1Q section 9.6).
const RULES: [(&str, &str); 4] = [
    ("prerouting", "iifname @ports vlan id 1-4095 drop"),
    ("prerouting", "iifname @ports ether type 8021ad drop"),
    ("forward", "oifname @ports vlan id 1-4095 drop"),
    ("forward", "oifname @ports ether type 8021ad drop"),
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
    let hash = fingerprint(&[chain.as_bytes(), text.as_bytes()]);
    format!("no tagged frames here [{hash:016x}]")
}

/// Puts the guard in place of whatever is there, in one transaction.
pub(super) fn put(guard: Option<&Guard>) -> io::Result<()> {
    let Some(guard) = guard else {
        return nft::run(&format!("delete table {TABLE}\n"));
    };
    let names: Vec<String> = guard.ports.iter().map(|p| format!("\"{p}\"")).collect();
    let mut text = format!(
        "add table {TABLE}\ndelete table {TABLE}\ntable {TABLE} {{\n\
         set ports {{ type ifname; elements = {{ {} }}; }}\n",
        names.join(", ")
    );
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
    let Some(listing) = nft::table::<String>("bridge")? else {
        return Ok(None);
    };
    let names = listing.sets.iter().flat_map(|set| &set.elements);
    Ok(Some(Guard {
        ports: names.filter_map(|name| name.parse().ok()).collect(),
        rules: listing.rules,
    }))
}
