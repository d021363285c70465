use serde_json::json;

use super::*;
use crate::resource::{Kind, OnDelete};
use crate::table;

mod laws;

const ID: &str = "5f0c2a4e-6a0b-4d53-9a61-6f7c0b1f7d11";

fn post(kind: Kind, body: Json) -> Result<Row, Fault> {
    let context = Context {
        project: "caller",
        parent: None,
    };
    create(Resource::of(kind), body.as_object().unwrap(), context)
}

fn refusal(kind: Kind, body: Json) -> String {
    let fault = post(kind, body).unwrap_err();
    assert_eq!(fault.kind.status(), 400, "{fault}");
    fault.message
}

fn put(kind: Kind, body: Json) -> Result<Vec<(usize, Value)>, Fault> {
    update(Resource::of(kind), body.as_object().unwrap())
}

#[test]
fn what_post_leaves_out_gets_its_default() {
    let row = post(Kind::Network, json!({})).unwrap();
    assert_eq!(row.text("name"), "");
    assert_eq!(row.text("tenant_id"), "caller");
    assert_eq!(row.text("provider:network_type"), "vxlan");
    assert_eq!(row.get("provider:segmentation_id"), &Value::Null);
    assert_eq!(row.integer("mtu"), Some(1450));
    assert!(row.flag("admin_state_up"));
}

#[test]
fn project_id_is_tenant_id_and_both_must_agree() {
    let tenant = |body| post(Kind::Network, body).map(|row| row.text("tenant_id").to_owned());
    assert_eq!(tenant(json!({"project_id": "t2"})).unwrap(), "t2");
    assert_eq!(
        tenant(json!({"project_id": "t", "tenant_id": "t"})).unwrap(),
        "t"
    );
    assert_eq!(
        refusal(
            Kind::Network,
            json!({"tenant_id": "t1", "project_id": "t2"})
        ),
        "'project_id' and 'tenant_id' do not match"
    );
    assert_eq!(
        refusal(Kind::Network, json!({"project_id": 5})),
        "Invalid input for project_id. Reason: '5' is not a valid string."
    );
}

#[test]
fn aliases_mean_their_attribute_and_must_not_contradict_each_other() {
    let mac = |ips: Json| {
        let mut body = json!({"mac": "00:11:22:33:44:55", "rgw_connection": ID});
        body.as_object_mut()
            .unwrap()
            .extend(ips.as_object().unwrap().clone());
        post(Kind::L2RemoteMac, body)
    };
    let row = mac(json!({"ip": "2001:DB8::1", "ip_addr": "2001:db8:0::1"})).unwrap();
    assert_eq!(row.ip("ipaddr"), Some("2001:db8::1".parse().unwrap()));
    assert_eq!(
        mac(json!({"ipaddr": "10.0.0.1", "ip": "10.0.0.2"}))
            .unwrap_err()
            .message,
        "'ip' and 'ipaddr' do not match"
    );
    let row = post(
        Kind::L2RemoteGatewayConnection,
        json!({"gateway": ID, "network": "n", "remote_gateway": ID, "seg_id": "456", "flood": "FALSE"}),
    )
    .unwrap();
    assert_eq!(row.vni("segmentation_id"), Vni::new(456));
    assert!(!row.flag("flood"));
    assert!(row.uuid("l2_gateway_id").is_some());
    assert_eq!(
        row.text("network_id"),
        "n",
        "resolved later, so that 404 can name it"
    );
}

#[test]
fn unknown_keys_are_listed_in_order_and_internal_attributes_are_unknown() {
    assert_eq!(
        refusal(
            Kind::L2RemoteMac,
            json!({"bogus": 1, "attachment_id": ID, "abogus": 2})
        ),
        "Unrecognized attribute(s) 'abogus, attachment_id, bogus'"
    );
}

#[test]
fn what_the_server_makes_cannot_be_given() {
    for (kind, key) in [
        (Kind::L2Gateway, "id"),
        (Kind::L2RemoteGateway, "status"),
        (Kind::L2RemoteMac, "uuid"),
    ] {
        let body = json!({
            key: ID, "ipaddr": "192.0.2.1", "devices": [], "mac": "x", "rgw_connection": ID,
        });
        let body = body.as_object().unwrap().clone();
        let taken = body
            .into_iter()
            .filter(|(k, _)| Resource::of(kind).input(k).is_some());
        assert_eq!(
            refusal(kind, Json::Object(taken.collect())),
            format!("Attribute '{key}' not allowed in POST")
        );
    }
}

