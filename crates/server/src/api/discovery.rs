//! What the API offers: versions, resources, extensions. Clients look for extensions by their alias.

use axum::extract::Request;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use model::resource::Extension;
use model::table;
use serde_json::{Value, json};

use super::errors::{JSON, Refused, no_such_path};
use super::query::base;
use super::router::InPath;

/// What lists and objects of every resource can do, under the names that neutron-lib gives it.
const EVERYWHERE: &[Extension] = &[
    Extension {
        alias: "pagination",
        name: "Pagination support",
        description: "Extension that indicates that pagination is enabled.",
        updated: "2016-06-12T00:00:00-00:00",
    },
    Extension {
        alias: "sorting",
        name: "Sorting support",
        description: "Extension that indicates that sorting is enabled.",
        updated: "2016-06-12T00:00:00-00:00",
    },
    Extension {
        alias: "project-id",
        name: "project_id field enabled",
        description: "Extension that indicates that project_id field is enabled.",
        updated: "2016-09-09T09:09:09-09:09",
    },
    Extension {
        alias: "empty-string-filtering",
        name: "Empty String Filtering Extension",
        description: "Allow filtering by attributes with empty string value",
        updated: "2018-05-01T10:00:00-00:00",
    },
    Extension {
        alias: "standard-attr-revisions",
        name: "Resource revision numbers",
        description: "This extension will display the revision number of neutron resources.",
        updated: "2016-04-11T10:00:00-00:00",
    },
    Extension {
        alias: "revision-if-match",
        name: "If-Match constraints based on revision_number",
        description: "Extension indicating that If-Match based on revision_number is supported.",
        updated: "2016-12-11T00:00:00-00:00",
    },
    Extension {
        alias: "standard-attr-timestamp",
        name: "Resource timestamps",
        description: "Adds created_at and updated_at fields to all Neutron resources that have Neutron standard attributes.",
        updated: "2016-09-12T10:00:00-00:00",
    },
    Extension {
        alias: "provider",
        name: "Provider Network",
        description: "Expose mapping of virtual networks to physical networks",
        updated: "2012-09-07T10:00:00-00:00",
    },
    Extension {
        alias: "quotas",
        name: "Quota management support",
        description: "Expose functions for quotas management per project",
        updated: "2012-07-29T10:00:00-00:00",
    },
    Extension {
        alias: "quota_details",
        name: "Quota details management support",
        description: "Expose functions for quotas usage statistics per project",
        updated: "2017-02-10T10:00:00-00:00",
    },
];

/// `GET /`
pub(super) async fn versions(request: Request) -> Response {
    let base = base(request.headers(), request.extensions());
    let href = format!("{base}/v2.0/");
    document(&json!({
        "versions": [{
            "id": "v2.0",
            "status": "CURRENT",
            "links": [{"rel": "self", "href": href}],
        }],
    }))
}

/// `GET /v2.0/`
pub(super) async fn resources(request: Request) -> Response {
    let base = base(request.headers(), request.extensions());
    let resources = table::ALL.iter().map(|resource| {
        json!({
            "name": resource.member,
            "collection": resource.collection,
            "links": [{"rel": "self", "href": format!("{base}/v2.0/{}", resource.path)}],
        })
    });
    document(&json!({"resources": resources.collect::<Value>()}))
}

/// `GET /v2.0/extensions`
pub(super) async fn extensions() -> Response {
    document(&json!({"extensions": all().map(described).collect::<Value>()}))
}

/// `GET /v2.0/extensions/{alias}`
pub(super) async fn extension(InPath(alias): InPath) -> Result<Response, Refused> {
    let found = all().find(|extension| extension.alias == alias);
    let extension = found.ok_or_else(no_such_path)?;
    Ok(document(&json!({"extension": described(extension)})))
}

fn all() -> impl Iterator<Item = &'static Extension> {
    let of_resources = table::ALL
        .iter()
        .filter_map(|resource| resource.extension.as_ref());
    of_resources.chain(EVERYWHERE)
}

fn described(extension: &Extension) -> Value {
    json!({
        "name": extension.name,
        "alias": extension.alias,
        "description": extension.description,
        "updated": extension.updated,
        "links": [],
    })
}

/// A JSON document as a reply.
pub(super) fn document(document: &Value) -> Response {
    ([(CONTENT_TYPE, JSON)], document.to_string()).into_response()
}
