//! `l2gw config`, and the server's configuration from command line, environment and file.

use std::path::PathBuf;
use std::process::{Command, Output};

use tempfile::TempDir;

/// `l2gw ARGUMENTS…` in an empty environment.
fn l2gw(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_l2gw"))
        .args(arguments)
        .env_clear()
        .envs(environment.iter().copied())
        .output()
        .unwrap()
}

/// A file with this text, and the directory that it is in.
fn file(text: &str) -> (TempDir, PathBuf) {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("l2gw.toml");
    std::fs::write(&path, text).unwrap();
    (directory, path)
}

fn said(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// What `l2gw config check` objects to, without the file's directory.
fn objections(text: &str) -> String {
    let (directory, path) = file(text);
    let output = l2gw(&["config", "check", path.to_str().unwrap()], &[]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let directory = format!("{}/", directory.path().display());
    String::from_utf8(output.stderr)
        .unwrap()
        .replace(&directory, "")
}

#[test]
fn the_example_names_every_option_with_its_meaning_and_default() {
    insta::assert_snapshot!(said(&l2gw(&["config", "example"], &[])));
}

#[test]
fn the_example_is_valid_and_so_are_its_defaults() {
    let example = said(&l2gw(&["config", "example"], &[]));
    let (_kept, path) = file(&example);
    said(&l2gw(&["config", "check", path.to_str().unwrap()], &[]));
    for default in ["listen", "body-limit", "allow-unknown-devices", "log"] {
        let commented = format!("\n# {default} = ");
        assert!(example.contains(&commented), "{default}");
        let active = example.replace(&commented, &format!("\n{default} = "));
        let (_kept, path) = file(&active);
        let checked = said(&l2gw(&["config", "check", path.to_str().unwrap()], &[]));
        assert!(checked.ends_with(": 1 options\n"), "{checked}");
    }
}

#[test]
fn what_is_wrong_with_a_file_is_said_with_its_line() {
    for (text, objection) in [
        (
            "# first\nlisten_on = \"127.0.0.1:1\"\n",
            "l2gw.toml:2: unknown option listen_on; did you mean listen?\n",
        ),
        (
            "body_limit = 1\nzebra = 2\n",
            "l2gw.toml:1: unknown option body_limit; did you mean body-limit?\n\
             l2gw.toml:2: unknown option zebra; l2gw config example names them all\n",
        ),
        (
            "allow-unknown-devices = \"perhaps\"\n",
            "l2gw.toml:1: allow-unknown-devices: expected true or false\n",
        ),
        (
            "body-limit = [1, 2]\n",
            "l2gw.toml:1: body-limit: expected a string or a number\n",
        ),
    ] {
        assert_eq!(objections(text), objection);
    }
    let wrong = objections("body-limit = 1\nlisten = \"nowhere\"\n");
    assert!(
        wrong.starts_with("l2gw.toml:2: invalid value 'nowhere'"),
        "{wrong}"
    );
    let broken = objections("listen = \n");
    assert!(broken.starts_with("l2gw.toml:1: "), "{broken}");
}

#[test]
fn the_command_line_comes_before_the_environment_and_that_before_the_file() {
    let (_kept, path) = file(
        "listen = \"127.0.0.1:1\"\nbody-limit = 11\ndatabase = \"postgres://l2gw:geheim@db/l2gw\"\n\
         device = [\"tcp:192.0.2.1:6640\", \"tcp:192.0.2.2:6640\"]\nallow-unknown-devices = true\n",
    );
    let path = path.to_str().unwrap();
    let environment = [
        ("L2GW_CONFIG", path),
        ("L2GW_BODY_LIMIT", "22"),
        ("L2GW_LISTEN", "127.0.0.1:2"),
    ];
    let shown = said(&l2gw(
        &["config", "show", "--listen", "127.0.0.1:3"],
        &environment,
    ));
    for line in [
        "listen = \"127.0.0.1:3\" # command line".to_owned(),
        "body-limit = 22 # L2GW_BODY_LIMIT".to_owned(),
        format!("database = \"postgres://l2gw:***@db/l2gw\" # {path}:3"),
        format!("device = [\"tcp:192.0.2.1:6640\", \"tcp:192.0.2.2:6640\"] # {path}:4"),
        format!("allow-unknown-devices = true # {path}:5"),
        "log = \"info\" # default".to_owned(),
        "# ovsdb-private-key is not set".to_owned(),
    ] {
        assert!(shown.lines().any(|shown| shown == line), "{line}\n{shown}");
    }
}

#[test]
fn the_server_obeys_its_file_and_refuses_a_wrong_one_in_one_line() {
    let (directory, path) = file("listen = \"192.0.2.1:9720\"\n");
    let database = directory.path().join("l2gw.db");
    let arguments = [
        "server",
        "--config",
        path.to_str().unwrap(),
        "--database",
        database.to_str().unwrap(),
    ];
    let output = l2gw(&arguments, &[]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("192.0.2.1:9720"), "{said}");
    std::fs::write(&path, "lisen = 1\nbody-limit = \"x\"\n").unwrap();
    let output = l2gw(&arguments, &[]);
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(
        said,
        format!(
            "l2gw server: {}:1: unknown option lisen; did you mean listen? (and 1 more; see l2gw config check)\n",
            path.display()
        )
    );
}

#[test]
fn a_log_in_json_has_an_object_a_line() {
    let directory = TempDir::new().unwrap();
    let database = directory.path().join("l2gw.db");
    let output = Command::new("timeout")
        .args([
            "--preserve-status",
            "2",
            env!("CARGO_BIN_EXE_l2gw"),
            "server",
        ])
        .args([
            "--listen",
            "127.0.0.1:0",
            "--log-format",
            "json",
            "--database",
        ])
        .arg(&database)
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    let lines = said.lines().map(|line| serde_json::from_str(line).unwrap());
    let lines: Vec<serde_json::Value> = lines.collect();
    let answering = |line: &serde_json::Value| {
        let message = line["fields"]["message"].as_str();
        message.is_some_and(|message| message.starts_with("answering on"))
    };
    assert!(lines.iter().any(answering), "{said}");
}

#[test]
fn a_wrong_variable_is_named() {
    let output = l2gw(&["server"], &[("L2GW_BODY_LIMIT", "much")]);
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.starts_with("l2gw server: L2GW_BODY_LIMIT: invalid value 'much'"),
        "{said}"
    );
}
