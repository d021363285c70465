//! The netlink messages of each change.

use std::net::{IpAddr, Ipv4Addr};

use model::value::MacAddress;
use netlink_packet_core::{
    DefaultNla, NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, Parseable,
};
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, BridgePortState, BridgeStpState, In6AddrGenMode, InfoBridge,
    InfoBridgePort, InfoData, InfoKind, InfoPortData, InfoPortKind, InfoVeth, InfoVlan, InfoVxlan,
    LinkAttribute, LinkExtentMask, LinkFlags, LinkInfo, LinkMessage, LinkProtoInfoBridge,
    VlanProtocol, VxlanDf,
};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::nsid::{NsidAttribute, NsidMessage};
use netlink_packet_route::route::RouteProtocol;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::name::InterfaceName;
use super::netlink::Request;
use super::state::{Destination, Link, PortFlags};
use super::step::{BridgeShape, VxlanShape};
use super::underlay::Underlay;
use super::vlan::{VlanKind, VlanShape};

/// NDA_PROTOCOL of our neighbour entries, as RTPROT_* for routes: says who put them there.
pub(crate) const PROTOCOL: u8 = 77;

/// NUD_NOARP | NUD_REACHABLE: what `bridge fdb add ... static` writes. NUD_NOARP alone is refused by the VXLAN half of
/// a message after the bridge's half took effect.
pub(crate) const STATIC: u16 = 0x42;

/// The all-zero address stands for every unknown destination in a VXLAN forwarding database.
pub(crate) const UNKNOWN: MacAddress = MacAddress::new([0; 6]);

const IFLA_BRPORT_STATE: u16 = 1;
const IFLA_BRPORT_FLUSH: u16 = 24;

/// NETNSA_NSID_NOT_ASSIGNED.
const NOT_ASSIGNED: i32 = -1;

/// Hops an encapsulated frame may take.
const TTL: u8 = 64;

/// A link group only devices about to be deleted are in: all of them go by one message, three times as fast.
pub(crate) const DOOMED: u32 = u32::from_be_bytes(*b"l2gx");

fn link(index: u32, attributes: Vec<LinkAttribute>) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.attributes = attributes;
    message
}

fn neighbour(family: AddressFamily, index: u32) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = family;
    message.header.ifindex = index;
    message
}

/// All interfaces, without their counters.
pub(crate) fn dump_links() -> RouteNetlinkMessage {
    let mask = LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]);
    RouteNetlinkMessage::GetLink(link(0, vec![mask]))
}

/// One interface.
pub(crate) fn get_link(name: InterfaceName) -> RouteNetlinkMessage {
    let attributes = vec![
        LinkAttribute::IfName(name.to_string()),
        LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]),
    ];
    RouteNetlinkMessage::GetLink(link(0, attributes))
}

/// Forwarding entries of all devices, or of one: its own and, if it is a port, those of its bridge that lead to it.
pub(crate) fn dump_fdb(port: Option<u32>) -> RouteNetlinkMessage {
    RouteNetlinkMessage::GetNeighbour(neighbour(AddressFamily::Bridge, port.unwrap_or(0)))
}

/// Neighbour entries of all devices, or of one.
pub(crate) fn dump_neighbours(family: AddressFamily, device: Option<u32>) -> RouteNetlinkMessage {
    let mut message = neighbour(family, 0);
    message
        .attributes
        .extend(device.map(NeighbourAttribute::IfIndex));
    RouteNetlinkMessage::GetNeighbour(message)
}

fn common(link: &Link) -> Vec<LinkAttribute> {
    vec![
        LinkAttribute::IfAlias(link.alias.to_string()),
        LinkAttribute::Group(link.group),
        LinkAttribute::Mtu(link.mtu),
    ]
}

fn create(name: InterfaceName, mut attributes: Vec<LinkAttribute>) -> Request {
    attributes.push(LinkAttribute::IfName(name.to_string()));
    Request {
        message: RouteNetlinkMessage::NewLink(link(0, attributes)),
        flags: NLM_F_CREATE | NLM_F_EXCL,
    }
}

