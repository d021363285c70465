//! What works on the kernel: one pass at a time, in threads that may block.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use hardware_vtep::{Database, LearntMacs};
use model::switch::{LogicalSwitchName, SwitchState};
use model::trail::Mark;
use ovsdb::SharedReplica;
use tokio::sync::watch;

use super::Wake;
use super::drops::Drops;
use super::look::{Look, Looked};
use crate::kernel::apply::Pace;
use crate::kernel::desired::{Desired, NodeConfig, Refusal, Wanted};
use crate::kernel::name::InterfaceName;
use crate::kernel::outline::Outline;
use crate::kernel::scope::Scope;
use crate::kernel::{Kernel, Report};
use crate::loops::{Cut, Cuts, Place, Sentry};
use crate::path_mtu::{Narrow, OVERHEAD, PathMtu, Ways};

/// What works on the kernel, in threads that may block.
pub(super) struct Worker {
    pub(super) kernel: Kernel,
    pub(super) config: Arc<NodeConfig>,
    pub(super) replica: Arc<SharedReplica<Database>>,
    pub(super) stop: Arc<AtomicBool>,
    pub(super) turn: Turn,
    /// What is cut off because of a loop.
    pub(super) cuts: Arc<Cuts>,
    /// Networks that flood the WAN beyond the limit.
    pub(super) drops: Drops,
    /// Measures the ways to remote gateways, where the host lets us.
    pub(super) path_mtu: Option<PathMtu>,
    /// Looks for loops, unless we were told not to.
    pub(super) sentry: Option<Sentry>,
    /// The network namespace for tunnels to remote gateways, if nobody has its name any more.
    pub(super) nameless: Option<String>,
    /// What the database asked for when it was last looked at.
    pub(super) asked: Option<Asked>,
    /// What a look beside the passes came to, until it is compared.
    pub(super) looked: Option<Looked>,
    /// The database was created when we started, and no controller has asked for a network yet: it does not know what
    /// the kernel is forwarding for an earlier one, so its silence is no order to stop.
    pub(super) unwritten: bool,
}

/// How long a pass may go on.
pub(super) struct Turn {
    /// Ends the pass under way: we are asked to stop, or there is something that can't wait.
    pub(super) halt: Arc<AtomicBool>,
    /// Of the database.
    pub(super) news: watch::Receiver<u64>,
}

impl Pace for Turn {
    fn is_over(&self) -> bool {
        self.halt.is_over()
    }

    fn somebody_waits(&self) -> bool {
        self.news.has_changed().unwrap_or(false)
    }
}

/// What the database asked for, as of a place on its trail.
pub(super) struct Asked {
    wanted: Wanted,
    mark: Mark,
    outline: Arc<Outline>,
}

impl Asked {
    fn of(database: &Database, config: &NodeConfig) -> Self {
        Self::by(database.state(), database.trail().mark(), config)
    }

    /// What a database with this contents asks for, as of this place on its trail.
    pub(super) fn by(switch: &SwitchState, mark: Mark, config: &NodeConfig) -> Self {
        let wanted = Wanted::new(switch, config);
        Self {
            outline: Arc::new(Outline::new(switch, wanted.desired(), config)),
            wanted,
            mark,
        }
    }

    /// What it asks for, without stations.
    pub(super) fn outline(&self) -> &Arc<Outline> {
        &self.outline
    }

    /// What it asks for now, and which entries alone may differ from what it asked for before.
    fn after(self, database: &Database, config: &NodeConfig) -> (Self, Option<Scope>) {
        match self.patched(database, config) {
            Some((asked, scope)) => (asked, Some(scope)),
            None => (Self::of(database, config), None),
        }
    }

    /// The same; nothing where more than entries may differ.
    fn patched(self, database: &Database, config: &NodeConfig) -> Option<(Self, Scope)> {
        let Self {
            mut wanted,
            mark,
            outline,
        } = self;
        let keys = database.trail().since(mark)?;
        let keys = keys.map(|(name, mac)| (name, *mac));
        let scope = wanted.patch(database.state(), config, keys).ok()?;
        let asked = Self {
            wanted,
            mark: database.trail().mark(),
            outline,
        };
        Some((asked, scope))
    }
}

impl Asked {
    /// The network with a WAN key.
    fn network_of(&self, key: u32) -> Option<String> {
        let mut vxlans = self.wanted.desired().state.vxlans.values();
        let device = vxlans.find(|held| held.is_wan() && held.identity.vni == key)?;
        let mut bridges = self.wanted.bridges();
        bridges.find_map(|(name, of)| (device.port.bridge == Some(of)).then(|| name.to_string()))
    }

    /// The logical switches that devices are for, as far as they are for one.
    fn networks_of(
        &self,
        devices: impl Iterator<Item = InterfaceName>,
    ) -> BTreeMap<InterfaceName, LogicalSwitchName> {
        let mut devices = devices.peekable();
        if devices.peek().is_none() {
            return BTreeMap::new();
        }
        let bridges = self.wanted.bridges().map(|(name, bridge)| (bridge, name));
        let names: BTreeMap<_, _> = bridges.collect();
        let state = &self.wanted.desired().state;
        devices
            .filter_map(|device| {
                let bridge = state.bridge_of(device).unwrap_or(device);
                Some((device, (*names.get(&bridge)?).clone()))
            })
            .collect()
    }
}

