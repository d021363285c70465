//! A switch's database as a [`SwitchState`], kept current with every update.
//!
//! Rows refer to each other by uuid, in any order within an update; the state speaks of names and addresses. So an update
//! first goes into the tables, which only notes what it touched, and [`Replica::settle`] then derives that part of the
//! state again. One MAC more on top of 100,000 costs one MAC's work, and reading the state costs nothing.
//!
//! Where rows compete for one key (a MAC of a logical switch, its `unknown-dst`), the first usable one in uuid order is
//! the state and the others are surplus. Unusable is a row whose tunnels cannot be: another encapsulation than VXLAN, no IPv4
//! address, a key that VXLAN does not have.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use model::switch::{
    Locator, LogicalSwitch, LogicalSwitchName, PhysicalPort, PortVlan, RemoteMac, Surplus,
    SwitchState,
};
use model::trail::{Touch, Trail};
use model::value::{MacAddress, VlanId};
use ovsdb::{Change, DatabaseSchema, MonitoredTable, Replica, RowError};
use uuid::Uuid;

use crate::fit::ignores_locator_keys;
use crate::macs::{Rows, UcastMacs};
use crate::rows::{
    GlobalRow, LocatorRow, LocatorSetRow, LogicalSwitchRow, ManagerRow, McastMacRow,
    PhysicalPortRow, PhysicalSwitchRow, Table, Transition, TunnelRow, UcastMacRow, change,
};
use crate::schema::{Capabilities, MONITORED, SOURCE_NODE, table};

mod weight;

/// The replica of one hardware_vtep database.
#[derive(Debug)]
pub struct Database {
    capabilities: Capabilities,
    /// A physical switch is known to make nothing of keys of locators, whatever its schema has.
    ignores_locator_keys: bool,
    pub(crate) globals: Table<GlobalRow>,
    pub(crate) managers: Table<ManagerRow>,
    pub(crate) switches: Table<PhysicalSwitchRow>,
    pub(crate) ports: Table<PhysicalPortRow>,
    logical_switches: Table<LogicalSwitchRow>,
    pub(crate) tunnels: Table<TunnelRow>,
    remote_macs: UcastMacs,
    pub(crate) local_macs: UcastMacs,
    mcast_macs: Table<McastMacRow>,
    locators: Table<LocatorRow>,
    locator_sets: Table<LocatorSetRow>,
    index: Index,
    touched: Touched,
    news: bool,
    state: SwitchState,
    /// Locators flooded to, ports and bindings in the state.
    derived: usize,
    trail: Trail,
}

/// Rows by what they say.
#[derive(Debug, Default)]
struct Index {
    logical_switches: HashMap<LogicalSwitchName, Uuid>,
    locators: HashMap<Locator, Uuid>,
    /// The `unknown-dst` rows by logical switch.
    floods: HashMap<Uuid, Rows>,
    /// By logical switch, with their tables: rows that say nothing, and rows for single groups.
    strays: HashMap<Uuid, BTreeSet<(&'static str, Uuid)>>,
}

impl Index {
    /// Notes that a row of a table was a stray of one logical switch, and is one of another.
    fn stray(&mut self, table: &'static str, row: Uuid, before: Option<Uuid>, after: Option<Uuid>) {
        if let Some(of) = before
            && let Some(rows) = self.strays.get_mut(&of)
        {
            rows.remove(&(table, row));
            if rows.is_empty() {
                self.strays.remove(&of);
            }
        }
        if let Some(of) = after {
            self.strays.entry(of).or_default().insert((table, row));
        }
    }
}

/// What the updates since the last settling touched. Naming something twice, or what is gone, is harmless.
#[derive(Debug, Default)]
struct Touched {
    /// A locator or a logical switch's name changed under rows that refer to it; that is rare, and everything is derived
    /// again.
    everything: bool,
    /// Names that a logical switch gave up.
    freed_names: Vec<LogicalSwitchName>,
    logical_switches: Vec<Uuid>,
    macs: Vec<(Uuid, MacAddress)>,
    floods: Vec<Uuid>,
    /// Logical switches whose strays are others.
    strays: Vec<Uuid>,
    /// Physical switches or ports. There are few: all bindings are derived again.
    ports: bool,
}

impl Replica for Database {
    fn tables() -> &'static [MonitoredTable] {
        MONITORED
    }

