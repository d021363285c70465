//! Networks of several segments, as Neutron's extension multi-provider has them.

use serde_json::{Value, json};

use crate::fixture::{Fixture, error, id};

fn vxlan(key: u32) -> Value {
    json!({"provider:network_type": "vxlan", "provider:segmentation_id": key})
}

fn vlan(key: u32) -> Value {
    json!({"provider:network_type": "vlan", "provider:physical_network": "racks", "provider:segmentation_id": key})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_carries_the_one_vxlan_segment_and_refuses_two() {
    let server = Fixture::that_saw(&["tor"]).await;
    let gateway = server.gateway("tor", "eth1").await;
    let network = async |segments: Value| {
        id(&server
            .create("networks", json!({"segments": segments}))
            .await)
    };
    let connection = |network: &str, vlan: &str| json!({"l2_gateway_id": gateway, "network_id": network, "segmentation_id": vlan});

    let several = network(json!([vxlan(5000), vxlan(5001)])).await;
    let refusal = server
        .refused("l2-gateway-connections", connection(&several, "5"))
        .await;
    let message = format!("Multiple Vxlan segments found for the network '{several}'");
    assert_eq!(
        refusal,
        (409, "MultipleVxlanSegmentsFound".to_owned(), message)
    );

    let none = network(json!([vlan(5), vlan(6)])).await;
    let (status, kind, _) = server
        .refused("l2-gateway-connections", connection(&none, "5"))
        .await;
    assert_eq!(
        (status, kind.as_str()),
        (404, "VxlanSegmentationIDNotFound")
    );

    let one = network(json!([vlan(7), vxlan(5002)])).await;
    server
        .create("l2-gateway-connections", connection(&one, "7"))
        .await;
    let remote = server.remote_gateway("192.0.2.1").await;
    let stretched =
        json!({"l2_gateway_id": gateway, "network_id": one, "l2_remote_gateway_id": remote});
    let stretched = server
        .create("l2-remote-gateway-connections", stretched)
        .await;
    assert_eq!(
        stretched["segmentation_id"], 5002,
        "the VXLAN segment's key"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_provider_attributes_tell_of_the_vxlan_segment() {
    let server = Fixture::start().await;
    for (segments, kind, key, shown) in [
        (json!([vxlan(5)]), "vxlan", json!(5), 0),
        (json!([vlan(6)]), "vlan", json!(6), 0),
        (json!([vlan(7), vxlan(8)]), "vxlan", json!(8), 2),
        (json!([vxlan(9), vxlan(10)]), "vxlan", Value::Null, 2),
        (json!([vlan(11), vlan(12)]), "vlan", Value::Null, 2),
    ] {
        let made = server
            .create("networks", json!({"segments": segments}))
            .await;
        assert_eq!(made["provider:network_type"], kind, "{segments}");
        assert_eq!(made["provider:segmentation_id"], key, "{segments}");
        let of_made = made["segments"].as_array().map_or(0, Vec::len);
        assert_eq!(
            of_made, shown,
            "{segments}: one segment is told by them alone"
        );
        let path = format!("/v2.0/networks/{}", id(&made));
        assert_eq!(server.get(&path).await["network"], made);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_one_networks_in_whichever_way_it_is_given() {
    let server = Fixture::start().await;
    let several = json!({"segments": [vxlan(1), vxlan(3)]});
    let several = id(&server.create("networks", several).await);
    server.network(5).await;
    for taken in [
        json!({"provider:segmentation_id": 3}),
        json!({"segments": [vxlan(3)]}),
        json!({"segments": [vxlan(100), vxlan(3)]}),
        json!({"segments": [vxlan(100), vxlan(5)]}),
        json!({"segments": [vlan(1), vxlan(5)]}),
    ] {
        let (status, kind, message) = server.refused("networks", taken.clone()).await;
        assert_eq!((status, kind.as_str()), (409, "TunnelIdInUse"), "{taken}");
        assert!(message.contains(" is in use."), "{message}");
    }
    let keyless = json!({"provider:network_type": "vxlan"});
    let made = server
        .create("networks", json!({"segments": [keyless, keyless]}))
        .await;
    let keys = made["segments"].as_array().unwrap().iter();
    let keys: Vec<_> = keys.map(|it| &it["provider:segmentation_id"]).collect();
    assert_eq!(keys, [2, 4], "the lowest free ones");
    let made = server.create("networks", json!({})).await;
    assert_eq!(made["provider:segmentation_id"], 6);
    let bulk = json!({"networks": [{"segments": [vxlan(20), vxlan(21)]}, {"provider:segmentation_id": 21}]});
    let (status, _, message) = error(server.post("/v2.0/networks", bulk).await);
    assert_eq!(status, 409);
    assert!(message.starts_with("Item 1: "), "{message}");
    server.delete(&format!("/v2.0/networks/{several}")).await;
    server.network(3).await;
}