/// What a pass came to.
pub(crate) struct Pass {
    pub(crate) refusals: BTreeSet<Refusal>,
    /// Ports by interface, and by device made for one of their VLANs.
    pub(super) ports: BTreeMap<InterfaceName, Arc<str>>,
    pub(crate) report: Report,
    /// The logical switches of devices that something was refused of.
    pub(super) failed: BTreeMap<InterfaceName, LogicalSwitchName>,
    pub(super) config: Arc<NodeConfig>,
    /// What is cut off because of a loop.
    pub(super) cuts: BTreeMap<Place, Cut>,
    /// Networks that flood the WAN beyond the limit.
    pub(super) limited: Vec<String>,
    /// Ways to remote gateways that carry too little.
    pub(super) narrow: Narrow,
    /// The network namespace for tunnels to remote gateways, if nobody has its name any more.
    pub(super) nameless: Option<String>,
}

impl Worker {
    /// Nothing, if there was nothing to do: the kernel told of our own doing, or the database was never seen, so that nobody
    /// knows what should be, and the kernel was only looked at.
    pub(super) fn pass(&mut self, wake: Wake) -> io::Result<Option<Pass>> {
        self.turn.halt.store(false, Ordering::SeqCst);
        if self.stop.load(Ordering::SeqCst) {
            self.turn.halt.store(true, Ordering::SeqCst);
        }
        match wake {
            Wake::Everything => self.kernel.distrust(),
            Wake::Looked if !self.compare()? => {
                self.cut_flapping();
                return Ok(None);
            }
            Wake::Drops if !self.drops.look(&self.kernel)? => return Ok(None),
            // Mostly it tells of what we did ourselves.
            Wake::Kernel if !self.kernel.is_stale()? => {
                self.cut_flapping();
                return Ok(None);
            }
            _ => {}
        }
        let mut scope = None;
        if !matches!(wake, Wake::Kernel | Wake::Looked) || self.asked.is_none() {
            // What was refused may be had now, and what is held may be wrong: only the database's own news are looked at
            // for what they are.
            let news = matches!(
                wake,
                Wake::Database
                    | Wake::Rest
                    | Wake::Cuts
                    | Wake::Drops
                    | Wake::Paths
                    | Wake::Namespace
            );
            let before = self.asked.take().filter(|_| news);
            self.turn.news.mark_unchanged();
            let config = &self.config;
            let asked = self.replica.read(|database| {
                database.map(|database| match before {
                    Some(before) => before.after(database, config),
                    None => (Asked::of(database, config), None),
                })
            });
            (self.asked, scope) = asked.map_or((None, None), |(asked, scope)| (Some(asked), scope));
        }
        let Some(asked) = &mut self.asked else {
            // While the database is still on its way: a bridge with 100,000 entries is as much to read.
            self.kernel.observe()?;
            return Ok(None);
        };
        let cuts = self.cuts.all();
        // Of a cut that was made at once and is over already, nobody but loop protection knows.
        if asked.wanted.cut(off(&cuts)) || matches!(wake, Wake::Cuts) {
            scope = None;
        }
        let desired = asked.wanted.desired();
        if self.unwritten && desired.state.is_empty() && !self.kernel.observe()?.is_empty() {
            if matches!(wake, Wake::Everything | Wake::Looked) {
                tracing::warn!(
                    "the database is new, the kernel forwards networks of an earlier one: they are left alone until a \
                     controller asks for a network (l2gw vtep down removes them)"
                );
            }
            return Ok(Some(Pass {
                refusals: desired.refusals.clone(),
                ports: desired.ports.clone(),
                report: Report::default(),
                failed: BTreeMap::new(),
                config: Arc::clone(&self.config),
                cuts,
                limited: Vec::new(),
                narrow: Narrow::new(),
                nameless: self.nameless.clone(),
            }));
        }
        self.unwritten &= desired.state.is_empty();
        let started = Instant::now();
        let report = match &scope {
            Some(scope) => self
                .kernel
                .converge_within(&desired.state, scope, &self.turn)?,
            None => self.kernel.converge(&desired.state, &self.turn)?,
        };
        if !report.plan.is_empty() {
            let took = started.elapsed();
            let (failed, left_out) = (report.failures.len(), report.left_out);
            tracing::info!(?took, failed, left_out, "kernel: {}", report.plan.summary());
            tracing::debug!("plan:\n{}", report.plan);
        }
        let pass = Pass {
            refusals: desired.refusals.clone(),
            ports: desired.ports.clone(),
            failed: asked.networks_of(report.failures.iter().filter_map(|f| f.step.interface())),
            report,
            config: Arc::clone(&self.config),
            cuts,
            limited: self
                .drops
                .keys()
                .filter_map(|key| asked.network_of(key))
                .collect(),
            narrow: self
                .path_mtu
                .as_ref()
                .map(PathMtu::narrow)
                .unwrap_or_default(),
            nameless: self.nameless.clone(),
        };
        if let (Some(path_mtu), None) = (&self.path_mtu, &scope) {
            path_mtu.watch(ways(desired));
        }
        // Where entries alone were looked at, nothing else changed.
        if let (Some(sentry), None) = (&self.sentry, scope) {
            // Not the list of before: what was cut meanwhile hands on nothing any more.
            let off = off(&self.cuts.all());
            sentry.protect(self.kernel.ground(asked.wanted.bridges(), &off));
        }
        self.cut_flapping();
        Ok(Some(pass))
    }

