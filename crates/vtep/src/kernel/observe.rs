//! Reads links back into a [`KernelState`].
//!
//! One of three looks, which the owner takes when it must: the others are at [`entries`](super::entries) and at the packet
//! filters ([`nft`](super::nft)).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::sync::Arc;

use model::value::MacAddress;
use netlink_packet_core::Parseable;
use netlink_packet_route::link::{
    AfSpecInet, AfSpecInet6, AfSpecUnspec, BridgePortState, BridgeStpState, In6AddrGenMode,
    InfoBridge, InfoBridgePort, InfoData, InfoKind, InfoPortData, InfoVlan, InfoVxlan,
    LinkAttribute, LinkFlags, LinkInfo, LinkMessage, VlanProtocol,
};

use super::message;
use super::name::InterfaceName;
use super::netlink::Netlink;
use super::state::{
    ALIAS, Bridge, BridgePort, BridgeSettings, GROUP, HostSide, Interface, KernelState, Link,
    PortFlags, Vxlan, VxlanIdentity,
};
use super::tc::Filters;
use super::underlay::Underlay;
use super::vlan::{self, Steering, VlanDevice, VlanKind};

/// Interface numbers and names, both ways.
#[derive(Clone, Debug, Default)]
pub(crate) struct Indexes {
    by_name: HashMap<InterfaceName, u32>,
    by_index: HashMap<u32, InterfaceName>,
    /// Ports that the kernel keeps off their bridges itself, for want of a carrier.
    pub(crate) dark: BTreeSet<InterfaceName>,
}

impl Indexes {
    pub(crate) fn insert(&mut self, name: InterfaceName, index: u32) {
        self.by_name.insert(name, index);
        self.by_index.insert(index, name);
    }

    pub(crate) fn remove(&mut self, name: InterfaceName) {
        if let Some(index) = self.by_name.remove(&name) {
            self.by_index.remove(&index);
        }
    }

    pub(crate) fn index(&self, name: InterfaceName) -> Option<u32> {
        self.by_name.get(&name).copied()
    }

    /// Whether they number the same interfaces alike.
    pub(crate) fn are_same(&self, other: &Self) -> bool {
        self.by_index == other.by_index
    }

    pub(crate) fn name(&self, index: u32) -> Option<InterfaceName> {
        self.by_index.get(&index).copied()
    }
}

/// Looks at all links. Entries of the devices are empty yet. Numbers are kept for our devices and for `given`, the
/// interfaces the switch was given.
pub(crate) fn links(
    netlink: &mut Netlink,
    given: &BTreeSet<InterfaceName>,
    filters: &Filters,
) -> io::Result<(KernelState, Indexes)> {
    let seen = netlink.dump(&message::dump_links(), |payload| {
        let message = LinkMessage::parse(payload)
            // Some interface of somebody else's that this release of the parser does not know.
            .inspect_err(|error| tracing::debug!(%error, "interface passed over"));
        message.ok().and_then(Seen::new)
    })?;
    let names: HashMap<u32, InterfaceName> = seen.iter().map(|s| (s.index, s.name)).collect();
    let mut state = KernelState::default();
    let mut indexes = Indexes::default();
    let mut strangers = Vec::new();
    for link in seen {
        if link.controller.is_some() && !link.running {
            indexes.dark.insert(link.name);
        }
        // By its alias; or by name and group, so that a lost alias is put back instead of blocking the name.
        let ours =
            link.alias.starts_with(ALIAS) || (link.group == GROUP && link.name.is_of_our_making());
        match (ours, &link.kind) {
            (true, Kind::Bridge(settings)) => {
                indexes.insert(link.name, link.index);
                let bridge = link.bridge(settings.clone());
                state.bridges.insert(link.name, bridge);
            }
            (true, Kind::Vxlan(data)) => {
                indexes.insert(link.name, link.index);
                let vxlan = link.vxlan(data, &names);
                state.vxlans.insert(link.name, vxlan);
            }
            (true, Kind::Vlan(_) | Kind::Veth) => {
                indexes.insert(link.name, link.index);
                let vlan = link.vlan(&names);
                state.vlans.insert(link.name, vlan);
            }
            _ => strangers.push(link),
        }
    }
    for link in strangers {
        let port = link.port(&names);
        let on_ours = port
            .bridge
            .is_some_and(|bridge| state.bridges.contains_key(&bridge));
        if on_ours || given.contains(&link.name) || filters.contains_key(&link.index) {
            indexes.insert(link.name, link.index);
            let interface = Interface {
                port,
                up: link.up,
                steering: Steering::Nothing,
                promiscuous: link.promiscuous,
            };
            state.interfaces.insert(link.name, interface);
        }
    }
    let name_of = |index| names.get(&index).copied();
    vlan::recognise(&mut state, &indexes, name_of, filters);
    Ok((state, indexes))
}

