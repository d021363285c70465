//! Whatever a peer sends, a session ends with a reason and nothing panics.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::sync::Arc;
use std::time::Duration;

use ovsdb::column::{Map, Optional, Reference, Set};
use ovsdb::framing::{Framer, FramingError};
use ovsdb::{
    Change, DatabaseSchema, MonitoredTable, Replica, RowError, Session, SessionOptions,
    SharedReplica, Transaction,
};
use serde::Deserialize;
use serde_json::json;
use testkit::fuzz;
use testkit::ovsdb_server::OvsdbServer;
use tokio::io::AsyncWriteExt;
use uuid::Uuid;

/// Texts that mean something in OVSDB.
const WORDS: [&str; 24] = [
    "null",
    "{}",
    "[]",
    "-1",
    "1e400",
    "9223372036854775808",
    "[\"set\",[]]",
    "[\"map\",[]]",
    "[\"uuid\",\"00000000-0000-0000-0000-000000000001\"]",
    "[\"named-uuid\",\"x\"]",
    "\"\\ud800\"",
    "\\",
    "\"",
    "{\"id\":1,",
    "\"id\":null",
    "\"error\":\"unknown method\"",
    "\"modify\":",
    "\"delete\":null",
    "\"insert\":",
    "{\"id\":\"echo\",\"method\":\"echo\",\"params\":[]}",
    "{\"id\":null,\"method\":\"locked\",\"params\":[\"l\"]}",
    "{\"id\":null,\"method\":\"update3\",\"params\":[1,\"0\",{}]}",
    "}",
    "]",
];

/// A replica that decodes every kind of column.
#[derive(Default)]
struct Everything(usize);

#[derive(Default, Deserialize)]
#[serde(default)]
struct Columns {
    name: Option<String>,
    tunnel_key: Option<Optional<i64>>,
    other_config: Map<String, String>,
    switches: Set<Uuid>,
    locator: Option<Reference>,
    vlan_bindings: Map<i64, Uuid>,
}

impl Replica for Everything {
    fn tables() -> &'static [MonitoredTable] {
        &[MonitoredTable {
            table: "Logical_Switch",
            columns: &["name"],
        }]
    }

    fn new(_: &DatabaseSchema) -> Self {
        Self::default()
    }

    fn apply(&mut self, _: &str, _: Uuid, change: Change<'_>) -> Result<(), RowError> {
        if let Change::Put(text) | Change::Modify(text) = change {
            let columns: Columns = serde_json::from_str(text.get())?;
            let mut sum = Columns::default();
            sum.other_config.apply(columns.other_config);
            sum.vlan_bindings.apply(columns.vlan_bindings);
            sum.switches.apply(columns.switches);
            self.0 += sum.switches.0.len()
                + usize::from(columns.name.is_some())
                + usize::from(columns.tunnel_key.is_some())
                + usize::from(columns.locator.is_some());
        }
        Ok(())
    }
}

fn recordings() -> Vec<Vec<u8>> {
    let rows = json!({"op": "insert", "table": "Logical_Switch", "row": {
        "name": "net \"{}\" é", "tunnel_key": 7, "other_config": ["map", [["a", "1"], ["b", "2"]]]}});
    let change = json!({"op": "update", "table": "Logical_Switch", "where": [],
        "row": {"tunnel_key": ["set", []], "other_config": ["map", [["a", "2"]]]}});
    let columns = json!({"Logical_Switch": [{"columns": ["name", "tunnel_key", "other_config"]}]});
    let never = "00000000-0000-0000-0000-000000000000";
    let request = |id: u64, method: &str, params: serde_json::Value| json!({"id": id, "method": method, "params": params});
    let db = "hardware_vtep";
    let followed = |method: &str, params: serde_json::Value| {
        let requests = [
            request(1, method, params),
            request(2, "transact", json!([db, rows])),
            request(3, "lock", json!(["l"])),
            request(4, "transact", json!([db, change, {"op": "abort"}])),
            request(5, "transact", json!([db, change])),
            request(6, "transact", json!([db, rows])),
            request(7, "nonsense", json!([])),
            request(
                8,
                "transact",
                json!([db, {"op": "delete", "table": "Logical_Switch", "where": []}]),
            ),
            request(9, "get_schema", json!(["_Server"])),
        ];
        OvsdbServer::start().unwrap().record(&requests).unwrap()
    };
    vec![
        followed("monitor_cond_since", json!([db, 1, columns, never])),
        followed("monitor_cond", json!([db, 1, columns])),
        followed("monitor", json!([db, 1, columns])),
    ]
}

#[test]
fn any_split_of_any_bytes_frames_alike() {
    let frames = |input: &[u8], step: usize| {
        let mut framer = Framer::new(1 << 16);
        let mut messages: Vec<Vec<u8>> = Vec::new();
        for chunk in input.chunks(step.max(1)) {
            let mut rest = chunk;
            loop {
                match framer.next_message(&mut rest) {
                    Ok(Some(message)) => messages.push(message),
                    Ok(None) => break,
                    Err(FramingError::NotAnObject { byte }) => return (messages, Some(byte)),
                    Err(FramingError::TooLong { .. }) => return (messages, None),
                }
            }
        }
        (messages, None)
    };
    fuzz::run(&recordings(), &WORDS, |input| {
        let whole = frames(input, input.len());
        for step in [1, 2, 7, 4096] {
            assert_eq!(frames(input, step), whole);
        }
        for message in whole.0 {
            assert!(message.starts_with(b"{"), "{}", message.escape_ascii());
        }
    });
}

#[test]
fn any_bytes_end_a_session_with_a_reason() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let schema: DatabaseSchema = serde_json::from_value(
        json!({"name": "hardware_vtep", "tables": {"Logical_Switch": {"columns": {"name": {}}}}}),
    )
    .unwrap();
    let schema = Arc::new(schema);
    let options = SessionOptions {
        message_limit: 1 << 16,
        ..SessionOptions::default()
    };
    let seen = |input: &[u8]| {
        runtime.block_on(async {
            let (ours, mut peer) = tokio::io::duplex(1 << 20);
            let session = Session::over(ours, &options);
            let replica = Arc::new(SharedReplica::<Everything>::default());
            let monitored = session.monitor(&schema, &replica);
            // In the order of the recorded ids.
            let nothing = Transaction::new();
            let transacted = async { session.transact("hardware_vtep", &nothing).await };
            let locked = session.lock("l");
            let peer = async {
                // Whether it is read to the end is up to the session.
                let _ = peer.write_all(input).await;
                let _ = peer.shutdown().await;
                let _ = tokio::io::copy(&mut peer, &mut tokio::io::sink()).await;
            };
            let all = async { tokio::join!(monitored, transacted, locked, peer, session.ended()) };
            let (.., reason) = tokio::time::timeout(Duration::from_secs(20), all)
                .await
                .expect("the session ends");
            let reason = reason.to_string();
            assert!(!reason.contains("panic"), "{reason}");
            replica.read(|rows| rows.map_or(0, |rows| rows.0))
        })
    };
    let recordings = recordings();
    let columns = recordings.first().map(|recording| seen(recording));
    assert_eq!(columns, Some(3), "a recording reaches the replica");
    fuzz::run(&recordings, &WORDS, |input| {
        seen(input);
    });
}
