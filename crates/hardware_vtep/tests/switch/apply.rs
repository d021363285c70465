//! The controller's half.

use std::collections::BTreeSet;
use std::time::Instant;

use crate::fixture::{Switch, locator, mac, name, network, networks, port_vlan, state, via, vni};
use crate::mischief::{a_locator_row, do_mischief, flood, index, mischief, pick, ucast};
use futures_util::StreamExt;
use hardware_vtep::StepError;
use model::plan::{Blocked, Plan, Step};
use model::switch::{LogicalSwitch, PortVlan, RemoteMac, SwitchState};
use ovsdb::column::{Map, Optional};
use ovsdb::{Atom, Datum, Mutation, Operation, Row, TransactError, Transaction};
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde::Deserialize;
use testkit::ovsdb_server::{OvsdbServer, vtep_schema_without_locator_keys};

const PORTS: [&str; 3] = ["p0", "p1", "p2"];

/// What is wanted: up to four networks, over few enough hosts and MACs that successive states overlap.
fn a_wish() -> impl Strategy<Value = SwitchState> {
    let a_locator =
        || (1..4_u8, option::of(456..458_u32)).prop_map(|(host, key)| locator(host, key));
    let a_remote = (
        a_locator(),
        option::of(prop_oneof![
            Just("10.0.0.1".parse().unwrap()),
            Just("2001:db8::1".parse().unwrap())
        ]),
    )
        .prop_map(|(locator, ip)| RemoteMac { locator, ip });
    let a_network = (
        option::of((1..4_u32).prop_map(vni)),
        option::of(1450..1452_u16),
        btree_set(a_locator(), 0..4),
        btree_map((0..12_u32).prop_map(mac), a_remote, 0..10),
    )
        .prop_map(|(tunnel_key, mtu, flood, macs)| LogicalSwitch {
            owned: true,
            tunnel_key,
            mtu,
            flood,
            macs,
        });
    let a_binding = (0..PORTS.len(), 0..3_u16, any::<prop::sample::Index>());
    (
        btree_map(
            (0..4_u8).prop_map(|n| name(&format!("net{n}"))),
            a_network,
            0..4,
        ),
        vec(a_binding, 0..5),
    )
        .prop_map(|(logical_switches, bindings)| {
            let names: Vec<_> = logical_switches.keys().cloned().collect();
            let bindings = bindings
                .into_iter()
                .filter(|_| !names.is_empty())
                .map(|(port, vlan, which)| {
                    (
                        port_vlan("sw", PORTS[port], vlan),
                        which.get(&names).clone(),
                    )
                })
                .collect();
            SwitchState {
                logical_switches,
                bindings,
                ..SwitchState::default()
            }
        })
}

/// What `state` holds of ours, with its bindings.
fn ours(mut state: SwitchState) -> SwitchState {
    state.logical_switches.retain(|_, network| network.owned);
    let owned: BTreeSet<_> = state.logical_switches.keys().cloned().collect();
    state.bindings.retain(|_, bound| owned.contains(bound));
    state.ports.clear();
    state
        .surplus
        .retain(|surplus| owned.contains(surplus.logical_switch()));
    state
}

