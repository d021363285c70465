//! The API described by itself: an OpenAPI 3.1 document, derived from the resource table.
//!
//! `docs/openapi.json` is this document, checked in for people who read it without a server; a test proves it current.
#![expect(
    clippy::indexing_slicing,
    reason = "assigning to a key of a JSON object inserts it; every value indexed here was written as an object"
)]

use model::resource::{Attribute, Kind, Post, Resource, Shape};
use model::table;
use model::value::Vni;
use serde_json::{Map, Value, json};

use super::discovery::document;
use super::quotas;

/// `GET /openapi.json`
pub(super) async fn openapi() -> axum::response::Response {
    document(&description())
}

/// The document.
pub fn description() -> Value {
    let mut paths = Map::new();
    let mut schemas = Map::new();
    schemas.insert("Error".to_owned(), error());
    for (path, summary) in [
        ("/", "Versions of the API"),
        ("/v2.0/", "Resources"),
        ("/v2.0/extensions", "Extensions"),
        ("/v2.0/quotas", "Projects with quotas of their own"),
    ] {
        let get = operation(summary, "200", &json!({"type": "object"}));
        paths.insert(path.to_owned(), json!({"get": get}));
    }
    for resource in table::ALL {
        schemas.insert(resource.member.to_owned(), shown(resource));
        schemas.insert(format!("{}_create", resource.member), created(resource));
        if resource.updatable {
            schemas.insert(format!("{}_update", resource.member), updated(resource));
        }
        let path = format!("/v2.0/{}", resource.path);
        paths.insert(path.clone(), collection(resource));
        paths.insert(format!("{path}/{{id}}"), item(resource));
    }
    paths.insert("/v2.0/quotas/{project}".to_owned(), quota());
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "l2gw",
            "version": "2.0",
            "summary": "Layer-2 networks of separate clouds, joined over a WAN",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{}, {"token": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "token": {"type": "apiKey", "in": "header", "name": "X-Auth-Token"},
            },
            "schemas": schemas,
        },
    })
}

fn reference(schema: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{schema}")})
}

fn error() -> Value {
    let text = || json!({"type": "string"});
    json!({
        "type": "object",
        "required": ["NeutronError"],
        "properties": {"NeutronError": {
            "type": "object",
            "required": ["type", "message", "detail"],
            "properties": {"type": text(), "message": text(), "detail": text()},
        }},
    })
}

/// An object with exactly one key.
fn wrapped(key: &str, schema: &Value) -> Value {
    json!({"type": "object", "required": [key], "properties": {key: schema}})
}

fn content(schema: &Value) -> Value {
    json!({"application/json": {"schema": schema}})
}

/// An operation with one good answer; all refusals have one form.
fn operation(summary: &str, status: &str, schema: &Value) -> Value {
    let mut good = json!({
        "description": summary,
        "headers": {"x-openstack-request-id": {"schema": {"type": "string"}}},
    });
    if !schema.is_null() {
        good["content"] = content(schema);
    }
    json!({
        "summary": summary,
        "responses": {
            status: good,
            "default": {"description": "Refused", "content": content(&reference("Error"))},
        },
    })
}

fn parameter(place: &str, name: &str, about: &str, schema: &Value) -> Value {
    json!({
        "name": name, "in": place, "description": about, "required": place == "path",
        "schema": schema,
    })
}

fn if_match() -> Value {
    parameter(
        "header",
        "If-Match",
        "revision_number=N: only if that is still the revision",
        &json!({"type": "string"}),
    )
}

fn identity(resource: &Resource) -> Value {
    let about = format!("Id of the {}", resource.noun);
    parameter(
        "path",
        "id",
        &about,
        &json!({"type": "string", "minLength": 1}),
    )
}

fn fields() -> Value {
    let names = json!({"type": "array", "items": {"type": "string"}});
    parameter("query", "fields", "Only these attributes", &names)
}

