//! The BFD control packet (RFC 5880 section 4.1), without authentication.

use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Bytes of a packet without authentication.
pub(crate) const LENGTH: usize = 24;

/// The only version there is.
const VERSION: u8 = 1;

const POLL: u8 = 0x20;
const FINAL: u8 = 0x10;
const AUTHENTICATED: u8 = 0x04;
const DEMAND: u8 = 0x02;
const MULTIPOINT: u8 = 0x01;

/// A session's state, as both ends tell each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Held down by an administrator.
    AdminDown,
    /// The other end is not heard, or has just been lost.
    Down,
    /// The other end is heard; it does not hear us yet, as far as we know.
    Init,
    /// Both hear each other.
    Up,
}

impl State {
    const fn bits(self) -> u8 {
        match self {
            Self::AdminDown => 0,
            Self::Down => 1,
            Self::Init => 2,
            Self::Up => 3,
        }
    }

    const fn of_bits(bits: u8) -> Self {
        match bits & 3 {
            0 => Self::AdminDown,
            1 => Self::Down,
            2 => Self::Init,
            _ => Self::Up,
        }
    }

    /// As `bfd_status:state` has it (vtep(5)).
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AdminDown => "admin_down",
            Self::Down => "down",
            Self::Init => "init",
            Self::Up => "up",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Why a session last left the state it was in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnostic(u8);

impl Diagnostic {
    /// Nothing happened yet.
    pub const NONE: Self = Self(0);
    /// Nothing was heard for the detection time.
    pub const EXPIRED: Self = Self(1);
    /// The other end says that it is down.
    pub const NEIGHBOUR_DOWN: Self = Self(3);
    const PATH_DOWN: Self = Self(5);
    /// What lies behind the speaker is down.
    pub const CONCATENATED_PATH_DOWN: Self = Self(6);
    /// Turned off by an administrator.
    pub const ADMINISTRATIVELY_DOWN: Self = Self(7);
    const REVERSE_CONCATENATED_PATH_DOWN: Self = Self(8);

    /// Whether who says so must not be sent traffic though it is heard.
    pub fn is_path_down(self) -> bool {
        [
            Self::PATH_DOWN,
            Self::CONCATENATED_PATH_DOWN,
            Self::REVERSE_CONCATENATED_PATH_DOWN,
        ]
        .contains(&self)
    }

    /// The words of RFC 5880 section 4.1, which vtep(5) asks for.
    pub const fn as_str(self) -> &'static str {
        match self.0 {
            0 => "No Diagnostic",
            1 => "Control Detection Time Expired",
            2 => "Echo Function Failed",
            3 => "Neighbor Signaled Session Down",
            4 => "Forwarding Plane Reset",
            5 => "Path Down",
            6 => "Concatenated Path Down",
            7 => "Administratively Down",
            8 => "Reverse Concatenated Path Down",
            _ => "Reserved",
        }
    }
}

/// A control packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ControlPacket {
    /// Why the sender last left a state.
    pub diagnostic: Diagnostic,
    /// The sender's state.
    pub state: State,
    /// The sender wants an answer to changed intervals.
    pub poll: bool,
    /// The answer.
    pub r#final: bool,
    /// The sender asks the other end to be silent while both are up.
    pub demand: bool,
    /// How many packets of the sender may be lost. Not 0.
    pub multiplier: u8,
    /// The sender's number of the session.
    pub my_discriminator: NonZeroU32,
    /// The receiver's number of the session, as far as the sender knows it; otherwise 0.
    pub your_discriminator: u32,
    /// The shortest interval at which the sender would send.
    pub desired_min_tx: Duration,
    /// The shortest interval at which the sender would receive; 0 wants nothing at all.
    pub required_min_rx: Duration,
}

/// Why bytes are no packet for us (RFC 5880 section 6.8.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Malformed {
    /// Shorter than a packet, or than it says it is.
    #[error("too short")]
    Short,
    /// Of another version.
    #[error("version {0} instead of {VERSION}")]
    Version(u8),
    /// No packet may be lost, which can't be.
    #[error("detection multiplier 0")]
    Multiplier,
    /// For many receivers.
    #[error("the multipoint bit is set")]
    Multipoint,
    /// The sender has no number for the session.
    #[error("the sender's discriminator is 0")]
    Discriminator,
    /// Authenticated, which we can't check.
    #[error("authentication is not in use")]
    Authenticated,
    /// Up or coming up without knowing whom it speaks to.
    #[error("state {0} without our discriminator")]
    Stateless(State),
}

