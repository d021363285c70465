//! Rows to the JSON of answers, straight into bytes.
//!
//! A list of 100,000 rows passes through here, so nothing is built that is only thrown away: no tree of values, no text
//! per attribute. What never changes from row to row (keys, constants) is prepared once in a [`Projection`].

use std::io::Write;

use jiff::Timestamp;

use crate::resource::{Resource, Shape};
use crate::row::{Row, Value};
use crate::status::Report;

/// Which attributes of a resource are written, and how.
#[derive(Debug)]
pub struct Projection {
    columns: Vec<Column>,
}

/// One attribute of an answer.
#[derive(Debug)]
struct Column {
    /// `"name":`, with the comma before it unless it is the first.
    key: Vec<u8>,
    source: Source,
}

#[derive(Clone, Copy, Debug)]
enum Source {
    /// The value at this place of the row.
    Value(usize),
    /// The value at this place of the row is JSON text.
    Json(usize),
    /// A VLAN at this place of the row.
    Vlan(usize),
    /// Always this JSON text.
    Constant(&'static str),
    Status,
    StatusReason,
    Revision,
    CreatedAt,
    /// Seconds at this place of the row.
    UpdatedAt(usize),
}

impl Projection {
    /// Everything that clients see.
    pub fn all(resource: &'static Resource) -> Self {
        Self::by(resource, |_| true)
    }

    /// Only these attributes; names that the resource does not have are ignored. Without any names: everything.
    pub fn of<S: AsRef<str>>(resource: &'static Resource, fields: &[S]) -> Self {
        Self::by(resource, |name| {
            fields.is_empty() || fields.iter().any(|field| field.as_ref() == name)
        })
    }

    /// What was asked for, each attribute once: nothing that follows the switches, no second names.
    pub fn of_record(resource: &'static Resource) -> Self {
        Self::by(resource, |name| {
            let shape = resource.attribute(name).map(|attribute| attribute.shape);
            !matches!(
                shape,
                Some(Shape::Mirror(_) | Shape::Constant(_) | Shape::Status | Shape::StatusReason)
            )
        })
    }

    fn by(resource: &'static Resource, wanted: impl Fn(&str) -> bool) -> Self {
        let mut columns: Vec<Column> = Vec::new();
        for (place, attribute) in resource.attributes.iter().enumerate() {
            if !attribute.visible || !wanted(attribute.name) {
                continue;
            }
            let (shape, place) = match attribute.shape {
                Shape::Mirror(of) => {
                    let target = resource.attribute(of).zip(resource.position(of));
                    target.map_or((attribute.shape, place), |(a, place)| (a.shape, place))
                }
                shape => (shape, place),
            };
            let source = match shape {
                Shape::Constant(json) => Source::Constant(json),
                Shape::Status => Source::Status,
                Shape::StatusReason => Source::StatusReason,
                Shape::Revision => Source::Revision,
                Shape::CreatedAt => Source::CreatedAt,
                Shape::UpdatedAt => Source::UpdatedAt(place),
                Shape::Devices | Shape::Segments | Shape::FixedIps | Shape::BindingProfile => {
                    Source::Json(place)
                }
                Shape::VlanText => Source::Vlan(place),
                _ => Source::Value(place),
            };
            let comma = if columns.is_empty() { "" } else { "," };
            columns.push(Column {
                key: format!("{comma}\"{}\":", attribute.name).into_bytes(),
                source,
            });
        }
        Self { columns }
    }

    /// Appends the row as a JSON object. `report` is asked at most once, and only if the status is part of the answer.
    pub fn write(&self, out: &mut Vec<u8>, row: &Row, report: &dyn Fn(&Row) -> Report) {
        let mut reported = None;
        let at = |place| row.values.get(place).unwrap_or(&Value::Null);
        out.push(b'{');
        for column in &self.columns {
            out.extend_from_slice(&column.key);
            match column.source {
                Source::Value(place) => write_value(out, at(place)),
                Source::Json(place) => match at(place) {
                    Value::Text(json) => out.extend_from_slice(json.as_bytes()),
                    _ => out.extend_from_slice(b"null"),
                },
                Source::Vlan(place) => match at(place) {
                    Value::Null | Value::Integer(0) => out.extend_from_slice(b"\"\""),
                    value => write_value(out, value),
                },
                Source::Constant(json) => out.extend_from_slice(json.as_bytes()),
                Source::Status => {
                    let report = reported.get_or_insert_with(|| report(row));
                    write_text(out, report.status.as_str());
                }
                Source::StatusReason => match &reported.get_or_insert_with(|| report(row)).reason {
                    Some(reason) => write_text(out, reason),
                    None => out.extend_from_slice(b"null"),
                },
                Source::Revision => display(out, &row.revision),
                Source::CreatedAt => write_time(out, row.created_at()),
                Source::UpdatedAt(place) => match at(place) {
                    Value::Integer(seconds) => write_time(out, Some(*seconds)),
                    _ => write_time(out, row.created_at()),
                },
            }
        }
        out.push(b'}');
    }
}

/// Appends text as a JSON string.
pub fn write_text(out: &mut Vec<u8>, text: &str) {
    // Writing into memory cannot fail, and every text has a JSON form.
    let _: serde_json::Result<()> = serde_json::to_writer(out, text);
}

fn write_value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Text(text) => write_text(out, text),
        Value::Integer(number) => display(out, number),
        Value::Uuid(id) => {
            let mut buffer = uuid::Uuid::encode_buffer();
            quoted(out, id.hyphenated().encode_lower(&mut buffer));
        }
        Value::Mac(mac) => quoted(out, mac.encode(&mut [0; 17])),
        Value::Ip(ip) => {
            out.push(b'"');
            display(out, ip);
            out.push(b'"');
        }
    }
}

