//! Locks (RFC 7047 sections 4.1.8 to 4.1.10): who of several well-meaning writers may write.
//!
//! The server only keeps the book. A lock keeps nobody out who does not ask; [`Lock::assertion`] in a transaction makes
//! it fail unless this session owns the lock at that moment, which is what fences off a controller that lost it without
//! having noticed yet.

use std::sync::Arc;

use tokio::sync::{oneshot, watch};

use super::dispatch::Waiter;
use super::{RequestError, Session};
use crate::message;
use crate::operation::Operation;

/// A lock that a session has asked for. The session asks until it ends or unlocks.
#[derive(Clone, Debug)]
pub struct Lock {
    name: Arc<str>,
    owned: watch::Receiver<bool>,
}

impl Lock {
    /// Whether the session owns the lock, as far as it has heard.
    pub fn is_owned(&self) -> bool {
        *self.owned.borrow()
    }

    /// Waits until the session owns the lock, or until it does not. Pends for ever once the session has ended.
    pub async fn until(&self, owned: bool) {
        let mut changes = self.owned.clone();
        if changes.wait_for(|now| *now == owned).await.is_err() {
            std::future::pending().await
        }
    }

    /// The operation that fails its transaction unless the session owns the lock.
    pub fn assertion(&self) -> Operation {
        Operation::Assert {
            lock: self.name.to_string().into(),
        }
    }
}

impl Session {
    /// Asks for a lock, and waits for its turn behind other sessions: [`Lock::until`]. Asking again for the same lock is
    /// the same request; the server would refuse a second one.
    ///
    /// # Errors
    /// See [`RequestError`]; a server without locks is [`RequestError::Rejected`].
    pub async fn lock(&self, name: &str) -> Result<Lock, RequestError> {
        if let Some(owned) = self.inner.shared.lock_asked_for(name) {
            return Ok(Lock {
                name: name.into(),
                owned,
            });
        }
        self.ask_for_lock("lock", name).await
    }

    /// Takes a lock from whoever owns it.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub async fn steal(&self, name: &str) -> Result<Lock, RequestError> {
        self.ask_for_lock("steal", name).await
    }

    /// Gives a lock back, or stops waiting for it.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub async fn unlock(&self, lock: Lock) -> Result<(), RequestError> {
        self.inner.shared.forget_lock(&lock.name);
        self.call("unlock", &[&*lock.name]).text().await.map(drop)
    }

    async fn ask_for_lock(&self, method: &str, name: &str) -> Result<Lock, RequestError> {
        let (done, reply) = oneshot::channel();
        let waiter = Waiter::Lock {
            name: name.to_owned(),
            done,
        };
        self.inner
            .shared
            .send(waiter, |id| message::request(id, method, &[name]));
        match reply.await {
            Ok(Ok(owned)) => Ok(Lock {
                name: name.into(),
                owned,
            }),
            Ok(Err(error)) => Err(RequestError::Rejected(error)),
            Err(_) => Err(RequestError::Disconnected(self.ended().await)),
        }
    }
}
