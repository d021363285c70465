//! What the elements of the packet filter's sets have counted, asked of the kernel itself (nfnetlink, NFT_MSG_GETSETELEM):
//! thousands of them are read more often than a program should be started for.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::Ipv4Addr;

use netlink_packet_core::{NetlinkSerializable, NlasIterator};
use netlink_sys::protocols::NETLINK_NETFILTER;
use nix::errno::Errno;
use serde::Serialize;

use super::name::InterfaceName;
use super::netlink::{KernelError, Netlink};
use super::state::Peer;

/// Of all our tables.
const TABLE: &str = "l2gw";

/// NFNL_SUBSYS_NFTABLES and NFT_MSG_GETSETELEM.
const GET_ELEMENTS: u16 = 10 << 8 | 13;
/// `struct nfgenmsg`: the family, a version and a number that is not used here.
const HEADER: usize = 4;
/// `struct nlattr`.
const ATTRIBUTE_HEADER: usize = 4;

const NFTA_SET_ELEM_LIST_TABLE: u16 = 1;
const NFTA_SET_ELEM_LIST_SET: u16 = 2;
const NFTA_SET_ELEM_LIST_ELEMENTS: u16 = 3;
const NFTA_SET_ELEM_KEY: u16 = 1;
const NFTA_SET_ELEM_EXPR: u16 = 7;
const NFTA_SET_ELEM_EXPRESSIONS: u16 = 11;
const NFTA_LIST_ELEM: u16 = 1;
const NFTA_DATA_VALUE: u16 = 1;
const NFTA_EXPR_NAME: u16 = 1;
const NFTA_EXPR_DATA: u16 = 2;
const NFTA_COUNTER_BYTES: u16 = 1;
const NFTA_COUNTER_PACKETS: u16 = 2;

/// Which of our tables.
#[derive(Clone, Copy, Debug)]
pub(super) enum Family {
    /// NFPROTO_INET: the filter of an underlay.
    Inet = 1,
    /// NFPROTO_BRIDGE: the guard of ports.
    Bridge = 7,
}

/// Packets, as the network stack handles them: what an interface joined or will cut up counts once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Count {
    /// How many.
    pub packets: u64,
    /// Their bytes: of tunnels from the outer IP header on.
    pub bytes: u64,
}

/// As a script states what an element begins to count from (nft(8), counter statement).
impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { packets, bytes } = self;
        write!(f, "counter packets {packets} bytes {bytes}")
    }
}

/// What identifies an element of a set.
pub(super) trait Key: Ord + Sized {
    /// From the registers of the kernel: each part begins at a multiple of four bytes and is in the order of the wire.
    fn parse(bytes: &[u8]) -> Option<Self>;
}

impl Key for u32 {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let [a, b, c] = bytes.first_chunk()?;
        Some(Self::from_be_bytes([0, *a, *b, *c]))
    }
}

impl Key for Peer {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let (ip, vni) = bytes.split_first_chunk::<4>()?;
        Some(Self {
            ip: Ipv4Addr::from(*ip),
            vni: u32::parse(vni)?,
        })
    }
}

impl Key for InterfaceName {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let name = std::str::from_utf8(bytes).ok()?;
        name.trim_end_matches('\0').parse().ok()
    }
}

/// What each element of a set of ours has counted, in the calling thread's network namespace; nothing where there is no
/// such set, and nothing of elements that don't count.
///
/// # Errors
/// The kernel can't be talked to.
pub(super) fn counted<K: Key>(family: Family, set: &str) -> io::Result<BTreeMap<K, Count>> {
    let mut netlink = Netlink::open_to(NETLINK_NETFILTER)?;
    match netlink.dump(&GetElements::of(family, set), |payload| {
        Some(listed(payload))
    }) {
        Ok(messages) => Ok(messages.into_iter().flatten().collect()),
        Err(error) if is_absent(&error) => Ok(BTreeMap::new()),
        Err(error) => Err(error),
    }
}

fn is_absent(error: &io::Error) -> bool {
    let refusal = error.get_ref().and_then(|it| it.downcast_ref());
    refusal.is_some_and(|it: &KernelError| it.errno == Errno::ENOENT)
}

/// The request for all elements of a set.
#[derive(Clone)]
struct GetElements(Vec<u8>);

impl GetElements {
    fn of(family: Family, set: &str) -> Self {
        let mut payload = vec![family as u8, 0, 0, 0];
        for (kind, name) in [
            (NFTA_SET_ELEM_LIST_TABLE, TABLE),
            (NFTA_SET_ELEM_LIST_SET, set),
        ] {
            // With the zero behind the name.
            let length = u16::try_from(ATTRIBUTE_HEADER + name.len() + 1).unwrap_or_default();
            payload.extend(length.to_ne_bytes());
            payload.extend(kind.to_ne_bytes());
            payload.extend(name.as_bytes());
            payload.push(0);
            payload.resize(payload.len().next_multiple_of(4), 0);
        }
        Self(payload)
    }
}

impl NetlinkSerializable for GetElements {
    fn message_type(&self) -> u16 {
        GET_ELEMENTS
    }

    fn buffer_len(&self) -> usize {
        self.0.len()
    }

    fn serialize(&self, buffer: &mut [u8]) {
        for (place, byte) in buffer.iter_mut().zip(&self.0) {
            *place = *byte;
        }
    }
}

fn listed<K: Key>(payload: &[u8]) -> Vec<(K, Count)> {
    let attributes = payload.get(HEADER..).unwrap_or_default();
    let elements = attribute(attributes, NFTA_SET_ELEM_LIST_ELEMENTS).unwrap_or_default();
    all(elements, NFTA_LIST_ELEM).filter_map(element).collect()
}

fn element<K: Key>(element: &[u8]) -> Option<(K, Count)> {
    let key = attribute(element, NFTA_SET_ELEM_KEY)?;
    let key = K::parse(attribute(key, NFTA_DATA_VALUE)?)?;
    // One expression stands by itself, several in a list.
    let several = attribute(element, NFTA_SET_ELEM_EXPRESSIONS).unwrap_or_default();
    let mut expressions = all(element, NFTA_SET_ELEM_EXPR).chain(all(several, NFTA_LIST_ELEM));
    Some((key, expressions.find_map(counter)?))
}

fn counter(expression: &[u8]) -> Option<Count> {
    let name = attribute(expression, NFTA_EXPR_NAME)?;
    if name.strip_suffix(&[0]).unwrap_or(name) != b"counter" {
        return None;
    }
    let data = attribute(expression, NFTA_EXPR_DATA)?;
    let number = |kind| {
        let bytes = attribute(data, kind)?.first_chunk().copied();
        bytes.map(u64::from_be_bytes)
    };
    Some(Count {
        packets: number(NFTA_COUNTER_PACKETS)?,
        bytes: number(NFTA_COUNTER_BYTES)?,
    })
}

fn attribute(attributes: &[u8], kind: u16) -> Option<&[u8]> {
    all(attributes, kind).next()
}

fn all(attributes: &[u8], kind: u16) -> impl Iterator<Item = &[u8]> {
    let attributes = NlasIterator::new(attributes).map_while(Result::ok);
    attributes
        .filter(move |attribute| attribute.kind() == kind)
        .filter_map(|attribute| {
            let end = usize::from(attribute.length());
            attribute.into_inner().get(ATTRIBUTE_HEADER..end)
        })
}
