//! Carries out a plan: netlink messages in batches, nft transactions, and the settings only /proc has.
//!
//! A refused step does not stop the others: what depends on it is left out, the rest is done, and every refusal is
//! reported. What was done is entered into the known state; what was refused makes that part of it uncertain.

mod delete;
mod progress;
mod steer;

use std::collections::HashSet;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use nix::errno::Errno;

use self::delete::LONGEST_TURN;
use self::progress::{Outcome, Progress};
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
use super::traffic::Counts;
use super::underlay::Underlay;
use super::vlan::{VlanKind, VlanShape};
use super::{filter, nft};

pub(crate) use self::delete::Stride;
pub use self::progress::Failure;

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