#[test]
fn what_is_required_is_named() {
    assert_eq!(
        refusal(Kind::L2RemoteGateway, json!({"name": "x"})),
        "Failed to parse request. Required attribute 'ipaddr' not specified"
    );
}

#[test]
fn put_takes_only_what_may_change() {
    let read_only = |kind, body| put(kind, body).unwrap_err().message;
    assert_eq!(
        read_only(Kind::L2Gateway, json!({"name": "x", "project_id": "t"})),
        "Cannot update read-only attribute project_id"
    );
    assert_eq!(
        read_only(Kind::L2GatewayConnection, json!({"segmentation_id": "5"})),
        "Cannot update read-only attribute segmentation_id"
    );
    assert_eq!(put(Kind::L2Gateway, json!({})).unwrap(), []);
    let place = table::L2_REMOTE_GATEWAY.position("ipaddr").unwrap();
    let ip: IpAddr = "192.0.2.1".parse().unwrap();
    assert_eq!(
        put(Kind::L2RemoteGateway, json!({"ip_address": "192.0.2.1"})).unwrap(),
        [(place, Value::Ip(ip))]
    );
}

#[test]
fn every_shape_refuses_in_neutrons_words_and_names_the_attribute() {
    let mac = |key: &str, value: Json| {
        let mut body = json!({"mac": "00:11:22:33:44:55", "rgw_connection": ID});
        body[key] = value;
        refusal(Kind::L2RemoteMac, body)
    };
    let connection = |key: &str, value: Json| {
        let mut body = json!({"l2_gateway_id": ID, "network_id": ID, "l2_remote_gateway_id": ID});
        body[key] = value;
        refusal(Kind::L2RemoteGatewayConnection, body)
    };
    let remote = |ip: Json| refusal(Kind::L2RemoteGateway, json!({"ipaddr": ip}));
    let network = |key: &str, value: Json| refusal(Kind::Network, json!({key: value}));
    let port = |key: &str, value: Json| {
        let mut body = json!({"network_id": ID, "mac_address": "00:11:22:33:44:55"});
        body[key] = value;
        refusal(Kind::Port, body)
    };
    let invalid = |key, reason: &str| format!("Invalid input for {key}. Reason: {reason}.");
    let long = "é".repeat(256);
    for (got, key, reason) in [
        (
            mac("mac", json!("x")),
            "mac",
            "'x' is not a valid MAC address",
        ),
        (
            mac("mac", json!(5)),
            "mac",
            "'5' is not a valid MAC address",
        ),
        (
            mac("mac", json!("ff:ff:ff:ff:ff:ff")),
            "mac",
            "'ff:ff:ff:ff:ff:ff' is not a unicast MAC address",
        ),
        (
            mac("mac", Json::Null),
            "mac",
            "'None' is not a valid MAC address",
        ),
        (
            mac("ip", json!("10.0.0")),
            "ip",
            "'10.0.0' is not a valid IP address",
        ),
        (
            mac("ip", json!("224.0.0.1")),
            "ip",
            "'224.0.0.1' is not a unicast IP address",
        ),
        (
            mac("rgw_connection", json!([1])),
            "rgw_connection",
            "'[1]' is not a valid string",
        ),
        (
            connection("segmentation_id", json!("x")),
            "segmentation_id",
            "'x' is not an integer",
        ),
        (
            connection("segmentation_id", json!(true)),
            "segmentation_id",
            "'True' is not an integer",
        ),
        (
            connection("segmentation_id", json!(0)),
            "segmentation_id",
            "'0' is too small - must be at least '1'",
        ),
        (
            connection("seg_id", json!("16777216")),
            "seg_id",
            "'16777216' is too large - must be no larger than '16777215'",
        ),
        (
            connection("segmentation_id", json!(18446744073709551615_u64)),
            "segmentation_id",
            "'18446744073709551615' is too large - must be no larger than '16777215'",
        ),
        (
            connection("flood", json!("maybe")),
            "flood",
            "'maybe' cannot be converted to boolean",
        ),
        (
            connection("flood", Json::Null),
            "flood",
            "'None' cannot be converted to boolean",
        ),
        (
            remote(json!("::1")),
            "ipaddr",
            "'::1' is not an IPv4 address",
        ),
        (
            remote(json!("0.0.0.0")),
            "ipaddr",
            "'0.0.0.0' is not an address at which a tunnel can end",
        ),
        (
            remote(json!({"a": "b'c"})),
            "ipaddr",
            r#"'{'a': "b'c"}' is not a valid IP address"#,
        ),
        (
            network("provider:network_type", json!("x")),
            "provider:network_type",
            "'x' is not in ['vxlan', 'vlan', 'flat', 'local', 'gre', 'geneve']",
        ),
        (
            network("mtu", json!(67)),
            "mtu",
            "'67' is too small - must be at least '68'",
        ),
        (
            network("name", json!(long)),
            "name",
            &format!("'{long}' exceeds maximum length of 255"),
        ),
        (
            network("name", json!("a\0")),
            "name",
            "a text must not contain the character U+0000",
        ),
        (
            port("fixed_ips", json!([{"ip": "10.0.0.1"}])),
            "fixed_ips",
            "Invalid data format for fixed IP: '[{'ip': '10.0.0.1'}]'",
        ),
        (
            port(
                "fixed_ips",
                json!([{"ip_address": "10.0.0.1"}, {"ip_address": "10.0.0.1"}]),
            ),
            "fixed_ips",
            "Duplicate IP address '10.0.0.1'",
        ),
        (
            port("binding:profile", json!([])),
            "binding:profile",
            "'[]' is not a dictionary",
        ),
        (
            port("binding:profile", json!({"tunneling_ip": "x"})),
            "binding:profile",
            "'x' is not a valid IP address",
        ),
    ] {
        assert_eq!(got, invalid(key, reason));
    }
}

