//! One writer, many readers, all or nothing.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use model::fault::{Fault, FaultKind};
use model::resource::Kind;
use model::row::Value;
use rusqlite::Connection;
use store::{Change, Query, Store, Transaction};
use tempfile::tempdir;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::engines::{Engine, on_every_engine};
use crate::rows::{family, insert, names, remote_gateway, select};

on_every_engine! {
    an_error_undoes_the_whole_write,
    a_panic_undoes_the_write_and_the_next_one_works,
    an_insert_that_fails_leaves_what_the_same_write_did_before,
    a_bulk_that_fails_names_the_item_and_one_row_alone_is_not_numbered,
    an_update_of_nothing_is_not_found,
    a_row_keeps_its_parents_for_life,
    readers_see_the_last_commit_while_a_write_is_under_way,
    a_snapshot_stays_as_it_is_while_others_write,
    a_commit_that_changes_something_wakes_those_who_follow,
    who_is_behind_a_restart_is_told_to_begin_anew,
    a_device_is_remembered_until_it_is_forgotten,
}

async fn a_device_is_remembered_until_it_is_forgotten(engine: Engine) {
    let store = engine.open().await;
    let names = ["tor1", "tor2"].map(str::to_owned);
    let remember = move |t: &mut dyn Transaction| t.remember_devices(&names);
    store.write(remember).await.unwrap();
    for known in [true, false] {
        let forgotten = store.write(|t| t.forget_device("tor1")).await;
        assert_eq!(forgotten, Ok(known));
    }
    let seen = store.read(|s| s.seen_devices()).await.unwrap();
    assert_eq!(seen, ["tor2".to_owned()].into());
}

async fn an_error_undoes_the_whole_write(engine: Engine) {
    let store = engine.open().await;
    let fault = store
        .write(|transaction| {
            transaction.insert(&mut [remote_gateway("a")])?;
            transaction.remember_devices(&["tor1".to_owned()])?;
            Err::<(), _>(Fault::refused("changed my mind"))
        })
        .await
        .unwrap_err();
    assert_eq!(fault, Fault::refused("changed my mind"));
    assert!(names(&store).await.is_empty());
    assert_eq!(*store.revisions().borrow(), 0);
    let seen = store
        .read(|snapshot| snapshot.seen_devices())
        .await
        .unwrap();
    assert!(seen.is_empty());
}

async fn a_panic_undoes_the_write_and_the_next_one_works(engine: Engine) {
    let store = engine.open().await;
    let fault = store
        .write(|transaction| -> Result<(), Fault> {
            transaction.insert(&mut [remote_gateway("a")])?;
            panic!("a defect")
        })
        .await
        .unwrap_err();
    assert_eq!(fault.kind, FaultKind::Internal);
    assert_eq!(fault.detail.as_deref(), Some("panic: a defect"));
    let fault = store
        .read(|_| -> Result<(), Fault> { panic!("another") })
        .await;
    assert_eq!(fault.unwrap_err().kind, FaultKind::Internal);
    insert(&store, vec![remote_gateway("b")]).await;
    assert_eq!(names(&store).await, ["b"]);
}

async fn an_insert_that_fails_leaves_what_the_same_write_did_before(engine: Engine) {
    let store = engine.open().await;
    let mac = family(Kind::L2RemoteMac);
    let mut twin = mac.last().unwrap().clone();
    twin.set("id", Value::Uuid(Uuid::new_v4()));
    insert(&store, mac).await;
    let fault = store
        .write(move |transaction| {
            transaction.insert(&mut [remote_gateway("kept")])?;
            let bulk = transaction.insert(&mut [remote_gateway("undone"), twin]);
            Ok(bulk.unwrap_err())
        })
        .await
        .unwrap();
    assert_eq!(fault.kind, FaultKind::L2RemoteMacExists);
    let names = names(&store).await;
    assert!(names.contains(&"kept".to_owned()), "{names:?}");
    assert!(!names.contains(&"undone".to_owned()), "{names:?}");
}

