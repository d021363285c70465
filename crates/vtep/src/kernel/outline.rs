//! What is wanted, without its stations: which tunnels there are, and which device stands for what. It changes only when
//! more than stations does, and is what tells of tunnels, counters and metrics begin with.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use model::switch::{LogicalSwitchName, SwitchState};
use model::value::VlanId;

use super::desired::{Desired, NodeConfig};
use super::name::InterfaceName;
use super::state::KernelState;
use super::underlay::Side;
use super::vlan::VlanForm;

/// What is wanted, without its stations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outline {
    /// Networks that have a bridge.
    pub networks: Vec<LogicalSwitchName>,
    /// The far ends of all tunnels, each with our end. A far end of both sides counts as a remote gateway.
    pub far_ends: BTreeMap<Ipv4Addr, Ipv4Addr>,
    /// VLANs of physical ports that are in a bridge.
    pub ports: Vec<PortDevice>,
    /// VXLAN devices.
    pub tunnels: Vec<TunnelDevice>,
}

/// A VLAN of a physical port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortDevice {
    /// `Physical_Port.name`.
    pub port: Arc<str>,
    /// The VLAN.
    pub vlan: VlanId,
    /// The network it is bound to.
    pub network: LogicalSwitchName,
    /// The device in the network's bridge.
    pub device: InterfaceName,
}

/// All tunnels of a network that share a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunnelDevice {
    /// The network.
    pub network: LogicalSwitchName,
    /// Towards whom.
    pub side: Side,
    /// The key.
    pub key: u32,
    /// The VXLAN device.
    pub device: InterfaceName,
}

impl Outline {
    /// Of what is desired because the database holds `switch`.
    pub fn new(switch: &SwitchState, desired: &Desired, config: &NodeConfig) -> Self {
        let state = &desired.state;
        let mut networks = BTreeMap::new();
        let mut ports = Vec::new();
        for (at, network) in &switch.bindings {
            let bridge = InterfaceName::bridge(network);
            if at.port.switch != config.switch || !state.bridges.contains_key(&bridge) {
                continue;
            }
            networks.insert(bridge, network.clone());
            let Some(interface) = config.ports.get(&at.port.name).copied().flatten() else {
                continue;
            };
            let device = match config.vlan_form {
                VlanForm::Subinterfaces if at.vlan == VlanId::UNTAGGED => interface,
                _ => InterfaceName::vlan(interface, at.vlan),
            };
            if state.bridge_of(device) == Some(bridge) {
                ports.push(PortDevice {
                    port: Arc::clone(&at.port.name),
                    vlan: at.vlan,
                    network: network.clone(),
                    device,
                });
            }
        }
        let tunnels = state.vxlans.iter().filter_map(|(device, vxlan)| {
            let network = networks.get(&vxlan.port.bridge?)?.clone();
            Some(TunnelDevice {
                network,
                side: vxlan.identity.side(),
                key: vxlan.identity.vni,
                device: *device,
            })
        });
        Self {
            far_ends: far_ends(state, config),
            ports,
            tunnels: tunnels.collect(),
            networks: networks.into_values().collect(),
        }
    }
}

fn far_ends(state: &KernelState, config: &NodeConfig) -> BTreeMap<Ipv4Addr, Ipv4Addr> {
    // Remote gateways last.
    let ends = config.ends().into_iter().flat_map(|end| {
        let filter = state.filters.get(&end.underlay).into_iter();
        let peers = filter.flat_map(move |filter| filter.peers(end.side));
        peers.map(move |peer| (peer.ip, end.ip))
    });
    ends.collect()
}
