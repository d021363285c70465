//! Network namespaces other than the switch's own: named ones (ip-netns(8)), entered by threads that end soon after.
//!
//! A socket stays in the network namespace in which it was opened, and a program that is started there runs there. So nothing
//! but the opening is done by a thread that has entered one, and no thread of ours has to come back.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use nix::sys::statfs::{NSFS_MAGIC, fstatfs};

use super::message;
use super::netlink::Netlink;
use super::underlay::Underlay;

/// Where iproute2 keeps a handle on each named network namespace.
const HANDLES: &str = "/run/netns";

/// The handle on the calling thread's.
const OWN: &str = "/proc/thread-self/ns/net";

/// A network namespace, kept in being.
#[derive(Debug)]
pub struct NetworkNamespace {
    name: String,
    path: PathBuf,
    handle: File,
    identity: Identity,
}

/// What the kernel tells namespaces apart by (namespaces(7)): while one is kept in being, no other has its inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
}

/// What has become of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bearer {
    /// It still is the namespace's.
    Same,
    /// Nobody bears it.
    Nobody,
    /// Another namespace bears it.
    Another,
}

impl NetworkNamespace {
    /// The one with this name.
    ///
    /// # Errors
    /// There is none (`NotFound`), or it can't be entered: that takes CAP_SYS_ADMIN (`PermissionDenied`).
    pub fn named(name: &str) -> io::Result<Self> {
        let path = Path::new(HANDLES).join(name);
        let handle = File::open(&path)?;
        // A moment after it was made it is a file like others.
        if fstatfs(handle.as_fd())?.filesystem_type() != NSFS_MAGIC {
            return Err(io::ErrorKind::NotFound.into());
        }
        let namespace = Self::new(name, path, handle)?;
        namespace.enter(|| Ok(()))?;
        Ok(namespace)
    }

    /// The calling thread's.
    ///
    /// # Errors
    /// There is no /proc.
    pub fn own() -> io::Result<Self> {
        Self::new("own", OWN.into(), File::open(OWN)?)
    }

    fn new(name: &str, path: PathBuf, handle: File) -> io::Result<Self> {
        Ok(Self {
            name: name.to_owned(),
            path,
            identity: Identity::of(&handle.metadata()?),
            handle,
        })
    }

    /// The name it was found by.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the calling thread is in it.
    ///
    /// # Errors
    /// There is no /proc.
    pub fn is_own(&self) -> io::Result<bool> {
        Ok(Self::own()?.identity == self.identity)
    }

    /// Who bears its name now.
    pub fn bearer(&self) -> Bearer {
        match fs::metadata(&self.path) {
            Ok(found) if Identity::of(&found) == self.identity => Bearer::Same,
            Ok(_) if Self::named(&self.name).is_ok() => Bearer::Another,
            _ => Bearer::Nobody,
        }
    }

    /// Calls `inside` on a thread of its own that has entered it.
    ///
    /// # Errors
    /// It can't be entered, or `inside` failed.
    pub fn enter<T: Send>(&self, inside: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        let entered = || {
            setns(self.handle.as_fd(), CloneFlags::CLONE_NEWNET)?;
            inside()
        };
        thread::scope(|scope| {
            let thread = thread::Builder::new().name(format!("netns {}", self.name));
            let entered = thread.spawn_scoped(scope, entered)?;
            let failed = |_| Err(io::Error::other("a thread did not come back"));
            entered.join().unwrap_or_else(failed)
        })
    }
}

impl Identity {
    fn of(handle: &fs::Metadata) -> Self {
        Self {
            device: handle.dev(),
            inode: handle.ino(),
        }
    }
}

/// The underlays there are: the calling thread's network namespace, and others by their numbers there.
#[derive(Clone, Debug, Default)]
pub struct Underlays(BTreeMap<Underlay, Arc<NetworkNamespace>>);

impl Underlays {
    /// Adds a network namespace, unless it is there by another name. The kernel gives it a number, if it has none yet, and keeps that while both are there.
    ///
    /// # Errors
    /// The kernel gives none.
    pub fn add(&mut self, namespace: NetworkNamespace) -> io::Result<Underlay> {
        let underlay = Underlay::Other(number(&namespace)?);
        self.0
            .entry(underlay)
            .or_insert_with(|| Arc::new(namespace));
        Ok(underlay)
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = Underlay> {
        std::iter::once(Underlay::Own).chain(self.0.keys().copied())
    }

    /// The network namespace of one that is not our own.
    pub fn namespace(&self, underlay: Underlay) -> Option<&Arc<NetworkNamespace>> {
        self.0.get(&underlay)
    }

    /// Calls `there` in an underlay.
    ///
    /// # Errors
    /// It can't be entered, or `there` failed.
    pub fn at<T: Send>(
        &self,
        underlay: Underlay,
        there: impl FnOnce() -> io::Result<T> + Send,
    ) -> io::Result<T> {
        match (underlay, self.0.get(&underlay)) {
            (Underlay::Own, _) => there(),
            (Underlay::Other(_), Some(namespace)) => namespace.enter(there),
            (Underlay::Other(number), None) => Err(io::Error::new(
                io::ErrorKind::NotFound,
                format!("netns id {number} is none of this switch's"),
            )),
        }
    }
}

/// The number of a network namespace in the calling thread's.
fn number(namespace: &NetworkNamespace) -> io::Result<i32> {
    let handle = u32::try_from(namespace.handle.as_raw_fd()).map_err(io::Error::other)?;
    let mut netlink = Netlink::open()?;
    if let Some(number) = assigned(&mut netlink, handle)? {
        return Ok(number);
    }
    let refused = netlink.write(vec![message::number_namespace(handle)])?;
    let raced = |error: &super::netlink::KernelError| error.errno == Errno::EEXIST;
    if let Some((_, error)) = refused.into_iter().find(|(_, error)| !raced(error)) {
        return Err(error.into());
    }
    assigned(&mut netlink, handle)?.ok_or_else(|| io::Error::other("the kernel numbers it not"))
}

fn assigned(netlink: &mut Netlink, handle: u32) -> io::Result<Option<i32>> {
    let mut number = None;
    netlink.get(message::get_namespace(handle), |payload| {
        number = message::namespace_number(payload);
    })??;
    Ok(number)
}
