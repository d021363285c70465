//! What the kernel tells unasked: that a link, an entry or the packet filter changed.
//!
//! Notifications are wake-ups and hints where to look, never facts: when the socket overflows, all that follows is a full
//! look. Our own changes come back as well; the owner knows them by comparing with what it holds.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use netlink_packet_core::NlasIterator;
use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};
use netlink_sys::{Socket, SocketAddr};

use super::entries::{FdbEntry, Neighbour};
use super::name::InterfaceName;
use super::netlink::{enlarge, messages};
use super::netns::Underlays;

/// RTNLGRP_LINK, RTNLGRP_NEIGH, which covers forwarding databases, and RTNLGRP_TC.
const ROUTE_GROUPS: [u32; 3] = [1, 3, 4];
/// NFNLGRP_NFTABLES.
const FILTER_GROUPS: [u32; 1] = [7];

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_NEWNEIGH: u16 = 28;
const RTM_DELNEIGH: u16 = 29;
const RTM_NEWQDISC: u16 = 36;
const RTM_DELQDISC: u16 = 37;
const RTM_NEWTFILTER: u16 = 44;
const RTM_DELTFILTER: u16 = 45;
/// `struct ifinfomsg`.
const LINK_HEADER: usize = 16;
const IFLA_IFNAME: u16 = 3;
const IFLA_MASTER: u16 = 10;

/// Notifications of the largest datagram: one link message with all its attributes.
const RECEIVE_BUFFER: usize = 64 * 1024;

/// One notification.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Event {
    Link {
        index: u32,
        name: Option<InterfaceName>,
        controller: Option<u32>,
    },
    /// A program on an interface, or the hook it hangs on.
    Steering {
        index: u32,
    },
    Fdb {
        entry: FdbEntry,
        gone: bool,
    },
    Neighbour {
        entry: Neighbour,
        gone: bool,
    },
}

/// Of taking in what came, before what was taken in is looked at.
const LONGEST_TURN: Duration = Duration::from_millis(100);

/// All subscriptions.
pub(crate) struct Events {
    route: Arc<Socket>,
    /// One in each underlay.
    filters: Vec<Arc<Socket>>,
    buffer: Vec<u8>,
    /// Not yet looked at, each with when it was taken in.
    pub(crate) pending: Vec<(Instant, Event)>,
    /// There may be more than was taken in.
    pub(crate) behind: bool,
    /// Notifications were lost.
    pub(crate) overflowed: bool,
    /// Some table of the packet filter changed.
    pub(crate) filter_changed: bool,
}

impl Events {
    pub(crate) fn subscribe(underlays: &Underlays) -> io::Result<Self> {
        let filters = underlays
            .all()
            .map(|underlay| underlays.at(underlay, || open(NETLINK_NETFILTER, &FILTER_GROUPS)));
        Ok(Self {
            route: open(NETLINK_ROUTE, &ROUTE_GROUPS)?,
            filters: filters.collect::<io::Result<_>>()?,
            buffer: Vec::with_capacity(RECEIVE_BUFFER),
            pending: Vec::new(),
            behind: false,
            overflowed: false,
            filter_changed: false,
        })
    }

    /// The sockets, to wait for: readable when there is something to look at.
    pub(crate) fn sockets(&self) -> Vec<Arc<Socket>> {
        let filters = self.filters.iter().cloned();
        std::iter::once(self.route.clone()).chain(filters).collect()
    }

    /// Drops what was told of these interfaces, except by entries.
    pub(crate) fn forget_links(&mut self, gone: &[u32]) {
        self.pending.retain(|(_, event)| match event {
            Event::Link { index, .. } => !gone.contains(index),
            _ => true,
        });
    }

    /// Takes in what has come, without waiting; for a while at most, because a loop makes stations move faster than anybody
    /// can take in, and must be cut meanwhile.
    pub(crate) fn take_in(&mut self) -> io::Result<()> {
        let begun = Instant::now();
        let mut more = true;
        while more && begun.elapsed() < LONGEST_TURN {
            more = receive(&self.route, &mut self.buffer, &mut self.overflowed)?;
            let pending = &mut self.pending;
            let now = Instant::now();
            messages(&self.buffer, |message| {
                let event = event(message.message_type(), message.payload());
                pending.extend(event.map(|event| (now, event)));
                None::<()>
            });
        }
        self.behind = more;
        for filter in &self.filters {
            while receive(filter, &mut self.buffer, &mut self.filter_changed)? {
                self.filter_changed = true;
            }
        }
        Ok(())
    }
}

fn open(protocol: isize, groups: &[u32]) -> io::Result<Arc<Socket>> {
    let mut socket = Socket::new(protocol)?;
    enlarge(&socket);
    socket.bind(&SocketAddr::new(0, 0))?;
    for group in groups {
        socket.add_membership(*group)?;
    }
    socket.set_non_blocking(true)?;
    Ok(Arc::new(socket))
}

/// Whether there was a datagram, or a loss, which may be followed by more.
fn receive(socket: &Socket, buffer: &mut Vec<u8>, lost: &mut bool) -> io::Result<bool> {
    buffer.clear();
    match socket.recv(buffer, 0) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(true),
        Err(error) if error.raw_os_error() == Some(nix::libc::ENOBUFS) => {
            *lost = true;
            Ok(true)
        }
        Err(error) => Err(error),
    }
}

fn event(kind: u16, payload: &[u8]) -> Option<Event> {
    match kind {
        RTM_NEWLINK | RTM_DELLINK => link(payload),
        RTM_NEWNEIGH | RTM_DELNEIGH => {
            let gone = kind == RTM_DELNEIGH;
            let fdb = FdbEntry::parse(payload).map(|entry| Event::Fdb { entry, gone });
            fdb.or_else(|| Neighbour::parse(payload).map(|entry| Event::Neighbour { entry, gone }))
        }
        RTM_NEWQDISC | RTM_DELQDISC | RTM_NEWTFILTER | RTM_DELTFILTER => {
            let index = payload.get(4..8)?.first_chunk().copied()?;
            Some(Event::Steering {
                index: u32::from_ne_bytes(index),
            })
        }
        _ => None,
    }
}

fn link(payload: &[u8]) -> Option<Event> {
    let (header, attributes) = payload.split_at_checked(LINK_HEADER)?;
    let index = header.get(4..8)?.first_chunk().copied()?;
    let (mut name, mut controller) = (None, None);
    for attribute in NlasIterator::new(attributes).map_while(Result::ok) {
        let value = attribute.value();
        match attribute.kind() {
            IFLA_IFNAME => {
                let text = std::str::from_utf8(value).unwrap_or_default();
                name = text.trim_end_matches('\0').parse().ok();
            }
            IFLA_MASTER => controller = value.first_chunk().copied().map(u32::from_ne_bytes),
            _ => {}
        }
    }
    Some(Event::Link {
        index: u32::from_ne_bytes(index),
        name,
        controller,
    })
}
