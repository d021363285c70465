//! The switch at work: one loop that makes the kernel match the database, and the database tell what the kernel refused.
//!
//! ```text
//!  ovsdb-server ──replica──▶ desired ──▶ Kernel::converge ──▶ kernel
//!       ▲                                     │    ▲             │
//!       └──publish: ports, faults, stations────┘    └notifications┘
//! ```
//!
//! The loop is level-triggered: what woke it does not matter, every pass makes the kernel match the whole database. Where
//! the database tells that nothing but stations changed, and the last pass left nothing undone, it looks at those stations
//! alone, which comes to the same. It is woken by the database, by the kernel, by the clock (for the few settings the
//! kernel does not tell about), and by itself to try again what was refused. Now and then everything is looked at beside the
//! passes (`kernel::survey`): what that finds wrong wakes it, too. The kernel is touched only after the database
//! was seen whole: an ovsdb-server that is away changes nothing.
//!
//! | module | its one job |
//! |---|---|
//! | `begin` | opens all that the switch works with, having looked at its `interfaces` |
//! | `wake` | why a pass is made, and what the loop waits for until then |
//! | `worker` | the pass |
//! | `faults` | what it could not do, told in the database |
//! | `look` | looks at everything, beside the passes |
//! | `drops` | whether networks flood beyond the limit |
//! | `statistics`, `tunnels` | what ports counted, and how tunnels are, told in the database beside the passes |
//! | `stop` | the end |

mod begin;
mod drops;
mod faults;
mod interfaces;
mod look;
mod statistics;
mod stop;
mod tunnels;
mod wake;
mod worker;

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use hardware_vtep::{Database, Publication};
use netlink_sys::Socket;
use ovsdb::{Connection, Link};
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;
use tokio::task::JoinSet;

use self::begin::begin;
use self::faults::Faults;
use self::look::{Looked, Looks};
use self::stop::Stop;
pub(crate) use self::wake::Wake;
use self::wake::{bearer, changed, due, readable};
pub(crate) use self::worker::Pass;
use self::worker::Worker;
use crate::control::Control;
use crate::error::Error;
use crate::kernel::netns::Bearer;
use crate::kernel::outline::Outline;
use crate::kernel::sysctl;
use crate::learnt::Telling;
use crate::loops::Cuts;
use crate::metrics::Metrics;
use crate::options::SwitchOptions;
use crate::ovsdb_server::OvsdbServer;
use crate::state_dir::Lock;
use crate::supervisor::Supervisor;

/// How often we look whether bridged frames were put through the host's packet filter: it may drop them all, and nobody
/// notifies of it.
const LOOK_AT_NETFILTER: Duration = Duration::from_secs(5);

/// How often we look who bears the name of the network namespace for tunnels to remote gateways.
const LOOK_AT_NAMES: Duration = Duration::from_secs(1);

/// How often we look whether networks flood more than they may.
const LOOK_AT_DROPS: Duration = Duration::from_secs(10);

/// Refused steps are tried again after the first pause, then after twice that, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// A pass that the kernel woke and that wrote something is followed by a pause: if somebody undoes what we do, we don't
/// fight at full speed.
const TRUCE: Duration = Duration::from_millis(250);

/// What the kernel tells in a burst, as it does of stations it learns, is taken in at once.
const BURST: Duration = Duration::from_millis(20);

/// Serves until SIGTERM or SIGINT; the kernel goes on forwarding then.
pub(crate) async fn serve(options: SwitchOptions) -> Result<(), Error> {
    if !nix::unistd::geteuid().is_root() {
        return Err(Error::NotRoot);
    }
    let vlan_form = options.vlan_form.choose().map_err(Error::Kernel)?;
    let config = options.node_config(sysctl::has_ipv6(), vlan_form)?;
    let _lock = Lock::take(&options.state_dir)?;
    let halt = Arc::new(AtomicBool::new(false));
    let mut stop = Stop::on_signals(Arc::clone(&halt))?;
    loop {
        let daemon = begin(&options, config.clone(), &halt, &stop).await?;
        match daemon.run(&mut stop).await? {
            Ending::Asked => break,
            Ending::OtherNamespace => {
                tracing::warn!("--wan-netns names another network namespace now: beginning anew");
            }
        }
    }
    tracing::info!("switch stopped; the kernel goes on forwarding");
    Ok(())
}

/// Why the switch ends.
enum Ending {
    /// By a signal.
    Asked,
    /// The name of the network namespace for tunnels to remote gateways has gone to another one. All that was opened in the
    /// one before must go; begun anew the switch finds devices that lead there, as after any restart, and replaces them.
    OtherNamespace,
}

