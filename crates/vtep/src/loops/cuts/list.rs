//! What is cut since when and until when, and who is a repeat offender: pure, times are numbers.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use model::switch::LogicalSwitchName;
use serde::{Deserialize, Serialize};

use crate::kernel::name::InterfaceName;

/// A hold time is doubled at most this often.
const MOST_DOUBLINGS: u32 = 6;

/// Who kept out of trouble for this many hold times is no repeat offender any more.
const FORGIVEN_AFTER_HOLDS: u32 = 10;

/// Signs of a loop come by the second while it lasts; what is on disk may lag this far behind.
const WRITE_EVERY_SECONDS: u64 = 10;

/// What is cut off.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) network: LogicalSwitchName,
    /// The device of the port that is off the network; nothing: the network is off the WAN.
    pub(crate) port: Option<InterfaceName>,
}

/// For how long something is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Terms {
    /// The first time; longer for repeat offenders.
    Hold(Duration),
    /// Until somebody joins them by hand.
    ByHand,
}

/// That something is cut off. Times are seconds since the epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cut {
    pub(crate) since: u64,
    /// Nothing: until somebody joins it by hand.
    pub(crate) until: Option<u64>,
    /// What is on disk for it.
    #[serde(skip)]
    kept: Option<u64>,
    pub(crate) cause: String,
    /// No probe came back: stations were seen to flap, and nobody knows where the ring closes.
    #[serde(default)]
    suspected: bool,
}

/// How often something was cut in a row, and when last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    cuts: u32,
    last_seen: u64,
}

/// What is cut, and what was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct List {
    pub(super) cut: BTreeMap<Place, Cut>,
    pub(super) records: BTreeMap<Place, Record>,
}

/// What a sign of a loop came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    New,
    Prolonged,
    Known,
}

impl List {
    pub(super) fn cut(
        &mut self,
        place: &Place,
        cause: &str,
        suspected: bool,
        terms: Terms,
        now: u64,
    ) -> Outcome {
        let record = self.records.entry(place.clone()).or_default();
        if let Some(cut) = self.cut.get_mut(place) {
            record.last_seen = now;
            cut.suspected &= suspected;
            cut.until = terms.end(record.cuts, now);
            let lag = cut
                .until
                .zip(cut.kept)
                .map(|(until, kept)| until.saturating_sub(kept));
            if lag.is_none_or(|lag| lag < WRITE_EVERY_SECONDS) {
                return Outcome::Known;
            }
            cut.kept = cut.until;
            return Outcome::Prolonged;
        }
        if record.is_forgiven(terms, now) {
            record.cuts = 0;
        }
        record.cuts += 1;
        record.last_seen = now;
        let until = terms.end(record.cuts, now);
        let cut = Cut {
            since: now,
            until,
            kept: until,
            cause: cause.to_owned(),
            suspected,
        };
        self.cut.insert(place.clone(), cut);
        Outcome::New
    }

    pub(super) fn release(&mut self, network: &str) -> bool {
        let of_it = |place: &Place| place.network.as_str() == network;
        self.records.retain(|place, _| !of_it(place));
        let before = self.cut.len();
        self.cut.retain(|place, _| !of_it(place));
        self.cut.len() < before
    }

    pub(super) fn clear(&mut self, network: &LogicalSwitchName) -> bool {
        let place = Place {
            network: network.clone(),
            port: None,
        };
        let suspected = self.cut.get(&place).is_some_and(|cut| cut.suspected);
        if suspected {
            self.cut.remove(&place);
            self.records.remove(&place);
        }
        suspected
    }

    pub(super) fn expire(&mut self, now: u64) -> Vec<Place> {
        let over = |cut: &Cut| cut.until.is_some_and(|until| until <= now);
        let over = self.cut.iter().filter(|(_, cut)| over(cut));
        let over: Vec<Place> = over.map(|(place, _)| place.clone()).collect();
        for place in &over {
            self.cut.remove(place);
            // Its trial begins.
            if let Some(record) = self.records.get_mut(place) {
                record.last_seen = now;
            }
        }
        over
    }

    pub(super) fn next(&self) -> Option<u64> {
        self.cut.values().filter_map(|cut| cut.until).min()
    }

    /// What was cut under other terms, or before the clock was turned back, is not held longer than these allow.
    pub(super) fn set_terms(&mut self, terms: Terms, now: u64) {
        self.records.retain(|place, record| {
            self.cut.contains_key(place) || !record.is_forgiven(terms, now)
        });
        for (place, cut) in &mut self.cut {
            cut.kept = Some(0);
            let cuts = self.records.get(place).map_or(1, |record| record.cuts);
            cut.until = match (terms.end(cuts, now), cut.until) {
                (Some(longest), Some(until)) => Some(longest.min(until)),
                (end, _) => end,
            };
        }
    }
}

