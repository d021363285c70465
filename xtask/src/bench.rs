//! `cargo xtask bench`: measures the release build beside its floors and writes `docs/benchmarks.md`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Parser;

use crate::binary;
use crate::{packages, require_root};

/// What the bench can be told.
#[derive(Debug, Parser)]
pub(crate) struct Options {
    /// A short run: up to 10,000 MACs, each measurement once or twice
    #[arg(long)]
    quick: bool,
    /// Only this part: api, load, pages, ovsdb, switch, fabric, kernel, vtep, throughput or process; may be repeated. The
    /// report is then printed, not kept
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Also hold 100,000 MACs on one TLS session for so many minutes (10) while they come and go
    #[arg(long, value_name = "MINUTES", num_args = 0..=1, default_missing_value = "10")]
    churn: Option<u64>,
}

/// Runs the bench; whether everything could be measured. A missed budget is reported and fails nothing.
pub(crate) fn run(options: &Options) -> Result<bool> {
    require_root("bench")?;
    packages::ensure_installed(packages::For::Tests)?;
    // The bench, too: a slow floor would flatter the product.
    let product = binary::build_release("l2gw")?;
    let bench = binary::build_release("l2gw-bench")?;
    let mut command = std::process::Command::new(bench);
    command.arg("--binary").arg(product);
    if options.quick {
        command.arg("--quick");
    }
    if let Some(minutes) = options.churn {
        command.args(["--churn", &minutes.to_string()]);
    }
    for part in &options.only {
        command.args(["--only", part]);
    }
    if options.only.is_empty() && !options.quick {
        command.arg("--report").arg(report());
    }
    Ok(command.status().context("cannot run the bench")?.success())
}

/// The report that is kept: of whole runs alone.
fn report() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    workspace.join("docs/benchmarks.md")
}
