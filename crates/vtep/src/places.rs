//! Where the switch's tunnels run beside its own network namespace, and where they ran before.
//!
//! Names are kept in the state directory, for those who are not told: `down`, `show` and `trace`, and a switch that is
//! started with another `--wan-netns`, which removes what the one before left there.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{BadNamespace, Error};
use crate::kernel::netns::{NetworkNamespace, Underlays};
use crate::kernel::underlay::Underlay;
use crate::kernel::{has_filter, interface_mtu};

/// Underlays of a switch.
#[derive(Clone, Debug, Default)]
pub(crate) struct Places {
    /// In use, or with something left in them.
    pub(crate) underlays: Underlays,
    /// Towards remote gateways.
    pub(crate) wan: Underlay,
}

/// What is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Memory {
    /// `--wan-netns` of the switch that was started last.
    wan: Option<String>,
    /// Of those before it, where something of ours may be left.
    former: BTreeSet<String>,
}

impl Memory {
    fn file(state_dir: &Path) -> PathBuf {
        state_dir.join("netns.json")
    }

    /// Without a file, or with one that can't be read, there is nothing to remember.
    fn read(state_dir: &Path) -> Self {
        let text = fs::read(Self::file(state_dir)).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    fn write(&self, state_dir: &Path) -> io::Result<()> {
        let file = Self::file(state_dir);
        if *self == Self::default() {
            return match fs::remove_file(file) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            };
        }
        let fresh = file.with_extension("new");
        fs::write(&fresh, serde_json::to_vec(self)?)?;
        fs::rename(&fresh, file)
    }
}

/// The network namespace that `--wan-netns` names.
///
/// # Errors
/// There is none, it can't be entered, or it is the one we are in.
pub(crate) fn wan_namespace(name: &str) -> Result<NetworkNamespace, BadNamespace> {
    let namespace = named(name)?;
    match namespace.is_own() {
        Ok(false) => Ok(namespace),
        Ok(true) => Err(BadNamespace::Own(name.to_owned())),
        Err(error) => Err(BadNamespace::of(name, error)),
    }
}

fn named(name: &str) -> Result<NetworkNamespace, BadNamespace> {
    NetworkNamespace::named(name).map_err(|error| BadNamespace::of(name, error))
}

impl Places {
    /// For a switch that begins: remembers its own, and adds those of earlier ones in which something of ours is left.
    ///
    /// # Errors
    /// The network namespace is not fit, or the state directory can't be written to.
    pub(crate) fn open(wan: Option<&str>, state_dir: &Path) -> Result<Self, Error> {
        let mut places = Self::default();
        if let Some(name) = wan {
            let namespace = wan_namespace(name)?;
            places.wan = places.add(namespace)?;
        }
        let known = Memory::read(state_dir);
        let mut memory = Memory {
            wan: wan.map(str::to_owned),
            former: BTreeSet::new(),
        };
        let left = known.wan.iter().chain(&known.former);
        for name in left.filter(|name| Some(name.as_str()) != wan) {
            match wan_namespace(name) {
                Ok(namespace) if has_filter(&namespace).unwrap_or(true) => {
                    // One may have two names.
                    if places.add(namespace)? == places.wan {
                        continue;
                    }
                }
                Ok(_) | Err(BadNamespace::None(_) | BadNamespace::Own(_)) => continue,
                Err(error) => tracing::warn!(
                    "{error}; a packet filter that an earlier --wan-netns left there stays"
                ),
            }
            memory.former.insert(name.clone());
        }
        if memory != known {
            let failed = |source| Error::StateDir {
                path: Memory::file(state_dir),
                source,
            };
            memory.write(state_dir).map_err(failed)?;
        }
        Ok(places)
    }

    /// Those that are remembered, for somebody who only looks or removes; and which of them can't be had.
    ///
    /// # Errors
    /// The kernel does not number them.
    pub(crate) fn remembered(state_dir: &Path) -> Result<(Self, Vec<BadNamespace>), Error> {
        let memory = Memory::read(state_dir);
        let mut places = Self::default();
        let mut bad = Vec::new();
        for name in memory.wan.iter().chain(&memory.former) {
            match wan_namespace(name) {
                Ok(namespace) => {
                    let underlay = places.add(namespace)?;
                    if memory.wan.as_ref() == Some(name) {
                        places.wan = underlay;
                    }
                }
                Err(error) => bad.push(error),
            }
        }
        Ok((places, bad))
    }

