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
use testkit::ovsdb_server::{OvsdbServer, free_port};

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
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("l2gw.sqlite");
        let store = Store::open(path.to_str().unwrap()).await.unwrap();
        let port = free_port().unwrap();
        let options = SwitchOptions {
            ovsdb_listen: vec![format!("p{method}:{port}:127.0.0.1").parse().unwrap()],
            ovsdb_private_key: credentials.map(|files| files.private_key.clone()),
            ovsdb_certificate: credentials.map(|files| files.certificate.clone()),
            ovsdb_ca_cert: credentials.map(|files| files.ca_certificate.clone()),
            ..SwitchOptions::default()
        };
        let connections = Connections::open(options).await.unwrap();
        Self {
            controllers: controller::start(&store, connections),
            store,
            manager: format!("{method}:127.0.0.1:{port}").parse().unwrap(),
            _directory: directory,
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
    let impostor = Switch::start(Some("tor1"), &waiting.manager, Some(&strange)).await;
    let (stays, stays_too) = tokio::join!(tor1.stays_connected(), impostor.stays_connected());
    assert!(stays && !stays_too);
    // Another certificate of the same subject is the same switch: certificates are renewed.
    let renewed = ca.issue("tor1").unwrap();
    let again = Switch::start(Some("tor1"), &waiting.manager, Some(&renewed)).await;
    tor1.until_connected(false).await;
    tor1.server.kill().unwrap();
    again.until_it_stays_connected().await;
    assert!(waiting.knows("tor1").await);
    waiting.controllers.stop().await;
}
