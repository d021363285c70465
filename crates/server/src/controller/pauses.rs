//! Logical switches that are left alone for a while: those whose writing the switch refuses, and those where somebody else
//! undoes it.
//!
//! What an admin deletes is put right at once. But two controllers that each put right what the other one wrote do so
//! hundreds of times in a second, wear out the switch, and neither gets anywhere. So a logical switch that had to be put
//! right again and again, although nobody asked for anything new, waits for growing pauses, and its resources say why. The
//! others do not wait with it.
//!
//! What was refused waits likewise, whatever else happens on the switch meanwhile, but not if something new was asked for.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use model::switch::LogicalSwitchName;

/// The pause after the first refusal; each further one doubles it.
const AFTER_REFUSAL: Duration = Duration::from_millis(500);
/// As often something is put right without a pause.
const PATIENCE: u32 = 20;
/// The first pause after that; each further round doubles it.
const AFTER_QUARREL: Duration = Duration::from_millis(100);
/// No pause is longer.
const LONGEST: Duration = Duration::from_secs(30);
/// What stayed as it was for so long, beyond the pause, is quarrelled about no more.
const CALM: Duration = Duration::from_secs(10);

/// Which logical switches wait, of one endpoint.
#[derive(Debug, Default)]
pub(super) struct Pauses {
    written: HashMap<LogicalSwitchName, Written>,
    /// What the endpoint's logical switches have in common: how they flood, which tunnels are watched.
    others: Option<Written>,
}

/// How writing went lately.
#[derive(Clone, Copy, Debug)]
struct Written {
    at: Instant,
    /// Of the intent.
    revision: u64,
    /// Refusals in a row.
    refused: u32,
    /// How often it was put right since it last stayed as it was.
    undone: u32,
}

impl Written {
    fn first(revision: u64, now: Instant) -> Self {
        Self {
            at: now,
            revision,
            refused: 0,
            undone: 0,
        }
    }

    /// It was written, to serve this revision of the intent.
    fn again(&mut self, revision: u64, now: Instant) {
        if self.is_calm(now) {
            self.undone = 0;
        }
        // For the sake of what was asked for since, it had to be written anyway.
        self.undone += u32::from(self.revision == revision && self.refused == 0);
        self.refused = 0;
        self.revision = revision;
        self.at = now;
    }

    fn refused(&mut self, revision: u64, now: Instant) {
        self.refused = self.refused.saturating_add(1);
        self.revision = revision;
        self.at = now;
    }

    fn is_quarrelled_about(&self) -> bool {
        self.undone > PATIENCE
    }

    fn pause(&self) -> Duration {
        let (first, times) = match self.refused {
            0 => (AFTER_QUARREL, self.undone.saturating_sub(PATIENCE)),
            times => (AFTER_REFUSAL, times),
        };
        match times.checked_sub(1) {
            None => Duration::ZERO,
            // Nothing doubles ten times before it is the longest.
            Some(doubled) => (first * (1 << doubled.min(10))).min(LONGEST),
        }
    }

    /// How long it still waits, where this revision of the intent is to be served.
    fn waits(&self, revision: u64, now: Instant) -> Option<Duration> {
        if self.refused > 0 && self.revision != revision {
            return None;
        }
        let left = (self.at + self.pause()).saturating_duration_since(now);
        (!left.is_zero()).then_some(left)
    }

    fn is_calm(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.at) > self.pause() + CALM
    }
}

