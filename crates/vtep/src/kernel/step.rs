//! One change to the kernel: what it is, what it does to a [`KernelState`](super::state::KernelState) (`effect`), and how
//! people read it (`words`).

mod effect;
mod words;

use std::net::{IpAddr, Ipv4Addr};

use model::value::MacAddress;

use super::guard::Guard;
use super::name::InterfaceName;
use super::state::{
    Bridge, BridgeSettings, Destination, Filter, HostSide, Link, PortFlags, Vxlan, VxlanIdentity,
};
use super::underlay::Underlay;
use super::vlan::{Steering, VlanShape};

pub(super) use self::effect::FRESH;

/// One change to the kernel. Each is idempotent and names everything it needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Take bridged frames out of the host's packet filter.
    BypassBridgeNetfilter,
    /// Delete a device of ours, with all that hangs on it.
    DeleteDevice(InterfaceName),
    /// Put the whole packet filter of an underlay in place, in one transaction.
    ReplaceFilter(Underlay, Box<Filter>),
    /// Let peers in or shut them out, in one transaction.
    ChangeFilter {
        /// Into which underlay.
        underlay: Underlay,
        /// What to add to the sets.
        add: Box<Filter>,
        /// What to take from the sets.
        remove: Box<Filter>,
    },
    /// Remove the packet filter of an underlay.
    RemoveFilter(Underlay),
    /// Put the guard of ports in place, in one transaction, or remove it.
    PutGuard(Option<Box<Guard>>),
    /// Create a bridge, down.
    CreateBridge(InterfaceName, Box<BridgeShape>),
    /// Change a bridge on the fly.
    ChangeBridge {
        /// Its name.
        name: InterfaceName,
        /// What it is.
        was: Box<BridgeShape>,
        /// What it should be.
        shape: Box<BridgeShape>,
    },
    /// Create a VXLAN device, down and in no bridge.
    CreateVxlan(InterfaceName, Box<VxlanShape>),
    /// Change a VXLAN device on the fly.
    ChangeVxlan {
        /// Its name.
        name: InterfaceName,
        /// What it is.
        was: Box<VxlanShape>,
        /// What it should be.
        shape: Box<VxlanShape>,
    },
    /// Create the device of a VLAN, with its other end if it has one, down and in no bridge.
    CreateVlan(InterfaceName, Box<VlanShape>),
    /// Change name and size of the device of a VLAN.
    ChangeVlan {
        /// Its name.
        name: InterfaceName,
        /// What it is.
        was: Box<Link>,
        /// What it should be.
        link: Box<Link>,
    },
    /// Set where a program takes what arrives on an interface.
    Steer(InterfaceName, Box<Steering>),
    /// Set how the host's own network stack sees a device.
    SetHostSide(InterfaceName, HostSide),
    /// Make an interface a port of a bridge. Its port flags are the default again.
    Attach {
        /// The interface.
        interface: InterfaceName,
        /// The bridge.
        bridge: InterfaceName,
    },
    /// Take an interface out of a bridge of ours.
    Detach {
        /// The interface.
        interface: InterfaceName,
        /// The bridge.
        bridge: InterfaceName,
    },
    /// Set what a bridge port does.
    SetPortFlags(InterfaceName, PortFlags),
    /// Set an interface up.
    BringUp(InterfaceName),
    /// Cut a port, which is up, off its bridge, or join it again. What was learnt on it is forgotten.
    SetCut(InterfaceName, bool),
    /// Say where frames to a station go.
    PutStation {
        /// The VXLAN device.
        port: InterfaceName,
        /// The station.
        mac: MacAddress,
        /// What to set in the device's forwarding database.
        destination: Option<Destination>,
        /// Whether to pin the station to this port of the bridge.
        pin: bool,
    },
    /// Take back where frames to a station go.
    RemoveStation {
        /// The VXLAN device.
        port: InterfaceName,
        /// The station.
        mac: MacAddress,
        /// Whether to remove it from the device's forwarding database.
        forget: bool,
        /// Whether to remove it from the bridge's.
        unpin: bool,
    },
    /// Send frames of unknown destination there too.
    AddFlood(InterfaceName, Destination),
    /// Stop sending frames of unknown destination there.
    RemoveFlood(InterfaceName, Destination),
    /// Let a bridge answer for an address.
    PutNeighbour {
        /// The bridge.
        bridge: InterfaceName,
        /// The address.
        ip: IpAddr,
        /// Whose it is.
        mac: MacAddress,
    },
    /// Let a bridge no longer answer for an address.
    RemoveNeighbour {
        /// The bridge.
        bridge: InterfaceName,
        /// The address.
        ip: IpAddr,
    },
}

/// What one message sets of a bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BridgeShape {
    /// Name and size.
    pub link: Link,
    /// The bridge's own behaviour.
    pub settings: BridgeSettings,
}

/// What one message sets of a VXLAN device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VxlanShape {
    /// Name and size.
    pub link: Link,
    /// Underlay, key and UDP port.
    pub identity: VxlanIdentity,
    /// Source address.
    pub local: Option<Ipv4Addr>,
    /// Whether it learns.
    pub learning: bool,
}

impl Bridge {
    /// What one message sets of it.
    pub fn shape(&self) -> BridgeShape {
        BridgeShape {
            link: self.link.clone(),
            settings: self.settings.clone(),
        }
    }
}

impl Vxlan {
    /// What one message sets of it.
    pub fn shape(&self) -> VxlanShape {
        VxlanShape {
            link: self.link.clone(),
            identity: self.identity,
            local: self.local,
            learning: self.learning,
        }
    }
}

impl Step {
    /// The interface the step is about, if one.
    pub fn interface(&self) -> Option<InterfaceName> {
        match self {
            Self::BypassBridgeNetfilter
            | Self::ReplaceFilter(..)
            | Self::ChangeFilter { .. }
            | Self::RemoveFilter(_)
            | Self::PutGuard(_) => None,
            Self::DeleteDevice(name)
            | Self::CreateBridge(name, _)
            | Self::ChangeBridge { name, .. }
            | Self::CreateVxlan(name, _)
            | Self::ChangeVxlan { name, .. }
            | Self::CreateVlan(name, _)
            | Self::ChangeVlan { name, .. }
            | Self::Steer(name, _)
            | Self::SetHostSide(name, _)
            | Self::SetPortFlags(name, _)
            | Self::SetCut(name, _)
            | Self::BringUp(name)
            | Self::AddFlood(name, _)
            | Self::RemoveFlood(name, _) => Some(*name),
            Self::Attach { interface, .. } | Self::Detach { interface, .. } => Some(*interface),
            Self::PutStation { port, .. } | Self::RemoveStation { port, .. } => Some(*port),
            Self::PutNeighbour { bridge, .. } | Self::RemoveNeighbour { bridge, .. } => {
                Some(*bridge)
            }
        }
    }
}
