//! What holds of every resource, body and value.

use proptest::prelude::*;
use serde_json::json;

use super::super::*;
use super::ID;
use crate::encode::Projection;
use crate::status::Report;
use crate::table;

fn any_json() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        any::<u64>().prop_map(Json::from),
        any::<f64>().prop_map(Json::from),
        (0..5000_i64).prop_map(Json::from),
        ".{0,6}".prop_map(Json::from),
        "[0-9]{1,4}".prop_map(Json::from),
        prop::sample::select(vec![
            "",
            "True",
            "vxlan",
            "192.0.2.7",
            "2001:db8::7",
            "00:11:22:33:44:55",
            ID,
        ])
        .prop_map(Json::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        let key = prop_oneof![
            prop::sample::select(vec![
                "device_name",
                "interfaces",
                "name",
                "segmentation_id",
                "ip_address",
                "tunneling_ip",
            ])
            .prop_map(str::to_owned),
            ".{0,3}",
        ];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Json::from),
            prop::collection::vec((key, inner), 0..4).prop_map(|o| o.into_iter().collect()),
        ]
    })
}

/// A value that the shape takes, in one of the ways that clients write it.
fn acceptable(shape: Shape) -> BoxedStrategy<Json> {
    let number = |min: i64, max: i64| {
        prop_oneof![
            (min..=max).prop_map(Json::from),
            (min..=max).prop_map(|n| n.to_string().into()),
        ]
        .boxed()
    };
    let ipv4 = (1..=223_u8, any::<[u8; 3]>())
        .prop_filter("loopback", |(first, _)| *first != 127)
        .prop_map(|(a, [b, c, d])| std::net::Ipv4Addr::new(a, b, c, d).to_string());
    match shape {
        Shape::Text(_) | Shape::Project => "[^\0]{0,40}".prop_map(Json::from).boxed(),
        Shape::Word(words) => prop::sample::select(words).prop_map(Json::from).boxed(),
        Shape::Integer(min, max) => number(min, max),
        Shape::Vni => number(1, Vni::MAX.into()),
        Shape::Bool => prop::sample::select(vec![json!(true), json!(false), json!("TRUE")]).boxed(),
        Shape::Id | Shape::Reference(..) => any::<u128>()
            .prop_map(|id| Uuid::from_u128(id).to_string().into())
            .boxed(),
        Shape::Mac => any::<[u8; 5]>()
            .prop_map(|[a, b, c, d, e]| format!("02-{a:02X}-{b:02X}-{c:02X}-{d:02X}-{e:02X}").into())
            .boxed(),
        Shape::Ip | Shape::TunnelEndpoint => ipv4.prop_map(Json::from).boxed(),
        Shape::VlanText => (1..4095_u16).prop_map(|n| n.to_string().into()).boxed(),
        Shape::Devices => (0..4095_u16, "[a-z]{1,9}")
            .prop_map(|(vlan, name)| {
                json!([{"device_name": name, "interfaces": [{"name": "p", "segmentation_id": [vlan]}]}])
            })
            .boxed(),
        Shape::Segments => (1..5000_u16)
            .prop_map(|key| json!([{"provider:network_type": "vxlan", "provider:segmentation_id": key}]))
            .boxed(),
        Shape::Constant(json) => Just(serde_json::from_str(json).unwrap()).boxed(),
        Shape::FixedIps => ipv4.prop_map(|ip| json!([{"ip_address": ip}])).boxed(),
        Shape::BindingProfile => ipv4.prop_map(|ip| json!({"tunneling_ip": ip})).boxed(),
        Shape::Mirror(_)
        | Shape::Status
        | Shape::StatusReason
        | Shape::Revision
        | Shape::CreatedAt
        | Shape::UpdatedAt => {
            unreachable!("POST refuses these")
        }
    }
}

