//! Filters, fields, order, pages, and lists that are long or read slowly.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use crate::fixture::{Fixture, error, id, mac, reply};

fn names(list: &Value) -> Vec<&str> {
    let list = list["networks"].as_array().unwrap();
    list.iter().map(|n| n["name"].as_str().unwrap()).collect()
}

async fn with_networks(names: &[(&str, &str)]) -> Fixture {
    let server = Fixture::start().await;
    for (name, tenant) in names {
        server
            .create("networks", json!({"name": name, "tenant_id": tenant}))
            .await;
    }
    server
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_join_by_or_and_by_and() {
    let server = with_networks(&[("a", "t1"), ("b", "t1"), ("c", "t2"), ("", "t2")]).await;
    for (query, wanted) in [
        ("", &["a", "b", "c", ""][..]),
        ("name=a&name=c", &["a", "c"]),
        ("name=a&name=c&tenant_id=t1", &["a"]),
        ("project_id=t2", &["c", ""]),
        ("name=", &[""]),
        ("provider:segmentation_id=2&verbose=True&devices=x", &["b"]),
        ("provider%3Asegmentation_id=2", &["b"]),
        ("id=nope", &[]),
        ("router:external=False", &["a", "b", "c", ""]),
        ("shared=True", &[]),
        ("name=nope", &[]),
    ] {
        let list = server.get(&format!("/v2.0/networks?{query}")).await;
        assert_eq!(names(&list), wanted, "{query}");
        assert!(list.get("networks_links").is_none());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_sorted_on_request() {
    let server = with_networks(&[("b", "t1"), ("a", "t2"), ("c", "t1")]).await;
    for (query, wanted) in [
        ("sort_key=name&sort_dir=asc", ["a", "b", "c"]),
        ("sort_key=name&sort_dir=desc", ["c", "b", "a"]),
        (
            "sort_key=project_id&sort_dir=asc&sort_key=name&sort_dir=desc",
            ["c", "b", "a"],
        ),
    ] {
        assert_eq!(
            names(&server.get(&format!("/v2.0/networks?{query}")).await),
            wanted,
            "{query}"
        );
    }
    for (query, message) in [
        (
            "sort_key=nope&sort_dir=asc",
            "['nope'] is invalid attribute for sort_keys",
        ),
        (
            "sort_key=subnets&sort_dir=asc",
            "['subnets'] is invalid attribute for sort_keys",
        ),
        (
            "sort_key=name&sort_dir=up",
            "['up'] is invalid value for sort_dirs, valid value is 'asc' and 'desc'",
        ),
        (
            "sort_key=name",
            "The number of sort_keys and sort_dirs must be same",
        ),
    ] {
        let request = server
            .client
            .get(server.url(&format!("/v2.0/networks?{query}")));
        let (status, _, got) = error(reply(request).await);
        assert_eq!((status, got.as_str()), (400, message));
    }
}

/// The path of the link to another page.
fn link(list: &Value, relation: &str) -> Option<String> {
    let links = list["networks_links"].as_array().unwrap();
    let link = links.iter().find(|link| link["rel"] == relation)?;
    let href = link["href"].as_str().unwrap();
    assert!(href.starts_with("http://127.0.0.1:"), "{href}");
    Some(href[href.find("/v2.0").unwrap()..].to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_lead_to_all_rows_and_back() {
    let server =
        with_networks(&[("a b", "t"), ("c", "t"), ("d", "u"), ("e", "t"), ("f", "t")]).await;
    let mut path = "/v2.0/networks?limit=2&tenant_id=t&fields=name".to_owned();
    let mut seen = Vec::new();
    loop {
        let page = server.get(&path).await;
        seen.push(names(&page).join(","));
        match link(&page, "next") {
            Some(next) => path = next,
            None => break,
        }
    }
    assert_eq!(
        seen,
        ["a b,c", "e,f", ""],
        "a full page may be followed by an empty one"
    );
    let second = server.get("/v2.0/networks?limit=2&tenant_id=t").await;
    let second = server.get(&link(&second, "next").unwrap()).await;
    let back = server.get(&link(&second, "previous").unwrap()).await;
    assert_eq!(names(&back), ["a b", "c"]);
    let first = id(&back["networks"][0]);
    let none = server
        .get(&format!(
            "/v2.0/networks?limit=2&page_reverse=True&marker={first}"
        ))
        .await;
    assert_eq!((names(&none).len(), link(&none, "previous")), (0, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn strange_limits_and_markers_are_answered_as_neutron_does() {
    let server = with_networks(&[("a", "t"), ("b", "t")]).await;
    let all = server.get("/v2.0/networks").await;
    let first = id(&all["networks"][0]);
    for (query, wanted) in [
        ("limit=0".to_owned(), 2),
        (format!("marker={first}"), 2),
        (format!("limit=5&marker={first}"), 1),
        (
            "limit=5&marker=00000000-0000-0000-0000-000000000000".to_owned(),
            0,
        ),
        ("limit=5&marker=nope".to_owned(), 0),
    ] {
        let list = server.get(&format!("/v2.0/networks?{query}")).await;
        assert_eq!(names(&list).len(), wanted, "{query}");
    }
    for limit in ["-1", "abc", ""] {
        let request = server
            .client
            .get(server.url(&format!("/v2.0/networks?limit={limit}")));
        let (status, kind, message) = error(reply(request).await);
        assert_eq!((status, kind.as_str()), (400, "BadRequest"));
        assert_eq!(
            message,
            format!("Bad limit request: Limit must be an integer 0 or greater and not '{limit}'.")
        );
    }
}

/// A server with so many remote MACs.
async fn with_macs(count: usize) -> Fixture {
    let server = Fixture::start().await;
    let connection = server.stretched(5).await;
    let objects: Vec<_> = (0..count).map(|n| json!({"mac": mac(n)})).collect();
    let path = format!("/v2.0/l2-remote-gateway-connections/{connection}/remote-macs");
    let (status, _) = server.post(&path, json!({"remote-macs": objects})).await;
    assert_eq!(status, 201);
    server
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_macs_go_in_and_come_out_whole() {
    let server = with_macs(100_000).await;
    let list = server.get("/v2.0/l2-remote-macs").await;
    let list = list["l2_remote_macs"].as_array().unwrap();
    assert_eq!(list.len(), 100_000);
    let ids: BTreeSet<_> = list.iter().map(|mac| mac["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), 100_000);
    assert!(
        list.iter()
            .enumerate()
            .all(|(number, shown)| shown["mac"] == mac(number))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_that_stall_keep_nobody_waiting_and_miss_nothing() {
    let server = with_macs(50_000).await;
    let mut stalled = Vec::new();
    // More than there are readers of the database.
    for _ in 0..8 {
        let request = server.client.get(server.url("/v2.0/l2-remote-macs")).send();
        stalled.push(request.await.unwrap());
    }
    // The stalled readers' replies are larger than what sockets buffer.
    tokio::time::sleep(Duration::from_millis(700)).await;
    for turn in 0..20 {
        let write = tokio::time::timeout(Duration::from_secs(5), server.network(100 + turn));
        assert!(write.await.is_ok(), "a write waits for a stalled reader");
        let read = tokio::time::timeout(Duration::from_secs(5), server.get("/v2.0/networks"));
        assert!(read.await.is_ok(), "a list waits for a stalled reader");
    }
    for response in stalled.into_iter().take(2) {
        let list: Value = response.json().await.unwrap();
        let list = list["l2_remote_macs"].as_array().unwrap();
        assert!(
            list.iter()
                .enumerate()
                .all(|(number, shown)| shown["mac"] == mac(number))
        );
        assert_eq!(list.len(), 50_000);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_list_whose_place_is_gone_breaks_off_instead_of_ending_early() {
    // How long a server takes to find a reader stalled depends on what else the machine does. Until it has, the list is
    // still read from one state of the database, and whole.
    for stall in [1_500, 6_000, 24_000].map(Duration::from_millis) {
        let server = with_macs(50_000).await;
        let stalled = server
            .client
            .get(server.url("/v2.0/l2-remote-macs"))
            .send()
            .await
            .unwrap();
        tokio::time::sleep(stall).await;
        let connection = server
            .get("/v2.0/l2-remote-gateway-connections?fields=id")
            .await;
        let connection = id(&connection["l2_remote_gateway_connections"][0]);
        server
            .delete(&format!("/v2.0/l2-remote-gateway-connections/{connection}"))
            .await;
        let Ok(list) = stalled.bytes().await else {
            return;
        };
        let list: Value = serde_json::from_slice(&list).unwrap();
        let shown = list["l2_remote_macs"].as_array().unwrap().len();
        assert_eq!(shown, 50_000, "part of a list looked whole");
    }
    panic!("no reader was found stalled");
}
