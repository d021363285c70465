//! Steps as people read them: one line each in plans, faults and logs, and a word to count them by.

use std::fmt;
use std::net::Ipv4Addr;

use super::Step;

impl Step {
    /// What the step is counted as in a summary.
    pub(in crate::kernel) fn kind(&self) -> &'static str {
        match self {
            Self::BypassBridgeNetfilter => "bridge netfilter bypassed",
            Self::DeleteDevice(_) => "devices deleted",
            Self::ReplaceFilter(..) | Self::ChangeFilter { .. } => "filter changes",
            Self::RemoveFilter(_) => "filters removed",
            Self::PutGuard(_) => "guards of ports changed",
            Self::CreateBridge(..) => "bridges created",
            Self::CreateVxlan(..) => "vxlans created",
            Self::CreateVlan(..) => "vlans created",
            Self::ChangeBridge { .. }
            | Self::ChangeVxlan { .. }
            | Self::ChangeVlan { .. }
            | Self::SetHostSide(..) => "device settings",
            Self::Steer(..) => "interfaces steered",
            Self::Attach { .. } => "ports attached",
            Self::Detach { .. } => "ports detached",
            Self::SetPortFlags(..) => "port settings",
            Self::BringUp(_) => "brought up",
            Self::SetCut(_, true) => "cut off",
            Self::SetCut(_, false) => "joined again",
            Self::PutStation { .. } => "stations put",
            Self::RemoveStation { .. } => "stations removed",
            Self::AddFlood(..) | Self::RemoveFlood(..) => "flood changes",
            Self::PutNeighbour { .. } => "neighbours put",
            Self::RemoveNeighbour { .. } => "neighbours removed",
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BypassBridgeNetfilter => f.write_str("bypass bridge netfilter"),
            Self::DeleteDevice(name) => write!(f, "delete {name}"),
            Self::ReplaceFilter(underlay, filter) => write!(
                f,
                "replace filter{underlay}: {} inside, {} wan",
                filter.inside.len(),
                filter.wan.len()
            ),
            Self::ChangeFilter {
                underlay,
                add,
                remove,
            } => {
                write!(f, "change filter{underlay}:")?;
                let changes = [("+", add), ("-", remove)];
                for (sign, change) in changes {
                    for (set, tunnels) in change.tunnel_sets() {
                        for tunnel in tunnels {
                            write!(f, " {sign}{set} {tunnel}")?;
                        }
                    }
                    for (set, keys) in change.key_sets() {
                        for key in keys {
                            write!(f, " {sign}{set} {key}")?;
                        }
                    }
                }
                Ok(())
            }
            Self::RemoveFilter(underlay) => write!(f, "remove filter{underlay}"),
            Self::PutGuard(Some(guard)) => {
                f.write_str("no tagged frames on")?;
                guard.ports.iter().try_for_each(|port| write!(f, " {port}"))
            }
            Self::PutGuard(None) => f.write_str("remove guard of ports"),
            Self::CreateBridge(name, shape) => {
                write!(f, "create bridge {name}: {}", shape.link.alias)
            }
            Self::ChangeBridge { name, was, shape } => {
                write!(f, "change bridge {name}:")?;
                change(f, "alias", &was.link.alias, &shape.link.alias)?;
                change(f, "group", &was.link.group, &shape.link.group)?;
                change(f, "mtu", &was.link.mtu, &shape.link.mtu)?;
                let (was, now) = (&was.settings, &shape.settings);
                change(f, "address", &was.address, &now.address)?;
                change(f, "stp", &was.spanning_tree, &now.spanning_tree)?;
                change(f, "delay", &was.forward_delay, &now.forward_delay)?;
                change(
                    f,
                    "snooping",
                    &was.multicast_snooping,
                    &now.multicast_snooping,
                )?;
                change(f, "vlans", &was.vlan_filtering, &now.vlan_filtering)
            }
            Self::CreateVxlan(name, shape) => {
                write!(
                    f,
                    "create vxlan {name}: {} {}",
                    shape.link.alias, shape.identity
                )
            }
            Self::ChangeVxlan { name, was, shape } => {
                write!(f, "change vxlan {name}:")?;
                change(f, "alias", &was.link.alias, &shape.link.alias)?;
                change(f, "group", &was.link.group, &shape.link.group)?;
                change(f, "mtu", &was.link.mtu, &shape.link.mtu)?;
                change(f, "learning", &was.learning, &shape.learning)?;
                let ip = |local: Option<_>| local.unwrap_or(Ipv4Addr::UNSPECIFIED);
                change(f, "local", &ip(was.local), &ip(shape.local))
            }
            Self::CreateVlan(name, shape) => {
                write!(f, "create vlan {name}: {}", shape.link.alias)
            }
            Self::ChangeVlan { name, was, link } => {
                write!(f, "change vlan {name}:")?;
                change(f, "alias", &was.alias, &link.alias)?;
                change(f, "group", &was.group, &link.group)?;
                change(f, "mtu", &was.mtu, &link.mtu)
            }
            Self::Steer(name, steering) => write!(f, "steer {name} {steering}"),
            Self::SetHostSide(name, host) => write!(
                f,
                "host side of {name}: ipv6 {} link-local {} arp {}",
                host.ipv6, host.link_local, host.answers_arp
            ),
            Self::Attach { interface, bridge } => write!(f, "attach {interface} to {bridge}"),
            Self::Detach { interface, bridge } => write!(f, "detach {interface} from {bridge}"),
            Self::SetPortFlags(name, flags) => write!(
                f,
                "port {name}: isolated {} learning {} suppress {} hairpin {} flood {}",
                flags.isolated,
                flags.learning,
                flags.suppresses_neighbours,
                flags.hairpin,
                flags.floods
            ),
            Self::BringUp(name) => write!(f, "bring up {name}"),
            Self::SetCut(name, true) => write!(f, "cut {name} off its bridge"),
            Self::SetCut(name, false) => write!(f, "join {name} to its bridge again"),
            Self::PutStation {
                port,
                mac,
                destination,
                pin,
            } => {
                write!(f, "put {mac} at {port}")?;
                if let Some(destination) = destination {
                    write!(f, " to {destination}")?;
                }
                f.write_str(if *pin { " pinned" } else { "" })
            }
            Self::RemoveStation {
                port,
                mac,
                forget,
                unpin,
            } => {
                let what = match (forget, unpin) {
                    (true, false) => " (fdb only)",
                    (false, true) => " (pin only)",
                    _ => "",
                };
                write!(f, "remove {mac} from {port}{what}")
            }
            Self::AddFlood(name, to) => write!(f, "flood {name} to {to}"),
            Self::RemoveFlood(name, to) => write!(f, "no longer flood {name} to {to}"),
            Self::PutNeighbour { bridge, ip, mac } => {
                write!(f, "answer for {ip} on {bridge}: {mac}")
            }
            Self::RemoveNeighbour { bridge, ip } => {
                write!(f, "no longer answer for {ip} on {bridge}")
            }
        }
    }
}

fn change<T: PartialEq + fmt::Display>(
    f: &mut fmt::Formatter<'_>,
    what: &str,
    was: &T,
    now: &T,
) -> fmt::Result {
    if was == now {
        return Ok(());
    }
    write!(f, " {what} {was} -> {now}")
}
