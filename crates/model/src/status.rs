//! What the switches really hold of a resource, as the API shows it.

use std::fmt;

/// The state of a remote resource, read back from the switches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    /// Every switch that should hold it does.
    Active,
    /// On its way to a switch.
    Build,
    /// A switch that should hold it is away.
    Down,
    /// A switch refuses it.
    Error,
}

impl Status {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "ACTIVE",
            Self::Build => "BUILD",
            Self::Down => "DOWN",
            Self::Error => "ERROR",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A status and, unless it is [`Status::Active`], the reason in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The status.
    pub status: Status,
    /// Why it is not ACTIVE.
    pub reason: Option<String>,
}

impl Report {
    /// All switches hold it.
    pub const ACTIVE: Self = Self {
        status: Status::Active,
        reason: None,
    };

    /// A status that needs explaining.
    pub fn because(status: Status, reason: impl Into<String>) -> Self {
        Self {
            status,
            reason: Some(reason.into()),
        }
    }

    /// The worse of two, for a resource on several switches: ERROR before DOWN before BUILD before ACTIVE.
    #[must_use]
    pub fn worse(self, other: Self) -> Self {
        if other.status > self.status {
            other
        } else {
            self
        }
    }
}
