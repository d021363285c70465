//! The switch's half.

use std::collections::BTreeMap;

use crate::fixture::{Switch, name, network, networks, port_vlan, publication};
use hardware_vtep::publish;
use ovsdb::column::{Reference, Set};
use ovsdb::{Datum, Operation, Row};
use serde::Deserialize;
use uuid::Uuid;

async fn port_uuids(switch: &Switch) -> BTreeMap<String, Uuid> {
    #[derive(Deserialize)]
    struct Port {
        #[serde(rename = "_uuid")]
        uuid: Reference,
        name: String,
    }
    let ports: Vec<Port> = switch.select("Physical_Port", ["_uuid", "name"]).await;
    ports
        .into_iter()
        .map(|port| (port.name, port.uuid.0))
        .collect()
}

#[tokio::test]
async fn a_fresh_database_gets_one_global_row_and_a_second_run_writes_nothing() {
    let switch = Switch::start().await;
    let mut wanted = publication("sw", &["eth1", "border"]);
    wanted.managers = [
        "tcp:192.0.2.1:6640".parse().unwrap(),
        "ptcp:6641:127.0.0.1".parse().unwrap(),
    ]
    .into();
    assert!(
        publish(&switch.session, &switch.replica, &wanted)
            .await
            .unwrap()
    );
    assert!(
        !publish(&switch.session, &switch.replica, &wanted)
            .await
            .unwrap()
    );
    assert_eq!(switch.count("Global").await, 1);
    assert_eq!(switch.count("Manager").await, 2);

    // A second physical switch in the same database.
    let other = publication("other", &[]);
    assert!(
        publish(&switch.session, &switch.replica, &other)
            .await
            .unwrap()
    );
    assert!(
        !publish(&switch.session, &switch.replica, &wanted)
            .await
            .unwrap()
    );
    assert_eq!(switch.count("Global").await, 1);

    let shown = switch
        .replica
        .read(|database| database.unwrap().physical_switches());
    assert_eq!(
        shown.keys().map(|name| &**name).collect::<Vec<_>>(),
        ["other", "sw"]
    );
    let shown = shown.get("sw").unwrap();
    assert_eq!(shown.description, "a test");
    assert_eq!(shown.tunnel_ips, ["192.0.2.100".to_owned()].into());
    assert_eq!(
        shown.ports.keys().map(|name| &**name).collect::<Vec<_>>(),
        ["border", "eth1"]
    );
}

#[tokio::test]
async fn managers_and_ports_of_an_administrator_and_of_ours_live_together() {
    let switch = Switch::start().await;
    let manager = Operation::insert_named(
        "Manager",
        "m",
        Row::new().with("target", "ssl:192.0.2.9:6640"),
    );
    let global = Row::new().with("managers", Datum::set([ovsdb::Atom::NamedUuid("m".into())]));
    switch
        .transact([manager, Operation::insert("Global", global)])
        .await;
    let mut wanted = publication("sw", &["eth1"]);
    wanted.managers = ["tcp:192.0.2.1:6640".parse().unwrap()].into();
    assert!(
        publish(&switch.session, &switch.replica, &wanted)
            .await
            .unwrap()
    );
    assert!(
        !publish(&switch.session, &switch.replica, &wanted)
            .await
            .unwrap()
    );
    assert_eq!(switch.count("Global").await, 1);
    assert_eq!(switch.count("Manager").await, 2);
}

#[tokio::test]
async fn ports_that_stay_keep_their_bindings_when_others_come_and_go() {
    let switch = Switch::start().await;
    switch.publish("sw", &["eth1", "eth2"]).await;
    let before = port_uuids(&switch).await;
    let mut desired = networks([("net", network(1, [], []))]);
    for port in ["eth1", "eth2"] {
        desired
            .bindings
            .insert(port_vlan("sw", port, 0), name("net"));
    }
    switch.reach(&desired).await;

    let mut changed = publication("sw", &["eth1", "eth3"]);
    changed.description = "changed".to_owned();
    changed.tunnel_ips.clear();
    assert!(
        publish(&switch.session, &switch.replica, &changed)
            .await
            .unwrap()
    );
    assert!(
        !publish(&switch.session, &switch.replica, &changed)
            .await
            .unwrap()
    );
    let after = port_uuids(&switch).await;
    assert_eq!(after.get("eth1"), before.get("eth1"));
    assert_eq!(after.keys().collect::<Vec<_>>(), ["eth1", "eth3"]);
    let bound: Vec<String> = switch
        .state()
        .bindings
        .keys()
        .map(ToString::to_string)
        .collect();
    assert_eq!(bound, ["sw:eth1 vlan 0"]);
}

#[tokio::test]
async fn faults_are_told_while_they_last() {
    let switch = Switch::start().await;
    let mut wanted = publication("sw", &["eth1"]);
    wanted.faults.insert("mac_table_exhaustion".to_owned());
    wanted
        .ports
        .get_mut("eth1")
        .unwrap()
        .faults
        .insert("invalid_vlan_map".to_owned());
    assert!(
        publish(&switch.session, &switch.replica, &wanted)
            .await
            .unwrap()
    );
    assert!(
        !publish(&switch.session, &switch.replica, &wanted)
            .await
            .unwrap()
    );
    let faults = || switch.replica.read(|database| database.unwrap().faults());
    assert_eq!(
        faults().get("sw").map(String::as_str),
        Some("mac_table_exhaustion, invalid_vlan_map on port eth1")
    );
    switch.publish("sw", &["eth1"]).await;
    assert!(faults().is_empty());
}

#[tokio::test]
async fn the_second_of_two_ports_with_one_name_goes() {
    let switch = Switch::start().await;
    switch.publish("sw", &["eth1"]).await;
    #[derive(Deserialize)]
    struct Ports {
        ports: Set<Uuid>,
    }
    let twin = Operation::insert_named("Physical_Port", "twin", Row::new().with("name", "eth1"));
    let add = ovsdb::Mutation::insert("ports", Datum::set([ovsdb::Atom::NamedUuid("twin".into())]));
    let add = Operation::Mutate {
        table: "Physical_Switch".into(),
        r#where: Vec::new(),
        mutations: vec![add],
    };
    switch.transact([twin, add]).await;
    assert_eq!(switch.state().ports.len(), 1);
    switch.publish("sw", &["eth1"]).await;
    let rows: Vec<Ports> = switch.select("Physical_Switch", ["ports"]).await;
    assert_eq!(rows.first().unwrap().ports.0.len(), 1);
    assert_eq!(switch.count("Physical_Port").await, 1);
}
