//! The kernel's own notifications (rtnetlink(7), RTNLGRP_NEIGH) of the stations' entries in one network namespace.
//!
//! A station is whole when it has all three: an entry in the VXLAN device's own forwarding database (NTF_SELF), one in
//! its bridge's, and a neighbour entry. Parsed by hand, for three notifications per station would otherwise cost more
//! than what is measured.

use std::collections::HashSet;
use std::io;
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use anyhow::{Result, ensure};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::{TimeVal, TimeValLike as _};
use testkit::netns::Netns;

use crate::stations::{MAC_PREFIX, Mac, Station};

/// Multicast groups of rtnetlink.h.
const RTNLGRP_LINK: u32 = 1;
const RTNLGRP_NEIGH: u32 = 3;
const RTNLGRP_TC: u32 = 4;
/// Message types of rtnetlink.h.
const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_NEWNEIGH: u16 = 28;
const RTM_DELNEIGH: u16 = 29;
const RTM_NEWTFILTER: u16 = 44;
/// `struct nlmsghdr`, `struct ndmsg` and `struct rtattr`, in bytes.
const HEADER: usize = 16;
const NDMSG: usize = 12;
const ATTRIBUTE: usize = 4;
const AF_BRIDGE: u8 = 7;
const IFF_UP: u32 = 1;
const NUD_NOARP: u16 = 0x40;
const NUD_PERMANENT: u16 = 0x80;
const NTF_SELF: u8 = 2;
const NDA_LLADDR: u16 = 2;
const NDA_MASTER: u16 = 9;
/// Three notifications for each of 100,000 stations, even if we do not get the processor for a second.
const SOCKET_BUFFER: usize = 512 * 1024 * 1024;
const RECEIVE_BUFFER: usize = 256 * 1024;
/// How often the thread looks whether it is to end.
const LOOK_UP_MS: i64 = 100;

/// One of the three entries that make a station whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entry {
    Tunnel,
    Bridge,
    Neighbour,
}

/// What was seen.
#[derive(Debug)]
struct Seen {
    tunnel: HashSet<Mac>,
    bridge: HashSet<Mac>,
    neighbour: HashSet<Mac>,
    /// Interfaces that came up.
    up: HashSet<u32>,
    /// Interfaces that got a filter.
    steered: HashSet<u32>,
    /// When the last of these entries, interfaces or filters came or went.
    changed: Instant,
    /// Notifications of any kind.
    events: usize,
    /// Why there will be no more.
    failed: Option<io::ErrorKind>,
}

impl Seen {
    fn whole(&self) -> usize {
        let least = self.tunnel.len().min(self.bridge.len());
        least.min(self.neighbour.len())
    }

    fn take(&mut self, kind: u16, message: &[u8]) {
        // What the kernel finds out by itself, as ARP of the underlay, is nobody's change.
        let state = number::<2>(message, 8).map_or(0, u16::from_ne_bytes);
        let is_entry = matches!(kind, RTM_NEWNEIGH | RTM_DELNEIGH);
        if is_entry && state & (NUD_NOARP | NUD_PERMANENT) == 0 {
            return;
        }
        self.events += 1;
        if matches!(kind, RTM_NEWLINK | RTM_DELLINK) {
            if let Some((interface, up)) = link(message) {
                self.take_link(interface, up && kind == RTM_NEWLINK);
            }
            return;
        }
        // `struct tcmsg`: family, 3 bytes of nothing, the interface.
        let interface = number::<4>(message, 4).map(u32::from_ne_bytes);
        if let (RTM_NEWTFILTER, Some(interface)) = (kind, interface) {
            self.steered.insert(interface);
            self.changed = Instant::now();
            return;
        }
        if !matches!(kind, RTM_NEWNEIGH | RTM_DELNEIGH) {
            return;
        }
        let Some((entry, mac)) = station_entry(message) else {
            return;
        };
        let entries = match entry {
            Entry::Tunnel => &mut self.tunnel,
            Entry::Bridge => &mut self.bridge,
            Entry::Neighbour => &mut self.neighbour,
        };
        let changed = match kind {
            RTM_NEWNEIGH => entries.insert(mac),
            _ => entries.remove(&mac),
        };
        if changed {
            self.changed = Instant::now();
        }
    }

