//! One controller per OVSDB target: it makes the switches behind it hold what operators asked for.
//!
//! The contract of a controller:
//!
//! - **Level-triggered.** A wake-up says "look", never "this changed". A turn compares what the database should hold with
//!   what it holds and writes the difference; missing a wake-up or getting one too many is harmless. Where only MACs have
//!   changed since the last turn it compares those, see [`outlook`].
//! - **One at a time.** Turns of one controller never overlap; wake-ups during a turn make one more turn.
//! - **Idempotent.** A turn that finds nothing to do writes nothing.
//! - **Verified.** After writing, the difference is computed again from what the switch now shows. Only that is reported:
//!   statuses say what was read back, not what was sent.
//! - **Alone.** A controller writes while it has the switch's lock; see [`fence`].
//! - **Careful.** Rows of ours that the database does not know are removed only if it once knew them; see [`guard`].
//! - **Patient.** A switch that is away is no error of the API: the turn after its return converges. What a switch
//!   refuses is tried again with growing pauses, and shown as ERROR with its words meanwhile; so is what somebody else
//!   undoes again and again; see [`pauses`].
//! - **Out of the way.** The switch forwards on its own; stopping a controller changes nothing on it.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use hardware_vtep::{Database, Note};
use jiff::Timestamp;
use model::lineage::Moment;
use model::plan::{Plan, Step};
use model::switch::LogicalSwitchName;
use ovsdb::{Budget, Connection, Link, Session};
use store::Store;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::account::{Account, Consent, Planned};
use crate::lock::read;
use crate::status::{Board, Sighting};
use crate::withheld::Withheld;

use self::callers::Partings;
use self::claims::Claims;
use self::connections::{Certificates, Connections};
use self::fence::Fence;
use self::guard::{Ground, Guard};
use self::outlook::Outlook;
use self::pauses::Pauses;
use self::seats::Seats;

mod callers;
mod claims;
pub mod connections;
pub(crate) mod feed;
mod fence;
mod guard;
mod outlook;
mod pauses;
mod seats;
mod tell;

/// Without any wake-up a controller looks again after this time.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);
/// When to look again if a turn could not be finished.
const RETRY: Duration = Duration::from_millis(500);

/// When to look again whether somebody else still drives the switches.
const SEAT_RETRY: Duration = Duration::from_secs(1);

/// All controllers of a server. Dropping it stops them.
#[derive(Debug)]
pub struct Controllers {
    /// Where they put up what they see.
    pub board: Arc<Board>,
    /// What they show to switches, and whom they trust.
    pub certificates: Certificates,
    /// What those have who dialled us.
    pub callers: Budget,
    tasks: JoinSet<()>,
}

/// What all controllers share, and a new one is made with.
#[derive(Clone)]
struct Workshop {
    store: Store,
    replica: Arc<RwLock<feed::Replica>>,
    board: Arc<Board>,
    seats: Arc<Seats>,
    partings: Arc<Partings>,
    intent: watch::Receiver<Option<u64>>,
}

/// Where a controller works.
struct Place {
    /// For people.
    name: String,
    /// For metrics: the same whenever the switch connects.
    label: String,
    /// What it may claim, if it dialled us: then it took its seats before. Whom we dial may claim anything.
    claims: Option<Claims>,
}

impl Workshop {
    /// Runs a controller over this connection; it ends only if the connection is over.
    fn controller(
        &self,
        place: Place,
        connection: Connection<Database>,
    ) -> impl Future<Output = ()> + use<> {
        Controller::new(place, connection, self).run(self.intent.clone())
    }
}

/// Starts one controller for each endpoint, and one for each switch that dials, as long as it stays.
pub fn start(store: &Store, connections: Connections) -> Controllers {
    let replica = Arc::new(RwLock::new(feed::Replica::default()));
    let board = Arc::new(Board::new(Arc::clone(&replica)));
    let (changed, intent) = watch::channel(None);
    let mut tasks = JoinSet::new();
    tasks.spawn(feed::follow(store.clone(), Arc::clone(&replica), changed));
    let workshop = Workshop {
        store: store.clone(),
        replica,
        board: Arc::clone(&board),
        seats: Arc::default(),
        partings: Arc::default(),
        intent,
    };
    for (endpoint, options) in connections.dialled {
        let name = endpoint.to_string();
        let place = Place {
            label: name.clone(),
            name,
            claims: None,
        };
        let connection = Connection::start(endpoint, hardware_vtep::NAME, options);
        tasks.spawn(workshop.controller(place, connection));
    }
    for listener in connections.listeners {
        let attended = callers::attend(listener, workshop.clone(), connections.claims);
        tasks.spawn(attended);
    }
    Controllers {
        board,
        certificates: connections.certificates,
        callers: connections.budget,
        tasks,
    }
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
    account: Arc<Account>,
    guard: Guard,
    fence: Fence,
    /// Where it must sit to drive a switch; nothing for who sits there already.
    seats: Option<Arc<Seats>>,
    claims: Option<Claims>,
    /// The seats it has.
    seated: BTreeSet<Arc<str>>,
    /// The physical switches last seen behind the target.
    devices: BTreeSet<Arc<str>>,
    pauses: Pauses,
    /// What was last refused, in the switch's words; shown until it is there.
    refusals: BTreeMap<LogicalSwitchName, String>,
    outlook: Outlook,
    /// The revision that the last turn looked at.
    looked_at: u64,
}