/// The interface's number, if there is such an interface.
pub(crate) fn index(netlink: &mut Netlink, name: InterfaceName) -> io::Result<Option<u32>> {
    let mut index = None;
    let answer = netlink.get(message::get_link(name), |payload| {
        index = payload
            .get(4..8)
            .and_then(|bytes| bytes.first_chunk().copied())
            .map(u32::from_ne_bytes);
    })?;
    match answer {
        Ok(()) => Ok(index),
        Err(error) if error.errno == nix::errno::Errno::ENODEV => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The longest IP packet an interface of the calling thread's network namespace passes, in bytes; nothing if there is no
/// such interface.
///
/// # Errors
/// The kernel can't be talked to.
pub fn interface_mtu(name: InterfaceName) -> io::Result<Option<u32>> {
    let mut mtu = None;
    let answer = Netlink::open()?.get(message::get_link(name), |payload| {
        let seen = LinkMessage::parse(payload).ok().and_then(Seen::new);
        mtu = seen.map(|link| link.mtu);
    })?;
    match answer {
        Ok(()) => Ok(mtu),
        Err(error) if error.errno == nix::errno::Errno::ENODEV => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// One link of a dump, taken apart.
struct Seen {
    index: u32,
    name: InterfaceName,
    alias: Arc<str>,
    group: u32,
    mtu: u32,
    address: MacAddress,
    up: bool,
    /// IFF_RUNNING: up, and with a carrier.
    running: bool,
    promiscuous: bool,
    /// Another end or interface in this network namespace.
    other: Option<u32>,
    /// Where another end, or what it is made on, is.
    underlay: Underlay,
    controller: Option<u32>,
    flags: PortFlags,
    /// Of a bridge port: IFLA_BRPORT_STATE is "disabled".
    disabled: bool,
    host: HostSide,
    kind: Kind,
}

enum Kind {
    Bridge(BridgeSettings),
    Vxlan(Vec<InfoVxlan>),
    /// Of IEEE 802.1Q; 0 is of another standard.
    Vlan(u16),
    Veth,
    Other,
}

impl Seen {
    fn new(message: LinkMessage) -> Option<Self> {
        let mut name = None;
        let mut seen = Self {
            index: message.header.index,
            name: InterfaceName::NONE,
            alias: Arc::from(""),
            group: 0,
            mtu: 0,
            address: message::UNKNOWN,
            up: message.header.flags.contains(LinkFlags::Up),
            running: message.header.flags.contains(LinkFlags::Running),
            promiscuous: message.header.flags.contains(LinkFlags::Promisc),
            other: None,
            underlay: Underlay::Own,
            controller: None,
            flags: PortFlags::default(),
            disabled: false,
            host: HostSide::default(),
            kind: Kind::Other,
        };
        for attribute in message.attributes {
            match attribute {
                LinkAttribute::Link(index) => seen.other = Some(index),
                LinkAttribute::LinkNetNsId(number) => seen.underlay = Underlay::Other(number),
                LinkAttribute::IfName(text) => name = text.parse().ok(),
                LinkAttribute::IfAlias(text) => seen.alias = text.into(),
                LinkAttribute::Group(group) => seen.group = group,
                LinkAttribute::Mtu(mtu) => seen.mtu = mtu,
                LinkAttribute::Controller(index) => seen.controller = Some(index),
                LinkAttribute::Address(octets) => {
                    if let Ok(octets) = octets.try_into() {
                        seen.address = MacAddress::new(octets);
                    }
                }
                LinkAttribute::AfSpecUnspec(families) => seen.host = host_side(&families),
                LinkAttribute::LinkInfo(infos) => seen.info(infos),
                _ => {}
            }
        }
        seen.name = name?;
        if seen.underlay != Underlay::Own {
            seen.other = None;
        }
        if let Kind::Bridge(settings) = &mut seen.kind {
            settings.address = seen.address;
        }
        Some(seen)
    }

    fn info(&mut self, infos: Vec<LinkInfo>) {
        for info in infos {
            match info {
                LinkInfo::Data(InfoData::Bridge(data)) => {
                    self.kind = Kind::Bridge(bridge_settings(&data));
                }
                LinkInfo::Data(InfoData::Vxlan(data)) => self.kind = Kind::Vxlan(data),
                LinkInfo::Data(InfoData::Vlan(data)) => self.kind = Kind::Vlan(vlan_id(&data)),
                LinkInfo::Kind(InfoKind::Veth) => self.kind = Kind::Veth,
                LinkInfo::PortData(InfoPortData::BridgePort(data)) => {
                    self.flags = port_flags(&data);
                    let disabled = InfoBridgePort::State(BridgePortState::Disabled);
                    self.disabled = data.contains(&disabled);
                }
                _ => {}
            }
        }
    }

    fn link(&self) -> Link {
        Link {
            alias: self.alias.clone(),
            group: self.group,
            mtu: self.mtu,
        }
    }

    fn port(&self, names: &HashMap<u32, InterfaceName>) -> BridgePort {
        let bridge = self.controller.and_then(|index| names.get(&index).copied());
        match bridge {
            None => BridgePort::default(),
            bridge => BridgePort {
                bridge,
                flags: self.flags,
                // Of one without carrier it is the kernel's own doing.
                cut: self.disabled && self.running,
            },
        }
    }

    fn bridge(&self, settings: BridgeSettings) -> Bridge {
        Bridge {
            link: self.link(),
            settings,
            host: self.host,
            up: self.up,
            pinned: BTreeMap::new(),
            neighbours: BTreeMap::new(),
        }
    }

    fn vlan(&self, names: &HashMap<u32, InterfaceName>) -> VlanDevice {
        let other = self.other.and_then(|index| names.get(&index).copied());
        let kind = match self.kind {
            Kind::Vlan(vlan) => VlanKind::Subinterface { of: other, vlan },
            _ if vlan::is_outer(self.name, &self.alias) => VlanKind::Outer { inner: other },
            _ => VlanKind::Inner { outer: other },
        };
        VlanDevice {
            link: self.link(),
            kind,
            host: self.host,
            port: self.port(names),
            up: self.up,
            steering: Steering::Nothing,
        }
    }

    fn vxlan(&self, data: &[InfoVxlan], names: &HashMap<u32, InterfaceName>) -> Vxlan {
        let mut vxlan = Vxlan {
            link: self.link(),
            identity: VxlanIdentity {
                underlay: self.underlay,
                vni: 0,
                udp_port: 0,
            },
            local: None,
            learning: false,
            host: self.host,
            port: self.port(names),
            up: self.up,
            fdb: BTreeMap::new(),
            flood: BTreeSet::new(),
        };
        for attribute in data {
            match attribute {
                InfoVxlan::Id(vni) => vxlan.identity.vni = *vni,
                InfoVxlan::Port(port) => vxlan.identity.udp_port = *port,
                InfoVxlan::Local(ip) => vxlan.local = Some(*ip),
                InfoVxlan::Learning(learning) => vxlan.learning = *learning,
                _ => {}
            }
        }
        vxlan
    }
}

fn host_side(families: &[AfSpecUnspec]) -> HostSide {
    let mut host = HostSide {
        ipv6: false,
        link_local: false,
        answers_arp: false,
    };
    let mut generates = false;
    for family in families {
        match family {
            AfSpecUnspec::Inet(attributes) => {
                for attribute in attributes {
                    if let AfSpecInet::DevConf(conf) = attribute {
                        host.answers_arp = conf.arp_ignore < 8;
                    }
                }
            }
            AfSpecUnspec::Inet6(attributes) => {
                for attribute in attributes {
                    match attribute {
                        AfSpecInet6::DevConf(conf) => host.ipv6 = conf.disable_ipv6 == 0,
                        AfSpecInet6::AddrGenMode(mode) => {
                            generates = *mode != In6AddrGenMode::None;
                        }
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    host.link_local = host.ipv6 && generates;
    host
}

fn bridge_settings(data: &[InfoBridge]) -> BridgeSettings {
    let mut settings = BridgeSettings {
        address: message::UNKNOWN,
        spanning_tree: false,
        forward_delay: 0,
        multicast_snooping: false,
        vlan_filtering: false,
    };
    for attribute in data {
        match attribute {
            InfoBridge::StpState(stp) => {
                settings.spanning_tree = *stp != BridgeStpState::Disabled;
            }
            InfoBridge::ForwardDelay(delay) => settings.forward_delay = *delay,
            InfoBridge::MulticastSnooping(on) => settings.multicast_snooping = *on,
            InfoBridge::VlanFiltering(on) => settings.vlan_filtering = *on,
            _ => {}
        }
    }
    settings
}

fn vlan_id(data: &[InfoVlan]) -> u16 {
    let mut vlan = 0;
    for attribute in data {
        match attribute {
            InfoVlan::Id(id) => vlan = *id,
            InfoVlan::Protocol(protocol) if *protocol != VlanProtocol::Ieee8021Q => return 0,
            _ => {}
        }
    }
    vlan
}

fn port_flags(data: &[InfoBridgePort]) -> PortFlags {
    let mut flags = PortFlags::default();
    for attribute in data {
        match attribute {
            InfoBridgePort::Isolated(on) => flags.isolated = *on,
            InfoBridgePort::Learning(on) => flags.learning = *on,
            InfoBridgePort::NeighSupress(on) => flags.suppresses_neighbours = *on,
            InfoBridgePort::HairpinMode(on) => flags.hairpin = *on,
            InfoBridgePort::UnicastFlood(on)
            | InfoBridgePort::MulticastFlood(on)
            | InfoBridgePort::BroadcastFlood(on) => flags.floods &= *on,
            _ => {}
        }
    }
    flags
}
