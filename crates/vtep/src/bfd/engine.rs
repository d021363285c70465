//! The sessions of one local address, in a thread of their own: whatever else the daemon does, they go on.
//!
//! A thread that was kept waiting reads all that has come before it judges who is silent. What sessions say goes to a
//! [`Board`] that all engines share; only changes wake its readers.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::num::NonZeroU32;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvError, Sender, TryRecvError, channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, bind, setsockopt, socket, sockopt,
};
use tokio::sync::watch;

use super::LISTEN_PORT;
use super::frame::{Addresses, LENGTH, TRAFFIC_CLASS, decapsulate, encapsulate};
use super::packet::State;
use super::session::{Memory, Params, Session, Status};
use crate::kernel::desired::VXLAN_PORT;

/// How long new wishes may wait while sessions run.
const ATTENTION: Duration = Duration::from_millis(100);

/// How many datagrams are read before time gets its turn, come what may.
const DATAGRAMS_AT_ONCE: usize = 4096;

/// How long a session that nobody wants any more goes on telling the other end that this is no failure.
const FAREWELL: Duration = Duration::from_secs(3);

/// What a session is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish {
    /// Intervals and the like.
    pub params: Params,
    /// Whom the inner frame is for.
    pub to: Addresses,
}

/// The sessions that are wanted, by far end.
pub type Wanted = BTreeMap<Ipv4Addr, Wish>;

/// What a session says and what is to be kept of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Nothing while it knows no better than an earlier run.
    pub status: Option<Status>,
    /// While it is up.
    pub memory: Option<(Memory, Addresses)>,
    /// How often it was up and no more is.
    pub losses: u64,
}

/// What all sessions say, by far end.
pub type Board = BTreeMap<Ipv4Addr, Told>;

/// What was sent and received.
#[derive(Debug, Default)]
pub struct Traffic {
    /// Control packets sent.
    pub sent: AtomicU64,
    /// Control packets that a session took.
    pub received: AtomicU64,
    /// Datagrams that were none, or of no session.
    pub discarded: AtomicU64,
}

/// The sessions of one local address. Dropping it ends the thread, and no other end is told.
#[derive(Debug)]
pub struct Engine {
    wanted: Sender<Wanted>,
    traffic: Arc<Traffic>,
}

/// A socket that takes BFD's datagrams at a local address, which may be elsewhere at the moment.
///
/// # Errors
/// The port is taken.
pub fn listen(local: Ipv4Addr) -> io::Result<UdpSocket> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let descriptor = socket(AddressFamily::Inet, SockType::Datagram, flags, None)?;
    // An address that moves between two gateways is bound where it is not yet.
    setsockopt(&descriptor.as_fd(), sockopt::IpFreebind, &true)?;
    setsockopt(
        &descriptor.as_fd(),
        sockopt::Ipv4Tos,
        &i32::from(TRAFFIC_CLASS),
    )?;
    let address = SockaddrIn::from(SocketAddrV4::new(local, LISTEN_PORT));
    bind(std::os::fd::AsRawFd::as_raw_fd(&descriptor), &address)?;
    Ok(descriptor.into())
}

impl Engine {
    /// Begins with the sessions that an earlier run left. Ends when it is dropped.
    ///
    /// # Errors
    /// There is no room for a thread.
    pub fn start(
        local: Ipv4Addr,
        socket: UdpSocket,
        left: BTreeMap<Ipv4Addr, (Memory, Addresses)>,
        board: Arc<watch::Sender<Board>>,
    ) -> io::Result<Self> {
        let (wanted, news) = channel();
        let traffic = Arc::<Traffic>::default();
        let now = Instant::now();
        let sessions = left.into_iter().map(|(far, (memory, to))| {
            let held = Held {
                session: Session::resume(memory, now),
                to,
                shut: None,
                losses: 0,
                due: now,
            };
            (far, held)
        });
        let runner = Runner {
            local,
            socket,
            news,
            sessions: sessions.collect(),
            timers: BTreeSet::new(),
            board,
            traffic: Arc::clone(&traffic),
            random: fastrand::Rng::new(),
        };
        thread::Builder::new()
            .name(format!("bfd {local}"))
            .spawn(|| runner.run())?;
        Ok(Self { wanted, traffic })
    }

    /// Has these sessions and no others from now on.
    pub fn set(&self, wanted: Wanted) {
        // The thread ends with us alone.
        let _ = self.wanted.send(wanted);
    }

    /// What was sent and received.
    pub fn traffic(&self) -> &Arc<Traffic> {
        &self.traffic
    }
}

