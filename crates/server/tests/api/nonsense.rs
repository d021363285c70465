//! Every attribute of every resource with values that are none: a clear refusal, never a failure. What is tried derives
//! from the resource table, so that a new attribute is tried as well.

use std::collections::BTreeMap;

use model::resource::{Post, Resource, Shape};
use model::table;
use reqwest::Method;
use serde_json::{Value, json};

use crate::fixture::{Fixture, error, id, member, reply};

/// JSON texts. Some are values of some shapes; whatever is taken must also come back.
fn values() -> Vec<(&'static str, String)> {
    let deep = |open: &str, close: &str, depth: usize| {
        format!("{}1{}", open.repeat(depth), close.repeat(depth))
    };
    let mut values: Vec<_> = [
        "null",
        "true",
        "false",
        "0",
        "-1",
        "1.5",
        "-0.0",
        "1e3",
        "9223372036854775808",
        "-9223372036854775809",
        "\"\"",
        "\" \"",
        "\"x\"",
        "\"-1\"",
        "\"1.5\"",
        "\"0x10\"",
        "\"1_000\"",
        "\"\u{661}\"",
        "\"NaN\"",
        "\"\\u0000\"",
        "\"a\\u0000b\"",
        "\"\u{feff}\"",
        "\"\\ud83d\\ude00\"",
        "[]",
        "{}",
        "[null]",
        "[[]]",
        "[{}]",
        "{\"\":1}",
        "[1,\"a\",null]",
        "\"192.0.2.256\"",
        "\"::1\"",
        "\"255.255.255.255\"",
        "\"0.0.0.0\"",
        "\"ff:ff:ff:ff:ff:ff\"",
        "\"01:00:5e:00:00:01\"",
        "\"00000000-0000-0000-0000-000000000000\"",
        "\"'; DROP TABLE networks; --\"",
    ]
    .iter()
    .map(|text| (*text, (*text).to_owned()))
    .collect();
    values.extend([
        ("10^100", format!("1{}", "0".repeat(100))),
        ("a text of 300", format!("\"{}\"", "x".repeat(300))),
        (
            "a text of a million",
            format!("\"{}\"", "\u{fc}".repeat(1_000_000)),
        ),
        (
            "a list of 10,000",
            format!("[{}]", vec!["1"; 10_000].join(",")),
        ),
        ("lists 100 deep", deep("[", "]", 100)),
        ("objects 100 deep", deep("{\"a\":", "}", 100)),
        // Of these no value can be made at all.
        ("1e400", "1e400".to_owned()),
        ("a lone surrogate", "\"\\ud800\"".to_owned()),
        ("lists 100,000 deep", deep("[", "]", 100_000)),
        ("objects 100,000 deep", deep("{\"a\":", "}", 100_000)),
        ("a key twice", "{\"a\":1,\"a\":2}".to_owned()),
        ("no JSON", "nan".to_owned()),
        ("half a text", "\"abc".to_owned()),
        ("a control character", "\"a\u{1}\"".to_owned()),
    ]);
    values
}

/// What must be refused whatever the attribute.
const NEVER: &[&str] = &[
    "1e400",
    "a lone surrogate",
    "lists 100,000 deep",
    "objects 100,000 deep",
    "a key twice",
    "no JSON",
    "half a text",
    "a control character",
    "10^100",
    "a text of a million",
    "\"\\u0000\"",
    "\"a\\u0000b\"",
];

/// A server with one of each, and what another one of each kind would be made of.
struct World {
    server: Fixture,
    objects: BTreeMap<&'static str, Value>,
    items: BTreeMap<&'static str, String>,
}

