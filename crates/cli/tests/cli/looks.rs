//! Looking at switches: devices, plans, audits.

use insta::assert_snapshot;
use serde_json::{Value, json};

use crate::service::Service;

fn device(name: &str, status: &str) -> Value {
    json!({
        "name": name, "status": status, "status_reason": null, "endpoint": "tcp:192.0.2.7:6640",
        "connected_since": "2026-11-23T07:00:00Z", "schema_version": "1.7.0",
        "rows_wanted": 12, "rows_held": 12, "lacking": 0, "extra": 0, "networks": 1, "connections": 1,
    })
}

fn plan(name: &str, endpoint: &str, steps: &[&str], waiting: &[&str]) -> Value {
    let withheld = (!waiting.is_empty()).then_some("it is another database");
    json!({"l2_device_plan": {
        "name": name, "endpoint": endpoint, "steps": steps, "waiting": waiting, "blocked": [],
        "withheld": withheld,
    }})
}

#[tokio::test]
async fn devices_are_listed_in_columns() {
    let devices = [device("tor1", "ACTIVE"), device("tor2", "BUILD")];
    let service =
        Service::start()
            .await
            .on("GET /v2.0/l2-devices", 200, json!({"l2_devices": devices}));
    let typed = service.types(&["device", "list"]).await;
    assert_eq!(typed.code, 0, "{}", typed.err);
    assert_snapshot!(typed.out, @r"
    +------+--------+--------------------+----------------------+-------------+-----------+---------+-------+
    | name | status | endpoint           | connected_since      | rows_wanted | rows_held | lacking | extra |
    +------+--------+--------------------+----------------------+-------------+-----------+---------+-------+
    | tor1 | ACTIVE | tcp:192.0.2.7:6640 | 2026-11-23T07:00:00Z |          12 |        12 |       0 |     0 |
    | tor2 | BUILD  | tcp:192.0.2.7:6640 | 2026-11-23T07:00:00Z |          12 |        12 |       0 |     0 |
    +------+--------+--------------------+----------------------+-------------+-----------+---------+-------+
    ");
    let again = service.types(&["l2-device-list"]).await;
    assert_eq!(again.out, typed.out);
}

#[tokio::test]
async fn one_device_is_shown_by_its_name() {
    let service = Service::start().await.on(
        "GET /v2.0/l2-devices/tor1",
        200,
        json!({"l2_device": device("tor1", "ACTIVE")}),
    );
    let typed = service
        .types(&["device", "show", "tor1", "-f", "value", "-c", "status"])
        .await;
    assert_eq!((typed.code, &*typed.out), (0, "ACTIVE\n"), "{}", typed.err);
}

#[tokio::test]
async fn an_audit_fails_exactly_when_something_differs() {
    let service = Service::start()
        .await
        .on(
            "GET /v2.0/l2-devices/tor1/plan",
            200,
            plan("tor1", "unix:/a", &[], &[]),
        )
        .on(
            "GET /v2.0/l2-devices/tor2/plan",
            200,
            plan(
                "tor2",
                "unix:/b",
                &["+ logical switch a key 1"],
                &["- logical switch b"],
            ),
        );
    let right = service.types(&["audit", "tor1"]).await;
    assert_eq!(
        (right.code, &*right.out),
        (0, "# tor1 at unix:/a: as it should be\n")
    );
    let wrong = service.types(&["audit", "tor2"]).await;
    assert_eq!(wrong.code, 1);
    assert_eq!(wrong.err, "not as it should be: tor2\n");
    assert_snapshot!(wrong.out, @r"
    # tor2 at unix:/b: 1 to do, 1 waiting, 0 blocked
    + logical switch a key 1
    # waiting: it is another database
    - logical switch b
    ");
    let formatted = service.types(&["audit", "tor2", "-f", "json"]).await;
    assert_eq!((formatted.code, &*formatted.err), (1, &*wrong.err));
    let records: Value = serde_json::from_str(&formatted.out).unwrap();
    assert_eq!(records[0]["steps"], json!(["+ logical switch a key 1"]));
    assert_eq!(records[0]["withheld"], "it is another database");
    let drawn = service.types(&["plan", "tor2", "-f", "table"]).await;
    assert_snapshot!(drawn.out, @r"
    +------+----------+--------------------------+--------------------+---------+------------------------+
    | name | endpoint | steps                    | waiting            | blocked | withheld               |
    +------+----------+--------------------------+--------------------+---------+------------------------+
    | tor2 | unix:/b  | + logical switch a key 1 | - logical switch b |         | it is another database |
    +------+----------+--------------------------+--------------------+---------+------------------------+
    ");
    // A plan is only told.
    let plan = service.types(&["plan", "tor2"]).await;
    assert_eq!((plan.code, plan.out), (0, wrong.out));
}

/// Monitoring must not take a question without an answer for a difference, nor for none.
#[tokio::test]
async fn an_audit_that_cannot_be_made_has_an_exit_code_of_its_own() {
    let unknown = json!({"NeutronError": {
        "type": "L2GatewayDeviceNotFound", "message": "L2 Gateway Device tor9 could not be found.", "detail": "",
    }});
    let service = Service::start()
        .await
        .on("GET /v2.0/l2-devices/tor9/plan", 404, unknown);
    let typed = service.types(&["audit", "tor9"]).await;
    assert_eq!(typed.code, 2);
    assert!(
        typed.err.contains("tor9 could not be found"),
        "{}",
        typed.err
    );
    let typed = service.types(&["plan", "tor9"]).await;
    assert_eq!(typed.code, 1);
    let nobody = ["--os-endpoint", "http://127.0.0.1:1", "audit"];
    let typed = service.types(&nobody).await;
    assert_eq!(typed.code, 2, "{}", typed.err);
}

#[tokio::test]
async fn all_devices_are_audited_and_each_database_once() {
    let away = |name: &str| {
        let message = format!("switch {name} is away: refused");
        json!({"NeutronError": {"type": "L2GatewayDeviceAway", "message": message, "detail": ""}})
    };
    let mut devices = ["tor1", "tor2", "tor3", "old"].map(|name| device(name, "ACTIVE"));
    // One that is gone for good is missed by nobody.
    devices[3]["networks"] = json!(0);
    devices[3]["connections"] = json!(0);
    let service = Service::start()
        .await
        .on("GET /v2.0/l2-devices/tor3/plan", 409, away("tor3"))
        .on("GET /v2.0/l2-devices/old/plan", 409, away("old"))
        .on(
            "GET /v2.0/l2-devices/tor1/plan",
            200,
            plan("tor1", "unix:/a", &[], &[]),
        )
        .on(
            "GET /v2.0/l2-devices/tor2/plan",
            200,
            plan("tor2", "unix:/a", &[], &[]),
        )
        .on("GET /v2.0/l2-devices", 200, json!({"l2_devices": devices}));
    let typed = service.types(&["audit"]).await;
    assert_eq!(typed.code, 2);
    assert_eq!(typed.err, "cannot be compared: tor3\n");
    assert_snapshot!(typed.out, @r"
    # tor1 at unix:/a: as it should be
    # switch tor3 is away: refused
    # switch old is away: refused; nothing is declared for it
    ");
    let yaml = service
        .types(&["plan", "-f", "yaml", "-c", "name", "-c", "withheld"])
        .await;
    assert_snapshot!(yaml.out, @r"
    - name: tor1
      withheld: null
    - name: tor3
      withheld: 'switch tor3 is away: refused'
    - name: old
      withheld: 'switch old is away: refused'
    ");
}

#[tokio::test]
async fn where_there_is_no_switch_to_compare_that_is_said() {
    let service = Service::start()
        .await
        .on("GET /v2.0/l2-devices", 200, json!({"l2_devices": []}));
    for command in ["plan", "audit"] {
        let typed = service.types(&[command]).await;
        let said = "# no switch has connected to this server yet: see --device and --ovsdb-listen of `l2gw server`\n";
        assert_eq!((typed.code, &*typed.out), (0, said), "{}", typed.err);
    }
    let formatted = service.types(&["audit", "-f", "json"]).await;
    assert_eq!((formatted.code, formatted.out.trim()), (0, "[]"));
}

#[tokio::test]
async fn consent_to_removals_needs_a_name() {
    let service = Service::start().await.on(
        "POST /v2.0/l2-devices/tor1/accept-removal",
        204,
        json!(null),
    );
    let typed = service.types(&["audit", "--accept-removal", "tor1"]).await;
    assert_eq!(
        (typed.code, &*typed.out),
        (0, "Accepted removals on device: tor1\n"),
        "{}",
        typed.err
    );
    let network = "5b3e4c7e-6f0e-4d5e-8a44-4d6f8a1c7b10";
    for (line, done) in [
        (
            &["adopt", "tor1", "--network", network][..],
            "Agreed to adoption",
        ),
        (
            &["audit", "tor1", "--accept-removal", "--network", network],
            "Accepted removals",
        ),
    ] {
        let typed = service.types(line).await;
        let said = format!("{done} on device: tor1, network {network}\n");
        assert_eq!((typed.code, typed.out), (0, said), "{}", typed.err);
        let asked = service.asked();
        assert!(
            asked.ends_with(&format!(r#"{{"network_id":"{network}"}}"#)),
            "{asked}"
        );
    }
    let nameless = service.types(&["audit", "--accept-removal"]).await;
    assert_eq!(nameless.code, 2);
}

#[tokio::test]
async fn devices_that_are_gone_for_good_are_forgotten_one_after_the_other() {
    let used = json!({"NeutronError": {
        "type": "L2GatewayDeviceInUse", "message": "L2 Gateway Device 'tor2' is still used: it is behind tcp:192.0.2.1:6640", "detail": "",
    }});
    let service = Service::start()
        .await
        .on("DELETE /v2.0/l2-devices/tor1", 204, json!(null))
        .on("DELETE /v2.0/l2-devices/tor2", 409, used);
    let typed = service.types(&["device", "delete", "tor1"]).await;
    assert_eq!(
        (typed.code, &*typed.out),
        (0, "Deleted l2_device(s): tor1\n"),
        "{}",
        typed.err
    );
    let typed = service.types(&["l2-device-delete", "tor1", "tor2"]).await;
    assert_eq!(
        (typed.code, &*typed.out),
        (1, "Deleted l2_device(s): tor1\n")
    );
    assert!(
        typed.err.contains("it is behind tcp:192.0.2.1:6640"),
        "{}",
        typed.err
    );
}
