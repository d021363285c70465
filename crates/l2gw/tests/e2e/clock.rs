//! A wall clock that jumps, forwards and backwards, as one does that NTP corrects or a person sets. Intervals are measured
//! by the clock that only counts (CLOCK_MONOTONIC), which nobody can set.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use testkit::ovsdb_server::OvsdbServer;
use testkit::run::{CONVERGES_WITHIN, eventually};

use crate::driven::{Place, vtep_ctl};

/// The library that stands between a program and its wall clock (package libfaketime).
fn libfaketime() -> Result<PathBuf> {
    let libraries = std::fs::read_dir("/usr/lib")?.flatten();
    let mut found = libraries.map(|library| library.path().join("faketime/libfaketime.so.1"));
    found
        .find(|path| path.is_file())
        .context("no /usr/lib/*/faketime/libfaketime.so.1 (package libfaketime)")
}

#[test]
fn a_clock_that_jumps_disturbs_neither_sessions_nor_timers_nor_the_removal_guard() -> Result<()> {
    let switch = OvsdbServer::start()?;
    vtep_ctl(&switch, "add-ps tor -- add-port tor p1")?;
    let mut place = Place::new()?;
    let offset = place.path("offset");
    let jump = |by: &str| std::fs::write(&offset, by);
    jump("+0")?;
    for (name, value) in [
        ("LD_PRELOAD", libfaketime()?.display().to_string()),
        ("FAKETIME_TIMESTAMP_FILE", offset.display().to_string()),
        ("FAKETIME_NO_CACHE", "1".to_owned()),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
    ] {
        place.set(name, value);
    }
    place.start(Some(&switch.unix_target()))?;
    place.wait_until_right()?;
    place.stretch()?;
    place.wait_until_right()?;
    let shown = |place: &Place, column: &str| {
        place.l2gw(&["device", "show", "tor", "-f", "value", "-c", column])
    };
    let since = shown(&place, "connected_since")?;
    let connection = place.connection()?;

    let written = shown(&place, "written_at")?;
    for (number, by) in ["+400d", "-400d", "+3h", "-90s"].into_iter().enumerate() {
        jump(by)?;
        let mac = format!("02:00:00:00:00:{number:02x}");
        place.l2gw(&["l2-remote-mac-create", &mac, &connection])?;
        place.wait_until_right()?;
        let network = vtep_ctl(&switch, "list-ls")?;
        let held = vtep_ctl(&switch, &format!("list-remote-macs {}", network.trim()))?;
        ensure!(held.contains(&mac), "{by}: {held}");
        // The clock does jump, and the session does not mind.
        ensure!(shown(&place, "written_at")? != written, "{by}: {written}");
        ensure!(
            shown(&place, "connected_since")? == since,
            "{by}: connected anew"
        );
    }

    // A switch that is silent is noticed, and found again, whatever the clock does meanwhile.
    switch.freeze()?;
    jump("-400d")?;
    let until = |status: &'static str| {
        eventually(status, CONVERGES_WITHIN, || {
            let now = shown(&place, "status")?;
            ensure!(now.trim() == status, "{now}");
            Ok(())
        })
    };
    until("DOWN")?;
    jump("+400d")?;
    switch.thaw()?;
    until("ACTIVE")?;
    // A server of an earlier day knows what one of a later day wrote.
    place.stop()?;
    jump("-30d")?;
    place.start(Some(&switch.unix_target()))?;
    place.l2gw(&["l2-remote-gateway-connection-delete", &connection])?;
    place.wait_until_right()?;
    let withheld = place.l2gw(&["device", "show", "tor", "-f", "value", "-c", "withheld"])?;
    ensure!(matches!(withheld.trim(), "" | "None"), "{withheld}");
    place.stop()
}
