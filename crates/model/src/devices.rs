//! The device list of a gateway: which interfaces of which physical switches, and their VLANs.
//!
//! Checks, their order and their messages are those of networking-l2gw 22.0.0 (`l2gw_validators.py`). Where that answers
//! 500 to a wrong body, the answer here is 400. Two things differ on purpose: an explicit VLAN 0 (untagged frames) is
//! kept and shown, and whether an update changes the VLAN mode is judged device by device.
//!
//! The JSON text of a list is the same on the wire and in the database:
//! `[{"device_name":"tor","id":"…","interfaces":[{"segmentation_id":["100"],"name":"eth1"}]}]`.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use uuid::Uuid;

use crate::fault::{Fault, FaultKind};
use crate::resource::Template;
use crate::validate::{Given, MAX_TEXT};
use crate::value::VlanId;

/// One physical switch and the interfaces of it that belong to the gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// `Physical_Switch.name`.
    #[serde(rename = "device_name")]
    pub name: String,
    /// Given by the server; none before the gateway is stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<Uuid>,
    /// At least one.
    pub interfaces: Vec<Interface>,
}

/// One interface of a switch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// The VLANs that every network of the gateway is bound to here; none where each connection names its own.
    #[serde(rename = "segmentation_id", with = "vlans_as_text")]
    pub vlans: Vec<VlanId>,
    /// `Physical_Port.name`.
    pub name: String,
}

impl Device {
    /// Whether its interfaces carry VLANs of their own. Valid devices have it the same on all of them.
    fn has_vlans(&self) -> bool {
        self.interfaces.first().is_some_and(|i| !i.vlans.is_empty())
    }

    /// Whether one of its interfaces has a VLAN other than 0.
    fn has_tags(&self) -> bool {
        let mut vlans = self
            .interfaces
            .iter()
            .flat_map(|interface| &interface.vlans);
        vlans.any(|vlan| *vlan != VlanId::UNTAGGED)
    }
}

/// Whether some interface of the gateway has VLANs of its own, so that connections need not name one.
pub fn have_vlans(devices: &[Device]) -> bool {
    devices.iter().any(Device::has_vlans)
}

/// Whether some interface of the gateway has a VLAN other than 0, so that connections must not name one.
pub fn have_tags(devices: &[Device]) -> bool {
    devices.iter().any(Device::has_tags)
}

/// The VLANs on which an interface with these ones of its `own` carries a network whose connection names `default`. The
/// default stands in for none, and for 0, which upstream keeps as none.
pub fn bound(own: &[VlanId], default: VlanId) -> impl Iterator<Item = VlanId> {
    let instead = own.is_empty().then_some(default);
    let own = own.iter().map(move |vlan| match *vlan {
        VlanId::UNTAGGED => default,
        tag => tag,
    });
    own.chain(instead)
}

/// What `L2GatewayDeviceNotFound` says of a device name.
pub const DEVICE_NOT_FOUND: Template = Template(
    FaultKind::L2GatewayDeviceNotFound,
    "L2 Gateway Device {} could not be found.",
);

/// Reads the device list of a body.
///
/// # Errors
/// 400 naming `devices` or the segmentation id; 409 where interfaces of a device differ in having VLANs.
pub fn validate(value: &Value) -> Result<Vec<Device>, Fault> {
    let list = match value {
        empty if is_falsy(empty) => {
            return Err(invalid("Cannot create a gateway with an empty device list"));
        }
        Value::Array(list) => list,
        Value::String(_) | Value::Object(_) => {
            return Err(invalid("devices format is not a type list of dicts"));
        }
        _ => return Err(not_iterable()),
    };
    let devices = list.iter().map(device).collect::<Result<Vec<_>, _>>()?;
    if devices.iter().all(is_consistent) {
        Ok(devices)
    } else {
        Err(Fault::new(
            FaultKind::L2GatewaySegmentationRequired,
            "L2 gateway segmentation id must be consistent for all the interfaces",
        ))
    }
}

/// Reads a device list that the database kept.
///
/// # Errors
/// 500: the text is not what [`to_text`] wrote.
pub fn parse(text: &str) -> Result<Vec<Device>, Fault> {
    serde_json::from_str(text)
        .map_err(|error| Fault::internal(format!("device list {text:?}: {error}")))
}

