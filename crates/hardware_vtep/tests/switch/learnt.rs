//! What a switch says beside its ports: learnt MACs and tunnels.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use hardware_vtep::{LearntMacs, LocalMac, publish_local_macs, set_bfd};
use model::switch::SwitchState;
use ovsdb::{Atom, Datum, Mutation, Operation, Row};

use crate::fixture::{Switch, locator, mac, name, network, networks, port_vlan};

const OWN_END: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 100);

fn learnt(macs: impl IntoIterator<Item = u32>) -> LearntMacs {
    let macs = macs.into_iter().map(|number| (mac(number), None));
    [(name("net"), macs.collect())].into()
}

async fn publish(switch: &Switch, wanted: &LearntMacs) -> usize {
    publish_local_macs(&switch.session, &switch.replica, OWN_END, wanted)
        .await
        .unwrap()
}

fn shown(switch: &Switch) -> Vec<LocalMac> {
    let mut macs: Vec<_> = switch
        .replica
        .read(|database| database.unwrap().local_macs().collect());
    macs.sort();
    macs
}

async fn switch_with_network() -> Switch {
    let switch = Switch::start().await;
    switch.publish("sw", &["eth1", "eth2"]).await;
    let mut desired = networks([("net", network(5, [locator(1, None)], []))]);
    desired
        .bindings
        .insert(port_vlan("sw", "eth1", 7), name("net"));
    switch.reach(&desired).await;
    switch
}

#[tokio::test]
async fn learnt_macs_are_published_by_difference_and_read_with_switch_and_port() {
    let switch = switch_with_network().await;
    let mut wanted = learnt(0..1000);
    assert_eq!(publish(&switch, &wanted).await, 1000);
    assert_eq!(publish(&switch, &wanted).await, 0);
    assert_eq!(switch.count("Physical_Locator").await, 2);

    // One goes, one comes, one gets an address.
    let macs = wanted.get_mut(&name("net")).unwrap();
    macs.remove(&mac(0));
    macs.insert(mac(1000), None);
    macs.insert(mac(1), Some("10.0.0.1".parse().unwrap()));
    // A network that is not there yet is left for later.
    wanted.insert(name("other"), [(mac(1), None)].into());
    assert_eq!(publish(&switch, &wanted).await, 3);
    assert_eq!(publish(&switch, &wanted).await, 0);
    let shown = shown(&switch);
    assert_eq!(shown.len(), 1000);
    assert_eq!(
        shown.first().unwrap(),
        &LocalMac {
            logical_switch: name("net"),
            mac: mac(1),
            ip: Some("10.0.0.1".parse().unwrap()),
            tunnel_ip: Some(OWN_END),
            switch: Some("sw".into()),
            port: Some(port_vlan("sw", "eth1", 7)),
        }
    );
    assert_eq!(publish(&switch, &LearntMacs::new()).await, 1000);
    assert_eq!(switch.count("Ucast_Macs_Local").await, 0);
}

#[tokio::test]
async fn macs_learnt_at_another_tunnel_end_are_somebody_elses() {
    let switch = switch_with_network().await;
    let theirs = Row::new()
        .with("encapsulation_type", "vxlan_over_ipv4")
        .with("dst_ip", "192.0.2.200");
    let net = switch.row_of("Logical_Switch", "net").await;
    let row = |number| {
        Row::new()
            .with("MAC", mac(number).to_string())
            .with("logical_switch", net)
            .with("locator", Atom::NamedUuid("l".into()))
    };
    switch
        .transact([
            Operation::insert_named("Physical_Locator", "l", theirs),
            Operation::insert("Ucast_Macs_Local", row(1)),
            Operation::insert("Ucast_Macs_Local", row(2)),
        ])
        .await;
    // The station has moved here; the other end will notice by itself.
    assert_eq!(publish(&switch, &learnt([1])).await, 1);
    assert_eq!(publish(&switch, &learnt([1])).await, 0);
    assert_eq!(publish(&switch, &learnt([])).await, 1);
    assert_eq!(switch.count("Ucast_Macs_Local").await, 2);
}

#[tokio::test]
async fn a_duplicate_row_and_one_without_a_mac_are_removed() {
    let switch = switch_with_network().await;
    publish(&switch, &learnt([1])).await;
    let net = switch.row_of("Logical_Switch", "net").await;
    let end = switch
        .replica
        .read(|database| database.unwrap().local_macs().next());
    assert!(end.is_some());
    let locators: Vec<serde_json::Value> = {
        let ours = [ovsdb::Condition::new("dst_ip", "==", OWN_END)];
        let ask = Operation::select("Physical_Locator", ours, ["_uuid"]);
        switch.transact([ask]).await.rows(0).unwrap()
    };
    let own_end: uuid::Uuid = locators[0]["_uuid"][1].as_str().unwrap().parse().unwrap();
    for text in [mac(1).to_string(), "no-mac".to_owned()] {
        let row = Row::new()
            .with("MAC", text)
            .with("logical_switch", net)
            .with("locator", own_end);
        switch
            .transact([Operation::insert("Ucast_Macs_Local", row)])
            .await;
    }
    assert_eq!(publish(&switch, &learnt([1])).await, 2);
    assert_eq!(shown(&switch).len(), 1);
}

