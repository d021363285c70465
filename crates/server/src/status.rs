//! The status board: what the switches hold of each remote resource, read back, never stored.
//!
//! Each controller puts up one [`Residue`] per round: what its switches still lack of the intent at a certain revision.
//! A resource is ACTIVE where nothing of it is lacking; so 100,000 MACs in place cost nothing here.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::Ipv4Addr;
use std::sync::{Arc, RwLock, Weak};

use hardware_vtep::{Capabilities, Complaints, Database};
use model::intent::{Declared, Intent, Need};
use model::plan::{Blocked, KeyTaken, Plan, Step};
use model::resource::Kind;
use model::row::Row;
use model::status::{Report, Status};
use model::switch::{Locator, LogicalSwitchName, SwitchState};
use model::value::{MacAddress, Vni};
use uuid::Uuid;

use crate::account::{Account, Tally};
use crate::controller::feed::Replica;
use crate::lock::{read, write};
use crate::withheld::Withheld;

/// As many names are counted under before those are forgotten where nobody counts any more: a caller chooses its own.
const TALLIES: usize = 5000;

/// What every controller last saw of its switches.
#[derive(Debug, Default)]
pub struct Board {
    intent: Arc<RwLock<Replica>>,
    accounts: RwLock<Vec<Weak<Account>>>,
    /// By the names of accounts in metrics, those of switches that are gone included.
    tallies: RwLock<BTreeMap<String, Arc<Tally>>>,
    /// By physical switch name.
    sightings: RwLock<HashMap<Arc<str>, Arc<Sighting>>>,
}

/// What one controller last saw of its database, shared by all physical switches in it.
#[derive(Debug)]
pub enum Sighting {
    /// No session: nothing is known to be held.
    Away {
        /// Why, in words.
        reason: String,
    },
    /// The database was compared with the intent.
    Compared(Box<Residue>),
}

/// What a database lacks of what it should hold.
#[derive(Debug, Default)]
pub struct Residue {
    /// The revision of the intent that was compared: what is younger is still on its way.
    pub revision: u64,
    logical_switches: HashSet<LogicalSwitchName>,
    macs: HashMap<LogicalSwitchName, HashSet<MacAddress>>,
    flood: HashMap<LogicalSwitchName, BTreeSet<Locator>>,
    /// Bindings that are on their way, by physical switch.
    unbound: HashMap<LogicalSwitchName, BTreeSet<Arc<str>>>,
    /// What cannot be had.
    blocked: HashMap<LogicalSwitchName, Vec<Blocked>>,
    /// What a logical switch's last transaction was refused with, in the switch's words.
    refusals: HashMap<LogicalSwitchName, String>,
    /// Logical switches that somebody else keeps changing, and how often each was put right.
    quarrels: BTreeMap<LogicalSwitchName, u32>,
    /// Resources that gave way to older ones.
    conflicts: HashMap<Uuid, String>,
    /// `switch_fault_status` and `port_fault_status`.
    complaints: Complaints,
    /// What of it is not done for the time being.
    withheld: Option<Withheld>,
    /// Tunnels that BFD finds dead, by physical switch and remote end, in words.
    dead_tunnels: HashMap<(Arc<str>, Ipv4Addr), String>,
    /// Whether tunnels cannot have keys of their own.
    keyless: bool,
    /// Whether tunnels cannot be watched.
    unwatchable: bool,
    /// How many destinations networks flood to that have more than one, on switches that flood to one alone.
    crowded: HashMap<LogicalSwitchName, usize>,
}

impl Residue {
    /// What remains to be done is what is lacking.
    pub fn of(revision: u64, plan: &Plan) -> Self {
        let mut residue = Self {
            revision,
            ..Self::default()
        };
        for step in &plan.steps {
            match step {
                Step::CreateLogicalSwitch { name, .. }
                | Step::AdoptLogicalSwitch { name }
                | Step::RekeyLogicalSwitch { name, .. }
                | Step::SetMtu { name, .. } => {
                    residue.logical_switches.insert(name.clone());
                }
                Step::Bind {
                    logical_switch,
                    port_vlan,
                    ..
                } => {
                    let switches = residue.unbound.entry(logical_switch.clone());
                    let switch = Arc::clone(&port_vlan.port.switch);
                    switches.or_default().insert(switch);
                }
                Step::PutMac {
                    logical_switch,
                    mac,
                    ..
                } => {
                    let macs = residue.macs.entry(logical_switch.clone());
                    macs.or_default().insert(*mac);
                }
                Step::SetFlood {
                    logical_switch,
                    was,
                    locators,
                } => {
                    let lacking = locators.difference(was).copied().collect();
                    residue.flood.insert(logical_switch.clone(), lacking);
                }
                // What is held beyond what is wanted keeps nothing from being ACTIVE.
                Step::Unbind { .. }
                | Step::RemoveMac { .. }
                | Step::RemoveSurplus(_)
                | Step::DeleteLogicalSwitch { .. } => {}
            }
        }
        for blocked in &plan.blocked {
            let of_network = residue.blocked.entry(blocked.logical_switch().clone());
            of_network.or_default().push(blocked.clone());
        }
        residue
    }

