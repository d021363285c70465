//! One l2gw server writes to a switch at a time, whoever has the lock of its database.

use std::time::{Duration, Instant};

use hardware_vtep::Database;
use model::resource::Kind;
use model::status::Status;
use ovsdb::{Connection, ConnectionOptions, Lock, Session};

use crate::bench::{Bench, Stretch};
use crate::continuity::versions;

const CONNECTION: Kind = Kind::L2RemoteGatewayConnection;

/// Another controller's connection.
fn another(bench: &Bench) -> Connection<Database> {
    Connection::start(
        bench.switch.unix_target().parse().unwrap(),
        hardware_vtep::NAME,
        ConnectionOptions::default(),
    )
}

async fn until_locked_out(bench: &Bench) {
    let begun = Instant::now();
    loop {
        let withheld = bench.account().told().withheld;
        if withheld.as_ref().is_some_and(|it| it.is_everything()) {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{withheld:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A network that is on the switch, and somebody else who has taken the lock since; kept as long as that is held.
async fn taken_over(bench: &Bench) -> (Stretch, Connection<Database>, Session, Lock) {
    let stretch = Stretch::new("p1", 123);
    bench.insert(stretch.rows()).await;
    let id = stretch.connection.id();
    bench.until_status(CONNECTION, id, Status::Active).await;
    let thief = another(bench);
    let (session, _) = thief.up().await;
    let lock = session.steal("l2gw").await.unwrap();
    until_locked_out(bench).await;
    (stretch, thief, session, lock)
}

#[tokio::test(flavor = "multi_thread")]
async fn who_loses_the_lock_stops_writing_says_so_and_goes_on_when_it_is_back() {
    let bench = Bench::new().await;
    let (stretch, _thief, session, lock) = taken_over(&bench).await;
    let id = stretch.connection.id();
    // What is there is still told: nobody took it away.
    assert_eq!(bench.report(CONNECTION, id).await.status, Status::Active);

    let mac = Stretch::mac(&stretch.connection, &stretch.attachment, 0x0c);
    bench.insert(vec![mac.clone()]).await;
    bench
        .until_reason(Kind::L2RemoteMac, mac.id(), |reason| {
            reason.contains("another controller has the lock l2gw")
        })
        .await;
    let report = bench.report(Kind::L2RemoteMac, mac.id()).await;
    assert_eq!(report.status, Status::Error);
    // Nor is what the thief takes away put back under its hands.
    bench
        .transact([ovsdb::Operation::delete_where("Ucast_Macs_Remote", [])])
        .await;
    bench
        .until_status(Kind::L2RemoteMac, stretch.mac.id(), Status::Error)
        .await;
    let name = stretch.name();
    bench.held(|held| assert_eq!(held.logical_switches[&name].macs.len(), 0));

    session.unlock(lock).await.unwrap();
    bench
        .until_status(Kind::L2RemoteMac, mac.id(), Status::Active)
        .await;
    bench
        .until_held(|held| held.logical_switches[&name].macs.len() == 2)
        .await;
    assert_eq!(bench.account().told().withheld, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_second_waits_and_follows_when_the_first_one_ends() {
    let bench = Bench::new().await;
    let first = another(&bench);
    let (session, _) = first.up().await;
    session.steal("l2gw").await.unwrap();
    until_locked_out(&bench).await;
    let stretch = Stretch::new("p1", 123);
    bench.insert(stretch.rows()).await;
    let id = stretch.connection.id();
    bench.until_status(CONNECTION, id, Status::Error).await;
    bench.held(|held| assert_eq!(held.logical_switches.len(), 0));

    session.close("the first one ends");
    bench.until_status(CONNECTION, id, Status::Active).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_locked_out_learns_who_writes_and_since_when() {
    let bench = Bench::new().await;
    let (stretch, _thief, session, _lock) = taken_over(&bench).await;
    let words = || bench.account().told().withheld.unwrap().to_string();
    let year = jiff::Timestamp::now().strftime("%Y-").to_string();
    assert!(
        words().contains(&format!("database since {year}")),
        "{}",
        words()
    );
    assert!(
        words().contains("nobody but this server has written"),
        "{}",
        words()
    );
    // As another server of ours notes it.
    bench.vtep_ctl(&["set", "Global", ".", "other_config:l2gw_server=elsewhere"]);
    let begun = Instant::now();
    while !words().contains("who wrote there last is the l2gw server on elsewhere") {
        assert!(begun.elapsed() < Duration::from_secs(20), "{}", words());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }

    // Who never had it cannot know when that began.
    let bench = bench.stop().await.start("l2gw.sqlite").await;
    until_locked_out(&bench).await;
    let words = bench.account().told().withheld.unwrap().to_string();
    assert!(words.contains(&format!("since before {year}")), "{words}");
    session.close("it goes");
    let mac = Stretch::mac(&stretch.connection, &stretch.attachment, 0x0c);
    bench.insert(vec![mac.clone()]).await;
    bench
        .until_status(Kind::L2RemoteMac, mac.id(), Status::Active)
        .await;
    let note = ["get", "Global", ".", "other_config:l2gw_server"];
    let ours = format!(", process {}", std::process::id());
    let begun = Instant::now();
    while !bench.vtep_ctl(&note).contains(&ours) {
        assert!(begun.elapsed() < Duration::from_secs(20));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn our_logical_switches_flood_to_all_even_if_somebody_changes_that() {
    let bench = Bench::new().await;
    let stretch = Stretch::new("p1", 123);
    bench.insert(stretch.rows()).await;
    let id = stretch.connection.id();
    bench.until_status(CONNECTION, id, Status::Active).await;
    let name = stretch.name().to_string();
    let mode = ["get", "Logical_Switch", &name, "replication_mode"];
    assert_eq!(bench.vtep_ctl(&mode), "source_node");
    for change in [
        vec!["clear", "Logical_Switch", &name, "replication_mode"],
        vec![
            "set",
            "Logical_Switch",
            &name,
            "replication_mode=service_node",
        ],
    ] {
        bench.vtep_ctl(&change);
        let begun = Instant::now();
        while bench.vtep_ctl(&mode) != "source_node" {
            assert!(begun.elapsed() < Duration::from_secs(20), "{change:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// Switches ask nobody for locks, nor do controllers that know of none.
#[tokio::test(flavor = "multi_thread")]
async fn who_writes_without_the_lock_is_put_right_and_keeps_what_is_its_own() {
    let bench = Bench::new().await;
    let stretch = Stretch::new("p1", 123);
    bench.insert(stretch.rows()).await;
    let id = stretch.connection.id();
    bench.until_status(CONNECTION, id, Status::Active).await;
    let name = stretch.name();
    let theirs = "add-ls theirs -- add-ucast-remote theirs 02:ff:00:00:00:0b 198.51.100.7 -- bind-ls tor p2 9 theirs";
    bench.vtep_ctl(&theirs.split(' ').collect::<Vec<_>>());
    let tables = ["Logical_Switch", "Ucast_Macs_Remote", "Physical_Port"];
    let of_theirs = async |bench: &Bench| {
        let find = "--bare --columns=_uuid find Ucast_Macs_Remote MAC=\"02:ff:00:00:00:0b\" -- list-bindings tor p2";
        bench.vtep_ctl(&find.split(' ').collect::<Vec<_>>())
    };
    let before = of_theirs(&bench).await;
    let name_text = name.to_string();
    for round in 0..10 {
        let mac = Stretch::mac(&stretch.connection, &stretch.attachment, 0x100 + round);
        bench.insert(vec![mac]).await;
        for line in [
            format!("clear-remote-macs {name_text}"),
            format!("set Logical_Switch {name_text} tunnel_key=99"),
            format!("unbind-ls tor p1 0 -- bind-ls tor p1 0 {name_text}"),
            format!("add-ucast-remote {name_text} 02:00:00:00:00:0c 198.51.100.8"),
            format!("del-mcast-remote {name_text} unknown-dst 203.0.113.2"),
        ] {
            // What it wants to change may just have been put right, or be gone.
            let words: Vec<_> = line.split(' ').collect();
            let database = format!("--db={}", bench.switch.unix_target());
            let _ = std::process::Command::new("vtep-ctl")
                .arg(database)
                .args(words)
                .output()
                .unwrap();
        }
    }
    bench
        .until_held(|held| {
            let network = &held.logical_switches[&name];
            network.macs.len() == 11
                && network.flood.len() == 1
                && network.tunnel_key == model::value::Vni::new(123)
                && held.bindings.values().filter(|to| **to == name).count() == 1
        })
        .await;
    bench.until_status(CONNECTION, id, Status::Active).await;
    bench.until_settled().await;
    assert_eq!(of_theirs(&bench).await, before);
    // A second run writes nothing.
    let mut rows = Vec::new();
    for table in tables {
        rows.push(versions(&bench, table).await);
    }
    let bench = bench.stop().await.start("l2gw.sqlite").await;
    bench.until_status(CONNECTION, id, Status::Active).await;
    bench.until_settled().await;
    for (table, before) in tables.into_iter().zip(rows) {
        assert_eq!(versions(&bench, table).await, before, "{table}");
    }
}
