//! `neutron l2-gateway-…`: python-neutronclient 9.0.0, the last with that shell, with networking-l2gw's extension, all nine
//! commands.

use serde_json::json;
use testkit::keystone::{ADMIN, ALICE};

use crate::site::{Site, failed, printed};

#[test]
fn all_nine_commands_work_through_keystone() {
    let site = Site::start();
    let network = site.network("blue");
    let types = |line: &str| site.neutron(&ADMIN, line);
    assert_eq!(printed(&types("l2-gateway-list -f json")), json!([]));

    let device = "--device name=tor1,interface_names=eth1|100#200;eth2|300";
    let made = printed(&types(&format!("l2-gateway-create gw {device} -f json")));
    let (id, device_id) = (made["id"].clone(), made["devices"][0]["id"].clone());
    let project = made["tenant_id"].clone();
    assert_eq!(
        (&made["name"], &made["project_id"]),
        (&"gw".into(), &project)
    );
    let devices = json!([{"device_name": "tor1", "id": device_id, "interfaces": [
        {"name": "eth1", "segmentation_id": ["100", "200"]},
        {"name": "eth2", "segmentation_id": ["300"]},
    ]}]);
    assert_eq!(made["devices"], devices);
    assert_eq!(printed(&types("l2-gateway-show gw -f json")), made);
    let by_id = format!("l2-gateway-show {} -F name -f value", id.as_str().unwrap());
    assert_eq!(types(&by_id).out, "gw\n");
    // The project is a column for administrators alone: the shell reads it from the token.
    let listed = json!([{"id": id, "name": "gw", "tenant_id": project, "devices": devices}]);
    assert_eq!(printed(&types("l2-gateway-list -f json")), listed);

    let renamed = types("l2-gateway-update gw --name gateway");
    assert_eq!(
        (renamed.code, &*renamed.out),
        (0, "Updated l2_gateway: gw\n")
    );
    let device = "--device name=tor1,interface_names=eth9|400";
    let changed = types(&format!("l2-gateway-update gateway {device}"));
    assert_eq!((changed.code, &*changed.err), (0, ""));
    let changed = printed(&types("l2-gateway-show gateway -f json"));
    let interfaces = json!([{"name": "eth9", "segmentation_id": ["400"]}]);
    assert_eq!(changed["devices"][0]["interfaces"], interfaces);

    let joined = printed(&types("l2-gateway-connection-create gateway blue -f json"));
    let connection = joined["id"].as_str().unwrap();
    assert_eq!(joined["l2_gateway_id"], id);
    assert_eq!(joined["network_id"], *network);
    assert_eq!(
        (&joined["segmentation_id"], &joined["tenant_id"]),
        (&"".into(), &project)
    );
    let shown = types(&format!("l2-gateway-connection-show {connection} -f json"));
    assert_eq!(printed(&shown), joined);
    let listed = json!([{
        "id": connection, "tenant_id": project, "l2_gateway_id": id, "network_id": network,
        "segmentation_id": "",
    }]);
    assert_eq!(
        printed(&types("l2-gateway-connection-list -f json")),
        listed
    );

    let deleted = types(&format!("l2-gateway-connection-delete {connection}"));
    let said = format!("Deleted l2_gateway_connection(s): {connection}\n");
    assert_eq!((deleted.code, deleted.out), (0, said));
    let deleted = types("l2-gateway-delete gateway nope");
    assert_eq!(
        (deleted.code, &*deleted.out),
        (1, "Deleted l2_gateway(s): gateway\n")
    );
    assert_eq!(
        deleted.err,
        "Unable to find l2_gateway(s) with id(s) 'nope'.\n"
    );
    assert_eq!(printed(&types("l2-gateway-list -f json")), json!([]));
}

#[test]
fn lists_are_sorted_paged_and_filtered() {
    let site = Site::start();
    for name in ["a", "b", "c"] {
        let line = format!("l2-gateway-create {name} --device name=tor,interface_names=eth1");
        assert_eq!(site.l2gw(&ADMIN, &line).code, 0);
    }
    let names = |options: &str| {
        let line = format!("l2-gateway-list {options} -c name -f value");
        let outcome = site.neutron(&ADMIN, &line);
        assert_eq!((outcome.code, &*outcome.err), (0, ""));
        outcome.out.replace('\n', "")
    };
    assert_eq!(names("-P 2 --sort-key name --sort-dir desc"), "cba");
    assert_eq!(names("--name b"), "b");
    assert_eq!(names("-D --name nope"), "");
}

#[test]
fn mistakes_are_told_in_the_servers_words() {
    let site = Site::start();
    site.network("blue");
    let types = |line: &str| site.neutron(&ADMIN, line);
    let made = printed(&types(
        "l2-gateway-create gw --device name=tor1,interface_names=eth1 -f json",
    ));
    let id = made["id"].as_str().unwrap();
    let connect = "l2-gateway-connection-create gw blue --default-segmentation-id 5 -f json";
    assert_eq!(printed(&types(connect))["segmentation_id"], 5);
    let in_use =
        format!("L2 Gateway '{id}' still has active mappings with one or more neutron networks.");
    let twice = format!("exists on network gateway '{id}'.");
    for (line, said) in [
        (connect, &*twice),
        ("l2-gateway-delete gw", &in_use),
        (
            "l2-gateway-update gw",
            "Invalid input for name. Reason: 'None' is not a valid string.",
        ),
        (
            "l2-gateway-create bad --device name=tor1,interface_names=p|",
            "Invalid input for operation: Segmentation id must be a valid integer.",
        ),
        (
            "l2-gateway-connection-show nope",
            "The connection nope not found on the l2 gateway",
        ),
    ] {
        let outcome = types(line);
        assert_eq!((outcome.code, &*outcome.out), (1, ""), "{line}");
        let (message, id) = outcome.err.trim_end().rsplit_once('\n').unwrap();
        assert!(message.ends_with(said), "{line}: {message}");
        assert!(
            id.starts_with("Neutron server returns request_ids: ['req-"),
            "{line}: {id}"
        );
    }
    for (line, said) in [
        (
            "l2-gateway-show nope",
            "Unable to find l2_gateway with name or id 'nope'",
        ),
        (
            "l2-gateway-connection-create gw nope",
            "Unable to find network with name or id 'nope'",
        ),
        (
            "l2-gateway-connection-delete nope",
            "Unable to find l2_gateway_connection(s) with id(s) 'nope'.",
        ),
    ] {
        failed(&types(line), 1, said);
    }
    let usage = types("l2-gateway-create bad --device foo");
    assert_eq!(usage.code, 2);
    let said = "argument --device: missing value for key 'foo'";
    assert!(usage.err.contains(said), "{}", usage.err);
}

#[test]
fn a_member_is_refused() {
    let site = Site::start();
    for (line, verb) in [
        ("l2-gateway-list", "GET"),
        (
            "l2-gateway-create gw --device name=tor1,interface_names=eth1",
            "CREATE",
        ),
        ("l2-gateway-show nope", "GET"),
        ("l2-gateway-connection-delete nope", "GET"),
    ] {
        let outcome = site.neutron(&ALICE, line);
        assert_eq!((outcome.code, &*outcome.out), (1, ""), "{line}");
        let said = format!(
            "User does not have admin privileges: Cannot {verb} resource for non admin tenant."
        );
        assert!(outcome.err.starts_with(&said), "{line}: {}", outcome.err);
    }
}