impl Pauses {
    /// Notes what was written to serve a revision of the intent, and on which of these logical switches that was refused.
    pub(super) fn note<'n>(
        &mut self,
        revision: u64,
        written: impl IntoIterator<Item = &'n LogicalSwitchName>,
        refused: &BTreeMap<LogicalSwitchName, String>,
        now: Instant,
    ) {
        self.written.retain(|_, written| !written.is_calm(now));
        for name in written {
            let before = self.written.get_mut(name);
            match (before, refused.contains_key(name)) {
                (Some(before), true) => before.refused(revision, now),
                (Some(before), false) => before.again(revision, now),
                (None, is_refused) => {
                    let mut first = Written::first(revision, now);
                    if is_refused {
                        first.refused(revision, now);
                    }
                    self.written.insert(name.clone(), first);
                }
            }
        }
    }

    /// Notes that something was written that no logical switch alone is about.
    pub(super) fn note_others(&mut self, revision: u64, now: Instant) {
        match &mut self.others {
            Some(before) => before.again(revision, now),
            None => self.others = Some(Written::first(revision, now)),
        }
    }

    /// Whether what no logical switch alone is about is left for now.
    pub(super) fn others_wait(&self, revision: u64, now: Instant) -> Option<Duration> {
        self.others.and_then(|others| others.waits(revision, now))
    }

    /// The logical switches that are left alone for now.
    pub(super) fn waiting(&self, revision: u64, now: Instant) -> BTreeSet<LogicalSwitchName> {
        let waiting = self.written.iter();
        let waiting = waiting.filter(|(_, written)| written.waits(revision, now).is_some());
        waiting.map(|(name, _)| name.clone()).collect()
    }

    /// How long the first of some logical switches still waits.
    pub(super) fn shortest(
        &self,
        of: &BTreeSet<LogicalSwitchName>,
        revision: u64,
        now: Instant,
    ) -> Option<Duration> {
        let written = of.iter().filter_map(|name| self.written.get(name));
        written.filter_map(|it| it.waits(revision, now)).min()
    }

    /// The logical switches that somebody else keeps changing, and how often each was put right.
    pub(super) fn quarrels(&self) -> BTreeMap<LogicalSwitchName, u32> {
        let quarrelled = self.written.iter();
        let quarrelled = quarrelled.filter(|(_, written)| written.is_quarrelled_about());
        quarrelled
            .map(|(name, written)| (name.clone(), written.undone))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name() -> LogicalSwitchName {
        LogicalSwitchName::new("net")
    }

    struct Clock(Instant);

    impl Clock {
        fn wait(&mut self, time: Duration) -> Instant {
            self.0 += time;
            self.0
        }
    }

    fn refusals(of: &[LogicalSwitchName]) -> BTreeMap<LogicalSwitchName, String> {
        of.iter().map(|of| (of.clone(), String::new())).collect()
    }

    /// Writes whenever that may be done, against somebody who undoes it at once; how often within that time.
    fn rounds(pauses: &mut Pauses, clock: &mut Clock, time: Duration) -> usize {
        let end = clock.0 + time;
        let mut rounds = 0;
        while clock.0 < end {
            if pauses.waiting(7, clock.0).is_empty() {
                pauses.note(7, [&name()], &BTreeMap::new(), clock.0);
                rounds += 1;
            }
            clock.wait(Duration::from_millis(1));
        }
        rounds
    }

    #[test]
    fn a_quarrel_gets_slower_and_is_forgotten_after_it() {
        let mut clock = Clock(Instant::now());
        let mut pauses = Pauses::default();
        let first = rounds(&mut pauses, &mut clock, Duration::from_secs(10));
        assert!((25..30).contains(&first), "{first}");
        assert!(pauses.quarrels()[&name()] > PATIENCE);
        let later = rounds(&mut pauses, &mut clock, Duration::from_secs(300));
        assert!((9..=15).contains(&later), "{later}");
        clock.wait(LONGEST + CALM + Duration::from_secs(1));
        pauses.note(7, [&name()], &BTreeMap::new(), clock.0);
        assert_eq!(pauses.quarrels(), BTreeMap::new());
        assert_eq!(pauses.waiting(7, clock.0), BTreeSet::new());
    }

    #[test]
    fn who_puts_things_right_now_and_then_quarrels_with_nobody() {
        let mut clock = Clock(Instant::now());
        let mut pauses = Pauses::default();
        for _ in 0..1000 {
            let now = clock.wait(CALM + Duration::from_secs(1));
            pauses.note(7, [&name()], &BTreeMap::new(), now);
            assert_eq!(pauses.waiting(7, now), BTreeSet::new());
        }
    }

    #[test]
    fn what_operators_ask_for_is_no_quarrel() {
        let mut pauses = Pauses::default();
        let now = Instant::now();
        for revision in 0..1000 {
            pauses.note(revision, [&name()], &BTreeMap::new(), now);
        }
        assert_eq!(pauses.quarrels(), BTreeMap::new());
    }

    #[test]
    fn what_was_refused_waits_longer_each_time_unless_something_new_is_asked_for() {
        let mut clock = Clock(Instant::now());
        let mut pauses = Pauses::default();
        let all: BTreeSet<_> = [name()].into();
        for seconds in [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0] {
            pauses.note(7, [&name()], &refusals(&[name()]), clock.0);
            let pause = Duration::from_secs_f64(seconds);
            assert_eq!(pauses.shortest(&all, 7, clock.0), Some(pause));
            assert_eq!(pauses.shortest(&all, 8, clock.0), None);
            clock.wait(pause);
            assert_eq!(pauses.waiting(7, clock.0), BTreeSet::new());
        }
        pauses.note(7, [&name()], &BTreeMap::new(), clock.0);
        assert_eq!(pauses.waiting(7, clock.0), BTreeSet::new());
    }
}
