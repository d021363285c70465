//! Where tunnels run: the network namespace that has a VXLAN device's UDP socket, and our ends of tunnels there.
//!
//! A device is a port of a bridge in the switch's own network namespace; what it encapsulates is sent and received in its
//! underlay. Towards inside hosts that is the switch's own. Towards remote gateways it is that, too, with a UDP port of its
//! own, or another network namespace, where VXLAN's port is free: either way a WAN key may equal any inside key. Which of
//! them is said once, by [`NodeConfig::wan_underlay`]; all else follows from [`NodeConfig::ends`].

use std::fmt;
use std::net::Ipv4Addr;

use serde::Serialize;

use super::desired::{NodeConfig, VXLAN_PORT, WAN_LISTEN_PORT};
use super::state::VxlanIdentity;

/// The network namespace of a tunnel's packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Underlay {
    /// The switch's own.
    #[default]
    Own,
    /// The one that has this number in the switch's own (IFLA_LINK_NETNSID; `ip netns list-id`).
    Other(i32),
}

/// Who is at the far ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// Inside hosts.
    Inside,
    /// Remote gateways.
    Wan,
}

/// Our end of all tunnels of a side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// Who is at the far ends.
    pub side: Side,
    /// Where it is.
    pub underlay: Underlay,
    /// Our address there.
    pub ip: Ipv4Addr,
    /// The UDP port its VXLAN devices listen on.
    pub udp_port: u16,
}

impl Side {
    /// As metrics and people name it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Inside => "inside",
            Self::Wan => "wan",
        }
    }

    /// The option that says our address.
    pub(crate) const fn option(self) -> &'static str {
        match self {
            Self::Inside => "--tunnel-ip",
            Self::Wan => "--wan-ip",
        }
    }
}

impl End {
    /// Whether its devices have VXLAN's own port; if not, frames must be steered to them.
    pub(super) fn has_vxlan_port(&self) -> bool {
        self.udp_port == VXLAN_PORT
    }
}

impl NodeConfig {
    /// Our ends of tunnels. In one underlay they differ in their port.
    pub fn ends(&self) -> [End; 2] {
        [self.end(Side::Inside), self.end(Side::Wan)]
    }

    /// Our end of the tunnels of a side.
    pub fn end(&self, side: Side) -> End {
        match side {
            Side::Inside => End {
                side,
                underlay: Underlay::Own,
                ip: self.tunnel_ip,
                udp_port: VXLAN_PORT,
            },
            Side::Wan => End {
                side,
                underlay: self.wan_underlay,
                ip: self.wan_ip,
                udp_port: match self.wan_underlay {
                    Underlay::Own => WAN_LISTEN_PORT,
                    Underlay::Other(_) => VXLAN_PORT,
                },
            },
        }
    }
}

impl VxlanIdentity {
    /// Whom its tunnels lead to: whatever has not the socket of inside devices leads to remote gateways.
    pub fn side(&self) -> Side {
        match (self.underlay, self.udp_port) {
            (Underlay::Own, VXLAN_PORT) => Side::Inside,
            _ => Side::Wan,
        }
    }
}

impl fmt::Display for Underlay {
    /// As the end of a sentence about something; nothing of the switch's own.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own => Ok(()),
            Self::Other(number) => write!(f, " in netns id {number}"),
        }
    }
}
