//! The difference between two switch states, as ordered steps.
//!
//! [`plan`] is pure and total, and keeps these laws (each is a property test below):
//!
//! 1. Applying `plan(desired, actual)` to `actual` gives `desired` on everything we own, but for what is [`Blocked`].
//! 2. `plan(desired, desired)` is empty: a second run writes nothing.
//! 3. Any prefix of a plan, then a new plan, still converges: being interrupted costs nothing.
//! 4. What we do not own is never touched, and no network is joined with one of another controller: see `keys`.
//! 5. No step leaves a dangling reference: every state on the way is one the database would accept.
//!
//! The order is make before break: logical switches, then where their frames go, then bindings, and only then removals.
use std::cmp::Ordering;
use std::iter::Peekable;

use crate::switch::{LogicalSwitch, LogicalSwitchName, RemoteMac, Surplus, SwitchState};
use crate::trail::MacKey;
use crate::value::MacAddress;

pub use self::blocked::{Blocked, BlockedReason, KeyTaken};
pub use self::keys::foreign_with_key;
pub use self::step::Step;

mod blocked;
mod keys;
mod step;
mod words;

/// What to do, in order, and what cannot be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The changes, in the order in which they must be made.
    pub steps: Vec<Step>,
    /// What is wanted and cannot be had; reported, never retried blindly.
    pub blocked: Vec<Blocked>,
}

impl Plan {
    /// Whether the switch already holds all that it can of what is wanted.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }
}

/// The steps that make `actual` hold what `desired` says.
pub fn plan(desired: &SwitchState, actual: &SwitchState) -> Plan {
    let mut phases = Phases::default();
    let taken = keys::taken(desired, actual);
    for (name, wanted, held) in union(&desired.logical_switches, &actual.logical_switches) {
        match (wanted, held) {
            (Some(_), None) if taken.contains_key(name) => {}
            (Some(wanted), Some(held)) if taken.contains_key(name) => {
                let wanted = keys::without_additions(wanted, held);
                phases.logical_switch(name, &wanted, Some(held));
            }
            (Some(wanted), held) => phases.logical_switch(name, wanted, held),
            (None, Some(held)) if held.owned => phases
                .delete
                .push(Step::DeleteLogicalSwitch { name: name.clone() }),
            _ => {}
        }
    }
    // A logical switch is ours when it carries our mark or is about to: adoption takes its bindings along.
    let ours = |name: &LogicalSwitchName| {
        desired.logical_switches.contains_key(name)
            || actual.logical_switches.get(name).is_some_and(|l| l.owned)
    };
    let blocked = taken.iter().map(|(name, (key, theirs))| Blocked::Network {
        logical_switch: (*name).clone(),
        tunnel_key: *key,
        theirs: (*theirs).clone(),
    });
    let mut blocked: Vec<_> = blocked.collect();
    for (port_vlan, wanted, held) in union(&desired.bindings, &actual.bindings) {
        let wanted = wanted.filter(|name| !taken.contains_key(name) || held == Some(name));
        match (wanted, held) {
            (Some(wanted), held) if Some(wanted) != held => {
                let reason = match held {
                    Some(held) if !ours(held) => BlockedReason::BoundByOthers(held.clone()),
                    None if !actual.ports.contains(&port_vlan.port) => BlockedReason::NoSuchPort,
                    _ => {
                        phases.bind.push(Step::Bind {
                            port_vlan: port_vlan.clone(),
                            was: held.cloned(),
                            logical_switch: wanted.clone(),
                        });
                        continue;
                    }
                };
                blocked.push(Blocked::Binding {
                    port_vlan: port_vlan.clone(),
                    logical_switch: wanted.clone(),
                    reason,
                });
            }
            (None, Some(held)) if ours(held) => phases.unbind.push(Step::Unbind {
                port_vlan: port_vlan.clone(),
                was: held.clone(),
            }),
            _ => {}
        }
    }
    for surplus in &actual.surplus {
        if desired
            .logical_switches
            .contains_key(surplus.logical_switch())
        {
            phases.remove.push(Step::RemoveSurplus(surplus.clone()));
        }
    }
    Plan {
        steps: phases.in_order(),
        blocked,
    }
}