impl ControlPacket {
    /// The packet's bytes.
    pub fn encode(&self) -> [u8; LENGTH] {
        let mut flags = self.state.bits() << 6;
        for (set, bit) in [
            (self.poll, POLL),
            (self.r#final, FINAL),
            (self.demand, DEMAND),
        ] {
            flags |= if set { bit } else { 0 };
        }
        let words = [
            u32::from_be_bytes([
                VERSION << 5 | self.diagnostic.0 & 0x1f,
                flags,
                self.multiplier,
                LENGTH.to_le_bytes()[0],
            ]),
            self.my_discriminator.get(),
            self.your_discriminator,
            microseconds(self.desired_min_tx),
            microseconds(self.required_min_rx),
            // Echo packets are not answered.
            0,
        ];
        let mut bytes = [0; LENGTH];
        for (place, word) in bytes.chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_be_bytes());
        }
        bytes
    }

    /// Reads a packet and makes the checks of RFC 5880 section 6.8.6 that need no session.
    ///
    /// # Errors
    /// The bytes are to be discarded.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let ([first, flags, multiplier, length], _) =
            bytes.split_first_chunk::<4>().ok_or(Malformed::Short)?;
        let version = first >> 5;
        if version != VERSION {
            return Err(Malformed::Version(version));
        }
        let length = usize::from(*length);
        if length < LENGTH || length > bytes.len() {
            return Err(Malformed::Short);
        }
        if *multiplier == 0 {
            return Err(Malformed::Multiplier);
        }
        if flags & MULTIPOINT != 0 {
            return Err(Malformed::Multipoint);
        }
        if flags & AUTHENTICATED != 0 {
            return Err(Malformed::Authenticated);
        }
        let word = |at: usize| {
            let bytes = bytes.get(at..)?.first_chunk().copied();
            bytes.map(u32::from_be_bytes)
        };
        let word = |at| word(at).ok_or(Malformed::Short);
        let my_discriminator = NonZeroU32::new(word(4)?).ok_or(Malformed::Discriminator)?;
        let state = State::of_bits(flags >> 6);
        let your_discriminator = word(8)?;
        if your_discriminator == 0 && matches!(state, State::Init | State::Up) {
            return Err(Malformed::Stateless(state));
        }
        Ok(Self {
            diagnostic: Diagnostic(first & 0x1f),
            state,
            poll: flags & POLL != 0,
            r#final: flags & FINAL != 0,
            demand: flags & DEMAND != 0,
            multiplier: *multiplier,
            my_discriminator,
            your_discriminator,
            desired_min_tx: Duration::from_micros(word(12)?.into()),
            required_min_rx: Duration::from_micros(word(16)?.into()),
        })
    }
}

/// Intervals are in microseconds on the wire: 71 minutes at most.
fn microseconds(interval: Duration) -> u32 {
    u32::try_from(interval.as_micros()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet() -> ControlPacket {
        ControlPacket {
            diagnostic: Diagnostic::EXPIRED,
            state: State::Init,
            poll: true,
            r#final: false,
            demand: false,
            multiplier: 3,
            my_discriminator: NonZeroU32::new(0x0102_0304).unwrap(),
            your_discriminator: 0x0506_0708,
            desired_min_tx: Duration::from_millis(300),
            required_min_rx: Duration::from_millis(1000),
        }
    }

    #[test]
    fn a_packet_is_laid_out_as_the_rfc_draws_it() {
        let bytes = packet().encode();
        let expected = [
            0x21, 0xa0, 3, 24, 1, 2, 3, 4, 5, 6, 7, 8, 0, 4, 0x93, 0xe0, 0, 0x0f, 0x42, 0x40, 0, 0,
            0, 0,
        ];
        assert_eq!(bytes, expected);
        assert_eq!(ControlPacket::decode(&bytes), Ok(packet()));
    }

    #[test]
    fn what_is_to_be_discarded_is() {
        let with = |at: usize, byte: u8| {
            let mut bytes = packet().encode();
            bytes[at] = byte;
            ControlPacket::decode(&bytes)
        };
        assert_eq!(with(0, 0x41), Err(Malformed::Version(2)));
        assert_eq!(with(1, 0xa1), Err(Malformed::Multipoint));
        assert_eq!(with(1, 0xa4), Err(Malformed::Authenticated));
        assert_eq!(with(2, 0), Err(Malformed::Multiplier));
        assert_eq!(with(3, 23), Err(Malformed::Short));
        assert_eq!(with(3, 25), Err(Malformed::Short));
        let mut nobody = packet();
        nobody.your_discriminator = 0;
        let told = ControlPacket::decode(&nobody.encode());
        assert_eq!(told, Err(Malformed::Stateless(State::Init)));
        nobody.state = State::Down;
        assert_eq!(ControlPacket::decode(&nobody.encode()), Ok(nobody));
        assert_eq!(ControlPacket::decode(&[]), Err(Malformed::Short));
        let mut anonymous = packet().encode();
        anonymous[4..8].fill(0);
        let told = ControlPacket::decode(&anonymous);
        assert_eq!(told, Err(Malformed::Discriminator));
    }
}
