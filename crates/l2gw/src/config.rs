//! The configuration of `l2gw server`: command line before environment before file.
//!
//! Every option exists in all three under the same name: `--body-limit`, `L2GW_BODY_LIMIT`, `body-limit = …`. They are
//! defined once, as options of the command; what is here derives from that definition and knows no option.

mod layers;

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::Resettable;
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command, value_parser};

use crate::daemon::{self, SERVER};
use crate::refused;

use self::layers::{Origin, Setting};

/// The command that shows and checks configurations, and the option that names the file.
pub(crate) const CONFIG: &str = "config";

const EXAMPLE: &str = "example";
const CHECK: &str = "check";
const SHOW: &str = "show";
const FILE: &str = "file";

/// Exit code for a configuration that makes no sense, as for a command line that makes none.
const USAGE: u8 = 2;

/// Said at the end of the server's help.
pub(crate) const PRECEDENCE: &str = "Every option can also be set in the environment (L2GW_BODY_LIMIT; several values \
    separated by spaces) and in the file that --config names (body-limit = …; see l2gw config example). The command line \
    comes first, then the environment, then the file.";

/// `--config FILE`.
pub(crate) fn option() -> Arg {
    Arg::new(CONFIG)
        .long(CONFIG)
        .value_name("FILE")
        .env(layers::variable(CONFIG))
        .hide_env_values(true)
        .value_parser(value_parser!(PathBuf))
        .help("File with options, in TOML; see l2gw config example")
}

/// `l2gw config …`.
pub(crate) fn command() -> Command {
    Command::new(CONFIG)
        .about("Show and check the configuration of l2gw server")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .display_order(2)
        .subcommand(
            Command::new(EXAMPLE)
                .about("Print a file with every option, its meaning and its default"),
        )
        .subcommand(
            Command::new(CHECK)
                .about("Say what is wrong with a file, a line each; end with 2 if anything is")
                .arg(
                    Arg::new(FILE)
                        .value_name("FILE")
                        .required(true)
                        .value_parser(value_parser!(PathBuf)),
                ),
        )
        .subcommand(
            daemon::server_command(SHOW)
                .about("Print the options in effect, and where each comes from")
                .after_help(PRECEDENCE),
        )
}

