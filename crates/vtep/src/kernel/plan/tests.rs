//! The planner's laws, over what databases say and whatever a kernel may hold.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use model::switch::{
    Locator, LogicalSwitch, LogicalSwitchName, PhysicalPort, PortVlan, RemoteMac, SwitchState,
};
use model::value::{MacAddress, VlanId, Vni};
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;

use super::super::desired::{NodeConfig, desired};
use super::super::underlay::Underlay;
use super::super::vlan::{VlanForm, VlanKind};
use super::*;

mod within;

fn config() -> NodeConfig {
    NodeConfig {
        switch: "vtep".into(),
        tunnel_ip: Ipv4Addr::new(10, 0, 0, 1),
        wan_ip: Ipv4Addr::new(192, 0, 2, 1),
        wan_underlay: Underlay::Own,
        ports: [
            ("border".into(), None),
            ("a".into(), Some(interface("eth1"))),
            ("b".into(), Some(interface("eth2"))),
        ]
        .into(),
        mtu: 1500,
        ipv6: true,
        vlan_form: VlanForm::Steered,
        bum_limit: Some(10_000),
    }
}

fn interface(name: &str) -> InterfaceName {
    name.parse().unwrap()
}

/// Few of everything, so that two states share much: addresses, keys and names collide all the time.
fn locator() -> impl Strategy<Value = Locator> {
    (1..4_u8, option::of(1..4_u32)).prop_map(|(host, key)| Locator {
        ip: Ipv4Addr::new(203, 0, 113, host),
        tunnel_key: key.and_then(Vni::new),
    })
}

fn logical_switch() -> impl Strategy<Value = LogicalSwitch> {
    let station = (locator(), option::of(1..4_u8)).prop_map(|(locator, host)| RemoteMac {
        locator,
        ip: host.map(|host| Ipv4Addr::new(172, 16, 0, host).into()),
    });
    let macs = btree_map((1..6_u64).prop_map(MacAddress::from_u64), station, 0..5);
    let key = prop_oneof![9 => (1..6_u32).prop_map(Vni::new), 1 => Just(None)];
    let mtu = option::of(1400..1700_u16);
    let row = (key, mtu, btree_set(locator(), 0..4), macs);
    row.prop_map(|(tunnel_key, mtu, flood, macs)| LogicalSwitch {
        owned: true,
        tunnel_key,
        mtu,
        flood,
        macs,
    })
}

fn switch() -> impl Strategy<Value = SwitchState> {
    let name = || (0..4_u8).prop_map(|n| LogicalSwitchName::new(format!("net-{n}")));
    let port = prop_oneof![Just("border"), Just("a"), Just("b")];
    let port_vlan = (port, 0..3_u16).prop_map(|(port, vlan)| PortVlan {
        port: PhysicalPort {
            switch: "vtep".into(),
            name: port.into(),
        },
        vlan: VlanId::new(vlan).unwrap(),
    });
    (
        btree_map(name(), logical_switch(), 0..4),
        btree_map(port_vlan, name(), 0..6),
    )
        .prop_map(|(logical_switches, bindings)| SwitchState {
            logical_switches,
            bindings,
            ..SwitchState::default()
        })
}

/// What a kernel holds that was like `switch`, and then somebody else's hands were on it.
fn kernel() -> impl Strategy<Value = KernelState> {
    (
        switch(),
        node(),
        vec((0..21_u8, any::<prop::sample::Index>()), 0..6),
    )
        .prop_map(|(switch, config, damage)| {
            let mut state = desired(&switch, &config).state;
            for name in ["eth1", "eth2"] {
                state.interfaces.entry(interface(name)).or_default();
            }
            for (kind, place) in damage {
                hurt(&mut state, kind, place);
            }
            state
        })
}

/// With any options that decide about more than one device.
fn node() -> impl Strategy<Value = NodeConfig> {
    let form = prop_oneof![3 => Just(VlanForm::Steered), 1 => Just(VlanForm::Subinterfaces)];
    let underlay = prop_oneof![
        2 => Just(Underlay::Own),
        1 => (1..3).prop_map(Underlay::Other),
    ];
    (form, underlay).prop_map(|(vlan_form, wan_underlay)| NodeConfig {
        vlan_form,
        wan_underlay,
        ..config()
    })
}