    fn new(schema: &DatabaseSchema) -> Self {
        Self {
            capabilities: Capabilities::of(schema),
            ignores_locator_keys: false,
            globals: Table::default(),
            managers: Table::default(),
            switches: Table::default(),
            ports: Table::default(),
            logical_switches: Table::default(),
            tunnels: Table::default(),
            remote_macs: UcastMacs::default(),
            local_macs: UcastMacs::default(),
            mcast_macs: Table::default(),
            locators: Table::default(),
            locator_sets: Table::default(),
            index: Index::default(),
            touched: Touched::default(),
            news: false,
            state: SwitchState::default(),
            derived: 0,
            trail: Trail::default(),
        }
    }

    fn apply(&mut self, table: &str, uuid: Uuid, update: Change<'_>) -> Result<(), RowError> {
        self.news |= table != table::UCAST_MACS_LOCAL;
        match table {
            table::UCAST_MACS_LOCAL => self.local_macs.change(uuid, update).map(drop),
            table::UCAST_MACS_REMOTE => self.change_remote_mac(uuid, update),
            table::TUNNEL => change(&mut self.tunnels, uuid, update).map(drop),
            table::MCAST_MACS_REMOTE => self.change_mcast_mac(uuid, update),
            table::PHYSICAL_LOCATOR => self.change_locator(uuid, update),
            // Sets never change, and a row that refers to another one is touched itself.
            table::PHYSICAL_LOCATOR_SET => change(&mut self.locator_sets, uuid, update).map(drop),
            table::LOGICAL_SWITCH => self.change_logical_switch(uuid, update),
            table::PHYSICAL_SWITCH => {
                self.touched.ports = true;
                change(&mut self.switches, uuid, update).map(drop)
            }
            table::PHYSICAL_PORT => {
                self.touched.ports = true;
                change(&mut self.ports, uuid, update).map(drop)
            }
            table::GLOBAL => change(&mut self.globals, uuid, update).map(drop),
            table::MANAGER => change(&mut self.managers, uuid, update).map(drop),
            _ => Ok(()),
        }
    }

    fn rows(&self) -> usize {
        self.globals.len()
            + self.managers.len()
            + self.switches.len()
            + self.ports.len()
            + self.logical_switches.len()
            + self.tunnels.len()
            + self.remote_macs.len()
            + self.local_macs.len()
            + self.mcast_macs.len()
            + self.locators.len()
            + self.locator_sets.len()
    }

    fn weight(&self) -> usize {
        self.weigh()
    }

    fn weight_to_come(&self) -> usize {
        self.weigh_what_comes()
    }

    /// What a switch learns concerns nobody who waits for changes, and it may learn 10,000 MACs in a second.
    fn is_news(&mut self) -> bool {
        std::mem::take(&mut self.news)
    }

    fn settle(&mut self) {
        let mut touched = std::mem::take(&mut self.touched);
        if touched.everything {
            self.state = SwitchState::default();
            self.derived = 0;
            touched.logical_switches = self.logical_switches.keys().copied().collect();
            touched.floods = self.index.floods.keys().copied().collect();
            touched.strays = self.index.strays.keys().copied().collect();
            touched.macs = self.remote_macs.keys().collect();
            touched.ports = true;
        }
        let more_than_macs = touched.everything
            || !touched.freed_names.is_empty()
            || !touched.logical_switches.is_empty()
            || !touched.floods.is_empty()
            || !touched.strays.is_empty();
        for name in touched.freed_names {
            if let Some(gone) = self.state.logical_switches.remove(&name) {
                self.derived -= gone.flood.len();
            }
            self.state
                .surplus
                .retain(|surplus| *surplus.logical_switch() != name);
        }
        for uuid in touched.logical_switches {
            self.settle_logical_switch(uuid);
        }
        for uuid in touched.floods {
            self.settle_flood(uuid);
        }
        for uuid in touched.strays {
            self.settle_strays(uuid);
        }
        // A dump comes in no order; in the order of the maps, neighbours in it are neighbours in memory.
        touched.macs.sort_unstable();
        for (uuid, mac) in touched.macs {
            self.settle_mac(uuid, mac);
        }
        let ports_changed = touched.ports && self.settle_ports();
        if more_than_macs || ports_changed {
            self.trail.note(Touch::Everything);
        }
    }
}

