//! Servers that go and come back, as they were or changed.

use std::time::Duration;

use ovsdb::{Connection, ConnectionOptions, Endpoint, Operation, SessionOptions, TransactError};
use testkit::ovsdb_server::{OvsdbServer, VTEP_SCHEMA};

use crate::fixture::{DB, Names, impatient, insert, insertion, names, until_down, until_up};

fn follow(target: &str, database: &str) -> Connection<Names> {
    let endpoint: Endpoint = target.parse().unwrap();
    Connection::start(endpoint, database, impatient(SessionOptions::default()))
}

#[tokio::test]
async fn a_connection_comes_back_after_the_server_was_killed() {
    let mut server = OvsdbServer::start().unwrap();
    let connection = follow(&server.tcp_target(), DB);
    let session = until_up(&connection).await;
    let write = insertion("before").with(Operation::Commit { durable: true });
    session.transact(DB, &write).await.unwrap();

    server.kill().unwrap();
    let reason = until_down(&connection, "").await;
    assert!(reason.starts_with("tcp:127.0.0.1:"), "{reason}");
    let error = session.transact(DB, &write).await.unwrap_err();
    assert!(matches!(error, TransactError::Disconnected(_)), "{error}");
    // What was known last can still be read.
    assert_eq!(names(&connection), ["before"]);

    server.start_again().unwrap();
    let other = follow(&server.unix_target(), DB);
    insert(&until_up(&other).await, "away").await;
    insert(&until_up(&connection).await, "after").await;
    let mut all = names(&connection);
    all.sort();
    assert_eq!(all, ["after", "away", "before"]);
}

#[tokio::test]
async fn a_server_that_hangs_up_after_a_while_is_dialled_again_at_once() {
    let server = OvsdbServer::start().unwrap();
    let endpoint: Endpoint = server.unix_target().parse().unwrap();
    let options = ConnectionOptions {
        session: SessionOptions::default(),
        first_pause: Duration::from_secs(600),
        longest_pause: Duration::from_secs(600),
        longest_rest: Duration::from_millis(200),
    };
    let connection: Connection<Names> = Connection::start(endpoint, DB, options);
    let session = until_up(&connection).await;
    tokio::time::sleep(Duration::from_millis(250)).await;
    server.control(&["ovsdb-server/reconnect"]).unwrap();
    session.ended().await;
    // The link may show the old one for a moment.
    while until_up(&connection).await.list_databases().await.is_err() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_server_that_was_never_there_is_waited_for() {
    let mut server = OvsdbServer::start().unwrap();
    server.kill().unwrap();
    let connection = follow(&server.unix_target(), DB);
    until_down(&connection, "db.sock").await;
    server.start_again().unwrap();
    until_up(&connection).await;
}

#[tokio::test]
async fn an_unknown_database_is_the_reason_of_being_down() {
    let server = OvsdbServer::start().unwrap();
    let connection = follow(&server.unix_target(), "no_such_db");
    until_down(&connection, "reading the schema: unknown database").await;
}

#[tokio::test]
async fn a_converted_schema_is_read_again() {
    let text = std::fs::read_to_string(VTEP_SCHEMA).unwrap();
    let mut old: serde_json::Value = serde_json::from_str(&text).unwrap();
    let columns = &mut old["tables"]["Logical_Switch"]["columns"];
    columns.as_object_mut().unwrap().remove("other_config");
    old.as_object_mut().unwrap().remove("cksum");
    let server = OvsdbServer::with_schema(&old.to_string()).unwrap();
    let connection = follow(&server.unix_target(), DB);
    let (session, schema) = connection.up().await;
    assert!(!schema.has_column("Logical_Switch", "other_config"));

    let converted = std::process::Command::new("ovsdb-client")
        .args(["convert", &server.unix_target(), VTEP_SCHEMA])
        .output()
        .unwrap();
    assert!(converted.status.success(), "{converted:?}");
    // A session that did not ask to be told of conversions is closed by one.
    session.ended().await;
    let read_again = async {
        while !connection
            .up()
            .await
            .1
            .has_column("Logical_Switch", "other_config")
        {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), read_again)
        .await
        .unwrap();
}
