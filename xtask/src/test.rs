//! `cargo xtask test`: every test there is, with what they need installed first. Nothing is skipped.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use anyhow::{Context, Result};

use crate::binary::cargo;
use crate::interrupt::Interrupt;
use crate::{packages, require_root};

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
    let mut child = cargo()
        .args(["test", "--workspace", "--no-fail-fast"])
        // An error returned by a test tells its own story; a panic keeps its backtrace.
        .env("RUST_LIB_BACKTRACE", "0")
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run cargo")?;
    let mut totals = Totals::default();
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).lines() {
            let line = line?;
            println!("{line}");
            totals.add(&line);
        }
    }
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

#[cfg(test)]
mod tests {
    use super::Totals;

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
