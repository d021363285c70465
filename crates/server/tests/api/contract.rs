//! The contract beyond what was recorded: status, type and the exact text of each refusal that docs/api-compatibility.md
//! names, in one world in which everything refers to something. `contract.json` is in the form of the recording; what was
//! observed of upstream is expected word for word.

use std::collections::BTreeMap;

use reqwest::Method;
use serde_json::{Value, json};

use crate::fixture::{Fixture, error, id, reply};
use crate::vectors::fill;

#[tokio::test(flavor = "multi_thread")]
async fn every_line_of_the_contract_is_kept() {
    let server = Fixture::start().await;
    let mut names = BTreeMap::new();
    for (place, vni) in [("{net}", 11), ("{rnet}", 12), ("{free}", 13)] {
        names.insert(place, server.network(vni).await);
    }
    let gateway = |interface: Value| json!({"name": "g", "devices": [{"device_name": "d", "interfaces": [interface]}]});
    for (place, interface) in [
        ("{gw}", json!({"name": "q"})),
        ("{gw_vlan}", json!({"name": "p", "segmentation_id": [1]})),
        ("{gw_0}", json!({"name": "t", "segmentation_id": [0]})),
        ("{rgw_gw}", json!({"name": "r"})),
    ] {
        let made = server.create("l2-gateways", gateway(interface)).await;
        names.insert(place, id(&made));
    }
    let made = server.attach(&names["{gw}"], &names["{net}"], 77).await;
    names.insert("{con}", id(&made));
    let made = server.attach(&names["{rgw_gw}"], &names["{rnet}"], 0).await;
    names.insert("{attached}", id(&made));
    for (place, ip) in [("{remote}", "192.0.2.11"), ("{remote2}", "192.0.2.12")] {
        names.insert(place, server.remote_gateway(ip).await);
    }
    let connection = json!({
        "l2_gateway_id": names["{rgw_gw}"], "network_id": names["{rnet}"], "l2_remote_gateway_id": names["{remote}"],
    });
    let made = server
        .create("l2-remote-gateway-connections", connection)
        .await;
    names.insert("{rcon}", id(&made));

    let mut cases: Vec<Value> = serde_json::from_str(include_str!("contract.json")).unwrap();
    assert!(cases.len() > 200, "the contract is not whole");
    for case in &mut cases {
        fill(case, &names);
        let text = |key: &str| case[key].as_str().unwrap_or_default();
        let method: Method = text("method").parse().unwrap();
        let mut request = server.client.request(method, server.url(text("path")));
        for (name, value) in case["headers"].as_object().into_iter().flatten() {
            request = request.header(name, value.as_str().unwrap());
        }
        request = match (case.get("body"), case.get("raw")) {
            (Some(body), _) => request.json(body),
            (None, Some(raw)) => request.body(raw.as_str().unwrap().to_owned()),
            (None, None) => request,
        };
        let (status, body) = reply(request).await;
        assert_eq!(status.as_u16(), case["status"], "{case}: {body}");
        if status.is_client_error() {
            let (_, kind, message) = error((status, body));
            assert!(["", &kind].contains(&text("type")), "{case}: {kind}");
            assert!(
                ["", &message].contains(&text("message")),
                "{case}: {message}"
            );
        }
    }
}

/// A gateway shows what it was given, in POST, PUT and GET; so do several devices of which one is changed (tempest's
/// `create_update_l2gw_with_multiple_devices`, stray keys of devices included).
#[tokio::test(flavor = "multi_thread")]
async fn devices_make_the_round_trip_and_those_that_are_not_named_stay() {
    let server = Fixture::start().await;
    let device = |name: &str, interface: &str| json!({"device_name": name, "segmentation_id": "5", "interfaces": [{"name": interface, "segmentation_id": ["67", "57"]}]});
    let devices = json!([device("d1", "a"), device("d2", "b"), device("d3", "c")]);
    let made = server
        .create("l2-gateways", json!({"name": "three", "devices": devices}))
        .await;
    let path = format!("/v2.0/l2-gateways/{}", id(&made));
    let shape = |gateway: &Value| -> Vec<(Value, Value)> {
        let devices = gateway["devices"].as_array().unwrap();
        devices
            .iter()
            .map(|it| (it["device_name"].clone(), it["interfaces"].clone()))
            .collect()
    };
    let interfaces = |name: &str| json!([{"segmentation_id": ["67", "57"], "name": name}]);
    let wanted = vec![
        (json!("d1"), interfaces("a")),
        (json!("d2"), interfaces("b")),
        (json!("d3"), interfaces("c")),
    ];
    assert_eq!(shape(&made), wanted);
    let change = json!({"l2_gateway": {"name": "renamed", "devices": [device("d2", "z")]}});
    let (status, changed) = server.put(&path, change).await;
    assert_eq!(
        (status.as_u16(), &changed["l2_gateway"]["name"]),
        (200, &json!("renamed"))
    );
    let shown = server.get(&path).await;
    assert_eq!(shown, changed);
    let mut wanted = wanted;
    wanted[1].1 = interfaces("z");
    assert_eq!(shape(&shown["l2_gateway"]), wanted);
    let ids = |gateway: &Value| -> Vec<Value> {
        gateway["devices"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| it["id"].clone())
            .collect()
    };
    assert_eq!(
        ids(&shown["l2_gateway"]),
        ids(&made),
        "devices keep their ids"
    );
}
