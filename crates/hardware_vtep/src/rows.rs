//! Rows of the monitored tables, as they are kept, and their columns, as they come.
//!
//! Every row type is built by [`TableRow::patch`] from its default: a new row is its difference from an empty one, so
//! one function serves both.

use std::net::{IpAddr, Ipv4Addr};
use std::ops::Deref;
use std::sync::Arc;

use indexmap::IndexMap;
use model::switch::{Locator, LogicalSwitchName};
use model::value::{MacAddress, Vni};
use ovsdb::column::{Map, Optional, Parsed, Reference, Set};
use ovsdb::{Change, RowError};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::schema::{Capabilities, DESCRIPTION_MARK, MARK, MTU, UNKNOWN_DST, VXLAN};

/// A row of one table.
pub(crate) trait TableRow: Default {
    /// Some of its columns.
    type Columns: DeserializeOwned;

    /// Takes over the columns that are given.
    fn patch(&mut self, columns: Self::Columns);

    /// Bytes that its columns of any length take, roughly.
    fn heap(&self) -> usize {
        0
    }
}

/// Bytes that a row takes beside those columns, its places in indexes and in the state included: 100,000 MACs take 16 to 26 MB.
const ROW: usize = 256;

/// Bytes that a text takes beside its characters.
const TEXT: usize = 32;

/// Bytes of texts. They stand in the row, and in what is told of it.
fn texts<'t>(texts: impl IntoIterator<Item = &'t String>) -> usize {
    let each = |text: &String| 2 * (text.len() + TEXT);
    texts.into_iter().map(each).sum()
}

fn pairs(map: &Map<String, String>) -> usize {
    texts(map.0.iter().flat_map(|(key, value)| [key, value]))
}

fn references(rows: &Set<Uuid>) -> usize {
    rows.0.len() * 2 * size_of::<Uuid>()
}

/// The rows of one table by uuid, in no order, changed by [`change`] alone. Rows come and go for months: a `HashMap` takes the
/// places of those that went for full, and so has twice the room in the end that it needs. An `IndexMap` keeps rows without
/// gaps.
#[derive(Debug)]
pub(crate) struct Table<R> {
    rows: IndexMap<Uuid, R>,
    /// The sum of [`TableRow::heap`].
    heap: usize,
}

impl<R> Default for Table<R> {
    fn default() -> Self {
        Self {
            rows: IndexMap::new(),
            heap: 0,
        }
    }
}

impl<R> Deref for Table<R> {
    type Target = IndexMap<Uuid, R>;

    fn deref(&self) -> &Self::Target {
        &self.rows
    }
}

impl<R> Table<R> {
    /// Bytes that it takes, roughly.
    pub(crate) fn weight(&self) -> usize {
        self.rows.len() * ROW + self.heap
    }
}

/// What a change did to a row: how it was before, how it is now.
pub(crate) struct Transition<R> {
    pub(crate) before: Option<R>,
    pub(crate) after: Option<R>,
}

/// Takes a change into a table.
pub(crate) fn change<R: TableRow + Clone>(
    table: &mut Table<R>,
    uuid: Uuid,
    change: Change<'_>,
) -> Result<Transition<R>, RowError> {
    let (mut row, text) = match change {
        Change::Delete => {
            return Ok(Transition {
                before: table.take(&uuid),
                after: None,
            });
        }
        Change::Put(text) => (R::default(), text),
        Change::Modify(text) => {
            let known = table.get(&uuid).cloned();
            let never = || RowError::new("a row that was never shown is modified");
            (known.ok_or_else(never)?, text)
        }
    };
    row.patch(serde_json::from_str(text.get())?);
    Ok(Transition {
        before: table.put(uuid, row.clone()),
        after: Some(row),
    })
}

impl<R: TableRow> Table<R> {
    fn put(&mut self, uuid: Uuid, row: R) -> Option<R> {
        self.heap += row.heap();
        let before = self.rows.insert(uuid, row);
        self.heap -= before.as_ref().map_or(0, TableRow::heap);
        before
    }

    fn take(&mut self, uuid: &Uuid) -> Option<R> {
        let before = self.rows.swap_remove(uuid);
        self.heap -= before.as_ref().map_or(0, TableRow::heap);
        before
    }
}