fn change(index: u32, attributes: Vec<LinkAttribute>) -> Request {
    Request {
        message: RouteNetlinkMessage::NewLink(link(index, attributes)),
        flags: 0,
    }
}

fn info(kind: InfoKind, data: InfoData) -> LinkAttribute {
    LinkAttribute::LinkInfo(vec![LinkInfo::Kind(kind), LinkInfo::Data(data)])
}

/// The alias of a device that was just created: the kernel ignores IFLA_IFALIAS in the message that creates it.
pub(crate) fn set_alias(name: InterfaceName, link_settings: &Link) -> Request {
    let attributes = vec![
        LinkAttribute::IfName(name.to_string()),
        LinkAttribute::IfAlias(link_settings.alias.to_string()),
    ];
    change(0, attributes)
}

pub(crate) fn create_bridge(name: InterfaceName, shape: &BridgeShape) -> Request {
    let mut attributes = common(&shape.link);
    let address = shape.settings.address.octets().to_vec();
    attributes.push(LinkAttribute::Address(address));
    let mut data = bridge_settings(shape);
    // Or ports are members of VLAN 1, filtering or not, and the kernel keeps every pinned address twice.
    data.push(InfoBridge::VlanDefaultPvid(0));
    attributes.push(info(InfoKind::Bridge, InfoData::Bridge(data)));
    create(name, attributes)
}

/// Spanning tree in a message of its own and first: while it is on, the kernel takes no forward delay of zero, and it
/// looks at the delay before it looks at spanning tree.
pub(crate) fn change_bridge(index: u32, was: &BridgeShape, shape: &BridgeShape) -> Vec<Request> {
    let mut attributes = common(&shape.link);
    if was.settings.address != shape.settings.address {
        let address = shape.settings.address.octets().to_vec();
        attributes.push(LinkAttribute::Address(address));
    }
    let mut data = bridge_settings(shape);
    // Only where it differs: a kernel without VLAN filtering refuses even to switch it off.
    if was.settings.vlan_filtering != shape.settings.vlan_filtering {
        data.push(InfoBridge::VlanFiltering(shape.settings.vlan_filtering));
    }
    attributes.push(info(InfoKind::Bridge, InfoData::Bridge(data)));
    let spanning_tree = InfoData::Bridge(vec![spanning_tree(shape)]);
    let first = vec![info(InfoKind::Bridge, spanning_tree)];
    vec![change(index, first), change(index, attributes)]
}

fn spanning_tree(shape: &BridgeShape) -> InfoBridge {
    InfoBridge::StpState(if shape.settings.spanning_tree {
        BridgeStpState::KernelStp
    } else {
        BridgeStpState::Disabled
    })
}

fn bridge_settings(shape: &BridgeShape) -> Vec<InfoBridge> {
    vec![
        InfoBridge::ForwardDelay(shape.settings.forward_delay),
        spanning_tree(shape),
        InfoBridge::MulticastSnooping(shape.settings.multicast_snooping),
    ]
}

pub(crate) fn create_vxlan(name: InterfaceName, shape: &VxlanShape) -> Request {
    let mut attributes = common(&shape.link);
    let mut data = vec![
        InfoVxlan::Id(shape.identity.vni),
        InfoVxlan::Port(shape.identity.udp_port),
        InfoVxlan::Ttl(TTL),
        // Oversize frames go out in fragments rather than not at all.
        InfoVxlan::Df(VxlanDf::Unset),
    ];
    data.extend(live_settings(shape));
    attributes.push(info(InfoKind::Vxlan, InfoData::Vxlan(data)));
    // The device comes to be in our network namespace, its socket in that one.
    if let Underlay::Other(number) = shape.identity.underlay {
        attributes.push(LinkAttribute::LinkNetNsId(number));
    }
    create(name, attributes)
}

