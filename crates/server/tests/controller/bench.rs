//! A server without its REST half between a real database and a real ovsdb-server.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hardware_vtep::Database;
use model::resource::Kind;
use model::row::{Row, Value};
use model::status::{Report, Status};
use model::switch::{LogicalSwitchName, SwitchState};
use ovsdb::{Connection, ConnectionOptions, Operation, Transaction};
use server::account::Consent;
use server::controller::connections::{Connections, SwitchOptions};
use server::controller::{self, Controllers};
use store::Store;
use tempfile::TempDir;
use testkit::ovsdb_server::OvsdbServer;
use uuid::Uuid;

const PATIENCE: Duration = Duration::from_secs(20);

/// A server without its REST half, its switches, and an independent look at what the first one holds.
pub(crate) struct Bench {
    pub(crate) store: Store,
    pub(crate) controllers: Controllers,
    pub(crate) switch: OvsdbServer,
    /// Further ones.
    pub(crate) beside: Vec<OvsdbServer>,
    pub(crate) eyes: Connection<Database>,
    directory: TempDir,
}

/// What is left of a bench whose server has ended.
pub(crate) struct Stopped {
    switch: OvsdbServer,
    beside: Vec<OvsdbServer>,
    eyes: Connection<Database>,
    directory: TempDir,
}

impl Stopped {
    /// The file of a database of this name.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The switch.
    pub(crate) fn switch(&mut self) -> &mut OvsdbServer {
        &mut self.switch
    }

    /// Starts a server with the database in the file of this name, which may be a new one.
    pub(crate) async fn start(self, database: &str) -> Bench {
        let (store, controllers) = serve(&self.file(database), &self.switch, &self.beside).await;
        Bench {
            store,
            controllers,
            switch: self.switch,
            beside: self.beside,
            eyes: self.eyes,
            directory: self.directory,
        }
    }
}

async fn serve(
    database: &Path,
    switch: &OvsdbServer,
    beside: &[OvsdbServer],
) -> (Store, Controllers) {
    let store = Store::open(database.to_str().unwrap()).await.unwrap();
    let switches = std::iter::once(switch).chain(beside);
    let options = SwitchOptions {
        devices: switches
            .map(|switch| switch.unix_target().parse().unwrap())
            .collect(),
        ..SwitchOptions::default()
    };
    let connections = Connections::open(options).await.unwrap();
    let controllers = controller::start(&store, connections);
    (store, controllers)
}

/// A switch of this name with two ports.
pub(crate) fn switch(name: &str) -> OvsdbServer {
    let switch = OvsdbServer::start().unwrap();
    let ports = format!("add-ps {name} -- add-port {name} p1 -- add-port {name} p2");
    vtep_ctl(&switch, &ports.split(' ').collect::<Vec<_>>());
    switch
}

/// What a command of vtep-ctl(8) prints.
pub(crate) fn vtep_ctl(switch: &OvsdbServer, words: &[&str]) -> String {
    let database = format!("--db={}", switch.unix_target());
    let output = Command::new("vtep-ctl")
        .arg(database)
        .args(words)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words:?}: {errors}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

impl Bench {
    pub(crate) async fn new() -> Self {
        Self::of(switch("tor"), Vec::new()).await
    }

    /// A server that drives these switches.
    pub(crate) async fn of(switch: OvsdbServer, beside: Vec<OvsdbServer>) -> Self {
        let eyes: Connection<Database> = Connection::start(
            switch.unix_target().parse().unwrap(),
            hardware_vtep::NAME,
            ConnectionOptions::default(),
        );
        eyes.up().await;
        let directory = TempDir::new().unwrap();
        let database = directory.path().join("l2gw.sqlite");
        let (store, controllers) = serve(&database, &switch, &beside).await;
        Self {
            store,
            controllers,
            switch,
            beside,
            eyes,
            directory,
        }
    }

    /// Ends the server and closes its database.
    pub(crate) async fn stop(self) -> Stopped {
        self.controllers.stop().await;
        self.store.close().await;
        Stopped {
            switch: self.switch,
            beside: self.beside,
            eyes: self.eyes,
            directory: self.directory,
        }
    }

