//! What a shell and scripts see: exit codes, streams, the environment, files.

use std::process::Stdio;

use insta::assert_snapshot;

use crate::place::{Place, finish, program};

/// A place with a remote gateway connection, and its id.
fn connected() -> (Place, String) {
    let place = Place::new();
    place.succeed(&["network", "create", "net1"]);
    place.succeed(&[
        "gateway",
        "create",
        "gw1",
        "--device",
        "name=switch1,interface_names=port1|5",
    ]);
    place.succeed(&["gateway-connection", "create", "gw1", "net1"]);
    place.succeed(&["remote-gateway", "create", "rgw1", "10.0.0.1"]);
    let words = ["remote-gateway-connection", "create", "gw1", "net1", "rgw1"];
    let id = place.value(&words, "id");
    (place, id)
}

#[test]
fn a_file_of_stations_is_created_whole_or_not_at_all() {
    let (place, connection) = connected();
    let create = ["l2-remote-mac-create", "--file", "-", &connection];
    let lines = "mac,ip\n00:11:22:33:44:55,1.2.3.4\n00:11:22:33:44:66;2001:db8::1\n";
    // The server refuses the last line: it repeats the first station.
    let refused = place.pipes(&format!("{lines}00:11:22:33:44:55\n"), &create);
    assert_eq!((refused.code, &*refused.out), (Some(1), ""));
    assert!(
        refused.err.starts_with("standard input, line 4: "),
        "{}",
        refused.err
    );
    assert_eq!(place.value(&["l2-remote-mac-list"], "mac"), "");
    let created = place.pipes(lines, &create);
    assert_eq!((created.code, &*created.err), (Some(0), ""));
    assert_eq!(
        created.out,
        "Created 2 l2_remote_macs from standard input.\n"
    );
    let listed = place.succeed(&[
        "l2-remote-mac-list",
        "-f",
        "value",
        "-c",
        "mac",
        "-c",
        "ipaddr",
    ]);
    assert_eq!(
        listed,
        "00:11:22:33:44:55 1.2.3.4\n00:11:22:33:44:66 2001:db8::1\n"
    );
}

#[test]
fn what_list_prints_as_csv_can_be_created_again() {
    let (place, connection) = connected();
    let lines: String = (0..2_000)
        .map(|n| {
            format!(
                "02:00:00:00:{:02x}:{:02x},10.0.{}.{}\n",
                n >> 8,
                n & 255,
                n >> 8,
                n & 255
            )
        })
        .collect();
    let create = ["l2-remote-mac-create", "--file", "-", &connection];
    assert_eq!(place.pipes(&lines, &create).code, Some(0));
    let list = [
        "l2-remote-mac-list",
        "-f",
        "csv",
        "-c",
        "mac",
        "-c",
        "ip_addr",
    ];
    let saved = place.succeed(&list);
    assert_eq!(saved.lines().count(), 2_001);
    let file = place.directory.path().join("macs.csv");
    std::fs::write(&file, &saved).unwrap();
    place.succeed(&["l2-remote-gateway-connection-delete", &connection]);
    let words = ["remote-gateway-connection", "create", "gw1", "net1", "rgw1"];
    let connection = place.value(&words, "id");
    let file = file.to_str().unwrap();
    let out = place.succeed(&["l2-remote-mac-create", "--file", file, &connection]);
    assert_eq!(out, format!("Created 2000 l2_remote_macs from {file}.\n"));
    assert_eq!(place.succeed(&list), saved);
    // Page by page it is the same list.
    assert_eq!(place.succeed(&[&list[..], &["-P", "300"]].concat()), saved);
}

#[test]
fn the_option_counts_more_than_the_environment_before_and_behind_the_command() {
    let place = Place::new();
    for words in [
        ["--os-endpoint", "http://127.0.0.1:1", "l2-gateway-list"],
        ["l2-gateway-list", "--os-endpoint", "http://127.0.0.1:1"],
    ] {
        let typed = place.types(&words);
        assert_eq!((typed.code, &*typed.out), (Some(1), ""));
        insta::allow_duplicates! {
            assert_snapshot!(typed.err, @"Unable to reach the server at http://127.0.0.1:1: Connection refused. Start one with `l2gw server`, or name its address with --os-endpoint or OS_ENDPOINT.");
        }
    }
    let mut command = program();
    command
        .args(["l2-gateway-list", "-f", "json", "--os_endpoint"])
        .arg(&place.endpoint);
    assert_eq!(finish(command, "").out, "[]\n");
}