/// The number of a network namespace in ours, asked for by a descriptor of its handle.
pub(crate) fn get_namespace(handle: u32) -> RouteNetlinkMessage {
    let mut message = NsidMessage::default();
    message.attributes = vec![NsidAttribute::Fd(handle)];
    RouteNetlinkMessage::GetNsId(message)
}

/// The answer: nothing while it has none.
pub(crate) fn namespace_number(payload: &[u8]) -> Option<i32> {
    let message = NsidMessage::parse(payload).ok()?;
    let number = message.attributes.into_iter().find_map(|it| match it {
        NsidAttribute::Id(number) => Some(number),
        _ => None,
    });
    number.filter(|number| *number != NOT_ASSIGNED)
}

/// Has the kernel choose a number.
pub(crate) fn number_namespace(handle: u32) -> Request {
    let mut message = NsidMessage::default();
    message.attributes = vec![NsidAttribute::Fd(handle), NsidAttribute::Id(NOT_ASSIGNED)];
    Request {
        message: RouteNetlinkMessage::NewNsId(message),
        flags: 0,
    }
}

/// In two messages, because the kernel takes no MTU together with VXLAN settings.
pub(crate) fn change_vxlan(index: u32, was: &VxlanShape, shape: &VxlanShape) -> Vec<Request> {
    let mut requests = Vec::new();
    if was.link != shape.link {
        requests.push(change(index, common(&shape.link)));
    }
    if (was.learning, was.local) != (shape.learning, shape.local) {
        let data = live_settings(shape).collect();
        let info = info(InfoKind::Vxlan, InfoData::Vxlan(data));
        requests.push(change(index, vec![info]));
    }
    requests
}

/// What can be changed while frames flow.
fn live_settings(shape: &VxlanShape) -> impl Iterator<Item = InfoVxlan> {
    let learning = InfoVxlan::Learning(shape.learning);
    let local = shape.local.map(InfoVxlan::Local);
    std::iter::once(learning).chain(local)
}

/// The device of a VLAN, and its other end with the same link group and MTU. `port` is the number of the interface whose
/// sub-interface it is to be. Without room for the tag the kernel refuses an MTU above the port's.
pub(crate) fn create_vlan(name: InterfaceName, shape: &VlanShape, port: Option<u32>) -> Request {
    let mut attributes = common(&shape.link);
    match shape.kind {
        VlanKind::Subinterface { vlan, .. } => {
            attributes.extend(port.map(LinkAttribute::Link));
            let data = vec![
                InfoVlan::Protocol(VlanProtocol::Ieee8021Q),
                InfoVlan::Id(vlan),
            ];
            attributes.push(info(InfoKind::Vlan, InfoData::Vlan(data)));
        }
        VlanKind::Inner { outer: other } | VlanKind::Outer { inner: other } => {
            let mut peer = common(&shape.link);
            peer.extend(other.map(|other| LinkAttribute::IfName(other.to_string())));
            let data = InfoData::Veth(InfoVeth::Peer(link(0, peer)));
            attributes.push(info(InfoKind::Veth, data));
        }
    }
    create(name, attributes)
}

/// Alias, group and MTU.
pub(crate) fn change_link(index: u32, shape: &Link) -> Request {
    change(index, common(shape))
}

/// Whether the kernel knows sub-interfaces: without a VLAN it makes none, and says why.
pub(crate) fn try_subinterface() -> Request {
    let kind = LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Vlan)]);
    Request {
        message: RouteNetlinkMessage::NewLink(link(0, vec![kind])),
        flags: NLM_F_CREATE | NLM_F_EXCL,
    }
}

/// Makes an interface take frames for any address, or no longer.
pub(crate) fn set_promiscuous(index: u32, on: bool) -> Request {
    let mut message = link(index, Vec::new());
    if on {
        message.header.flags = LinkFlags::Promisc;
    }
    message.header.change_mask = LinkFlags::Promisc;
    Request {
        message: RouteNetlinkMessage::NewLink(message),
        flags: 0,
    }
}

