//! The two programs that stay: `l2gw server` and `l2gw vtep`.

use std::fmt::Display;
use std::io::{self, IsTerminal};
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};
use tracing_subscriber::EnvFilter;

use crate::{config, refused};

pub(crate) const SERVER: &str = "server";
pub(crate) const VTEP: &str = "vtep";
const LOG: &str = "log";
const LOG_FORMAT: &str = "log-format";
const JSON: &str = "json";

/// Their commands.
pub(crate) fn commands() -> [Command; 2] {
    [
        server_command(SERVER)
            .about("Answer the API and drive switches")
            .after_help(config::PRECEDENCE)
            .display_order(0),
        vtep::Options::augment_args(Command::new(VTEP))
            .about("Turn this server into a hardware_vtep switch")
            .args(log())
            .display_order(1),
    ]
}

/// A command with the options of `l2gw server`.
pub(crate) fn server_command(name: &'static str) -> Command {
    server::Options::augment_args(Command::new(name))
        .args(log())
        .arg(config::option())
}

/// `--log FILTER` and `--log-format FORMAT`.
fn log() -> [Arg; 2] {
    let filter = Arg::new(LOG)
        .long(LOG)
        .value_name("FILTER")
        .env("RUST_LOG")
        .hide_env_values(true)
        .default_value("info")
        .value_parser(|filter: &str| EnvFilter::try_new(filter).map(|_| filter.to_owned()))
        .help(
            "What to log to standard error: error, warn, info, debug, trace, or MODULE=LEVEL,...",
        );
    let format = Arg::new(LOG_FORMAT)
        .long(LOG_FORMAT)
        .value_name("FORMAT")
        .default_value("text")
        .value_parser(["text", JSON])
        .help("How to log: text for people, or json, an object a line");
    [filter, format]
}

/// Runs `l2gw server` until it is told to end.
pub(crate) fn server(matches: &ArgMatches) -> ExitCode {
    run(SERVER, matches, server::run)
}

/// Runs `l2gw vtep` until it is told to end.
pub(crate) fn vtep(matches: &ArgMatches) -> ExitCode {
    run(VTEP, matches, vtep::run)
}

/// Says in one line, as service logs want it, which value a daemon was given that does not fit; nothing for any other
/// error.
pub(crate) fn refuse(error: &clap::Error) -> Option<ExitCode> {
    let name = std::env::args_os().nth(1)?.into_string().ok()?;
    let is_daemon = [SERVER, VTEP].contains(&name.as_str());
    if !is_daemon || error.kind() != ErrorKind::ValueValidation {
        return None;
    }
    let text = error.to_string();
    let line = text.lines().next()?.trim_start_matches("error: ");
    Some(refused(&format!("l2gw {name}: {line}"), 2))
}

fn run<O, E, F>(name: &str, matches: &ArgMatches, serve: impl FnOnce(O) -> F) -> ExitCode
where
    O: FromArgMatches,
    E: Display,
    F: Future<Output = Result<(), E>>,
{
    let options = match O::from_arg_matches(matches) {
        Ok(options) => options,
        Err(error) => error.exit(),
    };
    let filter = matches
        .get_one::<String>(LOG)
        .map_or("info", |filter| filter);
    let log = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(filter))
        .with_writer(io::stderr);
    let format = matches.get_one::<String>(LOG_FORMAT);
    match format.is_some_and(|format| format == JSON) {
        true => log.json().init(),
        false => log.with_ansi(io::stderr().is_terminal()).init(),
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let outcome = match runtime {
        Ok(runtime) => runtime
            .block_on(serve(options))
            .map_err(|why| why.to_string()),
        Err(cause) => Err(cause.to_string()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => refused(&format!("l2gw {name}: {why}"), 1),
    }
}
