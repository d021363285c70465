//! What works on the kernel: one pass at a time, in threads that may block.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use hardware_vtep::{Database, LearntMacs};
use ovsdb::SharedReplica;

use super::Wake;
use crate::kernel::desired::{Desired, NodeConfig, Refusal, desired};
use crate::kernel::name::InterfaceName;
use crate::kernel::{Kernel, Report};

/// What works on the kernel, in threads that may block.
pub(super) struct Worker {
    pub(super) kernel: Kernel,
    pub(super) config: Arc<NodeConfig>,
    pub(super) replica: Arc<SharedReplica<Database>>,
    pub(super) stop: Arc<AtomicBool>,
    /// What the database asked for when it was last looked at.
    pub(super) desired: Option<Desired>,
    /// The database was created when we started, and no controller has asked for a network yet: it does not know what
    /// the kernel is forwarding for an earlier one, so its silence is no order to stop.
    pub(super) unwritten: bool,
}

/// What a pass came to.
pub(super) struct Pass {
    pub(super) refusals: BTreeSet<Refusal>,
    pub(super) report: Report,
    pub(super) config: Arc<NodeConfig>,
}

impl Worker {
    /// Nothing, if there was nothing to look at: the kernel told of our own doing, or the database was never seen, so that
    /// nobody knows what should be.
    pub(super) fn pass(&mut self, wake: Wake) -> io::Result<Option<Pass>> {
        match wake {
            Wake::Everything => self.kernel.distrust(),
            // Mostly it tells of what we did ourselves.
            Wake::Kernel if !self.kernel.is_stale()? => return Ok(None),
            _ => {}
        }
        if wake != Wake::Kernel || self.desired.is_none() {
            let config = &self.config;
            self.desired = self
                .replica
                .read(|database| database.map(|database| desired(database.state(), config)));
        }
        let Some(desired) = &self.desired else {
            return Ok(None);
        };
        if self.unwritten && desired.state.is_empty() && !self.kernel.observe()?.is_empty() {
            if wake == Wake::Everything {
                tracing::warn!(
                    "the database is new, the kernel forwards networks of an earlier one: they are left alone until a \
                     controller asks for a network (l2gw vtep down removes them)"
                );
            }
            return Ok(Some(Pass {
                refusals: desired.refusals.clone(),
                report: Report::default(),
                config: Arc::clone(&self.config),
            }));
        }
        self.unwritten &= desired.state.is_empty();
        let started = Instant::now();
        let report = self.kernel.converge(&desired.state, &self.stop)?;
        if !report.plan.is_empty() {
            let took = started.elapsed();
            let (failed, left_out) = (report.failures.len(), report.left_out);
            tracing::info!(?took, failed, left_out, "kernel: {}", report.plan.summary());
            tracing::debug!("plan:\n{}", report.plan);
        }
        Ok(Some(Pass {
            refusals: desired.refusals.clone(),
            report,
            config: Arc::clone(&self.config),
        }))
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
