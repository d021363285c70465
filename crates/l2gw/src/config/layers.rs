//! What the environment and a file say about a command's options.
//!
//! Both are turned into words of the command line, for those options that the command line itself does not have. So there
//! is one definition of an option, and one place that checks its value: clap.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, Command};
use model::spelling::closest;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

/// What variables are called: this, and the option's name in capitals.
const PREFIX: &str = "L2GW_";

/// An option's value, and who says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Setting {
    /// The option's long name.
    pub(super) name: String,
    /// As on the command line; `true` or `false` for a flag.
    pub(super) values: Vec<String>,
    pub(super) origin: Origin,
}

/// Who says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    Variable(String),
    File { path: PathBuf, line: usize },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Variable(name) => f.write_str(name),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
        }
    }
}

impl Setting {
    /// The same on the command line.
    pub(super) fn words(&self, command: &Command) -> Vec<OsString> {
        let Self { name, values, .. } = self;
        let is_flag = option(command, name).is_some_and(is_flag);
        match values.as_slice() {
            [on] if is_flag && on == "true" => vec![format!("--{name}").into()],
            _ if is_flag => Vec::new(),
            values => values
                .iter()
                .map(|value| format!("--{name}={value}").into())
                .collect(),
        }
    }

    /// What is wrong with its value, in one line.
    fn objection(&self, command: &Command) -> Option<String> {
        // Only this option: what it needs beside it is for the whole command line to say.
        let alone = command.clone().no_binary_name(true);
        let error = alone.try_get_matches_from(self.words(command)).err()?;
        let about_value = [
            ErrorKind::ValueValidation,
            ErrorKind::InvalidValue,
            ErrorKind::TooManyValues,
        ];
        about_value
            .contains(&error.kind())
            .then(|| format!("{}: {}", self.origin, objection(&error)))
    }
}

/// What clap objects to, without its advice.
pub(super) fn objection(error: &clap::Error) -> String {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    line.trim_start_matches("error: ").to_owned()
}

/// The options that can be set by environment and file, in the order of the command's help.
pub(super) fn options(command: &Command) -> impl Iterator<Item = (&str, &Arg)> {
    command.get_arguments().filter_map(|arg| {
        let name = arg.get_long()?;
        let elsewhere = ["help", "version", super::CONFIG].contains(&name);
        (!elsewhere && !arg.is_hide_set()).then_some((name, arg))
    })
}

pub(super) fn option<'c>(command: &'c Command, name: &str) -> Option<&'c Arg> {
    options(command).find_map(|(long, arg)| (long == name).then_some(arg))
}

pub(super) fn is_flag(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::SetTrue)
}

pub(super) fn is_list(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::Append)
}

/// `L2GW_BODY_LIMIT` for `body-limit`.
pub(super) fn variable(name: &str) -> String {
    format!("{PREFIX}{}", name.to_uppercase().replace('-', "_"))
}

/// What the environment says. Several values of one option are separated by spaces.
pub(super) fn environment(
    command: &Command,
    of: impl Fn(&str) -> Option<OsString>,
) -> Result<Vec<Setting>, String> {
    let mut settings = Vec::new();
    for (name, arg) in options(command) {
        let variable = variable(name);
        let Some(text) = of(&variable).filter(|text| !text.is_empty()) else {
            continue;
        };
        let text = text
            .into_string()
            .map_err(|_| format!("{variable}: not UTF-8"))?;
        let values = if is_list(arg) {
            text.split_whitespace().map(str::to_owned).collect()
        } else if is_flag(arg) {
            vec![truth(&text).ok_or_else(|| format!("{variable}: expected true or false"))?]
        } else {
            vec![text]
        };
        let setting = Setting {
            name: name.to_owned(),
            values,
            origin: Origin::Variable(variable),
        };
        match setting.objection(command) {
            Some(objection) => return Err(objection),
            None => settings.push(setting),
        }
    }
    Ok(settings)
}

