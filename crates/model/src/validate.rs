//! Bodies and query filters to values, by the resource table.
//!
//! The order of the checks and the messages are those of neutron-lib 5.0.1: keys that contradict each other, unknown
//! keys, what POST and PUT don't take or demand, then each value by its shape. Every refusal names the attribute under
//! the key that the client used.

use std::fmt::{self, Write};
use std::net::IpAddr;

use serde_json::{Map, Value as Json};
use uuid::Uuid;

use crate::devices;
use crate::fault::{Fault, FaultKind};
use crate::resource::{Attribute, Default, Post, Resource, Shape, cut};
use crate::row::{Row, Value};
use crate::segments;
use crate::value::{MacAddress, Vni, is_tunnel_endpoint};

/// Longest name of a device or an interface, in characters; so long is the column of networking-l2gw.
pub const MAX_TEXT: usize = 255;

/// Longest text whatever its attribute says, in bytes: an entry of PostgreSQL's indexes holds 2704 (`BTMaxItemSize`, a third
/// of a page), and what stands around it.
pub const MAX_BYTES: usize = 2_600;

/// Longest project id, in characters; so long is Neutron's column.
const MAX_PROJECT: usize = 255;

/// Longest `binding:profile`, in bytes of JSON (neutron.plugins.ml2.models.BINDING_PROFILE_LEN).
const MAX_PROFILE: usize = 4095;

/// What a body leaves unsaid.
#[derive(Clone, Copy, Debug, std::default::Default)]
pub struct Context<'a> {
    /// The project of the caller.
    pub project: &'a str,
    /// The attribute and id that the path gives, for a collection below its parent.
    pub parent: Option<(&'static str, &'a str)>,
}

/// What a query parameter asks of an attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// It has this value.
    Is(Value),
    /// Every row has it.
    Always,
    /// No row can have it.
    Never,
}

/// The row that a POST describes, without what the server makes: ids stay null, references unresolved.
///
/// # Errors
/// 400, as the module says; 409 for a device list that contradicts itself.
pub fn create(
    resource: &'static Resource,
    body: &Map<String, Json>,
    context: Context<'_>,
) -> Result<Row, Fault> {
    let given = assign(resource, body)?;
    let mut row = Row::empty(resource.kind);
    for (attribute, said) in resource.attributes.iter().zip(&given) {
        match (attribute.post, said) {
            (Post::Refused, Some((key, _))) => {
                return Err(body_fault(format!("Attribute '{key}' not allowed in POST")));
            }
            (_, Some((_, value))) if !value.is_null() => {
                contradicted(resource, attribute, &given)?;
            }
            (Post::Required, None) if !context.gives(attribute) => {
                return Err(body_fault(format!(
                    "Failed to parse request. Required attribute '{}' not specified",
                    attribute.name
                )));
            }
            _ => {}
        }
    }
    let places = resource.attributes.iter().zip(given).zip(&mut row.values);
    for ((attribute, given), slot) in places {
        *slot = match (given, attribute.post) {
            (Some((key, value)), _) => check(attribute, key, value)?,
            (None, Post::Optional(default)) => default_value(default, context.project),
            (None, _) => Value::Null,
        };
        if let Some((name, id)) = context.parent
            && name == attribute.name
        {
            let parent = reference(id);
            if *slot != Value::Null && *slot != parent {
                return Err(body_fault(format!("'{name}' and the path do not match")));
            }
            *slot = parent;
        }
    }
    Ok(row)
}

/// The changes that a PUT describes: places in the row and their new values.
///
/// # Errors
/// 400, as the module says; 409 for a device list that contradicts itself.
pub fn update(
    resource: &'static Resource,
    body: &Map<String, Json>,
) -> Result<Vec<(usize, Value)>, Fault> {
    let given = assign(resource, body)?;
    let given = || {
        let places = resource.attributes.iter().zip(&given).enumerate();
        places
            .filter_map(|(place, (attribute, given))| given.map(|given| (place, attribute, given)))
    };
    if let Some((_, _, (key, _))) = given().find(|(_, attribute, _)| !attribute.put) {
        return Err(body_fault(format!(
            "Cannot update read-only attribute {key}"
        )));
    }
    given()
        .map(|(place, attribute, (key, value))| Ok((place, check(attribute, key, value)?)))
        .collect()
}

