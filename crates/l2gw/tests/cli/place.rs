//! A server with a database of its own, and a command line beside it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use testkit::port::free_port;
use uuid::Uuid;

/// How long a server may take until it answers, on a machine with other things to do.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// What a command printed and how it ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// A running server. Dropping it ends it and removes its files.
#[derive(Debug)]
pub(crate) struct Place {
    server: Child,
    pub(crate) endpoint: String,
    pub(crate) directory: TempDir,
    /// Ids in the order in which they were first printed.
    ids: BTreeMap<Uuid, usize>,
}

impl Place {
    /// A server on a free port of loopback.
    pub(crate) fn new() -> Self {
        Self::with(|_| Vec::new())
    }

    /// The same with further options, which may name files in its directory.
    pub(crate) fn with(options: impl FnOnce(&Path) -> Vec<OsString>) -> Self {
        let address = format!("127.0.0.1:{}", free_port().unwrap());
        let endpoint = format!("http://{address}");
        let directory = TempDir::new().unwrap();
        let options = options(directory.path());
        Self::listening(&address, &endpoint, directory, &options)
    }

    /// A server on a unix socket in its directory.
    pub(crate) fn on_a_socket() -> Self {
        let directory = TempDir::new().unwrap();
        let address = format!("unix:{}", directory.path().join("l2gw.sock").display());
        Self::listening(&address, &address, directory, &[])
    }

    /// A server, once it answers.
    fn listening(listen: &str, endpoint: &str, directory: TempDir, options: &[OsString]) -> Self {
        let mut command = program();
        command.args([
            "server",
            "--allow-unknown-devices",
            "--log",
            "warn",
            "--listen",
            listen,
        ]);
        command
            .arg("--database")
            .arg(directory.path().join("l2gw.db"))
            .args(options);
        let mut place = Self {
            server: command.spawn().unwrap(),
            endpoint: endpoint.to_owned(),
            directory,
            ids: BTreeMap::new(),
        };
        let given_up = Instant::now() + READY_WITHIN;
        while place.types(&["network", "list"]).code != Some(0) {
            let ended = place.server.try_wait().unwrap();
            assert!(ended.is_none(), "the server ended: {ended:?}");
            assert!(
                Instant::now() < given_up,
                "the server does not answer on {endpoint}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        place
    }

    /// What the server has in memory, in bytes (VmRSS of proc_pid_status(5)).
    pub(crate) fn memory(&self) -> u64 {
        self.status("VmRSS:")
    }

    /// The most that it had so far, in bytes (VmHWM).
    pub(crate) fn peak_memory(&self) -> u64 {
        self.status("VmHWM:")
    }

    fn status(&self, key: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.server.id()));
        let status = status.unwrap();
        let resident = status.lines().find_map(|line| line.strip_prefix(key));
        let kibibytes = resident.unwrap().trim().trim_end_matches(" kB");
        kibibytes.parse::<u64>().unwrap() << 10
    }

    /// Tells the server to read its files again.
    pub(crate) fn hang_up(&self) {
        let id = self.server.id().to_string();
        let told = Command::new("kill").args(["-HUP", &id]).status().unwrap();
        assert!(told.success());
    }

    /// Kills the server, which has no chance to finish anything.
    pub(crate) fn kill(&self) {
        let id = self.server.id().to_string();
        let killed = Command::new("kill").args(["-KILL", &id]).status().unwrap();
        assert!(killed.success());
    }

    /// `l2gw WORDS…` with the server's address in the environment.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = program();
        command.args(words).env("OS_ENDPOINT", &self.endpoint);
        command
    }

    /// Types `l2gw WORDS…`.
    pub(crate) fn types(&self, words: &[&str]) -> Outcome {
        finish(self.command(words), "")
    }

    /// Types `… | l2gw WORDS…`.
    pub(crate) fn pipes(&self, input: &str, words: &[&str]) -> Outcome {
        finish(self.command(words), input)
    }

    /// Types a line for the shell, which finds `l2gw`.
    pub(crate) fn shell(&self, line: &str) -> Outcome {
        let program = std::path::Path::new(env!("CARGO_BIN_EXE_l2gw"));
        let path = std::env::var("PATH").unwrap_or_default();
        let path = format!("{}:{path}", program.parent().unwrap().display());
        let mut command = Command::new("sh");
        command
            .args(["-c", line])
            .env("PATH", path)
            .env("OS_ENDPOINT", &self.endpoint);
        finish(command, "")
    }

    /// Types `l2gw WORDS…`, which must succeed and keep quiet on standard error.
    pub(crate) fn succeed(&self, words: &[&str]) -> String {
        let outcome = self.types(words);
        assert_eq!((outcome.code, &*outcome.err), (Some(0), ""), "{words:?}");
        outcome.out
    }

    /// The one value that `l2gw WORDS… -f value -c COLUMN` prints.
    pub(crate) fn value(&self, words: &[&str], column: &str) -> String {
        let words = [words, &["-f", "value", "-c", column]].concat();
        self.succeed(&words).trim_end().to_owned()
    }

    /// A text with every id replaced by the number of its first appearance: the same in every run, and as long.
    pub(crate) fn numbered(&mut self, text: &str) -> String {
        const LENGTH: usize = 36;
        let (mut numbered, mut rest) = (String::new(), text);
        while let Some(first) = rest.chars().next() {
            let id = rest.get(..LENGTH).and_then(|id| Uuid::try_parse(id).ok());
            if let Some(id) = id {
                let next = self.ids.len() + 1;
                let number = *self.ids.entry(id).or_insert(next);
                numbered += &Uuid::from_u128(number as u128).to_string();
                rest = &rest[LENGTH..];
            } else {
                numbered.push(first);
                rest = &rest[first.len_utf8()..];
            }
        }
        numbered
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// The program, without the caller's own OpenStack settings.
pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_l2gw"));
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if ["OS_", "CLIFF_", "RUST_LOG"]
            .iter()
            .any(|prefix| name.starts_with(prefix))
        {
            command.env_remove(name);
        }
    }
    command
}

/// Runs a command to its end.
pub(crate) fn finish(mut command: Command, input: &str) -> Outcome {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A command that reads nothing may have ended before.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    Outcome {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}
