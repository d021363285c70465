//! Switches that dial us: real ovsdb-servers with a `Manager` row each, as hardware has it.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::time::{Duration, Instant};

use hardware_vtep::{Database, Publication};
use ovsdb::{
    Atom, Connection, ConnectionOptions, Datum, Endpoint, Operation, Outcome, Row, Target,
    Transaction,
};
use server::controller::connections::{Connections, SwitchOptions};
use server::controller::{self, Controllers};
use store::Store;
use tempfile::TempDir;
use testkit::certificates::{CertificateAuthority, Credentials};
use testkit::ovsdb_server::OvsdbServer;
use testkit::port::free_port;

const PATIENCE: Duration = Duration::from_secs(20);

/// A server that waits for switches.
struct Waiting {
    controllers: Controllers,
    store: Store,
    manager: Target,
    _directory: TempDir,
}

impl Waiting {
    async fn start(method: &str, credentials: Option<&Credentials>) -> Self {
        Self::and_dialling(method, credentials, Vec::new()).await
    }

    /// A server that waits for switches without TLS, with options changed.
    async fn with(change: impl FnOnce(&mut SwitchOptions)) -> Self {
        let mut options = Self::options("tcp", None, Vec::new());
        change(&mut options);
        Self::of(options).await
    }

    /// A server that waits for switches, and dials some too.
    async fn and_dialling(
        method: &str,
        credentials: Option<&Credentials>,
        devices: Vec<Endpoint>,
    ) -> Self {
        Self::of(Self::options(method, credentials, devices)).await
    }

    fn options(
        method: &str,
        credentials: Option<&Credentials>,
        devices: Vec<Endpoint>,
    ) -> SwitchOptions {
        let port = free_port().unwrap();
        SwitchOptions {
            devices,
            ovsdb_listen: vec![format!("p{method}:{port}:127.0.0.1").parse().unwrap()],
            ovsdb_listen_limit: None,
            ovsdb_listen_memory: None,
            ovsdb_private_key: credentials.map(|files| files.private_key.clone()),
            ovsdb_certificate: credentials.map(|files| files.certificate.clone()),
            ovsdb_ca_cert: credentials.map(|files| files.ca_certificate.clone()),
        }
    }

    async fn of(options: SwitchOptions) -> Self {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("l2gw.sqlite");
        let store = Store::open(path.to_str().unwrap()).await.unwrap();
        let manager = options.ovsdb_listen.first().and_then(dialled).unwrap();
        let connections = Connections::open(options).await.unwrap();
        Self {
            controllers: controller::start(&store, connections),
            store,
            manager,
            _directory: directory,
        }
    }

    /// Over which connections a switch is driven, by the endpoint's name.
    fn drivers_of(&self, switch: &str) -> Vec<String> {
        let accounts = self.controllers.board.accounts();
        let mut drivers: Vec<_> = accounts
            .iter()
            .filter(|account| account.told().devices.contains(switch))
            .map(|account| account.endpoint.clone())
            .collect();
        drivers.sort();
        drivers
    }

