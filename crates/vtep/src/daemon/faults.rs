//! What the database is told of the switch: its ports, and what it could not do.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hardware_vtep::{Publication, PublishedPort, WARNING};

use super::worker::Pass;
use crate::kernel::apply::Failure;
use crate::kernel::desired::{NodeConfig, Refusal};
use crate::options::{BORDER, SwitchOptions};
use crate::path_mtu::OVERHEAD;

/// Faults published at most; the log has them all.
const FAULTS_TOLD: usize = 20;

/// The switch as it is told of before anything was refused.
pub(super) fn publication(options: &SwitchOptions, config: &NodeConfig) -> Publication {
    let ports = config.ports.iter().map(|(name, interface)| {
        let description = match interface {
            Some(interface) => format!("interface {interface}"),
            None => format!("{BORDER}: leads nowhere"),
        };
        let port = PublishedPort {
            description,
            faults: BTreeSet::new(),
        };
        (name.clone(), port)
    });
    Publication {
        name: config.switch.clone(),
        description: format!("l2gw software VTEP, WAN {}", config.wan_ip),
        // Towards inside hosts only: other controllers take any address of these for theirs.
        tunnel_ips: [config.tunnel_ip].into(),
        faults: BTreeSet::new(),
        ports: ports.collect(),
        managers: options.managers.iter().cloned().collect(),
    }
}

/// What the database can't have, in words.
#[derive(Default)]
pub(super) struct Faults {
    switch: BTreeSet<String>,
    ports: BTreeMap<Arc<str>, BTreeSet<String>>,
    /// All of them.
    pub(super) all: BTreeSet<String>,
}

impl Faults {
    pub(super) fn of(pass: &Pass) -> Self {
        let mut faults = Self::default();
        for refusal in &pass.refusals {
            match refusal {
                Refusal::Binding { port, .. } => faults.port(port, refusal.to_string()),
                refusal => faults.switch(refusal.to_string()),
            }
        }
        for (network, cut) in &pass.cuts {
            faults.switch(format!(
                "logical switch {network}: {cut} (l2gw vtep release {network} joins it again)"
            ));
        }
        for (remote, carried) in &pass.narrow {
            let (mtu, needed) = (pass.config.mtu, pass.config.mtu + OVERHEAD);
            faults.switch(format!(
                "{WARNING}remote gateway {remote}: the way there carries {carried} bytes, tenants' packets of {mtu} need {needed}: \
                 longer ones go in fragments (tenants' MTU had better be {})",
                carried.saturating_sub(OVERHEAD)
            ));
        }
        for network in &pass.limited {
            faults.switch(format!(
                "{WARNING}logical switch {network}: floods the WAN beyond --bum-limit; what is too much is dropped"
            ));
        }
        for failure in &pass.report.failures {
            match port_of(pass, failure) {
                Some(port) => faults.port(port, failure.to_string()),
                None => faults.switch(failure.to_string()),
            }
        }
        faults
    }

    fn switch(&mut self, fault: String) {
        self.all.insert(fault.clone());
        self.switch.insert(fault);
    }

    fn port(&mut self, port: &Arc<str>, fault: String) {
        self.all.insert(fault.clone());
        self.ports.entry(port.clone()).or_default().insert(fault);
    }

    pub(super) fn enter_into(&self, publication: &mut Publication) {
        publication.faults = some(&self.switch);
        for (name, port) in &mut publication.ports {
            port.faults = self.ports.get(name).map(some).unwrap_or_default();
        }
    }
}

/// The port whose interface, or device of a VLAN, a refused step was about.
fn port_of<'a>(pass: &'a Pass, failure: &Failure) -> Option<&'a Arc<str>> {
    let interface = failure.step.interface()?;
    let given = || {
        let mut ports = pass.config.ports.iter();
        ports.find_map(|(name, given)| (*given == Some(interface)).then_some(name))
    };
    pass.ports.get(&interface).or_else(given)
}

fn some(faults: &BTreeSet<String>) -> BTreeSet<String> {
    let mut told: BTreeSet<String> = faults.iter().take(FAULTS_TOLD).cloned().collect();
    if let Some(more) = faults.len().checked_sub(FAULTS_TOLD + 1) {
        told.insert(format!("and {} more, see the log", more + 1));
    }
    told
}