impl Record {
    fn is_forgiven(&self, terms: Terms, now: u64) -> bool {
        match terms {
            Terms::Hold(hold) => {
                let probation = hold * FORGIVEN_AFTER_HOLDS * (1 << self.doublings());
                now.saturating_sub(self.last_seen) > probation.as_secs()
            }
            Terms::ByHand => true,
        }
    }

    fn doublings(&self) -> u32 {
        self.cuts.saturating_sub(1).min(MOST_DOUBLINGS)
    }
}

impl Terms {
    /// When the hold time of the n-th cut in a row is over.
    fn end(self, cuts: u32, now: u64) -> Option<u64> {
        match self {
            Self::Hold(hold) => {
                let doublings = cuts.saturating_sub(1).min(MOST_DOUBLINGS);
                Some(now + hold.as_secs() * (1 << doublings))
            }
            Self::ByHand => None,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let network = &self.network;
        match self.port {
            None => write!(f, "network {network} is cut off the WAN"),
            Some(port) => write!(f, "port {port} is cut off network {network}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOLD: Terms = Terms::Hold(Duration::from_secs(60));

    fn net() -> Place {
        Place {
            network: LogicalSwitchName::new("net"),
            port: None,
        }
    }

    fn port() -> Place {
        Place {
            port: Some("eth8".parse().unwrap()),
            ..net()
        }
    }

    #[test]
    fn a_cut_ends_a_hold_time_after_the_last_sign_of_the_loop() {
        let mut list = List::default();
        assert_eq!(list.cut(&net(), "why", false, HOLD, 1000), Outcome::New);
        assert_eq!(list.cut(&net(), "why", false, HOLD, 1001), Outcome::Known);
        assert_eq!(
            list.cut(&net(), "why", false, HOLD, 1030),
            Outcome::Prolonged
        );
        assert_eq!(list.cut(&net(), "why", false, HOLD, 1031), Outcome::Known);
        assert_eq!(list.expire(1090), []);
        assert_eq!(list.expire(1091), [net()]);
        assert_eq!(list.next(), None);
    }

    #[test]
    fn repeat_offenders_are_held_longer_and_forgiven_in_the_end() {
        let mut list = List::default();
        let mut now = 0;
        let mut held = Vec::new();
        for _ in 0..9 {
            list.cut(&net(), "why", false, HOLD, now);
            let until = list.next().unwrap();
            held.push((until - now) / 60);
            now = until;
            list.expire(now);
        }
        assert_eq!(held, [1, 2, 4, 8, 16, 32, 64, 64, 64]);
        now += 60 * 64 * 10 + 1;
        list.cut(&net(), "why", false, HOLD, now);
        assert_eq!(list.next(), Some(now + 60));
    }

    #[test]
    fn what_is_released_by_hand_starts_with_a_clean_record() {
        let mut list = List::default();
        for _ in 0..3 {
            list.cut(&net(), "why", false, HOLD, 1000);
            list.expire(u64::MAX);
        }
        list.cut(&net(), "why", false, HOLD, 1000);
        list.cut(&port(), "why", false, HOLD, 1000);
        assert!(list.release("net"));
        assert!(!list.release("net"));
        list.cut(&net(), "why", false, HOLD, 1000);
        assert_eq!(list.next(), Some(1060));
    }

    #[test]
    fn what_was_cut_on_suspicion_is_joined_when_the_ring_is_found_elsewhere_and_what_is_proven_is_not()
     {
        let mut list = List::default();
        list.cut(&net(), "why", true, HOLD, 1000);
        assert!(list.clear(&net().network));
        assert!(!list.clear(&net().network));
        list.cut(&net(), "why", true, HOLD, 1000);
        list.cut(&net(), "why", false, HOLD, 1001);
        list.cut(&net(), "why", true, HOLD, 1002);
        assert!(!list.clear(&net().network));
        assert_eq!(list.next(), Some(1062));
    }

    #[test]
    fn new_terms_and_a_clock_turned_back_hold_nobody_for_years() {
        let mut list = List::default();
        list.cut(&net(), "why", false, HOLD, 1_000_000);
        list.set_terms(HOLD, 10);
        assert_eq!(list.next(), Some(70));
        list.set_terms(Terms::ByHand, 10);
        assert_eq!(list.next(), None);
        list.set_terms(HOLD, 20);
        assert_eq!(list.next(), Some(80));
    }
}
