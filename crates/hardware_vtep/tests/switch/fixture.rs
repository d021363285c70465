//! A switch: a real ovsdb-server, and a session that follows it.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;

use hardware_vtep::{Database, Publication, PublishedPort, publish};
use model::plan::{Plan, plan};
use model::switch::{
    Locator, LogicalSwitch, LogicalSwitchName, PhysicalPort, PortVlan, RemoteMac, SwitchState,
};
use model::value::{MacAddress, VlanId, Vni};
use ovsdb::{Operation, Outcome, Session, SessionOptions, SharedReplica, Transaction};
use serde::de::DeserializeOwned;
use testkit::ovsdb_server::OvsdbServer;
use tokio::runtime::Runtime;

pub(crate) struct Switch {
    pub(crate) server: OvsdbServer,
    pub(crate) session: Session,
    pub(crate) replica: Arc<SharedReplica<Database>>,
}

impl Switch {
    pub(crate) async fn start() -> Self {
        Self::of(OvsdbServer::start().unwrap()).await
    }

    pub(crate) async fn of(server: OvsdbServer) -> Self {
        let (session, replica) = follow(&server).await;
        Self {
            server,
            session,
            replica,
        }
    }

    pub(crate) fn state(&self) -> SwitchState {
        state(&self.replica)
    }

    pub(crate) fn plan(&self, desired: &SwitchState) -> Plan {
        self.replica
            .read(|database| plan(desired, database.unwrap().state()))
    }

    /// Applies the difference; every step must succeed.
    pub(crate) async fn reach(&self, desired: &SwitchState) {
        let plan = self.plan(desired);
        let failures = hardware_vtep::apply(&self.session, &self.replica, &plan).await;
        assert!(failures.is_empty(), "{failures:#?} of\n{plan}");
    }

    pub(crate) async fn transact(
        &self,
        operations: impl IntoIterator<Item = Operation>,
    ) -> Outcome {
        let transaction: Transaction = operations.into_iter().collect();
        self.session
            .transact(hardware_vtep::NAME, &transaction)
            .await
            .unwrap()
    }

    /// All rows of a table, as the server has them.
    pub(crate) async fn select<T: DeserializeOwned>(
        &self,
        table: &'static str,
        columns: impl IntoIterator<Item = &'static str>,
    ) -> Vec<T> {
        let outcome = self.transact([Operation::select(table, [], columns)]).await;
        outcome.rows(0).unwrap()
    }

    /// The row of this name.
    pub(crate) async fn row_of(&self, table: &'static str, name: &str) -> uuid::Uuid {
        #[derive(serde::Deserialize)]
        struct Identity {
            #[serde(rename = "_uuid")]
            uuid: ovsdb::column::Reference,
        }
        let named = [ovsdb::Condition::new("name", "==", name.to_owned())];
        let outcome = self
            .transact([Operation::select(table, named, ["_uuid"])])
            .await;
        let rows: Vec<Identity> = outcome.rows(0).unwrap();
        rows.first().unwrap().uuid.0
    }

    pub(crate) async fn count(&self, table: &'static str) -> usize {
        self.select::<serde_json::Value>(table, ["_uuid"])
            .await
            .len()
    }

    /// Publishes a physical switch with these ports.
    pub(crate) async fn publish(&self, name: &str, ports: &[&str]) {
        publish(&self.session, &self.replica, &publication(name, ports))
            .await
            .unwrap();
    }
}

pub(crate) async fn follow(server: &OvsdbServer) -> (Session, Arc<SharedReplica<Database>>) {
    let target = server.unix_target().parse().unwrap();
    let session = Session::connect(&target, &SessionOptions::default())
        .await
        .unwrap();
    let schema = Arc::new(session.schema(hardware_vtep::NAME).await.unwrap());
    let replica = Arc::new(SharedReplica::default());
    session.monitor(&schema, &replica).await.unwrap();
    (session, replica)
}

pub(crate) fn state(replica: &SharedReplica<Database>) -> SwitchState {
    replica.read(|database| database.unwrap().state().clone())
}

pub(crate) fn publication(name: &str, ports: &[&str]) -> Publication {
    Publication {
        name: name.into(),
        description: "a test".to_owned(),
        tunnel_ips: [Ipv4Addr::new(192, 0, 2, 100)].into(),
        ports: ports
            .iter()
            .map(|port| (Arc::from(*port), PublishedPort::default()))
            .collect(),
        ..Publication::default()
    }
}

pub(crate) fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

pub(crate) fn name(text: &str) -> LogicalSwitchName {
    LogicalSwitchName::new(text)
}

pub(crate) fn vni(number: u32) -> Vni {
    Vni::new(number).unwrap()
}

pub(crate) fn locator(host: u8, key: Option<u32>) -> Locator {
    Locator {
        ip: Ipv4Addr::new(192, 0, 2, host),
        tunnel_key: key.map(vni),
    }
}

pub(crate) fn mac(number: u32) -> MacAddress {
    MacAddress::from_u64(0x0200_0000_0000 | u64::from(number))
}

pub(crate) fn via(locator: Locator) -> RemoteMac {
    RemoteMac { locator, ip: None }
}

pub(crate) fn port_vlan(switch: &str, port: &str, vlan: u16) -> PortVlan {
    PortVlan {
        port: PhysicalPort {
            switch: switch.into(),
            name: port.into(),
        },
        vlan: VlanId::new(vlan).unwrap(),
    }
}

/// A network of ours.
pub(crate) fn network(
    key: u32,
    flood: impl IntoIterator<Item = Locator>,
    macs: impl IntoIterator<Item = (MacAddress, RemoteMac)>,
) -> LogicalSwitch {
    LogicalSwitch {
        owned: true,
        tunnel_key: Some(vni(key)),
        mtu: None,
        flood: flood.into_iter().collect::<BTreeSet<_>>(),
        macs: macs.into_iter().collect(),
    }
}

/// A state of networks alone.
pub(crate) fn networks<'a>(all: impl IntoIterator<Item = (&'a str, LogicalSwitch)>) -> SwitchState {
    SwitchState {
        logical_switches: all
            .into_iter()
            .map(|(text, network)| (name(text), network))
            .collect(),
        ..SwitchState::default()
    }
}