struct Held {
    session: Session,
    to: Addresses,
    /// When it ends, once nobody wants it any more.
    shut: Option<Instant>,
    losses: u64,
    /// Its place among the timers.
    due: Instant,
}

struct Runner {
    local: Ipv4Addr,
    socket: UdpSocket,
    news: Receiver<Wanted>,
    sessions: BTreeMap<Ipv4Addr, Held>,
    timers: BTreeSet<(Instant, Ipv4Addr)>,
    board: Arc<watch::Sender<Board>>,
    traffic: Arc<Traffic>,
    random: fastrand::Rng,
}

/// Nobody wants anything any more.
struct Over;

impl From<RecvError> for Over {
    fn from(_: RecvError) -> Self {
        Self
    }
}

impl Runner {
    fn run(mut self) {
        let timers = self.sessions.iter().map(|(far, held)| (held.due, *far));
        self.timers = timers.collect();
        while let Ok(()) = self.turn() {}
    }

    fn turn(&mut self) -> Result<(), Over> {
        if self.sessions.is_empty() {
            let wanted = self.news.recv()?;
            // What has come while nobody listened is of no session now.
            self.discard();
            self.take_over(wanted);
        }
        loop {
            match self.news.try_recv() {
                Ok(wanted) => self.take_over(wanted),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return Err(Over),
            }
        }
        self.wait();
        let mut changed = self.receive();
        changed.extend(self.let_time_pass());
        self.tell(changed);
        Ok(())
    }

    fn take_over(&mut self, wanted: Wanted) {
        let now = Instant::now();
        let mut changed = Vec::new();
        for (far, held) in &mut self.sessions {
            if wanted.contains_key(far) || held.shut.is_some() {
                continue;
            }
            held.session.shut(now);
            held.shut = Some(now + FAREWELL);
            changed.push(*far);
        }
        let mut taken: BTreeSet<NonZeroU32> = self
            .sessions
            .values()
            .map(|held| held.session.discriminator())
            .collect();
        for (far, Wish { params, to }) in wanted {
            let held = self.sessions.entry(far).or_insert_with(|| {
                let number = std::iter::repeat_with(|| self.random.u32(1..))
                    .filter_map(NonZeroU32::new)
                    .find(|number| taken.insert(*number))
                    .unwrap_or(NonZeroU32::MIN);
                Held {
                    session: Session::new(params, number, now),
                    to,
                    shut: None,
                    losses: 0,
                    due: now,
                }
            });
            held.to = to;
            if held.shut.take().is_some() {
                held.session.open(now);
            }
            held.session.set_params(params, now);
            changed.push(far);
        }
        for far in &changed {
            self.arm(*far);
        }
        self.tell(changed);
    }

    /// Until something comes or is due.
    fn wait(&self) {
        let due = self.timers.first().map(|(due, _)| *due);
        let left = due.map(|due| due.saturating_duration_since(Instant::now()));
        let left = left.map_or(ATTENTION, |left| left.min(ATTENTION));
        if left.is_zero() {
            return;
        }
        // Peeked at only: it is read with all the others.
        let waits = self.socket.set_read_timeout(Some(left));
        if waits.is_err() || self.socket.peek_from(&mut [0; 1]).is_err_and(is_trouble) {
            // Never at full speed in a circle.
            thread::sleep(left.min(Duration::from_millis(10)));
        }
    }

    fn receive(&mut self) -> Vec<Ipv4Addr> {
        let mut changed = Vec::new();
        if self.socket.set_nonblocking(true).is_err() {
            return changed;
        }
        let mut buffer = [0; 4 * LENGTH];
        for _ in 0..DATAGRAMS_AT_ONCE {
            let (length, from) = match self.socket.recv_from(&mut buffer) {
                Ok((length, std::net::SocketAddr::V4(from))) => (length, *from.ip()),
                Ok(_) => continue,
                Err(error) if is_trouble_of_others(&error) => continue,
                Err(_) => break,
            };
            let packet = decapsulate(buffer.get(..length).unwrap_or_default());
            let held = self.sessions.get_mut(&from);
            let (Ok(packet), Some(held)) = (packet, held) else {
                self.traffic.discarded.fetch_add(1, Ordering::Relaxed);
                continue;
            };
            self.traffic.received.fetch_add(1, Ordering::Relaxed);
            let was_up = held.session.memory().is_some();
            let answer = held.session.receive(&packet, Instant::now());
            held.losses += u64::from(was_up && held.session.memory().is_none());
            let to = held.to;
            if let Some(answer) = answer {
                self.send(from, &encapsulate(&answer, self.local, to));
            }
            self.arm(from);
            changed.push(from);
        }
        // It is waited for again.
        let _ = self.socket.set_nonblocking(false);
        changed
    }

