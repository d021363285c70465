//! Remote gateway connections and remote MACs: both ride on the connection of a network to a gateway.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use model::devices::{self, Device};
use model::fault::{Fault, FaultKind};
use model::intent::tunneling_ip;
use model::resource::Kind;
use model::row::{Row, Value};
use model::value::Vni;
use store::{Query, Snapshot};

use super::{Known, Rules, collect, connection, gateway, switch};

pub(super) fn create_connection(
    rules: &Rules,
    tx: &mut dyn Snapshot,
    known: &mut Known,
    row: &mut Row,
) -> Result<(), Fault> {
    let attachment = attachment(tx, row)?;
    row.set("attachment_id", Value::Uuid(attachment.id()));
    if *row.get("segmentation_id") == Value::Null {
        let network = known.referred(tx, row, "network_id")?;
        let key = connection::vxlan_id(network)?;
        row.set("segmentation_id", Value::Integer(key));
    }
    key_is_free(tx, known, row)?;
    let devices = devices::parse(known.referred(tx, row, "l2_gateway_id")?.text("devices"))?;
    let network = known.referred(tx, row, "network_id")?;
    switch::can_use_key(rules, &devices, row, network)?;
    let remote = known.referred(tx, row, "l2_remote_gateway_id")?;
    if remote.flag("bfd") {
        switch::can_watch(rules, &devices)?;
    }
    if row.flag("flood") {
        let ip = remote.ipv4("ipaddr");
        switch::can_flood(rules, &devices, |device| {
            let mut wan = flooded(tx, row, device)?;
            wan.insert((ip, row.vni("segmentation_id")));
            Ok(wan.len() + hosts(tx, row)?.len())
        })?;
    }
    Ok(())
}

/// Makes sure that the switches that have tunnels to a remote gateway can watch them, if that is asked for now.
pub(super) fn update_gateway(
    rules: &Rules,
    tx: &mut dyn Snapshot,
    before: &Row,
    row: &Row,
) -> Result<(), Fault> {
    if before.flag("bfd") || !row.flag("bfd") {
        return Ok(());
    }
    let connections = Query::all(Kind::L2RemoteGatewayConnection)
        .matching("l2_remote_gateway_id", row.get("id").clone());
    for connection in collect(tx, &connections)? {
        let gateway = connection.uuid("l2_gateway_id").unwrap_or_default();
        if let Some(gateway) = tx.get(Kind::L2Gateway, gateway)? {
            switch::can_watch(rules, &devices::parse(gateway.text("devices"))?)?;
        }
    }
    Ok(())
}

/// Where a tunnel of the WAN leads: address and key.
type Far = (Option<Ipv4Addr>, Option<Vni>);

/// The tunnels that the network of a remote connection floods to already on a physical switch.
fn flooded(tx: &mut dyn Snapshot, row: &Row, device: &str) -> Result<BTreeSet<Far>, Fault> {
    let device = Device {
        name: device.to_owned(),
        id: None,
        interfaces: Vec::new(),
    };
    let sharing = gateway::on_the_same_switches(tx, &[device])?;
    let query = Query::all(Kind::L2RemoteGatewayConnection)
        .matching_any(
            "l2_gateway_id",
            sharing.into_keys().map(Value::Uuid).collect(),
        )
        .matching("network_id", row.get("network_id").clone());
    let mut tunnels = BTreeSet::new();
    for other in collect(tx, &query)? {
        let remote = other.uuid("l2_remote_gateway_id").unwrap_or_default();
        if other.flag("flood")
            && let Some(remote) = tx.get(Kind::L2RemoteGateway, remote)?
        {
            tunnels.insert((remote.ipv4("ipaddr"), other.vni("segmentation_id")));
        }
    }
    Ok(tunnels)
}

/// The hosts inside the cloud that the network of a remote connection floods to.
fn hosts(tx: &mut dyn Snapshot, row: &Row) -> Result<BTreeSet<Ipv4Addr>, Fault> {
    let query = Query::all(Kind::Port).matching("network_id", row.get("network_id").clone());
    let ports = collect(tx, &query)?;
    let hosts = ports.iter().map(tunneling_ip).filter_map(Result::transpose);
    hosts.collect()
}

pub(super) fn create_mac(
    tx: &mut dyn Snapshot,
    known: &mut Known,
    row: &mut Row,
) -> Result<(), Fault> {
    let connection = known.referred(tx, row, "rgw_connection")?;
    let attachment = connection.get("attachment_id").clone();
    row.set("attachment_id", attachment);
    Ok(())
}

/// The connection of the network to the gateway.
fn attachment(tx: &mut dyn Snapshot, row: &Row) -> Result<Row, Fault> {
    let query = Query::all(Kind::L2GatewayConnection)
        .matching("l2_gateway_id", row.get("l2_gateway_id").clone())
        .matching("network_id", row.get("network_id").clone());
    collect(tx, &query)?.pop().ok_or_else(|| {
        Fault::new(
            FaultKind::L2RemoteGatewayConnectionNetworkNotAttached,
            format!(
                "Network '{}' is not attached to L2 Gateway '{}': attach it first with l2-gateway-connection-create.",
                row.get("network_id").text(),
                row.get("l2_gateway_id").text(),
            ),
        )
    })
}

/// A switch tells by the tunnel key alone which network a frame from the WAN belongs to. So all gateways that share a
/// switch share its keys.
fn key_is_free(tx: &mut dyn Snapshot, known: &mut Known, row: &Row) -> Result<(), Fault> {
    let gateway = known.referred(tx, row, "l2_gateway_id")?;
    let devices = devices::parse(gateway.text("devices"))?;
    let sharing = gateway::on_the_same_switches(tx, &devices)?;
    let query = Query::all(Kind::L2RemoteGatewayConnection)
        .matching_any(
            "l2_gateway_id",
            sharing.into_keys().map(Value::Uuid).collect(),
        )
        .matching("segmentation_id", row.get("segmentation_id").clone());
    let users = collect(tx, &query)?;
    let other = users
        .iter()
        .find(|other| other.get("network_id") != row.get("network_id"));
    match other {
        Some(other) => Err(Fault::new(
            FaultKind::L2RemoteGatewaySegmentationIdInUse,
            format!(
                "Segmentation id {} already carries network '{}' on the switches of L2 Gateway '{}'.",
                row.get("segmentation_id").text(),
                other.get("network_id").text(),
                row.get("l2_gateway_id").text(),
            ),
        )),
        None => Ok(()),
    }
}