struct Daemon {
    /// With a pass while one is under way.
    worker: Option<Worker>,
    connection: Arc<Connection<Database>>,
    /// What the last pass was for, without stations; nothing before the database was seen.
    outline: watch::Sender<Option<Arc<Outline>>>,
    metrics: Arc<Metrics>,
    /// Whatever else tells of the switch; ended with it.
    beside: JoinSet<()>,
    /// At everything, whether the kernel told of changes or not.
    looks: Looks,
    server: OvsdbServer,
    publication: Publication,
    /// Before what was refused is tried again.
    pause: Duration,
    /// Faults in the log already.
    told: BTreeSet<String>,
    /// What was learnt is told in the database.
    telling: Telling,
    /// Networks that are cut off the WAN.
    cuts: Arc<Cuts>,
    _control: Control,
}

/// What a look at the name of a network namespace came to.
enum Noted {
    /// It is as it was.
    Nothing,
    /// It is to be told of.
    Change,
    /// It names another one.
    Another,
}

/// What is to be done after a pass.
enum Verdict {
    /// Nothing was looked at; what was to be done still is.
    NothingNew,
    /// All is as it should be.
    Done,
    /// Nothing was refused, but something is still to be done.
    Unfinished,
    /// Something was refused.
    Again(Duration),
}

impl Daemon {
    /// Until it ends; nothing it opened is open then.
    async fn run(mut self, stop: &mut Stop) -> Result<Ending, Error> {
        let ending = self.work(stop).await;
        self.beside.shutdown().await;
        ending
    }

    async fn work(&mut self, stop: &mut Stop) -> Result<Ending, Error> {
        let notifications = self.notifications()?;
        let mut database = self.connection.wakeups();
        let mut drops = tokio::time::interval(LOOK_AT_DROPS);
        drops.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let worker = self.worker.as_ref();
        let limits = worker.is_some_and(|worker| worker.config.bum_limit.is_some());
        let mut paths = worker.and_then(|worker| Some(worker.path_mtu.as_ref()?.changes()));
        let cuts = Arc::clone(&self.cuts);
        let mut cut = cuts.changes();
        let mut netfilter = tokio::time::interval(LOOK_AT_NETFILTER);
        netfilter.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let namespace = worker.and_then(|worker| worker.kernel.wan_namespace());
        let mut names = tokio::time::interval(LOOK_AT_NAMES);
        names.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut supervisor = Supervisor::from_environment();
        supervisor.ready();
        let mut truce = Instant::now();
        let mut retry = None;
        let mut begun = true;
        loop {
            let wake = tokio::select! {
                biased;
                _ = stop.raised.wait_for(|raised| *raised) => {
                    supervisor.stopping();
                    return Ok(Ending::Asked);
                }
                () = supervisor.keep_told() => continue,
                _ = cut.changed() => Wake::Cuts,
                () = cuts.due() => continue,
                _ = database.changed() => Wake::Database,
                () = readable(&notifications, truce) => Wake::Kernel,
                () = tokio::time::sleep_until(truce.into()), if self.is_behind() => Wake::Kernel,
                _ = netfilter.tick() => Wake::Kernel,
                _ = drops.tick(), if limits => Wake::Drops,
                true = changed(&mut paths) => Wake::Paths,
                bearer = bearer(&mut names, namespace.as_deref()) => match self.note(bearer) {
                    Noted::Another => return Ok(Ending::OtherNamespace),
                    Noted::Nothing => continue,
                    Noted::Change => Wake::Namespace,
                },
                wake = due(retry) => wake,
                ended = self.looks.due() => match self.look(ended) {
                    true => Wake::Looked,
                    false => continue,
                },
                () = async {}, if begun => {
                    begun = false;
                    Wake::Everything
                }
                () = self.telling.due() => Wake::Learnt,
            };
            if wake == Wake::Learnt {
                self.tell_learnt().await?;
                continue;
            }
            self.keep_server_up(wake).await;
            match self.pass(wake, &mut truce).await? {
                Verdict::NothingNew => truce = Instant::now() + BURST,
                Verdict::Done => retry = None,
                Verdict::Unfinished => retry = Some((Instant::now(), Wake::Rest)),
                Verdict::Again(pause) => retry = Some((Instant::now() + pause, Wake::Retry)),
            }
            let learnt = self.worker.as_ref();
            if wake != Wake::Kernel || learnt.is_some_and(|worker| worker.kernel.may_have_learnt())
            {
                self.telling.request();
            }
        }
    }

    /// Takes in what a look at everything came to, or begins one; whether there is something to compare.
    fn look(&mut self, ended: Option<Looked>) -> bool {
        let Some(worker) = &mut self.worker else {
            return false;
        };
        if ended.is_none() {
            self.looks.begin(worker.begin_look());
        }
        worker.looked = ended;
        worker.looked.is_some()
    }

    fn is_behind(&self) -> bool {
        let worker = self.worker.as_ref();
        worker.is_some_and(|worker| worker.kernel.is_behind())
    }

