//! Examples at the end of each command's help, made from the table like everything else.

use model::resource::{Attribute, CreateArg, Kind, Resource, Shape};

use crate::tree::Verb;
use crate::{argument, bulk};

/// An id as the specification's own examples have it.
const UUID: &str = "31c20418-9cf2-4d47-b17e-d92906e3f248";

/// Examples for one command, whose name is typed as `typed`.
pub(crate) fn text(resource: &'static Resource, verb: Verb, typed: &str) -> String {
    let mut lines = match verb {
        Verb::Create => creations(resource),
        Verb::List => vec![String::new(), " -f json".to_owned()],
        Verb::Show => vec![format!(" {}", one(resource))],
        Verb::Update => vec![format!(" {}{}", one(resource), change(resource))],
        Verb::Delete => vec![format!(" {}", one(resource))],
    };
    lines.dedup();
    let examples = lines.iter().map(|line| format!("  l2gw {typed}{line}\n"));
    format!("Examples:\n{}", examples.collect::<String>())
}

/// With what is required, with everything, and from a file.
fn creations(resource: &'static Resource) -> Vec<String> {
    let (mut least, mut most) = (String::new(), String::new());
    for attribute in argument::created(resource) {
        let value = value(resource, attribute);
        let words = match attribute.create_arg {
            CreateArg::Positional(_) => format!(" {value}"),
            CreateArg::None => continue,
            CreateArg::Flag => format!(" --{} {value}", attribute.flag.unwrap_or(attribute.name)),
        };
        let required = attribute.post == model::resource::Post::Required
            || matches!(attribute.create_arg, CreateArg::Positional(_));
        if required {
            least += &words;
        }
        if required || attribute.shape != Shape::Project {
            most += &words;
        }
    }
    let mut lines = vec![least, most];
    if bulk::is_possible(resource) {
        lines.push(format!(" --file macs.csv {UUID}"));
    }
    lines
}

fn change(resource: &'static Resource) -> String {
    argument::updated(resource)
        .next()
        .map(|attribute| {
            let option = attribute.flag.unwrap_or(attribute.name);
            format!(" --{option} new-{}", value(resource, attribute))
        })
        .unwrap_or_default()
}

fn one(resource: &Resource) -> &'static str {
    if resource.named {
        name(resource.kind)
    } else {
        UUID
    }
}

fn value(resource: &'static Resource, attribute: &Attribute) -> &'static str {
    match attribute.shape {
        Shape::Reference(target, _) => one(Resource::of(target)),
        Shape::Mac if argument::companion(resource, attribute).is_some() => {
            "'00:11:22:33:44:55;192.168.10.23'"
        }
        Shape::Mac => "00:11:22:33:44:55",
        Shape::Ip | Shape::FixedIps => "192.168.10.23",
        Shape::TunnelEndpoint | Shape::BindingProfile => "10.0.0.1",
        Shape::Vni => "456",
        Shape::VlanText => "100",
        Shape::Bool => "False",
        Shape::Integer(..) => "1400",
        Shape::Word(words) => words.first().copied().unwrap_or_default(),
        Shape::Devices => "'name=switch1,interface_names=eth1|100;eth2|200'",
        Shape::Segments => "network_type=vxlan,segmentation_id=456",
        Shape::Text(_) if attribute.name == "name" => name(resource.kind),
        Shape::Text(_) => "host1",
        Shape::Project => "84429618ed684296bc48eb120acf57bc",
        Shape::Id
        | Shape::Mirror(_)
        | Shape::Constant(_)
        | Shape::Status
        | Shape::StatusReason
        | Shape::Revision
        | Shape::CreatedAt
        | Shape::UpdatedAt => UUID,
    }
}

const fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Network => "net1",
        Kind::Port => "vm1",
        Kind::L2Gateway => "gw1",
        Kind::L2RemoteGateway => "rgw1",
        Kind::L2GatewayConnection | Kind::L2RemoteGatewayConnection | Kind::L2RemoteMac => UUID,
    }
}
