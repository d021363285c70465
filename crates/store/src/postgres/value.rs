//! Values on the wire: `int8` big-endian, `text` as UTF-8, `uuid` and `bytea` as they are.

use std::error::Error;

use bytes::{BufMut, BytesMut};
use model::fault::Fault;
use model::resource::{Shape, Storage};
use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

use crate::value::{Bound, Cell, Cells};

/// The type of a column of this shape, as [`crate::schema::Dialect::POSTGRES`] makes it.
pub(super) fn column_type(shape: Shape) -> Type {
    match shape.storage() {
        Some(Storage::Integer) => Type::INT8,
        Some(Storage::Text) => Type::TEXT,
        Some(Storage::Uuid) => Type::UUID,
        Some(Storage::Ip) | None => Type::BYTEA,
    }
}

fn is_ours(column: &Type) -> bool {
    [Type::INT8, Type::TEXT, Type::UUID, Type::BYTEA].contains(column)
}

impl ToSql for Bound<'_> {
    fn to_sql(
        &self,
        _column: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        match self {
            Self::Null => return Ok(IsNull::Yes),
            Self::Integer(number) => out.put_i64(*number),
            Self::Text(text) => out.put_slice(text.as_bytes()),
            Self::Bytes4(bytes) => out.put_slice(bytes),
            Self::Bytes16(bytes) => out.put_slice(bytes),
        }
        Ok(IsNull::No)
    }

    fn accepts(column: &Type) -> bool {
        is_ours(column)
    }

    to_sql_checked!();
}

impl<'r> FromSql<'r> for Cell<'r> {
    fn from_sql(column: &Type, raw: &'r [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(match *column {
            Type::INT8 => Self::Integer(i64::from_be_bytes(raw.try_into()?)),
            Type::TEXT => Self::Text(std::str::from_utf8(raw)?),
            _ => Self::Bytes(raw),
        })
    }

    fn from_sql_null(_column: &Type) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self::Null)
    }

    fn accepts(column: &Type) -> bool {
        is_ours(column)
    }
}

impl Cells for Row {
    fn cell(&self, place: usize) -> Result<Cell<'_>, Fault> {
        self.try_get(place).map_err(Fault::internal)
    }
}
