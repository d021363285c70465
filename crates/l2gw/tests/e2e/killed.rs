//! The server killed (SIGKILL) after each single transaction of a run, and started again.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use testkit::ovsdb_gate::Gate;
use testkit::ovsdb_server::OvsdbServer;
use testkit::run::{CONVERGES_WITHIN, run};

use crate::driven::{Place, vtep_ctl};

/// Enough for several transactions.
const MACS: usize = 500;
/// A logical switch of somebody else.
const THEIRS: &str = "theirs";

/// A network with many MACs behind a remote gateway, declared to a server that knows no switch.
fn declare(place: &mut Place) -> Result<()> {
    place.start(None)?;
    let macs: Vec<_> = (0..MACS)
        .map(|n| format!("02:00:00:00:{:02x}:{:02x}", n / 256, n % 256))
        .collect();
    let file = place.path("macs.csv");
    std::fs::write(&file, macs.join("\n") + "\n")?;
    let file = file.display().to_string();
    place.stretch()?;
    let connection = place.connection()?;
    place.l2gw(&["l2-remote-mac-create", "--file", &file, &connection])?;
    place.stop()
}

/// A switch with something of somebody else's on it.
fn inhabited() -> Result<OvsdbServer> {
    let switch = OvsdbServer::start()?;
    let line = "add-ps tor -- add-port tor p1 -- add-port tor p2 -- add-ls theirs -- \
                add-ucast-remote theirs 02:ff:00:00:00:01 198.51.100.7 -- bind-ls tor p2 9 theirs";
    vtep_ctl(&switch, line)?;
    Ok(switch)
}

/// What vtep-ctl(8) says of all logical switches.
fn told(switch: &OvsdbServer) -> Result<String> {
    let mut told = vtep_ctl(switch, "list-bindings tor p1 -- list-bindings tor p2")?;
    for name in vtep_ctl(switch, "list-ls")?.lines() {
        let mut macs: Vec<_> = vtep_ctl(switch, &format!("list-remote-macs {name}"))?
            .lines()
            .map(str::to_owned)
            .collect();
        macs.sort();
        told.push_str(&format!("{name}\n{}\n", macs.join("\n")));
    }
    Ok(told)
}

/// Every row with its version, which any write changes.
fn versions(switch: &OvsdbServer) -> Result<Vec<String>> {
    let tables = [
        "Global",
        "Logical_Switch",
        "Ucast_Macs_Remote",
        "Mcast_Macs_Remote",
        "Physical_Locator",
        "Physical_Locator_Set",
        "Physical_Port",
    ];
    let select = tables.map(|table| {
        json!({"op": "select", "table": table, "where": [], "columns": ["_uuid", "_version"]})
    });
    let mut request = vec![json!("hardware_vtep")];
    request.extend(select);
    let answer = run(Command::new("ovsdb-client")
        .args(["transact", &switch.unix_target()])
        .arg(serde_json::Value::from(request).to_string()))?;
    let answer: serde_json::Value = serde_json::from_str(&answer)?;
    let results = answer.as_array().context("not an array")?.iter();
    let rows = results.filter_map(|result| result.get("rows")?.as_array());
    let mut rows: Vec<_> = rows.flatten().map(ToString::to_string).collect();
    rows.sort();
    Ok(rows)
}

/// A run from this database against switches that hold what `switch` makes, cut after every number of transactions, until
/// one is not cut any more. Returns how many were.
fn cut_everywhere(prepared: &Place, switch: impl Fn() -> Result<OvsdbServer>) -> Result<usize> {
    let mut expected = None;
    let mut limit = 0;
    loop {
        limit += 1;
        let switch = switch()?;
        let mut place = Place::new()?;
        prepared.copy_to(&place)?;
        let gate = Gate::start(&switch.socket(), limit)?;
        place.start(Some(&gate.target()))?;
        let cut = is_cut(&place, &gate)?;
        place.kill()?;

        let context = || format!("killed after transaction {limit}");
        place.start(Some(&switch.unix_target()))?;
        place.wait_until_right().with_context(context)?;
        place.stop()?;
        let (now, rows) = (told(&switch)?, versions(&switch)?);
        let expected = expected.get_or_insert_with(|| now.clone());
        ensure!(now == *expected, "{}: {now}\nnot\n{expected}", context());
        ensure!(now.contains(THEIRS), "{}: theirs is gone", context());
        place.start(Some(&switch.unix_target()))?;
        place.wait_until_right().with_context(context)?;
        place.stop()?;
        ensure!(versions(&switch)? == rows, "{}: written again", context());
        if !cut {
            return Ok(limit - 1);
        }
    }
}

/// Waits until the run is cut, or has come to its end.
fn is_cut(place: &Place, gate: &Gate) -> Result<bool> {
    let begun = Instant::now();
    loop {
        if gate.is_shut_within(Duration::from_millis(20)) {
            return Ok(true);
        }
        if place.l2gw(&["audit", "tor"]).is_ok() {
            // Its last transaction may still be the one.
            return Ok(gate.is_shut_within(Duration::from_millis(100)));
        }
        ensure!(
            begun.elapsed() < CONVERGES_WITHIN,
            "neither cut nor done after {} transactions",
            gate.transactions()
        );
    }
}

#[test]
fn killed_after_any_transaction_a_server_goes_on_where_it_was_when_it_writes() -> Result<()> {
    let mut prepared = Place::new()?;
    declare(&mut prepared)?;
    let cuts = cut_everywhere(&prepared, inhabited)?;
    assert!(
        cuts >= 4,
        "{cuts} transactions: the run is too short to tell"
    );
    Ok(())
}

#[test]
fn killed_after_any_transaction_a_server_goes_on_where_it_was_when_it_removes() -> Result<()> {
    let mut prepared = Place::new()?;
    declare(&mut prepared)?;
    let switch = inhabited()?;
    prepared.start(Some(&switch.unix_target()))?;
    prepared.wait_until_right()?;
    prepared.stop()?;
    let database = Path::new(switch.directory()).join("db");
    // Deleted while the switch is out of sight.
    prepared.start(None)?;
    let connection = prepared.connection()?;
    prepared.l2gw(&["l2-remote-gateway-connection-delete", &connection])?;
    prepared.l2gw(&["network", "create", "net2", "--segmentation-id", "124"])?;
    prepared.l2gw(&[
        "l2-gateway-connection-create",
        "gw",
        "net2",
        "--default-segmentation-id",
        "8",
    ])?;
    prepared.stop()?;
    let cuts = cut_everywhere(&prepared, || OvsdbServer::with_copy_of(&database))?;
    assert!(
        cuts >= 4,
        "{cuts} transactions: the run is too short to tell"
    );
    Ok(())
}