fn truth(text: &str) -> Option<String> {
    let truth = match text.to_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => "true",
        "false" | "no" | "off" | "0" => "false",
        _ => return None,
    };
    Some(truth.to_owned())
}

/// What a file says.
///
/// # Errors
/// Everything that is wrong with it, a line each, with its place.
pub(super) fn file(command: &Command, path: &Path) -> Result<Vec<Setting>, Vec<String>> {
    let text = std::fs::read_to_string(path)
        .map_err(|cause| vec![format!("cannot read {}: {cause}", path.display())])?;
    let line = |offset: usize| {
        let before = text.as_bytes().iter().take(offset);
        1 + before.filter(|byte| **byte == b'\n').count()
    };
    let at = |offset: usize| format!("{}:{}", path.display(), line(offset));
    let table = DeTable::parse(&text).map_err(|error| {
        let offset = error.span().map_or(0, |span| span.start);
        vec![format!("{}: {}", at(offset), error.message())]
    })?;
    let mut entries: Vec<_> = table.get_ref().iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    let (mut settings, mut objections) = (Vec::new(), Vec::new());
    for (key, value) in entries {
        let (name, offset) = (key.get_ref().as_ref(), key.span().start);
        let Some(arg) = option(command, name) else {
            objections.push(format!("{}: {}", at(offset), unknown(command, name)));
            continue;
        };
        match values(arg, value) {
            Ok(values) => {
                let setting = Setting {
                    name: name.to_owned(),
                    values,
                    origin: Origin::File {
                        path: path.to_owned(),
                        line: line(offset),
                    },
                };
                objections.extend(setting.objection(command));
                settings.push(setting);
            }
            Err(expected) => {
                objections.push(format!("{}: {name}: expected {expected}", at(offset)));
            }
        }
    }
    match objections.is_empty() {
        true => Ok(settings),
        false => Err(objections),
    }
}

/// The values of an option as on the command line, or what was expected instead.
fn values(arg: &Arg, value: &Spanned<DeValue<'_>>) -> Result<Vec<String>, &'static str> {
    match value.get_ref() {
        DeValue::Boolean(truth) if is_flag(arg) => Ok(vec![truth.to_string()]),
        _ if is_flag(arg) => Err("true or false"),
        DeValue::Array(items) if is_list(arg) => several(items),
        one => match scalar(one) {
            Some(text) => Ok(vec![text]),
            None if is_list(arg) => Err("a list of strings"),
            None => Err("a string or a number"),
        },
    }
}

fn several(items: &DeArray<'_>) -> Result<Vec<String>, &'static str> {
    let texts = items.iter().map(|item| scalar(item.get_ref()));
    texts.collect::<Option<_>>().ok_or("a list of strings")
}

fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.clone().into_owned()),
        DeValue::Integer(number) => {
            let number = i64::from_str_radix(number.as_str(), number.radix()).ok()?;
            Some(number.to_string())
        }
        DeValue::Float(number) => Some(number.as_str().to_owned()),
        _ => None,
    }
}

fn unknown(command: &Command, name: &str) -> String {
    let known = options(command).map(|(known, _)| known);
    match closest(&name.replace('_', "-"), known) {
        Some(known) => format!("unknown option {name}; did you mean {known}?"),
        None => format!("unknown option {name}; l2gw config example names them all"),
    }
}

/// The command line with what environment and file say, for those options that are not in `given`.
pub(super) fn completed(
    words: Vec<OsString>,
    command: &Command,
    settings: &[&Setting],
) -> Vec<OsString> {
    // Behind `--` there are no options.
    let end = words
        .iter()
        .position(|word| word == OsStr::new("--"))
        .unwrap_or(words.len());
    let mut completed = words;
    let added = settings.iter().flat_map(|setting| setting.words(command));
    completed.splice(end..end, added.collect::<Vec<_>>());
    completed
}
