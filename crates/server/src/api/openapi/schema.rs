//! JSON Schema of what goes in and what comes out, from the shapes of attributes.

use model::resource::{Attribute, Post, Resource, Shape};
use model::segments::{MAX_PHYSICAL_NETWORK, NETWORK_TYPES};
use model::value::{VlanId, Vni};
use serde_json::{Map, Value, json};

use super::pattern;

/// What is shown.
pub(super) fn shown(attributes: &'static [Attribute]) -> Value {
    let visible = attributes.iter().filter(|a| a.visible);
    let properties: Map<String, Value> = visible
        .map(|attribute| {
            let mut schema = output(attributes, attribute.shape);
            let absent = attribute.post == Post::Optional(model::resource::Default::Null);
            if absent && matches!(attribute.shape, Shape::Text(_)) {
                schema["type"] = json!(["string", "null"]);
            }
            (attribute.name.to_owned(), described(attribute, schema))
        })
        .collect();
    json!({"type": "object", "properties": properties})
}

/// What a POST takes, without what the path says.
pub(super) fn created(resource: &'static Resource, in_path: Option<&str>) -> Value {
    let given = resource
        .attributes
        .iter()
        .filter(|a| a.visible && a.post != Post::Refused)
        .filter(|a| in_path != Some(a.name));
    closed(resource, given)
}

/// What a PUT takes: an object for each way to name its attributes, because tools cannot make up what fits a list of names
/// that must not meet unless one of them is required.
pub(super) fn updated(resource: &'static Resource) -> Value {
    let given = resource.attributes.iter().filter(|a| a.visible && a.put);
    let mut ways: Vec<Map<String, Value>> = vec![Map::new()];
    for attribute in given {
        let named = inputs(resource, std::iter::once(attribute));
        let with = |way: &Map<String, Value>, (name, schema): (&String, &Value)| {
            let mut way = way.clone();
            way.insert(name.clone(), schema.clone());
            way
        };
        ways = ways
            .iter()
            .flat_map(|way| named.iter().map(move |named| with(way, named)))
            .collect();
    }
    let mut ways = ways.into_iter().map(|properties| {
        json!({"type": "object", "properties": properties, "additionalProperties": false})
    });
    match (ways.next(), ways.next()) {
        (Some(only), None) => only,
        (first, second) => {
            let ways: Vec<_> = first.into_iter().chain(second).chain(ways).collect();
            json!({"anyOf": ways})
        }
    }
}

