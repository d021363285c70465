//! What the database is told of the switch: its ports, and what it could not do.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hardware_vtep::{Complaint, Publication, PublishedPort};
use model::switch::LogicalSwitchName;

use super::worker::Pass;
use crate::kernel::apply::Failure;
use crate::kernel::desired::{NodeConfig, Refusal};
use crate::loops::Place;
use crate::options::{BORDER, SwitchOptions};
use crate::path_mtu::{OVERHEAD, Shortfall};

/// Complaints published at most of what concerns everything, and of one logical switch; the log has them all.
const GENERAL_TOLD: usize = 20;
const TOLD_OF_EACH: usize = 3;

/// Logical switches with complaints that are named at most. With more of them the switch as a whole is in trouble, and says
/// so.
const LOGICAL_SWITCHES_TOLD: usize = 1000;

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
        description: match &options.wan_netns {
            Some(name) => format!(
                "l2gw software VTEP, WAN {} in network namespace {name}",
                config.wan_ip
            ),
            None => format!("l2gw software VTEP, WAN {}", config.wan_ip),
        },
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
    switch: BTreeSet<Complaint>,
    ports: BTreeMap<Arc<str>, BTreeSet<Complaint>>,
    /// All of them.
    pub(super) all: BTreeSet<String>,
}

impl Faults {
    pub(super) fn of(pass: &Pass) -> Self {
        let mut faults = Self::default();
        for refusal in &pass.refusals {
            let complaint = Complaint::read(&refusal.to_string());
            match refusal {
                Refusal::Binding { port, .. } => faults.port(port, complaint),
                _ => faults.switch(complaint),
            }
        }
        for (Place { network, port }, cut) in &pass.cuts {
            let (from, cause) = (
                if port.is_some() {
                    "this port"
                } else {
                    "the WAN"
                },
                &cut.cause,
            );
            // The same words as long as the cut lasts.
            let words = format!(
                "cut off {from} because of a loop: {cause} (l2gw vtep release {network} joins it again)"
            );
            let complaint = Complaint::about(network.clone(), words);
            match port.and_then(|device| pass.ports.get(&device)) {
                Some(port) => faults.port(port, complaint),
                // A port that the network has no more is off it anyway.
                None if port.is_some() => {}
                None => faults.switch(complaint),
            }
        }
        for (remote, Shortfall { carried, needed }) in &pass.narrow {
            let [mtu, better] =
                [needed, carried].map(|bytes| u32::from(*bytes).saturating_sub(OVERHEAD));
            let words = format!(
                "remote gateway {remote}: the way there carries {carried} bytes, tenants' packets of {mtu} need {needed}: \
                 longer ones go in fragments (tenants' MTU had better be {better})"
            );
            faults.switch(Complaint::general(words).warning());
        }
        if let Some(name) = &pass.nameless {
            let words = format!(
                "network namespace {name} was deleted: tunnels to remote gateways go on in it, nameless, until the switch is \
                 stopped or another one has that name"
            );
            faults.switch(Complaint::general(words).warning());
        }
        for network in &pass.limited {
            let words = "floods the WAN beyond --bum-limit; what is too much is dropped";
            let network = LogicalSwitchName::new(network.as_str());
            faults.switch(Complaint::about(network, words).warning());
        }
        for failure in &pass.report.failures {
            let complaint = match network_of(pass, failure) {
                Some(network) => Complaint::about(network.clone(), failure.to_string()),
                None => Complaint::general(failure.to_string()),
            };
            match port_of(pass, failure) {
                Some(port) => faults.port(port, complaint),
                None => faults.switch(complaint),
            }
        }
        faults
    }

    fn switch(&mut self, complaint: Complaint) {
        self.all.insert(complaint.to_string());
        self.switch.insert(complaint);
    }

    fn port(&mut self, port: &Arc<str>, complaint: Complaint) {
        self.all.insert(complaint.to_string());
        self.ports
            .entry(port.clone())
            .or_default()
            .insert(complaint);
    }

