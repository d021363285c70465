//! What the switches themselves say against a declaration. Only those that are there are asked: what is declared for
//! others is told by its status when they come.

use hardware_vtep::{Capabilities, Complaint, PhysicalSwitch};
use model::devices::{self, Device};
use model::fault::{Fault, FaultKind};
use model::plan::{self, KeyTaken};
use model::row::Row;
use model::switch::{LogicalSwitchName, PhysicalPort, PortVlan, SwitchState};
use model::value::VlanId;

use super::Rules;
use crate::status::{without_bfd, without_key, without_replication};

/// Makes sure that the ports exist and work for the network, and that nobody else has the VLANs, in the order of upstream's checks.
///
/// # Errors
/// 404: a switch has no such port. 409: a switch or port is faulty, or the VLAN is taken.
pub(super) fn can_bind(
    rules: &Rules,
    devices: &[Device],
    vlan: VlanId,
    network: uuid::Uuid,
) -> Result<(), Fault> {
    let network = LogicalSwitchName::new(network.to_string());
    ask(rules, devices, |device, switch, held| {
        working(device, switch, &network)?;
        free(device, vlan, &network, held)
    })
}

/// Makes sure that the ports exist which a gateway's devices are to have. They may be faulty: how else would one get rid
/// of them?
///
/// # Errors
/// 404: a switch has no such port.
pub(super) fn has_ports(rules: &Rules, devices: &[Device]) -> Result<(), Fault> {
    ask(rules, devices, |device, switch, _| {
        let mut interfaces = device.interfaces.iter();
        match interfaces.find(|interface| !switch.ports.contains_key(&*interface.name)) {
            None => Ok(()),
            Some(missing) => Err(Fault::new(
                FaultKind::L2GatewayPhysicalPortNotFound,
                format!(
                    "Physical Port '{}' in Physical switch '{}' could not be found",
                    missing.name, device.name
                ),
            )),
        }
    })
}

/// Makes sure that nobody else has the VLANs that a connection of a gateway would have on these devices.
///
/// # Errors
/// 409: a VLAN is taken.
pub(super) fn are_free(
    rules: &Rules,
    devices: &[Device],
    vlan: VlanId,
    network: uuid::Uuid,
) -> Result<(), Fault> {
    let network = LogicalSwitchName::new(network.to_string());
    ask(rules, devices, |device, _, held| {
        free(device, vlan, &network, held)
    })
}

/// Makes sure that no other controller has the key of a network on the switches: the two networks would be one.
///
/// # Errors
/// 409: one has.
pub(super) fn has_key_free(rules: &Rules, devices: &[Device], network: &Row) -> Result<(), Fault> {
    let Some(key) = network.vni("provider:segmentation_id") else {
        return Ok(());
    };
    let name = LogicalSwitchName::new(network.id().to_string());
    ask(
        rules,
        devices,
        |device, _, held| match plan::foreign_with_key(held, key, &name) {
            None => Ok(()),
            Some(theirs) => Err(Fault::new(
                FaultKind::L2GatewayDuplicateSegmentationId,
                format!(
                    "Network {name} cannot be on device {}: {}",
                    device.name,
                    KeyTaken(key, theirs)
                ),
            )),
        },
    )
}

/// Asks those of the switches that are there.
fn ask(
    rules: &Rules,
    devices: &[Device],
    question: impl Fn(&Device, &PhysicalSwitch, &SwitchState) -> Result<(), Fault>,
) -> Result<(), Fault> {
    if rules.unknown_devices {
        return Ok(());
    }
    devices.iter().try_for_each(|device| {
        let asked = rules.board.ask(&device.name, |held| {
            let switches = held.physical_switches();
            let switch = switches.get(&*device.name);
            switch.map_or(Ok(()), |switch| question(device, switch, held.state()))
        });
        asked.unwrap_or(Ok(()))
    })
}

