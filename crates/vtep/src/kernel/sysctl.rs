//! The few settings of the kernel that have no netlink attribute. Paths lead into the network namespace of the calling
//! thread.

use std::fs;
use std::io;
use std::path::Path;

use super::name::InterfaceName;
use super::state::HostSide;

/// `arp_ignore`: do not reply for all local addresses.
const SILENT: &str = "8";

const BRIDGE_NETFILTER: [&str; 3] = [
    "/proc/sys/net/bridge/bridge-nf-call-iptables",
    "/proc/sys/net/bridge/bridge-nf-call-ip6tables",
    "/proc/sys/net/bridge/bridge-nf-call-arptables",
];

/// Whether this kernel has IPv6 at all.
pub(crate) fn has_ipv6() -> bool {
    Path::new("/proc/sys/net/ipv6/conf").exists()
}

/// Whether bridged frames go through the host's packet filter. Without the module `br_netfilter` they don't.
pub(crate) fn bridge_netfilter() -> bool {
    BRIDGE_NETFILTER
        .iter()
        .any(|path| fs::read_to_string(path).is_ok_and(|value| value.trim() != "0"))
}

/// Takes bridged frames out of the host's packet filter, in this network namespace.
pub(crate) fn bypass_bridge_netfilter() -> io::Result<()> {
    for path in BRIDGE_NETFILTER {
        if Path::new(path).exists() {
            write(path, "0")?;
        }
    }
    Ok(())
}

/// Sets how the host's stack sees a device, but for link-local addresses, which netlink sets.
pub(crate) fn set_host_side(device: InterfaceName, host: HostSide) -> io::Result<()> {
    if has_ipv6() {
        let disable = if host.ipv6 { "0" } else { "1" };
        write(
            &format!("/proc/sys/net/ipv6/conf/{device}/disable_ipv6"),
            disable,
        )?;
    }
    let ignore = if host.answers_arp { "0" } else { SILENT };
    write(
        &format!("/proc/sys/net/ipv4/conf/{device}/arp_ignore"),
        ignore,
    )
}

fn write(path: &str, value: &str) -> io::Result<()> {
    fs::write(path, value).map_err(|error| io::Error::new(error.kind(), format!("{path}: {error}")))
}