fn hurt(state: &mut KernelState, kind: u8, place: prop::sample::Index) {
    let devices: Vec<_> = state
        .bridges
        .keys()
        .chain(state.vxlans.keys())
        .chain(state.vlans.keys())
        .copied()
        .collect();
    let vxlans: Vec<_> = state.vxlans.keys().copied().collect();
    let vlans: Vec<_> = state.vlans.keys().copied().collect();
    if let (14..20, false) = (kind, vlans.is_empty()) {
        return hurt_vlan(state, kind, vlans[place.index(vlans.len())]);
    }
    let vxlan = (!vxlans.is_empty()).then(|| vxlans[place.index(vxlans.len())]);
    match kind {
        0 => state.bridge_netfilter = true,
        1 => state.filters.clear(),
        2 => state.filters.values_mut().for_each(|f| f.rules.clear()),
        3 => state.filters.values_mut().for_each(|f| f.inside.clear()),
        4 if !devices.is_empty() => {
            state.apply(&Step::DeleteDevice(devices[place.index(devices.len())]));
        }
        5 => state.bridges.values_mut().for_each(|b| {
            b.up = false;
            b.neighbours.clear();
        }),
        6 => state
            .bridges
            .values_mut()
            .for_each(|b| b.neighbours.clear()),
        7 => state.bridges.values_mut().for_each(|b| b.pinned.clear()),
        8 => state.bridges.values_mut().for_each(|b| {
            b.pinned.values_mut().for_each(|p| p.sticky = false);
            b.settings.spanning_tree = true;
        }),
        _ => {
            let Some(name) = vxlan else { return };
            match kind {
                9 => {
                    let bridge = state.bridge_of(name).unwrap_or(name);
                    state.apply(&Step::Detach {
                        interface: name,
                        bridge,
                    });
                    return;
                }
                10 => {
                    let Some(bridge) = state.bridges.keys().next().copied() else {
                        return;
                    };
                    state.apply(&Step::Attach {
                        interface: name,
                        bridge,
                    });
                    return;
                }
                _ => {}
            }
            let vxlan = state.vxlans.get_mut(&name).unwrap();
            match kind {
                20 => vxlan.port.cut = vxlan.is_wan() && vxlan.up && vxlan.port.bridge.is_some(),
                11 => vxlan.fdb.clear(),
                12 => vxlan.flood.clear(),
                _ => vxlan.port.flags.isolated = !vxlan.port.flags.isolated,
            }
        }
    }
}

fn hurt_vlan(state: &mut KernelState, kind: u8, name: InterfaceName) {
    let bridge = state.bridges.keys().next().copied();
    let vlan = state.vlans.get_mut(&name).unwrap();
    match kind {
        14 => {
            vlan.up = false;
            state.guard = None;
        }
        15 => vlan.link.mtu = 1400,
        16 => vlan.steering = Steering::Unknown,
        17 => {
            let port = state.interfaces.get_mut(&interface("eth1")).unwrap();
            (port.steering, port.promiscuous) = (Steering::Nothing, false);
        }
        18 => {
            // Renamed, by somebody with a name we know.
            if state.vlans.contains_key(&interface("gv000000000000")) {
                return;
            }
            let device = state.vlans.remove(&name).unwrap();
            let other = device.kind.other_end();
            state.vlans.insert(interface("gv000000000000"), device);
            let Some(other) = other.and_then(|other| state.vlans.get_mut(&other)) else {
                return;
            };
            match &mut other.kind {
                VlanKind::Inner { outer: end } | VlanKind::Outer { inner: end } => {
                    *end = Some(interface("gv000000000000"));
                }
                VlanKind::Subinterface { .. } => {}
            }
        }
        _ => {
            // Somebody may have taken the bridges before.
            if let Some(bridge) = bridge {
                state.apply(&Step::Attach {
                    interface: name,
                    bridge,
                });
            }
        }
    }
}

/// Everything of ours as wanted. Interfaces may be up that need not be.
fn holds(state: &KernelState, wanted: &KernelState) -> Result<(), TestCaseError> {
    prop_assert_eq!(&state.bridges, &wanted.bridges);
    prop_assert_eq!(&state.vxlans, &wanted.vxlans);
    prop_assert_eq!(&state.vlans, &wanted.vlans);
    prop_assert_eq!(&state.filters, &wanted.filters);
    prop_assert_eq!(&state.guard, &wanted.guard);
    prop_assert!(!state.bridge_netfilter || wanted.bridges.is_empty());
    for (name, held) in &state.interfaces {
        match wanted.interfaces.get(name) {
            Some(wanted) => prop_assert_eq!(held, wanted),
            None => {
                prop_assert_eq!(held.port.bridge, None);
                prop_assert_eq!(&held.steering, &Steering::Nothing);
            }
        }
    }
    Ok(())
}

/// The kernel allows one device per key and port: a plan must delete before it creates. Two networks of one database
/// with the same key are the database's fault, and left to the kernel to refuse.
fn clashes(state: &KernelState) -> bool {
    let identities: BTreeSet<_> = state.vxlans.values().map(|v| v.identity).collect();
    identities.len() != state.vxlans.len()
}

