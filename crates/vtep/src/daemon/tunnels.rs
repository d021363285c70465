//! The switch's tunnels, told in the database: which there are, and what BFD says of those that are to be watched.
//!
//! ```text
//!  passes ───outline──▶ ┌─────────┐ ──wanted──▶ bfd::Engine
//!  database ──params──▶ │ tunnels │ ◀──Board──
//!                       └────┬────┘ ──▶ Tunnel rows, what a restart must know
//! ```
//!
//! A task of its own, beside the loop that works on the kernel: a pass that takes long holds up no verdict. Level-triggered
//! like that: whatever woke it, it looks at all of it.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hardware_vtep::{Database, PublishedTunnel, Tunnel, publish_tunnels};
use ovsdb::{Connection, Link};
use tokio::sync::watch;

use crate::bfd::engine::{Traffic, Wish, listen};
use crate::bfd::frame::Addresses;
use crate::bfd::memory::Keeper;
use crate::bfd::session::{Params, Status};
use crate::bfd::{Board, Engine, Wanted};
use crate::kernel::desired::NodeConfig;
use crate::kernel::netns::Underlays;
use crate::kernel::outline::Outline;
use crate::kernel::underlay::End;

/// Before what was refused is tried again.
const PAUSE: Duration = Duration::from_secs(1);

/// How often, and how long, a port that is taken is waited for.
const ATTEMPTS: u32 = 10;
const BETWEEN_ATTEMPTS: Duration = Duration::from_millis(30);

/// Intervals that a controller may ask for: less would be a burden to no end, more is no watch.
const SHORTEST: Duration = Duration::from_millis(10);
const LONGEST: Duration = Duration::from_secs(60);

/// The sessions, before anything else is known.
pub(super) struct Sessions {
    engines: BTreeMap<Ipv4Addr, Engine>,
    /// Why a local address has no engine.
    trouble: BTreeMap<Ipv4Addr, String>,
    board: watch::Receiver<Board>,
    keeper: Keeper,
}

impl Sessions {
    /// What they say.
    pub(super) fn board(&self) -> watch::Receiver<Board> {
        self.board.clone()
    }

    /// What was sent and received, by local address.
    pub(super) fn traffic(&self) -> Vec<(Ipv4Addr, Arc<Traffic>)> {
        let engines = self.engines.iter();
        engines
            .map(|(local, engine)| (*local, Arc::clone(engine.traffic())))
            .collect()
    }

    /// Goes on with the sessions that an earlier run left in the state directory: the sooner, the less is it noticed at the
    /// far ends.
    pub(super) async fn resume(
        config: &NodeConfig,
        underlays: &Underlays,
        state_dir: &Path,
    ) -> Self {
        let (writer, board) = watch::channel(Board::new());
        let writer = Arc::new(writer);
        let keeper = Keeper::new(state_dir);
        let mut left = keeper.left();
        let mut engines = BTreeMap::new();
        let mut trouble = BTreeMap::new();
        for end in config.ends() {
            let local = end.ip;
            if engines.contains_key(&local) || trouble.contains_key(&local) {
                continue;
            }
            let sessions = left.remove(&local).unwrap_or_default();
            let writer = Arc::clone(&writer);
            let socket = patiently_listen(underlays, end).await;
            match socket.and_then(|socket| Engine::start(local, socket, sessions, writer)) {
                Ok(engine) => drop(engines.insert(local, engine)),
                Err(error) => {
                    let port = crate::bfd::LISTEN_PORT;
                    tracing::error!("no BFD: UDP port {port} of {local}: {error}");
                    trouble.insert(local, format!("UDP port {port} of {local}: {error}"));
                }
            }
        }
        Self {
            engines,
            trouble,
            board,
            keeper,
        }
    }
}

/// Tells of tunnels and does what the database asks of them, until it is dropped, and BFD with it.
pub(super) async fn tell(
    sessions: Sessions,
    switch: Arc<str>,
    connection: Arc<Connection<Database>>,
    outline: watch::Receiver<Option<Arc<Outline>>>,
) {
    let board = sessions.board.clone();
    let task = Task {
        switch,
        connection,
        sessions,
        asked: BTreeMap::new(),
    };
    task.run(outline, board).await;
}

/// A run that ended just now may not have let go of the port yet.
async fn patiently_listen(underlays: &Underlays, end: End) -> io::Result<UdpSocket> {
    let attempt = || underlays.at(end.underlay, || listen(end.ip));
    for _ in 0..ATTEMPTS {
        match attempt() {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                tokio::time::sleep(BETWEEN_ATTEMPTS).await;
            }
            outcome => return outcome,
        }
    }
    attempt()
}

struct Task {
    switch: Arc<str>,
    connection: Arc<Connection<Database>>,
    sessions: Sessions,
    /// What the engines were last told to do.
    asked: BTreeMap<Ipv4Addr, Wanted>,
}

impl Task {
    async fn run(
        mut self,
        mut outline: watch::Receiver<Option<Arc<Outline>>>,
        mut board: watch::Receiver<Board>,
    ) {
        let mut database = self.connection.wakeups();
        let mut again = false;
        loop {
            let retry = tokio::time::sleep(PAUSE);
            tokio::select! {
                changed = outline.changed() => if changed.is_err() { return },
                _ = board.changed() => {}
                _ = database.changed() => {}
                () = retry, if again => {}
            }
            let outline = outline.borrow_and_update().clone();
            let told = board.borrow_and_update().clone();
            // From what is not known yet nothing may be concluded: sessions of an earlier run go on.
            let (Some(outline), Some(shown)) = (outline, self.shown()) else {
                continue;
            };
            let far_ends = &outline.far_ends;
            self.ask(far_ends, &shown);
            self.keep(&told);
            again = !self.publish(far_ends, &shown, &told).await;
        }
    }

