//! Reads the kernel back into a [`KernelState`].
//!
//! Three looks, which the owner may take apart: at links, at forwarding and neighbour entries (of all bridges or of one), and
//! at the packet filter. Entries the kernel learnt are left out.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use model::value::MacAddress;
use netlink_packet_core::{NlasIterator, Parseable};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::link::{
    AfSpecInet, AfSpecInet6, AfSpecUnspec, BridgeStpState, In6AddrGenMode, InfoBridge,
    InfoBridgePort, InfoData, InfoPortData, InfoVxlan, LinkAttribute, LinkFlags, LinkInfo,
    LinkMessage,
};

use super::message;
use super::name::InterfaceName;
use super::netlink::Netlink;
use super::state::{
    ALIAS, Bridge, BridgePort, BridgeSettings, Destination, GROUP, HostSide, Interface,
    KernelState, Link, Pinned, PortFlags, Vxlan, VxlanIdentity,
};

/// Interface numbers and names, both ways.
#[derive(Clone, Debug, Default)]
pub(crate) struct Indexes {
    by_name: HashMap<InterfaceName, u32>,
    by_index: HashMap<u32, InterfaceName>,
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

    pub(crate) fn name(&self, index: u32) -> Option<InterfaceName> {
        self.by_index.get(&index).copied()
    }
}

/// Looks at all links. Entries of the devices are empty yet. Numbers are kept for our devices and for `given`, the
/// interfaces the switch was given.
pub(crate) fn links(
    netlink: &mut Netlink,
    given: &BTreeSet<InterfaceName>,
) -> io::Result<(KernelState, Indexes)> {
    let mut seen = Vec::new();
    // Two closures need the list, one at a time.
    let list = std::cell::RefCell::new(&mut seen);
    netlink.dump(
        message::dump_links(),
        || list.borrow_mut().clear(),
        |payload| match LinkMessage::parse(payload) {
            Ok(message) => list.borrow_mut().extend(Seen::new(message)),
            // Some interface of somebody else's that this release of the parser does not know.
            Err(error) => tracing::debug!(%error, "interface passed over"),
        },
    )?;
    let names: HashMap<u32, InterfaceName> = seen.iter().map(|s| (s.index, s.name)).collect();
    let mut state = KernelState::default();
    let mut indexes = Indexes::default();
    let mut strangers = Vec::new();
    for link in seen {
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
            _ => strangers.push(link),
        }
    }
    for link in strangers {
        let port = link.port(&names);
        let on_ours = port
            .bridge
            .is_some_and(|bridge| state.bridges.contains_key(&bridge));
        if on_ours || given.contains(&link.name) {
            indexes.insert(link.name, link.index);
            let interface = Interface { port, up: link.up };
            state.interfaces.insert(link.name, interface);
        }
    }
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

/// One link of a dump, taken apart.
struct Seen {
    index: u32,
    name: InterfaceName,
    alias: Arc<str>,
    group: u32,
    mtu: u32,
    address: MacAddress,
    up: bool,
    controller: Option<u32>,
    flags: PortFlags,
    host: HostSide,
    kind: Kind,
}

