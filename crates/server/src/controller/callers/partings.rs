//! Telling of callers who are gone before they said who they are: each, but of a flood only some, so that strangers do not fill
//! the disk with log lines either.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// So many are told of in each [`PERIOD`].
const TOLD: u32 = 10;
const PERIOD: Duration = Duration::from_secs(10);

/// Who is gone, over all listeners.
#[derive(Debug, Default)]
pub(in crate::controller) struct Partings(Mutex<Lately>);

#[derive(Debug, Default)]
struct Lately {
    since: Option<Instant>,
    told: u32,
    untold: u64,
}

impl Partings {
    /// One is gone, for this reason.
    pub(super) fn tell(&self, reason: &str) {
        if let Some(untold) = self.next(Instant::now()) {
            let untold = (untold > 0).then_some(untold);
            tracing::warn!(
                reason,
                others_before = untold,
                "a switch that dialled is gone before it said who it is"
            );
        }
    }

    /// How many were not told of before, if this one is to be told of.
    fn next(&self, now: Instant) -> Option<u64> {
        // Nothing panics while it holds the lock.
        let mut lately = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lately.since.is_none_or(|since| now - since >= PERIOD) {
            lately.since = Some(now);
            lately.told = 0;
        }
        if lately.told >= TOLD {
            lately.untold += 1;
            return None;
        }
        lately.told += 1;
        Some(std::mem::take(&mut lately.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_flood_some_are_told_and_the_others_counted() {
        let partings = Partings::default();
        let now = Instant::now();
        let told: Vec<_> = (0..100).filter_map(|_| partings.next(now)).collect();
        assert_eq!(told, [0; 10]);
        assert_eq!(partings.next(now + PERIOD), Some(90));
        assert_eq!(partings.next(now + PERIOD), Some(0));
    }
}
