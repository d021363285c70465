//! What the host must have, and what it had better have, before the switch begins.

use std::collections::BTreeSet;

use crate::error::Error;
use crate::kernel::Kernel;
use crate::kernel::desired::NodeConfig;

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
pub(super) fn warn_of_foreign_addresses(config: &NodeConfig) {
    let Ok(addresses) = nix::ifaddrs::getifaddrs() else {
        return;
    };
    let held: BTreeSet<_> = addresses
        .filter_map(|address| Some(address.address?.as_sockaddr_in()?.ip()))
        .collect();
    for (option, ip) in [
        ("--tunnel-ip", config.tunnel_ip),
        ("--wan-ip", config.wan_ip),
    ] {
        if !held.contains(&ip) {
            tracing::warn!(
                "{option} {ip}: this host does not have this address; nothing will arrive"
            );
        }
    }
}