/// Takes over a column if it is given.
fn put<T>(place: &mut T, column: Option<T>) {
    if let Some(column) = column {
        *place = column;
    }
}

/// `Global`, of which there is at most one row.
#[derive(Clone, Debug, Default)]
pub(crate) struct GlobalRow {
    pub(crate) managers: Set<Uuid>,
    pub(crate) other_config: Map<String, String>,
}

#[derive(Deserialize)]
pub(crate) struct GlobalColumns {
    #[serde(default)]
    managers: Set<Uuid>,
    #[serde(default)]
    other_config: Map<String, String>,
}

impl TableRow for GlobalRow {
    type Columns = GlobalColumns;

    fn patch(&mut self, columns: GlobalColumns) {
        self.managers.apply(columns.managers);
        self.other_config.apply(columns.other_config);
    }

    fn heap(&self) -> usize {
        references(&self.managers) + pairs(&self.other_config)
    }
}

/// `Manager`
#[derive(Clone, Debug, Default)]
pub(crate) struct ManagerRow {
    pub(crate) target: String,
}

#[derive(Deserialize)]
pub(crate) struct ManagerColumns {
    target: Option<String>,
}

impl TableRow for ManagerRow {
    type Columns = ManagerColumns;

    fn patch(&mut self, columns: ManagerColumns) {
        put(&mut self.target, columns.target);
    }

    fn heap(&self) -> usize {
        texts([&self.target])
    }
}

/// `Physical_Switch`
#[derive(Clone, Debug, Default)]
pub(crate) struct PhysicalSwitchRow {
    pub(crate) name: Arc<str>,
    pub(crate) description: String,
    pub(crate) ports: Set<Uuid>,
    pub(crate) tunnel_ips: Set<String>,
    pub(crate) tunnels: Set<Uuid>,
    pub(crate) faults: Set<String>,
}

#[derive(Deserialize)]
pub(crate) struct PhysicalSwitchColumns {
    name: Option<String>,
    description: Option<String>,
    #[serde(default)]
    ports: Set<Uuid>,
    #[serde(default)]
    tunnel_ips: Set<String>,
    #[serde(default)]
    tunnels: Set<Uuid>,
    #[serde(default)]
    switch_fault_status: Set<String>,
}

impl TableRow for PhysicalSwitchRow {
    type Columns = PhysicalSwitchColumns;

    fn patch(&mut self, columns: PhysicalSwitchColumns) {
        put(&mut self.name, columns.name.map(Into::into));
        put(&mut self.description, columns.description);
        self.ports.apply(columns.ports);
        self.tunnel_ips.apply(columns.tunnel_ips);
        self.tunnels.apply(columns.tunnels);
        self.faults.apply(columns.switch_fault_status);
    }

    fn heap(&self) -> usize {
        2 * self.name.len()
            + texts([&self.description])
            + references(&self.ports)
            + references(&self.tunnels)
            + texts(&self.tunnel_ips.0)
            + texts(&self.faults.0)
    }
}

/// `Physical_Port`
#[derive(Clone, Debug, Default)]
pub(crate) struct PhysicalPortRow {
    pub(crate) name: Arc<str>,
    pub(crate) description: String,
    /// VLAN to logical switch.
    pub(crate) vlan_bindings: Map<i64, Uuid>,
    pub(crate) faults: Set<String>,
}

#[derive(Deserialize)]
pub(crate) struct PhysicalPortColumns {
    name: Option<String>,
    description: Option<String>,
    #[serde(default)]
    vlan_bindings: Map<i64, Uuid>,
    #[serde(default)]
    port_fault_status: Set<String>,
}

impl TableRow for PhysicalPortRow {
    type Columns = PhysicalPortColumns;

    fn patch(&mut self, columns: PhysicalPortColumns) {
        put(&mut self.name, columns.name.map(Into::into));
        put(&mut self.description, columns.description);
        self.vlan_bindings.apply(columns.vlan_bindings);
        self.faults.apply(columns.port_fault_status);
    }

    fn heap(&self) -> usize {
        2 * self.name.len()
            + texts([&self.description])
            + self.vlan_bindings.0.len() * 2 * size_of::<(i64, Uuid)>()
            + texts(&self.faults.0)
    }
}

