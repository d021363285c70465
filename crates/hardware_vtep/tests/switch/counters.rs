//! Counters of ports: written where they changed, and again where the server has forgotten them.

use std::collections::BTreeMap;
use std::sync::Arc;

use hardware_vtep::{BindingStats, StatisticsPublisher};
use ovsdb::column::Map;
use serde::Deserialize;
use uuid::Uuid;

use crate::fixture::{Switch, follow};

#[derive(Debug, Deserialize, PartialEq, Eq)]
struct Counted {
    packets_from_local: i64,
    bytes_to_local: i64,
}

#[derive(Debug, Deserialize)]
struct Port {
    vlan_stats: Map<i64, Uuid>,
}

fn stats<const N: usize>(
    counted: [(&str, u16, u64); N],
) -> BTreeMap<(Arc<str>, u16), BindingStats> {
    let row = |packets: u64| BindingStats {
        packets_from_local: packets,
        bytes_from_local: packets * 100,
        packets_to_local: 0,
        bytes_to_local: packets * 10,
    };
    counted
        .map(|(port, vlan, packets)| ((port.into(), vlan), row(packets)))
        .into()
}

async fn held(switch: &Switch) -> Vec<(i64, i64)> {
    let columns = ["packets_from_local", "bytes_to_local"];
    let rows: Vec<Counted> = switch.select("Logical_Binding_Stats", columns).await;
    let mut rows: Vec<_> = rows
        .iter()
        .map(|row| (row.packets_from_local, row.bytes_to_local))
        .collect();
    rows.sort_unstable();
    rows
}

#[tokio::test]
async fn counters_are_written_where_they_changed_and_go_with_their_binding() {
    let switch = Switch::start().await;
    switch.publish("sw", &["p1", "p2"]).await;
    let mut publisher = StatisticsPublisher::new("sw".into());
    let mut publish = async |counted| {
        let (session, replica) = (&switch.session, &switch.replica);
        publisher.publish(session, replica, counted).await.unwrap()
    };
    let first = || stats([("p1", 0, 1), ("p1", 7, 2), ("p2", 0, 3), ("p9", 0, 4)]);
    assert_eq!(publish(first()).await, 3, "there is no port p9");
    assert_eq!(held(&switch).await, [(1, 10), (2, 20), (3, 30)]);
    assert_eq!(publish(first()).await, 0);
    let then = || stats([("p1", 0, 1), ("p1", 7, 5), ("p2", 0, 3)]);
    assert_eq!(publish(then()).await, 1);
    assert_eq!(held(&switch).await, [(1, 10), (3, 30), (5, 50)]);
    let ports: Vec<Port> = switch.select("Physical_Port", ["vlan_stats"]).await;
    let mut vlans: Vec<i64> = ports
        .iter()
        .flat_map(|port| port.vlan_stats.0.iter().map(|(vlan, _)| *vlan))
        .collect();
    vlans.sort_unstable();
    assert_eq!(vlans, [0, 0, 7]);

    publish(stats([("p2", 0, 3)])).await;
    assert_eq!(held(&switch).await, [(3, 30)]);
    publish(stats([])).await;
    assert_eq!(held(&switch).await, []);
}

#[tokio::test]
async fn a_server_that_was_started_again_is_told_everything_again() {
    let mut switch = Switch::start().await;
    switch.publish("sw", &["p1"]).await;
    let mut publisher = StatisticsPublisher::new("sw".into());
    let (session, replica) = (&switch.session, &switch.replica);
    publisher
        .publish(session, replica, stats([("p1", 0, 1)]))
        .await
        .unwrap();
    switch.server.kill().unwrap();
    switch.server.start_again().unwrap();
    (switch.session, switch.replica) = follow(&switch.server).await;
    let (session, replica) = (&switch.session, &switch.replica);
    for packets in [2, 3] {
        publisher
            .publish(session, replica, stats([("p1", 0, packets)]))
            .await
            .unwrap();
    }
    assert_eq!(held(&switch).await, [(3, 30)]);
}