fn collection(resource: &'static Resource) -> Value {
    let rows = json!({"type": "array", "items": reference(resource.member)});
    let mut list = operation(
        &format!("List {}", resource.collection),
        "200",
        &wrapped(resource.collection, &rows),
    );
    let mut parameters = vec![
        fields(),
        parameter(
            "query",
            "limit",
            "Length of a page; 0 is no limit",
            &json!({"type": "integer", "minimum": 0}),
        ),
        parameter(
            "query",
            "marker",
            "Id of the last one of the page before",
            &json!({"type": "string"}),
        ),
        parameter(
            "query",
            "page_reverse",
            "The page before the marker instead",
            &json!({"type": "string"}),
        ),
    ];
    let filters = resource
        .attributes
        .iter()
        .filter(|attribute| attribute.visible && attribute.is_sortable());
    parameters.extend(filters.map(|attribute| {
        let any_of = json!({"type": "array", "items": {"type": "string"}});
        parameter("query", attribute.name, attribute.help, &any_of)
    }));
    list["parameters"] = parameters.into();

    let one = reference(&format!("{}_create", resource.member));
    let many = json!({"type": "array", "minItems": 1, "items": one});
    let mut create = operation(
        &format!("Create one or several {}", resource.collection),
        "201",
        &json!({"anyOf": [
            wrapped(resource.member, &reference(resource.member)),
            wrapped(resource.collection, &rows),
        ]}),
    );
    let body = json!({"anyOf": [
        wrapped(resource.member, &one), wrapped(resource.collection, &many),
    ]});
    create["requestBody"] = json!({"required": true, "content": content(&body)});
    json!({"get": list, "post": create})
}

fn item(resource: &'static Resource) -> Value {
    let object = wrapped(resource.member, &reference(resource.member));
    let mut show = operation(&format!("Show a {}", resource.noun), "200", &object);
    show["parameters"] = json!([fields()]);
    let mut delete = operation(&format!("Delete a {}", resource.noun), "204", &Value::Null);
    delete["parameters"] = json!([if_match()]);
    let mut item = json!({
        "parameters": [identity(resource)], "get": show, "delete": delete,
    });
    if resource.updatable {
        let mut update = operation(&format!("Update a {}", resource.noun), "200", &object);
        let change = reference(&format!("{}_update", resource.member));
        let body = wrapped(resource.member, &change);
        update["parameters"] = json!([if_match()]);
        update["requestBody"] = json!({"required": true, "content": content(&body)});
        item["put"] = update;
    } else if resource.kind == Kind::L2GatewayConnection {
        // Upstream looks at the body before it says that there is no update.
        item["put"] = json!({
            "summary": "Refused: a gateway connection is never updated",
            "responses": {"default": {
                "description": "Refused", "content": content(&reference("Error")),
            }},
        });
    }
    item
}

fn quota() -> Value {
    let limit = json!({"type": "integer", "minimum": -1, "maximum": 2_147_483_647});
    let limits: Map<String, Value> = table::ALL
        .iter()
        .map(|resource| (quotas::key(resource.kind), limit.clone()))
        .collect();
    let limits = wrapped("quota", &json!({"type": "object", "properties": limits}));
    let project = json!({"type": "string", "minLength": 1});
    let mut update = operation("Set quotas of a project", "200", &limits);
    update["requestBody"] = json!({"required": true, "content": content(&limits)});
    json!({
        "parameters": [parameter("path", "project", "Id of the project", &project)],
        "get": operation("Quotas of a project; -1 is unlimited", "200", &limits),
        "put": update,
        "delete": operation("Back to the defaults", "204", &Value::Null),
    })
}

fn shown(resource: &'static Resource) -> Value {
    let visible = || resource.attributes.iter().filter(|a| a.visible);
    let properties: Map<String, Value> = visible()
        .map(|attribute| {
            (
                attribute.name.to_owned(),
                described(attribute, output(resource, attribute.shape)),
            )
        })
        .collect();
    json!({"type": "object", "properties": properties})
}

fn created(resource: &'static Resource) -> Value {
    let given = resource
        .attributes
        .iter()
        .filter(|a| a.visible && a.post != Post::Refused);
    let required: Vec<_> = given
        .clone()
        .filter(|a| a.post == Post::Required)
        .map(|a| a.name)
        .collect();
    json!({
        "type": "object",
        "properties": inputs(resource, given),
        "required": required,
        "additionalProperties": false,
    })
}

fn updated(resource: &'static Resource) -> Value {
    let given = resource.attributes.iter().filter(|a| a.visible && a.put);
    json!({
        "type": "object",
        "properties": inputs(resource, given),
        "additionalProperties": false,
    })
}

/// What may be given, under every name that is understood.
fn inputs(
    resource: &'static Resource,
    given: impl Iterator<Item = &'static Attribute>,
) -> Map<String, Value> {
    let mut properties = Map::new();
    for attribute in given {
        for name in [&[attribute.name], attribute.aliases].concat() {
            let mut schema = described(attribute, input(resource, attribute.shape));
            if attribute.post == Post::Optional(model::resource::Default::Null)
                && !matches!(attribute.shape, Shape::VlanText | Shape::Mirror(_))
            {
                schema = json!({"anyOf": [schema, {"type": "null"}]});
            }
            properties.insert(name.to_owned(), schema);
        }
    }
    properties
}

fn described(attribute: &Attribute, mut schema: Value) -> Value {
    schema["description"] = attribute.help.into();
    schema
}

