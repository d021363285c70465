//! The grammar of `--segment`: `network_type=TYPE[,segmentation_id=NUMBER][,physical_network=NAME]`.
//!
//! The keys are those of Neutron's extension multi-provider, with or without its prefix `provider:`.

use model::segments::{ATTRIBUTES, KEY, PREFIX};
use serde_json::{Map, Value};
use thiserror::Error;

/// A text that is no segment.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BadSegment {
    /// A piece between commas is no `key=value`.
    #[error("missing value for key '{0}'; repeat --segment for another segment")]
    NoValue(String),
    /// There is no such key.
    #[error(
        "unknown key '{0}'; the keys are 'network_type', 'segmentation_id' and 'physical_network'"
    )]
    UnknownKey(String),
    /// A key is there twice.
    #[error("key '{0}' is given twice; repeat --segment for another segment")]
    Repeated(&'static str),
}

/// Reads one segment into what the API takes. What its values must be is the server's to say.
///
/// # Errors
/// Says which part does not fit the grammar.
pub fn parse(text: &str) -> Result<Value, BadSegment> {
    let mut segment = Map::new();
    for piece in text.split(',') {
        let (key, value) = piece
            .split_once('=')
            .ok_or_else(|| BadSegment::NoValue(piece.to_owned()))?;
        let mut known = ATTRIBUTES.into_iter();
        let known = known.find(|known| *known == key || bare(known) == key);
        let known = known.ok_or_else(|| BadSegment::UnknownKey(key.to_owned()))?;
        let value = match value.parse::<i64>() {
            Ok(number) if known == KEY => number.into(),
            _ => Value::from(value),
        };
        if segment.insert(known.to_owned(), value).is_some() {
            return Err(BadSegment::Repeated(bare(known)));
        }
    }
    Ok(segment.into())
}

fn bare(attribute: &'static str) -> &'static str {
    attribute.strip_prefix(PREFIX).unwrap_or(attribute)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_read_with_neutrons_keys() {
        let segment = parse("network_type=vxlan,segmentation_id=5").unwrap();
        insta::assert_snapshot!(segment, @r#"{"provider:network_type":"vxlan","provider:segmentation_id":5}"#);
        let segment =
            parse("provider:network_type=vlan,provider:physical_network=7,segmentation_id=x")
                .unwrap();
        insta::assert_snapshot!(segment, @r#"{"provider:network_type":"vlan","provider:physical_network":"7","provider:segmentation_id":"x"}"#);
    }

    #[test]
    fn what_is_no_segment_is_told() {
        let refused = |text: &str| parse(text).unwrap_err().to_string();
        insta::assert_snapshot!(refused("vxlan"), @"missing value for key 'vxlan'; repeat --segment for another segment");
        insta::assert_snapshot!(refused("type=vxlan"), @"unknown key 'type'; the keys are 'network_type', 'segmentation_id' and 'physical_network'");
        insta::assert_snapshot!(refused("network_type=vxlan,provider:network_type=vlan"), @"key 'network_type' is given twice; repeat --segment for another segment");
    }
}