/// An object with these attributes and no others: each under one of its names, those that are required under any.
fn closed(
    resource: &'static Resource,
    given: impl Iterator<Item = &'static Attribute> + Clone,
) -> Value {
    let mut required = Vec::new();
    let (mut rules, mut twice) = (Vec::new(), Vec::new());
    for attribute in given.clone() {
        let mut names = vec![attribute.name];
        names.extend(attribute.aliases);
        let mirrors = given
            .clone()
            .filter(|it| it.shape == Shape::Mirror(attribute.name));
        names.extend(mirrors.map(|mirror| mirror.name));
        if attribute.post == Post::Required {
            match names.as_slice() {
                [name] => required.push(*name),
                several => {
                    let any_of = several.iter().map(|name| json!({"required": [name]}));
                    rules.push(json!({"anyOf": any_of.collect::<Vec<_>>()}));
                }
            }
        }
        if let Some((others, ..)) = attribute.instead_of {
            let not_null = || json!({"not": {"type": "null"}});
            twice.extend(others.iter().map(|other| {
                let given = json!({attribute.name: not_null(), *other: not_null()});
                json!({"required": [attribute.name, other], "properties": given})
            }));
        }
        for (place, first) in names.iter().enumerate() {
            for second in names.iter().skip(place + 1) {
                twice.push(json!({"required": [first, second]}));
            }
        }
    }
    let mut object = json!({
        "type": "object",
        "properties": inputs(resource, given),
        "required": required,
        "additionalProperties": false,
    });
    if !twice.is_empty() {
        object["not"] = json!({"anyOf": twice});
    }
    if !rules.is_empty() {
        object["allOf"] = rules.into();
    }
    object
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

/// What a shape takes.
fn input(resource: &'static Resource, shape: Shape) -> Value {
    let text = |max: usize| json!({"type": "string", "maxLength": max, "pattern": pattern::TEXT});
    match shape {
        Shape::Text(max) => text(max),
        Shape::Project => text(255),
        Shape::Word(words) => json!({"type": "string", "enum": words}),
        Shape::Integer(min, max) => json!({"anyOf": [
            {"type": "integer", "minimum": min, "maximum": max},
            {"type": "string", "pattern": number(min, max)},
        ]}),
        Shape::Vni => json!({"anyOf": [
            {"type": "integer", "minimum": 1, "maximum": Vni::MAX},
            {"type": "string", "pattern": pattern::number(1, Vni::MAX)},
        ]}),
        Shape::Bool => json!({"anyOf": [
            {"type": "boolean"},
            {"type": "string", "pattern": "^([Tt][Rr][Uu][Ee]|[Ff][Aa][Ll][Ss][Ee])$"},
        ]}),
        Shape::VlanText => {
            let vlan = pattern::number_or_nothing(0, VlanId::MAX.into());
            json!({"type": "string", "pattern": vlan})
        }
        Shape::Mac => json!({"type": "string", "pattern": pattern::MAC}),
        Shape::Ip => station(),
        Shape::TunnelEndpoint => json!({"type": "string", "pattern": pattern::endpoint()}),
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
                    "device_name": name(),
                    "interfaces": {"type": "array", "minItems": 1, "items": {
                        "type": "object",
                        "required": ["name"],
                        "properties": {
                            "name": name(),
                            "segmentation_id": {"type": "array", "minItems": 1, "items": {
                                "description": "0 to 4094; as upstream, whatever Python's int() takes",
                                "anyOf": [
                                    {"type": "number", "minimum": 0, "maximum": VlanId::MAX},
                                    {"type": "string", "pattern": pattern::number(0, VlanId::MAX.into())},
                                    {"type": "boolean"},
                                ],
                            }},
                        },
                    }},
                },
            },
        }),
        Shape::Segments => json!({
            "type": "array", "minItems": 1,
            "items": {
                "type": "object",
                "required": ["provider:network_type"],
                "properties": {
                    "provider:network_type": {"type": "string", "enum": NETWORK_TYPES},
                    "provider:physical_network": {
                        "type": ["string", "null"], "maxLength": MAX_PHYSICAL_NETWORK, "pattern": pattern::TEXT,
                    },
                    "provider:segmentation_id": {"type": ["integer", "null"], "minimum": 1, "maximum": Vni::MAX},
                },
                "additionalProperties": false,
            },
        }),
        Shape::FixedIps => json!({"type": "array", "uniqueItems": true, "items": {
            "type": "object",
            "required": ["ip_address"],
            "properties": {"ip_address": station(), "subnet_id": {}},
            "additionalProperties": false,
        }}),
        Shape::BindingProfile => json!({
            "type": ["object", "null"],
            "properties": {"tunneling_ip": {"type": "string", "pattern": pattern::endpoint()}},
        }),
        Shape::Constant(text) => constant(text),
        Shape::Id
        | Shape::Reference(..)
        | Shape::Status
        | Shape::StatusReason
        | Shape::Revision
        | Shape::CreatedAt
        | Shape::UpdatedAt => json!({"type": "string"}),
    }
}

/// One value.
fn constant(text: &str) -> Value {
    json!({"const": serde_json::from_str::<Value>(text).unwrap_or_default()})
}

/// A name of a device or an interface.
fn name() -> Value {
    json!({"type": "string", "minLength": 1, "maxLength": 255, "pattern": pattern::TEXT})
}

/// A whole number as text; only ranges from 0 or more have a pattern.
fn number(min: i64, max: i64) -> String {
    match (u32::try_from(min), u32::try_from(max)) {
        (Ok(min), Ok(max)) => pattern::number(min, max),
        _ => "^ *[+-]?[0-9]+ *$".to_owned(),
    }
}

/// The address of a station.
fn station() -> Value {
    json!({"anyOf": [
        {"type": "string", "pattern": pattern::station_v4()},
        {"type": "string", "format": "ipv6", "not": {"pattern": pattern::NO_STATION_V6}},
    ]})
}

/// What a shape shows.
fn output(attributes: &'static [Attribute], shape: Shape) -> Value {
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
        Shape::Segments => json!({"type": ["array", "null"], "items": {"type": "object"}}),
        Shape::BindingProfile => json!({"type": "object"}),
        Shape::Mirror(of) => attributes
            .iter()
            .find(|attribute| attribute.name == of)
            .map_or(Value::Bool(true), |attribute| {
                output(attributes, attribute.shape)
            }),
        Shape::Constant(text) => constant(text),
        Shape::Status => json!({"enum": ["BUILD", "ACTIVE", "DOWN", "ERROR"]}),
        Shape::StatusReason => json!({"type": ["string", "null"]}),
        Shape::Revision => json!({"type": "integer", "minimum": 1}),
        Shape::CreatedAt | Shape::UpdatedAt => json!({"type": "string", "format": "date-time"}),
    }
}
