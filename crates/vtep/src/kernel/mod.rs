//! The kernel side: desired − actual = plan, with the kernel at both ends.
//!
//! ```text
//!  SwitchState ──desired──▶ KernelState ─┐
//!                                        ├─plan──▶ steps ──apply──▶ kernel
//!  kernel ──observe──▶ KernelState ──────┘                            │
//!     ▲  notifications say where to look again                        │
//!     └───────────────────────────────────────────────────────────────┘
//! ```
//!
//! Rules of [`Kernel::converge`]: it carries no input but what is wanted; it may be called at any time, and then does only
//! what is missing; a second call in a row writes nothing; whatever the kernel refuses is tried again by the next call.
//! Deleting bridges is slow (some 10 ms each, while the kernel changes nothing for anybody else), so deletions are the last part
//! of a plan, and a call leaves them to the next one as soon as somebody waits.
//!
//! | what | modules |
//! |---|---|
//! | values | `state`, of devices called by `name`, and of VLANs `vlan`; `outline` without stations |
//! | what is wanted | `desired` |
//! | what is there | `observe` (links) and `entries`; `filter` and `guard` read their tables, `tc` programs |
//! | where to look again | `events`, sorted by `doubts`; `look` looks there, `survey` at everything |
//! | what is to be done | `plan`, within a `scope`; a `step` |
//! | how it is done | `apply`, by `message`s of `netlink`, `nft`, `tc` and `sysctl` |
//! | the packet filter | `filter` in front of tunnels, `storm` (flooding), `guard` (ports); `elements` are what it counts by |
//! | programs on ports | `bpf`, in an `elf` |
//! | what was counted | `counters` of devices, `traffic` of remote gateways |
//! | what was learnt | `learnt` on ports, `strays` inside, `flaps` |
//! | loop protection | `ground`, which it stands on, and its `reflex` |
//! | where it is | `underlay`, `netns` |
//!
//! Everything here works on the network namespace of the thread that calls [`Kernel::open`], and must be called from
//! threads of that namespace. Only tunnels may run elsewhere ([`underlay`]): then the packet filter is there, too.

pub mod apply;
mod bpf;
pub mod counters;
pub mod desired;
mod doubts;
mod elements;
mod elf;
mod entries;
mod events;
mod filter;
mod flaps;
mod ground;
pub mod guard;
mod learnt;
mod look;
mod message;
pub mod name;
mod netlink;
pub mod netns;
mod nft;
mod observe;
pub mod outline;
pub mod plan;
mod reflex;
pub mod scope;
pub mod state;
pub mod step;
pub mod storm;
mod strays;
pub mod survey;
pub mod sysctl;
mod tc;
pub mod traffic;
pub mod underlay;
pub mod vlan;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use netlink_sys::Socket;

use self::apply::{Applier, Failure, Pace, Stride};
use self::desired::NodeConfig;
use self::doubts::Stale;
use self::events::Events;
use self::learnt::Learnt;
use self::name::InterfaceName;
use self::netlink::Netlink;
use self::netns::{NetworkNamespace, Underlays};
use self::observe::Indexes;
use self::plan::{Plan, plan, plan_within};
use self::scope::Scope;
use self::state::KernelState;
use self::step::Step;
use self::traffic::Traffic;

pub use self::learnt::{LearntStation, Stations};
pub use self::observe::interface_mtu;
pub(crate) use self::reflex::Reflex;

/// Whether a packet filter of ours is in a network namespace.
///
/// # Errors
/// It can't be looked at.
pub(crate) fn has_filter(namespace: &NetworkNamespace) -> io::Result<bool> {
    let seen = namespace.enter(filter::observe)?;
    Ok(seen.is_some())
}

/// The kernel, as far as it is this switch's, and what is known of it.
pub struct Kernel {
    config: NodeConfig,
    given: BTreeSet<InterfaceName>,
    underlays: Underlays,
    netlink: Netlink,
    events: Events,
    known: KernelState,
    indexes: Indexes,
    stale: Stale,
    /// Not all is known to be as it was last wanted, but for what is postponed.
    unsettled: bool,
    /// The end of the last plan: deletions that could wait.
    postponed: Vec<Step>,
    learnt: Learnt,
    flaps: flaps::Flaps,
    strays: strays::Strays,
    /// Programs on interfaces, by number.
    steering: tc::Filters,
    stride: Stride,
    other_writes: u64,
    losses: u64,
    /// What was changed since a survey began, while one is under way.
    touched: Option<survey::Touched>,
}