pub(crate) fn attach(index: u32, bridge: Option<u32>) -> Request {
    change(index, vec![LinkAttribute::Controller(bridge.unwrap_or(0))])
}

pub(crate) fn set_port_flags(index: u32, flags: PortFlags) -> Request {
    let data = vec![
        InfoBridgePort::Isolated(flags.isolated),
        InfoBridgePort::Learning(flags.learning),
        InfoBridgePort::NeighSupress(flags.suppresses_neighbours),
        InfoBridgePort::HairpinMode(flags.hairpin),
        InfoBridgePort::UnicastFlood(flags.floods),
        InfoBridgePort::MulticastFlood(flags.floods),
        InfoBridgePort::BroadcastFlood(flags.floods),
    ];
    let info = vec![
        LinkInfo::PortKind(InfoPortKind::Bridge),
        LinkInfo::PortData(InfoPortData::BridgePort(data)),
    ];
    change(index, vec![LinkAttribute::LinkInfo(info)])
}

/// Of a port that is up. Without spanning tree "disabled" is the one state, beside "forwarding", that lasts. It must be
/// said in the bridge's own family: whatever is said of the device (RTM_NEWLINK) makes the kernel look at its carrier
/// afterwards, and enable the port. What was learnt on a port that is cut would swallow frames for minutes: it goes.
pub(crate) fn set_cut(index: u32, cut: bool) -> Request {
    let state = if cut {
        BridgePortState::Disabled
    } else {
        BridgePortState::Forwarding
    };
    let mut attributes = vec![DefaultNla::new(IFLA_BRPORT_STATE, vec![state.into()])];
    if cut {
        attributes.push(DefaultNla::new(IFLA_BRPORT_FLUSH, Vec::new()));
    }
    bridge_port(index, attributes)
}

/// What was learnt on a port of a bridge goes, what was declared stays.
pub(crate) fn forget_learnt(index: u32) -> Request {
    bridge_port(index, vec![DefaultNla::new(IFLA_BRPORT_FLUSH, Vec::new())])
}

fn bridge_port(index: u32, attributes: Vec<DefaultNla>) -> Request {
    let info = attributes.into_iter().map(LinkProtoInfoBridge::Other);
    let info = info.collect();
    let mut message = link(index, vec![LinkAttribute::ProtoInfoBridge(info)]);
    message.header.interface_family = AddressFamily::Bridge;
    Request {
        message: RouteNetlinkMessage::SetLink(message),
        flags: 0,
    }
}

/// The kernel refuses this while it creates a device.
pub(crate) fn set_link_local(index: u32, on: bool) -> Request {
    let mode = if on {
        In6AddrGenMode::Eui64
    } else {
        In6AddrGenMode::None
    };
    let inet6 = AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(mode)]);
    change(index, vec![LinkAttribute::AfSpecUnspec(vec![inet6])])
}

pub(crate) fn bring_up(index: u32) -> Request {
    let mut message = link(index, Vec::new());
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    Request {
        message: RouteNetlinkMessage::NewLink(message),
        flags: 0,
    }
}

pub(crate) fn delete(index: u32) -> Request {
    Request {
        message: RouteNetlinkMessage::DelLink(link(index, Vec::new())),
        flags: 0,
    }
}

pub(crate) fn doom(index: u32) -> Request {
    change(index, vec![LinkAttribute::Group(DOOMED)])
}

pub(crate) fn delete_doomed() -> Request {
    Request {
        message: RouteNetlinkMessage::DelLink(link(0, vec![LinkAttribute::Group(DOOMED)])),
        flags: 0,
    }
}

fn ipv4(ip: Ipv4Addr) -> NeighbourAttribute {
    NeighbourAttribute::Destination(NeighbourAddress::Inet(ip))
}

fn lladdr(mac: MacAddress) -> NeighbourAttribute {
    NeighbourAttribute::LinkLayerAddress(mac.octets().to_vec())
}

