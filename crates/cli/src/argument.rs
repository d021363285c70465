//! From an attribute of the resource table to an argument of a command, and from what was typed to JSON.
//!
//! The server alone judges values: what it takes for a MAC address, a VNI or a name is not repeated here. Only syntax that
//! exists nowhere but on the command line is judged here: [`device`], [`segment`], [`station`] and truth values.

pub mod device;
pub mod segment;
pub mod station;

use clap::builder::{
    NonEmptyStringValueParser, PossibleValuesParser, TypedValueParser, ValueParser,
};
use clap::{Arg, ArgAction, ArgMatches};
use model::resource::{Attribute, CreateArg, Post, Resource, Shape};
use openstack::page::Record;
use serde_json::{Value, json};

use self::station::Station;

/// What `create` takes: arguments and options as the table says.
pub(crate) fn of_create(resource: &'static Resource) -> impl Iterator<Item = Arg> {
    created(resource).map(move |attribute| match attribute.create_arg {
        CreateArg::Positional(placeholder) => positional(resource, attribute, placeholder),
        CreateArg::Flag | CreateArg::None => {
            option(resource, attribute).required(attribute.post == Post::Required)
        }
    })
}

/// What `update` takes: an option for each attribute that can change.
pub(crate) fn of_update(resource: &'static Resource) -> impl Iterator<Item = Arg> {
    updated(resource).map(move |attribute| option(resource, attribute))
}

/// What `list` takes: an option for each attribute that the server can filter by. Repeated means "or".
pub(crate) fn of_list(resource: &'static Resource) -> impl Iterator<Item = Arg> {
    filtering(resource).map(move |attribute| {
        option(resource, attribute)
            .action(ArgAction::Append)
            .help(format!("Only with this {}", heading(attribute)))
            .help_heading("Filters")
            .display_order(500)
    })
}

/// The attributes `create` takes, in the table's order.
pub(crate) fn created(resource: &'static Resource) -> impl Iterator<Item = &'static Attribute> {
    let attributes = resource.attributes.iter();
    attributes.filter(|attribute| attribute.create_arg != CreateArg::None)
}

/// The attributes `update` takes.
pub(crate) fn updated(resource: &'static Resource) -> impl Iterator<Item = &'static Attribute> {
    resource.attributes.iter().filter(|attribute| attribute.put)
}

/// The attributes that lists can be filtered by.
pub(crate) fn filtering(resource: &'static Resource) -> impl Iterator<Item = &'static Attribute> {
    let attributes = resource.attributes.iter();
    attributes.filter(|attribute| attribute.is_sortable())
}

/// The address that a station's MAC argument brings along: one the command takes in no other way.
pub(crate) fn companion(
    resource: &'static Resource,
    attribute: &Attribute,
) -> Option<&'static Attribute> {
    let brings = matches!(attribute.shape, Shape::Mac)
        && matches!(attribute.create_arg, CreateArg::Positional(_));
    let mut others = resource.attributes.iter();
    others.find(|other| {
        brings
            && other.shape == Shape::Ip
            && other.create_arg == CreateArg::None
            && other.post != Post::Refused
    })
}

/// The body's object: a key for each of these attributes that was typed.
pub(crate) fn object<'a>(
    resource: &'static Resource,
    attributes: impl Iterator<Item = &'a Attribute>,
    matches: &ArgMatches,
) -> Record {
    let mut object = Record::new();
    for attribute in attributes {
        let key = attribute.name.to_owned();
        if let Some(ip) = companion(resource, attribute) {
            if let Some(station) = matches.get_one::<Station>(attribute.name) {
                object.insert(key, station.mac.clone().into());
                if let Some(address) = &station.ip {
                    object.insert(ip.name.to_owned(), address.clone().into());
                }
            }
            continue;
        }
        let Some(values) = matches.get_many::<Value>(attribute.name) else {
            continue;
        };
        let mut values = values.cloned();
        if is_list(attribute.shape) {
            object.insert(key, values.collect());
        } else if let Some(value) = values.next_back() {
            object.insert(key, value);
        }
    }
    object
}

/// What a column of this attribute is called in lists.
pub(crate) fn heading(attribute: &Attribute) -> &'static str {
    attribute.column.unwrap_or(attribute.name)
}

fn positional(
    resource: &'static Resource,
    attribute: &'static Attribute,
    placeholder: &'static str,
) -> Arg {
    let argument = Arg::new(attribute.name)
        .value_name(placeholder)
        .required(true);
    match companion(resource, attribute) {
        Some(ip) => argument
            .help(format!(
                "{}, and behind a semicolon or comma: {}. Quote the semicolon, shells end commands there",
                attribute.help, ip.help
            ))
            .value_parser(ValueParser::new(station::parse)),
        None => argument
            .help(attribute.help)
            .value_parser(parser(attribute.shape)),
    }
}

