//! The resources of the table: their paths, and what they look like.

use model::resource::{Kind, Nested, Resource, Shape};
use model::table;
use serde_json::{Map, Value, json};

use super::{content, fields, if_match, in_path, operation, parameter, reference, schema, wrapped};

pub(super) fn describe(paths: &mut Map<String, Value>, schemas: &mut Map<String, Value>) {
    for resource in table::ALL {
        let member = resource.member;
        schemas.insert(member.to_owned(), schema::shown(resource.attributes));
        schemas.insert(format!("{member}_create"), schema::created(resource, None));
        if resource.updatable {
            schemas.insert(format!("{member}_update"), schema::updated(resource));
        }
        let path = format!("/v2.0/{}", resource.path);
        paths.insert(path.clone(), collection(resource, None));
        paths.insert(format!("{path}/{{id}}"), item(resource));
        if let Some(nested) = &resource.nested
            && let Some(attribute) = resource.attribute(nested.attribute)
            && let Shape::Reference(kind, _) = attribute.shape
        {
            let parent = Resource::of(kind);
            let mut below = collection(resource, Some(nested));
            let about = format!("Id of the {}", parent.noun);
            below["parameters"] = json!([in_path("id", &about)]);
            let path = format!("/v2.0/{}/{{id}}/{}", parent.path, nested.segment);
            paths.insert(path, below);
        }
    }
}

/// A collection; below its parent where `nested` says so.
fn collection(resource: &'static Resource, nested: Option<&Nested>) -> Value {
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
        .filter(|attribute| attribute.visible && attribute.is_sortable())
        // The path says it.
        .filter(|attribute| nested.is_none_or(|nested| attribute.name != nested.attribute));
    parameters.extend(filters.map(|attribute| {
        let any_of = json!({"type": "array", "items": {"type": "string"}});
        parameter("query", attribute.name, attribute.help, &any_of)
    }));
    list["parameters"] = parameters.into();

    let one = match nested {
        None => reference(&format!("{}_create", resource.member)),
        Some(nested) => schema::created(resource, Some(nested.attribute)),
    };
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
        "parameters": [in_path("id", &format!("Id of the {}", resource.noun))], "get": show, "delete": delete,
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
        let nothing = json!({"type": "object", "additionalProperties": false});
        let body = content(&wrapped(resource.member, &nothing));
        let refused = json!({"description": "Refused", "content": content(&reference("Error"))});
        item["put"] = json!({
            "summary": "Refused: a gateway connection is never updated",
            "requestBody": {"required": true, "content": body},
            "responses": {"405": refused, "default": refused},
        });
    }
    item
}
