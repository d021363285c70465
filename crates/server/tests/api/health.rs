//! `/healthcheck`.

use std::path::Path;
use std::sync::Arc;

use axum::body::Body;
use axum::http::Request;
use reqwest::header::ACCEPT;
use serde_json::{Value, json};
use server::health::{self, Health};
use store::Store;
use tempfile::TempDir;
use tower::ServiceExt;

use crate::fixture::Fixture;

#[tokio::test]
async fn a_server_that_can_answer_is_healthy_in_the_shape_of_oslo() {
    let fixture = Fixture::start().await;
    let url = fixture.url("/healthcheck");
    let reply = fixture.client.get(&url).send().await.unwrap();
    assert_eq!(reply.status(), 200);
    assert_eq!(reply.headers()["content-type"], "text/plain; charset=utf-8");
    assert_eq!(reply.text().await.unwrap(), "OK");
    let json = fixture.client.get(&url).header(ACCEPT, "application/json");
    let body: Value = json.send().await.unwrap().json().await.unwrap();
    assert_eq!(body, json!({"detailed": false, "reasons": ["OK"]}));
    let head = fixture.client.head(&url).send().await.unwrap();
    assert_eq!(head.status(), 204);
}

#[tokio::test]
async fn a_switch_that_is_away_shows_in_the_detail_and_leaves_the_server_healthy() {
    let target = "tcp:127.0.0.1:1";
    let fixture =
        Fixture::with(|options| options.switches.devices = vec![target.parse().unwrap()]).await;
    let url = fixture.url("/healthcheck?detailed");
    let reply = fixture.client.get(url).send().await.unwrap();
    assert_eq!(reply.status(), 200);
    let body: Value = reply.json().await.unwrap();
    assert_eq!(body["detailed"], true);
    assert_eq!(
        body["reasons"][0],
        json!({"class": "Database", "details": "", "reason": "OK"})
    );
    let switch = &body["reasons"][1];
    assert_eq!(switch["class"], "Switch");
    assert_eq!(switch["reason"], "AWAY");
    assert!(switch["details"].as_str().unwrap().starts_with(target));
}

#[tokio::test]
async fn a_file_takes_the_server_out_and_its_removal_brings_it_back() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("out");
    let set = file.clone();
    let fixture =
        Fixture::with(|options| options.operations.healthcheck_disable_file = Some(set)).await;
    let look = async || {
        let reply = fixture.client.get(fixture.url("/healthcheck"));
        let reply = reply.send().await.unwrap();
        (reply.status().as_u16(), reply.text().await.unwrap())
    };
    assert_eq!(look().await, (200, "OK".to_owned()));
    std::fs::write(&file, "").unwrap();
    assert_eq!(look().await, (503, "DISABLED BY FILE".to_owned()));
    assert_eq!(fixture.get("/v2.0/networks").await, json!({"networks": []}));
    std::fs::remove_file(&file).unwrap();
    assert_eq!(look().await, (200, "OK".to_owned()));
}

#[tokio::test]
async fn a_server_without_its_database_is_unhealthy() {
    let directory = TempDir::new().unwrap();
    let health = closed(directory.path(), true).await;
    assert_eq!(
        asked(health.clone(), "/healthcheck").await,
        (503, "DATABASE UNAVAILABLE".to_owned())
    );
    let (status, detail) = asked(health, "/healthcheck?detailed").await;
    assert_eq!(status, 503);
    assert!(detail.contains(r#""class":"Database""#), "{detail}");
}

#[tokio::test]
async fn who_connects_from_elsewhere_gets_no_detail() {
    let directory = TempDir::new().unwrap();
    let health = closed(directory.path(), false).await;
    assert_eq!(
        asked(health, "/healthcheck?detailed").await,
        (503, "DATABASE UNAVAILABLE".to_owned())
    );
}

/// The health of a server whose database is closed.
async fn closed(directory: &Path, detailed: bool) -> Health {
    let path = directory.join("l2gw.db").display().to_string();
    let store = Store::open(&path).await.unwrap();
    store.clone().close().await;
    Health {
        store,
        board: Arc::default(),
        audit: None,
        keystone: None,
        disable_file: None,
        detailed,
    }
}

async fn asked(health: Health, path: &str) -> (u16, String) {
    let request = Request::get(path).body(Body::empty()).unwrap();
    let reply = health::routes(health).oneshot(request).await.unwrap();
    let status = reply.status().as_u16();
    let bytes = axum::body::to_bytes(reply.into_body(), 4096).await.unwrap();
    (status, String::from_utf8(bytes.to_vec()).unwrap())
}
