use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

use proptest::collection::{btree_map, btree_set};
use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::switch::{Locator, PhysicalPort, PortVlan};
use crate::value::{VlanId, Vni};

fn name(n: u8) -> LogicalSwitchName {
    LogicalSwitchName::new(format!("net{n}"))
}

fn port(n: u8) -> PhysicalPort {
    PhysicalPort {
        switch: Arc::from(format!("sw{}", n % 2)),
        name: Arc::from(format!("p{n}")),
    }
}

// Small ranges on purpose: states that overlap are the interesting ones.
fn a_locator() -> impl Strategy<Value = Locator> {
    (1..4_u8, option::of(456..458_u32)).prop_map(|(host, key)| Locator {
        ip: Ipv4Addr::new(10, 0, 0, host),
        tunnel_key: key.and_then(Vni::new),
    })
}

fn a_mac() -> impl Strategy<Value = MacAddress> {
    (1..8_u8).prop_map(|n| MacAddress::new([0, 0, 0, 0, 0, n]))
}

fn a_remote() -> impl Strategy<Value = RemoteMac> {
    (
        a_locator(),
        option::of((1..4_u8).prop_map(|n| Ipv4Addr::new(192, 0, 2, n).into())),
    )
        .prop_map(|(locator, ip)| RemoteMac { locator, ip })
}

fn a_logical_switch(owned: impl Strategy<Value = bool>) -> impl Strategy<Value = LogicalSwitch> {
    (
        owned,
        option::of((1..4_u32).prop_map(|n| Vni::new(n).unwrap())),
        option::of(1450..1452_u16),
        btree_set(a_locator(), 0..3),
        btree_map(a_mac(), a_remote(), 0..6),
    )
        .prop_map(|(owned, tunnel_key, mtu, flood, macs)| LogicalSwitch {
            owned,
            tunnel_key,
            mtu,
            flood,
            macs,
        })
}

fn a_state(owned: impl Strategy<Value = bool> + 'static) -> impl Strategy<Value = SwitchState> {
    (
        btree_map((0..5_u8).prop_map(name), a_logical_switch(owned), 0..5),
        btree_set((0..5_u8).prop_map(port), 0..5),
        proptest::collection::vec((0..5_u8, 0..2_u16, any::<prop::sample::Index>()), 0..5),
        proptest::collection::vec(
            (
                option::of(a_mac()),
                any::<bool>(),
                any::<prop::sample::Index>(),
            ),
            0..3,
        ),
    )
        .prop_map(|(logical_switches, ports, bindings, surplus)| {
            let names: Vec<_> = logical_switches.keys().cloned().collect();
            // Bindings name what exists: the database's referential integrity.
            let bindings: BTreeMap<_, _> = bindings
                .into_iter()
                .filter(|_| !names.is_empty())
                .map(|(p, vlan, which)| {
                    let port_vlan = PortVlan {
                        port: port(p),
                        vlan: VlanId::new(vlan).unwrap(),
                    };
                    (port_vlan, which.get(&names).clone())
                })
                .collect();
            let surplus = surplus
                .into_iter()
                .filter(|_| !names.is_empty())
                .map(|(mac, stray, which)| (mac, stray, which.get(&names).clone()))
                .filter_map(|(mac, stray, name)| match mac {
                    None if stray => Some(Surplus::Stray(name)),
                    None => Some(Surplus::Flood(name)),
                    // Only a MAC that has a first row has further ones.
                    Some(mac) => logical_switches[&name]
                        .macs
                        .contains_key(&mac)
                        .then_some(Surplus::Mac(name, mac)),
                })
                .collect();
            SwitchState {
                logical_switches,
                bindings,
                ports,
                surplus,
            }
        })
}

fn a_wish() -> impl Strategy<Value = SwitchState> {
    a_state(Just(true)).prop_map(|mut state| {
        state.ports.clear();
        state.surplus.clear();
        state
    })
}

fn an_observation() -> impl Strategy<Value = SwitchState> {
    a_state(any::<bool>()).prop_map(|mut state| {
        let bound = state.bindings.keys().map(|k| k.port.clone());
        state.ports.extend(bound);
        state
    })
}

fn applied(mut state: SwitchState, steps: &[Step]) -> SwitchState {
    for step in steps {
        state.apply(step);
    }
    state
}

