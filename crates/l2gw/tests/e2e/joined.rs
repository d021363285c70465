//! Two clouds that are one network, and parted again.

use anyhow::{Context, Result, ensure};
use testkit::capture::Captured;
use testkit::frame::Vxlan;
use testkit::run::{CONVERGES_WITHIN, eventually, run};
use testkit::topology::{CloudPlan, TENANT_MTU, Topology};

use crate::{WAN_VNI, connect, joined};

/// What crossed the WAN, which must all be VXLAN with the WAN's own key, but for what gateways tell each other.
fn tunnelled(captured: &[Captured]) -> Result<Vec<Vxlan>> {
    let mut packets = Vec::new();
    for seen in captured
        .iter()
        .filter(|seen| !seen.frame.is_underlay_control())
    {
        let packet = seen
            .vxlan()
            .with_context(|| format!("no VXLAN: {:?}", seen.frame))?;
        ensure!(
            packet.vni == WAN_VNI,
            "VNI {}: {:?}",
            packet.vni,
            packet.inner
        );
        packets.push(packet);
    }
    Ok(packets)
}

#[test]
fn remotes_that_flood_join_two_clouds_and_the_wan_carries_its_own_key() -> Result<()> {
    let topology = Topology::two_clouds()?;
    let [a, b] = topology.all()?;
    let wan = topology.capture_wan(0)?;
    assert!(
        a.vm()?.ping(b.vm()?, 2)?.total(),
        "nothing joins the clouds yet"
    );

    let _sites = joined(&topology)?;
    let loss = a.vm()?.ping(b.vm()?, 10)?;
    assert!(loss.none(), "{loss}");

    let packets = tunnelled(&wan.finish()?)?;
    assert!(
        packets.len() >= 20,
        "10 requests and 10 answers, yet only {} packets",
        packets.len()
    );
    assert!(
        packets.iter().any(|packet| packet.inner.is_arp()),
        "ARP has to find the other VM by flooding"
    );
    Ok(())
}

#[test]
fn known_macs_alone_join_two_clouds_and_no_arp_crosses_the_wan() -> Result<()> {
    let topology = Topology::two_clouds()?;
    let [a, b] = topology.all()?;
    let wan = topology.capture_wan(0)?;
    let sites = [connect(a, b, false)?, connect(b, a, false)?];
    assert!(
        a.vm()?.ping(b.vm()?, 2)?.total(),
        "no MAC is known yet and nothing is flooded"
    );

    for (site, there) in sites.iter().zip([b, a]) {
        site.installation
            .declare_mac(&site.connection, there.vm()?, Some(there.vm()?.ip))?;
    }
    a.vm()?.wait_until_reaches(b.vm()?)?;
    for vm in [a.vm()?, b.vm()?] {
        vm.forget_neighbours()?;
    }
    let loss = a.vm()?.ping(b.vm()?, 10)?;
    assert!(loss.none(), "{loss}");

    let packets = tunnelled(&wan.finish()?)?;
    assert!(
        packets.len() >= 20,
        "10 requests and 10 answers, yet only {} packets",
        packets.len()
    );
    let arp = packets
        .iter()
        .filter(|packet| packet.inner.is_arp())
        .count();
    assert_eq!(arp, 0, "ARP packets on the WAN");
    Ok(())
}

#[test]
fn deleting_the_connection_on_one_side_parts_the_clouds() -> Result<()> {
    let topology = Topology::two_clouds()?;
    let [a, b] = topology.all()?;
    let [at_a, _at_b] = joined(&topology)?;

    at_a.installation
        .succeed(&["l2-remote-gateway-connection-delete", &at_a.connection])?;
    a.vm()?.wait_until_cut_off_from(b.vm()?)?;
    let wan = topology.capture_wan(0)?;
    assert!(a.vm()?.ping(b.vm()?, 3)?.total(), "the connection is gone");
    let sent = wan
        .finish()?
        .iter()
        .filter(|seen| seen.outgoing && seen.vxlan().is_some())
        .count();
    assert_eq!(sent, 0, "frames the gateway still sends over the WAN");
    Ok(())
}

#[test]
fn a_host_on_an_untagged_port_reaches_vms_here_and_there() -> Result<()> {
    let mut topology = Topology::two_clouds()?;
    if let Some(a) = topology.clouds.first_mut() {
        a.add_bare_metal("port1")?;
    }
    let [a, b] = topology.all()?;
    let _sites = joined(&topology)?;
    let host = &a.bare_metal[0].station;
    for vm in [a.vm()?, b.vm()?] {
        host.wait_until_reaches(vm)?;
        let loss = host.ping(vm, 5)?;
        assert!(loss.none(), "to {}: {loss}", vm.ip);
    }
    Ok(())
}

