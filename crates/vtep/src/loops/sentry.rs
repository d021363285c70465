//! The thread that sends probes and hears them, and the socket it does it with.
//!
//! A thread of its own, because what it must do in time takes a thousandth of what a pass over the kernel may take. The
//! socket is given frames of our EtherType alone, and by bridges alone, so it costs other traffic nothing (packet(7)).
//! Interfaces that many probes leave by, which are ports with many VLANs, have sockets of their own, bound to them: otherwise
//! the kernel looks for the interface with each frame, among thousands of others.

use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::socket::{LinkAddr, MsgFlags, MultiHeaders, bind, recvfrom, sendmmsg};
use nix::sys::time::TimeSpec;
use socket2::{Domain, Protocol, Socket, Type};

use super::cuts::Cuts;
use super::detector::{Detector, Finding, Outgoing, Reaction};
use super::ground::Ground;
use super::probe::{ETHERTYPE, Signer};
use crate::kernel::Reflex;
use crate::kernel::desired::NodeConfig;

/// How long the thread may take to notice that something changed.
const LONGEST_REST: Duration = Duration::from_millis(100);

/// Longer than any probe.
const LONGEST_FRAME: usize = 512;

/// Frames of others taken in before it is our turn again, and our own by one system call.
const FRAMES_AT_ONCE: usize = 256;

/// From so many frames at once on an interface has a socket of its own, which costs a descriptor; so many have one at most.
const MANY: usize = 16;
const MOST_OWN: usize = 64;

/// Interfaces are looked up by number at most this often: with thousands of them that takes a while.
const LOOK_UP_EVERY: Duration = Duration::from_secs(1);

/// The running protection. Dropping it ends the thread.
#[derive(Debug)]
pub(crate) struct Sentry {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    ground: Mutex<Arc<Ground>>,
    /// Stations that flap, and not between physical ports alone: the number of the bridge, and that in words.
    flapped: Mutex<Vec<(u32, String)>>,
    stop: AtomicBool,
    /// Wakes the thread.
    bell: EventFd,
}

impl Sentry {
    /// Starts it in the network namespace of the calling thread.
    ///
    /// # Errors
    /// The kernel gives no such socket: it takes CAP_NET_RAW.
    pub(crate) fn start(config: &NodeConfig, cuts: Arc<Cuts>) -> io::Result<Self> {
        let socket = open()?;
        let reflex = Reflex::open()?;
        let signer = Signer::new(config.wan_ip).map_err(|_| io::Error::other("no randomness"))?;
        let shared = Arc::new(Shared {
            ground: Mutex::default(),
            flapped: Mutex::default(),
            stop: AtomicBool::new(false),
            bell: EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?,
        });
        let post = Post {
            socket,
            addresses: HashMap::new(),
            own: HashMap::new(),
            looked_up: None,
            detector: Detector::new(signer),
            reflex,
            cuts,
            started: Instant::now(),
            shared: Arc::clone(&shared),
        };
        let thread = std::thread::Builder::new().name("loops".to_owned());
        Ok(Self {
            shared,
            thread: Some(thread.spawn(|| post.stand())?),
        })
    }

    /// What there is to protect now.
    pub(crate) fn protect(&self, ground: Ground) {
        let mut held = self.shared.ground();
        if **held != ground {
            *held = Arc::new(ground);
        }
    }

    /// A station of the bridge with this number flaps, and not between physical ports alone. `cause` says so in words.
    pub(crate) fn flapped(&self, bridge: u32, cause: String) {
        lock(&self.shared.flapped).push((bridge, cause));
        self.shared.ring();
    }
}

