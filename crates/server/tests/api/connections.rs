//! Gateways and their connections.

use serde_json::{Value, json};

use crate::fixture::{Fixture, error, id, unstamped};

fn tagged(device: &str, port: &str, vlans: &[u16]) -> Value {
    json!({"devices": [{"device_name": device, "interfaces": [{"name": port, "segmentation_id": vlans}]}]})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_reads_back_as_it_was_created() {
    let server = Fixture::start().await;
    let gateway = server
        .create("l2-gateways", json!({
            "name": "gw", "tenant_id": "t1",
            "devices": [{"device_name": "tor", "segmentation_id": "5", "interfaces": [
                {"name": "eth1", "segmentation_id": [0, " 100 "]}, {"name": "eth2", "segmentation_id": ["7"]},
            ]}],
        }))
        .await;
    let device = gateway["devices"][0]["id"].as_str().unwrap();
    assert_eq!(
        unstamped(&gateway),
        json!({
            "id": id(&gateway), "name": "gw", "tenant_id": "t1", "project_id": "t1",
            "devices": [{"device_name": "tor", "id": device, "interfaces": [
                {"name": "eth1", "segmentation_id": ["0", "100"]}, {"name": "eth2", "segmentation_id": ["7"]},
            ]}],
        })
    );
    let path = format!("/v2.0/l2-gateways/{}", id(&gateway));
    assert_eq!(server.get(&path).await["l2_gateway"], gateway);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_replaces_the_interfaces_of_the_devices_it_names() {
    let server = Fixture::start().await;
    let gateway = server
        .create(
            "l2-gateways",
            json!({"name": "gw", "devices": [
                {"device_name": "a", "interfaces": [{"name": "a1"}]},
                {"device_name": "b", "interfaces": [{"name": "b1"}]},
            ]}),
        )
        .await;
    let path = format!("/v2.0/l2-gateways/{}", id(&gateway));
    let put = async |object: Value| server.put(&path, json!({"l2_gateway": object})).await;
    let (_, same) = put(json!({})).await;
    assert_eq!(
        same["l2_gateway"], gateway,
        "an empty update changes nothing"
    );
    let (_, changed) =
        put(json!({"devices": [{"device_name": "b", "interfaces": [{"name": "b2"}]}]})).await;
    let mut wanted = gateway.clone();
    wanted["devices"][1]["interfaces"] = json!([{"name": "b2", "segmentation_id": []}]);
    assert_eq!(
        unstamped(&changed["l2_gateway"]),
        unstamped(&wanted),
        "name, ids and the other device stay"
    );
    for (device, interface, status, kind) in [
        ("zz", json!({"name": "p"}), 404, "L2GatewayDeviceNotFound"),
        (
            "a",
            json!({"name": "p", "segmentation_id": [1]}),
            409,
            "L2GatewaySegmentationIDNotExists",
        ),
    ] {
        let devices = json!([{"device_name": device, "interfaces": [interface]}]);
        let (got, got_kind, _) = error(put(json!({"name": "other", "devices": devices})).await);
        assert_eq!((got, got_kind.as_str()), (status, kind));
    }
    let vlan = id(&server.create("l2-gateways", tagged("a", "a9", &[1])).await);
    let devices = json!([{"device_name": "a", "interfaces": [{"name": "a9"}]}]);
    let body = json!({"l2_gateway": {"devices": devices}});
    let (status, kind, _) = error(server.put(&format!("/v2.0/l2-gateways/{vlan}"), body).await);
    assert_eq!(
        (status, kind.as_str()),
        (409, "L2GatewaySegmentationIDExists")
    );
    assert_eq!(
        server.get(&path).await["l2_gateway"],
        changed["l2_gateway"],
        "what was refused changed nothing"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_shows_the_same_after_post_and_get_and_belongs_to_the_gateways_tenant() {
    let server = Fixture::start().await;
    let network = server.network(10).await;
    let gateway = json!({"tenant_id": "owner", "devices": [{"device_name": "d", "interfaces": [{"name": "p"}]}]});
    let gateway = id(&server.create("l2-gateways", gateway).await);
    for (given, shown) in [("77", json!(77)), (" 0 ", json!(""))] {
        let connection = server
            .create("l2-gateway-connections", json!({
                "l2_gateway_id": gateway, "network_id": network, "segmentation_id": given, "tenant_id": "other",
            }))
            .await;
        assert_eq!(connection["segmentation_id"], shown);
        assert_eq!(connection["tenant_id"], "owner");
        let path = format!("/v2.0/l2-gateway-connections/{}", id(&connection));
        assert_eq!(server.get(&path).await["l2_gateway_connection"], connection);
        assert_eq!(server.delete(&path).await.0, 204);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn checks_come_in_order_the_gateway_first() {
    let server = Fixture::start().await;
    let network = server.network(10).await;
    let plain = server.gateway("d", "p").await;
    let vlan = id(&server.create("l2-gateways", tagged("d", "q", &[5])).await);
    let refused = async |object: Value| {
        let (status, kind, message) = server.refused("l2-gateway-connections", object).await;
        (status, kind, message)
    };
    for (object, status, kind, part) in [
        (
            json!({"network_id": "nope"}),
            404,
            "L2GatewayNotFound",
            "L2 Gateway  could",
        ),
        (
            json!({"l2_gateway_id": "x", "network_id": "nope"}),
            404,
            "L2GatewayNotFound",
            "L2 Gateway x could",
        ),
        (
            json!({"l2_gateway_id": plain, "network_id": "nope"}),
            404,
            "NetworkNotFound",
            "Network nope could",
        ),
        (
            json!({"l2_gateway_id": plain, "network_id": network}),
            400,
            "InvalidInput",
            "Segmentation id must be specified",
        ),
        (
            json!({"l2_gateway_id": vlan, "network_id": network, "segmentation_id": "5"}),
            400,
            "InvalidInput",
            "default segmentation_id should not be provided",
        ),
        (
            json!({"l2_gateway_id": vlan, "network_id": network, "segmentation_id": "x"}),
            400,
            "InvalidInput",
            "valid integer",
        ),
    ] {
        let (got, got_kind, message) = refused(object.clone()).await;
        assert_eq!((got, got_kind.as_str()), (status, kind), "{object}");
        assert!(message.contains(part), "{message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_was_never_seen_is_refused_unless_allowed() {
    let server = Fixture::with(|_| {}).await;
    let network = server.network(10).await;
    let gateway = server.gateway("tor", "eth1").await;
    let object = json!({"l2_gateway_id": gateway, "network_id": network, "segmentation_id": "5"});
    let (status, kind, message) = server.refused("l2-gateway-connections", object).await;
    assert_eq!((status, kind.as_str()), (404, "L2GatewayDeviceNotFound"));
    assert_eq!(message, "L2 Gateway Device tor could not be found.");
    let devices = json!([{"device_name": "tor", "interfaces": [{"name": "eth2"}]}]);
    let body = json!({"l2_gateway": {"devices": devices}});
    let update = server
        .put(&format!("/v2.0/l2-gateways/{gateway}"), body)
        .await;
    assert_eq!(error(update).1, "L2GatewayDeviceNotFound");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switch_that_was_seen_and_is_away_now_takes_vxlan_networks() {
    let server = Fixture::that_saw(&["tor", "leaf"]).await;
    let gateway = server.gateway("tor", "eth1").await;
    let local = json!({"provider:network_type": "local"});
    let local = id(&server.create("networks", local).await);
    let object = json!({"l2_gateway_id": gateway, "network_id": local, "segmentation_id": "5"});
    let (status, kind, message) = server.refused("l2-gateway-connections", object).await;
    assert_eq!(
        (status, kind.as_str()),
        (404, "VxlanSegmentationIDNotFound")
    );
    assert_eq!(
        message,
        format!("vxlan segmentation id not found for the network '{local}'")
    );
    let network = server.network(10).await;
    server.attach(&gateway, &network, 5).await;
    let devices = json!([{"device_name": "tor", "interfaces": [{"name": "eth2"}]}]);
    let body = json!({"l2_gateway": {"devices": devices}});
    let (status, _) = server
        .put(&format!("/v2.0/l2-gateways/{gateway}"), body)
        .await;
    assert_eq!(status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vlan_of_a_port_carries_one_network() {
    let server = Fixture::start().await;
    let (one, two) = (server.network(1).await, server.network(2).await);
    let gateway = server.gateway("tor", "eth1").await;
    let same_port = server.gateway("tor", "eth1").await;
    let other_port = server.gateway("tor", "eth2").await;
    let vlans = id(&server
        .create("l2-gateways", tagged("tor", "eth1", &[7, 8]))
        .await);
    server.attach(&gateway, &one, 7).await;
    let connect = |gateway: &str, network: &str, vlan: &str| json!({"l2_gateway_id": gateway, "network_id": network, "segmentation_id": vlan});
    for object in [
        connect(&gateway, &two, "7"),
        connect(&same_port, &two, "7"),
        connect(&vlans, &two, ""),
    ] {
        let (status, kind, message) = server.refused("l2-gateway-connections", object).await;
        assert_eq!(
            (status, kind.as_str()),
            (409, "L2GatewayDuplicateSegmentationID")
        );
        assert!(
            message.contains("name=eth1 of device tor: VLAN 7 already carries"),
            "{message}"
        );
    }
    server.attach(&gateway, &two, 9).await;
    server.attach(&other_port, &two, 7).await;
    server.attach(&same_port, &one, 7).await;
    let devices = json!([{"device_name": "tor", "interfaces": [{"name": "eth1"}]}]);
    let body = json!({"l2_gateway": {"devices": devices}});
    let moved = server
        .put(&format!("/v2.0/l2-gateways/{other_port}"), body)
        .await;
    assert_eq!(
        error(moved).1,
        "L2GatewayDuplicateSegmentationID",
        "an update cannot join them either"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_use_stays() {
    let server = Fixture::start().await;
    let connection = server.stretched(10).await;
    let connection = server
        .get(&format!("/v2.0/l2-remote-gateway-connections/{connection}"))
        .await;
    let connection = &connection["l2_remote_gateway_connection"];
    let local = server.get("/v2.0/l2-gateway-connections?fields=id").await;
    let local = id(&local["l2_gateway_connections"][0]);
    let path = |collection: &str, key: &str| {
        format!("/v2.0/{collection}/{}", connection[key].as_str().unwrap())
    };
    for (path, kind) in [
        (path("l2-gateways", "l2_gateway_id"), "L2GatewayInUse"),
        (
            path("l2-remote-gateways", "l2_remote_gateway_id"),
            "L2RemoteGatewayInUse",
        ),
        (path("networks", "network_id"), "NetworkInUse"),
        (
            format!("/v2.0/l2-gateway-connections/{local}"),
            "L2GatewayConnectionInUse",
        ),
    ] {
        let (status, got, message) = error(server.delete(&path).await);
        assert_eq!((status, got.as_str()), (409, kind), "{message}");
    }
}
