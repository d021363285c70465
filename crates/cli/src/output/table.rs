//! Tables as cliff draws them, and so the specification.
//!
//! Drawn here because a list may have 100,000 rows: comfy-table, which draws the same boxes, takes 2 GB for them.

use std::borrow::Cow;
use std::io::{self, Write};

use serde_json::Value;
use textwrap::WrapAlgorithm;
use unicode_width::UnicodeWidthStr;

use super::cell;
use super::options::Options;

/// A table in the making.
#[derive(Debug)]
pub(crate) struct Drawing {
    columns: Vec<Column>,
    /// Row after row.
    cells: Vec<Box<str>>,
    /// No column is made narrower than this to fit a width: the table then overflows.
    narrowest: usize,
}

#[derive(Clone, Copy, Debug)]
struct Column {
    heading: &'static str,
    holds: Holds,
    /// Of the widest line, in terminal cells.
    width: usize,
}

/// What a column holds, which decides its alignment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holds {
    Nothing,
    Numbers,
    Texts,
}

impl Drawing {
    /// The table of a list. Columns of numbers are aligned to the right, as cliff does there.
    pub(crate) fn of_many(headings: impl Iterator<Item = &'static str>) -> Self {
        Self::new(headings, Holds::Nothing, 8)
    }

    /// The table of one resource: its attributes' names and values.
    pub(crate) fn of_one() -> Self {
        Self::new(["Field", "Value"].into_iter(), Holds::Texts, 16)
    }

    fn new(headings: impl Iterator<Item = &'static str>, holds: Holds, narrowest: usize) -> Self {
        let column = |heading: &'static str| Column {
            heading,
            holds,
            width: heading.width(),
        };
        Self {
            columns: headings.map(column).collect(),
            cells: Vec::new(),
            narrowest,
        }
    }

    /// Adds a row: a value for each column.
    pub(crate) fn row(&mut self, values: &[Value]) {
        for (column, value) in self.columns.iter_mut().zip(values) {
            let text = cell::drawn(value);
            let width = text.split('\n').map(UnicodeWidthStr::width).max();
            column.width = column.width.max(width.unwrap_or(0));
            column.holds = match (column.holds, value) {
                (Holds::Nothing | Holds::Numbers, Value::Number(_)) => Holds::Numbers,
                (holds, _) if text.is_empty() => holds,
                _ => Holds::Texts,
            };
            self.cells.push(text.into_boxed_str());
        }
    }

    /// Whether it has no rows.
    pub(crate) fn is_empty(&self) -> bool {
        self.cells.is_empty()
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
            self.fit(usize::from(width));
        }
        let dashes = self.columns.iter().map(|c| "-".repeat(c.width + 2));
        let border = format!("+{}+", dashes.collect::<Vec<_>>().join("+"));
        let headings: Vec<_> = self.columns.iter().map(|c| c.heading).collect();
        writeln!(out, "{border}")?;
        self.draw_row(&headings, out)?;
        writeln!(out, "{border}")?;
        for row in self.cells.chunks(self.columns.len().max(1)) {
            self.draw_row(row, out)?;
        }
        writeln!(out, "{border}")
    }

    fn draw_row(&self, cells: &[impl AsRef<str>], out: &mut dyn Write) -> io::Result<()> {
        let cells = cells.iter().zip(&self.columns);
        let mut cells: Vec<_> = cells
            .map(|(cell, column)| lines(cell.as_ref(), column.width).into_iter())
            .collect();
        let height = cells.iter().map(ExactSizeIterator::len).max();
        for _ in 0..height.unwrap_or(0) {
            for (lines, column) in cells.iter_mut().zip(&self.columns) {
                let line = lines.next().unwrap_or_default();
                let space = column.width.saturating_sub(line.width());
                if column.holds == Holds::Numbers {
                    write!(out, "| {:space$}{line} ", "")?;
                } else {
                    write!(out, "| {line}{:space$} ", "")?;
                }
            }
            writeln!(out, "|")?;
        }
        Ok(())
    }

    /// Narrows columns so that the table is no wider than `limit`, as cliff does: those that are wider than an equal share
    /// get what the others leave, in equal parts.
    fn fit(&mut self, limit: usize) {
        let count = self.columns.len();
        // A border and two blanks to each column, and the last border.
        let usable = limit.saturating_sub(1 + 3 * count);
        let share = usable.checked_div(count).unwrap_or(0);
        let (narrow, wide): (Vec<_>, Vec<_>) =
            self.columns.iter_mut().partition(|c| c.width <= share);
        let kept: usize = narrow.iter().map(|column| column.width).sum();
        let wanted: usize = wide.iter().map(|column| column.width).sum();
        if kept + wanted <= usable {
            return;
        }
        let mut left = usable.saturating_sub(kept);
        let equal = left.checked_div(wide.len()).unwrap_or(0);
        let last = wide.len().saturating_sub(1);
        for (place, column) in wide.into_iter().enumerate() {
            let width = if place == last { left } else { equal };
            left = left.saturating_sub(equal);
            column.width = column.width.min(width.max(self.narrowest));
        }
    }
}

