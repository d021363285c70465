//! The removal guard: rows of ours leave a switch because somebody deleted what they stand for, never because our
//! database does not know it. With an empty database, another one or a restored backup the two look alike.
//!
//! So a controller writes on the switch which state of the database it serves there ([`mod@hardware_vtep::stamp`]), and
//! reads that first when it comes back. If the database has been in that state, it knows of everything that the switch
//! holds, and what it does not want any more was deleted. If not, the controller only adds, until an operator agrees to
//! the removals (`l2gw audit DEVICE --accept-removal`).
//!
//! A switch database that lists no physical switch keeps what it has: what is wanted there is not known without a name.
//!
//! A logical switch that another controller left under the name of a network of ours is taken over with everything on it,
//! but only when an operator says so (`l2gw adopt DEVICE`): until everything there has been declared to us, taking it over
//! would remove what has not. Meanwhile the controller only adds to it; other logical switches do not wait. One that says in
//! its description that it is ours has only lost the mark: it gets that back without asking.
//!
//! The same holds for one that lists a physical switch no more for which this database still has gateways: it was renamed,
//! or is away for a moment, and nobody deleted what is there. The stamp tells which switches it was written for.
//!
//! What stays also keeps its key: a network that would have the same one waits as well, or the two would be one.
//!
//! An operator agrees for a whole endpoint or for one logical switch (`--network`).
//!
//! A switch whose schema has no room for the stamp is trusted if the database wants at least half of the logical switches
//! there that are ours; as long as the server runs, that is then not asked again.

use std::collections::BTreeSet;
use std::sync::Arc;

use hardware_vtep::Database;
use model::lineage::{Lineage, Moment};
use model::switch::{LogicalSwitchName, SwitchState};

use crate::withheld::Withheld;

/// What an operator can do.
const AGREE: &str =
    "if what is there and not wanted may go, say l2gw audit DEVICE --accept-removal";

/// Whether removals may be made on one endpoint.
#[derive(Debug, Default)]
pub(super) struct Guard {
    /// The endpoint was found to hold what this database made it hold, or an operator said so. Counts where nothing is
    /// written on the switch.
    trusted: bool,
    /// An operator said that logical switches of another controller are to be taken over.
    adopting: bool,
    /// An operator said so of these logical switches alone.
    agreed: BTreeSet<LogicalSwitchName>,
    /// The physical switches that were there when last nothing spoke against removals. Counts as `trusted` does.
    served: BTreeSet<Arc<str>>,
}

/// What there is to be held against what is there.
pub(super) struct Ground<'a> {
    /// What the switch should hold.
    pub(super) desired: &'a SwitchState,
    /// The states that our database has been in.
    pub(super) lineage: &'a Lineage,
    /// The one it is in.
    pub(super) revision: u64,
    /// Which of some physical switches have gateways and are nowhere else.
    pub(super) missed: &'a dyn Fn(BTreeSet<Arc<str>>) -> BTreeSet<Arc<str>>,
}

impl Guard {
    /// Why nothing may be removed now; nothing where it may.
    pub(super) fn objection(&mut self, held: &Database, ground: &Ground<'_>) -> Option<Withheld> {
        let there = &held.state().logical_switches;
        self.agreed.retain(|name| there.contains_key(name));
        if let Some(reason) = self.unknown(held, ground) {
            let agreed = self.agreed.clone();
            let joined = joined(held.state(), ground.desired, &agreed);
            return Some(Withheld::changes_but_on(reason, agreed, joined));
        }
        let wanted = &ground.desired.logical_switches;
        let foreign = there
            .iter()
            .filter(|(name, l)| {
                !l.owned && wanted.contains_key(*name) && !held.describes_as_ours(name)
            })
            .map(|(name, _)| name.clone());
        let mut foreign: BTreeSet<_> = foreign.collect();
        if foreign.is_empty() {
            self.adopting = false;
        }
        foreign.retain(|name| !self.agreed.contains(name));
        (!foreign.is_empty() && !self.adopting).then(|| {
            let reason = format!(
                "{} of the logical switches wanted there are another controller's, to be taken over by l2gw adopt DEVICE",
                foreign.len()
            );
            Withheld::changes_on(reason, foreign)
        })
    }

