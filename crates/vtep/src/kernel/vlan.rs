//! VLANs of physical ports: devices that stand for one VLAN of one port and hang in the bridge of its network.
//!
//! A frame that arrives on a port belongs to the network its VLAN is bound to; one that has no tag, or only a priority
//! in it, belongs to VLAN 0. It comes in without its tag and leaves with it. Frames of VLANs that nobody bound are in no
//! network: they are left to the host. There are two forms (ADR 0010):
//!
//! | | [`VlanForm::Subinterfaces`] (`8021q`) | [`VlanForm::Steered`] (`tc`) |
//! |---|---|---|
//! | VLAN 1 to 4094 | a sub-interface of the port | a pair of devices: one in the bridge, and its other end, from and to which programs steer the frames |
//! | VLAN 0 | the port's own interface in the bridge | the same as any other |
//! | tagged frames into and out of VLAN 0 | stopped by the [`guard`](super::guard) | stopped by the programs |
//! | a second tag | the tenants' own affair, passes | the same |
//! | needs | kernel module `8021q` | `NET_CLS_BPF`, `NET_SCH_INGRESS`, `tc` of iproute2, CAP_BPF |

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::sync::Arc;

use model::value::VlanId;
use nix::errno::Errno;

use super::bpf;
use super::message;
use super::name::{InterfaceName, fingerprint};
use super::netlink::Netlink;
use super::observe::Indexes;
use super::state::{ALIAS, BridgePort, GROUP, HostSide, Interface, KernelState, Link};
use super::tc::Filters;

/// How VLANs of a port become devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VlanForm {
    /// By 802.1Q sub-interfaces.
    Subinterfaces,
    /// By programs that steer frames between the port and pairs of devices.
    Steered,
}

impl VlanForm {
    /// For people.
    pub fn explained(self) -> &'static str {
        match self {
            Self::Subinterfaces => "8021q sub-interfaces",
            Self::Steered => {
                "programs loaded by tc, as with --vlan-form tc or in a kernel without 8021q"
            }
        }
    }
}

impl fmt::Display for VlanForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Subinterfaces => "8021q",
            Self::Steered => "tc",
        })
    }
}

/// Whether this kernel has sub-interfaces.
///
/// # Errors
/// It can't be talked to.
pub fn has_subinterfaces() -> io::Result<bool> {
    let refused = Netlink::open()?.write(vec![message::try_subinterface()])?;
    Ok(refused
        .iter()
        .all(|(_, error)| error.errno != Errno::EOPNOTSUPP))
}

/// Makes an interface that can be a port, for a trial.
pub(crate) fn make_port(name: InterfaceName) -> io::Result<()> {
    let far_end = "far-end".parse().map_err(io::Error::other)?;
    let shape = VlanShape {
        link: Link {
            alias: Arc::from(""),
            group: 0,
            mtu: 1500,
        },
        kind: VlanKind::Inner {
            outer: Some(far_end),
        },
    };
    let request = message::create_vlan(name, &shape, None);
    match Netlink::open()?.write(vec![request])?.pop() {
        Some((_, error)) => Err(error.into()),
        None => Ok(()),
    }
}

/// A device of ours that stands for one VLAN of a port, or the other end of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VlanDevice {
    /// Name and size.
    pub link: Link,
    /// What it is.
    pub kind: VlanKind,
    /// How the host's own network stack sees it.
    pub host: HostSide,
    /// Its place in a bridge.
    pub port: BridgePort,
    /// IFF_UP.
    pub up: bool,
    /// Where what arrives on it goes instead.
    pub steering: Steering,
}

/// What a [`VlanDevice`] is. The kernel can't change it. An interface that is not in this network namespace is `None`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum VlanKind {
    /// A sub-interface.
    Subinterface {
        /// The port's interface.
        of: Option<InterfaceName>,
        /// Its VLAN, 1 to 4094.
        vlan: u16,
    },
    /// The end in the bridge of a pair (veth(4)).
    Inner {
        /// The other end.
        outer: Option<InterfaceName>,
    },
    /// The end towards the port.
    Outer {
        /// The other end.
        inner: Option<InterfaceName>,
    },
}

impl VlanKind {
    /// The device that comes and goes with it.
    pub fn other_end(self) -> Option<InterfaceName> {
        match self {
            Self::Subinterface { .. } => None,
            Self::Inner { outer: other } | Self::Outer { inner: other } => other,
        }
    }

