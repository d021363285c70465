//! Columns as the server sends them, decoded straight into plain Rust types.
//!
//! A row type of a schema crate derives `Deserialize` with these as fields: [`Set`], [`Map`], [`Optional`],
//! [`Parsed`] and [`Reference`]; columns with exactly one integer, boolean or string are `i64`, `bool` and `String`.
//!
//! Monitor updates in Open vSwitch's `<table-updates2>` notation (ovsdb-server(7), "Monitor_cond") send *differences*
//! of columns that hold more than one value: [`Set::apply`] and [`Map::apply`] add them up. A new row is its
//! difference from an empty one.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use serde::de::{self, Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use uuid::Uuid;

/// A type that one atom can be decoded into.
pub trait FromAtom: Sized {
    /// What is expected, for error messages.
    const EXPECTED: &'static str;

    /// Converts the atom; `None` when it is of another type.
    fn from_atom(atom: AtomRef<'_>) -> Option<Self>;
}

/// One atom as it stands in the message.
#[derive(Clone, Copy, Debug)]
pub enum AtomRef<'a> {
    /// An integer.
    Integer(i64),
    /// A real number.
    Real(f64),
    /// A boolean.
    Boolean(bool),
    /// A string.
    String(&'a str),
    /// A reference to a row.
    Uuid(Uuid),
}

macro_rules! from_atom {
    ($($type:ty, $expected:literal, $pattern:pat => $value:expr;)+) => {$(
        impl FromAtom for $type {
            const EXPECTED: &'static str = $expected;

            fn from_atom(atom: AtomRef<'_>) -> Option<Self> {
                match atom {
                    $pattern => Some($value),
                    _ => None,
                }
            }
        }
    )+};
}

from_atom! {
    i64, "an integer", AtomRef::Integer(value) => value;
    bool, "a boolean", AtomRef::Boolean(value) => value;
    String, "a string", AtomRef::String(value) => value.to_owned();
    Uuid, "a row reference", AtomRef::Uuid(value) => value;
}

impl FromAtom for f64 {
    const EXPECTED: &'static str = "a real number";

    fn from_atom(atom: AtomRef<'_>) -> Option<Self> {
        match atom {
            AtomRef::Real(value) => Some(value),
            // JSON does not tell 1 from 1.0, and the server writes the shorter one.
            #[expect(
                clippy::cast_precision_loss,
                reason = "the column is a double on the server, too"
            )]
            AtomRef::Integer(value) => Some(value as f64),
            _ => None,
        }
    }
}

/// A column of any number of atoms. The order means nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set<T>(pub Vec<T>);

/// A column of atoms by atom. The order means nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Map<K, V>(pub Vec<(K, V)>);

/// A column of at most one atom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Optional<T>(pub Option<T>);

/// A column of exactly one string, read as what it stands for; `None` where it stands for no such thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parsed<T>(pub Option<T>);

/// A column of exactly one row reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reference(pub Uuid);

impl<T> Default for Set<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<K, V> Default for Map<K, V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Default for Optional<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: PartialEq> Set<T> {
    /// Adds up a difference: elements in one of the two sets stay, elements in both go.
    pub fn apply(&mut self, difference: Self) {
        if self.0.is_empty() {
            self.0 = difference.0;
            return;
        }
        for element in difference.0 {
            match self.0.iter().position(|known| *known == element) {
                Some(position) => drop(self.0.swap_remove(position)),
                None => self.0.push(element),
            }
        }
    }
}

impl<K: PartialEq, V: PartialEq> Map<K, V> {
    /// Adds up a difference: a pair that is known goes, a known key with another value takes that value, an unknown
    /// key comes in.
    pub fn apply(&mut self, difference: Self) {
        if self.0.is_empty() {
            self.0 = difference.0;
            return;
        }
        for (key, value) in difference.0 {
            match self.0.iter().position(|(known, _)| *known == key) {
                Some(position) => match self.0.get_mut(position) {
                    Some(pair) if pair.1 != value => pair.1 = value,
                    _ => drop(self.0.swap_remove(position)),
                },
                None => self.0.push((key, value)),
            }
        }
    }
}

impl<K: PartialEq, V> Map<K, V> {
    /// The value of `key`.
    pub fn get<Q: ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: PartialEq<Q>,
    {
        self.0
            .iter()
            .find(|(known, _)| known == key)
            .map(|(_, value)| value)
    }
}

impl<'de, T: FromAtom> Deserialize<'de> for Set<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_any(SetVisitor(PhantomData))
            .map(Self)
    }
}