impl World {
    async fn new() -> Self {
        let server = Fixture::start().await;
        let connection = server.stretched(5).await;
        let shown = format!("/v2.0/l2-remote-gateway-connections/{connection}");
        let shown = server.get(&shown).await["l2_remote_gateway_connection"].take();
        let network = server.network(6).await;
        let interface = json!([{"device_name": "d", "interfaces": [{"name": "p"}]}]);
        let mut objects = BTreeMap::new();
        objects.insert("networks", json!({}));
        objects.insert(
            "ports",
            json!({"network_id": network, "mac_address": "02:00:00:00:00:01"}),
        );
        objects.insert("l2-gateways", json!({"devices": interface}));
        let attached = json!({"l2_gateway_id": shown["l2_gateway_id"], "network_id": network, "segmentation_id": "9"});
        objects.insert("l2-gateway-connections", attached);
        objects.insert("l2-remote-gateways", json!({"ipaddr": "192.0.2.7"}));
        let remote = json!({
            "l2_gateway_id": shown["l2_gateway_id"], "network_id": shown["network_id"],
            "l2_remote_gateway_id": server.remote_gateway("192.0.2.8").await,
        });
        objects.insert("l2-remote-gateway-connections", remote);
        objects.insert(
            "l2-remote-macs",
            json!({"mac": "02:00:00:00:00:02", "rgw_connection": connection}),
        );
        let mut items = BTreeMap::new();
        for resource in table::ALL {
            let made = server
                .create(resource.path, objects[resource.path].clone())
                .await;
            items.insert(
                resource.path,
                format!("/v2.0/{}/{}", resource.path, id(&made)),
            );
        }
        // Each of these is what a second one would collide with; MACs are told apart by what is tried.
        Self {
            server,
            objects,
            items,
        }
    }

    /// The answer to a body in which one attribute is replaced by a text that may not even be JSON.
    async fn answer(
        &self,
        method: Method,
        path: &str,
        resource: &Resource,
        name: &str,
        text: &str,
    ) -> (u16, Value) {
        let mut object = match method {
            Method::POST => self.objects[resource.path].clone(),
            _ => json!({}),
        };
        object.as_object_mut().unwrap().remove(name);
        let mut body = object.to_string();
        assert_eq!(body.pop(), Some('}'));
        let comma = if object.as_object().unwrap().is_empty() {
            ""
        } else {
            ","
        };
        let body = format!(
            "{{\"{}\":{body}{comma}\"{name}\":{text}}}}}",
            member(resource.path)
        );
        let request = self.server.client.request(method, self.server.url(path));
        let (status, body) = reply(request.body(body)).await;
        (status.as_u16(), body)
    }
}

