//! Nothing leaves a switch because a database does not know it.

use model::resource::Kind;
use model::status::Status;
use model::switch::SwitchState;

use server::account::Consent;

use crate::bench::{Bench, Stretch};

const CONNECTION: Kind = Kind::L2RemoteGatewayConnection;

/// A bench whose switch holds two networks, and the server's last sight of it.
async fn two_networks() -> (Bench, [Stretch; 2], SwitchState) {
    let bench = Bench::new().await;
    let stretches = [Stretch::new("p1", 123), Stretch::new("p2", 124)];
    for stretch in &stretches {
        bench.insert(stretch.rows()).await;
    }
    for stretch in &stretches {
        let id = stretch.connection.id();
        bench.until_status(CONNECTION, id, Status::Active).await;
    }
    bench
        .until_held(|held| held.bindings.len() == 2 && held.rows(|_| true) == 8)
        .await;
    let held = bench.held(Clone::clone);
    (bench, stretches, held)
}

async fn delete(bench: &Bench, stretch: &Stretch) {
    bench.delete(CONNECTION, stretch.connection.id()).await;
    bench
        .delete(Kind::L2GatewayConnection, stretch.attachment.id())
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_database_takes_nothing_away() {
    let (bench, _, held) = two_networks().await;
    let bench = bench.stop().await.start("empty.sqlite").await;
    bench.until_settled().await;
    assert_eq!(bench.held(Clone::clone), held);
    let withheld = bench.account().told().withheld.unwrap().to_string();
    assert!(withheld.contains("another database"), "{withheld}");

    // What is new is added all the same, but not in the place of what is there.
    let further = Stretch::new("p1", 125);
    bench.insert(further.rows()).await;
    bench
        .until_held(|held| held.logical_switches.contains_key(&further.name()))
        .await;
    bench.until_settled().await;
    let now = bench.held(Clone::clone);
    assert_eq!(now.bindings, held.bindings);
    assert!(
        held.logical_switches
            .keys()
            .all(|name| now.logical_switches.contains_key(name))
    );
    let report = bench.report(CONNECTION, further.connection.id()).await;
    assert_eq!(
        report.status,
        Status::Error,
        "its binding waits: {report:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_operator_agrees_to_is_removed() {
    let (bench, _, _) = two_networks().await;
    let bench = bench.stop().await.start("empty.sqlite").await;
    bench.until_settled().await;
    bench.consent(Consent::ToAll);
    bench
        .until_held(|held| held.logical_switches.is_empty() && held.bindings.is_empty())
        .await;
    // The consent outlives the server: the switch belongs to this database now.
    let further = Stretch::new("p1", 125);
    bench.insert(further.rows()).await;
    bench
        .until_status(CONNECTION, further.connection.id(), Status::Active)
        .await;
    delete(&bench, &further).await;
    let bench = bench.stop().await.start("empty.sqlite").await;
    bench
        .until_held(|held| held.logical_switches.is_empty())
        .await;
    assert_eq!(bench.account().told().withheld, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_backup_takes_nothing_away_however_far_it_gets() {
    let bench = Bench::new().await;
    let known = Stretch::new("p1", 123);
    bench.insert(known.rows()).await;
    bench
        .until_status(CONNECTION, known.connection.id(), Status::Active)
        .await;
    let stopped = bench.stop().await;
    std::fs::copy(stopped.file("l2gw.sqlite"), stopped.file("backup.sqlite")).unwrap();

    // One more network, and one more MAC on the one that the backup has.
    let bench = stopped.start("l2gw.sqlite").await;
    let later = Stretch::new("p2", 124);
    let mac = Stretch::mac(&known.connection, &known.attachment, 0x0c);
    bench.insert(later.rows()).await;
    bench.insert(vec![mac.clone()]).await;
    bench
        .until_status(Kind::L2RemoteMac, mac.id(), Status::Active)
        .await;
    bench
        .until_status(CONNECTION, later.connection.id(), Status::Active)
        .await;
    let bench = bench.stop().await.start("backup.sqlite").await;
    bench.until_settled().await;
    // The backup's own revisions go past those that the switch saw.
    for last in 0x20..0x30 {
        let mac = Stretch::mac(&known.connection, &known.attachment, last);
        bench.insert(vec![mac]).await;
    }
    let name = known.name();
    bench
        .until_held(|held| held.logical_switches[&name].macs.len() == 2 + 0x10)
        .await;
    let bench = bench.stop().await.start("backup.sqlite").await;
    bench.until_settled().await;
    bench.held(|held| {
        assert_eq!(held.logical_switches[&name].macs.len(), 2 + 0x10);
        assert!(held.logical_switches.contains_key(&later.name()));
        assert_eq!(held.bindings.len(), 2);
    });
    assert!(bench.account().told().withheld.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn deletions_go_through_also_when_the_server_ends_before_they_are_made() {
    let (mut bench, [one, other], _) = two_networks().await;
    bench.switch.kill().unwrap();
    // All of it: there is no majority that could vouch for the rest.
    delete(&bench, &one).await;
    delete(&bench, &other).await;
    let mut stopped = bench.stop().await;
    stopped.switch().start_again().unwrap();
    let bench = stopped.start("l2gw.sqlite").await;
    bench
        .until_held(|held| held.logical_switches.is_empty() && held.bindings.is_empty())
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switch_that_lists_no_physical_switch_any_more_keeps_what_it_has() {
    let (bench, _, held) = two_networks().await;
    // Physical switches exist as long as this row refers to them.
    bench
        .transact([ovsdb::Operation::delete_where("Global", [])])
        .await;
    bench.until_held(|held| held.ports.is_empty()).await;
    let begun = std::time::Instant::now();
    while bench.account().told().withheld.is_none() {
        assert!(begun.elapsed() < std::time::Duration::from_secs(20));
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let now = bench.held(|now| now.logical_switches.clone());
    assert_eq!(now, held.logical_switches);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_controller_left_is_taken_over_in_place_when_an_operator_says_so() {
    let bench = Bench::new().await;
    let stretch = Stretch::new("p1", 123);
    let name = stretch.name();
    // As networking-l2gw writes it: named by the network, without mark, locators without keys.
    for line in [
        format!("add-ls {name} -- set Logical_Switch {name} tunnel_key=123"),
        format!("add-ucast-remote {name} 02:00:00:00:00:aa vxlan_over_ipv4 192.0.2.50"),
        format!("add-mcast-remote {name} unknown-dst vxlan_over_ipv4 192.0.2.50"),
        format!("bind-ls tor p1 0 {name}"),
    ] {
        bench.vtep_ctl(&line.split(' ').collect::<Vec<_>>());
    }
    let row = ["--bare", "--columns=_uuid", "list", "Logical_Switch"];
    let before = bench.vtep_ctl(&row);
    bench.insert(stretch.rows()).await;
    bench
        .until_held(|held| held.logical_switches[&name].macs.len() == 2)
        .await;
    bench.until_settled().await;
    bench.held(|held| assert!(!held.logical_switches[&name].owned));
    let withheld = bench.account().told().withheld.unwrap().to_string();
    assert!(
        withheld.starts_with("1 of the logical switches"),
        "{withheld}"
    );

    bench.consent(Consent::ToAll);
    bench
        .until_held(|held| {
            let network = &held.logical_switches[&name];
            network.owned && network.macs.len() == 1 && held.bindings.values().eq([&name])
        })
        .await;
    assert_eq!(bench.vtep_ctl(&row), before, "the row itself stays");
    let id = stretch.connection.id();
    bench.until_status(CONNECTION, id, Status::Active).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switch_that_was_renamed_keeps_what_it_has_also_for_a_server_that_was_restarted() {
    let (bench, [one, _], held) = two_networks().await;
    bench.vtep_ctl(&["set", "Physical_Switch", "tor", "name=renamed"]);
    until_withheld(&bench, "no longer lists tor").await;
    let bench = bench.stop().await.start("l2gw.sqlite").await;
    until_withheld(&bench, "no longer lists tor").await;
    bench.held(|now| {
        assert_eq!(now.logical_switches, held.logical_switches);
        assert_eq!(now.bindings.len(), 2);
    });

    // It was a mistake.
    bench.vtep_ctl(&["set", "Physical_Switch", "renamed", "name=tor"]);
    let id = one.connection.id();
    bench.until_status(CONNECTION, id, Status::Active).await;
    assert_eq!(bench.account().told().withheld, None);
    // It was none, and nobody uses the old name any more.
    bench.vtep_ctl(&["set", "Physical_Switch", "tor", "name=renamed"]);
    until_withheld(&bench, "no longer lists tor").await;
    bench.consent(Consent::ToAll);
    bench
        .until_held(|held| held.logical_switches.is_empty() && held.bindings.is_empty())
        .await;
}

async fn until_withheld(bench: &Bench, words: &str) {
    let begun = std::time::Instant::now();
    loop {
        let withheld = bench.account().told().withheld;
        let withheld = withheld.map(|it| it.to_string()).unwrap_or_default();
        if withheld.contains(words) {
            return;
        }
        assert!(
            begun.elapsed() < std::time::Duration::from_secs(20),
            "{withheld}"
        );
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn consent_for_one_network_touches_no_other() {
    let (bench, [one, other], _) = two_networks().await;
    let bench = bench.stop().await.start("empty.sqlite").await;
    bench.until_settled().await;
    bench.consent(Consent::On([one.name()].into()));
    bench
        .until_held(|held| {
            held.logical_switches.keys().eq([&other.name()])
                && held.bindings.values().eq([&other.name()])
                && held.logical_switches[&other.name()].macs.len() == 1
        })
        .await;
    bench.until_settled().await;
    assert!(bench.account().told().withheld.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_network_of_another_controller_is_taken_over_and_the_others_are_left() {
    let bench = Bench::new().await;
    let stretches = [Stretch::new("p1", 123), Stretch::new("p2", 124)];
    for stretch in &stretches {
        let name = stretch.name();
        bench.vtep_ctl(&["add-ls", name.as_str()]);
        bench.vtep_ctl(&[
            "add-ucast-remote",
            name.as_str(),
            "02:00:00:00:00:aa",
            "192.0.2.50",
        ]);
        bench.insert(stretch.rows()).await;
    }
    bench.until_settled().await;
    let [adopted, left] = stretches.map(|stretch| stretch.name());
    bench.consent(Consent::On([adopted.clone()].into()));
    bench
        .until_held(|held| {
            let [adopted, left] = [&adopted, &left].map(|name| &held.logical_switches[name]);
            adopted.owned && adopted.macs.len() == 1 && !left.owned && left.macs.len() == 2
        })
        .await;
    bench.until_settled().await;
    bench.held(|held| assert!(!held.logical_switches[&left].owned));
    let withheld = bench.account().told().withheld.unwrap().to_string();
    assert!(
        withheld.starts_with("1 of the logical switches"),
        "{withheld}"
    );
}

/// Whoever declares a network and agrees right after it means that network, however long the controller takes to read it.
#[tokio::test(flavor = "multi_thread")]
async fn consent_counts_for_what_was_declared_before_it_and_not_read_yet() {
    let bench = Bench::new().await;
    let stretch = Stretch::new("p1", 123);
    let name = stretch.name();
    bench.vtep_ctl(&["add-ls", name.as_str()]);
    bench.until_settled().await;
    let unread = bench.hold_readers().await;
    bench.insert(stretch.rows()).await;
    let planned = bench.account().told().planned;
    bench.consent(Consent::ToAll);
    // The controller looks at once, and finds nothing there that it is to take over.
    let begun = std::time::Instant::now();
    while bench.account().told().planned == planned {
        assert!(begun.elapsed() < std::time::Duration::from_secs(20));
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    drop(unread);
    bench
        .until_held(|held| held.logical_switches[&name].owned)
        .await;

    // What comes later is not meant.
    let later = Stretch::new("p2", 124);
    bench.vtep_ctl(&["add-ls", later.name().as_str()]);
    bench.insert(later.rows()).await;
    bench.until_settled().await;
    let withheld = bench.account().told().withheld.unwrap().to_string();
    assert!(
        withheld.starts_with("1 of the logical switches"),
        "{withheld}"
    );
    bench.held(|held| assert!(!held.logical_switches[&later.name()].owned));
}

/// A database that does not know a network gives its key away again.
#[tokio::test(flavor = "multi_thread")]
async fn no_network_is_joined_with_one_that_is_kept() {
    let (bench, [one, other], held) = two_networks().await;
    let bench = bench.stop().await.start("empty.sqlite").await;
    bench.until_settled().await;
    let further = Stretch::new("p1", 123);
    let free = Stretch::new("p2", 125);
    bench.insert(further.rows()).await;
    bench.insert(free.rows()).await;
    bench
        .until_held(|held| held.logical_switches.contains_key(&free.name()))
        .await;
    bench.until_settled().await;
    let id = further.connection.id();
    let report = bench.report(CONNECTION, id).await;
    assert_eq!(report.status, Status::Error);
    let reason = report.reason.unwrap();
    assert!(reason.contains("another database"), "{reason}");
    bench.held(|now| {
        for kept in [&one, &other].map(|stretch| stretch.name()) {
            assert_eq!(now.logical_switches[&kept], held.logical_switches[&kept]);
        }
        assert!(!now.logical_switches.contains_key(&further.name()));
    });

    bench.consent(Consent::On([one.name()].into()));
    bench
        .until_held(|held| {
            held.logical_switches.contains_key(&further.name())
                && !held.logical_switches.contains_key(&one.name())
        })
        .await;
}
