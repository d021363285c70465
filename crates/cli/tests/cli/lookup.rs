//! Names and ids, and what is said when they lead nowhere.

use insta::assert_snapshot;
use serde_json::{Value, json};

use crate::service::{Service, refusal, run};

const ID: &str = "63821629-6cfd-44c8-8c4a-14c4b5fe28ea";
const OTHER: &str = "31c20418-9cf2-4d47-b17e-d92906e3f248";

fn ids(collection: &str, ids: &[&str]) -> Value {
    let records: Vec<_> = ids.iter().map(|id| json!({ "id": id })).collect();
    json!({ collection: records })
}

#[tokio::test]
async fn a_uuid_is_looked_up_by_id_and_then_by_name() {
    let service = Service::start()
        .await
        .on(
            &format!("GET /v2.0/l2-gateways?id={ID}"),
            200,
            ids("l2_gateways", &[]),
        )
        .on(
            &format!("GET /v2.0/l2-gateways?name={ID}"),
            200,
            ids("l2_gateways", &[OTHER]),
        )
        .on(
            &format!("DELETE /v2.0/l2-gateways/{OTHER}"),
            204,
            json!(null),
        );
    let typed = service.types(&["gateway", "delete", ID]).await;
    assert_eq!((typed.code, &*typed.err), (0, ""));
    assert_snapshot!(service.asked(), @r"
    GET /v2.0/l2-gateways?id=63821629-6cfd-44c8-8c4a-14c4b5fe28ea&fields=id
    GET /v2.0/l2-gateways?name=63821629-6cfd-44c8-8c4a-14c4b5fe28ea&fields=id
    DELETE /v2.0/l2-gateways/31c20418-9cf2-4d47-b17e-d92906e3f248
    ");
}

#[tokio::test]
async fn an_unknown_and_an_ambiguous_name_are_told_apart() {
    let service = Service::start()
        .await
        .on(
            "GET /v2.0/l2-gateways?name=nope",
            200,
            ids("l2_gateways", &[]),
        )
        .on(
            "GET /v2.0/l2-gateways?name=dd",
            200,
            ids("l2_gateways", &[ID, OTHER]),
        );
    for (name, verb) in [("nope", "show"), ("dd", "show"), ("dd", "delete")] {
        let typed = service.types(&[&*format!("l2-gateway-{verb}"), name]).await;
        assert_eq!((typed.code, &*typed.out), (1, ""));
        match name {
            "nope" => assert_eq!(
                typed.err,
                "Unable to find l2_gateway with name or id 'nope'\n"
            ),
            _ => assert_eq!(
                typed.err,
                "Multiple l2_gateway matches found for name 'dd', use an ID to be more specific.\n"
            ),
        }
    }
    let typed = service
        .types(&["l2-gateway-connection-create", "nope", "net1"])
        .await;
    assert_eq!(
        typed.err,
        "Unable to find l2_gateway with name or id 'nope'\n"
    );
}

#[tokio::test]
async fn a_name_is_sent_as_it_is_whatever_it_is_made_of() {
    let service = Service::start()
        .await
        .on(
            "GET /v2.0/networks?name=a%26b%3Dc+d%2F..",
            200,
            ids("networks", &[ID]),
        )
        .on(
            &format!("GET /v2.0/networks/{ID}"),
            200,
            json!({"network": {"id": ID, "name": "a&b=c d/.."}}),
        );
    let typed = service
        .types(&["network", "show", "a&b=c d/..", "-c", "name", "-f", "value"])
        .await;
    assert_eq!(
        (typed.code, &*typed.out),
        (0, "a&b=c d/..\n"),
        "{}",
        typed.err
    );
}

#[tokio::test]
async fn several_are_deleted_and_those_that_are_missing_are_named() {
    let service = Service::start()
        .await
        .on(
            "GET /v2.0/l2-gateways?name=a",
            200,
            ids("l2_gateways", &[ID]),
        )
        .on(
            "GET /v2.0/l2-gateways?name=b",
            200,
            ids("l2_gateways", &[OTHER]),
        )
        .on("GET /v2.0/l2-gateways?name", 200, ids("l2_gateways", &[]))
        .on("GET /v2.0/l2-gateways", 200, ids("l2_gateways", &[]))
        .on(&format!("DELETE /v2.0/l2-gateways/{ID}"), 204, json!(null))
        .on(
            &format!("DELETE /v2.0/l2-gateways/{OTHER}"),
            204,
            json!(null),
        );
    let typed = service
        .types(&["l2-gateway-delete", "a", "zzz", "b", "yyy"])
        .await;
    assert_eq!(typed.code, 1);
    assert_eq!(typed.out, "Deleted l2_gateway(s): a, b\n");
    assert_eq!(
        typed.err,
        "Unable to find l2_gateway(s) with id(s) 'zzz, yyy'.\n"
    );
}

#[tokio::test]
async fn what_was_deleted_before_a_refusal_is_told() {
    let service = Service::start()
        .await
        .on(
            "GET /v2.0/l2-gateways?name=a",
            200,
            ids("l2_gateways", &[ID]),
        )
        .on(
            "GET /v2.0/l2-gateways?name=b",
            200,
            ids("l2_gateways", &[OTHER]),
        )
        .on(&format!("DELETE /v2.0/l2-gateways/{ID}"), 204, json!(null))
        .on(
            &format!("DELETE /v2.0/l2-gateways/{OTHER}"),
            409,
            refusal(
                "L2GatewayInUse",
                "L2 Gateway 'b' still has active mappings.",
            ),
        );
    let typed = service.types(&["l2-gateway-delete", "a", "b", "c"]).await;
    assert_eq!((typed.code, &*typed.out), (1, "Deleted l2_gateway(s): a\n"));
    assert_snapshot!(typed.err, @r"
    L2 Gateway 'b' still has active mappings.
    Neutron server returns request_ids: ['req-7']
    ");
}

#[tokio::test]
async fn who_names_a_remote_gateway_instead_of_its_connection_is_told_the_connections() {
    let service = Service::start()
        .await
        .on("GET /v2.0/l2-gateways", 200, ids("l2_gateways", &[]))
        .on("GET /v2.0/networks", 200, ids("networks", &[]))
        .on(
            "GET /v2.0/l2-remote-gateways?name=rgw1",
            200,
            ids("l2_remote_gateways", &[ID]),
        )
        .on(
            &format!("GET /v2.0/l2-remote-gateway-connections?l2_remote_gateway_id={ID}"),
            200,
            ids("l2_remote_gateway_connections", &[OTHER]),
        );
    let typed = service
        .types(&["l2-remote-gateway-connection-delete", "rgw1"])
        .await;
    assert_eq!((typed.code, &*typed.out), (1, ""));
    assert_snapshot!(typed.err, @r"
    Unable to find l2_remote_gateway_connection(s) with id(s) 'rgw1'.
    'rgw1' is a remote gateway; what is asked for is the UUID of a remote gateway connection. Its remote gateway connections: 31c20418-9cf2-4d47-b17e-d92906e3f248
    ");
    assert!(!service.asked().contains("DELETE"));
    let typed = service
        .types(&["l2-remote-mac-create", "00:11:22:33:44:55", "rgw1"])
        .await;
    assert_eq!(typed.code, 1);
    assert_snapshot!(typed.err, @r"
    Unable to find l2_remote_gateway_connection with id 'rgw1'
    'rgw1' is a remote gateway; what is asked for is the UUID of a remote gateway connection. Its remote gateway connections: 31c20418-9cf2-4d47-b17e-d92906e3f248
    ");
    assert!(!service.asked().contains("POST"));
}

#[tokio::test]
async fn a_refusal_is_printed_with_the_id_of_its_request() {
    let service = Service::start().await.on(
        "POST /v2.0/l2-remote-gateways",
        400,
        refusal(
            "HTTPBadRequest",
            "Invalid input for ipaddr. Reason: '10.0.0' is not a valid IP address.",
        ),
    );
    let typed = service
        .types(&["l2-remote-gateway-create", "rgw1", "10.0.0"])
        .await;
    assert_eq!((typed.code, &*typed.out), (1, ""));
    assert_snapshot!(typed.err, @r"
    Invalid input for ipaddr. Reason: '10.0.0' is not a valid IP address.
    Neutron server returns request_ids: ['req-7']
    ");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named() {
    // Port 1 of loopback: nothing listens there.
    let typed = run(
        [
            "l2gw",
            "l2-gateway-list",
            "--os-endpoint",
            "http://127.0.0.1:1",
        ]
        .into_iter(),
        "",
    )
    .await;
    assert_eq!((typed.code, &*typed.out), (1, ""));
    assert_snapshot!(typed.err, @"Unable to reach the server at http://127.0.0.1:1: Connection refused. Start one with `l2gw server`, or name its address with --os-endpoint or OS_ENDPOINT.");
}

#[tokio::test]
async fn an_answer_from_something_else_is_no_panic() {
    let service = Service::start()
        .await
        .on("GET /v2.0/l2-gateways", 200, json!(["what"]))
        .on("GET /v2.0/networks", 200, json!({"networks": "what"}));
    for noun in ["gateway", "network"] {
        let typed = service.types(&[noun, "list"]).await;
        assert_eq!((typed.code, &*typed.out), (1, ""));
        assert!(
            typed.err.contains("gave an answer that makes no sense: "),
            "{}",
            typed.err
        );
    }
}

#[tokio::test]
async fn filters_paging_and_order_reach_the_server() {
    let service = Service::start()
        .await
        .on(
            "GET /v2.0/l2-gateways?name=gw1",
            200,
            ids("l2_gateways", &[ID]),
        )
        .on(
            "GET /v2.0/l2-remote-gateway-connections",
            200,
            ids("l2_remote_gateway_connections", &[]),
        );
    let words = [
        "remote-gateway-connection",
        "list",
        "--l2-gateway-id",
        "gw1",
        "--segmentation_id",
        "5",
        "--seg-id",
        "6",
        "--flood",
        "False",
        "--limit",
        "3",
        "--marker",
        "m",
        "--sort-key",
        "id",
        "--sort-key",
        "seg_id",
        "--sort-dir",
        "desc",
        "-c",
        "id",
        "--sort-column",
        "flood",
    ];
    let typed = service.types(&words).await;
    assert_eq!((typed.code, &*typed.err), (0, ""));
    assert_snapshot!(service.asked(), @r"
    GET /v2.0/l2-gateways?name=gw1&fields=id
    GET /v2.0/l2-remote-gateway-connections?l2_gateway_id=63821629-6cfd-44c8-8c4a-14c4b5fe28ea&segmentation_id=5&segmentation_id=6&flood=false&fields=id&fields=flood&limit=3&marker=m&sort_key=id&sort_dir=desc&sort_key=segmentation_id&sort_dir=asc
    ");
}

#[tokio::test]
async fn pages_are_followed_by_the_query_of_their_links() {
    let page = |id: &str, next: &[Value]| json!({"networks": [{"id": id}], "networks_links": next});
    let next = json!({"rel": "next", "href": "http://elsewhere.example/v2.0/networks?limit=1&marker=a&x=%20"});
    let service = Service::start()
        .await
        .on(
            "GET /v2.0/networks?limit=1&marker=a&x=+",
            200,
            page("b", &[]),
        )
        .on("GET /v2.0/networks", 200, page("a", &[next]));
    let typed = service
        .types(&["network", "list", "-P", "1", "-f", "value", "-c", "id"])
        .await;
    assert_eq!((typed.code, &*typed.out), (0, "a\nb\n"), "{}", typed.err);
    let typed = service
        .types(&["network", "list", "--limit", "1", "-f", "value", "-c", "id"])
        .await;
    assert_eq!((typed.code, &*typed.out), (0, "a\n"), "{}", typed.err);
}

#[tokio::test]
async fn a_port_takes_several_addresses_and_the_hosts_tunnel_address() {
    let service = Service::start()
        .await
        .on("GET /v2.0/networks?name=net", 200, ids("networks", &[ID]))
        .on("POST /v2.0/ports", 201, json!({"port": {"id": OTHER}}));
    let words = [
        "port",
        "create",
        "net",
        "00:11:22:33:44:55",
        "--ip",
        "192.0.2.1",
        "--fixed-ip",
        "ip_address=192.0.2.2",
        "--tunneling-ip",
        "10.0.0.1",
        "--name",
        "vm1",
        "--project-id",
        "p",
    ];
    let typed = service.types(&words).await;
    assert_eq!((typed.code, &*typed.err), (0, ""));
    assert_snapshot!(service.asked(), @r#"
    GET /v2.0/networks?name=net&fields=id
    POST /v2.0/ports {"port":{"name":"vm1","network_id":"63821629-6cfd-44c8-8c4a-14c4b5fe28ea","mac_address":"00:11:22:33:44:55","fixed_ips":[{"ip_address":"192.0.2.1"},{"ip_address":"192.0.2.2"}],"binding:profile":{"tunneling_ip":"10.0.0.1"},"tenant_id":"p"}}
    "#);
}

#[tokio::test]
async fn a_gateway_takes_several_devices() {
    let service = Service::start().await.on(
        "POST /v2.0/l2-gateways",
        201,
        json!({"l2_gateway": {"id": ID}}),
    );
    let words = [
        "l2-gateway-create",
        "gw1",
        "--device",
        "name=d1,interface_names=p1|100#200;p2|300",
        "--device",
        "name=d2,interface_names=q1|5",
        "--tenant_id",
        "p",
    ];
    let typed = service.types(&words).await;
    assert_eq!((typed.code, &*typed.err), (0, ""));
    assert_snapshot!(service.asked(), @r#"POST /v2.0/l2-gateways {"l2_gateway":{"name":"gw1","tenant_id":"p","devices":[{"device_name":"d1","interfaces":[{"name":"p1","segmentation_id":["100","200"]},{"name":"p2","segmentation_id":["300"]}]},{"device_name":"d2","interfaces":[{"name":"q1","segmentation_id":["5"]}]}]}}"#);
}