fn working(
    device: &Device,
    switch: &PhysicalSwitch,
    network: &LogicalSwitchName,
) -> Result<(), Fault> {
    let words = |faults: &std::collections::BTreeSet<String>| {
        let faults = faults.iter().map(String::as_str);
        let faults = faults.filter(|text| Complaint::read(text).concerns(network));
        let faults: Vec<_> = faults.collect();
        (!faults.is_empty()).then(|| faults.join(", "))
    };
    if let Some(faults) = words(&switch.faults) {
        return Err(Fault::new(
            FaultKind::L2GatewayPhysicalSwitchFaultStatus,
            format!(
                "Physical Switch '{}' switch_fault_status is '{faults}'",
                device.name
            ),
        ));
    }
    device.interfaces.iter().try_for_each(|interface| {
        let Some(faults) = switch.ports.get(&*interface.name) else {
            return Err(Fault::new(
                FaultKind::L2GatewayInterfaceNotFound,
                format!(
                    "L2 Gateway interface '{}' not found on device {}.",
                    interface.name, device.name
                ),
            ));
        };
        match words(faults) {
            None => Ok(()),
            Some(faults) => Err(Fault::new(
                FaultKind::L2GatewayPhysicalPortFaultStatus,
                format!(
                    "Physical Port '{}' in Physical switch '{}' port_fault_status is '{faults}'",
                    interface.name, device.name
                ),
            )),
        }
    })
}

/// A VLAN that a logical switch of ours has is left to the rules of connections: they know what it will be.
fn free(
    device: &Device,
    vlan: VlanId,
    network: &LogicalSwitchName,
    held: &SwitchState,
) -> Result<(), Fault> {
    for interface in &device.interfaces {
        for vlan in devices::bound(&interface.vlans, vlan) {
            let port_vlan = PortVlan {
                port: PhysicalPort {
                    switch: device.name.as_str().into(),
                    name: interface.name.as_str().into(),
                },
                vlan,
            };
            let taken = held.bindings.get(&port_vlan).filter(|bound| {
                let ours = held.logical_switches.get(*bound).is_some_and(|l| l.owned);
                *bound != network && !ours
            });
            if let Some(theirs) = taken {
                return Err(Fault::new(
                    FaultKind::L2GatewayDuplicateSegmentationId,
                    format!(
                        "Duplicate segmentation ID for the interface name={} of device {}: VLAN {vlan} is bound to \
                         logical switch {theirs} of another controller",
                        interface.name, device.name
                    ),
                ));
            }
        }
    }
    Ok(())
}

/// Makes sure that the switches can use the tunnel key of a remote connection.
///
/// # Errors
/// 409: one of them has no keys of tunnels, and the key is not the network's own.
pub(super) fn can_use_key(
    rules: &Rules,
    devices: &[Device],
    connection: &Row,
    network: &Row,
) -> Result<(), Fault> {
    let key = connection.vni("segmentation_id");
    let own = network.vni("provider:segmentation_id");
    unless(rules, devices, |device, has| {
        let keyless = !has.locator_tunnel_key;
        Ok(keyless.then(|| without_key(device, key, own)).flatten())
    })
}

/// Makes sure that the switches can watch tunnels.
///
/// # Errors
/// 409: one of them cannot.
pub(super) fn can_watch(rules: &Rules, devices: &[Device]) -> Result<(), Fault> {
    unless(rules, devices, |device, has| {
        Ok((!has.bfd).then(|| without_bfd(device)))
    })
}

/// Makes sure that the switches can flood to as many destinations as a network then has on them.
///
/// # Errors
/// 409: one of them floods to one alone.
pub(super) fn can_flood(
    rules: &Rules,
    devices: &[Device],
    mut destinations: impl FnMut(&str) -> Result<usize, Fault>,
) -> Result<(), Fault> {
    unless(rules, devices, |device, has| {
        if has.replication_mode {
            return Ok(None);
        }
        let count = destinations(device)?;
        Ok((count > 1).then(|| without_replication(device, count)))
    })
}

/// Refuses what one of the switches that are there cannot do, in its words.
fn unless(
    rules: &Rules,
    devices: &[Device],
    mut objection: impl FnMut(&str, Capabilities) -> Result<Option<String>, Fault>,
) -> Result<(), Fault> {
    devices.iter().try_for_each(|device| {
        let Some(has) = rules.board.ask(&device.name, |held| held.capabilities()) else {
            return Ok(());
        };
        match objection(&device.name, has)? {
            Some(reason) => Err(Fault::new(FaultKind::L2RemoteGatewayDeviceUnable, reason)),
            None => Ok(()),
        }
    })
}
