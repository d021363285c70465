//! The controller between a real database and a real ovsdb-server.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hardware_vtep::{Database, Publication, PublishedPort};
use model::resource::Kind;
use model::row::{Row, Value};
use model::status::{Report, Status};
use model::switch::{LogicalSwitchName, SwitchState};
use ovsdb::{Connection, ConnectionOptions, Operation, Transaction};
use server::controller::{self, Controllers};
use store::Store;
use tempfile::TempDir;
use testkit::ovsdb_server::OvsdbServer;
use uuid::Uuid;

const PATIENCE: Duration = Duration::from_secs(20);

/// A server without its REST half, one switch, and an independent look at what the switch holds.
struct Bench {
    store: Store,
    controllers: Controllers,
    switch: OvsdbServer,
    eyes: Connection<Database>,
    _directory: TempDir,
}

impl Bench {
    async fn new() -> Self {
        let switch = OvsdbServer::start().unwrap();
        let eyes: Connection<Database> = Connection::start(
            switch.unix_target().parse().unwrap(),
            hardware_vtep::NAME,
            ConnectionOptions::default(),
        );
        let (session, _) = eyes.up().await;
        let publication = Publication {
            name: "tor".into(),
            ports: [
                (Arc::from("p1"), PublishedPort::default()),
                (Arc::from("p2"), PublishedPort::default()),
            ]
            .into(),
            ..Publication::default()
        };
        hardware_vtep::publish(&session, eyes.replica(), &publication)
            .await
            .unwrap();
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("l2gw.sqlite");
        let store = Store::open(path.to_str().unwrap()).await.unwrap();
        let controllers = controller::start(&store, vec![switch.unix_target().parse().unwrap()]);
        Self {
            store,
            controllers,
            switch,
            eyes,
            _directory: directory,
        }
    }

    async fn insert(&self, rows: Vec<Row>) {
        self.store
            .write(move |transaction| {
                // One by one: kinds may be mixed.
                rows.into_iter()
                    .try_for_each(|row| transaction.insert(&mut [row]))
            })
            .await
            .unwrap();
    }

    async fn delete(&self, kind: Kind, id: Uuid) {
        let deleted = self
            .store
            .write(move |transaction| transaction.delete(kind, id))
            .await;
        assert_eq!(deleted, Ok(true));
    }

    async fn report(&self, kind: Kind, id: Uuid) -> Report {
        let row = self
            .store
            .read(move |snapshot| snapshot.get(kind, id))
            .await
            .unwrap()
            .unwrap();
        self.controllers.board.report(&row)
    }

    fn held<T>(&self, look: impl FnOnce(&SwitchState) -> T) -> T {
        self.eyes
            .replica()
            .read(|database| look(database.unwrap().state()))
    }

    /// Waits until the switch holds what `right` says.
    async fn until_held(&self, right: impl Fn(&SwitchState) -> bool) {
        let begun = Instant::now();
        while !self.held(&right) {
            assert!(begun.elapsed() < PATIENCE, "{:#?}", self.held(Clone::clone));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn until_status(&self, kind: Kind, id: Uuid, status: Status) -> Report {
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

    async fn transact(&self, operations: impl IntoIterator<Item = Operation>) {
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

fn row(kind: Kind, values: &[(&str, Value)]) -> Row {
    let mut row = Row::empty(kind);
    row.set("id", Value::Uuid(Uuid::new_v4()));
    for (name, value) in values {
        row.set(name, value.clone());
    }
    row
}

fn ip(text: &str) -> Value {
    Value::Ip(text.parse().unwrap())
}

/// A network stretched to one remote gateway, with one MAC behind it.
struct Stretch {
    network: Row,
    gateway: Row,
    attachment: Row,
    remote_gateway: Row,
    connection: Row,
    mac: Row,
}

impl Stretch {
    fn new(port: &str, key: i64) -> Self {
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
        let devices = format!(
            r#"[{{"device_name":"tor","interfaces":[{{"name":"{port}","segmentation_id":[]}}]}}]"#
        );
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

    fn mac(connection: &Row, attachment: &Row, last: u64) -> Row {
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

    fn rows(&self) -> Vec<Row> {
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

    fn name(&self) -> LogicalSwitchName {
        LogicalSwitchName::new(self.network.id().to_string())
    }
}

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
