//! The specification's own commands and boxes, with its example values.

use insta::assert_snapshot;
use serde_json::{Value, json};

use crate::service::Service;

const RGW: &str = "63821629-6cfd-44c8-8c4a-14c4b5fe28ea";
const CONN: &str = "31c20418-9cf2-4d47-b17e-d92906e3f248";
const MAC: &str = "b59584eb-432a-4dba-9a09-f929e77da0c7";
const GATEWAY: &str = "c8da3e74-fde9-48e3-81f2-5fee756dd9de";
const NETWORK: &str = "d90db94a-2b3c-4415-971f-967e2f52248d";
const PROJECT: &str = "84429618ed684296bc48eb120acf57bc";

fn remote_gateway() -> Value {
    json!({
        "id": RGW, "name": "rgw1", "ipaddr": "10.0.0.1", "tenant_id": PROJECT, "project_id": PROJECT,
        "status": "ACTIVE", "status_reason": null,
    })
}

fn connection() -> Value {
    json!({
        "id": CONN, "l2_gateway_id": GATEWAY, "network_id": NETWORK, "l2_remote_gateway_id": RGW,
        "segmentation_id": 9765, "flood": true, "status": "BUILD", "status_reason": "On its way.",
        "tenant_id": PROJECT, "project_id": PROJECT,
    })
}

fn mac() -> Value {
    json!({
        "id": MAC, "uuid": MAC, "mac": "00:11:22:33:44:55", "ipaddr": "3.3.3.3",
        "rgw_connection": "a60dc097-13d7-4a9a-9842-117440911eb9", "status": "ACTIVE", "status_reason": null,
        "tenant_id": PROJECT, "project_id": PROJECT,
    })
}

/// A service that knows the example's resources by name and id.
async fn service() -> Service {
    let ids = |collection: &str, id: &str| json!({ collection: [{ "id": id }] });
    Service::start()
        .await
        .on(
            "GET /v2.0/l2-remote-gateways?name=rgw1",
            200,
            ids("l2_remote_gateways", RGW),
        )
        .on(
            "GET /v2.0/l2-gateways?name=gw1",
            200,
            ids("l2_gateways", GATEWAY),
        )
        .on(
            "GET /v2.0/networks?name=net1",
            200,
            ids("networks", NETWORK),
        )
}

