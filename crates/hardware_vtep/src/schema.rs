//! The part of the schema that we use.

use ovsdb::{DatabaseSchema, MonitoredTable};

/// The database's name.
pub const NAME: &str = "hardware_vtep";

/// `Mcast_Macs_Remote.MAC` of the row for frames whose destination no other row names (vtep(5)).
pub(crate) const UNKNOWN_DST: &str = "unknown-dst";

/// The only value of `Physical_Locator.encapsulation_type`.
pub(crate) const VXLAN: &str = "vxlan_over_ipv4";

/// `Logical_Switch.replication_mode`: flood to every destination. Without it a switch floods to one and trusts that to
/// pass the frame on.
pub(crate) const SOURCE_NODE: &str = "source_node";

/// The key in `Logical_Switch.other_config` that marks a logical switch as ours, whatever its value; and the key of our
/// stamp in `Global.other_config`.
pub(crate) const MARK: &str = "l2gw";

/// The key in `Logical_Switch.other_config` that says how long the packets of a network's stations are, in bytes.
pub(crate) const MTU: &str = "mtu";

/// The whole `Logical_Switch.description` of those that we make. It marks them as ours where the schema has no `other_config`
/// (before 1.5.1). Elsewhere a description is what people write, and marks nothing; but one of a network of ours that says
/// so has only lost its mark, when the schema was converted or an admin cleared the column.
pub(crate) const DESCRIPTION_MARK: &str = "owned by l2gw";

/// Names of tables.
pub(crate) mod table {
    pub(crate) const GLOBAL: &str = "Global";
    pub(crate) const MANAGER: &str = "Manager";
    pub(crate) const PHYSICAL_SWITCH: &str = "Physical_Switch";
    pub(crate) const PHYSICAL_PORT: &str = "Physical_Port";
    pub(crate) const LOGICAL_SWITCH: &str = "Logical_Switch";
    pub(crate) const UCAST_MACS_REMOTE: &str = "Ucast_Macs_Remote";
    pub(crate) const MCAST_MACS_REMOTE: &str = "Mcast_Macs_Remote";
    pub(crate) const UCAST_MACS_LOCAL: &str = "Ucast_Macs_Local";
    pub(crate) const MCAST_MACS_LOCAL: &str = "Mcast_Macs_Local";
    pub(crate) const TUNNEL: &str = "Tunnel";
    pub(crate) const LOGICAL_BINDING_STATS: &str = "Logical_Binding_Stats";
    pub(crate) const PHYSICAL_LOCATOR: &str = "Physical_Locator";
    pub(crate) const PHYSICAL_LOCATOR_SET: &str = "Physical_Locator_Set";
}

/// What is monitored. Neither `Logical_Binding_Stats` nor `Physical_Port.vlan_stats`: switches rewrite them every second.
/// Nor `Mcast_Macs_Local`: where a switch wants to be flooded is its `tunnel_ips`.
pub(crate) const MONITORED: &[MonitoredTable] = &[
    MonitoredTable {
        table: table::GLOBAL,
        columns: &["switches", "managers", "other_config"],
    },
    MonitoredTable {
        table: table::MANAGER,
        columns: &["target"],
    },
    MonitoredTable {
        table: table::PHYSICAL_SWITCH,
        columns: &[
            "name",
            "description",
            "ports",
            "tunnel_ips",
            "tunnels",
            "switch_fault_status",
        ],
    },
    MonitoredTable {
        table: table::PHYSICAL_PORT,
        columns: &["name", "description", "vlan_bindings", "port_fault_status"],
    },
    MonitoredTable {
        table: table::LOGICAL_SWITCH,
        columns: &[
            "name",
            "description",
            "tunnel_key",
            "other_config",
            "replication_mode",
        ],
    },
    MonitoredTable {
        table: table::UCAST_MACS_REMOTE,
        columns: &["MAC", "logical_switch", "locator", "ipaddr"],
    },
    MonitoredTable {
        table: table::UCAST_MACS_LOCAL,
        columns: &["MAC", "logical_switch", "locator", "ipaddr"],
    },
    MonitoredTable {
        table: table::TUNNEL,
        columns: &[
            "local",
            "remote",
            "bfd_params",
            "bfd_config_local",
            "bfd_config_remote",
            "bfd_status",
        ],
    },
    MonitoredTable {
        table: table::MCAST_MACS_REMOTE,
        columns: &["MAC", "logical_switch", "locator_set"],
    },
    MonitoredTable {
        table: table::PHYSICAL_LOCATOR,
        columns: &["encapsulation_type", "dst_ip", "tunnel_key"],
    },
    MonitoredTable {
        table: table::PHYSICAL_LOCATOR_SET,
        columns: &["locators"],
    },
];

/// What this switch's schema has beyond version 1.0.0. Told by its columns, not by its version: vendors pick columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// `Physical_Locator.tunnel_key` (1.5.0): tunnels may have keys of their own, so that the WAN's can differ from the
    /// network's. Without it every locator reads as one without key.
    pub locator_tunnel_key: bool,
    /// `Logical_Switch.other_config` (1.5.1), where our mark is as well as in `description`.
    pub logical_switch_other_config: bool,
    /// `Logical_Switch.replication_mode` (1.6.0): whether a switch floods to all destinations or to one that does it for
    /// it. Ours flood to all.
    pub replication_mode: bool,
    /// `Global.other_config` (1.7.0), where our stamp is; see [`crate::stamp`].
    pub global_other_config: bool,
    /// `Physical_Switch.switch_fault_status` (1.1.0).
    pub switch_fault_status: bool,
    /// `Physical_Port.port_fault_status` (1.1.0).
    pub port_fault_status: bool,
    /// `Tunnel.bfd_params` (1.3.0): the switch can be asked to check its tunnels.
    pub bfd: bool,
    /// `Physical_Port.vlan_stats` (1.0.0), which some vendors leave out.
    pub vlan_stats: bool,
}

impl Capabilities {
    /// What a schema has.
    pub fn of(schema: &DatabaseSchema) -> Self {
        Self {
            locator_tunnel_key: schema.has_column(table::PHYSICAL_LOCATOR, "tunnel_key"),
            logical_switch_other_config: schema.has_column(table::LOGICAL_SWITCH, "other_config"),
            replication_mode: schema.has_column(table::LOGICAL_SWITCH, "replication_mode"),
            global_other_config: schema.has_column(table::GLOBAL, "other_config"),
            switch_fault_status: schema.has_column(table::PHYSICAL_SWITCH, "switch_fault_status"),
            port_fault_status: schema.has_column(table::PHYSICAL_PORT, "port_fault_status"),
            bfd: schema.has_column(table::TUNNEL, "bfd_params"),
            vlan_stats: schema.has_column(table::PHYSICAL_PORT, "vlan_stats"),
        }
    }
}