/// The text that answers and the database hold.
///
/// # Errors
/// 500, never in practice: the types have a JSON form for every value.
pub fn to_text(devices: &[Device]) -> Result<String, Fault> {
    serde_json::to_string(devices).map_err(Fault::internal)
}

/// Makes the change that PUT asks for: every device it names has its interfaces replaced, all others stay. The second
/// mention of a name means the second device of that name, so that putting back what GET showed changes nothing.
///
/// # Errors
/// 404 for a device that the gateway does not have; 409 where a device would begin or cease to have VLANs of its own.
pub fn update(current: &mut [Device], change: Vec<Device>) -> Result<(), Fault> {
    let mut replaced = vec![false; current.len()];
    for wanted in change {
        let slot = current
            .iter_mut()
            .zip(&mut replaced)
            .find(|(device, replaced)| !**replaced && device.name == wanted.name);
        let Some((device, replaced)) = slot else {
            return Err(DEVICE_NOT_FOUND.fill(&wanted.name));
        };
        // A connection may have named a VLAN beside an explicit 0.
        let begins = !device.has_tags() && wanted.has_tags();
        match (device.has_vlans(), wanted.has_vlans()) {
            (has, true) if begins || !has => {
                return Err(Fault::new(
                    FaultKind::L2GatewaySegmentationIdNotExists,
                    "The segmentation id is not specified in existing gateway interfaces.",
                ));
            }
            (true, false) => {
                return Err(Fault::new(
                    FaultKind::L2GatewaySegmentationIdExists,
                    "The segmentation id is already specified in existing gateway interfaces.",
                ));
            }
            _ => device.interfaces = wanted.interfaces,
        }
        *replaced = true;
    }
    Ok(())
}

/// Reads a VLAN id as Python's `int()` would from what JSON gives, which is what upstream does.
///
/// # Errors
/// 400: no number, or not 0 to 4094.
pub fn vlan(value: &Value) -> Result<VlanId, Fault> {
    let number = match value {
        Value::Bool(value) => Some(i64::from(*value)),
        // Fractions are cut off; `as` saturates, and what it saturates to is out of range too.
        Value::Number(number) => number.as_i64().or(number.as_f64().map(|f| f as i64)),
        Value::String(text) => integer(text),
        Value::Null | Value::Array(_) | Value::Object(_) => return Err(not_iterable()),
    };
    let number = number.ok_or_else(|| Fault::refused("Segmentation id must be a valid integer"))?;
    u16::try_from(number)
        .ok()
        .and_then(VlanId::new)
        .ok_or_else(|| Fault::refused("Segmentation id is out of range"))
}

/// A decimal number with blanks around it and, as Python reads them, single underscores between its digits; one too large
/// for the type becomes the largest.
pub(crate) fn integer(text: &str) -> Option<i64> {
    let text = text.trim();
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let is_group = |group: &str| !group.is_empty() && group.bytes().all(|b| b.is_ascii_digit());
    if !digits.split('_').all(is_group) {
        return None;
    }
    let text = text.replace('_', "");
    let overflow = if text.starts_with('-') {
        i64::MIN
    } else {
        i64::MAX
    };
    Some(text.parse().unwrap_or(overflow))
}

fn device(value: &Value) -> Result<Device, Fault> {
    let Value::Object(object) = value else {
        return Err(invalid("devices format is not a type dict"));
    };
    let name = name(object.get("device_name"), "device_name")?;
    let interfaces = match object.get("interfaces") {
        None => return Err(invalid("Cannot create a gateway with an empty interfaces")),
        Some(empty) if is_falsy(empty) => {
            return Err(invalid("Cannot create a gateway with an empty interfaces"));
        }
        Some(Value::Array(list)) => list.iter().map(interface).collect::<Result<_, _>>()?,
        Some(_) => return Err(invalid("interfaces format is not a type list of dicts")),
    };
    Ok(Device {
        name,
        id: None,
        interfaces,
    })
}

fn interface(value: &Value) -> Result<Interface, Fault> {
    let Value::Object(object) = value else {
        return Err(invalid("interfaces format is not a type dict"));
    };
    let name = name(object.get("name"), "interface name")?;
    let vlans = match object.get("segmentation_id") {
        None => Vec::new(),
        Some(empty) if is_falsy(empty) => {
            return Err(invalid("segmentation_id_list should not be empty"));
        }
        Some(Value::Array(list)) => list.iter().map(vlan).collect::<Result<_, _>>()?,
        // The trailing blank is upstream's.
        Some(_) => return Err(invalid("segmentation_id type should be of list type ")),
    };
    Ok(Interface { vlans, name })
}

