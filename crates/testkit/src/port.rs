//! TCP ports of 127.0.0.1 for servers that cannot be asked which one they took, or that have to keep theirs over a restart.
//!
//! One from the kernel's own range would not do: between the look and the server's start, and while the server is down, the
//! kernel may give it to a listener that wants any, or to one end of any connection.

use std::fs;
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail};

/// Above the ports that services are known by, and ours.
const FIRST: u16 = 10_000;

/// First and last port that the kernel gives away (ip(7)).
const KERNEL_RANGE: &str = "/proc/sys/net/ipv4/ip_local_port_range";

/// What this process has taken. Another process cannot bind the same name; the kernel forgets it with this process.
static TAKEN: Mutex<Vec<UnixDatagram>> = Mutex::new(Vec::new());

/// A port that nobody listens on, that the kernel gives to nobody, and that no other call returns, in this process or
/// another one, until this process ends.
///
/// # Errors
/// Every port is taken, or the kernel does not tell its range.
pub fn free_port() -> Result<u16> {
    let range = fs::read_to_string(KERNEL_RANGE).context(KERNEL_RANGE)?;
    let mut kernels = range.split_whitespace().map(str::parse::<u16>);
    let (Some(Ok(low)), Some(Ok(high))) = (kernels.next(), kernels.next()) else {
        bail!("{KERNEL_RANGE}: {range:?}");
    };
    let mut ports: Vec<u16> = (FIRST..=u16::MAX)
        .filter(|port| !(low..=high).contains(port))
        .collect();
    // In no order: most are free, and what others took need not be tried first each time.
    fastrand::shuffle(&mut ports);
    for port in ports {
        // The abstract namespace (unix(7)) belongs to the network namespace, as ports do.
        let name = SocketAddr::from_abstract_name(format!("l2gw-test-port-{port}"))?;
        let Ok(taken) = UnixDatagram::bind_addr(&name) else {
            continue;
        };
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            let mut all = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
            all.push(taken);
            return Ok(port);
        }
    }
    bail!("no port above {FIRST} is free, and not one of {low} to {high}")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_port_is_given_once_and_never_one_that_the_kernel_gives_away() {
        let ports: BTreeSet<_> = (0..100).map(|_| free_port().unwrap()).collect();
        assert_eq!(ports.len(), 100);
        for _ in 0..100 {
            let given = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr();
            assert!(!ports.contains(&given.unwrap().port()));
        }
        for port in ports {
            TcpListener::bind(("127.0.0.1", port)).unwrap();
        }
    }
}