impl<'de, T: FromAtom> Deserialize<'de> for Optional<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut atoms = deserializer.deserialize_any(SetVisitor(PhantomData))?;
        match atoms.len() {
            0 | 1 => Ok(Self(atoms.pop())),
            more => Err(de::Error::invalid_length(more, &"at most one atom")),
        }
    }
}

impl<'de, T: FromStr> Deserialize<'de> for Parsed<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ParsedVisitor<T>(PhantomData<T>);

        impl<T: FromStr> Visitor<'_> for ParsedVisitor<T> {
            type Value = Option<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(text.parse().ok())
            }
        }

        deserializer
            .deserialize_str(ParsedVisitor(PhantomData))
            .map(Self)
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_any(AtomVisitor(PhantomData))
            .map(Self)
    }
}

impl<'de, K: FromAtom, V: FromAtom> Deserialize<'de> for Map<K, V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MapVisitor<K, V>(PhantomData<(K, V)>);

        impl<'de, K: FromAtom, V: FromAtom> Visitor<'de> for MapVisitor<K, V> {
            type Value = Vec<(K, V)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a map, [\"map\", [...]]")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                match seq.next_element::<Tag>()? {
                    Some(Tag::Map) => {}
                    _ => return Err(de::Error::custom("expected a map, [\"map\", [...]]")),
                }
                let pairs: Vec<(One<K>, One<V>)> = element(&mut seq)?;
                end(&mut seq)?;
                Ok(pairs
                    .into_iter()
                    .map(|(key, value)| (key.0, value.0))
                    .collect())
            }
        }

        deserializer
            .deserialize_seq(MapVisitor(PhantomData))
            .map(Self)
    }
}

/// Exactly one atom.
struct One<T>(T);

impl<'de, T: FromAtom> Deserialize<'de> for One<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_any(AtomVisitor(PhantomData))
            .map(Self)
    }
}

/// The first element of every array in a value.
enum Tag {
    Uuid,
    Set,
    Map,
}

impl<'de> Deserialize<'de> for Tag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TagVisitor;

        impl Visitor<'_> for TagVisitor {
            type Value = Tag;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"uuid\", \"set\" or \"map\"")
            }

            fn visit_str<E: de::Error>(self, tag: &str) -> Result<Tag, E> {
                match tag {
                    // A named-uuid is never sent by a server: it knows the row's uuid.
                    "uuid" => Ok(Tag::Uuid),
                    "set" => Ok(Tag::Set),
                    "map" => Ok(Tag::Map),
                    _ => Err(E::invalid_value(de::Unexpected::Str(tag), &self)),
                }
            }
        }

        deserializer.deserialize_str(TagVisitor)
    }
}

fn element<'de, T: Deserialize<'de>, A: SeqAccess<'de>>(seq: &mut A) -> Result<T, A::Error> {
    seq.next_element()?
        .ok_or_else(|| de::Error::invalid_length(1, &"a pair of tag and value"))
}

fn end<'de, A: SeqAccess<'de>>(seq: &mut A) -> Result<(), A::Error> {
    match seq.next_element::<IgnoredAny>()? {
        None => Ok(()),
        Some(_) => Err(de::Error::invalid_length(3, &"a pair of tag and value")),
    }
}

fn convert<T: FromAtom, E: de::Error>(atom: AtomRef<'_>) -> Result<T, E> {
    T::from_atom(atom)
        .ok_or_else(|| E::custom(format_args!("expected {}, found {atom:?}", T::EXPECTED)))
}

/// The scalar half that both visitors below share.
macro_rules! visit_scalars {
    ($wrap:expr) => {
        fn visit_bool<E: de::Error>(self, value: bool) -> Result<Self::Value, E> {
            convert(AtomRef::Boolean(value)).map($wrap)
        }

        fn visit_i64<E: de::Error>(self, value: i64) -> Result<Self::Value, E> {
            convert(AtomRef::Integer(value)).map($wrap)
        }

        fn visit_u64<E: de::Error>(self, value: u64) -> Result<Self::Value, E> {
            let value = i64::try_from(value).map_err(|_| {
                E::invalid_value(de::Unexpected::Unsigned(value), &"a 64 bit signed integer")
            })?;
            convert(AtomRef::Integer(value)).map($wrap)
        }

        fn visit_f64<E: de::Error>(self, value: f64) -> Result<Self::Value, E> {
            convert(AtomRef::Real(value)).map($wrap)
        }

        fn visit_str<E: de::Error>(self, value: &str) -> Result<Self::Value, E> {
            convert(AtomRef::String(value)).map($wrap)
        }

        // Open vSwitch writes {} for nothing in no place that we read; reject it with the types we expect.
        fn visit_map<A: MapAccess<'de>>(self, _: A) -> Result<Self::Value, A::Error> {
            Err(de::Error::invalid_type(de::Unexpected::Map, &self))
        }
    };
}

