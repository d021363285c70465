//! A PostgreSQL server that goes away, or is in somebody else's hands for a while.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use model::fault::{Fault, FaultKind};
use store::Store;
use testkit::postgres::Postgres;

use crate::rows::{insert, names, remote_gateway};

/// From how many sides writes come.
const SIDES: usize = 8;

/// Writes from several sides, each answer counted, until they are told to stop.
struct Writers {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicUsize>,
    tasks: Vec<tokio::task::JoinHandle<Told>>,
}

/// What writers were told of their rows; of all others, that they were refused.
#[derive(Default)]
struct Told {
    written: BTreeSet<String>,
    /// That nobody knows: the server was away for too long after its commit was asked for.
    unknown: BTreeSet<String>,
}

impl Writers {
    fn start(store: &Store) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let acknowledged = Arc::new(AtomicUsize::new(0));
        let tasks = (0..SIDES).map(|side| {
            let (store, stop) = (store.clone(), Arc::clone(&stop));
            let acknowledged = Arc::clone(&acknowledged);
            tokio::spawn(async move {
                let mut told = Told::default();
                for number in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let name = format!("{side}.{number}");
                    let row = remote_gateway(&name);
                    match store.write(move |t| t.insert(&mut [row])).await {
                        Ok(()) => {
                            told.written.insert(name);
                            acknowledged.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(fault) => {
                            assert_eq!(fault.kind, FaultKind::Unavailable, "{fault}");
                            if fault.message.contains("is not known") {
                                told.unknown.insert(name);
                            }
                            tokio::time::sleep(Duration::from_millis(5)).await;
                        }
                    }
                }
                told
            })
        });
        let tasks = tasks.collect();
        Self {
            stop,
            acknowledged,
            tasks,
        }
    }

    /// Waits until so many more were acknowledged.
    async fn acknowledged(&self, more: usize) {
        let goal = self.acknowledged.load(Ordering::Relaxed) + more;
        let begun = Instant::now();
        while self.acknowledged.load(Ordering::Relaxed) < goal {
            assert!(
                begun.elapsed() < Duration::from_secs(30),
                "no write succeeds"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn stop(self) -> Told {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Told::default();
        for task in self.tasks {
            let told = task.await.unwrap();
            all.written.extend(told.written);
            all.unknown.extend(told.unknown);
        }
        all
    }
}

/// Ends the store's sessions, and waits until they are gone.
fn end_sessions(cluster: &Postgres) {
    let end = "SELECT bool_and(pg_terminate_backend(pid, 60000)) FROM pg_stat_activity \
               WHERE application_name = 'l2gw'";
    assert_eq!(cluster.sql("postgres", end).unwrap(), "t");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_crashes_under_load_is_unavailable_loses_nothing_and_is_found_again() {
    let cluster = Postgres::start().unwrap();
    let store = Store::open(&cluster.create_database().unwrap())
        .await
        .unwrap();
    let mut revisions = store.revisions();
    let writers = Writers::start(&store);
    for round in 1..=3 {
        writers.acknowledged(50).await;
        cluster.kill().unwrap();
        // Who was answered before the crash may still have to count that, once each. Writers are refused, or wait for
        // word of a commit whose answer was lost; whichever it is, nobody is told that a write succeeded.
        let before = writers.acknowledged.load(Ordering::Relaxed);
        let fault = store.read(|snapshot| snapshot.revision()).await;
        assert_eq!(fault.unwrap_err().kind, FaultKind::Unavailable);
        tokio::time::sleep(Duration::from_millis(200)).await;
        let more = writers.acknowledged.load(Ordering::Relaxed) - before;
        assert!(more <= SIDES, "round {round}: no server, {more} successes");
        cluster.start_again().unwrap();
    }
    writers.acknowledged(50).await;
    let told = writers.stop().await;
    let present: BTreeSet<_> = names(&store).await.into_iter().collect();
    let lost: Vec<_> = told.written.difference(&present).collect();
    assert!(lost.is_empty(), "{lost:?} were acknowledged");
    // A write that was refused was not carried out: commits whose answer was lost are looked up, unless the server is away
    // for too long.
    let mut ghosts = present.difference(&told.written);
    let ghost = ghosts.find(|name| !told.unknown.contains(*name));
    assert_eq!(ghost, None, "it was refused");
    let revision = store.read(|snapshot| snapshot.revision()).await.unwrap();
    assert_eq!(*revisions.borrow_and_update(), revision);
    assert_eq!(revision, present.len() as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_that_an_administrator_ends_are_opened_again_unnoticed_when_idle() {
    let cluster = Postgres::start().unwrap();
    let store = Store::open(&cluster.create_database().unwrap())
        .await
        .unwrap();
    insert(&store, vec![remote_gateway("before")]).await;
    assert_eq!(names(&store).await, ["before"]);
    end_sessions(&cluster);
    insert(&store, vec![remote_gateway("after")]).await;
    assert_eq!(names(&store).await, ["before", "after"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_somebody_has_locked_is_unavailable_until_it_is_unlocked() {
    let cluster = Postgres::start().unwrap();
    let url = cluster.create_database().unwrap();
    let store = Store::open(&url).await.unwrap();
    let (_, database) = url.rsplit_once('/').unwrap();
    std::thread::scope(|scope| {
        let somebody = scope.spawn(|| {
            let lock =
                "BEGIN; LOCK TABLE l2_remote_gateways IN SHARE MODE; SELECT pg_sleep(600); COMMIT";
            cluster.sql(database, lock)
        });
        let who = "FROM pg_locks WHERE relation = 'l2_remote_gateways'::regclass \
                   AND mode = 'ShareLock' AND granted";
        let given_up = Instant::now() + Duration::from_secs(60);
        while cluster
            .sql(database, &format!("SELECT count(*) {who}"))
            .unwrap()
            == "0"
        {
            assert!(Instant::now() < given_up, "the table is not locked");
        }
        let write = store.write(|t| t.insert(&mut [remote_gateway("a")]));
        let fault = tokio::runtime::Handle::current();
        let fault: Fault = tokio::task::block_in_place(|| fault.block_on(write)).unwrap_err();
        assert_eq!(fault.kind, FaultKind::Unavailable, "{fault}");
        let unlock = format!("SELECT bool_and(pg_terminate_backend(pid, 60000)) {who}");
        assert_eq!(cluster.sql(database, &unlock).unwrap(), "t");
        let slept = somebody.join().unwrap();
        assert!(slept.is_err(), "it had the lock all the time");
    });
    insert(&store, vec![remote_gateway("b")]).await;
    assert_eq!(names(&store).await, ["b"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_was_displaced_does_not_write() {
    let cluster = Postgres::start().unwrap();
    let url = cluster.create_database().unwrap();
    let first = Store::open(&url).await.unwrap();
    insert(&first, vec![remote_gateway("first")]).await;
    // It loses its session, and another one is quicker.
    end_sessions(&cluster);
    let second = Store::open(&url).await.unwrap();
    insert(&second, vec![remote_gateway("second")]).await;
    let fault = first
        .write(|t| t.insert(&mut [remote_gateway("lost")]))
        .await
        .unwrap_err();
    assert_eq!(fault.kind, FaultKind::Unavailable);
    assert!(fault.to_string().contains("in use by another"), "{fault}");
    second.close().await;
    insert(&first, vec![remote_gateway("again")]).await;
    assert_eq!(names(&first).await, ["first", "second", "again"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_is_used_where_it_is_demanded_and_the_certificate_is_verified_where_that_is() {
    let cluster = Postgres::start().unwrap();
    cluster.use_tls().unwrap();
    let url = cluster.create_database().unwrap();
    let (_, database) = url.rsplit_once('/').unwrap();
    let tcp = cluster.tcp_url(database);
    let roots = cluster.data().join("server.crt");
    let encrypted = "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = 'l2gw'";
    for (parameters, tls) in [
        ("sslmode=disable".to_owned(), "f"),
        ("sslmode=require".to_owned(), "t"),
        (
            format!("sslmode=verify-full&sslrootcert={}", roots.display()),
            "t",
        ),
    ] {
        let store = Store::open(&format!("{tcp}?{parameters}")).await.unwrap();
        insert(&store, vec![remote_gateway("a")]).await;
        assert_eq!(
            cluster.sql(database, encrypted).unwrap(),
            tls,
            "{parameters}"
        );
        store.close().await;
    }
    let stranger = Store::open(&format!("{tcp}?sslmode=verify-full")).await;
    let line = stranger.err().expect("nobody signed it").to_string();
    assert!(line.contains("certificate"), "{line}");
    let other = tcp.replace("127.0.0.1", "localhost");
    let other = format!(
        "{other}?sslmode=verify-full&sslrootcert={}",
        roots.display()
    );
    let line = Store::open(&other)
        .await
        .err()
        .expect("another name")
        .to_string();
    assert!(line.contains("certificate"), "{line}");
}
