//! BFD (RFC 5880): whether the far ends of tunnels are there and reach us.
//!
//! ```text
//!  Tunnel rows ──wanted──▶ Engine (a thread per local address) ◀──datagrams──▶ far ends
//!                             │
//!                             └──Board: what each session says──▶ bfd_status
//! ```
//!
//! | module | its one job |
//! |---|---|
//! | [`packet`] | the control packet |
//! | [`frame`] | the frame it travels in |
//! | [`session`] | the protocol: pure |
//! | [`engine`] | sockets and time |
//! | [`memory`] | what a restart must know |
//!
//! Nothing that is forwarded depends on it: it only tells.

pub mod engine;
pub mod frame;
pub mod memory;
pub mod packet;
pub mod session;

pub use self::engine::{Board, Engine, Told, Wanted};

/// The UDP port that BFD's datagrams are steered to by the packet filter: VXLAN's own belongs to the kernel.
pub const LISTEN_PORT: u16 = 13784;
