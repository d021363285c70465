//! Starting, restarting and ending.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::json;
use server::{Server, StartError};
use tempfile::TempDir;
use tokio::sync::oneshot;

use crate::fixture::{Fixture, mac, options};

async fn why_not(change: impl FnOnce(&mut server::Options)) -> String {
    let directory = TempDir::new().unwrap();
    let mut options = options(&directory);
    change(&mut options);
    let error = Server::start(options).await.err().unwrap();
    let line = error.to_string();
    assert!(!line.contains('\n'), "{line}");
    line
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stands_in_the_way_of_a_start_is_said_in_one_line() {
    let server = Fixture::start().await;
    let taken = server.address.to_string();
    let line = why_not(|options| options.listen = taken.parse().unwrap()).await;
    assert!(line.contains(&taken) && line.contains("in use"), "{line}");
    let line = why_not(|options| options.database = Some("/proc/none/l2gw.db".to_owned())).await;
    assert!(line.contains("/proc/none"), "{line}");
    for open in ["0.0.0.0:0", "[::]:0", "192.0.2.1:9720"] {
        let line = why_not(|options| options.listen = open.parse().unwrap()).await;
        assert!(
            line.contains(open) && line.contains("without authentication"),
            "{line}"
        );
    }
    let line = why_not(|options| options.body_total_limit = Some(1000)).await;
    assert!(line.contains("--body-limit 67108864"), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_keeps_everything() {
    let server = Fixture::start().await;
    let connection = server.stretched(5).await;
    server
        .create(
            "l2-remote-macs",
            json!({"mac": mac(1), "rgw_connection": connection}),
        )
        .await;
    let mut before = Vec::new();
    let paths = [
        "networks",
        "l2-gateways",
        "l2-gateway-connections",
        "l2-remote-gateways",
        "l2-remote-gateway-connections?fields=id&fields=segmentation_id&fields=attachment_id",
        "l2-remote-macs?fields=id&fields=mac",
    ]
    .map(|path| format!("/v2.0/{path}"));
    for path in &paths {
        before.push(server.get(path).await);
    }
    let server = server.restarted().await;
    for (path, before) in paths.iter().zip(before) {
        if path.contains("l2-remote-gateways") {
            continue;
        }
        assert_eq!(server.get(path).await, before, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_in_flight_is_finished_before_the_end() {
    let server = Fixture::start().await;
    let body = b"{\"network\":{\"name\":\"last\"}}";
    let mut stream = std::net::TcpStream::connect(server.address).unwrap();
    write!(
        stream,
        "POST /v2.0/networks HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )
    .unwrap();
    stream.write_all(&body[..5]).unwrap();
    server.get("/v2.0/networks").await;
    let ended = server.end();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(
        !ended.is_finished(),
        "the server ended in the middle of a request"
    );
    stream.write_all(&body[5..]).unwrap();
    let answer = tokio::task::spawn_blocking(move || {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    });
    assert!(answer.await.unwrap().starts_with("HTTP/1.1 201"));
    ended.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unix_socket_is_the_owners_alone_and_a_dead_one_is_replaced() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("l2gw.sock");
    // Dropping a listener leaves its socket behind, as a killed server does.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let mut options = options(&directory);
    options.listen = format!("unix:{}", path.display()).parse().unwrap();
    let server = Server::start(options.clone()).await.unwrap();
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(server.serve(async {
        let _ = stopped.await;
    }));
    let second = Server::start(options).await;
    assert!(matches!(second, Err(StartError::Listen { .. })));
    let mut stream = UnixStream::connect(&path).unwrap();
    let answer = tokio::task::spawn_blocking(move || {
        stream
            .write_all(b"GET /v2.0/networks HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    });
    let answer = answer.await.unwrap();
    assert!(answer.ends_with("{\"networks\":[]}"), "{answer}");
    drop(stop);
    serving.await.unwrap().unwrap();
    assert!(!path.exists(), "the socket was left behind");
}
