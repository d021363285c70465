//! One controller per OVSDB target: it makes the switches behind it hold what operators asked for.
//!
//! The contract of a controller:
//!
//! - **Level-triggered.** A wake-up says "look", never "this changed". A turn compares everything the database should
//!   hold with everything it holds and writes the difference; missing a wake-up or getting one too many is harmless.
//! - **One at a time.** Turns of one controller never overlap; wake-ups during a turn make one more turn.
//! - **Idempotent.** A turn that finds nothing to do writes nothing.
//! - **Verified.** After writing, the difference is computed again from what the switch now shows. Only that is reported:
//!   statuses say what was read back, not what was sent.
//! - **Patient.** A switch that is away is no error of the API: the turn after its return converges. What a switch
//!   refuses is tried again with growing pauses, and shown as ERROR with its words meanwhile.
//! - **Out of the way.** The switch forwards on its own; stopping a controller changes nothing on it.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use hardware_vtep::Database;
use model::intent::Desired;
use model::plan::{Plan, Step, plan};
use model::switch::LogicalSwitchName;
use ovsdb::{Connection, ConnectionOptions, Link, Session, Target};
use store::Store;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::lock::read;
use crate::status::{Board, Residue, Sighting};

pub(crate) mod feed;

/// Without any wake-up a controller looks again after this time.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);
/// The first pause after a refusal; it doubles up to [`LONGEST_SLEEP`].
const FIRST_RETRY: Duration = Duration::from_millis(500);

/// All controllers of a server. Dropping it stops them.
#[derive(Debug)]
pub struct Controllers {
    /// Where they put up what they see.
    pub board: Arc<Board>,
    tasks: JoinSet<()>,
}

/// Starts one controller for each target.
pub fn start(store: &Store, targets: Vec<Target>) -> Controllers {
    let replica = Arc::new(RwLock::new(feed::Replica::default()));
    let board = Arc::new(Board::new(Arc::clone(&replica)));
    let (changed, intent) = watch::channel(None);
    let mut tasks = JoinSet::new();
    tasks.spawn(feed::follow(store.clone(), Arc::clone(&replica), changed));
    for target in targets {
        let controller = Controller {
            name: target.to_string(),
            connection: Connection::start(
                target.into(),
                hardware_vtep::NAME,
                ConnectionOptions::default(),
            ),
            store: store.clone(),
            replica: Arc::clone(&replica),
            board: Arc::clone(&board),
            devices: BTreeSet::new(),
            retry: FIRST_RETRY,
            refusals: HashMap::new(),
        };
        tasks.spawn(controller.run(intent.clone()));
    }
    Controllers { board, tasks }
}

impl Controllers {
    /// Lets turns under way finish their transactions no further, and ends all controllers. What was sent is sent; the
    /// next start looks at everything again.
    pub async fn stop(mut self) {
        self.tasks.shutdown().await;
    }
}

struct Controller {
    /// The target, for people.
    name: String,
    connection: Connection<Database>,
    store: Store,
    replica: Arc<RwLock<feed::Replica>>,
    board: Arc<Board>,
    /// The physical switches last seen behind the target.
    devices: BTreeSet<Arc<str>>,
    /// How long to wait before refused steps are tried again.
    retry: Duration,
    /// What the last turn was refused, in the switch's words; shown until a turn succeeds.
    refusals: HashMap<LogicalSwitchName, String>,
}

impl Controller {
    async fn run(mut self, mut intent: watch::Receiver<Option<u64>>) {
        let mut wakeups = self.connection.wakeups();
        // Before the database was read once, an empty intent would mean "remove everything".
        if intent.wait_for(Option::is_some).await.is_err() {
            return;
        }
        let mut was_up = None;
        loop {
            wakeups.borrow_and_update();
            intent.borrow_and_update();
            let link = self.connection.link();
            let up = matches!(link, Link::Up { .. });
            let sleep = match link {
                Link::Up { session, .. } => {
                    if was_up != Some(true) {
                        tracing::info!(target = self.name, "connected to the switch database");
                    }
                    self.turn(&session).await
                }
                Link::Connecting => LONGEST_SLEEP,
                Link::Down { reason } => {
                    if was_up != Some(false) {
                        tracing::warn!(target = self.name, %reason, "the switch database is away");
                    }
                    self.away(&reason);
                    LONGEST_SLEEP
                }
            };
            was_up = Some(up);
            tokio::select! {
                _ = wakeups.changed() => {}
                changed = intent.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(sleep) => {}
            }
        }
    }

    fn away(&self, reason: &str) {
        let reason = reason.to_owned();
        self.board
            .put(self.devices.iter().cloned(), Sighting::Away { reason });
    }

