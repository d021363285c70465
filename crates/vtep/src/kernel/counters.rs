//! What devices have counted: packets and bytes, as the kernel keeps them for every interface, and as the [guard](guard) does
//! for ports that are in a bridge themselves.

use std::collections::HashMap;
use std::io;

use netlink_packet_core::NlasIterator;
use serde::Serialize;

use super::guard;
use super::message;
use super::name::InterfaceName;
use super::netlink::Netlink;

/// `struct ifinfomsg`.
const LINK_HEADER: usize = 16;
const IFLA_IFNAME: u16 = 3;
/// `struct rtnl_link_stats64`.
const IFLA_STATS64: u16 = 23;

/// What a device counted since it was made; a port in a bridge itself, what passed between both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Packets that came in.
    pub received_packets: u64,
    /// Their bytes.
    pub received_bytes: u64,
    /// Packets that were dropped on their way in.
    pub received_dropped: u64,
    /// Packets that went out.
    pub sent_packets: u64,
    /// Their bytes.
    pub sent_bytes: u64,
    /// Packets that were dropped on their way out.
    pub sent_dropped: u64,
}

/// What all devices of the calling thread's network namespace have counted.
///
/// # Errors
/// The kernel can't be talked to.
pub fn read() -> io::Result<HashMap<InterfaceName, Counters>> {
    let counted = Netlink::open()?.dump(&message::dump_counters(), parse)?;
    let mut counted = counted.into_iter().collect();
    guard::correct(&mut counted)?;
    Ok(counted)
}

fn parse(payload: &[u8]) -> Option<(InterfaceName, Counters)> {
    let attributes = payload.get(LINK_HEADER..)?;
    let (mut name, mut counters) = (None, None);
    for attribute in NlasIterator::new(attributes).map_while(Result::ok) {
        match attribute.kind() {
            IFLA_IFNAME => {
                let text = std::str::from_utf8(attribute.value()).unwrap_or_default();
                name = text.trim_end_matches('\0').parse().ok();
            }
            IFLA_STATS64 => counters = of(attribute.value()),
            _ => {}
        }
    }
    Some((name?, counters?))
}

/// The fields of `struct rtnl_link_stats64` that we tell, which are its first eight without the errors.
fn of(stats: &[u8]) -> Option<Counters> {
    let field = |place: usize| {
        let bytes = stats.get(place * 8..)?.first_chunk().copied();
        bytes.map(u64::from_ne_bytes)
    };
    Some(Counters {
        received_packets: field(0)?,
        sent_packets: field(1)?,
        received_bytes: field(2)?,
        sent_bytes: field(3)?,
        received_dropped: field(6)?,
        sent_dropped: field(7)?,
    })
}
