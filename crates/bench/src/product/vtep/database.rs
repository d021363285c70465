//! A controller as plain as can be: it writes rows into the database of `l2gw vtep` and says when they were committed.

use std::net::Ipv4Addr;
use std::ops::Range;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use futures_util::{StreamExt as _, pin_mut};
use ovsdb::{
    Atom, Condition, Datum, Mutation, Operation, Row, Session, SessionOptions, Transaction,
};
use serde::Deserialize;
use testkit::topology::Cloud;
use tokio::runtime::Runtime;
use uuid::Uuid;

use crate::stations::{Station, stations};
use crate::watch::ovsdb::DATABASE;

/// Rows per transaction and transactions under way: ovsdb-server is fastest with a few thousand rows in its input.
const ROWS: usize = 100;
const WINDOW: usize = 32;
/// The VXLAN keys of the n-th network are these and n.
const INSIDE_KEY: u32 = 20_000;
const WAN_KEY: u32 = 10_000;
/// Where every network has a host, and where all stations are.
const INSIDE_HOST: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 11);
const REMOTE_GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 99);
/// The port that every switch has and that leads nowhere.
const NOWHERE: &str = "border";
/// The WAN key of the network that joins two clouds, and its place on the port.
pub(super) const JOINED_KEY: u32 = 456;
const JOINED_VLAN: i64 = 4094;

/// The writer.
pub(super) struct Controller {
    session: Session,
    runtime: Runtime,
    /// The port that every network is bound to, each in a VLAN of its own.
    port: Uuid,
    networks: Vec<Network>,
    /// The logical switch of the joined network.
    joined: Option<Uuid>,
}

/// What is written for one network before its stations.
#[derive(Clone, Copy, Debug)]
struct Network {
    logical_switch: Uuid,
    wan: Uuid,
}

#[derive(Deserialize)]
struct Identity {
    #[serde(rename = "_uuid")]
    uuid: ovsdb::column::Reference,
}

#[derive(Deserialize)]
struct Port {
    #[serde(rename = "_uuid")]
    uuid: ovsdb::column::Reference,
    name: String,
}

