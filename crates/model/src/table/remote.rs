//! The border gateway API: remote gateways, the connections to them, and the stations behind those.

use crate::fault::FaultKind;
use crate::resource::Default as Def;
use crate::resource::OnDelete::{Cascade, Restrict};
use crate::resource::{Attribute, Extension, Kind, Nested, Resource, Shape, Template, Unique};

use super::{
    CREATED_AT, ID, NAME, NEVER_UPDATED_AT, PROJECT_ID, REVISION_NUMBER, STATUS, STATUS_REASON,
    TENANT_ID, UPDATED_AT,
};

const REMOTE_DESCRIPTION: &str =
    "Connects local networks with networks of remote clouds at layer 2.";

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
