//! BFD end to end: a remote gateway that is not reached is DOWN, with what rides on it, until it is reached again.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use testkit::emulator::Emulator;
use testkit::installation::Installation;
use testkit::run::{CONVERGES_WITHIN, eventually, run};
use testkit::topology::{Cloud, CloudPlan, Topology};

use crate::{Site, joined, l2gw};

/// BFD's sessions take some seconds to come up, and the emulator starts a dozen programs for every change.
const EMULATOR_PATIENCE: std::time::Duration = std::time::Duration::from_secs(90);

impl Site<'_> {
    /// Status and reason of the connection.
    fn status(&self) -> Result<(String, String)> {
        let show = ["l2-remote-gateway-connection-show", &self.connection];
        let shown = self.installation.query(&show)?;
        let text = |key: &str| {
            let value = shown.get(key).and_then(|value| value.as_str());
            value.unwrap_or_default().to_owned()
        };
        Ok((text("status"), text("status_reason")))
    }

    fn wait_status(&self, wanted: &str) -> Result<String> {
        let mut reason = String::new();
        eventually(wanted, CONVERGES_WITHIN, || {
            let (status, why) = self.status()?;
            ensure!(status == wanted, "{status}: {why}");
            reason = why;
            Ok(())
        })?;
        Ok(reason)
    }

    /// What the switch says of its tunnel to the address.
    fn bfd_state(&self) -> Result<String> {
        let database = self.installation.device_socket();
        run(std::process::Command::new("vtep-ctl")
            .arg(format!("--db=unix:{}", database.display()))
            .args(["--columns=bfd_status", "list", "Tunnel"]))
    }

    fn wait_up(&self) -> Result<()> {
        eventually("BFD is up", CONVERGES_WITHIN, || {
            let told = self.bfd_state()?;
            ensure!(told.contains("state=up"), "{told}");
            Ok(())
        })
    }
}

#[test]
fn a_remote_gateway_is_down_while_the_wan_is_cut() -> Result<()> {
    let topology = Topology::two_clouds()?;
    let [a, b] = topology.all()?;
    let sites = joined(&topology)?;
    let [at_a, at_b] = &sites;
    for (site, remote) in [(at_a, "rgw-b"), (at_b, "rgw-a")] {
        let watch = ["l2-remote-gateway-update", remote, "--bfd", "True"];
        site.installation.succeed(&watch)?;
    }
    for site in &sites {
        site.wait_up()?;
        site.wait_status("ACTIVE")?;
    }

    topology.wan.netns.ip("link set cloud-b down")?;
    let cut = Instant::now();
    let reason = at_a.wait_status("DOWN")?;
    println!("DOWN in the API {:?} after the cut", cut.elapsed());
    assert_eq!(
        reason,
        format!(
            "switch {}: tunnel to {} is down: Control Detection Time Expired",
            at_a.installation.device(),
            b.gateway.wan_ip
        )
    );
    at_b.wait_status("DOWN")?;
    topology.wan.netns.ip("link set cloud-b up")?;
    for site in &sites {
        site.wait_status("ACTIVE")?;
    }
    a.vm()?.wait_until_reaches(b.vm()?)
}

/// Has what the border gateway sends go out without UDP checksums, as most hardware does. Between two namespaces nobody
/// ever calculates those that are left to the network card, and Open vSwitch's datapath in user space looks at them.
fn without_checksums(cloud: &Cloud) -> Result<()> {
    let rules = "table ip test { chain out { type filter hook postrouting priority 0; \
                 udp dport 4789 udp checksum set 0; }; }";
    run(cloud.gateway.netns.command("nft").arg(rules)).map(drop)
}

#[test]
fn open_vswitch_and_the_software_vtep_watch_each_other() -> Result<()> {
    const KEY: u32 = 456;
    let plan = |name, computes| CloudPlan {
        name,
        vni: KEY,
        computes,
    };
    let mut topology = Topology::of(&[plan("a", 1), plan("b", 0)])?;
    if let Some(b) = topology.clouds.last_mut() {
        b.add_bare_metal("port1")?;
    }
    let [a, b] = topology.all()?;
    let mut here = Installation::new(l2gw(), a)?;
    here.start()?;
    here.attach_network()?;
    let remote = here.declare_remote(b)?;
    let connection = here.connect(&remote, KEY, true)?;
    here.succeed(&["l2-remote-gateway-update", "rgw-b", "--bfd", "True"])?;
    let site = Site {
        installation: here,
        connection,
    };

    let emulator = Emulator::start(b)?;
    without_checksums(a)?;
    let mut there = Installation::new(l2gw(), b)?.driving([emulator.target()]);
    there.start_server()?;
    let key = KEY.to_string();
    there.succeed(&["network", "create", "net", "--segmentation-id", &key])?;
    let name = emulator.name();
    let device = format!("name={name},interface_names=port1");
    eventually("the switch is there", EMULATOR_PATIENCE, || {
        there.succeed(&["l2-gateway-create", name, "--device", &device])
    })?;
    let untagged = ["--default-segmentation-id", "0"];
    there.succeed(
        &[
            &["l2-gateway-connection-create", name, "net"],
            &untagged[..],
        ]
        .concat(),
    )?;
    there.declare_remote(a)?;
    there.succeed(&["l2-remote-gateway-update", "rgw-a", "--bfd", "True"])?;
    there.succeed(&[
        "l2-remote-gateway-connection-create",
        name,
        "net",
        "rgw-a",
        "--seg-id",
        &key,
        "--flood",
        "True",
    ])?;

    let told = || -> Result<[String; 2]> {
        let there = emulator.vtep_ctl(&["--columns=bfd_status", "list", "Tunnel"])?;
        Ok([site.bfd_state()?, there])
    };
    eventually("both ends are up", EMULATOR_PATIENCE, || {
        let told = told()?;
        ensure!(told.iter().all(|end| end.contains("state=up")), "{told:?}");
        Ok(())
    })
    .with_context(|| emulator.logs())?;
    site.wait_status("ACTIVE")?;
    let (host, vm) = (&b.bare_metal[0].station, a.vm()?);
    host.wait_until_reaches(vm)?;

    topology.wan.netns.ip("link set cloud-b down")?;
    site.wait_status("DOWN")?;
    topology.wan.netns.ip("link set cloud-b up")?;
    site.wait_status("ACTIVE")?;
    Ok(())
}
