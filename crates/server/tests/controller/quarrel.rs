//! Somebody else who undoes what is written, as fast as it is written.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hardware_vtep::Database;
use model::resource::Kind;
use model::status::Status;
use model::switch::LogicalSwitchName;
use ovsdb::{Condition, Connection, ConnectionOptions, Operation, Transaction};

use crate::bench::{Bench, Stretch};

/// Another controller, which wants no MACs on a logical switch and knows of no locks. Counts how often it removed some.
fn rival(bench: &Bench, of: LogicalSwitchName) -> (tokio::task::JoinHandle<()>, Arc<AtomicUsize>) {
    let rival: Connection<Database> = Connection::start(
        bench.switch.unix_target().parse().unwrap(),
        hardware_vtep::NAME,
        ConnectionOptions::default(),
    );
    let row = bench.vtep_ctl(&[
        "--bare",
        "--columns=_uuid",
        "list",
        "Logical_Switch",
        of.as_str(),
    ]);
    let row: uuid::Uuid = row.parse().unwrap();
    let rounds = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&rounds);
    let task = tokio::spawn(async move {
        let (session, _) = rival.up().await;
        let mut wakeups = rival.wakeups();
        loop {
            wakeups.borrow_and_update();
            let there = rival.replica().read(|held| {
                let networks = &held.unwrap().state().logical_switches;
                networks.get(&of).is_some_and(|held| !held.macs.is_empty())
            });
            if there {
                let theirs = [Condition::new("logical_switch", "==", row)];
                let delete = Operation::delete_where("Ucast_Macs_Remote", theirs);
                let delete = Transaction::new().with(delete);
                session
                    .transact(hardware_vtep::NAME, &delete)
                    .await
                    .unwrap();
                counted.fetch_add(1, Ordering::Relaxed);
            }
            wakeups.changed().await.unwrap();
        }
    });
    (task, rounds)
}

#[tokio::test(flavor = "multi_thread")]
async fn two_controllers_that_undo_each_other_do_not_wear_out_the_switch() {
    let bench = Bench::new().await;
    let (fought, quiet) = (Stretch::new("p1", 123), Stretch::new("p2", 456));
    bench.insert(fought.rows()).await;
    bench.insert(quiet.rows()).await;
    for stretch in [&fought, &quiet] {
        let mac = stretch.mac.id();
        bench
            .until_status(Kind::L2RemoteMac, mac, Status::Active)
            .await;
    }
    let (rival, rounds) = rival(&bench, fought.name());
    let says_so = |reason: &str| {
        reason.starts_with(
            "switch tor: somebody else undoes what is written there; it was put right ",
        )
    };
    bench
        .until_reason(Kind::L2RemoteMac, fought.mac.id(), says_so)
        .await;
    let report = bench.report(Kind::L2RemoteMac, fought.mac.id()).await;
    assert_eq!(report.status, Status::Error);
    // Hundreds in a second without pauses. Of 100, 200, 400 … ms, 1 s has room for three, and 2 s for four; one round was
    // under way before, and another one may be now.
    let (earlier, begun) = (rounds.load(Ordering::Relaxed), Instant::now());
    tokio::time::sleep(Duration::from_secs(2)).await;
    let further = rounds.load(Ordering::Relaxed) - earlier;
    let took = begun.elapsed();
    let room = (took.as_millis() / 100 + 1).ilog2() as usize;
    assert!(further <= room + 2, "{further} rounds in {took:?}");
    // Others do not wait with it: of those who did, all but the first would wait for a whole pause, now longer than a second.
    let mut waits = Vec::new();
    for last in [0x0c, 0x0d, 0x0e] {
        let mac = Stretch::mac(&quiet.connection, &quiet.attachment, last);
        bench.insert(vec![mac.clone()]).await;
        let begun = Instant::now();
        bench
            .until_status(Kind::L2RemoteMac, mac.id(), Status::Active)
            .await;
        waits.push(begun.elapsed());
    }
    let shortest = waits.iter().skip(1).min();
    assert!(shortest < Some(&Duration::from_secs(1)), "{waits:?}");

    rival.abort();
    bench
        .until_status(Kind::L2RemoteMac, fought.mac.id(), Status::Active)
        .await;
}
