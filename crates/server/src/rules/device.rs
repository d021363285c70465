//! Devices: nobody declares them, they are remembered when they come. One that is gone for good can be forgotten.

use model::devices::{self, DEVICE_NOT_FOUND};
use model::fault::{Fault, FaultKind};
use model::resource::Kind;
use store::{Query, Transaction};

use super::collect;
use crate::status::Board;

/// As many gateways are named in a refusal.
const NAMED: usize = 3;

/// Forgets a physical switch.
///
/// # Errors
/// 404: it is not known. 409: it is there, an endpoint that is dialled had it, or gateways name it.
pub(crate) fn forget(tx: &mut dyn Transaction, board: &Board, name: &str) -> Result<(), Fault> {
    let in_use = |why: String| {
        let message = format!("L2 Gateway Device '{name}' is still used: {why}");
        Err(Fault::new(FaultKind::L2GatewayDeviceInUse, message))
    };
    // Where it would come from again.
    if let Some(endpoint) = board.endpoint_of(name) {
        return in_use(format!(
            "it is behind {endpoint}; end its connection, or take it out of this server's --device and start that anew"
        ));
    }
    let mut gateways = Vec::new();
    for gateway in collect(tx, &Query::all(Kind::L2Gateway))? {
        let devices = devices::parse(gateway.text("devices"))?;
        if devices.iter().any(|device| device.name == name) {
            gateways.push(gateway.id().to_string());
        }
    }
    if !gateways.is_empty() {
        let further = match gateways.len().saturating_sub(NAMED) {
            0 => String::new(),
            further => format!(" and {further} more"),
        };
        gateways.truncate(NAMED);
        return in_use(format!(
            "gateways name it, delete those first: {}{further}",
            gateways.join(", ")
        ));
    }
    match tx.forget_device(name)? {
        true => Ok(()),
        false => Err(DEVICE_NOT_FOUND.fill(name)),
    }
}
