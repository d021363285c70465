//! What loop protection does to the kernel by itself, before anything else: a pass over thousands of networks, or a disk
//! that is slow, must not keep a loop turning. The passes find it done, and keep it so.

use std::io;

use model::value::MacAddress;

use super::entries::FdbEntry;
use super::message;
use super::netlink::{BATCH, Netlink, Request};

/// A hand on the kernel of its own.
pub(crate) struct Reflex {
    netlink: Netlink,
}

impl Reflex {
    /// Opens it in the network namespace of the calling thread.
    pub(crate) fn open() -> io::Result<Self> {
        Ok(Self {
            netlink: Netlink::open()?,
        })
    }

    /// Cuts devices, by number, off the bridges they are in.
    pub(crate) fn cut(&mut self, devices: &[u32]) {
        cut(&mut self.netlink, devices);
    }

    /// Makes bridges forget what they learnt on these ports, by number.
    pub(crate) fn forget(&mut self, ports: &[u32]) {
        write(&mut self.netlink, ports, message::forget_learnt);
    }

    /// The port, by number, on which a bridge heard a station last.
    pub(crate) fn port_of(&mut self, bridge: u32, station: MacAddress) -> Option<u32> {
        let mut port = None;
        let request = message::get_station(bridge, station);
        let answer = self.netlink.get(request, |payload| {
            port = FdbEntry::parse(payload).map(|entry| entry.device);
        });
        match answer {
            Ok(Ok(())) => port.filter(|port| *port != bridge),
            Ok(Err(_)) => None,
            Err(error) => {
                tracing::debug!(%error, "the port of a probe can't be asked for");
                None
            }
        }
    }
}

/// Cuts devices, by number, off the bridges they are in.
pub(super) fn cut(netlink: &mut Netlink, devices: &[u32]) {
    write(netlink, devices, |index| message::set_cut(index, true));
}

fn write(netlink: &mut Netlink, devices: &[u32], request: impl Fn(u32) -> Request) {
    for some in devices.chunks(BATCH) {
        let requests = some.iter().map(|index| request(*index));
        match netlink.write(requests.collect()) {
            Ok(refused) => {
                for (_, error) in refused {
                    // One that is down or gone takes part in no loop.
                    tracing::debug!(%error, "loop protection at once");
                }
            }
            Err(error) => {
                tracing::warn!(%error, "not done at once: what is to be cut the next pass cuts")
            }
        }
    }
}
