//! Patching what is wanted, and planning within a scope, come to the same as looking at everything.

use super::super::super::desired::{MoreThanEntries, Wanted};
use super::*;

/// A change of one row: put, or removed.
type Change = (u8, u64, Option<RemoteMac>);

fn station() -> impl Strategy<Value = RemoteMac> {
    (locator(), option::of((any::<bool>(), 1..4_u8))).prop_map(|(locator, ip)| RemoteMac {
        locator,
        ip: ip.map(|(v6, host)| match v6 {
            false => Ipv4Addr::new(172, 16, 0, host).into(),
            true => std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, host.into()).into(),
        }),
    })
}

/// Of MACs up to 9, and of one that is a group's.
fn change() -> impl Strategy<Value = Change> {
    let mac = prop_oneof![20 => 1..10_u64, 1 => Just(0x0100_5e00_0001)];
    (0..4_u8, mac, option::of(station()))
}

/// The logical switches with every far end in use and an address answered for, so that entries are all that changes.
fn settled(switch: &mut SwitchState) {
    for (n, logical_switch) in (0_u64..).zip(switch.logical_switches.values_mut()) {
        logical_switch.tunnel_key = Vni::new(7);
        for host in 1..4 {
            for key in 0..4 {
                logical_switch.flood.insert(Locator {
                    ip: Ipv4Addr::new(203, 0, 113, host),
                    tunnel_key: Vni::new(key),
                });
            }
        }
        let (_, anchor) = remote(1);
        let mac = MacAddress::from_u64(0x0200 + n);
        logical_switch.macs.insert(mac, anchor);
    }
}

fn take(switch: &mut SwitchState, changes: &[Change]) -> Vec<(LogicalSwitchName, MacAddress)> {
    let mut keys = Vec::new();
    for (net, mac, row) in changes {
        let name = LogicalSwitchName::new(format!("net-{net}"));
        let mac = MacAddress::from_u64(*mac);
        if let Some(logical_switch) = switch.logical_switches.get_mut(&name) {
            match row {
                Some(row) => logical_switch.macs.insert(mac, *row),
                None => logical_switch.macs.remove(&mac),
            };
        }
        keys.push((name, mac));
    }
    keys
}

fn patch(
    wanted: &mut Wanted,
    switch: &SwitchState,
    config: &NodeConfig,
    keys: &[(LogicalSwitchName, MacAddress)],
) -> Result<Scope, MoreThanEntries> {
    let keys = keys.iter().map(|(name, mac)| (name, *mac));
    wanted.patch(switch, config, keys)
}

proptest! {
    #[test]
    fn a_patch_gives_what_a_whole_look_gives(
        mut switch in switch(),
        rounds in vec(vec(change(), 0..4), 1..6),
        ipv6 in any::<bool>(),
        is_settled in any::<bool>(),
    ) {
        let config = NodeConfig { ipv6, ..config() };
        if is_settled {
            settled(&mut switch);
        }
        let mut wanted = Wanted::new(&switch, &config);
        for changes in rounds {
            let held = wanted.desired().state.clone();
            let keys = take(&mut switch, &changes);
            let fresh = desired(&switch, &config);
            match patch(&mut wanted, &switch, &config, &keys) {
                Ok(scope) => {
                    prop_assert_eq!(wanted.desired(), &fresh);
                    prop_assert_eq!(
                        plan_within(&fresh.state, &held, &scope),
                        plan(&fresh.state, &held)
                    );
                }
                Err(MoreThanEntries) => {
                    let group = |(_, mac, row): &Change| *mac > 0xff && row.is_some();
                    prop_assert!(!is_settled || changes.iter().any(group));
                    wanted = Wanted::new(&switch, &config);
                }
            }
            if changes.iter().any(|(_, mac, _)| *mac > 0xff) {
                // What can't be had stays a matter for whole looks.
                for logical_switch in switch.logical_switches.values_mut() {
                    logical_switch.macs.retain(|mac, _| mac.is_unicast());
                }
                wanted = Wanted::new(&switch, &config);
            }
        }
    }
}

#[test]
fn an_address_that_two_stations_claim_goes_to_the_other_when_one_leaves() {
    let mut switch = SwitchState::default();
    let (wan, row) = remote(456);
    bordering(&mut switch, "net-0", 0, wan, row);
    let mut wanted = Wanted::new(&switch, &config());
    let owner = |wanted: &Wanted| {
        let bridge = wanted.desired().state.bridges.values().next().unwrap();
        bridge.neighbours.get(&row.ip.unwrap()).copied()
    };
    let first = MacAddress::from_u64(0x0011_2233_4455);
    let lower = MacAddress::from_u64(0x0011_2233_4400);
    assert_eq!(owner(&wanted), Some(first));
    for (change, owns) in [((lower, Some(row)), lower), ((lower, None), first)] {
        let keys = take(&mut switch, &[(0, change.0.to_u64(), change.1)]);
        let scope = patch(&mut wanted, &switch, &config(), &keys).unwrap();
        assert!(!scope.is_empty());
        assert_eq!(owner(&wanted), Some(owns));
    }
}
