//! What operators do to a database beside letting a server use it.

use std::path::Path;

use model::resource::Kind;
use model::table;
use store::upkeep::{self, UpkeepError};
use store::{Query, Store};
use tempfile::tempdir;

use crate::engines::{Engine, on_every_engine, sql};
use crate::rows::{all, family, insert, names, plain, remote_gateway};

on_every_engine! {
    a_database_that_is_in_use_tells_its_version_and_is_in_order,
    a_database_is_not_copied_into_itself,
    rows_are_copied_with_their_order_and_revisions_into_either_engine,
    only_a_new_database_is_copied_into,
}

async fn a_database_that_is_in_use_tells_its_version_and_is_in_order(engine: Engine) {
    let place = engine.place();
    let store = Store::open(&place.url).await.unwrap();
    insert(&store, family(Kind::L2RemoteMac)).await;
    let version = upkeep::version(&place.url).await.unwrap();
    assert_eq!(version, table::SCHEMA_VERSION);
    let census = upkeep::check(&place.url).await.unwrap();
    assert!(census.contains(&(Kind::L2RemoteMac, 1)), "{census:?}");
    assert_eq!(census.len(), table::ALL.len());
    store.close().await;

    let change = match engine {
        Engine::Sqlite => "PRAGMA user_version = 1",
        Engine::Postgres => "UPDATE l2gw_schema SET version = 1",
    };
    sql(&place.url, change);
    assert_eq!(upkeep::version(&place.url).await.unwrap(), 1);
    let line = upkeep::check(&place.url).await.unwrap_err().to_string();
    assert!(line.contains("l2gw db upgrade"), "{line}");
}

async fn a_database_is_not_copied_into_itself(engine: Engine) {
    let place = engine.place();
    Store::open(&place.url).await.unwrap().close().await;
    let line = upkeep::copy(&place.url, &place.url).await.unwrap_err();
    assert!(line.to_string().contains("are the same database"), "{line}");
}

#[tokio::test]
async fn a_link_to_a_database_is_the_same_database() {
    let directory = tempfile::tempdir().unwrap();
    let [file, link] = ["l2gw.db", "link.db"].map(|name| directory.path().join(name));
    let [from, to] = [&file, &link].map(|path| path.to_str().unwrap().to_owned());
    Store::open(&from).await.unwrap().close().await;
    std::os::unix::fs::symlink(&file, &link).unwrap();
    let line = upkeep::copy(&from, &to).await.unwrap_err().to_string();
    assert_eq!(
        line,
        format!("{from} and {to} are the same database: rows are copied into another one")
    );
}

async fn rows_are_copied_with_their_order_and_revisions_into_either_engine(engine: Engine) {
    for other in [Engine::Sqlite, Engine::Postgres] {
        let (from, to) = (engine.place(), other.place());
        let store = Store::open(&from.url).await.unwrap();
        insert(&store, family(Kind::L2RemoteMac)).await;
        let many = (0..25_000).map(|n| remote_gateway(&n.to_string()));
        insert(&store, many.collect()).await;
        let devices = ["tor1".to_owned()];
        store
            .write(move |t| t.remember_devices(&devices))
            .await
            .unwrap();
        let used = upkeep::copy(&from.url, &to.url).await.unwrap_err();
        assert!(used.to_string().contains("in use"), "{used}");
        let mut before = Vec::new();
        for resource in table::ALL {
            before.extend(plain(&all(&store, resource.kind).await));
        }
        let lineage = store.read(|s| s.lineage()).await.unwrap();
        store.close().await;

        let census = upkeep::copy(&from.url, &to.url).await.unwrap();
        assert!(
            census.contains(&(Kind::L2RemoteGateway, 25_001)),
            "{census:?}"
        );
        let store = Store::open(&to.url).await.unwrap();
        let mut after = Vec::new();
        for resource in table::ALL {
            after.extend(plain(&all(&store, resource.kind).await));
        }
        assert!(before == after, "{engine:?} to {other:?}");
        assert_eq!(*store.revisions().borrow(), 3);
        let seen = store.read(|s| s.seen_devices()).await.unwrap();
        assert!(seen.contains("tor1"));
        let moment = lineage.at(3).unwrap();
        let copied = store.read(|s| s.lineage()).await.unwrap();
        assert!(copied.has_been_at(moment, 3), "its past is the original's");
        insert(&store, vec![remote_gateway("new")]).await;
    }
}

async fn only_a_new_database_is_copied_into(engine: Engine) {
    let (from, to) = (Engine::Sqlite.place(), engine.place());
    for place in [&from, &to] {
        let store = Store::open(&place.url).await.unwrap();
        insert(&store, vec![remote_gateway("a")]).await;
        store.close().await;
    }
    let line = upkeep::copy(&from.url, &to.url).await.unwrap_err();
    assert!(matches!(line, UpkeepError::NotEmpty(_)), "{line}");
    let store = Store::open(&to.url).await.unwrap();
    assert_eq!(names(&store).await, ["a"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_one_moment_of_a_database_that_is_being_written() {
    let place = Engine::Sqlite.place();
    let directory = tempdir().unwrap();
    let store = Store::open(&place.url).await.unwrap();
    insert(&store, (0..20_000).map(|_| remote_gateway("old")).collect()).await;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let writing = tokio::spawn({
        let store = store.clone();
        async move {
            let mut stopped = stopped;
            // Two at a time: a moment in between would have an odd number.
            while stopped.try_recv().is_err() {
                insert(&store, vec![remote_gateway("new"), remote_gateway("new")]).await;
            }
        }
    });
    let file = directory.path().join("backup.db");
    for round in 0..3 {
        upkeep::backup(&place.url, &file).await.unwrap();
        let backup = Store::open(file.to_str().unwrap()).await.unwrap();
        let query = Query::all(Kind::L2RemoteGateway);
        let rows = backup.read(move |s| s.count(&query)).await.unwrap();
        assert!(rows >= 20_000 && rows % 2 == 0, "{rows} in round {round}");
        backup.close().await;
        std::fs::remove_file(&file).unwrap();
    }
    stop.send(()).unwrap();
    writing.await.unwrap();
}

#[tokio::test]
async fn a_backup_overwrites_nothing_and_needs_a_database() {
    let place = Engine::Sqlite.place();
    let directory = tempdir().unwrap();
    let missing = directory.path().join("missing.db");
    let there = directory.path().join("there");
    std::fs::write(&there, "precious").unwrap();
    let backup = async |url: &str, file: &Path| {
        let error = upkeep::backup(url, file).await.unwrap_err();
        error.to_string()
    };
    let line = backup(missing.to_str().unwrap(), &directory.path().join("new")).await;
    assert!(line.contains("missing.db") && !missing.exists(), "{line}");
    upkeep::upgrade(&place.url).await.unwrap();
    let line = backup(&place.url, &there).await;
    assert!(line.contains("there"), "{line}");
    assert_eq!(std::fs::read_to_string(&there).unwrap(), "precious");
    let line = backup("postgres://db/l2gw", &directory.path().join("new")).await;
    assert!(line.contains("pg_dump"), "{line}");
}

#[tokio::test]
async fn damage_is_found() {
    let place = Engine::Sqlite.place();
    let store = Store::open(&place.url).await.unwrap();
    insert(&store, family(Kind::L2RemoteMac)).await;
    store.close().await;
    sql(
        &place.url,
        "PRAGMA foreign_keys = off; DELETE FROM l2_remote_gateway_connections",
    );
    let line = upkeep::check(&place.url).await.unwrap_err().to_string();
    assert!(line.contains("l2_remote_macs refers to nothing"), "{line}");
}
