//! Tables as cliff draws them, and so the specification.

use std::io::{self, Write};

use comfy_table::{
    Cell, CellAlignment, ContentArrangement, ContentLineStyle, LineStyle, Table, TableStyle,
};
use serde_json::Value;

use super::cell;
use super::options::Options;

/// `+----+----+` above, below and under the headings; no lines between rows.
const CLIFF: TableStyle = TableStyle::new()
    .top_border(LineStyle::new('+', '-', '+', '+'))
    .header_lines(ContentLineStyle::new('|', '|', '|'))
    .header_separator(LineStyle::new('+', '-', '+', '+'))
    .content_lines(ContentLineStyle::new('|', '|', '|'))
    .bottom_border(LineStyle::new('+', '-', '+', '+'));

/// A table in the making.
#[derive(Debug)]
pub(crate) struct Drawing {
    table: Table,
    columns: Vec<Kind>,
}

/// What a column holds, which decides its alignment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Nothing,
    Numbers,
    Texts,
}

impl Drawing {
    /// A table with these headings.
    pub(crate) fn new(headings: impl Iterator<Item = &'static str>) -> Self {
        let headings: Vec<_> = headings.collect();
        let mut table = Table::new();
        table
            .load_style(CLIFF)
            .set_content_arrangement(ContentArrangement::Disabled)
            .set_header(&headings);
        Self {
            table,
            columns: vec![Kind::Nothing; headings.len()],
        }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: &[Value]) {
        for (kind, cell) in self.columns.iter_mut().zip(cells) {
            *kind = match (*kind, cell) {
                (Kind::Texts, _) => Kind::Texts,
                (kind, Value::Null) => kind,
                (kind, Value::String(text)) if text.is_empty() => kind,
                (_, Value::Number(_)) => Kind::Numbers,
                _ => Kind::Texts,
            };
        }
        let cells = cells.iter().map(|value| Cell::new(cell::drawn(value)));
        self.table.add_row(cells.collect::<Vec<_>>());
    }

    /// Whether it has no rows.
    pub(crate) fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Aligns columns of numbers to the right, as cliff does in lists.
    pub(crate) fn align_numbers(&mut self) {
        for (column, kind) in self.table.column_iter_mut().zip(&self.columns) {
            if *kind == Kind::Numbers {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
    }

    /// Draws it, not wider than asked for; `terminal` is the width of the terminal, if it goes to one.
    pub(crate) fn draw(
        mut self,
        options: &Options,
        terminal: Option<u16>,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        let fitting = terminal.filter(|_| options.fit_width);
        if let Some(width) = options.max_width.or(fitting) {
            self.table
                .set_content_arrangement(ContentArrangement::Dynamic)
                .set_width(width);
        }
        for line in self.table.lines() {
            writeln!(out, "{line}")?;
        }
        Ok(())
    }
}
