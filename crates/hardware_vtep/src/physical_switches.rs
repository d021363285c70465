//! What the physical switches of a database say of themselves, and what they complain about.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::switch::PhysicalPort;

use crate::complaint::Complaints;
use crate::database::Database;

/// What a physical switch says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PhysicalSwitch {
    /// `Physical_Switch.name`.
    pub name: Arc<str>,
    /// `Physical_Switch.description`.
    pub description: String,
    /// `Physical_Switch.tunnel_ips`, as written there.
    pub tunnel_ips: BTreeSet<String>,
    /// `Physical_Switch.switch_fault_status`.
    pub faults: BTreeSet<String>,
    /// Its ports by name, each with its `port_fault_status`.
    pub ports: BTreeMap<Arc<str>, BTreeSet<String>>,
}

impl Database {
    /// The physical switches by name.
    pub fn physical_switches(&self) -> BTreeMap<Arc<str>, PhysicalSwitch> {
        let sorted = |texts: &[String]| texts.iter().cloned().collect();
        self.switches
            .values()
            .map(|row| {
                let ports = self.ports_of(row).map(|(_, port)| {
                    let faults: BTreeSet<String> = sorted(&port.faults.0);
                    (Arc::clone(&port.name), faults)
                });
                let switch = PhysicalSwitch {
                    name: Arc::clone(&row.name),
                    description: row.description.clone(),
                    tunnel_ips: sorted(&row.tunnel_ips.0),
                    faults: sorted(&row.faults.0),
                    ports: ports.collect(),
                };
                (Arc::clone(&row.name), switch)
            })
            .collect()
    }

    /// What the physical switches complain about and warn of, in words, by name. A transaction that succeeded is only stored: whether
    /// the switch could do it is told here.
    pub fn faults(&self) -> BTreeMap<Arc<str>, String> {
        let mut all = BTreeMap::new();
        for switch in self.physical_switches().into_values() {
            let mut told: Vec<String> = switch.faults.into_iter().collect();
            for (port, faults) in &switch.ports {
                told.extend(faults.iter().map(|text| format!("{text} on port {port}")));
            }
            if !told.is_empty() {
                all.insert(switch.name, told.join(", "));
            }
        }
        all
    }

    /// Their faults, by whom they concern.
    pub fn complaints(&self) -> Complaints {
        let mut all = Complaints::default();
        for switch in self.switches.values() {
            for text in &switch.faults.0 {
                all.add_of_switch(&switch.name, text);
            }
            for (_, row) in self.ports_of(switch) {
                let port = PhysicalPort {
                    switch: Arc::clone(&switch.name),
                    name: Arc::clone(&row.name),
                };
                for text in &row.faults.0 {
                    all.add_of_port(&port, text);
                }
            }
        }
        all
    }
}
