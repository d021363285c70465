//! What the host must have, and what it had better have, before the switch begins.

use crate::error::{Error, MissingAddress};
use crate::kernel::Kernel;
use crate::kernel::desired::NodeConfig;
use crate::places::{Places, addresses};

/// Every port's interface is there.
pub(super) fn check_interfaces(config: &NodeConfig, kernel: &mut Kernel) -> Result<(), Error> {
    for (port, interface) in &config.ports {
        let Some(interface) = interface else { continue };
        if !kernel.has_interface(*interface).map_err(Error::Kernel)? {
            return Err(Error::NoSuchInterface {
                port: port.to_string(),
                interface: interface.to_string(),
            });
        }
    }
    Ok(())
}

/// An address that moves between two gateways may be elsewhere at the moment, so this is no error.
pub(super) fn warn_of_foreign_addresses(config: &NodeConfig, places: &Places) {
    for end in config.ends() {
        let Ok(held) = places.underlays.at(end.underlay, addresses) else {
            return;
        };
        if !held.iter().any(|held| held.ip == end.ip) {
            let missing = MissingAddress::new(end.side, end.ip, places.name(end.underlay));
            tracing::warn!("{missing}; nothing will arrive");
        }
    }
}
