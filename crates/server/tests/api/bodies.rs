//! Bodies and paths that are wrong, too large or spelled otherwise.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use reqwest::{Body, Method};
use serde_json::{Value, json};
use server::api::Limits;
use server::http::Bounds;
use store::Store;

use crate::fixture::{Fixture, answering, error, id, reply, unstamped};

const NIL: &str = "00000000-0000-0000-0000-000000000000";

#[tokio::test(flavor = "multi_thread")]
async fn wrong_methods_are_405_and_unknown_paths_404_with_a_body() {
    let server = Fixture::start().await;
    for (method, path, status, kind) in [
        (
            Method::PUT,
            "/v2.0/l2-gateways",
            405,
            "HTTPMethodNotAllowed",
        ),
        (
            Method::DELETE,
            "/v2.0/l2-gateways",
            405,
            "HTTPMethodNotAllowed",
        ),
        (
            Method::PATCH,
            "/v2.0/l2-remote-macs/x",
            405,
            "HTTPMethodNotAllowed",
        ),
        (
            Method::POST,
            "/v2.0/networks/x",
            405,
            "HTTPMethodNotAllowed",
        ),
        (
            Method::PUT,
            "/v2.0/l2-remote-macs/x",
            405,
            "HTTPMethodNotAllowed",
        ),
        (
            Method::PUT,
            "/v2.0/l2-remote-gateway-connections/x",
            405,
            "HTTPMethodNotAllowed",
        ),
        (
            Method::DELETE,
            "/v2.0/l2-remote-gateway-connections/x/remote-macs",
            405,
            "HTTPMethodNotAllowed",
        ),
        (Method::GET, "/v2.0/l2-foos", 404, "HTTPNotFound"),
        (Method::GET, "/v3", 404, "HTTPNotFound"),
        (Method::GET, "/v2.0/l2-gateways/x/foo", 404, "HTTPNotFound"),
        (Method::GET, "/v2.0/l2-gateways/%ff", 404, "HTTPNotFound"),
        (
            Method::GET,
            "/v2.0/l2-remote-macs/x",
            404,
            "L2RemoteMacNotFound",
        ),
        (
            Method::GET,
            "/v2.0/l2-remote-gateway-connections/x/remote-macs",
            404,
            "L2RemoteGatewayConnectionNotFound",
        ),
        (Method::DELETE, "/v2.0/ports/x", 404, "PortNotFound"),
    ] {
        let (got, got_kind, _) = error(server.call(method.clone(), path, None).await);
        assert_eq!((got, got_kind.as_str()), (status, kind), "{method} {path}");
    }
    let head = server
        .client
        .head(server.url("/v2.0/l2-gateways"))
        .send()
        .await
        .unwrap();
    assert_eq!(head.status(), 405);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_of_a_connection_is_refused_by_attribute_or_by_method() {
    let server = Fixture::start().await;
    let path = format!("/v2.0/l2-gateway-connections/{NIL}");
    let (status, _, message) = error(
        server
            .put(&path, json!({"l2_gateway_connection": {"network_id": "x"}}))
            .await,
    );
    assert_eq!(
        (status, message.as_str()),
        (400, "Cannot update read-only attribute network_id")
    );
    let (status, ..) = error(
        server
            .put(&path, json!({"l2_gateway_connection": {}}))
            .await,
    );
    assert_eq!(status, 405);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_spelling_of_a_path_leads_to_the_same_place() {
    let server = Fixture::start().await;
    let connection = server.stretched(5).await;
    for path in [
        "/v2.0/l2_remote_gateway_connections.json".to_owned(),
        "/v2.0/l2-remote-gateway-connections/".to_owned(),
        "/v2.0/l2_remote_gateway_connections?fields=id".to_owned(),
    ] {
        let list = server.get(&path).await;
        assert_eq!(
            list["l2_remote_gateway_connections"][0]["id"], connection,
            "{path}"
        );
    }
    for path in ["remote-macs", "remote_macs.json"] {
        let path = format!("/v2.0/l2_remote_gateway_connections/{connection}/{path}");
        assert_eq!(server.get(&path).await, json!({"remote-macs": []}));
    }
    let path = format!("/v2.0/l2_remote_gateway_connections/{connection}.json");
    assert_eq!(
        server.get(&path).await["l2_remote_gateway_connection"]["id"],
        connection
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_no_json_says_where() {
    let server = Fixture::start().await;
    for body in [
        "{\"network\": {",
        "{'network': {}}",
        "{\"network\": {}} {}",
        "{\"a\": \"\\q\"}",
    ] {
        let request = server.client.post(server.url("/v2.0/networks")).body(body);
        let (status, kind, message) = error(reply(request).await);
        assert_eq!(
            (status, kind.as_str()),
            (400, "MalformedRequestBody"),
            "{body}"
        );
        assert!(message.contains("line 1 column"), "{message}");
    }
    let deep = format!(
        "{{\"network\": {{\"name\": {}1{}}}}}",
        "[".repeat(10_000),
        "]".repeat(10_000)
    );
    let request = server.client.post(server.url("/v2.0/networks")).body(deep);
    assert_eq!(error(reply(request).await).0, 400);
    assert_eq!(server.get("/v2.0/networks").await, json!({"networks": []}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_over_the_limit_is_413_with_and_without_content_length() {
    let server = Fixture::with(|options| options.body_limit = 10_000).await;
    let network =
        |name: usize| json!({"network": {"name": "x".repeat(name), "bogus": "y".repeat(name)}});
    let large = serde_json::to_vec(&network(20_000)).unwrap();
    let post = || server.client.post(server.url("/v2.0/networks"));
    let (status, kind, message) = error(reply(post().body(large.clone())).await);
    assert_eq!((status, kind.as_str()), (413, "HTTPRequestEntityTooLarge"));
    assert!(message.contains("10000 bytes"), "{message}");
    let parts: Vec<Result<Vec<u8>, std::io::Error>> =
        large.chunks(1_000).map(|part| Ok(part.to_vec())).collect();
    let chunked = Body::wrap_stream(futures_util::stream::iter(parts));
    assert_eq!(error(reply(post().body(chunked)).await).0, 413);
    let small = serde_json::to_vec(&network(1_000)).unwrap();
    assert_eq!(
        error(reply(post().body(small)).await).0,
        400,
        "only the limit was in the way"
    );
}

/// What a peer that speaks HTTP by hand is answered.
fn by_hand(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    while !answer.windows(2).any(|w| w == b"}}") {
        match stream.read(&mut buffer).unwrap() {
            0 => break,
            count => answer.extend_from_slice(&buffer[..count]),
        }
    }
    String::from_utf8(answer).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_announces_too_much_is_answered_before_it_sends() {
    let server = Fixture::with(|options| options.body_limit = 1_000).await;
    let address = server.address;
    let answer = tokio::task::spawn_blocking(move || {
        by_hand(
            address,
            "POST /v2.0/networks HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5000\r\n\r\n",
        )
    });
    let answer = answer.await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    assert!(answer.contains("NeutronError"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_send_nothing_more_do_not_keep_others_waiting() {
    let server = Fixture::start().await;
    let mut silent = Vec::new();
    for _ in 0..100 {
        let mut stream = TcpStream::connect(server.address).unwrap();
        let head =
            "POST /v2.0/networks HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\n{\"network\":";
        stream.write_all(head.as_bytes()).unwrap();
        silent.push(stream);
    }
    let created = tokio::time::timeout(Duration::from_secs(10), server.network(7)).await;
    assert!(created.is_ok(), "a silent client is in the way");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_never_arrives_is_408() {
    let store = Store::open("sqlite::memory:").await.unwrap();
    let limits = Limits {
        silence: Duration::from_millis(100),
        ..Limits::DEFAULT
    };
    let address = answering(store, limits, Bounds::DEFAULT).await;
    let head =
        "POST /v2.0/networks HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\n{\"network\":";
    let answer = tokio::task::spawn_blocking(move || by_hand(address, head));
    let answer = answer.await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(answer.contains("HTTPRequestTimeout"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_does_not_answer_is_503_and_its_reason_stays_inside() {
    let store = Store::open("sqlite::memory:").await.unwrap();
    let address = answering(store.clone(), Limits::DEFAULT, Bounds::DEFAULT).await;
    store.close().await;
    let client = reqwest::Client::new();
    let networks = format!("http://{address}/v2.0/networks");
    for request in [
        client.get(&networks),
        client.get(format!("{networks}/00000000-0000-0000-0000-000000000000")),
        client.post(&networks).body("{\"network\":{}}"),
    ] {
        let (status, kind, message) = error(reply(request).await);
        assert_eq!((status, kind.as_str()), (503, "ServiceUnavailable"));
        assert_eq!(
            message,
            "The database is not available right now. Please try again later."
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_web_page_cannot_use_the_administrators_loopback() {
    let server = Fixture::start().await;
    let request = server.client.post(server.url("/v2.0/networks"));
    let request = request.header("Origin", "https://example.org");
    let (status, ..) = error(reply(request.body("{\"network\":{}}")).await);
    assert_eq!(status, 403);
    assert_eq!(server.get("/v2.0/networks").await, json!({"networks": []}));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_has_an_id_of_its_own() {
    let server = Fixture::start().await;
    let mut ids = BTreeSet::new();
    for path in ["/", "/v2.0/networks", "/v2.0/networks/x", "/nowhere"] {
        let response = server.client.get(server.url(path)).send().await.unwrap();
        ids.insert(
            response.headers()["x-openstack-request-id"]
                .clone()
                .to_str()
                .unwrap()
                .to_owned(),
        );
        assert_eq!(response.headers()["content-type"], "application/json");
    }
    assert_eq!(ids.len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_shows_what_was_asked_for() {
    let server = Fixture::start().await;
    let network = server
        .create("networks", json!({"name": "blue", "tenant_id": "t"}))
        .await;
    let path = format!("/v2.0/networks/{}", id(&network));
    assert_eq!(server.get(&path).await, json!({"network": network}));
    let some = server
        .get(&format!(
            "{path}?fields=name&fields=project_id&fields=bogus"
        ))
        .await;
    assert_eq!(
        some,
        json!({"network": {"name": "blue", "project_id": "t"}})
    );
    assert_eq!(
        server.get(&format!("{path}?fields=bogus")).await,
        json!({"network": {}})
    );
    let plain = server.create("networks", json!({})).await;
    assert_eq!(
        plain["tenant_id"], "admin",
        "the placeholder while nobody is authenticated"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_without_a_key_gets_the_lowest_free_one() {
    let server = Fixture::start().await;
    let key = |network: &Value| network["provider:segmentation_id"].clone();
    server.network(1).await;
    server.network(3).await;
    assert_eq!(key(&server.create("networks", json!({})).await), 2);
    assert_eq!(key(&server.create("networks", json!({})).await), 4);
    let local = server
        .create("networks", json!({"provider:network_type": "local"}))
        .await;
    assert_eq!(key(&local), Value::Null);
    let (status, kind, message) = server
        .refused("networks", json!({"provider:segmentation_id": "3"}))
        .await;
    assert_eq!((status, kind.as_str()), (409, "TunnelIdInUse"));
    assert!(message.contains('3'), "{message}");
    server.network(16_777_215).await;
    assert_eq!(key(&server.create("networks", json!({})).await), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn ports_are_kept_and_changed() {
    let server = Fixture::start().await;
    let network = server.network(9).await;
    let port = server
        .create("ports", json!({
            "network_id": network, "mac_address": "00-11-22-33-44-55",
            "fixed_ips": [{"ip_address": "10.0.0.5"}], "binding:profile": {"tunneling_ip": "192.0.2.9"},
        }))
        .await;
    assert_eq!(port["mac_address"], "00:11:22:33:44:55");
    let path = format!("/v2.0/ports/{}", id(&port));
    let (status, changed) = server
        .put(
            &path,
            json!({"port": {"binding:profile": {"tunneling_ip": "192.0.2.10"}, "name": "vm"}}),
        )
        .await;
    assert_eq!(status, 200);
    let mut wanted = port.clone();
    wanted["binding:profile"] = json!({"tunneling_ip": "192.0.2.10"});
    wanted["name"] = json!("vm");
    assert_eq!(unstamped(&changed["port"]), unstamped(&wanted));
    assert_eq!(server.get(&path).await, changed);
    let again = json!({"network_id": network, "mac_address": "00:11:22:33:44:55"});
    assert_eq!(server.refused("ports", again).await.1, "MacAddressInUse");
    let (status, kind, _) = error(server.delete(&format!("/v2.0/networks/{network}")).await);
    assert_eq!((status, kind.as_str()), (409, "NetworkInUse"));
    assert_eq!(
        server.delete(&path).await,
        (reqwest::StatusCode::NO_CONTENT, Value::Null)
    );
    assert_eq!(
        server.delete(&format!("/v2.0/networks/{network}")).await.0,
        204
    );
}
