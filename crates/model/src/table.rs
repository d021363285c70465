//! The resource table. A new resource or attribute is one entry here.

use crate::fault::FaultKind;
use crate::resource::Default::{self as Def, CallersProject};
use crate::resource::OnDelete::{Cascade, Restrict};
use crate::resource::{Attribute, Extension, Kind, Nested, Resource, Shape, Template, Unique};
use crate::value::Vni;

/// Every resource, parents before what refers to them.
pub const ALL: &[&Resource] = &[
    &NETWORK,
    &PORT,
    &L2_GATEWAY,
    &L2_GATEWAY_CONNECTION,
    &L2_REMOTE_GATEWAY,
    &L2_REMOTE_GATEWAY_CONNECTION,
    &L2_REMOTE_MAC,
];

/// The version of the database schema that this table describes.
pub const SCHEMA_VERSION: u32 = 4;

pub(crate) fn of(kind: Kind) -> &'static Resource {
    match kind {
        Kind::Network => &NETWORK,
        Kind::Port => &PORT,
        Kind::L2Gateway => &L2_GATEWAY,
        Kind::L2GatewayConnection => &L2_GATEWAY_CONNECTION,
        Kind::L2RemoteGateway => &L2_REMOTE_GATEWAY,
        Kind::L2RemoteGatewayConnection => &L2_REMOTE_GATEWAY_CONNECTION,
        Kind::L2RemoteMac => &L2_REMOTE_MAC,
    }
}

const ID: Attribute = Attribute::new("id", Shape::Id, "UUID").column("id");
const NAME: Attribute = Attribute::new("name", Shape::Text(255), "Name, up to 255 characters")
    .optional(Def::Text(""))
    .put()
    .column("name");
const TENANT_ID: Attribute = Attribute::new(
    "tenant_id",
    Shape::Project,
    "Project that owns it; the caller's where left out",
)
.optional(CallersProject)
.flag("tenant-id");
const PROJECT_ID: Attribute = Attribute::new(
    "project_id",
    Shape::Mirror("tenant_id"),
    "Same as tenant_id",
)
.optional(Def::Null)
.on_request();
const STATUS: Attribute = Attribute::new(
    "status",
    Shape::Status,
    "What the switches hold: BUILD, ACTIVE, DOWN or ERROR",
);
const STATUS_REASON: Attribute = Attribute::new(
    "status_reason",
    Shape::StatusReason,
    "Why the status is not ACTIVE",
)
.on_request();

const REVISION_NUMBER: Attribute = Attribute::new(
    "revision_number",
    Shape::Revision,
    "Grows with every change; PUT and DELETE with If-Match: revision_number=N apply to that one only",
)
.on_request();
const CREATED_AT: Attribute =
    Attribute::new("created_at", Shape::CreatedAt, "When it was made, UTC").on_request();
const UPDATED_AT: Attribute = Attribute::new(
    "updated_at",
    Shape::UpdatedAt,
    "When it was last changed, UTC",
)
.on_request()
.since(3);
/// Of what cannot be updated.
const NEVER_UPDATED_AT: Attribute =
    Attribute::new("updated_at", Shape::CreatedAt, "Same as created_at").on_request();

const BASE_DESCRIPTION: &str = "Connects Neutron networks with external networks at layer 2.";
const REMOTE_DESCRIPTION: &str =
    "Connects local networks with networks of remote clouds at layer 2.";

