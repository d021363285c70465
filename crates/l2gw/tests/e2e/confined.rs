//! The service as systemd runs it: with the capabilities of its unit and no others, and telling how it is.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use testkit::installation::Installation;
use testkit::run::{CONVERGES_WITHIN, eventually};
use testkit::topology::Topology;

use crate::{WAN_VNI, connect, l2gw};

const UNIT: &str = include_str!("../../../../dist/l2gw-vtep.service");
/// What is added to it for `--wan-netns`.
const WAN_NETNS: &str = include_str!("../../../../dist/l2gw-vtep.service.d/wan-netns.conf");

/// What the links of these clouds carry: without it the log warns of the way to the remote gateway, sooner or later.
const TENANTS: [&str; 2] = ["--mtu", "1450"];

/// What a unit says of something.
fn said(unit: &'static str, key: &str) -> Result<&'static str> {
    let line = unit.lines().find_map(|line| line.strip_prefix(key));
    let value = line.and_then(|rest| rest.strip_prefix('='));
    value.with_context(|| format!("the unit says nothing of {key}"))
}

/// The capabilities that these units give, one after the other.
fn capabilities(units: &[&'static str]) -> Result<Vec<&'static str>> {
    let mut all = Vec::new();
    for unit in units {
        all.extend(said(unit, "CapabilityBoundingSet")?.split_whitespace());
    }
    Ok(all)
}

/// The program under the restrictions of the unit that can be had without systemd, and with a service manager's socket. A
/// host that systemd started has a file system for programs (bpf) mounted; tc would mount one itself, which needs more
/// than the unit gives.
fn confined(directory: &Path, units: &[&'static str]) -> Result<PathBuf> {
    let capabilities: String = capabilities(units)?
        .into_iter()
        .map(|name| format!(",+{}", name.trim_start_matches("CAP_").to_lowercase()))
        .collect();
    ensure!(said(UNIT, "NoNewPrivileges")? == "yes" && said(UNIT, "Type")? == "notify");
    let script = format!(
        "#!/bin/sh\n\
         if [ \"$1\" = vtep ]; then NOTIFY_SOCKET={} WATCHDOG_USEC=60000000; export NOTIFY_SOCKET WATCHDOG_USEC; fi\n\
         umask {}\n\
         [ \"$(stat -f -c %T /sys/fs/bpf)\" = bpf_fs ] || mount -t bpf bpf /sys/fs/bpf\n\
         exec setpriv --bounding-set=-all{capabilities} --inh-caps=-all --no-new-privs {} \"$@\"\n",
        directory.join("notify").display(),
        said(UNIT, "UMask")?,
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

    let mut confined =
        Installation::new(confined(directory.path(), &[UNIT])?, a)?.with_vtep_options(TENANTS);
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
    eventually("devices of ours are gone", CONVERGES_WITHIN, || {
        let links = ["-o", "link", "show", "group", "77"];
        let links = testkit::run::run(a.gateway.netns.command("ip").args(links))?;
        ensure!(links.is_empty(), "{links}");
        Ok(())
    })
}

#[test]
fn tunnels_in_a_namespace_of_their_own_take_one_more_capability() -> Result<()> {
    let mut topology = Topology::two_clouds()?;
    if let Some(a) = topology.clouds.first_mut() {
        a.move_wan()?;
    }
    let [a, b] = topology.all()?;
    let directory = tempfile::tempdir()?;
    let _service_manager = UnixDatagram::bind(directory.path().join("notify"))?;
    let outside = a.gateway.outside();

    // Without it the switch does not start, and check names what is lacking.
    let bare = Installation::new(confined(directory.path(), &[UNIT])?, a)?;
    let said = bare.vtep_command().output()?;
    let needed = format!(
        "--wan-netns: entering network namespace {} takes the capability CAP_SYS_ADMIN (the unit gives it with wan-netns.conf)",
        outside.name()
    );
    let told = String::from_utf8_lossy(&said.stderr);
    assert!(!said.status.success() && told.contains(&needed), "{told}");
    let wan_ip = a.gateway.wan_ip.to_string();
    let check = ["vtep", "check", "--mtu", "1450"];
    let ends = ["--wan-ip", &wan_ip, "--wan-netns", outside.name()];
    let told = bare.l2gw(&[&check[..], &ends].concat())?;
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(told.contains(&needed), "{told}");

    let mut confined = Installation::new(confined(directory.path(), &[UNIT, WAN_NETNS])?, a)?
        .with_vtep_options(TENANTS);
    assert_eq!(
        confined.succeed(&[&check[..], &ends].concat())?,
        "nothing is missing\n"
    );
    confined.start()?;
    confined.attach_network()?;
    let remote = confined.declare_remote(b)?;
    let connection = confined.connect(&remote, WAN_VNI, true)?;
    let _there = connect(b, a, true)?;
    confined.wait_active(&connection)?;
    a.vm()?.wait_until_reaches(b.vm()?)?;
    let log = std::fs::read_to_string(confined.path("vtep.log"))?;
    for trouble in ["ERROR", "WARN", "Operation not permitted"] {
        assert!(!log.contains(trouble), "{log}");
    }
    confined.take_vtep()?.terminate()?;
    let state = confined.state_directory().display().to_string();
    confined.succeed(&["vtep", "down", "--state-dir", &state])?;
    for netns in [&a.gateway.netns, outside] {
        let left = testkit::run::run(netns.command("nft").args(["list", "tables"]))?;
        assert_eq!(left, "", "in {}", netns.name());
    }
    Ok(())
}