    /// Whether it is made along with another one.
    pub fn is_second(self) -> bool {
        matches!(self, Self::Outer { .. })
    }
}

/// Where a program takes what arrives on an interface (see `bpf`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Steering {
    /// There is no program of ours.
    #[default]
    Nothing,
    /// On a port: out through the device of its VLAN, without the tag.
    In(BTreeMap<VlanId, InterfaceName>),
    /// On such a device: out of the port, with the tag.
    Out {
        /// What is tagged on; 0 is nothing.
        vlan: VlanId,
        /// The port.
        to: InterfaceName,
    },
    /// There is a program in our place that is none of these.
    Unknown,
}

impl fmt::Display for Steering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("nowhere else"),
            Self::In(devices) => {
                f.write_str("by vlan:")?;
                devices
                    .iter()
                    .try_for_each(|(vlan, to)| write!(f, " {vlan} to {to}"))
            }
            Self::Out { vlan, to } => write!(f, "with vlan {vlan} to {to}"),
            Self::Unknown => f.write_str("somewhere"),
        }
    }
}

/// What one message sets of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VlanShape {
    /// Name and size, of both ends.
    pub link: Link,
    /// What it is.
    pub kind: VlanKind,
}

impl VlanDevice {
    /// As the kernel makes it.
    pub(super) fn fresh(link: Link, kind: VlanKind) -> Self {
        Self {
            link,
            kind,
            host: super::step::FRESH,
            port: BridgePort::default(),
            up: false,
            steering: Steering::Nothing,
        }
    }
}

impl KernelState {
    /// What people call an interface: a VLAN's device by its port and VLAN, any other by its name.
    pub fn label(&self, name: InterfaceName) -> String {
        let device = self.vlans.get(&name);
        let place = device.and_then(|device| match device.kind {
            VlanKind::Subinterface { of, vlan } => Some((of?, vlan)),
            VlanKind::Inner { outer } => match self.vlans.get(&outer?)?.steering {
                Steering::Out { vlan, to } => Some((to, vlan.get())),
                _ => None,
            },
            VlanKind::Outer { .. } => None,
        });
        match place {
            Some((port, vlan)) => format!("{port} vlan {vlan}"),
            None => name.to_string(),
        }
    }
}

/// How the alias of the end towards the port begins.
const OUTER_ALIAS: &str = "l2gw:outer end of ";

/// Whether a device of ours with this name and alias is the end towards the port.
pub(super) fn is_outer(name: InterfaceName, alias: &str) -> bool {
    alias.starts_with(OUTER_ALIAS) || name.as_str().starts_with("go")
}

/// Wants a VLAN of an interface in a bridge.
pub(super) fn bind(
    state: &mut KernelState,
    form: VlanForm,
    mtu: u32,
    (interface, vlan): (InterfaceName, VlanId),
    bridge: InterfaceName,
) {
    let in_bridge = BridgePort {
        bridge: Some(bridge),
        ..BridgePort::default()
    };
    let port = state.interfaces.entry(interface).or_insert(Interface {
        up: true,
        ..Interface::default()
    });
    let device = |alias: String, kind, port| VlanDevice {
        link: Link {
            alias: Arc::from(alias),
            group: GROUP,
            mtu,
        },
        kind,
        host: HostSide::default(),
        port,
        up: true,
        steering: Steering::Nothing,
    };
    let name = InterfaceName::vlan(interface, vlan);
    let alias = format!("{ALIAS}vlan {vlan} of {interface}");
    match form {
        VlanForm::Subinterfaces if vlan == VlanId::UNTAGGED => port.port = in_bridge,
        VlanForm::Subinterfaces => {
            let kind = VlanKind::Subinterface {
                of: Some(interface),
                vlan: vlan.get(),
            };
            state.vlans.insert(name, device(alias, kind, in_bridge));
        }
        VlanForm::Steered => {
            let outer_name = InterfaceName::outer_end(interface, vlan);
            port.promiscuous = true;
            match &mut port.steering {
                Steering::In(devices) => {
                    devices.insert(vlan, outer_name);
                }
                steering => *steering = Steering::In([(vlan, outer_name)].into()),
            }
            let outer = Some(outer_name);
            let inner = device(alias, VlanKind::Inner { outer }, in_bridge);
            state.vlans.insert(name, inner);
            let alias = format!("{OUTER_ALIAS}vlan {vlan} of {interface}");
            let inner = Some(name);
            let outer = VlanDevice {
                steering: Steering::Out {
                    vlan,
                    to: interface,
                },
                ..device(alias, VlanKind::Outer { inner }, BridgePort::default())
            };
            state.vlans.insert(outer_name, outer);
        }
    }
}

