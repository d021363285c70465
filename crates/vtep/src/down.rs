//! `l2gw vtep down`: takes back everything the switch made.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use crate::error::{BadNamespace, Error};
use crate::kernel::Kernel;
use crate::kernel::desired::NodeConfig;
use crate::kernel::state::KernelState;
use crate::kernel::underlay::Underlay;
use crate::kernel::vlan::VlanForm;
use crate::ovsdb_server::OvsdbServer;
use crate::places::Places;
use crate::state_dir::{self, Lock};

/// Removes our devices and packet filters, and stops the ovsdb-server of the state directory. Interfaces given to the
/// switch are let go of and stay up.
pub(crate) fn down(path: &Path) -> Result<(), Error> {
    if !nix::unistd::geteuid().is_root() {
        return Err(Error::NotRoot);
    }
    // Known here, so that a wrong path is an error and no new directory.
    let directory = state_dir::absolute(path)?;
    let _lock = Lock::take(&directory)?;
    let (places, bad) = Places::remembered(&directory)?;
    for error in bad {
        match error {
            // With it went what was in it.
            BadNamespace::None(name) => tracing::info!("network namespace {name} is gone"),
            error => return Err(Error::NotRemoved(error.to_string())),
        }
    }
    let mut kernel =
        Kernel::open_with(nobody(places.wan), places.underlays).map_err(Error::Kernel)?;
    let never = AtomicBool::new(false);
    loop {
        let report = kernel
            .converge(&KernelState::default(), &never)
            .map_err(Error::Kernel)?;
        if let Some(failure) = report.failures.first() {
            return Err(Error::NotRemoved(failure.to_string()));
        }
        if !report.plan.is_empty() {
            tracing::info!(left = report.left_out, "kernel: {}", report.plan.summary());
        }
        if !report.is_unfinished() {
            break;
        }
    }
    Places::forget(&directory).map_err(|source| Error::StateDir {
        path: directory.clone(),
        source,
    })?;
    if OvsdbServer::new(directory, Vec::new())?.stop()? {
        tracing::info!("ovsdb-server stopped");
    }
    Ok(())
}

/// A switch that was given nothing: enough to see and to remove what is there.
pub(crate) fn nobody(wan_underlay: Underlay) -> NodeConfig {
    NodeConfig {
        switch: "".into(),
        tunnel_ip: Ipv4Addr::UNSPECIFIED,
        wan_ip: Ipv4Addr::UNSPECIFIED,
        wan_underlay,
        ports: BTreeMap::new(),
        mtu: 0,
        ipv6: false,
        vlan_form: VlanForm::Subinterfaces,
        bum_limit: None,
    }
}
