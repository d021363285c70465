//! Running a program to its end, and waiting for something to become true.

use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// How long it may take until what the API was told is in the kernel and its status says so, on a machine with other
/// things to do.
pub const CONVERGES_WITHIN: Duration = Duration::from_secs(20);

/// How often [`eventually`] looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Runs `command` to its end and returns its standard output.
///
/// # Errors
/// The program is missing or exited with another code than 0; the error shows the command line and both outputs.
pub fn run(command: &mut Command) -> Result<String> {
    let shown = command_line(command);
    // A process group of its own: Ctrl-C at the terminal must not leave a set-up or a clean-up half done.
    let output = command
        .process_group(0)
        .output()
        .with_context(|| format!("cannot run `{shown}`"))?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!(
            "`{shown}` ended with {}\n{}{}",
            output.status,
            stdout,
            stderr.trim_end()
        );
    }
    Ok(stdout)
}

/// The command as one would type it.
#[must_use]
pub fn command_line(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(
        command
            .get_args()
            .map(|word| quoted(&word.to_string_lossy())),
    );
    words.join(" ")
}

/// `word` as a shell wants it typed.
#[must_use]
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// Waits until `look` finds what it looks for.
///
/// # Errors
/// `limit` is over: what was awaited, and the last thing `look` said about why it is not so yet.
pub fn eventually<T>(
    what: &str,
    limit: Duration,
    mut look: impl FnMut() -> Result<T>,
) -> Result<T> {
    let start = Instant::now();
    loop {
        match look() {
            Ok(found) => return Ok(found),
            Err(not_yet) if start.elapsed() >= limit => {
                return Err(not_yet.context(format!("not within {limit:?}: {what}")));
            }
            Err(_) => std::thread::sleep(LOOK_AGAIN),
        }
    }
}