/// A name of a device or an interface; upstream takes numbers for names.
fn name(value: Option<&Value>, what: &str) -> Result<String, Fault> {
    let value = value.unwrap_or(&Value::Null);
    if is_falsy(value) {
        return Err(invalid(&format!(
            "Cannot create a gateway with an empty {what}"
        )));
    }
    let name = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        other => {
            return Err(invalid(&format!(
                "'{}' is not a valid string",
                Given(other)
            )));
        }
    };
    if name.chars().count() > MAX_TEXT {
        let given = Value::String(name);
        return Err(invalid(&format!(
            "'{}' exceeds maximum length of {MAX_TEXT}",
            Given(&given)
        )));
    }
    // No switch has such a name, and no text column of PostgreSQL.
    if name.contains('\0') {
        return Err(invalid("a text must not contain the character U+0000"));
    }
    Ok(name)
}

fn is_consistent(device: &Device) -> bool {
    let with = device.interfaces.iter().filter(|i| !i.vlans.is_empty());
    [0, device.interfaces.len()].contains(&with.count())
}

/// What Python takes for false; upstream's checks for emptiness rest on it.
fn is_falsy(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(object) => object.is_empty(),
    }
}

fn invalid(reason: &str) -> Fault {
    Fault::invalid("devices", reason)
}

fn not_iterable() -> Fault {
    invalid("validate_gwdevice_list: provided data are not iterable")
}

/// `segmentation_id` of an interface is a list of strings.
mod vlans_as_text {
    use super::{Deserialize, Deserializer, Serializer, VlanId};

