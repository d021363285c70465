//! `cargo xtask ci`: all that CI runs, to the end even if a step fails. The last line counts the tests.

use std::path::Path;

use anyhow::{Context, Result};
use nix::sys::statfs::statfs;

use crate::binary::cargo;
use crate::interrupt::Interrupt;
use crate::{demo, test};

/// What the builds and the databases of the tests take together on a machine that has nothing yet, in bytes. A disk that
/// fills up looks like anything but that: servers die, and their tests with them.
const ROOM: u64 = 15_000_000_000;

/// Runs every step; whether all of them succeeded.
pub(crate) fn run() -> Result<bool> {
    crate::require_root("ci")?;
    tell_room()?;
    let interrupt = Interrupt::watch()?;
    let mut totals = test::Totals::default();
    let steps = [
        step("formatting", &interrupt, || {
            run_cargo(&["fmt", "--all", "--check"])
        })?,
        step("lints", &interrupt, || {
            run_cargo(&[
                "clippy",
                "--workspace",
                "--all-targets",
                "--",
                "-D",
                "warnings",
            ])
        })?,
        step("tests", &interrupt, || {
            let (ok, counted) = test::run_counting()?;
            totals = counted;
            Ok(ok)
        })?,
        step("fuzzing", &interrupt, fuzz)?,
        step("demo", &interrupt, || demo::run(&demo::Options::default()))?,
    ];
    println!();
    tell_room()?;
    for (name, ok) in steps {
        println!("{name}: {}", if ok { "ok" } else { "FAILED" });
    }
    println!("{} passed, {} failed", totals.passed, totals.failed);
    Ok(steps.iter().all(|(_, ok)| *ok))
}

/// Prints how much room there is where we build and where tests keep their files, and whether that may be too little.
fn tell_room() -> Result<()> {
    for directory in [Path::new("."), &std::env::temp_dir()] {
        let found = statfs(directory)?;
        let free = found.blocks_available() * u64::try_from(found.block_size())?;
        let scarce = if free < ROOM {
            ", which may be too little"
        } else {
            ""
        };
        let (place, free) = (directory.display(), free / 1_000_000_000);
        println!("room in {place}: {free} GB{scarce}");
    }
    Ok(())
}

/// Runs one step under its headline; its name, and whether it succeeded. An error is shown here, so that the closing
/// lines come last.
///
/// # Errors
/// Somebody interrupted it: the steps after it are not wanted any more.
fn step(
    name: &'static str,
    interrupt: &Interrupt,
    run: impl FnOnce() -> Result<bool>,
) -> Result<(&'static str, bool)> {
    println!("\n==== {name}");
    let ok = run().unwrap_or_else(|error| {
        println!("error: {error:#}");
        false
    });
    interrupt.check()?;
    Ok((name, ok))
}

/// Where fuzzing tests are, package and targets. Their names begin with `any_`.
const FUZZED: [(&str, &[&str]); 4] = [
    ("l2gw-ovsdb", &["--test", "fuzz"]),
    ("l2gw-hardware-vtep", &["--test", "switch"]),
    ("l2gw-server", &["--lib", "--test", "fuzz"]),
    ("l2gw-vtep", &["--test", "fuzz"]),
];

/// Runs every fuzzing test again, each for a minute instead of seconds.
fn fuzz() -> Result<bool> {
    let mut ok = true;
    for (package, targets) in FUZZED {
        ok &= cargo()
            .args(["test", "--package", package])
            .args(targets)
            .args(["--", "any_", "--skip", "many_"])
            .env("L2GW_FUZZ_SECONDS", "60")
            .status()
            .context("cannot run cargo")?
            .success();
    }
    Ok(ok)
}

fn run_cargo(arguments: &[&str]) -> Result<bool> {
    Ok(cargo()
        .args(arguments)
        .status()
        .context("cannot run cargo")?
        .success())
}
