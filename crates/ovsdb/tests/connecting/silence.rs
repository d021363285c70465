//! Servers that say nothing: dead ones and busy ones.

use std::time::Duration;

use ovsdb::{Connection, Link, SessionOptions};
use testkit::ovsdb_server::OvsdbServer;

use crate::fixture::{DB, Names, impatient, insert, names, until, until_down, until_up};

#[tokio::test]
async fn a_frozen_server_is_noticed_within_five_seconds_and_welcome_when_it_goes_on() {
    let server = OvsdbServer::start().unwrap();
    let target: ovsdb::Target = server.tcp_target().parse().unwrap();
    let connection: Connection<Names> =
        Connection::start(target.into(), DB, impatient(SessionOptions::default()));
    let session = until_up(&connection).await;
    server.freeze().unwrap();
    // The moment of the last word counts, which was before. On one thread, a busy machine is as late for this limit as for the
    // notice, which then takes a few turns of the runtime to get here.
    let limit = async {
        tokio::time::sleep(Duration::from_millis(5500)).await;
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        biased;
        _ = until_down(&connection, "no answer for 5 s") => {}
        () = limit => panic!("nothing was noticed: {:?}", connection.link()),
    }

    // It was only busy: the same session goes on, without another dump.
    server.thaw().unwrap();
    let again = until_up(&connection).await;
    insert(&session, "net").await;
    assert_eq!(names(&connection), ["net"]);
    drop((session, again));
}

#[tokio::test]
async fn a_server_that_stays_silent_is_given_up_and_dialled_again() {
    let mut server = OvsdbServer::start().unwrap();
    let target: ovsdb::Target = server.tcp_target().parse().unwrap();
    let options = SessionOptions {
        probe_interval: Duration::from_millis(100),
        silence_notice: Duration::from_millis(200),
        probe_timeout: Duration::from_millis(600),
        ..SessionOptions::default()
    };
    let connection: Connection<Names> = Connection::start(target.into(), DB, impatient(options));
    let session = until_up(&connection).await;
    server.freeze().unwrap();
    until_down(&connection, "nothing heard").await;
    assert!(!matches!(connection.link(), Link::Up { .. }));
    session.ended().await;
    server.kill().unwrap();
    server.start_again().unwrap();
    until(&connection, |link| {
        matches!(link, Link::Up { .. }).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_server_with_nothing_to_say_is_not_doubted() {
    let server = OvsdbServer::start().unwrap();
    let target: ovsdb::Target = server.unix_target().parse().unwrap();
    let options = SessionOptions {
        probe_interval: Duration::from_millis(50),
        silence_notice: Duration::from_secs(2),
        probe_timeout: Duration::from_secs(4),
        ..SessionOptions::default()
    };
    let connection: Connection<Names> = Connection::start(target.into(), DB, impatient(options));
    let session = until_up(&connection).await;
    let silence = session.silence();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(!silence.has_changed().unwrap() && !*silence.borrow());
    assert!(matches!(connection.link(), Link::Up { .. }));
}
