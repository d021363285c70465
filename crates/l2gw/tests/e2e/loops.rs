//! Loops that somebody builds on purpose between clouds that are joined: cut at the WAN side, and told.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::{Result, ensure};
use testkit::capture::{Captured, send_evenly};
use testkit::frame::Ethernet;
use testkit::run::{CONVERGES_WITHIN, eventually, run};
use testkit::topology::{Cloud, CloudPlan, Topology};

use crate::mesh::broadcast_from;
use crate::{Site, joined};

/// How many copies of `frame` left for the WAN.
fn sent_over_wan(captured: &[Captured], frame: &Ethernet) -> usize {
    captured
        .iter()
        .filter(|seen| seen.outgoing)
        .filter_map(Captured::vxlan)
        .filter(|packet| packet.inner == *frame)
        .count()
}

/// When frames left for the WAN that had left before, of those that are like `broadcast` but for what is in them.
fn sent_again(captured: &[Captured], broadcast: &Ethernet) -> Vec<Duration> {
    let mut before = HashSet::new();
    let outgoing = captured.iter().filter(|seen| seen.outgoing);
    let like = outgoing.filter_map(|seen| {
        let inner = seen.vxlan()?.inner;
        let is_like = (inner.from, inner.ethertype) == (broadcast.from, broadcast.ethertype);
        is_like.then_some((inner.payload, seen.at))
    });
    like.filter_map(|(payload, at)| (!before.insert(payload)).then_some(at))
        .collect()
}

/// Probes on the WAN: our own EtherType.
fn probes(captured: &[Captured]) -> usize {
    captured
        .iter()
        .filter_map(Captured::vxlan)
        .filter(|packet| packet.inner.ethertype == 0x88b6)
        .count()
}

fn is_cut(cloud: &Cloud) -> Result<bool> {
    let links = run(cloud
        .gateway
        .netns
        .command("bridge")
        .args(["-d", "link", "show"]))?;
    Ok(links
        .lines()
        .any(|line| line.contains(": gw") && line.contains("state disabled")))
}

/// What the API says of a cloud's switch.
fn faults(site: &Site<'_>) -> Result<String> {
    let device = site.installation.device();
    let shown = site.installation.query(&["device", "show", &device])?;
    Ok(shown.to_string())
}

#[test]
fn a_second_way_between_two_clouds_is_cut_at_the_wan_and_told_and_the_clouds_stay_joined()
-> Result<()> {
    let mut topology = Topology::two_clouds()?;
    for cloud in &mut topology.clouds {
        cloud.add_segment("port1")?;
    }
    let topology = topology;
    let [a, b] = topology.all()?;
    let sites = joined(&topology)?;
    let wan = topology.capture_wan(0)?;
    std::thread::sleep(Duration::from_secs(1));
    let quiet = wan.finish()?;
    assert_eq!(
        probes(&quiet),
        0,
        "probes on the WAN while there is no loop"
    );

    let [one, other] = [a, b].map(|cloud| &cloud.segments[0].switch);
    let broadcast = broadcast_from(a.vm()?);
    let on_wan = topology.capture_wan(0)?;
    // Three seconds of broadcasts that can be told apart, so that there is something to go round whenever the ring closes.
    let numbered = |number: u16| Ethernet {
        payload: [&number.to_be_bytes()[..], &[0x55; 44]].concat(),
        ..broadcast.clone()
    };
    let frames: Vec<_> = (0..300).map(numbered).collect();
    let sender = &a.vm()?.netns;
    std::thread::scope(|scope| {
        let sending = scope.spawn(|| send_evenly(sender, "eth0", &frames, 100));
        std::thread::sleep(Duration::from_millis(100));
        one.join(other)?;
        eventually("one of both is cut", CONVERGES_WITHIN, || {
            ensure!(is_cut(a)? || is_cut(b)?, "neither is");
            Ok(())
        })?;
        sending.join().unwrap()
    })?;
    // The product promises a second at the WAN: from the first frame that came by again to the last, as the kernel saw
    // them. Who looks may have other things to do.
    let again = sent_again(&on_wan.finish()?, &broadcast);
    let turned = again.iter().max().zip(again.iter().min());
    let turned = turned.map(|(last, first)| *last - *first);
    println!("{} frames came by again, within {turned:?}", again.len());
    assert!(turned <= Some(Duration::from_secs(1)), "{turned:?}");

    // What still goes round? Nothing, and each station hears a broadcast once, over the other way.
    eventually("nothing comes by again", CONVERGES_WITHIN, || {
        let capture = topology.capture_wan(0)?;
        std::thread::sleep(Duration::from_millis(300));
        let still = sent_again(&capture.finish()?, &broadcast);
        ensure!(still.is_empty(), "{} frames", still.len());
        Ok(())
    })?;
    let second = Ethernet {
        payload: vec![0x66; 46],
        ..broadcast.clone()
    };
    let captures = [
        topology.capture_wan(0)?,
        a.vm()?.capture()?,
        b.vm()?.capture()?,
    ];
    a.vm()?.send(&second)?;
    let [wan, at_a, at_b] = captures.map(|capture| capture.finish());
    assert_eq!(sent_over_wan(&wan?, &second), 0, "over the WAN");
    assert_eq!(
        crate::mesh::copies(&at_a?, &second),
        0,
        "back at the sender"
    );
    assert_eq!(crate::mesh::copies(&at_b?, &second), 1, "at the other VM");
    b.vm()?.wait_until_reaches(a.vm()?)?;

    eventually("the API tells of it", CONVERGES_WITHIN, || {
        let told = faults(&sites[0])? + &faults(&sites[1])?;
        ensure!(told.contains("cut off the WAN because of a loop"), "{told}");
        Ok(())
    })
}

