//! What keeps the switch from starting, each in one line that says what to do.

use std::io;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use thiserror::Error;

use crate::kernel::underlay::Side;

/// Why `l2gw vtep` did not start or could not go on.
#[derive(Debug, Error)]
pub enum Error {
    /// Not root.
    #[error("changing network devices needs root")]
    NotRoot,
    /// A port or interface is given twice.
    #[error("--port: {0} is given twice")]
    PortTwice(String),
    /// There is no such interface.
    #[error("--port {port}={interface}: this host has no interface {interface}")]
    NoSuchInterface {
        /// The port's name.
        port: String,
        /// The interface's name.
        interface: String,
    },
    /// The network namespace for tunnels to remote gateways can't be used.
    #[error("--wan-netns: {0}")]
    WanNetns(#[from] BadNamespace),
    /// Both ends of tunnels would have one address, which is what they are told apart by.
    #[error("--wan-netns: --wan-ip {0} is the address of --tunnel-ip; it must be another one")]
    OneAddress(Ipv4Addr),
    /// A program is missing.
    #[error(transparent)]
    Missing(#[from] Missing),
    /// `l2gw vtep check` found something, and printed it.
    #[error("not ready to be a switch: {0} unmet")]
    Unmet(usize),
    /// What was asked about is not there.
    #[error(
        "there is no network {0}, neither in the kernel nor bound in the database (l2gw vtep show lists them)"
    )]
    NoSuchNetwork(String),
    /// The answer can't be printed.
    #[error("standard output: {0}")]
    Output(#[source] io::Error),
    /// The state directory can't be used.
    #[error("state directory {}: {source}", path.display())]
    StateDir {
        /// The directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A socket in the state directory would have too long a path.
    #[error("state directory {}: its path is too long for a socket in it (100 bytes at most)", .0.display())]
    LongStateDir(PathBuf),
    /// Another daemon has the state directory.
    #[error("state directory {}: in use by a running l2gw vtep", .0.display())]
    InUse(PathBuf),
    /// ovsdb-server did not start.
    #[error("ovsdb-server did not start: {0}")]
    OvsdbServer(String),
    /// A port to listen on can't be had.
    #[error("--listen {target}: {source}")]
    Listen {
        /// The target.
        target: String,
        /// Why not.
        source: io::Error,
    },
    /// A running ovsdb-server was started by somebody else and can't be told where to listen.
    #[error(
        "--listen {target}: the ovsdb-server at {} was not started by l2gw vtep and has no control socket {}; let whoever \
         started it have it listen, or start it with --unixctl={}",
        socket.display(), control.display(), control.display()
    )]
    ForeignServer {
        /// The target.
        target: String,
        /// Where it answers.
        socket: PathBuf,
        /// Where it could be told.
        control: PathBuf,
    },
    /// The address for metrics can't be had.
    #[error("--metrics-listen {address}: {source}")]
    MetricsListen {
        /// The address.
        address: std::net::SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The kernel can't be talked to.
    #[error("kernel: {0}")]
    Kernel(#[source] io::Error),
    /// Nothing of the network is cut off.
    #[error("nothing of network {0} is cut off (l2gw vtep show lists networks)")]
    NotCut(String),
    /// The running daemon said no.
    #[error("{0}")]
    Refused(String),
    /// The running daemon does not answer.
    #[error("the switch is running but does not answer at {path}: {source}", path = path.display())]
    NoAnswer {
        /// Its socket.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Loop protection has no socket.
    #[error(
        "loop protection can't look for loops: {0} (it takes CAP_NET_RAW; --no-loop-protection does without)"
    )]
    LoopProtection(#[source] io::Error),
    /// The packet filter can't be used.
    #[error("packet filter: {0}")]
    Filter(#[source] io::Error),
    /// Something of ours could not be removed.
    #[error("not everything could be removed: {0}")]
    NotRemoved(String),
    /// The runtime failed us.
    #[error("{0}")]
    Runtime(#[source] io::Error),
}

/// A network namespace that tunnels can't run in.
#[derive(Debug, Error)]
pub enum BadNamespace {
    /// There is none.
    #[error(
        "this host has no network namespace {0} (`ip netns list` shows them, `ip netns add {0}` makes it)"
    )]
    None(String),
    /// It is the switch's own.
    #[error("the switch is in network namespace {0} itself; leave the option out")]
    Own(String),
    /// It can't be entered.
    #[error(
        "entering network namespace {0} takes the capability CAP_SYS_ADMIN (the unit gives it with wan-netns.conf)"
    )]
    Forbidden(String),
    /// It can't be used.
    #[error("network namespace {name}: {source}")]
    Other {
        /// Its name.
        name: String,
        /// Why not.
        source: io::Error,
    },
}

impl BadNamespace {
    pub(crate) fn of(name: &str, error: io::Error) -> Self {
        let name = name.to_owned();
        match error.kind() {
            io::ErrorKind::NotFound => Self::None(name),
            io::ErrorKind::PermissionDenied => Self::Forbidden(name),
            _ => Self::Other {
                name,
                source: error,
            },
        }
    }
}

/// An address that an end of tunnels of ours should have is not there.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{option} {ip}: {place} does not have this address")]
pub(crate) struct MissingAddress {
    option: &'static str,
    ip: Ipv4Addr,
    place: String,
}

impl MissingAddress {
    /// `netns`: the network namespace, if it is not the switch's own.
    pub(crate) fn new(side: Side, ip: Ipv4Addr, netns: Option<String>) -> Self {
        let option = side.option();
        let place = match netns {
            Some(name) => format!("network namespace {name}"),
            None => "this host".to_owned(),
        };
        Self { option, ip, place }
    }
}

/// A program or file we need is not there.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("{program} is missing; on Debian: apt-get install {package}")]
pub struct Missing {
    /// The program or file.
    pub program: &'static str,
    /// The Debian package that has it.
    pub package: &'static str,
}
