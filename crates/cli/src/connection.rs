//! Options that say where the server is and how long to wait for it. They stand before or behind a command's name.

use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, value_parser};
use openstack::endpoint::BadEndpoint;
use openstack::{Client, Endpoint};

use crate::failure::Failure;

const ENDPOINT: &str = "os-endpoint";
const TIMEOUT: &str = "timeout";
const DEBUG: &str = "debug";
/// Where `l2gw server` listens unless it is told otherwise.
const DEFAULT_ENDPOINT: &str = "http://127.0.0.1:9720";
/// Seconds. A bulk of a million stations takes less.
const DEFAULT_TIMEOUT: u64 = 120;

/// The options in front of a command's name, which know the environment.
pub(crate) fn before() -> [Arg; 3] {
    let [endpoint, timeout, debug] = behind();
    [endpoint.env("OS_ENDPOINT"), timeout, debug]
}

/// The options behind a command's name, which override those.
pub(crate) fn behind() -> [Arg; 3] {
    let option = |name: &'static str| {
        Arg::new(name)
            .long(name)
            .help_heading("Server")
            .display_order(900)
    };
    [
        option(ENDPOINT)
            .value_name("URL")
            .value_parser(value_parser!(Endpoint))
            .help(format!(
                "Address of the server, or unix:PATH; otherwise OS_ENDPOINT, otherwise {DEFAULT_ENDPOINT}"
            ))
            .hide_env(true),
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
pub(crate) fn client(before: &ArgMatches, behind: &ArgMatches) -> Result<Client, Failure> {
    let endpoint = behind
        .get_one::<Endpoint>(ENDPOINT)
        .or_else(|| before.get_one(ENDPOINT));
    let endpoint = endpoint.map_or_else(|| DEFAULT_ENDPOINT.parse(), |given| Ok(given.clone()));
    let endpoint = endpoint.map_err(|cause: BadEndpoint| Failure::Usage(cause.to_string()))?;
    let timeout = behind
        .get_one::<u64>(TIMEOUT)
        .or_else(|| before.get_one(TIMEOUT));
    let timeout = Duration::from_secs(timeout.copied().unwrap_or(DEFAULT_TIMEOUT));
    Ok(Client::new(endpoint, timeout)?)
}
