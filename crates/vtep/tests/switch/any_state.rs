//! From any state to any other, in a real kernel: the planner's laws hold there as they do on paper.
//!
//! One namespace lives through all cases, so each begins where the one before ended. Keys and addresses move between
//! networks, interrupted plans are taken up again, and others have their hands on what is there.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;

use model::switch::{Locator, LogicalSwitch, PhysicalPort, PortVlan, RemoteMac, SwitchState};
use model::value::{MacAddress, VlanId, Vni};
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::strategy::ValueTree;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};
use testkit::netns::{Netns, unique_prefix};
use vtep::kernel::Kernel;
use vtep::kernel::desired::{NodeConfig, desired};
use vtep::kernel::netns::{NetworkNamespace, Underlays};
use vtep::kernel::plan::{Plan, plan};
use vtep::kernel::state::KernelState;
use vtep::kernel::underlay::Underlay;
use vtep::kernel::vlan::VlanForm;

use crate::support::*;

/// Networks there may be; of each there are so many far ends and stations at most.
const NETWORKS: u16 = 4;
/// Cases, where the environment does not say (PROPTEST_CASES).
const CASES: u32 = 30;

fn switch_config() -> NodeConfig {
    NodeConfig {
        ports: [
            ("border".into(), None),
            ("a".into(), Some("eth1".parse().unwrap())),
            ("b".into(), Some("eth2".parse().unwrap())),
        ]
        .into(),
        vlan_form: VlanForm::Steered,
        bum_limit: Some(10_000),
        ..config()
    }
}

/// Keys of one network differ from all others' at any time, but move from one network to another between states.
fn logical_switch(slot: u32) -> impl Strategy<Value = LogicalSwitch> {
    let keys = move |n: u32| Vni::new(1 + slot * 4 + n);
    let locator = move || {
        (1..4_u8, option::of(1..4_u32)).prop_map(move |(host, key)| Locator {
            ip: [203, 0, 113, host].into(),
            tunnel_key: key.and_then(keys),
        })
    };
    let ip = (any::<bool>(), 1..5_u8).prop_map(|(v6, host)| match v6 {
        false => std::net::Ipv4Addr::new(172, 16, 0, host).into(),
        true => std::net::Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, host.into()).into(),
    });
    let row = (locator(), option::of(ip)).prop_map(|(locator, ip)| RemoteMac { locator, ip });
    let station = (1..7_u64).prop_map(|n| MacAddress::from_u64(0x0200_0000_0000 + n));
    let key = prop_oneof![4 => Just(true), 1 => Just(false)];
    (
        key,
        option::of(1400..1700_u16),
        btree_set(locator(), 0..4),
        btree_map(station, row, 0..6),
    )
        .prop_map(move |(keyed, mtu, flood, macs)| LogicalSwitch {
            owned: true,
            tunnel_key: keys(0).filter(|_| keyed),
            mtu,
            flood,
            macs,
        })
}

fn switch() -> impl Strategy<Value = SwitchState> {
    let networks = (0..NETWORKS).map(|n| option::of(logical_switch(n.into())));
    let networks: Vec<_> = networks.collect();
    let port = prop_oneof![Just("border"), Just("a"), Just("b")];
    let binding = ((port, 0..3_u16), 0..NETWORKS);
    (networks, 0..NETWORKS, vec(binding, 0..8)).prop_map(|(networks, shift, bindings)| {
        let mut switch = SwitchState::default();
        for (slot, network) in (0..).zip(networks) {
            let number = (slot + shift) % NETWORKS;
            if let Some(network) = network {
                switch.logical_switches.insert(net(number), network);
            }
        }
        let bindings: BTreeMap<_, _> = bindings.into_iter().collect();
        for ((port, vlan), number) in bindings {
            let port = PhysicalPort {
                switch: "vtep".into(),
                name: port.into(),
            };
            let vlan = VlanId::new(vlan).unwrap();
            switch.bindings.insert(PortVlan { port, vlan }, net(number));
        }
        switch
    })
}

fn net(number: u16) -> model::switch::LogicalSwitchName {
    name(&format!("net-{number}"))
}

/// What somebody else does to one of our devices, or to what is in it.
#[derive(Clone, Copy, Debug)]
enum Meddling {
    DeleteDevice,
    FlushEntries,
    FlushNeighbours,
    TakeDown,
    TakeOutOfBridge,
    ChangeMtu,
    RemoveFilter,
    SendElsewhere,
}

fn meddling() -> impl Strategy<Value = Meddling> {
    use Meddling::*;
    prop::sample::select(vec![
        DeleteDevice,
        FlushEntries,
        FlushNeighbours,
        TakeDown,
        TakeOutOfBridge,
        ChangeMtu,
        RemoveFilter,
        SendElsewhere,
    ])
}

