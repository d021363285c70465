//! One value as text.

use std::io;

use serde::Serialize;
use serde_json::Value;
use serde_json::ser::{Formatter, Serializer};

/// As plain text: nothing for null, `True` and `False` as the specification spells them, JSON for structures.
pub(crate) fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        Value::Array(_) | Value::Object(_) => json(value),
    }
}

/// As a table's cell: each item of a list on a line of its own, and no control character reaches the terminal.
pub(crate) fn drawn(value: &Value) -> String {
    let text = match value {
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join("\n"),
        other => plain(other),
    };
    if !text.contains(|c: char| c.is_control() && c != '\n') {
        return text;
    }
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() && c != '\n' {
            safe.extend(c.escape_default());
        } else {
            safe.push(c);
        }
    }
    safe
}

/// As JSON on one line, spaced as Python and so the neutron shell does.
pub(crate) fn json(value: &impl Serialize) -> String {
    let mut text = Vec::new();
    let mut serializer = Serializer::with_formatter(&mut text, Spaced);
    // Values that came as JSON go as JSON.
    let _ = value.serialize(&mut serializer);
    String::from_utf8(text).unwrap_or_default()
}

struct Spaced;

impl Formatter for Spaced {
    fn begin_array_value<W: ?Sized + io::Write>(
        &mut self,
        out: &mut W,
        first: bool,
    ) -> io::Result<()> {
        out.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_key<W: ?Sized + io::Write>(
        &mut self,
        out: &mut W,
        first: bool,
    ) -> io::Result<()> {
        out.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        out.write_all(b": ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_read_as_the_neutron_shell_prints_them() {
        assert_eq!(plain(&json!(null)), "");
        assert_eq!(plain(&json!(true)), "True");
        assert_eq!(plain(&json!(456)), "456");
        assert_eq!(
            plain(&json!([{"a": [1, 2], "b": "x"}])),
            r#"[{"a": [1, 2], "b": "x"}]"#
        );
        assert_eq!(
            drawn(&json!([{"a": 1}, {"a": 2}])),
            "{\"a\": 1}\n{\"a\": 2}"
        );
    }

    #[test]
    fn a_name_cannot_steer_the_terminal() {
        assert_eq!(drawn(&json!("a\u{1b}[2Jb\tc")), "a\\u{1b}[2Jb\\tc");
    }
}