/// What remains to be done.
#[derive(Default)]
struct Difference {
    /// The revision of the intent that was compared.
    revision: u64,
    /// The state of the database that it stands for.
    moment: Option<Moment>,
    plan: Plan,
    /// What of it must wait, if something must.
    withheld: Option<Withheld>,
    /// The logical switches that are left alone for a while.
    paused: BTreeSet<LogicalSwitchName>,
}

impl Difference {
    /// What may be done of it now.
    fn permitted(&self) -> Cow<'_, Plan> {
        if self.withheld.is_none() && self.paused.is_empty() {
            return Cow::Borrowed(&self.plan);
        }
        let waits = |step: &Step| {
            let withheld = self.withheld.as_ref();
            let mut touched = std::iter::once(step.logical_switch()).chain(step.displaces());
            withheld.is_some_and(|it| it.holds(step)) || touched.any(|it| self.paused.contains(it))
        };
        let steps = self.plan.steps.iter().filter(|step| !waits(step));
        Cow::Owned(Plan {
            steps: steps.cloned().collect(),
            blocked: self.plan.blocked.clone(),
        })
    }
}

impl Controller {
    /// A controller for the database at the other end of a connection.
    fn new(place: Place, connection: Connection<Database>, workshop: &Workshop) -> Self {
        let Place {
            name,
            label,
            claims,
        } = place;
        let held = Arc::clone(connection.replica());
        let intent = Arc::clone(&workshop.replica);
        let tally = workshop.board.tally(&label);
        let account = Arc::new(Account::new(name.clone(), label, tally, held, intent));
        workshop.board.open(&account);
        Self {
            name,
            connection,
            store: workshop.store.clone(),
            replica: Arc::clone(&workshop.replica),
            board: Arc::clone(&workshop.board),
            account,
            seats: claims.is_none().then(|| Arc::clone(&workshop.seats)),
            claims,
            seated: BTreeSet::new(),
            guard: Guard::default(),
            fence: Fence::default(),
            devices: BTreeSet::new(),
            pauses: Pauses::default(),
            refusals: BTreeMap::new(),
            outlook: Outlook::default(),
            looked_at: 0,
        }
    }

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
                Link::Up { session, schema } => {
                    if was_up != Some(true) {
                        tracing::info!(target = self.name, "connected to the switch database");
                    }
                    match self.sit() {
                        Ok(()) => {
                            self.connected(&schema.version);
                            self.turn(&session).await
                        }
                        Err(elsewhere) => {
                            self.stand(&elsewhere);
                            SEAT_RETRY
                        }
                    }
                }
                Link::Connecting => LONGEST_SLEEP,
                Link::Down { reason } => {
                    if was_up != Some(false) {
                        tracing::warn!(target = self.name, %reason, "the switch database is away");
                    }
                    self.away(&reason);
                    if self.connection.is_over() {
                        return;
                    }
                    LONGEST_SLEEP
                }
            };
            was_up = Some(up);
            tokio::select! {
                _ = wakeups.changed() => {}
                changed = intent.changed() => if changed.is_err() { return },
                () = self.account.consenting() => {}
                () = self.fence.changes() => {}
                () = tokio::time::sleep(sleep) => {}
            }
        }
    }

    /// Makes sure that nobody else drives the switches behind the target; otherwise who does.
    fn sit(&mut self) -> Result<(), String> {
        let Some(seats) = &self.seats else {
            return Ok(());
        };
        let names = self.connection.replica().read(|database| {
            let names = database.map(|held| held.switch_names().collect());
            names.unwrap_or_default()
        });
        // Nobody takes the seat of an endpoint that is up.
        if names != self.seated {
            self.seated.clear();
            seats.sit(&self.name, &names)?;
            self.seated = names;
        }
        Ok(())
    }

    /// Compares, writes the difference, compares again. Returns how long to sleep if nothing happens.
    async fn turn(&mut self, session: &Session) -> Duration {
        if !self.look_for_devices(session).await {
            return RETRY;
        }
        if !self.fence.look(session).await {
            return RETRY;
        }
        let revision = read(&self.replica).revision;
        if let Some(consent) = self.account.take_consent(revision) {
            self.consented(session, consent).await;
        }
        self.tell_delay();
        let todo = self.difference();
        if todo.withheld.is_none() {
            self.look_after_others(session, todo.revision).await;
        }
        let permitted = todo.permitted();
        if permitted.is_empty() {
            return self.settle(&todo);
        }
        self.write(session, &todo, &permitted).await;
        self.fence.refresh();
        let rest = self.difference();
        if rest.permitted().is_empty() {
            if rest.plan.is_empty() {
                tracing::info!(
                    target = self.name,
                    revision = rest.revision,
                    "the switch database holds it all"
                );
            }
            return self.settle(&rest);
        }
        self.put_up(&rest);
        RETRY
    }

    /// Sees to what a plan does not speak of: that our logical switches flood to every destination, and that the switches
    /// watch the tunnels that somebody wants to be watched. A tunnel's row comes from the switch when it has the tunnel;
    /// that wakes us again.
    async fn look_after_others(&mut self, session: &Session, revision: u64) {
        if self.pauses.others_wait(revision, Instant::now()).is_some() {
            return;
        }
        let (replica, fence) = (self.connection.replica(), self.fence.lock());
        let flooding = hardware_vtep::repair_replication(session, replica, fence).await;
        let wanted = &self.outlook.desired().bfd;
        let watched = hardware_vtep::set_bfd(session, replica, wanted, fence).await;
        for (what, changed) in [("replication_mode", flooding), ("bfd_params", watched)] {
            match changed {
                Ok(0) => {}
                Ok(changed) => {
                    tracing::info!(target = self.name, what, changed, "changed");
                    self.pauses.note_others(revision, Instant::now());
                }
                Err(error) => {
                    tracing::warn!(target = self.name, what, %error, "the switch database refused");
                }
            }
        }
    }

    /// Carries out a plan and notes what was refused.
    async fn write(&mut self, session: &Session, from: &Difference, todo: &Plan) {
        let withheld = from.withheld.as_ref();
        let trusted = withheld.is_none_or(Withheld::leaves_the_rest);
        tracing::info!(
            target = self.name,
            revision = from.revision,
            steps = todo.steps.len(),
            "writing to the switch database"
        );
        for step in todo.steps.iter().take(LOGGED_STEPS) {
            tracing::debug!(target = self.name, %step);
        }
        let stamped = async {
            if trusted {
                self.stamp(session, from.moment).await;
            }
        };
        // While the switch is at work on the first transactions. What is younger than the last look is on its way
        // anyhow, which is all that statuses would miss meanwhile.
        let told = async { self.put_up(from) };
        // The stamp goes first: no row is ever younger than it.
        let replica = self.connection.replica();
        let fence = self.fence.lock();
        let applied = hardware_vtep::apply_fenced(session, replica, todo, fence);
        let ((), failures, ()) = tokio::join!(stamped, applied, told);
        let refused = u64::try_from(failures.len()).unwrap_or(u64::MAX);
        self.account.tally.add_refused(refused);
        let mut refusals = BTreeMap::new();
        for failure in failures {
            let Some(step) = todo.steps.get(failure.step) else {
                continue;
            };
            if refusals.is_empty() {
                tracing::warn!(target = self.name, %step, error = %failure.error, "the switch database refused a step");
            }
            refusals
                .entry(step.logical_switch().clone())
                .or_insert_with(|| failure.error.to_string());
        }
        self.note(from.revision, todo, refusals);
        self.account
            .tell(|told| told.written_at = Some(Timestamp::now()));
    }

    /// Notes how writing went: what was refused, and what had to be put right once more.
    fn note(
        &mut self,
        revision: u64,
        written: &Plan,
        refusals: BTreeMap<LogicalSwitchName, String>,
    ) {
        let mut names: Vec<_> = written.steps.iter().map(Step::logical_switch).collect();
        // Steps on one logical switch mostly stand together: sorting few names is cheaper than sorting many.
        names.dedup();
        names.sort_unstable();
        names.dedup();
        let quarrels = self.pauses.quarrels();
        let seen = names.iter().copied();
        self.pauses.note(revision, seen, &refusals, Instant::now());
        for name in self.pauses.quarrels().keys() {
            if !quarrels.contains_key(name) {
                tracing::warn!(
                    target = self.name,
                    logical_switch = %name,
                    "somebody else undoes what is written; it is put right in growing pauses from now on"
                );
            }
        }
        self.refusals
            .retain(|name, _| names.binary_search(&name).is_err());
        self.refusals.extend(refusals);
    }

    /// Writes on the switch which state of the database it serves.
    async fn stamp(&self, session: &Session, moment: Option<Moment>) {
        let Some(moment) = moment else {
            return;
        };
        let replica = self.connection.replica();
        let state = moment.to_string();
        let note = Note {
            state: &state,
            server: fence::this_server(),
        };
        let due = replica.read(|database| database.is_some_and(Database::can_be_stamped));
        let fence = self.fence.lock();
        if due && let Err(error) = hardware_vtep::stamp(session, replica, note, fence).await {
            tracing::warn!(target = self.name, %error, "the switch database takes no stamp");
        }
    }

    /// An operator agreed to removals: the switch is from now on what this database says, or some logical switches are.
    async fn consented(&mut self, session: &Session, consent: Consent) {
        tracing::warn!(
            target = self.name,
            ?consent,
            "an operator agreed to removals on the switch"
        );
        match consent {
            Consent::On(names) => self.guard.agree(names),
            Consent::ToAll => {
                self.guard.trust(self.devices.clone());
                let moment = {
                    let intent = read(&self.replica);
                    intent.lineage.at(intent.revision)
                };
                self.stamp(session, moment).await;
            }
        }
    }

    /// Nothing is left to write for now.
    fn settle(&mut self, rest: &Difference) -> Duration {
        let left = |name: &LogicalSwitchName| {
            let mut steps = rest.plan.steps.iter();
            steps.any(|step| step.logical_switch() == name)
        };
        self.refusals.retain(|name, _| left(name));
        self.put_up(rest);
        let (revision, now) = (rest.revision, Instant::now());
        let of_one = self.pauses.shortest(&rest.paused, revision, now);
        let others = self.pauses.others_wait(revision, now);
        of_one
            .into_iter()
            .chain(others)
            .min()
            .unwrap_or(LONGEST_SLEEP)
    }

    fn difference(&mut self) -> Difference {
        let (fence, guard, outlook) = (&self.fence, &mut self.guard, &mut self.outlook);
        let pauses = &self.pauses;
        let (replica, board, devices) = (&self.replica, &self.board, &self.devices);
        let start = Instant::now();
        let difference = self.connection.replica().read(|database| {
            let Some(held) = database else {
                return Difference::default();
            };
            let (plan, revision, lineage) = {
                let intent = read(replica);
                let plan = outlook.look(&intent, held, devices);
                (plan, intent.revision, intent.lineage.clone())
            };
            let ground = Ground {
                desired: &outlook.desired().state,
                lineage: &lineage,
                revision,
                missed: &|mut names| {
                    names.retain(|name| !board.lists(name));
                    read(replica).intent.with_gateways(names)
                },
            };
            Difference {
                revision,
                moment: lineage.at(revision),
                paused: pauses.waiting(revision, start),
                plan,
                withheld: fence
                    .objection(held)
                    .or_else(|| guard.objection(held, &ground)),
            }
        });
        let planned = Planned {
            steps: difference.plan.steps.len(),
            took: start.elapsed(),
        };
        self.account.tell(|told| told.planned = Some(planned));
        if let Some(withheld) = &difference.withheld
            && self.account.told().withheld.as_ref() != Some(withheld)
        {
            tracing::error!(target = self.name, %withheld, "not everything is written");
        }
        difference
    }

    /// Notes which physical switches are behind the target, and has the database remember new ones. False if that
    /// failed, or may not be.
    async fn look_for_devices(&mut self, session: &Session) -> bool {
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
        let claims = self.claims;
        let remember = move |transaction: &mut dyn store::Transaction| {
            let objection = match claims {
                Some(claims) => claims.objection_beside(&transaction.seen_devices()?, &names),
                None => None,
            };
            if objection.is_none() {
                transaction.remember_devices(&names)?;
            }
            Ok(objection)
        };
        match self.store.write(remember).await {
            Ok(None) => {}
            Ok(Some(reason)) => {
                callers::turn_away(session, &reason);
                return false;
            }
            Err(fault) => {
                tracing::warn!(target = self.name, %fault, "cannot remember the physical switches");
                return false;
            }
        }
        let gone: Vec<_> = self.devices.difference(&seen).cloned().collect();
        let reason = format!("{} no longer lists it", self.name);
        self.board.put(gone, Sighting::Away { reason });
        self.account.tell(|told| told.devices.clone_from(&seen));
        self.devices = seen;
        true
    }
}

/// A plan's first steps are logged one by one at debug level; a bulk of 100,000 is not.
const LOGGED_STEPS: usize = 100;
