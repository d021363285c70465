//! The grammar of `--device`: `name=SWITCH,interface_names=INTERFACE[|VLAN[#VLAN…]][;INTERFACE…]`.
//!
//! It is networking-l2gw's. What its clients silently take for something else is refused here: a device without
//! interfaces (theirs took the device's before), a third `|`, unknown keys.

use serde_json::{Value, json};
use thiserror::Error;

/// A text that is no device.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BadDevice {
    /// A piece between commas is no `key=value`.
    #[error("missing value for key '{0}'; interfaces are separated by ';'")]
    NoValue(String),
    /// There is no such key.
    #[error("unknown key '{0}'; the keys are 'name' and 'interface_names'")]
    UnknownKey(String),
    /// A key is there twice.
    #[error("key '{0}' is given twice; repeat --device for another device")]
    Repeated(&'static str),
    /// A key is not there, or has no value.
    #[error("'{0}' is missing")]
    Missing(&'static str),
    /// Nothing between two `;`.
    #[error("an interface name is empty")]
    EmptyInterface,
    /// Nothing where a VLAN should be.
    #[error("a segmentation id of interface '{0}' is empty")]
    EmptySegment(String),
    /// A second `|`.
    #[error("interface '{0}' has more than one '|'; segmentation ids are separated by '#'")]
    SecondBar(String),
}

/// Reads one device into what the API takes.
///
/// # Errors
/// Says which part does not fit the grammar.
pub fn parse(text: &str) -> Result<Value, BadDevice> {
    let (mut name, mut interfaces) = (None, None);
    for piece in text.split(',') {
        let (key, value) = piece
            .split_once('=')
            .ok_or_else(|| BadDevice::NoValue(piece.to_owned()))?;
        let (slot, key) = match key {
            "name" => (&mut name, "name"),
            "interface_names" => (&mut interfaces, "interface_names"),
            _ => return Err(BadDevice::UnknownKey(key.to_owned())),
        };
        if slot.replace(value).is_some() {
            return Err(BadDevice::Repeated(key));
        }
    }
    let name = name
        .filter(|name| !name.is_empty())
        .ok_or(BadDevice::Missing("name"))?;
    let interfaces = interfaces
        .filter(|names| !names.is_empty())
        .ok_or(BadDevice::Missing("interface_names"))?;
    let interfaces: Vec<Value> = interfaces
        .split(';')
        .map(interface)
        .collect::<Result<_, _>>()?;
    Ok(json!({ "device_name": name, "interfaces": interfaces }))
}

fn interface(text: &str) -> Result<Value, BadDevice> {
    let mut parts = text.split('|');
    let name = parts.next().unwrap_or_default();
    if name.is_empty() {
        return Err(BadDevice::EmptyInterface);
    }
    let Some(segments) = parts.next() else {
        return Ok(json!({ "name": name }));
    };
    if parts.next().is_some() {
        return Err(BadDevice::SecondBar(name.to_owned()));
    }
    let segments: Vec<&str> = segments.split('#').collect();
    if segments.contains(&"") {
        return Err(BadDevice::EmptySegment(name.to_owned()));
    }
    // As text, as networking-l2gw's clients send them.
    Ok(json!({ "name": name, "segmentation_id": segments }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_with_and_without_vlans_are_read() {
        let device = parse("name=d1,interface_names=p1|100#200;p2|300").unwrap();
        insta::assert_snapshot!(device, @r#"{"device_name":"d1","interfaces":[{"name":"p1","segmentation_id":["100","200"]},{"name":"p2","segmentation_id":["300"]}]}"#);
        let device = parse("interface_names=p1,name=d1").unwrap();
        insta::assert_snapshot!(device, @r#"{"device_name":"d1","interfaces":[{"name":"p1"}]}"#);
    }

    #[test]
    fn what_upstream_took_for_something_else_is_refused() {
        let refused = |text: &str| parse(text).unwrap_err().to_string();
        insta::assert_snapshot!(refused("foo"), @"missing value for key 'foo'; interfaces are separated by ';'");
        insta::assert_snapshot!(refused("name=d,interface_names=p1,p2"), @"missing value for key 'p2'; interfaces are separated by ';'");
        insta::assert_snapshot!(refused("name=d"), @"'interface_names' is missing");
        insta::assert_snapshot!(refused("name=d,interface_names="), @"'interface_names' is missing");
        insta::assert_snapshot!(refused("interface_names=p"), @"'name' is missing");
        insta::assert_snapshot!(refused("name=,interface_names=p"), @"'name' is missing");
        insta::assert_snapshot!(refused("name=d,name=e,interface_names=p"), @"key 'name' is given twice; repeat --device for another device");
        insta::assert_snapshot!(refused("name=d,interface_names=p,vlan=1"), @"unknown key 'vlan'; the keys are 'name' and 'interface_names'");
        insta::assert_snapshot!(refused("name=d,interface_names=p1;"), @"an interface name is empty");
        insta::assert_snapshot!(refused("name=d,interface_names=|5"), @"an interface name is empty");
        insta::assert_snapshot!(refused("name=d,interface_names=p1|"), @"a segmentation id of interface 'p1' is empty");
        insta::assert_snapshot!(refused("name=d,interface_names=p1|1##2"), @"a segmentation id of interface 'p1' is empty");
        insta::assert_snapshot!(refused("name=d,interface_names=p1|1|2"), @"interface 'p1' has more than one '|'; segmentation ids are separated by '#'");
    }
}