/// A cell's lines, those that are too long wrapped.
fn lines(cell: &str, width: usize) -> Vec<Cow<'_, str>> {
    let wrapping = textwrap::Options::new(width).wrap_algorithm(WrapAlgorithm::FirstFit);
    cell.split('\n')
        .flat_map(|line| match line.width() <= width {
            true => vec![Cow::Borrowed(line)],
            false => textwrap::wrap(line, &wrapping),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;
    use serde_json::json;

    use super::*;

    fn options(words: &[&str]) -> Options {
        let arguments = super::super::arguments(super::super::Of::Many);
        let command = clap::Command::new("list").args(arguments);
        let words = ["list"].iter().chain(words);
        Options::read(&command.try_get_matches_from(words).unwrap())
    }

    fn drawn(table: Drawing, words: &[&str]) -> String {
        let mut out = Vec::new();
        table.draw(&options(words), None, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    // The boxes below were drawn by cliff 4.17.0 from the same values.

    #[test]
    fn numbers_stand_right_in_lists() {
        let headings = ["id", "l2_gateway_id", "network_id", "segmentation_id"];
        let mut table = Drawing::of_many(headings.into_iter());
        table.row(&[
            json!("31c204...."),
            json!("c8da3e74-fde9-..."),
            json!("d90db94a-2b3..."),
            json!(9765),
        ]);
        table.row(&[json!("x"), json!("y"), json!("z"), json!(77)]);
        assert_snapshot!(drawn(table, &[]), @r"
        +------------+-------------------+-----------------+-----------------+
        | id         | l2_gateway_id     | network_id      | segmentation_id |
        +------------+-------------------+-----------------+-----------------+
        | 31c204.... | c8da3e74-fde9-... | d90db94a-2b3... |            9765 |
        | x          | y                 | z               |              77 |
        +------------+-------------------+-----------------+-----------------+
        ");
    }

    #[test]
    fn wide_characters_and_further_lines_keep_the_box_whole() {
        let mut table = Drawing::of_many(["id", "name", "devices"].into_iter());
        let devices = json!([{"device_name": "d1"}, {"device_name": "d2"}]);
        table.row(&[json!("63821629"), json!("gw1"), devices]);
        table.row(&[json!("7"), json!("é日本"), json!([])]);
        assert_snapshot!(drawn(table, &[]), @r#"
        +----------+-------+-----------------------+
        | id       | name  | devices               |
        +----------+-------+-----------------------+
        | 63821629 | gw1   | {"device_name": "d1"} |
        |          |       | {"device_name": "d2"} |
        | 7        | é日本 |                       |
        +----------+-------+-----------------------+
        "#);
    }

    #[test]
    fn wide_columns_share_what_narrow_ones_leave() {
        let mut table = Drawing::of_many(["id", "name", "devices"].into_iter());
        let devices = json!([{"device_name": "d1", "interfaces": []}, {"device_name": "d2"}]);
        table.row(&[
            json!("63821629-6cfd-44c8-8c4a-14c4b5fe28ea"),
            json!("gw1"),
            devices,
        ]);
        assert_snapshot!(drawn(table, &["--max-width", "60"]), @r#"
        +-------------------------+------+-------------------------+
        | id                      | name | devices                 |
        +-------------------------+------+-------------------------+
        | 63821629-6cfd-44c8-     | gw1  | {"device_name": "d1",   |
        | 8c4a-14c4b5fe28ea       |      | "interfaces": []}       |
        |                         |      | {"device_name": "d2"}   |
        +-------------------------+------+-------------------------+
        "#);
    }

    #[test]
    fn numbers_stand_left_beside_their_names() {
        let mut table = Drawing::of_one();
        table.row(&[json!("flood"), json!(true)]);
        table.row(&[json!("segmentation_id"), json!(9765)]);
        assert_snapshot!(drawn(table, &[]), @r"
        +-----------------+-------+
        | Field           | Value |
        +-----------------+-------+
        | flood           | True  |
        | segmentation_id | 9765  |
        +-----------------+-------+
        ");
    }
}
