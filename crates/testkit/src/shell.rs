//! A Python client as people type it, without the seconds that each start of it takes: `python/shell.py` loads it once and
//! runs every command line in a process of its own.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::json;

use crate::python::Environment;

const PROGRAM: &str = include_str!("../python/shell.py");

/// A client that is loaded.
#[derive(Debug)]
pub struct Shell {
    /// One command line after the other.
    talk: Mutex<Talk>,
}

#[derive(Debug)]
struct Talk {
    child: Child,
    commands: Option<ChildStdin>,
    outcomes: BufReader<ChildStdout>,
}

/// What a command said and how it ended.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct Outcome {
    /// Its exit code.
    pub code: i32,
    /// Its standard output.
    pub out: String,
    /// Its standard error.
    pub err: String,
}

impl Shell {
    /// Loads the client whose console script `program` calls `entry`, as `openstackclient.shell:main`. It knows no cloud,
    /// and no directory where one may be described.
    ///
    /// # Errors
    /// It cannot be run.
    pub fn load(environment: &Environment, program: &str, entry: &str) -> Result<Self> {
        let mut command = environment.command("python");
        command.args(["-c", PROGRAM, program, entry]);
        command.env("HOME", "/nonexistent").current_dir("/");
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("{command:?}"))?;
        let commands = child.stdin.take();
        let outcomes = child.stdout.take().context("its output is a pipe")?;
        Ok(Self {
            talk: Mutex::new(Talk {
                child,
                commands,
                outcomes: BufReader::new(outcomes),
            }),
        })
    }

    /// Types a command line.
    ///
    /// # Errors
    /// The client could not be loaded. What the command itself thinks of it is in the outcome.
    pub fn run(&self, environment: &[(String, String)], arguments: &[&str]) -> Result<Outcome> {
        let environment: serde_json::Map<_, _> = environment
            .iter()
            .map(|(name, value)| (name.clone(), value.as_str().into()))
            .collect();
        let command = json!({"arguments": arguments, "environment": environment});
        let mut talk = self.talk.lock().unwrap_or_else(PoisonError::into_inner);
        let commands = talk.commands.as_mut().context("its input is a pipe")?;
        writeln!(commands, "{command}").context("the client has ended")?;
        let mut line = String::new();
        talk.outcomes.read_line(&mut line)?;
        ensure!(!line.is_empty(), "the client has ended");
        Ok(serde_json::from_str(&line)?)
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        // It ends with its input, as it does when this process ends, however that ends.
        drop(self.commands.take());
        let _ = self.child.wait();
    }
}
