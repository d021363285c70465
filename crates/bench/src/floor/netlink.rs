//! Raw batched netlink: the entries that `l2gw vtep` writes, into a bridge and a VXLAN device of its own; and the devices.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkHeader,
    NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, BridgeStpState, In6AddrGenMode, InfoBridge, InfoBridgePort,
    InfoData, InfoKind, InfoPortData, InfoPortKind, InfoVxlan, LinkAttribute, LinkFlags, LinkInfo,
    LinkMessage,
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
    let start = netns.enter(|| {
        let mut kernel = Kernel::open()?;
        let start = Instant::now();
        let mut stations = stations(0..count).peekable();
        while stations.peek().is_some() {
            kernel.write(stations.by_ref().take(BATCH / 2).flat_map(|station| {
                [forwarding(vxlan, station), neighbour(bridge, station)].map(put)
            }))?;
        }
        Ok(start)
    })?;
    let there = watch.wait(usize::try_from(count)?)?;
    Ok(there.duration_since(start))
}

/// What networks took.
pub(crate) struct Networks {
    /// Until all devices were up.
    pub(crate) made: Duration,
    /// Until none was left.
    pub(crate) deleted: Duration,
}

/// Makes so many networks in a fresh kernel: a bridge, a VXLAN device inside and one on the WAN, a host and a remote gateway
/// that flood, a station with an address. Then deletes them, as many devices by one message as makes it no faster.
pub(crate) fn networks(count: u32) -> Result<Networks> {
    let netns = Netns::create(&unique_prefix())?;
    netns.ip("address add 10.9.0.1/32 dev lo")?;
    let watch = KernelWatch::start(&netns)?;
    let start = netns.enter(|| {
        let mut kernel = Kernel::open()?;
        let start = Instant::now();
        let numbers: Vec<u32> = (0..count).collect();
        for chunk in numbers.chunks(BATCH / 4) {
            let networks = || chunk.iter().map(|number| Network::nth(*number));
            kernel.write(networks().flat_map(Network::devices))?;
            // No netlink attribute says it, and it is half of the time if not said.
            for name in networks().flat_map(|network| network.tunnels()) {
                std::fs::write(format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6"), "1")?;
            }
            for network in chunk.chunks(BATCH / 16) {
                let network = network.iter().map(|number| Network::nth(*number));
                kernel.write(network.flat_map(Network::contents))?;
            }
        }
        Ok(start)
    })?;
    let there = watch.wait_up(usize::try_from(3 * count)?)?;
    let start_of_deletion = Instant::now();
    netns.enter(|| {
        let mut kernel = Kernel::open()?;
        let networks = || (0..count).map(Network::nth);
        let tunnels = networks().flat_map(|network| [network.inside, network.wan]);
        let bridges = networks().map(|network| network.bridge);
        let doomed: Vec<u32> = tunnels.chain(bridges).collect();
        for doomed in doomed.chunks(DOOMED_AT_ONCE) {
            let mark = doomed.iter();
            let mark = mark.map(|index| (link(*index, vec![LinkAttribute::Group(DOOMED)]), 0));
            let mut message = LinkMessage::default();
            message.attributes = vec![LinkAttribute::Group(DOOMED)];
            let delete = (RouteNetlinkMessage::DelLink(message), 0);
            kernel.write(mark.chain([delete]))?;
        }
        Ok(())
    })?;
    let gone = watch.wait_up(0)?;
    Ok(Networks {
        made: there.duration_since(start),
        deleted: gone.duration_since(start_of_deletion),
    })
}

/// A link group of devices that are to go, and how many of them go by one message.
const DOOMED: u32 = 0xd00;
const DOOMED_AT_ONCE: usize = 64;

/// Numbers of the devices of the n-th network, chosen beforehand, so that one batch can make devices and refer to them.
#[derive(Clone, Copy)]
struct Network {
    number: u32,
    bridge: u32,
    inside: u32,
    wan: u32,
}

impl Network {
    fn nth(number: u32) -> Self {
        let first = 1_000 + 3 * number;
        Self {
            number,
            bridge: first,
            inside: first + 1,
            wan: first + 2,
        }
    }

    fn tunnels(self) -> [String; 2] {
        ["i", "w"].map(|side| format!("{side}{}", self.number))
    }

    fn devices(self) -> Vec<(RouteNetlinkMessage, u16)> {
        let [inside, wan] = self.tunnels();
        let bridge = InfoData::Bridge(vec![
            InfoBridge::ForwardDelay(0),
            InfoBridge::StpState(BridgeStpState::Disabled),
            InfoBridge::MulticastSnooping(false),
        ]);
        let vxlan = |key: u32, port| {
            InfoData::Vxlan(vec![
                InfoVxlan::Id(key + self.number),
                InfoVxlan::Port(port),
                InfoVxlan::Local([10, 9, 0, 1].into()),
                InfoVxlan::Learning(false),
            ])
        };
        let device = |index, name: String, kind, data| {
            let info = vec![LinkInfo::Kind(kind), LinkInfo::Data(data)];
            let attributes = vec![
                LinkAttribute::IfName(name),
                LinkAttribute::Mtu(1500),
                LinkAttribute::LinkInfo(info),
            ];
            (link(index, attributes), NLM_F_CREATE | NLM_F_EXCL)
        };
        vec![
            device(
                self.bridge,
                format!("b{}", self.number),
                InfoKind::Bridge,
                bridge,
            ),
            device(self.inside, inside, InfoKind::Vxlan, vxlan(20_000, 4789)),
            device(self.wan, wan, InfoKind::Vxlan, vxlan(10_000, 14789)),
        ]
    }

    fn contents(self) -> Vec<(RouteNetlinkMessage, u16)> {
        let inet6 = vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)];
        let inet6 = vec![AfSpecUnspec::Inet6(inet6)];
        let port = |index, isolated| {
            let data = vec![
                InfoBridgePort::Isolated(isolated),
                InfoBridgePort::Learning(!isolated),
                InfoBridgePort::NeighSupress(isolated),
            ];
            let info = vec![
                LinkInfo::PortKind(InfoPortKind::Bridge),
                LinkInfo::PortData(InfoPortData::BridgePort(data)),
            ];
            link(index, vec![LinkAttribute::LinkInfo(info)])
        };
        let attach = |index| link(index, vec![LinkAttribute::Controller(self.bridge)]);
        let links = [
            link(self.bridge, vec![LinkAttribute::AfSpecUnspec(inet6)]),
            attach(self.inside),
            attach(self.wan),
            port(self.inside, false),
            port(self.wan, true),
            up(self.bridge),
        ];
        let station = Station::nth(self.number);
        let entries = [
            forwarding(self.wan, station),
            neighbour(self.bridge, station),
        ];
        let flood = [self.inside, self.wan].map(|device| {
            let message = RouteNetlinkMessage::NewNeighbour(flood(device));
            (message, NLM_F_CREATE | NLM_F_APPEND)
        });
        let mut messages: Vec<_> = links.map(|message| (message, 0)).into();
        messages.extend(entries.map(put));
        messages.extend(flood);
        messages.extend([self.inside, self.wan].map(|device| (up(device), 0)));
        messages
    }
}

