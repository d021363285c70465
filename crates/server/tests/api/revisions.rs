//! Revision numbers and times: two operators cannot overwrite each other.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use reqwest::Method;
use serde_json::{Value, json};

use crate::fixture::{Fixture, Reply, error, id, reply};

async fn constrained(
    server: &Fixture,
    method: Method,
    path: &str,
    if_match: &str,
    name: &str,
) -> Reply {
    let request = server.client.request(method, server.url(path));
    let request = request.header("If-Match", if_match);
    reply(request.json(&json!({"network": {"name": name}}))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_of_two_operators_is_told_that_the_first_was_faster() {
    let server = Fixture::start().await;
    let network = server.create("networks", json!({"name": "old"})).await;
    let path = format!("/v2.0/networks/{}", id(&network));
    let seen = network["revision_number"].as_u64().unwrap();
    let if_match = format!("revision_number={seen}");

    let (status, first) = constrained(&server, Method::PUT, &path, &if_match, "first").await;
    assert_eq!(status, 200);
    let now = first["network"]["revision_number"].as_u64().unwrap();
    assert!(now > seen);

    for method in [Method::PUT, Method::DELETE] {
        let refused = error(constrained(&server, method, &path, &if_match, "second").await);
        let message = format!("Constrained to {seen}, but current revision is {now}");
        assert_eq!(
            refused,
            (412, "RevisionNumberConstraintFailed".to_owned(), message)
        );
    }
    assert_eq!(server.get(&path).await["network"], first["network"]);
    let current = format!("revision_number={now}");
    let (status, _) = constrained(&server, Method::DELETE, &path, &current, "").await;
    assert_eq!(status, 204);
    let gone = error(constrained(&server, Method::PUT, &path, &current, "x").await);
    assert_eq!(gone.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_revision_number_constrains() {
    let server = Fixture::start().await;
    let path = format!("/v2.0/networks/{}", server.network(5).await);
    for ignored in ["junk", "\"etag\"", "*", ""] {
        let (status, _) = constrained(&server, Method::PUT, &path, ignored, "x").await;
        assert_eq!(status, 200, "{ignored}");
    }
    for wrong in ["", "x", "-1", "1.5", "99999999999999999999999"] {
        let if_match = format!("revision_number={wrong}");
        let (status, kind, message) =
            error(constrained(&server, Method::PUT, &path, &if_match, "x").await);
        assert_eq!((status, kind.as_str()), (400, "BadRequest"));
        assert!(message.starts_with("Bad if-match request: "), "{message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_changes_nothing_is_none() {
    let server = Fixture::start().await;
    let network = server.create("networks", json!({"name": "same"})).await;
    let path = format!("/v2.0/networks/{}", id(&network));
    let (_, same) = server
        .put(&path, json!({"network": {"name": "same"}}))
        .await;
    assert_eq!(same["network"], network);
}

fn seconds(time: &Value) -> u64 {
    let text = time.as_str().unwrap();
    // `2026-01-31T12:00:00Z`, as Neutron writes it.
    assert_eq!((text.len(), text.ends_with('Z')), (20, true), "{text}");
    let time: jiff::Timestamp = text.parse().unwrap();
    time.as_second().unsigned_abs()
}

#[tokio::test(flavor = "multi_thread")]
async fn times_tell_when_a_resource_was_made_and_last_changed() {
    let server = Fixture::start().await;
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let before = now().as_secs();
    let network = server.create("networks", json!({"name": "a"})).await;
    let made = seconds(&network["created_at"]);
    assert!((before..=now().as_secs()).contains(&made));
    assert_eq!(network["updated_at"], network["created_at"]);

    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let path = format!("/v2.0/networks/{}", id(&network));
    let (_, changed) = server.put(&path, json!({"network": {"name": "b"}})).await;
    assert!(seconds(&changed["network"]["updated_at"]) > made);
    assert_eq!(changed["network"]["created_at"], network["created_at"]);

    let second = server.create("networks", json!({"name": "c"})).await;
    for (query, wanted) in [
        (
            "sort_key=created_at&sort_dir=desc".to_owned(),
            vec!["c", "b"],
        ),
        (
            "sort_key=updated_at&sort_dir=asc".to_owned(),
            vec!["b", "c"],
        ),
        (
            format!("created_at={}", second["created_at"].as_str().unwrap()),
            vec!["c"],
        ),
        (
            format!("revision_number={}", second["revision_number"]),
            vec!["c"],
        ),
        ("created_at=yesterday".to_owned(), vec![]),
    ] {
        let list = server.get(&format!("/v2.0/networks?{query}")).await;
        let names = list["networks"].as_array().unwrap().iter();
        let names: Vec<_> = names.map(|n| n["name"].as_str().unwrap()).collect();
        assert_eq!(names, wanted, "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_sets_a_revision_or_a_time() {
    let server = Fixture::start().await;
    for name in ["revision_number", "created_at", "updated_at"] {
        let (status, _, message) = server.refused("networks", json!({name: 1})).await;
        let wanted = format!("Attribute '{name}' not allowed in POST");
        assert_eq!((status, message), (400, wanted));
    }
}
