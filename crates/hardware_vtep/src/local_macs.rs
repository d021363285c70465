//! `Ucast_Macs_Local`: where a switch says which MACs it has learnt behind its ports.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt};
use model::switch::{Locator, LogicalSwitchName, PortVlan};
use model::value::MacAddress;
use ovsdb::{Atom, Operation, Row, Session, SharedReplica, TransactError, Transaction};
use uuid::Uuid;

use crate::apply::{BATCH, WINDOW};
use crate::database::Database;
use crate::schema::{NAME, VXLAN, table};

/// A MAC that a switch has learnt.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LocalMac {
    /// The network.
    pub logical_switch: LogicalSwitchName,
    /// The station.
    pub mac: MacAddress,
    /// Its address, where the switch knows one.
    pub ip: Option<IpAddr>,
    /// Where others send tunnels to reach it: the switch's own end.
    pub tunnel_ip: Option<Ipv4Addr>,
    /// `Physical_Switch.name` of the switch whose tunnel end that is; with one physical switch in the database, that one.
    pub switch: Option<Arc<str>>,
    /// The schema does not tell the port. It is known where only one port of the switch is bound to the network.
    pub port: Option<PortVlan>,
}

impl Database {
    /// The MACs that the switches have learnt, in no order. Watchers are not woken when only these change.
    pub fn local_macs(&self) -> impl Iterator<Item = LocalMac> {
        let only_switch = match self.switches.len() {
            1 => self.switches.values().next(),
            _ => None,
        };
        let mut by_tunnel_ip = BTreeMap::new();
        for switch in self.switches.values() {
            for ip in &switch.tunnel_ips.0 {
                by_tunnel_ip.extend(ip.parse::<Ipv4Addr>().map(|ip| (ip, switch)));
            }
        }
        let mut ports: BTreeMap<(&str, &LogicalSwitchName), Vec<&PortVlan>> = BTreeMap::new();
        for (port_vlan, name) in &self.state().bindings {
            let at = ports.entry((&*port_vlan.port.switch, name)).or_default();
            at.push(port_vlan);
        }
        self.local_macs.rows().filter_map(move |(_, row)| {
            let logical_switch = self.logical_switch_name(row.logical_switch)?.clone();
            let tunnel_ip = self.locator(row.locator).map(|locator| locator.ip);
            let switch = tunnel_ip
                .and_then(|ip| by_tunnel_ip.get(&ip).copied())
                .or(only_switch)
                .map(|switch| Arc::clone(&switch.name));
            let bound = switch
                .as_deref()
                .and_then(|switch| ports.get(&(switch, &logical_switch)));
            let port = match bound.map(Vec::as_slice) {
                Some([only]) => Some((*only).clone()),
                _ => None,
            };
            Some(LocalMac {
                mac: row.mac?,
                ip: row.ip,
                logical_switch,
                tunnel_ip,
                switch,
                port,
            })
        })
    }
}

/// The MACs that a switch has learnt, by network, with the station's address where it is known.
pub type LearntMacs = BTreeMap<LogicalSwitchName, BTreeMap<MacAddress, Option<IpAddr>>>;

