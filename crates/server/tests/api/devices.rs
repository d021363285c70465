//! What is told of devices, with a real ovsdb-server behind one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hardware_vtep::{Database, Publication, PublishedPort};
use ovsdb::{Connection, ConnectionOptions, Operation, Transaction};
use serde_json::{Value, json};
use testkit::ovsdb_server::OvsdbServer;

use crate::fixture::{Fixture, error};

const PATIENCE: Duration = Duration::from_secs(20);

/// A switch `tor` with two ports, and eyes on it.
async fn switch() -> (OvsdbServer, Connection<Database>) {
    let switch = OvsdbServer::start().unwrap();
    let eyes: Connection<Database> = Connection::start(
        switch.unix_target().parse().unwrap(),
        hardware_vtep::NAME,
        ConnectionOptions::default(),
    );
    let (session, _) = eyes.up().await;
    let publication = Publication {
        name: "tor".into(),
        tunnel_ips: ["192.0.2.9".parse().unwrap()].into(),
        ports: ["p1", "p2"]
            .map(|port| (Arc::from(port), PublishedPort::default()))
            .into(),
        ..Publication::default()
    };
    hardware_vtep::publish(&session, eyes.replica(), &publication)
        .await
        .unwrap();
    (switch, eyes)
}

async fn connected(switch: &OvsdbServer) -> Fixture {
    let target = switch.unix_target().parse().unwrap();
    let fixture = Fixture::with(|options| options.switches.devices = vec![target]).await;
    until(&fixture, "status", json!("ACTIVE")).await;
    fixture
}

/// The device as soon as an attribute of it has this value.
async fn until(fixture: &Fixture, attribute: &str, value: Value) -> Value {
    let begun = Instant::now();
    loop {
        let (_, mut body) = fixture
            .call(reqwest::Method::GET, "/v2.0/l2-devices/tor", None)
            .await;
        if body["l2_device"][attribute] == value {
            return body["l2_device"].take();
        }
        assert!(
            begun.elapsed() < PATIENCE,
            "{attribute} is not {value}: {body}"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn attached(fixture: &Fixture, port: &str) {
    let network = fixture.network(123).await;
    let gateway = fixture.gateway("tor", port).await;
    fixture.attach(&gateway, &network, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_tells_what_it_is_and_what_it_holds() {
    let (switch, _eyes) = switch().await;
    let fixture = connected(&switch).await;
    attached(&fixture, "p1").await;
    let device = until(&fixture, "rows_held", json!(2)).await;
    assert_eq!(device["rows_wanted"], 2);
    assert_eq!(
        (&device["lacking"], &device["extra"]),
        (&json!(0), &json!(0))
    );
    assert_eq!(device["endpoint"], switch.unix_target());
    assert_eq!(device["ports"], json!(["p1", "p2"]));
    assert_eq!(device["tunnel_ips"], json!(["192.0.2.9"]));
    assert_eq!(device["schema_version"], "1.7.0");
    let capabilities = device["capabilities"].as_array().unwrap();
    assert!(capabilities.contains(&json!("Physical_Locator.tunnel_key")));
    for time in ["connected_since", "written_at"] {
        let text = device[time].as_str().unwrap();
        assert!(text.len() == 20 && text.ends_with('Z'), "{text}");
    }
    let all = fixture.get("/v2.0/l2_devices.json").await;
    assert_eq!(all["l2_devices"][0]["name"], "tor");
    assert_eq!(all["l2_devices"].as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_names_what_the_switch_lacks_and_what_cannot_be() {
    let (switch, eyes) = switch().await;
    // Somebody else has the port.
    let (session, _) = eyes.up().await;
    let theirs = ovsdb::Row::new().with("name", "theirs");
    session
        .transact(
            hardware_vtep::NAME,
            &Transaction::new().with(Operation::insert("Logical_Switch", theirs)),
        )
        .await
        .unwrap();
    let fixture = connected(&switch).await;
    attached(&fixture, "p9").await;
    let device = until(&fixture, "rows_held", json!(1)).await;
    assert_eq!(device["status"], "ERROR");
    let blocked = "tor:p9 vlan 0 cannot be bound: the switch has no such port";
    assert_eq!(device["status_reason"], blocked);
    let plan = fixture.get("/v2.0/l2-devices/tor/plan").await;
    let plan = &plan["l2_device_plan"];
    assert_eq!((&plan["steps"], &plan["waiting"]), (&json!([]), &json!([])));
    let line = plan["blocked"][0].as_str().unwrap();
    assert!(line.starts_with("! binding tor:p9 vlan 0 to "), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_database_left_waits_for_consent() {
    let (switch, _eyes) = switch().await;
    let before = connected(&switch).await;
    attached(&before, "p1").await;
    until(&before, "rows_held", json!(2)).await;
    before.end().await.unwrap().unwrap();

    let target = switch.unix_target().parse().unwrap();
    let fixture = Fixture::with(|options| options.switches.devices = vec![target]).await;
    let device = until(&fixture, "status", json!("ERROR")).await;
    let withheld = device["withheld"].as_str().unwrap();
    assert!(withheld.contains("another database"), "{withheld}");
    assert_eq!(
        (&device["rows_held"], &device["extra"]),
        (&json!(2), &json!(2))
    );
    let plan = fixture.get("/v2.0/l2-devices/tor/plan").await;
    assert_eq!(plan["l2_device_plan"]["steps"], json!([]));
    let waiting = plan["l2_device_plan"]["waiting"].as_array().unwrap();
    assert_eq!(waiting.len(), 2, "{waiting:?}");

    let path = "/v2.0/l2-devices/tor/accept-removal";
    let (status, _) = fixture.post(path, json!({})).await;
    assert_eq!(status, 204);
    let device = until(&fixture, "status", json!("ACTIVE")).await;
    assert_eq!(device["rows_held"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_that_are_away_are_known_and_cannot_be_compared() {
    let fixture = Fixture::that_saw(&["tor"]).await;
    let device = until(&fixture, "status", json!("DOWN")).await;
    let reason = "switch tor has not connected since the server started";
    assert_eq!(device["status_reason"], reason);
    let plan = fixture
        .call(reqwest::Method::GET, "/v2.0/l2-devices/tor/plan", None)
        .await;
    let expected = (409, "L2GatewayDeviceAway".to_owned(), reason.to_owned());
    assert_eq!(error(plan), expected);

    let unknown = fixture
        .call(reqwest::Method::GET, "/v2.0/l2-devices/tor2", None)
        .await;
    assert_eq!(
        error(unknown),
        (
            404,
            "L2GatewayDeviceNotFound".to_owned(),
            "L2 Gateway Device tor2 could not be found.".to_owned()
        )
    );
}
