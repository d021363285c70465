//! Values as databases keep them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use model::fault::Fault;
use model::resource::{Attribute, Resource, Shape, Storage};
use model::row::{Row, Value};
use model::value::MacAddress;
use uuid::Uuid;

use crate::references;
use crate::schema::stored;

/// A value to bind to a statement, without an allocation.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Bound<'v> {
    Null,
    Integer(i64),
    Text(&'v str),
    Bytes4([u8; 4]),
    Bytes16([u8; 16]),
}

impl From<Uuid> for Bound<'_> {
    fn from(id: Uuid) -> Self {
        Self::Bytes16(id.into_bytes())
    }
}

/// The value as an attribute of this shape keeps it; `None` if such an attribute cannot have it.
pub(crate) fn encode(shape: Shape, value: &Value) -> Option<Bound<'_>> {
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

/// A column of a row that a statement answers, without an allocation.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cell<'r> {
    Null,
    Integer(i64),
    Text(&'r str),
    Bytes(&'r [u8]),
}

/// A row that a statement answers.
pub(crate) trait Cells {
    /// The column at this place.
    ///
    /// # Errors
    /// There is none, or it is nothing that we keep.
    fn cell(&self, place: usize) -> Result<Cell<'_>, Fault>;
}

impl dyn Cells + '_ {
    /// The number at this place.
    pub(crate) fn integer(&self, place: usize) -> Result<i64, Fault> {
        match self.cell(place)? {
            Cell::Integer(number) => Ok(number),
            other => Err(Fault::internal(format!("{other:?} is no number"))),
        }
    }

    /// The text at this place.
    pub(crate) fn text(&self, place: usize) -> Result<&str, Fault> {
        match self.cell(place)? {
            Cell::Text(text) => Ok(text),
            other => Err(Fault::internal(format!("{other:?} is no text"))),
        }
    }

    /// The id at this place.
    pub(crate) fn uuid(&self, place: usize) -> Result<Uuid, Fault> {
        match self.cell(place)? {
            Cell::Bytes(bytes) => Uuid::from_slice(bytes).map_err(Fault::internal),
            other => Err(Fault::internal(format!("{other:?} is no id"))),
        }
    }
}

/// Fills `row` from a result whose columns are `revision` and then the stored attributes, see
/// [`crate::statement::columns`].
pub(crate) fn decode(result: &dyn Cells, row: &mut Row) -> Result<(), Fault> {
    row.revision = result.integer(0)?.cast_unsigned();
    for (place, (position, attribute)) in stored(row.resource).enumerate() {
        let slot = row.values.get_mut(position);
        let slot = slot.ok_or_else(|| unreadable(row.resource, attribute.name))?;
        fill(slot, attribute.shape, result.cell(place + 1)?)
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
fn fill(slot: &mut Value, shape: Shape, cell: Cell<'_>) -> Option<()> {
    *slot = match (cell, shape.storage()?) {
        (Cell::Null, _) => Value::Null,
        (Cell::Bytes(bytes), Storage::Uuid) => Value::Uuid(Uuid::from_slice(bytes).ok()?),
        (Cell::Bytes(bytes), Storage::Ip) => Value::Ip(match bytes.len() {
            4 => Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).into(),
            _ => Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into(),
        }),
        (Cell::Integer(number), Storage::Integer) => match shape {
            Shape::Mac => Value::Mac(MacAddress::from_u64(number.cast_unsigned())),
            Shape::Bool => Value::Bool(number != 0),
            _ => Value::Integer(number),
        },
        (Cell::Text(text), Storage::Text) => {
            if matches!(slot, Value::Text(held) if **held == *text) {
                return Some(());
            }
            Value::from(text)
        }
        _ => return None,
    };
    Some(())
}

/// The revision of a row and its values of these attributes, to bind.
pub(crate) fn bounds<'r>(
    row: &'r Row,
    attributes: impl Iterator<Item = (usize, &'static Attribute)>,
) -> Result<Vec<Bound<'r>>, Fault> {
    let mut bounds = vec![Bound::Integer(row.revision.cast_signed())];
    for (position, attribute) in attributes {
        let value = row.values.get(position).unwrap_or(&Value::Null);
        let bound = encode(attribute.shape, value);
        bounds.push(bound.ok_or_else(|| references::unfit(row.resource, attribute, value))?);
    }
    Ok(bounds)
}
