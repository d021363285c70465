//! The room that the bodies of all requests have together.
//!
//! Rules:
//! - A large body has found room for all of itself before it is read. Until then it waits where it is, in the client and
//!   the sockets; those that come first get in first.
//! - It keeps the room until its request is answered, also when its client has gone away meanwhile: what it asks for is
//!   several times as large in memory as the body was.
//! - A small body always has room, so that single calls go on beside bulks. Connections are bounded, and so are these.
//! - While others wait, who has room must use it: such bodies arrive at a brisk pace or make room (see `body`).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use model::fault::Fault;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Limits;

/// What a body may have without asking, in bytes.
pub(super) const SMALL: usize = 64 << 10;

/// In what room is counted, in bytes: a semaphore gives no more than 2^32 pieces at once.
const PIECE: usize = 1 << 10;

/// The bounds of bodies, and the room that is left. Clones share it.
#[derive(Clone, Debug)]
pub struct Bodies {
    /// Their bounds.
    pub(super) limits: Limits,
    free: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
}

/// The room of one body, until this is dropped.
#[derive(Debug, Default)]
pub(super) struct Room(Option<OwnedSemaphorePermit>);

impl Bodies {
    /// Nobody has anything yet.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        // Whatever is allowed for itself must be possible at all.
        let all = pieces(limits.bodies.max(limits.body)) as usize;
        Self {
            limits,
            free: Arc::new(Semaphore::new(all)),
            waiting: Arc::default(),
        }
    }

    /// Waits for room for so many bytes.
    ///
    /// # Errors
    /// 503: there was none for too long.
    pub(super) async fn room(&self, bytes: usize) -> Result<Room, Fault> {
        let pieces = pieces(bytes);
        let free = || Arc::clone(&self.free);
        if let Ok(room) = free().try_acquire_many_owned(pieces) {
            return Ok(Room(Some(room)));
        }
        let _waiting = Waiting::begins(&self.waiting);
        let room = free().acquire_many_owned(pieces);
        match tokio::time::timeout(self.limits.room_within, room).await {
            Ok(Ok(room)) => Ok(Room(Some(room))),
            _ => Err(Fault::unavailable(
                &format!("Room for a request body of {bytes} bytes"),
                format_args!(
                    "other bodies have all of {} bytes since {:?}",
                    self.limits.bodies, self.limits.room_within
                ),
            )),
        }
    }

    /// Room for so many bytes there is in all.
    pub(crate) fn all(&self) -> usize {
        self.limits.bodies.max(self.limits.body)
    }

    /// So many bytes of it somebody has, to the next kilobyte.
    pub(crate) fn taken(&self) -> usize {
        let free = self.free.available_permits().saturating_mul(PIECE);
        self.all().saturating_sub(free)
    }

    /// So many bodies wait for room.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Whether somebody waits for room.
    pub(super) fn are_crowded(&self) -> bool {
        self.waiting() > 0
    }
}

impl Room {
    pub(super) fn is_none(&self) -> bool {
        self.0.is_none()
    }

    /// Gives back what is not needed.
    pub(super) fn shrink_to(&mut self, bytes: usize) {
        if let Some(room) = &mut self.0 {
            let unneeded = room.num_permits().saturating_sub(pieces(bytes) as usize);
            drop(room.split(unneeded));
        }
    }
}

fn pieces(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(PIECE)).unwrap_or(u32::MAX)
}

struct Waiting<'w>(&'w AtomicUsize);

impl<'w> Waiting<'w> {
    fn begins(waiting: &'w AtomicUsize) -> Self {
        waiting.fetch_add(1, Ordering::Relaxed);
        Self(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_taken_and_who_waits_can_be_told() {
        let bodies = Bodies::new(Limits {
            body: 1 << 20,
            bodies: 2 << 20,
            ..Limits::DEFAULT
        });
        let told = || (bodies.all(), bodies.taken(), bodies.waiting());
        assert_eq!(told(), (2 << 20, 0, 0));
        let one = bodies.room(1 << 20).await.unwrap();
        let _other = bodies.room(1 << 20).await.unwrap();
        assert_eq!(told(), (2 << 20, 2 << 20, 0));
        {
            let mut third = std::pin::pin!(bodies.room(SMALL));
            let waits = tokio::time::timeout(std::time::Duration::ZERO, &mut third).await;
            assert!(waits.is_err());
            assert_eq!(told(), (2 << 20, 2 << 20, 1));
        }
        drop(one);
        assert_eq!(told(), (2 << 20, 1 << 20, 0));
    }
}
