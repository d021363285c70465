//! Carries out a plan: netlink messages in batches, nft transactions, and the settings only /proc has.
//!
//! A refused step does not stop the others: what depends on it is left out, the rest is done, and every refusal is
//! reported. What was done is entered into the known state; what was refused makes that part of it uncertain.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::bpf;
use super::desired::NodeConfig;
use super::events::Events;
use super::guard;
use super::message;
use super::name::InterfaceName;
use super::netlink::{BATCH, Netlink, Request};
use super::netns::Underlays;
use super::observe::{self, Indexes};
use super::plan::Plan;
use super::state::KernelState;
use super::step::Step;
use super::sysctl;
use super::tc;
use super::traffic::Counts;
use super::underlay::Underlay;
use super::vlan::{self, Steering, VlanKind, VlanShape};
use super::{filter, nft};

/// Devices deleted by one message; the kernel changes no device or entry for anybody else meanwhile. Most take it a fraction of
/// a millisecond each, once it has waited for those who still look at them.
const DOOMED_AT_ONCE: usize = 64;
/// A bridge takes it some 20 ms, however many go at once: it waits for all that was put off (rcu_barrier), for each again.
/// It does so once more after each message, but holds nobody up then.
const BRIDGES_DOOMED_AT_ONCE: usize = 8;

/// Deletions that nobody waits for end here, so that whoever called has a turn.
const LONGEST_TURN: Duration = Duration::from_millis(500);

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
    fn taken(&mut self, somebody_waits: bool) {
        self.0 = match somebody_waits {
            true => 1,
            false => (self.0 * 2).min(BRIDGES_DOOMED_AT_ONCE),
        };
    }
}

/// A step the kernel refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The step.
    pub step: Step,
    /// The kernel's words.
    pub error: String,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
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

/// How far a plan is carried out before its caller has a turn again.
pub trait Pace {
    /// Finish the batch at hand and leave it at that.
    fn is_over(&self) -> bool;

    /// Something has come up that goes before deletions.
    fn somebody_waits(&self) -> bool;
}

/// Set from outside: to stop.
impl Pace for AtomicBool {
    fn is_over(&self) -> bool {
        self.load(Ordering::Relaxed)
    }

    fn somebody_waits(&self) -> bool {
        false
    }
}

/// The edge to the kernel, while it carries out one plan.
pub(crate) struct Applier<'a> {
    pub(crate) netlink: &'a mut Netlink,
    pub(crate) events: &'a mut Events,
    pub(crate) underlays: &'a Underlays,
    pub(crate) state: &'a mut KernelState,
    pub(crate) indexes: &'a mut Indexes,
    pub(crate) config: &'a NodeConfig,
    pub(crate) pace: &'a dyn Pace,
    /// Of deletions, from one plan to the next.
    pub(crate) stride: &'a mut Stride,
    /// Changes made by other means than netlink so far.
    pub(crate) other_writes: &'a mut u64,
}

/// Requests waiting to be sent, and the steps they carry out.
#[derive(Default)]
struct Pending<'p> {
    requests: Vec<Request>,
    /// A request's step; several requests may share one.
    steps: Vec<&'p Step>,
    creates: HashSet<InterfaceName>,
}

/// What steers the frames of an interface.
#[derive(Default)]
struct Programmed {
    /// Its program and the section it is in, if it is to have one.
    of: Option<(String, bpf::Program)>,
    /// Why frames of some VLANs find no way: a device of theirs that can't be had.
    lack: Option<io::Error>,
}

/// The steps done and not done so far.
#[derive(Default)]
struct Progress {
    outcome: Outcome,
    /// Interfaces that are not what later steps take them to be.
    broken: BTreeSet<InterfaceName>,
}