/// Runs `l2gw config …`.
pub(crate) fn run(matches: &ArgMatches) -> ExitCode {
    let said = match matches.subcommand() {
        Some((CHECK, given)) => check(given),
        Some((SHOW, given)) => show(given),
        _ => Ok(example(&daemon::server_command(SERVER))),
    };
    match said {
        // When nobody reads it, there is nobody to tell.
        Ok(text) => match io::stdout().write_all(text.as_bytes()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
        Err(objections) => refused(&objections.join("\n"), USAGE),
    }
}

/// The words of a command line with what environment and file say added, if they start the server or ask what would be
/// in effect.
///
/// # Errors
/// What is wrong with environment or file, in one line.
pub(crate) fn completed(words: Vec<OsString>) -> Result<Vec<OsString>, String> {
    let word = |at: usize| words.get(at).and_then(|word| word.to_str());
    if word(1) != Some(SERVER) {
        return Ok(words);
    }
    let command = daemon::server_command(SERVER);
    let given = command
        .clone()
        .ignore_errors(true)
        .try_get_matches_from(words.iter().skip(1));
    // Help was asked for.
    let Ok(given) = given else {
        return Ok(words);
    };
    let settings = settings(&command, &given).map_err(|mut objections| {
        let others = objections.len().saturating_sub(1);
        let first = objections.drain(..1).collect::<String>();
        match others {
            0 => first,
            _ => format!("{first} (and {others} more; see l2gw config check)"),
        }
    })?;
    let effective: Vec<_> = settings
        .iter()
        .filter(|setting| counts(&command, &given, setting))
        .collect();
    Ok(layers::completed(words, &command, &effective))
}

/// What environment and file say, each option once.
fn settings(command: &Command, given: &ArgMatches) -> Result<Vec<Setting>, Vec<String>> {
    let bare = without_variables(command);
    let mut settings =
        layers::environment(&bare, |name| std::env::var_os(name)).map_err(|it| vec![it])?;
    if let Some(path) = given.get_one::<PathBuf>(CONFIG) {
        let of_file = layers::file(&bare, path)?;
        let new = of_file
            .into_iter()
            .filter(|it| settings.iter().all(|known| known.name != it.name));
        settings.extend(new.collect::<Vec<_>>());
    }
    Ok(settings)
}

/// Whether nothing that comes before it says otherwise.
fn counts(command: &Command, given: &ArgMatches, setting: &Setting) -> bool {
    let arg = layers::option(command, &setting.name);
    match arg.and_then(|arg| given.value_source(arg.get_id().as_str())) {
        Some(ValueSource::CommandLine) => false,
        // RUST_LOG, which the option has besides.
        Some(ValueSource::EnvVariable) => matches!(setting.origin, Origin::Variable(_)),
        _ => true,
    }
}

/// The command as the environment does not touch it, for looking at one value alone.
fn without_variables(command: &Command) -> Command {
    command.clone().mut_args(|arg| arg.env(Resettable::Reset))
}

fn check(given: &ArgMatches) -> Result<String, Vec<String>> {
    let Some(path) = given.get_one::<PathBuf>(FILE) else {
        return Ok(String::new());
    };
    let command = without_variables(&daemon::server_command(SERVER));
    let settings = layers::file(&command, path)?;
    let all = settings.iter().collect::<Vec<_>>();
    let words = layers::completed(vec![SERVER.into()], &command, &all);
    match command.try_get_matches_from(words) {
        Ok(_) => Ok(format!("{}: {} options\n", path.display(), all.len())),
        Err(error) => Err(vec![format!(
            "{}: {}",
            path.display(),
            layers::objection(&error)
        )]),
    }
}

fn show(given: &ArgMatches) -> Result<String, Vec<String>> {
    let command = daemon::server_command(SHOW);
    let settings = settings(&command, given)?;
    let effective: Vec<_> = settings
        .iter()
        .filter(|setting| counts(&command, given, setting))
        .collect();
    let mut text = String::new();
    for (name, arg) in layers::options(&command) {
        let id = arg.get_id().as_str();
        let (values, source) = match effective.iter().find(|setting| setting.name == name) {
            Some(setting) => (setting.values.clone(), setting.origin.to_string()),
            None => {
                let source = match given.value_source(id) {
                    Some(ValueSource::CommandLine) => "command line".to_owned(),
                    Some(ValueSource::EnvVariable) => variable_of(arg),
                    _ => "default".to_owned(),
                };
                let raw = given.get_raw(id).into_iter().flatten();
                let values = raw.map(|value| value.to_string_lossy().into_owned());
                (values.collect(), source)
            }
        };
        let values: Vec<_> = values.iter().map(|value| masked(name, value)).collect();
        // Writing to a string does not fail.
        let _ = match literal(arg, &values) {
            Some(value) => writeln!(text, "{name} = {value} # {source}"),
            None => writeln!(text, "# {name} is not set"),
        };
    }
    Ok(text)
}

fn variable_of(arg: &Arg) -> String {
    let variable = arg.get_env().map(|name| name.to_string_lossy());
    variable.unwrap_or_default().into_owned()
}

/// A file with every option.
fn example(command: &Command) -> String {
    let mut text = String::from(
        "# Options of l2gw server. Each is also an option of its command line (--body-limit) and a variable of its\n\
         # environment (L2GW_BODY_LIMIT); the command line comes first, then the environment, then this file.\n",
    );
    for (name, arg) in layers::options(command) {
        let help = arg.get_long_help().or(arg.get_help());
        let help = help.map(ToString::to_string).unwrap_or_default();
        text.push('\n');
        for paragraph in help.split("\n\n") {
            for line in textwrap::wrap(&paragraph.replace('\n', " "), WIDTH) {
                // Writing to a string does not fail.
                let _ = writeln!(text, "# {line}");
            }
        }
        let default: Vec<_> = arg
            .get_default_values()
            .iter()
            .map(|value| value.to_string_lossy().into_owned())
            .collect();
        let value = literal(arg, &default).unwrap_or_else(|| {
            let placeholder = arg.get_value_names().and_then(|names| names.first());
            let placeholder = placeholder.map(ToString::to_string).unwrap_or_default();
            literal(arg, &[placeholder]).unwrap_or_default()
        });
        let _ = writeln!(text, "# {name} = {value}");
    }
    text
}

/// Columns of the example's comments, without `# `.
const WIDTH: usize = 98;

/// Values as TOML; nothing where there are none.
fn literal(arg: &Arg, values: &[String]) -> Option<String> {
    let string = |value: &String| toml::Value::from(value.as_str()).to_string();
    if layers::is_flag(arg) {
        return Some(values.first().map_or("false", |value| value).to_owned());
    }
    if layers::is_list(arg) && !values.is_empty() {
        let items: Vec<_> = values.iter().map(string).collect();
        return Some(format!("[{}]", items.join(", ")));
    }
    let value = values.first()?;
    Some(match value.parse::<i64>() {
        Ok(number) => number.to_string(),
        Err(_) => string(value),
    })
}

/// A value as everybody may see it: without passwords, also those within URLs (RFC 3986, section 3.2.1).
fn masked(name: &str, value: &str) -> String {
    const SECRET: &str = "***";
    if name.ends_with("password") || name.ends_with("secret") {
        return SECRET.to_owned();
    }
    let parts = value.split_once("://").and_then(|(scheme, rest)| {
        let authority = rest.split(['/', '?', '#']).next()?;
        let (user_info, _) = authority.rsplit_once('@')?;
        let (user, _) = user_info.split_once(':')?;
        Some((scheme, user, rest.get(user_info.len()..)?))
    });
    match parts {
        Some((scheme, user, rest)) => format!("{scheme}://{user}:{SECRET}{rest}"),
        None => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_masked_wherever_they_stand() {
        for (name, value, shown) in [
            ("keystone-password", "geheim", "***"),
            (
                "database",
                "postgres://l2gw:geh@eim@db.example/l2gw",
                "postgres://l2gw:***@db.example/l2gw",
            ),
            ("database", "/var/lib/l2gw/l2gw.db", "/var/lib/l2gw/l2gw.db"),
            ("listen", "127.0.0.1:9720", "127.0.0.1:9720"),
        ] {
            assert_eq!(masked(name, value), shown);
        }
    }
}