    fn notifications(&self) -> Result<Vec<AsyncFd<Arc<Socket>>>, Error> {
        let Some(worker) = &self.worker else {
            return Err(lost_worker());
        };
        #[expect(
            deprecated,
            reason = "the replacement is unsafe, for descriptors that may be closed under tokio; a Socket owns its own"
        )]
        let register = |socket| AsyncFd::new(socket).map_err(Error::Runtime);
        worker
            .kernel
            .notifications()
            .into_iter()
            .map(register)
            .collect()
    }

    /// Takes in who bears the name of the network namespace for tunnels to remote gateways.
    fn note(&mut self, bearer: Bearer) -> Noted {
        let Some(worker) = &mut self.worker else {
            return Noted::Nothing;
        };
        let namespace = worker.kernel.wan_namespace();
        let nameless = match bearer {
            Bearer::Another => return Noted::Another,
            Bearer::Nobody => namespace.map(|namespace| namespace.name().to_owned()),
            Bearer::Same => None,
        };
        if worker.nameless == nameless {
            return Noted::Nothing;
        }
        worker.nameless = nameless;
        Noted::Change
    }

    /// An ovsdb-server that died is started again; its database is on disk.
    async fn keep_server_up(&self, wake: Wake) {
        if wake == Wake::Kernel || !matches!(self.connection.link(), Link::Down { .. }) {
            return;
        }
        let server = self.server.clone();
        let ensured = tokio::task::spawn_blocking(move || {
            if server.is_running() {
                Ok(())
            } else {
                server.ensure().map(drop)
            }
        });
        if let Ok(Err(error)) = ensured.await {
            tracing::error!("{error}");
        }
    }

    /// Makes the kernel match the database and publishes what could not be done.
    async fn pass(&mut self, wake: Wake, truce: &mut Instant) -> Result<Verdict, Error> {
        let Some(mut worker) = self.worker.take() else {
            return Err(lost_worker());
        };
        let begun = Instant::now();
        let work = tokio::task::spawn_blocking(move || {
            let result = worker.pass(wake);
            (worker, result)
        });
        let (worker, result) = work.await.map_err(|error| Error::Runtime(error.into()))?;
        if let Some(asked) = &worker.asked {
            self.outline.send_if_modified(|held| {
                let same = held.as_ref().is_some_and(|held| held == asked.outline());
                *held = Some(Arc::clone(asked.outline()));
                !same
            });
        }
        self.metrics.kernel(&worker.kernel);
        self.worker = Some(worker);
        let pass = match result {
            Ok(Some(pass)) => pass,
            Ok(None) => return Ok(Verdict::NothingNew),
            Err(error) => {
                tracing::error!(%error, "the kernel can't be talked to");
                return Ok(Verdict::Again(self.longer_pause()));
            }
        };
        self.metrics.pass(wake, begun.elapsed(), &pass);
        if wake == Wake::Kernel && !pass.report.plan.is_empty() {
            *truce = Instant::now() + TRUCE;
        }
        let published = self.publish(&pass).await;
        if published && pass.report.is_unfinished() {
            Ok(Verdict::Unfinished)
        } else if published && pass.report.failures.is_empty() {
            self.pause = FIRST_PAUSE;
            Ok(Verdict::Done)
        } else {
            Ok(Verdict::Again(self.longer_pause()))
        }
    }

    /// Begins to tell the database what was learnt; the loop does not wait for the end.
    async fn tell_learnt(&mut self) -> Result<(), Error> {
        self.telling.begin();
        let Link::Up { session, .. } = self.connection.link() else {
            // Its return wakes us.
            return Ok(());
        };
        let Some(mut worker) = self.worker.take() else {
            return Err(lost_worker());
        };
        let work = tokio::task::spawn_blocking(move || {
            let learnt = worker.learnt();
            (worker, learnt)
        });
        let (worker, learnt) = work.await.map_err(|error| Error::Runtime(error.into()))?;
        let tunnel_ip = worker.config.tunnel_ip;
        self.worker = Some(worker);
        match learnt {
            Ok(learnt) => {
                self.metrics.learnt(&learnt);
                let replica = Arc::clone(self.connection.replica());
                self.telling.tell(session, replica, tunnel_ip, learnt);
            }
            Err(error) => {
                tracing::debug!(%error, "what was learnt can't be read");
                self.telling.request();
            }
        }
        Ok(())
    }

    fn longer_pause(&mut self) -> Duration {
        let pause = self.pause;
        self.pause = (pause * 2).min(LONGEST_PAUSE);
        pause
    }

    /// Whether the database says what it should.
    async fn publish(&mut self, pass: &Pass) -> bool {
        let faults = Faults::of(pass);
        for fault in faults.all.difference(&self.told) {
            tracing::warn!("{fault}");
        }
        for fault in self.told.difference(&faults.all) {
            tracing::info!("no longer: {fault}");
        }
        faults.enter_into(&mut self.publication);
        self.told = faults.all;
        let Link::Up { session, .. } = self.connection.link() else {
            // Its return wakes us.
            return true;
        };
        let replica = self.connection.replica();
        match hardware_vtep::publish(&session, replica, &self.publication).await {
            Ok(_) => true,
            Err(error) => {
                tracing::warn!(%error, "ports and faults not published");
                false
            }
        }
    }
}

fn lost_worker() -> Error {
    Error::Runtime(io::Error::other("a pass did not come back"))
}
