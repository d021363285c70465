//! `openstack l2gw …`: python-openstackclient with networking-l2gw's plugin, all nine commands.

use serde_json::{Value, json};
use testkit::keystone::{ADMIN, ALICE};
use testkit::shell::Outcome;

use crate::site::{Site, failed, openstack, printed};

/// The words behind `openstack` that go through the life of a gateway and its connection, and what must be printed. `types`
/// types one of them.
fn lives_a_life(network: &str, types: impl Fn(&str) -> Outcome) {
    assert_eq!(printed(&types("l2gw list -f json")), json!([]));

    let device = "--device name=tor1,interface_names=eth1|100#200;eth2|300";
    let made = printed(&types(&format!("l2gw create gw {device} -f json")));
    let (id, device_id) = (made["id"].clone(), made["devices"][0]["id"].clone());
    let project = made["project_id"].clone();
    assert_eq!(made["name"], "gw");
    let devices = json!([{"device_name": "tor1", "id": device_id, "interfaces": [
        {"name": "eth1", "segmentation_id": ["100", "200"]},
        {"name": "eth2", "segmentation_id": ["300"]},
    ]}]);
    assert_eq!(made["devices"], devices);
    assert_eq!(printed(&types("l2gw show gw -f json")), made);
    let listed = json!([{"ID": id, "Tenant": project, "Name": "gw", "Devices": devices}]);
    assert_eq!(printed(&types("l2gw list -f json")), listed);

    let renamed = printed(&types("l2gw update gw --name gateway -f json"));
    assert_eq!(
        (&renamed["name"], &renamed["devices"]),
        (&"gateway".into(), &devices)
    );
    let device = "--device name=tor1,interface_names=eth9|400";
    let changed = printed(&types(&format!("l2gw update gateway {device} -f json")));
    let interfaces = json!([{"name": "eth9", "segmentation_id": ["400"]}]);
    assert_eq!(changed["devices"][0]["interfaces"], interfaces);
    assert_eq!(changed["devices"][0]["id"], device_id);

    let joined = printed(&types("l2gw connection create gateway blue -f json"));
    let connection = joined["id"].clone();
    for (field, value) in [
        ("l2_gateway_id", &id),
        ("network_id", &network.into()),
        ("project_id", &project),
        ("segmentation_id", &"".into()),
        // Rows that the plugin has for attributes that there never were.
        ("l2gw_id", &Value::Null),
        ("name", &Value::Null),
    ] {
        assert_eq!(&joined[field], value, "{field}");
    }
    let name = connection.as_str().unwrap();
    let shown = types(&format!("l2gw connection show {name} -f json"));
    assert_eq!(printed(&shown), joined);
    let listed = json!([{
        "ID": connection, "Tenant": project, "L2 GateWay ID": id, "Network ID": network,
        "Segmentation ID": "",
    }]);
    assert_eq!(printed(&types("l2gw connection list -f json")), listed);

    let deleted = types(&format!("l2gw connection delete {name}"));
    assert_eq!((deleted.code, &*deleted.out), (0, ""), "{}", deleted.err);
    assert_eq!(printed(&types("l2gw connection list -f json")), json!([]));
    let deleted = types("l2gw delete gateway");
    assert_eq!((deleted.code, &*deleted.out), (0, ""), "{}", deleted.err);
    assert_eq!(printed(&types("l2gw list -f json")), json!([]));
}

#[test]
fn all_nine_commands_work_through_keystone() {
    let site = Site::start();
    let network = site.network("blue");
    lives_a_life(&network, |line| site.openstack(&ADMIN, line));
}

#[test]
fn all_nine_commands_work_without_keystone() {
    let site = Site::asking_nobody(|_, _| {});
    let network = site.network("blue");
    let where_it_is = format!("--os-auth-type none --os-endpoint http://{}", site.address);
    lives_a_life(&network, |line| openstack(&format!("{where_it_is} {line}")));
}

