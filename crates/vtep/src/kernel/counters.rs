//! What devices have counted: packets and bytes, as the kernel keeps them for every interface, and as the [guard](guard) does
//! for ports that are in a bridge themselves.

use std::collections::HashMap;
use std::io;

use netlink_packet_core::{NetlinkSerializable, NlasIterator};
use serde::Serialize;

use super::guard;
use super::message;
use super::name::InterfaceName;
use super::netlink::Netlink;

/// RTM_GETSTATS.
const GET_STATS: u16 = 94;
/// `struct if_stats_msg`: the family, three bytes of nothing, the number of the interface, and which of its counters.
const STATS_HEADER: usize = 12;
/// `struct rtnl_link_stats64`, and the bit that asks for it (IFLA_STATS_FILTER_BIT).
const IFLA_STATS_LINK_64: u16 = 1;
const LINK_64: u32 = 1;

/// `struct ifinfomsg`.
const LINK_HEADER: usize = 16;
const IFLA_IFNAME: u16 = 3;

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
    Meter::default().read()
}

/// Reads what devices have counted, again and again. The kernel takes several times as long to tell their names as their
/// counters: it is asked for names only when there is a device that was not there before.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    names: HashMap<u32, InterfaceName>,
}

impl Meter {
    /// As [`read`] does. Who was renamed meanwhile goes by the old name until another device comes.
    pub(crate) fn read(&mut self) -> io::Result<HashMap<InterfaceName, Counters>> {
        let netlink = &mut Netlink::open()?;
        let counted = netlink.dump(&GetStats, counters)?;
        let is_known = |(index, _): &(u32, Counters)| self.names.contains_key(index);
        if !counted.iter().all(is_known) {
            let names = netlink.dump(&message::dump_links(), name)?;
            self.names = names.into_iter().collect();
        }
        let named = counted
            .into_iter()
            .filter_map(|(index, counters)| Some((*self.names.get(&index)?, counters)));
        let mut counted = named.collect();
        guard::correct(&mut counted)?;
        Ok(counted)
    }
}

/// The request for the counters of all devices.
#[derive(Clone)]
struct GetStats;

impl NetlinkSerializable for GetStats {
    fn message_type(&self) -> u16 {
        GET_STATS
    }

    fn buffer_len(&self) -> usize {
        STATS_HEADER
    }

    fn serialize(&self, buffer: &mut [u8]) {
        buffer.fill(0);
        let mask = buffer.iter_mut().skip(8);
        mask.zip(LINK_64.to_ne_bytes())
            .for_each(|(place, byte)| *place = byte);
    }
}

fn counters(payload: &[u8]) -> Option<(u32, Counters)> {
    let (header, attributes) = payload.split_at_checked(STATS_HEADER)?;
    let index = header.get(4..8)?.first_chunk().copied()?;
    let mut attributes = NlasIterator::new(attributes).map_while(Result::ok);
    let stats = attributes.find(|it| it.kind() == IFLA_STATS_LINK_64)?;
    Some((u32::from_ne_bytes(index), of(stats.value())?))
}

fn name(payload: &[u8]) -> Option<(u32, InterfaceName)> {
    let (header, attributes) = payload.split_at_checked(LINK_HEADER)?;
    let index = header.get(4..8)?.first_chunk().copied()?;
    let mut attributes = NlasIterator::new(attributes).map_while(Result::ok);
    let name = attributes.find(|it| it.kind() == IFLA_IFNAME)?;
    let text = std::str::from_utf8(name.value()).ok()?;
    let name = text.trim_end_matches('\0').parse().ok()?;
    Some((u32::from_ne_bytes(index), name))
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

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::process::Command;

    use nix::sched::{CloneFlags, unshare};

    use super::*;

    fn ip(arguments: &str) {
        let ip = Command::new("ip").args(arguments.split(' ')).status();
        assert!(ip.unwrap().success(), "ip {arguments}");
    }

    /// The devices that are told of, in order.
    fn told(meter: &mut Meter) -> Vec<String> {
        let told = meter.read().unwrap();
        let mut told: Vec<_> = told.keys().map(ToString::to_string).collect();
        told.sort();
        told.retain(|name| name.starts_with("meter"));
        told
    }

    #[test]
    fn a_device_that_comes_is_told_of_and_one_that_goes_no_more() {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        let mut meter = Meter::default();
        ip("link add meter0 type veth peer name meter1");
        assert_eq!(told(&mut meter), ["meter0", "meter1"]);
        ip("link add meter2 type veth peer name meter3");
        assert_eq!(told(&mut meter), ["meter0", "meter1", "meter2", "meter3"]);
        ip("link delete meter0");
        assert_eq!(told(&mut meter), ["meter2", "meter3"]);
        // The same name, another device.
        ip("link add meter0 type veth peer name meter1");
        assert_eq!(told(&mut meter), ["meter0", "meter1", "meter2", "meter3"]);
    }

    #[test]
    fn what_passed_is_counted_both_ways() {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        ip("link add meter0 type veth peer name meter1");
        ip("link set meter1 up");
        ip("link set meter0 up");
        ip("address add 192.0.2.1/24 dev meter0");
        let socket = UdpSocket::bind("192.0.2.1:0").unwrap();
        socket.set_broadcast(true).unwrap();
        for _ in 0..400 {
            // Lost until the link is up.
            let _ = socket.send_to(b"hello", "192.0.2.255:9");
            let told = read().unwrap();
            let of = |name: &str| told[&name.parse().unwrap()];
            let (here, there) = (of("meter0"), of("meter1"));
            if here.sent_packets > 0 && here.sent_packets == there.received_packets {
                assert_eq!(here.sent_bytes, there.received_bytes);
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(25));
        }
        panic!("nothing passed");
    }
}
