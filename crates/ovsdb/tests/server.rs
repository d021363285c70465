//! Sessions with a real ovsdb-server: what is written, and what a replica shows of it.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests fail the test"
)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use ovsdb::column::{Map, Optional, Reference, Set};
use ovsdb::{
    Atom, Change, Condition, DatabaseSchema, Datum, MonitoredTable, Mutation, Operation, Replica,
    Row, RowError, Session, SessionOptions, SharedReplica, TransactError, Transaction,
};
use serde::Deserialize;
use testkit::ovsdb_server::OvsdbServer;
use uuid::Uuid;

const DB: &str = "hardware_vtep";

/// Logical switches by uuid, and how many remote MACs there are.
#[derive(Debug, Default)]
struct Networks {
    switches: BTreeMap<Uuid, Network>,
    macs: usize,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Network {
    name: String,
    tunnel_key: Option<i64>,
    other_config: Map<String, String>,
}

#[derive(Deserialize)]
struct NetworkColumns {
    name: Option<String>,
    tunnel_key: Option<Optional<i64>>,
    other_config: Option<Map<String, String>>,
}

impl Replica for Networks {
    fn tables() -> &'static [MonitoredTable] {
        &[
            MonitoredTable {
                table: "Logical_Switch",
                columns: &["name", "tunnel_key", "other_config", "no_such_column"],
            },
            MonitoredTable {
                table: "Ucast_Macs_Remote",
                columns: &["MAC"],
            },
            MonitoredTable {
                table: "No_Such_Table",
                columns: &["c"],
            },
        ]
    }

    fn new(_: &DatabaseSchema) -> Self {
        Self::default()
    }

    fn apply(&mut self, table: &str, uuid: Uuid, change: Change<'_>) -> Result<(), RowError> {
        if table == "Ucast_Macs_Remote" {
            match change {
                Change::Put(_) => self.macs += 1,
                Change::Modify(_) => {}
                Change::Delete => self.macs -= 1,
            }
            return Ok(());
        }
        let (row, text) = match change {
            Change::Put(text) => (self.switches.entry(uuid).or_default(), text),
            Change::Modify(text) => (self.switches.get_mut(&uuid).unwrap(), text),
            Change::Delete => {
                self.switches.remove(&uuid);
                return Ok(());
            }
        };
        let columns: NetworkColumns = serde_json::from_str(text.get())?;
        row.name = columns.name.unwrap_or(std::mem::take(&mut row.name));
        row.tunnel_key = columns.tunnel_key.map_or(row.tunnel_key, |key| key.0);
        row.other_config
            .apply(columns.other_config.unwrap_or_default());
        Ok(())
    }
}

async fn connect(target: &str) -> Session {
    Session::connect(&target.parse().unwrap(), &SessionOptions::default())
        .await
        .unwrap()
}

async fn connect_monitored(server: &OvsdbServer) -> (Session, Arc<SharedReplica<Networks>>) {
    let session = connect(&server.unix_target()).await;
    let schema = Arc::new(session.schema(DB).await.unwrap());
    let replica = Arc::new(SharedReplica::default());
    session.monitor(&schema, &replica).await.unwrap();
    (session, replica)
}

fn network(name: &str) -> Operation {
    Operation::insert("Logical_Switch", Row::new().with("name", name.to_owned()))
}

fn names(replica: &SharedReplica<Networks>) -> Vec<String> {
    let mut names: Vec<_> = replica.read(|networks| {
        networks
            .unwrap()
            .switches
            .values()
            .map(|n| n.name.clone())
            .collect()
    });
    names.sort();
    names
}

