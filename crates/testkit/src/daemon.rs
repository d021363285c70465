//! A program that keeps running: started, waited for, asked to end or killed, and its log shown when it disappoints.

use std::fs::{File, OpenOptions};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::run::{command_line, eventually};

/// How much of the log an error shows.
const LOG_TAIL_LINES: usize = 30;
/// How long a program may take from SIGTERM to its end.
const ENDS_WITHIN: Duration = Duration::from_secs(20);

/// How long it may take if nobody cares how it ends.
const DROPPED_WITHIN: Duration = Duration::from_secs(2);

/// A running program. Dropping it ends it.
#[derive(Debug)]
pub struct Daemon {
    command_line: String,
    log: PathBuf,
    child: Child,
}

impl Daemon {
    /// Starts `command`; both its outputs are appended to the file `log`.
    ///
    /// # Errors
    /// The program is missing or the log cannot be written.
    pub fn start(mut command: Command, log: &Path) -> Result<Self> {
        let open = || -> Result<File> {
            OpenOptions::new()
                .create(true)
                .append(true)
                .open(log)
                .with_context(|| log.display().to_string())
        };
        let command_line = command_line(&command);
        // A process group of its own: Ctrl-C at the terminal is for us, who then end the daemon in good order.
        command
            .stdin(Stdio::null())
            .stdout(open()?)
            .stderr(open()?)
            .process_group(0);
        let child = command
            .spawn()
            .with_context(|| format!("cannot run `{command_line}`"))?;
        Ok(Self {
            command_line,
            log: log.to_owned(),
            child,
        })
    }

    /// Waits until `look` succeeds.
    ///
    /// # Errors
    /// `limit` is over or the program ended; with the end of its log.
    pub fn wait_until<T>(
        &mut self,
        what: &str,
        limit: Duration,
        mut look: impl FnMut() -> Result<T>,
    ) -> Result<T> {
        let child = &mut self.child;
        let mut ended = None;
        let outcome = eventually(what, limit, || {
            if let Some(status) = child.try_wait()? {
                ended = Some(status);
                return Ok(None);
            }
            look().map(Some)
        });
        match (outcome, ended) {
            (Ok(Some(found)), _) => Ok(found),
            (Ok(None), Some(status)) => Err(anyhow!("it ended with {status}, before: {what}")),
            (Ok(None), None) => Err(anyhow!("it ended, before: {what}")),
            (Err(error), _) => Err(error),
        }
        .with_context(|| {
            format!(
                "`{}`, whose log ends with:\n{}",
                self.command_line,
                self.log_tail()
            )
        })
    }

    /// Asks the program to end (SIGTERM) and waits for it.
    ///
    /// # Errors
    /// It does not end within 20 seconds; then it is killed.
    pub fn terminate(mut self) -> Result<ExitStatus> {
        if self.child.try_wait()?.is_none() {
            kill(self.pid()?, Signal::SIGTERM)?;
        }
        let child = &mut self.child;
        eventually("it ends after SIGTERM", ENDS_WITHIN, || {
            child.try_wait()?.context("it still runs")
        })
        .with_context(|| {
            format!(
                "`{}`, whose log ends with:\n{}",
                self.command_line,
                self.log_tail()
            )
        })
    }

    /// Kills the program (SIGKILL), which gives it no chance to finish anything, and waits for its end.
    ///
    /// # Errors
    /// It ended by itself before.
    pub fn kill(mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            return Err(anyhow!("`{}` had ended with {status}", self.command_line));
        }
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Tells the program to read its files again (SIGHUP).
    ///
    /// # Errors
    /// It has ended.
    pub fn hang_up(&self) -> Result<()> {
        Ok(kill(self.pid()?, Signal::SIGHUP)?)
    }

    /// Its process id.
    ///
    /// # Errors
    /// The id does not fit the kernel's type, which does not happen.
    pub fn pid(&self) -> Result<Pid> {
        Ok(Pid::from_raw(i32::try_from(self.child.id())?))
    }

    /// The last lines of what it and its predecessors with the same log said.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        let tail = lines
            .get(lines.len().saturating_sub(LOG_TAIL_LINES)..)
            .unwrap_or_default();
        tail.join("\n")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Asked first, so that it can end its own children.
        if let (Ok(None), Ok(pid)) = (self.child.try_wait(), self.pid()) {
            let _ = kill(pid, Signal::SIGTERM);
            let child = &mut self.child;
            let _ = eventually("it ends", DROPPED_WITHIN, || {
                child.try_wait()?.context("it still runs")
            });
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