/// `/v2.0/networks`: the built-in catalogue, in the shape of Neutron's.
pub static NETWORK: Resource = Resource {
    kind: Kind::Network,
    member: "network",
    collection: "networks",
    path: "networks",
    dashed: None,
    nested: None,
    noun: "network",
    command: "network",
    short_command: "network",
    about: "a network of the built-in catalogue",
    extension: None,
    updatable: true,
    named: true,
    attributes: &[
        ID,
        NAME.positional("NAME"),
        TENANT_ID,
        PROJECT_ID,
        Attribute::new(
            "provider:network_type",
            Shape::Word(&["vxlan", "vlan", "flat", "local", "gre", "geneve"]),
            "Encapsulation; only vxlan networks can be attached to a gateway",
        )
        .optional(Def::Text("vxlan"))
        .column("provider:network_type")
        .flag("network-type")
        .flag_aliases(&["provider-network-type", "provider:network_type"]),
        Attribute::new(
            "provider:segmentation_id",
            Shape::Vni,
            "VXLAN network identifier inside the cloud, 1 to 16777215; the lowest free one where left out",
        )
        .optional(Def::Null)
        .column("provider:segmentation_id")
        .flag("segmentation-id")
        .flag_aliases(&["provider-segment", "provider:segmentation_id"]),
        Attribute::new(
            "mtu",
            Shape::Integer(68, 65535),
            "Largest frame payload of the network's stations, in bytes",
        )
        .optional(Def::Integer(1450))
        .put()
        .flag("mtu"),
        Attribute::new("admin_state_up", Shape::Bool, "Always up unless set to false")
            .optional(Def::Bool(true))
            .put()
            .on_request(),
        Attribute::new("shared", Shape::Constant("false"), "Never shared").on_request(),
        Attribute::new("router:external", Shape::Constant("false"), "Never external").on_request(),
        Attribute::new("subnets", Shape::Constant("[]"), "The catalogue keeps no subnets")
            .on_request(),
        Attribute::new("status", Shape::Constant("\"ACTIVE\""), "Always ACTIVE").on_request(),
        REVISION_NUMBER,
        CREATED_AT,
        UPDATED_AT,
    ],
    unique: &[Unique {
        attributes: &["provider:network_type", "provider:segmentation_id"],
        fault: FaultKind::TunnelIdInUse,
        message: "Unable to create the network. The tunnel ID {1} is in use.",
    }],
    not_found: Template(
        FaultKind::NetworkNotFound,
        "Network {} could not be found.",
    ),
    in_use: Template(
        FaultKind::NetworkInUse,
        "Unable to complete operation on network {}. There are ports or connections to remote gateways on it.",
    ),
    since: 1,
};

/// `/v2.0/ports`: the stations of the catalogue's networks and the hosts they are on.
pub static PORT: Resource = Resource {
    kind: Kind::Port,
    member: "port",
    collection: "ports",
    path: "ports",
    dashed: None,
    nested: None,
    noun: "port",
    command: "port",
    short_command: "port",
    about: "a station on a network of the built-in catalogue, and the host it is on",
    extension: None,
    updatable: true,
    named: true,
    attributes: &[
        ID,
        NAME.flag("name"),
        Attribute::new(
            "network_id",
            Shape::Reference(Kind::Network, Restrict),
            "Network the station is on",
        )
        .required()
        .column("network_id")
        .positional("NETWORK"),
        Attribute::new("mac_address", Shape::Mac, "MAC address of the station")
            .required()
            .put()
            .column("mac_address")
            .positional("MAC"),
        Attribute::new(
            "fixed_ips",
            Shape::FixedIps,
            "IP addresses of the station, for ARP and neighbour suppression",
        )
        .optional(Def::Json("[]"))
        .put()
        .column("fixed_ips")
        .flag("ip")
        .flag_aliases(&["fixed-ip"]),
        Attribute::new(
            "binding:host_id",
            Shape::Text(255),
            "Name of the host the station is on",
        )
        .optional(Def::Text(""))
        .put()
        .flag("host")
        .flag_aliases(&["binding:host_id"]),
        Attribute::new(
            "binding:profile",
            Shape::BindingProfile,
            "IPv4 address at which that host ends its tunnels",
        )
        .optional(Def::Json("{}"))
        .put()
        .column("binding:profile")
        .flag("tunneling-ip")
        .flag_aliases(&["tunnelling-ip"]),
        TENANT_ID,
        PROJECT_ID,
        Attribute::new(
            "admin_state_up",
            Shape::Bool,
            "Always up unless set to false",
        )
        .optional(Def::Bool(true))
        .put()
        .on_request(),
        Attribute::new("device_owner", Shape::Text(255), "What uses the port")
            .optional(Def::Text(""))
            .put()
            .on_request(),
        Attribute::new("device_id", Shape::Text(255), "Which one uses the port")
            .optional(Def::Text(""))
            .put()
            .on_request(),
        Attribute::new("status", Shape::Constant("\"ACTIVE\""), "Always ACTIVE").on_request(),
        REVISION_NUMBER,
        CREATED_AT,
        UPDATED_AT,
    ],
    unique: &[Unique {
        attributes: &["network_id", "mac_address"],
        fault: FaultKind::MacAddressInUse,
        message: "Unable to complete operation for network {0}. The mac address {1} is in use.",
    }],
    not_found: Template(FaultKind::PortNotFound, "Port {} could not be found."),
    in_use: Template(FaultKind::PortNotFound, "Port {} is in use."),
    since: 1,
};

