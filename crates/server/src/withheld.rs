//! What a controller must not do for the time being, and why.

use std::collections::BTreeSet;
use std::fmt;

use model::plan::{Plan, Step};
use model::switch::LogicalSwitchName;

/// Steps that wait, and the reason in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Withheld {
    reason: String,
    what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    Everything,
    /// What changes or removes something, but on logical switches for which an operator agreed.
    Changes {
        but_on: BTreeSet<LogicalSwitchName>,
        /// And everything on these: what they lack would be joined with what is left there.
        and_additions_on: BTreeSet<LogicalSwitchName>,
    },
    /// What changes or removes something on these logical switches.
    ChangesOn(BTreeSet<LogicalSwitchName>),
}

impl Withheld {
    /// Nothing is written at all.
    pub(crate) fn everything(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            what: What::Everything,
        }
    }

    /// Nothing is changed or removed, but on the first of these logical switches, and nothing at all done on the second.
    pub(crate) fn changes_but_on(
        reason: impl Into<String>,
        but_on: BTreeSet<LogicalSwitchName>,
        and_additions_on: BTreeSet<LogicalSwitchName>,
    ) -> Self {
        Self {
            reason: reason.into(),
            what: What::Changes {
                but_on,
                and_additions_on,
            },
        }
    }

    /// Nothing is changed or removed on these logical switches.
    pub(crate) fn changes_on(
        reason: impl Into<String>,
        these: BTreeSet<LogicalSwitchName>,
    ) -> Self {
        Self {
            reason: reason.into(),
            what: What::ChangesOn(these),
        }
    }

    /// Whether nothing is written at all.
    pub fn is_everything(&self) -> bool {
        self.what == What::Everything
    }

    /// Whether it concerns some logical switches alone, and the rest is as good as if nothing were withheld.
    pub fn leaves_the_rest(&self) -> bool {
        matches!(self.what, What::ChangesOn(_))
    }

    /// Whether a step waits.
    pub fn holds(&self, step: &Step) -> bool {
        let changed = || std::iter::once(step.logical_switch()).chain(step.displaces());
        match &self.what {
            What::Everything => true,
            What::Changes {
                and_additions_on, ..
            } if changed().any(|name| and_additions_on.contains(name)) => true,
            _ if step.only_adds() => false,
            // Who gets what another one loses, gains.
            What::Changes { but_on, .. } => {
                let loses = step.displaces().unwrap_or(step.logical_switch());
                !but_on.contains(loses)
            }
            What::ChangesOn(these) => changed().any(|name| these.contains(name)),
        }
    }

    /// What need not wait of a plan.
    pub fn permitted(&self, plan: &Plan) -> Plan {
        let steps = plan.steps.iter().filter(|step| !self.holds(step));
        Plan {
            steps: steps.cloned().collect(),
            blocked: plan.blocked.clone(),
        }
    }
}

impl fmt::Display for Withheld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.reason)
    }
}

#[cfg(test)]
mod tests {
    use model::switch::{PhysicalPort, PortVlan};
    use model::value::VlanId;

    use super::*;

    fn name(name: &str) -> LogicalSwitchName {
        LogicalSwitchName::new(name)
    }

    fn create(of: &str) -> Step {
        Step::CreateLogicalSwitch {
            name: name(of),
            tunnel_key: None,
            mtu: None,
        }
    }

    fn delete(of: &str) -> Step {
        Step::DeleteLogicalSwitch { name: name(of) }
    }

    fn rebind(was: &str, to: &str) -> Step {
        Step::Bind {
            port_vlan: PortVlan {
                port: PhysicalPort {
                    switch: "tor".into(),
                    name: "p1".into(),
                },
                vlan: VlanId::UNTAGGED,
            },
            was: Some(name(was)),
            logical_switch: name(to),
        }
    }

    #[test]
    fn without_consent_only_additions_go_on() {
        let withheld = Withheld::changes_but_on("", [name("a")].into(), [name("c")].into());
        assert!(!withheld.holds(&create("b")));
        assert!(withheld.holds(&delete("b")));
        assert!(!withheld.holds(&delete("a")), "an operator agreed");
        assert!(withheld.holds(&rebind("b", "a")), "that takes from b");
        assert!(!withheld.holds(&rebind("a", "b")), "that is agreed to");
        assert!(withheld.holds(&rebind("a", "c")));
        assert!(withheld.holds(&create("c")), "what is left has its key");
    }

    #[test]
    fn what_is_somebody_elses_waits_alone() {
        let withheld = Withheld::changes_on("", [name("theirs")].into());
        assert!(!withheld.holds(&delete("a")));
        assert!(withheld.holds(&delete("theirs")));
        assert!(withheld.holds(&rebind("theirs", "a")));
        assert!(!withheld.holds(&create("theirs")));
    }

    #[test]
    fn who_may_not_write_does_not_add_either() {
        assert!(Withheld::everything("").holds(&create("a")));
    }
}
