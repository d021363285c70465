//! The service as systemd runs it: with the capabilities of its unit and no others, and telling how it is.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use testkit::installation::Installation;
use testkit::run::{CONVERGES_WITHIN, eventually};
use testkit::topology::Topology;

use crate::{WAN_VNI, connect, l2gw};

const UNIT: &str = include_str!("../../../../dist/l2gw-vtep.service");

/// What the unit says of something.
fn said(key: &str) -> Result<&'static str> {
    let line = UNIT.lines().find_map(|line| line.strip_prefix(key));
    let value = line.and_then(|rest| rest.strip_prefix('='));
    value.with_context(|| format!("the unit says nothing of {key}"))
}

/// The program under the restrictions of the unit that can be had without systemd, and with a service manager's socket. A
/// host that systemd started has a file system for programs (bpf) mounted; tc would mount one itself, which needs more
/// than the unit gives.
fn confined(directory: &Path) -> Result<PathBuf> {
    let capabilities: String = said("CapabilityBoundingSet")?
        .split_whitespace()
        .map(|name| format!(",+{}", name.trim_start_matches("CAP_").to_lowercase()))
        .collect();
    ensure!(said("NoNewPrivileges")? == "yes" && said("Type")? == "notify");
    let script = format!(
        "#!/bin/sh\n\
         if [ \"$1\" = vtep ]; then NOTIFY_SOCKET={} WATCHDOG_USEC=1000000; export NOTIFY_SOCKET WATCHDOG_USEC; fi\n\
         umask {}\n\
         [ \"$(stat -f -c %T /sys/fs/bpf)\" = bpf_fs ] || mount -t bpf bpf /sys/fs/bpf\n\
         exec setpriv --bounding-set=-all{capabilities} --inh-caps=-all --no-new-privs {} \"$@\"\n",
        directory.join("notify").display(),
        said("UMask")?,
        l2gw().display()
    );
    let program = directory.join("l2gw");
    std::fs::write(&program, script)?;
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755))?;
    Ok(program)
}

#[test]
fn the_capabilities_of_the_unit_suffice_and_no_others_are_held() -> Result<()> {
    let mut topology = Topology::two_clouds()?;
    if let Some(a) = topology.clouds.first_mut() {
        a.add_bare_metal("port1")?;
    }
    let [a, b] = topology.all()?;
    let directory = tempfile::tempdir()?;
    let service_manager = UnixDatagram::bind(directory.path().join("notify"))?;
    service_manager.set_read_timeout(Some(CONVERGES_WITHIN))?;
    let heard = || -> Result<String> {
        let mut buffer = [0; 64];
        let length = service_manager.recv(&mut buffer)?;
        Ok(String::from_utf8_lossy(buffer.get(..length).unwrap_or_default()).into_owned())
    };

    let mut confined = Installation::new(confined(directory.path())?, a)?;
    confined.start()?;
    assert_eq!(heard()?, "READY=1");
    assert_eq!(heard()?, "WATCHDOG=1");

    let pid = a
        .gateway
        .netns
        .processes()?
        .into_iter()
        .find(|pid| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let words: Vec<_> = line.split(|byte| *byte == 0).collect();
            words.first().is_some_and(|it| it.ends_with(b"l2gw"))
                && words.get(1) == Some(&&b"vtep"[..])
        })
        .context("l2gw vtep is not there")?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    // capability.h: CAP_NET_ADMIN 12, CAP_NET_RAW 13, CAP_BPF 39.
    let held = format!("{:016x}", (1_u64 << 12) | (1 << 13) | (1 << 39));
    for set in ["CapEff", "CapBnd"] {
        assert!(status.contains(&format!("{set}:\t{held}")), "{status}");
    }
    assert!(status.contains("NoNewPrivs:\t1"), "{status}");

    // All that it does: devices, packet filter, programs for ports, BFD, loop protection, its database.
    confined.attach_network()?;
    let remote = confined.declare_remote(b)?;
    let connection = confined.connect(&remote, WAN_VNI, true)?;
    confined.succeed(&["l2-remote-gateway-update", &remote, "--bfd", "True"])?;
    let there = connect(b, a, true)?;
    let update = ["l2-remote-gateway-update", "rgw-a", "--bfd", "True"];
    there.installation.succeed(&update)?;
    confined.wait_active(&connection)?;
    a.vm()?.wait_until_reaches(b.vm()?)?;
    a.bare_metal[0].station.wait_until_reaches(b.vm()?)?;
    eventually("BFD is up", CONVERGES_WITHIN, || {
        let target = format!("unix:{}", confined.device_socket().display());
        let told = testkit::run::run(
            std::process::Command::new("vtep-ctl")
                .arg(format!("--db={target}"))
                .args(["--columns=bfd_status", "list", "Tunnel"]),
        )?;
        ensure!(told.contains("state=up"), "{told}");
        Ok(())
    })?;
    let log = std::fs::read_to_string(confined.path("vtep.log"))?;
    for trouble in [
        "ERROR",
        "WARN",
        "Operation not permitted",
        "Permission denied",
    ] {
        assert!(!log.contains(trouble), "{log}");
    }

    confined.take_vtep()?.terminate()?;
    let mut last = String::new();
    while last != "STOPPING=1" {
        last = heard()?;
    }
    // And it is taken back with as little.
    let state = confined.state_directory().display().to_string();
    confined.succeed(&["vtep", "down", "--state-dir", &state])?;
    std::thread::sleep(Duration::from_millis(100));
    let links = testkit::run::run(
        a.gateway
            .netns
            .command("ip")
            .args(["-o", "link", "show", "group", "77"]),
    )?;
    assert_eq!(links, "", "devices of ours");
    Ok(())
}