const NUMBER: &str = "^ *[0-9]+ *$";

/// What a shape takes.
fn input(resource: &'static Resource, shape: Shape) -> Value {
    let text = |max: usize| json!({"type": "string", "maxLength": max, "pattern": "^[^\\u0000]*$"});
    match shape {
        Shape::Text(max) => text(max),
        Shape::Project => text(255),
        Shape::Word(words) => json!({"type": "string", "enum": words}),
        Shape::Integer(min, max) => json!({"anyOf": [
            {"type": "integer", "minimum": min, "maximum": max},
            {"type": "string", "pattern": NUMBER},
        ]}),
        Shape::Vni => json!({"anyOf": [
            {"type": "integer", "minimum": 1, "maximum": Vni::MAX},
            {"type": "string", "pattern": NUMBER},
        ]}),
        Shape::Bool => json!({"anyOf": [
            {"type": "boolean"},
            {"type": "string", "pattern": "^([Tt][Rr][Uu][Ee]|[Ff][Aa][Ll][Ss][Ee])$"},
        ]}),
        Shape::VlanText => json!({"type": "string"}),
        Shape::Mirror(of) => resource
            .attribute(of)
            .map_or(Value::Bool(true), |attribute| {
                input(resource, attribute.shape)
            }),
        Shape::Devices => json!({
            "type": "array", "minItems": 1,
            "items": {
                "type": "object",
                "required": ["device_name", "interfaces"],
                "properties": {
                    "device_name": {"type": "string", "minLength": 1, "maxLength": 255},
                    "interfaces": {"type": "array", "minItems": 1, "items": {
                        "type": "object",
                        "required": ["name"],
                        "properties": {
                            "name": {"type": "string", "minLength": 1, "maxLength": 255},
                            "segmentation_id": {"type": "array", "minItems": 1, "items": {
                                "description": "0 to 4094; as upstream, whatever Python's int() takes",
                                "type": ["number", "string", "boolean"],
                            }},
                        },
                    }},
                },
            },
        }),
        Shape::FixedIps => json!({"type": "array", "items": {
            "type": "object",
            "required": ["ip_address"],
            "properties": {"ip_address": {"type": "string"}, "subnet_id": {}},
            "additionalProperties": false,
        }}),
        Shape::BindingProfile => json!({"type": ["object", "null"]}),
        Shape::Id
        | Shape::Reference(..)
        | Shape::Mac
        | Shape::Ip
        | Shape::TunnelEndpoint
        | Shape::Constant(_)
        | Shape::Status
        | Shape::StatusReason
        | Shape::Revision
        | Shape::CreatedAt
        | Shape::UpdatedAt => json!({"type": "string"}),
    }
}

/// What a shape shows.
fn output(resource: &'static Resource, shape: Shape) -> Value {
    match shape {
        Shape::Id | Shape::Reference(..) => json!({"type": "string", "format": "uuid"}),
        Shape::Text(_) | Shape::Word(_) | Shape::Project => json!({"type": "string"}),
        Shape::Integer(min, max) => json!({"type": "integer", "minimum": min, "maximum": max}),
        Shape::Bool => json!({"type": "boolean"}),
        Shape::Mac => json!({"type": "string", "pattern": "^([0-9a-f]{2}:){5}[0-9a-f]{2}$"}),
        Shape::Ip => json!({"anyOf": [
            {"type": "string", "format": "ipv4"}, {"type": "string", "format": "ipv6"},
            {"type": "null"},
        ]}),
        Shape::TunnelEndpoint => json!({"type": "string", "format": "ipv4"}),
        Shape::Vni => json!({"type": ["integer", "null"], "minimum": 1, "maximum": Vni::MAX}),
        Shape::VlanText => json!({"anyOf": [
            {"type": "integer", "minimum": 1, "maximum": 4094}, {"const": ""},
        ]}),
        Shape::Devices | Shape::FixedIps => json!({"type": "array", "items": {"type": "object"}}),
        Shape::BindingProfile => json!({"type": "object"}),
        Shape::Mirror(of) => resource
            .attribute(of)
            .map_or(Value::Bool(true), |attribute| {
                output(resource, attribute.shape)
            }),
        Shape::Constant(text) => {
            json!({"const": serde_json::from_str::<Value>(text).unwrap_or_default()})
        }
        Shape::Status => json!({"enum": ["BUILD", "ACTIVE", "DOWN", "ERROR"]}),
        Shape::StatusReason => json!({"type": ["string", "null"]}),
        Shape::Revision => json!({"type": "integer", "minimum": 1}),
        Shape::CreatedAt | Shape::UpdatedAt => json!({"type": "string", "format": "date-time"}),
    }
}
