//! A switch that is away: calls succeed, the status says so, and the switch catches up when it returns.

use anyhow::{Result, ensure};
use testkit::run::{CONVERGES_WITHIN, eventually};
use testkit::topology::Topology;

use crate::{WAN_VNI, connect, joined};

#[test]
fn a_connection_made_while_the_switch_is_away_works_once_it_is_back() -> Result<()> {
    let topology = Topology::two_clouds()?;
    let [a, b] = topology.all()?;
    let at_b = connect(b, a, true)?;
    let mut at_a = testkit::installation::Installation::new(crate::l2gw(), a)?;
    at_a.start()?;
    at_a.attach_network()?;
    at_a.power_off_switch()?;

    let remote = at_a.declare_remote(b)?;
    let connection = at_a.connect(&remote, WAN_VNI, true)?;
    eventually(
        "the server notices that the switch is away",
        CONVERGES_WITHIN,
        || {
            let status = at_a.status(&connection)?;
            ensure!(status == "DOWN", "status {status}");
            Ok(())
        },
    )?;

    at_a.start_vtep()?;
    at_a.wait_active(&connection)?;
    at_b.installation.wait_active(&at_b.connection)?;
    a.vm()?.wait_until_reaches(b.vm()?)?;
    let loss = a.vm()?.ping(b.vm()?, 5)?;
    assert!(loss.none(), "{loss}");
    Ok(())
}

#[test]
fn a_connection_deleted_while_the_switch_is_away_is_gone_once_it_is_back() -> Result<()> {
    let topology = Topology::two_clouds()?;
    let [a, b] = topology.all()?;
    let [mut at_a, _at_b] = joined(&topology)?;
    at_a.installation.power_off_switch()?;
    let loss = a.vm()?.ping(b.vm()?, 3)?;
    assert!(loss.none(), "the kernel forwards on its own: {loss}");

    at_a.installation
        .succeed(&["l2-remote-gateway-connection-delete", &at_a.connection])?;
    at_a.installation.start_vtep()?;
    a.vm()?.wait_until_cut_off_from(b.vm()?)
}