#[test]
fn networks_and_ports_are_what_openstacksdk_takes_them_for() {
    let site = Site::start();
    let types = |line: &str| site.openstack(&ADMIN, line);
    let create = "network create blue --provider-network-type vxlan --provider-segment 77";
    let network = printed(&types(&format!("{create} -f json")));
    for (field, value) in [
        ("name", json!("blue")),
        ("provider:network_type", json!("vxlan")),
        ("provider:segmentation_id", json!(77)),
        ("status", json!("ACTIVE")),
        ("subnets", json!([])),
        ("shared", json!(false)),
    ] {
        assert_eq!(network[field], value, "{field}");
    }
    assert_eq!(printed(&types("network show blue -f json")), network);
    let listed = json!([{"ID": network["id"], "Name": "blue", "Subnets": []}]);
    assert_eq!(printed(&types("network list -f json")), listed);

    let create = "port create --network blue --mac-address 02:00:00:00:0a:10 \
                  --fixed-ip ip-address=192.0.2.10 station";
    let port = printed(&types(&format!("{create} -f json")));
    assert_eq!(port["network_id"], network["id"]);
    assert_eq!(port["mac_address"], "02:00:00:00:0a:10");
    assert_eq!(port["fixed_ips"], json!([{"ip_address": "192.0.2.10"}]));
    assert_eq!(printed(&types("port show station -f json")), port);
    let ports = printed(&types("port list --network blue -f json"));
    assert_eq!(ports[0]["ID"], port["id"]);
    for line in ["port delete station", "network delete blue"] {
        let deleted = types(line);
        assert_eq!((deleted.code, &*deleted.err), (0, ""), "{line}");
    }
    failed(&types("network show blue"), 1, "No Network found for blue");
    let aliases = types("extension list --network -f value -c Alias").out;
    for alias in ["l2-gateway", "l2-gateway-connection"] {
        assert!(aliases.lines().any(|line| line == alias), "{aliases}");
    }
}

#[test]
fn mistakes_are_told_in_the_servers_words() {
    let site = Site::start();
    site.network("blue");
    let types = |line: &str| site.openstack(&ADMIN, line);
    let plain = "l2gw create gw --device name=tor1,interface_names=eth1 -f json";
    let gateway = printed(&types(plain));
    let id = gateway["id"].as_str().unwrap();
    let connect = "l2gw connection create gw blue";
    failed(
        &types(connect),
        1,
        "Segmentation id must be specified in create l2gateway connections.",
    );
    let made = types(&format!("{connect} --default-segmentation-id 5 -f json"));
    assert_eq!(printed(&made)["segmentation_id"], 5);
    let twice = types(&format!("{connect} --default-segmentation-id 5"));
    let said = format!("exists on network gateway '{id}'.");
    failed(&twice, 1, &said);
    assert!(
        twice
            .err
            .starts_with("ConflictException: 409: Client Error"),
        "{}",
        twice.err
    );
    let in_use = types("l2gw delete gw nope");
    failed(&in_use, 1, "Failed to delete 2 of 2 L2 Gateway.");
    let said =
        format!("L2 Gateway '{id}' still has active mappings with one or more neutron networks.");
    assert!(in_use.err.contains(&said), "{}", in_use.err);
    for (line, said) in [
        (
            "l2gw show nope",
            "Request requires an ID but none was found",
        ),
        (
            "l2gw create bad",
            "Cannot create a gateway with an empty device list.",
        ),
        (
            "l2gw create bad --device name=tor1,interface_names=p|",
            "Segmentation id must be a valid integer.",
        ),
        (
            "l2gw create bad --device name=tor1,interface_names=p|4095",
            "Segmentation id is out of range.",
        ),
        // The plugin looks the gateway up and does not look at what it found.
        (
            "l2gw connection create nope blue",
            "'NoneType' object has no attribute 'id'",
        ),
    ] {
        failed(&types(line), 1, said);
    }
    let usage = types("l2gw create bad --device foo");
    failed(&usage, 2, "argument --device: missing value for key 'foo'");
}

#[test]
fn a_member_is_refused() {
    let site = Site::start();
    let network = site.network("blue");
    let refused = |verb: &str| {
        format!("User does not have admin privileges: Cannot {verb} resource for non admin tenant.")
    };
    let device = "--device name=tor1,interface_names=eth1";
    for (line, verb) in [
        ("l2gw list".to_owned(), "GET"),
        (format!("l2gw create gw {device}"), "CREATE"),
        // Whether it is there or not.
        ("l2gw show nope".to_owned(), "GET"),
        ("l2gw connection list".to_owned(), "GET"),
    ] {
        let outcome = site.openstack(&ALICE, &line);
        failed(&outcome, 1, &refused(verb));
        assert!(
            outcome
                .err
                .contains("ForbiddenException: 403: Client Error"),
            "{line}: {}",
            outcome.err
        );
    }
    let token = site.keystone().token(&ALICE).unwrap();
    let path = format!("/v2.0/networks/{network}");
    assert_eq!(site.get(Some(&token), &path).status, 403);
}

#[test]
fn the_command_itself_runs_as_it_was_installed() {
    let site = Site::start();
    let mut command = crate::site::environment(&testkit::python::OPENSTACK).command("openstack");
    command
        .envs(site.variables(&ADMIN))
        .env("HOME", "/nonexistent");
    let outcome = crate::site::typed({
        command.args(["l2gw", "list", "-f", "json"]);
        command
    });
    assert_eq!(printed(&outcome), json!([]));
}
