//! `l2gw vtep check`: what this host lacks to be a switch.
//!
//! The kernel is asked by trying: the devices, entries and packet filter of a small network are made, by the code that
//! makes the real ones, in a network namespace that ends with the check. That also covers settings the switch changes in
//! its own namespace, as `net.bridge.bridge-nf-call-*`: only if they can't be changed are they named.

use std::collections::BTreeSet;
use std::io::{self, Write as _};
use std::net::Ipv4Addr;
use std::sync::atomic::AtomicBool;
use std::thread;

use model::switch::{
    Locator, LogicalSwitch, LogicalSwitchName, PhysicalPort, PortVlan, RemoteMac, SwitchState,
};
use model::value::{MacAddress, VlanId, Vni};
use nix::sched::{CloneFlags, unshare};

use crate::error::{Error, MissingAddress};
use crate::kernel::desired::{NodeConfig, desired};
use crate::kernel::name::InterfaceName;
use crate::kernel::netns::NetworkNamespace;
use crate::kernel::underlay::Side;
use crate::kernel::vlan::VlanForm;
use crate::kernel::{self, Kernel, interface_mtu, sysctl};
use crate::loops;
use crate::options::{BORDER, CheckOptions};
use crate::ovsdb_server::{missing_programs, missing_schema};
use crate::path_mtu::OVERHEAD;
use crate::places::{Address, Places, addresses, wan_namespace};

/// `capability.h`.
const CAP_NET_ADMIN: u32 = 12;
/// The interface that stands for a physical port in the trial.
const PORT: &str = "port";

/// To make a network namespace; the switch itself does without.
const CAP_SYS_ADMIN: u32 = 21;

/// Prints what is missing, a line each.
///
/// # Errors
/// Something is missing, or it can't be told.
pub(crate) fn check(options: &CheckOptions) -> Result<(), Error> {
    let unmet = unmet(options)?;
    let mut out = io::stdout().lock();
    if !options.ports.is_empty() {
        let form = options.vlan_form.choose().map_err(Error::Kernel)?;
        writeln!(out, "VLANs of ports: {}", form.explained()).map_err(Error::Output)?;
    }
    for line in &unmet {
        writeln!(out, "{line}").map_err(Error::Output)?;
    }
    if unmet.is_empty() {
        writeln!(out, "nothing is missing").map_err(Error::Output)?;
        return Ok(());
    }
    Err(Error::Unmet(unmet.len()))
}

fn unmet(options: &CheckOptions) -> Result<Vec<String>, Error> {
    let vlans = match options.ports.as_slice() {
        [] => None,
        _ => Some(options.vlan_form.choose().map_err(Error::Kernel)?),
    };
    let mut unmet: Vec<String> = missing_programs(vlans)
        .chain(missing_schema())
        .map(|missing| missing.to_string())
        .collect();
    let has_nft = !missing_programs(None).any(|missing| missing.program == "nft");
    unmet.extend(privileges());
    unmet.extend(probing());
    if !has_nft {
        unmet.push("kernel: not tried, because that needs nft".to_owned());
    } else if has_capability(CAP_NET_ADMIN) && has_capability(CAP_SYS_ADMIN) {
        unmet.extend(trial(vlans, options.wan_netns.is_some())?);
    } else {
        unmet.push("kernel: not tried, because that needs root".to_owned());
    }
    unmet.extend(ends(options)?);
    for port in &options.ports {
        if interface_mtu(port.interface)
            .map_err(Error::Kernel)?
            .is_none()
        {
            let (port, interface) = (port.name.clone(), port.interface.to_string());
            unmet.push(Error::NoSuchInterface { port, interface }.to_string());
        }
    }
    Ok(unmet)
}

fn privileges() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some(Error::NotRoot.to_string());
    }
    (!has_capability(CAP_NET_ADMIN))
        .then(|| "changing network devices needs the capability CAP_NET_ADMIN".to_owned())
}

/// Loops are looked for by frames of our own.
fn probing() -> Option<String> {
    let error = loops::can_probe().err()?;
    Some(Error::LoopProtection(error).to_string())
}

/// Whether the calling thread has it (proc(5), CapEff).
fn has_capability(bit: u32) -> bool {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask >> bit & 1 == 1)
}

/// What the kernel refuses of a small network.
fn trial(vlans: Option<VlanForm>, wan_elsewhere: bool) -> Result<Vec<String>, Error> {
    let attempt = thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET)?;
        let mut places = Places::default();
        if wan_elsewhere {
            let elsewhere = NetworkNamespace::own()?;
            unshare(CloneFlags::CLONE_NEWNET)?;
            places.wan = places.underlays.add(elsewhere)?;
        }
        realise_a_network(vlans, places)
    });
    match attempt.join() {
        Ok(Ok(refused)) => Ok(refused),
        // Whatever it is, the switch would meet it too.
        Ok(Err(error)) => Ok(vec![format!("kernel: {error}")]),
        Err(_) => Err(Error::Runtime(io::Error::other(
            "the trial did not come back",
        ))),
    }
}

