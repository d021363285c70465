//! The switch at work: one loop that makes the kernel match the database, and the database tell what the kernel refused.
//!
//! ```text
//!  ovsdb-server ──replica──▶ desired ──▶ Kernel::converge ──▶ kernel
//!       ▲                                     │    ▲             │
//!       └──publish: ports, faults, stations────┘    └notifications┘
//! ```
//!
//! The loop is level-triggered: what woke it does not matter, every pass looks at the whole database and makes the kernel
//! match. It is woken by the database, by the kernel, by the clock (for the few settings the kernel does not tell about),
//! and by itself to try again what was refused. The kernel is touched only after the database was seen whole: an
//! ovsdb-server that is away changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hardware_vtep::{Database, LearntMacs, NAME, Publication, PublishedPort};
use netlink_sys::Socket;
use ovsdb::{Connection, ConnectionOptions, Link, SharedReplica, Target};
use tokio::io::unix::AsyncFd;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::error::Error;
use crate::kernel::apply::Failure;
use crate::kernel::desired::{Desired, NodeConfig, Refusal, desired};
use crate::kernel::name::InterfaceName;
use crate::kernel::{Kernel, Report, sysctl};
use crate::learnt::Telling;
use crate::lock::Lock;
use crate::options::{BORDER, SwitchOptions};
use crate::ovsdb_server::{Origin, OvsdbServer, missing_programs};
use crate::supervisor::Supervisor;

/// How often everything is looked at, whether the kernel told of changes or not.
const LOOK_AT_EVERYTHING: Duration = Duration::from_secs(300);

/// How often we look whether bridged frames were put through the host's packet filter: it may drop them all, and nobody
/// notifies of it.
const LOOK_AT_NETFILTER: Duration = Duration::from_secs(5);

/// Refused steps are tried again after the first pause, then after twice that, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// A pass that the kernel woke and that wrote something is followed by a pause: if somebody undoes what we do, we don't
/// fight at full speed.
const TRUCE: Duration = Duration::from_millis(250);

/// What the kernel tells in a burst, as it does of stations it learns, is taken in at once.
const BURST: Duration = Duration::from_millis(20);

/// Faults published at most; the log has them all.
const FAULTS_TOLD: usize = 20;

/// Serves until SIGTERM or SIGINT; the kernel goes on forwarding then.
pub(crate) async fn serve(options: SwitchOptions) -> Result<(), Error> {
    if !nix::unistd::geteuid().is_root() {
        return Err(Error::NotRoot);
    }
    let config = options.node_config(sysctl::has_ipv6())?;
    let _lock = Lock::take(&options.state_dir)?;
    if let Some(missing) = missing_programs().next() {
        return Err(missing.into());
    }
    let mut kernel = Kernel::open(config.clone()).map_err(Error::Kernel)?;
    check_interfaces(&config, &mut kernel)?;
    warn_of_foreign_addresses(&config);

    let directory = state_dir(&options.state_dir)?;
    let server = OvsdbServer::new(directory, options.listen.clone())?;
    let origin = server.ensure()?;
    let target = Target::Unix(server.socket());
    let connection = Connection::start(target.into(), NAME, ConnectionOptions::default());

    let stop = Stop::on_signals()?;
    let publication = publication(&options, &config);
    tracing::info!(
        name = %config.switch,
        tunnel_ip = %config.tunnel_ip,
        wan_ip = %config.wan_ip,
        socket = %server.socket().display(),
        "switch started"
    );
    let daemon = Daemon {
        worker: Some(Worker {
            kernel,
            config: Arc::new(config),
            replica: Arc::clone(connection.replica()),
            stop: Arc::clone(&stop.flag),
            desired: None,
            unwritten: origin == Origin::Created,
        }),
        connection,
        server,
        publication,
        pause: FIRST_PAUSE,
        told: BTreeSet::new(),
        telling: Telling::default(),
    };
    daemon.run(stop).await?;
    tracing::info!("switch stopped; the kernel goes on forwarding");
    Ok(())
}

