//! JSON in which no object has a key twice. RFC 8259 section 4 leaves open what such an object means; a client that sends
//! one is told, instead of being obeyed by half.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Number, Value};

/// Longest key that a message repeats, in characters.
const MAX_SHOWN: usize = 100;

/// The keys of an object, and the JSON below each, which is not looked at.
pub(super) struct Members<'a>(pub(super) BTreeMap<String, &'a RawValue>);

/// A value, all the way down.
pub(super) struct Once(pub(super) Value);

/// An object, all the way down.
pub(super) struct Object(pub(super) Map<String, Value>);

fn duplicate<E: Error>(key: &str) -> E {
    let shown: String = key.chars().take(MAX_SHOWN).collect();
    E::custom(format_args!("duplicate key '{shown}'"))
}

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys;
        impl<'de> Visitor<'de> for Keys {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = BTreeMap::new();
                while let Some(key) = map.next_key::<String>()? {
                    match members.entry(key) {
                        Entry::Vacant(place) => place.insert(map.next_value()?),
                        Entry::Occupied(first) => return Err(duplicate(first.key())),
                    };
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Keys)
    }
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_map(Values)
            .and_then(|value| match value {
                Once(Value::Object(object)) => Ok(Self(object)),
                _ => Err(D::Error::custom("an object was expected")),
            })
    }
}

impl<'de> Deserialize<'de> for Once {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Values)
    }
}

struct Values;

impl<'de> Visitor<'de> for Values {
    type Value = Once;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E>(self) -> Result<Once, E> {
        Ok(Once(Value::Null))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Once, E> {
        Ok(Once(Value::Bool(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Once, E> {
        Ok(Once(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Once, E> {
        Ok(Once(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Once, E> {
        Ok(Once(
            Number::from_f64(value).map_or(Value::Null, Value::Number),
        ))
    }

    fn visit_str<E>(self, value: &str) -> Result<Once, E> {
        Ok(Once(Value::String(value.to_owned())))
    }

    fn visit_string<E>(self, value: String) -> Result<Once, E> {
        Ok(Once(Value::String(value)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Once, A::Error> {
        let mut values = Vec::new();
        while let Some(Once(value)) = list.next_element()? {
            values.push(value);
        }
        Ok(Once(Value::Array(values)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Once, A::Error> {
        let mut object = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            if object.contains_key(&key) {
                return Err(duplicate(&key));
            }
            let Once(value) = map.next_value()?;
            object.insert(key, value);
        }
        Ok(Once(Value::Object(object)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_occurs_once_in_each_object() {
        for twice in [
            r#"{"a":1,"a":2}"#,
            r#"{"a":1,"\u0061":1}"#,
            r#"{"b":[{"a":1,"a":1}]}"#,
            r#"{"b":{"c":{"a":null,"a":null}}}"#,
        ] {
            let Err(refusal) = serde_json::from_str::<Object>(twice) else {
                panic!("{twice}");
            };
            assert!(
                refusal.to_string().contains("duplicate key 'a'"),
                "{refusal}"
            );
        }
        let same = r#"{"a":{"a":[{"a":1},{"a":1.5}]},"b":"\u00fc","c":-1,"d":true,"e":null}"#;
        let Object(object) = serde_json::from_str(same).unwrap();
        assert_eq!(
            Value::Object(object),
            serde_json::from_str::<Value>(same).unwrap()
        );
    }

    #[test]
    fn the_keys_of_a_body_occur_once() {
        assert!(serde_json::from_str::<Members<'_>>(r#"{"a":{},"a":{}}"#).is_err());
        let Members(members) = serde_json::from_str(r#"{"a":{"b":1,"b":2},"c":[]}"#).unwrap();
        assert_eq!(members["a"].get(), r#"{"b":1,"b":2}"#);
    }
}
