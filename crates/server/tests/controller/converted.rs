//! A switch whose software is exchanged: its database is converted to another schema while it serves.

use std::process::Command;

use model::resource::Kind;
use model::row::Value;
use model::status::Status;
use testkit::ovsdb_server::{OvsdbServer, VTEP_SCHEMA, vtep_schema_without_locator_keys};

use crate::bench::{Bench, Stretch, vtep_ctl};

const MAC: Kind = Kind::L2RemoteMac;

fn convert(bench: &Bench, schema: &std::path::Path) {
    let converted = Command::new("ovsdb-client")
        .args(["--timeout=20", "convert", &bench.switch.unix_target()])
        .arg(schema)
        .output()
        .unwrap();
    assert!(converted.status.success(), "{converted:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mark_that_an_admin_cleared_comes_back() {
    let bench = Bench::new().await;
    let stretch = Stretch::new("p1", 123);
    bench.insert(stretch.rows()).await;
    let mac = stretch.mac.id();
    bench.until_status(MAC, mac, Status::Active).await;
    let name = stretch.name();
    bench.vtep_ctl(&["clear", "Logical_Switch", name.as_str(), "other_config"]);
    bench
        .until_held(|held| held.logical_switches[&name].owned)
        .await;
    bench.until_status(MAC, mac, Status::Active).await;
}

/// What is ours stays ours: nothing has to be adopted, and what comes later is written.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_ours_stays_ours_when_the_schema_is_converted_up_and_down() {
    let old = vtep_schema_without_locator_keys().unwrap();
    let switch = OvsdbServer::with_schema(&old).unwrap();
    let ports = "add-ps tor -- add-port tor p1";
    vtep_ctl(&switch, &ports.split(' ').collect::<Vec<_>>());
    let directory = tempfile::TempDir::new().unwrap();
    let file = directory.path().join("old.ovsschema");
    std::fs::write(&file, old).unwrap();

    let bench = Bench::of(switch, Vec::new()).await;
    let mut stretch = Stretch::new("p1", 123);
    stretch
        .connection
        .set("segmentation_id", Value::Integer(123));
    bench.insert(stretch.rows()).await;
    bench
        .until_status(MAC, stretch.mac.id(), Status::Active)
        .await;
    for (last, schema) in [(0x0c, VTEP_SCHEMA.as_ref()), (0x0d, file.as_path())] {
        convert(&bench, schema);
        let mac = Stretch::mac(&stretch.connection, &stretch.attachment, last);
        bench.insert(vec![mac.clone()]).await;
        bench.until_status(MAC, mac.id(), Status::Active).await;
        bench
            .until_status(MAC, stretch.mac.id(), Status::Active)
            .await;
        assert_eq!(bench.account().told().withheld, None);
    }
}
