//! Every command of the specification and of networking-l2gw, word for word, in the order of its sections.

use insta::assert_snapshot;

use crate::place::Place;

/// A network attached to a gateway, as the specification takes for granted.
fn attached() -> Place {
    let place = Place::new();
    place.succeed(&["network", "create", "net1", "--segmentation-id", "9765"]);
    place.succeed(&[
        "l2-gateway-create",
        "gw1",
        "--device",
        "name=switch1,interface_names=port1",
    ]);
    place.succeed(&[
        "l2-gateway-connection-create",
        "gw1",
        "net1",
        "--default-segmentation-id",
        "100",
    ]);
    place
}

#[test]
fn section_1_remote_gateways() {
    let mut place = attached();
    let mut typed = |words: &[&str]| {
        let out = place.succeed(words);
        place.numbered(&out)
    };
    assert_snapshot!(typed(&["l2-remote-gateway-create", "rgw0", "10.0.0.7"]), @"");
    assert_snapshot!(typed(&["l2-remote-gateway-update", "rgw0", "--name", "rgw1", "--ipaddr", "10.0.0.1"]), @"");
    assert_snapshot!(typed(&["l2-remote-gateway-list"]), @"");
    assert_snapshot!(typed(&["l2-remote-gateway-show", "rgw1"]), @"");
    assert_snapshot!(typed(&["l2-remote-gateway-delete", "rgw1"]), @"");
    assert_snapshot!(typed(&["l2-remote-gateway-list"]), @"");
}

#[test]
fn section_2_remote_gateway_connections() {
    let mut place = attached();
    place.succeed(&["l2-remote-gateway-create", "rgw1", "10.0.0.1"]);
    place.succeed(&["l2-remote-gateway-create", "rgw2", "10.0.0.2"]);
    let created = place.succeed(&["l2-remote-gateway-connection-create", "gw1", "net1", "rgw1"]);
    assert_snapshot!(place.numbered(&created), @"");
    let first = place.value(&["l2-remote-gateway-connection-list"], "id");
    let second = [
        "l2-remote-gateway-connection-create",
        "gw1",
        "net1",
        "rgw2",
        "--seg-id",
        "456",
        "--flood",
        "False",
    ];
    place.succeed(&second);
    let listed = place.succeed(&[
        "l2-remote-gateway-connection-list",
        "--sort-column",
        "segmentation_id",
    ]);
    assert_snapshot!(place.numbered(&listed), @"");
    let shown = place.succeed(&["l2-remote-gateway-connection-show", &first]);
    assert_eq!(
        format!("Created a new l2_remote_gateway_connection:\n{shown}"),
        created
    );
    let deleted = place.succeed(&["l2-remote-gateway-connection-delete", &first]);
    assert_eq!(
        deleted,
        format!("Deleted l2_remote_gateway_connection(s): {first}\n")
    );
    assert_eq!(
        place.value(&["l2-remote-gateway-connection-list"], "segmentation_id"),
        "456"
    );
}

#[test]
fn section_3_remote_macs() {
    let mut place = attached();
    place.succeed(&["l2-remote-gateway-create", "rgw1", "10.0.0.1"]);
    let connection = place.value(
        &["l2-remote-gateway-connection-create", "gw1", "net1", "rgw1"],
        "id",
    );
    let created = place.shell(&format!(
        "l2gw l2-remote-mac-create '00:11:22:33:44:55;3.3.3.3' {connection}"
    ));
    assert_eq!((created.code, &*created.err), (Some(0), ""));
    assert_snapshot!(place.numbered(&created.out), @"");
    place.succeed(&["l2-remote-mac-create", "00:11:22:33:44:66", &connection]);
    let listed = place.succeed(&["l2-remote-mac-list", "--remote-connection", &connection]);
    assert_eq!(listed, place.succeed(&["l2-remote-mac-list"]));
    assert_snapshot!(place.numbered(&listed), @"");
    let elsewhere = [
        "l2-remote-mac-list",
        "--remote-connection",
        "a60dc097-13d7-4a9a-9842-117440911eb9",
    ];
    assert_eq!(place.succeed(&elsewhere), "\n");
    let ids = place.value(&["l2-remote-mac-list"], "uuid");
    let first = ids.lines().next().unwrap();
    let shown = place.succeed(&["l2-remote-mac-show", first]);
    assert_eq!(
        format!("Created a new l2_remote_mac:\n{shown}"),
        created.out
    );
    let deleted = place.succeed(&["l2-remote-mac-delete", first]);
    assert_eq!(deleted, format!("Deleted l2_remote_mac(s): {first}\n"));
    assert_eq!(
        place.value(&["l2-remote-mac-list"], "mac"),
        "00:11:22:33:44:66"
    );
}

#[test]
fn networking_l2gws_own_commands() {
    let mut place = attached();
    let mut typed = |words: &[&str]| {
        let out = place.succeed(words);
        place.numbered(&out)
    };
    let device = "name=switch2,interface_names=port1|100#200;port2|300";
    assert_snapshot!(typed(&["l2-gateway-create", "gw2", "--device", device, "--max-width", "100"]), @"");
    assert_snapshot!(typed(&["l2-gateway-update", "gw2", "--name", "gw3", "--device", "name=switch2,interface_names=port3|5"]), @"");
    assert_snapshot!(typed(&["l2-gateway-list", "-c", "name", "-c", "devices"]), @"");
    assert_snapshot!(typed(&["l2-gateway-show", "gw3", "-c", "name", "-c", "devices"]), @"");
    assert_snapshot!(typed(&["l2-gateway-connection-list"]), @"");
    assert_snapshot!(typed(&["l2-gateway-delete", "gw3"]), @"");
    let connection = place.value(&["l2-gateway-connection-list"], "id");
    let shown = place.succeed(&["l2-gateway-connection-show", &connection]);
    assert_snapshot!(place.numbered(&shown), @"");
    place.succeed(&["l2-gateway-connection-delete", &connection]);
    assert_eq!(
        place.succeed(&["l2-gateway-connection-list", "-f", "json"]),
        "[]\n"
    );
}

#[test]
fn both_spellings_print_the_same() {
    let place = attached();
    place.succeed(&["remote-gateway", "create", "rgw1", "10.0.0.1"]);
    for (traditional, words) in [
        ("l2-gateway-list", ["gateway", "list"]),
        ("l2-gateway-connection-list", ["gateway-connection", "list"]),
        ("l2-remote-gateway-list", ["remote-gateway", "list"]),
    ] {
        let printed = place.succeed(&[traditional]);
        assert!(printed.starts_with("+--"), "{printed}");
        assert_eq!(printed, place.succeed(&words));
    }
}
