//! Raw batched netlink: the entries that `l2gw vtep` writes, into a bridge and a VXLAN device of its own; and the devices.

use std::io::{Seek as _, Write as _};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkHeader,
    NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, BridgeStpState, In6AddrGenMode, InfoBridge, InfoBridgePort,
    InfoData, InfoKind, InfoPortData, InfoPortKind, InfoVeth, InfoVxlan, LinkAttribute, LinkFlags,
    LinkInfo, LinkMessage,
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

/// What networks consist of beside a bridge, a VXLAN device inside and one on the WAN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Nothing.
    Plain,
    /// A pair of devices, one end in the bridge, with a filter on the other end: a VLAN of a port.
    Vlans,
    /// The WAN device's socket is in a network namespace of its own.
    Elsewhere,
}

/// Makes so many networks in a fresh kernel: a bridge, a VXLAN device inside and one on the WAN, a host and a remote gateway
/// that flood, a station with an address. Then deletes them, so many bridges by one message.
pub(crate) fn networks(count: u32, form: Form, bridges_at_once: usize) -> Result<Networks> {
    let netns = Netns::create(&unique_prefix())?;
    netns.ip("address add 10.9.0.1/32 dev lo")?;
    let outside = Netns::create(&unique_prefix())?;
    outside.ip("address add 10.9.0.1/32 dev lo")?;
    netns.ip(&format!("netns set {} {OUTSIDE}", outside.name()))?;
    let watch = KernelWatch::start(&netns)?;
    let start = netns.enter(|| {
        let mut kernel = Kernel::open()?;
        let start = Instant::now();
        let numbers: Vec<u32> = (0..count).collect();
        for chunk in numbers.chunks(BATCH / 4) {
            let networks = || chunk.iter().map(|number| Network::nth(*number));
            kernel.write(networks().flat_map(|network| network.devices(form)))?;
            // No netlink attribute says it, and it is half of the time if not said.
            for name in networks().flat_map(|network| network.without_ipv6(form)) {
                std::fs::write(format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6"), "1")?;
            }
            for network in chunk.chunks(BATCH / 16) {
                let network = network.iter().map(|number| Network::nth(*number));
                kernel.write(network.flat_map(|network| network.contents(form)))?;
            }
        }
        Ok(start)
    })?;
    let count = usize::try_from(count)?;
    if form == Form::Vlans {
        filters(&netns, count)?;
        watch.wait_steered(count)?;
    }
    let devices = if form == Form::Vlans { 5 } else { 3 };
    let there = watch.wait_up(devices * count)?;
    let start_of_deletion = Instant::now();
    netns.enter(|| {
        let mut kernel = Kernel::open()?;
        let networks = || (0..u32::try_from(count).unwrap_or(u32::MAX)).map(Network::nth);
        // The other end of a pair goes with the first.
        let first: Vec<u32> = networks().flat_map(|n| n.on_bridge(form)).collect();
        let bridges: Vec<u32> = networks().map(|network| network.bridge).collect();
        let first = first.chunks(DOOMED_AT_ONCE);
        for doomed in first.chain(bridges.chunks(bridges_at_once)) {
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

/// A filter of one instruction on the far end of each network's pair, by one run of tc.
fn filters(netns: &Netns, count: usize) -> Result<()> {
    let commands = (0..count).map(|number| {
        format!(
            "qdisc add dev o{number} clsact\nfilter add dev o{number} ingress pref 1 protocol all \
             bpf direct-action bytecode '1,6 0 0 4294967295'\n"
        )
    });
    let mut script = tempfile::tempfile()?;
    script.write_all(commands.collect::<String>().as_bytes())?;
    script.rewind()?;
    let mut tc = netns.command("tc");
    run(tc.args(["-batch", "-"]).stdin(script)).map(drop)
}

/// What the network namespace of WAN devices' sockets is called in the other one.
const OUTSIDE: i32 = 77;

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
    /// Of the pair that stands for a VLAN: in the bridge, and towards the port.
    inner: u32,
    outer: u32,
}

impl Network {
    fn nth(number: u32) -> Self {
        let first = 1_000 + 5 * number;
        Self {
            number,
            bridge: first,
            inside: first + 1,
            wan: first + 2,
            inner: first + 3,
            outer: first + 4,
        }
    }

    fn tunnels(self) -> [String; 2] {
        ["i", "w"].map(|side| format!("{side}{}", self.number))
    }

    fn pair(self) -> [String; 2] {
        ["v", "o"].map(|end| format!("{end}{}", self.number))
    }

    /// Devices that are to have no IPv6, by name.
    fn without_ipv6(self, form: Form) -> Vec<String> {
        let pair = (form == Form::Vlans).then(|| self.pair());
        let pair = pair.into_iter().flatten();
        self.tunnels().into_iter().chain(pair).collect()
    }

    /// Its bridge's ports.
    fn on_bridge(self, form: Form) -> Vec<u32> {
        let inner = (form == Form::Vlans).then_some(self.inner);
        [self.inside, self.wan].into_iter().chain(inner).collect()
    }

    fn devices(self, form: Form) -> Vec<(RouteNetlinkMessage, u16)> {
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
        let mut devices = vec![
            device(
                self.bridge,
                format!("b{}", self.number),
                InfoKind::Bridge,
                bridge,
            ),
            device(self.inside, inside, InfoKind::Vxlan, vxlan(20_000, 4789)),
            device(self.wan, wan, InfoKind::Vxlan, vxlan(10_000, 14789)),
        ];
        if let (Form::Elsewhere, Some((RouteNetlinkMessage::NewLink(wan), _))) =
            (form, devices.last_mut())
        {
            wan.attributes.push(LinkAttribute::LinkNetNsId(OUTSIDE));
        }
        if form == Form::Vlans {
            let [inner, outer] = self.pair();
            let mut other = LinkMessage::default();
            other.header.index = self.outer;
            other.attributes = vec![LinkAttribute::IfName(outer), LinkAttribute::Mtu(1500)];
            let pair = InfoData::Veth(InfoVeth::Peer(other));
            devices.push(device(self.inner, inner, InfoKind::Veth, pair));
        }
        devices
    }

    fn contents(self, form: Form) -> Vec<(RouteNetlinkMessage, u16)> {
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
        if form == Form::Vlans {
            let pair = [attach(self.inner), up(self.inner), up(self.outer)];
            messages.extend(pair.map(|message| (message, 0)));
        }
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
        for form in [Form::Plain, Form::Vlans, Form::Elsewhere] {
            let networks = networks(10, form, 4)?;
            assert!(networks.made > Duration::ZERO && networks.deleted > Duration::ZERO);
        }
        Ok(())
    }
}
