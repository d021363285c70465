//! One resource as values: what validation makes of a body, the database keeps, and answers are written from.

use std::net::{IpAddr, Ipv4Addr};

use uuid::Uuid;

use crate::resource::{Kind, Resource};
use crate::value::{MacAddress, Vni};

/// The value of one attribute.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Value {
    /// Not given, or nothing.
    #[default]
    Null,
    /// A truth value.
    Bool(bool),
    /// A number; VNIs and VLANs too.
    Integer(i64),
    /// Text, or JSON text of a structured shape.
    Text(Box<str>),
    /// An id. A reference that is no UUID stays [`Value::Text`] until it is resolved, so that the answer can name it.
    Uuid(Uuid),
    /// A MAC address.
    Mac(MacAddress),
    /// An IP address.
    Ip(IpAddr),
}

impl Value {
    /// The value as text, as error messages and CSV show it; nothing for null.
    pub fn text(&self) -> String {
        match self {
            Self::Null => String::new(),
            Self::Bool(value) => value.to_string(),
            Self::Integer(value) => value.to_string(),
            Self::Text(value) => value.to_string(),
            Self::Uuid(value) => value.to_string(),
            Self::Mac(value) => value.to_string(),
            Self::Ip(value) => value.to_string(),
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

/// One resource: a value for each attribute of the table, in its order. Attributes that are not stored stay null.
#[derive(Clone, Debug)]
pub struct Row {
    /// What it is.
    pub resource: &'static Resource,
    /// One value for each of `resource.attributes`.
    pub values: Vec<Value>,
    /// The revision of the database at which the row was last written; 0 before it is.
    pub revision: u64,
}

impl Row {
    /// A row in which everything is null.
    pub fn empty(kind: Kind) -> Self {
        let resource = Resource::of(kind);
        Self {
            resource,
            values: vec![Value::Null; resource.attributes.len()],
            revision: 0,
        }
    }

    /// The value of an attribute; null for a name the table does not have.
    pub fn get(&self, name: &str) -> &Value {
        self.resource
            .position(name)
            .and_then(|place| self.values.get(place))
            .unwrap_or(&Value::Null)
    }

    /// Sets an attribute. A name the table does not have is ignored; tests prove that we use none.
    pub fn set(&mut self, name: &str, value: Value) {
        debug_assert!(
            self.resource.position(name).is_some(),
            "{} has no attribute {name}",
            self.resource.member
        );
        let place = self.resource.position(name);
        if let Some(slot) = place.and_then(|place| self.values.get_mut(place)) {
            *slot = value;
        }
    }

    /// The row's id; nil before it has one.
    pub fn id(&self) -> Uuid {
        self.uuid("id").unwrap_or_default()
    }

    /// When the row was made, in seconds since 1970: the time within its id.
    pub fn created_at(&self) -> Option<i64> {
        let (seconds, _) = self.id().get_timestamp()?.to_unix();
        i64::try_from(seconds).ok()
    }

    /// An id or resolved reference.
    pub fn uuid(&self, name: &str) -> Option<Uuid> {
        match self.get(name) {
            Value::Uuid(value) => Some(*value),
            _ => None,
        }
    }

    /// A text; empty where there is none.
    pub fn text(&self, name: &str) -> &str {
        match self.get(name) {
            Value::Text(value) => value,
            _ => "",
        }
    }

    /// A number.
    pub fn integer(&self, name: &str) -> Option<i64> {
        match self.get(name) {
            Value::Integer(value) => Some(*value),
            _ => None,
        }
    }

    /// A VXLAN network identifier.
    pub fn vni(&self, name: &str) -> Option<Vni> {
        self.integer(name)
            .and_then(|value| u32::try_from(value).ok())
            .and_then(Vni::new)
    }

    /// A truth value; false where there is none.
    pub fn flag(&self, name: &str) -> bool {
        *self.get(name) == Value::Bool(true)
    }

    /// A MAC address.
    pub fn mac(&self, name: &str) -> Option<MacAddress> {
        match self.get(name) {
            Value::Mac(value) => Some(*value),
            _ => None,
        }
    }

    /// An IP address.
    pub fn ip(&self, name: &str) -> Option<IpAddr> {
        match self.get(name) {
            Value::Ip(value) => Some(*value),
            _ => None,
        }
    }

    /// An IPv4 address.
    pub fn ipv4(&self, name: &str) -> Option<Ipv4Addr> {
        match self.get(name) {
            Value::Ip(IpAddr::V4(value)) => Some(*value),
            _ => None,
        }
    }
}