/// Some networks loop over the WAN: those whose number has its bit in the lower half of `cut`. And some ports: as the
/// upper half has it.
fn wanted(switch: &SwitchState, config: &NodeConfig, cut: u8) -> KernelState {
    let mut state = desired(switch, config).state;
    let names = (0..4_u8).filter(|n| cut >> n & 1 == 1);
    let names = names.map(|n| LogicalSwitchName::new(format!("net-{n}")));
    let bridges = names.map(|name| InterfaceName::bridge(&name));
    let ports = state.ports().zip((4..8_u8).cycle());
    let ports = ports.filter(|(_, n)| cut >> n & 1 == 1);
    let ports: Vec<_> = ports.map(|((name, _), _)| name).collect();
    state.cut(&bridges.chain(ports).collect());
    state
}

proptest! {
    #[test]
    fn a_plan_carried_out_gives_what_is_wanted(
        switch in switch(),
        node in node(),
        cut in any::<u8>(),
        mut state in kernel(),
    ) {
        let wanted = wanted(&switch, &node, cut);
        for step in &plan(&wanted, &state).steps {
            state.apply(step);
        }
        holds(&state, &wanted)?;
    }

    #[test]
    fn nothing_is_planned_where_nothing_is_missing(switch in switch(), node in node(), cut in any::<u8>()) {
        let wanted = wanted(&switch, &node, cut);
        prop_assert_eq!(plan(&wanted, &wanted), Plan::default());
    }

    #[test]
    fn an_interrupted_plan_costs_nothing(
        switch in switch(),
        node in node(),
        cut in any::<u8>(),
        mut state in kernel(),
        end in any::<prop::sample::Index>(),
    ) {
        let wanted = wanted(&switch, &node, cut);
        let first = plan(&wanted, &state);
        for step in first.steps.iter().take(end.index(first.steps.len() + 1)) {
            state.apply(step);
        }
        for step in &plan(&wanted, &state).steps {
            state.apply(step);
        }
        holds(&state, &wanted)?;
    }

    #[test]
    fn no_two_devices_have_the_same_key_on_the_way(
        switch in switch(),
        node in node(),
        mut state in kernel(),
    ) {
        let wanted = desired(&switch, &node).state;
        prop_assume!(!clashes(&wanted) && !clashes(&state));
        for step in &plan(&wanted, &state).steps {
            state.apply(step);
            prop_assert!(!clashes(&state), "after {}", step);
        }
    }

    #[test]
    fn a_station_that_stays_is_never_without_a_way(before in switch(), after in switch()) {
        let mut state = desired(&before, &config()).state;
        let wanted = desired(&after, &config()).state;
        let recreated: BTreeSet<_> = state
            .vxlans
            .iter()
            .filter(|(name, held)| wanted.vxlans.get(name).is_none_or(|w| w.identity != held.identity))
            .map(|(name, _)| *name)
            .collect();
        let stays = |state: &KernelState, bridge, mac: &MacAddress| {
            let pinned = state.bridges.get(&bridge).and_then(|b: &Bridge| b.pinned.get(mac));
            pinned.is_some_and(|p| state.vxlans.get(&p.port).is_some_and(|v| v.fdb.contains_key(mac)))
        };
        let watched: Vec<_> = state
            .bridges
            .iter()
            .flat_map(|(name, bridge)| bridge.pinned.iter().map(|(mac, pinned)| (*name, *mac, pinned.port)))
            .filter(|(bridge, mac, port)| {
                let pinned = wanted.bridges.get(bridge).and_then(|b| b.pinned.get(mac));
                pinned.is_some() && !recreated.contains(port)
            })
            .collect();
        for step in &plan(&wanted, &state).steps {
            state.apply(step);
            for (bridge, mac, _) in &watched {
                prop_assert!(stays(&state, *bridge, mac), "{} after {}", mac, step);
            }
        }
    }
}

/// One network with one remote gateway, bound to a VLAN of the port that leads nowhere.
fn bordering(switch: &mut SwitchState, name: &str, vlan: u16, wan: Locator, station: RemoteMac) {
    let name = LogicalSwitchName::new(name);
    let border = PortVlan {
        port: PhysicalPort {
            switch: "vtep".into(),
            name: "border".into(),
        },
        vlan: VlanId::new(vlan).unwrap(),
    };
    switch.bindings.insert(border, name.clone());
    switch.logical_switches.insert(
        name,
        LogicalSwitch {
            owned: true,
            tunnel_key: Vni::new(123 + u32::from(vlan)),
            mtu: None,
            flood: [wan].into(),
            macs: [(MacAddress::from_u64(0x0011_2233_4455), station)].into(),
        },
    );
}

