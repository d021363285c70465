//! `cargo xtask test`: every test there is, with what they need installed first. Nothing is skipped.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::binary::cargo;
use crate::interrupt::Interrupt;
use crate::{packages, require_root};

/// A test program that says nothing for so long hangs. The longest tests take two minutes.
const PATIENCE: Duration = Duration::from_secs(600);

/// What the test programs counted, all together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    /// Tests that passed.
    pub(crate) passed: u64,
    /// Tests that failed.
    pub(crate) failed: u64,
    /// Tests that were not run.
    pub(crate) ignored: u64,
}

impl Totals {
    /// Adds what a closing line such as "test result: ok. 5 passed; 0 failed; 0 ignored; …" counts.
    fn add(&mut self, line: &str) {
        let Some((_, counts)) = line
            .strip_prefix("test result: ")
            .and_then(|rest| rest.split_once(". "))
        else {
            return;
        };
        for count in counts.split("; ") {
            match count
                .split_once(' ')
                .map(|(number, what)| (number.parse::<u64>(), what))
            {
                Some((Ok(number), "passed")) => self.passed += number,
                Some((Ok(number), "failed")) => self.failed += number,
                Some((Ok(number), "ignored")) => self.ignored += number,
                _ => {}
            }
        }
    }
}

/// Runs all tests; whether they all ran and passed.
pub(crate) fn run() -> Result<bool> {
    let (ok, totals) = run_counting()?;
    println!("{} passed, {} failed", totals.passed, totals.failed);
    Ok(ok)
}

/// Runs all tests, shows the runner's output as it comes, and counts.
pub(crate) fn run_counting() -> Result<(bool, Totals)> {
    require_root("test")?;
    packages::ensure_installed(packages::For::Tests)?;
    let interrupt = Interrupt::watch()?;
    // Building them may take longer than anybody is patient with a test.
    let built = cargo().args(["test", "--workspace", "--no-run"]).status();
    if !built.context("cannot run cargo")?.success() {
        return Ok((false, Totals::default()));
    }
    interrupt.check()?;
    let mut child = cargo()
        .args(["test", "--workspace", "--no-fail-fast"])
        // An error returned by a test tells its own story; a panic keeps its backtrace.
        .env("RUST_LIB_BACKTRACE", "0")
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run cargo")?;
    let mut totals = Totals::default();
    follow(&mut child, PATIENCE, |line| {
        println!("{line}");
        totals.add(line);
    })?;
    let passed = child.wait()?.success();
    // Test programs that were interrupted or killed left their namespaces to us.
    testkit::netns::remove_orphans()?;
    interrupt.check()?;
    if totals.ignored > 0 {
        println!(
            "{} tests were ignored: here a test is run or removed",
            totals.ignored
        );
    }
    Ok((passed && totals.ignored == 0, totals))
}

/// Hands over the runner's lines as they come, until it ends. A test program that hangs is killed, which the runner tells of
/// and goes on.
fn follow(runner: &mut Child, patience: Duration, mut take: impl FnMut(&str)) -> Result<()> {
    let Some(stdout) = runner.stdout.take() else {
        return Ok(());
    };
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines() {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    let mut slow = BTreeSet::new();
    loop {
        match lines.recv_timeout(patience) {
            Ok(line) => {
                let line = line?;
                note_slow(&mut slow, &line);
                take(&line);
            }
            Err(RecvTimeoutError::Timeout) => {
                let slow: Vec<_> = std::mem::take(&mut slow).into_iter().collect();
                take(&format!(
                    "error: no test has ended for {} s, so the test program is killed; still running: {}",
                    patience.as_secs(),
                    slow.join(", ")
                ));
                for program in children(runner.id())? {
                    // It may have ended just now.
                    let _ = kill(program, Signal::SIGKILL);
                }
            }
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
    }
}

/// Keeps the names of tests that the runner says to be slow, until it says how they ended.
fn note_slow(slow: &mut BTreeSet<String>, line: &str) {
    let Some(rest) = line.strip_prefix("test ") else {
        return;
    };
    if let Some((name, _)) = rest.split_once(" has been running for over ") {
        slow.insert(name.to_owned());
    } else if let Some((name, _)) = rest.split_once(" ... ") {
        slow.remove(name);
    }
}

/// The processes that another one has started (proc(5), `children`).
fn children(of: u32) -> Result<Vec<Pid>> {
    let mut children = Vec::new();
    for task in std::fs::read_dir(format!("/proc/{of}/task"))? {
        let listed = std::fs::read_to_string(task?.path().join("children"))?;
        let listed = listed.split_whitespace().map(str::parse);
        for child in listed {
            children.push(Pid::from_raw(child?));
        }
    }
    Ok(children)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_test_program_that_hangs_is_killed_and_its_tests_are_named() {
        let program = "echo test a::b has been running for over 60 seconds; \
                       echo test c has been running for over 60 seconds; \
                       echo test c ... ok; \
                       exec sleep 1000";
        // The runner outlives its program and tells of its end.
        let runner = format!("sh -c '{program}'; echo ended with $?");
        let mut runner = Command::new("sh")
            .args(["-c", &runner])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = Vec::new();
        let take = |line: &str| lines.push(line.to_owned());
        follow(&mut runner, Duration::from_secs(1), take).unwrap();
        assert!(runner.wait().unwrap().success());
        assert_eq!(
            lines[3..],
            [
                "error: no test has ended for 1 s, so the test program is killed; still running: a::b",
                "ended with 137",
            ]
        );
    }

    #[test]
    fn closing_lines_of_all_test_programs_add_up() {
        let mut totals = Totals::default();
        for line in [
            "running 3 tests",
            "test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.21s",
            "test one_test ... ok",
            "test result: ok. 7 passed; 0 failed; 4 ignored; 0 measured; 0 filtered out; finished in 1.00s",
        ] {
            totals.add(line);
        }
        assert_eq!(
            totals,
            Totals {
                passed: 9,
                failed: 1,
                ignored: 4
            }
        );
    }
}