#[tokio::test]
async fn section_1_1_remote_gateway_creation() {
    let service = service().await;
    let service = service.on(
        "POST /v2.0/l2-remote-gateways",
        201,
        json!({"l2_remote_gateway": remote_gateway()}),
    );
    let typed = service
        .types(&["l2-remote-gateway-create", "rgw1", "10.0.0.1"])
        .await;
    assert_eq!((typed.code, &*typed.err), (0, ""));
    assert_snapshot!(typed.out, @r"
    Created a new l2_remote_gateway:
    +--------+--------------------------------------+
    | Field  | Value                                |
    +--------+--------------------------------------+
    | id     | 63821629-6cfd-44c8-8c4a-14c4b5fe28ea |
    | ipaddr | 10.0.0.1                             |
    | name   | rgw1                                 |
    +--------+--------------------------------------+
    ");
    assert_snapshot!(service.asked(), @r#"POST /v2.0/l2-remote-gateways {"l2_remote_gateway":{"name":"rgw1","ipaddr":"10.0.0.1"}}"#);
}

#[tokio::test]
async fn section_1_2_remote_gateway_update() {
    let service = service().await.on(
        &format!("PUT /v2.0/l2-remote-gateways/{RGW}"),
        200,
        json!({"l2_remote_gateway": remote_gateway()}),
    );
    let typed = service
        .types(&[
            "l2-remote-gateway-update",
            "rgw1",
            "--ip-address",
            "10.0.0.2",
            "--name",
            "rgw2",
        ])
        .await;
    assert_eq!((typed.code, &*typed.err), (0, ""));
    assert_snapshot!(typed.out, @"Updated l2_remote_gateway: rgw1");
    assert_snapshot!(service.asked(), @r#"
    GET /v2.0/l2-remote-gateways?name=rgw1&fields=id
    PUT /v2.0/l2-remote-gateways/63821629-6cfd-44c8-8c4a-14c4b5fe28ea {"l2_remote_gateway":{"name":"rgw2","ipaddr":"10.0.0.2"}}
    "#);
}

#[tokio::test]
async fn section_1_3_remote_gateway_deletion() {
    let service = service().await.on(
        &format!("DELETE /v2.0/l2-remote-gateways/{RGW}"),
        204,
        json!(null),
    );
    let typed = service.types(&["l2-remote-gateway-delete", "rgw1"]).await;
    assert_eq!((typed.code, &*typed.err), (0, ""));
    assert_snapshot!(typed.out, @"Deleted l2_remote_gateway(s): rgw1");
}

#[tokio::test]
async fn section_1_4_remote_gateway_list() {
    let answer = json!({"l2_remote_gateways": [remote_gateway()]});
    let service = service()
        .await
        .on("GET /v2.0/l2-remote-gateways?fields=id", 200, answer);
    let typed = service.types(&["l2-remote-gateway-list"]).await;
    assert_eq!((typed.code, &*typed.err), (0, ""));
    assert_snapshot!(typed.out, @r"
    +--------------------------------------+------+----------+
    | id                                   | name | ipaddr   |
    +--------------------------------------+------+----------+
    | 63821629-6cfd-44c8-8c4a-14c4b5fe28ea | rgw1 | 10.0.0.1 |
    +--------------------------------------+------+----------+
    ");
}

#[tokio::test]
async fn section_1_5_remote_gateway_show() {
    let service = service().await.on(
        &format!("GET /v2.0/l2-remote-gateways/{RGW}"),
        200,
        json!({"l2_remote_gateway": remote_gateway()}),
    );
    let typed = service.types(&["l2-remote-gateway-show", "rgw1"]).await;
    assert_eq!((typed.code, &*typed.err), (0, ""));
    assert_snapshot!(typed.out, @r"
    +--------+--------------------------------------+
    | Field  | Value                                |
    +--------+--------------------------------------+
    | id     | 63821629-6cfd-44c8-8c4a-14c4b5fe28ea |
    | ipaddr | 10.0.0.1                             |
    | name   | rgw1                                 |
    +--------+--------------------------------------+
    ");
}

#[tokio::test]
async fn section_2_1_remote_gateway_connection_creation() {
    let service = service().await;
    let service = service.on(
        "POST /v2.0/l2-remote-gateway-connections",
        201,
        json!({"l2_remote_gateway_connection": connection()}),
    );
    let words = [
        "l2-remote-gateway-connection-create",
        "gw1",
        "net1",
        "rgw1",
        "--seg-id",
        "9765",
        "--flood",
        "TRUE",
    ];
    let typed = service.types(&words).await;
    assert_eq!((typed.code, &*typed.err), (0, ""));
    assert!(
        typed
            .out
            .starts_with("Created a new l2_remote_gateway_connection:\n+--")
    );
    assert_snapshot!(service.asked(), @r#"
    GET /v2.0/l2-gateways?name=gw1&fields=id
    GET /v2.0/networks?name=net1&fields=id
    GET /v2.0/l2-remote-gateways?name=rgw1&fields=id
    POST /v2.0/l2-remote-gateway-connections {"l2_remote_gateway_connection":{"l2_gateway_id":"c8da3e74-fde9-48e3-81f2-5fee756dd9de","network_id":"d90db94a-2b3c-4415-971f-967e2f52248d","l2_remote_gateway_id":"63821629-6cfd-44c8-8c4a-14c4b5fe28ea","segmentation_id":9765,"flood":true}}
    "#);
}

#[tokio::test]
async fn section_2_2_remote_gateway_connection_delete() {
    let service = service().await.on(
        &format!("DELETE /v2.0/l2-remote-gateway-connections/{CONN}"),
        204,
        json!(null),
    );
    let typed = service
        .types(&["l2-remote-gateway-connection-delete", CONN])
        .await;
    assert_eq!((typed.code, &*typed.err), (0, ""));
    assert_snapshot!(typed.out, @"Deleted l2_remote_gateway_connection(s): 31c20418-9cf2-4d47-b17e-d92906e3f248");
}

#[tokio::test]
async fn section_2_3_remote_gateway_connection_list() {
    let mut connection = connection();
    // As the box has them, shortened by hand. Its number stands left; cliff puts numbers right.
    connection["id"] = "31c204....".into();
    connection["l2_gateway_id"] = "c8da3e74-fde9-...".into();
    connection["network_id"] = "d90db94a-2b3...".into();
    let answer = json!({"l2_remote_gateway_connections": [connection]});
    let service = service().await.on(
        "GET /v2.0/l2-remote-gateway-connections?fields=id",
        200,
        answer,
    );
    let typed = service.types(&["l2-remote-gateway-connection-list"]).await;
    assert_eq!((typed.code, &*typed.err), (0, ""));
    assert_snapshot!(typed.out, @r"
    +------------+-------------------+-----------------+-----------------+
    | id         | l2_gateway_id     | network_id      | segmentation_id |
    +------------+-------------------+-----------------+-----------------+
    | 31c204.... | c8da3e74-fde9-... | d90db94a-2b3... |            9765 |
    +------------+-------------------+-----------------+-----------------+
    ");
}

#[tokio::test]
async fn section_2_4_remote_gateway_connection_show() {
    let service = service().await.on(
        &format!("GET /v2.0/l2-remote-gateway-connections/{CONN}"),
        200,
        json!({"l2_remote_gateway_connection": connection()}),
    );
    let typed = service
        .types(&["l2-remote-gateway-connection-show", CONN])
        .await;
    assert_eq!((typed.code, &*typed.err), (0, ""));
    // The box's rows and what its text speaks of but its box has not: flood, remote gateway, status.
    assert_snapshot!(typed.out, @r"
    +----------------------+--------------------------------------+
    | Field                | Value                                |
    +----------------------+--------------------------------------+
    | flood                | True                                 |
    | id                   | 31c20418-9cf2-4d47-b17e-d92906e3f248 |
    | l2_gateway_id        | c8da3e74-fde9-48e3-81f2-5fee756dd9de |
    | l2_remote_gateway_id | 63821629-6cfd-44c8-8c4a-14c4b5fe28ea |
    | network_id           | d90db94a-2b3c-4415-971f-967e2f52248d |
    | segmentation_id      | 9765                                 |
    | status               | BUILD                                |
    | tenant_id            | 84429618ed684296bc48eb120acf57bc     |
    +----------------------+--------------------------------------+
    ");
}

#[tokio::test]
async fn section_3_1_remote_mac_creation() {
    let service = service().await.on(
        "POST /v2.0/l2-remote-macs",
        201,
        json!({"l2_remote_mac": mac()}),
    );
    for mac_ip in ["00:11:22:33:44:55;1.2.3.4", "00:11:22:33:44:55,1.2.3.4"] {
        let typed = service.types(&["l2-remote-mac-create", mac_ip, CONN]).await;
        assert_eq!((typed.code, &*typed.err), (0, ""));
        assert!(typed.out.starts_with("Created a new l2_remote_mac:\n"));
        insta::allow_duplicates! {
            assert_snapshot!(service.asked(), @r#"POST /v2.0/l2-remote-macs {"l2_remote_mac":{"mac":"00:11:22:33:44:55","ipaddr":"1.2.3.4","rgw_connection":"31c20418-9cf2-4d47-b17e-d92906e3f248"}}"#);
        }
    }
    let typed = service
        .types(&["l2-remote-mac-create", "00:11:22:33:44:55", CONN])
        .await;
    assert_eq!(typed.code, 0);
    assert_snapshot!(service.asked(), @r#"POST /v2.0/l2-remote-macs {"l2_remote_mac":{"mac":"00:11:22:33:44:55","rgw_connection":"31c20418-9cf2-4d47-b17e-d92906e3f248"}}"#);
}

#[tokio::test]
async fn section_3_3_remote_mac_delete() {
    let service = service().await.on(
        &format!("DELETE /v2.0/l2-remote-macs/{MAC}"),
        204,
        json!(null),
    );
    let typed = service.types(&["l2-remote-mac-delete", MAC]).await;
    assert_eq!((typed.code, &*typed.err), (0, ""));
    assert_snapshot!(typed.out, @"Deleted l2_remote_mac(s): b59584eb-432a-4dba-9a09-f929e77da0c7");
}

#[tokio::test]
async fn section_3_4_remote_mac_list() {
    let answer = json!({"l2_remote_macs": [{
        "uuid": "b59584eb-...", "mac": "00:11:22:33:44:55", "ipaddr": "192.168.10.23", "rgw_connection": "a60dc097-...",
    }]});
    let service = service()
        .await
        .on("GET /v2.0/l2-remote-macs?fields=uuid", 200, answer.clone())
        .on(
            &format!("GET /v2.0/l2-remote-macs?rgw_connection={CONN}"),
            200,
            answer,
        );
    for words in [
        &["l2-remote-mac-list"][..],
        &["l2-remote-mac-list", "--remote-connection", CONN],
    ] {
        let typed = service.types(words).await;
        assert_eq!((typed.code, &*typed.err), (0, ""));
        // The box is drawn by hand, with columns of other widths.
        insta::allow_duplicates! {
            assert_snapshot!(typed.out, @r"
            +--------------+-------------------+---------------+----------------+
            | uuid         | mac               | ip_addr       | rgw_connection |
            +--------------+-------------------+---------------+----------------+
            | b59584eb-... | 00:11:22:33:44:55 | 192.168.10.23 | a60dc097-...   |
            +--------------+-------------------+---------------+----------------+
            ");
        }
    }
}

#[tokio::test]
async fn section_3_5_remote_mac_show() {
    let service = service().await.on(
        &format!("GET /v2.0/l2-remote-macs/{MAC}"),
        200,
        json!({"l2_remote_mac": mac()}),
    );
    let typed = service.types(&["l2-remote-mac-show", MAC]).await;
    assert_eq!((typed.code, &*typed.err), (0, ""));
    assert_snapshot!(typed.out, @r"
    +----------------+--------------------------------------+
    | Field          | Value                                |
    +----------------+--------------------------------------+
    | ipaddr         | 3.3.3.3                              |
    | mac            | 00:11:22:33:44:55                    |
    | rgw_connection | a60dc097-13d7-4a9a-9842-117440911eb9 |
    | uuid           | b59584eb-432a-4dba-9a09-f929e77da0c7 |
    +----------------+--------------------------------------+
    ");
}

#[tokio::test]
async fn a_network_of_several_segments_is_typed_one_by_one() {
    let service = Service::start().await.on(
        "POST /v2.0/networks",
        201,
        json!({"network": {"id": "5b3e4c7e-6f0e-4d5e-8a44-4d6f8a1c7b10", "name": "net1"}}),
    );
    let segments = [
        "network_type=vxlan,segmentation_id=5",
        "network_type=vlan,physical_network=fabric,segmentation_id=7",
    ];
    let [one, other] = segments;
    let typed = service
        .types(&[
            "network",
            "create",
            "net1",
            "--segment",
            one,
            "--segment",
            other,
        ])
        .await;
    assert_eq!(typed.code, 0, "{}", typed.err);
    let asked = service.asked();
    let body = asked.split_once('{').map(|(_, body)| format!("{{{body}"));
    let body: serde_json::Value = serde_json::from_str(&body.unwrap()).unwrap();
    assert_eq!(
        body["network"]["segments"],
        json!([
            {"provider:network_type": "vxlan", "provider:segmentation_id": 5},
            {"provider:network_type": "vlan", "provider:physical_network": "fabric", "provider:segmentation_id": 7},
        ])
    );
}