/// `/v2.0/l2-gateways`, as networking-l2gw 22.0.0 has it.
pub static L2_GATEWAY: Resource = Resource {
    kind: Kind::L2Gateway,
    member: "l2_gateway",
    collection: "l2_gateways",
    path: "l2-gateways",
    dashed: None,
    nested: None,
    noun: "gateway",
    command: "l2-gateway",
    short_command: "gateway",
    about: "a gateway: interfaces of physical switches under one name",
    extension: Some(Extension {
        alias: "l2-gateway",
        name: "L2 Gateway",
        description: BASE_DESCRIPTION,
        updated: "2015-01-01T00:00:00-00:00",
    }),
    updatable: true,
    named: true,
    attributes: &[
        ID,
        NAME.positional("GATEWAY-NAME"),
        TENANT_ID,
        PROJECT_ID,
        Attribute::new(
            "devices",
            Shape::Devices,
            "Interfaces of a physical switch: name=SWITCH,interface_names=INTERFACE[|VLAN[#VLAN...]][;INTERFACE...]; repeat it for more switches",
        )
        .required()
        .put()
        .column("devices")
        .flag("device"),
        REVISION_NUMBER,
        CREATED_AT,
        UPDATED_AT,
    ],
    unique: &[],
    not_found: Template(
        FaultKind::L2GatewayNotFound,
        "L2 Gateway {} could not be found",
    ),
    in_use: Template(
        FaultKind::L2GatewayInUse,
        "L2 Gateway '{}' still has active mappings with one or more neutron networks.",
    ),
    since: 1,
};

/// `/v2.0/l2-gateway-connections`, as networking-l2gw 22.0.0 has it.
pub static L2_GATEWAY_CONNECTION: Resource = Resource {
    kind: Kind::L2GatewayConnection,
    member: "l2_gateway_connection",
    collection: "l2_gateway_connections",
    path: "l2-gateway-connections",
    dashed: None,
    nested: None,
    noun: "gateway connection",
    command: "l2-gateway-connection",
    short_command: "gateway-connection",
    about: "a network attached to a gateway",
    extension: Some(Extension {
        alias: "l2-gateway-connection",
        name: "L2 Gateway connection",
        description: BASE_DESCRIPTION,
        updated: "2014-01-01T00:00:00-00:00",
    }),
    updatable: false,
    named: false,
    attributes: &[
        ID,
        Attribute::new(
            "l2_gateway_id",
            Shape::Reference(Kind::L2Gateway, Restrict),
            "Gateway",
        )
        .optional(Def::Text(""))
        .column("l2_gateway_id")
        .positional("GATEWAY-NAME/UUID"),
        Attribute::new(
            "network_id",
            Shape::Reference(Kind::Network, Cascade),
            "Network",
        )
        .required()
        .column("network_id")
        .positional("NETWORK-NAME/UUID"),
        Attribute::new(
            "segmentation_id",
            Shape::VlanText,
            "VLAN on the gateway's interfaces, 0 (untagged) to 4094; needed where the gateway was created without",
        )
        .optional(Def::Null)
        .column("segmentation_id")
        .flag("default-segmentation-id"),
        TENANT_ID,
        PROJECT_ID,
        REVISION_NUMBER,
        CREATED_AT,
        NEVER_UPDATED_AT,
    ],
    unique: &[Unique {
        attributes: &["l2_gateway_id", "network_id"],
        fault: FaultKind::L2GatewayConnectionExists,
        message: "The specified mapping '{'network_id': '{1}'}' exists on network gateway '{0}'.",
    }],
    not_found: Template(
        FaultKind::L2GatewayConnectionNotFound,
        "The connection {} not found on the l2 gateway",
    ),
    in_use: Template(
        FaultKind::L2GatewayConnectionInUse,
        "L2 Gateway connection '{}' still carries connections to remote gateways; delete those first.",
    ),
    since: 1,
};

