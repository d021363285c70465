//! What is told of devices, with a real ovsdb-server behind one.

use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hardware_vtep::{Database, Publication, PublishedPort};
use ovsdb::{Connection, ConnectionOptions};
use serde_json::{Value, json};
use testkit::ovsdb_server::{OvsdbServer, vtep_schema_without_locator_keys};

use crate::fixture::{Fixture, error};

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A switch `tor` with two ports, and eyes on it.
pub(crate) async fn switch() -> (OvsdbServer, Connection<Database>) {
    of(OvsdbServer::start().unwrap()).await
}

pub(crate) async fn of(switch: OvsdbServer) -> (OvsdbServer, Connection<Database>) {
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

pub(crate) async fn connected(switch: &OvsdbServer) -> Fixture {
    connected_with(switch, false).await
}

async fn connected_with(switch: &OvsdbServer, allow_unknown_devices: bool) -> Fixture {
    let target = switch.unix_target().parse().unwrap();
    let fixture = Fixture::with(|options| {
        options.switches.devices = vec![target];
        options.allow_unknown_devices = allow_unknown_devices;
    })
    .await;
    until(&fixture, "status", json!("ACTIVE")).await;
    fixture
}

/// Carries out commands of vtep-ctl(8).
fn vtep_ctl(switch: &OvsdbServer, commands: &str) {
    let done = Command::new("vtep-ctl")
        .arg(format!("--db={}", switch.unix_target()))
        .args(commands.split(' '))
        .status()
        .unwrap();
    assert!(done.success(), "{commands}");
}

/// The device as soon as an attribute of it has this value.
pub(crate) async fn until(fixture: &Fixture, attribute: &str, value: Value) -> Value {
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

pub(crate) async fn attached(fixture: &Fixture, port: &str) {
    let network = fixture.network(123).await;
    let gateway = fixture.gateway("tor", port).await;
    fixture.attach(&gateway, &network, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_tells_what_it_is_and_what_it_holds() {
    let (switch, _eyes) = switch().await;
    let fixture = connected(&switch).await;
    attached(&fixture, "p1").await;
    until(&fixture, "rows_held", json!(2)).await;
    let device = until(&fixture, "status", json!("ACTIVE")).await;
    assert_eq!(device["rows_wanted"], 2);
    for (what, count) in [("networks", 1), ("connections", 0), ("remote_macs", 0)] {
        assert_eq!(device[what], count, "{what}");
    }
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
    // When the write was answered, a moment after it was seen.
    let begun = Instant::now();
    let mut device = device;
    while device["written_at"].is_null() {
        assert!(begun.elapsed() < PATIENCE);
        device = until(&fixture, "status", json!("ACTIVE")).await;
    }
    for time in ["connected_since", "written_at"] {
        let text = device[time].as_str().unwrap();
        assert!(text.len() == 20 && text.ends_with('Z'), "{text}");
    }
    let all = fixture.get("/v2.0/l2_devices.json").await;
    assert_eq!(all["l2_devices"][0]["name"], "tor");
    assert_eq!(all["l2_devices"].as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_names_what_cannot_be() {
    let (switch, _eyes) = switch().await;
    let fixture = connected_with(&switch, true).await;
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
async fn a_network_whose_key_another_controller_has_there_is_refused_or_told() {
    let (switch, _eyes) = switch().await;
    let fixture = connected(&switch).await;
    attached(&fixture, "p1").await;
    until(&fixture, "rows_held", json!(2)).await;
    vtep_ctl(
        &switch,
        "add-ls theirs -- set Logical_Switch theirs tunnel_key=124 -- add-ls old -- set Logical_Switch old tunnel_key=123",
    );
    let words = |key: u32, theirs: &str| {
        format!(
            "logical switch {theirs} of another controller has VNI {key} too, and the two networks would be one; nothing is \
             added until it is deleted there or one of the two has another VNI"
        )
    };
    // What is there already is told.
    let device = until(&fixture, "status", json!("ERROR")).await;
    let networks = fixture.get("/v2.0/networks").await;
    let network = networks["networks"][0]["id"].as_str().unwrap();
    let line = format!("network {network}: {}", words(123, "old"));
    assert_eq!(device["status_reason"], line);
    assert_eq!(device["blocked"], json!([format!("! {line}")]));
    let plan = fixture.get("/v2.0/l2-devices/tor/plan").await;
    assert_eq!(plan["l2_device_plan"]["blocked"], device["blocked"]);

    // What would be new is not even accepted.
    let network = fixture.network(124).await;
    let gateway = fixture.gateway("tor", "p2").await;
    let connection =
        json!({"l2_gateway_id": gateway, "network_id": network, "segmentation_id": "7"});
    let refusal = fixture
        .refused("l2-gateway-connections", connection.clone())
        .await;
    let message = format!(
        "Network {network} cannot be on device tor: {}",
        words(124, "theirs")
    );
    let kind = "L2GatewayDuplicateSegmentationID".to_owned();
    assert_eq!(refusal, (409, kind, message));

    vtep_ctl(&switch, "del-ls theirs -- del-ls old");
    until(&fixture, "status", json!("ACTIVE")).await;
    fixture.create("l2-gateway-connections", connection).await;
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
    let unknown = json!({"network_id": "5b3e4c7e-6f0e-4d5e-8a44-4d6f8a1c7b10"});
    let (status, kind, _) = error(fixture.post(path, unknown).await);
    assert_eq!((status, &*kind), (404, "NetworkNotFound"));
    let (status, kind, _) = error(fixture.post(path, json!({"networks": []})).await);
    assert_eq!((status, &*kind), (400, "MalformedRequestBody"));
    let (status, _) = fixture.post(path, json!({})).await;
    assert_eq!(status, 204);
    let device = until(&fixture, "status", json!("ACTIVE")).await;
    assert_eq!(device["rows_held"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_whose_lock_somebody_else_has_says_so() {
    let (switch, eyes) = switch().await;
    let fixture = connected(&switch).await;
    let (session, _) = eyes.up().await;
    let lock = session.steal("l2gw").await.unwrap();
    let device = until(&fixture, "status", json!("ERROR")).await;
    let words = device["withheld"].as_str().unwrap();
    let begin = "another controller has the lock l2gw of the switch's database since 20";
    let end = "end the other one, or take the switch out of this one's --device";
    assert!(words.starts_with(begin) && words.ends_with(end), "{words}");
    assert_eq!(
        device["status_reason"],
        format!("nothing is written: {words}")
    );
    let path = "/v2.0/l2-devices/tor/accept-removal";
    let refusal = error(fixture.post(path, json!({})).await);
    let kind = "L2GatewayDeviceLocked".to_owned();
    assert_eq!(refusal, (409, kind, words.to_owned()));
    attached(&fixture, "p1").await;
    until(&fixture, "rows_wanted", json!(2)).await;
    let plan = fixture.get("/v2.0/l2-devices/tor/plan").await;
    let plan = &plan["l2_device_plan"];
    assert_eq!(
        (&plan["steps"], &plan["withheld"]),
        (&json!([]), &json!(words))
    );
    assert_eq!(plan["waiting"].as_array().unwrap().len(), 2);

    session.unlock(lock).await.unwrap();
    let device = until(&fixture, "rows_held", json!(2)).await;
    assert_eq!(device["withheld"], json!(null));
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

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_is_gone_for_good_is_forgotten_and_one_in_use_is_not() {
    let (switch, _eyes) = switch().await;
    let target: ovsdb::Endpoint = switch.unix_target().parse().unwrap();
    let connected = connected(&switch).await;
    let path = "/v2.0/l2-devices/tor";
    let (status, kind, message) = error(connected.delete(path).await);
    assert_eq!((status, &*kind), (409, "L2GatewayDeviceInUse"));
    let words = format!("L2 Gateway Device 'tor' is still used: it is behind {target}; ");
    assert!(message.starts_with(&words), "{message}");
    connected.end().await.unwrap().unwrap();

    let fixture = Fixture::that_saw(&["tor", "other"]).await;
    let gateway = fixture.gateway("tor", "p1").await;
    let refusal = error(fixture.delete(path).await);
    let kind = "L2GatewayDeviceInUse".to_owned();
    let message = format!(
        "L2 Gateway Device 'tor' is still used: gateways name it, delete those first: {gateway}"
    );
    assert_eq!(refusal, (409, kind, message));
    let (status, _) = fixture
        .delete(&format!("/v2.0/l2-gateways/{gateway}"))
        .await;
    assert_eq!(status, 204);
    assert_eq!(fixture.delete(path).await.0, 204);
    let left = fixture.get("/v2.0/l2-devices").await;
    assert_eq!(left["l2_devices"].as_array().unwrap().len(), 1);
    assert_eq!(left["l2_devices"][0]["name"], "other");
    let (status, kind, _) = error(fixture.delete(path).await);
    assert_eq!((status, &*kind), (404, "L2GatewayDeviceNotFound"));
    // Nor may connections use it any more.
    let gateway = fixture.gateway("tor", "p1").await;
    let network = fixture.network(123).await;
    let connection =
        json!({"l2_gateway_id": gateway, "network_id": network, "segmentation_id": "0"});
    let refusal = fixture.refused("l2-gateway-connections", connection).await;
    assert_eq!((refusal.0, &*refusal.1), (404, "L2GatewayDeviceNotFound"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_switch_learns_is_listed_by_network_and_device() {
    let (switch, eyes) = switch().await;
    let fixture = connected(&switch).await;
    let network = fixture.network(123).await;
    let gateway = fixture.gateway("tor", "p1").await;
    fixture.attach(&gateway, &network, 7).await;
    until(&fixture, "rows_held", json!(2)).await;
    let learnt = [(
        model::switch::LogicalSwitchName::new(network.as_str()),
        [("02:00:00:00:00:07".parse().unwrap(), None)].into(),
    )];
    let (session, _) = eyes.up().await;
    let here = "192.0.2.9".parse().unwrap();
    let begun = Instant::now();
    // The eyes may not have seen the network yet.
    while hardware_vtep::publish_local_macs(&session, eyes.replica(), here, &learnt.clone().into())
        .await
        .unwrap()
        == 0
    {
        assert!(begun.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let expected = json!([{
        "mac_address": "02:00:00:00:00:07", "ip_address": null, "network_id": network,
        "device": "tor", "port": "p1", "vlan": 7, "tunnel_ip": "192.0.2.9",
    }]);
    loop {
        let macs = fixture.get("/v2.0/l2-local-macs").await;
        if macs["l2_local_macs"] == expected {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "{macs}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for (query, count) in [
        (format!("network_id={network}&device=tor"), 1),
        ("device=tor2".to_owned(), 0),
    ] {
        let macs = fixture.get(&format!("/v2.0/l2-local-macs?{query}")).await;
        assert_eq!(
            macs["l2_local_macs"].as_array().unwrap().len(),
            count,
            "{query}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switch_without_keys_of_tunnels_carries_the_networks_own_and_refuses_others() {
    let schema = vtep_schema_without_locator_keys().unwrap();
    let (switch, _eyes) = of(OvsdbServer::with_schema(&schema).unwrap()).await;
    let fixture = connected(&switch).await;
    let network = fixture.network(123).await;
    let gateway = fixture.gateway("tor", "p1").await;
    fixture.attach(&gateway, &network, 0).await;
    let remote = fixture.remote_gateway("203.0.113.7").await;
    let stretch = |key: u32| {
        json!({
            "l2_gateway_id": gateway, "network_id": network, "l2_remote_gateway_id": remote,
            "segmentation_id": key,
        })
    };
    let collection = "l2-remote-gateway-connections";
    let (status, kind, message) = fixture.refused(collection, stretch(456)).await;
    assert_eq!((status, &*kind), (409, "L2RemoteGatewayDeviceUnable"));
    assert!(
        message.contains("switch tor cannot use tunnel key 456"),
        "{message}"
    );

    let connection = fixture.create(collection, stretch(123)).await;
    let path = format!("/v2.0/{collection}/{}", connection["id"].as_str().unwrap());
    let begun = Instant::now();
    loop {
        let shown = fixture.get(&path).await;
        if shown["l2_remote_gateway_connection"]["status"] == "ACTIVE" {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "{shown}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let device = until(&fixture, "status", json!("ACTIVE")).await;
    assert_eq!(device["rows_held"], 3, "the flood row too");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_switch_cannot_bind_is_refused_before_anything_is_written() {
    let (switch, eyes) = switch().await;
    let fixture = connected(&switch).await;
    let (session, _) = eyes.up().await;
    // Another controller has VLAN 7 of p1.
    vtep_ctl(&switch, "add-ls theirs -- bind-ls tor p1 7 theirs");
    let begun = Instant::now();
    while eyes
        .replica()
        .read(|held| held.unwrap().state().bindings.is_empty())
    {
        assert!(begun.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let network = fixture.network(123).await;
    let refusal = async |port: &str, vlan: &str| {
        let gateway = fixture.gateway("tor", port).await;
        let connection = json!({
            "l2_gateway_id": gateway, "network_id": network, "segmentation_id": vlan,
        });
        fixture.refused("l2-gateway-connections", connection).await
    };
    let (status, kind, message) = refusal("p1", "7").await;
    assert_eq!((status, &*kind), (409, "L2GatewayDuplicateSegmentationID"));
    assert!(
        message.ends_with("bound to logical switch theirs of another controller"),
        "{message}"
    );
    let (status, kind, _) = refusal("p9", "7").await;
    assert_eq!((status, &*kind), (404, "L2GatewayInterfaceNotFound"));
    // Nor is a gateway changed to have what its switch has not, or what its connection cannot have.
    let elsewhere = fixture.gateway("tor", "p2").await;
    let attachment = fixture.attach(&elsewhere, &network, 7).await;
    let path = format!("/v2.0/l2-gateways/{elsewhere}");
    let changed = async |port: &str| {
        let devices = json!([{"device_name": "tor", "interfaces": [{"name": port}]}]);
        fixture
            .put(&path, json!({"l2_gateway": {"devices": devices}}))
            .await
    };
    let (status, kind, message) = error(changed("p9").await);
    assert_eq!((status, &*kind), (404, "L2GatewayPhysicalPortNotFound"));
    assert_eq!(
        message,
        "Physical Port 'p9' in Physical switch 'tor' could not be found"
    );
    let (status, kind, _) = error(changed("p1").await);
    assert_eq!((status, &*kind), (409, "L2GatewayDuplicateSegmentationID"));
    let shown = fixture.get(&path).await;
    assert_eq!(
        shown["l2_gateway"]["devices"][0]["interfaces"][0]["name"],
        "p2"
    );
    let attachment = attachment["id"].as_str().unwrap();
    let (status, _) = fixture
        .delete(&format!("/v2.0/l2-gateway-connections/{attachment}"))
        .await;
    assert_eq!(status, 204);

    let publication = Publication {
        name: "tor".into(),
        tunnel_ips: ["192.0.2.9".parse().unwrap()].into(),
        ports: [
            ("p1", PublishedPort::default()),
            (
                "p2",
                PublishedPort {
                    faults: ["invalid_vlan_map".to_owned()].into(),
                    ..PublishedPort::default()
                },
            ),
        ]
        .map(|(port, published)| (Arc::from(port), published))
        .into(),
        ..Publication::default()
    };
    hardware_vtep::publish(&session, eyes.replica(), &publication)
        .await
        .unwrap();
    until(&fixture, "faults", json!("invalid_vlan_map on port p2")).await;
    let (status, kind, message) = refusal("p2", "8").await;
    assert_eq!((status, &*kind), (409, "L2GatewayPhysicalPortFaultStatus"));
    assert_eq!(
        message,
        "Physical Port 'p2' in Physical switch 'tor' port_fault_status is 'invalid_vlan_map'"
    );
    assert_eq!(
        fixture.get("/v2.0/l2-gateway-connections").await["l2_gateway_connections"],
        json!([])
    );

    // Warnings, and what concerns other networks, are in nobody's way.
    let elsewhere_cut = "logical switch elsewhere: cut off the WAN because of a loop";
    let bystander = Publication {
        faults: [elsewhere_cut.to_owned()].into(),
        ports: ["p1", "p2"]
            .map(|port| {
                let faults = ["warning: flaps".to_owned()].into();
                let published = PublishedPort {
                    faults,
                    ..PublishedPort::default()
                };
                (Arc::from(port), published)
            })
            .into(),
        ..publication
    };
    hardware_vtep::publish(&session, eyes.replica(), &bystander)
        .await
        .unwrap();
    let told = format!("{elsewhere_cut}, warning: flaps on port p1, warning: flaps on port p2");
    until(&fixture, "faults", json!(told)).await;
    fixture.attach(&elsewhere, &network, 8).await;
}