    /// Begins a look at everything; a pass woken by [`Wake::Looked`] ends it.
    pub(super) fn begin_look(&mut self) -> Look {
        Look {
            surveyor: self.kernel.surveyor(),
            replica: Arc::clone(&self.replica),
            config: Arc::clone(&self.config),
        }
    }

    /// Compares what a look beside the passes saw with what is known. Whether that leaves anything to do.
    fn compare(&mut self) -> io::Result<bool> {
        let Some(Looked { mut survey, asked }) = self.looked.take() else {
            return Ok(false);
        };
        self.kernel.compare(&mut survey);
        let config = &self.config;
        let replica = &self.replica;
        let looked =
            asked.and_then(|asked| replica.read(|database| asked.patched(database?, config)));
        let mut wrong = false;
        let mut looked = looked.map(|(looked, _)| looked);
        // With news that no pass has seen there is nothing to compare.
        if let (Some(looked), Some(asked)) = (&mut looked, &mut self.asked)
            && looked.mark == asked.mark
        {
            looked.wanted.cut(off(&self.cuts.all()));
            wrong = looked.wanted.desired() != asked.wanted.desired();
            if wrong {
                tracing::warn!("what was kept of the database was wrong: beginning anew with it");
                std::mem::swap(asked, looked);
            }
        }
        // To let go of hundreds of thousands of entries takes a while, and somebody may wait.
        tokio::task::spawn_blocking(move || drop((survey, looked)));
        Ok(self.kernel.is_stale()? || wrong || self.unwritten)
    }

    /// Of several physical ports that stations move back and forth between, cuts one. Where they move between a port and the
    /// inside, the ring may go over the WAN, and there may be other gateways to cut it.
    fn cut_flapping(&mut self) {
        let flaps = self.kernel.take_flaps();
        let (Some(asked), Some(sentry)) = (&self.asked, &self.sentry) else {
            return;
        };
        for flapping in flaps {
            let mut bridges = asked.wanted.bridges();
            let network = bridges.find_map(|(name, of)| (of == flapping.bridge).then_some(name));
            let Some(network) = network else { continue };
            let place = |port| Place {
                network: network.clone(),
                port: Some(port),
            };
            if let Some(port) = flapping.port {
                self.cuts.suspect(&place(port), &flapping.cause);
                self.kernel.cut_at_once(port);
                continue;
            }
            let over = |port| self.cuts.all().contains_key(&place(port));
            // What is told of a port that is off is what was before that.
            if !flapping.alone.is_some_and(over) {
                sentry.flapped(flapping.number, flapping.cause);
            }
        }
    }

    /// The stations learnt on physical ports, by the network whose bridge learnt them.
    pub(super) fn learnt(&mut self) -> io::Result<LearntMacs> {
        let stations = self.kernel.learnt()?;
        if stations.is_empty() {
            return Ok(LearntMacs::new());
        }
        Ok(self.replica.read(|database| {
            let networks = database
                .into_iter()
                .flat_map(|database| database.state().logical_switches.keys());
            networks
                .filter_map(|network| {
                    let learnt = stations.get(&InterfaceName::bridge(network))?;
                    let macs = learnt.iter().map(|mac| (*mac, None)).collect();
                    Some((network.clone(), macs))
                })
                .collect()
        }))
    }
}

/// What is off because of cuts: bridges off the WAN, ports off their bridges.
fn off(cuts: &BTreeMap<Place, Cut>) -> BTreeSet<InterfaceName> {
    let off = cuts.keys().map(|place| match place.port {
        Some(port) => port,
        None => InterfaceName::bridge(&place.network),
    });
    off.collect()
}

/// How long packets to each remote gateway are at most, with all networks that are stretched there.
fn ways(desired: &Desired) -> Ways {
    let wan = desired.state.vxlans.values().filter(|held| held.is_wan());
    let mtus = wan.filter_map(|held| {
        let mtu = *desired.tenants_mtus.get(&held.port.bridge?)?;
        let needed = u16::try_from(mtu + OVERHEAD).unwrap_or(u16::MAX);
        Some((held.identity.vni, needed))
    });
    let by_key: BTreeMap<u32, u16> = mtus.collect();
    let mut ways = Ways::new();
    for peer in desired.state.remote_gateways() {
        if let Some(needed) = by_key.get(&peer.vni) {
            let way = ways.entry(peer.ip).or_default();
            *way = (*needed).max(*way);
        }
    }
    ways
}