    fn let_time_pass(&mut self) -> Vec<Ipv4Addr> {
        let now = Instant::now();
        let mut changed = Vec::new();
        while let Some((_, far)) = self.timers.first().copied().filter(|(due, _)| *due <= now) {
            let random = self.random.f64();
            let Some(held) = self.sessions.get_mut(&far) else {
                self.timers.pop_first();
                continue;
            };
            if held.shut.is_some_and(|end| end <= now) {
                self.timers.pop_first();
                self.sessions.remove(&far);
                changed.push(far);
                continue;
            }
            let was_up = held.session.memory().is_some();
            let packet = held.session.tick(now, random);
            held.losses += u64::from(was_up && held.session.memory().is_none());
            let to = held.to;
            if let Some(packet) = packet {
                self.send(far, &encapsulate(&packet, self.local, to));
            }
            self.arm(far);
            changed.push(far);
        }
        changed
    }

    /// Sets a session's timer.
    fn arm(&mut self, far: Ipv4Addr) {
        let Some(held) = self.sessions.get_mut(&far) else {
            return;
        };
        self.timers.remove(&(held.due, far));
        let due = held.session.deadline();
        held.due = held.shut.map_or(due, |end| due.min(end));
        self.timers.insert((held.due, far));
    }

    fn send(&self, far: Ipv4Addr, datagram: &[u8]) {
        let to = SocketAddrV4::new(far, VXLAN_PORT);
        match self.socket.send_to(datagram, to) {
            Ok(_) => drop(self.traffic.sent.fetch_add(1, Ordering::Relaxed)),
            // No way there: exactly what the session is about to find out.
            Err(error) => tracing::debug!(%far, %error, "BFD not sent"),
        }
    }

    fn discard(&self) {
        if self.socket.set_nonblocking(true).is_ok() {
            for _ in 0..DATAGRAMS_AT_ONCE {
                if self.socket.recv_from(&mut [0; 1]).is_err() {
                    break;
                }
            }
            let _ = self.socket.set_nonblocking(false);
        }
    }

    /// Puts on the board what sessions say now, and wakes its readers where that is something else than before.
    fn tell(&self, changed: Vec<Ipv4Addr>) {
        if changed.is_empty() {
            return;
        }
        let sessions = &self.sessions;
        self.board.send_if_modified(|board| {
            let mut modified = false;
            for far in changed {
                let told = sessions.get(&far).filter(|held| held.shut.is_none());
                let told = told.map(|held| Told {
                    status: held.session.status(),
                    memory: held.session.memory().map(|memory| (memory, held.to)),
                    losses: held.losses,
                });
                let before = board.get(&far).copied();
                if told == before {
                    continue;
                }
                modified = true;
                log(far, before, told);
                match told {
                    Some(told) => board.insert(far, told),
                    None => board.remove(&far),
                };
            }
            modified
        });
    }
}

fn log(far: Ipv4Addr, before: Option<Told>, told: Option<Told>) {
    let state = |told: Option<Told>| Some(told?.status?.state);
    let (was, is) = (state(before), state(told));
    if was == is {
        return;
    }
    match told.and_then(|told| told.status) {
        Some(status) if status.state == State::Up => tracing::info!(%far, "BFD: up"),
        Some(status) if was == Some(State::Up) => {
            let why = status.diagnostic.as_str();
            tracing::warn!(%far, why, "BFD: {}", status.state);
        }
        Some(status) => tracing::debug!(%far, "BFD: {}", status.state),
        None => tracing::debug!(%far, "BFD: no session"),
    }
}

/// Not merely that nothing came.
fn is_trouble(error: io::Error) -> bool {
    use io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
    ![WouldBlock, TimedOut, Interrupted].contains(&error.kind()) && !is_trouble_of_others(&error)
}

/// What an earlier datagram met on its way comes back as an error of the socket.
fn is_trouble_of_others(error: &io::Error) -> bool {
    use io::ErrorKind::{
        ConnectionRefused, ConnectionReset, HostUnreachable, Interrupted, NetworkDown,
        NetworkUnreachable,
    };
    [
        ConnectionRefused,
        ConnectionReset,
        HostUnreachable,
        NetworkUnreachable,
        NetworkDown,
        Interrupted,
    ]
    .contains(&error.kind())
}
