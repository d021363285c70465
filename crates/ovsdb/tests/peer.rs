//! Against peers that behave as ovsdb-server cannot be made to: old ones, impatient ones, ones that are none.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use ovsdb::framing::Framer;
use ovsdb::{
    Change, ConnectError, DatabaseSchema, Disconnected, MonitoredTable, Replica, RowError, Session,
    SessionOptions, SharedReplica, Target, Transaction,
};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use uuid::Uuid;

/// The other end of a session.
struct Peer {
    stream: DuplexStream,
    framer: Framer,
    unread: Vec<u8>,
}

impl Peer {
    fn new() -> (Session, Self) {
        let (ours, stream) = tokio::io::duplex(1 << 20);
        let session = Session::over(ours, &SessionOptions::default());
        let peer = Self {
            stream,
            framer: Framer::default(),
            unread: Vec::new(),
        };
        (session, peer)
    }

    async fn send(&mut self, message: &Value) {
        let text = message.to_string();
        self.stream.write_all(text.as_bytes()).await.unwrap();
    }

    async fn receive(&mut self) -> Value {
        loop {
            let mut rest = self.unread.as_slice();
            let message = self.framer.next_message(&mut rest).unwrap();
            self.unread = rest.to_vec();
            if let Some(message) = message {
                return serde_json::from_slice(&message).unwrap();
            }
            assert_ne!(self.stream.read_buf(&mut self.unread).await.unwrap(), 0);
        }
    }
}

fn schema() -> Arc<DatabaseSchema> {
    let schema = json!({"name": "db", "tables": {"T": {"columns": {"c": {"type": "string"}}}}});
    Arc::new(serde_json::from_value(schema).unwrap())
}

/// A row whose decoding takes until the test allows it.
static GATE: (Mutex<bool>, Condvar) = (Mutex::new(false), Condvar::new());

#[derive(Default)]
struct Rows(Vec<String>);

impl Replica for Rows {
    fn tables() -> &'static [MonitoredTable] {
        &[MonitoredTable {
            table: "T",
            columns: &["c"],
        }]
    }

    fn new(_: &DatabaseSchema) -> Self {
        Self::default()
    }

    fn apply(&mut self, _: &str, _: Uuid, change: Change<'_>) -> Result<(), RowError> {
        if let Change::Put(row) = change {
            if row.get().contains("slow") {
                let mut open = GATE.0.lock().unwrap();
                while !*open {
                    open = GATE.1.wait(open).unwrap();
                }
            }
            if row.get().contains("bad") {
                return Err(RowError::new("no good"));
            }
            self.0.push(row.get().to_owned());
        }
        Ok(())
    }
}

const ROW: &str = "00000000-0000-0000-0000-000000000001";

/// On one thread, so that a decoder in the wrong place would keep the reader from running.
#[tokio::test(flavor = "current_thread")]
async fn an_echo_is_answered_while_a_dump_is_decoded() {
    let (session, mut peer) = Peer::new();
    let replica = Arc::new(SharedReplica::<Rows>::default());
    let schema = schema();
    let monitor = tokio::spawn({
        let (session, replica) = (session.clone(), Arc::clone(&replica));
        async move { session.monitor(&schema, &replica).await }
    });
    let request = peer.receive().await;
    let dump = json!({"T": {ROW: {"initial": {"c": format!("slow{}", "x".repeat(100_000))}}}});
    peer.send(&json!({"id": request["id"], "result": [false, "0", dump], "error": null}))
        .await;
    peer.send(&json!({"id": "echo", "method": "echo", "params": [7]}))
        .await;
    let answer = tokio::time::timeout(Duration::from_secs(30), peer.receive())
        .await
        .unwrap();
    assert_eq!(answer, json!({"id": "echo", "result": [7], "error": null}));
    assert!(!monitor.is_finished());
    *GATE.0.lock().unwrap() = true;
    GATE.1.notify_all();
    monitor.await.unwrap().unwrap();
    assert_eq!(replica.read(|rows| rows.unwrap().0.len()), 1);
}

