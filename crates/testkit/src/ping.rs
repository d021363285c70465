//! Ping, the user's own measure of whether a network works.

use std::fmt;
use std::net::IpAddr;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::netns::Netns;

/// How many echo requests went out and how many answers came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loss {
    /// Echo requests sent.
    pub sent: u32,
    /// Requests that were answered.
    pub received: u32,
}

impl Loss {
    /// Every request was answered, and there was one.
    #[must_use]
    pub fn none(self) -> bool {
        self.sent > 0 && self.received == self.sent
    }

    /// No request was answered, and there was one.
    #[must_use]
    pub fn total(self) -> bool {
        self.sent > 0 && self.received == 0
    }

    /// Reads ping's closing line, "5 packets transmitted, 4 received, 20% packet loss, time 4005ms".
    fn parse(output: &str) -> Result<Self> {
        let line = output
            .lines()
            .find(|line| line.contains("packets transmitted"));
        let line = line.with_context(|| format!("ping gave no statistics: {output}"))?;
        let number_before = |word: &str| {
            let part = line.split(", ").find(|part| part.contains(word))?;
            part.split_whitespace().next()?.parse().ok()
        };
        let unread = || format!("cannot read ping's statistics: {line}");
        Ok(Self {
            sent: number_before("transmitted").with_context(unread)?,
            received: number_before("received").with_context(unread)?,
        })
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lost = self.sent.saturating_sub(self.received);
        let percent = f64::from(lost) * 100.0 / f64::from(self.sent.max(1));
        write!(
            f,
            "{} sent, {} answered, {percent:.0} % loss",
            self.sent, self.received
        )
    }
}

/// Sends `count` pings from inside `from`, five a second, and waits a second for the last answer.
///
/// # Errors
/// ping is missing or said something unexpected. Loss is no error.
pub fn ping(from: &Netns, to: impl Into<IpAddr>, count: u32) -> Result<Loss> {
    let output = from
        .command("ping")
        .args([
            "-n",
            "-i",
            "0.2",
            "-W",
            "1",
            "-c",
            &count.to_string(),
            &to.into().to_string(),
        ])
        .output()
        .context("cannot run ping")?;
    Loss::parse(&String::from_utf8_lossy(&output.stdout))
        .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Pings that go on in the background until [`PingStream::stop`].
#[derive(Debug)]
pub struct PingStream {
    child: Option<Child>,
}

impl PingStream {
    /// Starts pinging from inside `from`, `per_second` times a second.
    ///
    /// # Errors
    /// ping is missing.
    pub fn start(from: &Netns, to: impl Into<IpAddr>, per_second: u32) -> Result<Self> {
        let interval = 1.0 / f64::from(per_second);
        let mut command: Command = from.command("ping");
        command.args([
            "-n",
            "-i",
            &format!("{interval:.3}"),
            &to.into().to_string(),
        ]);
        let child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot run ping")?;
        Ok(Self { child: Some(child) })
    }

    /// Stops, and tells what was lost. The last request does not count while its answer may be on the way.
    ///
    /// # Errors
    /// ping ended by itself before.
    pub fn stop(mut self) -> Result<Loss> {
        let child = self.child.take().context("ping is not running")?;
        // SIGINT is ping's own way to be asked for its statistics.
        kill(pid_of(&child)?, Signal::SIGINT).context("ping ended by itself")?;
        let output = child.wait_with_output()?;
        let output = String::from_utf8_lossy(&output.stdout);
        let mut loss = Loss::parse(&output)?;
        // Sequence numbers begin at 1 and wrap after 65535, far more than a test sends.
        let last_answered = output
            .lines()
            .filter_map(sequence_number)
            .max()
            .unwrap_or(0);
        if loss.sent == last_answered + 1 {
            loss.sent = last_answered;
        }
        Ok(loss)
    }
}

/// Of an answer, as in "64 bytes from 192.168.10.21: icmp_seq=7 ttl=64 time=0.041 ms".
fn sequence_number(line: &str) -> Option<u32> {
    line.split_whitespace()
        .find_map(|word| word.strip_prefix("icmp_seq="))?
        .parse()
        .ok()
}

impl Drop for PingStream {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn pid_of(child: &Child) -> Result<Pid> {
    Ok(Pid::from_raw(
        i32::try_from(child.id()).context("process id")?,
    ))
}