/// A tunnel row, which only the switch makes.
async fn add_tunnel(switch: &Switch, host: u8) {
    let end = |ip: String| {
        Row::new()
            .with("encapsulation_type", "vxlan_over_ipv4")
            .with("dst_ip", ip)
            .with("tunnel_key", 1_000i64 + i64::from(host))
    };
    let named = |name: &'static str| Atom::NamedUuid(name.into());
    let tunnel = Row::new()
        .with("local", named("here"))
        .with("remote", named("there"))
        .with("bfd_params", Datum::map([("min_rx", "500")]));
    switch
        .transact([
            Operation::insert_named("Physical_Locator", "here", end(OWN_END.to_string())),
            Operation::insert_named("Physical_Locator", "there", end(format!("192.0.2.{host}"))),
            Operation::insert_named("Tunnel", "tunnel", tunnel),
            Operation::Mutate {
                table: "Physical_Switch".into(),
                r#where: Vec::new(),
                mutations: vec![Mutation::insert("tunnels", Datum::set([named("tunnel")]))],
            },
        ])
        .await;
}

#[tokio::test]
async fn bfd_is_turned_on_where_asked_and_its_verdict_is_read() {
    let switch = Switch::start().await;
    switch.publish("sw", &[]).await;
    add_tunnel(&switch, 1).await;
    add_tunnel(&switch, 2).await;
    let wanted = BTreeMap::from([
        (Ipv4Addr::new(192, 0, 2, 1), true),
        (Ipv4Addr::new(192, 0, 2, 3), true),
    ]);
    let write = || set_bfd(&switch.session, &switch.replica, &wanted, None);
    assert_eq!(write().await.unwrap(), 1);
    assert_eq!(write().await.unwrap(), 0);
    let tunnels = || {
        let mut tunnels: Vec<_> = switch
            .replica
            .read(|database| database.unwrap().tunnels().collect());
        tunnels.sort_by_key(|tunnel| tunnel.remote);
        tunnels
    };
    let checked: Vec<bool> = tunnels().iter().map(|tunnel| tunnel.is_checked()).collect();
    assert_eq!(checked, [true, false]);
    assert_eq!(tunnels()[0].bfd_params["min_rx"], "500");
    assert_eq!(tunnels()[0].failure(), None, "nothing is known yet");

    let status = |state: &'static str| Operation::Update {
        table: "Tunnel".into(),
        r#where: Vec::new(),
        row: Row::new().with(
            "bfd_status",
            Datum::map([
                ("state", state),
                ("diagnostic", "Neighbor Signaled Session Down"),
            ]),
        ),
    };
    switch.transact([status("down")]).await;
    assert_eq!(
        tunnels()[0].failure().unwrap(),
        "tunnel to 192.0.2.1 is down: Neighbor Signaled Session Down"
    );
    assert_eq!(tunnels()[1].failure(), None, "it is not checked");
    switch.transact([status("up")]).await;
    assert_eq!(tunnels()[0].failure(), None);

    let off = BTreeMap::from([(Ipv4Addr::new(192, 0, 2, 1), false)]);
    let off = set_bfd(&switch.session, &switch.replica, &off, None).await;
    assert_eq!(off.unwrap(), 1);
    assert!(!tunnels()[0].is_checked());
}

#[tokio::test]
async fn a_logical_switch_of_ours_floods_to_all_again() {
    let switch = Switch::start().await;
    switch.reach(&networks([("net", network(1, [], []))])).await;
    let theirs = Row::new()
        .with("name", "theirs")
        .with("replication_mode", "service_node");
    let change = Operation::Update {
        table: "Logical_Switch".into(),
        r#where: Vec::new(),
        row: Row::new().with("replication_mode", "service_node"),
    };
    switch
        .transact([change, Operation::insert("Logical_Switch", theirs)])
        .await;
    let repair = || hardware_vtep::repair_replication(&switch.session, &switch.replica, None);
    assert_eq!(repair().await.unwrap(), 1);
    assert_eq!(repair().await.unwrap(), 0);
}

#[tokio::test]
async fn local_macs_of_a_network_that_goes_go_with_it() {
    let switch = switch_with_network().await;
    publish(&switch, &learnt(0..3)).await;
    assert_eq!(shown(&switch).len(), 3);
    switch.reach(&SwitchState::default()).await;
    assert!(shown(&switch).is_empty());
}

#[tokio::test]
async fn a_station_that_is_learnt_wakes_nobody() {
    let switch = switch_with_network().await;
    let wakeups = switch.replica.wakeups();
    publish(&switch, &learnt([1])).await;
    // Its first row came with a locator, which might concern us; further ones do not.
    let mut wakeups = wakeups;
    wakeups.borrow_and_update();
    publish(&switch, &learnt([1, 2, 3])).await;
    assert_eq!(shown(&switch).len(), 3);
    assert!(!wakeups.has_changed().unwrap());
}