impl Progress {
    fn fail(&mut self, step: &Step, error: &impl ToString) {
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

    fn is_hopeless(&self, step: &Step) -> bool {
        let broken = |name: InterfaceName| self.broken.contains(&name);
        match step {
            Step::Attach { interface, bridge } => broken(*interface) || broken(*bridge),
            step => step.interface().is_some_and(broken),
        }
    }
}

impl Step {
    fn is_removal(&self) -> bool {
        matches!(
            self,
            Self::DeleteDevice(_) | Self::RemoveFilter(_) | Self::PutGuard(None)
        )
    }

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

impl Applier<'_> {
    /// Carries out a plan. An error means that the kernel can't be talked to at all.
    pub(crate) fn carry_out(mut self, plan: &Plan) -> io::Result<Outcome> {
        let mut progress = Progress::default();
        let mut pending = Pending::default();
        let mut rest = plan.steps.as_slice();
        let mut deleting: Option<Instant> = None;
        while let Some((step, after)) = rest.split_first() {
            if self.pace.is_over() {
                progress.outcome.left_out += rest.len();
                break;
            }
            if matches!(step, Step::DeleteDevice(_)) {
                self.flush(&mut pending, &mut progress)?;
                rest = self.delete(rest, &mut progress)?;
                // Hundreds of networks take the kernel seconds to delete: whoever has come to wait meanwhile goes first.
                let since = *deleting.get_or_insert_with(Instant::now);
                let somebody_waits = self.pace.somebody_waits();
                self.stride.taken(somebody_waits);
                let turn = somebody_waits || since.elapsed() >= LONGEST_TURN;
                let more = matches!(rest.first(), Some(Step::DeleteDevice(_)));
                if turn && more && rest.iter().all(Step::is_removal) {
                    progress.outcome.left_out += rest.len();
                    progress.outcome.postponed = rest.to_vec();
                    break;
                }
                continue;
            }
            if matches!(step, Step::Steer(..)) {
                // It is done by another program, which must find what was asked for before.
                self.flush(&mut pending, &mut progress)?;
                rest = self.steer(rest, &mut progress)?;
                continue;
            }
            rest = after;
            if progress.is_hopeless(step) {
                progress.outcome.left_out += 1;
                continue;
            }
            self.one(step, &mut pending, &mut progress)?;
            if pending.requests.len() >= BATCH {
                self.flush(&mut pending, &mut progress)?;
            }
        }
        self.flush(&mut pending, &mut progress)?;
        Ok(progress.outcome)
    }

    fn one<'p>(
        &mut self,
        step: &'p Step,
        pending: &mut Pending<'p>,
        progress: &mut Progress,
    ) -> io::Result<()> {
        match step {
            Step::BypassBridgeNetfilter => {
                let done = sysctl::bypass_bridge_netfilter();
                return self.other(step, done, progress);
            }
            Step::ReplaceFilter(underlay, wanted) => {
                // What was counted goes on being counted; unless it can't be read, which is no reason to leave a door open.
                let counts = self.underlays.at(*underlay, Counts::read);
                let counts = counts.unwrap_or_default();
                let script = filter::replacement(wanted, &counts, self.config, *underlay);
                return self.run_nft(step, *underlay, &script, progress);
            }
            Step::ChangeFilter {
                underlay,
                add,
                remove,
            } => {
                let script = filter::change(add, remove);
                return self.run_nft(step, *underlay, &script, progress);
            }
            Step::RemoveFilter(underlay) => {
                self.flush(pending, progress)?;
                return self.run_nft(step, *underlay, &filter::removal(), progress);
            }
            Step::PutGuard(guard) => {
                self.flush(pending, progress)?;
                let done = guard::put(guard.as_deref());
                return self.other(step, done, progress);
            }
            Step::CreateBridge(name, shape) => {
                pending.push(step, message::create_bridge(*name, shape));
                pending.push(step, message::set_alias(*name, &shape.link));
                pending.creates.insert(*name);
                return Ok(());
            }
            Step::CreateVxlan(name, shape) => {
                pending.push(step, message::create_vxlan(*name, shape));
                pending.push(step, message::set_alias(*name, &shape.link));
                pending.creates.insert(*name);
                return Ok(());
            }
            Step::CreateVlan(name, shape) => {
                return self.create_vlan(step, *name, shape, pending, progress);
            }
            _ => {}
        }
        let Some(name) = step.interface() else {
            return Ok(());
        };
        let Some(index) = self.index(name, pending, progress)? else {
            if progress.is_hopeless(step) {
                progress.outcome.left_out += 1;
            } else {
                progress.fail(step, &"no such interface");
            }
            return Ok(());
        };
        match step {
            Step::Attach { bridge, .. } => match self.index(*bridge, pending, progress)? {
                Some(bridge) => pending.push(step, message::attach(index, Some(bridge))),
                None => progress.fail(step, &"no such bridge"),
            },
            Step::SetHostSide(name, host) => {
                let done = sysctl::set_host_side(*name, *host);
                self.other(step, done, progress)?;
                if host.ipv6 {
                    pending.push(step, message::set_link_local(index, host.link_local));
                }
            }
            Step::ChangeBridge { was, shape, .. } => {
                pending.push_all(step, message::change_bridge(index, was, shape));
            }
            Step::ChangeVxlan { was, shape, .. } => {
                pending.push_all(step, message::change_vxlan(index, was, shape));
            }
            step => pending.push_all(step, self.simple(step, index)),
        }
        Ok(())
    }

