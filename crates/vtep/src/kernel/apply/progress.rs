//! What became of the steps of a plan so far, and which of the others that leaves without a chance.

use std::collections::BTreeSet;
use std::fmt;

use crate::kernel::name::InterfaceName;
use crate::kernel::step::Step;

/// A step the kernel refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The step.
    pub step: Step,
    /// The kernel's words.
    pub error: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.step, self.error)
    }
}

/// What became of a plan.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) failures: Vec<Failure>,
    /// Steps not tried: one they depend on failed, they are deletions that can wait, or we were asked to stop.
    pub(crate) left_out: usize,
    /// Those of them, at the end of the plan, that can wait.
    pub(crate) postponed: Vec<Step>,
}

/// The steps done and not done so far.
#[derive(Default)]
pub(super) struct Progress {
    pub(super) outcome: Outcome,
    /// Interfaces that are not what later steps take them to be.
    pub(super) broken: BTreeSet<InterfaceName>,
}

impl Progress {
    pub(super) fn fail(&mut self, step: &Step, error: &impl ToString) {
        if let (Some(name), true) = (step.interface(), step.others_depend_on_it()) {
            self.broken.insert(name);
        }
        if let Step::CreateVlan(_, shape) = step {
            self.broken.extend(shape.kind.other_end());
        }
        self.outcome.failures.push(Failure {
            step: step.clone(),
            error: error.to_string(),
        });
    }

    pub(super) fn is_hopeless(&self, step: &Step) -> bool {
        let broken = |name: InterfaceName| self.broken.contains(&name);
        match step {
            Step::Attach { interface, bridge } => broken(*interface) || broken(*bridge),
            step => step.interface().is_some_and(broken),
        }
    }
}

impl Step {
    fn others_depend_on_it(&self) -> bool {
        matches!(
            self,
            Self::CreateBridge(..)
                | Self::CreateVxlan(..)
                | Self::CreateVlan(..)
                | Self::Attach { .. }
        )
    }
}
