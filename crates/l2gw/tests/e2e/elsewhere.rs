//! Tunnels to remote gateways in a network namespace of their own (`l2gw vtep --wan-netns`).

use anyhow::{Result, ensure};
use testkit::run::run;
use testkit::topology::{CloudPlan, Topology};

use crate::{WAN_VNI, joined};

#[test]
fn clouds_whose_keys_are_the_wans_are_joined_on_one_udp_port_and_stay_so_while_the_switch_is_killed()
-> Result<()> {
    // One cloud keeps its tunnels apart by namespaces, the other one by nftables: neither knows of the other's way.
    let mut topology = Topology::of(&[CloudPlan::new("a", WAN_VNI), CloudPlan::new("b", WAN_VNI)])?;
    if let Some(a) = topology.clouds.first_mut() {
        a.move_wan()?;
    }
    let [a, b] = topology.all()?;
    let [mut at_a, _at_b] = joined(&topology)?;
    let devices = run(a
        .gateway
        .netns
        .command("ip")
        .args(["-d", "link", "show", "type", "vxlan"]))?;
    assert_eq!(devices.matches("dstport 4789").count(), 2, "{devices}");

    // Counted both ways: each request and each answer crosses the WAN once.
    let wan = topology.capture_wan(0)?;
    let loss = a.vm()?.ping(b.vm()?, 10)?;
    assert!(loss.none(), "{loss}");
    let mut crossed = [0, 0];
    for packet in wan.finish()?.into_iter().filter_map(|seen| seen.vxlan()) {
        ensure!(packet.vni == WAN_VNI, "key {}", packet.vni);
        if !packet.inner.is_arp() && packet.source == a.gateway.wan_ip {
            crossed[0] += 1;
        } else if !packet.inner.is_arp() {
            crossed[1] += 1;
        }
    }
    assert_eq!(crossed, [10, 10], "requests and answers");

    let stream = a.vm()?.ping_stream(b.vm()?, 100)?;
    at_a.installation.take_vtep()?.kill()?;
    std::thread::sleep(std::time::Duration::from_secs(1));
    at_a.installation.start_vtep()?;
    at_a.installation.wait_active(&at_a.connection)?;
    let loss = stream.stop()?;
    assert!(loss.none(), "{loss}");
    Ok(())
}
