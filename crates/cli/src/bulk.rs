//! Thousands of stations from a file, in one request: all are created or none.
//!
//! A line is `MAC`, `MAC,IP` or `MAC;IP`; blank lines and those that begin with `#` are nothing, and a first line of
//! headings is skipped. The whole file is read before the server hears of it, so a bad line changes nothing.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::IpAddr;

use bytes::Bytes;
use clap::{Arg, ArgMatches, Command};
use indicatif::{ProgressBar, ProgressStyle};
use model::resource::{Attribute, CreateArg, Resource};
use model::value::MacAddress;
use openstack::Error;
use openstack::page::Record;

use crate::argument::station::Station;
use crate::argument::{self, station};
use crate::console::Console;
use crate::failure::Failure;

const FILE: &str = "file";

/// Whether several of a resource can be created from a file.
pub(crate) fn is_possible(resource: &'static Resource) -> bool {
    resource.nested.is_some() && columns(resource).is_some()
}

/// The two attributes that a line has.
fn columns(resource: &'static Resource) -> Option<[&'static Attribute; 2]> {
    argument::created(resource)
        .find_map(|mac| argument::companion(resource, mac).map(|ip| [mac, ip]))
}

/// Gives `create`, whose name is typed as `typed`, its `--file`. It stands for the station: then the parent is the only
/// argument.
pub(crate) fn define(mut command: Command, resource: &'static Resource, typed: &str) -> Command {
    let positionals: Vec<_> = command.get_positionals().cloned().collect();
    let (mut all, mut last) = (String::new(), String::new());
    for argument in positionals {
        last = format!(" {argument}");
        all += &last;
        command = command.mut_arg(argument.get_id(), |argument| {
            argument.required(false).required_unless_present(FILE)
        });
    }
    let usage = format!("l2gw {typed} [OPTIONS]");
    let file = Arg::new(FILE)
        .long(FILE)
        .value_name("FILE")
        .value_parser(clap::builder::NonEmptyStringValueParser::new())
        .help(format!(
            "Create one {} for each line of this file, '-' for standard input, all or none; a line is MAC, MAC,IP or MAC;IP",
            resource.noun
        ));
    command
        .override_usage(format!("{usage}{all}\n       {usage} --file <FILE>{last}"))
        .arg(file)
}

