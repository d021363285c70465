//! Versions, resources and extensions, as clients look for them.

use serde_json::{Value, json};

use crate::fixture::{Fixture, error};

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