fn link(index: u32, attributes: Vec<LinkAttribute>) -> RouteNetlinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.attributes = attributes;
    RouteNetlinkMessage::NewLink(message)
}

fn up(index: u32) -> RouteNetlinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    RouteNetlinkMessage::NewLink(message)
}

fn put(entry: NeighbourMessage) -> (RouteNetlinkMessage, u16) {
    let message = RouteNetlinkMessage::NewNeighbour(entry);
    (message, NLM_F_CREATE | NLM_F_REPLACE)
}

/// Unknown destinations to one far end.
fn flood(vxlan: u32) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Bridge;
    message.header.ifindex = vxlan;
    message.header.state = NeighbourState::Permanent;
    message.header.flags = NeighbourFlags::Own;
    message.attributes = vec![
        NeighbourAttribute::LinkLayerAddress(vec![0; 6]),
        NeighbourAttribute::Destination(NeighbourAddress::Inet([10, 9, 0, 99].into())),
    ];
    message
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
    fn write(&mut self, messages: impl Iterator<Item = (RouteNetlinkMessage, u16)>) -> Result<()> {
        self.sent.clear();
        let mut messages = messages.peekable();
        while let Some((message, flags)) = messages.next() {
            let mut header = NetlinkHeader::default();
            header.flags = NLM_F_REQUEST | flags;
            if messages.peek().is_none() {
                header.flags |= NLM_F_ACK;
            }
            let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message));
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
        let networks = networks(10)?;
        assert!(networks.made > Duration::ZERO && networks.deleted > Duration::ZERO);
        Ok(())
    }
}
