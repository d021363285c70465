//! Who cleans up after a fixture's daemon, however the process ends that started it: fixtures also live in statics, which
//! are never dropped.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

/// Waits for the end of its input, that is of whoever holds the other end; then ends the daemon whose process id is the first
/// line of a file in the directory, and removes the directory.
const SCRIPT: &str = r#"read _; pid=$(head -n 1 "$1/$2" 2>/dev/null)
[ -n "$pid" ] && kill -s "$3" "$pid" && while kill -0 "$pid" 2>/dev/null; do sleep 0.05; done
rm -rf "$1""#;

/// A directory for a daemon, and a shell that watches over both until this is dropped or its process ends.
#[derive(Debug)]
pub(crate) struct Janitor {
    directory: PathBuf,
    shell: Child,
}

impl Janitor {
    /// A new directory of this prefix. The daemon that will write its process id to this file in it is ended by this signal.
    pub(crate) fn start(prefix: &str, pid_file: &str, signal: &str) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix(prefix).tempdir()?;
        let shell = Command::new("sh")
            .args(["-c", SCRIPT, "sh"])
            .arg(directory.path())
            .args([pid_file, signal])
            .stdin(Stdio::piped())
            // Ctrl-C ends the tests' group of processes; who cleans up is not of it.
            .process_group(0)
            .spawn()
            .context("sh")?;
        Ok(Self {
            directory: directory.keep(),
            shell,
        })
    }

    /// The directory.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }
}

impl Drop for Janitor {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_daemon_is_ended_and_the_directory_gone_when_nobody_holds_the_janitor() {
        // Not those of the keyboard, which whoever was started in the background ignores, and `sleep` with it.
        for signal in ["TERM", "KILL"] {
            let janitor = Janitor::start("l2gw-janitor-", "pid", signal).unwrap();
            let directory = janitor.directory().to_owned();
            let mut daemon = Command::new("sleep").arg("1000").spawn().unwrap();
            // The first line counts: PostgreSQL writes more.
            let text = format!("{}\nmore\n", daemon.id());
            std::fs::write(directory.join("pid"), text).unwrap();
            // A child of ours is a process until somebody asks how it ended.
            let ended = std::thread::spawn(move || daemon.wait().unwrap());
            drop(janitor);
            assert!(!ended.join().unwrap().success());
            assert!(!directory.exists());
        }
        // One without a daemon only removes the directory.
        let janitor = Janitor::start("l2gw-janitor-", "pid", "KILL").unwrap();
        let directory = janitor.directory().to_owned();
        drop(janitor);
        assert!(!directory.exists());
    }
}
