//! ovsdb-servers that are one database.
//!
//! Who leads is the cluster's own affair: on a machine that is busy enough its members miss each other's heartbeats, and
//! elect another one at any time. So a fault befalls the member that the session is with, and what an election may have
//! cut short is tried again.

use std::collections::BTreeSet;
use std::time::Duration;

use ovsdb::column::Optional;
use ovsdb::{Condition, Connection, Endpoint, Operation, Session, SessionOptions, Transaction};
use testkit::ovsdb_cluster::OvsdbCluster;
use uuid::Uuid;

use crate::fixture::{DB, Names, impatient, insertion, names, until_down, until_up};

/// Before what an election may have cut short is tried again.
const PAUSE: Duration = Duration::from_millis(50);

/// The id of the member that a session is with, if that leads by its own account.
async fn leader_with(session: &Session) -> Option<Uuid> {
    #[derive(serde::Deserialize)]
    struct Columns {
        leader: bool,
        sid: Optional<Uuid>,
    }
    let named = [Condition::new("name", "==", DB)];
    let ask = Operation::select("Database", named, ["leader", "sid"]);
    let ask = Transaction::new().with(ask);
    let outcome = session.transact("_Server", &ask).await.ok()?;
    let rows = outcome.rows::<Columns>(0).unwrap();
    rows.iter().find(|row| row.leader)?.sid.0
}

/// Waits until the connection is with a leader: the session, and which member that is.
async fn until_led(connection: &Connection<Names>, cluster: &OvsdbCluster) -> (Session, usize) {
    let wait = async {
        loop {
            let session = until_up(connection).await;
            let id = leader_with(&session).await;
            if let Some(member) = id.and_then(|id| cluster.member(&id.to_string())) {
                return (session, member);
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), wait)
        .await
        .unwrap()
}

/// Inserts a logical switch by whatever session there is, until one confirms it or shows it: where an election cost the answer,
/// the row may be there all the same, and a second one of its name is refused.
async fn insert(connection: &Connection<Names>, name: &str) {
    let wait = async {
        loop {
            let session = until_up(connection).await;
            let done = session.transact(DB, &insertion(name)).await.is_ok();
            if done || names(connection).iter().any(|known| known == name) {
                return;
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    let inserted = tokio::time::timeout(Duration::from_secs(60), wait).await;
    assert!(inserted.is_ok(), "{name} is not inserted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leader_of_a_cluster_is_found_and_followed() {
    let mut cluster = OvsdbCluster::start(3).unwrap();
    let endpoint: Endpoint = cluster.targets().parse().unwrap();
    let options = impatient(SessionOptions::default());
    let connection: Connection<Names> = Connection::start(endpoint, DB, options);
    let (first, _) = until_led(&connection, &cluster).await;
    insert(&connection, "one").await;

    // It hands over: the session with it ends, though the server is well.
    cluster.transfer_leadership().unwrap();
    let reason = first.ended().await.to_string();
    assert!(reason.contains("this member "), "{reason}");
    let (second, leader) = until_led(&connection, &cluster).await;
    insert(&connection, "two").await;

    // It dies.
    cluster.members[leader].kill().unwrap();
    second.ended().await;
    until_led(&connection, &cluster).await;
    insert(&connection, "three").await;

    // It is frozen, without its connections being closed. The two others must be enough to elect another.
    cluster.members[leader].start_again().unwrap();
    loop {
        let (third, leader) = until_led(&connection, &cluster).await;
        cluster.members[leader].freeze().unwrap();
        let reason = third.ended().await.to_string();
        // Long before a server would be that stands alone.
        if reason.contains("no answer for 5 s") {
            break;
        }
        assert!(reason.contains("this member "), "{reason}");
        cluster.members[leader].thaw().unwrap();
    }
    insert(&connection, "four").await;
    let all: BTreeSet<_> = names(&connection).into_iter().collect();
    assert!(all.iter().eq(["four", "one", "three", "two"]), "{all:?}");
}

#[tokio::test]
async fn a_member_that_does_not_lead_is_no_substitute() {
    let cluster = OvsdbCluster::start(2).unwrap();
    let member = 1 - cluster.leader().unwrap();
    let target: ovsdb::Target = cluster.members[member].tcp_target().parse().unwrap();
    let connection: Connection<Names> =
        Connection::start(target.into(), DB, impatient(SessionOptions::default()));
    // An election may have it otherwise before that is seen.
    while !is_soon(until_down(&connection, "not the cluster's leader")).await {
        have_it_lead(&cluster, member, false);
    }
    have_it_lead(&cluster, member, true);
    while !is_soon(until_up(&connection)).await {
        have_it_lead(&cluster, member, true);
    }
}

/// Whether something is so within a time that is enough where nothing comes between.
async fn is_soon<T>(so: impl Future<Output = T>) -> bool {
    tokio::time::timeout(Duration::from_secs(10), so)
        .await
        .is_ok()
}

/// Has the leader hand over if this member, one of two, should lead and does not, or does and should not.
fn have_it_lead(cluster: &OvsdbCluster, member: usize, wanted: bool) {
    if (cluster.leader().unwrap() == member) != wanted {
        cluster.transfer_leadership().unwrap();
    }
}