/// Makes `Ucast_Macs_Local` say which MACs are behind the tunnel end `tunnel_ip`: the switch's half. Returns how many
/// rows were written.
///
/// Rows that are right stay as they are, rows of other tunnel ends are somebody else's. Networks that the database does
/// not have are left out: the next call finds them.
///
/// # Errors
/// See [`TransactError`]; calling again writes what is left.
pub async fn publish_local_macs(
    session: &Session,
    replica: &SharedReplica<Database>,
    tunnel_ip: Ipv4Addr,
    wanted: &LearntMacs,
) -> Result<usize, TransactError> {
    let own_end = Locator {
        ip: tunnel_ip,
        tunnel_key: None,
    };
    let (locator, mut writes) = replica.read(|database| {
        database.map_or_else(Default::default, |held| {
            (
                held.locator_row(own_end),
                differences(held, own_end, wanted),
            )
        })
    });
    let count = writes.len();
    let mut locator = locator;
    if locator.is_none()
        && let Some(first) = writes
            .iter()
            .position(|write| matches!(write, Write::Insert { .. }))
    {
        // A locator exists as long as a row refers to it: it comes with the first one.
        let insert = Operation::insert_named(
            table::PHYSICAL_LOCATOR,
            "locator",
            Row::new()
                .with("encapsulation_type", VXLAN)
                .with("dst_ip", tunnel_ip),
        );
        let first = writes
            .swap_remove(first)
            .operation(Some(&Atom::NamedUuid("locator".into())));
        let transaction: Transaction = [insert].into_iter().chain(first).collect();
        locator = session.transact(NAME, &transaction).await?.inserted(0);
    }
    let locator = locator.map(Atom::Uuid);
    // No closure over borrowed batches: the future could not be sent to another thread then.
    let mut operations = writes
        .into_iter()
        .filter_map(|write| write.operation(locator.as_ref()))
        .peekable();
    let mut transactions = Vec::new();
    while operations.peek().is_some() {
        transactions.push(operations.by_ref().take(BATCH).collect::<Transaction>());
    }
    session
        .pipeline(NAME, transactions, WINDOW)
        .map(|outcome| outcome.map(drop))
        .try_collect::<()>()
        .await?;
    Ok(count)
}

enum Write {
    Delete(Uuid),
    SetIp(Uuid, Option<IpAddr>),
    Insert {
        logical_switch: Uuid,
        mac: MacAddress,
        ip: Option<IpAddr>,
    },
}

impl Write {
    fn operation(self, locator: Option<&Atom>) -> Option<Operation> {
        // Empty means that there is none.
        let text = |ip: Option<IpAddr>| ip.map(|ip| ip.to_string()).unwrap_or_default();
        Some(match self {
            Self::Delete(row) => Operation::delete(table::UCAST_MACS_LOCAL, row),
            Self::SetIp(row, ip) => {
                let columns = Row::new().with("ipaddr", text(ip));
                Operation::update(table::UCAST_MACS_LOCAL, row, columns)
            }
            Self::Insert {
                logical_switch,
                mac,
                ip,
            } => Operation::insert(
                table::UCAST_MACS_LOCAL,
                Row::new()
                    .with("MAC", mac.to_string())
                    .with("logical_switch", logical_switch)
                    .with("locator", locator?.clone())
                    .with("ipaddr", text(ip)),
            ),
        })
    }
}

/// Deletions first: a MAC that moved to another network is never in two.
fn differences(database: &Database, own_end: Locator, wanted: &LearntMacs) -> Vec<Write> {
    let mut writes = Vec::new();
    let is_own = |row: &Uuid| {
        let row = database.local_macs.get(*row);
        row.and_then(|row| database.locator(row.locator)) == Some(own_end)
    };
    for (uuid, row) in database.local_macs.rows() {
        let name = database.logical_switch_name(row.logical_switch);
        let macs = name.and_then(|name| wanted.get(name));
        let ip = macs.and_then(|macs| macs.get(&row.mac?));
        if !is_own(&uuid) {
            continue;
        }
        let rows = row
            .mac
            .map(|mac| database.local_macs.rows_of(row.logical_switch, mac));
        let first = rows.and_then(|rows| rows.iter().find(|uuid| is_own(uuid)));
        match ip {
            Some(ip) if first == Some(&uuid) => {
                if *ip != row.ip {
                    writes.push(Write::SetIp(uuid, *ip));
                }
            }
            _ => writes.push(Write::Delete(uuid)),
        }
    }
    for (name, macs) in wanted {
        let Some(logical_switch) = database.logical_switch_row(name) else {
            continue;
        };
        for (mac, ip) in macs {
            let rows = database.local_macs.rows_of(logical_switch, *mac);
            if !rows.iter().any(is_own) {
                writes.push(Write::Insert {
                    logical_switch,
                    mac: *mac,
                    ip: *ip,
                });
            }
        }
    }
    writes
}
