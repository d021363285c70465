//! What is declared reaches the switch, and is reported as it is there.

use std::sync::Arc;

use hardware_vtep::{Complaint, Publication, PublishedPort};
use model::resource::Kind;
use model::status::{Report, Status};
use model::switch::LogicalSwitchName;
use ovsdb::Operation;

use crate::bench::{Bench, Stretch};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_declared_reaches_the_switch_and_is_active_only_then() {
    let bench = Bench::new().await;
    let stretch = Stretch::new("p1", 123);
    bench.insert(stretch.rows()).await;
    for row in [&stretch.remote_gateway, &stretch.connection, &stretch.mac] {
        let report = bench
            .until_status(row.resource.kind, row.id(), Status::Active)
            .await;
        assert_eq!(report, Report::ACTIVE);
    }
    // ACTIVE was said after reading back from the same database; another reader may be a moment behind.
    let name = stretch.name();
    bench
        .until_held(|held| {
            held.logical_switches.get(&name).is_some_and(|network| {
                network.owned
                    && network.tunnel_key.map(model::value::Vni::get) == Some(123)
                    && network.mtu == Some(1450)
                    && network.flood.len() == 1
                    && network.macs.len() == 1
            }) && held.bindings.values().eq([&name])
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switch_that_is_away_is_down_and_converges_when_it_returns() {
    let mut bench = Bench::new().await;
    let stretch = Stretch::new("p1", 123);
    bench.insert(stretch.rows()).await;
    let id = stretch.connection.id();
    let kind = Kind::L2RemoteGatewayConnection;
    bench.until_status(kind, id, Status::Active).await;

    bench.switch.kill().unwrap();
    let report = bench.until_status(kind, id, Status::Down).await;
    assert!(report.reason.unwrap().contains("switch tor is away"));
    let further = Stretch::mac(&stretch.connection, &stretch.attachment, 0x0c);
    bench.insert(vec![further.clone()]).await;
    let report = bench.report(Kind::L2RemoteMac, further.id()).await;
    assert_eq!(report.status, Status::Down);

    bench.switch.start_again().unwrap();
    bench
        .until_status(Kind::L2RemoteMac, further.id(), Status::Active)
        .await;
    let name = stretch.name();
    bench
        .until_held(|held| held.logical_switches[&name].macs.len() == 2)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deletions_leave_nothing_of_ours_and_everything_of_others() {
    let bench = Bench::new().await;
    let theirs = LogicalSwitchName::new("somebody-elses");
    bench
        .transact([Operation::insert(
            "Logical_Switch",
            ovsdb::Row::new()
                .with("name", "somebody-elses")
                .with("tunnel_key", 7_i64),
        )])
        .await;
    let stretch = Stretch::new("p1", 123);
    bench.insert(stretch.rows()).await;
    let id = stretch.connection.id();
    bench
        .until_status(Kind::L2RemoteGatewayConnection, id, Status::Active)
        .await;

    bench.delete(Kind::L2RemoteGatewayConnection, id).await;
    let name = stretch.name();
    bench
        .until_held(|held| {
            let network = &held.logical_switches[&name];
            network.flood.is_empty() && network.macs.is_empty()
        })
        .await;
    bench
        .delete(Kind::L2GatewayConnection, stretch.attachment.id())
        .await;
    bench
        .until_held(|held| held.logical_switches.keys().eq([&theirs]) && held.bindings.is_empty())
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_an_admin_deletes_come_back() {
    let bench = Bench::new().await;
    let stretch = Stretch::new("p1", 123);
    bench.insert(stretch.rows()).await;
    bench
        .until_status(Kind::L2RemoteMac, stretch.mac.id(), Status::Active)
        .await;
    bench
        .transact([Operation::delete_where("Ucast_Macs_Remote", [])])
        .await;
    let name = stretch.name();
    // The eyes saw the deletion before the transaction was answered.
    bench
        .until_held(|held| held.logical_switches[&name].macs.len() == 1)
        .await;
}

/// They keep hardware from telling what is meant, and no reading of ours would find them again.
#[tokio::test(flavor = "multi_thread")]
async fn stray_rows_on_our_logical_switches_go_and_those_on_others_stay() {
    let bench = Bench::new().await;
    let stretch = Stretch::new("p1", 123);
    bench.insert(stretch.rows()).await;
    let id = stretch.connection.id();
    let kind = Kind::L2RemoteGatewayConnection;
    bench.until_status(kind, id, Status::Active).await;
    let (ours, theirs) = (stretch.name(), "theirs");
    bench.vtep_ctl(&["add-ls", theirs]);
    for name in [ours.as_str(), theirs] {
        bench.vtep_ctl(&["add-ucast-remote", name, "no-mac", "198.51.100.7"]);
        bench.vtep_ctl(&[
            "add-mcast-remote",
            name,
            "01:00:5e:00:00:05",
            "198.51.100.7",
        ]);
    }
    let begun = std::time::Instant::now();
    let listed = |name: &str| bench.vtep_ctl(&["list-remote-macs", name]);
    while listed(ours.as_str()).contains("198.51.100.7") {
        let waited = begun.elapsed();
        assert!(waited.as_secs() < 20, "{}", listed(ours.as_str()));
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let left = listed(theirs);
    assert!(
        left.contains("no-mac") && left.contains("01:00:5e:00:00:05"),
        "{left}"
    );
    bench.until_status(kind, id, Status::Active).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_does_not_exist_is_an_error_that_names_it() {
    let bench = Bench::new().await;
    let stretch = Stretch::new("p9", 123);
    bench.insert(stretch.rows()).await;
    let report = bench
        .until_status(
            Kind::L2RemoteGatewayConnection,
            stretch.connection.id(),
            Status::Error,
        )
        .await;
    assert_eq!(
        report.reason.unwrap(),
        "tor:p9 vlan 0 cannot be bound: the switch has no such port"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switch_that_complains_is_an_error_in_its_own_words() {
    let bench = Bench::new().await;
    let stretch = Stretch::new("p1", 123);
    bench.insert(stretch.rows()).await;
    let id = stretch.connection.id();
    bench
        .until_status(Kind::L2RemoteGatewayConnection, id, Status::Active)
        .await;
    let (session, _) = bench.eyes.up().await;
    let publication = Publication {
        name: "tor".into(),
        faults: ["mac_table_exhaustion".to_owned()].into(),
        ports: [
            (Arc::from("p1"), PublishedPort::default()),
            (Arc::from("p2"), PublishedPort::default()),
        ]
        .into(),
        ..Publication::default()
    };
    hardware_vtep::publish(&session, bench.eyes.replica(), &publication)
        .await
        .unwrap();
    let report = bench
        .until_status(Kind::L2RemoteGatewayConnection, id, Status::Error)
        .await;
    assert_eq!(
        report.reason.unwrap(),
        "switch tor reports mac_table_exhaustion"
    );
}

const CONNECTION: Kind = Kind::L2RemoteGatewayConnection;

/// A network on each port of the switch, both ACTIVE.
async fn two_stretched(bench: &Bench) -> [Stretch; 2] {
    let both = [("p1", 123), ("p2", 124)].map(|(port, key)| Stretch::new(port, key));
    for stretch in &both {
        bench.insert(stretch.rows()).await;
        let id = stretch.connection.id();
        bench.until_status(CONNECTION, id, Status::Active).await;
    }
    both
}

#[tokio::test(flavor = "multi_thread")]
async fn a_complaint_about_a_port_concerns_those_who_use_it() {
    let bench = Bench::new().await;
    let [one, other] = two_stretched(&bench).await;
    let (session, _) = bench.eyes.up().await;
    let faulty = PublishedPort {
        faults: ["invalid_vlan_map".to_owned()].into(),
        ..PublishedPort::default()
    };
    let publication = Publication {
        name: "tor".into(),
        ports: [
            (Arc::from("p1"), faulty),
            (Arc::from("p2"), PublishedPort::default()),
        ]
        .into(),
        ..Publication::default()
    };
    hardware_vtep::publish(&session, bench.eyes.replica(), &publication)
        .await
        .unwrap();
    let id = one.connection.id();
    let report = bench.until_status(CONNECTION, id, Status::Error).await;
    let words = "switch tor reports invalid_vlan_map on port p1";
    assert_eq!(report.reason.as_deref(), Some(words));
    let mac = bench.report(Kind::L2RemoteMac, one.mac.id()).await;
    assert_eq!(mac.status, Status::Error);
    for (kind, id) in [
        (CONNECTION, other.connection.id()),
        (Kind::L2RemoteMac, other.mac.id()),
    ] {
        assert_eq!(bench.report(kind, id).await, Report::ACTIVE);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_complaint_about_one_network_leaves_the_others_active() {
    let bench = Bench::new().await;
    let [cut, other] = two_stretched(&bench).await;
    let (session, _) = bench.eyes.up().await;
    let about = Complaint::about(cut.name(), "cut off the WAN because of a loop");
    let warning = Complaint::about(other.name(), "floods").warning();
    let publication = Publication {
        name: "tor".into(),
        faults: [about.to_string(), warning.to_string()].into(),
        ports: [
            (Arc::from("p1"), PublishedPort::default()),
            (Arc::from("p2"), PublishedPort::default()),
        ]
        .into(),
        ..Publication::default()
    };
    hardware_vtep::publish(&session, bench.eyes.replica(), &publication)
        .await
        .unwrap();
    let id = cut.connection.id();
    let report = bench.until_status(CONNECTION, id, Status::Error).await;
    let words = format!("switch tor reports {about}");
    assert_eq!(report.reason, Some(words));
    for (row, status) in [
        (&cut.mac, Status::Error),
        (&cut.remote_gateway, Status::Error),
        (&other.connection, Status::Active),
        (&other.mac, Status::Active),
        (&other.remote_gateway, Status::Active),
    ] {
        let report = bench.report(row.resource.kind, row.id()).await;
        assert_eq!(report.status, status, "{report:?}");
    }
    // Whoever asks for the device is told all of it.
    let accounts = bench.controllers.board.accounts();
    let told = accounts[0].compare().unwrap().faults["tor"].clone();
    assert!(
        told.contains("of a loop") && told.contains("floods"),
        "{told}"
    );
}
