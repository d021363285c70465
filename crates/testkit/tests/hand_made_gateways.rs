//! Proves the fixture: with border gateways made by hand, out of the same kernel parts that the product uses, two clouds
//! become one network; without, they stay two.

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, ensure};
use testkit::frame::{BROADCAST, Ethernet};
use testkit::run::{CONVERGES_WITHIN, eventually};
use testkit::stream::Stream;
use testkit::topology::{CloudPlan, Topology, WAN};

/// The key the picture of the specification uses on the WAN.
const WAN_VNI: u32 = 456;

#[test]
fn clouds_are_apart_until_gateways_join_them_and_the_wan_carries_its_own_key() -> Result<()> {
    let topology = Topology::two_clouds()?;
    let [a, b] = topology.all()?;
    let (from, to) = (a.vm()?, b.vm()?);
    assert!(from.ping(to, 2)?.total(), "nothing joins the clouds yet");

    let wan = topology.capture_wan(0)?;
    a.stretch_by_hand(WAN_VNI, &[b.gateway.wan_ip])?;
    b.stretch_by_hand(WAN_VNI, &[a.gateway.wan_ip])?;
    let loss = from.ping(to, 5)?;
    assert!(loss.none(), "{loss}");

    let vnis: Vec<u32> = wan
        .finish()?
        .iter()
        .filter_map(|seen| Some(seen.vxlan()?.vni))
        .collect();
    assert!(
        vnis.len() >= 10,
        "5 requests and 5 answers crossed the WAN, yet {} packets were seen",
        vnis.len()
    );
    assert!(vnis.iter().all(|vni| *vni == WAN_VNI), "{vnis:?}");
    Ok(())
}

#[test]
fn a_broadcast_reaches_every_vm_of_three_clouds_once() -> Result<()> {
    let plans = [("a", 101), ("b", 102), ("c", 103)].map(|(name, vni)| CloudPlan {
        name,
        vni,
        computes: 2,
    });
    let topology = Topology::of(&plans)?;
    let wan_ips: Vec<_> = topology
        .clouds
        .iter()
        .map(|cloud| cloud.gateway.wan_ip)
        .collect();
    for cloud in &topology.clouds {
        let others: Vec<_> = wan_ips
            .iter()
            .copied()
            .filter(|ip| *ip != cloud.gateway.wan_ip)
            .collect();
        cloud.stretch_by_hand(WAN_VNI, &others)?;
    }
    let vms: Vec<_> = topology
        .clouds
        .iter()
        .flat_map(|cloud| &cloud.vms)
        .collect();
    assert_eq!(vms.len(), 6);
    let captures = vms
        .iter()
        .map(|vm| vm.capture())
        .collect::<Result<Vec<_>>>()?;

    // 0x88b5 is for local experiments (IEEE 802): nobody answers it.
    let broadcast = Ethernet {
        to: BROADCAST,
        from: vms[0].mac,
        ethertype: 0x88b5,
        payload: vec![0x55; 46],
    };
    vms[0].send(&broadcast)?;

    let mut copies = Vec::new();
    for capture in captures {
        copies.push(
            capture
                .finish()?
                .iter()
                .filter(|seen| !seen.outgoing && seen.frame == broadcast)
                .count(),
        );
    }
    assert_eq!(
        copies,
        [0, 1, 1, 1, 1, 1],
        "copies received by each VM, the sender first"
    );
    Ok(())
}

#[test]
fn a_fixture_leaves_no_namespace_and_no_process_behind() -> Result<()> {
    let topology = Topology::two_clouds()?;
    let names = topology_names(&topology);
    let mut sleeper = topology.clouds[0]
        .gateway
        .netns
        .command("sleep")
        .arg("1000")
        .spawn()?;
    eventually("it is in the namespace", CONVERGES_WITHIN, || {
        let inside = topology.cloud(0)?.gateway.netns.processes()?;
        ensure!(!inside.is_empty(), "nothing runs there");
        Ok(())
    })?;
    drop(topology);
    assert!(!sleeper.wait()?.success(), "it was to be killed");
    let left = testkit::netns::named("l2gwt-")?;
    assert!(
        names.iter().all(|name| !left.contains(name)),
        "left behind: {left:?}"
    );
    Ok(())
}

fn topology_names(topology: &Topology) -> Vec<String> {
    let mut names = vec![topology.wan.netns.name().to_owned()];
    for cloud in &topology.clouds {
        names.extend([&cloud.lan.netns, &cloud.gateway.netns].map(|netns| netns.name().to_owned()));
        names.extend(
            cloud
                .computes
                .iter()
                .map(|compute| compute.netns.name().to_owned()),
        );
        names.extend(cloud.vms.iter().map(|vm| vm.netns.name().to_owned()));
    }
    assert_eq!(names.len(), 9);
    names
}

#[test]
fn a_stream_tells_each_way_what_was_lost_while_the_wan_was_down() -> Result<()> {
    let topology = Topology::two_clouds()?;
    let [a, b] = topology.all()?;
    a.stretch_by_hand(WAN_VNI, &[b.gateway.wan_ip])?;
    b.stretch_by_hand(WAN_VNI, &[a.gateway.wan_ip])?;
    let (one, other) = (a.vm()?, b.vm()?);
    one.wait_until_reaches(other)?;
    let moment = Duration::from_millis(300);

    let stream = Stream::between(one, other, 500)?;
    sleep(moment);
    for way in stream.stop()? {
        assert!(
            way.sent >= 50 && way.lost() == 0,
            "nothing is in the way: {way}"
        );
    }

    let stream = Stream::between(one, other, 500)?;
    sleep(moment);
    a.gateway.netns.ip(&format!("link set {WAN} down"))?;
    sleep(moment);
    a.gateway.netns.ip(&format!("link set {WAN} up"))?;
    sleep(moment);
    for way in stream.stop()? {
        assert!(
            way.lost() > 0 && way.arrived > 0,
            "cut in the middle: {way}"
        );
    }
    Ok(())
}
