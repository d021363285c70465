//! The processor time of a process, from /proc (proc_pid_stat(5)).

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::unistd::{Pid, SysconfVar, sysconf};

/// What a process has used so far, in user and kernel mode, and the programs it ran and waited for: utime, stime, cutime and
/// cstime.
pub(crate) fn used_by(pid: Pid) -> Result<Duration> {
    let file = format!("/proc/{pid}/stat");
    let stat = fs::read_to_string(&file).with_context(|| file)?;
    // The name in parentheses may hold anything; the first field behind it is the third.
    let (_, fields) = stat.rsplit_once(')').context("no name")?;
    let times = fields.split_whitespace().skip(11).take(4);
    let ticks = times.map(str::parse::<u64>).sum::<Result<u64, _>>()?;
    let a_second = sysconf(SysconfVar::CLK_TCK)?.context("no clock")?;
    Ok(Duration::from_secs_f64(ticks as f64 / a_second as f64))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn who_works_uses_time() {
        let (before, start) = (used_by(Pid::this()).unwrap(), Instant::now());
        while used_by(Pid::this()).unwrap() == before {
            assert!(start.elapsed() < Duration::from_secs(60));
        }
    }
}
