//! The L2 Gateway API as networking-l2gw 22.0.0 has it: gateways, and the networks attached to them.

use crate::fault::FaultKind;
use crate::resource::Default as Def;
use crate::resource::OnDelete::{Cascade, Restrict};
use crate::resource::{Attribute, Extension, Kind, Resource, Shape, Template, Unique};
use crate::validate::MAX_BYTES;

use super::{
    CREATED_AT, ID, NAME, NEVER_UPDATED_AT, PROJECT_ID, REVISION_NUMBER, TENANT_ID, UPDATED_AT,
};

const BASE_DESCRIPTION: &str = "Connects Neutron networks with external networks at layer 2.";

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
        // Upstream's API bounds no name of a gateway.
        NAME.up_to(MAX_BYTES, "Name, up to 2600 bytes")
            .positional("GATEWAY-NAME"),
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