    /// The only controller's account.
    pub(crate) fn account(&self) -> Arc<server::account::Account> {
        Arc::clone(&self.controllers.board.accounts()[0])
    }

    /// Waits until the controller has compared the switch with what was committed before, and found that nothing is left
    /// to do or that it may not be done.
    pub(crate) async fn until_settled(&self) {
        let begun = Instant::now();
        let committed = *self.store.revisions().borrow();
        loop {
            let account = self.account();
            let told = account.told();
            let connected = told.connected_since.is_some() && !told.devices.is_empty();
            let nothing_left = account.compare().is_some_and(|found| {
                let left = match &told.withheld {
                    Some(withheld) => withheld.permitted(&found.plan).is_empty(),
                    None => found.plan.is_empty(),
                };
                found.revision >= committed && left
            });
            if connected && nothing_left {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "{told:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// An operator agrees, having seen all that was committed.
    pub(crate) fn consent(&self, to: Consent) {
        let now = *self.store.revisions().borrow();
        self.account().consent(to, now);
    }

    /// Lets nobody read what is committed from now on, the controllers neither, until the answer is dropped.
    pub(crate) async fn hold_readers(&self) -> std::sync::mpsc::Sender<()> {
        let (release, held) = std::sync::mpsc::channel::<()>();
        let held = Arc::new(Mutex::new(held));
        // More than there are threads that read.
        for _ in 0..64 {
            let held = Arc::clone(&held);
            let wait = move |_: &mut dyn store::Snapshot| {
                let held = held.lock().unwrap_or_else(PoisonError::into_inner);
                let _ = held.recv();
                Ok(())
            };
            // Queued by being asked once; carried out though nobody waits for it.
            let read = self.store.read(wait);
            let _ = tokio::time::timeout(Duration::ZERO, read).await;
        }
        release
    }

    pub(crate) async fn insert(&self, rows: Vec<Row>) {
        self.store
            .write(move |transaction| {
                // One by one: kinds may be mixed.
                rows.into_iter()
                    .try_for_each(|row| transaction.insert(&mut [row]))
            })
            .await
            .unwrap();
    }

    pub(crate) async fn update(&self, mut row: Row) {
        self.store
            .write(move |transaction| transaction.update(&mut row))
            .await
            .unwrap();
    }

    pub(crate) async fn delete(&self, kind: Kind, id: Uuid) {
        let deleted = self
            .store
            .write(move |transaction| transaction.delete(kind, id))
            .await;
        assert_eq!(deleted, Ok(true));
    }

    pub(crate) async fn report(&self, kind: Kind, id: Uuid) -> Report {
        let row = self
            .store
            .read(move |snapshot| snapshot.get(kind, id))
            .await
            .unwrap()
            .unwrap();
        self.controllers.board.report(&row)
    }

    pub(crate) fn held<T>(&self, look: impl FnOnce(&SwitchState) -> T) -> T {
        self.eyes
            .replica()
            .read(|database| look(database.unwrap().state()))
    }

    /// Waits until the switch holds what `right` says.
    pub(crate) async fn until_held(&self, right: impl Fn(&SwitchState) -> bool) {
        let begun = Instant::now();
        while !self.held(&right) {
            assert!(begun.elapsed() < PATIENCE, "{:#?}", self.held(Clone::clone));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(crate) async fn until_status(&self, kind: Kind, id: Uuid, status: Status) -> Report {
        let begun = Instant::now();
        loop {
            let report = self.report(kind, id).await;
            if report.status == status {
                return report;
            }
            assert!(begun.elapsed() < PATIENCE, "{report:?}, not {status}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until a status is explained by these words.
    pub(crate) async fn until_reason(&self, kind: Kind, id: Uuid, right: impl Fn(&str) -> bool) {
        let begun = Instant::now();
        loop {
            let report = self.report(kind, id).await;
            if report.reason.as_deref().is_some_and(&right) {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "{report:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// What a command of vtep-ctl(8) prints of the first switch.
    pub(crate) fn vtep_ctl(&self, words: &[&str]) -> String {
        vtep_ctl(&self.switch, words)
    }

    pub(crate) async fn transact(&self, operations: impl IntoIterator<Item = Operation>) {
        let (session, _) = self.eyes.up().await;
        let transaction = operations
            .into_iter()
            .fold(Transaction::new(), Transaction::with);
        session
            .transact(hardware_vtep::NAME, &transaction)
            .await
            .unwrap();
    }
}

pub(crate) fn row(kind: Kind, values: &[(&str, Value)]) -> Row {
    let mut row = Row::empty(kind);
    row.set("id", Value::Uuid(Uuid::new_v4()));
    for (name, value) in values {
        row.set(name, value.clone());
    }
    row
}

pub(crate) fn ip(text: &str) -> Value {
    Value::Ip(text.parse().unwrap())
}

/// A network stretched to one remote gateway, with one MAC behind it.
pub(crate) struct Stretch {
    pub(crate) network: Row,
    pub(crate) gateway: Row,
    pub(crate) attachment: Row,
    pub(crate) remote_gateway: Row,
    pub(crate) connection: Row,
    pub(crate) mac: Row,
}

impl Stretch {
    pub(crate) fn new(port: &str, key: i64) -> Self {
        Self::on(&[("tor", port)], key)
    }

    /// By a gateway of these ports of these switches.
    pub(crate) fn on(ports: &[(&str, &str)], key: i64) -> Self {
        let network = row(
            Kind::Network,
            &[
                ("name", "".into()),
                ("tenant_id", "".into()),
                ("provider:network_type", "vxlan".into()),
                ("provider:segmentation_id", Value::Integer(key)),
                ("mtu", Value::Integer(1450)),
                ("admin_state_up", Value::Bool(true)),
            ],
        );
        let devices = ports.iter().map(|(switch, port)| {
            format!(
                r#"{{"device_name":"{switch}","interfaces":[{{"name":"{port}","segmentation_id":[]}}]}}"#
            )
        });
        let devices = format!("[{}]", devices.collect::<Vec<_>>().join(","));
        let gateway = row(
            Kind::L2Gateway,
            &[
                ("name", "".into()),
                ("tenant_id", "".into()),
                ("devices", devices.as_str().into()),
            ],
        );
        let attachment = row(
            Kind::L2GatewayConnection,
            &[
                ("l2_gateway_id", Value::Uuid(gateway.id())),
                ("network_id", Value::Uuid(network.id())),
                ("segmentation_id", Value::Integer(0)),
                ("tenant_id", "".into()),
            ],
        );
        let remote_gateway = row(
            Kind::L2RemoteGateway,
            &[
                ("name", "".into()),
                ("ipaddr", ip("203.0.113.2")),
                ("bfd", Value::Bool(false)),
                ("tenant_id", "".into()),
            ],
        );
        let connection = row(
            Kind::L2RemoteGatewayConnection,
            &[
                ("l2_gateway_id", Value::Uuid(gateway.id())),
                ("network_id", Value::Uuid(network.id())),
                ("l2_remote_gateway_id", Value::Uuid(remote_gateway.id())),
                ("segmentation_id", Value::Integer(key + 1000)),
                ("flood", Value::Bool(true)),
                ("tenant_id", "".into()),
                ("attachment_id", Value::Uuid(attachment.id())),
            ],
        );
        let mac = Self::mac(&connection, &attachment, 0x0b);
        Self {
            network,
            gateway,
            attachment,
            remote_gateway,
            connection,
            mac,
        }
    }

    pub(crate) fn mac(connection: &Row, attachment: &Row, last: u64) -> Row {
        row(
            Kind::L2RemoteMac,
            &[
                (
                    "mac",
                    Value::Mac(model::value::MacAddress::from_u64(0x0200_0000_0000 | last)),
                ),
                ("ipaddr", ip("192.0.2.11")),
                ("rgw_connection", Value::Uuid(connection.id())),
                ("tenant_id", "".into()),
                ("attachment_id", Value::Uuid(attachment.id())),
            ],
        )
    }

    pub(crate) fn rows(&self) -> Vec<Row> {
        [
            &self.network,
            &self.gateway,
            &self.attachment,
            &self.remote_gateway,
            &self.connection,
            &self.mac,
        ]
        .map(Clone::clone)
        .into()
    }

    pub(crate) fn name(&self) -> LogicalSwitchName {
        LogicalSwitchName::new(self.network.id().to_string())
    }
}
