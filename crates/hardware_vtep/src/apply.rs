//! Carries out a plan: the controller's half of writing to a switch.
//!
//! Steps become transactions of about `BATCH` operations, `WINDOW` of them under way at a time, in the plan's order.
//! Two kinds go ahead and are waited for, because later transactions refer to rows that they make:
//!
//! 1. Steps on logical switches.
//! 2. For each locator, the first step that uses it. A `Physical_Locator` row exists as long as some row refers to it, so
//!    it can only be inserted together with its first user; and a locator whose last user moves away is collected before
//!    the next one arrives, unless the arrival is in the same transaction or earlier.
//!
//! A transaction that fails does not keep the others from being tried. It is taken apart until the step that the server
//! objects to stands alone, so that one bad step fails alone. What fails for a reason that passes (the switch made the
//! same locator in that instant) succeeds in the next run, which compares everything again.

mod translate;

use std::collections::BTreeSet;
use std::ops::Range;

use futures_util::StreamExt;
use model::plan::{Plan, Step};
use model::switch::Locator;
use ovsdb::{Lock, Operation, Outcome, Session, SharedReplica, TransactError, Transaction};

use self::translate::Batch;
use crate::database::Database;
use crate::schema::NAME;

/// Operations per transaction. What each one changes comes back to us in one message: of 50 to 100 rows ovsdb-server
/// composes it fastest, and where others use the processor's caches too, 150 cost a quarter more. It answers nobody else
/// during a longer one.
pub(crate) const BATCH: usize = 75;

/// Transactions under way. With more than some thousand rows waiting in its input ovsdb-server is three times slower.
pub(crate) const WINDOW: usize = 40;

/// A transaction that does not happen unless the session owns the lock at that moment.
pub(crate) fn fenced(
    fence: Option<&Lock>,
    operations: impl IntoIterator<Item = Operation>,
) -> Transaction {
    fence
        .map(Lock::assertion)
        .into_iter()
        .chain(operations)
        .collect()
}

/// Failed transactions to take apart in one run. A switch that refuses everything is not asked 100,000 times.
const PATIENCE: usize = 200;

/// A step that was not done.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Its index in [`Plan::steps`].
    pub step: usize,
    /// Why not.
    pub error: StepError,
}

/// Why a step was not done.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StepError {
    /// A row that the step changes or refers to is not there.
    #[error("the switch has no {0}")]
    Missing(String),
    /// The switch's schema is too old for the step.
    #[error("the switch's schema has no {column}: {subject} cannot be had")]
    Unsupported {
        /// The column that is missing.
        column: &'static str,
        /// What would need it.
        subject: String,
    },
    /// The server refused the step, in its own words, or the connection ended.
    #[error(transparent)]
    Transaction(#[from] TransactError),
}

/// Carries out the steps of a plan in order, and returns those that were not done, in order.
///
/// `replica` must be fed by `session`. When this returns, it shows all that was done. Dropping the future stops after the
/// transactions that are under way; a new plan then finds what is left.
pub async fn apply(
    session: &Session,
    replica: &SharedReplica<Database>,
    plan: &Plan,
) -> Vec<Failure> {
    apply_fenced(session, replica, plan, None).await
}

/// As [`apply`], and no transaction happens unless the session owns the lock at that moment: what one controller began,
/// another one that has taken the lock is not disturbed by.
pub async fn apply_fenced(
    session: &Session,
    replica: &SharedReplica<Database>,
    plan: &Plan,
    fence: Option<&Lock>,
) -> Vec<Failure> {
    let mut run = Run {
        session,
        replica,
        fence: fence.map(Lock::assertion),
        steps: &plan.steps,
        patience: PATIENCE,
        failures: Vec::new(),
    };
    let order = Order::of(&plan.steps);
    run.all(&order.logical_switches).await;
    run.all(&order.first_users).await;
    run.all(&order.others).await;
    let mut failures = run.failures;
    failures.sort_by_key(|failure| failure.step);
    failures
}

/// The steps of a plan by when they can be sent, as indices.
#[derive(Debug, Default)]
struct Order {
    logical_switches: Vec<usize>,
    first_users: Vec<usize>,
    others: Vec<usize>,
}