async fn a_bulk_that_fails_names_the_item_and_one_row_alone_is_not_numbered(engine: Engine) {
    let store = engine.open().await;
    let family = family(Kind::L2RemoteMac);
    let mac = family.last().unwrap().clone();
    insert(&store, family).await;
    let mut fresh = mac.clone();
    fresh.set("id", Value::Uuid(Uuid::new_v4()));
    fresh.set(
        "mac",
        Value::Mac(
            "fe:00:00:00:00:aa"
                .parse::<model::value::MacAddress>()
                .unwrap(),
        ),
    );
    let mut twin = mac.clone();
    twin.set("id", Value::Uuid(Uuid::new_v4()));
    let mut lost = fresh.clone();
    lost.set("id", Value::Uuid(Uuid::new_v4()));
    lost.set(
        "mac",
        Value::Mac(
            "fe:00:00:00:00:bb"
                .parse::<model::value::MacAddress>()
                .unwrap(),
        ),
    );
    lost.set("rgw_connection", Value::from("wan"));

    let insert = |mut rows: Vec<model::row::Row>| {
        store.write(move |transaction| transaction.insert(&mut rows))
    };
    let fault = insert(vec![fresh.clone(), twin.clone()]).await.unwrap_err();
    let taken = format!("Remote MAC {} is already declared", twin.get("mac").text());
    assert!(
        fault.message.starts_with(&format!("Item 1: {taken}")),
        "{fault}"
    );
    let fault = insert(vec![twin]).await.unwrap_err();
    assert!(fault.message.starts_with(&taken), "{fault}");
    let fault = insert(vec![fresh, lost]).await.unwrap_err();
    assert_eq!(
        fault.message,
        "Item 1: L2 Remote Gateway Connection wan could not be found"
    );
}

async fn an_update_of_nothing_is_not_found(engine: Engine) {
    let store = engine.open().await;
    let mut row = remote_gateway("a");
    let id = row.id();
    let fault = store
        .write(move |transaction| transaction.update(&mut row))
        .await
        .unwrap_err();
    assert_eq!(fault.kind, FaultKind::L2RemoteGatewayNotFound);
    assert!(fault.message.contains(&id.to_string()), "{fault}");
}

async fn a_row_keeps_its_parents_for_life(engine: Engine) {
    let store = engine.open().await;
    let family = family(Kind::L2GatewayConnection);
    let mut connection = family.last().unwrap().clone();
    let mut network = family
        .iter()
        .find(|row| row.resource.kind == Kind::Network)
        .unwrap()
        .clone();
    network.set("id", Value::Uuid(Uuid::new_v4()));
    network.set("provider:segmentation_id", Value::Integer(99));
    connection.set("network_id", Value::Uuid(network.id()));
    insert(&store, family).await;
    insert(&store, vec![network]).await;
    let fault = store
        .write(move |transaction| transaction.update(&mut connection))
        .await
        .unwrap_err();
    assert_eq!(fault.kind, FaultKind::Internal);
    assert!(fault.detail.unwrap().contains("another parent"));
}

async fn readers_see_the_last_commit_while_a_write_is_under_way(engine: Engine) {
    let store = engine.open().await;
    insert(&store, vec![remote_gateway("old")]).await;
    let (inserted, is_inserted) = tokio::sync::oneshot::channel();
    let (go_on, may_go_on) = mpsc::channel::<()>();
    let writing = tokio::spawn({
        let store = store.clone();
        async move {
            store
                .write(move |transaction| {
                    transaction.insert(&mut [remote_gateway("new")])?;
                    inserted.send(()).unwrap();
                    may_go_on.recv().unwrap();
                    Ok(())
                })
                .await
        }
    });
    is_inserted.await.unwrap();
    assert_eq!(
        names(&store).await,
        ["old"],
        "nothing uncommitted, no waiting"
    );
    go_on.send(()).unwrap();
    writing.await.unwrap().unwrap();
    assert_eq!(names(&store).await, ["old", "new"]);
}