/// What a call of [`Kernel::converge`] came to.
#[derive(Debug, Default)]
pub struct Report {
    /// What had to be done.
    pub plan: Plan,
    /// What the kernel refused.
    pub failures: Vec<Failure>,
    /// Steps not tried: one they depend on failed, they are deletions that can wait, or we were asked to stop.
    pub left_out: usize,
}

impl Report {
    /// Whether a further call has something to do though nothing was refused.
    pub fn is_unfinished(&self) -> bool {
        self.left_out > 0 && self.failures.is_empty()
    }
}

impl Kernel {
    /// Opens the kernel, for a switch all of whose tunnels run in its own network namespace. Nothing is read or written yet.
    pub fn open(config: NodeConfig) -> io::Result<Self> {
        Self::open_with(config, Underlays::default())
    }

    /// Opens the kernel, and these underlays: those in use, and those in which something of ours may have been left.
    pub fn open_with(config: NodeConfig, underlays: Underlays) -> io::Result<Self> {
        let given = config.ports.values().copied().flatten().collect();
        // Notifications first: what changes during the first look is looked at again.
        let events = Events::subscribe(&underlays)?;
        Ok(Self {
            config,
            given,
            underlays,
            netlink: Netlink::open()?,
            events,
            known: KernelState::default(),
            indexes: Indexes::default(),
            stale: Stale::everything(),
            unsettled: true,
            postponed: Vec::new(),
            learnt: Learnt::default(),
            flaps: flaps::Flaps::default(),
            strays: strays::Strays::default(),
            steering: tc::Filters::default(),
            stride: Stride::default(),
            other_writes: 0,
            losses: 0,
            touched: None,
        })
    }

    /// Sockets that become readable when something changed in the kernel, by whomever. [`Kernel::converge`] and
    /// [`Kernel::observe`] read them empty.
    pub fn notifications(&self) -> Vec<Arc<Socket>> {
        self.events.sockets()
    }

    /// What went through each tunnel to a remote gateway, and what was kept out.
    pub fn traffic(&self) -> io::Result<Traffic> {
        Traffic::read(&self.underlays, &self.config)
    }

    /// How many frames were not flooded towards the WAN, by key, since the packet filter was put in place.
    pub fn flood_drops(&self) -> io::Result<BTreeMap<u32, u64>> {
        let wan = self.config.wan_underlay;
        let mut drops = BTreeMap::new();
        for (tunnel, dropped) in self.underlays.at(wan, storm::dropped)? {
            *drops.entry(tunnel.vni).or_default() += dropped.packets;
        }
        Ok(drops)
    }

    /// The network namespace that tunnels to remote gateways run in, if it is not our own.
    pub(crate) fn wan_namespace(&self) -> Option<Arc<NetworkNamespace>> {
        let namespace = self.underlays.namespace(self.config.wan_underlay);
        namespace.map(Arc::clone)
    }

    /// Whether there is such an interface.
    pub fn has_interface(&mut self, name: InterfaceName) -> io::Result<bool> {
        observe::index(&mut self.netlink, name).map(|index| index.is_some())
    }

    /// Changes sent to the kernel so far.
    pub fn writes(&self) -> u64 {
        self.netlink.writes + self.other_writes
    }

    /// How often the kernel had more to tell than was listened to, so that everything had to be looked at.
    pub fn losses(&self) -> u64 {
        self.losses
    }

    /// Makes the next call look at everything.
    pub fn distrust(&mut self) {
        self.stale = Stale::everything();
    }

    /// Takes in notifications and tells whether they leave anything to look at: not so, if all they tell is what we did.
    /// The one switch nobody notifies of, and that others like to turn (container engines do), is looked at here.
    pub fn is_stale(&mut self) -> io::Result<bool> {
        self.take_in()?;
        self.stale.links |= sysctl::bridge_netfilter() != self.known.bridge_netfilter;
        Ok(self.stale.is_anything())
    }

    /// Whether there may be more notifications than were taken in: their sockets need not become readable again.
    pub fn is_behind(&self) -> bool {
        self.events.behind
    }

    /// Whether stations may have been learnt, moved or forgotten since [`Kernel::learnt`] looked, as far as notifications
    /// were taken in.
    pub fn may_have_learnt(&self) -> bool {
        self.learnt.is_stale()
    }

