//! Three ovsdb-servers that are one database.

use ovsdb::{Connection, Endpoint, Link, SessionOptions};
use testkit::ovsdb_cluster::OvsdbCluster;
use tokio::time::Instant;

use crate::fixture::{DB, Names, impatient, insert, names, until, until_down, until_up};

/// Which member a session is with, told by what the member says of itself.
async fn is_leader(session: &ovsdb::Session) -> bool {
    let ask = ovsdb::Transaction::new().with(ovsdb::Operation::select(
        "Database",
        [ovsdb::Condition::new("name", "==", DB)],
        ["leader"],
    ));
    #[derive(serde::Deserialize)]
    struct Row {
        leader: bool,
    }
    let outcome = session.transact("_Server", &ask).await.unwrap();
    outcome.rows::<Row>(0).unwrap().iter().any(|row| row.leader)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leader_of_a_cluster_is_found_and_followed() {
    let mut cluster = OvsdbCluster::start(3).unwrap();
    let endpoint: Endpoint = cluster.targets().parse().unwrap();
    let options = impatient(SessionOptions::default());
    let connection: Connection<Names> = Connection::start(endpoint, DB, options);
    let first = until_up(&connection).await;
    assert!(is_leader(&first).await);
    insert(&first, "one").await;

    // It hands over: the session with it ends, though the server is well.
    cluster.transfer_leadership().unwrap();
    let reason = first.ended().await.to_string();
    assert!(reason.contains("not the cluster's leader"), "{reason}");
    let second = until_up(&connection).await;
    assert!(is_leader(&second).await);
    insert(&second, "two").await;

    // It dies.
    let leader = cluster.leader().unwrap();
    cluster.members[leader].kill().unwrap();
    second.ended().await;
    let third = until_up(&connection).await;
    assert!(is_leader(&third).await);
    insert(&third, "three").await;

    // It is frozen, without its connections being closed. The two others must be enough to elect another.
    cluster.members[leader].start_again().unwrap();
    let leader = cluster.leader().unwrap();
    let frozen = Instant::now();
    cluster.members[leader].freeze().unwrap();
    third.ended().await;
    assert!(
        frozen.elapsed().as_secs_f32() < 7.0,
        "{:?}",
        frozen.elapsed()
    );
    let fourth = until_up(&connection).await;
    insert(&fourth, "four").await;
    let mut all = names(&connection);
    all.sort();
    assert_eq!(all, ["four", "one", "three", "two"]);
}

#[tokio::test]
async fn a_member_that_does_not_lead_is_no_substitute() {
    let cluster = OvsdbCluster::start(2).unwrap();
    let follower = 1 - cluster.leader().unwrap();
    let target: ovsdb::Target = cluster.members[follower].tcp_target().parse().unwrap();
    let connection: Connection<Names> =
        Connection::start(target.into(), DB, impatient(SessionOptions::default()));
    until_down(&connection, "not the cluster's leader").await;
    cluster.transfer_leadership().unwrap();
    until(&connection, |link| {
        matches!(link, Link::Up { .. }).then_some(())
    })
    .await;
}
