//! Independent witnesses of when something is where it should be: in an ovsdb-server, in a kernel.
//!
//! Neither asks the product. Both are told of each entry as it comes, because reading 200,000 entries back takes the
//! kernel two seconds; a read-back at the end confirms the number.

pub(crate) mod kernel;
pub(crate) mod ovsdb;

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How long 100,000 entries may take before a measurement is given up: far beyond every budget.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

/// How often a witness is asked. It notes the time by itself.
const ASK_AGAIN: Duration = Duration::from_millis(2);

/// Asks until there is an answer.
fn wait<T>(mut ask: impl FnMut() -> Result<Option<T>>, state: impl Fn() -> String) -> Result<T> {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask()? {
            return Ok(answer);
        }
        if start.elapsed() > PATIENCE {
            bail!("given up after {PATIENCE:?}: {}", state());
        }
        std::thread::sleep(ASK_AGAIN);
    }
}
