//! Names of interfaces, and the names we give to the devices of a logical switch.
//!
//! The kernel allows 15 bytes, a logical switch's name is any text: ours carry 48 bits of a hash of it, and the alias
//! (`ip -d link`) carries the text itself.

use std::fmt;
use std::str::FromStr;

use model::switch::LogicalSwitchName;
use model::value::{VlanId, Vni};
use thiserror::Error;

/// IFNAMSIZ without the terminating zero.
const LONGEST: usize = 15;

/// An interface name. Copied freely: a plan names interfaces a hundred thousand times.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InterfaceName([u8; LONGEST]);

/// A text that can name no interface.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("'{0}' is not an interface name (1 to 15 bytes, no '/' and no white space)")]
pub struct BadInterfaceName(pub String);

impl InterfaceName {
    /// No interface at all.
    pub(crate) const NONE: Self = Self([0; LONGEST]);

    /// The name as text.
    pub fn as_str(&self) -> &str {
        let end = self.0.iter().position(|b| *b == 0).unwrap_or(LONGEST);
        self.0
            .get(..end)
            .and_then(|name| std::str::from_utf8(name).ok())
            .unwrap_or_default()
    }

    /// The bridge of a logical switch.
    pub fn bridge(logical_switch: &LogicalSwitchName) -> Self {
        Self::hashed(*b"gb", fingerprint(&[logical_switch.as_str().as_bytes()]))
    }

    /// The VXLAN device towards the inside hosts of a logical switch.
    pub fn inside(logical_switch: &LogicalSwitchName) -> Self {
        Self::hashed(*b"gl", fingerprint(&[logical_switch.as_str().as_bytes()]))
    }

    /// The VXLAN device of a logical switch towards the remote gateways that share one WAN key.
    pub fn wan(logical_switch: &LogicalSwitchName, key: Vni) -> Self {
        let key = key.get().to_be_bytes();
        Self::hashed(
            *b"gw",
            fingerprint(&[logical_switch.as_str().as_bytes(), &[0], &key]),
        )
    }

    /// The device in the bridge for a VLAN of a port.
    pub fn vlan(port: Self, vlan: VlanId) -> Self {
        Self::hashed(*b"gv", Self::fingerprint_of(port, vlan))
    }

    /// Its other end, where it has one.
    pub fn outer_end(port: Self, vlan: VlanId) -> Self {
        Self::hashed(*b"go", Self::fingerprint_of(port, vlan))
    }

    fn fingerprint_of(port: Self, vlan: VlanId) -> u64 {
        let vlan = vlan.get().to_be_bytes();
        fingerprint(&[port.as_str().as_bytes(), &[0], &vlan])
    }

    /// Whether it looks like one we gave: a known prefix and twelve hexadecimal digits.
    pub(crate) fn is_of_our_making(&self) -> bool {
        let name = self.as_str();
        let digits = ["gb", "gl", "gw", "gv", "go"]
            .iter()
            .find_map(|prefix| name.strip_prefix(prefix));
        digits.is_some_and(|digits| {
            digits.len() == 12 && digits.bytes().all(|b| b.is_ascii_hexdigit())
        })
    }

    fn hashed(prefix: [u8; 2], hash: u64) -> Self {
        let mut name = [0; LONGEST];
        let digits = format!("{:012x}", hash & 0xffff_ffff_ffff);
        for (slot, byte) in name
            .iter_mut()
            .zip(prefix.into_iter().chain(digits.bytes()))
        {
            *slot = byte;
        }
        Self(name)
    }
}

/// FNV-1a, 64 bits: names must stay the same over restarts and upgrades, which the standard hasher does not promise.
pub(crate) fn fingerprint(parts: &[&[u8]]) -> u64 {
    parts
        .iter()
        .flat_map(|part| part.iter())
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        })
}

impl FromStr for InterfaceName {
    type Err = BadInterfaceName;

    fn from_str(text: &str) -> Result<Self, BadInterfaceName> {
        let allowed = |b: u8| b != b'/' && b != b':' && !b.is_ascii_whitespace() && b != 0;
        if text.is_empty()
            || text.len() > LONGEST
            || text == "."
            || text == ".."
            || !text.bytes().all(allowed)
        {
            return Err(BadInterfaceName(text.to_owned()));
        }
        let mut name = [0; LONGEST];
        for (slot, byte) in name.iter_mut().zip(text.bytes()) {
            *slot = byte;
        }
        Ok(Self(name))
    }
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_names_are_stable_and_tell_the_side() {
        let network = LogicalSwitchName::new("6f1c3f8e-1d2b-4a7e-9f5a-0c9d8e7f6a5b");
        let key = Vni::new(456).unwrap();
        assert_eq!(
            [
                InterfaceName::bridge(&network).as_str(),
                InterfaceName::inside(&network).as_str(),
                InterfaceName::wan(&network, key).as_str(),
            ],
            ["gbf6655694321c", "glf6655694321c", "gw7dd4fab561a5"]
        );
    }

    #[test]
    fn what_the_kernel_would_refuse_is_no_name() {
        for text in ["", "a/b", "a b", "sixteen-bytes-xx", ".", "..", "a:b"] {
            assert!(text.parse::<InterfaceName>().is_err(), "{text}");
        }
        assert_eq!(
            "fifteen-bytes-x".parse::<InterfaceName>().unwrap().as_str(),
            "fifteen-bytes-x"
        );
    }
}
