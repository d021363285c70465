//! What changed lately, for those who have looked at everything and do not want to do it again for one MAC.
//!
//! A trail belongs to a state that changes in place. Whoever has looked at the state keeps a [`Mark`], and asks the trail
//! later which MACs have changed since. A trail is short: where more has changed than is worth going through one by one, or
//! anything else than MACs, or the state is another one altogether, the answer is to look at everything.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::switch::LogicalSwitchName;
use crate::value::MacAddress;

/// So many changes are remembered: going through a hundred thousand MACs in order takes as long as looking up some ten
/// thousand one by one.
const LENGTH: usize = 10_000;

/// A MAC address on a logical switch.
pub type MacKey = (LogicalSwitchName, MacAddress);

/// What a change may make a switch hold otherwise than before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Touch {
    /// Nothing.
    Nothing,
    /// One remote MAC.
    Mac(MacKey),
    /// Anything.
    Everything,
}

/// The latest changes of one state.
#[derive(Debug)]
pub struct Trail {
    /// Tells this trail's marks from those of others.
    state: u64,
    /// How many changes there were before the oldest one that is remembered.
    forgotten: u64,
    macs: VecDeque<MacKey>,
}

/// How far somebody has followed a trail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    state: u64,
    changes: u64,
}

impl Default for Trail {
    fn default() -> Self {
        static STATES: AtomicU64 = AtomicU64::new(0);
        Self {
            state: STATES.fetch_add(1, Ordering::Relaxed),
            forgotten: 0,
            macs: VecDeque::new(),
        }
    }
}

impl Trail {
    /// Notes a change.
    pub fn note(&mut self, touch: Touch) {
        match touch {
            Touch::Nothing => {}
            Touch::Mac(key) => {
                if self.macs.len() == LENGTH {
                    self.macs.pop_front();
                    self.forgotten += 1;
                }
                self.macs.push_back(key);
            }
            Touch::Everything => {
                self.forgotten = self.changes() + 1;
                self.macs.clear();
            }
        }
    }

    /// Where the trail ends now.
    pub fn mark(&self) -> Mark {
        Mark {
            state: self.state,
            changes: self.changes(),
        }
    }

    /// The MACs that may have changed since, some of them more than once; nothing if everything may have.
    pub fn since(&self, mark: Mark) -> Option<impl Iterator<Item = &MacKey>> {
        if mark.state != self.state || mark.changes > self.changes() {
            return None;
        }
        let seen = mark.changes.checked_sub(self.forgotten)?;
        Some(self.macs.iter().skip(usize::try_from(seen).ok()?))
    }

    fn changes(&self) -> u64 {
        self.forgotten + self.macs.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u64) -> MacKey {
        (LogicalSwitchName::new("net"), MacAddress::from_u64(number))
    }

    fn since(trail: &Trail, mark: Mark) -> Option<Vec<MacKey>> {
        Some(trail.since(mark)?.cloned().collect())
    }

    #[test]
    fn what_was_noted_after_a_mark_is_told() {
        let mut trail = Trail::default();
        trail.note(Touch::Mac(key(1)));
        let mark = trail.mark();
        assert_eq!(since(&trail, mark), Some(vec![]));
        trail.note(Touch::Mac(key(2)));
        trail.note(Touch::Nothing);
        trail.note(Touch::Mac(key(3)));
        assert_eq!(since(&trail, mark), Some(vec![key(2), key(3)]));
        assert_eq!(since(&trail, trail.mark()), Some(vec![]));
    }

    #[test]
    fn after_a_change_of_anything_everything_is_to_be_looked_at_once() {
        let mut trail = Trail::default();
        let before = trail.mark();
        trail.note(Touch::Everything);
        let after = trail.mark();
        trail.note(Touch::Mac(key(1)));
        assert_eq!(since(&trail, before), None);
        assert_eq!(since(&trail, after), Some(vec![key(1)]));
    }

    #[test]
    fn too_many_changes_are_a_change_of_everything() {
        let mut trail = Trail::default();
        let begin = trail.mark();
        trail.note(Touch::Mac(key(0)));
        let second = trail.mark();
        for number in 1..=LENGTH as u64 {
            trail.note(Touch::Mac(key(number)));
        }
        assert_eq!(since(&trail, begin), None);
        assert_eq!(since(&trail, second).map(|keys| keys.len()), Some(LENGTH));
    }

    #[test]
    fn a_mark_says_nothing_of_another_state() {
        let (one, other) = (Trail::default(), Trail::default());
        assert_eq!(since(&other, one.mark()), None);
    }
}