#[test]
fn a_unix_socket_is_an_address_too() {
    let place = Place::on_a_socket();
    let mut command = program();
    command.args([
        "network",
        "list",
        "-f",
        "json",
        "--os-endpoint",
        &place.endpoint,
    ]);
    let typed = finish(command, "");
    assert_eq!(
        (typed.code, &*typed.err, &*typed.out),
        (Some(0), "", "[]\n")
    );
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let (place, connection) = connected();
    let lines: String = (0..5_000)
        .map(|n| format!("02:00:00:00:{:02x}:{:02x}\n", n >> 8, n & 255))
        .collect();
    place.pipes(
        &lines,
        &["l2-remote-mac-create", "--file", "-", &connection],
    );
    let mut list = place.command(&["l2-remote-mac-list"]);
    list.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = list.spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(
        (
            output.status.code(),
            String::from_utf8(output.stderr).unwrap().as_str()
        ),
        (Some(0), "")
    );
}

#[test]
fn shell_variables_carry_any_name_unharmed() {
    let place = Place::new();
    let name = r#"a "b" $(touch x) `id` \ 'c'"#;
    place.succeed(&["network", "create", name]);
    let id = place.value(&["network", "list"], "id");
    let typed = place.shell(&format!(
        "eval \"$(l2gw network show {id} -f shell --prefix net_)\"; printf %s \"$net_name\""
    ));
    assert_eq!((typed.code, &*typed.out), (Some(0), name));
}

#[test]
fn debug_prints_what_can_be_typed_again() {
    let place = Place::new();
    let typed = place.types(&[
        "--debug",
        "l2-remote-gateway-create",
        "rgw1",
        "10.0.0.1",
        "-f",
        "value",
        "-c",
        "name",
    ]);
    assert_eq!((typed.code, &*typed.out), (Some(0), "rgw1\n"));
    let curl = format!(
        "curl -i -X POST '{}/v2.0/l2-remote-gateways' -d '{{\"l2_remote_gateway\":{{\"name\":\"rgw1\",\"ipaddr\":\"10.0.0.1\"}}}}'",
        place.endpoint
    );
    assert!(typed.err.contains(&curl), "{}", typed.err);
    assert!(typed.err.contains("201 Created"), "{}", typed.err);
}

#[test]
fn exit_codes_tell_typing_from_refusal() {
    let place = Place::new();
    for (words, code) in [
        (&["help"][..], 0),
        (&["--version"], 0),
        (&["l2-gateway-create", "--help"], 0),
        (&[], 2),
        (&["l2-gateway"], 2),
        (&["gateway"], 2),
        (&["l2-gateway-list", "--nope"], 2),
        (&["l2-gateway-create", "gw1", "--device", "foo"], 2),
        (&["l2-gateway-show", "nope"], 1),
        (&["l2-gateway-delete", "nope"], 1),
        (&["l2-gateway-update", "nope"], 1),
        (&["l2-remote-gateway-create", "rgw1", "10.0.0.256"], 1),
    ] {
        let typed = place.types(words);
        assert_eq!(typed.code, Some(code), "{words:?}: {}", typed.err);
        assert_eq!(typed.out.is_empty(), code != 0, "{words:?}: {}", typed.out);
        assert_eq!(typed.err.is_empty(), code == 0, "{words:?}: {}", typed.err);
    }
}

#[test]
fn what_the_server_says_reaches_the_person_with_the_id_of_the_request() {
    let place = Place::new();
    let typed = place.types(&["l2-remote-gateway-create", "rgw1", "10.0.0.256"]);
    let (message, id) = typed.err.split_once('\n').unwrap();
    assert_eq!(
        message,
        "Invalid input for ipaddr. Reason: '10.0.0.256' is not a valid IP address."
    );
    assert!(
        id.starts_with("Neutron server returns request_ids: ['req-"),
        "{id}"
    );
}