impl Controller {
    pub(super) fn connect(socket: &Path) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let target = format!("unix:{}", socket.display()).parse()?;
        let (session, port) = runtime.block_on(async {
            let session = Session::connect(&target, &SessionOptions::default()).await?;
            let ports = Operation::select("Physical_Port", [], ["_uuid", "name"]);
            let outcome = session
                .transact(DATABASE, &Transaction::new().with(ports))
                .await?;
            let mut ports = outcome.rows::<Port>(0)?;
            // One that leads somewhere, if there is one.
            ports.sort_by_key(|port| port.name == NOWHERE);
            let port = ports.into_iter().next().context("no port")?;
            anyhow::Ok((session, port.uuid.0))
        })?;
        Ok(Self {
            session,
            runtime,
            port,
            networks: Vec::new(),
            joined: None,
        })
    }

    /// Writes so many more networks, in one transaction: each with a key, a host inside, a remote gateway that floods, one
    /// station with an address behind it, and a place on the port. Returns when it was sent and when committed.
    pub(super) fn networks(&mut self, count: u32) -> Result<(Instant, Instant)> {
        let first = u32::try_from(self.networks.len())?;
        let inside = match self.networks.is_empty() {
            true => Atom::NamedUuid("inside".into()),
            false => self.locator(INSIDE_HOST)?.context("no locator")?.into(),
        };
        let mut transaction = Transaction::new();
        if self.networks.is_empty() {
            let host = locator(INSIDE_HOST, None);
            transaction.push(Operation::insert_named("Physical_Locator", "inside", host));
        }
        let mut places = Vec::new();
        let mut bindings = Vec::new();
        for number in first..first + count {
            let named = |what: &str| format!("{what}{number}");
            let reference = |what: &str| Atom::NamedUuid(named(what).into());
            let row = Row::new()
                .with("name", Uuid::from_u128(u128::from(number) + 1).to_string())
                .with("tunnel_key", INSIDE_KEY + number);
            let logical_switch =
                transaction.push(Operation::insert_named("Logical_Switch", named("ls"), row));
            let wan = transaction.push(Operation::insert_named(
                "Physical_Locator",
                named("wan"),
                locator(REMOTE_GATEWAY, Some(WAN_KEY + number)),
            ));
            places.push((logical_switch, wan));
            let set = Datum::set([inside.clone(), reference("wan")]);
            let set = Row::new().with("locators", set);
            transaction.push(Operation::insert_named(
                "Physical_Locator_Set",
                named("set"),
                set,
            ));
            let flood = Row::new()
                .with("MAC", "unknown-dst")
                .with("logical_switch", reference("ls"))
                .with("locator_set", reference("set"));
            transaction.push(Operation::insert("Mcast_Macs_Remote", flood));
            let station = Station::nth(number);
            transaction.push(mac(station, reference("ls"), reference("wan")));
            bindings.push((i64::from(number), reference("ls")));
        }
        let bind = Mutation::insert("vlan_bindings", Datum::map(bindings));
        transaction.push(Operation::mutate("Physical_Port", self.port, [bind]));
        let sent = Instant::now();
        let transact = self.session.transact(DATABASE, &transaction);
        let outcome = self.runtime.block_on(transact)?;
        let committed = Instant::now();
        for (logical_switch, wan) in places {
            self.networks.push(Network {
                logical_switch: outcome.inserted(logical_switch).context("no uuid")?,
                wan: outcome.inserted(wan).context("no uuid")?,
            });
        }
        Ok((sent, committed))
    }

    /// Writes stations, the n-th into the (n modulo networks)-th network, as a controller in a hurry does: small transactions,
    /// some of them under way. Returns when the last was committed.
    pub(super) fn stations(&self, numbers: Range<u32>) -> Result<Instant> {
        let rest: Vec<_> = numbers.collect();
        let transactions = rest.chunks(ROWS).map(|chunk| self.insertion(chunk));
        self.runtime.block_on(async {
            let outcomes = self.session.pipeline(DATABASE, transactions, WINDOW);
            pin_mut!(outcomes);
            while let Some(outcome) = outcomes.next().await {
                outcome?;
            }
            Ok(Instant::now())
        })
    }

    /// Writes stations by one transaction. Returns when it was committed.
    pub(super) fn stations_at_once(&self, numbers: Range<u32>) -> Result<Instant> {
        let numbers: Vec<_> = numbers.collect();
        let transact = self.session.transact(DATABASE, &self.insertion(&numbers));
        self.runtime.block_on(transact)?;
        Ok(Instant::now())
    }

    fn insertion(&self, numbers: &[u32]) -> Transaction {
        let networks = self.networks.len();
        let stations = numbers.iter().filter_map(|number| {
            let network = self.networks.get(*number as usize % networks)?;
            let Network {
                logical_switch,
                wan,
            } = *network;
            Some(mac(
                Station::nth(*number),
                logical_switch.into(),
                wan.into(),
            ))
        });
        stations.collect()
    }

    /// Removes all stations but the first of each network.
    pub(super) fn remove_stations(&self, networks: u32) -> Result<()> {
        let keep =
            stations(0..networks).map(|station| Condition::new("MAC", "!=", station.mac_text()));
        let remove = Operation::delete_where("Ucast_Macs_Remote", keep.collect::<Vec<_>>());
        self.transact(Transaction::new().with(remove)).map(drop)
    }

    /// Writes one station into the first network. Returns when it was committed.
    pub(super) fn station_of_first(&self, number: u32) -> Result<Instant> {
        let first = self.networks.first().context("no network")?;
        let station = Station::nth(number);
        let insert = mac(station, first.logical_switch.into(), first.wan.into());
        self.transact(Transaction::new().with(insert))
    }

    /// Joins the network of a cloud with what a remote gateway has under [`JOINED_KEY`]; both sides flood.
    pub(super) fn join(&mut self, cloud: &Cloud, remote: Ipv4Addr) -> Result<()> {
        let named = |name: &'static str| Atom::NamedUuid(name.into());
        let row = Row::new()
            .with("name", Uuid::max().to_string())
            .with("tunnel_key", cloud.vni);
        let mut transaction = Transaction::new();
        let logical_switch = transaction.push(Operation::insert_named("Logical_Switch", "ls", row));
        let hosts = cloud
            .computes
            .iter()
            .map(|compute| (compute.tunnel_ip, None));
        let mut locators = Vec::new();
        for (number, (ip, key)) in hosts.chain([(remote, Some(JOINED_KEY))]).enumerate() {
            let known = match key {
                None => self.locator(ip)?,
                Some(_) => None,
            };
            locators.push(match known {
                Some(known) => known.into(),
                None => {
                    let name = format!("at{number}");
                    let row = locator(ip, key);
                    let insert = Operation::insert_named("Physical_Locator", name.clone(), row);
                    transaction.push(insert);
                    Atom::NamedUuid(name.into())
                }
            });
        }
        let set = Row::new().with("locators", Datum::set(locators));
        transaction.push(Operation::insert_named("Physical_Locator_Set", "set", set));
        let flood = Row::new()
            .with("MAC", "unknown-dst")
            .with("logical_switch", named("ls"))
            .with("locator_set", named("set"));
        transaction.push(Operation::insert("Mcast_Macs_Remote", flood));
        let binding = Datum::map([(JOINED_VLAN, named("ls"))]);
        let bind = Mutation::insert("vlan_bindings", binding);
        transaction.push(Operation::mutate("Physical_Port", self.port, [bind]));
        let transact = self.session.transact(DATABASE, &transaction);
        let outcome = self.runtime.block_on(transact)?;
        self.joined = outcome.inserted(logical_switch);
        Ok(())
    }

    /// Removes all networks but the first and the joined one. Returns when that was committed.
    pub(super) fn remove_networks(&mut self) -> Result<Instant> {
        let gone = self.networks.split_off(1);
        let kept = self.networks.iter().map(|network| network.logical_switch);
        let kept: Vec<_> = kept.chain(self.joined).collect();
        let unbind = Mutation::delete("vlan_bindings", Datum::set((1_i64..).take(gone.len())));
        let mut transaction = Transaction::new();
        transaction.push(Operation::mutate("Physical_Port", self.port, [unbind]));
        let others = |column: &'static str| {
            let kept = kept.iter().map(|kept| Condition::new(column, "!=", *kept));
            kept.collect::<Vec<_>>()
        };
        for table in ["Ucast_Macs_Remote", "Mcast_Macs_Remote"] {
            transaction.push(Operation::delete_where(table, others("logical_switch")));
        }
        transaction.push(Operation::delete_where("Logical_Switch", others("_uuid")));
        self.transact(transaction)
    }

    fn transact(&self, transaction: Transaction) -> Result<Instant> {
        let transact = self.session.transact(DATABASE, &transaction);
        self.runtime.block_on(transact)?;
        Ok(Instant::now())
    }

    /// The locator of a host inside, if a row refers to one.
    fn locator(&self, ip: Ipv4Addr) -> Result<Option<Uuid>> {
        let there = Condition::new("dst_ip", "==", ip);
        let inside = Condition::new("tunnel_key", "==", Datum::set::<u32>([]));
        let select = Operation::select("Physical_Locator", [there, inside], ["_uuid"]);
        let transaction = Transaction::new().with(select);
        let transact = self.session.transact(DATABASE, &transaction);
        let outcome = self.runtime.block_on(transact)?;
        Ok(outcome.rows::<Identity>(0)?.pop().map(|row| row.uuid.0))
    }
}

fn locator(ip: Ipv4Addr, key: Option<u32>) -> Row {
    Row::new()
        .with("encapsulation_type", "vxlan_over_ipv4")
        .with("dst_ip", ip)
        .with("tunnel_key", Datum::optional(key))
}

fn mac(station: Station, logical_switch: Atom, locator: Atom) -> Operation {
    let row = Row::new()
        .with("MAC", station.mac_text())
        .with("logical_switch", logical_switch)
        .with("locator", locator)
        .with("ipaddr", station.ip.to_string());
    Operation::insert("Ucast_Macs_Remote", row)
}