/// The state directory as an absolute path.
pub(crate) fn state_dir(path: &Path) -> Result<std::path::PathBuf, Error> {
    path.canonicalize().map_err(|source| Error::StateDir {
        path: path.to_owned(),
        source,
    })
}

fn check_interfaces(config: &NodeConfig, kernel: &mut Kernel) -> Result<(), Error> {
    for (port, interface) in &config.ports {
        let Some(interface) = interface else { continue };
        if !kernel.has_interface(*interface).map_err(Error::Kernel)? {
            return Err(Error::NoSuchInterface {
                port: port.to_string(),
                interface: interface.to_string(),
            });
        }
    }
    Ok(())
}

/// An address that moves between two gateways may be elsewhere at the moment, so this is no error.
fn warn_of_foreign_addresses(config: &NodeConfig) {
    let Ok(addresses) = nix::ifaddrs::getifaddrs() else {
        return;
    };
    let held: BTreeSet<_> = addresses
        .filter_map(|address| Some(address.address?.as_sockaddr_in()?.ip()))
        .collect();
    for (option, ip) in [
        ("--tunnel-ip", config.tunnel_ip),
        ("--wan-ip", config.wan_ip),
    ] {
        if !held.contains(&ip) {
            tracing::warn!(
                "{option} {ip}: this host does not have this address; nothing will arrive"
            );
        }
    }
}

fn publication(options: &SwitchOptions, config: &NodeConfig) -> Publication {
    let ports = config.ports.iter().map(|(name, interface)| {
        let description = match interface {
            Some(interface) => format!("interface {interface}"),
            None => format!("{BORDER}: leads nowhere"),
        };
        let port = PublishedPort {
            description,
            faults: BTreeSet::new(),
        };
        (name.clone(), port)
    });
    Publication {
        name: config.switch.clone(),
        description: format!("l2gw software VTEP, WAN {}", config.wan_ip),
        // Towards inside hosts only: other controllers take any address of these for theirs.
        tunnel_ips: [config.tunnel_ip].into(),
        faults: BTreeSet::new(),
        ports: ports.collect(),
        managers: options.managers.iter().cloned().collect(),
    }
}

/// Raised once, by a signal.
struct Stop {
    flag: Arc<AtomicBool>,
    raised: watch::Receiver<bool>,
}

impl Stop {
    fn on_signals() -> Result<Self, Error> {
        let mut terminate = signal(SignalKind::terminate()).map_err(Error::Runtime)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::Runtime)?;
        let flag = Arc::new(AtomicBool::new(false));
        let (raise, raised) = watch::channel(false);
        let raised_flag = Arc::clone(&flag);
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            raised_flag.store(true, Ordering::Relaxed);
            raise.send_replace(true);
        });
        Ok(Self { flag, raised })
    }
}

struct Daemon {
    /// With a pass while one is under way.
    worker: Option<Worker>,
    connection: Connection<Database>,
    server: OvsdbServer,
    publication: Publication,
    /// Before what was refused is tried again.
    pause: Duration,
    /// Faults in the log already.
    told: BTreeSet<String>,
    /// What was learnt is told in the database.
    telling: Telling,
}

/// Why a pass is made; it only decides what need not be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wake {
    Database,
    Kernel,
    Retry,
    Everything,
    /// What was learnt is due to be told: no pass.
    Learnt,
}

/// What is to be done after a pass.
enum Verdict {
    /// Nothing was looked at; what was to be done still is.
    NothingNew,
    /// All is as it should be.
    Done,
    /// Something was refused.
    Again(Duration),
}

