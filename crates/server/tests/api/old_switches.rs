//! Switches whose schema is older than what is asked of them: told when it is asked, and in statuses when it could not be.

use std::time::Instant;

use reqwest::Method;
use serde_json::{Value, json};
use testkit::ovsdb_server::{
    OvsdbServer, vtep_schema_without_locator_keys, vtep_schema_without_tunnels,
};

use crate::devices::{PATIENCE, connected, of, until};
use crate::fixture::{Fixture, error, id};

const CONNECTIONS: &str = "l2-remote-gateway-connections";

/// A server with an old switch `tor` that has a network.
struct Old {
    fixture: Fixture,
    gateway: String,
    network: String,
    switch: OvsdbServer,
}

impl Old {
    async fn start(schema: &str) -> Self {
        let (switch, _eyes) = of(OvsdbServer::with_schema(schema).unwrap()).await;
        let fixture = connected(&switch).await;
        let network = fixture.network(123).await;
        let gateway = fixture.gateway("tor", "p1").await;
        fixture.attach(&gateway, &network, 0).await;
        Self {
            fixture,
            gateway,
            network,
            switch,
        }
    }

    /// A station of the network on this host.
    async fn station(&self, number: u8, host: &str) -> String {
        let port = json!({
            "network_id": self.network, "mac_address": format!("02:00:00:00:00:{number:02x}"),
            "binding:profile": {"tunneling_ip": host},
        });
        id(&self.fixture.create("ports", port).await)
    }

    /// A connection with the network's own key, as every switch can have it.
    fn connection(&self, remote: &str, flood: bool) -> Value {
        json!({
            "l2_gateway_id": self.gateway, "network_id": self.network, "l2_remote_gateway_id": remote,
            "segmentation_id": 123, "flood": flood,
        })
    }