/// Takes out of a goal what would be new of a network.
fn add_nothing(goal: &mut SwitchState, name: &LogicalSwitchName, actual: &SwitchState) {
    let bound = |at: &PortVlan| actual.bindings.get(at) == Some(name);
    goal.bindings.retain(|at, to| to != name || bound(at));
    let Some(held) = actual.logical_switches.get(name) else {
        goal.logical_switches.remove(name);
        return;
    };
    let network = goal.logical_switches.get_mut(name).unwrap();
    network.tunnel_key = held.tunnel_key;
    network.macs.retain(|mac, _| held.macs.contains_key(mac));
    if held.flood.is_subset(&network.flood) {
        network.flood.clone_from(&held.flood);
    }
}

/// What `desired` says about what we own, over what others own in `actual`.
fn expected(desired: &SwitchState, actual: &SwitchState, blocked: &[Blocked]) -> SwitchState {
    let mut goal = desired.clone();
    goal.ports.clone_from(&actual.ports);
    for (name, held) in &actual.logical_switches {
        if !held.owned {
            goal.logical_switches
                .entry(name.clone())
                .or_insert_with(|| held.clone());
        }
    }
    for blocked in blocked {
        match blocked {
            Blocked::Binding { port_vlan, .. } => {
                goal.bindings.remove(port_vlan);
            }
            Blocked::Network { logical_switch, .. } => {
                add_nothing(&mut goal, logical_switch, actual)
            }
        }
    }
    for (port_vlan, held) in &actual.bindings {
        let theirs =
            !actual.logical_switches[held].owned && !desired.logical_switches.contains_key(held);
        if theirs {
            goal.bindings.insert(port_vlan.clone(), held.clone());
        }
    }
    goal.surplus = actual
        .surplus
        .iter()
        .filter(|surplus| {
            let of = surplus.logical_switch();
            !actual.logical_switches[of].owned && !desired.logical_switches.contains_key(of)
        })
        .cloned()
        .collect();
    goal
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn applying_a_plan_gives_what_was_wanted(desired in a_wish(), actual in an_observation()) {
        let plan = plan(&desired, &actual);
        let goal = expected(&desired, &actual, &plan.blocked);
        prop_assert_eq!(applied(actual, &plan.steps), goal);
    }

    #[test]
    fn a_second_run_writes_nothing(desired in a_wish(), actual in an_observation()) {
        let first = plan(&desired, &actual);
        let held = applied(actual, &first.steps);
        let second = plan(&desired, &held);
        prop_assert!(second.is_empty(), "{second}");
        prop_assert_eq!(second.blocked, first.blocked);
        prop_assert_eq!(plan(&desired, &desired), Plan::default());
    }

    /// What two networks would have to share is found on the switch, in whatever order they came.
    #[test]
    fn no_network_is_joined_with_one_of_another_controller(desired in a_wish(), actual in an_observation()) {
        let plan = plan(&desired, &actual);
        let joined = |state: &SwitchState| {
            let theirs = state.logical_switches.iter();
            let theirs = theirs.filter(|(name, l)| !l.owned && !desired.logical_switches.contains_key(*name));
            let keys: BTreeSet<_> = theirs.filter_map(|(_, l)| l.tunnel_key).collect();
            let ours = state.logical_switches.iter();
            let ours = ours.filter(|(name, l)| {
                desired.logical_switches.contains_key(*name) && l.tunnel_key.is_some_and(|key| keys.contains(&key))
            });
            ours.map(|(name, _)| name.clone()).collect::<BTreeSet<_>>()
        };
        let before = joined(&actual);
        let blocked: BTreeSet<_> = plan.blocked.iter().map(|it| it.logical_switch().clone()).collect();
        let after = joined(&applied(actual, &plan.steps));
        prop_assert!(after.is_subset(&before), "{plan}");
        prop_assert!(after.is_subset(&blocked), "{plan}");
    }

    /// Whatever else is asked about beside the MACs that differ.
    #[test]
    fn planning_for_the_macs_that_differ_is_planning_for_everything(
        desired in a_wish(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), a_mac(), option::of(a_remote()), any::<bool>()), 0..6),
        others in proptest::collection::vec((any::<prop::sample::Index>(), a_mac()), 0..3),
    ) {
        let names: Vec<_> = desired.logical_switches.keys().cloned().collect();
        prop_assume!(!names.is_empty());
        let mut actual = desired.clone();
        let mut keys: BTreeSet<MacKey> = BTreeSet::new();
        for (which, mac, remote, further) in changes {
            let name = which.get(&names).clone();
            let held = actual.logical_switches.get_mut(&name).unwrap();
            if let Some(remote) = remote {
                held.macs.insert(mac, remote);
                if further {
                    actual.surplus.insert(Surplus::Mac(name.clone(), mac));
                }
            } else {
                held.macs.remove(&mac);
                actual.surplus.remove(&Surplus::Mac(name.clone(), mac));
            }
            keys.insert((name, mac));
        }
        keys.extend(others.into_iter().map(|(which, mac)| (which.get(&names).clone(), mac)));
        let wanted = keys.iter().map(|key| {
            let (name, mac) = key;
            (key, desired.logical_switches[name].macs.get(mac).copied())
        });
        prop_assert_eq!(plan_macs(wanted, &actual), Some(plan(&desired, &actual)));
    }

    #[test]
    fn an_interrupted_plan_converges_when_planned_again(
        desired in a_wish(),
        actual in an_observation(),
        cut in any::<prop::sample::Index>(),
    ) {
        let whole = plan(&desired, &actual);
        let cut = cut.index(whole.steps.len() + 1);
        let halfway = applied(actual.clone(), &whole.steps[..cut]);
        let rest = plan(&desired, &halfway);
        prop_assert_eq!(
            applied(halfway, &rest.steps),
            applied(actual, &whole.steps)
        );
    }

    #[test]
    fn what_others_own_is_never_touched(desired in a_wish(), actual in an_observation()) {
        let plan = plan(&desired, &actual);
        let after = applied(actual.clone(), &plan.steps);
        for (name, held) in &actual.logical_switches {
            if !held.owned && !desired.logical_switches.contains_key(name) {
                prop_assert_eq!(after.logical_switches.get(name), Some(held));
                for (port_vlan, bound) in &actual.bindings {
                    if bound == name {
                        prop_assert_eq!(after.bindings.get(port_vlan), Some(name));
                    }
                }
            }
        }
    }

    #[test]
    fn no_step_leaves_a_dangling_reference(desired in a_wish(), actual in an_observation()) {
        let plan = plan(&desired, &actual);
        let mut state = actual;
        for step in &plan.steps {
            if let Step::PutMac { logical_switch, .. }
            | Step::SetFlood { logical_switch, .. }
            | Step::Bind { logical_switch, .. } = step
            {
                prop_assert!(state.logical_switches.contains_key(logical_switch), "{step}");
            }
            state.apply(step);
            for (port_vlan, bound) in &state.bindings {
                prop_assert!(
                    state.logical_switches.contains_key(bound),
                    "after '{step}': {port_vlan} is bound to {bound}, which is gone"
                );
                prop_assert!(state.ports.contains(&port_vlan.port));
            }
        }
    }
}

