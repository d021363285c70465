//! Gateways of several switches, behind one endpoint or several: ACTIVE when every one of them holds it, and told what
//! each one lacks until then.

use model::resource::Kind;
use model::row::Value;
use model::status::Status;
use testkit::ovsdb_server::{OvsdbServer, vtep_schema_without_locator_keys};

use crate::bench::{Bench, Stretch, switch, vtep_ctl};

const CONNECTION: Kind = Kind::L2RemoteGatewayConnection;

#[tokio::test(flavor = "multi_thread")]
async fn half_a_gateway_is_not_active_and_says_which_half() {
    let mut bench = Bench::of(switch("tor"), vec![switch("tor2")]).await;
    let stretch = Stretch::on(&[("tor", "p1"), ("tor2", "p2")], 123);
    bench.insert(stretch.rows()).await;
    let id = stretch.connection.id();
    bench.until_status(CONNECTION, id, Status::Active).await;
    for (on, port) in [(&bench.switch, "tor p1"), (&bench.beside[0], "tor2 p2")] {
        let words = format!("list-bindings {port}");
        let bound = vtep_ctl(on, &words.split(' ').collect::<Vec<_>>());
        assert_eq!(bound, format!("0000 {}", stretch.name()));
    }

    bench.beside[0].kill().unwrap();
    for (kind, id) in [
        (CONNECTION, id),
        (Kind::L2RemoteMac, stretch.mac.id()),
        (Kind::L2RemoteGateway, stretch.remote_gateway.id()),
    ] {
        let report = bench.until_status(kind, id, Status::Down).await;
        let reason = report.reason.unwrap();
        assert!(reason.starts_with("switch tor2 is away: "), "{reason}");
        assert!(!reason.contains("; "), "the other one holds it: {reason}");
    }
    // The half that is there gets what is new all the same.
    let mac = Stretch::mac(&stretch.connection, &stretch.attachment, 0x0c);
    bench.insert(vec![mac.clone()]).await;
    let name = stretch.name();
    bench
        .until_held(|held| held.logical_switches[&name].macs.len() == 2)
        .await;
    let report = bench.report(Kind::L2RemoteMac, mac.id()).await;
    assert_eq!(report.status, Status::Down);

    bench.switch.kill().unwrap();
    bench
        .until_reason(CONNECTION, id, |reason| {
            reason.contains("switch tor is away: ") && reason.contains("; switch tor2 is away: ")
        })
        .await;
    bench.switch.start_again().unwrap();
    bench.beside[0].start_again().unwrap();
    bench
        .until_status(Kind::L2RemoteMac, mac.id(), Status::Active)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_switch_cannot_bind_is_said_of_that_switch_and_of_its_gateways_alone() {
    // One endpoint, two switches.
    let fabric = switch("tor");
    vtep_ctl(
        &fabric,
        &"add-ps tor2 -- add-port tor2 p1"
            .split(' ')
            .collect::<Vec<_>>(),
    );
    let bench = Bench::of(fabric, Vec::new()).await;
    let stretch = Stretch::on(&[("tor", "p1"), ("tor2", "p8")], 123);
    bench.insert(stretch.rows()).await;
    let id = stretch.connection.id();
    let blocked = "tor2:p8 vlan 0 cannot be bound: the switch has no such port";
    bench
        .until_reason(CONNECTION, id, |reason| reason == blocked)
        .await;

    // Another gateway of the same network on the other switch is whole.
    let mut whole = Stretch::on(&[("tor", "p2")], 123);
    whole.network = stretch.network.clone();
    let network = Value::Uuid(stretch.network.id());
    whole.attachment.set("network_id", network.clone());
    whole.connection.set("network_id", network);
    whole.remote_gateway = stretch.remote_gateway.clone();
    let remote = Value::Uuid(stretch.remote_gateway.id());
    whole.connection.set("l2_remote_gateway_id", remote);
    whole.connection.set("segmentation_id", Value::Integer(777));
    bench
        .insert(vec![
            whole.gateway.clone(),
            whole.attachment.clone(),
            whole.connection.clone(),
        ])
        .await;
    bench
        .until_status(CONNECTION, whole.connection.id(), Status::Active)
        .await;
    let report = bench.report(CONNECTION, id).await;
    assert_eq!(report.status, Status::Error);

    vtep_ctl(&bench.switch, &["add-port", "tor2", "p8"]);
    bench.until_status(CONNECTION, id, Status::Active).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switch_without_keys_of_tunnels_says_so_beside_one_that_has_them() {
    let schema = vtep_schema_without_locator_keys().unwrap();
    let keyless = OvsdbServer::with_schema(&schema).unwrap();
    let ports = "add-ps old -- add-port old p1";
    vtep_ctl(&keyless, &ports.split(' ').collect::<Vec<_>>());
    let bench = Bench::of(switch("tor"), vec![keyless]).await;
    // Declared while nobody could ask the switch.
    let mut stretch = Stretch::on(&[("tor", "p1"), ("old", "p1")], 123);
    bench.insert(stretch.rows()).await;
    let id = stretch.connection.id();
    let unable = "switch old cannot use tunnel key 1123: it makes nothing of Physical_Locator.tunnel_key, \
                  so it must be the network's own, 123";
    // The other switch may be on its way meanwhile.
    bench
        .until_reason(CONNECTION, id, |reason| reason == unable)
        .await;
    let report = bench.report(CONNECTION, id).await;
    assert_eq!(report.status, Status::Error);
    // The one that can does; the other one has the network, and no tunnel with another key.
    let name = stretch.name();
    bench
        .until_held(|held| held.logical_switches[&name].macs.len() == 1)
        .await;
    let remote = [
        "--bare",
        "--columns=dst_ip",
        "find",
        "Physical_Locator",
        "dst_ip=203.0.113.2",
    ];
    assert_eq!(vtep_ctl(&bench.beside[0], &remote), "");

    bench.delete(CONNECTION, id).await;
    stretch
        .connection
        .set("segmentation_id", Value::Integer(123));
    bench
        .insert(vec![stretch.connection.clone(), stretch.mac.clone()])
        .await;
    bench.until_status(CONNECTION, id, Status::Active).await;
    assert_eq!(vtep_ctl(&bench.beside[0], &remote), "203.0.113.2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_remote_gateway_that_moves_is_not_active_before_the_switch_shows_the_new_place() {
    let bench = Bench::new().await;
    let mut stretch = Stretch::new("p1", 123);
    bench.insert(stretch.rows()).await;
    let id = stretch.connection.id();
    bench.until_status(CONNECTION, id, Status::Active).await;
    // A switch that answers nothing cannot show it.
    bench.switch.freeze().unwrap();
    stretch
        .remote_gateway
        .set("ipaddr", crate::bench::ip("203.0.113.9"));
    bench.update(stretch.remote_gateway.clone()).await;
    for (kind, id) in [
        (CONNECTION, id),
        (Kind::L2RemoteMac, stretch.mac.id()),
        (Kind::L2RemoteGateway, stretch.remote_gateway.id()),
    ] {
        let report = bench.until_status(kind, id, Status::Build).await;
        let reason = report.reason.as_deref();
        assert_eq!(reason, Some("on its way to switch tor"), "{kind:?}");
    }
    bench.switch.thaw().unwrap();
    bench.until_status(CONNECTION, id, Status::Active).await;
}
