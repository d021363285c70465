//! Network namespaces that live as long as the value that names them.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::run::{eventually, run};

/// Where iproute2 keeps a handle on each named namespace.
const HANDLES: &str = "/run/netns";

/// Every namespace and scratch directory of a test starts with this, then comes the process that made it.
const TEST_PREFIX: &str = "l2gwt-";

/// A prefix nobody else uses: test processes run in parallel, and so do the tests in one process.
#[must_use]
pub fn unique_prefix() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{TEST_PREFIX}{}-{number}", std::process::id())
}

/// A named network namespace (ip-netns(8)) of our own. Dropping it ends every process inside and removes it.
#[derive(Debug)]
pub struct Netns {
    name: String,
}

impl Netns {
    /// Makes the namespace `name`, with its loopback up and bridges free of netfilter.
    ///
    /// # Errors
    /// Not root, or the name is taken.
    pub fn create(name: &str) -> Result<Self> {
        run(Command::new("ip").args(["netns", "add", name]))?;
        let netns = Self {
            name: name.to_owned(),
        };
        netns.ip("link set lo up")?;
        // br_netfilter is on by default in a new namespace where the kernel has it: bridged frames would take the way
        // through iptables and conntrack.
        for table in ["iptables", "ip6tables", "arptables"] {
            netns.sysctl_if_present(&format!("net/bridge/bridge-nf-call-{table}"), "0")?;
        }
        Ok(netns)
    }

    /// The name `ip netns` knows it by.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `program`, to be run inside.
    #[must_use]
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }

    /// Runs ip(8) commands inside, one per line, each without the leading `ip`.
    ///
    /// # Errors
    /// The first command that failed, with its line number.
    pub fn ip(&self, script: &str) -> Result<()> {
        batch(
            Command::new("ip").args(["-n", &self.name, "-batch", "-"]),
            script,
        )
        .with_context(|| format!("in namespace {}", self.name))
    }

    /// Runs bridge(8) commands inside, one per line, each without the leading `bridge`.
    ///
    /// # Errors
    /// The first command that failed, with its line number.
    pub fn bridge(&self, script: &str) -> Result<()> {
        batch(
            Command::new("bridge").args(["-n", &self.name, "-batch", "-"]),
            script,
        )
        .with_context(|| format!("in namespace {}", self.name))
    }

    /// Calls `inside` on a thread of its own that is in this namespace. Sockets it opens stay in the namespace.
    ///
    /// # Errors
    /// The namespace cannot be entered, or `inside` failed.
    pub fn enter<T: Send>(&self, inside: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let handle = Path::new(HANDLES).join(&self.name);
        let entered = || {
            let handle =
                File::open(&handle).with_context(|| format!("cannot open {}", handle.display()))?;
            setns(handle, CloneFlags::CLONE_NEWNET)
                .with_context(|| format!("cannot enter {}", self.name))?;
            inside()
        };
        std::thread::scope(|scope| match scope.spawn(entered).join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    }

    /// Writes a setting under /proc/sys, as `net/ipv4/ip_forward`.
    ///
    /// # Errors
    /// The kernel lacks it or refuses the value.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        self.enter(|| {
            std::fs::write(Path::new("/proc/sys").join(key), value)
                .with_context(|| format!("sysctl {key}"))
        })
    }

    fn sysctl_if_present(&self, key: &str, value: &str) -> Result<()> {
        if Path::new("/proc/sys").join(key).exists() {
            self.sysctl(key, value)
        } else {
            Ok(())
        }
    }

    /// The processes inside.
    ///
    /// # Errors
    /// They cannot be listed.
    pub fn processes(&self) -> Result<Vec<Pid>> {
        processes(&self.name)
    }

    /// Turns IPv6 off for all interfaces there are and will be: no router solicitations or MLD between counted frames.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn without_ipv6(&self) -> Result<()> {
        self.sysctl_if_present("net/ipv6/conf/all/disable_ipv6", "1")?;
        self.ipv6_on_new_interfaces(false)
    }

    /// Turns IPv6 on or off for the interfaces that come from now on.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn ipv6_on_new_interfaces(&self, on: bool) -> Result<()> {
        self.sysctl_if_present(
            "net/ipv6/conf/default/disable_ipv6",
            if on { "0" } else { "1" },
        )
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.name) {
            eprintln!(
                "cannot remove the network namespace {}: {error:#}",
                self.name
            );
        }
    }
}