/// Taking changes into the tables.
impl Database {
    fn change_remote_mac(&mut self, uuid: Uuid, update: Change<'_>) -> Result<(), RowError> {
        let Transition { before, after } = self.remote_macs.change(uuid, update)?;
        let stray = |row: UcastMacRow| row.mac.is_none().then_some(row.logical_switch);
        self.note_stray(
            table::UCAST_MACS_REMOTE,
            uuid,
            before.and_then(stray),
            after.and_then(stray),
        );
        let (before, after) = (
            before.and_then(|row| row.key()),
            after.and_then(|row| row.key()),
        );
        self.touched.macs.extend(before);
        self.touched
            .macs
            .extend(after.filter(|key| before != Some(*key)));
        Ok(())
    }

    fn change_mcast_mac(&mut self, uuid: Uuid, update: Change<'_>) -> Result<(), RowError> {
        let Transition { before, after } = change(&mut self.mcast_macs, uuid, update)?;
        let stray = |row: McastMacRow| (!row.unknown_dst).then_some(row.logical_switch);
        self.note_stray(
            table::MCAST_MACS_REMOTE,
            uuid,
            before.and_then(stray),
            after.and_then(stray),
        );
        let key = |row: McastMacRow| row.unknown_dst.then_some(row.logical_switch);
        let (before, after) = (before.and_then(key), after.and_then(key));
        if before != after {
            if let Some(logical_switch) = before
                && let Some(rows) = self.index.floods.get_mut(&logical_switch)
                && rows.remove(uuid)
            {
                self.index.floods.remove(&logical_switch);
            }
            if let Some(logical_switch) = after {
                let rows = self.index.floods.entry(logical_switch);
                rows.and_modify(|rows| rows.insert(uuid))
                    .or_insert(Rows::One(uuid));
            }
        }
        self.touched.floods.extend(before.into_iter().chain(after));
        Ok(())
    }

    fn note_stray(
        &mut self,
        table: &'static str,
        row: Uuid,
        before: Option<Uuid>,
        after: Option<Uuid>,
    ) {
        if before != after {
            self.index.stray(table, row, before, after);
            self.touched.strays.extend(before.into_iter().chain(after));
        }
    }

    fn change_locator(&mut self, uuid: Uuid, update: Change<'_>) -> Result<(), RowError> {
        let modified = matches!(update, Change::Modify(_));
        let Transition { before, after } = change(&mut self.locators, uuid, update)?;
        let exists = after.is_some();
        let (before, after) = (
            before.and_then(|row| row.locator()),
            after.and_then(|row| row.locator()),
        );
        if let Some(locator) = before
            && self.index.locators.get(&locator) == Some(&uuid)
        {
            self.index.locators.remove(&locator);
        }
        match after {
            Some(locator) => drop(self.index.locators.insert(locator, uuid)),
            None if exists => {
                tracing::debug!(%uuid, "ignored a row of Physical_Locator that describes no VXLAN tunnel");
            }
            None => {}
        }
        // A new locator is referred to by new rows, and one that goes by none.
        self.touched.everything |= modified && before != after;
        Ok(())
    }

    fn change_logical_switch(&mut self, uuid: Uuid, update: Change<'_>) -> Result<(), RowError> {
        let Transition { before, after } = change(&mut self.logical_switches, uuid, update)?;
        let (before, after) = (before.map(|row| row.name), after.map(|row| row.name));
        self.touched.logical_switches.push(uuid);
        if before == after {
            return Ok(());
        }
        self.touched.everything |= before.is_some() && after.is_some();
        if let Some(name) = before {
            if self.index.logical_switches.get(&name) == Some(&uuid) {
                self.index.logical_switches.remove(&name);
            }
            self.touched.freed_names.push(name);
            // Bindings go with it, but their ports say so themselves.
        }
        if let Some(name) = after {
            self.index.logical_switches.insert(name, uuid);
        }
        Ok(())
    }
}

/// Deriving the state.
impl Database {
    fn settle_logical_switch(&mut self, uuid: Uuid) {
        if let Some(row) = self.logical_switches.get(&uuid) {
            let held = self
                .state
                .logical_switches
                .entry(row.name.clone())
                .or_default();
            held.owned = row.is_marked(self.capabilities);
            held.tunnel_key = row.vni();
            held.mtu = row.mtu();
        }
    }

