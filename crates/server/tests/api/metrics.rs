//! `/metrics`.

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use crate::devices;
use crate::fixture::Fixture;

/// Every metric that the server tells, with its type: dashboards and alarms depend on them.
const NAMES: &str = "\
l2gw_build info
l2gw_callers gauge
l2gw_callers_closed counter
l2gw_callers_room_bytes gauge
l2gw_callers_room_taken_bytes gauge
l2gw_http_bodies_room_bytes gauge
l2gw_http_bodies_room_taken_bytes gauge
l2gw_http_bodies_waiting gauge
l2gw_http_request_duration_seconds histogram
l2gw_resources gauge
l2gw_switch_connected gauge
l2gw_switch_plan_duration_seconds gauge
l2gw_switch_plan_steps gauge
l2gw_switch_queue_delay_seconds gauge
l2gw_switch_refused_steps counter
l2gw_switch_rows_held gauge
l2gw_switch_rows_wanted gauge
l2gw_switch_sessions_lost counter
process_open_fds gauge
process_resident_memory_bytes gauge
process_start_time_seconds gauge
process_virtual_memory_bytes gauge
";

/// A scrape: samples by name and labels, as they are written.
struct Scrape {
    text: String,
    samples: BTreeMap<String, f64>,
}

impl Scrape {
    async fn of(url: &str) -> Self {
        let reply = reqwest::get(url).await.unwrap();
        assert_eq!(reply.status(), 200);
        assert_eq!(
            reply.headers()["content-type"],
            "application/openmetrics-text; version=1.0.0; charset=utf-8"
        );
        let text = reply.text().await.unwrap();
        assert!(text.ends_with("# EOF\n"), "{text}");
        let samples = text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| {
                let (name, value) = line.rsplit_once(' ').unwrap();
                (name.to_owned(), value.parse().unwrap())
            })
            .collect();
        Self { text, samples }
    }

    fn value(&self, sample: &str) -> f64 {
        let value = self.samples.get(sample);
        *value.unwrap_or_else(|| panic!("no {sample} in\n{}", self.text))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_and_types_of_metrics_stay_as_they_are() {
    let (switch, _eyes) = devices::switch().await;
    let fixture = devices::connected(&switch).await;
    devices::attached(&fixture, "p1").await;
    devices::until(&fixture, "rows_held", json!(2)).await;
    let scrape = Scrape::of(&fixture.url("/metrics")).await;
    let types = scrape
        .text
        .lines()
        .filter_map(|l| l.strip_prefix("# TYPE "));
    let mut names: Vec<_> = types.map(|line| format!("{line}\n")).collect();
    names.sort();
    assert_eq!(names.concat(), NAMES);
    let target = format!(r#"{{target="{}"}}"#, switch.unix_target());
    for (name, value) in [("connected", 1.0), ("rows_wanted", 2.0), ("rows_held", 2.0)] {
        assert_eq!(scrape.value(&format!("l2gw_switch_{name}{target}")), value);
    }
}

#[tokio::test]
async fn requests_are_counted_by_method_route_and_status() {
    let fixture = Fixture::start().await;
    let network = fixture.network(100).await;
    fixture.get(&format!("/v2.0/networks/{network}")).await;
    fixture.get("/v2.0/networks/").await;
    fixture.call(Method::GET, "/v2.0/nothing", None).await;
    fixture.call(Method::PATCH, "/v2.0/networks", None).await;
    let invented = Method::from_bytes(b"INVENTED").unwrap();
    fixture.call(invented, "/v2.0/networks", None).await;
    let scrape = Scrape::of(&fixture.url("/metrics")).await;
    for (method, route, status) in [
        ("POST", "/v2.0/networks", 201),
        ("GET", "/v2.0/networks/{id}", 200),
        ("GET", "/v2.0/networks", 200),
        ("GET", "unmatched", 404),
        ("PATCH", "/v2.0/networks", 405),
        ("other", "/v2.0/networks", 405),
    ] {
        let labels = format!(r#"method="{method}",route="{route}",status="{status}""#);
        let count = format!("l2gw_http_request_duration_seconds_count{{{labels}}}");
        assert_eq!(scrape.value(&count), 1.0, "{labels}");
    }
}

#[tokio::test]
async fn resources_are_counted_by_kind_and_status() {
    let fixture = Fixture::start().await;
    let connection = fixture.stretched(100).await;
    let macs = json!({"l2_remote_macs": [
        {"mac": "02:00:00:00:00:01", "rgw_connection": connection},
        {"mac": "02:00:00:00:00:02", "rgw_connection": connection},
    ]});
    let (status, body) = fixture.post("/v2.0/l2-remote-macs", macs).await;
    assert_eq!(status, 201, "{body}");
    let scrape = Scrape::of(&fixture.url("/metrics")).await;
    let count = |kind: &str, status: &str| {
        scrape.value(&format!(
            r#"l2gw_resources{{kind="{kind}",status="{status}"}}"#
        ))
    };
    assert_eq!(count("network", "ACTIVE"), 1.0);
    // The switch never connected; until the controllers have read the change, the MACs are on their way to them.
    let (build, down) = (
        count("l2_remote_mac", "BUILD"),
        count("l2_remote_mac", "DOWN"),
    );
    assert_eq!(build + down, 2.0);
    assert_eq!(count("l2_remote_mac", "ACTIVE"), 0.0);
}

#[tokio::test]
async fn a_switch_that_is_away_is_told_as_such() {
    let target = "tcp:127.0.0.1:1";
    let fixture =
        Fixture::with(|options| options.switches.devices = vec![target.parse().unwrap()]).await;
    let scrape = Scrape::of(&fixture.url("/metrics")).await;
    let labels = format!(r#"{{target="{target}"}}"#);
    assert_eq!(scrape.value(&format!("l2gw_switch_connected{labels}")), 0.0);
    let lost = format!("l2gw_switch_sessions_lost_total{labels}");
    assert_eq!(scrape.value(&lost), 0.0);
}

/// One that we dial has its target's series; one that dialled us must not vanish with its connection.
#[tokio::test(flavor = "multi_thread")]
async fn a_switch_that_had_dialled_us_and_is_gone_is_told_as_such() {
    let port = testkit::port::free_port().unwrap();
    let fixture = Fixture::with(|options| {
        let listen = format!("ptcp:{port}:127.0.0.1").parse().unwrap();
        options.switches.ovsdb_listen = vec![listen];
    })
    .await;
    let (mut switch, _eyes) = devices::switch().await;
    let manager = format!("tcp:127.0.0.1:{port}");
    let database = format!("--db={}", switch.unix_target());
    let told = std::process::Command::new("vtep-ctl")
        .args([&database, "set-manager", &manager])
        .status();
    assert!(told.unwrap().success());
    switch
        .restart_with(["--remote=db:hardware_vtep,Global,managers"])
        .unwrap();
    devices::until(&fixture, "status", json!("ACTIVE")).await;
    let value = |scrape: &Scrape, name: &str| {
        scrape.value(&format!(r#"l2gw_switch_{name}{{target="tor"}}"#))
    };
    let scrape = Scrape::of(&fixture.url("/metrics")).await;
    assert_eq!(value(&scrape, "connected"), 1.0);

    switch.kill().unwrap();
    let device = devices::until(&fixture, "status", json!("DOWN")).await;
    let reason = device["status_reason"].as_str().unwrap();
    assert!(
        reason.starts_with("switch tor is away: tcp:127.0.0.1:"),
        "{reason}"
    );
    let scrape = Scrape::of(&fixture.url("/metrics")).await;
    assert_eq!(value(&scrape, "connected"), 0.0);
    assert_eq!(value(&scrape, "sessions_lost_total"), 1.0);
}

#[tokio::test]
async fn metrics_with_a_listener_of_their_own_are_not_told_by_the_api() {
    let fixture =
        Fixture::with(|o| o.operations.metrics_listen = Some("127.0.0.1:0".parse().unwrap())).await;
    let (status, _) = fixture.call(Method::GET, "/metrics", None).await;
    assert_eq!(status, 404);
    let address = fixture.metrics_address.unwrap();
    let scrape = Scrape::of(&format!("http://{address}/metrics")).await;
    let labels = r#"{method="GET",route="unmatched",status="404"}"#;
    let count = format!("l2gw_http_request_duration_seconds_count{labels}");
    assert_eq!(scrape.value(&count), 1.0);
    let health = reqwest::get(format!("http://{address}/healthcheck"));
    let health = tokio::time::timeout(Duration::from_secs(5), health).await;
    assert_eq!(health.unwrap().unwrap().status(), 200);
}
