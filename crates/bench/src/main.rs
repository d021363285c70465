//! `l2gw-bench`, run by `cargo xtask bench`: measures the product's release build beside its floors and writes the
//! report.
//!
//! Rules: the real program, a real disk, a real ovsdb-server, the real kernel. A floor is measured in the same run, by
//! the same witness, right beside what stands on it, because the machine may be busy. A missed budget is reported and
//! fails nothing.

mod floor;
mod http;
mod machine;
mod measurement;
mod memory;
mod processor;
mod product;
mod report;
mod stations;
mod watch;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};

use crate::report::{Report, Section};

/// What to measure.
#[derive(Debug, Parser)]
struct Options {
    /// The program to measure
    #[arg(long)]
    binary: PathBuf,
    /// Where to write the report [default: standard output alone]
    #[arg(long)]
    report: Option<PathBuf>,
    /// A short run: up to 10,000 MACs, each once or twice
    #[arg(long)]
    quick: bool,
    /// Only this part; may be repeated
    #[arg(long, value_name = "NAME")]
    only: Vec<Part>,
    /// Also hold 100,000 MACs on one TLS session for so many minutes while they come and go
    #[arg(long, value_name = "MINUTES", num_args = 0..=1, default_missing_value = "10")]
    churn: Option<u64>,
}

/// The parts of a run, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Bulk POST and list, against bare SQLite
    Api,
    /// Concurrent clients and bulks, on SQLite and on PostgreSQL; a list of gateways
    Load,
    /// Pages of a million MACs, on SQLite and on PostgreSQL
    Pages,
    /// From the API into an ovsdb-server, against a bare pipelined insert
    Ovsdb,
    /// A switch that holds many MACs: one more, another way, a new session, all gone
    Switch,
    /// A hundred switches at once
    Fabric,
    /// From the API into the kernel, against raw batched netlink; memory; restart
    Kernel,
    /// From a switch's database into the kernel: stations, networks, restart, deletion
    Vtep,
    /// TCP through both border gateways, against gateways made by hand
    Throughput,
    /// Single creates, whole commands, start, size
    Process,
}

/// How much is to be done.
#[derive(Debug)]
struct Plan {
    binary: PathBuf,
    quick: bool,
}

impl Plan {
    /// Numbers of MACs to measure with, and how often each.
    fn sizes(&self) -> &'static [(u32, usize)] {
        if self.quick {
            &[(1_000, 2), (10_000, 2)]
        } else {
            &[(1_000, 10), (10_000, 7), (100_000, 5)]
        }
    }

    /// The largest of these numbers, and how often to measure what takes its time.
    fn largest(&self) -> (u32, usize) {
        if self.quick {
            (10_000, 1)
        } else {
            (100_000, 3)
        }
    }

    /// How many samples of what takes milliseconds.
    fn samples(&self) -> usize {
        if self.quick { 30 } else { 100 }
    }
}

impl Part {
    fn measure(self, plan: &Plan) -> Section {
        match self {
            Self::Api => product::bulk::measure(plan),
            Self::Load => product::load::measure(plan),
            Self::Pages => product::paging::measure(plan),
            Self::Ovsdb => product::programming::measure(plan),
            Self::Switch => product::switch::measure(plan),
            Self::Fabric => product::fabric::measure(plan),
            Self::Kernel => product::chain::measure(plan),
            Self::Vtep => product::vtep::measure(plan),
            Self::Throughput => product::throughput::measure(plan),
            Self::Process => product::process::measure(plan),
        }
    }
}

fn main() -> ExitCode {
    match run(Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Measures and reports; whether everything could be measured.
fn run(options: Options) -> Result<bool> {
    ensure!(
        nix::unistd::geteuid().is_root(),
        "the bench makes network namespaces and needs root"
    );
    let mut command = String::from("cargo xtask bench");
    if options.quick {
        command.push_str(" --quick");
    }
    let mut parts = Part::value_variants().to_vec();
    if !options.only.is_empty() {
        parts.retain(|part| options.only.contains(part));
        for part in parts.iter().filter_map(Part::to_possible_value) {
            command.push_str(&format!(" --only {}", part.get_name()));
        }
    }
    testkit::netns::remove_orphans()?;
    let churn = options.churn.map(|minutes| {
        command.push_str(&format!(" --churn {minutes}"));
        Duration::from_secs(60 * minutes)
    });
    let plan = Plan {
        binary: options.binary,
        quick: options.quick,
    };
    let mut report = Report {
        command,
        date: jiff::Timestamp::now().strftime("%Y-%m-%d").to_string(),
        machine: machine::describe()?,
        sections: Vec::new(),
    };
    let sections = parts.into_iter().map(|part| part.measure(&plan));
    let churn = churn
        .into_iter()
        .map(|lasting| product::churn::measure(&plan, lasting));
    for section in sections.chain(churn) {
        match &section.outcome {
            Ok(_) => eprintln!("{}: measured", section.title),
            Err(error) => eprintln!("{}: FAILED: {error:#}", section.title),
        }
        report.sections.push(section);
    }
    let text = report.markdown();
    println!("{text}");
    if let Some(file) = options.report {
        std::fs::write(&file, text).with_context(|| file.display().to_string())?;
    }
    Ok(report.is_complete())
}
