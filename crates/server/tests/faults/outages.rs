//! Databases that go away under load, as clients see it: 503 with Retry-After, nothing answered 2xx lost, and no hand is
//! needed when they are back. What the store itself does then is shown by its own tests.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use reqwest::Client;
use reqwest::header::RETRY_AFTER;
use serde_json::{Value, json};
use server::Server;
use testkit::postgres::Postgres;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::world::options;

/// How long anything may take on a machine with other things to do.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server without switches on a database that the test can hurt.
struct Served {
    client: Client,
    base: String,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<()>,
}

impl Served {
    async fn on(database: &str) -> Self {
        let server = Server::start(options(database, &[])).await.unwrap();
        let base = format!("http://{}", server.address.unwrap());
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = tokio::spawn(async move {
            let told = async { drop(stopped.await) };
            server.serve(told).await.unwrap();
        });
        Self {
            client: Client::new(),
            base,
            stop,
            serving,
        }
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    async fn get(&self, path: &str) -> Value {
        let answer = self.client.get(self.url(path)).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
        answer.json().await.unwrap()
    }

    async fn health(&self) -> u16 {
        let asked = self.client.get(self.url("/healthcheck")).send().await;
        asked.unwrap().status().as_u16()
    }

    /// Returns when its database is closed.
    async fn end(self) {
        drop(self.stop);
        self.serving.await.unwrap();
    }
}

/// Clients that create remote gateways, each under a name of its own, and note which answers they got.
struct Load {
    over: Arc<AtomicBool>,
    made: Arc<AtomicUsize>,
    refused: Arc<AtomicUsize>,
    clients: Vec<JoinHandle<BTreeSet<String>>>,
}

impl Load {
    fn on(server: &Served) -> Self {
        let (over, made, refused) = (
            Arc::<AtomicBool>::default(),
            Arc::<AtomicUsize>::default(),
            Arc::<AtomicUsize>::default(),
        );
        let clients = (0..8).map(|side| {
            let (over, made, refused) =
                (Arc::clone(&over), Arc::clone(&made), Arc::clone(&refused));
            let (client, url) = (
                server.client.clone(),
                server.url("/v2.0/l2-remote-gateways"),
            );
            tokio::spawn(async move {
                let mut kept = BTreeSet::new();
                for number in 0.. {
                    if over.load(Ordering::Relaxed) {
                        break;
                    }
                    let name = format!("{side}.{number}");
                    let body = json!({"l2_remote_gateway": {"name": name, "ipaddr": "192.0.2.1"}});
                    let answer = client.post(&url).json(&body).send().await.unwrap();
                    match answer.status().as_u16() {
                        201 => {
                            kept.insert(name);
                            made.fetch_add(1, Ordering::Relaxed);
                        }
                        503 => {
                            assert!(answer.headers().contains_key(RETRY_AFTER));
                            let body: Value = answer.json().await.unwrap();
                            assert_eq!(
                                body["NeutronError"]["type"], "ServiceUnavailable",
                                "{body}"
                            );
                            refused.fetch_add(1, Ordering::Relaxed);
                            tokio::time::sleep(Duration::from_millis(10)).await;
                        }
                        other => panic!("{other}: {}", answer.text().await.unwrap()),
                    }
                }
                kept
            })
        });
        let clients = clients.collect();
        Self {
            over,
            made,
            refused,
            clients,
        }
    }

    async fn until_more(counter: &AtomicUsize, what: &str) {
        let goal = counter.load(Ordering::Relaxed) + 10;
        let given_up = Instant::now() + PATIENCE;
        while counter.load(Ordering::Relaxed) < goal {
            assert!(Instant::now() < given_up, "no more {what}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn makes(&self) {
        Self::until_more(&self.made, "is made").await;
    }

    async fn is_refused(&self) {
        Self::until_more(&self.refused, "is refused").await;
    }

    /// Ends the clients and looks for everything that was answered 201.
    async fn nothing_is_lost(self, server: &Served) {
        self.over.store(true, Ordering::Relaxed);
        let mut kept = BTreeSet::new();
        for client in self.clients {
            kept.extend(client.await.unwrap());
        }
        let listed = server.get("/v2.0/l2-remote-gateways?fields=name").await;
        let listed: BTreeSet<String> = listed["l2_remote_gateways"]
            .as_array()
            .unwrap()
            .iter()
            .map(|gateway| gateway["name"].as_str().unwrap().to_owned())
            .collect();
        let lost: Vec<_> = kept.difference(&listed).collect();
        assert!(lost.is_empty(), "{lost:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgresql_that_is_restarted_under_load_costs_503_and_nothing_else() {
    let cluster = Postgres::start().unwrap();
    let url = cluster.create_database().unwrap();
    let server = Served::on(&url).await;
    let load = Load::on(&server);
    load.makes().await;
    cluster.kill().unwrap();
    load.is_refused().await;
    assert_eq!(server.health().await, 503);
    cluster.start_again().unwrap();
    load.makes().await;
    assert_eq!(server.health().await, 200);
    load.nothing_is_lost(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_full_costs_503_until_there_is_room() {
    let disk = Disk::new();
    let database = disk.path().join("l2gw.db").display().to_string();
    let server = Served::on(&database).await;
    let load = Load::on(&server);
    load.makes().await;
    disk.fill();
    load.is_refused().await;
    server.get("/v2.0/l2-remote-gateways?limit=1").await;
    disk.make_room();
    load.makes().await;
    load.nothing_is_lost(&server).await;
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_another_program_has_locked_costs_503_until_it_is_unlocked() {
    let directory = tempfile::TempDir::new().unwrap();
    let database = directory.path().join("l2gw.db");
    let url = database.display().to_string();
    let server = Served::on(&url).await;
    let load = Load::on(&server);
    load.makes().await;
    let program = "import sqlite3, sys\n\
                   database = sqlite3.connect(sys.argv[1], timeout=30, isolation_level=None)\n\
                   database.execute('BEGIN IMMEDIATE')\n\
                   sys.stdin.read()";
    let mut other = Command::new("python3")
        .args(["-c", program])
        .arg(&database)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    load.is_refused().await;
    server.get("/v2.0/l2-remote-gateways?limit=1").await;
    // It ends with its input, and its lock with it.
    drop(other.stdin.take());
    assert!(other.wait().unwrap().success());
    load.makes().await;
    load.nothing_is_lost(&server).await;
}

/// A small disk of its own. Needs root, as the tests of switches do.
struct Disk(tempfile::TempDir);

impl Disk {
    fn new() -> Self {
        let directory = tempfile::TempDir::new().unwrap();
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", "size=8m", "none"])
            .arg(directory.path());
        assert!(mount.status().unwrap().success());
        Self(directory)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn ballast(&self) -> std::path::PathBuf {
        self.path().join("ballast")
    }

    /// Until nothing more goes in.
    fn fill(&self) {
        use std::io::Write;
        let mut file = std::fs::File::create(self.ballast()).unwrap();
        while file.write_all(&[0; 4096]).is_ok() {}
    }

    fn make_room(&self) {
        std::fs::remove_file(self.ballast()).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // What is still open goes with its last user.
        let mut unmount = Command::new("umount");
        let _ = unmount.arg("-l").arg(self.path()).status();
    }
}
