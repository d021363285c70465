//! The Debian packages that tests and demo run: seen by the program or file each one brings, installed where it lacks.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

/// What must be there.
enum Part {
    /// A program on the path.
    Program(&'static str),
    /// A file.
    File(&'static str),
    /// A program in some version's directory, as `/usr/lib/postgresql/15/bin/initdb`.
    Versioned {
        /// The directory of versions.
        versions: &'static str,
        /// The program below one of them.
        program: &'static str,
    },
    /// A module of Python's library that Debian packs by itself.
    PythonModule(&'static str),
}

/// What somebody needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum For {
    /// The demo: what the product itself runs, and ping.
    Demo,
    /// The tests: that, and what they hold the product against.
    Tests,
}

/// What only tests need, and the Debian package that brings it.
const TEST_PARTS: [(Part, &str); 8] = [
    (Part::Program("vtep-ctl"), "openvswitch-vtep"),
    (Part::Program("ovs-vswitchd"), "openvswitch-switch"),
    (
        Part::File("/usr/lib/python3/dist-packages/ovs/__init__.py"),
        "python3-openvswitch",
    ),
    (Part::Program("faketime"), "faketime"),
    (Part::Program("openssl"), "openssl"),
    (Part::Program("setpriv"), "util-linux"),
    (Part::PythonModule("ensurepip"), "python3-venv"),
    (
        Part::Versioned {
            versions: "/usr/lib/postgresql",
            program: "bin/initdb",
        },
        "postgresql",
    ),
];

/// Each part that everybody needs and the Debian package that brings it.
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
            Self::PythonModule(module) => Command::new("python3")
                .args(["-c", &format!("import {module}")])
                .stderr(Stdio::null())
                .status()
                .is_ok_and(|status| status.success()),
            Self::Versioned { versions, program } => std::fs::read_dir(versions)
                .into_iter()
                .flatten()
                .flatten()
                .any(|version| version.path().join(program).is_file()),
            Self::Program(name) => {
                let path = std::env::var_os("PATH").unwrap_or_default();
                std::env::split_paths(&path).any(|directory| directory.join(name).is_file())
            }
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::File(name)
            | Self::Program(name)
            | Self::PythonModule(name)
            | Self::Versioned { program: name, .. } => name,
        }
    }
}

/// Installs what is missing, if we are root on a Debian.
///
/// # Errors
/// Something is missing and we cannot install it: the line that does. Or the installation failed.
pub(crate) fn ensure_installed(whom: For) -> Result<()> {
    let mut packages: Vec<_> = missing(whom).map(|(_, package)| *package).collect();
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
    let still: Vec<_> = missing(whom).map(|(part, _)| part.name()).collect();
    ensure!(
        still.is_empty(),
        "installed, yet not found: {} (is /usr/sbin in PATH?)",
        still.join(", ")
    );
    Ok(())
}

fn missing(whom: For) -> impl Iterator<Item = &'static (Part, &'static str)> {
    let further: &[_] = match whom {
        For::Demo => &[],
        For::Tests => &TEST_PARTS,
    };
    PARTS
        .iter()
        .chain(further)
        .filter(|(part, _)| !part.is_there())
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
