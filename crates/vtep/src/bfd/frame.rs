//! How a control packet travels: inside the tunnel, as Open vSwitch and hardware switches send it (vtep(5), `Tunnel`).
//!
//! ```text
//! UDP to port 4789 │ VXLAN, key 0 │ Ethernet to 00:23:20:00:00:01 │ IPv4, TTL 255 │ UDP to port 3784 │ BFD
//! ```
//!
//! Both addresses of the inner frame belong to no station: it goes from tunnel end to tunnel end, and the key 0 belongs to
//! no network.

use std::net::Ipv4Addr;

use model::value::MacAddress;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::packet::{self, ControlPacket, Malformed};

/// RFC 5881 section 4.
const BFD_PORT: u16 = 3784;
/// RFC 5881 section 5: nobody beyond the tunnel can send with it.
const TTL: u8 = 255;
/// Internet control (CS6): not to be dropped first.
pub(super) const TRAFFIC_CLASS: u8 = 0xc0;
/// RFC 5881 section 4 wants 49152 at least, and the same for all of a session.
const SOURCE_PORT: u16 = 49152;

const VXLAN: usize = 8;
const ETHERNET: usize = 14;
const IPV4: usize = 20;
const UDP: usize = 8;
/// All in front of the control packet.
const OVERHEAD: usize = VXLAN + ETHERNET + IPV4 + UDP;
/// A datagram of ours.
pub(crate) const LENGTH: usize = OVERHEAD + packet::LENGTH;

/// VXLAN's flag I: there is a key (RFC 7348 section 5).
const HAS_KEY: u8 = 0x08;
const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];
const PROTOCOL_UDP: u8 = 17;

/// The inner frame's addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addresses {
    /// `bfd_dst_mac`.
    #[serde(with = "mac")]
    pub mac: MacAddress,
    /// `bfd_dst_ip`.
    pub ip: Ipv4Addr,
}

impl Addresses {
    /// Where other ends send to us, as Open vSwitch does it unasked (vtep(5), `bfd_config_local`).
    pub const LOCAL: Self = Self {
        mac: MacAddress::new([0x00, 0x23, 0x20, 0x00, 0x00, 0x01]),
        ip: Ipv4Addr::new(169, 254, 1, 0),
    };

    /// Where we send to other ends unless told otherwise (vtep(5), `bfd_config_remote`).
    pub const REMOTE: Self = Self {
        ip: Ipv4Addr::new(169, 254, 1, 1),
        ..Self::LOCAL
    };
}