/// Devices to delete: first those that others can't be made beside, and at last those that are only too much. The second
/// end of a pair goes with the first.
pub(super) fn doomed(
    wanted: &BTreeMap<InterfaceName, VlanDevice>,
    held: &BTreeMap<InterfaceName, VlanDevice>,
) -> (BTreeSet<InterfaceName>, Vec<InterfaceName>) {
    let right = |name: &InterfaceName, device: &VlanDevice| {
        held.get(name).is_some_and(|held| held.kind == device.kind)
    };
    let missing = wanted.iter().filter(|(name, device)| !right(name, device));
    let missing: BTreeSet<VlanKind> = missing.map(|(_, device)| device.kind).collect();
    let wrong: BTreeMap<InterfaceName, VlanKind> = held
        .iter()
        .filter(|(name, held)| wanted.get(name).is_none_or(|w| w.kind != held.kind))
        .map(|(name, held)| (*name, held.kind))
        .collect();
    let in_the_way = |name: &InterfaceName, kind: &VlanKind| {
        let other = kind.other_end();
        wanted.contains_key(name)
            || missing.contains(kind)
            || other.is_some_and(|other| wanted.contains_key(&other))
    };
    let mut early = BTreeSet::new();
    let mut late = Vec::new();
    for (name, kind) in &wrong {
        let goes_along =
            matches!(kind, VlanKind::Outer { inner: Some(inner) } if wrong.contains_key(inner));
        if goes_along {
            continue;
        }
        if in_the_way(name, kind) {
            early.insert(*name);
        } else {
            late.push(*name);
        }
    }
    (early, late)
}

/// The section a program is in, which is what the kernel tells of it: who made it, and a fingerprint of its code.
fn section(program: &bpf::Program, kind: &str) -> String {
    format!("l2gw-{kind}-{:016x}", fingerprint(&[program.code()]))
}

/// The program for a port, by the numbers of the devices, and its section.
pub(super) fn inward(devices: &BTreeMap<VlanId, u32>) -> (String, bpf::Program) {
    let devices = devices.iter().map(|(vlan, device)| (vlan.get(), *device));
    let program = bpf::inward(&devices.collect());
    (section(&program, "in"), program)
}

/// The program for a device, by the number of the port, and its section.
pub(super) fn outward(vlan: VlanId, port: u32) -> (String, bpf::Program) {
    let program = bpf::outward(vlan.get(), port);
    (section(&program, &format!("out-{vlan}-{port}")), program)
}

/// Tells from the sections of the programs what they do, and enters it into `state`.
pub(super) fn recognise(
    state: &mut KernelState,
    indexes: &Indexes,
    name_of: impl Fn(u32) -> Option<InterfaceName>,
    filters: &Filters,
) {
    let section_on = |name| filters.get(&indexes.index(name)?).map(String::as_str);
    let mut behind: BTreeMap<InterfaceName, BTreeMap<VlanId, InterfaceName>> = BTreeMap::new();
    for (name, device) in &mut state.vlans {
        let Some(section) = section_on(*name) else {
            continue;
        };
        device.steering = match outward_of(section, &name_of) {
            Some((vlan, to)) => {
                behind.entry(to).or_default().insert(vlan, *name);
                Steering::Out { vlan, to }
            }
            None => Steering::Unknown,
        };
    }
    for (name, interface) in &mut state.interfaces {
        let Some(section) = section_on(*name) else {
            interface.promiscuous = false;
            continue;
        };
        let devices = behind.remove(name).unwrap_or_default();
        let numbered = devices
            .iter()
            .filter_map(|(vlan, device)| Some((*vlan, indexes.index(*device)?)));
        interface.steering = if inward(&numbered.collect()).0 == section {
            Steering::In(devices)
        } else {
            Steering::Unknown
        };
    }
}

fn outward_of(
    section: &str,
    name_of: impl Fn(u32) -> Option<InterfaceName>,
) -> Option<(VlanId, InterfaceName)> {
    let mut parts = section.strip_prefix("l2gw-out-")?.split('-');
    let vlan = VlanId::new(parts.next()?.parse().ok()?)?;
    let port = parts.next()?.parse().ok()?;
    (outward(vlan, port).0 == section).then_some((vlan, name_of(port)?))
}

#[cfg(test)]
mod tests;