    async fn until_driven(&self, switch: &str, right: impl Fn(&[String]) -> bool) {
        let begun = Instant::now();
        loop {
            let drivers = self.drivers_of(switch);
            assert!(drivers.len() <= 1, "{drivers:?}");
            if right(&drivers) {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "{drivers:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn knows(&self, device: &str) -> bool {
        self.store
            .read(|snapshot| snapshot.seen_devices())
            .await
            .unwrap()
            .contains(device)
    }
}

/// The target to dial for one to listen on.
fn dialled(passive: &Target) -> Option<Target> {
    match passive {
        Target::PassiveTcp(address) => Some(Target::Tcp(*address)),
        Target::PassiveSsl(address) => Some(Target::Ssl(*address)),
        _ => None,
    }
}

/// A switch whose ovsdb-server dials the managers that its database names.
struct Switch {
    server: OvsdbServer,
    eyes: Connection<Database>,
}

impl Switch {
    async fn start(
        name: Option<&str>,
        manager: &Target,
        credentials: Option<&Credentials>,
    ) -> Self {
        let mut server = OvsdbServer::start().unwrap();
        let mut arguments = vec!["--remote=db:hardware_vtep,Global,managers".to_owned()];
        arguments.extend(credentials.into_iter().flat_map(Credentials::arguments));
        server.restart_with(arguments).unwrap();
        let endpoint: Endpoint = server.unix_target().parse().unwrap();
        let eyes = Connection::start(endpoint, hardware_vtep::NAME, ConnectionOptions::default());
        let switch = Self { server, eyes };
        // It dials again within a second, not eight.
        let row = Row::new()
            .with("target", manager.to_string())
            .with("max_backoff", 1000i64);
        let managers = Datum::set([Atom::NamedUuid("manager".into())]);
        switch
            .transact([
                Operation::insert_named("Manager", "manager", row),
                Operation::insert("Global", Row::new().with("managers", managers)),
            ])
            .await;
        if let Some(name) = name {
            switch.publish(name).await;
        }
        switch
    }

    async fn publish(&self, name: &str) {
        let publication = Publication {
            name: name.into(),
            ..Publication::default()
        };
        let (session, _) = self.eyes.up().await;
        hardware_vtep::publish(&session, self.eyes.replica(), &publication)
            .await
            .unwrap();
    }

    fn vtep_ctl(&self, words: &[&str]) {
        let database = format!("--db={}", self.server.unix_target());
        let status = std::process::Command::new("vtep-ctl")
            .arg(database)
            .args(words)
            .status()
            .unwrap();
        assert!(status.success(), "{words:?}");
    }

    async fn transact(&self, operations: impl IntoIterator<Item = Operation>) -> Outcome {
        let (session, _) = self.eyes.up().await;
        let transaction: Transaction = operations.into_iter().collect();
        session
            .transact(hardware_vtep::NAME, &transaction)
            .await
            .unwrap()
    }

    /// Whether its server has a connection to the manager now.
    async fn is_connected(&self) -> bool {
        let (session, _) = self.eyes.up().await;
        let ask = Operation::select("Manager", [], ["is_connected"]);
        let answer = session.transact(hardware_vtep::NAME, &Transaction::new().with(ask));
        // A server that was just killed is connected to nobody.
        let Ok(managers) = answer.await else {
            return false;
        };
        let managers: Vec<serde_json::Value> = managers.rows(0).unwrap();
        managers
            .iter()
            .any(|manager| manager["is_connected"] == true)
    }

    async fn until_connected(&self, expected: bool) {
        let begun = Instant::now();
        while self.is_connected().await != expected {
            assert!(begun.elapsed() < PATIENCE, "connected: {}", !expected);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Whether the connection stays for longer than a refused switch takes to dial again.
    async fn stays_connected(&self) -> bool {
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(2500) {
            if !self.is_connected().await {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        true
    }

    async fn until_it_stays_connected(&self) {
        let begun = Instant::now();
        while !self.stays_connected().await {
            assert!(begun.elapsed() < PATIENCE, "it is not connected for long");
        }
    }
}

#[tokio::test]
async fn a_switch_that_dials_is_served_as_soon_as_it_says_who_it_is() {
    let waiting = Waiting::start("tcp", None).await;
    let mut switch = Switch::start(None, &waiting.manager, None).await;
    switch.until_connected(true).await;
    assert!(!waiting.knows("tor1").await);
    switch.publish("tor1").await;
    let begun = Instant::now();
    while !waiting.knows("tor1").await {
        assert!(begun.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    switch.server.kill().unwrap();
    switch.server.start_again().unwrap();
    switch.until_it_stays_connected().await;
    waiting.controllers.stop().await;
}

#[tokio::test]
async fn a_switch_that_dials_again_and_again_is_one_and_counted_under_one_name() {
    let waiting = Waiting::start("tcp", None).await;
    let mut switch = Switch::start(Some("tor1"), &waiting.manager, None).await;
    let driven = |drivers: &[String]| !drivers.is_empty();
    for _ in 0..3 {
        waiting.until_driven("tor1", driven).await;
        switch.server.kill().unwrap();
        waiting.until_driven("tor1", <[String]>::is_empty).await;
        switch.server.start_again().unwrap();
    }
    waiting.until_driven("tor1", driven).await;
    let board = &waiting.controllers.board;
    assert_eq!(board.accounts().len(), 1);
    let lost: Vec<_> = board
        .tallies()
        .into_iter()
        .map(|(name, tally)| (name, tally.sessions_lost()))
        .collect();
    assert_eq!(lost, [("tor1".to_owned(), 3)]);
    switch.server.kill().unwrap();
    waiting.controllers.stop().await;
}

#[tokio::test]
async fn the_newest_connection_of_a_switch_wins() {
    let waiting = Waiting::start("tcp", None).await;
    let mut older = Switch::start(Some("tor1"), &waiting.manager, None).await;
    older.until_it_stays_connected().await;
    let newer = Switch::start(Some("tor1"), &waiting.manager, None).await;
    older.until_connected(false).await;
    older.server.kill().unwrap();
    newer.until_it_stays_connected().await;
    waiting.controllers.stop().await;
}

#[tokio::test]
async fn a_switch_is_not_taken_over_by_one_with_another_certificate() {
    let ca = CertificateAuthority::new().unwrap();
    let controller = ca.issue("controller").unwrap();
    let waiting = Waiting::start("ssl", Some(&controller)).await;
    let (own, strange) = (ca.issue("tor1").unwrap(), ca.issue("tor2").unwrap());
    let mut tor1 = Switch::start(Some("tor1"), &waiting.manager, Some(&own)).await;
    tor1.until_it_stays_connected().await;
    let mut impostor = Switch::start(Some("tor1"), &waiting.manager, Some(&strange)).await;
    let (stays, stays_too) = tokio::join!(tor1.stays_connected(), impostor.stays_connected());
    assert!(stays && !stays_too);
    // It would be served where it calls in the moment between the two that follow: then nobody is connected as tor1.
    impostor.server.kill().unwrap();
    // Another certificate of the same subject is the same switch: certificates are renewed.
    let renewed = ca.issue("tor1").unwrap();
    let again = Switch::start(Some("tor1"), &waiting.manager, Some(&renewed)).await;
    tor1.until_connected(false).await;
    tor1.server.kill().unwrap();
    again.until_it_stays_connected().await;
    assert!(waiting.knows("tor1").await);
    waiting.controllers.stop().await;
}

#[tokio::test]
async fn a_switch_that_can_be_reached_both_ways_is_driven_over_one_of_them() {
    let directory = TempDir::new().unwrap();
    let link = directory.path().join("db.sock");
    let endpoint: Endpoint = format!("unix:{}", link.display()).parse().unwrap();
    let dialled = endpoint.to_string();
    let waiting = Waiting::and_dialling("tcp", None, vec![endpoint]).await;
    // The way that we dial is not open yet.
    let mut switch = Switch::start(Some("tor1"), &waiting.manager, None).await;
    let called = |drivers: &[String]| {
        drivers
            .iter()
            .any(|d| d.starts_with("tor1 at tcp:127.0.0.1:"))
    };
    waiting.until_driven("tor1", called).await;
    let labels = || -> Vec<_> {
        let accounts = waiting.controllers.board.accounts();
        accounts
            .iter()
            .map(|account| account.label.clone())
            .collect()
    };
    assert!(labels().contains(&"tor1".to_owned()), "{:?}", labels());

    std::os::unix::fs::symlink(switch.server.socket(), &link).unwrap();
    let begun = Instant::now();
    let says_so = || {
        let accounts = waiting.controllers.board.accounts();
        let away = accounts.iter().find(|a| a.endpoint == dialled);
        let away = away.and_then(|account| account.told().away);
        away.is_some_and(|away| {
            away.starts_with("tor1 is driven over its connection tcp:127.0.0.1:")
        })
    };
    while !says_so() {
        assert!(begun.elapsed() < PATIENCE);
        assert_eq!(waiting.drivers_of("tor1").len(), 1);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // It calls no more: the other way is taken, and kept when it calls again.
    let manager = waiting.manager.to_string();
    switch.vtep_ctl(&["del-manager"]);
    waiting
        .until_driven("tor1", |drivers| drivers == [dialled.as_str()])
        .await;
    switch.vtep_ctl(&["set-manager", &manager]);
    assert!(!switch.stays_connected().await, "it is turned away");
    assert_eq!(waiting.drivers_of("tor1"), [dialled]);
    switch.server.kill().unwrap();
    waiting.controllers.stop().await;
}

/// Without TLS anybody may come as any switch, and as thousands that there are not.
#[tokio::test]
async fn callers_leave_no_more_names_behind_than_are_allowed() {
    let waiting = Waiting::with(|options| options.ovsdb_listen_limit = Some(2)).await;
    let mut tor1 = Switch::start(Some("tor1"), &waiting.manager, None).await;
    let tor2 = Switch::start(Some("tor2"), &waiting.manager, None).await;
    let driven = |drivers: &[String]| !drivers.is_empty();
    waiting.until_driven("tor1", driven).await;
    waiting.until_driven("tor2", driven).await;

    let third = Switch::start(Some("tor3"), &waiting.manager, None).await;
    assert!(!third.stays_connected().await);
    // One that changes its name is a new one too.
    tor2.vtep_ctl(&["set", "Physical_Switch", "tor2", "name=tor4"]);
    tor2.until_connected(false).await;
    for name in ["tor3", "tor4"] {
        assert!(!waiting.knows(name).await, "{name}");
    }
    let board = &waiting.controllers.board;
    assert!(!board.tallies().contains_key("tor4"));

    // Who is known is served as before.
    tor1.server.kill().unwrap();
    waiting.until_driven("tor1", <[String]>::is_empty).await;
    tor1.server.start_again().unwrap();
    waiting.until_driven("tor1", driven).await;
    waiting.controllers.stop().await;
}

#[tokio::test]
async fn a_caller_whose_name_no_switch_can_have_is_turned_away() {
    let waiting = Waiting::start("tcp", None).await;
    let long = "a".repeat(300);
    let switch = Switch::start(Some(&long), &waiting.manager, None).await;
    assert!(!switch.stays_connected().await);
    assert!(!waiting.knows(&long).await);
    switch.vtep_ctl(&["set", "Physical_Switch", &long, "name=tor1"]);
    switch.until_it_stays_connected().await;
    assert!(waiting.knows("tor1").await);
    waiting.controllers.stop().await;
}
