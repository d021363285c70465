//! What went through each tunnel to a remote gateway, and what was kept out, as the packet filter counts it.
//!
//! A VXLAN device serves all remote gateways of its network and key, and counts them together. The packet filter tells them
//! apart anyway, to know whom it lets in: its sets count by element. So the counts are the kernel's, begin with a tunnel's
//! being declared, end with it, and go on while the switch is stopped, killed, restarted or upgraded. A table that somebody
//! else removes takes them along.

use std::collections::BTreeMap;
use std::io;

use serde::Serialize;

use super::desired::NodeConfig;
use super::elements::{self, Family};
use super::filter::{KEYS, SENT, STEERED_KEYS, WAN};
use super::netns::Underlays;
use super::state::Peer;
use super::storm;
use super::underlay::{End, Side};

pub use super::elements::Count;

/// What was counted on the way to and from remote gateways.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// By remote gateway and key.
    pub tunnels: BTreeMap<Peer, TunnelTraffic>,
    /// By whom a key is for, and key: packets with the key of a network from an address that is not declared for it.
    pub undeclared: BTreeMap<(Side, u32), u64>,
}

/// What was counted of a tunnel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TunnelTraffic {
    /// What came from the remote gateway and was let in.
    pub received: Count,
    /// What was sent to it.
    pub sent: Count,
    /// Packets that were not flooded to it, beyond the limit.
    pub flood_dropped: u64,
}

impl Traffic {
    /// As it is now.
    ///
    /// # Errors
    /// The kernel can't be talked to, or an underlay is gone.
    pub fn read(underlays: &Underlays, config: &NodeConfig) -> io::Result<Self> {
        let mut traffic = Self::default();
        for end in config.ends() {
            let undeclared = underlays.at(end.underlay, || undeclared(end))?;
            let undeclared = undeclared.into_iter();
            let packets = undeclared.map(|(key, count)| ((end.side, key), count.packets));
            traffic.undeclared.extend(packets);
        }
        let wan = config.wan_underlay;
        let (received, sent, dropped) = underlays.at(wan, || {
            let received = elements::counted::<Peer>(Family::Inet, WAN)?;
            Ok((
                received,
                elements::counted(Family::Inet, SENT)?,
                storm::dropped()?,
            ))
        })?;
        // There is one for each tunnel, and none for BFD, which counts itself.
        for (tunnel, sent) in sent {
            let counted = TunnelTraffic {
                received: received.get(&tunnel).copied().unwrap_or_default(),
                sent,
                flood_dropped: dropped.get(&tunnel).map_or(0, |count| count.packets),
            };
            traffic.tunnels.insert(tunnel, counted);
        }
        Ok(traffic)
    }
}

/// With keys of the devices at an end, from others than its far ends.
fn undeclared(end: End) -> io::Result<BTreeMap<u32, Count>> {
    let set = match end.has_vxlan_port() {
        true => KEYS,
        false => STEERED_KEYS,
    };
    elements::counted(Family::Inet, set)
}

/// What the elements of each set whose elements are stated have counted, for a table that takes this one's place.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(super) tunnels: BTreeMap<&'static str, BTreeMap<Peer, Count>>,
    pub(super) keys: BTreeMap<&'static str, BTreeMap<u32, Count>>,
}

impl Counts {
    /// In the calling thread's network namespace; nothing where there is no table of ours.
    ///
    /// # Errors
    /// The kernel can't be talked to.
    pub(crate) fn read() -> io::Result<Self> {
        let mut counts = Self::default();
        for name in [WAN, SENT] {
            counts
                .tunnels
                .insert(name, elements::counted(Family::Inet, name)?);
        }
        for name in [KEYS, STEERED_KEYS] {
            counts
                .keys
                .insert(name, elements::counted(Family::Inet, name)?);
        }
        Ok(counts)
    }
}
