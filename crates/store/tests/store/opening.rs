//! What opens, what does not, and what is still there after a restart.

use std::collections::BTreeSet;

use model::resource::Kind;
use model::table;
use rusqlite::Connection;
use store::Store;
use tempfile::tempdir;

use crate::engines::{Engine, on_every_engine, sql};
use crate::rows::{all, family, insert, names, plain, remote_gateway};

on_every_engine! {
    a_restart_keeps_everything,
    a_closed_store_refuses_on_every_handle,
    two_servers_cannot_share_a_database,
    a_database_of_a_newer_version_is_left_alone,
    a_database_of_somebody_else_is_left_alone,
}

async fn refusal(url: &str) -> String {
    let error = Store::open(url).await.err().expect("it opened");
    let line = error.to_string();
    assert!(!line.contains('\n'), "one line: {line}");
    line
}

async fn a_restart_keeps_everything(engine: Engine) {
    let place = engine.place();
    let store = Store::open(&place.url).await.unwrap();
    insert(&store, family(Kind::L2RemoteMac)).await;
    let devices = ["tor1".to_owned(), "tor2".to_owned()];
    store
        .write(move |transaction| transaction.remember_devices(&devices))
        .await
        .unwrap();
    let mut before = Vec::new();
    for resource in table::ALL {
        before.extend(plain(&all(&store, resource.kind).await));
    }
    store.close().await;

    let store = Store::open(&place.url).await.unwrap();
    let mut after = Vec::new();
    for resource in table::ALL {
        after.extend(plain(&all(&store, resource.kind).await));
    }
    assert!(after.len() >= 6, "the family of a MAC: {after:?}");
    assert_eq!(after, before);
    assert_eq!(*store.revisions().borrow(), 2);
    let seen = store
        .read(|snapshot| snapshot.seen_devices())
        .await
        .unwrap();
    assert_eq!(seen, BTreeSet::from(["tor1".to_owned(), "tor2".to_owned()]));
}

#[tokio::test]
async fn a_closed_database_is_one_file_and_its_lock() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("l2gw.db");
    let store = Store::open(path.to_str().unwrap()).await.unwrap();
    insert(&store, vec![remote_gateway("a")]).await;
    store.close().await;
    let wal = std::fs::metadata(directory.path().join("l2gw.db-wal"));
    assert_eq!(
        wal.map_or(0, |wal| wal.len()),
        0,
        "everything is in the database"
    );
}

async fn a_closed_store_refuses_on_every_handle(engine: Engine) {
    let store = engine.open().await;
    let other = store.clone();
    store.close().await;
    let refused = other
        .read(|snapshot| snapshot.revision())
        .await
        .unwrap_err();
    assert_eq!(refused.kind.status(), 503);
    let refused = other
        .write(|transaction| transaction.revision())
        .await
        .unwrap_err();
    assert_eq!(refused.kind.status(), 503);
}

#[tokio::test]
async fn databases_in_memory_are_each_their_own() {
    let one = Store::open("sqlite::memory:").await.unwrap();
    let two = Store::open("sqlite::memory:").await.unwrap();
    insert(&one, vec![remote_gateway("a")]).await;
    assert_eq!(names(&one).await, ["a"]);
    assert!(names(&two).await.is_empty());
}

async fn two_servers_cannot_share_a_database(engine: Engine) {
    let place = engine.place();
    let store = Store::open(&place.url).await.unwrap();
    let line = refusal(&place.url).await;
    assert!(line.ends_with("is in use by another l2gw server"), "{line}");
    store.close().await;
    Store::open(&place.url).await.unwrap();
}

#[tokio::test]
async fn one_file_is_one_database_however_it_is_spelled() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("l2gw.db");
    let alias = directory.path().join("alias.db");
    let store = Store::open(path.to_str().unwrap()).await.unwrap();
    std::os::unix::fs::symlink(&path, &alias).unwrap();
    let line = refusal(alias.to_str().unwrap()).await;
    assert!(
        line.ends_with("l2gw.db is in use by another l2gw server"),
        "{line}"
    );
    store.close().await;
    Store::open(alias.to_str().unwrap()).await.unwrap();
}

async fn a_database_of_a_newer_version_is_left_alone(engine: Engine) {
    let place = engine.place();
    Store::open(&place.url).await.unwrap().close().await;
    let newer = table::SCHEMA_VERSION + 1;
    let change = match engine {
        Engine::Sqlite => format!("PRAGMA user_version = {newer}"),
        Engine::Postgres => format!("UPDATE l2gw_schema SET version = {newer}"),
    };
    sql(&place.url, &change);
    let line = refusal(&place.url).await;
    assert!(line.contains(&format!("schema version {newer}")), "{line}");
    assert!(line.ends_with("it needs a newer l2gw"), "{line}");
}

async fn a_database_of_somebody_else_is_left_alone(engine: Engine) {
    let place = engine.place();
    sql(&place.url, "CREATE TABLE networks (id TEXT)");
    let line = refusal(&place.url).await;
    assert!(line.ends_with("is not an l2gw database"), "{line}");
}

#[tokio::test]
async fn other_files_are_left_alone() {
    let directory = tempdir().unwrap();
    let text = directory.path().join("passwd");
    let content = "root:x:0:0:root:/root:/bin/bash\n".repeat(100);
    std::fs::write(&text, &content).unwrap();
    let line = refusal(text.to_str().unwrap()).await;
    assert!(line.ends_with("passwd is not an l2gw database"), "{line}");
    assert_eq!(std::fs::read_to_string(&text).unwrap(), content);
}

#[tokio::test]
async fn a_path_that_cannot_be_written_is_named() {
    let directory = tempdir().unwrap();
    let missing = directory.path().join("missing/l2gw.db");
    for path in [directory.path(), missing.as_path()] {
        let line = refusal(path.to_str().unwrap()).await;
        assert!(line.contains(path.to_str().unwrap()), "{line}");
    }
}

#[tokio::test]
async fn a_database_that_somebody_has_locked_is_named() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("l2gw.db");
    let connection = Connection::open(&path).unwrap();
    connection.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let line = refusal(path.to_str().unwrap()).await;
    assert!(
        line.ends_with("l2gw.db is locked by another process"),
        "{line}"
    );
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_named_without_the_password() {
    for (url, cause) in [
        (
            "postgres://l2gw:secret@127.0.0.1:1/l2gw",
            "Connection refused",
        ),
        ("postgres://l2gw:secret@%2Fnowhere/l2gw", "No such file"),
    ] {
        let line = refusal(url).await;
        assert!(line.contains("postgres://l2gw@"), "{line}");
        assert!(line.contains(cause), "{line}");
        assert!(!line.contains("secret"), "{line}");
    }
}
