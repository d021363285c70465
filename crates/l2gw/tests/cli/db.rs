//! `l2gw db …` beside a real server, and from one engine to the other.

use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;
use testkit::postgres::Postgres;

use crate::place::Place;

fn db(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_l2gw"))
        .arg("db")
        .args(arguments)
        .env_remove("L2GW_DATABASE")
        .output()
        .unwrap()
}

/// What it says if it does what it should.
fn said(arguments: &[&str]) -> String {
    let output = db(arguments);
    let trouble = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {trouble}");
    String::from_utf8(output.stdout).unwrap()
}

/// The one line with which it fails.
fn refusal(arguments: &[&str]) -> String {
    let output = db(arguments);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}");
    let trouble = String::from_utf8(output.stderr).unwrap();
    assert!(trouble.starts_with("l2gw db: "), "{trouble}");
    assert_eq!(trouble.trim_end().lines().count(), 1, "{trouble}");
    trouble
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_database_is_made_told_checked_backed_up_and_copied_to_postgresql() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("l2gw.db");
    let backup = directory.path().join("backup.db");
    let refused = refusal(&["version", text(&path)]);
    assert!(refused.contains("there is no database"), "{refused}");
    let version = said(&["upgrade", text(&path)]);
    assert_eq!(said(&["version", text(&path)]), version);
    let census = said(&["check", text(&path)]);
    assert!(census.contains("        0 l2_remote_macs\n"), "{census}");
    said(&["backup", text(&backup), "--database", text(&path)]);
    assert_eq!(said(&["check", text(&backup)]), census);
    let refused = refusal(&["backup", text(&backup), "--database", text(&path)]);
    assert!(refused.contains("backup.db"), "{refused}");

    let cluster = Postgres::start().unwrap();
    let url = cluster.create_database().unwrap();
    assert_eq!(said(&["version", &url]), "0\n");
    assert_eq!(said(&["copy", text(&path), &url]), census);
    assert_eq!(said(&["check", &url]), census);
    assert_eq!(said(&["version", &url]), version);
    let refused = refusal(&["check", "postgres://l2gw:secret@127.0.0.1:1/l2gw"]);
    assert!(
        refused.contains("Connection refused") && !refused.contains("secret"),
        "{refused}"
    );
}

#[test]
fn a_database_is_backed_up_while_the_server_has_it() {
    let place = Place::new();
    let made = place.types(&["network", "create", "net"]);
    assert_eq!(made.code, Some(0), "{made:?}");
    let backup = place.directory.path().join("backup.db");
    let database = place.directory.path().join("l2gw.db");
    said(&["backup", text(&backup), "--database", text(&database)]);
    let census = said(&["check", text(&backup)]);
    assert!(census.contains("        1 networks\n"), "{census}");
    let refused = refusal(&["upgrade", text(&database)]);
    assert!(
        refused.contains("in use by another l2gw server"),
        "{refused}"
    );
}