#[tokio::test]
async fn a_server_older_than_conditional_monitors_is_monitored_plainly() {
    let (session, mut peer) = Peer::new();
    let replica = Arc::new(SharedReplica::<Rows>::default());
    let old_server = async {
        for method in ["monitor_cond_since", "monitor_cond", "monitor"] {
            let request = peer.receive().await;
            assert_eq!(request["method"], method);
            let id = &request["id"];
            let reply = match method {
                "monitor" => {
                    json!({"id": id, "result": {"T": {ROW: {"new": {"c": "a"}}}}, "error": null})
                }
                _ => json!({"id": id, "result": null, "error": "unknown method"}),
            };
            peer.send(&reply).await;
            if method == "monitor" {
                let updates = json!({"T": {ROW: {"old": {"c": "a"}, "new": {"c": "b"}}}});
                let update = json!({"id": null, "method": "update", "params": [request["params"][1], updates]});
                peer.send(&update).await;
            }
        }
    };
    let schema = schema();
    let (started, ()) = tokio::join!(session.monitor(&schema, &replica), old_server);
    started.unwrap();
    let mut wakeups = replica.wakeups();
    while replica.read(|rows| rows.unwrap().0.len()) < 2 {
        wakeups.changed().await.unwrap();
    }
    assert_eq!(
        replica.read(|rows| rows.unwrap().0.clone()),
        [r#"{"c":"a"}"#, r#"{"c":"b"}"#]
    );
}

#[tokio::test]
async fn a_peer_that_is_no_ovsdb_server_is_told_apart() {
    let (session, mut peer) = Peer::new();
    peer.stream
        .write_all(b"HTTP/1.1 400 Bad Request\r\n")
        .await
        .unwrap();
    let reason = session.ended().await;
    assert!(matches!(reason, Disconnected::Framing(_)), "{reason}");
    let error = session.schema("db").await.unwrap_err();
    assert_eq!(error.to_string(), reason.to_string());
}

#[tokio::test]
async fn garbage_in_the_midst_of_a_session_ends_it_and_nothing_before_it_is_lost() {
    let (session, mut peer) = Peer::new();
    let reply = session.transact("db", &Transaction::new());
    let request = peer.receive().await;
    peer.send(&json!({"id": request["id"], "result": [], "error": null}))
        .await;
    peer.stream.write_all(b"\x16\x03\x01").await.unwrap();
    reply.await.unwrap();
    let reason = session.ended().await.to_string();
    assert!(reason.contains("byte 0x16"), "{reason}");
}

#[tokio::test]
async fn a_message_that_never_ends_is_refused_before_it_fills_the_memory() {
    let (ours, mut stream) = tokio::io::duplex(1 << 16);
    let options = SessionOptions {
        message_limit: 1 << 20,
        ..SessionOptions::default()
    };
    let session = Session::over(ours, &options);
    stream.write_all(b"{\"id\":\"").await.unwrap();
    let mut sent = 0;
    while stream.write_all(&[b'x'; 1 << 16]).await.is_ok() {
        sent += 1 << 16;
        assert!(sent <= 2 << 20, "it goes on reading");
    }
    let reason = session.ended().await;
    assert!(matches!(reason, Disconnected::Framing(_)), "{reason}");
}

#[tokio::test]
async fn a_peer_that_asks_and_does_not_read_is_given_up_before_its_answers_fill_the_memory() {
    let (session, mut peer) = Peer::new();
    let question = json!({"id": "e", "method": "echo", "params": ["x".repeat(4000)]});
    let question = question.to_string().into_bytes();
    let mut sent = 0;
    while peer.stream.write_all(&question).await.is_ok() {
        sent += question.len();
        assert!(sent <= 100 << 20, "it goes on answering");
    }
    let reason = session.ended().await;
    assert!(matches!(reason, Disconnected::Deaf(_)), "{reason}");
}

#[tokio::test]
async fn a_row_that_cannot_be_understood_ends_the_session_with_its_name() {
    let (session, mut peer) = Peer::new();
    let replica = Arc::new(SharedReplica::<Rows>::default());
    let server = async {
        let request = peer.receive().await;
        let dump = json!({"T": {ROW: {"initial": {"c": "bad"}}}});
        peer.send(&json!({"id": request["id"], "result": [false, "0", dump], "error": null}))
            .await;
    };
    let schema = schema();
    let (started, ()) = tokio::join!(session.monitor(&schema, &replica), server);
    let error = started.unwrap_err().to_string();
    assert!(
        error.contains(&format!("row {ROW} of T: no good")),
        "{error}"
    );
    assert!(replica.read(|rows| rows.is_none()));
}

/// As a TLS stream does with what its socket does not take at once.
#[tokio::test]
async fn a_request_leaves_although_the_stream_keeps_it_until_it_is_flushed() {
    let (ours, stream) = tokio::io::duplex(1 << 16);
    let lazy = tokio::io::BufWriter::new(ours);
    // A probe would push out what waits before it.
    let options = SessionOptions {
        probe_interval: Duration::from_secs(600),
        ..SessionOptions::default()
    };
    let session = Session::over(lazy, &options);
    let mut peer = Peer {
        stream,
        framer: Framer::default(),
        unread: Vec::new(),
    };
    let reply = session.transact("db", &Transaction::new());
    let request = peer.receive().await;
    assert_eq!(request["method"], "transact");
    peer.send(&json!({"id": request["id"], "result": [], "error": null}))
        .await;
    reply.await.unwrap();
}

#[tokio::test]
async fn what_came_before_the_end_still_counts() {
    let (session, mut peer) = Peer::new();
    let reply = session.transact("db", &Transaction::new());
    let request = peer.receive().await;
    peer.send(&json!({"id": request["id"], "result": [], "error": null}))
        .await;
    drop(peer);
    reply.await.unwrap();
    assert!(matches!(session.ended().await, Disconnected::Closed));
}

#[tokio::test]
async fn a_peer_is_told_which_requests_we_do_not_know() {
    let (_session, mut peer) = Peer::new();
    peer.send(&json!({"id": 4, "method": "steal", "params": []}))
        .await;
    assert_eq!(
        peer.receive().await,
        json!({"id": 4, "result": null, "error": "unknown method"})
    );
}

#[tokio::test]
async fn a_target_to_listen_on_is_not_dialled() {
    let target: Target = "ptcp:6640".parse().unwrap();
    let error = Session::connect(&target, &SessionOptions::default())
        .await
        .unwrap_err();
    assert!(matches!(error, ConnectError::Passive(_)), "{error}");
}