impl Daemon {
    async fn run(mut self, mut stop: Stop) -> Result<(), Error> {
        let [route, filter] = self.notifications()?;
        let mut database = self.connection.wakeups();
        let mut everything = tokio::time::interval(LOOK_AT_EVERYTHING);
        everything.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut netfilter = tokio::time::interval(LOOK_AT_NETFILTER);
        netfilter.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut supervisor = Supervisor::from_environment();
        supervisor.ready();
        let mut truce = Instant::now();
        let mut retry = None;
        loop {
            let wake = tokio::select! {
                biased;
                _ = stop.raised.wait_for(|raised| *raised) => {
                    supervisor.stopping();
                    return Ok(());
                }
                () = supervisor.keep_told() => continue,
                _ = database.changed() => Wake::Database,
                () = readable(&route, truce) => Wake::Kernel,
                () = readable(&filter, truce) => Wake::Kernel,
                _ = netfilter.tick() => Wake::Kernel,
                () = sleep_until(retry) => Wake::Retry,
                _ = everything.tick() => Wake::Everything,
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
                Verdict::Again(pause) => retry = Some(Instant::now() + pause),
            }
            let learnt = self.worker.as_ref();
            if wake != Wake::Kernel || learnt.is_some_and(|worker| worker.kernel.may_have_learnt())
            {
                self.telling.request();
            }
        }
    }

    fn notifications(&self) -> Result<[AsyncFd<Arc<Socket>>; 2], Error> {
        let [route, filter] = match &self.worker {
            Some(worker) => worker.kernel.notifications(),
            None => return Err(lost_worker()),
        };
        #[expect(
            deprecated,
            reason = "the replacement is unsafe, for descriptors that may be closed under tokio; a Socket owns its own"
        )]
        let register = |socket| AsyncFd::new(socket).map_err(Error::Runtime);
        Ok([register(route)?, register(filter)?])
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
        let work = tokio::task::spawn_blocking(move || {
            let result = worker.pass(wake);
            (worker, result)
        });
        let (worker, result) = work.await.map_err(|error| Error::Runtime(error.into()))?;
        self.worker = Some(worker);
        let pass = match result {
            Ok(Some(pass)) => pass,
            Ok(None) => return Ok(Verdict::NothingNew),
            Err(error) => {
                tracing::error!(%error, "the kernel can't be talked to");
                return Ok(Verdict::Again(self.longer_pause()));
            }
        };
        if wake == Wake::Kernel && !pass.report.plan.is_empty() {
            *truce = Instant::now() + TRUCE;
        }
        let published = self.publish(&pass).await;
        if published && pass.report.is_unfinished() {
            Ok(Verdict::Again(Duration::ZERO))
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

async fn readable(socket: &AsyncFd<Arc<Socket>>, not_before: Instant) {
    tokio::time::sleep_until(not_before.into()).await;
    match socket.readable().await {
        // The pass reads it empty.
        Ok(mut guard) => guard.clear_ready(),
        // Only when the runtime is going down.
        Err(_) => std::future::pending().await,
    }
}

async fn sleep_until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time.into()).await,
        None => std::future::pending().await,
    }
}

fn lost_worker() -> Error {
    Error::Runtime(io::Error::other("a pass did not come back"))
}

/// What works on the kernel, in threads that may block.
struct Worker {
    kernel: Kernel,
    config: Arc<NodeConfig>,
    replica: Arc<SharedReplica<Database>>,
    stop: Arc<AtomicBool>,
    /// What the database asked for when it was last looked at.
    desired: Option<Desired>,
    /// The database was created when we started, and no controller has asked for a network yet: it does not know what
    /// the kernel is forwarding for an earlier one, so its silence is no order to stop.
    unwritten: bool,
}

/// What a pass came to.
struct Pass {
    refusals: BTreeSet<Refusal>,
    report: Report,
    config: Arc<NodeConfig>,
}