    fn settle_mac(&mut self, logical_switch: Uuid, mac: MacAddress) {
        let Some(row) = self.logical_switches.get(&logical_switch) else {
            return;
        };
        let rows = self.mac_rows(logical_switch, mac);
        let first = rows.iter().find_map(|uuid| self.remote_mac(*uuid));
        let surplus = rows.len() > usize::from(first.is_some());
        let held = self
            .state
            .logical_switches
            .entry(row.name.clone())
            .or_default();
        match first {
            Some(remote) => held.macs.insert(mac, remote),
            None => held.macs.remove(&mac),
        };
        // There is hardly ever any, and a name less to clone for each of 100,000 MACs.
        if surplus || !self.state.surplus.is_empty() {
            let key = Surplus::Mac(row.name.clone(), mac);
            match surplus {
                true => self.state.surplus.insert(key),
                false => self.state.surplus.remove(&key),
            };
        }
        self.trail.note(Touch::Mac((row.name.clone(), mac)));
    }

    fn settle_flood(&mut self, logical_switch: Uuid) {
        let Some(row) = self.logical_switches.get(&logical_switch) else {
            return;
        };
        let rows = self.flood_rows(logical_switch);
        let first = rows
            .iter()
            .map(|uuid| self.flood_list(*uuid))
            .find(|list| !list.is_empty());
        let surplus = rows.len() > usize::from(first.is_some());
        let held: &mut LogicalSwitch = self
            .state
            .logical_switches
            .entry(row.name.clone())
            .or_default();
        self.derived -= held.flood.len();
        held.flood = first.unwrap_or_default();
        self.derived += held.flood.len();
        let key = Surplus::Flood(row.name.clone());
        match surplus {
            true => self.state.surplus.insert(key),
            false => self.state.surplus.remove(&key),
        };
    }

    fn settle_strays(&mut self, logical_switch: Uuid) {
        if let Some(row) = self.logical_switches.get(&logical_switch) {
            let key = Surplus::Stray(row.name.clone());
            match self.index.strays.contains_key(&logical_switch) {
                true => self.state.surplus.insert(key),
                false => self.state.surplus.remove(&key),
            };
        }
    }

    /// Whether that changed anything: switches also tell of their ports what concerns no state.
    fn settle_ports(&mut self) -> bool {
        let mut ports = BTreeSet::new();
        let mut bindings = BTreeMap::new();
        for switch in self.switches.values() {
            for (_, row) in self.ports_of(switch) {
                let port = PhysicalPort {
                    switch: Arc::clone(&switch.name),
                    name: Arc::clone(&row.name),
                };
                for (vlan, logical_switch) in &row.vlan_bindings.0 {
                    // VLAN 4095 is in the schema, but in no frame.
                    let vlan = u16::try_from(*vlan).ok().and_then(VlanId::new);
                    let bound = self.logical_switches.get(logical_switch);
                    if let (Some(vlan), Some(bound)) = (vlan, bound) {
                        let port = port.clone();
                        bindings
                            .entry(PortVlan { port, vlan })
                            .or_insert_with(|| bound.name.clone());
                    }
                }
                ports.insert(port);
            }
        }
        let mut switches = self.switches.values();
        let ignores = switches.any(|switch| ignores_locator_keys(&switch.description));
        let changed = self.state.ports != ports
            || self.state.bindings != bindings
            || self.ignores_locator_keys != ignores;
        self.ignores_locator_keys = ignores;
        self.derived -= self.state.ports.len() + self.state.bindings.len();
        self.derived += ports.len() + bindings.len();
        self.state.ports = ports;
        self.state.bindings = bindings;
        changed
    }

    fn remote_mac(&self, uuid: Uuid) -> Option<RemoteMac> {
        let row = self.remote_macs.get(uuid)?;
        let locator = self.locator(row.locator)?;
        Some(RemoteMac {
            locator,
            ip: row.ip,
        })
    }

    fn flood_list(&self, uuid: Uuid) -> BTreeSet<Locator> {
        self.mcast_macs
            .get(&uuid)
            .and_then(|row| self.locator_sets.get(&row.locator_set))
            .into_iter()
            .flat_map(|set| &set.locators.0)
            .filter_map(|uuid| self.locator(*uuid))
            .collect()
    }
}

/// Views.
impl Database {
    /// What the database holds, in the planner's terms.
    pub fn state(&self) -> &SwitchState {
        &self.state
    }

