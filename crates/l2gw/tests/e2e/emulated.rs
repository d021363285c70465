//! Interoperability: Open vSwitch's own emulator of a hardware_vtep switch, as Debian ships it, driven by our server. It
//! ignores keys of locators, so it stands for the many switches that do.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use testkit::capture::Captured;
use testkit::emulator::Emulator;
use testkit::installation::Installation;
use testkit::run::eventually;
use testkit::topology::{Cloud, CloudPlan, Topology};

use crate::l2gw;

/// The network's key, and that of the tunnels between the switches.
const KEY: u32 = 456;
/// The emulator starts a dozen programs for every change, one after the other.
const EMULATOR_PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

/// Two switches on one WAN, each with one host on its port.
fn two_hosts() -> Result<Topology> {
    let plan = |name| CloudPlan {
        name,
        vni: KEY,
        computes: 0,
    };
    let mut topology = Topology::of(&[plan("a"), plan("b")])?;
    for cloud in &mut topology.clouds {
        cloud.add_bare_metal("port1")?;
    }
    Ok(topology)
}

/// A server that drives both switches, on which the network has been attached to a gateway on each.
fn attached<'a>(at: &'a Cloud, switches: [&Emulator; 2]) -> Result<Installation<'a>> {
    let targets = switches.map(Emulator::target);
    let mut installation = Installation::new(l2gw(), at)?.driving(targets);
    installation.start_server()?;
    let key = KEY.to_string();
    installation.succeed(&["network", "create", "net", "--segmentation-id", &key])?;
    for switch in switches {
        let name = switch.name();
        eventually("the server has seen the switch", EMULATOR_PATIENCE, || {
            let devices = installation.query(&["device", "list"])?;
            ensure!(devices.to_string().contains(name), "{devices}");
            Ok(())
        })?;
        let device = format!("name={name},interface_names=port1");
        installation.succeed(&["l2-gateway-create", name, "--device", &device])?;
        installation.succeed(&[
            "l2-gateway-connection-create",
            name,
            "net",
            "--default-segmentation-id",
            "0",
        ])?;
    }
    Ok(installation)
}

fn ids(listed: &Value) -> Result<Vec<String>> {
    let listed = listed.as_array().context("not a list")?;
    let id = |one: &Value| {
        Some(
            one.get("uuid")
                .or_else(|| one.get("id"))?
                .as_str()?
                .to_owned(),
        )
    };
    listed
        .iter()
        .map(|one| id(one).with_context(|| format!("no id: {one}")))
        .collect()
}

fn vnis(captured: &[Captured]) -> Vec<u32> {
    let mut vnis: Vec<_> = captured
        .iter()
        .filter_map(|seen| Some(seen.vxlan()?.vni))
        .collect();
    vnis.sort_unstable();
    vnis.dedup();
    vnis
}

#[test]
fn switches_without_locator_keys_pass_frames_where_the_wan_key_is_the_networks_own() -> Result<()> {
    let topology = two_hosts()?;
    let [a, b] = topology.all()?;
    let switches = [Emulator::start(a)?, Emulator::start(b)?];
    let [at_a, at_b] = &switches;
    let installation = attached(a, [at_a, at_b])?;
    let remotes = [(at_a, b), (at_b, a)];
    for (_, there) in remotes {
        installation.declare_remote(there)?;
    }
    let key = KEY.to_string();
    let connect = |switch: &Emulator, there: &Cloud, key: &str| {
        let remote = format!("rgw-{}", there.name);
        installation.l2gw(&[
            "l2-remote-gateway-connection-create",
            switch.name(),
            "net",
            &remote,
            "--seg-id",
            key,
            "--flood",
            "True",
        ])
    };

    // A key that such a switch would not use is refused before anything is written.
    let refused = connect(at_a, b, "457")?;
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success(), "{said}");
    for words in [
        at_a.name(),
        "tunnel key 457",
        "Physical_Locator.tunnel_key",
        &key,
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    let tunnels = [
        "--bare".to_owned(),
        "--columns=dst_ip".to_owned(),
        "find".to_owned(),
        "Physical_Locator".to_owned(),
        format!("dst_ip={}", b.gateway.wan_ip),
    ];
    assert_eq!(at_a.vtep_ctl(&tunnels)?, "", "nothing was written");

    let wan = topology.capture_wan(0)?;
    for (switch, there) in remotes {
        let made = connect(switch, there, &key)?;
        ensure!(
            made.status.success(),
            "{}",
            String::from_utf8_lossy(&made.stderr)
        );
    }
    for connection in ids(&installation.query(&["l2-remote-gateway-connection-list"])?)? {
        installation.wait_active(&connection)?;
    }
    let (from, to) = (&a.bare_metal[0].station, &b.bare_metal[0].station);
    let logs = || format!("{}\n{}", at_a.logs(), at_b.logs());
    eventually("frames pass", EMULATOR_PATIENCE, || {
        ensure!(from.ping(to, 1)?.none(), "no answer");
        Ok(())
    })
    .with_context(logs)?;
    let loss = from.ping(to, 10)?;
    assert!(loss.none(), "{loss}");
    assert_eq!(vnis(&wan.finish()?), [KEY], "the keys on the WAN");

    // What the switches learnt is told.
    let host = from.mac_text();
    eventually("the host is in the list", EMULATOR_PATIENCE, || {
        let learnt = installation.query(&["l2-local-mac-list"])?;
        ensure!(learnt.to_string().contains(&host), "{learnt}");
        Ok(())
    })?;
    Ok(())
}