    /// Compares, writes the difference, compares again. Returns how long to sleep if nothing happens.
    async fn turn(&mut self, session: &Session) -> Duration {
        if !self.look_for_devices().await {
            return FIRST_RETRY;
        }
        let (revision, desired) = {
            let replica = read(&self.replica);
            (replica.revision, replica.intent.desired(&self.devices))
        };
        let todo = self.difference(&desired);
        if todo.is_empty() {
            return self.settle(revision, &todo, &desired);
        }
        self.put_up(revision, &todo, &desired);
        tracing::info!(
            target = self.name,
            revision,
            steps = todo.steps.len(),
            "writing to the switch database"
        );
        for step in todo.steps.iter().take(LOGGED_STEPS) {
            tracing::debug!(target = self.name, %step);
        }
        let failures = hardware_vtep::apply(session, self.connection.replica(), &todo).await;
        self.refusals.clear();
        for failure in failures {
            let Some(step) = todo.steps.get(failure.step) else {
                continue;
            };
            if self.refusals.is_empty() {
                tracing::warn!(target = self.name, %step, error = %failure.error, "the switch database refused a step");
            }
            self.refusals
                .entry(logical_switch_of(step).clone())
                .or_insert_with(|| failure.error.to_string());
        }
        let rest = self.difference(&desired);
        if rest.is_empty() {
            tracing::info!(
                target = self.name,
                revision,
                "the switch database holds it all"
            );
            return self.settle(revision, &rest, &desired);
        }
        self.put_up(revision, &rest, &desired);
        let pause = self.retry;
        self.retry = (self.retry * 2).min(LONGEST_SLEEP);
        pause
    }

    /// Nothing is left to write.
    fn settle(&mut self, revision: u64, rest: &Plan, desired: &Desired) -> Duration {
        self.refusals.clear();
        self.retry = FIRST_RETRY;
        self.put_up(revision, rest, desired);
        LONGEST_SLEEP
    }

    fn difference(&self, desired: &Desired) -> Plan {
        self.connection.replica().read(|database| {
            database.map_or_else(Plan::default, |held| plan(&desired.state, held.state()))
        })
    }

    fn put_up(&self, revision: u64, rest: &Plan, desired: &Desired) {
        let faults = self
            .connection
            .replica()
            .read(|database| database.map(Database::faults).unwrap_or_default());
        let residue = Residue::of(revision, rest)
            .with_refusals(self.refusals.clone())
            .with_conflicts(desired.conflicts.iter().map(|(id, why)| (*id, why.clone())))
            .with_faults(faults);
        self.board.put(
            self.devices.iter().cloned(),
            Sighting::Compared(Box::new(residue)),
        );
    }

    /// Notes which physical switches are behind the target, and has the database remember new ones. False if that
    /// failed.
    async fn look_for_devices(&mut self) -> bool {
        let seen: BTreeSet<Arc<str>> = self.connection.replica().read(|database| {
            database
                .map(|held| held.switch_names().collect())
                .unwrap_or_default()
        });
        if seen == self.devices {
            return true;
        }
        let names: Vec<String> = seen.iter().map(|name| name.to_string()).collect();
        tracing::info!(
            target = self.name,
            switches = names.join(", "),
            "physical switches"
        );
        let remembered = self
            .store
            .write(move |transaction| transaction.remember_devices(&names))
            .await;
        if let Err(fault) = remembered {
            tracing::warn!(target = self.name, %fault, "cannot remember the physical switches");
            return false;
        }
        let gone: Vec<_> = self.devices.difference(&seen).cloned().collect();
        let reason = format!("{} no longer lists it", self.name);
        self.board.put(gone, Sighting::Away { reason });
        self.devices = seen;
        true
    }
}

/// A plan's first steps are logged one by one at debug level; a bulk of 100,000 is not.
const LOGGED_STEPS: usize = 100;

fn logical_switch_of(step: &Step) -> &LogicalSwitchName {
    use model::switch::Surplus;
    match step {
        Step::CreateLogicalSwitch { name, .. }
        | Step::AdoptLogicalSwitch { name }
        | Step::RekeyLogicalSwitch { name, .. }
        | Step::DeleteLogicalSwitch { name }
        | Step::RemoveSurplus(Surplus::Flood(name) | Surplus::Mac(name, _)) => name,
        Step::PutMac { logical_switch, .. }
        | Step::SetFlood { logical_switch, .. }
        | Step::Bind { logical_switch, .. }
        | Step::RemoveMac { logical_switch, .. } => logical_switch,
        Step::Unbind { was, .. } => was,
    }
}