/// The attribute that a query parameter means, by its place, and what it asks of it. None for parameters that are no
/// filters: those are ignored.
pub fn filter(resource: &'static Resource, key: &str, text: &str) -> Option<(usize, Condition)> {
    let place = input(resource, key)?;
    let attribute = resource.attributes.get(place)?;
    let of = |number: Option<i64>| {
        number.map_or(Condition::Never, |number| {
            Condition::Is(Value::Integer(number))
        })
    };
    let condition = match attribute.shape {
        Shape::Constant(json) => {
            let constant = serde_json::from_str(json).unwrap_or(Json::Null);
            if Given(&constant).to_string().eq_ignore_ascii_case(text) {
                Condition::Always
            } else {
                Condition::Never
            }
        }
        Shape::Status => Condition::Is(text.to_ascii_uppercase().as_str().into()),
        Shape::Revision => of(text.parse().ok()),
        Shape::CreatedAt | Shape::UpdatedAt => {
            let time: Option<jiff::Timestamp> = text.parse().ok();
            of(time.map(jiff::Timestamp::as_second))
        }
        _ if !attribute.is_sortable() => return None,
        _ => match check(attribute, key, &Json::String(text.to_owned())) {
            // Only a body may name a thing by what is no id.
            Ok(Value::Text(_)) if matches!(attribute.shape, Shape::Id | Shape::Reference(..)) => {
                Condition::Never
            }
            Ok(value) => Condition::Is(value),
            Err(_) => Condition::Never,
        },
    };
    Some((place, condition))
}

/// The place of the attribute that a list may be sorted by under this key.
pub fn sort_key(resource: &'static Resource, key: &str) -> Option<usize> {
    let place = input(resource, key)?;
    let attribute = resource.attributes.get(place)?;
    match attribute.shape {
        // Ids begin with the time.
        Shape::CreatedAt => resource.position("id"),
        Shape::UpdatedAt => Some(place),
        _ => attribute.is_sortable().then_some(place),
    }
}

/// An id as bodies and paths give it. Anything else stays text, so that "not found" can name it.
pub fn reference(text: &str) -> Value {
    // Only the usual form: `Uuid` alone would also read `urn:uuid:…`, `{…}` and 32 digits.
    let usual = text.len() == uuid::fmt::Hyphenated::LENGTH;
    match Uuid::try_parse(text) {
        Ok(id) if usual => Value::Uuid(id),
        _ => text.into(),
    }
}

/// A JSON value as upstream's messages show it: Python's `str()` of it, cut to a readable length.
pub struct Given<'a>(pub &'a Json);

impl fmt::Display for Given<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        match self.0 {
            Json::String(value) => text.push_str(value),
            other => python_repr(other, &mut text)?,
        }
        f.write_str(&cut(&text))
    }
}

/// What a body says of one attribute: the key it used and the value.
type Said<'a> = Option<(&'a str, &'a Json)>;

impl Context<'_> {
    fn gives(&self, attribute: &Attribute) -> bool {
        self.parent.is_some_and(|(name, _)| name == attribute.name)
    }
}

/// What the body says of each attribute of the table.
fn assign<'a>(
    resource: &'static Resource,
    body: &'a Map<String, Json>,
) -> Result<Vec<Said<'a>>, Fault> {
    let mut said: Vec<Said<'a>> = vec![None; resource.attributes.len()];
    let mut unknown = Vec::new();
    for (key, value) in body {
        let place = input(resource, key);
        let slot = place.and_then(|place| said.get_mut(place));
        let attribute = place.and_then(|place| resource.attributes.get(place));
        match (slot, attribute) {
            (Some(slot @ None), _) => *slot = Some((key, value)),
            (Some(Some((first, other))), Some(attribute)) => {
                if check(attribute, first, other)? != check(attribute, key, value)? {
                    let mut keys = [*first, key.as_str()];
                    keys.sort_unstable();
                    let [one, two] = keys;
                    return Err(body_fault(format!("'{one}' and '{two}' do not match")));
                }
            }
            _ => unknown.push(key.as_str()),
        }
    }
    if unknown.is_empty() {
        return Ok(said);
    }
    unknown.sort_unstable();
    Err(body_fault(format!(
        "Unrecognized attribute(s) '{}'",
        cut(&unknown.join(", "))
    )))
}