/// The attributes that `create` takes as options.
fn options(resource: &'static Resource) -> impl Iterator<Item = &'static Attribute> {
    argument::created(resource).filter(|attribute| attribute.create_arg == CreateArg::Flag)
}

fn parent(resource: &'static Resource) -> Option<&'static Attribute> {
    resource.attribute(resource.nested.as_ref()?.attribute)
}

/// What `--file` asks for.
pub(crate) struct Request {
    /// The file, or `-`.
    file: String,
    /// The id of what the stations lie behind.
    pub(crate) parent: String,
    /// What all stations have in common: the options that were given.
    common: Record,
}

impl Request {
    /// What was asked for, if `--file` was given.
    pub(crate) fn read(
        resource: &'static Resource,
        matches: &ArgMatches,
    ) -> Result<Option<Self>, Failure> {
        let Ok(Some(file)) = matches.try_get_one::<String>(FILE) else {
            return Ok(None);
        };
        let (Some([mac, _]), Some(parent)) = (columns(resource), parent(resource)) else {
            return Ok(None);
        };
        // With --file the only argument is the parent, though it stands where the station would.
        let first = matches.get_one::<Station>(mac.name);
        let second = matches.get_one::<serde_json::Value>(parent.name);
        match (first, second) {
            (Some(Station { mac, ip: None }), None) => Ok(Some(Self {
                file: file.clone(),
                parent: mac.clone(),
                common: argument::object(resource, options(resource), matches),
            })),
            (None, _) => Err(Failure::Usage(format!(
                "--file needs one argument: {}",
                parent.help
            ))),
            _ => Err(Failure::Usage(
                "--file cannot be used with a station as argument".to_owned(),
            )),
        }
    }

    /// What messages call the file.
    pub(crate) fn name(&self) -> &str {
        match &*self.file {
            "-" => "standard input",
            file => file,
        }
    }

    /// The body of the request that creates the stations.
    pub(crate) fn body(&self, resource: &'static Resource, stations: &Stations) -> Bytes {
        stations.body(resource, &self.common)
    }

    /// Reads the stations.
    pub(crate) fn open(&self, console: &mut Console<'_>) -> Result<Stations, Failure> {
        if self.file == "-" {
            return Stations::read(self.name(), console.input);
        }
        let file = File::open(&self.file)
            .map_err(|cause| Failure::Usage(format!("unable to read {}: {cause}", self.file)))?;
        Stations::read(self.name(), &mut BufReader::new(file))
    }
}

/// The stations of a file, each with the line it came from.
#[derive(Debug, Default)]
pub(crate) struct Stations(Vec<(MacAddress, Option<IpAddr>, usize)>);

impl Stations {
    fn read(name: &str, input: &mut dyn BufRead) -> Result<Self, Failure> {
        let mut stations = Self::default();
        let mut begun = false;
        for (index, line) in input.lines().enumerate() {
            let at = |what: &dyn std::fmt::Display| {
                Failure::Usage(format!("{name}, line {}: {what}", index + 1))
            };
            let line = line.map_err(|cause| at(&cause))?;
            // Spreadsheets begin their files with a byte order mark, and may quote cells.
            let text = line.trim_start_matches('\u{feff}').replace('"', "");
            let text = text.trim();
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            let is_heading = !begun && is_heading(text);
            begun = true;
            if is_heading {
                continue;
            }
            // An empty cell is how a table says "none".
            let station =
                station::parse(text.trim_end_matches([',', ';'])).map_err(|cause| at(&cause))?;
            let mac = station
                .mac
                .parse::<MacAddress>()
                .map_err(|cause| at(&cause))?;
            let ip = station.ip.map(|ip| {
                ip.parse::<IpAddr>()
                    .map_err(|_| at(&format_args!("'{ip}' is not a valid IP address.")))
            });
            stations.0.push((mac, ip.transpose()?, index + 1));
        }
        if stations.0.is_empty() {
            return Err(Failure::Usage(format!("{name} has no stations")));
        }
        Ok(stations)
    }

    /// The body of the request that creates them, each with what they have in `common`.
    fn body(&self, resource: &'static Resource, common: &Record) -> Bytes {
        /// `{"mac":"00:11:22:33:44:55","ipaddr":"192.168.100.100"},` and a little more.
        const ONE: usize = 64;
        let collection = resource
            .dashed
            .map_or(resource.collection, |(_, many)| many);
        let [mac, ip] = columns(resource).map_or(["", ""], |both| both.map(|a| a.name));
        let mut rest = String::new();
        for (name, value) in common {
            let _ = write!(rest, ",\"{name}\":{value}");
        }
        let mut json = String::with_capacity((self.0.len() + 1) * (ONE + rest.len()));
        // Addresses and the table's names need no escapes in JSON; writing to a String cannot fail.
        let _ = write!(json, "{{\"{collection}\":[");
        for (index, (address, host, _)) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            let _ = write!(json, "{comma}{{\"{mac}\":\"{address}\"");
            if let Some(host) = host {
                let _ = write!(json, ",\"{ip}\":\"{host}\"");
            }
            json.push_str(&rest);
            json.push('}');
        }
        json.push_str("]}");
        json.into()
    }

    /// The server's refusal with the line instead of the number of the item it is about.
    pub(crate) fn explain(&self, file: &str, error: Error) -> Error {
        let Error::Refused(mut refusal) = error else {
            return error;
        };
        let item = refusal
            .message
            .strip_prefix("Item ")
            .and_then(|rest| rest.split_once(": "))
            .and_then(|(number, what)| Some((number.parse::<usize>().ok()?, what)))
            .and_then(|(number, what)| Some((self.0.get(number)?.2, what)));
        if let Some((line, what)) = item {
            refusal.message = format!("{file}, line {line}: {what}");
        }
        Error::Refused(refusal)
    }
}

/// Whether a file's first line names its columns.
fn is_heading(text: &str) -> bool {
    let first = text.split([',', ';']).next().unwrap_or_default().trim();
    first.to_ascii_lowercase().starts_with("mac")
}

/// A bar for a person who watches, nothing for anybody else.
pub(crate) fn progress(bytes: usize, watched: bool) -> ProgressBar {
    if !watched {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes} {elapsed}");
    ProgressBar::new(bytes as u64)
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

#[cfg(test)]
mod tests {
    use model::table::L2_REMOTE_MAC;

    use super::*;

    fn read(text: &str) -> Result<Stations, String> {
        Stations::read("macs.csv", &mut text.as_bytes()).map_err(|failure| failure.to_string())
    }

    #[test]
    fn every_form_of_line_is_read_and_what_is_no_station_is_passed_over() {
        let text = "\u{feff}MAC address,IP\r\n\r\n# from rack 7\n00:11:22:33:44:55\n00-11-22-33-44-66,1.2.3.4\r\n\
                    \"0011.2233.4477\";\"2001:db8::1\"\n00:11:22:33:44:88,\n";
        let stations = read(text).unwrap();
        let body = stations.body(&L2_REMOTE_MAC, &Record::new());
        insta::assert_snapshot!(String::from_utf8_lossy(&body), @r#"{"remote-macs":[{"mac":"00:11:22:33:44:55"},{"mac":"00:11:22:33:44:66","ipaddr":"1.2.3.4"},{"mac":"00:11:22:33:44:77","ipaddr":"2001:db8::1"},{"mac":"00:11:22:33:44:88"}]}"#);
    }

    #[test]
    fn a_bad_line_is_named() {
        insta::assert_snapshot!(read("00:11:22:33:44:55\n\nnonsense\n").unwrap_err(), @"macs.csv, line 3: 'nonsense' is not a valid MAC address.");
        insta::assert_snapshot!(read("00:11:22:33:44:55,1.2.3\n").unwrap_err(), @"macs.csv, line 1: '1.2.3' is not a valid IP address.");
        insta::assert_snapshot!(read("00:11:22:33:44:55,1.2.3.4,x\n").unwrap_err(), @"macs.csv, line 1: there is more than a MAC and an IP address; the form is MAC, MAC;IP or MAC,IP");
        insta::assert_snapshot!(read("mac,ip\n# nothing\n").unwrap_err(), @"macs.csv has no stations");
    }

    #[test]
    fn a_refused_item_is_named_by_its_line() {
        let stations = read("mac\n00:11:22:33:44:55\n\n00:11:22:33:44:66\n").unwrap();
        let refusal = |message: &str| {
            Error::Refused(openstack::error::Refusal {
                status: 409,
                kind: String::new(),
                message: message.to_owned(),
                request_id: None,
            })
        };
        let explained = |message| stations.explain("macs.csv", refusal(message)).to_string();
        assert_eq!(explained("Item 1: in use."), "macs.csv, line 4: in use.");
        assert_eq!(explained("Item 7: in use."), "Item 7: in use.");
        assert_eq!(explained("no such thing"), "no such thing");
    }
}
