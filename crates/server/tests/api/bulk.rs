//! Many objects in one request: all or none.

use serde_json::{Value, json};

use crate::fixture::{Fixture, error, mac};

fn macs(connection: &str, numbers: impl IntoIterator<Item = usize>) -> Vec<Value> {
    let object = |number| json!({"mac": mac(number), "rgw_connection": connection});
    numbers.into_iter().map(object).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bulk_is_answered_in_its_order_and_wrapper() {
    let server = Fixture::start().await;
    let connection = server.stretched(5).await;
    let (status, body) = server
        .post(
            "/v2.0/l2-remote-macs",
            json!({"l2_remote_macs": macs(&connection, 0..2_000)}),
        )
        .await;
    assert_eq!(status, 201);
    let shown = body["l2_remote_macs"].as_array().unwrap();
    assert_eq!(shown.len(), 2_000);
    assert!(
        shown
            .iter()
            .enumerate()
            .all(|(number, shown)| shown["mac"] == mac(number))
    );
    let nested = format!("/v2.0/l2-remote-gateway-connections/{connection}/remote-macs");
    let (status, body) = server
        .post(&nested, json!({"remote-macs": [{"mac": mac(9_000)}]}))
        .await;
    assert_eq!(status, 201);
    assert_eq!(body["remote-macs"][0]["rgw_connection"], connection);
    assert_eq!(
        server.get(&nested).await["remote-macs"]
            .as_array()
            .unwrap()
            .len(),
        2_001
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bulk_with_one_wrong_object_changes_nothing_and_names_it() {
    let server = Fixture::start().await;
    let connection = server.stretched(5).await;
    server
        .create("l2-remote-macs", macs(&connection, [7]).remove(0))
        .await;
    let wrong = |object: Value| {
        let mut objects = macs(&connection, 100..103);
        objects.insert(2, object);
        json!({"l2_remote_macs": objects})
    };
    for (object, status, part) in [
        (
            json!({"mac": "junk", "rgw_connection": connection}),
            400,
            "Invalid input for mac.",
        ),
        (
            json!({"mac": mac(1)}),
            400,
            "Required attribute 'rgw_connection' not specified",
        ),
        (
            json!({"mac": mac(1), "rgw_connection": "nope"}),
            404,
            "Connection nope could not be found",
        ),
        (
            json!({"mac": mac(7), "rgw_connection": connection}),
            409,
            "already declared",
        ),
        (
            json!({"mac": mac(100), "rgw_connection": connection}),
            409,
            "already declared",
        ),
        (json!("text"), 400, "contains invalid data"),
    ] {
        let (got, _, message) = error(server.post("/v2.0/l2-remote-macs", wrong(object)).await);
        assert_eq!(got, status, "{message}");
        assert!(message.starts_with("Item 2: "), "{message}");
        assert!(message.contains(part), "{message}");
    }
    let only = json!({"l2_remote_macs": macs(&connection, [7])});
    let (_, _, message) = error(server.post("/v2.0/l2-remote-macs", only).await);
    assert!(message.starts_with("Item 0: "), "{message}");
    let kept = server.get("/v2.0/l2-remote-macs?fields=mac").await;
    assert_eq!(kept, json!({"l2_remote_macs": [{"mac": mac(7)}]}));
}

#[tokio::test(flavor = "multi_thread")]
async fn other_kinds_take_a_bulk_too_and_see_their_own_items() {
    let server = Fixture::start().await;
    let (status, body) = server
        .post(
            "/v2.0/networks",
            json!({"networks": [{"name": "a"}, {"name": "b"}]}),
        )
        .await;
    assert_eq!(status, 201);
    let keys: Vec<_> = body["networks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|n| &n["provider:segmentation_id"])
        .collect();
    assert_eq!(keys, [1, 2]);
    let same = json!({"provider:segmentation_id": 9});
    let (status, _, message) = error(
        server
            .post("/v2.0/networks", json!({"networks": [same, same]}))
            .await,
    );
    assert_eq!(status, 409);
    assert!(message.starts_with("Item 1: "), "{message}");
    assert_eq!(
        server.get("/v2.0/networks").await["networks"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bulk_that_is_none_is_refused() {
    let server = Fixture::start().await;
    for (path, body, part) in [
        (
            "/v2.0/l2-gateways",
            json!({"l2_gateways": []}),
            "Resources required",
        ),
        (
            "/v2.0/l2-gateway-connections",
            json!({"l2_gateway_connections": [{}]}),
            "Item 0: Failed to parse request. Required attribute 'network_id' not specified",
        ),
        (
            "/v2.0/l2-remote-macs",
            json!({"l2_remote_macs": []}),
            "Resources required",
        ),
        (
            "/v2.0/l2-remote-macs",
            json!({"remote-macs": {}}),
            "Object 'remote-macs' contains invalid data",
        ),
    ] {
        let (status, _, message) = error(server.post(path, body).await);
        assert_eq!((status, message.as_str()), (400, part));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn networks_of_a_bulk_without_keys_get_the_lowest_that_nobody_has() {
    let server = Fixture::start().await;
    server.network(3).await;
    let given = |key: Option<i64>| match key {
        Some(key) => json!({"provider:segmentation_id": key, "provider:network_type": "vxlan"}),
        None => json!({}),
    };
    let (status, body) = server
        .post(
            "/v2.0/networks",
            json!({"networks": [
                given(None), given(Some(2)), given(None), given(None), given(Some(7)), given(None), given(None),
            ]}),
        )
        .await;
    assert_eq!(status, 201, "{body}");
    let keys: Vec<_> = body["networks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|network| network["provider:segmentation_id"].as_i64().unwrap())
        .collect();
    assert_eq!(keys, [1, 2, 4, 5, 7, 6, 8]);
    // What was given to one is not left for another, wherever in the bulk that stands.
    let bulk = json!({"networks": [given(None), given(None), given(Some(9))]});
    let (status, kind, message) = error(server.post("/v2.0/networks", bulk).await);
    assert_eq!(status, 409, "{kind}: {message}");
    assert!(message.starts_with("Item 2: "), "{message}");
    assert_eq!(
        server.get("/v2.0/networks").await["networks"]
            .as_array()
            .unwrap()
            .len(),
        8
    );
}