/// Makes sure that nothing is given whose place this attribute takes.
fn contradicted(
    resource: &'static Resource,
    attribute: &Attribute,
    given: &[Said<'_>],
) -> Result<(), Fault> {
    let Some((others, kind, message)) = attribute.instead_of else {
        return Ok(());
    };
    let said = |name: &&str| {
        let said = resource
            .position(name)
            .and_then(|place| given.get(place))
            .copied()
            .flatten();
        said.is_some_and(|(_, value)| !value.is_null())
    };
    match others.iter().any(said) {
        true => Err(Fault::new(kind, message)),
        false => Ok(()),
    }
}

/// The place of the attribute that a key means; aliases and mirrors lead to what they stand for.
fn input(resource: &'static Resource, key: &str) -> Option<usize> {
    let attribute = resource.input(key).filter(|a| a.visible)?;
    match attribute.shape {
        Shape::Mirror(of) => resource.position(of),
        _ => resource.position(attribute.name),
    }
}

fn default_value(default: Default, project: &str) -> Value {
    match default {
        Default::Null => Value::Null,
        Default::Text(text) | Default::Json(text) => text.into(),
        Default::Integer(number) => Value::Integer(number),
        Default::Bool(value) => Value::Bool(value),
        Default::CallersProject => project.into(),
    }
}

/// The value of an attribute that a client calls `key`.
///
/// # Errors
/// 400: it is none of its shape; 409 for a device list that contradicts itself.
pub fn value(attribute: &Attribute, key: &str, value: &Json) -> Result<Value, Fault> {
    check(attribute, key, value)
}

fn check(attribute: &Attribute, key: &str, value: &Json) -> Result<Value, Fault> {
    let invalid = |reason: fmt::Arguments<'_>| Err(Fault::invalid(key, reason));
    let given = Given(value);
    let nullable = attribute.post == Post::Optional(Default::Null);
    match (attribute.shape, value) {
        (Shape::VlanText, Json::String(text)) if text.is_empty() => Ok(Value::Null),
        (Shape::VlanText, Json::String(_)) => {
            Ok(Value::Integer(devices::vlan(value)?.get().into()))
        }
        (Shape::VlanText, _) => invalid(format_args!("'{given}' is not a valid string")),
        (_, Json::Null) if nullable => Ok(Value::Null),
        (Shape::Text(max), _) => text(key, value, max),
        (Shape::Project, _) => text(key, value, MAX_PROJECT),
        (Shape::Id | Shape::Reference(..), Json::String(text)) => Ok(reference(text)),
        (Shape::Id | Shape::Reference(..), _) => {
            invalid(format_args!("'{given}' is not a valid string"))
        }
        (Shape::Word(words), _) => match value.as_str().filter(|word| words.contains(word)) {
            Some(word) => Ok(word.into()),
            None => invalid(format_args!("'{given}' is not in {}", Given(&words.into()))),
        },
        (Shape::Integer(min, max), _) => whole(key, value, min, max),
        (Shape::Vni, _) => vni(key, value),
        (Shape::Bool, Json::Bool(value)) => Ok(Value::Bool(*value)),
        (Shape::Bool, _) => match value.as_str().map(str::to_ascii_lowercase).as_deref() {
            Some("true") => Ok(Value::Bool(true)),
            Some("false") => Ok(Value::Bool(false)),
            _ => invalid(format_args!("'{given}' cannot be converted to boolean")),
        },
        (Shape::Mac, _) => match value.as_str().and_then(|t| t.parse::<MacAddress>().ok()) {
            Some(mac) if mac.is_unicast() => Ok(Value::Mac(mac)),
            Some(_) => invalid(format_args!("'{given}' is not a unicast MAC address")),
            None => invalid(format_args!("'{given}' is not a valid MAC address")),
        },
        (Shape::Ip, _) => Ok(Value::Ip(station(key, value)?)),
        (Shape::TunnelEndpoint, _) => Ok(Value::Ip(endpoint(key, value)?)),
        (Shape::Devices, _) => Ok(Value::Text(
            devices::to_text(&devices::validate(value)?)?.into(),
        )),
        (Shape::Segments, _) => Ok(Value::Text(
            segments::to_text(&segments::validate(value)?)?.into(),
        )),
        (Shape::FixedIps, _) => fixed_ips(key, value),
        (Shape::BindingProfile, _) => binding_profile(key, value),
        (Shape::Constant(json), _) => match serde_json::from_str::<Json>(json) {
            Ok(constant) if constant == *value => Ok(Value::Null),
            _ => invalid(format_args!("'{given}' is not supported")),
        },
        (
            Shape::Mirror(_)
            | Shape::Status
            | Shape::StatusReason
            | Shape::Revision
            | Shape::CreatedAt
            | Shape::UpdatedAt,
            _,
        ) => invalid(format_args!("it is read-only")),
    }
}

/// A text of up to `max` characters.
pub(crate) fn text(key: &str, value: &Json, max: usize) -> Result<Value, Fault> {
    let given = Given(value);
    match value {
        Json::String(text) if text.chars().count() > max => Err(Fault::invalid(
            key,
            format_args!("'{given}' exceeds maximum length of {max}"),
        )),
        Json::String(text) if text.len() > MAX_BYTES => Err(Fault::invalid(
            key,
            format_args!("'{given}' exceeds maximum length of {MAX_BYTES} bytes"),
        )),
        // PostgreSQL's text cannot hold it.
        Json::String(text) if text.contains('\0') => Err(Fault::invalid(
            key,
            "a text must not contain the character U+0000",
        )),
        Json::String(text) => Ok(text.as_str().into()),
        _ => Err(Fault::invalid(
            key,
            format_args!("'{given}' is not a valid string"),
        )),
    }
}

/// A VXLAN network identifier, also as text.
pub(crate) fn vni(key: &str, value: &Json) -> Result<Value, Fault> {
    whole(key, value, 1, Vni::MAX.into())
}

/// A whole number in a range, also as text.
///
/// # Errors
/// 400 for anything else.
pub fn whole(key: &str, value: &Json, min: i64, max: i64) -> Result<Value, Fault> {
    let given = Given(value);
    let number = match value {
        Json::Number(number) => number.as_i64().or_else(|| match number.as_f64() {
            // JSON knows no difference between 5 and 5.0; `as` saturates, and what it saturates to is out of range.
            Some(float) if float.fract() == 0.0 => Some(float as i64),
            _ => None,
        }),
        Json::String(text) => devices::integer(text),
        _ => None,
    };
    match number {
        None => Err(Fault::invalid(
            key,
            format_args!("'{given}' is not an integer"),
        )),
        Some(number) if number < min => Err(Fault::invalid(
            key,
            format_args!("'{given}' is too small - must be at least '{min}'"),
        )),
        Some(number) if number > max => Err(Fault::invalid(
            key,
            format_args!("'{given}' is too large - must be no larger than '{max}'"),
        )),
        Some(number) => Ok(Value::Integer(number)),
    }
}

/// The address of a station.
fn station(key: &str, value: &Json) -> Result<IpAddr, Fault> {
    let given = Given(value);
    let ip = value.as_str().and_then(|text| text.parse::<IpAddr>().ok());
    let ip =
        ip.ok_or_else(|| Fault::invalid(key, format_args!("'{given}' is not a valid IP address")))?;
    let broadcast = ip == IpAddr::V4(std::net::Ipv4Addr::BROADCAST);
    if ip.is_unspecified() || ip.is_multicast() || broadcast {
        return Err(Fault::invalid(
            key,
            format_args!("'{given}' is not a unicast IP address"),
        ));
    }
    Ok(ip)
}

/// An address at which a tunnel can end.
fn endpoint(key: &str, value: &Json) -> Result<IpAddr, Fault> {
    let given = Given(value);
    let ip = value.as_str().and_then(|text| text.parse().ok());
    match ip {
        Some(IpAddr::V4(v4)) if is_tunnel_endpoint(v4) => Ok(v4.into()),
        Some(IpAddr::V4(_)) => Err(Fault::invalid(
            key,
            format_args!("'{given}' is not an address at which a tunnel can end"),
        )),
        // hardware_vtep has no other locator than vxlan_over_ipv4.
        Some(IpAddr::V6(_)) => Err(Fault::invalid(
            key,
            format_args!("'{given}' is not an IPv4 address"),
        )),
        None => Err(Fault::invalid(
            key,
            format_args!("'{given}' is not a valid IP address"),
        )),
    }
}

/// `[{"ip_address": …}]`; `subnet_id` is accepted as the catalogue's clients send it, and dropped: there are no subnets.
fn fixed_ips(key: &str, value: &Json) -> Result<Value, Fault> {
    let wrong = || {
        Fault::invalid(
            key,
            format_args!("Invalid data format for fixed IP: '{}'", Given(value)),
        )
    };
    let list = value.as_array().ok_or_else(wrong)?;
    let mut seen = Vec::with_capacity(list.len());
    for item in list {
        let item = item.as_object().ok_or_else(wrong)?;
        if item.keys().any(|k| k != "ip_address" && k != "subnet_id") {
            return Err(wrong());
        }
        let ip = station(key, item.get("ip_address").ok_or_else(wrong)?)?;
        if seen.contains(&ip) {
            return Err(Fault::invalid(
                key,
                format_args!("Duplicate IP address '{ip}'"),
            ));
        }
        seen.push(ip);
    }
    let items = seen
        .iter()
        .map(|ip| format!(r#"{{"ip_address":"{ip}"}}"#))
        .collect::<Vec<_>>();
    Ok(Value::Text(format!("[{}]", items.join(",")).into()))
}

/// `{"tunneling_ip": …}`; what else a compute service writes there is kept.
fn binding_profile(key: &str, value: &Json) -> Result<Value, Fault> {
    let mut profile = match value {
        Json::Null => Map::new(),
        Json::Object(profile) => profile.clone(),
        _ => {
            return Err(Fault::invalid(
                key,
                format_args!("'{}' is not a dictionary", Given(value)),
            ));
        }
    };
    if let Some(ip) = profile.get_mut("tunneling_ip") {
        *ip = endpoint(key, ip)?.to_string().into();
    }
    let text = Json::Object(profile).to_string();
    if text.len() > MAX_PROFILE {
        return Err(Fault::invalid(
            key,
            format_args!("it exceeds maximum length of {MAX_PROFILE}"),
        ));
    }
    Ok(Value::Text(text.into()))
}

fn body_fault(message: String) -> Fault {
    Fault::new(FaultKind::InvalidBody, message)
}

fn python_repr(value: &Json, out: &mut String) -> fmt::Result {
    match value {
        Json::Null => out.push_str("None"),
        Json::Bool(true) => out.push_str("True"),
        Json::Bool(false) => out.push_str("False"),
        Json::Number(number) => write!(out, "{number}")?,
        Json::String(text) => {
            let quote = if text.contains('\'') && !text.contains('"') {
                '"'
            } else {
                '\''
            };
            out.push(quote);
            for c in text.chars() {
                match c {
                    '\\' => out.push_str("\\\\"),
                    c if c == quote => write!(out, "\\{c}")?,
                    c if c.is_control() => write!(out, "{}", c.escape_default())?,
                    c => out.push(c),
                }
            }
            out.push(quote);
        }
        Json::Array(list) => {
            out.push('[');
            for (place, item) in list.iter().enumerate() {
                out.push_str(if place == 0 { "" } else { ", " });
                python_repr(item, out)?;
            }
            out.push(']');
        }
        Json::Object(object) => {
            out.push('{');
            for (place, (key, item)) in object.iter().enumerate() {
                out.push_str(if place == 0 { "" } else { ", " });
                python_repr(&Json::String(key.clone()), out)?;
                out.push_str(": ");
                python_repr(item, out)?;
            }
            out.push('}');
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