/// `Logical_Switch`
#[derive(Clone, Debug)]
pub(crate) struct LogicalSwitchRow {
    pub(crate) name: LogicalSwitchName,
    pub(crate) description: String,
    pub(crate) tunnel_key: Option<i64>,
    pub(crate) other_config: Map<String, String>,
    pub(crate) replication_mode: Option<String>,
}

impl Default for LogicalSwitchRow {
    fn default() -> Self {
        Self {
            name: LogicalSwitchName::new(""),
            description: String::new(),
            tunnel_key: None,
            other_config: Map::default(),
            replication_mode: None,
        }
    }
}

#[derive(Deserialize)]
pub(crate) struct LogicalSwitchColumns {
    name: Option<String>,
    description: Option<String>,
    tunnel_key: Option<Optional<i64>>,
    #[serde(default)]
    other_config: Map<String, String>,
    replication_mode: Option<Optional<String>>,
}

impl TableRow for LogicalSwitchRow {
    type Columns = LogicalSwitchColumns;

    fn patch(&mut self, columns: LogicalSwitchColumns) {
        put(&mut self.name, columns.name.map(LogicalSwitchName::new));
        put(&mut self.description, columns.description);
        put(&mut self.tunnel_key, columns.tunnel_key.map(|key| key.0));
        self.other_config.apply(columns.other_config);
        put(
            &mut self.replication_mode,
            columns.replication_mode.map(|mode| mode.0),
        );
    }

    fn heap(&self) -> usize {
        2 * (ROW + self.name.as_str().len())
            + texts([&self.description])
            + texts(&self.replication_mode)
            + pairs(&self.other_config)
    }
}

impl LogicalSwitchRow {
    /// Whether the row carries our mark.
    pub(crate) fn is_marked(&self, capabilities: Capabilities) -> bool {
        match capabilities.logical_switch_other_config {
            true => self.other_config.get(MARK).is_some(),
            false => self.is_described(),
        }
    }

    /// Whether the description is the one that we write.
    pub(crate) fn is_described(&self) -> bool {
        self.description == DESCRIPTION_MARK
    }

    /// How long the packets of its stations are, in bytes, if it says so.
    pub(crate) fn mtu(&self) -> Option<u16> {
        self.other_config.get(MTU)?.parse().ok()
    }

    /// The key, unless VXLAN has no such key.
    pub(crate) fn vni(&self) -> Option<Vni> {
        self.tunnel_key.and_then(vni)
    }
}

/// `Ucast_Macs_Remote` or `Ucast_Macs_Local`. There can be 100,000 of them: 57 bytes each.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct UcastMacRow {
    /// `None` where the text is no MAC address.
    pub(crate) mac: Option<MacAddress>,
    pub(crate) logical_switch: Uuid,
    pub(crate) locator: Uuid,
    /// `None` where the text is empty or no IP address.
    pub(crate) ip: Option<IpAddr>,
}

impl UcastMacRow {
    /// Where it is found: its logical switch and MAC, unless that is none.
    pub(crate) fn key(&self) -> Option<(Uuid, MacAddress)> {
        Some((self.logical_switch, self.mac?))
    }
}

#[derive(Deserialize)]
pub(crate) struct UcastMacColumns {
    #[serde(rename = "MAC")]
    mac: Option<Parsed<MacAddress>>,
    logical_switch: Option<Reference>,
    locator: Option<Reference>,
    ipaddr: Option<Parsed<IpAddr>>,
}

impl TableRow for UcastMacRow {
    type Columns = UcastMacColumns;

    fn patch(&mut self, columns: UcastMacColumns) {
        put(&mut self.mac, columns.mac.map(|text| text.0));
        put(
            &mut self.logical_switch,
            columns.logical_switch.map(|row| row.0),
        );
        put(&mut self.locator, columns.locator.map(|row| row.0));
        put(&mut self.ip, columns.ipaddr.map(|text| text.0));
    }
}

/// `Mcast_Macs_Remote`
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct McastMacRow {
    /// Whether this is the row for unknown destinations; rows for single groups are none of our business.
    pub(crate) unknown_dst: bool,
    pub(crate) logical_switch: Uuid,
    pub(crate) locator_set: Uuid,
}