    /// The rows of our tunnels; nothing before the database was seen.
    fn shown(&self) -> Option<BTreeMap<Ipv4Addr, Tunnel>> {
        self.connection.replica().read(|database| {
            let ours = database?.tunnels().filter(|row| row.switch == self.switch);
            let by_far_end = ours.filter_map(|row| Some((row.remote?.ip, row)));
            Some(by_far_end.collect())
        })
    }

    /// Has the sessions that the rows ask for.
    fn ask(&mut self, far_ends: &BTreeMap<Ipv4Addr, Ipv4Addr>, shown: &BTreeMap<Ipv4Addr, Tunnel>) {
        for (local, engine) in &self.sessions.engines {
            let watched = far_ends.iter().filter(|(_, end)| *end == local);
            let wanted: Wanted = watched
                .filter_map(|(far, _)| {
                    let row = shown.get(far).filter(|row| row.is_checked())?;
                    Some((*far, wish(row)))
                })
                .collect();
            if self.asked.get(local) != Some(&wanted) {
                engine.set(wanted.clone());
                self.asked.insert(*local, wanted);
            }
        }
    }

    /// Whether the database says what it should.
    async fn publish(
        &self,
        far_ends: &BTreeMap<Ipv4Addr, Ipv4Addr>,
        shown: &BTreeMap<Ipv4Addr, Tunnel>,
        board: &Board,
    ) -> bool {
        let Link::Up { session, .. } = self.connection.link() else {
            // Its return wakes us.
            return true;
        };
        let wanted = far_ends.iter().map(|(far, local)| {
            let row = shown.get(far).filter(|row| row.is_checked());
            let tunnel = PublishedTunnel {
                local: *local,
                bfd_config_local: [
                    ("bfd_dst_mac", Addresses::LOCAL.mac.to_string()),
                    ("bfd_dst_ip", Addresses::LOCAL.ip.to_string()),
                ]
                .into(),
                bfd_status: match (row, self.sessions.trouble.get(local)) {
                    (None, _) => Some(BTreeMap::new()),
                    (Some(_), Some(trouble)) => {
                        Some([("enabled", "false".to_owned()), ("info", trouble.clone())].into())
                    }
                    (Some(row), None) => {
                        let told = board.get(far).and_then(|told| told.status);
                        told.map(|told| status(told, row))
                    }
                },
            };
            (*far, tunnel)
        });
        let wanted = wanted.collect();
        let replica = self.connection.replica();
        match publish_tunnels(&session, replica, &self.switch, &wanted).await {
            Ok(_) => true,
            Err(error) => {
                tracing::warn!(%error, "tunnels not published");
                false
            }
        }
    }

    fn keep(&mut self, board: &Board) {
        let local = |far: Ipv4Addr| {
            let mut asked = self.asked.iter();
            asked.find_map(|(local, wanted)| wanted.contains_key(&far).then_some(*local))
        };
        if let Err(error) = self.sessions.keeper.keep(board, local) {
            tracing::warn!(%error, "BFD sessions not kept for a restart");
        }
    }
}

/// What a row asks for (vtep(5), `bfd_params` and `bfd_config_remote`). What makes no sense counts as not said.
fn wish(row: &Tunnel) -> Wish {
    let param = |key| row.bfd_params.get(key).map(String::as_str);
    let interval = |key, default| {
        let asked = param(key).and_then(|text| text.parse().ok());
        asked.map_or(default, |it| {
            Duration::from_millis(it).clamp(SHORTEST, LONGEST)
        })
    };
    let default = Params::default();
    let remote = |key| row.bfd_config_remote.get(key);
    Wish {
        params: Params {
            min_tx: interval("min_tx", default.min_tx),
            min_rx: interval("min_rx", default.min_rx),
            path_down: param("cpath_down") == Some("true"),
            ..default
        },
        to: Addresses {
            mac: remote("bfd_dst_mac")
                .and_then(|text| text.parse().ok())
                .unwrap_or(Addresses::REMOTE.mac),
            ip: remote("bfd_dst_ip")
                .and_then(|text| text.parse().ok())
                .unwrap_or(Addresses::REMOTE.ip),
        },
    }
}

/// What a row asks for that is not done, whatever it says.
fn unsupported(row: &Tunnel) -> Option<String> {
    let asks = |(key, nothing): (&'static str, &str)| {
        let value = row.bfd_params.get(key).filter(|value| *value != nothing)?;
        Some(format!("{key}={value}"))
    };
    let asked = [("decay_min_rx", "0"), ("forwarding_if_rx", "false")];
    let asked: Vec<_> = asked.into_iter().filter_map(asks).collect();
    (!asked.is_empty()).then(|| format!("not supported: {}", asked.join(", ")))
}

/// `bfd_status` (vtep(5)) of a row.
fn status(status: Status, row: &Tunnel) -> BTreeMap<&'static str, String> {
    let info = unsupported(row).map(|info| ("info", info));
    let said = [
        ("enabled", "true".to_owned()),
        ("state", status.state.to_string()),
        ("forwarding", status.is_forwarding().to_string()),
        ("diagnostic", status.diagnostic.as_str().to_owned()),
        ("remote_state", status.remote_state.to_string()),
        (
            "remote_diagnostic",
            status.remote_diagnostic.as_str().to_owned(),
        ),
    ];
    said.into_iter().chain(info).collect()
}
