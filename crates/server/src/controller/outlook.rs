//! What a controller knows of the difference between what is wanted and what is held, without looking at everything again.
//!
//! A whole look compares all that should be there with all that is: it is right whatever happened, and takes as long as
//! there is something to compare. After it, intent and switch tell which MACs have changed ([`model::trail`]); a turn then
//! compares those, and those that were not equal before. What else differs is looked at whole: another structure, a new
//! session, steps left that are on more than MACs, two connections that claim one MAC, and every now and then everything.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hardware_vtep::Database;
use model::intent::Desired;
use model::plan::{Plan, Step, plan, plan_macs};
use model::switch::Surplus;
use model::trail::{MacKey, Mark};

use super::feed::Replica;

/// Everything is compared at least so often.
const WHOLE_LOOK: Duration = Duration::from_secs(30);

/// As many MACs as are compared one by one.
const FEW: usize = 10_000;

/// The last look.
#[derive(Debug, Default)]
pub(super) struct Outlook {
    /// What the switches should hold, without the MACs.
    desired: Desired,
    known: Option<Known>,
}

/// What the last look was at, and what it left.
#[derive(Debug)]
struct Known {
    /// The physical switches behind the target.
    devices: BTreeSet<Arc<str>>,
    intent: Mark,
    held: Mark,
    /// MACs that were not equal.
    open: BTreeSet<MacKey>,
    /// When everything was compared.
    whole: Instant,
}

impl Outlook {
    /// What the switches should hold as of the last look, without the MACs.
    pub(super) fn desired(&self) -> &Desired {
        &self.desired
    }

    /// The steps that make the database of these switches hold what is wanted.
    pub(super) fn look(
        &mut self,
        intent: &Replica,
        held: &Database,
        devices: &BTreeSet<Arc<str>>,
    ) -> Plan {
        if let Some(mut known) = self.known.take()
            && known.devices == *devices
            && known.whole.elapsed() < WHOLE_LOOK
            && let Some(plan) = self.look_at_macs(&mut known, intent, held)
        {
            self.keep(known, intent, held, &plan);
            return plan;
        }
        self.desired = intent.intent.desired(devices);
        // What is left out is told by [`crate::status::Residue`], for those whom it concerns.
        held.capabilities().fit(&mut self.desired.state);
        let plan = plan(&self.desired.state, held.state());
        for network in self.desired.state.logical_switches.values_mut() {
            network.macs.clear();
        }
        let known = Known {
            devices: devices.clone(),
            intent: intent.trail.mark(),
            held: held.trail().mark(),
            open: BTreeSet::new(),
            whole: Instant::now(),
        };
        self.keep(known, intent, held, &plan);
        plan
    }

    /// The steps, where only MACs have changed since the last look and those are few.
    fn look_at_macs(&self, known: &mut Known, intent: &Replica, held: &Database) -> Option<Plan> {
        let changed = intent.trail.since(known.intent)?;
        let mut keys = std::mem::take(&mut known.open);
        keys.extend(changed.chain(held.trail().since(known.held)?).cloned());
        let wanted = &self.desired.state.logical_switches;
        // Networks that are not on these switches are the business of others.
        keys.retain(|(name, _)| {
            wanted.contains_key(name) || held.state().logical_switches.contains_key(name)
        });
        let capabilities = held.capabilities();
        let mut macs = Vec::with_capacity(keys.len());
        for key in &keys {
            let network = wanted.get(&key.0)?;
            let mac = intent.intent.desired_mac(&self.desired, key).ok()?;
            macs.push((
                key,
                mac.and_then(|mac| capabilities.fit_mac(network.tunnel_key, mac)),
            ));
        }
        plan_macs(macs, held.state())
    }

    /// Notes what was looked at and what is left, unless more than a few MACs are.
    fn keep(&mut self, mut known: Known, intent: &Replica, held: &Database, plan: &Plan) {
        if !plan.blocked.is_empty() || plan.steps.len() > FEW {
            return;
        }
        for step in &plan.steps {
            let (name, mac) = match step {
                Step::PutMac {
                    logical_switch,
                    mac,
                    ..
                }
                | Step::RemoveMac {
                    logical_switch,
                    mac,
                    ..
                }
                | Step::RemoveSurplus(Surplus::Mac(logical_switch, mac)) => (logical_switch, mac),
                _ => return,
            };
            known.open.insert((name.clone(), *mac));
        }
        known.intent = intent.trail.mark();
        known.held = held.trail().mark();
        self.known = Some(known);
    }
}
