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
//! Everything here works on the network namespace of the thread that calls [`Kernel::open`], and must be called from
//! threads of that namespace. Only tunnels may run elsewhere ([`underlay`]): then the packet filter is there, too.

pub mod apply;
mod bpf;
pub mod counters;
pub mod desired;
mod elements;
mod elf;
mod entries;
mod events;
mod filter;
mod flaps;
mod ground;
pub mod guard;
mod learnt;
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
use self::entries::{FdbEntry, Neighbour};
use self::events::{Event, Events};
use self::learnt::Learnt;
use self::name::InterfaceName;
use self::netlink::Netlink;
use self::netns::{NetworkNamespace, Underlays};
use self::observe::Indexes;
use self::plan::{Plan, plan, plan_within};
use self::scope::Scope;
use self::state::{Filter, KernelState, Pinned};
use self::step::Step;
use self::traffic::Traffic;
use self::underlay::Underlay;

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

/// From this many bridges on, looking at all of them is cheaper than at each.
const LOOK_AT_ALL: usize = 16;

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

/// What must be looked at before the next plan.
#[derive(Debug, Default)]
struct Stale {
    links: bool,
    /// Programs on interfaces; they are told apart by the links there are.
    steering: bool,
    filter: bool,
    entries: bool,
    /// Bridges whose entries, and those of their ports, may have changed.
    bridges: BTreeSet<InterfaceName>,
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

