//! What a switch cannot do, found before anything is written.

use model::switch::{Locator, LogicalSwitch, LogicalSwitchName, RemoteMac, SwitchState};
use model::value::Vni;

use crate::schema::Capabilities;

/// Whether a switch of this description (`Physical_Switch.description`) has `Physical_Locator.tunnel_key` in its schema and
/// sends with the key of the logical switch all the same: Open vSwitch's own emulator, ovs-vtep, does.
pub(crate) fn ignores_locator_keys(description: &str) -> bool {
    description == "OVS VTEP Emulator"
}

impl Capabilities {
    /// Makes a wish one that a switch with this schema can fulfil, and returns what had to be left out and why.
    ///
    /// Without `Logical_Switch.other_config` there is no place for a network's MTU, which is no reason to refuse anything.
    ///
    /// Without `Physical_Locator.tunnel_key` a tunnel uses the key of the logical switch. So a tunnel whose key equals that
    /// is wished for without a key; one whose key differs cannot be had, nor can the MACs behind it.
    pub fn fit(&self, wanted: &mut SwitchState) -> Vec<(LogicalSwitchName, String)> {
        if !self.logical_switch_other_config {
            let networks = wanted.logical_switches.values_mut();
            networks.for_each(|network| network.mtu = None);
        }
        if self.locator_tunnel_key {
            return Vec::new();
        }
        let switches = wanted.logical_switches.iter_mut();
        switches
            .filter_map(|(name, network)| Some((name.clone(), strip_keys(network)?)))
            .collect()
    }

    /// As [`Self::fit`], for one MAC of a network with this key: nothing if it cannot be had.
    pub fn fit_mac(&self, network_key: Option<Vni>, wanted: RemoteMac) -> Option<RemoteMac> {
        if self.locator_tunnel_key {
            return Some(wanted);
        }
        let locator = stripped(network_key, wanted.locator)?;
        Some(RemoteMac { locator, ..wanted })
    }
}

/// The tunnel without its key; nothing if it cannot do without.
fn stripped(network_key: Option<Vni>, locator: Locator) -> Option<Locator> {
    let can = locator.tunnel_key.is_none() || locator.tunnel_key == network_key;
    can.then_some(Locator {
        tunnel_key: None,
        ..locator
    })
}

/// Takes the keys out of a network's tunnels; the reason if some cannot be without theirs.
fn strip_keys(network: &mut LogicalSwitch) -> Option<String> {
    let own = network.tunnel_key;
    let mut refused = None;
    let mut strip = |locator: Locator| {
        let stripped = stripped(own, locator);
        if stripped.is_none() {
            refused.get_or_insert(locator);
        }
        stripped
    };
    network.flood = std::mem::take(&mut network.flood)
        .into_iter()
        .filter_map(&mut strip)
        .collect();
    network.macs.retain(|_, remote| {
        let stripped = strip(remote.locator);
        remote.locator = stripped.unwrap_or(remote.locator);
        stripped.is_some()
    });
    refused.map(|locator| {
        let own = own.map_or_else(|| "none".to_owned(), |key: Vni| key.to_string());
        format!(
            "the switch makes nothing of Physical_Locator.tunnel_key, so the tunnel to {locator} would have to use the \
             network's own key, which is {own}"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::value::MacAddress;

    fn locator(host: u8, key: Option<u32>) -> Locator {
        Locator {
            ip: [192, 0, 2, host].into(),
            tunnel_key: key.and_then(Vni::new),
        }
    }

    fn wish() -> SwitchState {
        let mac = |number: u64, locator| {
            (
                MacAddress::from_u64(number),
                RemoteMac { locator, ip: None },
            )
        };
        let network = LogicalSwitch {
            owned: true,
            tunnel_key: Vni::new(5),
            mtu: None,
            flood: [locator(1, None), locator(2, Some(5)), locator(3, Some(456))].into(),
            macs: [mac(2, locator(2, Some(5))), mac(3, locator(3, Some(456)))].into(),
        };
        SwitchState {
            logical_switches: [(LogicalSwitchName::new("net"), network)].into(),
            ..SwitchState::default()
        }
    }

    fn capabilities(locator_tunnel_key: bool) -> Capabilities {
        let schema = serde_json::json!({
            "name": "hardware_vtep",
            "tables": {"Physical_Locator": {"columns": match locator_tunnel_key {
                true => serde_json::json!({"dst_ip": {}, "tunnel_key": {}}),
                false => serde_json::json!({"dst_ip": {}}),
            }}},
        });
        Capabilities::of(&serde_json::from_value(schema).unwrap())
    }

    #[test]
    fn without_locator_keys_equal_ones_are_stripped_and_others_refused() {
        let mut wanted = wish();
        let refusals = capabilities(false).fit(&mut wanted);
        let network = wanted.logical_switches.values().next().unwrap();
        assert_eq!(
            network.flood,
            [locator(1, None), locator(2, None)].into_iter().collect()
        );
        let left: Vec<_> = network.macs.values().map(|remote| remote.locator).collect();
        assert_eq!(left, [locator(2, None)]);
        let [(name, reason)] = refusals.as_slice() else {
            panic!("{refusals:?}");
        };
        assert_eq!(name.as_str(), "net");
        assert!(
            reason.contains("192.0.2.3 key 456") && reason.ends_with("which is 5"),
            "{reason}"
        );
    }

    #[test]
    fn one_mac_fits_as_it_does_among_all() {
        for keys in [false, true] {
            let capabilities = capabilities(keys);
            let mut fitted = wish();
            capabilities.fit(&mut fitted);
            let fitted = fitted.logical_switches.values().next().unwrap();
            for network in wish().logical_switches.values() {
                for (mac, remote) in &network.macs {
                    let alone = capabilities.fit_mac(network.tunnel_key, *remote);
                    assert_eq!(alone.as_ref(), fitted.macs.get(mac));
                }
            }
        }
    }

    #[test]
    fn with_locator_keys_everything_stays() {
        let mut wanted = wish();
        assert!(capabilities(true).fit(&mut wanted).is_empty());
        assert_eq!(wanted, wish());
    }
}
