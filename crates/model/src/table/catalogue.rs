//! The built-in catalogue: networks and ports in Neutron's shape, for clouds without a Neutron and for the look-ups that
//! clients make.

use crate::fault::FaultKind;
use crate::resource::Default as Def;
use crate::resource::OnDelete::Restrict;
use crate::resource::{Attribute, Extension, Kind, Resource, Shape, Template, Unique};
use crate::segments::{MAX_PHYSICAL_NETWORK, NETWORK_TYPES};

use super::{CREATED_AT, ID, NAME, PROJECT_ID, REVISION_NUMBER, TENANT_ID, UPDATED_AT};

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
    extension: Some(Extension {
        alias: "multi-provider",
        name: "Multi Provider Network",
        description: "Expose mapping of virtual networks to multiple physical networks",
        updated: "2013-06-27T10:00:00-00:00",
    }),
    updatable: true,
    named: true,
    attributes: &[
        ID,
        NAME.positional("NAME"),
        TENANT_ID,
        PROJECT_ID,
        Attribute::new(
            "provider:network_type",
            Shape::Word(NETWORK_TYPES),
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
        Attribute::new(
            "provider:physical_network",
            Shape::Text(MAX_PHYSICAL_NETWORK),
            "Underlay of a vlan or flat network; kept for clients that name one",
        )
        .optional(Def::Null)
        .on_request()
        .since(6),
        Attribute::new(
            "segments",
            Shape::Segments,
            "Several segments instead of the provider attributes; a gateway carries the one that is vxlan, and refuses two",
        )
        .optional(Def::Null)
        .instead_of(
            &[
                "provider:network_type",
                "provider:segmentation_id",
                "provider:physical_network",
            ],
            FaultKind::SegmentsSetInConjunctionWithProviders,
            "Segments and provider values cannot both be set.",
        )
        .flag("segment")
        .on_request()
        .since(6),
        Attribute::new("shared", Shape::Constant("false"), "Never shared")
            .optional(Def::Null)
            .put()
            .on_request(),
        Attribute::new("router:external", Shape::Constant("false"), "Never external")
            .optional(Def::Null)
            .put()
            .on_request(),
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
