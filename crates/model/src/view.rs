//! Views: what the API shows and nobody declares. Their attributes stand in a table like those of resources; REST answers
//! and commands are derived from it. Shapes say no more than how values sort.

use crate::resource::{Attribute, Kind, OnDelete, Resource, Shape};

/// Something to look at.
#[derive(Debug)]
pub struct View {
    /// One of them, in JSON.
    pub member: &'static str,
    /// All of them, in JSON.
    pub collection: &'static str,
    /// All of them, in a path below `/v2.0`.
    pub path: &'static str,
    /// What people call one.
    pub noun: &'static str,
    /// Commands in the manner of networking-l2gw begin with it.
    pub command: &'static str,
    /// The same, noun first.
    pub short_command: &'static str,
    /// What it is, for help texts.
    pub about: &'static str,
    /// Whether one of them can be asked for by its name.
    pub shown_alone: bool,
    /// Whether one of them can be forgotten, by its name, when it is gone for good.
    pub forgotten: bool,
    /// What is shown.
    pub attributes: &'static [Attribute],
}

/// Every view that has a collection of its own.
pub const ALL: &[&View] = &[&L2_DEVICE, &L2_LOCAL_MAC];

/// What results are made of, declared or looked at.
#[derive(Clone, Copy, Debug)]
pub struct Shown {
    /// One of them, in JSON.
    pub member: &'static str,
    /// What is shown.
    pub attributes: &'static [Attribute],
}

impl From<&'static Resource> for Shown {
    fn from(resource: &'static Resource) -> Self {
        Self {
            member: resource.member,
            attributes: resource.attributes,
        }
    }
}

impl From<&'static View> for Shown {
    fn from(view: &'static View) -> Self {
        Self {
            member: view.member,
            attributes: view.attributes,
        }
    }
}

const fn text(name: &'static str, help: &'static str) -> Attribute {
    Attribute::new(name, Shape::Text(usize::MAX), help)
}

const fn number(name: &'static str, help: &'static str) -> Attribute {
    Attribute::new(name, Shape::Integer(0, i64::MAX), help)
}

/// `/v2.0/l2-devices`: the physical switches, by name.
pub static L2_DEVICE: View = View {
    member: "l2_device",
    collection: "l2_devices",
    path: "l2-devices",
    noun: "device",
    command: "l2-device",
    short_command: "device",
    about: "a physical switch, and what is in its database",
    shown_alone: true,
    forgotten: true,
    attributes: &[
        text("name", "Physical_Switch.name").column("name"),
        Attribute::new(
            "status",
            Shape::Status,
            "ACTIVE when it holds all it should",
        )
        .column("status"),
        Attribute::new("status_reason", Shape::StatusReason, "Why it is not ACTIVE"),
        text("endpoint", "Where its database is; null while it is away").column("endpoint"),
        text("connected_since", "When the session came up").column("connected_since"),
        text("schema_version", "Version of its hardware_vtep schema"),
        text(
            "capabilities",
            "Columns of the schema that not every switch has",
        ),
        text("tunnel_ips", "Physical_Switch.tunnel_ips"),
        text("ports", "Names of its ports"),
        number("networks", "Networks attached to it"),
        number("connections", "Remote gateway connections over it"),
        number("remote_macs", "Remote MACs behind those"),
        number(
            "rows_wanted",
            "Rows that its database should hold, for all switches in it",
        )
        .column("rows_wanted"),
        number("rows_held", "Rows of ours that it holds").column("rows_held"),
        number("lacking", "Steps that would add or change something").column("lacking"),
        number("extra", "Steps that would remove something").column("extra"),
        text(
            "faults",
            "switch_fault_status and port_fault_status, in words",
        ),
        text("blocked", "What cannot be written, and why"),
        text("refused", "What the switch last refused, and why"),
        text(
            "withheld",
            "Why not everything is written, and what to do about it",
        ),
        text("written_at", "When something was last written"),
    ],
};

/// `/v2.0/l2-local-macs`: the stations that switches have learnt behind their ports.
pub static L2_LOCAL_MAC: View = View {
    member: "l2_local_mac",
    collection: "l2_local_macs",
    path: "l2-local-macs",
    noun: "local MAC",
    command: "l2-local-mac",
    short_command: "local-mac",
    about: "a station that a switch has learnt behind one of its ports",
    shown_alone: false,
    forgotten: false,
    attributes: &[
        Attribute::new("mac_address", Shape::Mac, "MAC address of the station")
            .column("mac_address"),
        Attribute::new(
            "ip_address",
            Shape::Ip,
            "Its address, where the switch knows one",
        )
        .column("ip_address"),
        Attribute::new(
            "network_id",
            Shape::Reference(Kind::Network, OnDelete::Restrict),
            "Network it is on",
        )
        .column("network_id")
        .flag("network"),
        text("device", "Physical switch that has learnt it")
            .column("device")
            .flag("device"),
        text(
            "port",
            "Port it is behind; known where one port alone carries the network",
        )
        .column("port"),
        number("vlan", "VLAN on that port").column("vlan"),
        Attribute::new("tunnel_ip", Shape::Ip, "Where tunnels to it end"),
    ],
};

/// `/v2.0/l2-devices/NAME/plan`: the difference between what a device's database should hold and what it holds.
pub static L2_DEVICE_PLAN: View = View {
    member: "l2_device_plan",
    collection: "l2_device_plans",
    path: "plan",
    noun: "plan",
    command: "plan",
    short_command: "plan",
    about: "what would be written to a device",
    shown_alone: true,
    forgotten: false,
    attributes: &[
        text("name", "Physical_Switch.name").column("name"),
        text(
            "endpoint",
            "Where its database is; shared by all devices in it",
        )
        .column("endpoint"),
        text("steps", "What would be written now, in this order").column("steps"),
        text("waiting", "What would be written too, but waits").column("waiting"),
        text("blocked", "What cannot be written, and why").column("blocked"),
        text("withheld", "Why steps wait, and what to do about it").column("withheld"),
    ],
};
