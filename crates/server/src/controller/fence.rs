//! The lock on a switch's database (RFC 7047 section 4.1.8): one l2gw server writes there at a time.
//!
//! Whoever has it may write, and every transaction asserts that it still has it; whoever waits for it looks on and tells
//! what it sees. The lock is not taken from anybody: an operator who has two servers on one switch finds out by the
//! status, not by rows that come and go. Servers without locks, which RFC 7047 does not allow for but switches have, are
//! written to unfenced.

use std::sync::OnceLock;

use hardware_vtep::Database;
use jiff::Timestamp;
use ovsdb::{Lock, RequestError, Session};

use crate::withheld::Withheld;

/// The lock's name.
const LOCK: &str = "l2gw";

/// Where we run, as those are told whom we lock out.
pub(super) fn this_server() -> &'static str {
    static NAME: OnceLock<String> = OnceLock::new();
    NAME.get_or_init(|| {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let host = match host.trim() {
            "" => "a host without a name",
            host => host,
        };
        format!("{host}, process {}", std::process::id())
    })
}

/// Whether we may write, as of the last look.
#[derive(Debug, Default)]
pub(super) struct Fence {
    lock: Option<Lock>,
    owned: bool,
    /// Since when we may not.
    without: Option<Without>,
}

#[derive(Clone, Copy, Debug)]
struct Without {
    /// When that was seen first.
    since: Timestamp,
    /// Whether we could write until then.
    lost: bool,
}

impl Fence {
    /// Asks for the lock on a new session, and looks who has it. False if the session is over.
    pub(super) async fn look(&mut self, session: &Session) -> bool {
        match session.lock(LOCK).await {
            Ok(lock) => {
                self.lock = Some(lock);
                self.refresh();
                true
            }
            Err(RequestError::Disconnected(_)) => false,
            Err(error) => {
                tracing::debug!(%error, "the switch database has no locks");
                *self = Self::default();
                true
            }
        }
    }

    /// Looks again who has it.
    pub(super) fn refresh(&mut self) {
        let before = std::mem::replace(
            &mut self.owned,
            self.lock.as_ref().is_some_and(Lock::is_owned),
        );
        self.without = match self.owned {
            true => None,
            false => self.without.or_else(|| {
                Some(Without {
                    since: Timestamp::now(),
                    lost: before,
                })
            }),
        };
    }

    /// What transactions are to assert.
    pub(super) fn lock(&self) -> Option<&Lock> {
        self.lock.as_ref()
    }

    /// Why nothing may be written to a database; nothing where it may. OVSDB does not tell who has a lock; the note of who
    /// wrote last does, if it was one of us.
    pub(super) fn objection(&self, held: &Database) -> Option<Withheld> {
        self.lock.as_ref()?;
        let Without { since, lost } = self.without?;
        let since = since.strftime("%Y-%m-%dT%H:%M:%SZ");
        let at_least = if lost { "since" } else { "since before" };
        let writer = match held.stamped_server() {
            Some(server) if server == this_server() => {
                "; nobody but this server has written there".to_owned()
            }
            Some(server) => format!("; who wrote there last is the l2gw server on {server}"),
            None => String::new(),
        };
        Some(Withheld::everything(format!(
            "another controller has the lock {LOCK} of the switch's database {at_least} {since}{writer}. One server writes \
             to a switch at a time: end the other one, or take the switch out of this one's --device"
        )))
    }

    /// Waits until the lock is had that was not, or the other way round.
    pub(super) async fn changes(&self) {
        match &self.lock {
            Some(lock) => lock.until(!self.owned).await,
            None => std::future::pending().await,
        }
    }
}