fn is_refusal(what: &str, (status, body): &(u16, Value)) {
    let (_, _, message) = error((
        reqwest::StatusCode::from_u16(*status).unwrap(),
        body.clone(),
    ));
    assert!((400..500).contains(status), "{what}: {status} {message}");
    assert!(
        !message.is_empty() && message.chars().count() < 1000,
        "{what}: {message}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn no_value_of_any_attribute_is_a_failure() {
    let world = World::new().await;
    let values = values();
    for resource in table::ALL {
        let collection = format!("/v2.0/{}", resource.path);
        for attribute in resource.attributes {
            for (name, text) in &values {
                let what = format!("{} {} = {name}", resource.member, attribute.name);
                let made = world
                    .answer(Method::POST, &collection, resource, attribute.name, text)
                    .await;
                if made.0 == 201 {
                    assert!(!NEVER.contains(name), "{what}: {}", made.1);
                    assert!(
                        attribute.visible && attribute.post != Post::Refused,
                        "{what}"
                    );
                    let item = format!("{collection}/{}", id(&made.1[resource.member]));
                    let shown = world.server.get(&item).await;
                    let stamped = ["status", "status_reason"];
                    for (key, value) in made.1[resource.member].as_object().unwrap() {
                        if !stamped.contains(&key.as_str()) {
                            assert_eq!(&shown[resource.member][key], value, "{what}");
                        }
                    }
                    assert_eq!(world.server.delete(&item).await.0, 204, "{what}");
                } else {
                    is_refusal(&what, &made);
                }
                let item = &world.items[resource.path];
                let put = world
                    .answer(Method::PUT, item, resource, attribute.name, text)
                    .await;
                if put.0 == 200 {
                    assert!(
                        !NEVER.contains(name) && attribute.put && resource.updatable,
                        "{what}"
                    );
                    world.server.get(item).await;
                } else {
                    is_refusal(&what, &put);
                }
            }
        }
        // Whatever was taken meanwhile does not break the list.
        world.server.get(&collection).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_query_is_a_failure() {
    let world = World::new().await;
    let long = "x".repeat(8_000);
    let values = [
        "",
        "%00",
        "%ff%fe",
        "%",
        "%zz",
        "null",
        "true",
        "-1",
        "0",
        "1e400",
        "99999999999999999999999",
        "'%27%22;--",
        "%F0%9F%98%80",
        "[]",
        "{}",
        "*",
        long.as_str(),
    ];
    for resource in table::ALL {
        let collection = format!("/v2.0/{}", resource.path);
        let mut keys: Vec<_> = resource
            .attributes
            .iter()
            .map(|attribute| attribute.name)
            .collect();
        keys.extend([
            "fields",
            "limit",
            "marker",
            "page_reverse",
            "sort_key",
            "sort_dir",
            "verbose",
            "%00",
            "",
        ]);
        for key in &keys {
            for value in values {
                for query in [
                    format!("{key}={value}"),
                    format!("{key}={value}&{key}={value}&limit=1"),
                    format!("sort_key={key}&sort_dir=asc&limit=1&marker={value}"),
                ] {
                    let path = format!("{collection}?{query}");
                    let answer = reply(world.server.client.get(world.server.url(&path))).await;
                    match answer.0.as_u16() {
                        200 => assert!(answer.1[resource.collection].is_array(), "{path}"),
                        _ => is_refusal(&path, &(answer.0.as_u16(), answer.1)),
                    }
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_with_thousands_of_terms_is_answered() {
    let server = Fixture::start().await;
    let network = server.network(7).await;
    let many = |term: &str, count: usize| vec![term; count].join("&");
    let sorted = format!(
        "limit=1&marker={network}&{}",
        many("sort_key=name&sort_dir=asc", 2_000)
    );
    let mtus: Vec<_> = (68..6_000).map(|mtu| format!("mtu={mtu}")).collect();
    for query in [
        sorted,
        mtus.join("&"),
        many("fields=id", 6_000),
        many("a=b", 10_000),
    ] {
        server.get(&format!("/v2.0/networks?{query}")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_says_a_thing_twice_is_not_obeyed_by_half() {
    let server = Fixture::start().await;
    for (path, body) in [
        ("networks", r#"{"network":{"name":"a","name":"b"}}"#),
        (
            "networks",
            r#"{"network":{"name":"a"},"network":{"name":"b"}}"#,
        ),
        ("networks", r#"{"networks":[{"name":"a","name":"b"}]}"#),
        (
            "l2-gateways",
            r#"{"l2_gateway":{"devices":[{"device_name":"a","device_name":"b","interfaces":[{"name":"p"}]}]}}"#,
        ),
    ] {
        let request = server.client.post(server.url(&format!("/v2.0/{path}")));
        let (status, kind, message) = error(reply(request.body(body)).await);
        assert_eq!(
            (status, kind.as_str()),
            (400, "MalformedRequestBody"),
            "{body}"
        );
        assert!(message.contains("duplicate key"), "{message}");
    }
    let quota = server.client.put(server.url("/v2.0/quotas/shop"));
    let twice = quota.body(r#"{"quota":{"network":1,"network":2}}"#);
    assert_eq!(error(reply(twice).await).1, "MalformedRequestBody");
}

/// What the table says about resources is what [`World`] makes of them.
#[tokio::test(flavor = "multi_thread")]
async fn references_that_lead_nowhere_are_404_with_a_readable_name() {
    let world = World::new().await;
    for resource in table::ALL {
        for attribute in resource.attributes {
            let Shape::Reference(target, _) = attribute.shape else {
                continue;
            };
            if !attribute.visible {
                continue;
            }
            let long = format!("\"{}\"", "n".repeat(100_000));
            let path = format!("/v2.0/{}", resource.path);
            let (status, body) = world
                .answer(Method::POST, &path, resource, attribute.name, &long)
                .await;
            let (_, kind, message) = error((reqwest::StatusCode::from_u16(status).unwrap(), body));
            assert_eq!(
                (status, kind.as_str()),
                (404, Resource::of(target).not_found.0.type_name())
            );
            assert!(message.chars().count() < 500, "{message}");
        }
    }
}
