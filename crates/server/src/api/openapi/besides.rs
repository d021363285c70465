//! What is served beside the resources: documents, quotas, devices, and what operators' tools ask.

use model::table;
use model::view::{self, L2_DEVICE, L2_DEVICE_PLAN, View};
use serde_json::{Map, Value, json};

use super::super::quotas;
use super::{content, in_path, operation, parameter, pattern, wrapped};

pub(super) fn describe(paths: &mut Map<String, Value>) {
    let object = json!({"type": "object"});
    for (path, summary) in [
        ("/", "Versions of the API"),
        ("/openapi.json", "This document"),
        ("/v2.0/", "Resources"),
        ("/v2.0/extensions", "Extensions"),
        ("/v2.0/quotas", "Projects with quotas of their own"),
        ("/v2.0/quotas/tenant", "The caller's project, as tenant"),
        ("/v2.0/quotas/project", "The caller's project"),
    ] {
        let get = operation(summary, "200", &object);
        paths.insert(path.to_owned(), json!({"get": get}));
    }
    let extension = json!({
        "parameters": [in_path("alias", "Short name of the extension")],
        "get": operation("An extension", "200", &wrapped("extension", &object)),
    });
    paths.insert("/v2.0/extensions/{alias}".to_owned(), extension);
    of_quotas(paths);
    for view in view::ALL {
        of_view(view, paths);
    }
    of_devices(paths);
    for (path, get) in [("/healthcheck", health()), ("/metrics", metrics())] {
        paths.insert(path.to_owned(), json!({ "get": get }));
    }
}

fn of_quotas(paths: &mut Map<String, Value>) {
    let of_all = |schema: &Value| -> Value {
        let all = table::ALL.iter();
        let properties: Map<String, Value> = all
            .map(|resource| (quotas::key(resource.kind), schema.clone()))
            .collect();
        wrapped(
            "quota",
            &json!({"type": "object", "properties": properties}),
        )
    };
    let limits = of_all(&json!({"type": "integer", "minimum": -1, "maximum": 2_147_483_647}));
    let usage = of_all(&json!({"type": "object", "required": ["limit", "used", "reserved"]}));
    let mut update = operation("Set quotas of a project", "200", &limits);
    let mut wanted = limits.clone();
    let whether = |about: &str| json!({"description": about});
    let quota = &mut wanted["properties"]["quota"];
    quota["additionalProperties"] = false.into();
    quota["properties"]["check_limit"] = whether("Refuse what is below what is in use");
    quota["properties"]["force"] = whether("Neutron's; ignored");
    update["requestBody"] = json!({"required": true, "content": content(&wanted)});
    let project = || {
        let mut project = in_path("project", "Id of the project");
        project["schema"]["maxLength"] = 255.into();
        project["schema"]["pattern"] = pattern::TEXT.into();
        json!([project])
    };
    let path = "/v2.0/quotas/{project}";
    let quotas = json!({
        "parameters": project(),
        "get": operation("Quotas of a project; -1 is unlimited", "200", &limits),
        "put": update,
        "delete": operation("Back to the defaults", "204", &Value::Null),
    });
    paths.insert(path.to_owned(), quotas);
    for (segment, summary, schema) in [
        ("default", "Quotas of projects without their own", &limits),
        (
            "details",
            "Quotas of a project, and how much is used",
            &usage,
        ),
    ] {
        let get = operation(summary, "200", schema);
        let item = json!({"parameters": project(), "get": get});
        paths.insert(format!("{path}/{segment}"), item);
    }
}

fn of_view(view: &'static View, paths: &mut Map<String, Value>) {
    let one = looked_at(view);
    let all = json!({"type": "array", "items": one});
    let mut list = operation(
        &format!("List {}", view.collection),
        "200",
        &wrapped(view.collection, &all),
    );
    let filters = view.attributes.iter().map(|attribute| {
        let any_of = json!({"type": "array", "items": {"type": "string"}});
        parameter("query", attribute.name, attribute.help, &any_of)
    });
    list["parameters"] = filters.collect();
    let path = format!("/v2.0/{}", view.path);
    paths.insert(path.clone(), json!({"get": list}));
    if view.shown_alone {
        let summary = format!("Show a {}", view.noun);
        let show = operation(&summary, "200", &wrapped(view.member, &one));
        let mut item = json!({"parameters": [name(view)], "get": show});
        if view.forgotten {
            let summary = format!("Forget a {} that is gone for good", view.noun);
            item["delete"] = operation(&summary, "204", &Value::Null);
        }
        paths.insert(format!("{path}/{{name}}"), item);
    }
}

fn of_devices(paths: &mut Map<String, Value>) {
    let device = format!("/v2.0/{}/{{name}}", L2_DEVICE.path);
    let plan = wrapped(L2_DEVICE_PLAN.member, &looked_at(&L2_DEVICE_PLAN));
    let plan = json!({
        "parameters": [name(&L2_DEVICE)],
        "get": operation("What would be written to the device", "200", &plan),
    });
    paths.insert(format!("{device}/{}", L2_DEVICE_PLAN.path), plan);
    let mut consent = operation(
        "Agree that what the database does not know is removed from the device, or taken over from another controller",
        "204",
        &Value::Null,
    );
    let network = json!({
        "type": "object",
        "properties": {"network_id": {"type": ["string", "null"], "description": "On this network alone"}},
        "additionalProperties": false,
    });
    consent["requestBody"] = json!({"required": false, "content": content(&network)});
    let consent = json!({"parameters": [name(&L2_DEVICE)], "post": consent});
    paths.insert(format!("{device}/accept-removal"), consent);
}

fn name(view: &View) -> Value {
    in_path("name", &format!("Name of the {}", view.noun))
}

/// Shapes of views say no more than how values sort.
fn looked_at(view: &View) -> Value {
    let attributes = view.attributes.iter();
    let properties: Map<String, Value> = attributes
        .map(|attribute| {
            let about = json!({"description": attribute.help});
            (attribute.name.to_owned(), about)
        })
        .collect();
    json!({"type": "object", "properties": properties})
}

fn metrics() -> Value {
    let summary = "Metrics, as Prometheus reads them";
    let text = json!({"application/openmetrics-text": {"schema": {"type": "string"}}});
    json!({
        "summary": summary,
        "responses": {"200": {"description": summary, "content": text}},
    })
}

/// As oslo.middleware answers: in words, or in JSON to those who ask for it.
fn health() -> Value {
    let answer = |about: &str| {
        json!({
            "description": about,
            "content": {
                "text/plain": {"schema": {"type": "string"}},
                "application/json": {"schema": {"type": "object", "required": ["detailed", "reasons"]}},
            },
        })
    };
    let detailed = parameter(
        "query",
        "detailed",
        "Each thing that was looked at, where the caller may see it",
        &json!({"type": "string"}),
    );
    json!({
        "summary": "Whether the server should be sent requests",
        "parameters": [detailed],
        "responses": {"200": answer("It should"), "503": answer("It should not")},
    })
}