fn realise_a_network(vlans: Option<VlanForm>, places: Places) -> io::Result<Vec<String>> {
    let port: InterfaceName = PORT.parse().map_err(io::Error::other)?;
    let config = NodeConfig {
        switch: "check".into(),
        tunnel_ip: Ipv4Addr::new(192, 0, 2, 1),
        wan_ip: Ipv4Addr::new(192, 0, 2, 2),
        wan_underlay: places.wan,
        ports: [(BORDER.into(), None), (PORT.into(), Some(port))].into(),
        mtu: 1500,
        ipv6: sysctl::has_ipv6(),
        vlan_form: vlans.unwrap_or(VlanForm::Subinterfaces),
        bum_limit: Some(1000),
    };
    let mut switch = small_network(&config);
    if vlans.is_some() {
        kernel::vlan::make_port(port)?;
        switch.bindings.extend(bindings(PORT, &config));
    }
    let wanted = desired(&switch, &config).state;
    let mut kernel = Kernel::open_with(config, places.underlays)?;
    let never = AtomicBool::new(false);
    let report = kernel.converge(&wanted, &never)?;
    if !report.failures.is_empty() {
        let refused = report.failures.iter();
        return Ok(refused
            .map(|failure| format!("kernel: {failure}"))
            .collect());
    }
    // An old kernel passes over attributes it does not know and says that all is well.
    kernel.distrust();
    let again = kernel.converge(&wanted, &never)?;
    let ignored = again.plan.to_string();
    let ignored = ignored.lines().filter(|line| !line.trim().is_empty());
    Ok(ignored
        .map(|line| format!("kernel: ignores {}", line.trim()))
        .collect())
}

/// With one of everything: a host, a remote gateway that uses the same key, stations with addresses of both families.
fn small_network(config: &NodeConfig) -> SwitchState {
    let name = LogicalSwitchName::new("check");
    let key = Vni::new(1);
    let host = Locator {
        ip: Ipv4Addr::new(192, 0, 2, 3),
        tunnel_key: None,
    };
    let remote_gateway = Locator {
        ip: Ipv4Addr::new(192, 0, 2, 4),
        tunnel_key: key,
    };
    let station = |last, locator, ip: Option<std::net::IpAddr>| {
        let mac = MacAddress::new([2, 0, 0, 0, 0, last]);
        (mac, RemoteMac { locator, ip })
    };
    let logical_switch = LogicalSwitch {
        owned: true,
        tunnel_key: key,
        mtu: None,
        flood: [host, remote_gateway].into(),
        macs: [
            station(1, host, None),
            station(2, remote_gateway, Some(Ipv4Addr::new(192, 0, 2, 5).into())),
            station(
                3,
                remote_gateway,
                Some(std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into()),
            ),
        ]
        .into(),
    };
    SwitchState {
        logical_switches: [(name, logical_switch)].into(),
        bindings: bindings(BORDER, config).take(1).collect(),
        ..SwitchState::default()
    }
}

/// Frames without a tag and those of a VLAN of a port, in the small network.
fn bindings(
    port: &str,
    config: &NodeConfig,
) -> impl Iterator<Item = (PortVlan, LogicalSwitchName)> {
    let port = PhysicalPort {
        switch: config.switch.clone(),
        name: port.into(),
    };
    let vlans = [Some(VlanId::UNTAGGED), VlanId::new(1)].into_iter();
    vlans.flatten().map(move |vlan| {
        let port = port.clone();
        (PortVlan { port, vlan }, LogicalSwitchName::new("check"))
    })
}

/// Ends of tunnels whose address is not there, or whose interface can't carry a tenant's longest packet.
fn ends(options: &CheckOptions) -> Result<BTreeSet<String>, Error> {
    let mut unmet = BTreeSet::new();
    let here = addresses().map_err(Error::Kernel)?;
    unmet.extend(end(
        Side::Inside,
        options.tunnel_ip,
        &here,
        None,
        options.mtu,
    ));
    let Some(name) = &options.wan_netns else {
        unmet.extend(end(Side::Wan, options.wan_ip, &here, None, options.mtu));
        return Ok(unmet);
    };
    match wan_namespace(name) {
        Ok(namespace) => {
            let there = namespace.enter(addresses).map_err(Error::Kernel)?;
            let place = Some(name.clone());
            unmet.extend(end(Side::Wan, options.wan_ip, &there, place, options.mtu));
        }
        Err(bad) => drop(unmet.insert(Error::from(bad).to_string())),
    }
    Ok(unmet)
}