#[derive(Deserialize)]
pub(crate) struct McastMacColumns {
    #[serde(rename = "MAC")]
    mac: Option<String>,
    logical_switch: Option<Reference>,
    locator_set: Option<Reference>,
}

impl TableRow for McastMacRow {
    type Columns = McastMacColumns;

    fn patch(&mut self, columns: McastMacColumns) {
        put(
            &mut self.unknown_dst,
            columns.mac.map(|text| text == UNKNOWN_DST),
        );
        put(
            &mut self.logical_switch,
            columns.logical_switch.map(|row| row.0),
        );
        put(&mut self.locator_set, columns.locator_set.map(|row| row.0));
    }
}

/// `Physical_Locator`
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct LocatorRow {
    vxlan: bool,
    ip: Option<Ipv4Addr>,
    tunnel_key: Option<i64>,
}

#[derive(Deserialize)]
pub(crate) struct LocatorColumns {
    encapsulation_type: Option<String>,
    dst_ip: Option<Parsed<Ipv4Addr>>,
    tunnel_key: Option<Optional<i64>>,
}

impl TableRow for LocatorRow {
    type Columns = LocatorColumns;

    fn patch(&mut self, columns: LocatorColumns) {
        put(
            &mut self.vxlan,
            columns.encapsulation_type.map(|text| text == VXLAN),
        );
        put(&mut self.ip, columns.dst_ip.map(|text| text.0));
        put(&mut self.tunnel_key, columns.tunnel_key.map(|key| key.0));
    }
}

impl LocatorRow {
    /// The locator, unless the row describes a tunnel that cannot be: a wrong address, a key wider than 24 bits.
    pub(crate) fn locator(&self) -> Option<Locator> {
        let tunnel_key = match self.tunnel_key {
            None => None,
            Some(key) => Some(vni(key)?),
        };
        let ip = self.ip.filter(|_| self.vxlan)?;
        Some(Locator { ip, tunnel_key })
    }
}

/// `Physical_Locator_Set`
#[derive(Clone, Debug, Default)]
pub(crate) struct LocatorSetRow {
    pub(crate) locators: Set<Uuid>,
}

#[derive(Deserialize)]
pub(crate) struct LocatorSetColumns {
    #[serde(default)]
    locators: Set<Uuid>,
}

impl TableRow for LocatorSetRow {
    type Columns = LocatorSetColumns;

    fn patch(&mut self, columns: LocatorSetColumns) {
        self.locators.apply(columns.locators);
    }

    fn heap(&self) -> usize {
        references(&self.locators)
    }
}

/// `Tunnel`
#[derive(Clone, Debug, Default)]
pub(crate) struct TunnelRow {
    pub(crate) local: Uuid,
    pub(crate) remote: Uuid,
    pub(crate) bfd_params: Map<String, String>,
    pub(crate) bfd_config_local: Map<String, String>,
    pub(crate) bfd_config_remote: Map<String, String>,
    pub(crate) bfd_status: Map<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct TunnelColumns {
    local: Option<Reference>,
    remote: Option<Reference>,
    bfd_params: Map<String, String>,
    bfd_config_local: Map<String, String>,
    bfd_config_remote: Map<String, String>,
    bfd_status: Map<String, String>,
}

impl TableRow for TunnelRow {
    type Columns = TunnelColumns;

    fn patch(&mut self, columns: TunnelColumns) {
        put(&mut self.local, columns.local.map(|row| row.0));
        put(&mut self.remote, columns.remote.map(|row| row.0));
        self.bfd_params.apply(columns.bfd_params);
        self.bfd_config_local.apply(columns.bfd_config_local);
        self.bfd_config_remote.apply(columns.bfd_config_remote);
        self.bfd_status.apply(columns.bfd_status);
    }

    fn heap(&self) -> usize {
        [
            &self.bfd_params,
            &self.bfd_config_local,
            &self.bfd_config_remote,
            &self.bfd_status,
        ]
        .into_iter()
        .map(pairs)
        .sum()
    }
}

fn vni(key: i64) -> Option<Vni> {
    u32::try_from(key).ok().and_then(Vni::new)
}