    fn create_vlan<'p>(
        &mut self,
        step: &'p Step,
        name: InterfaceName,
        shape: &VlanShape,
        pending: &mut Pending<'p>,
        progress: &mut Progress,
    ) -> io::Result<()> {
        let mut port = None;
        if let VlanKind::Subinterface { of: Some(of), .. } = shape.kind {
            port = self.index(of, pending, progress)?;
            if port.is_none() {
                progress.fail(step, &format!("no such interface: {of}"));
                return Ok(());
            }
        }
        pending.push(step, message::create_vlan(name, shape, port));
        for end in std::iter::once(name).chain(shape.kind.other_end()) {
            pending.push(step, message::set_alias(end, &shape.link));
            pending.creates.insert(end);
        }
        Ok(())
    }

    /// Sets where programs take what arrives on the interfaces at the head of `steps`, many by one run of tc; returns the steps
    /// behind them.
    fn steer<'p>(&mut self, steps: &'p [Step], progress: &mut Progress) -> io::Result<&'p [Step]> {
        let steered = steps
            .iter()
            .take_while(|step| matches!(step, Step::Steer(..)));
        let count = steered.take(tc::AT_ONCE).count();
        let (steered, rest) = steps.split_at_checked(count).unwrap_or((steps, &[]));
        let mut attached = Vec::new();
        let mut attachments = Vec::new();
        for step in steered {
            let Step::Steer(name, steering) = step else {
                continue;
            };
            if progress.is_hopeless(step) {
                progress.outcome.left_out += 1;
                continue;
            }
            let program = self.existing(*name).and_then(|index| {
                let program = self.program(index, steering)?;
                Ok((index, program))
            });
            match program {
                Ok((index, Programmed { of: Some(of), lack })) => {
                    let (section, program) = of;
                    attached.push((step, lack));
                    attachments.push(tc::Attachment {
                        interface: *name,
                        index,
                        section,
                        program,
                    });
                }
                Ok((_, Programmed { of: None, lack })) => {
                    self.other(step, lack.map_or(Ok(()), Err), progress)?;
                }
                Err(error) => self.other(step, Err(error), progress)?,
            }
        }
        let mut refused = tc::attach(self.netlink, &attachments)?;
        for (place, (step, lack)) in attached.into_iter().enumerate() {
            let done = match refused.remove(&place) {
                Some(said) => Err(io::Error::other(said)),
                None => lack.map_or(Ok(()), Err),
            };
            self.other(step, done, progress)?;
        }
        // Read along, as after any batch.
        self.events.take_in()?;
        Ok(rest)
    }

    /// The program that steers what arrives on an interface; where there is to be none it is taken off.
    fn program(&mut self, index: u32, steering: &Steering) -> io::Result<Programmed> {
        let mut programmed = Programmed::default();
        match steering {
            Steering::Nothing | Steering::Unknown => {
                tc::detach(self.netlink, index)?;
                self.promiscuous(index, false)?;
            }
            Steering::Out { vlan, to } => {
                let port = self.existing(*to)?;
                programmed.of = Some(vlan::outward(*vlan, port));
            }
            Steering::In(devices) => {
                let mut numbered = BTreeMap::new();
                for (vlan, device) in devices {
                    match self.existing(*device) {
                        Ok(device) => {
                            numbered.insert(*vlan, device);
                        }
                        Err(error) => programmed.lack = Some(error),
                    }
                }
                if numbered.is_empty() {
                    tc::detach(self.netlink, index)?;
                } else {
                    self.promiscuous(index, true)?;
                    programmed.of = Some(vlan::inward(&numbered));
                }
            }
        }
        Ok(programmed)
    }

    fn existing(&mut self, name: InterfaceName) -> io::Result<u32> {
        let known = self.indexes.index(name);
        let index = match known {
            Some(index) => Some(index),
            None => observe::index(self.netlink, name)?,
        };
        let index = index.ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::NotFound,
                format!("no such interface: {name}"),
            )
        })?;
        self.indexes.insert(name, index);
        Ok(index)
    }

    fn promiscuous(&mut self, index: u32, on: bool) -> io::Result<()> {
        let request = message::set_promiscuous(index, on);
        match self.netlink.write(vec![request])?.pop() {
            Some((_, error)) => Err(error.into()),
            None => Ok(()),
        }
    }

    /// Steps that are one message about one device whose number is known.
    fn simple(&self, step: &Step, index: u32) -> Option<Request> {
        let vni = |name| self.state.vxlans.get(name).map_or(0, |v| v.identity.vni);
        Some(match step {
            Step::Detach { .. } => message::attach(index, None),
            Step::SetPortFlags(_, flags) => message::set_port_flags(index, *flags),
            Step::BringUp(_) => message::bring_up(index),
            Step::SetCut(_, cut) => message::set_cut(index, *cut),
            Step::ChangeVlan { link, .. } => message::change_link(index, link),
            Step::PutStation {
                mac,
                destination,
                pin,
                ..
            } => message::put_station(index, *mac, *destination, *pin),
            Step::RemoveStation {
                mac, forget, unpin, ..
            } => message::remove_station(index, *mac, *forget, *unpin),
            Step::AddFlood(name, to) => message::add_flood(index, *to, vni(name)),
            Step::RemoveFlood(name, to) => message::remove_flood(index, *to, vni(name)),
            Step::PutNeighbour { ip, mac, .. } => message::put_neighbour(index, *ip, *mac),
            Step::RemoveNeighbour { ip, .. } => message::remove_neighbour(index, *ip),
            _ => return None,
        })
    }

    fn run_nft(
        &mut self,
        step: &Step,
        underlay: Underlay,
        script: &str,
        progress: &mut Progress,
    ) -> io::Result<()> {
        let done = self.underlays.at(underlay, || nft::run(script));
        self.other(step, done, progress)
    }

    fn other(
        &mut self,
        step: &Step,
        done: io::Result<()>,
        progress: &mut Progress,
    ) -> io::Result<()> {
        *self.other_writes += 1;
        match done {
            Ok(()) => self.state.apply(step),
            Err(error) => progress.fail(step, &error),
        }
        Ok(())
    }

    fn index<'p>(
        &mut self,
        name: InterfaceName,
        pending: &mut Pending<'p>,
        progress: &mut Progress,
    ) -> io::Result<Option<u32>> {
        if let Some(index) = self.indexes.index(name) {
            return Ok(Some(index));
        }
        if pending.creates.contains(&name) {
            self.flush(pending, progress)?;
        }
        if progress.broken.contains(&name) {
            return Ok(None);
        }
        let index = observe::index(self.netlink, name)?;
        if let Some(index) = index {
            self.indexes.insert(name, index);
        }
        Ok(index)
    }

    fn flush(&mut self, pending: &mut Pending<'_>, progress: &mut Progress) -> io::Result<()> {
        let Pending {
            requests, steps, ..
        } = std::mem::take(pending);
        let refused = self.netlink.write(requests)?;
        let mut refused = refused.into_iter().peekable();
        let mut failed: Option<&Step> = None;
        for (place, step) in steps.into_iter().enumerate() {
            let again = failed.is_some_and(|failed| std::ptr::eq(failed, step));
            match refused.next_if(|(refused, _)| *refused == place) {
                // The first word is the one that matters: what follows it fails for want of what it refused.
                Some(_) if again => {}
                // Without carrier the kernel keeps a port off its bridge itself, and tells when it has one again.
                Some((_, error))
                    if matches!(step, Step::SetCut(..)) && error.errno == Errno::ENETDOWN =>
                {
                    self.state.apply(step);
                }
                Some((_, error)) => {
                    progress.fail(step, &error);
                    failed = Some(step);
                }
                None if again => {}
                None => self.state.apply(step),
            }
        }
        // Read along, or the kernel drops notifications of a long plan and we must look at everything again.
        self.events.take_in()
    }

    /// Deletes the devices at the head of `steps`, many by one message; returns the steps behind them.
    fn delete<'p>(&mut self, steps: &'p [Step], progress: &mut Progress) -> io::Result<&'p [Step]> {
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

impl<'p> Pending<'p> {
    fn push(&mut self, step: &'p Step, request: Request) {
        self.requests.push(request);
        self.steps.push(step);
    }

    fn push_all(&mut self, step: &'p Step, requests: impl IntoIterator<Item = Request>) {
        for request in requests {
            self.push(step, request);
        }
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