    /// Nothing of ours is left anywhere.
    pub(crate) fn forget(state_dir: &Path) -> io::Result<()> {
        Memory::default().write(state_dir)
    }

    fn add(&mut self, namespace: NetworkNamespace) -> Result<Underlay, Error> {
        self.underlays.add(namespace).map_err(Error::Kernel)
    }

    /// Whether an underlay is none of these.
    pub(crate) fn is_elsewhere(&self, underlay: Underlay) -> bool {
        underlay != Underlay::Own && self.underlays.namespace(underlay).is_none()
    }

    /// An underlay in words, where it is not the switch's own network namespace.
    pub(crate) fn name(&self, underlay: Underlay) -> Option<String> {
        match (underlay, self.underlays.namespace(underlay)) {
            (Underlay::Own, _) => None,
            (_, Some(namespace)) => Some(namespace.name().to_owned()),
            (Underlay::Other(number), None) => Some(format!("id {number}")),
        }
    }
}

/// An address of an interface, and the longest IP packet it passes, where that is known.
pub(crate) struct Address {
    pub(crate) ip: Ipv4Addr,
    pub(crate) interface: String,
    pub(crate) mtu: Option<u32>,
}

/// The IPv4 addresses of the calling thread's network namespace.
///
/// # Errors
/// The kernel can't be talked to.
pub(crate) fn addresses() -> io::Result<Vec<Address>> {
    let held = nix::ifaddrs::getifaddrs()?;
    let of_ipv4 = held.filter_map(|held| {
        let ip = held.address?.as_sockaddr_in()?.ip();
        Some((ip, held.interface_name))
    });
    let with_mtu = of_ipv4.map(|(ip, interface)| {
        let mtu = match interface.parse() {
            Ok(name) => interface_mtu(name)?,
            Err(_) => None,
        };
        Ok(Address { ip, interface, mtu })
    });
    with_mtu.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sched::{CloneFlags, unshare};
    use std::process::Command;
    use testkit::netns::{Netns, unique_prefix};

    fn run(program: &str, arguments: &[&str]) {
        let done = Command::new(program).args(arguments).status();
        assert!(done.unwrap().success(), "{program} {arguments:?}");
    }

    fn names(places: &Places) -> Vec<Option<String>> {
        let underlays = places.underlays.all();
        underlays.map(|underlay| places.name(underlay)).collect()
    }

    #[test]
    fn what_is_left_in_earlier_namespaces_is_remembered_until_it_is_gone() {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        let state_dir = tempfile::tempdir().unwrap();
        let [first, second] = [(); 2].map(|()| Netns::create(&unique_prefix()).unwrap());
        let open = |name: Option<&str>| Places::open(name, state_dir.path()).unwrap();
        let left = |netns: &Netns, verb| {
            let place = ["netns", "exec", netns.name()];
            run(
                "ip",
                &[&place[..], &["nft", verb, "table", "inet", "l2gw"]].concat(),
            );
        };
        assert_eq!(names(&open(None)), [None]);
        assert!(!Memory::file(state_dir.path()).exists());
        let name = |netns: &Netns| Some(netns.name().to_owned());
        assert_eq!(names(&open(Some(first.name()))), [None, name(&first)]);
        left(&first, "add");
        let mut both = names(&open(Some(second.name())));
        both.sort();
        let mut wanted = [None, name(&first), name(&second)];
        wanted.sort();
        assert_eq!(both, wanted);
        assert_eq!(names(&open(None)), [None, name(&first)]);
        left(&first, "delete");
        assert_eq!(names(&open(None)), [None]);
        assert!(!Memory::file(state_dir.path()).exists());
    }

    #[test]
    fn a_namespace_with_two_names_is_one() {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        let state_dir = tempfile::tempdir().unwrap();
        let netns = Netns::create(&unique_prefix()).unwrap();
        let other = Netns::create(&unique_prefix()).unwrap();
        let [one, two] = [&netns, &other].map(|netns| format!("/run/netns/{}", netns.name()));
        run("umount", &[&two]);
        run("mount", &["--bind", &one, &two]);
        let place = ["netns", "exec", netns.name()];
        run(
            "ip",
            &[&place[..], &["nft", "add", "table", "inet", "l2gw"]].concat(),
        );
        Places::open(Some(netns.name()), state_dir.path()).unwrap();
        let seen = names(&Places::open(Some(other.name()), state_dir.path()).unwrap());
        run("umount", &[&two]);
        assert_eq!(seen, [None, Some(other.name().to_owned())]);
    }
}