    /// Adds what transactions were refused with.
    #[must_use]
    pub fn with_refusals(
        mut self,
        refusals: impl IntoIterator<Item = (LogicalSwitchName, String)>,
    ) -> Self {
        self.refusals.extend(refusals);
        self
    }

    /// Adds the logical switches that somebody else keeps changing.
    #[must_use]
    pub fn with_quarrels(mut self, quarrels: BTreeMap<LogicalSwitchName, u32>) -> Self {
        self.quarrels = quarrels;
        self
    }

    /// Adds what gave way to older declarations.
    #[must_use]
    pub fn with_conflicts(mut self, conflicts: impl IntoIterator<Item = (Uuid, String)>) -> Self {
        self.conflicts.extend(conflicts);
        self
    }

    /// Adds what the switches themselves complain about.
    #[must_use]
    pub fn with_complaints(mut self, complaints: Complaints) -> Self {
        self.complaints = complaints;
        self
    }

    /// Adds what of it is not done for the time being.
    #[must_use]
    pub fn with_withheld(mut self, withheld: Option<Withheld>) -> Self {
        self.withheld = withheld;
        self
    }

    /// Adds tunnels that BFD finds dead.
    #[must_use]
    pub fn with_dead_tunnels(mut self, tunnels: HashMap<(Arc<str>, Ipv4Addr), String>) -> Self {
        self.dead_tunnels = tunnels;
        self
    }

    /// Adds what the switch's schema has not, of what is wanted there.
    #[must_use]
    pub fn with_capabilities(
        mut self,
        capabilities: Option<Capabilities>,
        wanted: &SwitchState,
    ) -> Self {
        let Some(has) = capabilities else {
            return self;
        };
        self.keyless = !has.locator_tunnel_key;
        self.unwatchable = !has.bfd;
        if !has.replication_mode {
            let flooding = wanted.logical_switches.iter();
            self.crowded = flooding
                .map(|(name, network)| (name.clone(), network.flood.len()))
                .filter(|(_, destinations)| *destinations > 1)
                .collect();
        }
        self
    }

    /// A complaint that concerns a connection: about its network or everything, of the switch or of one of the ports by
    /// which the connection is reached.
    fn complaint(&self, device: &Arc<str>, need: &Need, intent: &Intent) -> Option<String> {
        let network = &need.logical_switch;
        let of_port = || {
            let in_use = |port: &_| intent.has_port(need.connection, port);
            self.complaints.of_ports(device, network, in_use)
        };
        let of_switch = self.complaints.of_switch(device, network);
        of_switch.or_else(of_port)
    }

