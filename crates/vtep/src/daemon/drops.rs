//! Which networks flood the WAN beyond the limit, as the packet filter counts it.

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};

use crate::kernel::Kernel;

/// A network is told of this long after its last frame that was dropped.
const TOLD_FOR: Duration = Duration::from_secs(60);

/// What was counted when it was last looked at.
#[derive(Debug, Default)]
pub(super) struct Drops {
    counted: BTreeMap<u32, u64>,
    /// By WAN key, since when nothing was dropped any more.
    limited: BTreeMap<u32, Instant>,
}

impl Drops {
    /// Looks again; whether other networks are over the limit than before.
    pub(super) fn look(&mut self, kernel: &Kernel) -> io::Result<bool> {
        let counted = kernel.flood_drops()?;
        Ok(self.take_in(counted, Instant::now()))
    }

    fn take_in(&mut self, counted: BTreeMap<u32, u64>, now: Instant) -> bool {
        let before: Vec<u32> = self.keys().collect();
        for (key, count) in &counted {
            let known = self.counted.get(key).copied().unwrap_or(0);
            // Less than before: the rules were put in place anew.
            let new = count.checked_sub(known).unwrap_or(*count);
            if new > 0 {
                tracing::debug!(wan_key = key, frames = new, "not flooded: over --bum-limit");
                self.limited.insert(*key, now);
            }
        }
        self.counted = counted;
        self.limited
            .retain(|_, last| now.saturating_duration_since(*last) < TOLD_FOR);
        !self.keys().eq(before)
    }

    /// WAN keys of networks that are over the limit.
    pub(super) fn keys(&self) -> impl Iterator<Item = u32> {
        self.limited.keys().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_told_of_while_it_floods_and_a_minute_after() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut drops = Drops::default();
        assert!(!drops.take_in([].into(), at(0)));
        assert!(drops.take_in([(456, 10)].into(), at(10)));
        assert!(!drops.take_in([(456, 20)].into(), at(20)));
        assert!(!drops.take_in([(456, 20)].into(), at(79)));
        assert_eq!(drops.keys().collect::<Vec<_>>(), [456]);
        assert!(drops.take_in([(456, 20)].into(), at(81)));
        // The counter began anew.
        assert!(drops.take_in([(456, 3)].into(), at(90)));
    }
}