impl Drop for Sentry {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.shared.ring();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn ground(&self) -> MutexGuard<'_, Arc<Ground>> {
        lock(&self.ground)
    }

    fn ring(&self) {
        // It refuses to count beyond what it can: then it rings already.
        let _ = self.bell.write(1);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether this host lets us look for loops.
pub(crate) fn can_probe() -> io::Result<()> {
    open().map(drop)
}

/// A socket that is given the probes that come to any bridge of this network namespace.
fn open() -> io::Result<Socket> {
    let protocol = Protocol::from(i32::from(ETHERTYPE.to_be()));
    let socket = Socket::new(Domain::PACKET, Type::RAW, Some(protocol))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// A socket that sends by one interface, and is given nothing.
fn bound(to: &LinkAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::PACKET, Type::RAW, None)?;
    bind(socket.as_raw_fd(), to)?;
    Ok(socket)
}

struct Post {
    socket: Socket,
    /// Where to send for an interface's number.
    addresses: HashMap<u32, LinkAddr>,
    /// Sockets bound to interfaces, by number.
    own: HashMap<u32, Socket>,
    looked_up: Option<Instant>,
    detector: Detector,
    /// Cuts at once.
    reflex: Reflex,
    cuts: Arc<Cuts>,
    started: Instant,
    shared: Arc<Shared>,
}

impl Post {
    fn stand(mut self) {
        while !self.shared.stop.load(Ordering::Relaxed) {
            self.look_round();
            let due = self.detector.due(self.started.elapsed());
            self.send(due);
            let rest = self.detector.rest(self.started.elapsed()).min(LONGEST_REST);
            if wait(&[self.socket.as_fd(), self.shared.bell.as_fd()], rest) {
                let _ = self.shared.bell.read();
                self.take_in();
            }
        }
    }

    /// Takes in what there is to protect, if that has changed.
    fn look_round(&mut self) {
        let ground = Arc::clone(&self.shared.ground());
        if Arc::ptr_eq(&ground, self.detector.ground()) {
            return;
        }
        // Numbers may have been given anew.
        self.looked_up = None;
        self.addresses.clear();
        self.own.clear();
        let now = self.started.elapsed();
        let reaction = self.detector.set_ground(now, ground);
        self.act(reaction);
    }

    fn take_in(&mut self) {
        let flapped = std::mem::take(&mut *lock(&self.shared.flapped));
        for (bridge, cause) in flapped {
            let reaction = self.detector.flapped(self.started.elapsed(), bridge, cause);
            self.act(reaction);
            self.look_round();
        }
        let mut buffer = [0; LONGEST_FRAME];
        for _ in 0..FRAMES_AT_ONCE {
            let (length, from) = match recvfrom::<LinkAddr>(self.socket.as_raw_fd(), &mut buffer) {
                Ok(received) => received,
                Err(Errno::EINTR | Errno::ENETDOWN) => continue,
                Err(_) => return,
            };
            let bridge = from.and_then(|from| u32::try_from(from.ifindex()).ok());
            let (Some(bridge), Some(frame)) = (bridge, buffer.get(..length)) else {
                continue;
            };
            let now = self.started.elapsed();
            let reflex = &mut self.reflex;
            let came_in_by = |station| reflex.port_of(bridge, station);
            let reaction = self.detector.receive(now, bridge, frame, came_in_by);
            self.act(reaction);
            self.look_round();
        }
    }

    fn act(&mut self, reaction: Reaction) {
        if let Some(finding) = reaction.finding {
            self.cut(&finding);
        }
        self.reflex.forget(&reaction.forget);
        self.send(reaction.send);
    }

    fn cut(&mut self, finding: &Finding) {
        for (place, devices) in &finding.places {
            match finding.suspected {
                true => self.cuts.suspect(place, &finding.cause),
                false => self.cuts.cut(place, &finding.cause),
            }
            self.reflex.cut(devices);
        }
        if let Some(network) = &finding.beside_wan {
            self.cuts.clear(network);
        }
        // What is cut hands nothing on, from the next frame on, or others would take the ring for closed, and cut it once more.
        if finding
            .places
            .iter()
            .any(|(_, devices)| !devices.is_empty())
        {
            let mut ground = self.shared.ground();
            Arc::make_mut(&mut ground).cut(&finding.places);
        }
    }

    /// Sends frames, those of an interface by few system calls.
    fn send(&mut self, mut frames: Vec<Outgoing>) {
        frames.sort_by_key(|outgoing| outgoing.interface);
        for of_one in frames.chunk_by(|one, next| one.interface == next.interface) {
            let interface = of_one.first().map(|outgoing| outgoing.interface);
            let Some(interface) = interface else { continue };
            let Some(address) = self.address(interface) else {
                continue;
            };
            let own = self.own(interface, address, of_one.len());
            let (socket, address) = match own {
                Some(own) => (own.as_raw_fd(), None),
                None => (self.socket.as_raw_fd(), Some(address)),
            };
            for some in of_one.chunks(FRAMES_AT_ONCE) {
                let frames: Vec<_> = some
                    .iter()
                    .map(|outgoing| [IoSlice::new(&outgoing.frame)])
                    .collect();
                let addresses = vec![address; some.len()];
                let mut headers = MultiHeaders::preallocate(some.len(), None);
                let flags = MsgFlags::MSG_DONTWAIT;
                // An interface that is down or gone takes no frame, and closes no ring.
                let _ = sendmmsg(socket, &mut headers, &frames, &addresses, [], flags);
            }
        }
    }

    /// The interface's own socket, if it has one or is to have one for so many frames.
    fn own(&mut self, interface: u32, address: LinkAddr, frames: usize) -> Option<&Socket> {
        if frames >= MANY && self.own.len() < MOST_OWN && !self.own.contains_key(&interface) {
            match bound(&address) {
                Ok(socket) => drop(self.own.insert(interface, socket)),
                Err(error) => tracing::debug!(%error, "no socket for interface {interface}"),
            }
        }
        self.own.get(&interface)
    }

    fn address(&mut self, interface: u32) -> Option<LinkAddr> {
        let recently = |at: Instant| at.elapsed() < LOOK_UP_EVERY;
        if !self.addresses.contains_key(&interface) && !self.looked_up.is_some_and(recently) {
            self.looked_up = Some(Instant::now());
            let found = nix::ifaddrs::getifaddrs().ok()?;
            self.addresses = found
                .filter_map(|found| {
                    let address = *found.address?.as_link_addr()?;
                    Some((u32::try_from(address.ifindex()).ok()?, address))
                })
                .collect();
        }
        self.addresses.get(&interface).copied()
    }
}

/// Until there is something to read, for so long at most; whether there is.
fn wait(sources: &[BorrowedFd<'_>], rest: Duration) -> bool {
    let fds = sources.iter();
    let mut fds: Vec<_> = fds.map(|fd| PollFd::new(*fd, PollFlags::POLLIN)).collect();
    // To the nanosecond: poll(2) counts in milliseconds, and would make a busy loop of the last one before a round.
    ppoll(&mut fds, Some(TimeSpec::from(rest)), None).is_ok_and(|ready| ready > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_fraction_of_a_millisecond_is_waited_out_too() {
        let socket = Socket::new(Domain::UNIX, Type::DGRAM, None).unwrap();
        let (begun, rest) = (Instant::now(), Duration::from_micros(900));
        assert!(!wait(&[socket.as_fd()], rest));
        assert!(begun.elapsed() >= rest);
    }
}