    fn report(
        &self,
        device: &Arc<str>,
        need: &Need,
        row: &Row,
        mac: Option<MacAddress>,
        intent: &Intent,
    ) -> Report {
        let name = &need.logical_switch;
        if let Some(reason) = self.conflicts.get(&need.connection) {
            return Report::because(Status::Error, format!("switch {device}: {reason}"));
        }
        let blocked = self.blocked.get(name).into_iter().flatten();
        let mut blocked = blocked.filter(|it| it.concerns(device)).peekable();
        if blocked.peek().is_some() {
            let words = |it: &Blocked| match it {
                Blocked::Binding { .. } => unavailable(it),
                Blocked::Network { .. } => format!("switch {device}: {}", unavailable(it)),
            };
            let reports = blocked.map(|it| Report::because(Status::Error, words(it)));
            return Report::of_all(reports);
        }
        if let Some(words) = self.complaint(device, need, intent) {
            return Report::because(Status::Error, format!("switch {device} reports {words}"));
        }
        let mut locator = need.locator;
        if self.keyless {
            if let Some(reason) = without_key(device, need.locator.tunnel_key, need.network_key) {
                return Report::because(Status::Error, reason);
            }
            locator.tunnel_key = None;
        }
        if mac.is_none() {
            let destinations = self.crowded.get(name).filter(|_| need.flood);
            let crowded = destinations.map(|count| without_replication(device, *count));
            let unwatched = (need.bfd && self.unwatchable).then(|| without_bfd(device));
            if let Some(reason) = crowded.or(unwatched) {
                return Report::because(Status::Error, reason);
            }
        }
        let unbound = self.unbound.get(name);
        let lacking = if row.revision.max(need.revision) > self.revision
            || self.logical_switches.contains(name)
            || unbound.is_some_and(|switches| switches.contains(device))
        {
            true
        } else if let Some(mac) = mac {
            self.macs.get(name).is_some_and(|macs| macs.contains(&mac))
        } else {
            let flood = self.flood.get(name);
            need.flood && flood.is_some_and(|lacking| lacking.contains(&locator))
        };
        if !lacking {
            let tunnel = (Arc::clone(device), need.locator.ip);
            return match self.dead_tunnels.get(&tunnel) {
                Some(words) => Report::because(Status::Down, format!("switch {device}: {words}")),
                None => Report::ACTIVE,
            };
        }
        if let Some(withheld) = &self.withheld {
            return Report::because(
                Status::Error,
                format!("switch {device} is not changed: {withheld}"),
            );
        }
        if let Some(words) = self.refusals.get(name) {
            return Report::because(
                Status::Error,
                format!("switch {device} refused it: {words}"),
            );
        }
        match self.quarrels.get(name) {
            Some(times) => Report::because(
                Status::Error,
                format!("switch {device}: {}", quarrelled(*times)),
            ),
            None => Report::because(Status::Build, format!("on its way to switch {device}")),
        }
    }
}

/// Why something cannot be had, in words.
pub(crate) fn unavailable(blocked: &Blocked) -> String {
    match blocked {
        Blocked::Binding {
            port_vlan, reason, ..
        } => format!("{port_vlan} cannot be bound: {reason}"),
        Blocked::Network {
            tunnel_key, theirs, ..
        } => KeyTaken(*tunnel_key, theirs).to_string(),
    }
}

/// Why a network that somebody else keeps changing is not put right at once.
pub(crate) fn quarrelled(times: u32) -> String {
    format!(
        "somebody else undoes what is written there; it was put right {times} times, and is again after a pause"
    )
}

/// Why a tunnel with this key cannot be had on a switch that knows only the networks' own keys; nothing where it can.
pub(crate) fn without_key(device: &str, key: Option<Vni>, network: Option<Vni>) -> Option<String> {
    let key = key.filter(|key| Some(*key) != network)?;
    let network = network.map_or_else(|| "none".to_owned(), |key| key.to_string());
    Some(format!(
        "switch {device} cannot use tunnel key {key}: it makes nothing of Physical_Locator.tunnel_key, \
         so it must be the network's own, {network}"
    ))
}

/// Why a network cannot be flooded to so many destinations.
pub(crate) fn without_replication(device: &str, destinations: usize) -> String {
    format!(
        "switch {device} floods to one destination alone, and the network has {destinations} there: its schema has no \
         Logical_Switch.replication_mode; connect without flooding and declare the remote MACs"
    )
}

/// Why tunnels cannot be watched.
pub(crate) fn without_bfd(device: &str) -> String {
    format!("switch {device} cannot watch tunnels by BFD: its schema has no Tunnel.bfd_params")
}

impl Board {
    pub(crate) fn new(intent: Arc<RwLock<Replica>>) -> Self {
        Self {
            intent,
            ..Self::default()
        }
    }

    /// Adds a controller's account; it counts as long as the controller keeps it.
    pub(crate) fn open(&self, account: &Arc<Account>) {
        let mut accounts = write(&self.accounts);
        accounts.retain(|account| account.strong_count() > 0);
        accounts.push(Arc::downgrade(account));
    }

    /// Where to count under this name.
    pub(crate) fn tally(&self, label: &str) -> Arc<Tally> {
        let mut tallies = write(&self.tallies);
        if tallies.len() >= TALLIES && !tallies.contains_key(label) {
            // Whose controller is gone.
            tallies.retain(|_, tally| Arc::strong_count(tally) > 1);
        }
        Arc::clone(tallies.entry(label.to_owned()).or_default())
    }