/// Waits until the replica is as it should be, which wake-ups alone must tell.
async fn until<R: Replica>(replica: &SharedReplica<R>, mut holds: impl FnMut(&R) -> bool) {
    let mut wakeups = replica.wakeups();
    let wait = async {
        while !replica.read(|contents| contents.is_some_and(&mut holds)) {
            wakeups.changed().await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(60), wait)
        .await
        .unwrap();
}

#[tokio::test]
async fn every_operation_does_what_it_says_over_unix_and_tcp() {
    let server = OvsdbServer::start().unwrap();
    for target in [server.unix_target(), server.tcp_target()] {
        let session = connect(&target).await;
        assert!(
            session
                .list_databases()
                .await
                .unwrap()
                .contains(&DB.to_owned())
        );
        let schema = session.schema(DB).await.unwrap();
        assert!(schema.has_column("Physical_Locator", "tunnel_key"));

        let insert = Transaction::new()
            .with(Operation::Comment {
                comment: "made by a test".into(),
            })
            .with(Operation::insert_named(
                "Physical_Locator",
                "there",
                Row::new()
                    .with("encapsulation_type", "vxlan_over_ipv4")
                    .with("dst_ip", "192.0.2.1")
                    .with("tunnel_key", 456i64),
            ))
            .with(Operation::insert_named(
                "Logical_Switch",
                "net",
                Row::new().with("name", "net \"{}\" é").with(
                    "other_config",
                    Datum::map([("a".to_owned(), "1".to_owned())]),
                ),
            ))
            .with(Operation::insert(
                "Ucast_Macs_Remote",
                Row::new()
                    .with("MAC", "00:00:00:00:00:01")
                    .with("logical_switch", Atom::NamedUuid("net".into()))
                    .with("locator", Atom::NamedUuid("there".into())),
            ))
            .with(Operation::Commit { durable: true });
        let outcome = session.transact(DB, &insert).await.unwrap();
        let net = outcome.inserted(2).unwrap();
        let mac = outcome.inserted(3).unwrap();

        #[derive(Deserialize)]
        struct MacRow {
            logical_switch: Reference,
        }
        #[derive(Deserialize)]
        struct NetRow {
            name: Set<String>,
            tunnel_key: Optional<i64>,
            other_config: Map<String, String>,
        }
        let change = Transaction::new()
            .with(Operation::Wait {
                table: "Ucast_Macs_Remote".into(),
                timeout: 0,
                r#where: vec![Condition::uuid(mac)],
                columns: vec!["MAC".into()],
                until: ovsdb::operation::Until::Equal,
                rows: vec![Row::new().with("MAC", "00:00:00:00:00:01")],
            })
            .with(Operation::select(
                "Ucast_Macs_Remote",
                [Condition::uuid(mac)],
                ["logical_switch"],
            ))
            .with(Operation::update(
                "Logical_Switch",
                net,
                Row::new().with("tunnel_key", 7i64),
            ))
            .with(Operation::mutate(
                "Logical_Switch",
                net,
                [
                    Mutation::delete("other_config", Datum::set(["a"])),
                    Mutation::insert(
                        "other_config",
                        Datum::map([("a".to_owned(), "2".to_owned())]),
                    ),
                ],
            ))
            .with(Operation::select(
                "Logical_Switch",
                [Condition::uuid(net)],
                ["name", "tunnel_key", "other_config"],
            ))
            .with(Operation::delete("Ucast_Macs_Remote", mac))
            .with(Operation::delete_where(
                "Logical_Switch",
                [Condition::new("name", "==", "net \"{}\" é")],
            ));
        let outcome = session.transact(DB, &change).await.unwrap();
        assert_eq!(outcome.rows::<MacRow>(1).unwrap()[0].logical_switch.0, net);
        let row = outcome.rows::<NetRow>(4).unwrap().remove(0);
        assert_eq!(row.name.0, ["net \"{}\" é"]);
        assert_eq!(row.tunnel_key.0, Some(7));
        assert_eq!(row.other_config.0, [("a".to_owned(), "2".to_owned())]);
        for operation in [2, 3, 5, 6] {
            assert_eq!(outcome.count(operation), Some(1), "operation {operation}");
        }
    }
}

#[tokio::test]
async fn a_transaction_that_fails_says_where_and_leaves_nothing() {
    let server = OvsdbServer::start().unwrap();
    let (session, replica) = connect_monitored(&server).await;
    session
        .transact(DB, &Transaction::new().with(network("one")))
        .await
        .unwrap();

    let failure = |error| match error {
        TransactError::Failed(failure) => failure,
        other => panic!("{other}"),
    };
    // Every operation succeeds; the index fails when the server commits.
    let twice: Transaction = [network("two"), network("one")].into_iter().collect();
    let failed = failure(session.transact(DB, &twice).await.unwrap_err());
    assert_eq!(failed.operation, None);
    assert_eq!(failed.error.error, "constraint violation");
    assert!(failed.error.details.unwrap().contains("name"));

    let bad_column = Operation::insert("Logical_Switch", Row::new().with("nam", "x"));
    let unknown: Transaction = [network("two"), bad_column].into_iter().collect();
    let failed = failure(session.transact(DB, &unknown).await.unwrap_err());
    assert_eq!(failed.operation, Some(1));

    let unowned = Transaction::new().with(Operation::Assert { lock: "l".into() });
    let failed = failure(session.transact(DB, &unowned).await.unwrap_err());
    assert_eq!(failed.error.error, "not owner");

    let refused = session.transact("no_such_db", &twice).await.unwrap_err();
    assert!(
        matches!(&refused, TransactError::Rejected(error) if error.error == "unknown database"),
        "{refused}"
    );
    assert_eq!(names(&replica), ["one"]);
}

#[tokio::test]
async fn the_replica_shows_a_write_when_its_outcome_is_there() {
    let server = OvsdbServer::start().unwrap();
    let (session, replica) = connect_monitored(&server).await;
    for round in 0..200 {
        let name = format!("net{round:03}");
        let outcome = session
            .transact(DB, &Transaction::new().with(network(&name)))
            .await
            .unwrap();
        let uuid = outcome.inserted(0).unwrap();
        let seen = replica.read(|networks| networks.unwrap().switches.get(&uuid).cloned());
        assert_eq!(seen.map(|network| network.name), Some(name));
    }
}

#[tokio::test]
async fn the_replica_follows_the_changes_of_others() {
    let server = OvsdbServer::start().unwrap();
    let (_session, replica) = connect_monitored(&server).await;
    let other = connect(&server.tcp_target()).await;
    let insert = Operation::insert(
        "Logical_Switch",
        Row::new().with("name", "n").with("tunnel_key", 5i64).with(
            "other_config",
            Datum::map([("a", "1"), ("b", "2"), ("c", "3")]),
        ),
    );
    let outcome = other
        .transact(DB, &Transaction::new().with(insert))
        .await
        .unwrap();
    let uuid = outcome.inserted(0).unwrap();
    let update = Row::new()
        .with("tunnel_key", Datum::optional(None::<i64>))
        .with(
            "other_config",
            Datum::map([("a", "1"), ("b", "4"), ("d", "5")]),
        );
    let update = Operation::update("Logical_Switch", uuid, update);
    other
        .transact(DB, &Transaction::new().with(update))
        .await
        .unwrap();
    until(&replica, |networks| {
        networks.switches.get(&uuid).is_some_and(|network| {
            let mut config = network.other_config.0.clone();
            config.sort();
            network.tunnel_key.is_none()
                && config == [("a", "1"), ("b", "4"), ("d", "5")].map(|(k, v)| (k.into(), v.into()))
        })
    })
    .await;
    other
        .transact(
            DB,
            &Transaction::new().with(Operation::delete("Logical_Switch", uuid)),
        )
        .await
        .unwrap();
    until(&replica, |networks| networks.switches.is_empty()).await;
}

/// 100,000 remote MACs in transactions of 100, over `locators` tunnels.
fn bulk(net: Uuid, locators: &[Uuid]) -> impl Iterator<Item = Transaction> {
    (0..1000u32).map(move |batch| {
        (0..100u32)
            .map(|row| {
                let n = batch * 100 + row;
                let [_, a, b, c] = n.to_be_bytes();
                let locator = locators[n as usize % locators.len()];
                Operation::insert(
                    "Ucast_Macs_Remote",
                    Row::new()
                        .with("MAC", format!("02:00:00:{a:02x}:{b:02x}:{c:02x}"))
                        .with("logical_switch", net)
                        .with("locator", locator),
                )
            })
            .collect()
    })
}

/// A network with one MAC over each of a few locators, which keep these from being collected.
async fn network_with_locators(session: &Session) -> (Uuid, Vec<Uuid>) {
    let mut transaction = Transaction::new();
    let net = transaction.push(Operation::insert_named(
        "Logical_Switch",
        "net",
        Row::new().with("name", "bulk"),
    ));
    let mut inserts = Vec::new();
    for host in 1..=8 {
        inserts.push(
            transaction.push(Operation::insert_named(
                "Physical_Locator",
                format!("l{host}"),
                Row::new()
                    .with("encapsulation_type", "vxlan_over_ipv4")
                    .with("dst_ip", format!("192.0.2.{host}")),
            )),
        );
        transaction.push(Operation::insert(
            "Ucast_Macs_Remote",
            Row::new()
                .with("MAC", format!("02:ff:00:00:00:0{host}"))
                .with("logical_switch", Atom::NamedUuid("net".into()))
                .with("locator", Atom::NamedUuid(format!("l{host}").into())),
        ));
    }
    let outcome = session.transact(DB, &transaction).await.unwrap();
    let uuid = |index| outcome.inserted(index).unwrap();
    (uuid(net), inserts.into_iter().map(uuid).collect())
}

#[tokio::test]
async fn a_hundred_thousand_rows_go_through_while_the_session_monitors_them() {
    let server = OvsdbServer::start().unwrap();
    let (session, replica) = connect_monitored(&server).await;
    let (net, locators) = network_with_locators(&session).await;
    let started = Instant::now();
    // Everything at once: the server stops reading while it waits for us to read, and must never wait for ever.
    let replies: Vec<_> = bulk(net, &locators)
        .map(|transaction| session.transact(DB, &transaction))
        .collect();
    for reply in replies {
        assert_eq!(reply.await.unwrap().results().len(), 100);
    }
    println!("100,000 rows, all in flight: {:?}", started.elapsed());
    assert_eq!(replica.read(|networks| networks.unwrap().macs), 100_008);

    // And as a dump, for a session that comes later.
    let started = Instant::now();
    let (_second, dumped) = connect_monitored(&server).await;
    println!("dump of 100,000 rows: {:?}", started.elapsed());
    assert_eq!(dumped.read(|networks| networks.unwrap().macs), 100_008);

    let delete = Operation::delete_where("Ucast_Macs_Remote", []);
    session
        .transact(DB, &Transaction::new().with(delete))
        .await
        .unwrap();
    assert_eq!(replica.read(|networks| networks.unwrap().macs), 0);
}

#[tokio::test]
async fn a_pipeline_keeps_its_order_and_outlives_failures() {
    let server = OvsdbServer::start().unwrap();
    let (session, replica) = connect_monitored(&server).await;
    let transactions = ["a", "b", "a", "c"].map(|name| Transaction::new().with(network(name)));
    let outcomes: Vec<bool> = session
        .pipeline(DB, transactions, 3)
        .map(|outcome| outcome.is_ok())
        .collect()
        .await;
    assert_eq!(outcomes, [true, true, false, true]);
    assert_eq!(names(&replica), ["a", "b", "c"]);
}

#[tokio::test]
async fn a_transaction_that_nobody_waits_for_happens_all_the_same() {
    let server = OvsdbServer::start().unwrap();
    let (session, replica) = connect_monitored(&server).await;
    drop(session.transact(DB, &Transaction::new().with(network("dropped"))));
    session
        .transact(DB, &Transaction::new().with(network("kept")))
        .await
        .unwrap();
    assert_eq!(names(&replica), ["dropped", "kept"]);
}
