//! Frames as they are seen on an interface: Ethernet, and what a VXLAN packet (RFC 7348) carries inside.

use std::net::Ipv4Addr;

/// EtherType of ARP.
pub const ARP: u16 = 0x0806;
/// EtherType of IPv4.
pub const IPV4: u16 = 0x0800;
/// Protocol number of ICMP in an IPv4 header.
const ICMP: u8 = 1;
/// Protocol number of UDP in an IPv4 header.
const UDP: u8 = 17;
/// RFC 7348 section 5: the UDP port IANA gave VXLAN.
pub const VXLAN_PORT: u16 = 4789;

/// A MAC address.
pub type Mac = [u8; 6];

/// Everybody.
pub const BROADCAST: Mac = [0xff; 6];

/// The head of one Ethernet frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ethernet {
    /// Destination.
    pub to: Mac,
    /// Source.
    pub from: Mac,
    /// What the frame carries.
    pub ethertype: u16,
    /// Everything behind the header.
    pub payload: Vec<u8>,
}

/// A VXLAN packet on the underlay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vxlan {
    /// Tunnel end point that sent it.
    pub source: Ipv4Addr,
    /// Tunnel end point it goes to.
    pub destination: Ipv4Addr,
    /// VXLAN network identifier, 24 bits.
    pub vni: u32,
    /// The tenant's frame.
    pub inner: Ethernet,
}

impl Ethernet {
    /// Reads a frame without VLAN tag. `None` if it is too short.
    #[must_use]
    pub fn parse(frame: &[u8]) -> Option<Self> {
        Some(Self {
            to: *frame.first_chunk()?,
            from: *frame.get(6..)?.first_chunk()?,
            ethertype: u16::from_be_bytes(*frame.get(12..)?.first_chunk()?),
            payload: frame.get(14..)?.to_vec(),
        })
    }

    /// The frame's bytes.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        [
            &self.to[..],
            &self.from,
            &self.ethertype.to_be_bytes(),
            &self.payload,
        ]
        .concat()
    }

    /// An ARP request or answer.
    #[must_use]
    pub fn is_arp(&self) -> bool {
        self.ethertype == ARP
    }

    /// What two neighbours say to each other about the underlay itself: ARP, and ICMP such as "port unreachable" from a
    /// gateway that has no tunnel yet.
    #[must_use]
    pub fn is_underlay_control(&self) -> bool {
        self.is_arp() || (self.ethertype == IPV4 && self.payload.get(9) == Some(&ICMP))
    }

    /// The VXLAN packet in it, if that is what it is: IPv4, not a later fragment, UDP to port 4789, flag I set.
    #[must_use]
    pub fn vxlan(&self) -> Option<Vxlan> {
        let ip = &self.payload;
        let later_fragment = u16::from_be_bytes(*ip.get(6..)?.first_chunk()?) & 0x1fff != 0;
        if self.ethertype != IPV4 || *ip.get(9)? != UDP || later_fragment {
            return None;
        }
        let header_length = usize::from(ip.first()? & 0x0f) * 4;
        let udp = ip.get(header_length..)?;
        if u16::from_be_bytes(*udp.get(2..)?.first_chunk()?) != VXLAN_PORT {
            return None;
        }
        let vxlan = udp.get(8..)?;
        if vxlan.first()? & 0x08 == 0 {
            return None;
        }
        let [_, _, _, _, high, middle, low, _] = *vxlan.first_chunk()?;
        Some(Vxlan {
            source: Ipv4Addr::from(*ip.get(12..)?.first_chunk::<4>()?),
            destination: Ipv4Addr::from(*ip.get(16..)?.first_chunk::<4>()?),
            vni: u32::from_be_bytes([0, high, middle, low]),
            inner: Self::parse(vxlan.get(8..)?)?,
        })
    }
}
