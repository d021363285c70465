//! The field's value types. Each is valid by construction and prints in the one form the API and the switch both use.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use thiserror::Error;

/// An EUI-48 address (IEEE 802). Prints as six lower-case hexadecimal pairs joined by colons.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddress([u8; 6]);

impl MacAddress {
    /// An address from its six octets in transmission order.
    pub const fn new(octets: [u8; 6]) -> Self {
        Self(octets)
    }

    /// The six octets in transmission order.
    pub const fn octets(self) -> [u8; 6] {
        self.0
    }

    /// Whether one station can own this address: the group bit is clear (so neither multicast nor broadcast) and it is
    /// not all zero, which VXLAN forwarding databases use as "every unknown destination".
    pub const fn is_unicast(self) -> bool {
        let [first, ..] = self.0;
        first & 1 == 0 && u64::from_be_bytes(self.widened()) != 0
    }

    /// The address as the low 48 bits of an integer; the form the database keeps.
    pub const fn to_u64(self) -> u64 {
        u64::from_be_bytes(self.widened())
    }

    /// The address from the low 48 bits of an integer; higher bits are ignored.
    pub const fn from_u64(value: u64) -> Self {
        let [_, _, a, b, c, d, e, f] = value.to_be_bytes();
        Self([a, b, c, d, e, f])
    }

    const fn widened(self) -> [u8; 8] {
        let [a, b, c, d, e, f] = self.0;
        [0, 0, a, b, c, d, e, f]
    }

    /// Writes the printed form (17 bytes) without allocating.
    pub fn encode(self, buffer: &mut [u8; 17]) -> &str {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let digit = |nibble: u8| HEX.get(usize::from(nibble)).copied().unwrap_or(b'0');
        for (place, octet) in buffer.chunks_mut(3).zip(self.0) {
            for (slot, byte) in place
                .iter_mut()
                .zip([digit(octet >> 4), digit(octet & 15), b':'])
            {
                *slot = byte;
            }
        }
        std::str::from_utf8(buffer).unwrap_or_default()
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.encode(&mut [0; 17]))
    }
}

/// A text that is no MAC address.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("'{0}' is not a valid MAC address.")]
pub struct BadMac(pub String);

impl FromStr for MacAddress {
    type Err = BadMac;

    /// Accepts the spellings operators paste: `00:11:22:aa:bb:cc`, `00-11-22-AA-BB-CC`, `0011.22aa.bbcc`,
    /// `001122aabbcc`, in either case.
    fn from_str(text: &str) -> Result<Self, BadMac> {
        let bad = || BadMac(text.to_owned());
        let (width, separator) = match *text.as_bytes() {
            [_, _, separator @ (b':' | b'-'), ..] => (2, separator),
            [_, _, _, _, b'.', ..] => (4, b'.'),
            _ => (12, 0),
        };
        // Digits, and the separator between them.
        if text.len() != 12 + 12 / width - 1 {
            return Err(bad());
        }
        let mut value = 0_u64;
        for (place, byte) in text.bytes().enumerate() {
            if place % (width + 1) == width {
                if byte != separator {
                    return Err(bad());
                }
            } else {
                let digit = char::from(byte).to_digit(16).ok_or_else(bad)?;
                value = value << 4 | u64::from(digit);
            }
        }
        Ok(Self::from_u64(value))
    }
}

/// A VXLAN network identifier, 1 to 16777215 (RFC 7348 section 5: 24 bits; 0 is not used on the wire here).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Vni(std::num::NonZeroU32);

impl Vni {
    /// The largest identifier.
    pub const MAX: u32 = (1 << 24) - 1;

    /// The identifier, unless it is 0 or wider than 24 bits.
    pub const fn new(value: u32) -> Option<Self> {
        match std::num::NonZeroU32::new(value) {
            Some(value) if value.get() <= Self::MAX => Some(Self(value)),
            _ => None,
        }
    }

    /// The identifier as a number.
    pub const fn get(self) -> u32 {
        self.0.get()
    }
}

impl fmt::Display for Vni {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A VLAN identifier of a port binding: 1 to 4094 tagged (IEEE 802.1Q), 0 for untagged frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VlanId(u16);

impl VlanId {
    /// Untagged frames (`Physical_Port.vlan_bindings` key 0).
    pub const UNTAGGED: Self = Self(0);
    /// The largest identifier; 4095 is reserved.
    pub const MAX: u16 = 4094;

    /// The identifier, unless it is above 4094.
    pub const fn new(value: u16) -> Option<Self> {
        if value <= Self::MAX {
            Some(Self(value))
        } else {
            None
        }
    }

    /// The identifier as a number.
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl fmt::Display for VlanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Whether a tunnel can end at this address: neither unspecified, loopback, multicast, broadcast nor reserved
/// (`0.0.0.0/8`, `127.0.0.0/8`, `224.0.0.0/4`, `240.0.0.0/4`).
pub const fn is_tunnel_endpoint(ip: Ipv4Addr) -> bool {
    let [first, ..] = ip.octets();
    first != 0 && first != 127 && first < 224
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_common_spelling_of_a_mac_address_is_read() {
        for text in [
            "00:11:22:aa:bb:cc",
            "00-11-22-AA-BB-CC",
            "0011.22aa.bbcc",
            "001122aabbcc",
        ] {
            assert_eq!(
                text.parse::<MacAddress>().unwrap().to_string(),
                "00:11:22:aa:bb:cc"
            );
        }
    }

    #[test]
    fn what_is_no_mac_address_is_named() {
        for text in [
            "",
            "00:11:22:aa:bb",
            "00:11:22:aa:bb:cc:dd",
            "00:11:22:aa:bb:c",
            "00:11:22:aa:bb:+c",
            "0g:11:22:aa:bb:cc",
            "00:11-22:aa:bb:cc",
            "é0:11:22:aa:bb:cc",
        ] {
            assert_eq!(text.parse::<MacAddress>(), Err(BadMac(text.to_owned())));
        }
    }

    #[test]
    fn groups_and_zero_are_not_unicast() {
        let unicast = |t: &str| t.parse::<MacAddress>().unwrap().is_unicast();
        assert!(unicast("00:11:22:33:44:55"));
        assert!(!unicast("01:00:5e:00:00:01"));
        assert!(!unicast("ff:ff:ff:ff:ff:ff"));
        assert!(!unicast("00:00:00:00:00:00"));
    }

    #[test]
    fn numbers_out_of_range_are_refused() {
        assert_eq!(Vni::new(0), None);
        assert_eq!(Vni::new(Vni::MAX).map(Vni::get), Some(16_777_215));
        assert_eq!(Vni::new(Vni::MAX + 1), None);
        assert_eq!(VlanId::new(4094).map(VlanId::get), Some(4094));
        assert_eq!(VlanId::new(4095), None);
    }

    #[test]
    fn tunnels_end_at_hosts_only() {
        for (ip, right) in [
            ("10.0.0.1", true),
            ("223.255.255.254", true),
            ("0.0.0.0", false),
            ("127.0.0.1", false),
            ("224.0.0.1", false),
            ("255.255.255.255", false),
        ] {
            assert_eq!(is_tunnel_endpoint(ip.parse().unwrap()), right, "{ip}");
        }
    }

    proptest! {
        #[test]
        fn a_mac_address_survives_printing_and_packing(octets: [u8; 6]) {
            let mac = MacAddress::new(octets);
            prop_assert_eq!(mac.to_string().parse(), Ok(mac));
            prop_assert_eq!(MacAddress::from_u64(mac.to_u64()), mac);
        }
    }
}
