//! Programs that are stopped, killed and started again, while traffic flows.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tempfile::NamedTempFile;
use testkit::daemon::Daemon;
use testkit::netns::Netns;
use testkit::run::{CONVERGES_WITHIN, eventually, run};
use testkit::topology::Topology;

use crate::joined;

/// How long a restarted program is left to itself: a write it should not do may come late.
const SETTLES_IN: Duration = Duration::from_secs(2);

/// Everything that is written to the kernel's links, forwarding entries, neighbours and filters, as it happens.
struct KernelWrites {
    log: NamedTempFile,
    _monitors: Vec<Daemon>,
}

impl KernelWrites {
    fn watch(netns: &Netns) -> Result<Self> {
        let log = NamedTempFile::new()?;
        let mut monitors = Vec::new();
        for (program, objects) in [
            ("ip", &["monitor", "link", "address", "neigh"][..]),
            ("bridge", &["monitor", "fdb"]),
            ("nft", &["monitor"]),
        ] {
            let mut command = netns.command(program);
            command.args(objects);
            monitors.push(Daemon::start(command, log.path())?);
        }
        let writes = Self {
            log,
            _monitors: monitors,
        };
        // None of the three says when it listens. Writes that are seen do; each round has its own, so that behind those of the
        // last round nothing more is to be seen of any.
        let mut round = 0;
        eventually("the monitors listen", CONVERGES_WITHIN, || {
            round += 1;
            let (probe, mac) = (
                format!("probe{round}"),
                format!("02:00:00:00:99:{round:02x}"),
            );
            netns.ip(&format!("link set lo alias {probe}"))?;
            netns.bridge(&format!(
                "fdb add {mac} dev lan self\nfdb delete {mac} dev lan self"
            ))?;
            run(netns
                .command("nft")
                .arg(format!("add table inet {probe}; delete table inet {probe}")))?;
            let last = [
                format!("Deleted {mac} "),
                format!("Deleted dev lan lladdr {mac} "),
                format!("delete table inet {probe}\n"),
            ];
            eventually("they tell", Duration::from_secs(1), || {
                let log = std::fs::read_to_string(writes.log.path())?;
                for seen in &last {
                    ensure!(log.contains(seen), "`{seen}` not seen in {log}");
                }
                // nft closes a transaction with its number.
                let behind = last.last().and_then(|seen| log.split_once(seen));
                ensure!(behind.is_some_and(|(_, it)| it.contains("# new generation")));
                Ok(())
            })
        })?;
        thread::sleep(Duration::from_millis(200));
        std::fs::write(writes.log.path(), "")?;
        Ok(writes)
    }

    /// What was written since, without what the underlay does by itself: its own ARP comes and goes.
    fn so_far(&self) -> Result<Vec<String>> {
        let log = std::fs::read_to_string(self.log.path())?;
        let lines = log
            .lines()
            .filter(|line| !line.contains("dev lan ") && !line.contains("dev wan "));
        Ok(lines.map(str::to_owned).collect())
    }
}

#[test]
fn a_restart_of_the_switch_daemon_loses_no_frame_and_writes_nothing_to_the_kernel() -> Result<()> {
    restart_of_the_switch_daemon_goes_unnoticed(|daemon| {
        let status = daemon.terminate()?;
        ensure!(status.success(), "SIGTERM: {status}");
        Ok(())
    })
}

#[test]
fn a_killed_switch_daemon_loses_no_frame_and_its_successor_writes_nothing_to_the_kernel()
-> Result<()> {
    restart_of_the_switch_daemon_goes_unnoticed(Daemon::kill)
}

fn restart_of_the_switch_daemon_goes_unnoticed(
    end: impl FnOnce(Daemon) -> Result<()>,
) -> Result<()> {
    let topology = Topology::two_clouds()?;
    let [a, b] = topology.all()?;
    let [mut at_a, _at_b] = joined(&topology)?;
    at_a.installation
        .declare_mac(&at_a.connection, b.vm()?, Some(b.vm()?.ip))?;
    at_a.installation.wait_active(&at_a.connection)?;

    let writes = KernelWrites::watch(&a.gateway.netns)?;
    let pings = a.vm()?.ping_stream(b.vm()?, 100)?;
    thread::sleep(Duration::from_millis(300));

    end(at_a.installation.take_vtep()?)?;
    thread::sleep(Duration::from_millis(300));
    at_a.installation.start_vtep()?;
    at_a.installation.wait_active(&at_a.connection)?;
    thread::sleep(SETTLES_IN);

    let loss = pings.stop()?;
    ensure!(
        loss.sent >= 100,
        "more than 2 s at up to 100 pings a second, yet {loss}"
    );
    ensure!(loss.none(), "{loss}");
    let written = writes.so_far()?;
    ensure!(
        written.is_empty(),
        "written to the kernel: {written:#?}\n{}",
        at_a.installation.log_tails()
    );

    // And it is at work again, not merely quiet.
    at_a.installation.succeed(&[
        "l2-remote-mac-create",
        "02:00:00:00:00:77",
        &at_a.connection,
    ])?;
    eventually("a new MAC is written", CONVERGES_WITHIN, || {
        let written = writes.so_far()?;
        ensure!(
            written
                .iter()
                .any(|line| line.contains("02:00:00:00:00:77")),
            "{written:#?}"
        );
        Ok(())
    })
}

#[test]
fn a_killed_server_disturbs_no_frame_and_its_successor_knows_all_it_had_confirmed() -> Result<()> {
    let topology = Topology::two_clouds()?;
    let [a, b] = topology.all()?;
    let [mut at_a, _at_b] = joined(&topology)?;
    let pings = a.vm()?.ping_stream(b.vm()?, 100)?;

    // Calls are under way when the server is killed; those that were answered count.
    let server = at_a.installation.take_server()?;
    let answered = AtomicBool::new(false);
    let confirmed = thread::scope(|scope| {
        let calls = scope.spawn(|| {
            let names = (0..=255).map(|n| (format!("confirmed-{n}"), format!("10.8.0.{n}")));
            let create = |(name, ip): &(String, String)| {
                let created = at_a
                    .installation
                    .succeed(&["l2-remote-gateway-create", name, ip]);
                answered.fetch_or(created.is_ok(), Ordering::Relaxed);
                created.is_ok()
            };
            names
                .take_while(create)
                .map(|(name, _)| name)
                .collect::<BTreeSet<_>>()
        });
        let first = eventually("a call is answered", CONVERGES_WITHIN, || {
            ensure!(answered.load(Ordering::Relaxed), "none is");
            Ok(())
        });
        thread::sleep(Duration::from_millis(500));
        server.kill()?;
        first?;
        anyhow::Ok(calls.join().expect("the calls end when the server does"))
    })?;
    assert!(!confirmed.is_empty(), "not one call was answered");

    at_a.installation.start_server()?;
    let listed = at_a.installation.query(&["l2-remote-gateway-list"])?;
    let listed: BTreeSet<_> = listed
        .as_array()
        .context("a list")?
        .iter()
        .filter_map(|gateway| Some(gateway.get("name")?.as_str()?.to_owned()))
        .collect();
    let lost: Vec<_> = confirmed.difference(&listed).collect();
    assert!(lost.is_empty(), "confirmed and lost: {lost:?}");

    at_a.installation.wait_active(&at_a.connection)?;
    let loss = pings.stop()?;
    assert!(loss.none(), "{loss}");
    at_a.installation
        .succeed(&["l2-remote-gateway-connection-delete", &at_a.connection])?;
    a.vm()?.wait_until_cut_off_from(b.vm()?)
}
