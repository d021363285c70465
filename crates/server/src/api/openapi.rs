//! The API described by itself: an OpenAPI 3.1 document, derived from the resource table.
//!
//! `docs/openapi.json` is this document, checked in for people who read it without a server; a test proves it current.
#![expect(
    clippy::indexing_slicing,
    reason = "assigning to a key of a JSON object inserts it; every value indexed here was written as an object"
)]

mod besides;
mod pattern;
mod resources;
mod schema;

use serde_json::{Map, Value, json};

use super::discovery::document;

/// `GET /openapi.json`
pub(super) async fn openapi() -> axum::response::Response {
    document(&description())
}

/// The document.
pub fn description() -> Value {
    let mut paths = Map::new();
    let mut schemas = Map::new();
    schemas.insert("Error".to_owned(), error());
    resources::describe(&mut paths, &mut schemas);
    besides::describe(&mut paths);
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
        &json!({"type": "string", "pattern": "^(?!\\s*revision_number=)|^\\s*revision_number=[0-9]{1,18}\\s*$"}),
    )
}

/// The variable part of a path.
fn in_path(name: &str, about: &str) -> Value {
    parameter(
        "path",
        name,
        about,
        &json!({"type": "string", "minLength": 1}),
    )
}

fn fields() -> Value {
    let names = json!({"type": "array", "items": {"type": "string"}});
    parameter("query", "fields", "Only these attributes", &names)
}