/// A body that POST takes, with any of its optional attributes.
fn any_body(resource: &'static Resource) -> impl Strategy<Value = Map<String, Json>> {
    let mut parts: Vec<BoxedStrategy<Option<(String, Json)>>> = Vec::new();
    for attribute in resource.attributes {
        let post = match attribute.post {
            Post::Refused => continue,
            _ if matches!(attribute.shape, Shape::Mirror(_)) => continue,
            post => post,
        };
        let names: Vec<&str> = [&[attribute.name], attribute.aliases].concat();
        let given = (prop::sample::select(names), acceptable(attribute.shape))
            .prop_map(|(name, value): (&str, Json)| (name.to_owned(), value));
        parts.push(match post {
            Post::Required => given.prop_map(Some).boxed(),
            _ => prop::option::of(given).boxed(),
        });
    }
    parts.prop_map(move |parts| {
        let mut body = parts.into_iter().flatten().collect();
        without_contradiction(resource, &mut body);
        body
    })
}

/// Leaves out what another attribute stands for.
fn without_contradiction(resource: &'static Resource, body: &mut Map<String, Json>) {
    for attribute in resource.attributes {
        if let Some((others, ..)) = attribute.instead_of
            && body
                .get(attribute.name)
                .is_some_and(|value| !value.is_null())
        {
            body.retain(|name, _| !others.contains(&name.as_str()));
        }
    }
}

fn any_resource() -> impl Strategy<Value = &'static Resource> {
    prop::sample::select(table::ALL)
}

/// What GET shows of a row, as a body for POST: without what POST refuses, and a VLAN as the text that POST wants.
fn shown_as_body(row: &Row) -> Map<String, Json> {
    let mut out = Vec::new();
    Projection::all(row.resource).write(&mut out, row, &|_| Report::ACTIVE);
    let mut shown: Map<String, Json> = serde_json::from_slice(&out).unwrap();
    shown.retain(|name, _| row.resource.attribute(name).unwrap().post != Post::Refused);
    for (name, value) in &mut shown {
        let attribute = row.resource.attribute(name).unwrap();
        if attribute.shape == Shape::VlanText && value.is_number() {
            *value = value.to_string().into();
        }
    }
    without_contradiction(row.resource, &mut shown);
    shown
}

proptest! {
    #[test]
    fn what_was_accepted_reads_back_as_the_same(
        (resource, body) in any_resource().prop_flat_map(|r| (Just(r), any_body(r)))
    ) {
        let context = Context { project: "caller", parent: None };
        let row = create(resource, &body, context).unwrap();
        let again = create(resource, &shown_as_body(&row), context).unwrap();
        prop_assert_eq!(row.values, again.values);
    }

    #[test]
    fn no_body_is_too_strange(
        resource in any_resource(),
        keys in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        values in prop::collection::vec(any_json(), 8),
    ) {
        let body: Map<String, Json> = keys
            .iter()
            .zip(values)
            .map(|(key, value)| (key.get(resource.attributes).name.to_owned(), value))
            .collect();
        for fault in [
            create(resource, &body, Context::default()).err(),
            update(resource, &body).err(),
        ].into_iter().flatten() {
            prop_assert!([400, 409].contains(&fault.kind.status()), "{}", fault);
        }
    }

    #[test]
    fn every_shape_answers_every_value(
        (resource, place) in any_resource().prop_flat_map(|r| (Just(r), 0..r.attributes.len())),
        value in any_json(),
    ) {
        let attribute = &resource.attributes[place];
        if let Err(fault) = check(attribute, attribute.name, &value) {
            prop_assert!([400, 409].contains(&fault.kind.status()), "{}", fault);
        }
    }

    #[test]
    fn a_filter_finds_what_was_stored(
        (resource, body) in any_resource().prop_flat_map(|r| (Just(r), any_body(r)))
    ) {
        let row = create(resource, &body, Context::default()).unwrap();
        for attribute in resource.attributes.iter().filter(|a| a.is_sortable()) {
            let value = row.get(attribute.name);
            let unresolved = matches!(attribute.shape, Shape::Reference(..)) && row.uuid(attribute.name).is_none();
            if *value != Value::Null && !unresolved {
                prop_assert_eq!(
                    filter(resource, attribute.name, &value.text()).unwrap().1,
                    Condition::Is(value.clone())
                );
            }
        }
    }
}