#[test]
fn a_device_that_comes_back_to_its_bridge_gets_its_port_flags_again() {
    let mut switch = SwitchState::default();
    for (vlan, name) in [(0, "net-a"), (1, "net-b")] {
        let (wan, station) = remote(456 + u32::from(vlan));
        bordering(&mut switch, name, vlan, wan, station);
    }
    let wanted = desired(&switch, &config()).state;
    let mut state = wanted.clone();
    let bridges: Vec<_> = wanted.bridges.keys().copied().collect();
    for (name, vxlan) in &wanted.vxlans {
        let other = bridges.iter().find(|b| vxlan.port.bridge != Some(**b));
        state.apply(&Step::Attach {
            interface: *name,
            bridge: *other.unwrap(),
        });
        // What it does there is just what it should do at home; the kernel forgets it on the way.
        state.apply(&Step::SetPortFlags(*name, vxlan.port.flags));
    }
    for step in &plan(&wanted, &state).steps {
        state.apply(step);
    }
    assert_eq!(state.vxlans, wanted.vxlans);
    assert_eq!(state.bridges, wanted.bridges);
}

fn remote(key: u32) -> (Locator, RemoteMac) {
    let wan = Locator {
        ip: Ipv4Addr::new(203, 0, 113, 2),
        tunnel_key: Vni::new(key),
    };
    let ip = Some(Ipv4Addr::new(172, 16, 0, 2).into());
    (wan, RemoteMac { locator: wan, ip })
}

#[test]
fn tunnels_that_move_to_another_underlay_are_let_in_there_and_leave_nothing_behind() {
    let mut switch = SwitchState::default();
    let (wan, station) = remote(123);
    bordering(&mut switch, "net-a", 0, wan, station);
    let elsewhere = NodeConfig {
        wan_underlay: Underlay::Other(3),
        ..config()
    };
    let before = desired(&switch, &config()).state;
    let after = desired(&switch, &elsewhere).state;
    assert_eq!(
        plan(&after, &before).to_string(),
        "\
delete gw4fcb3fdb2b83
replace filter: 0 inside, 0 wan
replace filter in netns id 3: 0 inside, 2 wan
create vxlan gw4fcb3fdb2b83: l2gw:wan net=net-a vni 123 udp port 4789 in netns id 3
attach gw4fcb3fdb2b83 to gbba1e34a52aea
port gw4fcb3fdb2b83: isolated true learning false suppress true hairpin false flood true
host side of gw4fcb3fdb2b83: ipv6 false link-local false arp false
put 00:11:22:33:44:55 at gw4fcb3fdb2b83 to 203.0.113.2:4789 vni 123 pinned
flood gw4fcb3fdb2b83 to 203.0.113.2:14790 vni 123
bring up gw4fcb3fdb2b83
"
    );
    let back = plan(&before, &after).to_string();
    assert!(
        back.ends_with("bring up gw4fcb3fdb2b83\nremove filter in netns id 3\n"),
        "{back}"
    );
}

#[test]
fn a_plan_reads_like_this() {
    let mut switch = SwitchState::default();
    let (wan, station) = remote(456);
    bordering(&mut switch, "net-a", 0, wan, station);
    let wanted = desired(&switch, &config()).state;
    let made = plan(&wanted, &KernelState::default());
    assert_eq!(
        made.to_string(),
        "\
replace filter: 0 inside, 2 wan
create bridge gbba1e34a52aea: l2gw:net=net-a
create vxlan glba1e34a52aea: l2gw:inside net=net-a vni 123 udp port 4789
create vxlan gw06cb3fde984f: l2gw:wan net=net-a vni 456 udp port 14789
host side of gbba1e34a52aea: ipv6 true link-local false arp false
attach glba1e34a52aea to gbba1e34a52aea
host side of glba1e34a52aea: ipv6 false link-local false arp false
attach gw06cb3fde984f to gbba1e34a52aea
port gw06cb3fde984f: isolated true learning false suppress true hairpin false flood true
host side of gw06cb3fde984f: ipv6 false link-local false arp false
bring up gbba1e34a52aea
answer for 172.16.0.2 on gbba1e34a52aea: 00:11:22:33:44:55
put 00:11:22:33:44:55 at gw06cb3fde984f to 203.0.113.2:4789 vni 456 pinned
flood gw06cb3fde984f to 203.0.113.2:14790 vni 456
bring up glba1e34a52aea
bring up gw06cb3fde984f
"
    );
    let mut later = wanted.clone();
    later.vxlans.values_mut().for_each(|v| v.flood.clear());
    later.filters.values_mut().for_each(|f| f.wan.clear());
    assert_eq!(
        plan(&later, &wanted).to_string(),
        "\
change filter: -wan 203.0.113.2 . 0 -wan 203.0.113.2 . 456
no longer flood gw06cb3fde984f to 203.0.113.2:14790 vni 456
"
    );
    assert_eq!(
        plan(&KernelState::default(), &wanted).to_string(),
        "\
delete glba1e34a52aea
delete gw06cb3fde984f
delete gbba1e34a52aea
remove filter
"
    );
}
