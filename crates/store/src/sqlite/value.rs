//! Values as SQLite keeps them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use model::fault::Fault;
use model::resource::{Resource, Shape, Storage};
use model::row::{Row, Value};
use model::value::MacAddress;
use rusqlite::ToSql;
use rusqlite::types::{ToSqlOutput, ValueRef};
use uuid::Uuid;

use crate::schema::stored;

/// A value to bind to a statement, without an allocation.
#[derive(Clone, Copy, Debug)]
pub(super) enum Bound<'v> {
    Null,
    Integer(i64),
    Text(&'v str),
    Bytes4([u8; 4]),
    Bytes16([u8; 16]),
}

impl ToSql for Bound<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Integer(value) => ValueRef::Integer(*value),
            Self::Text(value) => ValueRef::Text(value.as_bytes()),
            Self::Bytes4(value) => ValueRef::Blob(value),
            Self::Bytes16(value) => ValueRef::Blob(value),
        }))
    }
}

impl From<Uuid> for Bound<'_> {
    fn from(id: Uuid) -> Self {
        Self::Bytes16(id.into_bytes())
    }
}

/// The value as an attribute of this shape keeps it; `None` if such an attribute cannot have it.
pub(super) fn encode(shape: Shape, value: &Value) -> Option<Bound<'_>> {
    Some(match (shape.storage()?, value) {
        (_, Value::Null) => Bound::Null,
        (Storage::Uuid, Value::Uuid(id)) => Bound::from(*id),
        (Storage::Ip, Value::Ip(IpAddr::V4(ip))) => Bound::Bytes4(ip.octets()),
        (Storage::Ip, Value::Ip(IpAddr::V6(ip))) => Bound::Bytes16(ip.octets()),
        (Storage::Text, Value::Text(text)) => Bound::Text(text),
        (Storage::Integer, value) => match (shape, value) {
            (Shape::Mac, Value::Mac(mac)) => Bound::Integer(mac.to_u64().cast_signed()),
            (Shape::Mac, _) => return None,
            (Shape::Bool, Value::Bool(truth)) => Bound::Integer(i64::from(*truth)),
            (Shape::Bool, _) => return None,
            (_, Value::Integer(number)) => Bound::Integer(*number),
            _ => return None,
        },
        _ => return None,
    })
}

/// Fills `row` from a result whose columns are `revision` and then the stored attributes, see
/// [`super::statement::columns`].
pub(super) fn decode(result: &rusqlite::Row<'_>, row: &mut Row) -> Result<(), Fault> {
    let column = |place| {
        result
            .get_ref(place)
            .map_err(|error| Fault::internal(format!("{}: {error}", row.resource.collection)))
    };
    row.revision = match column(0)? {
        ValueRef::Integer(revision) => revision.cast_unsigned(),
        _ => return Err(unreadable(row.resource, "revision")),
    };
    for (place, (position, attribute)) in stored(row.resource).enumerate() {
        let slot = row.values.get_mut(position);
        let slot = slot.ok_or_else(|| unreadable(row.resource, attribute.name))?;
        fill(slot, attribute.shape, column(place + 1)?)
            .ok_or_else(|| unreadable(row.resource, attribute.name))?;
    }
    Ok(())
}

fn unreadable(resource: &Resource, column: &str) -> Fault {
    Fault::internal(format!(
        "{}.{column} holds what an attribute of its shape never is",
        resource.collection
    ))
}

/// Sets `slot`; a text that it holds already is kept, which spares most allocations of a list (one tenant, one host).
fn fill(slot: &mut Value, shape: Shape, value: ValueRef<'_>) -> Option<()> {
    *slot = match (value, shape.storage()?) {
        (ValueRef::Null, _) => Value::Null,
        (ValueRef::Blob(bytes), Storage::Uuid) => Value::Uuid(Uuid::from_slice(bytes).ok()?),
        (ValueRef::Blob(bytes), Storage::Ip) => Value::Ip(match bytes.len() {
            4 => Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).into(),
            _ => Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into(),
        }),
        (ValueRef::Integer(number), Storage::Integer) => match shape {
            Shape::Mac => Value::Mac(MacAddress::from_u64(number.cast_unsigned())),
            Shape::Bool => Value::Bool(number != 0),
            _ => Value::Integer(number),
        },
        (ValueRef::Text(bytes), Storage::Text) => {
            let text = std::str::from_utf8(bytes).ok()?;
            if matches!(slot, Value::Text(held) if **held == *text) {
                return Some(());
            }
            Value::from(text)
        }
        _ => return None,
    };
    Some(())
}
