//! Whatever happens: afterwards the switch holds what is wanted, a second run writes nothing, and rows of others are as
//! they were.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use hardware_vtep::{Database, apply, apply_fenced};
use model::plan::plan;
use model::switch::SwitchState;
use ovsdb::{Endpoint, Operation, Row, Session, SessionOptions, SharedReplica};
use testkit::ovsdb_server::{OvsdbServer, VTEP_SCHEMA};

use crate::fixture::{
    Switch, follow, locator, mac, name, network, networks, port_vlan, state, via,
};
use crate::proxy::{Fault, Proxy};

/// Two networks with all that can hang on them.
fn wish() -> SwitchState {
    let (near, far) = (locator(1, None), locator(2, Some(456)));
    let macs = |from: u32, to| (from..to).map(move |n| (mac(n), via(far)));
    let mut wanted = networks([
        ("net1", network(5, [near, far], macs(0, 200))),
        ("net2", network(6, [far], macs(200, 210))),
    ]);
    wanted
        .bindings
        .insert(port_vlan("sw", "eth1", 100), name("net1"));
    wanted
        .bindings
        .insert(port_vlan("sw", "eth1", 200), name("net2"));
    wanted
}

/// A switch with a network of somebody else.
async fn inhabited() -> Switch {
    let switch = Switch::start().await;
    switch.publish("sw", &["eth1"]).await;
    let theirs = Row::new().with("name", "theirs").with("tunnel_key", 99i64);
    let on = switch
        .transact([Operation::insert("Logical_Switch", theirs)])
        .await
        .inserted(0)
        .unwrap();
    let row = Row::new()
        .with("encapsulation_type", "vxlan_over_ipv4")
        .with("dst_ip", "192.0.2.99");
    let theirs = Row::new()
        .with("MAC", mac(1).to_string())
        .with("logical_switch", on)
        .with("locator", ovsdb::Atom::NamedUuid("l".into()));
    switch
        .transact([
            Operation::insert_named("Physical_Locator", "l", row),
            Operation::insert("Ucast_Macs_Remote", theirs),
        ])
        .await;
    switch
}

/// What somebody else's rows are, down to their versions: any write to them shows.
async fn theirs(switch: &Switch) -> Vec<serde_json::Value> {
    let on = switch.row_of("Logical_Switch", "theirs").await;
    let of = |column: &'static str| [ovsdb::Condition::new(column, "==", on)];
    let ask = [
        Operation::select("Logical_Switch", of("_uuid"), ["_uuid", "_version", "name"]),
        Operation::select(
            "Ucast_Macs_Remote",
            of("logical_switch"),
            ["_uuid", "_version"],
        ),
    ];
    let outcome = switch.transact(ask).await;
    let mut rows: Vec<serde_json::Value> = outcome.rows(0).unwrap();
    rows.extend(outcome.rows::<serde_json::Value>(1).unwrap());
    assert_eq!(rows.len(), 2);
    rows
}

/// One run of a controller over a new session to this target, as far as it goes.
async fn run(target: &str, wanted: &SwitchState) -> Option<()> {
    let endpoint: Endpoint = target.parse().unwrap();
    let target = endpoint.targets().first().unwrap();
    let session = Session::connect(target, &SessionOptions::default())
        .await
        .ok()?;
    let schema = Arc::new(session.schema(hardware_vtep::NAME).await.ok()?);
    let replica = Arc::new(SharedReplica::<Database>::default());
    session.monitor(&schema, &replica).await.ok()?;
    let todo = replica.read(|held| plan(wanted, held.unwrap().state()));
    let failures = apply(&session, &replica, &todo).await;
    failures.is_empty().then_some(())
}