    async fn until_status(&self, collection: &str, id: &str, status: &str) -> Value {
        let begun = Instant::now();
        let path = format!("/v2.0/{collection}/{id}");
        loop {
            let mut body = self.fixture.get(&path).await;
            let shown = body[crate::fixture::member(collection)].take();
            if shown["status"] == status {
                return shown["status_reason"].clone();
            }
            assert!(begun.elapsed() < PATIENCE, "not {status}: {shown}");
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switch_that_floods_to_one_destination_alone_is_not_asked_for_two() {
    let old = Old::start(&vtep_schema_without_locator_keys().unwrap()).await;
    let [one, other] = ["203.0.113.7", "203.0.113.8"].map(|ip| old.fixture.remote_gateway(ip));
    let (one, other) = (one.await, other.await);
    // One destination is what it floods to.
    let connection = old
        .fixture
        .create(CONNECTIONS, old.connection(&one, true))
        .await;
    let connection = id(&connection);
    old.until_status(CONNECTIONS, &connection, "ACTIVE").await;
    let (status, kind, message) = old
        .fixture
        .refused(CONNECTIONS, old.connection(&other, true))
        .await;
    assert_eq!((status, &*kind), (409, "L2RemoteGatewayDeviceUnable"));
    let words = "switch tor floods to one destination alone, and the network has 2 there: its schema has no \
                 Logical_Switch.replication_mode; connect without flooding and declare the remote MACs";
    assert_eq!(message, words);
    let quiet = old
        .fixture
        .create(CONNECTIONS, old.connection(&other, false))
        .await;
    old.until_status(CONNECTIONS, &id(&quiet), "ACTIVE").await;

    // Hosts come without asking.
    let station = old.station(1, "192.0.2.1").await;
    let reason = old.until_status(CONNECTIONS, &connection, "ERROR").await;
    assert_eq!(reason, words);
    old.until_status("l2-remote-gateways", &one, "ERROR").await;
    // What is not flooded is none the worse.
    old.until_status(CONNECTIONS, &id(&quiet), "ACTIVE").await;
    let mac = json!({"mac": "02:00:00:00:0b:01", "rgw_connection": connection});
    let mac = id(&old.fixture.create("l2-remote-macs", mac).await);
    old.until_status("l2-remote-macs", &mac, "ACTIVE").await;
    let (status, _) = old.fixture.delete(&format!("/v2.0/ports/{station}")).await;
    assert_eq!(status, 204);
    old.until_status(CONNECTIONS, &connection, "ACTIVE").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switch_without_tunnels_is_driven_and_not_asked_to_watch_any() {
    let old = Old::start(&vtep_schema_without_tunnels().unwrap()).await;
    let watched = json!({"name": "far", "ipaddr": "203.0.113.7", "bfd": true});
    let watched = id(&old.fixture.create("l2-remote-gateways", watched).await);
    let refusal = old
        .fixture
        .refused(CONNECTIONS, old.connection(&watched, true));
    let (status, kind, message) = refusal.await;
    assert_eq!((status, &*kind), (409, "L2RemoteGatewayDeviceUnable"));
    let words = "switch tor cannot watch tunnels by BFD: its schema has no Tunnel.bfd_params";
    assert_eq!(message, words);

    let path = format!("/v2.0/l2-remote-gateways/{watched}");
    let watch = |bfd: bool| json!({"l2_remote_gateway": {"bfd": bfd}});
    assert_eq!(old.fixture.put(&path, watch(false)).await.0, 200);
    let connection = old
        .fixture
        .create(CONNECTIONS, old.connection(&watched, true))
        .await;
    old.until_status(CONNECTIONS, &id(&connection), "ACTIVE")
        .await;
    let (status, kind, message) = error(old.fixture.put(&path, watch(true)).await);
    assert_eq!(
        (status, &*kind, &*message),
        (409, "L2RemoteGatewayDeviceUnable", words)
    );

    let device = until(&old.fixture, "status", json!("ACTIVE")).await;
    assert_eq!(device["schema_version"], "1.2.0");
    assert_eq!(device["capabilities"], json!(["Global.other_config"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_declared_while_an_old_switch_was_away_says_so_when_it_comes() {
    let (mut switch, _eyes) =
        of(OvsdbServer::with_schema(&vtep_schema_without_tunnels().unwrap()).unwrap()).await;
    let fixture = connected(&switch).await;
    let network = fixture.network(123).await;
    let gateway = fixture.gateway("tor", "p1").await;
    fixture.attach(&gateway, &network, 0).await;
    until(&fixture, "status", json!("ACTIVE")).await;
    switch.kill().unwrap();
    until(&fixture, "status", json!("DOWN")).await;
    let remote = json!({"name": "far", "ipaddr": "203.0.113.7", "bfd": true});
    let remote = id(&fixture.create("l2-remote-gateways", remote).await);
    let old = Old {
        fixture,
        gateway,
        network,
        switch,
    };
    let connection = old
        .fixture
        .create(CONNECTIONS, old.connection(&remote, false))
        .await;
    let mut old = old;
    old.switch.start_again().unwrap();
    let reason = old
        .until_status(CONNECTIONS, &id(&connection), "ERROR")
        .await;
    let words = "switch tor cannot watch tunnels by BFD: its schema has no Tunnel.bfd_params";
    assert_eq!(reason, words);
    let bfd = json!({"l2_remote_gateway": {"bfd": false}});
    let path = format!("/v2.0/l2-remote-gateways/{remote}");
    let (status, _) = old.fixture.call(Method::PUT, &path, Some(&bfd)).await;
    assert_eq!(status, 200);
    old.until_status(CONNECTIONS, &id(&connection), "ACTIVE")
        .await;
}

/// An audit must not call a switch right that lacks what was asked for.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_switch_has_no_room_for_is_in_its_plan() {
    let mut old = Old::start(&vtep_schema_without_locator_keys().unwrap()).await;
    until(&old.fixture, "status", json!("ACTIVE")).await;
    old.switch.kill().unwrap();
    until(&old.fixture, "status", json!("DOWN")).await;
    let remote = old.fixture.remote_gateway("203.0.113.7").await;
    let mut connection = old.connection(&remote, true);
    connection["segmentation_id"] = json!(456);
    let connection = id(&old.fixture.create(CONNECTIONS, connection).await);
    old.switch.start_again().unwrap();
    old.until_status(CONNECTIONS, &connection, "ERROR").await;
    let words = "the switch makes nothing of Physical_Locator.tunnel_key, so the tunnel to 203.0.113.7 key 456 would have to \
                 use the network's own key, which is 123";
    let device = until(&old.fixture, "status", json!("ERROR")).await;
    let reason = format!("network {}: {words}", old.network);
    assert_eq!(device["status_reason"], json!(reason));
    let plan = old.fixture.get("/v2.0/l2-devices/tor/plan").await;
    assert_eq!(plan["l2_device_plan"]["steps"], json!([]));
    let blocked = json!([format!("! {reason}")]);
    assert_eq!(plan["l2_device_plan"]["blocked"], blocked);
}
