//! What cannot be done to a switch, and why.

use std::fmt;

use crate::switch::{LogicalSwitchName, PortVlan};
use crate::value::Vni;

/// What is wanted and cannot be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Blocked {
    /// A binding that cannot be made.
    Binding {
        /// The port and VLAN.
        port_vlan: PortVlan,
        /// What should be bound there.
        logical_switch: LogicalSwitchName,
        /// Why it is not.
        reason: BlockedReason,
    },
    /// A network to which nothing can be added, because a logical switch of another controller has its key.
    Network {
        /// Its logical switch, there or not.
        logical_switch: LogicalSwitchName,
        /// The key.
        tunnel_key: Vni,
        /// Their logical switch.
        theirs: LogicalSwitchName,
    },
}

impl Blocked {
    /// The logical switch that it is about.
    pub fn logical_switch(&self) -> &LogicalSwitchName {
        match self {
            Self::Binding { logical_switch, .. } | Self::Network { logical_switch, .. } => {
                logical_switch
            }
        }
    }

    /// Whether it concerns a physical switch: what is said of a network concerns all that share the database.
    pub fn concerns(&self, switch: &str) -> bool {
        match self {
            Self::Binding { port_vlan, .. } => &*port_vlan.port.switch == switch,
            Self::Network { .. } => true,
        }
    }
}

/// Why a binding cannot be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BlockedReason {
    /// The switch has no such port.
    NoSuchPort,
    /// Somebody else bound the VLAN to a logical switch of theirs.
    BoundByOthers(
        /// Their logical switch.
        LogicalSwitchName,
    ),
}

/// `!` cannot be done.
impl fmt::Display for Blocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Binding {
                port_vlan,
                logical_switch,
                reason,
            } => write!(f, "! binding {port_vlan} to {logical_switch}: {reason}"),
            Self::Network {
                logical_switch,
                tunnel_key,
                theirs,
            } => write!(
                f,
                "! network {logical_switch}: {}",
                KeyTaken(*tunnel_key, theirs)
            ),
        }
    }
}

impl fmt::Display for BlockedReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchPort => f.write_str("the switch has no such port"),
            Self::BoundByOthers(theirs) => {
                write!(f, "bound to {theirs} by another controller")
            }
        }
    }
}

/// That a logical switch of another controller has a key, and what can be done, in words.
#[derive(Clone, Copy, Debug)]
pub struct KeyTaken<'a>(
    /// The key.
    pub Vni,
    /// Their logical switch.
    pub &'a LogicalSwitchName,
);

impl fmt::Display for KeyTaken<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(key, theirs) = self;
        write!(
            f,
            "logical switch {theirs} of another controller has VNI {key} too, and the two networks would be one; nothing is \
             added until it is deleted there or one of the two has another VNI"
        )
    }
}
