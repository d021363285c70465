//! How the packet filter is spoken to: scripts in the text form of `nft`, listings in its JSON form (libnftables-json(5)).

use std::io::{self, Write as _};
use std::process::{Command, Output, Stdio};

use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};

/// Carries out a script: all of it or nothing.
pub(crate) fn run(script: &str) -> io::Result<()> {
    let mut child = nft(["-f", "-"]).stdin(Stdio::piped()).spawn()?;
    if let Some(mut input) = child.stdin.take() {
        // A refusal may come before all was read; nft says why on standard error.
        let _ = input.write_all(script.as_bytes());
    }
    let output = child.wait_with_output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(failure(&output))
}

/// What we read of a listing.
#[derive(Debug)]
pub(super) struct Listing<E> {
    /// The comments of its rules, in order.
    pub(super) rules: Vec<String>,
    pub(super) sets: Vec<ListedSet<E>>,
}

/// A set and its elements.
#[derive(Debug, Deserialize)]
#[serde(bound = "E: DeserializeOwned")]
pub(super) struct ListedSet<E> {
    pub(super) name: String,
    #[serde(default = "Vec::new", rename = "elem")]
    pub(super) elements: Vec<E>,
}

/// An element of a set. What it counted is of no interest to whoever asks what is in place.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Element<T> {
    Bare(T),
    Counting { elem: Counting<T> },
    Other(IgnoredAny),
}

#[derive(Debug, Deserialize)]
pub(super) struct Counting<T> {
    val: T,
}

impl<T> Element<T> {
    /// What it is; nothing where such a thing is not known.
    pub(super) fn value(self) -> Option<T> {
        match self {
            Self::Bare(value)
            | Self::Counting {
                elem: Counting { val: value },
            } => Some(value),
            Self::Other(_) => None,
        }
    }
}

/// The table of ours of a family, if it is there.
pub(super) fn table<E: DeserializeOwned>(family: &str) -> io::Result<Option<Listing<E>>> {
    listed(&["table", family, "l2gw"])
}

/// Something of the packet filter, if it is there.
pub(super) fn listed<E: DeserializeOwned>(what: &[&str]) -> io::Result<Option<Listing<E>>> {
    let output = nft(["-j", "list"]).args(what).spawn()?.wait_with_output()?;
    if output.status.success() {
        let told: Told<E> = serde_json::from_slice(&output.stdout)?;
        return Ok(Some(told.listing()));
    }
    let error = String::from_utf8_lossy(&output.stderr);
    // Some kernels lack a family.
    let none = ["No such file or directory", "not supported"];
    if none.iter().any(|words| error.contains(words)) {
        return Ok(None);
    }
    Err(failure(&output))
}

fn nft<const N: usize>(arguments: [&str; N]) -> Command {
    let mut command = Command::new("nft");
    command
        .args(arguments)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn failure(output: &Output) -> io::Error {
    let error = String::from_utf8_lossy(&output.stderr);
    let line = error.lines().next().unwrap_or("failed without a word");
    io::Error::other(format!("nft: {line}"))
}

/// What nft prints.
#[derive(Deserialize)]
#[serde(bound = "E: DeserializeOwned")]
struct Told<E> {
    nftables: Vec<Object<E>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase", bound = "E: DeserializeOwned")]
enum Object<E> {
    Set(ListedSet<E>),
    Rule(ListedRule),
    #[serde(untagged)]
    Other(IgnoredAny),
}

#[derive(Deserialize)]
struct ListedRule {
    #[serde(default)]
    comment: String,
}

impl<E> Told<E> {
    fn listing(self) -> Listing<E> {
        let (mut rules, mut sets) = (Vec::new(), Vec::new());
        for object in self.nftables {
            match object {
                Object::Rule(rule) => rules.push(rule.comment),
                Object::Set(set) => sets.push(set),
                Object::Other(_) => {}
            }
        }
        Listing { rules, sets }
    }
}
