//! Whether the ways to remote gateways carry what tenants send.
//!
//! Once a minute each remote gateway is sent ICMP echo requests of several sizes that nobody may fragment (RFC 792, RFC 1191).
//! The largest that it answers is what the way carries; one that answers none says nothing. A way that is too small is no
//! error, since longer packets are sent in fragments, but costs throughput, and frames where a firewall drops fragments.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read as _};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::watch;

/// What VXLAN over IPv4 adds to a tenant's packet: inner Ethernet 14, VXLAN 8, UDP 8, IPv4 20 bytes (RFC 7348 section 5).
pub(crate) const OVERHEAD: u32 = 50;

/// Between two looks.
const EVERY: Duration = Duration::from_secs(60);

/// How long answers are waited for, each time.
const PATIENCE: Duration = Duration::from_secs(1);

/// Requests are sent this often: one may get lost.
const ATTEMPTS: u32 = 2;

/// Sizes that ways have: IPv6's least, tunnels of several kinds, PPPoE, Ethernet, jumbo frames.
const SIZES: [u16; 12] = [
    576, 1280, 1400, 1420, 1450, 1460, 1476, 1492, 1500, 1550, 1600, 8950,
];

const IP_HEADER: usize = 20;
/// With all options there may be.
const LONGEST_HEADER: usize = 60;
const ICMP_HEADER: usize = 8;
const ECHO_REQUEST: u8 = 8;
const ECHO_REPLY: u8 = 0;

/// How long packets to remote gateways are at most, in bytes, outer headers included.
pub(crate) type Ways = BTreeMap<Ipv4Addr, u16>;

/// The ways that are too small, by remote gateway.
pub(crate) type Narrow = BTreeMap<Ipv4Addr, Shortfall>;

/// A way that is too small.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shortfall {
    /// What it carries, in bytes.
    pub(crate) carried: u16,
    /// What it should.
    pub(crate) needed: u16,
}

/// The running look-out. Dropping it ends its thread.
#[derive(Debug)]
pub(crate) struct PathMtu {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    ways: Mutex<Ways>,
    narrow: Mutex<Narrow>,
    changed: watch::Sender<()>,
    stop: AtomicBool,
}

impl PathMtu {
    /// Starts it in the network namespace of the calling thread.
    ///
    /// # Errors
    /// The kernel gives no such socket: it takes CAP_NET_RAW.
    pub(crate) fn start(wan_ip: Ipv4Addr) -> io::Result<Self> {
        let prober = Prober::open(wan_ip)?;
        let shared = Arc::new(Shared {
            ways: Mutex::default(),
            narrow: Mutex::default(),
            changed: watch::Sender::new(()),
            stop: AtomicBool::new(false),
        });
        let thread = std::thread::Builder::new().name("path-mtu".to_owned());
        let looking = Arc::clone(&shared);
        Ok(Self {
            shared,
            thread: Some(thread.spawn(move || looking.look(&prober))?),
        })
    }

    /// The ways there are now.
    pub(crate) fn watch(&self, ways: Ways) {
        *lock(&self.shared.ways) = ways;
    }

    /// The ways that are too small.
    pub(crate) fn narrow(&self) -> Narrow {
        lock(&self.shared.narrow).clone()
    }

    /// Tells when others are.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.shared.changed.subscribe()
    }
}

impl Drop for PathMtu {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn look(&self, prober: &Prober) {
        let mut looked: Option<Instant> = None;
        let mut known = Ways::new();
        while !self.stop.load(Ordering::Relaxed) {
            let ways = lock(&self.ways).clone();
            let due = looked.is_none_or(|at| at.elapsed() >= EVERY) || ways != known;
            if due && !ways.is_empty() {
                let narrow = prober.measure(&ways, &self.stop);
                let mut held = lock(&self.narrow);
                if *held != narrow {
                    *held = narrow;
                    self.changed.send_replace(());
                }
                looked = Some(Instant::now());
            } else if ways.is_empty() && !known.is_empty() {
                lock(&self.narrow).clear();
                self.changed.send_replace(());
            }
            known = ways;
            std::thread::park_timeout(PATIENCE);
        }
    }
}

struct Prober {
    socket: Socket,
    from: Ipv4Addr,
    /// Tells our requests from those of other programs.
    id: u16,
}