/// Ends every process in the namespace `name` and removes it. Whoever made a namespace started what runs in it: this
/// also finds grandchildren, such as a gateway's ovsdb-server, whose own parent was killed.
///
/// # Errors
/// The namespace cannot be listed or removed, or a process does not end.
pub fn remove(name: &str) -> Result<()> {
    // Again and again, because an `ip netns exec` that was started a moment ago may enter only now.
    eventually("the namespace goes away", Duration::from_secs(5), || {
        let found = processes(name)?;
        for pid in &found {
            // It may have ended since.
            let _ = kill(*pid, Signal::SIGKILL);
        }
        ensure!(found.is_empty(), "still running in {name}: {found:?}");
        run(Command::new("ip").args(["netns", "delete", name]))?;
        Ok(())
    })
}

/// The processes in the namespace `name`. One that has ended and waits for its parent to notice is in no namespace.
fn processes(name: &str) -> Result<Vec<Pid>> {
    let listed = run(Command::new("ip").args(["netns", "pids", name]))?;
    let mut alive = Vec::new();
    for pid in listed.split_whitespace() {
        let pid: i32 = pid
            .parse()
            .with_context(|| format!("`ip netns pids` said {pid:?}"))?;
        alive.push(Pid::from_raw(pid));
    }
    Ok(alive)
}

/// The names of all namespaces that start with `prefix`.
///
/// # Errors
/// The directory of handles cannot be read.
pub fn named(prefix: &str) -> Result<Vec<String>> {
    let entries = match std::fs::read_dir(HANDLES) {
        Ok(entries) => entries,
        // Made by the first `ip netns add` after boot.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).context(HANDLES),
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.starts_with(prefix) {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// Removes the namespaces and files of test processes that are gone: one that was killed could not clean up behind
/// itself.
///
/// # Errors
/// Something cannot be removed.
pub fn remove_orphans() -> Result<()> {
    remove_all(|name| maker_is_gone(TEST_PREFIX, name))
}

/// Whether `name` is `prefix`, a process id and more, and there is no such process.
#[must_use]
pub fn maker_is_gone(prefix: &str, name: &str) -> bool {
    let maker = name
        .strip_prefix(prefix)
        .and_then(|rest| rest.split(['-', '.']).next());
    maker.is_some_and(|pid| pid.parse::<u32>().is_ok() && !Path::new("/proc").join(pid).exists())
}

/// Removes the namespaces, with the processes in them, and the temporary directories that `chosen` picks by name.
///
/// # Errors
/// Something cannot be removed.
pub fn remove_all(chosen: impl Fn(&str) -> bool) -> Result<()> {
    for name in named("")?.iter().filter(|name| chosen(name)) {
        match remove(name) {
            // Somebody else found it a moment earlier.
            Err(_) if !Path::new(HANDLES).join(name).exists() => {}
            outcome => outcome?,
        }
    }
    for entry in std::fs::read_dir(std::env::temp_dir())? {
        let entry = entry?;
        if chosen(&entry.file_name().to_string_lossy()) {
            match std::fs::remove_dir_all(entry.path()) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(error.into());
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// Feeds `script` to a command that reads a batch from standard input.
fn batch(command: &mut Command, script: &str) -> Result<()> {
    let mut child = command
        .process_group(0) // as in `run`
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {:?}", command.get_program()))?;
    if let Some(mut stdin) = child.stdin.take() {
        // It stops reading at the first command that fails; what it says then is the error to show.
        let _ = stdin.write_all(script.as_bytes());
    }
    let output = child.wait_with_output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{}\n{}", said.trim_end(), script.trim_end());
    }
    Ok(())
}