#[test]
fn texts_are_taken_up_to_their_length_in_characters_and_not_beyond() {
    let remote_gateway = |name: String| {
        post(
            Kind::L2RemoteGateway,
            json!({"name": name, "ipaddr": "192.0.2.1"}),
        )
    };
    let devices = |device: String, interface: String| {
        let interfaces = json!([{"name": interface}]);
        post(
            Kind::L2Gateway,
            json!({"devices": [{"device_name": device, "interfaces": interfaces}]}),
        )
    };
    let gateway = |name: String| {
        let devices = json!([{"device_name": "d", "interfaces": [{"name": "p"}]}]);
        post(Kind::L2Gateway, json!({"name": name, "devices": devices}))
    };
    let profile = |length: usize| {
        // The braces, the key, its quotes and a colon are part of what is kept.
        let text = "x".repeat(length - r#"{"k":""}"#.len());
        post(
            Kind::Port,
            json!({"network_id": ID, "mac_address": "00:11:22:33:44:55", "binding:profile": {"k": text}}),
        )
    };
    // Two bytes each, so that characters and bytes are told apart.
    let umlauts = |count: usize| "ü".repeat(count);
    for (taken, refused, reason) in [
        (
            remote_gateway(umlauts(255)),
            remote_gateway(umlauts(256)),
            "exceeds maximum length of 255.",
        ),
        (
            devices(umlauts(255), "p".into()),
            devices(umlauts(256), "p".into()),
            "exceeds maximum length of 255.",
        ),
        (
            devices("d".into(), umlauts(255)),
            devices("d".into(), umlauts(256)),
            "exceeds maximum length of 255.",
        ),
        (
            gateway("x".repeat(2600)),
            gateway("x".repeat(2601)),
            "exceeds maximum length of 2600.",
        ),
        (
            gateway(umlauts(1300)),
            gateway(umlauts(1301)),
            "exceeds maximum length of 2600 bytes.",
        ),
        (
            profile(4095),
            profile(4096),
            "it exceeds maximum length of 4095.",
        ),
    ] {
        assert!(taken.is_ok(), "{taken:?}");
        let fault = refused.unwrap_err();
        assert_eq!(fault.kind.status(), 400);
        assert!(fault.message.ends_with(reason), "{fault}");
    }
}

#[test]
fn a_huge_value_is_not_repeated_in_full() {
    let message = refusal(Kind::Network, json!({"name": "x".repeat(1 << 20)}));
    assert!(message.len() < 500, "{} bytes", message.len());
}

#[test]
fn structured_values_are_kept_in_one_form() {
    let row = post(
        Kind::Port,
        json!({
            "network_id": ID, "mac_address": "0011.2233.4455",
            "fixed_ips": [{"subnet_id": "s", "ip_address": "2001:DB8::1"}],
            "binding:profile": {"tunneling_ip": "10.0.0.1", "other": [1]},
        }),
    )
    .unwrap();
    assert_eq!(row.text("fixed_ips"), r#"[{"ip_address":"2001:db8::1"}]"#);
    assert_eq!(
        row.text("binding:profile"),
        r#"{"tunneling_ip":"10.0.0.1","other":[1]}"#
    );
}

#[test]
fn the_path_gives_the_parent() {
    let resource = Resource::of(Kind::L2RemoteMac);
    let nested = |body: Json| {
        let context = Context {
            project: "",
            parent: Some(("rgw_connection", ID)),
        };
        create(resource, body.as_object().unwrap(), context)
    };
    let row = nested(json!({"mac": "00:11:22:33:44:55"})).unwrap();
    assert_eq!(row.get("rgw_connection"), &reference(ID));
    assert!(nested(json!({"mac": "00:11:22:33:44:55", "rgw_connection": ID})).is_ok());
    assert_eq!(
        nested(json!({"mac": "00:11:22:33:44:55", "rgw_connection": "other"}))
            .unwrap_err()
            .message,
        "'rgw_connection' and the path do not match"
    );
}

#[test]
fn filters_match_what_the_database_keeps() {
    let remote = Resource::of(Kind::L2RemoteMac);
    let condition = |resource, key, text| filter(resource, key, text).map(|(_, c)| c);
    let id = Uuid::parse_str(ID).unwrap();
    assert_eq!(
        filter(remote, "uuid", &ID.to_uppercase()),
        Some((0, Condition::Is(Value::Uuid(id))))
    );
    assert_eq!(
        condition(remote, "mac", "00-11-22-33-44-55"),
        Some(Condition::Is(Value::Mac(
            "00:11:22:33:44:55".parse().unwrap()
        )))
    );
    assert_eq!(condition(remote, "mac", "junk"), Some(Condition::Never));
    assert_eq!(
        condition(remote, "rgw_connection", "name"),
        Some(Condition::Never)
    );
    assert_eq!(condition(remote, "verbose", "True"), None);
    assert_eq!(condition(remote, "attachment_id", ID), None);
    let network = Resource::of(Kind::Network);
    assert_eq!(
        condition(network, "name", ""),
        Some(Condition::Is("".into()))
    );
    assert_eq!(
        condition(network, "router:external", "False"),
        Some(Condition::Always)
    );
    assert_eq!(
        condition(network, "router:external", "True"),
        Some(Condition::Never)
    );
    assert_eq!(
        condition(network, "admin_state_up", "True"),
        Some(Condition::Is(Value::Bool(true)))
    );
    let connection = Resource::of(Kind::L2GatewayConnection);
    assert_eq!(
        condition(connection, "segmentation_id", "77"),
        Some(Condition::Is(Value::Integer(77)))
    );
    assert_eq!(
        condition(Resource::of(Kind::L2Gateway), "devices", "x"),
        None
    );
}

#[test]
fn segments_or_provider_attributes_not_both() {
    let network = &table::NETWORK;
    let body = |mut body: Json| {
        body["segments"] = json!([{"provider:network_type": "vxlan"}]);
        create(network, body.as_object().unwrap(), Context::default())
    };
    body(json!({"provider:segmentation_id": null, "name": "n"})).unwrap();
    for name in [
        "provider:network_type",
        "provider:physical_network",
        "provider:segmentation_id",
    ] {
        let value = if name.ends_with("id") {
            json!(5)
        } else {
            json!("vxlan")
        };
        let fault = body(json!({name: value})).unwrap_err();
        assert_eq!(
            fault.kind,
            FaultKind::SegmentsSetInConjunctionWithProviders,
            "{name}"
        );
    }
}

#[test]
fn what_is_always_the_same_may_be_said() {
    let network = &table::NETWORK;
    let with = |body: Json| create(network, body.as_object().unwrap(), Context::default());
    with(json!({"shared": false, "router:external": false})).unwrap();
    let fault = with(json!({"shared": true})).unwrap_err();
    assert_eq!(
        fault.message,
        "Invalid input for shared. Reason: 'True' is not supported."
    );
    let fault = with(json!({"subnets": []})).unwrap_err();
    assert_eq!(fault.message, "Attribute 'subnets' not allowed in POST");
}

#[test]
fn references_are_ids_in_their_usual_form_only() {
    let id = Value::Uuid(Uuid::parse_str(ID).unwrap());
    assert_eq!(reference(ID), id);
    assert_eq!(reference(&ID.to_uppercase()), id);
    for text in [&ID.replace('-', ""), "", "network", &format!("{{{ID}}}")] {
        assert_eq!(reference(text), text.into());
    }
    assert!(matches!(
        table::L2_REMOTE_MAC
            .attribute("rgw_connection")
            .unwrap()
            .shape,
        Shape::Reference(Kind::L2RemoteGatewayConnection, OnDelete::Cascade)
    ));
}