#[test]
fn compute_hosts_of_one_cloud_are_not_served_twice() -> Result<()> {
    let plans = [
        CloudPlan {
            name: "a",
            vni: 123,
            computes: 2,
        },
        CloudPlan::new("b", 789),
    ];
    let topology = Topology::of(&plans)?;
    let [a, b] = topology.all()?;
    let _sites = joined(&topology)?;
    // The compute hosts have their own tunnel to each other. What the gateway gets from one it must not send to the
    // other, or every broadcast would arrive twice.
    let (from, to) = (&a.vms[0], &a.vms[1]);
    let captures = [to.capture()?, b.vm()?.capture()?];
    let broadcast = crate::mesh::broadcast_from(from);
    from.send(&broadcast)?;
    let mut copies = Vec::new();
    for capture in captures {
        copies.push(crate::mesh::copies(&capture.finish()?, &broadcast));
    }
    assert_eq!(
        copies,
        [1, 1],
        "copies at the other VM of this cloud, and at the one of the other cloud"
    );
    Ok(())
}

#[test]
fn a_thousand_macs_in_one_request_are_a_thousand_entries_in_the_kernel() -> Result<()> {
    let topology = Topology::two_clouds()?;
    let [a, b] = topology.all()?;
    let site = connect(a, b, false)?;
    let macs: Vec<_> = (0..1000)
        .map(|n| format!("02:00:00:00:{:02x}:{:02x}", n / 256, n % 256))
        .collect();
    let file = site.installation.path("macs.csv");
    std::fs::write(&file, macs.join("\n") + "\n")?;
    site.installation.succeed(&[
        "l2-remote-mac-create",
        "--file",
        &file.display().to_string(),
        &site.connection,
    ])?;

    let remote = format!("dst {}", b.gateway.wan_ip);
    eventually("all MACs are in the kernel", CONVERGES_WITHIN, || {
        let entries = run(a.gateway.netns.command("bridge").args(["fdb", "show"]))?;
        let there = entries
            .lines()
            .filter(|entry| entry.starts_with("02:00:00:00:") && entry.contains(&remote))
            .count();
        ensure!(there == macs.len(), "{there} entries");
        Ok(())
    })?;
    site.installation.wait_active(&site.connection)
}

#[test]
fn a_wan_key_that_is_also_an_inside_key_joins_two_clouds_all_the_same() -> Result<()> {
    // One kernel cannot have two VXLAN devices with one key and one port; an operator need not know.
    let topology = Topology::of(&[CloudPlan::new("a", WAN_VNI), CloudPlan::new("b", 789)])?;
    let [a, b] = topology.all()?;
    let _sites = joined(&topology)?;
    let loss = a.vm()?.ping(b.vm()?, 5)?;
    assert!(loss.none(), "{loss}");
    Ok(())
}

#[test]
fn the_largest_frame_a_tenant_may_send_crosses_the_wan_unfragmented() -> Result<()> {
    let topology = Topology::two_clouds()?;
    let [a, b] = topology.all()?;
    let _sites = joined(&topology)?;
    // 28 bytes of the payload are IPv4's and ICMP's headers.
    let size = (TENANT_MTU - 28).to_string();
    let largest = [
        "-c",
        "3",
        "-W",
        "1",
        "-M",
        "do",
        "-s",
        &size,
        &b.vm()?.ip.to_string(),
    ];
    run(a.vm()?.netns.command("ping").args(largest))?;
    Ok(())
}

#[test]
fn a_remote_gateway_that_moves_takes_its_traffic_along() -> Result<()> {
    let topology = Topology::two_clouds()?;
    let [a, b] = topology.all()?;
    let [at_a, _at_b] = joined(&topology)?;
    at_a.installation
        .declare_mac(&at_a.connection, b.vm()?, None)?;

    at_a.installation
        .succeed(&["l2-remote-gateway-update", "rgw-b", "--ipaddr", "10.9.0.77"])?;
    a.vm()?.wait_until_cut_off_from(b.vm()?)?;
    let there = b.gateway.wan_ip.to_string();
    at_a.installation
        .succeed(&["l2-remote-gateway-update", "rgw-b", "--ipaddr", &there])?;
    a.vm()?.wait_until_reaches(b.vm()?)
}

#[test]
fn deleting_a_mac_cuts_its_station_off_where_nothing_is_flooded() -> Result<()> {
    let topology = Topology::two_clouds()?;
    let [a, b] = topology.all()?;
    let sites = [connect(a, b, false)?, connect(b, a, false)?];
    for (site, there) in sites.iter().zip([b, a]) {
        site.installation
            .declare_mac(&site.connection, there.vm()?, Some(there.vm()?.ip))?;
    }
    a.vm()?.wait_until_reaches(b.vm()?)?;

    let [at_a, _] = &sites;
    let macs = at_a.installation.query(&["l2-remote-mac-list"])?;
    let mac = macs
        .get(0)
        .and_then(|mac| mac.get("uuid")?.as_str())
        .context("a MAC with a UUID")?;
    at_a.installation.succeed(&["l2-remote-mac-delete", mac])?;
    a.vm()?.wait_until_cut_off_from(b.vm()?)?;
    let wan = topology.capture_wan(0)?;
    a.vm()?.forget_neighbours()?;
    assert!(
        a.vm()?.ping(b.vm()?, 3)?.total(),
        "nobody knows where the station is"
    );
    let sent = wan
        .finish()?
        .iter()
        .filter(|seen| seen.outgoing && seen.vxlan().is_some())
        .count();
    assert_eq!(sent, 0, "frames that leave for an unknown station");
    Ok(())
}
