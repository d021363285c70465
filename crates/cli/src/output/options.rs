//! The options that say how a result is to look, as cliff has them.

use clap::builder::PossibleValuesParser;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, value_parser};

const FORMAT: &str = "format";
const COLUMN: &str = "column";
const FIELD: &str = "field";
const DETAILS: &str = "show-details";
const SORT_COLUMN: &str = "sort-column";
const ASCENDING: &str = "sort-ascending";
const DESCENDING: &str = "sort-descending";
const MAX_WIDTH: &str = "max-width";
const FIT_WIDTH: &str = "fit-width";
const PRINT_EMPTY: &str = "print-empty";
const NOINDENT: &str = "noindent";
const PREFIX: &str = "prefix";
const QUOTE: &str = "quote";

/// Whether a command prints one resource or a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Of {
    One,
    Many,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Table,
    Json,
    Yaml,
    Csv,
    Value,
    Shell,
}

/// How a result is to look.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) format: Format,
    /// Whether the format was asked for, and is not just the default.
    pub(crate) format_given: bool,
    /// `-c` and `-F`: the columns that were asked for.
    pub(crate) columns: Vec<String>,
    /// `-D`: every attribute.
    pub(crate) details: bool,
    pub(crate) sort: Vec<String>,
    pub(crate) descending: bool,
    pub(crate) max_width: Option<u16>,
    pub(crate) fit_width: bool,
    pub(crate) print_empty: bool,
    pub(crate) noindent: bool,
    pub(crate) prefix: String,
    pub(crate) quote: csv::QuoteStyle,
}

/// The options of a command that prints one resource or a list.
pub(crate) fn arguments(of: Of) -> Vec<Arg> {
    let option = |name: &'static str| {
        Arg::new(name)
            .long(name)
            .help_heading("Output")
            .display_order(700)
    };
    let flag = |name: &'static str| option(name).action(ArgAction::SetTrue);
    let formats = match of {
        Of::One => &["csv", "json", "shell", "table", "value", "yaml"][..],
        Of::Many => &["csv", "json", "table", "value", "yaml"],
    };
    let mut arguments = vec![
        option(FORMAT)
            .short('f')
            .alias("formatter")
            .value_name("FORMAT")
            .value_parser(PossibleValuesParser::new(formats))
            .default_value("table")
            .help("How to print the result"),
        option(COLUMN)
            .short('c')
            .value_name("COLUMN")
            .action(ArgAction::Append)
            .help("Print this column only, named by its heading or attribute; can be repeated"),
        option(FIELD)
            .short('F')
            .alias("fields")
            .value_name("FIELD")
            .action(ArgAction::Append)
            .help("Ask the server for this attribute only; can be repeated"),
        flag(DETAILS).short('D').help("Print every attribute"),
        option(MAX_WIDTH)
            .value_name("N")
            .value_parser(value_parser!(u16))
            .env("CLIFF_MAX_TERM_WIDTH")
            .hide_env(true)
            .help("Widest table, in characters; 0 for any width"),
        flag(FIT_WIDTH).help("Fit the table into the terminal"),
        flag(PRINT_EMPTY).help("Print a table without rows too"),
        flag(NOINDENT).help("Print JSON on one line"),
        option(QUOTE)
            .value_name("WHICH")
            .value_parser(["all", "minimal", "none", "nonnumeric"])
            .default_value("nonnumeric")
            .help("Which cells of CSV to quote"),
    ];
    match of {
        Of::One => arguments.push(
            option(PREFIX)
                .value_name("PREFIX")
                .default_value("")
                .hide_default_value(true)
                .help("Put this before the names of shell variables"),
        ),
        Of::Many => arguments.extend([
            option(SORT_COLUMN)
                .value_name("COLUMN")
                .action(ArgAction::Append)
                .help("Sort by this column; can be repeated, the first counts most"),
            flag(ASCENDING)
                .conflicts_with(DESCENDING)
                .help("Smallest first, which is the default"),
            flag(DESCENDING).help("Largest first"),
        ]),
    }
    arguments
}

impl Options {
    /// What was asked for.
    pub(crate) fn read(matches: &ArgMatches) -> Self {
        let word = |name| {
            let word = matches.try_get_one::<String>(name).ok().flatten();
            word.map_or("", String::as_str)
        };
        let flag = |name| matches.try_get_one::<bool>(name).ok().flatten() == Some(&true);
        let words = |name| {
            let words = matches.try_get_many::<String>(name).ok().flatten();
            words.into_iter().flatten().cloned()
        };
        Self {
            format: match word(FORMAT) {
                "json" => Format::Json,
                "yaml" => Format::Yaml,
                "csv" => Format::Csv,
                "value" => Format::Value,
                "shell" => Format::Shell,
                _ => Format::Table,
            },
            format_given: matches.value_source(FORMAT) == Some(ValueSource::CommandLine),
            columns: words(COLUMN).chain(words(FIELD)).collect(),
            details: flag(DETAILS),
            sort: words(SORT_COLUMN).collect(),
            descending: flag(DESCENDING),
            max_width: matches
                .get_one::<u16>(MAX_WIDTH)
                .copied()
                .filter(|width| *width > 0),
            // cliff counts any non-zero number in CLIFF_FIT_WIDTH as yes.
            fit_width: flag(FIT_WIDTH)
                || std::env::var("CLIFF_FIT_WIDTH").is_ok_and(|fit| !matches!(&*fit, "" | "0")),
            print_empty: flag(PRINT_EMPTY),
            noindent: flag(NOINDENT),
            prefix: word(PREFIX).to_owned(),
            quote: match word(QUOTE) {
                "all" => csv::QuoteStyle::Always,
                "minimal" => csv::QuoteStyle::Necessary,
                "none" => csv::QuoteStyle::Never,
                _ => csv::QuoteStyle::NonNumeric,
            },
        }
    }
}
