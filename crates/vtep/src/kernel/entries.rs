//! Reads forwarding and neighbour entries: of all devices of ours, or of one bridge and its ports.
//!
//! There are hundreds of thousands of them, so they are taken apart here without allocating. Entries the kernel learnt, or
//! made for a port's own address, are left out.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use model::value::MacAddress;
use netlink_packet_core::NlasIterator;
use netlink_packet_route::AddressFamily;

use super::message;
use super::name::InterfaceName;
use super::netlink::Netlink;
use super::observe::Indexes;
use super::state::{Destination, KernelState, Pinned, VxlanIdentity};
use super::strays::Strays;

/// Looks at forwarding and neighbour entries, of all devices of ours or of one bridge and its ports, in place of what
/// `state` held of them; and at what VXLAN devices learnt.
pub(crate) fn observe(
    netlink: &mut Netlink,
    state: &mut KernelState,
    strays: &mut Strays,
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
        let entries = netlink.dump(&message::dump_fdb(filter), FdbEntry::parse)?;
        strays.forget(filter);
        for entry in entries.iter().filter(|e| e.learnt_tunnel().is_some()) {
            strays.note(entry, false);
        }
        collected.fdb.extend(entries);
    }
    for bridge in &bridges {
        // Of all bridges: one dump of each family beats one for every bridge.
        let filter = only.and_then(|_| indexes.index(*bridge));
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let request = message::dump_neighbours(family, filter);
            let entries = netlink.dump(&request, Neighbour::parse)?;
            collected.neighbours.extend(entries);
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
const NDA_CACHEINFO: u16 = 3;
const NDA_PORT: u16 = 6;
const NDA_VNI: u16 = 7;
const NDA_MASTER: u16 = 9;
const NDA_PROTOCOL: u16 = 12;
const NUD_NOARP: u16 = 0x40;
const NUD_PERMANENT: u16 = 0x80;
const NTF_STICKY: u8 = 1 << 6;
const NTF_EXT_LEARNED: u8 = 1 << 4;

/// One entry of a forwarding database: `struct ndmsg` and its attributes.
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
    /// Since a frame confirmed it last, in hundredths of a second (`nda_cacheinfo.ndm_updated`, USER_HZ).
    updated: Option<u32>,
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
            updated: None,
        };
        for attribute in NlasIterator::new(attributes) {
            let attribute = attribute.ok()?;
            let value = attribute.value();
            match attribute.kind() {
                NDA_LLADDR => entry.mac = MacAddress::new(*value.first_chunk()?),
                NDA_DST if value.len() == 4 => {
                    entry.ip = value.first_chunk::<4>().copied().map(Ipv4Addr::from);
                }
                NDA_CACHEINFO => {
                    let updated = value.get(8..12).and_then(|bytes| bytes.first_chunk());
                    entry.updated = updated.copied().map(u32::from_ne_bytes);
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

    /// As told of a station that a bridge learnt.
    #[cfg(test)]
    pub(crate) fn learnt(bridge: u32, port: u32, mac: MacAddress) -> Self {
        Self {
            device: port,
            mac,
            controller: Some(bridge),
            state: 0x02,
            flags: 0,
            sticky: false,
            ip: None,
            udp_port: None,
            vni: None,
            updated: None,
        }
    }

    /// Whether somebody stated it, rather than the kernel learning it or making it for a port's own address.
    pub(crate) fn is_static(&self) -> bool {
        let stated = match self.controller {
            Some(_) => NUD_NOARP,
            None => NUD_NOARP | NUD_PERMANENT,
        };
        self.state & stated != 0 || self.flags & NTF_EXT_LEARNED != 0
    }

    /// Whether it is of a bridge, which learnt it from a frame.
    pub(crate) fn is_learnt(&self) -> bool {
        self.controller.is_some() && !self.is_static() && self.state & NUD_PERMANENT == 0
    }

    /// How long ago a frame confirmed it.
    pub(crate) fn age(&self) -> Duration {
        Duration::from_millis(u64::from(self.updated.unwrap_or(0)) * 10)
    }

    /// The far end of the tunnel it leads through, for a VXLAN device's half that was learnt.
    pub(crate) fn learnt_tunnel(&self) -> Option<Ipv4Addr> {
        self.ip
            .filter(|_| self.controller.is_none() && !self.is_static())
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