/// The steps that make `actual` hold what is wanted of these MACs: what [`plan`] says of them, where nothing else differs.
///
/// Each stands beside what is wanted of it and is on a logical switch that is wanted. If one of those is not there, it takes
/// [`plan`] to make it: then there is no answer.
pub fn plan_macs<'k>(
    wanted: impl IntoIterator<Item = (&'k MacKey, Option<RemoteMac>)>,
    actual: &SwitchState,
) -> Option<Plan> {
    let mut phases = Phases::default();
    let mut surplus = Vec::new();
    for ((name, mac), wanted) in wanted {
        let held = actual.logical_switches.get(name)?;
        phases.mac(name, *mac, wanted.as_ref(), held.macs.get(mac));
        let further = Surplus::Mac(name.clone(), *mac);
        if actual.surplus.contains(&further) {
            surplus.push(Step::RemoveSurplus(further));
        }
    }
    phases.remove.extend(surplus);
    Some(Plan {
        steps: phases.in_order(),
        blocked: Vec::new(),
    })
}

/// Steps collected by kind, so that one walk over both states can put them in an order that never dangles.
#[derive(Default)]
struct Phases {
    create: Vec<Step>,
    forward: Vec<Step>,
    bind: Vec<Step>,
    unbind: Vec<Step>,
    remove: Vec<Step>,
    delete: Vec<Step>,
}

impl Phases {
    fn logical_switch(
        &mut self,
        name: &LogicalSwitchName,
        wanted: &LogicalSwitch,
        held: Option<&LogicalSwitch>,
    ) {
        let nothing = LogicalSwitch::default();
        match held {
            None => self.create.push(Step::CreateLogicalSwitch {
                name: name.clone(),
                tunnel_key: wanted.tunnel_key,
                mtu: wanted.mtu,
            }),
            Some(held) => {
                if !held.owned {
                    self.create
                        .push(Step::AdoptLogicalSwitch { name: name.clone() });
                }
                if held.tunnel_key != wanted.tunnel_key {
                    self.create.push(Step::RekeyLogicalSwitch {
                        name: name.clone(),
                        was: held.tunnel_key,
                        tunnel_key: wanted.tunnel_key,
                    });
                }
                if held.mtu != wanted.mtu {
                    self.create.push(Step::SetMtu {
                        name: name.clone(),
                        was: held.mtu,
                        mtu: wanted.mtu,
                    });
                }
            }
        }
        let held = held.unwrap_or(&nothing);
        for (mac, wanted, held) in union(&wanted.macs, &held.macs) {
            self.mac(name, *mac, wanted, held);
        }
        if wanted.flood != held.flood {
            self.forward.push(Step::SetFlood {
                logical_switch: name.clone(),
                was: held.flood.clone(),
                locators: wanted.flood.clone(),
            });
        }
    }

    fn mac(
        &mut self,
        name: &LogicalSwitchName,
        mac: MacAddress,
        wanted: Option<&RemoteMac>,
        held: Option<&RemoteMac>,
    ) {
        match (wanted, held) {
            (Some(remote), held) if Some(remote) != held => self.forward.push(Step::PutMac {
                logical_switch: name.clone(),
                mac,
                was: held.copied(),
                remote: *remote,
            }),
            (None, Some(was)) => self.remove.push(Step::RemoveMac {
                logical_switch: name.clone(),
                mac,
                was: *was,
            }),
            _ => {}
        }
    }

    fn in_order(self) -> Vec<Step> {
        let mut steps = self.create;
        for phase in [
            self.forward,
            self.bind,
            self.unbind,
            self.remove,
            self.delete,
        ] {
            steps.extend(phase);
        }
        steps
    }
}

/// Walks the union of the keys of two sorted maps, so that what only one side has is seen too.
fn union<'a, K: Ord, V>(
    left: &'a std::collections::BTreeMap<K, V>,
    right: &'a std::collections::BTreeMap<K, V>,
) -> impl Iterator<Item = (&'a K, Option<&'a V>, Option<&'a V>)> {
    struct Union<L: Iterator, R: Iterator>(Peekable<L>, Peekable<R>);
    impl<'a, K: Ord + 'a, V: 'a, L, R> Iterator for Union<L, R>
    where
        L: Iterator<Item = (&'a K, &'a V)>,
        R: Iterator<Item = (&'a K, &'a V)>,
    {
        type Item = (&'a K, Option<&'a V>, Option<&'a V>);

        fn next(&mut self) -> Option<Self::Item> {
            let order = match (self.0.peek(), self.1.peek()) {
                (Some((left, _)), Some((right, _))) => left.cmp(right),
                (Some(_), None) => Ordering::Less,
                (None, _) => Ordering::Greater,
            };
            match order {
                Ordering::Less => self.0.next().map(|(k, l)| (k, Some(l), None)),
                Ordering::Greater => self.1.next().map(|(k, r)| (k, None, Some(r))),
                Ordering::Equal => self
                    .0
                    .next()
                    .zip(self.1.next())
                    .map(|((k, l), (_, r))| (k, Some(l), Some(r))),
            }
        }
    }
    Union(left.iter().peekable(), right.iter().peekable())
}

#[cfg(test)]
mod tests;