enum Kind {
    Bridge(BridgeSettings),
    Vxlan(Vec<InfoVxlan>),
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
            controller: None,
            flags: PortFlags::default(),
            host: HostSide::default(),
            kind: Kind::Other,
        };
        for attribute in message.attributes {
            match attribute {
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
                LinkInfo::PortData(InfoPortData::BridgePort(data)) => {
                    self.flags = port_flags(&data);
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

    fn vxlan(&self, data: &[InfoVxlan], names: &HashMap<u32, InterfaceName>) -> Vxlan {
        let mut vxlan = Vxlan {
            link: self.link(),
            identity: VxlanIdentity {
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

/// Looks at forwarding and neighbour entries, of all devices of ours or of one bridge and its ports, in place of what
/// `state` held of them.
pub(crate) fn entries(
    netlink: &mut Netlink,
    state: &mut KernelState,
    indexes: &Indexes,
    only: Option<InterfaceName>,
) -> io::Result<()> {
    let bridges: Vec<InterfaceName> = match only {
        Some(bridge) => vec![bridge],
        None => state.bridges.keys().copied().collect(),
    };
    let ports: Vec<InterfaceName> = state
        .vxlans
        .iter()
        .filter(|(_, vxlan)| only.is_none() || vxlan.port.bridge == only)
        .map(|(name, _)| *name)
        .collect();
    if bridges.is_empty() && ports.is_empty() {
        return Ok(());
    }
    let filters: Vec<Option<u32>> = match only {
        None => vec![None],
        Some(_) => ports.iter().map(|port| indexes.index(*port)).collect(),
    };
    let mut collected = Collected::default();
    for filter in filters {
        let already = collected.fdb.len();
        let fdb = std::cell::RefCell::new(&mut collected.fdb);
        netlink.dump(
            message::dump_fdb(filter),
            || fdb.borrow_mut().truncate(already),
            |payload| fdb.borrow_mut().extend(FdbEntry::parse(payload)),
        )?;
    }
    for bridge in &bridges {
        // Of all bridges: one dump of each family beats one for every bridge.
        let filter = only.and_then(|_| indexes.index(*bridge));
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let already = collected.neighbours.len();
            let neighbours = std::cell::RefCell::new(&mut collected.neighbours);
            netlink.dump(
                message::dump_neighbours(family, filter),
                || neighbours.borrow_mut().truncate(already),
                |payload| neighbours.borrow_mut().extend(Neighbour::parse(payload)),
            )?;
        }
        if only.is_none() {
            break;
        }
    }
    collected.put_into(state, indexes, &bridges, &ports);
    Ok(())
}

#[derive(Default)]
struct Collected {
    fdb: Vec<FdbEntry>,
    neighbours: Vec<Neighbour>,
}

impl Collected {
    fn put_into(
        self,
        state: &mut KernelState,
        indexes: &Indexes,
        bridges: &[InterfaceName],
        ports: &[InterfaceName],
    ) {
        let mut fdb: HashMap<u32, Vec<(MacAddress, Destination)>> = HashMap::new();
        let mut flood: HashMap<u32, BTreeSet<Destination>> = HashMap::new();
        let mut pinned: HashMap<u32, Vec<(MacAddress, Pinned)>> = HashMap::new();
        let mut neighbours: HashMap<u32, Vec<(IpAddr, MacAddress)>> = HashMap::new();
        for entry in self.fdb.into_iter().filter(|entry| entry.is_static()) {
            let Some(port) = indexes.name(entry.device) else {
                continue;
            };
            let Some(vxlan) = state.vxlans.get(&port) else {
                continue;
            };
            match (entry.controller, entry.destination(vxlan.identity)) {
                (Some(bridge), _) => {
                    let sticky = entry.sticky;
                    let pin = (entry.mac, Pinned { port, sticky });
                    pinned.entry(bridge).or_default().push(pin);
                }
                (None, Some(destination)) if entry.mac == message::UNKNOWN => {
                    flood.entry(entry.device).or_default().insert(destination);
                }
                (None, Some(destination)) => fdb
                    .entry(entry.device)
                    .or_default()
                    .push((entry.mac, destination)),
                (None, None) => {}
            }
        }
        for entry in self.neighbours.into_iter().filter(Neighbour::is_ours) {
            neighbours
                .entry(entry.device)
                .or_default()
                .push((entry.ip, entry.mac));
        }
        for name in ports {
            let index = indexes.index(*name).unwrap_or(0);
            if let Some(vxlan) = state.vxlans.get_mut(name) {
                vxlan.fdb = fdb.remove(&index).unwrap_or_default().into_iter().collect();
                vxlan.flood = flood.remove(&index).unwrap_or_default();
            }
        }
        for name in bridges {
            let index = indexes.index(*name).unwrap_or(0);
            if let Some(bridge) = state.bridges.get_mut(name) {
                let pins = pinned.remove(&index).unwrap_or_default();
                bridge.pinned = pins.into_iter().collect();
                let entries = neighbours.remove(&index).unwrap_or_default();
                bridge.neighbours = entries.into_iter().collect();
            }
        }
    }
}

const HEADER: usize = 12;
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const NDA_PORT: u16 = 6;
const NDA_VNI: u16 = 7;
const NDA_MASTER: u16 = 9;
const NDA_PROTOCOL: u16 = 12;
const NUD_NOARP: u16 = 0x40;
const NUD_PERMANENT: u16 = 0x80;
const NTF_STICKY: u8 = 1 << 6;
const NTF_EXT_LEARNED: u8 = 1 << 4;

/// One entry of a forwarding database: `struct ndmsg` and its attributes, taken apart without allocating, because there
/// are hundreds of thousands of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FdbEntry {
    /// The device it is of, or the port it leads to.
    pub(crate) device: u32,
    pub(crate) mac: MacAddress,
    /// The bridge, for the bridge's half.
    pub(crate) controller: Option<u32>,
    state: u16,
    flags: u8,
    pub(crate) sticky: bool,
    ip: Option<Ipv4Addr>,
    udp_port: Option<u16>,
    vni: Option<u32>,
}

impl FdbEntry {
    pub(crate) fn parse(payload: &[u8]) -> Option<Self> {
        let (header, attributes) = payload.split_at_checked(HEADER)?;
        let [family, _, _, _, i0, i1, i2, i3, s0, s1, flags, _] = *header.first_chunk()?;
        if family != u8::from(AddressFamily::Bridge) {
            return None;
        }
        let mut entry = Self {
            device: u32::from_ne_bytes([i0, i1, i2, i3]),
            mac: message::UNKNOWN,
            controller: None,
            state: u16::from_ne_bytes([s0, s1]),
            flags,
            sticky: flags & NTF_STICKY != 0,
            ip: None,
            udp_port: None,
            vni: None,
        };
        for attribute in NlasIterator::new(attributes) {
            let attribute = attribute.ok()?;
            let value = attribute.value();
            match attribute.kind() {
                NDA_LLADDR => entry.mac = MacAddress::new(*value.first_chunk()?),
                NDA_DST if value.len() == 4 => {
                    entry.ip = value.first_chunk::<4>().copied().map(Ipv4Addr::from);
                }
                NDA_PORT => entry.udp_port = value.first_chunk().copied().map(u16::from_be_bytes),
                NDA_VNI => entry.vni = value.first_chunk().copied().map(u32::from_ne_bytes),
                NDA_MASTER => {
                    entry.controller = value.first_chunk().copied().map(u32::from_ne_bytes);
                }
                _ => {}
            }
        }
        Some(entry)
    }

    /// Whether somebody stated it, rather than the kernel learning it or making it for a port's own address.
    pub(crate) fn is_static(&self) -> bool {
        let stated = match self.controller {
            Some(_) => NUD_NOARP,
            None => NUD_NOARP | NUD_PERMANENT,
        };
        self.state & stated != 0 || self.flags & NTF_EXT_LEARNED != 0
    }

    /// Where it leads; the device's own port and key are left out of the message.
    pub(crate) fn destination(&self, identity: VxlanIdentity) -> Option<Destination> {
        Some(Destination {
            ip: self.ip?,
            udp_port: self.udp_port.unwrap_or(identity.udp_port),
            vni: self.vni.unwrap_or(identity.vni),
        })
    }
}

/// One IPv4 or IPv6 neighbour entry.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Neighbour {
    pub(crate) device: u32,
    pub(crate) ip: IpAddr,
    pub(crate) mac: MacAddress,
    state: u16,
    protocol: u8,
}

impl Neighbour {
    pub(crate) fn parse(payload: &[u8]) -> Option<Self> {
        let (header, attributes) = payload.split_at_checked(HEADER)?;
        let [family, _, _, _, i0, i1, i2, i3, s0, s1, _, _] = *header.first_chunk()?;
        if family == u8::from(AddressFamily::Bridge) {
            return None;
        }
        let (mut ip, mut mac, mut protocol) = (None, None, 0);
        for attribute in NlasIterator::new(attributes) {
            let attribute = attribute.ok()?;
            let value = attribute.value();
            match attribute.kind() {
                NDA_DST => ip = address(value),
                NDA_LLADDR => mac = value.first_chunk().copied().map(MacAddress::new),
                NDA_PROTOCOL => protocol = value.first().copied()?,
                _ => {}
            }
        }
        Some(Self {
            device: u32::from_ne_bytes([i0, i1, i2, i3]),
            ip: ip?,
            mac: mac.unwrap_or(message::UNKNOWN),
            state: u16::from_ne_bytes([s0, s1]),
            protocol,
        })
    }

    /// Whether we put it there.
    pub(crate) fn is_ours(&self) -> bool {
        self.state & NUD_PERMANENT != 0 && self.protocol == message::PROTOCOL
    }
}

fn address(value: &[u8]) -> Option<IpAddr> {
    match value.len() {
        4 => value.first_chunk::<4>().copied().map(IpAddr::from),
        16 => value.first_chunk::<16>().copied().map(IpAddr::from),
        _ => None,
    }
}