async fn a_snapshot_stays_as_it_is_while_others_write(engine: Engine) {
    let store = engine.open().await;
    insert(&store, vec![remote_gateway("old")]).await;
    let (read, is_read) = tokio::sync::oneshot::channel();
    let (go_on, may_go_on) = mpsc::channel::<()>();
    let reading = tokio::spawn({
        let store = store.clone();
        async move {
            let query = Query::all(Kind::L2RemoteGateway);
            store
                .read(move |snapshot| {
                    read.send(()).unwrap();
                    may_go_on.recv().unwrap();
                    Ok((select(snapshot, &query).len(), snapshot.revision()?))
                })
                .await
        }
    });
    is_read.await.unwrap();
    insert(&store, vec![remote_gateway("new")]).await;
    go_on.send(()).unwrap();
    assert_eq!(reading.await.unwrap().unwrap(), (1, 1));
}

/// Commits in a write-ahead log: frames whose header gives the size of the database after the commit
/// (SQLite file format, section 4.1).
fn commits(database: &Path) -> usize {
    let wal = std::fs::read(format!("{}-wal", database.display())).unwrap();
    let number = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().unwrap());
    let page = number(&wal[8..12]) as usize;
    wal[32..]
        .chunks_exact(24 + page)
        .filter(|frame| number(&frame[4..8]) != 0)
        .count()
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_that_wait_share_a_commit_and_each_error_stays_its_own() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("l2gw.db");
    let store = Store::open(path.to_str().unwrap()).await.unwrap();
    let before = commits(&path);
    let (go_on, may_go_on) = mpsc::channel::<()>();
    let first = tokio::spawn({
        let store = store.clone();
        async move {
            store
                .write(move |_| {
                    may_go_on.recv().unwrap();
                    Ok(())
                })
                .await
        }
    });
    let writes: Vec<_> = (0..60)
        .map(|number| {
            let store = store.clone();
            tokio::spawn(async move {
                let name = format!("{number}");
                store
                    .write(move |transaction| {
                        transaction.insert(&mut [remote_gateway(&name)])?;
                        match number {
                            30 => panic!("a defect"),
                            _ if number % 3 == 0 => Err(Fault::refused(number)),
                            _ => transaction.revision(),
                        }
                    })
                    .await
            })
        })
        .collect();
    // Long enough for all of them to queue up behind the first.
    tokio::time::sleep(Duration::from_millis(300)).await;
    go_on.send(()).unwrap();
    first.await.unwrap().unwrap();
    let mut revisions = BTreeSet::new();
    for (number, write) in writes.into_iter().enumerate() {
        match write.await.unwrap() {
            Ok(revision) => assert!(revisions.insert(revision), "one revision each"),
            Err(fault) if number == 30 => assert_eq!(fault.kind, FaultKind::Internal),
            Err(fault) => assert_eq!(fault, Fault::refused(number)),
        }
    }
    assert_eq!(revisions, (1..=40).collect());
    assert_eq!(names(&store).await.len(), 40);
    assert_eq!(*store.revisions().borrow(), 40);
    // One, unless the machine is so busy that a group grows too old.
    let commits = commits(&path) - before;
    assert!(commits <= 5, "{commits} commits for 40 writes");
}

async fn a_commit_that_changes_something_wakes_those_who_follow(engine: Engine) {
    let store = engine.open().await;
    let mut revisions = store.revisions();
    insert(&store, vec![remote_gateway("a"), remote_gateway("b")]).await;
    revisions.changed().await.unwrap();
    assert_eq!(*revisions.borrow_and_update(), 1, "one write, one revision");

    let nothing = store.write(|transaction| {
        transaction.insert(&mut [])?;
        transaction.remember_devices(&[])?;
        transaction.delete(Kind::Network, Uuid::new_v4())
    });
    assert!(!nothing.await.unwrap());
    assert!(!revisions.has_changed().unwrap());

    store.close().await;
    assert!(
        revisions.changed().await.is_err(),
        "the channel ends with the database"
    );
}