/// `/v2.0/l2-remote-gateways`.
pub static L2_REMOTE_GATEWAY: Resource = Resource {
    kind: Kind::L2RemoteGateway,
    member: "l2_remote_gateway",
    collection: "l2_remote_gateways",
    path: "l2-remote-gateways",
    dashed: None,
    nested: None,
    noun: "remote gateway",
    command: "l2-remote-gateway",
    short_command: "remote-gateway",
    about: "a remote gateway: the far end of WAN tunnels",
    extension: Some(Extension {
        alias: "l2-remote-gateway",
        name: "L2 Remote Gateway",
        description: REMOTE_DESCRIPTION,
        updated: "2015-12-31T00:00:00-00:00",
    }),
    updatable: true,
    named: true,
    attributes: &[
        ID,
        NAME.positional("REMOTE-GATEWAY-NAME"),
        Attribute::new(
            "ipaddr",
            Shape::TunnelEndpoint,
            "IPv4 unicast address at which the remote gateway ends its tunnels",
        )
        .aliases(&["ip_address", "ip_addr", "ip"])
        .required()
        .put()
        .column("ipaddr")
        .positional("IP-ADDRESS")
        .flag_aliases(&["ip-address", "ip-addr"]),
        Attribute::new(
            "bfd",
            Shape::Bool,
            "Whether switches watch the tunnels to it by BFD; one that BFD finds dead is DOWN",
        )
        .optional(Def::Bool(false))
        .put()
        .flag("bfd")
        .on_request()
        .since(2),
        TENANT_ID.on_request(),
        PROJECT_ID,
        STATUS.on_request(),
        STATUS_REASON,
        REVISION_NUMBER,
        CREATED_AT,
        UPDATED_AT,
    ],
    unique: &[],
    not_found: Template(
        FaultKind::L2RemoteGatewayNotFound,
        "L2 Remote Gateway {} could not be found",
    ),
    in_use: Template(
        FaultKind::L2RemoteGatewayInUse,
        "L2 Remote Gateway '{}' still has connections; delete those first.",
    ),
    since: 1,
};

/// `/v2.0/l2-remote-gateway-connections`.
pub static L2_REMOTE_GATEWAY_CONNECTION: Resource = Resource {
    kind: Kind::L2RemoteGatewayConnection,
    member: "l2_remote_gateway_connection",
    collection: "l2_remote_gateway_connections",
    path: "l2-remote-gateway-connections",
    dashed: None,
    nested: None,
    noun: "remote gateway connection",
    command: "l2-remote-gateway-connection",
    short_command: "remote-gateway-connection",
    about: "a network stretched to a remote gateway",
    extension: Some(Extension {
        alias: "l2-remote-gateway-connection",
        name: "L2 Remote Gateway Connection",
        description: REMOTE_DESCRIPTION,
        updated: "2015-12-31T00:00:00-00:00",
    }),
    updatable: false,
    named: false,
    attributes: &[
        ID,
        Attribute::new(
            "l2_gateway_id",
            Shape::Reference(Kind::L2Gateway, Restrict),
            "Gateway",
        )
        .aliases(&["gateway"])
        .required()
        .column("l2_gateway_id")
        .positional("GATEWAY-NAME/UUID"),
        Attribute::new(
            "network_id",
            Shape::Reference(Kind::Network, Restrict),
            "Network, attached to that gateway before",
        )
        .aliases(&["network"])
        .required()
        .column("network_id")
        .positional("NETWORK-NAME/UUID"),
        Attribute::new(
            "l2_remote_gateway_id",
            Shape::Reference(Kind::L2RemoteGateway, Restrict),
            "Remote gateway",
        )
        .aliases(&["remote_gateway"])
        .required()
        .positional("REMOTE-GATEWAY-NAME/UUID"),
        Attribute::new(
            "segmentation_id",
            Shape::Vni,
            "Tunnel key on the WAN (VNI), 1 to 16777215; the network's own where left out",
        )
        .aliases(&["seg_id"])
        .optional(Def::Null)
        .column("segmentation_id")
        .flag("seg-id"),
        Attribute::new(
            "flood",
            Shape::Bool,
            "Whether frames of unknown, broadcast and multicast destination go to the remote gateway",
        )
        .optional(Def::Bool(true))
        .flag("flood"),
        STATUS,
        STATUS_REASON,
        TENANT_ID,
        PROJECT_ID,
        Attribute::new(
            "attachment_id",
            Shape::Reference(Kind::L2GatewayConnection, Restrict),
            "The gateway connection it rides on",
        )
        .internal(),
        REVISION_NUMBER,
        CREATED_AT,
        NEVER_UPDATED_AT,
    ],
    unique: &[Unique {
        attributes: &["l2_gateway_id", "network_id", "l2_remote_gateway_id"],
        fault: FaultKind::L2RemoteGatewayConnectionExists,
        message: "L2 Gateway '{0}' already connects network '{1}' to L2 Remote Gateway '{2}'.",
    }],
    not_found: Template(
        FaultKind::L2RemoteGatewayConnectionNotFound,
        "L2 Remote Gateway Connection {} could not be found",
    ),
    in_use: Template(
        FaultKind::L2RemoteGatewayInUse,
        "L2 Remote Gateway Connection '{}' is in use.",
    ),
    since: 1,
};

