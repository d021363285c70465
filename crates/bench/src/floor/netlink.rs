//! Raw batched netlink: the entries that `l2gw vtep` writes, into a bridge and a VXLAN device of its own.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use testkit::netns::{Netns, unique_prefix};
use testkit::run::run;

use crate::stations::{Station, stations};
use crate::watch::kernel::KernelWatch;

/// Messages per system call; from 16 on there is little to gain.
const BATCH: usize = 256;
/// NUD_NOARP | NUD_REACHABLE, as `bridge fdb add … static` writes.
const STATIC: u16 = 0x42;

/// Writes so many stations into a fresh kernel, under the eyes of the same witness as the product: the time until all
/// are there.
pub(crate) fn write(count: u32) -> Result<Duration> {
    let netns = Netns::create(&unique_prefix())?;
    netns.ip(
        "link add uplink type bridge\naddress add 10.9.0.1/24 dev uplink\nlink set uplink up\n\
         link add bridge0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0\nlink set bridge0 addrgenmode none up\n\
         link add vxlan0 type vxlan id 456 local 10.9.0.1 dstport 4789 nolearning\n\
         link set vxlan0 addrgenmode none master bridge0 up",
    )?;
    let (bridge, vxlan) = (index(&netns, "bridge0")?, index(&netns, "vxlan0")?);
    let watch = KernelWatch::start(&netns)?;
    let start =
        netns.enter(|| {
            let mut kernel = Kernel::open()?;
            let start = Instant::now();
            let mut stations = stations(0..count).peekable();
            while stations.peek().is_some() {
                kernel.write(stations.by_ref().take(BATCH / 2).flat_map(|station| {
                    [forwarding(vxlan, station), neighbour(bridge, station)]
                }))?;
            }
            Ok(start)
        })?;
    let there = watch.wait(usize::try_from(count)?)?;
    Ok(there.duration_since(start))
}

fn index(netns: &Netns, interface: &str) -> Result<u32> {
    let shown = run(netns
        .command("cat")
        .arg(format!("/sys/class/net/{interface}/ifindex")))?;
    Ok(shown.trim().parse()?)
}

/// Both halves, the VXLAN device's and the bridge's, in one message.
fn forwarding(vxlan: u32, station: Station) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Bridge;
    message.header.ifindex = vxlan;
    message.header.state = NeighbourState::Other(STATIC);
    message.header.flags =
        NeighbourFlags::Own | NeighbourFlags::Controller | NeighbourFlags::Sticky;
    message.attributes = vec![
        NeighbourAttribute::LinkLayerAddress(station.mac.to_vec()),
        NeighbourAttribute::Destination(NeighbourAddress::Inet([10, 9, 0, 99].into())),
    ];
    message
}

fn neighbour(bridge: u32, station: Station) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.ifindex = bridge;
    message.header.state = NeighbourState::Permanent;
    message.attributes = vec![
        NeighbourAttribute::Destination(NeighbourAddress::Inet(station.ip)),
        NeighbourAttribute::LinkLayerAddress(station.mac.to_vec()),
    ];
    message
}

struct Kernel {
    socket: Socket,
    sent: Vec<u8>,
    received: Vec<u8>,
}

impl Kernel {
    fn open() -> Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self {
            socket,
            sent: Vec::new(),
            received: Vec::with_capacity(64 * 1024),
        })
    }

    /// One batch; only its last message asks to be acknowledged, a refusal is always reported.
    fn write(&mut self, messages: impl Iterator<Item = NeighbourMessage>) -> Result<()> {
        self.sent.clear();
        let mut messages = messages.peekable();
        while let Some(message) = messages.next() {
            let mut header = NetlinkHeader::default();
            header.flags = NLM_F_REQUEST | NLM_F_CREATE | NLM_F_REPLACE;
            if messages.peek().is_none() {
                header.flags |= NLM_F_ACK;
            }
            let payload = RouteNetlinkMessage::NewNeighbour(message);
            let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(payload));
            message.finalize();
            let start = self.sent.len();
            let length = message.buffer_len().next_multiple_of(4);
            self.sent.resize(start + length, 0);
            if let Some(place) = self.sent.get_mut(start..) {
                message.serialize(place);
            }
        }
        self.socket.send(&self.sent, 0)?;
        self.received.clear();
        self.socket.recv(&mut self.received, 0)?;
        let code = self.received.get(16..).and_then(|b| b.first_chunk());
        let code = i32::from_ne_bytes(*code.context("a short answer")?);
        ensure!(
            code == 0,
            "the kernel refuses: {}",
            std::io::Error::from_raw_os_error(-code)
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_seen() -> Result<()> {
        assert!(write(1000)? > Duration::ZERO);
        Ok(())
    }
}