    fn take_link(&mut self, interface: u32, up: bool) {
        let changed = match up {
            true => self.up.insert(interface),
            false => self.up.remove(&interface),
        };
        if changed {
            self.changed = Instant::now();
        }
    }

    fn has(&self, station: &Mac) -> bool {
        let entries = [&self.tunnel, &self.bridge, &self.neighbour];
        entries.iter().all(|entries| entries.contains(station))
    }
}

/// A witness of the stations' entries in one namespace's kernel.
pub(crate) struct KernelWatch {
    seen: Arc<Mutex<Seen>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl KernelWatch {
    /// Begins to watch. It knows of no entry that is there already.
    pub(crate) fn start(netns: &Netns) -> Result<Self> {
        let socket = netns.enter(|| {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind(&SocketAddr::new(0, 0))?;
            socket.add_membership(RTNLGRP_NEIGH)?;
            socket.add_membership(RTNLGRP_LINK)?;
            socket.add_membership(RTNLGRP_TC)?;
            setsockopt(&socket.as_fd(), sockopt::RcvBufForce, &SOCKET_BUFFER)?;
            let look_up = TimeVal::milliseconds(LOOK_UP_MS);
            setsockopt(&socket.as_fd(), sockopt::ReceiveTimeout, &look_up)?;
            Ok(socket)
        })?;
        let seen = Arc::new(Mutex::new(Seen {
            tunnel: HashSet::new(),
            bridge: HashSet::new(),
            neighbour: HashSet::new(),
            up: HashSet::new(),
            steered: HashSet::new(),
            changed: Instant::now(),
            events: 0,
            failed: None,
        }));
        let stop = Arc::new(AtomicBool::new(false));
        let thread = {
            let (seen, stop) = (Arc::clone(&seen), Arc::clone(&stop));
            std::thread::spawn(move || read(&socket, &seen, &stop))
        };
        Ok(Self {
            seen,
            stop,
            thread: Some(thread),
        })
    }

    /// Waits until so many stations are whole, and says when the last entry came.
    pub(crate) fn wait(&self, stations: usize) -> Result<Instant> {
        self.wait_until(
            |seen| seen.whole() == stations,
            || format!("{stations} stations"),
        )
    }

    /// Waits until the n-th station is whole, and says when the last entry came.
    pub(crate) fn wait_for(&self, number: u32) -> Result<Instant> {
        let station = Station::nth(number).mac;
        self.wait_until(|seen| seen.has(&station), || format!("station {number}"))
    }

    /// Waits until so many interfaces are up of those that came up since the start, and says when the last changed.
    pub(crate) fn wait_up(&self, interfaces: usize) -> Result<Instant> {
        let wanted = || format!("{interfaces} interfaces that are up");
        self.wait_until(|seen| seen.up.len() == interfaces, wanted)
    }

    /// Waits until so many interfaces got a filter since the start, and says when the last thing changed.
    pub(crate) fn wait_steered(&self, interfaces: usize) -> Result<Instant> {
        let wanted = || format!("{interfaces} interfaces with a filter");
        self.wait_until(|seen| seen.steered.len() == interfaces, wanted)
    }

    /// How many interfaces are up of those that came up since the start.
    pub(crate) fn up(&self) -> usize {
        lock(&self.seen).up.len()
    }

    fn wait_until(
        &self,
        there: impl Fn(&Seen) -> bool,
        wanted: impl Fn() -> String,
    ) -> Result<Instant> {
        super::wait(
            || {
                let seen = lock(&self.seen);
                ensure!(
                    seen.failed.is_none(),
                    "notifications were lost: {:?}",
                    seen.failed
                );
                Ok(there(&seen).then_some(seen.changed))
            },
            || {
                let seen = lock(&self.seen);
                format!(
                    "{} tunnel, {} bridge and {} neighbour entries in the kernel, {} interfaces up, {} with a filter: not {}",
                    seen.tunnel.len(),
                    seen.bridge.len(),
                    seen.neighbour.len(),
                    seen.up.len(),
                    seen.steered.len(),
                    wanted()
                )
            },
        )
    }

    /// Notifications of changes to links, forwarding and neighbour entries and filters so far, whatever they were about.
    pub(crate) fn events(&self) -> usize {
        lock(&self.seen).events
    }
}

impl Drop for KernelWatch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It does not panic.
            let _ = thread.join();
        }
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads notifications until it is told to stop.
fn read(socket: &Socket, seen: &Mutex<Seen>, stop: &AtomicBool) {
    let mut datagram: Vec<u8> = Vec::with_capacity(RECEIVE_BUFFER);
    while !stop.load(Ordering::Relaxed) {
        datagram.clear();
        match socket.recv(&mut datagram, 0) {
            Ok(_) => {
                let mut seen = lock(seen);
                each_message(&datagram, |kind, message| seen.take(kind, message));
            }
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) => {}
            Err(error) => {
                lock(seen).failed = Some(error.kind());
                return;
            }
        }
    }
}

