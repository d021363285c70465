//! What each controller tells of its endpoint: the link, what was last refused and withheld, and on request the whole
//! comparison.
//!
//! The controller owns an account and writes it; the API reads it. The one thing that goes the other way is an operator's
//! consent to removals.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use hardware_vtep::{Capabilities, Database, LocalMac, PhysicalSwitch};
use jiff::Timestamp;
use model::plan::{Plan, plan};
use model::switch::LogicalSwitchName;
use ovsdb::SharedReplica;
use tokio::sync::Notify;

use crate::controller::feed::Replica;
use crate::lock::{read, write};
use crate::withheld::Withheld;

/// What one controller tells of its endpoint.
#[derive(Debug)]
pub struct Account {
    /// The endpoint's target, for people.
    pub endpoint: String,
    /// What it is called in metrics: the endpoint, or the names of switches that dialled us.
    pub label: String,
    /// What is counted under that name.
    pub(crate) tally: Arc<Tally>,
    held: Arc<SharedReplica<Database>>,
    intent: Arc<RwLock<Replica>>,
    told: RwLock<Told>,
    consented: RwLock<Option<Consented>>,
    consent: Notify,
}

/// What the controller last told.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// The physical switches behind the endpoint.
    pub devices: BTreeSet<Arc<str>>,
    /// Since when the session is up; nothing while it is not.
    pub connected_since: Option<Timestamp>,
    /// Why it is not.
    pub away: Option<String>,
    /// The version of the switch's schema.
    pub schema_version: String,
    /// When something was last written.
    pub written_at: Option<Timestamp>,
    /// What the last write was refused with, in the switch's words.
    pub refusals: BTreeMap<LogicalSwitchName, String>,
    /// The logical switches that somebody else keeps changing, and how often each was put right.
    pub quarrels: BTreeMap<LogicalSwitchName, u32>,
    /// What is not done for the time being, and why.
    pub withheld: Option<Withheld>,
    /// The last plan that was made.
    pub planned: Option<Planned>,
    /// How long the last change of the database waited from its commit until the controller looked.
    pub queue_delay: Option<Duration>,
}

/// What is counted as long as the server runs, over all sessions: a switch that dials us gets a new controller each time.
#[derive(Debug, Default)]
pub struct Tally {
    refused_steps: AtomicU64,
    sessions_lost: AtomicU64,
}

impl Tally {
    /// Steps that were refused.
    pub fn refused_steps(&self) -> u64 {
        self.refused_steps.load(Ordering::Relaxed)
    }

    /// Sessions that ended.
    pub fn sessions_lost(&self) -> u64 {
        self.sessions_lost.load(Ordering::Relaxed)
    }

    pub(crate) fn add_refused(&self, steps: u64) {
        self.refused_steps.fetch_add(steps, Ordering::Relaxed);
    }

    pub(crate) fn add_lost(&self) {
        self.sessions_lost.fetch_add(1, Ordering::Relaxed);
    }
}

/// A plan, as far as it is worth counting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Planned {
    /// How many steps it has.
    pub steps: usize,
    /// How long making it took.
    pub took: Duration,
}

/// What the endpoint's database holds, beside what it should hold.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// The revision of the database that says what it should hold.
    pub revision: u64,
    /// What would be written.
    pub plan: Plan,
    /// What it should hold and its schema has no room for, with the reason.
    pub unable: Vec<(LogicalSwitchName, String)>,
    /// Rows that it should hold.
    pub wanted: usize,
    /// Rows of ours that it holds.
    pub held: usize,
    /// What its schema has.
    pub capabilities: Capabilities,
    /// The switches in it.
    pub switches: BTreeMap<Arc<str>, PhysicalSwitch>,
    /// What they complain about, in words.
    pub faults: BTreeMap<Arc<str>, String>,
}

/// What an operator agrees to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Consent {
    /// Whatever is to be done on the endpoint.
    ToAll,
    /// What is to be done on these logical switches.
    On(BTreeSet<LogicalSwitchName>),
}

