//! Rows for tests, whatever the resource table says they consist of.

use std::ops::ControlFlow;

use model::resource::{Default, Kind, Post, Shape};
use model::row::{Row, Value};
use model::value::MacAddress;
use store::{Query, Snapshot, Store};
use uuid::Uuid;

/// A row of this kind with a new id and a value for everything that POST demands or fills in. `number` makes it
/// different from others; `reference` answers what references lead to.
pub(crate) fn row(kind: Kind, number: u8, mut reference: impl FnMut(Kind) -> Value) -> Row {
    let mut row = Row::empty(kind);
    for (position, attribute) in row.resource.attributes.iter().enumerate() {
        row.values[position] = match (attribute.shape, attribute.post) {
            (Shape::Reference(target, _), _) => reference(target),
            (shape, _) if shape.storage().is_none() => Value::Null,
            (Shape::Id, _) => Value::Uuid(Uuid::new_v4()),
            (_, Post::Optional(Default::Text(text) | Default::Json(text))) => Value::from(text),
            (_, Post::Optional(Default::Bool(truth))) => Value::Bool(truth),
            (_, Post::Optional(Default::Integer(integer))) => Value::Integer(integer),
            (shape, _) => value(shape, number),
        };
    }
    row
}

/// A value of this shape.
pub(crate) fn value(shape: Shape, number: u8) -> Value {
    match shape {
        Shape::Text(_) | Shape::Project => {
            Value::from(["", "a", "b", "é"][usize::from(number % 4)])
        }
        Shape::Word(words) => Value::from(words[usize::from(number) % words.len()]),
        Shape::Integer(low, _) => Value::Integer(low + i64::from(number % 3)),
        Shape::Bool => Value::Bool(number % 2 == 1),
        Shape::Mac => Value::Mac(MacAddress::new([0xfe, 0, 0, 0, 0, number])),
        Shape::Ip if number % 3 == 2 => Value::Ip([0xfd00, 0, 0, 0, 0, 0, 0, 1].into()),
        Shape::Ip | Shape::TunnelEndpoint => Value::Ip([10, 0, 0, number].into()),
        Shape::Vni | Shape::VlanText => Value::Integer(1 + i64::from(number)),
        Shape::Devices => Value::from(r#"[{"device_name":"s","interfaces":[{"name":"p"}]}]"#),
        Shape::Segments => Value::from(r#"[{"provider:network_type":"local"}]"#),
        Shape::FixedIps => Value::from(r#"[{"ip_address":"192.0.2.1"}]"#),
        Shape::BindingProfile => Value::from(r#"{"tunneling_ip":"192.0.2.1"}"#),
        Shape::UpdatedAt => Value::Integer(i64::from(number)),
        Shape::Id
        | Shape::Reference(..)
        | Shape::Mirror(_)
        | Shape::Constant(_)
        | Shape::Status
        | Shape::StatusReason
        | Shape::Revision
        | Shape::CreatedAt => Value::Null,
    }
}

/// A row of this kind and, before it, one row of each kind it refers to.
pub(crate) fn family(kind: Kind) -> Vec<Row> {
    let mut parents: Vec<Row> = Vec::new();
    let child = row(kind, 1, |target| {
        let known = parents.iter().find(|parent| parent.resource.kind == target);
        if let Some(known) = known {
            return Value::Uuid(known.id());
        }
        // Parents that are known already serve as grandparents too: a mesh, as in life.
        let mut ancestors = family(target);
        for ancestor in &mut ancestors {
            for attribute in ancestor.resource.attributes {
                if let Shape::Reference(target, _) = attribute.shape
                    && let Some(known) = parents.iter().find(|p| p.resource.kind == target)
                {
                    let id = known.id();
                    ancestor.set(attribute.name, Value::Uuid(id));
                }
            }
        }
        ancestors.retain(|a| parents.iter().all(|p| p.resource.kind != a.resource.kind));
        parents.extend(ancestors);
        Value::Uuid(parents.last().unwrap().id())
    });
    parents.push(child);
    parents
}

/// A remote gateway, the resource with the fewest ties.
pub(crate) fn remote_gateway(name: &str) -> Row {
    let mut row = row(Kind::L2RemoteGateway, 1, |_| Value::Null);
    row.set("name", Value::from(name));
    row
}

/// What a query answers.
pub(crate) fn select(snapshot: &mut dyn Snapshot, query: &Query) -> Vec<Row> {
    let mut rows = Vec::new();
    snapshot
        .select(query, &mut |row| {
            rows.push(row.clone());
            ControlFlow::Continue(())
        })
        .unwrap();
    rows
}

/// All rows of a kind.
pub(crate) async fn all(store: &Store, kind: Kind) -> Vec<Row> {
    let rows = store.read(move |snapshot| Ok(select(snapshot, &Query::all(kind))));
    rows.await.unwrap()
}

/// The names of all remote gateways.
pub(crate) async fn names(store: &Store) -> Vec<String> {
    let rows = all(store, Kind::L2RemoteGateway).await;
    rows.iter().map(|row| row.text("name").to_owned()).collect()
}

/// Adds rows.
pub(crate) async fn insert(store: &Store, mut rows: Vec<Row>) {
    let inserted = store.write(move |transaction| transaction.insert(&mut rows));
    inserted.await.unwrap();
}

/// Rows as what is compared: kind, id, values, revision.
pub(crate) fn plain(rows: &[Row]) -> Vec<(Kind, Vec<Value>, u64)> {
    let plain = |row: &Row| (row.resource.kind, row.values.clone(), row.revision);
    rows.iter().map(plain).collect()
}