    /// Looks at what may have changed since the last look; whether there was any such thing.
    fn catch_up(&mut self) -> io::Result<bool> {
        self.take_in()?;
        let stale = std::mem::take(&mut self.stale);
        let any = stale.is_anything();
        // Half a look is none.
        self.look(stale)
            .inspect_err(|_| self.stale = Stale::everything())?;
        Ok(any)
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

    /// A refused step may have done half of its work.
    fn doubt(&mut self, interface: Option<InterfaceName>) {
        let Some(interface) = interface else {
            self.stale.filter = true;
            self.stale.links = true;
            return;
        };
        self.stale.links = true;
        self.stale.steering = true;
        self.doubt_entries(interface);
    }

    /// Entries of a bridge or of one of its ports; a device in no bridge is in no bridge's look.
    fn doubt_entries(&mut self, interface: InterfaceName) {
        match self.bridge_of(interface) {
            Some(bridge) => {
                self.stale.bridges.insert(bridge);
            }
            None => self.stale.entries = true,
        }
    }

    fn bridge_of(&self, interface: InterfaceName) -> Option<InterfaceName> {
        if self.known.bridges.contains_key(&interface) {
            return Some(interface);
        }
        self.known.bridge_of(interface)
    }

    fn look(&mut self, stale: Stale) -> io::Result<()> {
        let mut everywhere = stale.entries;
        let mut bridges = stale.bridges;
        if stale.steering {
            self.steering = tc::observe(&mut self.netlink)?;
        }
        if stale.links || stale.steering {
            self.learnt.doubt_everything();
            let (seen, indexes) = observe::links(&mut self.netlink, &self.given, &self.steering)?;
            let mut old = std::mem::replace(&mut self.known, seen);
            let old_indexes = std::mem::replace(&mut self.indexes, indexes);
            // Whether we cut them does not show, and makes no difference until they have a carrier.
            for name in &self.indexes.dark {
                if let (Some(port), Some(old)) = (self.known.port_mut(*name), old.port_mut(*name)) {
                    port.cut = old.cut;
                }
            }
            self.known.filters = old.filters.clone();
            self.known.guard = old.guard.clone();
            self.known.bridge_netfilter = sysctl::bridge_netfilter();
            if !everywhere {
                everywhere = !self.carry_over(old, &old_indexes, &mut bridges);
            }
        }
        bridges.retain(|bridge| self.known.bridges.contains_key(bridge));
        if everywhere || bridges.len() >= LOOK_AT_ALL {
            self.look_at_entries(None)?;
        } else {
            for bridge in bridges {
                self.look_at_entries(Some(bridge))?;
            }
        }
        if stale.filter {
            self.known.filters = filters(&self.underlays)?;
            self.known.guard = guard::observe()?;
        }
        Ok(())
    }

    fn look_at_entries(&mut self, only: Option<InterfaceName>) -> io::Result<()> {
        let (netlink, strays) = (&mut self.netlink, &mut self.strays);
        entries::observe(netlink, &mut self.known, strays, &self.indexes, only)
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

    /// Takes the entries of devices that are still the same from the last look; the bridges of others are to be looked at.
    /// Says whether that suffices.
    fn carry_over(
        &mut self,
        mut old: KernelState,
        old_indexes: &Indexes,
        changed: &mut BTreeSet<InterfaceName>,
    ) -> bool {
        let indexes = &self.indexes;
        let same = |name: InterfaceName| indexes.index(name) == old_indexes.index(name);
        for (name, bridge) in &mut self.known.bridges {
            match old.bridges.remove(name).filter(|_| same(*name)) {
                // A bridge that went down and up again has lost its neighbours.
                Some(old) if old.up && bridge.up => {
                    bridge.pinned = old.pinned;
                    bridge.neighbours = old.neighbours;
                }
                _ => {
                    changed.insert(*name);
                }
            }
        }
        for (name, vxlan) in &mut self.known.vxlans {
            let place = vxlan.port.bridge;
            match old.vxlans.remove(name).filter(|_| same(*name)) {
                Some(old) if old.port.bridge == place => {
                    vxlan.fdb = old.fdb;
                    vxlan.flood = old.flood;
                }
                // In no bridge it is in no bridge's look.
                _ if place.is_none() => return false,
                old => {
                    changed.extend(place);
                    changed.extend(old.and_then(|old| old.port.bridge));
                }
            }
        }
        // Pins of a device that is gone went with it.
        let gone: Vec<_> = old.vxlans.into_values().collect();
        changed.extend(gone.into_iter().filter_map(|vxlan| vxlan.port.bridge));
        true
    }

    /// Sorts notifications into what we know already and what must be looked at.
    fn take_in(&mut self) -> io::Result<()> {
        self.events.take_in()?;
        if std::mem::take(&mut self.events.overflowed) {
            tracing::debug!("notifications were lost; looking at everything");
            self.losses += 1;
            self.stale = Stale::everything();
            self.learnt.doubt_everything();
        }
        if std::mem::take(&mut self.events.filter_changed) {
            self.stale.filter = true;
        }
        for (at, event) in std::mem::take(&mut self.events.pending) {
            match event {
                Event::Link {
                    index,
                    name,
                    controller,
                } => {
                    let known = |index| self.indexes.name(index).is_some();
                    // By name, because the number of a device we made is not known before it is needed.
                    let ours = |name| self.given.contains(&name) || self.known.has_device(name);
                    self.stale.links |=
                        known(index) || controller.is_some_and(known) || name.is_some_and(ours);
                }
                Event::Steering { index } => {
                    self.stale.steering |= self.indexes.name(index).is_some();
                }
                Event::Fdb { entry, gone } => {
                    let bridge = entry.controller.and_then(|index| self.indexes.name(index));
                    self.strays.note(&entry, gone);
                    if let Some(bridge) = bridge {
                        self.learnt.doubt(bridge);
                        self.flaps.note(&entry, gone, at);
                    }
                    if let Some(device) = self.unexpected_fdb(&entry, gone) {
                        self.doubt_entries(device);
                    }
                }
                Event::Neighbour { entry, gone } => {
                    if let Some(bridge) = self.unexpected_neighbour(&entry, gone) {
                        self.doubt_entries(bridge);
                    }
                }
            }
        }
        Ok(())
    }

    /// The device to look at, if the entry is of ours and not as known.
    fn unexpected_fdb(&self, entry: &FdbEntry, gone: bool) -> Option<InterfaceName> {
        match entry.controller {
            Some(bridge) => self.unexpected_pin(entry, bridge, gone),
            None => self.unexpected_destination(entry, gone),
        }
    }

    /// The bridge's half. Its port may be any: who takes a station of ours to another port tells of that port alone.
    fn unexpected_pin(&self, entry: &FdbEntry, bridge: u32, gone: bool) -> Option<InterfaceName> {
        let name = self.indexes.name(bridge)?;
        let port = self.indexes.name(entry.device)?;
        let known = self.known.bridges.get(&name)?.pinned.get(&entry.mac);
        let told = Pinned {
            port,
            sticky: entry.sticky,
        };
        let ours = self.known.vxlans.contains_key(&port);
        let as_known = if gone {
            known.is_none_or(|known| known.port != port)
        } else if entry.is_static() && ours {
            known == Some(&told)
        } else {
            known.is_none()
        };
        (!as_known).then_some(name)
    }

    /// The VXLAN device's half.
    fn unexpected_destination(&self, entry: &FdbEntry, gone: bool) -> Option<InterfaceName> {
        let port = self.indexes.name(entry.device)?;
        let vxlan = self.known.vxlans.get(&port)?;
        let told = entry.destination(vxlan.identity);
        let stated = !gone && entry.is_static();
        let as_known = if entry.mac == message::UNKNOWN {
            told.is_none_or(|told| vxlan.flood.contains(&told) == stated)
        } else if stated {
            vxlan.fdb.get(&entry.mac) == told.as_ref()
        } else {
            !vxlan.fdb.contains_key(&entry.mac)
        };
        (!as_known).then_some(port)
    }

    fn unexpected_neighbour(&self, entry: &Neighbour, gone: bool) -> Option<InterfaceName> {
        let name = self.indexes.name(entry.device)?;
        let bridge = self.known.bridges.get(&name)?;
        let known = bridge.neighbours.get(&entry.ip);
        let as_known = if gone || !entry.is_ours() {
            known.is_none()
        } else {
            known == Some(&entry.mac)
        };
        (!as_known).then_some(name)
    }
}

/// The packet filters there are, by underlay.
fn filters(underlays: &Underlays) -> io::Result<BTreeMap<Underlay, Filter>> {
    let look = |underlay| {
        let seen = underlays.at(underlay, filter::observe).transpose()?;
        Some((underlay, seen))
    };
    let seen = underlays.all().filter_map(look);
    seen.map(|(underlay, filter)| Ok((underlay, filter?)))
        .collect()
}

impl Stale {
    fn everything() -> Self {
        Self {
            links: true,
            steering: true,
            filter: true,
            entries: true,
            bridges: BTreeSet::new(),
        }
    }

    fn is_anything(&self) -> bool {
        self.links || self.steering || self.filter || self.entries || !self.bridges.is_empty()
    }
}