impl Consent {
    fn and(self, further: Self) -> Self {
        match (self, further) {
            (Self::On(mut names), Self::On(more)) => {
                names.extend(more);
                Self::On(names)
            }
            (Self::ToAll, _) | (_, Self::ToAll) => Self::ToAll,
        }
    }
}

/// What was agreed to and is not carried out yet.
#[derive(Debug)]
struct Consented {
    to: Consent,
    /// The newest revision of the database that whoever agreed may have had in mind.
    at: u64,
}

impl Account {
    pub(crate) fn new(
        endpoint: String,
        label: String,
        tally: Arc<Tally>,
        held: Arc<SharedReplica<Database>>,
        intent: Arc<RwLock<Replica>>,
    ) -> Self {
        Self {
            endpoint,
            label,
            tally,
            held,
            intent,
            told: RwLock::default(),
            consented: RwLock::default(),
            consent: Notify::new(),
        }
    }

    /// What the controller last told.
    pub fn told(&self) -> Told {
        read(&self.told).clone()
    }

    pub(crate) fn tell(&self, change: impl FnOnce(&mut Told)) {
        change(&mut write(&self.told));
    }

    /// Compares what the endpoint's database holds, or last held, with what it should hold. Nothing before it was read.
    pub fn compare(&self) -> Option<Comparison> {
        let devices = read(&self.told).devices.clone();
        let (revision, mut desired) = {
            let intent = read(&self.intent);
            (intent.revision, intent.intent.desired(&devices))
        };
        self.held.read(|held| {
            let held = held?;
            let unable = held.capabilities().fit(&mut desired.state);
            let ours = |name: &LogicalSwitchName| {
                let there = held.state().logical_switches.get(name);
                there.is_some_and(|l| l.owned) || desired.state.logical_switches.contains_key(name)
            };
            Some(Comparison {
                revision,
                plan: plan(&desired.state, held.state()),
                unable,
                wanted: desired.state.rows(|_| true),
                held: held.state().rows(ours),
                capabilities: held.capabilities(),
                switches: held.physical_switches(),
                faults: held.faults(),
            })
        })
    }

    /// Whether the physical switch is in the database and that is there.
    pub(crate) fn lists(&self, device: &str) -> bool {
        let told = read(&self.told);
        told.connected_since.is_some() && told.devices.contains(device)
    }

    /// Asks the database, if this physical switch is in it and it is there.
    pub(crate) fn ask<T>(&self, device: &str, question: impl Fn(&Database) -> T) -> Option<T> {
        let asked = self.lists(device);
        asked.then(|| self.held.read(|held| held.map(question)))?
    }

    /// The stations that the switches have learnt, or last had.
    pub fn local_macs(&self) -> Vec<LocalMac> {
        self.held
            .read(|held| held.into_iter().flat_map(Database::local_macs).collect())
    }

    /// Whether the endpoint's database holds a logical switch.
    pub fn holds(&self, name: &LogicalSwitchName) -> bool {
        self.held
            .read(|held| held.is_some_and(|held| held.state().logical_switches.contains_key(name)))
    }

    /// An operator agrees that rows are removed which the database does not know, and that what others left is taken over,
    /// as of this revision of the database: what was declared just before may not have reached the controller yet, and is
    /// meant too. So the consent waits until it has.
    pub fn consent(&self, to: Consent, at: u64) {
        let mut consented = write(&self.consented);
        *consented = Some(match consented.take() {
            None => Consented { to, at },
            Some(before) => Consented {
                to: before.to.and(to),
                at: before.at.max(at),
            },
        });
        drop(consented);
        self.consent.notify_one();
    }

    /// What somebody agreed to since this was last asked, if what was declared until then is in this revision.
    pub(crate) fn take_consent(&self, revision: u64) -> Option<Consent> {
        let mut consented = write(&self.consented);
        let due = consented.take_if(|consented| consented.at <= revision);
        due.map(|consented| consented.to)
    }

    /// Waits until somebody agrees.
    pub(crate) async fn consenting(&self) {
        self.consent.notified().await;
    }
}