struct AtomVisitor<T>(PhantomData<T>);

impl<'de, T: FromAtom> Visitor<'de> for AtomVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::EXPECTED)
    }

    visit_scalars!(|atom| atom);

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<T, A::Error> {
        match seq.next_element::<Tag>()? {
            Some(Tag::Uuid) => {
                let uuid = element(&mut seq)?;
                end(&mut seq)?;
                convert(AtomRef::Uuid(uuid))
            }
            _ => Err(de::Error::custom(format_args!("expected {}", T::EXPECTED))),
        }
    }
}

/// A set in either notation: `["set", [...]]`, or the bare atom where there is exactly one.
struct SetVisitor<T>(PhantomData<T>);

impl<'de, T: FromAtom> Visitor<'de> for SetVisitor<T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} or a set of them", T::EXPECTED)
    }

    visit_scalars!(|atom| vec![atom]);

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<T>, A::Error> {
        let atoms = match seq.next_element::<Tag>()? {
            Some(Tag::Uuid) => vec![convert(AtomRef::Uuid(element(&mut seq)?))?],
            Some(Tag::Set) => element::<Vec<One<T>>, A>(&mut seq)?
                .into_iter()
                .map(|one| one.0)
                .collect(),
            _ => {
                return Err(de::Error::custom(format_args!(
                    "expected {} or a set of them",
                    T::EXPECTED
                )));
            }
        };
        end(&mut seq)?;
        Ok(atoms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = r#"["uuid","00000000-0000-0000-0000-000000000001"]"#;

    fn decode<'de, T: Deserialize<'de>>(text: &'de str) -> Result<T, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn a_set_of_one_is_written_bare_or_as_a_set() {
        let bare: Set<Uuid> = decode(ONE).unwrap();
        let wrapped: Set<Uuid> = decode(&format!("[\"set\", [{ONE}]]")).unwrap();
        assert_eq!(bare, wrapped);
        assert_eq!(decode::<Set<String>>(r#""\u00e9{""#).unwrap().0, ["é{"]);
        assert_eq!(decode::<Set<i64>>(r#"["set",[1,-2]]"#).unwrap().0, [1, -2]);
        assert_eq!(decode::<Optional<i64>>(r#"["set",[]]"#).unwrap().0, None);
        assert_eq!(decode::<Optional<i64>>("456").unwrap().0, Some(456));
        assert_eq!(decode::<Reference>(ONE).unwrap().0, Uuid::from_u128(1));
        assert_eq!(decode::<Set<f64>>("1").unwrap().0, [1.0]);
        assert_eq!(decode::<Parsed<u8>>("\"7\"").unwrap().0, Some(7));
        assert_eq!(decode::<Parsed<u8>>("\"x\\\"\"").unwrap().0, None);
        assert!(decode::<Parsed<u8>>("7").is_err());
        assert_eq!(
            decode::<Map<i64, Uuid>>(&format!("[\"map\",[[100,{ONE}]]]"))
                .unwrap()
                .get(&100),
            Some(&Uuid::from_u128(1))
        );
    }

    #[test]
    fn wrong_types_are_errors_that_name_both() {
        assert!(
            decode::<Optional<i64>>("\"456\"")
                .unwrap_err()
                .contains("expected an integer")
        );
        assert!(
            decode::<Reference>("7")
                .unwrap_err()
                .contains("expected a row reference")
        );
        assert!(
            decode::<Optional<i64>>(r#"["set",[1,2]]"#)
                .unwrap_err()
                .contains("at most one")
        );
        assert!(decode::<Set<i64>>(r#"["set",[1],2]"#).is_err());
        assert!(
            decode::<Map<i64, i64>>(r#"["set",[1]]"#)
                .unwrap_err()
                .contains("expected a map")
        );
        assert!(decode::<Set<i64>>("{}").is_err());
    }

    #[test]
    fn differences_add_up() {
        let mut set = Set(vec![1, 2, 3]);
        set.apply(Set(vec![2, 4]));
        set.0.sort_unstable();
        assert_eq!(set.0, [1, 3, 4]);
        let mut map = Map(vec![("a", 1), ("b", 2)]);
        map.apply(Map(vec![("a", 1), ("b", 3), ("c", 4)]));
        map.0.sort_unstable();
        assert_eq!(map.0, [("b", 3), ("c", 4)]);
    }
}
