//! What it was measured on. No host name, no path.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use nix::sys::statfs::{OVERLAYFS_SUPER_MAGIC, TMPFS_MAGIC, statfs};

use crate::measurement::Unit;

/// Processor, kernel, memory, file system, programs: name and value.
pub(crate) fn describe() -> Result<Vec<(&'static str, String)>> {
    let cpu = fs::read_to_string("/proc/cpuinfo")?;
    let model = field(&cpu, "model name").unwrap_or("unknown");
    let cores = std::thread::available_parallelism()?;
    let memory = fs::read_to_string("/proc/meminfo")?;
    let total = field(&memory, "MemTotal").and_then(|v| v.strip_suffix(" kB")?.parse().ok());
    let total: f64 = total.context("no MemTotal")?;
    let load = fs::read_to_string("/proc/loadavg")?;
    let load = load.split(' ').next().unwrap_or("unknown");
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    Ok(vec![
        ("Processor", format!("{model}, {cores} cores")),
        ("Memory", Unit::Memory.show(total * 1024.0)),
        // What a distributor or a host appends behind a dash says nothing about speed.
        (
            "Kernel",
            format!(
                "Linux {}",
                release.trim().split('-').next().unwrap_or_default()
            ),
        ),
        ("Databases on", file_system(&std::env::temp_dir())?),
        ("ovsdb-server", ovsdb_server()?),
        ("Load before (1 min)", load.to_owned()),
    ])
}

fn field<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    text.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        (found.trim() == name).then_some(value.trim())
    })
}

/// The kind of file system, as its mount says; one without a disk below is named as what it is.
fn file_system(directory: &Path) -> Result<String> {
    let kind = statfs(directory)?.filesystem_type();
    if kind == TMPFS_MAGIC {
        return Ok(
            "tmpfs, **not a disk**: set TMPDIR, no durable figure here means anything".to_owned(),
        );
    }
    if kind == OVERLAYFS_SUPER_MAGIC {
        return Ok("overlay".to_owned());
    }
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    // The mount with the longest path that leads there; of several on one path the last hides the others.
    let found = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        let (place, kind) = (words.next()?, words.next()?);
        directory.starts_with(place).then_some((place.len(), kind))
    });
    let (_, kind) = found
        .max_by_key(|(length, _)| *length)
        .context("no mount")?;
    Ok(kind.to_owned())
}

fn ovsdb_server() -> Result<String> {
    let version = testkit::run::run(Command::new("ovsdb-server").arg("--version"))?;
    let line = version.lines().next().unwrap_or_default();
    Ok(line.rsplit(' ').next().unwrap_or_default().to_owned())
}
