//! Options that say where the server is, who asks, and how long to wait. They stand before or behind a command's name.

use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, value_parser};
use openstack::clouds::Places;
use openstack::settings::{self, Setting, Settings};
use openstack::{Client, Endpoint};

use crate::failure::Failure;

const ENDPOINT: &str = "endpoint";
const TIMEOUT: &str = "timeout";
const DEBUG: &str = "debug";
/// Where `l2gw server` listens unless it is told otherwise.
const DEFAULT_ENDPOINT: &str = "http://127.0.0.1:9720";
/// Seconds. A bulk of a million stations takes less.
const DEFAULT_TIMEOUT: u64 = 120;

/// The options in front of a command's name.
pub(crate) fn before() -> impl Iterator<Item = Arg> {
    server().into_iter().chain(login())
}

/// The options behind a command's name, which override those. Every command has them, so its help tells only the few that
/// are about the server.
pub(crate) fn behind() -> impl Iterator<Item = Arg> {
    let hidden = login().map(|option| option.hide(true));
    server().into_iter().chain(hidden)
}

fn server() -> [Arg; 3] {
    let option = |name: &'static str| {
        Arg::new(name)
            .long(name)
            .help_heading("Server")
            .display_order(900)
    };
    let endpoint = settings::ALL.iter().find(|s| s.name == ENDPOINT);
    let aliases = endpoint.into_iter().flat_map(|setting| setting.aliases);
    [
        option(ENDPOINT)
            .long("os-endpoint")
            .aliases(aliases.map(|alias| format!("os-{alias}")))
            .value_name("URL")
            .value_parser(|text: &str| text.parse::<Endpoint>().map(|_| text.to_owned()))
            .help(format!(
                "Address of the server, or unix:PATH; otherwise OS_ENDPOINT, otherwise {DEFAULT_ENDPOINT}"
            )),
        option(TIMEOUT)
            .alias("http-timeout")
            .value_name("SECONDS")
            .value_parser(value_parser!(u64).range(1..))
            .help(format!(
                "How long the server may keep silent; {DEFAULT_TIMEOUT} where left out"
            )),
        option(DEBUG)
            .action(ArgAction::SetTrue)
            .help("Print requests and answers to standard error"),
    ]
}

fn login() -> impl Iterator<Item = Arg> {
    settings::ALL
        .iter()
        .filter(|setting| setting.name != ENDPOINT)
        .enumerate()
        .map(|(place, setting)| {
            let option = Arg::new(setting.name)
                .help(setting.help)
                .help_heading("Login, also by OS_* variables and clouds.yaml")
                .display_order(910 + place)
                .aliases(setting.aliases.iter().map(|alias| format!("os-{alias}")));
            match setting.value_name {
                Some(value) => option
                    .long(format!("os-{}", setting.name))
                    .value_name(value),
                None => option
                    .long(setting.name)
                    .alias(format!("os-{}", setting.name))
                    .action(ArgAction::SetTrue),
            }
        })
}

/// Whether requests and answers are to be printed: the binary sets its log up accordingly.
pub fn is_debug(matches: &ArgMatches) -> bool {
    let mut level = Some(matches);
    while let Some(matches) = level {
        if matches
            .try_get_one::<bool>(DEBUG)
            .is_ok_and(|debug| debug == Some(&true))
        {
            return true;
        }
        level = matches.subcommand().map(|(_, below)| below);
    }
    false
}

/// The client that the options ask for; `before` and `behind` are the matches on either side of the command's name.
pub(crate) async fn client(before: &ArgMatches, behind: &ArgMatches) -> Result<Client, Failure> {
    let timeout = behind
        .get_one::<u64>(TIMEOUT)
        .or_else(|| before.get_one(TIMEOUT));
    let timeout = Duration::from_secs(timeout.copied().unwrap_or(DEFAULT_TIMEOUT));
    let variable = |name: &str| std::env::var(name).ok();
    let mut told = typed(behind)
        .over(typed(before))
        .over(Settings::of_environment(variable));
    if let Some(cloud) = told.get("cloud") {
        let cloud = Places::of_environment(variable).cloud(cloud)?;
        told = told.over(cloud);
    }
    Ok(openstack::connect(&told, DEFAULT_ENDPOINT, timeout).await?)
}

fn typed(matches: &ArgMatches) -> Settings {
    let mut settings = Settings::default();
    for setting in settings::ALL {
        if let Some(value) = value(setting, matches) {
            settings.set(setting.name, value);
        }
    }
    settings
}

fn value(setting: &Setting, matches: &ArgMatches) -> Option<String> {
    match setting.value_name {
        Some(_) => matches.get_one::<String>(setting.name).cloned(),
        None => matches.get_flag(setting.name).then(|| "true".to_owned()),
    }
}
