//! The one program: `l2gw server`, `l2gw vtep`, and every client command. See `l2gw help`.

mod config;
mod daemon;
mod db;

use std::io::{self, BufWriter, IsTerminal, Write};
use std::process::ExitCode;

use clap::ArgMatches;
use cli::Console;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let command = cli::command()
        .subcommands(daemon::commands())
        .subcommand(config::command())
        .subcommand(db::command());
    let words = match config::completed(std::env::args_os().collect()) {
        Ok(words) => words,
        Err(objection) => return refused(&format!("l2gw server: {objection}"), 2),
    };
    let matches = match cli::parse(command, words.into_iter()) {
        Ok(matches) => matches,
        Err(error) => return daemon::refuse(&error).unwrap_or_else(|| error.exit()),
    };
    match matches.subcommand() {
        Some((daemon::SERVER, options)) => daemon::server(options),
        Some((daemon::VTEP, options)) => daemon::vtep(options),
        Some((config::CONFIG, matches)) => config::run(matches),
        Some((db::DB, matches)) => db::run(matches),
        _ => client(&matches),
    }
}

/// Runs a client command. One thread is enough, and starts faster.
fn client(matches: &ArgMatches) -> ExitCode {
    if cli::connection::is_debug(matches) {
        tracing_subscriber::fmt()
            .with_env_filter(EnvFilter::new("openstack=debug"))
            .with_writer(io::stderr)
            .with_ansi(io::stderr().is_terminal())
            .without_time()
            .with_target(false)
            .init();
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(cause) => return refused(&format!("l2gw: {cause}"), 1),
    };
    let out = io::stdout();
    let width = terminal_size::terminal_size_of(&out).map(|(width, _)| width.0);
    let mut console = Console {
        // A list of 100,000 rows is not 100,000 writes.
        out: &mut BufWriter::with_capacity(64 * 1024, out.lock()),
        err: &mut io::stderr(),
        input: &mut io::stdin().lock(),
        width,
        watched: io::stderr().is_terminal(),
    };
    ExitCode::from(runtime.block_on(cli::run(matches, &mut console)))
}

/// Ends the program with one line that says why.
fn refused(message: &str, code: u8) -> ExitCode {
    // When nobody can be told, the exit code still tells.
    let _ = writeln!(io::stderr(), "{message}");
    ExitCode::from(code)
}
