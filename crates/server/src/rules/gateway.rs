//! Gateways: their devices have ids of their own, and keep what an update does not name.

use std::collections::HashMap;

use model::devices::{self, DEVICE_NOT_FOUND, Device};
use model::fault::Fault;
use model::resource::Kind;
use model::row::{Row, Value};
use store::{Query, Snapshot};
use uuid::Uuid;

use super::{Rules, collect, connection, switch};

pub(super) fn create(row: &mut Row) -> Result<(), Fault> {
    let mut devices = devices::parse(row.text("devices"))?;
    for device in &mut devices {
        device.id = Some(Uuid::now_v7());
    }
    put_devices(row, &devices)
}

/// Merges the devices that the update names, now in `row`, into those that were there `before`.
pub(super) fn update(
    rules: &Rules,
    tx: &mut dyn Snapshot,
    before: &Row,
    row: &mut Row,
) -> Result<(), Fault> {
    if row.get("devices") == before.get("devices") {
        return Ok(());
    }
    let named = devices::parse(row.text("devices"))?;
    let mut merged = devices::parse(before.text("devices"))?;
    devices::update(&mut merged, named.clone())?;
    all_seen(rules, tx, &named)?;
    switch::has_ports(rules, &named)?;
    connection::still_possible(rules, tx, row.id(), &named, &merged)?;
    put_devices(row, &merged)
}

/// Makes sure that a controller has seen each of these physical switches, now or earlier.
pub(super) fn all_seen(
    rules: &Rules,
    tx: &mut dyn Snapshot,
    devices: &[Device],
) -> Result<(), Fault> {
    if rules.unknown_devices {
        return Ok(());
    }
    let seen = tx.seen_devices()?;
    let known = |device: &Device| seen.contains(&device.name) || rules.board.lists(&device.name);
    match devices.iter().find(|device| !known(device)) {
        Some(device) => Err(DEVICE_NOT_FOUND.fill(&device.name)),
        None => Ok(()),
    }
}

/// The gateways, with their devices, that share a physical switch with one that has these devices; itself included.
pub(super) fn on_the_same_switches(
    tx: &mut dyn Snapshot,
    devices: &[Device],
) -> Result<HashMap<Uuid, Vec<Device>>, Fault> {
    let mut sharing = HashMap::new();
    for row in collect(tx, &Query::all(Kind::L2Gateway))? {
        let others = devices::parse(row.text("devices"))?;
        let shares = |other: &Device| devices.iter().any(|device| device.name == other.name);
        if others.iter().any(shares) {
            sharing.insert(row.id(), others);
        }
    }
    Ok(sharing)
}

fn put_devices(row: &mut Row, devices: &[Device]) -> Result<(), Fault> {
    row.set("devices", Value::Text(devices::to_text(devices)?.into()));
    Ok(())
}