    pub(super) fn serialize<S: Serializer>(vlans: &[VlanId], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(vlans.iter().map(ToString::to_string))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<VlanId>, D::Error> {
        Vec::<String>::deserialize(from)?
            .iter()
            .map(|text| {
                text.parse()
                    .ok()
                    .and_then(VlanId::new)
                    .ok_or_else(|| serde::de::Error::custom(format!("{text:?} is no VLAN id")))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn message(value: &Value) -> String {
        validate(value).unwrap_err().message
    }

    fn one(interface: Value) -> Value {
        json!([{"device_name": "d", "interfaces": [interface]}])
    }

    fn devices(value: Value) -> Vec<Device> {
        validate(&value).unwrap()
    }

    #[test]
    fn wrong_shapes_are_400_where_upstream_fails_with_500() {
        for value in [json!("tor"), json!({"device_name": "d"})] {
            assert_eq!(
                message(&value),
                "Invalid input for devices. Reason: devices format is not a type list of dicts."
            );
        }
        assert_eq!(
            message(&json!(["tor"])),
            "Invalid input for devices. Reason: devices format is not a type dict."
        );
    }

    #[test]
    fn a_segmentation_id_that_is_no_list_is_refused_in_upstreams_words() {
        for value in [json!("100"), json!(100), json!({"a": 1})] {
            assert_eq!(
                message(&one(json!({"name": "p", "segmentation_id": value}))),
                "Invalid input for devices. Reason: segmentation_id type should be of list type ."
            );
        }
    }

    #[test]
    fn vlans_are_read_as_python_reads_integers() {
        for (given, vlan) in [
            (json!(" 10 "), 10),
            (json!("+10"), 10),
            (json!(10), 10),
            (json!(1.5), 1),
            (json!(true), 1),
            (json!("0"), 0),
        ] {
            let list = devices(one(json!({"name": "p", "segmentation_id": [given]})));
            assert_eq!(list[0].interfaces[0].vlans, [VlanId::new(vlan).unwrap()]);
        }
        for given in ["99999999999999999999", "-99999999999999999999"] {
            assert_eq!(
                super::vlan(&json!(given)).unwrap_err().message,
                "Invalid input for operation: Segmentation id is out of range."
            );
        }
    }

    #[test]
    fn numbers_are_names_and_unknown_keys_are_ignored() {
        let list = devices(json!([
            {"device_name": 7, "segmentation_id": "5", "interfaces": [{"name": "p", "bogus": 1}]}
        ]));
        assert_eq!(list[0].name, "7");
        assert!(!have_vlans(&list));
    }

    #[test]
    fn an_explicit_vlan_0_is_kept() {
        let text = to_text(&devices(one(
            json!({"name": "p", "segmentation_id": ["0"]}),
        )))
        .unwrap();
        assert_eq!(
            text,
            r#"[{"device_name":"d","interfaces":[{"segmentation_id":["0"],"name":"p"}]}]"#
        );
        assert!(have_vlans(&parse(&text).unwrap()));
    }

    #[test]
    fn an_update_replaces_what_it_names_and_nothing_else() {
        let mut current = devices(json!([
            {"device_name": "a", "interfaces": [{"name": "a1"}]},
            {"device_name": "b", "interfaces": [{"name": "b1"}]},
        ]));
        let kept = current[0].clone();
        let change = devices(json!([
            {"device_name": "b", "interfaces": [{"name": "b2"}, {"name": "b3"}]}
        ]));
        let wanted = change[0].interfaces.clone();
        update(&mut current, change).unwrap();
        assert_eq!(current[0], kept);
        assert_eq!(current[1].interfaces, wanted);
    }

    #[test]
    fn an_update_can_neither_add_a_device_nor_change_the_vlan_mode() {
        let plain = devices(one(json!({"name": "p"})));
        let tagged = devices(one(json!({"name": "p", "segmentation_id": ["1"]})));
        let other = devices(json!([{"device_name": "zz", "interfaces": [{"name": "p"}]}]));
        let kind = |current: &Vec<Device>, change: &Vec<Device>| {
            update(&mut current.clone(), change.clone())
                .unwrap_err()
                .kind
        };
        assert_eq!(kind(&plain, &other), FaultKind::L2GatewayDeviceNotFound);
        assert_eq!(
            kind(&plain, &tagged),
            FaultKind::L2GatewaySegmentationIdNotExists
        );
        assert_eq!(
            kind(&tagged, &plain),
            FaultKind::L2GatewaySegmentationIdExists
        );
        let untagged = devices(one(json!({"name": "p", "segmentation_id": ["0"]})));
        assert_eq!(
            kind(&untagged, &tagged),
            FaultKind::L2GatewaySegmentationIdNotExists
        );
        update(&mut tagged.clone(), untagged).unwrap();
    }

    #[test]
    fn a_connections_vlan_stands_in_for_none_and_for_0() {
        let bound = |own: &[u16], default| -> Vec<u16> {
            let vlan = |number| VlanId::new(number).unwrap();
            let own: Vec<_> = own.iter().map(|number| vlan(*number)).collect();
            super::bound(&own, vlan(default)).map(VlanId::get).collect()
        };
        assert_eq!(bound(&[], 0), [0]);
        assert_eq!(bound(&[], 7), [7]);
        assert_eq!(bound(&[0], 7), [7]);
        assert_eq!(bound(&[0, 5], 0), [0, 5]);
    }

    fn any_device() -> impl Strategy<Value = Device> {
        let vlans = |tagged: bool| prop::collection::vec(0..=VlanId::MAX, usize::from(tagged)..=3);
        (any::<bool>(), "[a-c]", 1..3_usize).prop_flat_map(move |(tagged, name, count)| {
            let interface = (
                if tagged {
                    vlans(true).boxed()
                } else {
                    Just(vec![]).boxed()
                },
                "[^\\x00\n]{1,8}",
            )
                .prop_map(|(vlans, name)| Interface {
                    vlans: vlans.into_iter().filter_map(VlanId::new).collect(),
                    name,
                });
            prop::collection::vec(interface, count).prop_map(move |interfaces| Device {
                name: name.clone(),
                id: None,
                interfaces,
            })
        })
    }

    proptest! {
        #[test]
        fn a_list_survives_its_text(list in prop::collection::vec(any_device(), 1..4)) {
            let text = to_text(&list).unwrap();
            prop_assert_eq!(&parse(&text).unwrap(), &list);
            // What GET shows with an empty segmentation_id is not what POST takes, so only tagged lists go round.
            if list.iter().all(Device::has_vlans) {
                let shown: Value = serde_json::from_str(&text).unwrap();
                prop_assert_eq!(validate(&shown).unwrap(), list);
            }
        }

        #[test]
        fn putting_back_what_get_showed_changes_nothing(list in prop::collection::vec(any_device(), 1..4)) {
            let mut current = list.clone();
            update(&mut current, list.clone()).unwrap();
            prop_assert_eq!(current, list);
        }
    }
}
