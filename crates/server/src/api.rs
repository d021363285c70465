//! The REST API, derived from the resource table.
//!
//! ```text
//!  request ─▶ router ─▶ body | query ─▶ model::validate ─▶ store (rules run in the transaction) ─▶ model::encode ─▶ reply
//! ```
//!
//! Rules:
//! - Nothing here knows an attribute; what is special about one kind of resource is in [`crate::rules`].
//! - Every refusal is a [`model::fault::Fault`] and leaves as a NeutronError body, also where no handler was reached.
//! - Every reply carries `x-openstack-request-id`, and so does the one line that the log has of each request.
//! - Memory does not grow with a list, and a slow client holds neither a thread nor a database snapshot.
//!
//! | module | its one job |
//! |---|---|
//! | `router` | paths to handlers |
//! | `around` | what happens around every request: its id, the log, the audit log |
//! | `handlers` | what create, show, update, delete and list do |
//! | `body` | request bodies: limits, wrappers, one object at a time |
//! | `room` | how much memory the bodies of all requests may take together |
//! | `once` | JSON without duplicate keys |
//! | `query` | query parameters |
//! | `list` | lists, streamed from the database to the socket |
//! | `errors` | faults as replies |
//! | `caller` | who asks |
//! | `devices` | what the controllers tell of physical switches |
//! | `quotas` | how many resources a project may have |
//! | `openapi` | the API described by itself |
//! | `discovery` | versions, resources and extensions |

mod around;
mod body;
mod caller;
mod devices;
mod discovery;
mod errors;
mod handlers;
mod list;
mod once;
pub mod openapi;
mod query;
mod quotas;
mod room;
mod router;

use std::sync::Arc;
use std::time::Duration;

use model::row::Row;
use model::status::Report;
use store::Store;

use crate::audit::Audit;
use crate::auth::Auth;
use crate::rules::Rules;
use crate::status::Board;

pub(crate) use self::around::{REQUEST_ID, new_request_id};
pub(crate) use self::errors::{Refused, method_not_allowed};
pub use self::room::Bodies;
pub use self::router::router;

/// What the handlers work with.
#[derive(Clone)]
pub struct Api {
    /// Where everything is kept.
    pub store: Store,
    /// What the switches hold of a resource.
    pub report: Arc<dyn Fn(&Row) -> Report + Send + Sync>,
    /// What the controllers tell.
    pub board: Arc<Board>,
    /// Who asks, and what they may do.
    pub auth: Arc<Auth>,
    /// What is checked within a write.
    pub rules: Rules,
    /// Where changes are recorded, if they are.
    pub audit: Option<Audit>,
    /// Bounds for request bodies, and the room they have.
    pub bodies: Bodies,
}

/// Bounds for request bodies.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Largest body, in bytes.
    pub body: usize,
    /// Largest sum of the bodies of requests that are under way, in bytes; small bodies do not count.
    pub bodies: usize,
    /// Longest time that a body waits for its room among these.
    pub room_within: Duration,
    /// Longest time without a byte of a body that was announced.
    pub silence: Duration,
    /// Slowest pace of a body over all the time it takes beyond that, in bytes a second.
    pub pace: u32,
    /// The same while others wait for room.
    pub crowded_pace: u32,
}

impl Limits {
    /// A bulk of 100,000 MACs is about 9 MB. Clients and proxies wait for an answer for a minute, most of them.
    pub const DEFAULT: Self = Self {
        body: 64 << 20,
        bodies: 128 << 20,
        room_within: Duration::from_secs(30),
        silence: Duration::from_secs(30),
        pace: 16 << 10,
        crowded_pace: 1 << 20,
    };
}