/// Converges over a good connection and checks what every bad day ends with.
async fn recover(switch: &Switch, wanted: &SwitchState, theirs_before: &[serde_json::Value]) {
    let (session, replica) = follow(&switch.server).await;
    let todo = plan(wanted, &state(&replica));
    let failures = apply(&session, &replica, &todo).await;
    assert!(failures.is_empty(), "{failures:#?}");
    let again = plan(wanted, &state(&replica));
    assert!(again.is_empty(), "a second run writes:\n{again}");
    let (_fresh, fresh) = follow(&switch.server).await;
    assert_eq!(
        state(&fresh),
        state(&replica),
        "the replica is the database"
    );
    assert_eq!(theirs(switch).await, theirs_before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_cut_after_each_single_message_of_a_run_loses_nothing() {
    let wanted = wish();
    let mut whole = None;
    for limit in 1.. {
        let switch = inhabited().await;
        let before = theirs(&switch).await;
        let proxy = Proxy::start(switch.server.socket(), Fault::CutAfter(limit));
        let target = format!("unix:{}", proxy.socket.display());
        let done = run(&target, &wanted).await;
        recover(&switch, &wanted, &before).await;
        if done.is_some() {
            whole = Some(limit);
            break;
        }
        assert!(proxy.messages() <= limit + 1);
        assert!(limit < 100, "the run never ends");
    }
    assert!(whole.unwrap() > 10, "a run has more messages: {whole:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn delayed_split_repeated_and_reordered_answers_change_nothing() {
    for fault in [
        Fault::Delay(Duration::from_millis(5)),
        Fault::EveryByteAlone,
        Fault::RepliesTwice,
        Fault::RepliesOvertaken,
    ] {
        let (switch, wanted) = (inhabited().await, wish());
        let before = theirs(&switch).await;
        let proxy = Proxy::start(switch.server.socket(), fault);
        let target = format!("unix:{}", proxy.socket.display());
        assert_eq!(run(&target, &wanted).await, Some(()), "{fault:?}");
        let (_session, replica) = follow(&switch.server).await;
        let rest = plan(&wanted, &state(&replica));
        assert!(rest.is_empty(), "{fault:?}:\n{rest}");
        recover(&switch, &wanted, &before).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_killed_in_the_midst_of_a_batch_is_completed() {
    let far = locator(2, Some(456));
    let wanted = networks([(
        "net",
        network(5, [far], (0..20_000).map(|n| (mac(n), via(far)))),
    )]);
    let mut switch = inhabited().await;
    let before = theirs(&switch).await;
    let (session, replica) = follow(&switch.server).await;
    let todo = plan(&wanted, &state(&replica));
    let writing = tokio::spawn({
        let replica = Arc::clone(&replica);
        async move { apply(&session, &replica, &todo).await }
    });
    let arrived = |held: &SwitchState| {
        let net = held.logical_switches.get(&name("net"));
        net.map_or(0, |net| net.macs.len())
    };
    while arrived(&state(&replica)) < 1000 {
        tokio::task::yield_now().await;
    }
    switch.server.kill().unwrap();
    assert!(!writing.await.unwrap().is_empty(), "it was killed too late");
    switch.server.start_again().unwrap();
    (switch.session, switch.replica) = follow(&switch.server).await;
    let left = arrived(&switch.state());
    assert!((1..20_000).contains(&left), "{left}");
    // A restart gives every row a new version.
    let after = theirs(&switch).await;
    assert!((0..2).all(|row| after[row]["_uuid"] == before[row]["_uuid"]));
    let before = after;
    recover(&switch, &wanted, &before).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_controllers_that_want_the_same_end_with_one_row_each() {
    let (switch, wanted) = (inhabited().await, wish());
    let before = theirs(&switch).await;
    let target = switch.server.unix_target();
    for _ in 0..5 {
        // Either may lose a race; what it lost, the next run sees.
        tokio::join!(run(&target, &wanted), run(&target, &wanted));
        switch
            .transact([Operation::delete_where("Mcast_Macs_Remote", [])])
            .await;
    }
    recover(&switch, &wanted, &before).await;
    assert_eq!(switch.count("Logical_Switch").await, 3);
}

#[tokio::test]
async fn a_controller_whose_lock_was_stolen_writes_nothing_more() {
    let (switch, wanted) = (inhabited().await, wish());
    let before = theirs(&switch).await;
    let (session, replica) = follow(&switch.server).await;
    let lock = session.lock("l2gw").await.unwrap();
    assert!(lock.is_owned());
    let half = networks([("net1", wanted.logical_switches[&name("net1")].clone())]);
    let todo = plan(&half, &state(&replica));
    let failures = apply_fenced(&session, &replica, &todo, Some(&lock)).await;
    assert!(failures.is_empty(), "{failures:#?}");

    let thief = switch.session.steal("l2gw").await.unwrap();
    assert!(thief.is_owned());
    let todo = plan(&wanted, &state(&replica));
    assert!(!todo.is_empty());
    let failures = apply_fenced(&session, &replica, &todo, Some(&lock)).await;
    assert_eq!(failures.len(), todo.steps.len());
    let words = failures.first().unwrap().error.to_string();
    assert!(words.contains("not owner"), "{words}");
    lock.until(false).await;
    assert_eq!(switch.count("Logical_Switch").await, 2);

    // The thief has the say until it leaves.
    let todo = switch.plan(&wanted);
    let failures = apply_fenced(&switch.session, &switch.replica, &todo, Some(&thief)).await;
    assert!(failures.is_empty(), "{failures:#?}");
    switch.session.unlock(thief).await.unwrap();
    lock.until(true).await;
    recover(&switch, &wanted, &before).await;
}

#[tokio::test]
async fn a_schema_converted_online_is_followed() {
    let (mut switch, wanted) = (inhabited().await, wish());
    switch.reach(&wanted).await;
    let before = theirs(&switch).await;
    let text = std::fs::read_to_string(VTEP_SCHEMA).unwrap();
    let mut schema: serde_json::Value = serde_json::from_str(&text).unwrap();
    schema["version"] = "1.7.99".into();
    let columns = schema["tables"]["Logical_Switch"]["columns"].as_object_mut();
    columns.unwrap().remove("replication_mode");
    let file = switch.server.directory().join("converted");
    std::fs::write(&file, schema.to_string()).unwrap();
    let converted = Command::new("ovsdb-client")
        .arg("convert")
        .arg(switch.server.unix_target())
        .arg(&file)
        .output()
        .unwrap();
    assert!(converted.status.success(), "{converted:?}");
    switch.session.ended().await;
    (switch.session, switch.replica) = follow(&switch.server).await;
    let has = switch
        .replica
        .read(|held| held.unwrap().capabilities().replication_mode);
    assert!(!has);
    assert!(switch.plan(&wanted).is_empty());
    let mut more = wanted.clone();
    more.logical_switches
        .insert(name("net3"), network(7, [], []));
    let after = theirs(&switch).await;
    assert_eq!(after[0]["name"], before[0]["name"]);
    recover(&switch, &more, &after).await;
}

#[tokio::test]
async fn rows_that_an_administrator_deletes_with_vtep_ctl_come_back() {
    let (switch, wanted) = (inhabited().await, wish());
    switch.reach(&wanted).await;
    let before = theirs(&switch).await;
    for command in [
        "del-ucast-remote net1 02:00:00:00:00:07",
        "clear-remote-macs net2",
        "unbind-ls sw eth1 200",
        "set Logical_Switch net1 tunnel_key=77",
        "clear Logical_Switch net2 other_config",
    ] {
        let output = Command::new("vtep-ctl")
            .arg(format!("--db={}", switch.server.unix_target()))
            .args(command.split(' '))
            .output()
            .unwrap();
        assert!(output.status.success(), "{command}: {output:?}");
        recover(&switch, &wanted, &before).await;
    }
}

#[tokio::test]
async fn a_binding_moves_although_inserting_its_vlan_would_keep_the_old_one() {
    let (switch, mut wanted) = (inhabited().await, wish());
    switch.reach(&wanted).await;
    wanted
        .bindings
        .insert(port_vlan("sw", "eth1", 100), name("net2"));
    switch.reach(&wanted).await;
    let bound = switch.state().bindings;
    assert_eq!(bound[&port_vlan("sw", "eth1", 100)], name("net2"));
}

#[tokio::test]
async fn tunnels_to_one_address_differ_by_their_key_alone() {
    let switch = Switch::start().await;
    let keys = [None, Some(5), Some(456), Some(457)];
    let wanted = networks([("net", network(5, keys.map(|key| locator(1, key)), []))]);
    switch.reach(&wanted).await;
    assert_eq!(switch.count("Physical_Locator").await, 4);
    assert!(switch.plan(&wanted).is_empty());
}

#[tokio::test]
async fn a_flood_list_is_replaced_because_locator_sets_cannot_be_edited() {
    let switch = Switch::start().await;
    let with = |hosts: &[u8]| {
        let flood = hosts.iter().map(|host| locator(*host, None));
        networks([("net", network(5, flood.collect::<Vec<_>>(), []))])
    };
    for hosts in [&[1, 2][..], &[1, 2, 3], &[3], &[]] {
        switch.reach(&with(hosts)).await;
        assert!(switch.plan(&with(hosts)).is_empty());
        let rows = usize::from(!hosts.is_empty());
        assert_eq!(switch.count("Mcast_Macs_Remote").await, rows);
        assert_eq!(switch.count("Physical_Locator_Set").await, rows);
        assert_eq!(switch.count("Physical_Locator").await, hosts.len());
    }
}

/// Facts: an owner is told "locked" again whenever one that only waited goes away.
#[tokio::test]
async fn a_spurious_second_locked_is_no_change() {
    let server = OvsdbServer::start().unwrap();
    let target = server.unix_target().parse().unwrap();
    let connect = || async {
        Session::connect(&target, &SessionOptions::default())
            .await
            .unwrap()
    };
    let (owner, waiting) = (connect().await, connect().await);
    let lock = owner.lock("l2gw").await.unwrap();
    let queued = waiting.lock("l2gw").await.unwrap();
    assert!(lock.is_owned() && !queued.is_owned());
    // Asking twice for one lock would be a syntax error.
    assert!(owner.lock("l2gw").await.unwrap().is_owned());
    drop(queued);
    waiting.close("it goes away");
    let third = connect().await;
    let queued = third.lock("l2gw").await.unwrap();
    assert!(lock.is_owned() && !queued.is_owned());
    owner.close("it goes away, too");
    queued.until(true).await;
    assert!(!lock.is_owned());
}
