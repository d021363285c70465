//! Remote gateways, connections to them, and MACs behind them.

use serde_json::{Value, json};

use crate::fixture::{Fixture, error, id, mac, settled};

const NIL: &str = "00000000-0000-0000-0000-000000000000";

#[tokio::test(flavor = "multi_thread")]
async fn a_remote_gateway_is_created_shown_changed_and_deleted() {
    let server = Fixture::start().await;
    let created = server
        .create(
            "l2-remote-gateways",
            json!({"name": "far", "ip_address": "192.0.2.1", "project_id": "t"}),
        )
        .await;
    assert_eq!(created["ipaddr"], "192.0.2.1");
    assert_eq!(created["tenant_id"], "t");
    assert!(created["status"].is_string() && created["status_reason"] != Value::Bool(true));
    let path = format!("/v2.0/l2-remote-gateways/{}", id(&created));
    let (status, changed) = server
        .put(&path, json!({"l2_remote_gateway": {"ipaddr": "192.0.2.2"}}))
        .await;
    assert_eq!(status, 200);
    assert_eq!(changed["l2_remote_gateway"]["ipaddr"], "192.0.2.2");
    assert_eq!(changed["l2_remote_gateway"]["name"], "far");
    assert_eq!(
        server.get(&path).await["l2_remote_gateway"]["ipaddr"],
        "192.0.2.2"
    );
    for ip in [
        "::1",
        "224.0.0.1",
        "0.0.0.0",
        "255.255.255.255",
        "far.example.org",
    ] {
        let wrong = server
            .put(&path, json!({"l2_remote_gateway": {"ipaddr": ip}}))
            .await;
        let (status, _, message) = error(wrong);
        assert_eq!(status, 400);
        assert!(
            message.starts_with("Invalid input for ipaddr. Reason:"),
            "{message}"
        );
    }
    assert_eq!(server.delete(&path).await.0, 204);
    let (status, kind, message) = error(server.delete(&path).await);
    assert_eq!((status, kind.as_str()), (404, "L2RemoteGatewayNotFound"));
    assert!(message.contains(&id(&created)), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_stores_the_key_that_is_in_effect() {
    let server = Fixture::start().await;
    let network = server.network(123).await;
    let gateway = server.gateway("tor", "border").await;
    let (near, far) = (
        server.remote_gateway("192.0.2.1").await,
        server.remote_gateway("192.0.2.2").await,
    );
    let connect = |remote: &str| json!({"l2_gateway_id": gateway, "network_id": network, "l2_remote_gateway_id": remote});
    let (status, kind, message) = server
        .refused("l2-remote-gateway-connections", connect(&near))
        .await;
    assert_eq!(
        (status, kind.as_str()),
        (409, "L2RemoteGatewayConnectionNetworkNotAttached")
    );
    assert!(
        message.contains("l2-gateway-connection-create"),
        "{message}"
    );

    server.attach(&gateway, &network, 0).await;
    let plain = server
        .create("l2-remote-gateway-connections", connect(&near))
        .await;
    assert_eq!(
        (&plain["segmentation_id"], &plain["flood"]),
        (&json!(123), &json!(true))
    );
    let keyed = server
        .create("l2-remote-gateway-connections", json!({
            "gateway": gateway, "network": network, "remote_gateway": far, "seg_id": "456", "flood": "False",
        }))
        .await;
    assert_eq!(
        (&keyed["segmentation_id"], &keyed["flood"]),
        (&json!(456), &json!(false))
    );
    assert_eq!(keyed["l2_remote_gateway_id"], far);
    assert!(
        keyed.get("attachment_id").is_none(),
        "what is internal is not shown"
    );
    let path = format!("/v2.0/l2-remote-gateway-connections/{}", id(&keyed));
    let shown = server.get(&path).await["l2_remote_gateway_connection"].take();
    assert_eq!(settled(shown), settled(keyed));
}

#[tokio::test(flavor = "multi_thread")]
async fn conflicting_connections_are_409() {
    let server = Fixture::start().await;
    let (one, two) = (server.network(1).await, server.network(2).await);
    let gateway = server.gateway("tor", "border").await;
    let same_switch = server.gateway("tor", "eth9").await;
    let elsewhere = server.gateway("leaf", "border").await;
    server.attach(&gateway, &one, 1).await;
    server.attach(&gateway, &two, 2).await;
    server.attach(&same_switch, &two, 2).await;
    server.attach(&elsewhere, &two, 2).await;
    let (near, far) = (
        server.remote_gateway("192.0.2.1").await,
        server.remote_gateway("192.0.2.2").await,
    );
    let connect = |gateway: &str, network: &str, remote: &str, key: u32| {
        json!({
            "l2_gateway_id": gateway, "network_id": network, "l2_remote_gateway_id": remote,
            "segmentation_id": key,
        })
    };
    server
        .create(
            "l2-remote-gateway-connections",
            connect(&gateway, &one, &near, 456),
        )
        .await;
    for (object, kind) in [
        (
            connect(&gateway, &one, &near, 456),
            "L2RemoteGatewayConnectionExists",
        ),
        (
            connect(&gateway, &one, &near, 457),
            "L2RemoteGatewayConnectionExists",
        ),
        (
            connect(&gateway, &two, &near, 456),
            "L2RemoteGatewaySegmentationIDInUse",
        ),
        (
            connect(&gateway, &two, &far, 456),
            "L2RemoteGatewaySegmentationIDInUse",
        ),
        (
            connect(&same_switch, &two, &far, 456),
            "L2RemoteGatewaySegmentationIDInUse",
        ),
    ] {
        let (status, got, message) = server
            .refused("l2-remote-gateway-connections", object)
            .await;
        assert_eq!((status, got.as_str()), (409, kind), "{message}");
    }
    server
        .create(
            "l2-remote-gateway-connections",
            connect(&gateway, &one, &far, 456),
        )
        .await;
    server
        .create(
            "l2-remote-gateway-connections",
            connect(&elsewhere, &two, &far, 456),
        )
        .await;
    for (object, kind) in [
        (connect(NIL, &one, &near, 1), "L2GatewayNotFound"),
        (connect(&gateway, NIL, &near, 1), "NetworkNotFound"),
        (connect(&gateway, &one, "far", 1), "L2RemoteGatewayNotFound"),
    ] {
        let (status, got, _) = server
            .refused("l2-remote-gateway-connections", object)
            .await;
        assert_eq!((status, got.as_str()), (404, kind));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mac_is_read_in_every_spelling_and_echoed_in_the_callers_wrapper() {
    let server = Fixture::start().await;
    let connection = server.stretched(5).await;
    let mut ids = Vec::new();
    let nested = format!("/v2.0/l2-remote-gateway-connections/{connection}/remote-macs");
    for (path, wrapper, object) in [
        (
            "/v2.0/l2-remote-macs",
            "l2_remote_mac",
            json!({"mac": mac(1), "rgw_connection": connection, "ipaddr": "10.0.0.1"}),
        ),
        (
            "/v2.0/l2-remote-macs",
            "remote-mac",
            json!({"mac": mac(2), "l2_remote_gateway_connection_id": connection, "ip": "10.0.0.2"}),
        ),
        (
            &nested,
            "remote-mac",
            json!({"mac": mac(3).to_uppercase().replace(':', "-"), "ip_addr": "2001:db8::3"}),
        ),
        (&nested, "l2_remote_mac", json!({"mac": mac(4)})),
    ] {
        let (status, body) = server.post(path, json!({wrapper: object})).await;
        assert_eq!(status, 201, "{body}");
        let shown = &body[wrapper];
        let number = ids.len() + 1;
        assert_eq!(shown["mac"], mac(number));
        assert_eq!(shown["rgw_connection"], connection);
        assert_eq!(shown["id"], shown["uuid"]);
        let path = format!("/v2.0/l2-remote-macs/{}", id(shown));
        let again = server.get(&path).await["l2_remote_mac"].take();
        assert_eq!(settled(again), settled(shown.clone()));
        ids.push(id(shown));
    }
    let listed = |list: Value| list.as_array().unwrap().iter().map(id).collect::<Vec<_>>();
    assert_eq!(
        listed(server.get("/v2.0/l2-remote-macs").await["l2_remote_macs"].take()),
        ids
    );
    assert_eq!(listed(server.get(&nested).await["remote-macs"].take()), ids);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mac_occurs_once_on_a_network_of_a_gateway() {
    let server = Fixture::start().await;
    let network = server.network(1).await;
    let gateway = server.gateway("tor", "border").await;
    server.attach(&gateway, &network, 0).await;
    let mut connections = Vec::new();
    for ip in ["192.0.2.1", "192.0.2.2"] {
        let remote = server.remote_gateway(ip).await;
        let object = json!({"l2_gateway_id": gateway, "network_id": network, "l2_remote_gateway_id": remote});
        connections.push(id(&server
            .create("l2-remote-gateway-connections", object)
            .await));
    }
    let other = server.stretched(2).await;
    let object = |connection: &str| json!({"mac": mac(1), "rgw_connection": connection});
    server
        .create("l2-remote-macs", object(&connections[0]))
        .await;
    for connection in &connections {
        let (status, kind, message) = server.refused("l2-remote-macs", object(connection)).await;
        assert_eq!((status, kind.as_str()), (409, "L2RemoteMacExists"));
        assert!(message.contains(&mac(1)), "{message}");
    }
    server.create("l2-remote-macs", object(&other)).await;
    // A station that moved between clouds may still have its port here.
    server
        .create(
            "ports",
            json!({"network_id": network, "mac_address": mac(2)}),
        )
        .await;
    let moved = json!({"mac": mac(2), "rgw_connection": connections[0]});
    server.create("l2-remote-macs", moved).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn macs_go_with_their_connection() {
    let server = Fixture::start().await;
    let (one, two) = (server.stretched(1).await, server.stretched(2).await);
    for connection in [&one, &two] {
        server
            .create(
                "l2-remote-macs",
                json!({"mac": mac(1), "rgw_connection": connection}),
            )
            .await;
    }
    assert_eq!(
        server
            .delete(&format!("/v2.0/l2-remote-gateway-connections/{one}"))
            .await
            .0,
        204
    );
    let left = server
        .get("/v2.0/l2-remote-macs?fields=rgw_connection")
        .await;
    assert_eq!(left, json!({"l2_remote_macs": [{"rgw_connection": two}]}));
}
