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
    assert_snapshot!(typed(&["l2-remote-gateway-create", "rgw0", "10.0.0.7"]), @r"
    Created a new l2_remote_gateway:
    +--------+--------------------------------------+
    | Field  | Value                                |
    +--------+--------------------------------------+
    | id     | 00000000-0000-0000-0000-000000000001 |
    | ipaddr | 10.0.0.7                             |
    | name   | rgw0                                 |
    +--------+--------------------------------------+
    ");
    assert_snapshot!(typed(&["l2-remote-gateway-update", "rgw0", "--name", "rgw1", "--ipaddr", "10.0.0.1"]), @"Updated l2_remote_gateway: rgw0");
    assert_snapshot!(typed(&["l2-remote-gateway-list"]), @r"
    +--------------------------------------+------+----------+
    | id                                   | name | ipaddr   |
    +--------------------------------------+------+----------+
    | 00000000-0000-0000-0000-000000000001 | rgw1 | 10.0.0.1 |
    +--------------------------------------+------+----------+
    ");
    assert_snapshot!(typed(&["l2-remote-gateway-show", "rgw1"]), @r"
    +--------+--------------------------------------+
    | Field  | Value                                |
    +--------+--------------------------------------+
    | id     | 00000000-0000-0000-0000-000000000001 |
    | ipaddr | 10.0.0.1                             |
    | name   | rgw1                                 |
    +--------+--------------------------------------+
    ");
    assert_snapshot!(typed(&["l2-remote-gateway-delete", "rgw1"]), @"Deleted l2_remote_gateway(s): rgw1");
    assert_snapshot!(typed(&["l2-remote-gateway-list"]), @"");
}

#[test]
fn section_2_remote_gateway_connections() {
    let mut place = attached();
    place.succeed(&["l2-remote-gateway-create", "rgw1", "10.0.0.1"]);
    place.succeed(&["l2-remote-gateway-create", "rgw2", "10.0.0.2"]);
    // There is no switch: the status is BUILD until the server has looked for it, then DOWN.
    let looked = |shown: String| shown.replace("| BUILD ", "| DOWN  ");
    let created = place.succeed(&["l2-remote-gateway-connection-create", "gw1", "net1", "rgw1"]);
    let created = looked(created);
    assert_snapshot!(place.numbered(&created), @r"
    Created a new l2_remote_gateway_connection:
    +----------------------+--------------------------------------+
    | Field                | Value                                |
    +----------------------+--------------------------------------+
    | flood                | True                                 |
    | id                   | 00000000-0000-0000-0000-000000000001 |
    | l2_gateway_id        | 00000000-0000-0000-0000-000000000002 |
    | l2_remote_gateway_id | 00000000-0000-0000-0000-000000000003 |
    | network_id           | 00000000-0000-0000-0000-000000000004 |
    | segmentation_id      | 9765                                 |
    | status               | DOWN                                 |
    | tenant_id            | admin                                |
    +----------------------+--------------------------------------+
    ");
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
    assert_snapshot!(place.numbered(&listed), @r"
    +--------------------------------------+--------------------------------------+--------------------------------------+-----------------+
    | id                                   | l2_gateway_id                        | network_id                           | segmentation_id |
    +--------------------------------------+--------------------------------------+--------------------------------------+-----------------+
    | 00000000-0000-0000-0000-000000000005 | 00000000-0000-0000-0000-000000000002 | 00000000-0000-0000-0000-000000000004 |             456 |
    | 00000000-0000-0000-0000-000000000001 | 00000000-0000-0000-0000-000000000002 | 00000000-0000-0000-0000-000000000004 |            9765 |
    +--------------------------------------+--------------------------------------+--------------------------------------+-----------------+
    ");
    let shown = place.succeed(&["l2-remote-gateway-connection-show", &first]);
    let shown = looked(shown);
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
    assert_snapshot!(place.numbered(&created.out), @r"
    Created a new l2_remote_mac:
    +----------------+--------------------------------------+
    | Field          | Value                                |
    +----------------+--------------------------------------+
    | ipaddr         | 3.3.3.3                              |
    | mac            | 00:11:22:33:44:55                    |
    | rgw_connection | 00000000-0000-0000-0000-000000000001 |
    | uuid           | 00000000-0000-0000-0000-000000000002 |
    +----------------+--------------------------------------+
    ");
    place.succeed(&["l2-remote-mac-create", "00:11:22:33:44:66", &connection]);
    let listed = place.succeed(&["l2-remote-mac-list", "--remote-connection", &connection]);
    assert_eq!(listed, place.succeed(&["l2-remote-mac-list"]));
    assert_snapshot!(place.numbered(&listed), @r"
    +--------------------------------------+-------------------+---------+--------------------------------------+
    | uuid                                 | mac               | ip_addr | rgw_connection                       |
    +--------------------------------------+-------------------+---------+--------------------------------------+
    | 00000000-0000-0000-0000-000000000002 | 00:11:22:33:44:55 | 3.3.3.3 | 00000000-0000-0000-0000-000000000001 |
    | 00000000-0000-0000-0000-000000000003 | 00:11:22:33:44:66 |         | 00000000-0000-0000-0000-000000000001 |
    +--------------------------------------+-------------------+---------+--------------------------------------+
    ");
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
    assert_snapshot!(typed(&["l2-gateway-create", "gw2", "--device", device, "--max-width", "100"]), @r#"
    Created a new l2_gateway:
    +-----------+--------------------------------------------------------------------------------------+
    | Field     | Value                                                                                |
    +-----------+--------------------------------------------------------------------------------------+
    | devices   | {"device_name": "switch2", "id": "00000000-0000-0000-0000-000000000001",             |
    |           | "interfaces": [{"segmentation_id": ["100", "200"], "name": "port1"},                 |
    |           | {"segmentation_id": ["300"], "name": "port2"}]}                                      |
    | id        | 00000000-0000-0000-0000-000000000002                                                 |
    | name      | gw2                                                                                  |
    | tenant_id | admin                                                                                |
    +-----------+--------------------------------------------------------------------------------------+
    "#);
    assert_snapshot!(typed(&["l2-gateway-update", "gw2", "--name", "gw3", "--device", "name=switch2,interface_names=port3|5"]), @"Updated l2_gateway: gw2");
    assert_snapshot!(typed(&["l2-gateway-list", "-c", "name", "-c", "devices"]), @r#"
    +------+---------------------------------------------------------------------------------------------------------------------------------------+
    | name | devices                                                                                                                               |
    +------+---------------------------------------------------------------------------------------------------------------------------------------+
    | gw1  | {"device_name": "switch1", "id": "00000000-0000-0000-0000-000000000003", "interfaces": [{"segmentation_id": [], "name": "port1"}]}    |
    | gw3  | {"device_name": "switch2", "id": "00000000-0000-0000-0000-000000000001", "interfaces": [{"segmentation_id": ["5"], "name": "port3"}]} |
    +------+---------------------------------------------------------------------------------------------------------------------------------------+
    "#);
    assert_snapshot!(typed(&["l2-gateway-show", "gw3", "-c", "name", "-c", "devices"]), @r#"
    +---------+---------------------------------------------------------------------------------------------------------------------------------------+
    | Field   | Value                                                                                                                                 |
    +---------+---------------------------------------------------------------------------------------------------------------------------------------+
    | devices | {"device_name": "switch2", "id": "00000000-0000-0000-0000-000000000001", "interfaces": [{"segmentation_id": ["5"], "name": "port3"}]} |
    | name    | gw3                                                                                                                                   |
    +---------+---------------------------------------------------------------------------------------------------------------------------------------+
    "#);
    assert_snapshot!(typed(&["l2-gateway-connection-list"]), @r"
    +--------------------------------------+--------------------------------------+--------------------------------------+-----------------+
    | id                                   | l2_gateway_id                        | network_id                           | segmentation_id |
    +--------------------------------------+--------------------------------------+--------------------------------------+-----------------+
    | 00000000-0000-0000-0000-000000000004 | 00000000-0000-0000-0000-000000000005 | 00000000-0000-0000-0000-000000000006 |             100 |
    +--------------------------------------+--------------------------------------+--------------------------------------+-----------------+
    ");
    assert_snapshot!(typed(&["l2-gateway-delete", "gw3"]), @"Deleted l2_gateway(s): gw3");
    let connection = place.value(&["l2-gateway-connection-list"], "id");
    let shown = place.succeed(&["l2-gateway-connection-show", &connection]);
    assert_snapshot!(place.numbered(&shown), @r"
    +-----------------+--------------------------------------+
    | Field           | Value                                |
    +-----------------+--------------------------------------+
    | id              | 00000000-0000-0000-0000-000000000004 |
    | l2_gateway_id   | 00000000-0000-0000-0000-000000000005 |
    | network_id      | 00000000-0000-0000-0000-000000000006 |
    | segmentation_id | 100                                  |
    | tenant_id       | admin                                |
    +-----------------+--------------------------------------+
    ");
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
