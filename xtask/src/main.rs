//! `cargo xtask …`: the workspace's own tasks. Needs a Rust toolchain and, for what touches the kernel, root on Debian.

mod bench;
mod binary;
mod ci;
mod demo;
mod interrupt;
mod packages;
mod test;

use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::Parser;

/// Tasks of the l2gw workspace.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 100)]
enum Task {
    /// Stretch a network between two clouds on this machine, and watch it work
    Demo(demo::Options),
    /// Run every test, those over real namespaces, bridges and ovsdb-server included
    Test,
    /// Run all that CI runs: formatting, lints, tests, demo
    Ci,
    /// Measure the release build beside its floors, and write docs/benchmarks.md
    Bench(bench::Options),
}

fn main() -> ExitCode {
    let outcome = match Task::parse() {
        Task::Demo(options) => demo::run(&options),
        Task::Test => test::run(),
        Task::Ci => ci::run(),
        Task::Bench(options) => bench::run(&options),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) if error.is::<interrupt::Interrupted>() => {
            eprintln!("{error}");
            ExitCode::from(130) // 128 + SIGINT, as a shell says it
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Says in one line that `task` needs root, unless we are.
fn require_root(task: &str) -> Result<()> {
    ensure!(
        nix::unistd::geteuid().is_root(),
        "`cargo xtask {task}` makes network namespaces and needs root"
    );
    Ok(())
}