    /// The stations learnt on physical ports, by bridge: of the bridges and ports found by the last look at links.
    pub fn learnt(&mut self) -> io::Result<&Stations> {
        self.learnt
            .look(&mut self.netlink, &self.known, &self.indexes)
    }

    /// Every station the kernel learnt, on physical ports and inside, as it is now.
    pub fn learnt_in_detail(&mut self) -> io::Result<Vec<LearntStation>> {
        self.observe()?;
        learnt::in_detail(&mut self.netlink, &self.known, &self.indexes)
    }

    /// What the kernel holds of ours, looking only at what may have changed since the last look.
    pub fn observe(&mut self) -> io::Result<&KernelState> {
        self.unsettled |= self.catch_up()?;
        Ok(&self.known)
    }

    /// Makes the kernel hold what is wanted. `pace` may end it after any batch. An error means that the kernel could
    /// not be talked to; refusals of single steps are in the report.
    pub fn converge(&mut self, desired: &KernelState, pace: &dyn Pace) -> io::Result<Report> {
        self.converge_where(desired, None, pace)
    }

    /// The same, where what is wanted differs in these entries at most from what was wanted at the last call: looks at
    /// nothing else, unless that call left something undone or the kernel told of something since. Deletions that could wait
    /// go on from where that call left them.
    pub fn converge_within(
        &mut self,
        desired: &KernelState,
        scope: &Scope,
        pace: &dyn Pace,
    ) -> io::Result<Report> {
        self.converge_where(desired, Some(scope), pace)
    }

    fn converge_where(
        &mut self,
        desired: &KernelState,
        scope: Option<&Scope>,
        pace: &dyn Pace,
    ) -> io::Result<Report> {
        // Until all has been done, an error included.
        let settled = !std::mem::replace(&mut self.unsettled, true);
        let postponed = std::mem::take(&mut self.postponed);
        let looked = self.catch_up()?;
        let plan = match scope.filter(|_| settled && !looked) {
            Some(scope) => {
                let mut plan = plan_within(desired, &self.known, scope);
                plan.steps.extend(postponed);
                plan
            }
            None => plan(desired, &self.known),
        };
        if plan.is_empty() {
            self.unsettled = false;
            return Ok(Report::default());
        }
        let report = self.carry_out(plan, pace)?;
        self.unsettled = report.left_out > self.postponed.len() || !report.failures.is_empty();
        Ok(report)
    }

    /// Makes the changes of a plan for what [`Kernel::observe`] found, or of the beginning of one: [`Kernel::converge`] makes
    /// the others.
    pub fn carry_out(&mut self, plan: Plan, pace: &dyn Pace) -> io::Result<Report> {
        self.unsettled = true;
        self.postponed.clear();
        if let Some(touched) = &mut self.touched {
            touched.note(&plan.steps, &self.known);
        }
        let applier = Applier {
            netlink: &mut self.netlink,
            events: &mut self.events,
            underlays: &self.underlays,
            state: &mut self.known,
            indexes: &mut self.indexes,
            config: &self.config,
            pace,
            stride: &mut self.stride,
            other_writes: &mut self.other_writes,
        };
        let outcome = applier
            .carry_out(&plan)
            .inspect_err(|_| self.stale = Stale::everything())?;
        for failure in &outcome.failures {
            self.doubt(failure.step.interface());
        }
        self.postponed = outcome.postponed;
        self.forget_strays(&plan)?;
        Ok(Report {
            plan,
            failures: outcome.failures,
            left_out: outcome.left_out,
        })
    }

    /// Removes what VXLAN devices learnt of stations whose row has changed.
    fn forget_strays(&mut self, plan: &Plan) -> io::Result<()> {
        let index = |name| self.indexes.index(name);
        let strays = self.strays.of_moved(&plan.steps, &self.known, index);
        for some in strays.chunks(netlink::BATCH) {
            let requests = some.iter();
            let requests =
                requests.map(|(device, mac)| message::remove_station(*device, *mac, true, false));
            for (_, error) in self.netlink.write(requests.collect())? {
                // It may have aged out, or another frame may have taught the device something else.
                tracing::debug!(%error, "learnt entry of a station that moved");
            }
            for (device, mac) in some {
                self.strays.remove(*device, *mac);
            }
        }
        Ok(())
    }
}