    /// What of [`Self::state`] changed lately.
    pub fn trail(&self) -> &Trail {
        &self.trail
    }

    /// What the switch's schema has, but for what it is known to ignore.
    pub fn capabilities(&self) -> Capabilities {
        Capabilities {
            locator_tunnel_key: self.capabilities.locator_tunnel_key && !self.ignores_locator_keys,
            ..self.capabilities
        }
    }

    /// Whether a logical switch is described as ours, whether or not it carries our mark: that was lost if not.
    pub fn describes_as_ours(&self, name: &LogicalSwitchName) -> bool {
        let row = self.logical_switch_row(name);
        let row = row.and_then(|row| self.logical_switches.get(&row));
        row.is_some_and(LogicalSwitchRow::is_described)
    }

    /// The names of the physical switches, in no order.
    pub fn switch_names(&self) -> impl Iterator<Item = Arc<str>> {
        self.switches.values().map(|row| Arc::clone(&row.name))
    }

    /// The ports of a switch in uuid order, because the first of two with the same name is the one that counts.
    pub(crate) fn ports_of<'a>(
        &'a self,
        switch: &'a PhysicalSwitchRow,
    ) -> impl Iterator<Item = (Uuid, &'a PhysicalPortRow)> {
        let mut uuids = switch.ports.0.clone();
        uuids.sort_unstable();
        uuids
            .into_iter()
            .filter_map(|uuid| Some((uuid, self.ports.get(&uuid)?)))
    }
}

/// Finding rows to write to.
impl Database {
    pub(crate) fn logical_switch_row(&self, name: &LogicalSwitchName) -> Option<Uuid> {
        self.index.logical_switches.get(name).copied()
    }

    pub(crate) fn logical_switch_name(&self, row: Uuid) -> Option<&LogicalSwitchName> {
        self.logical_switches.get(&row).map(|row| &row.name)
    }

    /// Our logical switches that do not flood to every destination themselves.
    pub(crate) fn not_flooding_to_all(&self) -> impl Iterator<Item = Uuid> {
        let rows = self.logical_switches.iter();
        rows.filter(|(_, row)| {
            row.is_marked(self.capabilities) && row.replication_mode.as_deref() != Some(SOURCE_NODE)
        })
        .map(|(uuid, _)| *uuid)
    }

    /// The tunnel end that a row describes.
    pub(crate) fn locator(&self, row: Uuid) -> Option<Locator> {
        self.locators.get(&row)?.locator()
    }

    pub(crate) fn locator_row(&self, locator: Locator) -> Option<Uuid> {
        self.index.locators.get(&locator).copied()
    }

    pub(crate) fn port_row(&self, port: &PhysicalPort) -> Option<Uuid> {
        let switch = self
            .switches
            .values()
            .find(|switch| switch.name == port.switch)?;
        self.ports_of(switch)
            .find(|(_, row)| row.name == port.name)
            .map(|(uuid, _)| uuid)
    }

    /// All rows for a MAC of a logical switch.
    pub(crate) fn mac_rows(&self, logical_switch: Uuid, mac: MacAddress) -> &[Uuid] {
        self.remote_macs.rows_of(logical_switch, mac)
    }

    /// The one of them that is the state.
    pub(crate) fn first_mac_row(&self, logical_switch: Uuid, mac: MacAddress) -> Option<Uuid> {
        let rows = self.mac_rows(logical_switch, mac);
        rows.iter()
            .copied()
            .find(|uuid| self.remote_mac(*uuid).is_some())
    }

    /// The rows of a logical switch that are no part of its state, with their tables.
    pub(crate) fn stray_rows(
        &self,
        logical_switch: Uuid,
    ) -> impl Iterator<Item = (&'static str, Uuid)> {
        let rows = self.index.strays.get(&logical_switch);
        rows.into_iter().flatten().copied()
    }

    /// All `unknown-dst` rows of a logical switch.
    pub(crate) fn flood_rows(&self, logical_switch: Uuid) -> &[Uuid] {
        self.index
            .floods
            .get(&logical_switch)
            .map_or(&[], Rows::as_slice)
    }

    /// The one of them that is the state.
    pub(crate) fn first_flood_row(&self, logical_switch: Uuid) -> Option<Uuid> {
        let rows = self.flood_rows(logical_switch);
        rows.iter()
            .copied()
            .find(|uuid| !self.flood_list(*uuid).is_empty())
    }
}
