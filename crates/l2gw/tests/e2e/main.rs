//! The product end to end: the real program on border gateways of clouds made of network namespaces, a real
//! ovsdb-server, the kernel's VXLAN, and frames that are counted. Needs root; `cargo xtask test` runs it.

mod absence;
mod bad_days;
mod clock;
mod confined;
mod driven;
mod elsewhere;
mod emulated;
mod joined;
mod killed;
mod loops;
mod mesh;
mod restart;
mod startup;
mod watched;

use std::path::Path;

use anyhow::Result;
use testkit::installation::Installation;
use testkit::topology::{Cloud, Topology};

/// The key of all connections, the one of the specification's picture.
const WAN_VNI: u32 = 456;

/// The program under test.
fn l2gw() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_l2gw"))
}

/// A border gateway that runs the product, and its connection to the one remote gateway.
struct Site<'a> {
    installation: Installation<'a>,
    connection: String,
}

/// Starts the product in `cloud`, attaches the network there, and connects it to the network in `there`.
fn connect<'a>(cloud: &'a Cloud, there: &Cloud, flood: bool) -> Result<Site<'a>> {
    let mut installation = Installation::new(l2gw(), cloud)?;
    installation.start()?;
    installation.attach_network()?;
    let remote = installation.declare_remote(there)?;
    let connection = installation.connect(&remote, WAN_VNI, flood)?;
    Ok(Site {
        installation,
        connection,
    })
}

/// Two clouds joined by remote gateways that flood, up to where one VM reaches the other.
fn joined(topology: &Topology) -> Result<[Site<'_>; 2]> {
    let [a, b] = topology.all()?;
    let sites = [connect(a, b, true)?, connect(b, a, true)?];
    for site in &sites {
        site.installation.wait_active(&site.connection)?;
    }
    a.vm()?.wait_until_reaches(b.vm()?)?;
    Ok(sites)
}