fn meddle(held: &KernelState, what: Meddling, at: Index) {
    let pick =
        |names: Vec<String>| (!names.is_empty()).then(|| names[at.index(names.len())].clone());
    let bridges = || held.bridges.keys().map(ToString::to_string).collect();
    let vxlans = || held.vxlans.keys().map(ToString::to_string).collect();
    let any = || [bridges(), vxlans()].concat();
    match what {
        Meddling::DeleteDevice => pick(any()).map(|name| ip(&format!("link del {name}"))),
        Meddling::FlushEntries => {
            pick(bridges()).map(|name| run("bridge", &format!("fdb flush dev {name}")))
        }
        Meddling::FlushNeighbours => {
            pick(bridges()).map(|name| ip(&format!("neigh flush nud permanent dev {name}")))
        }
        Meddling::TakeDown => pick(any()).map(|name| ip(&format!("link set {name} down"))),
        Meddling::TakeOutOfBridge => {
            pick(vxlans()).map(|name| ip(&format!("link set {name} nomaster")))
        }
        Meddling::ChangeMtu => pick(any()).map(|name| ip(&format!("link set {name} mtu 1400"))),
        Meddling::RemoveFilter if held.filters.contains_key(&Underlay::Own) => {
            Some(run("nft", "delete table inet l2gw"))
        }
        Meddling::RemoveFilter => None,
        Meddling::SendElsewhere => pick(vxlans()).map(|name| {
            let to = "02:00:00:00:00:01 dst 198.51.100.66 self static";
            run("bridge", &format!("fdb replace {to} dev {name}"))
        }),
    };
}

/// Makes the kernel hold it, as the daemon does: again and again while there is something left to do.
fn converge(kernel: &mut Kernel, wanted: &KernelState) {
    let never = AtomicBool::new(false);
    for _ in 0..10 {
        let report = kernel.converge(wanted, &never).unwrap();
        println!("then:\n{}", report.plan);
        if report.failures.is_empty() && report.left_out == 0 {
            return;
        }
        assert!(
            report.is_unfinished(),
            "{:?}\n{}",
            report.failures,
            report.plan
        );
    }
    panic!("it does not come to an end");
}

#[test]
fn any_state_becomes_any_other_and_an_interrupted_plan_is_taken_up_again() {
    namespace();
    for port in ["eth1", "eth2"] {
        ip(&format!("link add {port} type veth peer name far-{port}"));
    }
    // Tunnels to remote gateways move to other underlays and back, as when a switch is started with other options.
    let elsewhere = ["1", "2"].map(|_| Netns::create(&unique_prefix()).unwrap());
    let mut underlays = Underlays::default();
    let mut places = vec![Underlay::Own];
    for netns in &elsewhere {
        let namespace = NetworkNamespace::named(netns.name()).unwrap();
        places.push(underlays.add(namespace).unwrap());
    }
    let open = |wan_underlay| {
        let config = NodeConfig {
            wan_underlay,
            ..switch_config()
        };
        Kernel::open_with(config.clone(), underlays.clone()).map(|kernel| (kernel, config))
    };
    let (mut kernel, mut config) = open(Underlay::Own).unwrap();
    let never = AtomicBool::new(false);
    let first = variable("L2GW_FUZZ_SEED").unwrap_or_else(|| fastrand::u64(..));
    let cases = variable("PROPTEST_CASES").unwrap_or(CASES);
    println!("{cases} cases from L2GW_FUZZ_SEED={first}");
    let case = (
        switch(),
        any::<Index>(),
        vec((meddling(), any::<Index>()), 0..3),
        option::weighted(0.3, prop::sample::select(places)),
    );
    let mut runner = runner(first);
    for _ in 0..cases {
        let (switch, cut, meddlings, moves) = case.new_tree(&mut runner).unwrap().current();
        if let Some(place) = moves {
            println!("tunnels to remote gateways are to run{place}");
            (kernel, config) = open(place).unwrap();
        }
        let wanted = desired(&switch, &config).state;
        let mut plan = plan(&wanted, kernel.observe().unwrap());
        plan.steps.truncate(cut.index(plan.steps.len() + 1));
        let text = plan.to_string();
        let begun = kernel.carry_out(plan, &never).unwrap();
        assert!(begun.failures.is_empty(), "{:?}\n{text}", begun.failures);
        println!("a plan, carried out so far:\n{text}then {meddlings:?}");
        for (what, at) in meddlings {
            meddle(kernel.observe().unwrap(), what, at);
        }
        converge(&mut kernel, &wanted);
        let (mut fresh, _) = open(config.wan_underlay).unwrap();
        assert_same(fresh.observe().unwrap(), &wanted);
        let writes = kernel.writes();
        let report = kernel.converge(&wanted, &never).unwrap();
        assert!(report.plan == Plan::default(), "again:\n{}", report.plan);
        assert_eq!(kernel.writes(), writes);
    }
}

/// Cases that follow from a number.
fn runner(seed: u64) -> TestRunner {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    TestRunner::new_with_rng(ProptestConfig::default(), rng)
}