#[test]
fn two_pairs_of_gateways_between_two_sites_are_a_loop_of_which_one_way_is_cut() -> Result<()> {
    // Sites ab and cd, each with two gateways on one segment; a is joined to c, and b to d.
    let plans = [("a", 1), ("b", 0), ("c", 0), ("d", 1)].map(|(name, computes)| CloudPlan {
        name,
        vni: 123,
        computes,
    });
    let mut topology = Topology::of(&plans)?;
    for cloud in &mut topology.clouds {
        cloud.add_segment("port1")?;
    }
    let topology = topology;
    let [a, b, c, d] = topology.all()?;
    let sites = [
        crate::connect(a, c, true)?,
        crate::connect(b, d, true)?,
        crate::connect(c, a, true)?,
        crate::connect(d, b, true)?,
    ];
    for site in &sites {
        site.installation.wait_active(&site.connection)?;
    }
    a.segments[0].switch.join(&b.segments[0].switch)?;
    a.vm()?.wait_until_reaches(d.vm()?)?;
    std::thread::sleep(Duration::from_secs(2));
    for cloud in [a, b, c, d] {
        assert!(!is_cut(cloud)?, "{}: one joint is no ring", cloud.name);
    }
    // Something to go round, and to be learnt on ports that its sender is not behind.
    let broadcast = broadcast_from(a.vm()?);
    std::thread::scope(|scope| {
        let sending =
            scope.spawn(|| send_evenly(&a.vm()?.netns, "eth0", &vec![broadcast; 300], 100));
        c.segments[0].switch.join(&d.segments[0].switch)?;
        eventually("the ring is cut", CONVERGES_WITHIN, || {
            let cut = [a, b, c, d].map(is_cut);
            ensure!(cut.into_iter().any(|cut| cut.unwrap_or(false)), "nowhere");
            Ok(())
        })?;
        sending.join().unwrap()
    })?;
    // The others had time to cut it, too, which they need not: of both ways one stays.
    let told: Vec<_> = sites.iter().map(faults).collect::<Result<_>>()?;
    let cut = [is_cut(a)?, is_cut(b)?, is_cut(c)?, is_cut(d)?];
    let [at_a, at_b, at_c, at_d] = cut;
    assert!(
        (at_a || at_c) != (at_b || at_d),
        "{cut:?}: {}",
        told.join("\n")
    );
    // Nor is what came round looked for where it was heard last, which is what d's port learnt of a's VM.
    a.vm()?.wait_until_reaches(d.vm()?)
}
