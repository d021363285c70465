//! A list in each format. Those that need no look ahead print each record as it comes.

use std::io::{self, Write};

use openstack::page::Record;

use super::cell;
use super::columns::{Columns, Order};
use super::options::{Format, Options};
use super::table::Drawing;

/// A list being printed.
pub(crate) trait Listing {
    /// Takes the next record.
    fn record(&mut self, record: Record) -> io::Result<()>;

    /// Prints what was held back.
    fn finish(&mut self) -> io::Result<()>;
}

/// A list in the format and order that was asked for.
pub(crate) fn listing<'a>(
    columns: &'a Columns,
    order: Option<Order>,
    options: &'a Options,
    width: Option<u16>,
    out: &'a mut dyn Write,
) -> io::Result<Box<dyn Listing + 'a>> {
    let listing: Box<dyn Listing + 'a> = match options.format {
        Format::Json => Box::new(Json {
            columns,
            indented: !options.noindent,
            begun: false,
            out,
        }),
        Format::Yaml => Box::new(Yaml {
            columns,
            begun: false,
            out,
        }),
        Format::Csv => Box::new(Csv::begin(columns, options, out)?),
        Format::Value => Box::new(Values { columns, out }),
        // `shell` is not offered for lists.
        Format::Table | Format::Shell => Box::new(Drawn {
            table: Drawing::of_many(columns.headings()),
            columns,
            options,
            width,
            out,
        }),
    };
    Ok(match order {
        Some(order) => Box::new(Sorted {
            order,
            records: Vec::new(),
            listing,
        }),
        None => listing,
    })
}

struct Drawn<'a> {
    table: Drawing,
    columns: &'a Columns,
    options: &'a Options,
    width: Option<u16>,
    out: &'a mut dyn Write,
}

impl Listing for Drawn<'_> {
    fn record(&mut self, mut record: Record) -> io::Result<()> {
        self.table.row(&self.columns.cells(&mut record));
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        let table = std::mem::replace(&mut self.table, Drawing::of_many([].into_iter()));
        if table.is_empty() && !self.options.print_empty {
            // As the neutron shell does.
            return writeln!(self.out);
        }
        table.draw(self.options, self.width, self.out)
    }
}

struct Json<'a> {
    columns: &'a Columns,
    indented: bool,
    begun: bool,
    out: &'a mut dyn Write,
}

impl Listing for Json<'_> {
    fn record(&mut self, mut record: Record) -> io::Result<()> {
        let object = self.columns.object(&mut record);
        let (open, between) = if self.indented {
            ("[\n  ", ",\n  ")
        } else {
            ("[", ", ")
        };
        write!(self.out, "{}", if self.begun { between } else { open })?;
        self.begun = true;
        if self.indented {
            let text = serde_json::to_string_pretty(&object)?;
            write!(self.out, "{}", text.replace('\n', "\n  "))
        } else {
            write!(self.out, "{}", cell::json(&object))
        }
    }

    fn finish(&mut self) -> io::Result<()> {
        let close = match (self.begun, self.indented) {
            (false, _) => "[]",
            (true, true) => "\n]",
            (true, false) => "]",
        };
        writeln!(self.out, "{close}")
    }
}

struct Yaml<'a> {
    columns: &'a Columns,
    begun: bool,
    out: &'a mut dyn Write,
}

impl Listing for Yaml<'_> {
    fn record(&mut self, mut record: Record) -> io::Result<()> {
        self.begun = true;
        let item = [self.columns.object(&mut record)];
        let yaml = serde_yaml_ng::to_string(&item).map_err(io::Error::other)?;
        write!(self.out, "{yaml}")
    }

    fn finish(&mut self) -> io::Result<()> {
        if self.begun {
            Ok(())
        } else {
            writeln!(self.out, "[]")
        }
    }
}

/// CSV: the headings, then a line for each record.
pub(super) struct Csv<'a> {
    columns: &'a Columns,
    writer: csv::Writer<&'a mut dyn Write>,
}

impl<'a> Csv<'a> {
    /// Prints the headings.
    pub(super) fn begin(
        columns: &'a Columns,
        options: &Options,
        out: &'a mut dyn Write,
    ) -> io::Result<Self> {
        let mut writer = csv::WriterBuilder::new()
            .quote_style(options.quote)
            .from_writer(out);
        writer.write_record(columns.headings())?;
        Ok(Self { columns, writer })
    }
}

impl Listing for Csv<'_> {
    fn record(&mut self, mut record: Record) -> io::Result<()> {
        let cells = self.columns.cells(&mut record);
        Ok(self.writer.write_record(cells.iter().map(cell::plain))?)
    }

    fn finish(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

struct Values<'a> {
    columns: &'a Columns,
    out: &'a mut dyn Write,
}

impl Listing for Values<'_> {
    fn record(&mut self, mut record: Record) -> io::Result<()> {
        let cells = self.columns.cells(&mut record);
        let texts: Vec<_> = cells.iter().map(cell::plain).collect();
        writeln!(self.out, "{}", texts.join(" "))
    }

    fn finish(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Sorted<'a> {
    order: Order,
    records: Vec<Record>,
    listing: Box<dyn Listing + 'a>,
}

impl Listing for Sorted<'_> {
    fn record(&mut self, record: Record) -> io::Result<()> {
        self.records.push(record);
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        self.order.sort(&mut self.records);
        for record in self.records.drain(..) {
            self.listing.record(record)?;
        }
        self.listing.finish()
    }
}
