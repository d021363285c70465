//! Three clouds, each connected to the two others: every frame arrives once, and none comes back. RFC 7432 calls it
//! split horizon; without it one broadcast becomes a storm.

use anyhow::Result;
use testkit::capture::Captured;
use testkit::frame::{BROADCAST, Ethernet};
use testkit::installation::Installation;
use testkit::topology::{Cloud, CloudPlan, Station, Topology};

use crate::{WAN_VNI, l2gw};

/// A frame that nobody answers, told from all others by its EtherType: 0x88b5 is for local experiments (IEEE 802).
pub(crate) fn broadcast_from(station: &Station) -> Ethernet {
    Ethernet {
        to: BROADCAST,
        from: station.mac,
        ethertype: 0x88b5,
        payload: vec![0x55; 46],
    }
}

/// How often `frame` was received.
pub(crate) fn copies(captured: &[Captured], frame: &Ethernet) -> usize {
    captured
        .iter()
        .filter(|seen| !seen.outgoing && seen.frame == *frame)
        .count()
}

/// Connects every cloud with every other; `wan_vni` gives the key between two of them, whichever comes first.
fn mesh<'a>(
    clouds: [&'a Cloud; 3],
    wan_vni: impl Fn(&Cloud, &Cloud) -> u32,
) -> Result<Vec<Installation<'a>>> {
    mesh_where(clouds, wan_vni, |_, _| true)
}

/// The same; `floods` says whether the first cloud floods to the second.
fn mesh_where<'a>(
    clouds: [&'a Cloud; 3],
    wan_vni: impl Fn(&Cloud, &Cloud) -> u32,
    floods: impl Fn(&Cloud, &Cloud) -> bool,
) -> Result<Vec<Installation<'a>>> {
    let mut installations = Vec::new();
    for here in clouds {
        let mut installation = Installation::new(l2gw(), here)?;
        installation.start()?;
        installation.attach_network()?;
        let mut connections = Vec::new();
        for there in clouds.iter().filter(|there| there.name != here.name) {
            let remote = installation.declare_remote(there)?;
            let flood = floods(here, there);
            let connection = installation.connect(&remote, wan_vni(here, there), flood)?;
            // Who floods nothing there must know who is there.
            for vm in there.vms.iter().filter(|_| !flood) {
                installation.declare_mac(&connection, vm, None)?;
            }
            connections.push(connection);
        }
        for connection in &connections {
            installation.wait_active(connection)?;
        }
        installations.push(installation);
    }
    for here in clouds {
        for there in clouds.iter().filter(|there| there.name != here.name) {
            // Questions go one way, answers the other.
            if floods(here, there) && floods(there, here) {
                here.vm()?.wait_until_reaches(there.vm()?)?;
            }
        }
    }
    Ok(installations)
}

/// Sends one broadcast from the first cloud's VM and counts the copies that each cloud's VM receives.
fn copies_of_one_broadcast(clouds: [&Cloud; 3]) -> Result<Vec<usize>> {
    let [first, ..] = clouds;
    let captures = clouds
        .iter()
        .map(|cloud| cloud.vm()?.capture())
        .collect::<Result<Vec<_>>>()?;
    let broadcast = broadcast_from(first.vm()?);
    first.vm()?.send(&broadcast)?;
    captures
        .into_iter()
        .map(|capture| Ok(copies(&capture.finish()?, &broadcast)))
        .collect()
}

fn three_clouds() -> Result<Topology> {
    Topology::of(&[
        CloudPlan::new("a", 101),
        CloudPlan::new("b", 102),
        CloudPlan::new("c", 103),
    ])
}

#[test]
fn in_a_mesh_with_one_key_a_broadcast_arrives_once_everywhere_and_never_comes_back() -> Result<()> {
    let topology = three_clouds()?;
    let clouds = topology.all()?;
    let _installations = mesh(clouds, |_, _| WAN_VNI)?;
    assert_eq!(
        copies_of_one_broadcast(clouds)?,
        [0, 1, 1],
        "copies at the VMs of a, b and c; a's sent it"
    );
    Ok(())
}

#[test]
fn in_a_mesh_with_a_key_per_pair_a_broadcast_arrives_once_everywhere_and_never_comes_back()
-> Result<()> {
    let topology = three_clouds()?;
    let clouds = topology.all()?;
    // Symmetric: both ends of a pair must name the same key. 101, 102, 103 give 203, 204, 205.
    let _installations = mesh(clouds, |here, there| here.vni + there.vni)?;
    assert_eq!(
        copies_of_one_broadcast(clouds)?,
        [0, 1, 1],
        "copies at the VMs of a, b and c; a's sent it"
    );
    Ok(())
}

/// Sends one broadcast from a VM and counts the copies that each VM of each cloud receives.
fn copies_everywhere(clouds: [&Cloud; 3], from: &Station, mark: u8) -> Result<[Vec<usize>; 3]> {
    let mut captures = Vec::new();
    for cloud in clouds {
        let vms = cloud.vms.iter().map(Station::capture);
        captures.push(vms.collect::<Result<Vec<_>>>()?);
    }
    let broadcast = Ethernet {
        payload: vec![mark; 46],
        ..broadcast_from(from)
    };
    from.send(&broadcast)?;
    let mut counts = [const { Vec::new() }; 3];
    for (counts, captures) in counts.iter_mut().zip(captures) {
        for capture in captures {
            counts.push(copies(&capture.finish()?, &broadcast));
        }
    }
    Ok(counts)
}

#[test]
fn a_remote_gateway_that_does_not_flood_hears_nothing_and_every_host_of_the_others_hears_it_once()
-> Result<()> {
    let plans = [("a", 101), ("b", 102), ("c", 103)].map(|(name, vni)| CloudPlan {
        name,
        vni,
        computes: 2,
    });
    let topology = Topology::of(&plans)?;
    let clouds = topology.all()?;
    let [a, b, c] = clouds;
    // From a to c nothing is flooded; the other way it is.
    let quiet = |here: &Cloud, there: &Cloud| (here.name, there.name) != ("a", "c");
    let _installations = mesh_where(clouds, |here, there| here.vni + there.vni, quiet)?;
    for (from, hear) in [
        // The sender's own neighbour hears it from its host, not from the gateway.
        (a, [vec![0, 1], vec![1, 1], vec![0, 0]]),
        (b, [vec![1, 1], vec![0, 1], vec![1, 1]]),
        (c, [vec![1, 1], vec![1, 1], vec![0, 1]]),
    ] {
        let mark = from.name.as_bytes()[0];
        let heard = copies_everywhere(clouds, from.vm()?, mark)?;
        assert_eq!(
            heard, hear,
            "copies at the VMs of a, b and c; {}'s sent it",
            from.name
        );
    }
    Ok(())
}