impl Order {
    fn of(steps: &[Step]) -> Self {
        let mut order = Self::default();
        let mut used = BTreeSet::<Locator>::new();
        for (index, step) in steps.iter().enumerate() {
            let first = match step {
                Step::CreateLogicalSwitch { .. }
                | Step::AdoptLogicalSwitch { .. }
                | Step::RekeyLogicalSwitch { .. }
                | Step::SetMtu { .. } => {
                    order.logical_switches.push(index);
                    continue;
                }
                Step::PutMac { remote, .. } => used.insert(remote.locator),
                Step::SetFlood { locators, .. } => {
                    let before = used.len();
                    used.extend(locators);
                    used.len() > before
                }
                Step::Bind { .. }
                | Step::Unbind { .. }
                | Step::RemoveMac { .. }
                | Step::RemoveSurplus(_)
                | Step::DeleteLogicalSwitch { .. } => false,
            };
            match first {
                true => order.first_users.push(index),
                false => order.others.push(index),
            }
        }
        order
    }
}

struct Run<'a> {
    session: &'a Session,
    replica: &'a SharedReplica<Database>,
    /// Stands before the operations of each transaction.
    fence: Option<Operation>,
    steps: &'a [Step],
    /// How many failed transactions may still be taken apart.
    patience: usize,
    failures: Vec<Failure>,
}

impl Run<'_> {
    /// Sends the steps in order, then tries again what failed.
    async fn all(&mut self, steps: &[usize]) {
        let mut failed = Vec::new();
        let mut next = 0;
        let mut in_flight = futures_util::stream::FuturesOrdered::new();
        loop {
            // Translated only now: the replica shows what earlier transactions did, and so the rows to refer to.
            while in_flight.len() < WINDOW && next < steps.len() {
                let batch = self.translate(steps, next);
                next = batch.end;
                self.failures.extend(batch.failures);
                if !batch.operations.is_empty() {
                    let outcome = self.session.transact(NAME, &batch.transaction);
                    let operations = batch.operations;
                    in_flight.push_back(async move { (operations, outcome.await) });
                }
            }
            match in_flight.next().await {
                Some((operations, outcome)) => failed.extend(rejected(operations, outcome)),
                None => break,
            }
        }
        for rejected in failed {
            self.take_apart(rejected).await;
        }
    }

    /// Tries the steps of a failed transaction again: the one that the server named is left out, otherwise each half for
    /// itself.
    async fn take_apart(&mut self, failed: Rejected) {
        let mut failed = vec![failed];
        while let Some(Rejected {
            mut steps,
            culprit,
            error,
        }) = failed.pop()
        {
            let again = is_of_a_step(&error) && self.patience > 0;
            if !again || steps.len() == 1 {
                let failures = steps.into_iter().map(|step| Failure {
                    step,
                    error: error.clone().into(),
                });
                self.failures.extend(failures);
                continue;
            }
            self.patience -= 1;
            let parts = match culprit {
                Some(culprit) => {
                    steps.retain(|step| *step != culprit);
                    self.failures.push(Failure {
                        step: culprit,
                        error: error.into(),
                    });
                    vec![steps]
                }
                None => {
                    let half = steps.split_off(steps.len() / 2);
                    vec![steps, half]
                }
            };
            for part in parts {
                let mut next = 0;
                while next < part.len() {
                    let batch = self.translate(&part, next);
                    next = batch.end;
                    self.failures.extend(batch.failures);
                    if !batch.operations.is_empty() {
                        let outcome = self.session.transact(NAME, &batch.transaction).await;
                        failed.extend(rejected(batch.operations, outcome));
                    }
                }
            }
        }
    }

    /// The next transaction for `steps`, from the one at `from`.
    fn translate(&self, steps: &[usize], from: usize) -> Batch {
        self.replica.read(|database| {
            let mut batch = Batch::default();
            batch.transaction.extend(self.fence.clone());
            batch.fill(database, self.steps, steps, from);
            batch
        })
    }
}

/// Whether a transaction failed for the sake of some step of it, and the others may do without.
fn is_of_a_step(error: &TransactError) -> bool {
    match error {
        // RFC 7047 section 5.2.9: the assertion failed, and will for all.
        TransactError::Failed(failure) => failure.error.error != "not owner",
        _ => false,
    }
}

/// The operations of each step in a transaction.
type Operations = Vec<(usize, Range<usize>)>;

/// A transaction that failed.
struct Rejected {
    /// Its steps.
    steps: Vec<usize>,
    /// The one of them that the server named, if it named one.
    culprit: Option<usize>,
    error: TransactError,
}

fn rejected(operations: Operations, outcome: Result<Outcome, TransactError>) -> Option<Rejected> {
    let error = outcome.err()?;
    let culprit = match &error {
        TransactError::Failed(failure) => failure.operation.and_then(|operation| {
            let named = operations
                .iter()
                .find(|(_, range)| range.contains(&operation));
            named.map(|(step, _)| *step)
        }),
        _ => None,
    };
    let steps = operations.into_iter().map(|(step, _)| step).collect();
    Some(Rejected {
        steps,
        culprit,
        error,
    })
}