pub(crate) fn put_station(
    index: u32,
    mac: MacAddress,
    destination: Option<Destination>,
    pin: bool,
) -> Request {
    let mut message = neighbour(AddressFamily::Bridge, index);
    message.header.state = NeighbourState::Other(STATIC);
    message.attributes.push(lladdr(mac));
    if let Some(destination) = destination {
        message.header.flags |= NeighbourFlags::Own;
        message.attributes.push(ipv4(destination.ip));
        message
            .attributes
            .push(NeighbourAttribute::Port(destination.udp_port));
    }
    if pin {
        message.header.flags |= NeighbourFlags::Controller | NeighbourFlags::Sticky;
    }
    Request {
        message: RouteNetlinkMessage::NewNeighbour(message),
        flags: NLM_F_CREATE | NLM_F_REPLACE,
    }
}

pub(crate) fn remove_station(index: u32, mac: MacAddress, forget: bool, unpin: bool) -> Request {
    let mut message = neighbour(AddressFamily::Bridge, index);
    message.attributes.push(lladdr(mac));
    if forget {
        message.header.flags |= NeighbourFlags::Own;
    }
    if unpin {
        message.header.flags |= NeighbourFlags::Controller;
    }
    Request {
        message: RouteNetlinkMessage::DelNeighbour(message),
        flags: 0,
    }
}

/// What a bridge has of a station.
pub(crate) fn get_station(bridge: u32, mac: MacAddress) -> RouteNetlinkMessage {
    let mut message = neighbour(AddressFamily::Bridge, 0);
    message.attributes = vec![lladdr(mac), NeighbourAttribute::Controller(bridge)];
    RouteNetlinkMessage::GetNeighbour(message)
}

fn flood(index: u32, destination: Destination, vni: u32) -> NeighbourMessage {
    let mut message = neighbour(AddressFamily::Bridge, index);
    message.header.flags = NeighbourFlags::Own;
    message.header.state = NeighbourState::Permanent;
    message.attributes = vec![
        lladdr(UNKNOWN),
        ipv4(destination.ip),
        NeighbourAttribute::Port(destination.udp_port),
    ];
    if destination.vni != vni {
        message
            .attributes
            .push(NeighbourAttribute::Vni(destination.vni));
    }
    message
}

pub(crate) fn add_flood(index: u32, destination: Destination, vni: u32) -> Request {
    Request {
        message: RouteNetlinkMessage::NewNeighbour(flood(index, destination, vni)),
        flags: NLM_F_CREATE | NLM_F_APPEND,
    }
}

/// Address, port and VNI must all be given as they are: with a wrong one the kernel removes nothing and says success.
pub(crate) fn remove_flood(index: u32, destination: Destination, vni: u32) -> Request {
    Request {
        message: RouteNetlinkMessage::DelNeighbour(flood(index, destination, vni)),
        flags: 0,
    }
}

fn station_neighbour(index: u32, ip: IpAddr) -> NeighbourMessage {
    let family = match ip {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    };
    let mut message = neighbour(family, index);
    message
        .attributes
        .push(NeighbourAttribute::Destination(ip.into()));
    message
}

pub(crate) fn put_neighbour(index: u32, ip: IpAddr, mac: MacAddress) -> Request {
    let mut message = station_neighbour(index, ip);
    message.header.state = NeighbourState::Permanent;
    message.attributes.push(lladdr(mac));
    message
        .attributes
        .push(NeighbourAttribute::Protocol(RouteProtocol::from(PROTOCOL)));
    Request {
        message: RouteNetlinkMessage::NewNeighbour(message),
        flags: NLM_F_CREATE | NLM_F_REPLACE,
    }
}

pub(crate) fn remove_neighbour(index: u32, ip: IpAddr) -> Request {
    Request {
        message: RouteNetlinkMessage::DelNeighbour(station_neighbour(index, ip)),
        flags: 0,
    }
}
