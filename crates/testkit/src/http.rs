//! One HTTP request on a connection of its own, for what no client would ask, and to see headers.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// Longer than any server of the tests takes, on a machine with other things to do.
const ANSWERS_WITHIN: Duration = Duration::from_secs(60);

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers, names in small letters.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

impl Answer {
    /// The value of a header whose name is given in small letters.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let header = self.headers.iter().find(|(known, _)| known == name);
        header.map(|(_, value)| value.as_str())
    }

    /// The body; null where there is none.
    ///
    /// # Errors
    /// It is no JSON.
    pub fn json(&self) -> Result<Value> {
        match self.body.as_str() {
            "" => Ok(Value::Null),
            body => serde_json::from_str(body).with_context(|| format!("no JSON: {body}")),
        }
    }

    /// The JSON of a request that had to succeed.
    ///
    /// # Errors
    /// It did not.
    pub fn succeeded(&self) -> Result<Value> {
        if (200..300).contains(&self.status) {
            return self.json();
        }
        bail!("{}: {}", self.status, self.body)
    }
}

/// Asks the server at `address`, a host and port.
///
/// # Errors
/// Nobody answers, or what answers does not speak HTTP.
pub fn request(
    address: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: Option<&Value>,
) -> Result<Answer> {
    let mut stream = TcpStream::connect(address).with_context(|| address.to_owned())?;
    stream.set_read_timeout(Some(ANSWERS_WITHIN))?;
    let body = body.map(ToString::to_string).unwrap_or_default();
    // Version 1.0: the answer ends with the connection and comes in one piece (RFC 9112, section 6).
    let mut request = format!("{method} {path} HTTP/1.0\r\nHost: {address}\r\n");
    for (name, value) in headers {
        request += &format!("{name}: {value}\r\n");
    }
    request += &format!(
        "Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let (head, body) = text.split_once("\r\n\r\n").context("no end of a head")?;
    let mut lines = head.lines();
    let first = lines.next().unwrap_or_default();
    let status = first.split(' ').nth(1).and_then(|word| word.parse().ok());
    ensure!(first.starts_with("HTTP/"), "not HTTP: {first}");
    let header = |line: &str| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_ascii_lowercase(), value.trim().to_owned()))
    };
    Ok(Answer {
        status: status.with_context(|| format!("no status: {first}"))?,
        headers: lines.filter_map(header).collect(),
        body: body.to_owned(),
    })
}