/// A MAC address as people write it.
mod mac {
    use model::value::MacAddress;
    use serde::{Deserialize as _, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(mac: &MacAddress, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(mac)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<MacAddress, D::Error> {
        let text = String::deserialize(from)?;
        text.parse()
            .map_err(|_| de::Error::custom("no MAC address"))
    }
}

/// Why a datagram carries no control packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Stray {
    /// It ends too early.
    #[error("too short")]
    Short,
    /// A header says something else than what a control packet travels in.
    #[error("not BFD: {0}")]
    Foreign(&'static str),
    /// The packet itself is at fault.
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

/// The payload of the datagram that carries a packet from the tunnel end `local`.
pub fn encapsulate(packet: &ControlPacket, local: Ipv4Addr, to: Addresses) -> [u8; LENGTH] {
    let [a, b, c, d] = local.octets();
    let source_mac = [0x02, 0x00, a, b, c, d];
    let source_ip = Addresses::LOCAL.ip;
    let mut ip = [0; IPV4];
    let fields = [
        0x45,
        TRAFFIC_CLASS,
        0,
        (IPV4 + UDP + packet::LENGTH).to_le_bytes()[0],
        0,
        0,
        // Not to be fragmented.
        0x40,
        0,
        TTL,
        PROTOCOL_UDP,
    ];
    for (place, byte) in ip.iter_mut().zip(fields) {
        *place = byte;
    }
    for (place, byte) in ip
        .iter_mut()
        .skip(12)
        .zip(source_ip.octets().into_iter().chain(to.ip.octets()))
    {
        *place = byte;
    }
    let checksum = checksum(&ip).to_be_bytes();
    for (place, byte) in ip.iter_mut().skip(10).zip(checksum) {
        *place = byte;
    }
    let udp_length = u16::try_from(UDP + packet::LENGTH).unwrap_or(u16::MAX);
    let bytes = [HAS_KEY, 0, 0, 0, 0, 0, 0, 0]
        .into_iter()
        .chain(to.mac.octets())
        .chain(source_mac)
        .chain(ETHERTYPE_IPV4)
        .chain(ip)
        .chain(SOURCE_PORT.to_be_bytes())
        .chain(BFD_PORT.to_be_bytes())
        .chain(udp_length.to_be_bytes())
        // The outer datagram has a checksum; over IPv4 the inner one needs none (RFC 768).
        .chain([0, 0])
        .chain(packet.encode());
    let mut datagram = [0; LENGTH];
    for (place, byte) in datagram.iter_mut().zip(bytes) {
        *place = byte;
    }
    datagram
}

/// The control packet in a datagram's payload.
///
/// # Errors
/// There is none that we may take.
pub fn decapsulate(datagram: &[u8]) -> Result<ControlPacket, Stray> {
    let (vxlan, rest) = datagram.split_first_chunk::<VXLAN>().ok_or(Stray::Short)?;
    let [flags, _, _, _, key @ .., _] = vxlan;
    if flags & HAS_KEY == 0 || *key != [0; 3] {
        return Err(Stray::Foreign("another key than 0"));
    }
    let (ethernet, rest) = rest.split_first_chunk::<ETHERNET>().ok_or(Stray::Short)?;
    let [.., high, low] = ethernet;
    if [*high, *low] != ETHERTYPE_IPV4 {
        return Err(Stray::Foreign("no IPv4"));
    }
    let first = *rest.first().ok_or(Stray::Short)?;
    let header = usize::from(first & 0x0f) * 4;
    if first >> 4 != 4 || header < IPV4 {
        return Err(Stray::Foreign("no IPv4 header"));
    }
    let (ip, rest) = rest.split_at_checked(header).ok_or(Stray::Short)?;
    if checksum(ip) != 0 {
        return Err(Stray::Foreign("a wrong IPv4 checksum"));
    }
    let byte = |at: usize| ip.get(at).copied().unwrap_or_default();
    // Offset or "more fragments".
    if byte(6) & 0x3f != 0 || byte(7) != 0 {
        return Err(Stray::Foreign("a fragment"));
    }
    if byte(8) != TTL {
        return Err(Stray::Foreign(
            "a TTL below 255: it came from beyond the tunnel",
        ));
    }
    if byte(9) != PROTOCOL_UDP {
        return Err(Stray::Foreign("no UDP"));
    }
    let (udp, rest) = rest.split_first_chunk::<UDP>().ok_or(Stray::Short)?;
    let [_, _, port @ .., length_high, length_low, _, _] = udp;
    if *port != BFD_PORT.to_be_bytes() {
        return Err(Stray::Foreign("another UDP port than 3784"));
    }
    let length = usize::from(u16::from_be_bytes([*length_high, *length_low]));
    let payload = length
        .checked_sub(UDP)
        .and_then(|length| rest.get(..length));
    Ok(ControlPacket::decode(payload.ok_or(Stray::Short)?)?)
}

/// RFC 1071; over a header that has its checksum, 0.
fn checksum(header: &[u8]) -> u16 {
    let mut sum: u32 = header
        .chunks(2)
        .map(|pair| match pair {
            [high, low] => u32::from(u16::from_be_bytes([*high, *low])),
            [high] => u32::from(*high) << 8,
            _ => 0,
        })
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::super::packet::State;
    use super::super::session::{Params, Session};
    use super::*;

    fn packet() -> ControlPacket {
        let now = Instant::now();
        let mut session = Session::new(Params::default(), std::num::NonZeroU32::MIN, now);
        session.tick(now, 0.0).unwrap()
    }

    fn datagram() -> [u8; LENGTH] {
        encapsulate(&packet(), Ipv4Addr::new(192, 0, 2, 1), Addresses::REMOTE)
    }

    #[test]
    fn a_packet_comes_out_as_it_went_in() {
        assert_eq!(decapsulate(&datagram()), Ok(packet()));
        assert_eq!(packet().state, State::Down);
    }

    #[test]
    fn the_frame_is_what_open_vswitch_sends_but_for_the_sender() {
        let datagram = datagram();
        assert_eq!(datagram[..8], [8, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(datagram[8..14], [0, 0x23, 0x20, 0, 0, 1]);
        assert_eq!(datagram[14..20], [2, 0, 192, 0, 2, 1]);
        assert_eq!(datagram[38..42], [169, 254, 1, 1]);
        assert_eq!(datagram[44..46], 3784_u16.to_be_bytes());
    }

    #[test]
    fn whatever_else_comes_is_discarded_with_a_reason() {
        let with = |at: usize, byte: u8| {
            let mut datagram = datagram();
            datagram[at] = byte;
            decapsulate(&datagram).unwrap_err().to_string()
        };
        assert_eq!(with(6, 1), "not BFD: another key than 0");
        assert_eq!(with(20, 0x86), "not BFD: no IPv4");
        assert_eq!(with(30, 64), "not BFD: a wrong IPv4 checksum");
        assert_eq!(with(45, 0), "not BFD: another UDP port than 3784");
        assert_eq!(with(52, 0), "detection multiplier 0");
        assert_eq!(decapsulate(&datagram()[..60]), Err(Stray::Short));
        // One that was routed into the tunnel: the checksum is right.
        let mut routed = datagram();
        routed[30] = 254;
        routed[32..34].fill(0);
        let sum = checksum(&routed[22..42]).to_be_bytes();
        routed[32..34].copy_from_slice(&sum);
        let told = decapsulate(&routed).unwrap_err().to_string();
        assert!(told.contains("beyond the tunnel"), "{told}");
    }
}