    /// What is declared for a physical switch.
    pub(crate) fn declared(&self, device: &str) -> Declared {
        read(&self.intent).intent.declared(device)
    }

    /// What was counted under each name.
    pub fn tallies(&self) -> BTreeMap<String, Arc<Tally>> {
        read(&self.tallies).clone()
    }

    /// Why a physical switch that was here is away; nothing if it is not, or was never here.
    pub(crate) fn away(&self, device: &str) -> Option<String> {
        match read(&self.sightings).get(device).map(|seen| &**seen) {
            Some(Sighting::Away { reason }) => Some(reason.clone()),
            Some(Sighting::Compared(_)) | None => None,
        }
    }

    /// What all controllers tell.
    pub fn accounts(&self) -> Vec<Arc<Account>> {
        let accounts = read(&self.accounts);
        accounts.iter().filter_map(Weak::upgrade).collect()
    }

    /// Whether some controller's switch database lists a physical switch now.
    pub(crate) fn lists(&self, device: &str) -> bool {
        let accounts = self.accounts();
        accounts.iter().any(|account| account.lists(device))
    }

    /// Where a controller has a physical switch, or had it last and dials for it.
    pub(crate) fn endpoint_of(&self, device: &str) -> Option<String> {
        let accounts = self.accounts();
        let mut having = accounts
            .iter()
            .filter(|account| account.told().devices.contains(device));
        having.next().map(|account| account.endpoint.clone())
    }

    /// Forgets what was seen of a physical switch that no controller has, and what was counted for it.
    pub(crate) fn forget(&self, device: &str) {
        write(&self.sightings).remove(device);
        let mut tallies = write(&self.tallies);
        if tallies
            .get(device)
            .is_some_and(|tally| Arc::strong_count(tally) == 1)
        {
            tallies.remove(device);
        }
    }

    /// Asks the database of a physical switch, if the switch is there.
    pub(crate) fn ask<T>(&self, device: &str, question: impl Fn(&Database) -> T) -> Option<T> {
        let accounts = self.accounts();
        accounts
            .iter()
            .find_map(|account| account.ask(device, &question))
    }

    /// Puts up what a controller saw, for all physical switches of its database.
    pub(crate) fn put(&self, devices: impl IntoIterator<Item = Arc<str>>, sighting: Sighting) {
        let sighting = Arc::new(sighting);
        let mut sightings = write(&self.sightings);
        for device in devices {
            sightings.insert(device, Arc::clone(&sighting));
        }
    }

    /// The status of a row, and why it is not ACTIVE.
    pub fn report(&self, row: &Row) -> Report {
        let intent = read(&self.intent);
        let of_connection = |connection: Uuid, mac: Option<MacAddress>| {
            let Some(need) = intent.intent.need(connection) else {
                return Report::because(Status::Build, "on its way to the controllers");
            };
            let sightings = read(&self.sightings);
            let reports =
                need.devices
                    .iter()
                    .map(|device| match sightings.get(device).map(|s| &**s) {
                        None => Report::because(
                            Status::Down,
                            format!("switch {device} has not connected since the server started"),
                        ),
                        Some(Sighting::Away { reason }) => Report::because(
                            Status::Down,
                            format!("switch {device} is away: {reason}"),
                        ),
                        Some(Sighting::Compared(residue)) => {
                            residue.report(device, &need, row, mac, &intent.intent)
                        }
                    });
            Report::of_all(reports)
        };
        match row.resource.kind {
            Kind::L2RemoteMac => match row.uuid("rgw_connection") {
                Some(connection) => of_connection(connection, row.mac("mac")),
                None => Report::ACTIVE,
            },
            Kind::L2RemoteGatewayConnection => of_connection(row.id(), None),
            // A remote gateway is as well as its connections are; one without any has nothing to wait for.
            Kind::L2RemoteGateway => {
                let connections: Vec<Uuid> = intent.intent.connections_to(row.id()).collect();
                let connections = connections.into_iter();
                Report::of_all(connections.map(|connection| of_connection(connection, None)))
            }
            Kind::Network | Kind::Port | Kind::L2Gateway | Kind::L2GatewayConnection => {
                Report::ACTIVE
            }
        }
    }
}