#[tokio::test]
async fn a_locked_database_is_unavailable_until_it_is_unlocked() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("l2gw.db");
    let store = Store::open(path.to_str().unwrap()).await.unwrap();
    let somebody = Connection::open(&path).unwrap();
    somebody.execute_batch("BEGIN IMMEDIATE").unwrap();
    let begun = Instant::now();
    let mut writes = JoinSet::new();
    for _ in 0..8 {
        let store = store.clone();
        writes.spawn(async move {
            let write = |t: &mut dyn Transaction| t.insert(&mut [remote_gateway("a")]);
            store.write(write).await
        });
    }
    while let Some(write) = writes.join_next().await {
        let fault = write.unwrap().unwrap_err();
        assert_eq!(fault.kind, FaultKind::Unavailable);
    }
    // Each waits two seconds for the lock, and not for the others.
    assert!(
        begun.elapsed() < Duration::from_secs(10),
        "{:?}",
        begun.elapsed()
    );
    assert!(names(&store).await.is_empty(), "reads go on");
    somebody.execute_batch("COMMIT").unwrap();
    insert(&store, vec![remote_gateway("b")]).await;
    assert_eq!(names(&store).await, ["b"]);
}

#[tokio::test]
async fn the_write_ahead_log_does_not_grow_with_the_database() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("l2gw.db");
    let store = Store::open(path.to_str().unwrap()).await.unwrap();
    let name = "n".repeat(200);
    for _ in 0..30 {
        insert(&store, (0..1000).map(|_| remote_gateway(&name)).collect()).await;
    }
    let size = |suffix| {
        let file = format!("{}{suffix}", path.display());
        std::fs::metadata(file).unwrap().len()
    };
    // 1000 pages may wait, and what one bulk adds to them.
    let (database, log) = (size(""), size("-wal"));
    assert!(database > 9 << 20, "{database} bytes in the database");
    assert!(log < 8 << 20, "{log} bytes in the log");
}

async fn who_is_behind_a_restart_is_told_to_begin_anew(engine: Engine) {
    let place = engine.place();
    let store = Store::open(&place.url).await.unwrap();
    let doomed = remote_gateway("doomed");
    let id = doomed.id();
    insert(&store, vec![doomed, remote_gateway("kept")]).await;
    store
        .write(move |transaction| transaction.delete(Kind::L2RemoteGateway, id))
        .await
        .unwrap();
    let changes = |since| {
        store.read(move |snapshot| {
            let mut seen = Vec::new();
            let now = snapshot.changes(since, &mut |change| {
                seen.push(match change {
                    Change::Reset => "reset".to_owned(),
                    Change::Deleted(_, id) => id.to_string(),
                    Change::Written(row) => row.text("name").to_owned(),
                });
            })?;
            Ok((now, seen))
        })
    };
    assert_eq!(changes(1).await.unwrap(), (2, vec![id.to_string()]));
    assert_eq!(
        changes(2).await.unwrap(),
        (2, vec![]),
        "what is known is not told again"
    );
    assert_eq!(changes(0).await.unwrap(), (2, vec!["kept".to_owned()]));
    let reset = (2, vec!["reset".to_owned(), "kept".to_owned()]);
    assert_eq!(changes(3).await.unwrap(), reset, "a revision still to come");
    store.close().await;

    let store = Store::open(&place.url).await.unwrap();
    let changes = |since| {
        store.read(move |snapshot| {
            let mut resets = 0;
            snapshot.changes(since, &mut |change| {
                resets += usize::from(matches!(change, Change::Reset));
            })?;
            Ok(resets)
        })
    };
    assert_eq!(changes(1).await.unwrap(), 1, "the deletion is forgotten");
    assert_eq!(changes(2).await.unwrap(), 0);
}
