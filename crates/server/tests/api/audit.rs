//! The audit log: every change and every refused one, who asked, and what was there before and after.

use std::collections::BTreeSet;
use std::io::Write;
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use server::audit::AuditOptions;
use tempfile::TempDir;

use crate::fixture::{Fixture, id, mac};

/// A server with an audit log, and where it is.
async fn audited(change: impl FnOnce(&mut server::Options)) -> (Fixture, PathBuf, TempDir) {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("audit.log");
    let log = path.clone();
    let server = Fixture::with(|options| {
        options.allow_unknown_devices = true;
        options.audit = AuditOptions {
            audit_log: Some(log),
        };
        change(options);
    })
    .await;
    (server, path, directory)
}

/// The records of requests.
fn records(path: &PathBuf) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.ends_with('\n'), "the last line is whole");
    records_of(&text)
}

/// The same of a log that is being written: of a line that begins on one page of memory and ends on the next, who reads may see
/// the beginning alone.
fn records_so_far(path: &PathBuf) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    let whole = text.rfind('\n').map_or(0, |end| end + 1);
    records_of(&text[..whole])
}

fn records_of(text: &str) -> Vec<Value> {
    let records = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    records
        .filter(|record| record.get("request_id").is_some())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_recorded_with_what_was_before_and_after() {
    let (server, path, _directory) = audited(|_| {}).await;
    let far = json!({"name": "far", "ipaddr": "192.0.2.1"});
    let created = server.create("l2-remote-gateways", far).await;
    let item = format!("/v2.0/l2-remote-gateways/{}", id(&created));
    let changed = json!({"l2_remote_gateway": {"ipaddr": "192.0.2.2"}});
    assert_eq!(server.put(&item, changed).await.0, 200);
    let same = json!({"l2_remote_gateway": {"ipaddr": "192.0.2.2"}});
    assert_eq!(server.put(&item, same).await.0, 200);
    server.get(&item).await;
    assert_eq!(server.delete(&item).await.0, 204);

    let [create, update, nothing, delete] = &records(&path)[..] else {
        panic!("{:?}", records(&path));
    };
    let source = create["source"].as_str().unwrap();
    assert!(source.starts_with("127.0.0.1:"), "{source}");
    for (record, action, method, status) in [
        (create, "create", "POST", 201),
        (update, "update", "PUT", 200),
        (nothing, "update", "PUT", 200),
        (delete, "delete", "DELETE", 204),
    ] {
        assert_eq!(record["action"], action);
        assert_eq!(record["method"], method);
        assert_eq!(record["status"], status);
        assert_eq!(record["user"], "admin");
        assert_eq!(record["roles"], json!(["admin"]));
        assert!(record["time"].as_str().unwrap().ends_with('Z'));
        assert!(record.get("error").is_none());
    }
    let change = |record: &Value| record["changes"][0].clone();
    assert_eq!(change(create)["before"], Value::Null);
    assert_eq!(change(create)["after"]["ipaddr"], "192.0.2.1");
    assert_eq!(change(create)["id"], created["id"]);
    assert_eq!(change(create)["resource"], "l2_remote_gateway");
    assert_eq!(change(update)["before"], change(create)["after"]);
    assert_eq!(change(update)["after"]["ipaddr"], "192.0.2.2");
    assert!(nothing.get("changes").is_none(), "{nothing}");
    assert_eq!(change(delete)["before"], change(update)["after"]);
    assert_eq!(change(delete)["after"], Value::Null);
    let ids: BTreeSet<_> = records(&path)
        .iter()
        .map(|it| it["request_id"].to_string())
        .collect();
    assert_eq!(ids.len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_record_has_the_id_that_the_client_was_given_and_the_one_it_gave() {
    let (server, path, _directory) = audited(|_| {}).await;
    let global = "req-00000000-0000-4000-8000-000000000001";
    let request = server.client.post(server.url("/v2.0/networks"));
    let request = request.header("X-Openstack-Request-Id", global);
    let request = request.header("X-Forwarded-For", "198.51.100.7");
    let response = request.body("{\"network\":{}}").send().await.unwrap();
    let given = response.headers()["x-openstack-request-id"]
        .to_str()
        .unwrap()
        .to_owned();
    let record = &records(&path)[0];
    assert_eq!(record["request_id"], given.as_str());
    assert_eq!(record["global_request_id"], global);
    assert_eq!(record["forwarded_for"], "198.51.100.7");
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_changes_are_recorded_with_the_reason_and_no_token_ever() {
    let directory = TempDir::new().unwrap();
    let tokens = directory.path().join("tokens");
    std::fs::write(
        &tokens,
        "- {token: secret-of-root-0123, user: root, project_id: ops, roles: [admin]}\n\
         - {token: secret-of-mary-0123, user: mary, project_id: shop, roles: [member]}\n",
    )
    .unwrap();
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(&tokens, std::fs::Permissions::from_mode(0o600)).unwrap();
    let (server, path, _directory) =
        audited(|options| options.auth.token_file = Some(tokens)).await;
    let network = "/v2.0/networks/00000000-0000-0000-0000-000000000000";
    let (root, mary) = ("secret-of-root-0123", "secret-of-mary-0123");
    for (token, method, path, body, status) in [
        (
            "secret-nobody-has",
            Method::POST,
            "/v2.0/networks",
            "{\"network\":{}}",
            401,
        ),
        (
            mary,
            Method::POST,
            "/v2.0/networks",
            "{\"network\":{}}",
            403,
        ),
        (mary, Method::DELETE, network, "", 403),
        (root, Method::DELETE, network, "", 404),
        (
            root,
            Method::POST,
            "/v2.0/networks",
            "{\"network\":{\"mtu\":\"x\"}}",
            400,
        ),
        (root, Method::POST, "/v2.0/networks", "{\"network\":", 400),
        (
            root,
            Method::POST,
            "/v2.0/networks",
            "{\"network\":{\"provider:segmentation_id\":7}}",
            201,
        ),
        (
            root,
            Method::POST,
            "/v2.0/networks",
            "{\"network\":{\"provider:segmentation_id\":7}}",
            409,
        ),
        (root, Method::PATCH, network, "{}", 405),
        (mary, Method::GET, network, "", 403),
    ] {
        let request = server.client.request(method, server.url(path));
        let request = request.header("X-Auth-Token", token).body(body);
        assert_eq!(
            request.send().await.unwrap().status(),
            status,
            "{path} {body}"
        );
    }
    // What was refused is not waited for: a change behind it is.
    let request = server.client.delete(server.url("/v2.0/quotas/nobody"));
    request.header("X-Auth-Token", root).send().await.unwrap();
    let request = server.client.post(server.url("/v2.0/networks"));
    let request = request
        .header("X-Auth-Token", root)
        .body("{\"network\":{}}");
    assert_eq!(request.send().await.unwrap().status(), 201);

    let told: Vec<_> = records(&path)
        .iter()
        .map(|record| {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            (
                record["status"].as_u64().unwrap(),
                text(&record["user"]),
                text(&record["error"]["type"]),
            )
        })
        .collect();
    let told: Vec<_> = told
        .iter()
        .map(|(s, u, t)| (*s, u.as_str(), t.as_str()))
        .collect();
    assert_eq!(
        told,
        [
            (401, "", ""),
            (403, "mary", "AdminRequired"),
            (403, "mary", "AdminRequired"),
            (404, "root", "NetworkNotFound"),
            (400, "root", "HTTPBadRequest"),
            (400, "root", "MalformedRequestBody"),
            (201, "root", ""),
            (409, "root", "TunnelIdInUse"),
            (405, "root", "HTTPMethodNotAllowed"),
            (404, "root", "TenantQuotaNotFound"),
            (201, "root", ""),
        ]
    );
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(!text.contains("secret"), "{text}");
    assert_eq!(records(&path)[1]["project_id"], "shop");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bulk_is_lines_of_bounded_length_and_so_is_what_goes_with_its_connection() {
    const COUNT: usize = 250;
    let (server, path, _directory) = audited(|_| {}).await;
    let connection = server.stretched(5).await;
    let before = records(&path).len();
    let macs: Vec<_> = (1..=COUNT)
        .map(|number| json!({"mac": mac(number), "rgw_connection": connection}))
        .collect();
    assert_eq!(
        server
            .post("/v2.0/l2-remote-macs", json!({"l2_remote_macs": macs}))
            .await
            .0,
        201
    );
    let item = format!("/v2.0/l2-remote-gateway-connections/{connection}");
    assert_eq!(server.delete(&item).await.0, 204);

    let records = records(&path).split_off(before);
    let (created, deleted) = records.split_at(3);
    assert_eq!(deleted.len(), 3, "the connection and its MACs");
    for (records, side) in [(created, "after"), (deleted, "before")] {
        let mut seen = BTreeSet::new();
        for (place, record) in records.iter().enumerate() {
            assert_eq!(
                (&record["part"], &record["parts"]),
                (&json!(place + 1), &json!(3))
            );
            assert_eq!(record["request_id"], records[0]["request_id"]);
            assert_eq!(record["user"], "admin", "each line says who");
            let changes = record["changes"].as_array().unwrap();
            assert!(changes.len() <= 100);
            seen.extend(
                changes
                    .iter()
                    .filter_map(|it| it[side]["mac"].as_str().map(str::to_owned)),
            );
        }
        assert_eq!(seen, (1..=COUNT).map(mac).collect());
    }
    assert_eq!(
        deleted[0]["changes"][0]["resource"],
        "l2_remote_gateway_connection"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn quotas_are_recorded_too() {
    let (server, path, _directory) = audited(|_| {}).await;
    let quota = json!({"quota": {"network": 7}});
    assert_eq!(server.put("/v2.0/quotas/shop", quota).await.0, 200);
    assert_eq!(server.delete("/v2.0/quotas/shop").await.0, 204);
    let records = records(&path);
    let set = json!([{"resource": "quota", "id": "shop", "before": null, "after": {"network": 7}}]);
    assert_eq!(records[0]["changes"], set);
    let unset =
        json!([{"resource": "quota", "id": "shop", "before": {"network": 7}, "after": null}]);
    assert_eq!(records[1]["changes"], unset);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_whose_client_went_away_is_recorded_all_the_same() {
    const COUNT: usize = 200;
    let (server, path, _directory) = audited(|_| {}).await;
    let address = server.address;
    tokio::task::spawn_blocking(move || {
        for _ in 0..COUNT {
            let mut stream = TcpStream::connect(address).unwrap();
            let request = b"POST /v2.0/networks HTTP/1.1\r\nHost: x\r\nContent-Length: 14\r\n\r\n{\"network\":{}}";
            stream.write_all(request).unwrap();
        }
    })
    .await
    .unwrap();
    // Some may have been forgotten before they began; of those that were made none may lack its record.
    let given_up = Instant::now() + Duration::from_secs(60);
    loop {
        let before = made(&server).await;
        let recorded: BTreeSet<_> = records_so_far(&path)
            .iter()
            .map(|record| record["changes"][0]["id"].as_str().unwrap().to_owned())
            .collect();
        let after = made(&server).await;
        if before == after && after == recorded && !after.is_empty() {
            break;
        }
        assert!(
            Instant::now() < given_up,
            "{} made, {} recorded",
            after.len(),
            recorded.len()
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn made(server: &Fixture) -> BTreeSet<String> {
    let networks = server.get("/v2.0/networks?fields=id").await;
    networks["networks"]
        .as_array()
        .unwrap()
        .iter()
        .map(id)
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_a_crash_cut_short_does_not_spoil_the_next() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("audit.log");
    std::fs::write(&path, "{\"time\":\"2026-01-31T12:0").unwrap();
    let log = path.clone();
    let server = Fixture::with(|options| options.audit.audit_log = Some(log)).await;
    server.network(1).await;
    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[0], "{\"time\":\"2026-01-31T12:0");
    for line in &lines[1..] {
        serde_json::from_str::<Value>(line).unwrap();
    }
}