fn option(resource: &'static Resource, attribute: &'static Attribute) -> Arg {
    let long = attribute
        .flag
        .map_or_else(|| dashed(attribute.name), str::to_owned);
    let action = if is_list(attribute.shape) {
        ArgAction::Append
    } else {
        ArgAction::Set
    };
    let mut argument = Arg::new(attribute.name)
        .help(attribute.help)
        .value_name(value_name(attribute.shape))
        .value_parser(parser(attribute.shape))
        .action(action)
        // Out of range is the server's to say.
        .allow_negative_numbers(true);
    let mut taken = vec![long.clone()];
    for (alias, shown) in aliases(resource, attribute) {
        for spelling in [dashed(alias), alias.replace('_', "-")] {
            if taken.contains(&spelling) {
                continue;
            }
            let visible = shown && spelling == dashed(alias);
            taken.push(spelling.clone());
            argument = if visible {
                argument.visible_alias(spelling)
            } else {
                argument.alias(spelling)
            };
        }
    }
    argument.long(long)
}

/// Other names of an attribute's option, and whether help tells them.
fn aliases(
    resource: &'static Resource,
    attribute: &'static Attribute,
) -> impl Iterator<Item = (&'static str, bool)> {
    let shown = attribute.flag_aliases.iter().map(|alias| (*alias, true));
    let mirrors = resource
        .attributes
        .iter()
        .filter(|other| other.shape == Shape::Mirror(attribute.name))
        .map(|other| other.name);
    let hidden = [attribute.flag.unwrap_or(attribute.name), attribute.name]
        .into_iter()
        .chain(attribute.aliases.iter().copied())
        .chain(mirrors);
    shown.chain(hidden.map(|alias| (alias, false)))
}

fn dashed(name: &str) -> String {
    name.replace(['_', ':'], "-")
}

/// Whether its option may be repeated to give several.
fn is_list(shape: Shape) -> bool {
    matches!(shape, Shape::Devices | Shape::FixedIps | Shape::Segments)
}

fn value_name(shape: Shape) -> &'static str {
    match shape {
        Shape::Id => "UUID",
        Shape::Text(_) | Shape::Mirror(_) | Shape::Constant(_) | Shape::StatusReason => "TEXT",
        Shape::CreatedAt | Shape::UpdatedAt => "TIME",
        Shape::Word(_) | Shape::Status => "WORD",
        Shape::Project => "PROJECT",
        Shape::Integer(..) | Shape::Revision => "NUMBER",
        Shape::Bool => "True|False",
        Shape::Reference(target, _) if Resource::of(target).named => "NAME/UUID",
        Shape::Reference(..) => "UUID",
        Shape::Mac => "MAC",
        Shape::Ip | Shape::TunnelEndpoint | Shape::FixedIps | Shape::BindingProfile => "IP",
        Shape::Vni => "VNI",
        Shape::VlanText => "VLAN",
        Shape::Devices => "DEVICE",
        Shape::Segments => "SEGMENT",
    }
}

fn parser(shape: Shape) -> ValueParser {
    match shape {
        Shape::Bool => ValueParser::new(truth),
        Shape::Integer(..) | Shape::Vni => ValueParser::new(number),
        Shape::Devices => ValueParser::new(device::parse),
        Shape::Segments => ValueParser::new(segment::parse),
        Shape::FixedIps => ValueParser::new(fixed_ip),
        Shape::BindingProfile => ValueParser::new(tunneling_ip),
        Shape::Word(words) => PossibleValuesParser::new(words).map(Value::from).into(),
        Shape::Id | Shape::Reference(..) => {
            NonEmptyStringValueParser::new().map(Value::from).into()
        }
        _ => ValueParser::new(text),
    }
}

type Parsed = Result<Value, std::convert::Infallible>;

fn text(typed: &str) -> Parsed {
    Ok(typed.into())
}

/// A number where it is one; anything else goes to the server as it is, which names the attribute in its answer.
fn number(typed: &str) -> Parsed {
    Ok(typed
        .parse::<i64>()
        .map_or_else(|_| typed.into(), Value::from))
}

fn fixed_ip(typed: &str) -> Parsed {
    // `ip_address=` is how the neutron and openstack clients spell it.
    let ip = typed.strip_prefix("ip_address=").unwrap_or(typed);
    Ok(json!({ "ip_address": ip }))
}

fn tunneling_ip(typed: &str) -> Parsed {
    Ok(json!({ "tunneling_ip": typed }))
}

/// The specification's "string of True/False values", in any case.
fn truth(typed: &str) -> Result<Value, &'static str> {
    match typed.to_ascii_lowercase().as_str() {
        "true" => Ok(true.into()),
        "false" => Ok(false.into()),
        _ => Err("it is True or False"),
    }
}