/// One server through all cases: each wish meets what the one before left, and what others did to it.
#[test]
fn a_switch_holds_what_was_planned_whatever_it_held_before() {
    let runtime = crate::fixture::runtime();
    let switch = runtime.block_on(async {
        let switch = Switch::start().await;
        switch.publish("sw", &PORTS).await;
        switch
    });
    let config = ProptestConfig {
        cases: 60,
        max_shrink_iters: 100,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let cases = (vec(mischief(), 0..4), a_wish());
    TestRunner::new(config)
        .run(&cases, |(mischiefs, desired)| {
            runtime.block_on(async {
                for mischief in &mischiefs {
                    do_mischief(&switch, mischief).await;
                }
                let (_fresh, dumped) = crate::fixture::follow(&switch.server).await;
                prop_assert_eq!(switch.state(), state(&dumped), "after mischief");

                let plan = switch.plan(&desired);
                let failures = hardware_vtep::apply(&switch.session, &switch.replica, &plan).await;
                prop_assert!(failures.is_empty(), "{:#?} of\n{}", failures, plan);

                let rest = switch.plan(&desired);
                prop_assert!(rest.is_empty(), "{rest}");
                let mut wanted = desired.clone();
                for blocked in &rest.blocked {
                    let Blocked::Binding { port_vlan, .. } = blocked else {
                        panic!("{blocked}");
                    };
                    wanted.bindings.remove(port_vlan);
                }
                prop_assert_eq!(ours(switch.state()), wanted);
                // What updates made is what a dump shows.
                let (_fresh, dumped) = crate::fixture::follow(&switch.server).await;
                prop_assert_eq!(switch.state(), state(&dumped), "after apply");
                Ok(())
            })
        })
        .unwrap();
}

#[tokio::test]
async fn nothing_is_left_of_a_network_that_is_not_wanted_any_more() {
    let switch = Switch::start().await;
    switch.publish("sw", &PORTS).await;
    let wan = locator(1, Some(456));
    let mut desired = networks([("net", network(123, [wan], [(mac(1), via(wan))]))]);
    desired
        .bindings
        .insert(port_vlan("sw", "p0", 100), name("net"));
    switch.reach(&desired).await;
    assert_eq!(switch.count("Physical_Locator_Set").await, 1);
    // What the switch itself learnt keeps a logical switch as well.
    let on = pick(&switch, "Logical_Switch", index(0)).await.unwrap();
    let learnt = Row::new()
        .with("MAC", "02:00:00:00:00:99")
        .with("logical_switch", on)
        .with("locator", Atom::NamedUuid("l".into()));
    switch
        .transact([
            a_locator_row("192.0.2.100", 7),
            Operation::insert("Ucast_Macs_Local", learnt),
        ])
        .await;

    switch.reach(&SwitchState::default()).await;
    for table in [
        "Logical_Switch",
        "Ucast_Macs_Remote",
        "Mcast_Macs_Remote",
        "Ucast_Macs_Local",
        "Physical_Locator",
        "Physical_Locator_Set",
    ] {
        assert_eq!(switch.count(table).await, 0, "{table}");
    }
    assert!(switch.state().bindings.is_empty());
    assert_eq!(switch.state().ports.len(), PORTS.len());
}

#[tokio::test]
async fn rows_of_others_stay_as_they_are() {
    let switch = Switch::start().await;
    switch.publish("sw", &PORTS).await;
    let theirs = Row::new()
        .with("name", "theirs")
        .with("description", "owned by l2gw")
        .with("tunnel_key", 9i64)
        .with("other_config", Datum::map([("owner", "nsx")]));
    let outcome = switch
        .transact([Operation::insert("Logical_Switch", theirs)])
        .await;
    let on = outcome.inserted(0).unwrap();
    let mut rows = vec![
        a_locator_row("192.0.2.1", 456),
        ucast(&mac(7).to_string(), "", on),
    ];
    rows.extend(flood("unknown-dst", on));
    switch.transact(rows).await;
    let port = pick(&switch, "Physical_Port", index(0)).await.unwrap();
    let bind = Mutation::insert("vlan_bindings", Datum::map([(5u16, on)]));
    switch
        .transact([Operation::mutate("Physical_Port", port, [bind])])
        .await;
    let before = switch.state();

    // Over the very locator that they use.
    let wan = locator(1, Some(456));
    let ours = networks([("ours", network(123, [wan], [(mac(7), via(wan))]))]);
    switch.reach(&ours).await;
    switch.reach(&SwitchState::default()).await;
    assert_eq!(switch.state(), before);
}

#[tokio::test]
async fn our_networks_are_marked_and_flood_to_everybody() {
    #[derive(Deserialize)]
    struct Columns {
        replication_mode: Optional<String>,
        other_config: Map<String, String>,
        tunnel_key: Optional<i64>,
    }
    let switch = Switch::start().await;
    let found = Row::new()
        .with("name", "found")
        .with("other_config", Datum::map([("a", "b")]));
    switch
        .transact([Operation::insert("Logical_Switch", found)])
        .await;
    let desired = networks([("made", network(1, [], [])), ("found", network(2, [], []))]);
    switch.reach(&desired).await;
    let columns = ["replication_mode", "other_config", "tunnel_key"];
    let rows: Vec<Columns> = switch.select("Logical_Switch", columns).await;
    assert_eq!(rows.len(), 2);
    for row in &rows {
        assert_eq!(row.replication_mode.0.as_deref(), Some("source_node"));
        assert!(row.other_config.get("l2gw").is_some());
    }
    let adopted = rows.iter().find(|row| row.tunnel_key.0 == Some(2)).unwrap();
    assert_eq!(adopted.other_config.get("a").map(String::as_str), Some("b"));
}

#[tokio::test]
async fn a_step_that_the_switch_refuses_fails_alone() {
    let switch = Switch::start().await;
    switch.publish("sw", &PORTS).await;
    let far = locator(1, None);
    switch.reach(&networks([("net", network(1, [], []))])).await;
    let create = |text: &str| Step::CreateLogicalSwitch {
        name: name(text),
        tunnel_key: None,
        mtu: None,
    };
    let put = |on: &str, number| Step::PutMac {
        logical_switch: name(on),
        mac: mac(number),
        was: None,
        remote: via(far),
    };
    let bind = |port: &str| Step::Bind {
        port_vlan: PortVlan {
            ..port_vlan("sw", port, 1)
        },
        was: None,
        logical_switch: name("net"),
    };
    let mut steps = vec![create("a"), create("net"), create("b")];
    steps.extend((0..300).map(|number| put("net", number)));
    steps.extend([put("missing", 1), bind("p0"), bind("no-such-port")]);
    // The port that was just bound keeps it.
    steps.push(Step::DeleteLogicalSwitch { name: name("net") });
    steps.push(Step::DeleteLogicalSwitch { name: name("a") });
    let plan = Plan {
        steps,
        blocked: Vec::new(),
    };
    let failures = hardware_vtep::apply(&switch.session, &switch.replica, &plan).await;
    let told: Vec<(usize, String)> = failures
        .iter()
        .map(|failure| (failure.step, failure.error.to_string()))
        .collect();
    let steps: Vec<usize> = told.iter().map(|(step, _)| *step).collect();
    assert_eq!(steps, [1, 303, 305, 306], "{told:#?}");
    assert!(matches!(
        failures[0].error,
        StepError::Transaction(TransactError::Failed(_))
    ));
    assert!(told[0].1.contains("constraint violation"), "{told:#?}");
    assert_eq!(told[1].1, "the switch has no logical switch missing");
    assert_eq!(told[2].1, "the switch has no port sw:no-such-port");
    assert!(told[3].1.contains("referential integrity"), "{told:#?}");

    let held = switch.state();
    let names: Vec<String> = held
        .logical_switches
        .keys()
        .map(ToString::to_string)
        .collect();
    assert_eq!(names, ["b", "net"]);
    assert_eq!(held.logical_switches[&name("net")].macs.len(), 300);
    assert_eq!(held.bindings.len(), 1);
}

#[tokio::test]
async fn a_locator_whose_last_user_leaves_is_still_there_for_the_next() {
    let switch = Switch::start().await;
    let (a, b) = (locator(1, None), locator(2, None));
    let macs = |first, others, last, ip: [u8; 4]| {
        let all = (0..1000).map(|n| match n {
            0 => (mac(n), via(first)),
            999 => (mac(n), via(last)),
            _ => {
                let ip = Some(ip.into());
                let locator = others;
                (mac(n), RemoteMac { locator, ip })
            }
        });
        networks([("net", network(1, [], all))])
    };
    switch.reach(&macs(a, b, b, [10, 0, 0, 1])).await;
    // The first transaction takes the only user of `a` away, the last one brings another; all are under way at once.
    let desired = macs(b, b, a, [10, 0, 0, 2]);
    switch.reach(&desired).await;
    assert!(switch.plan(&desired).is_empty());
    assert_eq!(switch.count("Physical_Locator").await, 2);
}

#[tokio::test]
async fn an_old_schema_is_used_as_far_as_it_goes() {
    let schema = vtep_schema_without_locator_keys().unwrap();
    let switch = Switch::of(OvsdbServer::with_schema(&schema).unwrap()).await;
    switch.publish("sw", &PORTS).await;
    let capabilities = switch
        .replica
        .read(|database| database.unwrap().capabilities());
    assert!(!capabilities.locator_tunnel_key && !capabilities.replication_mode);

    let (inside, wan) = (locator(1, None), locator(2, Some(456)));
    let possible = networks([("net", network(1, [inside], [(mac(1), via(inside))]))]);
    switch.reach(&possible).await;
    assert!(switch.plan(&possible).is_empty());

    let too_much = networks([(
        "net",
        network(
            1,
            [inside, wan],
            [(mac(1), via(inside)), (mac(2), via(wan))],
        ),
    )]);
    let plan = switch.plan(&too_much);
    let failures = hardware_vtep::apply(&switch.session, &switch.replica, &plan).await;
    assert_eq!(failures.len(), 2);
    for failure in failures {
        assert_eq!(
            failure.error.to_string(),
            "the switch's schema has no Physical_Locator.tunnel_key: tunnel 192.0.2.2 key 456 cannot be had"
        );
    }
    assert_eq!(switch.count("Physical_Locator").await, 1);
    switch.reach(&SwitchState::default()).await;
}

#[tokio::test]
async fn a_switch_known_to_ignore_keys_of_tunnels_counts_as_one_that_has_none() {
    let switch = Switch::start().await;
    switch.publish("sw", &PORTS).await;
    let has_keys = || {
        let has = switch.replica.read(|held| held.unwrap().capabilities());
        has.locator_tunnel_key
    };
    assert!(has_keys());
    let sw = switch.row_of("Physical_Switch", "sw").await;
    for (description, expected) in [("OVS VTEP Emulator", false), ("a switch", true)] {
        let row = Row::new().with("description", description);
        switch
            .transact([Operation::update("Physical_Switch", sw, row)])
            .await;
        assert_eq!(has_keys(), expected, "{description}");
    }
}

#[tokio::test]
async fn a_lost_connection_fails_every_step_that_is_left() {
    let mut switch = Switch::start().await;
    let far = locator(1, None);
    let desired = networks([("net", network(1, [], (0..1000).map(|n| (mac(n), via(far)))))]);
    let plan = switch.plan(&desired);
    switch.server.kill().unwrap();
    let failures = hardware_vtep::apply(&switch.session, &switch.replica, &plan).await;
    assert_eq!(failures.len(), plan.steps.len());
}

const MANY: u32 = 100_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_macs_arrive() {
    let switch = Switch::start().await;
    let through = |n: u32| RemoteMac {
        locator: locator(u8::try_from(n % 64).unwrap() + 1, Some(456)),
        ip: Some(std::net::Ipv4Addr::from(0x0a00_0000 + n).into()),
    };
    let desired = networks([(
        "net",
        network(1, [], (0..MANY).map(|n| (mac(n), through(n)))),
    )]);
    let plan = switch.plan(&desired);
    let started = Instant::now();
    let failures = hardware_vtep::apply(&switch.session, &switch.replica, &plan).await;
    let applied = started.elapsed();
    assert!(failures.is_empty());
    assert!(switch.plan(&desired).is_empty());
    assert_eq!(switch.count("Ucast_Macs_Remote").await, MANY as usize);

    // The floor: the same rows, transactions and window, with nothing on our side but sending them.
    let bare = OvsdbServer::start().unwrap();
    let target = bare.unix_target().parse().unwrap();
    let session = ovsdb::Session::connect(&target, &ovsdb::SessionOptions::default())
        .await
        .unwrap();
    let mut first = vec![Operation::insert_named(
        "Logical_Switch",
        "n",
        Row::new().with("name", "net"),
    )];
    for host in 0..64 {
        let row = Row::new()
            .with("encapsulation_type", "vxlan_over_ipv4")
            .with("dst_ip", format!("192.0.2.{}", host + 1))
            .with("tunnel_key", 456i64);
        first.push(Operation::insert_named(
            "Physical_Locator",
            format!("l{host}"),
            row,
        ));
    }
    let insert = |n: u32, on: Atom, locator: Atom| {
        let row = Row::new()
            .with("MAC", mac(n).to_string())
            .with("logical_switch", on)
            .with("locator", locator)
            .with("ipaddr", std::net::Ipv4Addr::from(0x0a00_0000 + n));
        Operation::insert("Ucast_Macs_Remote", row)
    };
    first.extend((0..64).map(|n| {
        let named = |name: String| Atom::NamedUuid(name.into());
        insert(n, named("n".to_owned()), named(format!("l{n}")))
    }));
    let first: Transaction = first.into_iter().collect();
    let started = Instant::now();
    let outcome = session.transact(hardware_vtep::NAME, &first).await.unwrap();
    let on = outcome.inserted(0).unwrap();
    let numbers: Vec<u32> = (64..MANY).collect();
    let transactions = numbers.chunks(150).map(|chunk| -> Transaction {
        let locator = |n: u32| outcome.inserted(1 + n as usize % 64).unwrap();
        chunk
            .iter()
            .map(|n| insert(*n, on.into(), locator(*n).into()))
            .collect()
    });
    let all: Vec<bool> = session
        .pipeline(hardware_vtep::NAME, transactions, 20)
        .map(|outcome| outcome.is_ok())
        .collect()
        .await;
    let floor = started.elapsed();
    assert!(all.into_iter().all(|done| done));
    println!(
        "{MANY} MACs: {applied:?}, bare insert {floor:?}, ratio {:.2}",
        applied.as_secs_f64() / floor.as_secs_f64()
    );

    let started = Instant::now();
    switch.reach(&SwitchState::default()).await;
    println!(
        "{MANY} MACs deleted with their network: {:?}",
        started.elapsed()
    );
    assert_eq!(switch.count("Ucast_Macs_Remote").await, 0);
}
