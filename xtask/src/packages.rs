//! The Debian packages that tests and demo run: seen by the program or file each one brings, installed where it lacks.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

/// What must be there.
enum Part {
    /// A program on the path.
    Program(&'static str),
    /// A file.
    File(&'static str),
}

/// Each needed part and the Debian package that brings it.
///
/// On a host with systemd, openvswitch-vtep brings Open vSwitch's own services along and Debian starts them. We need
/// none of them: `l2gw vtep` runs an ovsdb-server of its own.
const PARTS: [(Part, &str); 8] = [
    (Part::Program("ovsdb-server"), "openvswitch-common"),
    (Part::Program("ovsdb-tool"), "openvswitch-common"),
    (Part::Program("ovsdb-client"), "openvswitch-common"),
    (
        Part::File("/usr/share/openvswitch/vtep.ovsschema"),
        "openvswitch-vtep",
    ),
    (Part::Program("ip"), "iproute2"),
    (Part::Program("bridge"), "iproute2"),
    (Part::Program("nft"), "nftables"),
    (Part::Program("ping"), "iputils-ping"),
];

impl Part {
    fn is_there(&self) -> bool {
        match self {
            Self::File(path) => Path::new(path).exists(),
            Self::Program(name) => {
                let path = std::env::var_os("PATH").unwrap_or_default();
                std::env::split_paths(&path).any(|directory| directory.join(name).is_file())
            }
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::File(name) | Self::Program(name) => name,
        }
    }
}

/// Installs what is missing, if we are root on a Debian.
///
/// # Errors
/// Something is missing and we cannot install it: the line that does. Or the installation failed.
pub(crate) fn ensure_installed() -> Result<()> {
    let mut packages: Vec<_> = missing().map(|(_, package)| *package).collect();
    packages.dedup();
    if packages.is_empty() {
        return Ok(());
    }
    let listed = packages.join(" ");
    if !nix::unistd::geteuid().is_root() {
        bail!("please run: apt-get update && apt-get install -y --no-install-recommends {listed}");
    }
    if !Part::Program("apt-get").is_there() {
        bail!("please install what these Debian packages hold: {listed}");
    }
    println!("Installing {listed}");
    apt_get(&["update", "-q"])?;
    apt_get(
        &[
            &["install", "-q", "-y", "--no-install-recommends"],
            packages.as_slice(),
        ]
        .concat(),
    )?;
    let still: Vec<_> = missing().map(|(part, _)| part.name()).collect();
    ensure!(
        still.is_empty(),
        "installed, yet not found: {} (is /usr/sbin in PATH?)",
        still.join(", ")
    );
    Ok(())
}

fn missing() -> impl Iterator<Item = &'static (Part, &'static str)> {
    PARTS.iter().filter(|(part, _)| !part.is_there())
}

fn apt_get(arguments: &[&str]) -> Result<()> {
    // Another apt may be at work, as on a machine that has just been made.
    let wait = ["-o", "DPkg::Lock::Timeout=300"];
    let status = Command::new("apt-get")
        .args(wait)
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .status()
        .context("cannot run apt-get")?;
    ensure!(
        status.success(),
        "`apt-get {}` ended with {status}",
        arguments.join(" ")
    );
    Ok(())
}
