//! Gateway connections: a VLAN of a port carries one network. Two would join them there, unseen and unasked.

use std::collections::HashMap;

use model::devices::{self, Device};
use model::fault::{Fault, FaultKind};
use model::resource::Kind;
use model::row::{Row, Value};
use model::value::VlanId;
use store::{Query, Snapshot};
use uuid::Uuid;

use super::{Known, Rules, collect, gateway, switch};

pub(super) fn create(
    rules: &Rules,
    tx: &mut dyn Snapshot,
    known: &mut Known,
    row: &mut Row,
) -> Result<(), Fault> {
    let gateway = known.referred(tx, row, "l2_gateway_id")?;
    let gateway_id = gateway.id();
    let devices = devices::parse(gateway.text("devices"))?;
    // Upstream stores the gateway's tenant, whatever the body says.
    let tenant = gateway.get("tenant_id").clone();
    row.set("tenant_id", tenant);
    one_segmentation(row, &devices)?;
    not_connected_yet(tx, row, gateway_id)?;
    gateway::all_seen(rules, tx, &devices)?;
    let mut bindings = Bindings::of_others(tx, &devices, None)?;
    bindings.bind(&devices, vlan(row), network(row))?;
    switch::can_bind(rules, &devices, vlan(row), network(row))?;
    let network = known.referred(tx, row, "network_id")?;
    if rules.unknown_devices {
        return Ok(());
    }
    vxlan_id(network)?;
    switch::has_key_free(rules, &devices, network)
}

/// Makes sure that the connections of a gateway stay distinct from each other and from all others if it gets these
/// devices, and that nobody else has their VLANs on those that are `named` anew.
pub(super) fn still_possible(
    rules: &Rules,
    tx: &mut dyn Snapshot,
    gateway: Uuid,
    named: &[Device],
    devices: &[Device],
) -> Result<(), Fault> {
    let own = Query::all(Kind::L2GatewayConnection).matching("l2_gateway_id", Value::Uuid(gateway));
    let own = collect(tx, &own)?;
    if own.is_empty() {
        return Ok(());
    }
    let mut bindings = Bindings::of_others(tx, devices, Some(gateway))?;
    own.iter().try_for_each(|row| {
        bindings.bind(devices, vlan(row), network(row))?;
        switch::are_free(rules, named, vlan(row), network(row))
    })
}

/// The key of a network inside the cloud.
///
/// # Errors
/// 404: it is no VXLAN network. 409: it is several.
pub(super) fn vxlan_id(network: &Row) -> Result<i64, Fault> {
    let is_vxlan = network.text("provider:network_type") == "vxlan";
    match network.integer("provider:segmentation_id") {
        Some(key) if is_vxlan => Ok(key),
        // Every other VXLAN network has a key.
        None if is_vxlan => Err(Fault::new(
            FaultKind::MultipleVxlanSegmentsFound,
            format!(
                "Multiple Vxlan segments found for the network '{}'",
                network.id()
            ),
        )),
        _ => Err(Fault::new(
            FaultKind::VxlanSegmentationIdNotFound,
            format!(
                "vxlan segmentation id not found for the network '{}'",
                network.id()
            ),
        )),
    }
}

/// Either the gateway's interfaces name VLANs or the connection does.
fn one_segmentation(row: &Row, devices: &[Device]) -> Result<(), Fault> {
    let given = row.integer("segmentation_id").is_some();
    if given && devices::have_tags(devices) {
        return Err(Fault::refused(
            "default segmentation_id should not be provided when segmentation_id is assigned during l2gateway creation",
        ));
    }
    if !given && !devices::have_vlans(devices) {
        return Err(Fault::refused(
            "Segmentation id must be specified in create l2gateway connections",
        ));
    }
    Ok(())
}

/// The database would refuse it too, but not in upstream's words: a Python dict of the mapping.
fn not_connected_yet(tx: &mut dyn Snapshot, row: &Row, gateway: Uuid) -> Result<(), Fault> {
    let same = Query::all(Kind::L2GatewayConnection)
        .matching("l2_gateway_id", Value::Uuid(gateway))
        .matching("network_id", row.get("network_id").clone());
    if tx.count(&same)? == 0 {
        return Ok(());
    }
    Err(Fault::new(
        FaultKind::L2GatewayConnectionExists,
        format!(
            "The specified mapping '{{'network_id': '{}', 'l2_gateway_id': '{gateway}', 'segmentation_id': '{}'}}' exists on network gateway '{gateway}'.",
            row.get("network_id").text(),
            row.get("segmentation_id").text(),
        ),
    ))
}

/// The VLAN on interfaces that name none.
fn vlan(row: &Row) -> VlanId {
    row.integer("segmentation_id")
        .and_then(|vlan| u16::try_from(vlan).ok())
        .and_then(VlanId::new)
        .unwrap_or(VlanId::UNTAGGED)
}

fn network(row: &Row) -> Uuid {
    row.uuid("network_id").unwrap_or_default()
}

/// Which network each VLAN of each interface carries.
#[derive(Default)]
struct Bindings {
    networks: HashMap<(String, String, VlanId), Uuid>,
}

impl Bindings {
    /// The bindings on the switches of `devices` by all gateways but one.
    fn of_others(
        tx: &mut dyn Snapshot,
        devices: &[Device],
        but: Option<Uuid>,
    ) -> Result<Self, Fault> {
        let mut gateways = gateway::on_the_same_switches(tx, devices)?;
        if let Some(but) = but {
            gateways.remove(&but);
        }
        let ids = gateways.keys().copied().map(Value::Uuid).collect();
        let query = Query::all(Kind::L2GatewayConnection).matching_any("l2_gateway_id", ids);
        let mut bindings = Self::default();
        for row in collect(tx, &query)? {
            let devices = row.uuid("l2_gateway_id").and_then(|id| gateways.get(&id));
            for port in ports(devices.map_or(&[], Vec::as_slice), vlan(&row)) {
                bindings.networks.entry(port).or_insert(network(&row));
            }
        }
        Ok(bindings)
    }

    /// Adds the bindings of a connection.
    fn bind(&mut self, devices: &[Device], vlan: VlanId, network: Uuid) -> Result<(), Fault> {
        for port in ports(devices, vlan) {
            let (device, interface, vlan) = &port;
            match self.networks.get(&port) {
                Some(other) if *other != network => {
                    return Err(Fault::new(
                        FaultKind::L2GatewayDuplicateSegmentationId,
                        format!(
                            "Duplicate segmentation ID for the interface name={interface} of device {device}: VLAN {vlan} already carries network {other}"
                        ),
                    ));
                }
                _ => self.networks.insert(port, network),
            };
        }
        Ok(())
    }
}

/// Device, interface and VLAN of every binding; `vlan` is the connection's.
fn ports(devices: &[Device], vlan: VlanId) -> impl Iterator<Item = (String, String, VlanId)> {
    devices.iter().flat_map(move |device| {
        device.interfaces.iter().flat_map(move |interface| {
            devices::bound(&interface.vlans, vlan)
                .map(|vlan| (device.name.clone(), interface.name.clone(), vlan))
        })
    })
}