    /// Why what is there and not wanted may be what this database never knew, and not what was deleted.
    fn unknown(&mut self, held: &Database, ground: &Ground<'_>) -> Option<String> {
        let names: BTreeSet<_> = held.switch_names().collect();
        let nothing_to_lose = !held.state().logical_switches.values().any(|l| l.owned);
        if nothing_to_lose {
            self.trusted = true;
            self.served = names;
            return None;
        }
        if names.is_empty() {
            return Some("it lists no physical switch".to_owned());
        }
        let objection = match held.stamp() {
            Some(stamp) => by_stamp(stamp, ground.lineage, ground.revision),
            None if self.trusted => None,
            None => by_majority(held.state(), ground.desired),
        };
        self.trusted = objection.is_none();
        if objection.is_some() {
            return objection;
        }
        let mut missing = held
            .stamped_switches()
            .unwrap_or_else(|| self.served.clone());
        missing.retain(|name| !names.contains(name));
        if !missing.is_empty() {
            let missed: Vec<_> = (ground.missed)(missing).into_iter().collect();
            if !missed.is_empty() {
                return Some(format!(
                    "it no longer lists {}, which gateways name: it was renamed, or is not set up yet; {AGREE}",
                    missed.join(", ")
                ));
            }
        }
        self.served = names;
        None
    }

    /// An operator agreed to everything on a database that lists these physical switches.
    pub(super) fn trust(&mut self, names: BTreeSet<Arc<str>>) {
        self.trusted = true;
        self.adopting = true;
        self.served = names;
    }

    /// An operator agreed to what concerns some logical switches.
    pub(super) fn agree(&mut self, names: impl IntoIterator<Item = LogicalSwitchName>) {
        self.agreed.extend(names);
    }
}

/// The logical switches that are wanted and must not come yet, because what stays without an operator's consent has their
/// keys: a database that does not know it gives its key to another network.
fn joined(
    held: &SwitchState,
    desired: &SwitchState,
    agreed: &BTreeSet<LogicalSwitchName>,
) -> BTreeSet<LogicalSwitchName> {
    let wanted = &desired.logical_switches;
    let stays = held.logical_switches.iter();
    let stays =
        stays.filter(|(name, l)| l.owned && !wanted.contains_key(*name) && !agreed.contains(*name));
    let keys: BTreeSet<_> = stays.filter_map(|(_, l)| l.tunnel_key).collect();
    let has = |name, key| {
        let there = held.logical_switches.get(name);
        there.is_some_and(|l| l.tunnel_key == Some(key))
    };
    let wanted = wanted.iter().filter(|(name, l)| {
        l.tunnel_key
            .is_some_and(|key| keys.contains(&key) && !has(*name, key))
    });
    wanted.map(|(name, _)| name.clone()).collect()
}

fn by_stamp(stamp: &str, lineage: &Lineage, revision: u64) -> Option<String> {
    let known = stamp
        .parse::<Moment>()
        .is_ok_and(|moment| lineage.has_been_at(moment, revision));
    (!known).then(|| {
        format!(
            "the switch was last written from a state ({stamp}) that this database has never been in: \
             it is another database, or a restored backup; {AGREE}"
        )
    })
}

fn by_majority(held: &SwitchState, desired: &SwitchState) -> Option<String> {
    let ours = held.logical_switches.iter().filter(|(_, l)| l.owned);
    let (wanted, unknown): (Vec<_>, Vec<_>) =
        ours.partition(|(name, _)| desired.logical_switches.contains_key(name));
    (unknown.len() > wanted.len()).then(|| {
        format!(
            "of {} logical switches of ours on the switch the database wants {}; {AGREE}",
            wanted.len() + unknown.len(),
            wanted.len()
        )
    })
}

#[cfg(test)]
mod tests {
    use model::switch::LogicalSwitch;

    use super::*;

    fn ours(names: &[&str]) -> SwitchState {
        let owned = LogicalSwitch {
            owned: true,
            ..LogicalSwitch::default()
        };
        let rows = names
            .iter()
            .map(|name| (LogicalSwitchName::new(*name), owned.clone()));
        SwitchState {
            logical_switches: rows.collect(),
            ..SwitchState::default()
        }
    }

    #[test]
    fn half_of_what_is_there_must_be_wanted() {
        assert_eq!(by_majority(&ours(&["a", "b"]), &ours(&["a"])), None);
        assert_eq!(by_majority(&ours(&[]), &ours(&[])), None);
        assert_eq!(
            by_majority(&ours(&["a", "b", "c"]), &ours(&["a", "d", "e"])).unwrap(),
            format!("of 3 logical switches of ours on the switch the database wants 1; {AGREE}")
        );
        assert!(by_majority(&ours(&["a"]), &ours(&[])).is_some());
    }

    #[test]
    fn rows_of_others_do_not_count() {
        let mut theirs = ours(&["a", "b"]);
        for held in theirs.logical_switches.values_mut() {
            held.owned = false;
        }
        assert_eq!(by_majority(&theirs, &ours(&[])), None);
    }
}
