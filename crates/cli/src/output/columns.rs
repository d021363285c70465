//! Which attributes a result shows, and what their columns are called.

use model::resource::{Attribute, Shape, Show};
use model::view::Shown;
use openstack::page::Record;
use serde_json::Value;

use super::options::{Format, Of, Options};
use crate::argument::heading;
use crate::failure::Failure;

/// The attributes a result shows, in its order.
#[derive(Debug)]
pub(crate) struct Columns {
    attributes: Vec<&'static Attribute>,
    of: Of,
    format: Format,
}

impl Columns {
    /// The columns that were asked for, otherwise those the table names for this kind of result and format.
    pub(crate) fn choose(
        shown: impl Into<Shown>,
        of: Of,
        options: &Options,
    ) -> Result<Self, Failure> {
        let resource = shown.into();
        let mut attributes: Vec<_> = resource.attributes.iter().filter(|a| a.visible).collect();
        if of == Of::One {
            attributes.sort_by_key(|attribute| attribute.name);
        }
        if options.columns.is_empty() {
            attributes.retain(|a| options.details || is_usual(a, of, options.format));
        } else {
            let mut asked = Vec::new();
            for name in &options.columns {
                asked.push(named(resource, name)?.name);
            }
            // As in cliff, columns keep their order whatever the order they are asked for in.
            attributes.retain(|attribute| asked.contains(&attribute.name));
        }
        Ok(Self {
            attributes,
            of,
            format: options.format,
        })
    }

    /// Their headings: lists for people use the specification's, everything else the names on the wire.
    pub(crate) fn headings(&self) -> impl Iterator<Item = &'static str> {
        let spoken = self.of == Of::Many && matches!(self.format, Format::Table | Format::Csv);
        let name = move |a: &&'static Attribute| if spoken { heading(a) } else { a.name };
        self.attributes.iter().map(name)
    }

    /// The attributes to ask the server for; none for all.
    pub(crate) fn fields(&self) -> impl Iterator<Item = &'static str> {
        self.attributes.iter().map(|attribute| attribute.name)
    }

    /// The columns' values in a record; null where it has none.
    pub(crate) fn cells(&self, record: &mut Record) -> Vec<Value> {
        let take = |attribute: &&'static Attribute| {
            record
                .get_mut(attribute.name)
                .map_or(Value::Null, Value::take)
        };
        self.attributes.iter().map(take).collect()
    }

    /// The columns' values under their names.
    pub(crate) fn object(&self, record: &mut Record) -> Record {
        let names = self.fields().map(str::to_owned);
        names.zip(self.cells(record)).collect()
    }
}

fn is_usual(attribute: &Attribute, of: Of, format: Format) -> bool {
    match (of, format) {
        (_, Format::Json | Format::Yaml) => true,
        (Of::Many, _) => attribute.column.is_some(),
        (Of::One, Format::Table) => attribute.show == Show::Table,
        (Of::One, _) => true,
    }
}

/// The attribute that a person means: by its name, its column's heading or another name of it, in any case.
pub(crate) fn named(shown: impl Into<Shown>, name: &str) -> Result<&'static Attribute, Failure> {
    let resource = shown.into();
    let key = name.trim().to_lowercase().replace(' ', "_");
    let mut visible = resource.attributes.iter().filter(|a| a.visible);
    let named = visible.clone().find(|a| a.name == key || heading(a) == key);
    named
        .or_else(|| visible.clone().find(|a| a.aliases.contains(&key.as_str())))
        .ok_or_else(|| {
            let known: Vec<_> = visible.by_ref().map(|a| a.name).collect();
            Failure::Usage(format!(
                "{} has no column '{name}'; it has {}",
                resource.member,
                known.join(", ")
            ))
        })
}

/// By what a list is sorted.
#[derive(Debug)]
pub(crate) struct Order {
    attributes: Vec<&'static Attribute>,
    descending: bool,
}

/// One value in the order people expect: nothing, then truth values, numbers, addresses, texts.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rank {
    Nothing,
    Truth(bool),
    Number(i64),
    Address(std::net::IpAddr),
    Text(String),
}

impl Order {
    /// The order that was asked for, if one was.
    pub(crate) fn choose(
        shown: impl Into<Shown>,
        options: &Options,
    ) -> Result<Option<Self>, Failure> {
        let resource = shown.into();
        let names = options.sort.iter();
        let attributes: Vec<_> = names
            .map(|name| named(resource, name))
            .collect::<Result<_, _>>()?;
        Ok((!attributes.is_empty()).then_some(Self {
            attributes,
            descending: options.descending,
        }))
    }

    /// The attributes it needs.
    pub(crate) fn fields(&self) -> impl Iterator<Item = &'static str> {
        self.attributes.iter().map(|attribute| attribute.name)
    }

    /// Sorts records; equal ones keep their order.
    pub(crate) fn sort(&self, records: &mut [Record]) {
        let key = |record: &Record| -> Vec<Rank> {
            let value = |a: &&'static Attribute| rank(a.shape, record.get(a.name));
            self.attributes.iter().map(value).collect()
        };
        if self.descending {
            records.sort_by_cached_key(|record| std::cmp::Reverse(key(record)));
        } else {
            records.sort_by_cached_key(key);
        }
    }
}

fn rank(shape: Shape, value: Option<&Value>) -> Rank {
    match value {
        None | Some(Value::Null) => Rank::Nothing,
        Some(Value::Bool(truth)) => Rank::Truth(*truth),
        Some(Value::Number(number)) => Rank::Number(number.as_i64().unwrap_or(i64::MAX)),
        Some(Value::String(text)) => match (shape, text.parse()) {
            (Shape::Ip | Shape::TunnelEndpoint, Ok(address)) => Rank::Address(address),
            _ => Rank::Text(text.clone()),
        },
        Some(other) => Rank::Text(other.to_string()),
    }
}
