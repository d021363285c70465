//! Whatever a server says of its tables, the replica makes a state of it that can be planned with.

use std::sync::Arc;
use std::time::Duration;

use hardware_vtep::{Capabilities, Database};
use model::plan::plan;
use ovsdb::{DatabaseSchema, Replica, Session, SessionOptions, SharedReplica};
use serde_json::json;
use testkit::fuzz;
use testkit::ovsdb_server::VTEP_SCHEMA;
use tokio::io::AsyncWriteExt;

use crate::fixture::{Switch, locator, mac, name, network, networks, port_vlan, runtime, via};

/// Texts that mean something in the schema.
const WORDS: [&str; 18] = [
    "null",
    "-1",
    "0",
    "16777216",
    "9223372036854775807",
    "[\"set\",[]]",
    "[\"map\",[]]",
    "[\"uuid\",\"00000000-0000-0000-0000-000000000001\"]",
    "\"unknown-dst\"",
    "\"02:00:00:00:00:01\"",
    "\"2001:db8::1\"",
    "\"vxlan_over_ipv4\"",
    "\"service_node\"",
    "\"modify\":",
    "\"delete\":null",
    "\"insert\":",
    "\"Ucast_Macs_Remote\":",
    "\"Physical_Locator\":",
];

/// A dump and the updates of a busy life.
fn recording() -> Vec<u8> {
    runtime().block_on(async {
        let switch = Switch::start().await;
        switch.publish("sw", &["eth1"]).await;
        let (near, far) = (locator(1, None), locator(2, Some(456)));
        let mut wanted = networks([("net", network(5, [near, far], [(mac(1), via(far))]))]);
        wanted
            .bindings
            .insert(port_vlan("sw", "eth1", 7), name("net"));
        switch.reach(&wanted).await;
        let tables: serde_json::Map<_, _> = Database::tables()
            .iter()
            .map(|it| (it.table.to_owned(), json!([{"columns": it.columns}])))
            .collect();
        let request =
            |id: u64, method: &str, params| json!({"id": id, "method": method, "params": params});
        let update =
            |table: &str, row| json!({"op": "update", "table": table, "where": [], "row": row});
        let never = uuid::Uuid::nil();
        let delete = |table: &str| json!({"op": "delete", "table": table, "where": []});
        switch
            .server
            .record(&[
                request(
                    1,
                    "monitor_cond_since",
                    json!([hardware_vtep::NAME, 1, tables, never]),
                ),
                request(
                    2,
                    "transact",
                    json!([
                        hardware_vtep::NAME,
                        update(
                            "Physical_Locator",
                            json!({"encapsulation_type": "vxlan_over_ipv4"})
                        ),
                        update("Ucast_Macs_Remote", json!({"ipaddr": "10.0.0.1"})),
                        update("Logical_Switch", json!({"tunnel_key": 6, "name": "other"})),
                        update("Physical_Port", json!({"vlan_bindings": ["map", []]})),
                    ]),
                ),
                request(
                    3,
                    "transact",
                    json!([
                        hardware_vtep::NAME,
                        delete("Ucast_Macs_Remote"),
                        delete("Mcast_Macs_Remote"),
                        delete("Logical_Switch"),
                    ]),
                ),
            ])
            .unwrap()
    })
}

#[test]
fn any_rows_make_a_state_that_can_be_planned_with() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let text = std::fs::read_to_string(VTEP_SCHEMA).unwrap();
    let schema: Arc<DatabaseSchema> = Arc::new(serde_json::from_str(&text).unwrap());
    assert!(Capabilities::of(&schema).locator_tunnel_key);
    let seen = |input: &[u8]| {
        runtime.block_on(async {
            let (ours, mut peer) = tokio::io::duplex(1 << 20);
            let session = Session::over(ours, &SessionOptions::default());
            let replica = Arc::new(SharedReplica::<Database>::default());
            let monitored = session.monitor(&schema, &replica);
            let peer = async {
                let _ = peer.write_all(input).await;
                let _ = peer.shutdown().await;
                let _ = tokio::io::copy(&mut peer, &mut tokio::io::sink()).await;
            };
            let all = async { tokio::join!(monitored, peer, session.ended()) };
            let (.., reason) = tokio::time::timeout(Duration::from_secs(20), all)
                .await
                .unwrap();
            let reason = reason.to_string();
            assert!(!reason.contains("panic"), "{reason}");
            replica.read(|held| {
                let held = held?;
                let state = held.state();
                let mut itself = state.clone();
                // What is ours is as it is; surplus rows are never wanted.
                itself.surplus.clear();
                itself.logical_switches.retain(|_, network| network.owned);
                let ours = &itself.logical_switches;
                itself.bindings.retain(|_, bound| ours.contains_key(bound));
                let steps = plan(&itself, state).steps;
                assert!(steps.len() <= state.surplus.len(), "{steps:?}");
                held.faults();
                Some((
                    state.ports.len(),
                    held.local_macs().count(),
                    held.tunnels().count(),
                ))
            })
        })
    };
    let recording = recording();
    assert_eq!(seen(&recording), Some((1, 0, 0)));
    fuzz::run(&[recording], &WORDS, |input| {
        seen(input);
    });
}
