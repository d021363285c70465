//! Deletions: many devices by one message, as many as others can bear to wait for.

use std::io;
use std::time::Duration;

use nix::errno::Errno;

use super::Applier;
use super::progress::Progress;
use crate::kernel::message;
use crate::kernel::step::Step;

/// Devices deleted by one message; the kernel changes no device or entry for anybody else meanwhile. Most take it a fraction of
/// a millisecond each, once it has waited for those who still look at them.
const DOOMED_AT_ONCE: usize = 64;
/// A bridge takes it some 20 ms, however many go at once: it waits for all that was put off (rcu_barrier), for each again.
/// It does so once more after each message, but holds nobody up then.
const BRIDGES_DOOMED_AT_ONCE: usize = 8;

/// Deletions that nobody waits for end here, so that whoever called has a turn.
pub(super) const LONGEST_TURN: Duration = Duration::from_millis(500);

/// How many bridges go by one message: many take less time, few let others have their turn sooner. So one at a time while
/// somebody waits, and twice as many each time nobody did.
#[derive(Debug)]
pub(crate) struct Stride(usize);

impl Default for Stride {
    fn default() -> Self {
        Self(1)
    }
}

impl Stride {
    pub(super) fn taken(&mut self, somebody_waits: bool) {
        self.0 = match somebody_waits {
            true => 1,
            false => (self.0 * 2).min(BRIDGES_DOOMED_AT_ONCE),
        };
    }
}

impl Step {
    pub(super) fn is_removal(&self) -> bool {
        matches!(
            self,
            Self::DeleteDevice(_) | Self::RemoveFilter(_) | Self::PutGuard(None)
        )
    }
}

impl Applier<'_> {
    /// Deletes the devices at the head of `steps`, many by one message; returns the steps behind them.
    pub(super) fn delete<'p>(
        &mut self,
        steps: &'p [Step],
        progress: &mut Progress,
    ) -> io::Result<&'p [Step]> {
        let is_bridge = |step: &Step| match step {
            Step::DeleteDevice(name) => Some(self.state.bridges.contains_key(name)),
            _ => None,
        };
        let kind = steps.first().and_then(is_bridge);
        let at_once = match kind {
            Some(true) => self.stride.0,
            _ => DOOMED_AT_ONCE,
        };
        let alike = steps.iter().take_while(|step| is_bridge(step) == kind);
        let count = alike.take(at_once).count();
        let (deletions, rest) = steps.split_at_checked(count).unwrap_or((steps, &[]));
        let mut doomed = Vec::new();
        for step in deletions {
            // What is gone already needs no deletion.
            if let Some(name) = step.interface() {
                match self.indexes.index(name) {
                    Some(index) => doomed.push((step, index)),
                    None => self.state.apply(step),
                }
            }
        }
        let requests = match doomed.as_slice() {
            [(_, index)] => vec![message::delete(*index)],
            doomed => {
                let mark = doomed.iter().map(|(_, index)| message::doom(*index));
                mark.chain([message::delete_doomed()]).collect()
            }
        };
        let refused = self.netlink.write(requests)?;
        // What went meanwhile, with its network namespace or by other hands, is as good as deleted.
        let mut refused = refused.iter().map(|(_, error)| error);
        let total = refused.rfind(|error| error.errno != Errno::ENODEV);
        let gone = doomed.iter().filter(|_| total.is_none());
        let numbers: Vec<u32> = gone.map(|(_, index)| *index).collect();
        for (step, _) in doomed {
            match total {
                Some(error) => progress.fail(step, error),
                None => {
                    if let Some(name) = step.interface() {
                        self.indexes.remove(name);
                        // It went along.
                        let other = self
                            .state
                            .vlans
                            .get(&name)
                            .map(|vlan| vlan.kind.other_end());
                        other.flatten().inspect(|other| self.indexes.remove(*other));
                    }
                    self.state.apply(step);
                }
            }
        }
        self.events.take_in()?;
        // They tell how a device went that is gone: nothing to look at.
        self.events.forget_links(&numbers);
        Ok(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bridges_go_more_at_once_as_long_as_nobody_waits() {
        let mut stride = Stride::default();
        let mut taken = |somebody_waits| {
            let of = stride.0;
            stride.taken(somebody_waits);
            of
        };
        let alone: Vec<_> = (0..5).map(|_| taken(false)).collect();
        assert_eq!(alone, [1, 2, 4, 8, 8]);
        taken(true);
        assert_eq!([taken(false), taken(false)], [1, 2]);
    }
}
