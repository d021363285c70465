//! Builds the product and says where the program is.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// Builds `l2gw` in the dev profile, which takes a third of a release build's time, and returns the program's path.
///
/// # Errors
/// It does not compile.
pub(crate) fn build() -> Result<PathBuf> {
    build_with("l2gw", &[])
}

/// Builds the program of this name as it is shipped, and returns its path.
///
/// # Errors
/// It does not compile.
pub(crate) fn build_release(program: &str) -> Result<PathBuf> {
    build_with(program, &["--release"])
}

/// A program has the name of its package.
fn build_with(program: &str, arguments: &[&str]) -> Result<PathBuf> {
    let output = cargo()
        .args(["build", "--package", program, "--bin", program])
        .args(["--message-format", "json-render-diagnostics"])
        .args(arguments)
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run cargo")?;
    ensure!(output.status.success(), "{program} does not build");
    let messages = String::from_utf8(output.stdout)?;
    let executable = messages.lines().rev().find_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        Some(PathBuf::from(message.get("executable")?.as_str()?))
    });
    executable.context("cargo names no program")
}

/// The cargo that runs us.
pub(crate) fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}