    pub(super) fn enter_into(&self, publication: &mut Publication) {
        publication.faults = told(&self.switch);
        for (name, port) in &mut publication.ports {
            port.faults = self.ports.get(name).map(told).unwrap_or_default();
        }
    }
}

/// The logical switch that a refused step was about, if it was about one.
fn network_of<'a>(pass: &'a Pass, failure: &Failure) -> Option<&'a LogicalSwitchName> {
    pass.failed.get(&failure.step.interface()?)
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

/// What is published: so much that whoever is concerned can see it.
fn told(complaints: &BTreeSet<Complaint>) -> BTreeSet<String> {
    let mut about: BTreeMap<Option<&LogicalSwitchName>, Vec<&Complaint>> = BTreeMap::new();
    for complaint in complaints {
        let about = about.entry(complaint.about.as_ref()).or_default();
        about.push(complaint);
    }
    // Those with faults before those with warnings alone.
    let mut groups: Vec<_> = about.into_values().collect();
    groups.sort_by_key(|complaints| {
        complaints
            .first()
            .map(|first| (first.is_warning, &first.about))
    });
    let mut told = BTreeSet::new();
    for complaints in groups.iter().take(LOGICAL_SWITCHES_TOLD) {
        let is_general = complaints.first().is_none_or(|first| first.about.is_none());
        let most = if is_general {
            GENERAL_TOLD
        } else {
            TOLD_OF_EACH
        };
        told.extend(complaints.iter().take(most).map(ToString::to_string));
        // Faults come first: if a warning is left out, all that follow are warnings.
        if let Some(first) = complaints.get(most) {
            let more = Complaint {
                words: format!("and {} more, see the log", complaints.len() - most),
                ..(*first).clone()
            };
            told.insert(more.to_string());
        }
    }
    let untold = groups
        .get(LOGICAL_SWITCHES_TOLD)
        .and_then(|group| group.first());
    if let Some(first) = untold {
        let words = format!(
            "and {} more logical switches, see the log",
            groups.len() - LOGICAL_SWITCHES_TOLD
        );
        let more = Complaint {
            is_warning: first.is_warning,
            ..Complaint::general(words)
        };
        told.insert(more.to_string());
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(network: usize, count: usize) -> impl Iterator<Item = Complaint> {
        let name = LogicalSwitchName::new(format!("net-{network}"));
        (0..count).map(move |n| Complaint::about(name.clone(), format!("fault {n}")))
    }

    #[test]
    fn each_logical_switch_in_trouble_is_named_however_many_there_are() {
        let complaints = (0..200).flat_map(|network| numbered(network, 50)).collect();
        let told: Vec<_> = told(&complaints)
            .iter()
            .map(|text| Complaint::read(text))
            .collect();
        assert_eq!(told.len(), 200 * (TOLD_OF_EACH + 1));
        for network in 0..200 {
            let name = LogicalSwitchName::new(format!("net-{network}"));
            assert!(told.iter().any(|complaint| complaint.concerns(&name)));
        }
        let other = LogicalSwitchName::new("net-200");
        assert!(!told.iter().any(|complaint| complaint.concerns(&other)));
    }

    #[test]
    fn with_more_in_trouble_than_can_be_named_it_concerns_everything() {
        let networks = LOGICAL_SWITCHES_TOLD + 1;
        let complaints = (0..networks)
            .flat_map(|network| numbered(network, 1))
            .collect();
        let told = told(&complaints);
        assert!(told.contains("and 1 more logical switches, see the log"));
        let other = LogicalSwitchName::new("net-none");
        assert!(
            told.iter()
                .any(|text| Complaint::read(text).concerns(&other))
        );
    }

    #[test]
    fn warnings_however_many_concern_nobody() {
        let networks = LOGICAL_SWITCHES_TOLD + 1;
        let warnings = (0..networks).flat_map(|network| numbered(network, 9));
        let told = told(&warnings.map(Complaint::warning).collect());
        assert!(told.len() > LOGICAL_SWITCHES_TOLD);
        assert!(told.iter().all(|text| Complaint::read(text).is_warning));
    }
}
