//! Values as OVSDB writes them (RFC 7047 section 5.1): atoms, sets, maps and rows.
//!
//! This is the direction towards the server. What the server sends is decoded by [`crate::column`] into plain types.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr};

use serde::ser::{Serialize, SerializeMap, SerializeTuple, Serializer};
use uuid::Uuid;

/// The name of a table or column, or a text that is usually known at compile time.
pub type Name = Cow<'static, str>;

/// One indivisible value: `<atom>`.
#[derive(Clone, Debug, PartialEq)]
pub enum Atom {
    /// An integer; the server's range is that of `i64`.
    Integer(i64),
    /// A real number.
    Real(f64),
    /// A boolean.
    Boolean(bool),
    /// A string.
    String(Name),
    /// A reference to a row that exists: `["uuid", U]`.
    Uuid(Uuid),
    /// A reference to a row that the same transaction inserts: `["named-uuid", NAME]`.
    NamedUuid(Name),
}

/// The value of one column: `<value>`.
#[derive(Clone, Debug, PartialEq)]
pub enum Datum {
    /// Exactly one atom.
    Atom(Atom),
    /// Any number of atoms, in no order, each once.
    Set(Vec<Atom>),
    /// Atoms by atom, each key once.
    Map(Vec<(Atom, Atom)>),
}

impl Datum {
    /// A set of the given atoms.
    pub fn set<T: Into<Atom>>(atoms: impl IntoIterator<Item = T>) -> Self {
        Self::Set(atoms.into_iter().map(Into::into).collect())
    }

    /// A map of the given pairs.
    pub fn map<K: Into<Atom>, V: Into<Atom>>(pairs: impl IntoIterator<Item = (K, V)>) -> Self {
        Self::Map(
            pairs
                .into_iter()
                .map(|(key, value)| (key.into(), value.into()))
                .collect(),
        )
    }

    /// The value of a column that holds at most one atom.
    pub fn optional<T: Into<Atom>>(atom: Option<T>) -> Self {
        atom.map_or_else(|| Self::Set(Vec::new()), |atom| Self::Atom(atom.into()))
    }
}

macro_rules! atom_from {
    ($($from:ty => |$value:ident| $atom:expr),+ $(,)?) => {$(
        impl From<$from> for Atom {
            fn from($value: $from) -> Self {
                $atom
            }
        }
        impl From<$from> for Datum {
            fn from(value: $from) -> Self {
                Self::Atom(value.into())
            }
        }
    )+};
}

atom_from! {
    i64 => |value| Atom::Integer(value),
    u32 => |value| Atom::Integer(value.into()),
    u16 => |value| Atom::Integer(value.into()),
    f64 => |value| Atom::Real(value),
    bool => |value| Atom::Boolean(value),
    String => |value| Atom::String(Cow::Owned(value)),
    &'static str => |value| Atom::String(Cow::Borrowed(value)),
    Uuid => |value| Atom::Uuid(value),
    IpAddr => |value| Atom::String(Cow::Owned(value.to_string())),
    Ipv4Addr => |value| Atom::String(Cow::Owned(value.to_string())),
}

impl From<Atom> for Datum {
    fn from(atom: Atom) -> Self {
        Self::Atom(atom)
    }
}

impl Serialize for Atom {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Integer(value) => serializer.serialize_i64(*value),
            Self::Real(value) => serializer.serialize_f64(*value),
            Self::Boolean(value) => serializer.serialize_bool(*value),
            Self::String(value) => serializer.serialize_str(value),
            Self::Uuid(uuid) => tagged(serializer, "uuid", uuid),
            Self::NamedUuid(name) => tagged(serializer, "named-uuid", name),
        }
    }
}

impl Serialize for Datum {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Atom(atom) => atom.serialize(serializer),
            Self::Set(atoms) => tagged(serializer, "set", atoms),
            Self::Map(pairs) => tagged(serializer, "map", pairs),
        }
    }
}

fn tagged<S: Serializer, T: Serialize>(
    serializer: S,
    tag: &'static str,
    value: &T,
) -> Result<S::Ok, S::Error> {
    let mut pair = serializer.serialize_tuple(2)?;
    pair.serialize_element(tag)?;
    pair.serialize_element(value)?;
    pair.end()
}

/// Some columns of a row: `<row>`. Columns that are not named keep their value, or their default in an insert.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Row(Vec<(Name, Datum)>);

impl Row {
    /// A row that names no column.
    pub fn new() -> Self {
        Self::default()
    }

    /// This row with `column` set to `value`. Each column may be given once.
    #[must_use]
    pub fn with(mut self, column: impl Into<Name>, value: impl Into<Datum>) -> Self {
        self.0.push((column.into(), value.into()));
        self
    }

    /// Whether the row names no column.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for Row {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (column, value) in &self.0 {
            map.serialize_entry(column, value)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_written_as_rfc_7047_section_5_1_says() {
        let uuid = Uuid::from_u128(1);
        let row = Row::new()
            .with("i", 7i64)
            .with("s", "x\"{")
            .with("none", Datum::optional(None::<i64>))
            .with("set", Datum::set([uuid]))
            .with("map", Datum::map([(100i64, Atom::NamedUuid("ls".into()))]));
        assert_eq!(
            serde_json::to_string(&row).unwrap(),
            r#"{"i":7,"s":"x\"{","none":["set",[]],"set":["set",[["uuid","00000000-0000-0000-0000-000000000001"]]],"map":["map",[[100,["named-uuid","ls"]]]]}"#
        );
    }
}