/// What is wrong with an end of tunnels, where these addresses are.
fn end(
    side: Side,
    ip: Option<Ipv4Addr>,
    held: &[Address],
    netns: Option<String>,
    tenants_mtu: u32,
) -> Option<String> {
    let ip = ip?;
    let Some(address) = held.iter().find(|held| held.ip == ip) else {
        return Some(MissingAddress::new(side, ip, netns).to_string());
    };
    let needed = tenants_mtu + OVERHEAD;
    let mtu = address.mtu.filter(|mtu| *mtu < needed)?;
    let (option, interface) = (side.option(), &address.interface);
    Some(format!(
        "{option} {ip}: interface {interface} has MTU {mtu}, tenant packets of {tenants_mtu} bytes need {needed} (or give \
         the tenants' largest MTU as --mtu, here at most {})",
        mtu.saturating_sub(OVERHEAD)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::VlanFormOption;
    use std::process::Command;
    use testkit::netns::{Netns, unique_prefix};

    fn ip(arguments: &str) {
        let done = Command::new("ip")
            .args(arguments.split_whitespace())
            .status();
        assert!(done.unwrap().success(), "ip {arguments}");
    }

    fn options() -> CheckOptions {
        CheckOptions {
            tunnel_ip: None,
            wan_ip: None,
            wan_netns: None,
            ports: Vec::new(),
            mtu: 1450,
            vlan_form: VlanFormOption::Auto,
        }
    }

    #[test]
    fn a_host_that_has_everything_lacks_nothing() {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        ip("link add wan0 type veth peer name far0");
        ip("addr add 198.51.100.1/24 dev wan0");
        let ready = CheckOptions {
            wan_ip: Some(Ipv4Addr::new(198, 51, 100, 1)),
            ports: vec!["up=far0".parse().unwrap()],
            ..options()
        };
        assert_eq!(unmet(&ready).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn what_is_missing_is_named_each_on_a_line() {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        ip("link add wan0 type veth peer name far0");
        ip("addr add 198.51.100.1/24 dev wan0");
        let unready = CheckOptions {
            tunnel_ip: Some(Ipv4Addr::new(198, 51, 100, 9)),
            wan_ip: Some(Ipv4Addr::new(198, 51, 100, 1)),
            ports: vec!["up=eth9".parse().unwrap()],
            mtu: 1500,
            ..options()
        };
        assert_eq!(
            unmet(&unready).unwrap(),
            [
                "--tunnel-ip 198.51.100.9: this host does not have this address",
                "--wan-ip 198.51.100.1: interface wan0 has MTU 1500, tenant packets of 1500 bytes need 1550 (or give the \
                 tenants' largest MTU as --mtu, here at most 1450)",
                "--port up=eth9: this host has no interface eth9",
            ]
        );
    }

    #[test]
    fn what_is_missing_of_a_namespace_for_the_wan_is_named() {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        let elsewhere = Netns::create(&unique_prefix()).unwrap();
        let name = elsewhere.name();
        elsewhere
            .ip("link add wan0 type veth peer name far0\naddr add 198.51.100.1/24 dev wan0")
            .unwrap();
        // This host has an address of its own, which is of no use there.
        ip("link add wan0 type veth peer name far0");
        ip("addr add 198.51.100.9/24 dev wan0");
        let on_the_wan = |ip: [u8; 4], netns: &str, mtu| {
            unmet(&CheckOptions {
                wan_ip: Some(ip.into()),
                wan_netns: Some(netns.to_owned()),
                mtu,
                ..options()
            })
            .unwrap()
        };
        let nothing = Vec::<String>::new();
        assert_eq!(on_the_wan([198, 51, 100, 1], name, 1450), nothing);
        assert_eq!(
            on_the_wan([198, 51, 100, 9], name, 1450),
            [format!(
                "--wan-ip 198.51.100.9: network namespace {name} does not have this address"
            )]
        );
        assert_eq!(
            on_the_wan([198, 51, 100, 1], name, 1500),
            [
                "--wan-ip 198.51.100.1: interface wan0 has MTU 1500, tenant packets of 1500 bytes need 1550 (or give the \
                 tenants' largest MTU as --mtu, here at most 1450)"
            ]
        );
        assert_eq!(
            on_the_wan([198, 51, 100, 1], "l2gw-none", 1450),
            [
                "--wan-netns: this host has no network namespace l2gw-none (`ip netns list` shows them, `ip netns add \
                 l2gw-none` makes it)"
            ]
        );
    }

    #[test]
    fn what_the_kernel_refuses_is_told_in_its_words() {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        // Somebody else has the key and port that the small network needs.
        ip("link add other type vxlan id 1 dstport 4789 local 192.0.2.1");
        let refused = realise_a_network(None, Places::default()).unwrap();
        assert!(
            refused
                .iter()
                .any(|line| line.starts_with("kernel: ") && line.contains("already exists")),
            "{refused:?}"
        );
        // The trial has a namespace of its own, where nobody has.
        assert_eq!(trial(None, false).unwrap(), Vec::<String>::new());
    }
}
