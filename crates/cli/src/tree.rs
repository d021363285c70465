//! The commands: each verb of each resource, under its traditional name (`l2-remote-gateway-create`) and noun first
//! (`remote-gateway create`).

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use model::resource::Resource;
use model::table;

use crate::{argument, bulk, connection, example, look, output};

/// The argument that says which one to show, update or delete.
pub(crate) const TARGET: &str = "target";
pub(crate) const LIMIT: &str = "limit";
pub(crate) const MARKER: &str = "marker";
pub(crate) const PAGE_SIZE: &str = "page-size";
pub(crate) const SORT_KEY: &str = "sort-key";
pub(crate) const SORT_DIR: &str = "sort-dir";

/// What can be done with a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// POST.
    Create,
    /// GET of the collection.
    List,
    /// GET of one.
    Show,
    /// PUT.
    Update,
    /// DELETE of one or several.
    Delete,
}

impl Verb {
    const ALL: [Self; 5] = [
        Self::Create,
        Self::List,
        Self::Show,
        Self::Update,
        Self::Delete,
    ];

    /// The verbs of a resource.
    fn of(resource: &Resource) -> impl Iterator<Item = Self> {
        let exists = |verb: &Self| *verb != Self::Update || resource.updatable;
        Self::ALL.into_iter().filter(exists)
    }

    /// The word in a command's name.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::List => "list",
            Self::Show => "show",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }

    fn about(self, resource: &Resource) -> String {
        let noun = resource.noun;
        match self {
            Self::Create => format!("Create {}", resource.about),
            Self::List => format!("List {noun}s"),
            Self::Show => format!("Show one {noun}"),
            Self::Update => format!("Change a {noun}"),
            Self::Delete => format!("Delete {noun}s"),
        }
    }
}

/// A command that was typed.
#[derive(Clone, Copy, Debug)]
pub struct Invocation<'m> {
    /// Of which resource.
    pub resource: &'static Resource,
    /// What to do.
    pub verb: Verb,
    /// Its arguments.
    pub matches: &'m ArgMatches,
}

impl<'m> Invocation<'m> {
    /// The client command in what clap made of the command line of [`command`], if there is one.
    pub fn find(matches: &'m ArgMatches) -> Option<Self> {
        let (name, matches) = matches.subcommand()?;
        if let Some((resource, verb)) = traditional(name) {
            return Some(Self {
                resource,
                verb,
                matches,
            });
        }
        let resource = *table::ALL.iter().find(|r| r.short_command == name)?;
        let (word, matches) = matches.subcommand()?;
        let verb = Verb::of(resource).find(|verb| verb.word() == word)?;
        Some(Self {
            resource,
            verb,
            matches,
        })
    }
}

/// The whole tree of client commands. The binary adds its daemons to it.
pub fn command() -> Command {
    // The binary's daemons come first.
    let groups = table::ALL
        .iter()
        .enumerate()
        .map(|(place, resource)| group(resource).display_order(place + 10));
    let names = table::ALL.iter().flat_map(|resource| {
        Verb::of(resource)
            .filter(|_| has_traditional_name(resource))
            .map(|verb| {
                // Only the command that was typed is built: that keeps the start of the program short.
                Command::new(traditional_name(resource, verb))
                    .about(verb.about(resource))
                    .hide(true)
                    .defer(define_traditional)
            })
    });
    Command::new("l2gw")
        .about("Joins layer-2 networks of separate clouds")
        .version(env!("CARGO_PKG_VERSION"))
        .max_term_width(100)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .args(connection::before())
        .subcommands(groups)
        .subcommands(names)
        .subcommands(look::commands())
        .after_help(overview())
}

/// Reads a command line by a tree. Beyond clap, option names may be spelled with underscores, as old neutron scripts do.
///
/// # Errors
/// The command line does not fit, or asks for help: [`clap::Error::exit`] tells the person who typed it.
pub fn parse(
    command: Command,
    words: impl Iterator<Item = OsString>,
) -> Result<ArgMatches, clap::Error> {
    /// More are no help: all our commands resemble each other.
    const SUGGESTED: usize = 3;
    let words = words.scan(true, |options, word| {
        *options &= word != "--";
        Some(if *options { dashed(word) } else { word })
    });
    command.try_get_matches_from(words).map_err(|mut error| {
        let kind = ContextKind::SuggestedSubcommand;
        if let Some(ContextValue::Strings(names)) = error.get(kind) {
            // The most similar ones stand last.
            let best = names.iter().rev().take(SUGGESTED).cloned().collect();
            error.insert(kind, ContextValue::Strings(best));
        }
        error
    })
}

/// `--sort_key=x_y` as `--sort-key=x_y`.
fn dashed(word: OsString) -> OsString {
    match word.to_str() {
        Some(text) if text.starts_with("--") => {
            let (name, value) = text.split_at(text.find('=').unwrap_or(text.len()));
            (name.replace('_', "-") + value).into()
        }
        _ => word,
    }
}

fn group(resource: &'static Resource) -> Command {
    let mut about = resource.about.to_owned();
    if let Some(first) = about.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    Command::new(resource.short_command)
        .about(about)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .defer(define_group)
}

fn define_group(group: Command) -> Command {
    let name = group.get_name().to_owned();
    let resource = table::ALL.iter().find(|r| r.short_command == name);
    group.subcommands(resource.into_iter().flat_map(|resource| {
        Verb::of(resource).map(|verb| {
            let command = Command::new(verb.word()).about(verb.about(resource));
            let typed = format!("{} {}", resource.short_command, verb.word());
            define(command, resource, verb, &typed)
        })
    }))
}