/// Calls `each` with the type and the contents of every message of a datagram.
fn each_message(mut rest: &[u8], mut each: impl FnMut(u16, &[u8])) {
    while let (Some(length), Some(kind)) = (number::<4>(rest, 0), number::<2>(rest, 4)) {
        let length = u32::from_ne_bytes(length) as usize;
        let Some(message) = rest.get(HEADER..length) else {
            return;
        };
        each(u16::from_ne_bytes(kind), message);
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
}

/// The number of the interface that an RTM_NEWLINK or RTM_DELLINK is about, and whether it is up. A bridge tells of its ports
/// in messages of its own family (AF_BRIDGE): those are of no interest.
fn link(message: &[u8]) -> Option<(u32, bool)> {
    if *message.first()? == AF_BRIDGE {
        return None;
    }
    let (index, flags) = (number::<4>(message, 4)?, number::<4>(message, 8)?);
    let up = u32::from_ne_bytes(flags) & IFF_UP != 0;
    Some((u32::from_ne_bytes(index), up))
}

/// Which entry of which of the stations an RTM_NEWNEIGH or RTM_DELNEIGH is about, if it is about one of them.
fn station_entry(message: &[u8]) -> Option<(Entry, Mac)> {
    let family = *message.first()?;
    let own = message.get(10)? & NTF_SELF != 0;
    let mut mac = None;
    let mut of_bridge = false;
    let mut rest = message.get(NDMSG..)?;
    while let (Some(length), Some(kind)) = (number::<2>(rest, 0), number::<2>(rest, 2)) {
        let length = usize::from(u16::from_ne_bytes(length));
        if length < ATTRIBUTE {
            return None;
        }
        match u16::from_ne_bytes(kind) {
            NDA_LLADDR => mac = rest.get(ATTRIBUTE..length)?.first_chunk::<6>().copied(),
            NDA_MASTER => of_bridge = true,
            _ => {}
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    let entry = match family {
        AF_BRIDGE if of_bridge => Entry::Bridge,
        AF_BRIDGE if own => Entry::Tunnel,
        AF_BRIDGE => return None,
        _ => Entry::Neighbour,
    };
    let mac = mac.filter(|mac: &Mac| mac.starts_with(&MAC_PREFIX))?;
    Some((entry, mac))
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use testkit::netns::unique_prefix;

    use super::*;

    #[test]
    fn a_station_is_whole_with_all_three_entries_and_no_more_without_one() -> Result<()> {
        let netns = Netns::create(&unique_prefix())?;
        netns.ip(
            "link add bridge0 type bridge\nlink set bridge0 up\n\
             link add vxlan0 type vxlan id 1 local 127.0.0.1 dstport 4789\nlink set vxlan0 master bridge0 up",
        )?;
        let watch = KernelWatch::start(&netns)?;
        let mac = crate::stations::Station::nth(7).mac_text();
        netns.bridge(&format!(
            "fdb add {mac} dev vxlan0 self dst 127.0.0.2\nfdb add {mac} dev vxlan0 master static"
        ))?;
        // Links speak, too; and a station of somebody else is none.
        netns.ip(
            "link set lo alias loud\nneigh add 100.64.0.9 lladdr 02:00:00:00:00:09 dev bridge0",
        )?;
        assert_eq!(lock(&watch.seen).whole(), 0);
        netns.ip(&format!("neigh add 100.64.0.8 lladdr {mac} dev bridge0"))?;
        watch.wait(1)?;
        netns.bridge(&format!("fdb delete {mac} dev vxlan0 master"))?;
        watch.wait(0)?;
        assert!(watch.events() >= 6);
        Ok(())
    }
}
