//! One resource in each format.

use std::io::{self, Write};

use openstack::page::Record;
use serde_json::Value;

use super::cell;
use super::columns::Columns;
use super::many::{Csv, Listing};
use super::options::{Format, Options};
use super::table::Drawing;

/// Prints one resource.
pub(crate) fn show(
    columns: &Columns,
    options: &Options,
    mut record: Record,
    width: Option<u16>,
    out: &mut dyn Write,
) -> io::Result<()> {
    match options.format {
        Format::Table => {
            let mut table = Drawing::of_one();
            for (heading, value) in columns.headings().zip(columns.cells(&mut record)) {
                table.row(&[Value::from(heading), value]);
            }
            table.draw(options, width, out)
        }
        Format::Json if options.noindent => {
            writeln!(out, "{}", cell::json(&columns.object(&mut record)))
        }
        Format::Json => {
            serde_json::to_writer_pretty(&mut *out, &columns.object(&mut record))?;
            writeln!(out)
        }
        Format::Yaml => {
            let yaml = serde_yaml_ng::to_string(&columns.object(&mut record));
            write!(out, "{}", yaml.map_err(io::Error::other)?)
        }
        Format::Csv => {
            let mut csv = Csv::begin(columns, options, out)?;
            csv.record(record)?;
            csv.finish()
        }
        Format::Value => {
            for value in columns.cells(&mut record) {
                writeln!(out, "{}", cell::plain(&value))?;
            }
            Ok(())
        }
        Format::Shell => {
            for (name, value) in columns.headings().zip(columns.cells(&mut record)) {
                let name = name.replace([':', '-'], "_");
                let value = quoted(&cell::plain(&value));
                writeln!(out, "{}{name}=\"{value}\"", options.prefix)?;
            }
            Ok(())
        }
    }
}

/// A text for between double quotes: `eval` of it yields the text and runs nothing.
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '"' | '\\' | '$' | '`') {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_run_commands_in_the_shell() {
        assert_eq!(quoted(r#"a"$(id)`id`\"#), r#"a\"\$(id)\`id\`\\"#);
    }
}
