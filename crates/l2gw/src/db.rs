//! `l2gw db …`: what operators do to a database beside letting a server use it.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command, value_parser};
use model::resource::Resource;
use store::upkeep::{self, Census};

use crate::refused;

pub(crate) const DB: &str = "db";

const VERSION: &str = "version";
const UPGRADE: &str = "upgrade";
const CHECK: &str = "check";
const BACKUP: &str = "backup";
const COPY: &str = "copy";

const URL: &str = "url";
const FILE: &str = "file";
const FROM: &str = "from";
const TO: &str = "to";
const DATABASE: &str = "database";

/// `l2gw db …`.
pub(crate) fn command() -> Command {
    let url = |id: &'static str, name: &'static str| {
        Arg::new(id)
            .value_name(name)
            .required(true)
            .help("Path of a SQLite file, or postgres://USER@HOST:PORT/NAME; a password is taken from PGPASSWORD too")
    };
    Command::new(DB)
        .about("Look after the database of l2gw server")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .display_order(3)
        .subcommand(
            Command::new(VERSION)
                .about("Print the version of a database's schema")
                .arg(url(URL, "URL")),
        )
        .subcommand(
            Command::new(UPGRADE)
                .about("Make a database, or bring its schema up to date, as the next start of the server would")
                .arg(url(URL, "URL")),
        )
        .subcommand(
            Command::new(CHECK)
                .about("Read all of a database and say what is damaged; a server may use it meanwhile")
                .arg(url(URL, "URL")),
        )
        .subcommand(
            Command::new(BACKUP)
                .about("Write a SQLite database as it is now to a new file; a server may use it meanwhile")
                .arg(
                    Arg::new(FILE)
                        .value_name("FILE")
                        .required(true)
                        .value_parser(value_parser!(PathBuf))
                        .help("The new file"),
                )
                .arg(
                    Arg::new(DATABASE)
                        .long(DATABASE)
                        .value_name("URL")
                        .env("L2GW_DATABASE")
                        .hide_env_values(true)
                        .required(true)
                        .help("The database, as the server was given it"),
                ),
        )
        .subcommand(
            Command::new(COPY)
                .about("Copy all rows into a new database, of either engine, and compare them; no server may run")
                .arg(url(FROM, "FROM"))
                .arg(url(TO, "TO")),
        )
}

/// Runs `l2gw db …`.
pub(crate) fn run(matches: &ArgMatches) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let done = match runtime {
        Ok(runtime) => runtime.block_on(carry_out(matches)),
        Err(cause) => Err(cause.to_string()),
    };
    match done {
        // When nobody can be told, the exit code still tells.
        Ok(said) => match io::stdout().write_all(said.as_bytes()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
        Err(why) => refused(&format!("l2gw db: {why}"), 1),
    }
}

/// What is said afterwards, or why it could not be done.
async fn carry_out(matches: &ArgMatches) -> Result<String, String> {
    let Some((action, matches)) = matches.subcommand() else {
        return Err("nothing to do".to_owned());
    };
    let text = |id| matches.get_one::<String>(id).cloned().unwrap_or_default();
    let file = || {
        matches
            .get_one::<PathBuf>(FILE)
            .cloned()
            .unwrap_or_default()
    };
    let said = match action {
        VERSION => upkeep::version(&text(URL)).await.map(line),
        UPGRADE => match upkeep::upgrade(&text(URL)).await {
            Ok(()) => upkeep::version(&text(URL)).await.map(line),
            Err(error) => Err(error.into()),
        },
        CHECK => upkeep::check(&text(URL)).await.map(table),
        BACKUP => upkeep::backup(&text(DATABASE), &file())
            .await
            .map(|()| String::new()),
        _ => upkeep::copy(&text(FROM), &text(TO)).await.map(table),
    };
    said.map_err(|error| error.to_string())
}

fn line(version: u32) -> String {
    format!("{version}\n")
}

/// How many rows of each kind there are.
fn table(census: Census) -> String {
    let line = |(kind, rows)| format!("{rows:>9} {}\n", Resource::of(kind).collection);
    census.into_iter().map(line).collect()
}