fn define_traditional(command: Command) -> Command {
    let name = command.get_name().to_owned();
    match traditional(&name) {
        Some((resource, verb)) => define(command, resource, verb, &name),
        None => command,
    }
}

/// The arguments of one command; `typed` is its name as it is typed.
fn define(command: Command, resource: &'static Resource, verb: Verb, typed: &str) -> Command {
    let command = match verb {
        Verb::Create if bulk::is_possible(resource) => bulk::define(
            command
                .args(argument::of_create(resource))
                .args(output::arguments(output::Of::One)),
            resource,
            typed,
        ),
        Verb::Create => command
            .args(argument::of_create(resource))
            .args(output::arguments(output::Of::One)),
        Verb::List => command
            .args(argument::of_list(resource))
            .args(paging())
            .args(output::arguments(output::Of::Many)),
        Verb::Show => command
            .arg(target(resource))
            .args(output::arguments(output::Of::One)),
        Verb::Update => command
            .arg(target(resource))
            .args(argument::of_update(resource)),
        Verb::Delete => command.arg(target(resource).num_args(1..).action(ArgAction::Append)),
    };
    command
        .args(connection::behind())
        .after_help(example::text(resource, verb, typed))
}

fn target(resource: &Resource) -> Arg {
    Arg::new(TARGET)
        .value_name(resource.member.to_uppercase())
        .help(if resource.named {
            "Name or UUID"
        } else {
            "UUID"
        })
        .required(true)
        .value_parser(clap::builder::NonEmptyStringValueParser::new())
}

fn paging() -> [Arg; 5] {
    let option = |name: &'static str, short: Option<char>, value: &'static str| {
        Arg::new(name)
            .long(name)
            .short(short)
            .value_name(value)
            .help_heading("Paging and order at the server")
            .display_order(600)
    };
    [
        option(LIMIT, None, "N")
            .value_parser(value_parser!(u32))
            .help("At most so many"),
        option(MARKER, None, "UUID").help("Those behind this one"),
        option(PAGE_SIZE, Some('P'), "SIZE")
            .value_parser(value_parser!(u32).range(1..))
            .conflicts_with(LIMIT)
            .help("Fetch so many with each request"),
        option(SORT_KEY, None, "FIELD")
            .action(ArgAction::Append)
            .help("Let the server sort by this attribute; can be repeated"),
        option(SORT_DIR, None, "DIRECTION")
            .value_parser(["asc", "desc"])
            .action(ArgAction::Append)
            .help("Direction of the sort key at the same place; asc where left out"),
    ]
}

fn has_traditional_name(resource: &Resource) -> bool {
    resource.command != resource.short_command
}

fn traditional_name(resource: &Resource, verb: Verb) -> String {
    format!("{}-{}", resource.command, verb.word())
}

fn traditional(name: &str) -> Option<(&'static Resource, Verb)> {
    let (noun, word) = name.rsplit_once('-')?;
    let resource = table::ALL
        .iter()
        .find(|r| r.command == noun && has_traditional_name(r))?;
    let verb = Verb::of(resource).find(|verb| verb.word() == word)?;
    Some((resource, verb))
}

/// The traditional names for the end of the help: clap would list each verb on a line of its own.
fn overview() -> String {
    let mut text =
        "The same under the names of the specification and of networking-l2gw:\n".to_owned();
    for resource in table::ALL.iter().filter(|r| has_traditional_name(r)) {
        let verbs: Vec<_> = Verb::of(resource).map(Verb::word).collect();
        text += &format!("  {}-{{{}}}\n", resource.command, verbs.join(","));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_well_formed() {
        command().debug_assert();
    }

    #[test]
    fn both_spellings_mean_the_same() {
        for words in [
            &["l2gw", "l2-remote-gateway-connection-list"][..],
            &["l2gw", "remote-gateway-connection", "list"],
        ] {
            let matches = command().try_get_matches_from(words).unwrap();
            let invocation = Invocation::find(&matches).unwrap();
            assert_eq!(invocation.resource.member, "l2_remote_gateway_connection");
            assert_eq!(invocation.verb, Verb::List);
        }
    }

    #[test]
    fn underscores_in_option_names_are_dashes_and_stay_in_values() {
        for (typed, read) in [
            ("--sort_key", "--sort-key"),
            ("--sort_key=x_y", "--sort-key=x_y"),
            ("a_b", "a_b"),
            ("-c_d", "-c_d"),
        ] {
            assert_eq!(dashed(typed.into()), OsString::from(read));
        }
        let words = ["l2gw", "network", "show", "--", "--a_b"];
        let matches = parse(command(), words.into_iter().map(OsString::from)).unwrap();
        let invocation = Invocation::find(&matches).unwrap();
        let target = invocation.matches.get_one::<String>(TARGET);
        assert_eq!(target.map(String::as_str), Some("--a_b"));
    }

    #[test]
    fn connections_and_macs_cannot_be_updated() {
        for name in ["l2-gateway-connection-update", "l2-remote-mac-update"] {
            let error = command().try_get_matches_from(["l2gw", name]).unwrap_err();
            assert_eq!(error.kind(), clap::error::ErrorKind::InvalidSubcommand);
        }
    }
}
