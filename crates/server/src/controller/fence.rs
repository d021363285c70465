//! The lock on a switch's database (RFC 7047 section 4.1.8): one l2gw server writes there at a time.
//!
//! Whoever has it may write, and every transaction asserts that it still has it; whoever waits for it looks on and tells
//! what it sees. The lock is not taken from anybody: an operator who has two servers on one switch finds out by the
//! status, not by rows that come and go. Servers without locks, which RFC 7047 does not allow for but switches have, are
//! written to unfenced.

use ovsdb::{Lock, RequestError, Session};

use crate::withheld::Withheld;

/// The lock's name.
const LOCK: &str = "l2gw";

/// Whether we may write, as of the last look.
#[derive(Debug, Default)]
pub(super) struct Fence {
    lock: Option<Lock>,
    owned: bool,
}

impl Fence {
    /// Asks for the lock on a new session, and looks who has it. False if the session is over.
    pub(super) async fn look(&mut self, session: &Session) -> bool {
        match session.lock(LOCK).await {
            Ok(lock) => {
                let owned = lock.is_owned();
                self.owned = owned;
                self.lock = Some(lock);
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
        self.owned = self.lock.as_ref().is_some_and(Lock::is_owned);
    }

    /// What transactions are to assert.
    pub(super) fn lock(&self) -> Option<&Lock> {
        self.lock.as_ref()
    }

    /// Why nothing may be written; nothing where it may.
    pub(super) fn objection(&self) -> Option<Withheld> {
        let locked_out = self.lock.is_some() && !self.owned;
        locked_out.then(|| {
            Withheld::everything(format!(
                "another controller has the lock {LOCK} of the switch's database"
            ))
        })
    }

    /// Waits until the lock is had that was not, or the other way round.
    pub(super) async fn changes(&self) {
        match &self.lock {
            Some(lock) => lock.until(!self.owned).await,
            None => std::future::pending().await,
        }
    }
}