#[test]
fn a_plan_reads_like_a_diff() {
    let locator = |ip: [u8; 4], key: Option<u32>| Locator {
        ip: ip.into(),
        tunnel_key: key.and_then(Vni::new),
    };
    let mac = |n| MacAddress::new([0, 0x11, 0x22, 0x33, 0x44, n]);
    let ls = |key, flood: &[Locator], macs: &[(MacAddress, RemoteMac)]| LogicalSwitch {
        owned: true,
        tunnel_key: Vni::new(key),
        mtu: None,
        flood: flood.iter().copied().collect(),
        macs: macs.iter().copied().collect(),
    };
    let remote = |locator, ip: Option<[u8; 4]>| RemoteMac {
        locator,
        ip: ip.map(|ip| Ipv4Addr::from(ip).into()),
    };
    let on = |p: u8| PortVlan {
        port: port(p),
        vlan: VlanId::UNTAGGED,
    };
    let (host, wan) = (
        locator([10, 1, 0, 1], None),
        locator([10, 9, 0, 2], Some(456)),
    );
    let desired = SwitchState {
        logical_switches: [
            (
                name(0),
                ls(
                    123,
                    &[host, wan],
                    &[
                        (mac(0x55), remote(wan, Some([192, 0, 2, 1]))),
                        (mac(0x66), remote(wan, None)),
                    ],
                ),
            ),
            (name(1), ls(124, &[], &[])),
        ]
        .into(),
        bindings: [(on(0), name(0)), (on(1), name(1)), (on(3), name(1))].into(),
        ..SwitchState::default()
    };
    let theirs = LogicalSwitch {
        owned: false,
        ..ls(7, &[], &[])
    };
    let actual = SwitchState {
        logical_switches: [
            (
                name(0),
                LogicalSwitch {
                    owned: false,
                    ..ls(
                        5,
                        &[host],
                        &[
                            (mac(0x66), remote(host, None)),
                            (mac(0x77), remote(host, None)),
                        ],
                    )
                },
            ),
            (name(2), ls(9, &[], &[])),
            (name(3), theirs),
        ]
        .into(),
        bindings: [(on(1), name(3)), (on(2), name(2))].into(),
        ports: [port(0), port(1), port(2)].into(),
        surplus: [Surplus::Mac(name(0), mac(0x66)), Surplus::Stray(name(0))].into(),
    };
    insta::assert_snapshot!(plan(&desired, &actual), @r"
    ~ logical switch net0 adopted
    ~ logical switch net0 key 5 -> 123
    + logical switch net1 key 124
    + mac 00:11:22:33:44:55 on net0 via 10.9.0.2 key 456 ip 192.0.2.1
    ~ mac 00:11:22:33:44:66 on net0 via 10.1.0.1 -> via 10.9.0.2 key 456
    ~ flood on net0 10.1.0.1 -> 10.1.0.1, 10.9.0.2 key 456
    + binding sw0:p0 vlan 0 to net0
    - binding sw0:p2 vlan 0 to net2
    - mac 00:11:22:33:44:77 on net0 via 10.1.0.1
    - further rows for mac 00:11:22:33:44:66 on net0
    - stray rows on net0
    - logical switch net2
    ! binding sw1:p1 vlan 0 to net1: bound to net3 by another controller
    ! binding sw1:p3 vlan 0 to net1: the switch has no such port
    ");
}

/// A network of these stations behind a host, with a key of its own.
fn network(key: u32, owned: bool, stations: &[u8]) -> LogicalSwitch {
    let host = Locator {
        ip: [10, 1, 0, 1].into(),
        tunnel_key: None,
    };
    let station = |n: &u8| {
        let mac = MacAddress::new([0, 0, 0, 0, 0, *n]);
        let remote = RemoteMac {
            locator: host,
            ip: None,
        };
        (mac, remote)
    };
    LogicalSwitch {
        owned,
        tunnel_key: Vni::new(key),
        mtu: None,
        flood: [host].into(),
        macs: stations.iter().map(station).collect(),
    }
}

fn one_bound(networks: &[(u8, LogicalSwitch)], bound: &[(u8, u8)]) -> SwitchState {
    let networks = networks.iter().cloned();
    let bound = bound.iter().map(|(at, to)| {
        let port_vlan = PortVlan {
            port: port(*at),
            vlan: VlanId::UNTAGGED,
        };
        (port_vlan, name(*to))
    });
    SwitchState {
        logical_switches: networks.map(|(n, network)| (name(n), network)).collect(),
        bindings: bound.collect(),
        ports: [port(0), port(1)].into(),
        ..SwitchState::default()
    }
}

#[test]
fn a_network_whose_key_another_controllers_has_is_not_put_on_the_switch() {
    let desired = one_bound(
        &[(0, network(5, true, &[1])), (1, network(6, true, &[2]))],
        &[(0, 0), (1, 1)],
    );
    let actual = one_bound(&[(9, network(5, false, &[3]))], &[]);
    insta::assert_snapshot!(plan(&desired, &actual), @r"
    + logical switch net1 key 6
    + mac 00:00:00:00:00:02 on net1 via 10.1.0.1
    + flood on net1 nowhere -> 10.1.0.1
    + binding sw1:p1 vlan 0 to net1
    ! network net0: logical switch net9 of another controller has VNI 5 too, and the two networks would be one; nothing is added until it is deleted there or one of the two has another VNI
    ");
    // Nor does one that is there get that key.
    let mut actual = actual;
    actual
        .logical_switches
        .insert(name(0), network(4, true, &[1]));
    insta::assert_snapshot!(plan(&desired, &actual).to_string().lines().filter(|line| line.contains("net0")).collect::<Vec<_>>().join("\n"), @"! network net0: logical switch net9 of another controller has VNI 5 too, and the two networks would be one; nothing is added until it is deleted there or one of the two has another VNI");
}

#[test]
fn a_network_that_another_controller_joins_keeps_what_it_has_and_gets_no_more() {
    let desired = one_bound(&[(0, network(5, true, &[1, 2]))], &[(0, 0), (1, 0)]);
    let actual = one_bound(
        &[(0, network(5, true, &[1, 4])), (9, network(5, false, &[3]))],
        &[(0, 0)],
    );
    insta::assert_snapshot!(plan(&desired, &actual), @r"
    - mac 00:00:00:00:00:04 on net0 via 10.1.0.1
    ! network net0: logical switch net9 of another controller has VNI 5 too, and the two networks would be one; nothing is added until it is deleted there or one of the two has another VNI
    ");
}
