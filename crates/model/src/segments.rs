//! The segments of a network that has several (Neutron's extension multi-provider): a gateway can carry the one that is
//! VXLAN, if exactly one is.
//!
//! The JSON text of a list is the same on the wire and in the database:
//! `[{"provider:network_type":"vxlan","provider:physical_network":null,"provider:segmentation_id":5}]`.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::fault::{Fault, FaultKind};
use crate::resource::cut;
use crate::row;
use crate::validate::{self, Given};

/// The encapsulations that Neutron's networks have.
pub const NETWORK_TYPES: &[&str] = &["vxlan", "vlan", "flat", "local", "gre", "geneve"];

/// Longest name of an underlay, in characters (`neutron_lib.db.constants`: the column of network segments).
pub const MAX_PHYSICAL_NETWORK: usize = 64;

/// What all attributes of a segment begin with.
pub const PREFIX: &str = "provider:";

/// The attributes of a segment.
pub const ATTRIBUTES: [&str; 3] = [TYPE, KEY, UNDERLAY];

const TYPE: &str = "provider:network_type";
const UNDERLAY: &str = "provider:physical_network";
/// The one that is a number.
pub const KEY: &str = "provider:segmentation_id";

/// One segment of a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// One of [`NETWORK_TYPES`].
    #[serde(rename = "provider:network_type")]
    pub network_type: String,
    /// The underlay of a vlan or flat segment.
    #[serde(rename = "provider:physical_network")]
    pub physical_network: Option<String>,
    /// VXLAN network identifier or VLAN; none where nobody said.
    #[serde(rename = "provider:segmentation_id")]
    pub key: Option<i64>,
}

impl Segment {
    /// Whether a gateway could carry it.
    pub fn is_vxlan(&self) -> bool {
        self.network_type == "vxlan"
    }
}

/// Reads the list of a body.
///
/// # Errors
/// 400: it is none, a segment is none, or two are the same.
pub fn validate(value: &Value) -> Result<Vec<Segment>, Fault> {
    let invalid = |reason: String| Fault::invalid("segments", reason);
    let list = value.as_array().filter(|list| !list.is_empty());
    let list = list.ok_or_else(|| {
        let given = Given(value);
        invalid(format!("'{given}' is not a list of one or more segments"))
    })?;
    let mut segments: Vec<Segment> = Vec::with_capacity(list.len());
    for item in list {
        let segment = segment(item)?;
        if segment.key.is_some() && segments.contains(&segment) {
            return Err(Fault::new(
                FaultKind::SegmentsContainDuplicateEntry,
                "Duplicate segments in request.",
            ));
        }
        segments.push(segment);
    }
    Ok(segments)
}

fn segment(value: &Value) -> Result<Segment, Fault> {
    let invalid = |reason: String| Fault::invalid("segments", reason);
    let Value::Object(object) = value else {
        return Err(invalid(format!("'{}' is not a dictionary", Given(value))));
    };
    if let Some(unknown) = object
        .keys()
        .find(|key| !ATTRIBUTES.contains(&key.as_str()))
    {
        return Err(Fault::new(
            FaultKind::InvalidBody,
            format!("Unrecognized attribute(s) '{}'", cut(unknown)),
        ));
    }
    let given = |key| object.get(key).filter(|value| !value.is_null());
    let network_type = given(TYPE).ok_or_else(|| Fault::refused("network_type required"))?;
    let network_type = network_type
        .as_str()
        .filter(|word| NETWORK_TYPES.contains(word));
    let network_type = network_type.ok_or_else(|| {
        let given = object.get(TYPE).unwrap_or(&Value::Null);
        Fault::refused(format!(
            "network_type value '{}' not supported",
            Given(given)
        ))
    })?;
    let physical_network = match given(UNDERLAY) {
        None => None,
        Some(text) => match validate::text(UNDERLAY, text, MAX_PHYSICAL_NETWORK)? {
            row::Value::Text(text) => Some(text.into()),
            _ => None,
        },
    };
    let key = match given(KEY) {
        None => None,
        Some(number) => match validate::vni(KEY, number)? {
            row::Value::Integer(number) => Some(number),
            _ => None,
        },
    };
    Ok(Segment {
        network_type: network_type.to_owned(),
        physical_network,
        key,
    })
}

/// Reads a list that the database kept; none where the network has one segment.
///
/// # Errors
/// 500: the text is not what [`to_text`] wrote.
pub fn parse(text: &str) -> Result<Vec<Segment>, Fault> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    serde_json::from_str(text)
        .map_err(|error| Fault::internal(format!("segments {text:?}: {error}")))
}

/// The text that answers and the database hold.
///
/// # Errors
/// 500, never in practice: the types have a JSON form for every value.
pub fn to_text(segments: &[Segment]) -> Result<String, Fault> {
    serde_json::to_string(segments).map_err(Fault::internal)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn segments_come_in_as_neutrons_clients_write_them() {
        let list = validate(&json!([
            {TYPE: "vxlan", KEY: "5"}, {TYPE: "vlan", UNDERLAY: "physnet1", KEY: 7}, {TYPE: "vxlan"}, {TYPE: "vxlan"},
        ]));
        let list = list.unwrap();
        let keys: Vec<_> = list.iter().map(|segment| segment.key).collect();
        assert_eq!(keys, [Some(5), Some(7), None, None]);
        assert_eq!(list[1].physical_network.as_deref(), Some("physnet1"));
        assert_eq!(parse(&to_text(&list).unwrap()).unwrap(), list);
    }

    #[test]
    fn what_is_no_segment_is_told() {
        for (value, message) in [
            (
                json!([]),
                "Invalid input for segments. Reason: '[]' is not a list of one or more segments.",
            ),
            (
                json!({TYPE: "vxlan"}),
                "is not a list of one or more segments",
            ),
            (
                json!([5]),
                "Invalid input for segments. Reason: '5' is not a dictionary.",
            ),
            (
                json!([{KEY: 5}]),
                "Invalid input for operation: network_type required.",
            ),
            (
                json!([{TYPE: "ipsec"}]),
                "network_type value 'ipsec' not supported",
            ),
            (
                json!([{TYPE: "vxlan", "mtu": 1}]),
                "Unrecognized attribute(s) 'mtu'",
            ),
            (
                json!([{TYPE: "vxlan", KEY: 0}]),
                "Invalid input for provider:segmentation_id. Reason: '0' is too small",
            ),
            (
                json!([{TYPE: "vlan", UNDERLAY: 5}]),
                "'5' is not a valid string",
            ),
            (
                json!([{TYPE: "vxlan", KEY: 5}, {TYPE: "vxlan", KEY: "5"}]),
                "Duplicate segments in request.",
            ),
        ] {
            let fault = validate(&value).unwrap_err();
            assert_eq!(fault.kind.status(), 400);
            assert!(
                fault.message.contains(message),
                "{value}: {}",
                fault.message
            );
        }
    }
}