impl Worker {
    /// Nothing, if there was nothing to look at: the kernel told of our own doing, or the database was never seen, so that
    /// nobody knows what should be.
    fn pass(&mut self, wake: Wake) -> io::Result<Option<Pass>> {
        match wake {
            Wake::Everything => self.kernel.distrust(),
            // Mostly it tells of what we did ourselves.
            Wake::Kernel if !self.kernel.is_stale()? => return Ok(None),
            _ => {}
        }
        if wake != Wake::Kernel || self.desired.is_none() {
            let config = &self.config;
            self.desired = self
                .replica
                .read(|database| database.map(|database| desired(database.state(), config)));
        }
        let Some(desired) = &self.desired else {
            return Ok(None);
        };
        if self.unwritten && desired.state.is_empty() && !self.kernel.observe()?.is_empty() {
            if wake == Wake::Everything {
                tracing::warn!(
                    "the database is new, the kernel forwards networks of an earlier one: they are left alone until a \
                     controller asks for a network (l2gw vtep down removes them)"
                );
            }
            return Ok(Some(Pass {
                refusals: desired.refusals.clone(),
                report: Report::default(),
                config: Arc::clone(&self.config),
            }));
        }
        self.unwritten &= desired.state.is_empty();
        let started = Instant::now();
        let report = self.kernel.converge(&desired.state, &self.stop)?;
        if !report.plan.is_empty() {
            let took = started.elapsed();
            let (failed, left_out) = (report.failures.len(), report.left_out);
            tracing::info!(?took, failed, left_out, "kernel: {}", report.plan.summary());
            tracing::debug!("plan:\n{}", report.plan);
        }
        Ok(Some(Pass {
            refusals: desired.refusals.clone(),
            report,
            config: Arc::clone(&self.config),
        }))
    }
}

impl Worker {
    /// The stations learnt on physical ports, by the network whose bridge learnt them.
    fn learnt(&mut self) -> io::Result<LearntMacs> {
        let stations = self.kernel.learnt()?;
        if stations.is_empty() {
            return Ok(LearntMacs::new());
        }
        Ok(self.replica.read(|database| {
            let networks = database
                .into_iter()
                .flat_map(|database| database.state().logical_switches.keys());
            networks
                .filter_map(|network| {
                    let learnt = stations.get(&InterfaceName::bridge(network))?;
                    let macs = learnt.iter().map(|mac| (*mac, None)).collect();
                    Some((network.clone(), macs))
                })
                .collect()
        }))
    }
}

/// What the database can't have, in words.
#[derive(Default)]
struct Faults {
    switch: BTreeSet<String>,
    ports: BTreeMap<Arc<str>, BTreeSet<String>>,
    all: BTreeSet<String>,
}

impl Faults {
    fn of(pass: &Pass) -> Self {
        let mut faults = Self::default();
        for refusal in &pass.refusals {
            match refusal {
                Refusal::Binding { port, .. } => faults.port(port, refusal.to_string()),
                refusal => faults.switch(refusal.to_string()),
            }
        }
        for failure in &pass.report.failures {
            match port_of(&pass.config, failure) {
                Some(port) => faults.port(port, failure.to_string()),
                None => faults.switch(failure.to_string()),
            }
        }
        faults
    }

    fn switch(&mut self, fault: String) {
        self.all.insert(fault.clone());
        self.switch.insert(fault);
    }

    fn port(&mut self, port: &Arc<str>, fault: String) {
        self.all.insert(fault.clone());
        self.ports.entry(port.clone()).or_default().insert(fault);
    }

    fn enter_into(&self, publication: &mut Publication) {
        publication.faults = some(&self.switch);
        for (name, port) in &mut publication.ports {
            port.faults = self.ports.get(name).map(some).unwrap_or_default();
        }
    }
}

/// The port whose interface a refused step was about.
fn port_of<'a>(config: &'a NodeConfig, failure: &Failure) -> Option<&'a Arc<str>> {
    let interface = failure.step.interface()?;
    let mut ports = config.ports.iter();
    ports.find_map(|(name, given)| (*given == Some(interface)).then_some(name))
}

fn some(faults: &BTreeSet<String>) -> BTreeSet<String> {
    let mut told: BTreeSet<String> = faults.iter().take(FAULTS_TOLD).cloned().collect();
    if let Some(more) = faults.len().checked_sub(FAULTS_TOLD + 1) {
        told.insert(format!("and {} more, see the log", more + 1));
    }
    told
}
