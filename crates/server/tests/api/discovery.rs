//! Versions, resources and extensions, as clients look for them.

use serde_json::{Value, json};

use crate::fixture::{Fixture, error};

/// Where people read it without a server.
const OPENAPI: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");

/// `L2GW_BLESS=1` writes the file anew.
#[tokio::test(flavor = "multi_thread")]
async fn the_description_that_is_checked_in_is_the_servers() {
    let server = Fixture::start().await;
    let served = server.get("/openapi.json").await;
    let text = format!("{}\n", serde_json::to_string_pretty(&served).unwrap());
    if std::env::var_os("L2GW_BLESS").is_some() {
        std::fs::write(OPENAPI, &text).unwrap();
    }
    let kept = std::fs::read_to_string(OPENAPI).unwrap();
    assert!(
        kept == text,
        "docs/openapi.json is old: run with L2GW_BLESS=1"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_description_names_every_attribute_and_every_reply_has_no_other() {
    let server = Fixture::start().await;
    let connection = server.stretched(5).await;
    let far = json!({"mac": "02:00:00:00:00:01", "rgw_connection": connection});
    server.create("l2-remote-macs", far).await;
    let described = server.get("/openapi.json").await;
    let schemas = &described["components"]["schemas"];
    for resource in server.get("/v2.0/").await["resources"].as_array().unwrap() {
        let collection = resource["collection"].as_str().unwrap();
        let list = server.get(&format!("/v2.0/{collection}")).await;
        let properties = schemas[resource["name"].as_str().unwrap()]["properties"].as_object();
        let described: Vec<_> = properties.unwrap().keys().collect();
        if let Some(object) = list[collection][0].as_object() {
            assert_eq!(object.keys().collect::<Vec<_>>(), described, "{collection}");
        } else {
            assert_eq!(collection, "ports");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_extension_that_is_announced_can_be_shown() {
    let server = Fixture::start().await;
    let all = server.get("/v2.0/extensions").await;
    let aliases = all["extensions"].as_array().unwrap().iter();
    for alias in [
        "pagination",
        "sorting",
        "project-id",
        "quotas",
        "revision-if-match",
    ] {
        assert!(aliases.clone().any(|e| e["alias"] == alias), "{alias}");
    }
    for extension in aliases {
        let alias = extension["alias"].as_str().unwrap();
        let shown = server.get(&format!("/v2.0/extensions/{alias}.json")).await;
        assert_eq!(&shown["extension"], extension);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_find_version_resources_and_extensions() {
    let server = Fixture::start().await;
    let versions = server.get("/").await;
    assert_eq!(
        versions,
        json!({"versions": [{
            "id": "v2.0", "status": "CURRENT",
            "links": [{"rel": "self", "href": server.url("/v2.0/")}],
        }]})
    );
    let resources = server.get("/v2.0/").await;
    let resources = resources["resources"].as_array().unwrap();
    let gateways = json!({
        "name": "l2_gateway", "collection": "l2_gateways",
        "links": [{"rel": "self", "href": server.url("/v2.0/l2-gateways")}],
    });
    assert!(resources.contains(&gateways));
    for resource in resources {
        let href = resource["links"][0]["href"].as_str().unwrap();
        let collection = resource["collection"].as_str().unwrap();
        let list: Value = reqwest::get(href).await.unwrap().json().await.unwrap();
        assert_eq!(list, json!({collection: []}));
    }
    let extensions = server.get("/v2.0/extensions.json").await;
    let extensions = extensions["extensions"].as_array().unwrap();
    for (alias, name, updated) in [
        ("l2-gateway", "L2 Gateway", "2015-01-01T00:00:00-00:00"),
        (
            "l2-gateway-connection",
            "L2 Gateway connection",
            "2014-01-01T00:00:00-00:00",
        ),
        (
            "l2-remote-gateway",
            "L2 Remote Gateway",
            "2015-12-31T00:00:00-00:00",
        ),
        (
            "l2-remote-gateway-connection",
            "L2 Remote Gateway Connection",
            "2015-12-31T00:00:00-00:00",
        ),
        (
            "l2-remote-mac",
            "L2 Remote MAC",
            "2015-12-31T00:00:00-00:00",
        ),
    ] {
        let shown = server.get(&format!("/v2.0/extensions/{alias}")).await;
        let extension = &shown["extension"];
        assert_eq!(
            (&extension["name"], &extension["updated"]),
            (&json!(name), &json!(updated))
        );
        assert!(extensions.contains(extension));
    }
    let (status, ..) = error(
        server
            .call(reqwest::Method::GET, "/v2.0/extensions/nope", None)
            .await,
    );
    assert_eq!(status, 404);
}

/// A path of the document with something in its places.
fn filled(path: &str) -> String {
    // An extension that does not exist is answered as a path that does not.
    let mut filled = path.replace("{alias}", "l2-gateway");
    for place in ["{id}", "{name}", "{project}"] {
        filled = filled.replace(place, "none");
    }
    assert!(!filled.contains('{'), "{path}");
    filled
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_described_is_served_with_just_these_methods() {
    let server = Fixture::start().await;
    let described = server.get("/openapi.json").await;
    for (path, item) in described["paths"].as_object().unwrap() {
        for method in ["GET", "POST", "PUT", "DELETE", "PATCH"] {
            let url = server.url(&filled(path));
            let request = server.client.request(method.parse().unwrap(), url);
            let response = request.send().await.unwrap();
            let status = response.status().as_u16();
            let body = response.text().await.unwrap();
            let is_described = item.get(method.to_lowercase()).is_some();
            assert_eq!(status != 405, is_described, "{method} {path}: {status}");
            assert!(!body.contains("HTTPNotFound"), "{method} {path}: {body}");
        }
    }
}
