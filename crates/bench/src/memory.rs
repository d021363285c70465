//! What a process occupies, from /proc (proc_pid_status(5), proc_pid_smaps(5)).

use std::fs;

use anyhow::{Context, Result};
use nix::unistd::Pid;

/// Memory of one process, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    /// What is in memory now (VmRSS).
    pub(crate) resident: f64,
    /// The most that ever was, since the start or [`forget_peak`] (VmHWM).
    pub(crate) peak: f64,
    /// What is in memory now, with shared pages divided among those who share them (Pss).
    pub(crate) proportional: f64,
}

impl Memory {
    pub(crate) fn of(pid: Pid) -> Result<Self> {
        let status = read(pid, "status")?;
        Ok(Self {
            resident: kibibytes(&status, "VmRSS")?,
            peak: kibibytes(&status, "VmHWM")?,
            proportional: kibibytes(&read(pid, "smaps_rollup")?, "Pss")?,
        })
    }
}

/// Lets the peak start anew from what is in memory now.
pub(crate) fn forget_peak(pid: Pid) -> Result<()> {
    let file = format!("/proc/{pid}/clear_refs");
    fs::write(&file, "5").with_context(|| file)
}

fn read(pid: Pid, name: &str) -> Result<String> {
    let file = format!("/proc/{pid}/{name}");
    fs::read_to_string(&file).with_context(|| file)
}

/// The value of a line such as `VmRSS:      5136 kB`, in bytes.
fn kibibytes(text: &str, name: &str) -> Result<f64> {
    let value = text.lines().find_map(|line| {
        let value = line.strip_prefix(name)?.strip_prefix(':')?;
        value.trim().strip_suffix(" kB")?.parse::<f64>().ok()
    });
    Ok(value.with_context(|| format!("no {name}"))? * 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_peak_is_no_less_than_what_we_occupy() {
        let memory = Memory::of(Pid::this()).unwrap();
        assert!(memory.resident > 0.0 && memory.proportional > 0.0);
        assert!(memory.peak >= memory.resident);
    }
}