/// `/v2.0/l2-remote-macs`, and below each remote gateway connection.
pub static L2_REMOTE_MAC: Resource = Resource {
    kind: Kind::L2RemoteMac,
    member: "l2_remote_mac",
    collection: "l2_remote_macs",
    path: "l2-remote-macs",
    dashed: Some(("remote-mac", "remote-macs")),
    nested: Some(Nested {
        segment: "remote-macs",
        attribute: "rgw_connection",
    }),
    noun: "remote MAC",
    command: "l2-remote-mac",
    short_command: "remote-mac",
    about: "a station behind a remote gateway",
    extension: Some(Extension {
        alias: "l2-remote-mac",
        name: "L2 Remote MAC",
        description: REMOTE_DESCRIPTION,
        updated: "2015-12-31T00:00:00-00:00",
    }),
    updatable: false,
    named: false,
    attributes: &[
        Attribute::new("id", Shape::Id, "UUID").on_request(),
        Attribute::new("uuid", Shape::Mirror("id"), "Same as id").column("uuid"),
        Attribute::new("mac", Shape::Mac, "MAC address of the station")
            .required()
            .column("mac")
            .positional("MAC-IP")
            .indexed(4),
        Attribute::new(
            "ipaddr",
            Shape::Ip,
            "IPv4 or IPv6 address of the station, for ARP and neighbour suppression",
        )
        .aliases(&["ip", "ip_addr"])
        .optional(Def::Null)
        .column("ip_addr")
        .indexed(4),
        Attribute::new(
            "rgw_connection",
            Shape::Reference(Kind::L2RemoteGatewayConnection, Cascade),
            "Remote gateway connection that leads to the station",
        )
        .aliases(&["l2_remote_gateway_connection_id"])
        .required()
        .column("rgw_connection")
        .flag("remote-connection")
        .positional("REMOTE-GATEWAY-CONN-UUID"),
        STATUS.on_request(),
        STATUS_REASON,
        TENANT_ID.on_request().indexed(4),
        PROJECT_ID,
        Attribute::new(
            "attachment_id",
            Shape::Reference(Kind::L2GatewayConnection, Cascade),
            "The gateway connection below its remote gateway connection: a MAC occurs once on it",
        )
        .internal(),
        REVISION_NUMBER,
        CREATED_AT,
        NEVER_UPDATED_AT,
    ],
    unique: &[Unique {
        attributes: &["attachment_id", "mac"],
        fault: FaultKind::L2RemoteMacExists,
        message: "Remote MAC {1} is already declared on this network of this gateway.",
    }],
    not_found: Template(
        FaultKind::L2RemoteMacNotFound,
        "L2 Remote MAC {} could not be found",
    ),
    in_use: Template(
        FaultKind::L2RemoteMacNotFound,
        "L2 Remote MAC '{}' is in use.",
    ),
    since: 1,
};

const _: () = assert!(
    Vni::MAX == 16_777_215,
    "the help texts above name this number"
);

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::resource::{CreateArg, Post};

    #[test]
    fn every_key_of_a_body_means_one_attribute() {
        for resource in ALL {
            let mut seen = BTreeSet::new();
            for attribute in resource.attributes {
                assert!(seen.insert(attribute.name), "{}", attribute.name);
                for alias in attribute.aliases {
                    assert!(seen.insert(alias), "{alias}");
                }
                let given = attribute.post != Post::Refused;
                assert!(
                    given || attribute.create_arg == CreateArg::None,
                    "{}: the command gives {}, which POST refuses",
                    resource.command,
                    attribute.name
                );
            }
        }
    }

    #[test]
    fn parents_stand_before_what_refers_to_them() {
        let mut seen = BTreeSet::new();
        for resource in ALL {
            for attribute in resource.attributes {
                match attribute.shape {
                    Shape::Reference(target, _) => assert!(seen.contains(&target)),
                    Shape::Mirror(of) => assert!(resource.attribute(of).is_some()),
                    _ => {}
                }
            }
            for unique in resource.unique {
                for name in unique.attributes {
                    assert!(resource.attribute(name).is_some(), "{name}");
                }
            }
            assert!(std::ptr::eq(*resource, of(resource.kind)));
            seen.insert(resource.kind);
        }
    }

    #[test]
    fn required_attributes_can_be_given_on_the_command_line() {
        for resource in ALL {
            for attribute in resource.attributes {
                if attribute.post == Post::Required {
                    assert_ne!(attribute.create_arg, CreateArg::None, "{}", attribute.name);
                }
            }
        }
    }
}