/// A time as Neutron writes it, `2026-01-31T12:00:00Z`.
fn write_time(out: &mut Vec<u8>, seconds: Option<i64>) {
    match seconds.and_then(|seconds| Timestamp::from_second(seconds).ok()) {
        Some(time) => {
            out.push(b'"');
            display(out, &time);
            out.push(b'"');
        }
        None => out.extend_from_slice(b"null"),
    }
}

/// Text that needs no escapes.
fn quoted(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    out.extend_from_slice(text.as_bytes());
    out.push(b'"');
}

fn display(out: &mut Vec<u8>, value: &impl std::fmt::Display) {
    // Writing into memory cannot fail.
    let _: std::io::Result<()> = write!(out, "{value}");
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use serde_json::{Value as Json, json};
    use uuid::Uuid;

    use super::*;
    use crate::resource::Kind;
    use crate::status::Status;

    const ID: u128 = (1_769_860_800_000 << 80) | (7 << 76) | (2 << 62) | 1;

    fn mac_row() -> Row {
        let mut row = Row::empty(Kind::L2RemoteMac);
        // 2026-01-31T12:00:00Z in milliseconds, as a UUID of version 7 begins.
        row.set("id", Value::Uuid(Uuid::from_u128(ID)));
        row.revision = 9;
        row.set(
            "mac",
            Value::Mac(crate::value::MacAddress::from_u64(0x0011_22aa_bbcc)),
        );
        row.set("ipaddr", Value::Ip("2001:db8::1".parse().unwrap()));
        row.set("rgw_connection", Value::Uuid(Uuid::from_u128(2)));
        row.set("tenant_id", "p\"1".into());
        row.set("attachment_id", Value::Uuid(Uuid::from_u128(3)));
        row
    }

    fn written(projection: &Projection, row: &Row, report: &dyn Fn(&Row) -> Report) -> Json {
        let mut out = Vec::new();
        projection.write(&mut out, row, report);
        serde_json::from_slice(&out).unwrap()
    }

    #[test]
    fn a_row_is_written_in_wire_form_with_mirrors_and_without_internals() {
        let row = mac_row();
        let down = |_: &Row| Report::because(Status::Down, "switch \"tor\" is away");
        assert_eq!(
            written(&Projection::all(row.resource), &row, &down),
            json!({
                "id": Uuid::from_u128(ID),
                "uuid": Uuid::from_u128(ID),
                "mac": "00:11:22:aa:bb:cc",
                "ipaddr": "2001:db8::1",
                "rgw_connection": "00000000-0000-0000-0000-000000000002",
                "status": "DOWN",
                "status_reason": "switch \"tor\" is away",
                "tenant_id": "p\"1",
                "project_id": "p\"1",
                "revision_number": 9,
                "created_at": "2026-01-31T12:00:00Z",
                "updated_at": "2026-01-31T12:00:00Z",
            })
        );
    }

    #[test]
    fn the_status_is_asked_for_once_and_only_if_wanted() {
        let row = mac_row();
        let asked = Cell::new(0);
        let report = |_: &Row| {
            asked.set(asked.get() + 1);
            Report::ACTIVE
        };
        let some = Projection::of(row.resource, &["mac", "uuid", "bogus"]);
        assert_eq!(
            written(&some, &row, &report),
            json!({"uuid": Uuid::from_u128(ID), "mac": "00:11:22:aa:bb:cc"})
        );
        assert_eq!(asked.get(), 0);
        let all = written(&Projection::all(row.resource), &row, &report);
        assert_eq!(
            (&all["status"], &all["status_reason"]),
            (&json!("ACTIVE"), &Json::Null)
        );
        assert_eq!(asked.get(), 1);
    }

    #[test]
    fn fields_that_do_not_exist_leave_an_empty_object() {
        let row = mac_row();
        let none = Projection::of(row.resource, &["bogus", "attachment_id"]);
        assert_eq!(written(&none, &row, &|_| Report::ACTIVE), json!({}));
    }

    #[test]
    fn a_vlan_is_a_number_or_an_empty_text() {
        let vlan = |value| {
            let mut row = Row::empty(Kind::L2GatewayConnection);
            row.set("segmentation_id", value);
            let only = Projection::of(row.resource, &["segmentation_id"]);
            written(&only, &row, &|_| Report::ACTIVE)["segmentation_id"].clone()
        };
        assert_eq!(vlan(Value::Integer(77)), json!(77));
        assert_eq!(vlan(Value::Integer(0)), json!(""));
        assert_eq!(vlan(Value::Null), json!(""));
    }

    #[test]
    fn structured_values_and_constants_are_json() {
        let mut row = Row::empty(Kind::Port);
        row.set("fixed_ips", r#"[{"ip_address":"192.0.2.1"}]"#.into());
        let some = Projection::of(row.resource, &["fixed_ips", "binding:profile", "status"]);
        assert_eq!(
            written(&some, &row, &|_| Report::ACTIVE),
            json!({"fixed_ips": [{"ip_address": "192.0.2.1"}], "binding:profile": null, "status": "ACTIVE"})
        );
    }
}