impl Prober {
    fn open(from: Ipv4Addr) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4))?;
        socket.set_header_included_v4(true)?;
        socket.set_read_timeout(Some(Duration::from_millis(100)))?;
        let [_, _, a, b] = std::process::id().to_be_bytes();
        let id = u16::from_be_bytes([a, b]);
        Ok(Self { socket, from, id })
    }

    /// What these ways carry, where that is too little.
    fn measure(&self, ways: &Ways, stop: &AtomicBool) -> Narrow {
        let mut answered: BTreeMap<Ipv4Addr, BTreeSet<u16>> = BTreeMap::new();
        for _ in 0..ATTEMPTS {
            for (remote, needed) in ways {
                let known = answered.get(remote);
                if known.is_some_and(|sizes| sizes.contains(needed)) {
                    continue;
                }
                for size in sizes(*needed) {
                    let request = echo_request(self.from, *remote, self.id, size);
                    let to = SocketAddrV4::new(*remote, 0).into();
                    // Longer than our own link carries, or there is no way at all: no answer either.
                    let _ = self.socket.send_to(&request, &to);
                }
            }
            let until = Instant::now() + PATIENCE;
            while Instant::now() < until && !stop.load(Ordering::Relaxed) {
                if let Some((from, size)) = self.receive() {
                    answered.entry(from).or_default().insert(size);
                }
            }
        }
        let measured = answered.iter();
        let short = measured.filter_map(|(from, sizes)| {
            let short = too_little(sizes, *ways.get(from)?)?;
            Some((*from, short))
        });
        short.collect()
    }

    fn receive(&self) -> Option<(Ipv4Addr, u16)> {
        let mut buffer = [0; LONGEST_HEADER + ICMP_HEADER];
        // The rest of a longer answer is cut off.
        let length = (&self.socket).read(&mut buffer).ok()?;
        echo_reply(buffer.get(..length)?, self.id)
    }
}

/// Which of the sizes answered is what the way carries, if it is too little.
fn too_little(answered: &BTreeSet<u16>, needed: u16) -> Option<Shortfall> {
    let carried = *answered.last()?;
    (carried < needed).then_some(Shortfall { carried, needed })
}

fn sizes(needed: u16) -> impl Iterator<Item = u16> {
    let smaller = SIZES.into_iter().filter(move |size| *size < needed);
    smaller.chain([needed])
}

/// An IPv4 packet of `size` bytes that nobody may fragment; the size is its sequence number. The kernel fills in its
/// length and the header's checksum (raw(7)).
fn echo_request(from: Ipv4Addr, to: Ipv4Addr, id: u16, size: u16) -> Vec<u8> {
    let [i0, i1] = id.to_be_bytes();
    let [s0, s1] = size.to_be_bytes();
    let mut icmp = vec![ECHO_REQUEST, 0, 0, 0, i0, i1, s0, s1];
    icmp.resize(usize::from(size).saturating_sub(IP_HEADER), 0);
    let [c0, c1] = checksum(&icmp).to_be_bytes();
    for (place, byte) in icmp.iter_mut().skip(2).zip([c0, c1]) {
        *place = byte;
    }
    let dont_fragment = 0x40;
    let mut packet = vec![0x45, 0, s0, s1, 0, 0, dont_fragment, 0, 64, 1, 0, 0];
    packet.extend(from.octets());
    packet.extend(to.octets());
    packet.extend(icmp);
    packet
}

/// Who answers a request of ours, and of what size that was.
fn echo_reply(packet: &[u8], id: u16) -> Option<(Ipv4Addr, u16)> {
    let header = usize::from(packet.first()? & 0x0f) * 4;
    let from = Ipv4Addr::from(*packet.get(12..)?.first_chunk::<4>()?);
    let [kind, _, _, _, i0, i1, s0, s1] = *packet.get(header..)?.first_chunk()?;
    let ours = kind == ECHO_REPLY && u16::from_be_bytes([i0, i1]) == id;
    ours.then(|| (from, u16::from_be_bytes([s0, s1])))
}

/// The internet checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|word| match word {
        [high, low] => u32::from(u16::from_be_bytes([*high, *low])),
        [high] => u32::from(*high) << 8,
        _ => 0,
    });
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
    const THERE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);

    #[test]
    fn a_request_is_as_long_as_it_says_and_its_checksum_is_right() {
        for size in [576, 1500, 1501] {
            let packet = echo_request(HERE, THERE, 77, size);
            assert_eq!(packet.len(), usize::from(size));
            assert_eq!(packet[6] & 0x40, 0x40, "nobody may fragment it");
            assert_eq!(checksum(&packet[IP_HEADER..]), 0);
        }
    }

    #[test]
    fn answers_to_us_alone_are_read() {
        let mut answer = echo_request(THERE, HERE, 77, 1500);
        assert_eq!(echo_reply(&answer, 77), None, "a request");
        answer[IP_HEADER] = ECHO_REPLY;
        assert_eq!(echo_reply(&answer, 77), Some((THERE, 1500)));
        assert_eq!(echo_reply(&answer, 78), None, "another program's");
        assert_eq!(echo_reply(&answer[..25], 77), None);
        assert_eq!(echo_reply(&[], 77), None);
    }

    #[test]
    fn who_answers_nothing_says_nothing() {
        assert_eq!(too_little(&[].into(), 1550), None);
        assert_eq!(too_little(&[576, 1500, 1550].into(), 1550), None);
        let short = too_little(&[576, 1280, 1492].into(), 1550).unwrap();
        assert_eq!((short.carried, short.needed), (1492, 1550));
        assert_eq!(sizes(1500).last(), Some(1500));
        assert_eq!(sizes(1500).filter(|size| *size == 1500).count(), 1);
    }
}
