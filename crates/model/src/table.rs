//! The resource table. A new attribute is one entry in the resource's table below here, a new resource is one such table
//! and its name in [`ALL`].

use crate::resource::Default::{self as Def, CallersProject};
use crate::resource::{Attribute, Kind, Resource, Shape};
use crate::value::Vni;

pub use self::catalogue::{NETWORK, PORT};
pub use self::gateway::{L2_GATEWAY, L2_GATEWAY_CONNECTION};
pub use self::remote::{L2_REMOTE_GATEWAY, L2_REMOTE_GATEWAY_CONNECTION, L2_REMOTE_MAC};

mod catalogue;
mod gateway;
mod remote;

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
pub const SCHEMA_VERSION: u32 = 6;

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

const _: () = assert!(
    Vni::MAX == 16_777_215,
    "help texts of the tables name this number"
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
