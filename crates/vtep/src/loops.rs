//! Loop protection: a ring that somebody closed is cut, off the WAN or at a port, before it melts both sites.
//!
//! ```text
//!   local ports ◀──probes── Detector ◀──Ground── passes over the kernel
//!        │                     │  ▲
//!        └──what comes back────┘  └── relayed, by gateways that share a segment
//!   moving stations ───────────┤  └── changes told, by gateways that cut or joined something
//!     │                        ├──────▶ Reflex: at once ───────────────┐
//!     │                        ▼                                       ▼
//!     └─ between ports ──▶ Cuts ──▶ desired state ──▶ plan ──▶ the devices' place in the bridge
//! ```
//!
//! | module | its one job |
//! |---|---|
//! | `probe` | the frame, and proof that it is our own |
//! | `ground` | the networks and ports that are protected, as the last pass saw them |
//! | `detector` | what to send, what to relay, what a frame that came back means: pure |
//! | `sentry` | the thread and the socket that do it |
//! | `cuts` | what is cut, since when and until when: kept on disk |
//!
//! Why a ring is seen by local probes alone: WAN tunnels never exchange frames with each other, so a frame that goes round
//! enters each segment through one gateway and leaves it through another one, or comes back on a local port. Somewhere a
//! gateway hears another one (or itself) on its local side. Where none does, nothing is relayed and the WAN carries no
//! probe. See ADR 0014.

mod cuts;
mod detector;
mod ground;
mod probe;
mod sentry;

pub(crate) use self::cuts::{Cut, Cuts, Place, Terms, on_disk, release_on_disk};
pub(crate) use self::ground::{Ground, Port, Protected, Wire};
pub(crate) use self::probe::{GATEWAYS, is_probe_source};
pub(crate) use self::sentry::{Sentry, can_probe};
