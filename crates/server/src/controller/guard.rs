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
//! would remove what has not. Meanwhile the controller only adds to it; other logical switches do not wait.
//!
//! A switch whose schema has no room for the stamp is trusted if the database wants at least half of the logical switches
//! there that are ours; as long as the server runs, that is then not asked again.

use std::collections::BTreeSet;

use hardware_vtep::Database;
use model::lineage::{Lineage, Moment};
use model::switch::SwitchState;

use crate::withheld::Withheld;

/// Whether removals may be made on one endpoint.
#[derive(Debug, Default)]
pub(super) struct Guard {
    /// The endpoint was found to hold what this database made it hold, or an operator said so. Counts where nothing is
    /// written on the switch.
    trusted: bool,
    /// An operator said that logical switches of another controller are to be taken over.
    adopting: bool,
}

impl Guard {
    /// Why nothing may be removed now; nothing where it may.
    pub(super) fn objection(
        &mut self,
        held: &Database,
        desired: &SwitchState,
        lineage: &Lineage,
        revision: u64,
    ) -> Option<Withheld> {
        if let Some(reason) = self.unknown(held, desired, lineage, revision) {
            return Some(Withheld::changes_but_on(reason, BTreeSet::new()));
        }
        let foreign = held.state().logical_switches.iter();
        let foreign = foreign
            .filter(|(name, l)| !l.owned && desired.logical_switches.contains_key(*name))
            .map(|(name, _)| name.clone());
        let foreign: BTreeSet<_> = foreign.collect();
        if foreign.is_empty() {
            self.adopting = false;
        }
        (!foreign.is_empty() && !self.adopting).then(|| {
            let reason = format!(
                "{} of the logical switches wanted there are another controller's, to be taken over by l2gw adopt",
                foreign.len()
            );
            Withheld::changes_on(reason, foreign)
        })
    }

    /// Why what is there and not wanted may be what this database never knew, and not what was deleted.
    fn unknown(
        &mut self,
        held: &Database,
        desired: &SwitchState,
        lineage: &Lineage,
        revision: u64,
    ) -> Option<String> {
        let nothing_to_lose = !held.state().logical_switches.values().any(|l| l.owned);
        if nothing_to_lose {
            self.trusted = true;
            return None;
        }
        if held.switch_names().next().is_none() {
            return Some("it lists no physical switch".to_owned());
        }
        let objection = match held.stamp() {
            Some(stamp) => by_stamp(stamp, lineage, revision),
            None if self.trusted => None,
            None => by_majority(held.state(), desired),
        };
        self.trusted = objection.is_none();
        objection
    }

    /// An operator agreed.
    pub(super) fn trust(&mut self) {
        self.trusted = true;
        self.adopting = true;
    }
}

fn by_stamp(stamp: &str, lineage: &Lineage, revision: u64) -> Option<String> {
    let known = stamp
        .parse::<Moment>()
        .is_ok_and(|moment| lineage.has_been_at(moment, revision));
    (!known).then(|| {
        format!(
            "the switch was last written from a state ({stamp}) that this database has never been in: \
             it is another database, or a restored backup"
        )
    })
}

fn by_majority(held: &SwitchState, desired: &SwitchState) -> Option<String> {
    let ours = held.logical_switches.iter().filter(|(_, l)| l.owned);
    let (wanted, unknown): (Vec<_>, Vec<_>) =
        ours.partition(|(name, _)| desired.logical_switches.contains_key(name));
    (unknown.len() > wanted.len()).then(|| {
        format!(
            "of {} logical switches of ours on the switch the database wants {}",
            wanted.len() + unknown.len(),
            wanted.len()
        )
    })
}

#[cfg(test)]
mod tests {
    use model::switch::{LogicalSwitch, LogicalSwitchName};

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
            "of 3 logical switches of ours on the switch the database wants 1"
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
