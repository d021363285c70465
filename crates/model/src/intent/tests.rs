use proptest::prelude::*;

use super::*;
use crate::plan::plan;
use crate::row::Value;
use crate::switch::SwitchState;

fn id(n: u128) -> Uuid {
    Uuid::from_u128(n)
}

fn row(kind: Kind, n: u128, values: &[(&str, Value)]) -> Row {
    let mut row = Row::empty(kind);
    row.set("id", Value::Uuid(id(n)));
    row.revision = u64::try_from(n).unwrap();
    for (name, value) in values {
        row.set(name, value.clone());
    }
    row
}

fn ip(text: &str) -> Value {
    Value::Ip(text.parse().unwrap())
}

fn mac(text: &str) -> Value {
    Value::Mac(text.parse().unwrap())
}

fn reference(n: u128) -> Value {
    Value::Uuid(id(n))
}

fn network(n: u128, vni: i64) -> Row {
    row(
        Kind::Network,
        n,
        &[
            ("provider:network_type", "vxlan".into()),
            ("provider:segmentation_id", Value::Integer(vni)),
        ],
    )
}

fn gateway(n: u128, devices: &str) -> Row {
    row(Kind::L2Gateway, n, &[("devices", devices.into())])
}

fn attachment(n: u128, gateway: u128, network: u128, vlan: i64) -> Row {
    row(
        Kind::L2GatewayConnection,
        n,
        &[
            ("l2_gateway_id", reference(gateway)),
            ("network_id", reference(network)),
            ("segmentation_id", Value::Integer(vlan)),
        ],
    )
}

fn port(n: u128, network: u128, address: &str, station: &str, host: &str) -> Row {
    row(
        Kind::Port,
        n,
        &[
            ("network_id", reference(network)),
            ("mac_address", mac(address)),
            (
                "fixed_ips",
                format!(r#"[{{"ip_address":"{station}"}}]"#).as_str().into(),
            ),
            (
                "binding:profile",
                format!(r#"{{"tunneling_ip":"{host}"}}"#).as_str().into(),
            ),
        ],
    )
}

fn remote_gateway(n: u128, address: &str) -> Row {
    row(Kind::L2RemoteGateway, n, &[("ipaddr", ip(address))])
}

fn connection(n: u128, network: u128, remote_gateway: u128, key: i64, flood: bool) -> Row {
    row(
        Kind::L2RemoteGatewayConnection,
        n,
        &[
            ("l2_gateway_id", reference(10)),
            ("network_id", reference(network)),
            ("l2_remote_gateway_id", reference(remote_gateway)),
            ("segmentation_id", Value::Integer(key)),
            ("flood", Value::Bool(flood)),
        ],
    )
}

fn remote_mac(n: u128, connection: u128, address: &str, station: Option<&str>) -> Row {
    row(
        Kind::L2RemoteMac,
        n,
        &[
            ("rgw_connection", reference(connection)),
            ("mac", mac(address)),
            ("ipaddr", station.map_or(Value::Null, ip)),
        ],
    )
}

const BORDER: &str =
    r#"[{"device_name":"bgw","interfaces":[{"name":"border","segmentation_id":[]}]}]"#;

/// The specification's picture: key 123 inside, 456 on the WAN, one remote gateway.
fn picture() -> Vec<Row> {
    vec![
        network(1, 123),
        port(2, 1, "00:00:00:00:00:0a", "192.0.2.10", "10.1.0.1"),
        gateway(10, BORDER),
        attachment(11, 10, 1, 0),
        remote_gateway(20, "203.0.113.2"),
        connection(21, 1, 20, 456, true),
        remote_mac(22, 21, "00:00:00:00:00:0b", Some("192.0.2.11")),
    ]
}

fn intent(rows: &[Row]) -> Intent {
    let mut intent = Intent::default();
    for row in rows {
        intent.put(row).unwrap();
    }
    intent
}

fn switches(names: &[&str]) -> BTreeSet<Arc<str>> {
    names.iter().map(|name| Arc::from(*name)).collect()
}

/// The state as the plan that makes it on an empty switch: the text people read.
fn described(intent: &Intent, on: &[&str]) -> String {
    let desired = intent.desired(&switches(on));
    let mut empty = SwitchState::default();
    let bound = desired.state.bindings.keys();
    empty.ports = bound.map(|port_vlan| port_vlan.port.clone()).collect();
    let conflicts = desired.conflicts.values();
    let conflicts: String = conflicts.map(|why| format!("conflict: {why}\n")).collect();
    format!("{}{conflicts}", plan(&desired.state, &empty))
}

#[test]
fn the_specifications_picture_becomes_what_a_border_gateway_needs() {
    insta::assert_snapshot!(described(&intent(&picture()), &["bgw", "other"]), @r"
    + logical switch 00000000-0000-0000-0000-000000000001 key 123
    + mac 00:00:00:00:00:0a on 00000000-0000-0000-0000-000000000001 via 10.1.0.1 ip 192.0.2.10
    + mac 00:00:00:00:00:0b on 00000000-0000-0000-0000-000000000001 via 203.0.113.2 key 456 ip 192.0.2.11
    + flood on 00000000-0000-0000-0000-000000000001 nowhere -> 10.1.0.1, 203.0.113.2 key 456
    + binding bgw:border vlan 0 to 00000000-0000-0000-0000-000000000001
    ");
}

#[test]
fn a_switch_that_no_gateway_names_needs_nothing() {
    assert_eq!(described(&intent(&picture()), &["other"]), "");
}

#[test]
fn a_remote_gateway_that_does_not_flood_gets_its_macs_only() {
    let mut rows = picture();
    rows[5] = connection(21, 1, 20, 456, false);
    let text = described(&intent(&rows), &["bgw"]);
    assert!(text.contains("nowhere -> 10.1.0.1\n"), "{text}");
    assert!(text.contains("via 203.0.113.2 key 456"), "{text}");
}

#[test]
fn vlans_of_the_gateway_win_over_none_of_the_connection() {
    let mut rows = picture();
    rows[2] = gateway(
        10,
        r#"[{"device_name":"bgw","interfaces":[{"name":"p1","segmentation_id":["100","200"]}]},
            {"device_name":"far","interfaces":[{"name":"p9","segmentation_id":["300"]}]}]"#,
    );
    let text = described(&intent(&rows), &["bgw"]);
    let bindings: Vec<_> = text.lines().filter(|l| l.contains("binding")).collect();
    assert_eq!(
        bindings,
        [
            "+ binding bgw:p1 vlan 100 to 00000000-0000-0000-0000-000000000001",
            "+ binding bgw:p1 vlan 200 to 00000000-0000-0000-0000-000000000001",
        ]
    );
}

#[test]
fn what_is_declared_remote_wins_over_the_catalogues_port() {
    let mut rows = picture();
    rows.push(port(30, 1, "00:00:00:00:00:0b", "192.0.2.99", "10.1.0.2"));
    let text = described(&intent(&rows), &["bgw"]);
    assert!(
        text.contains("00:00:00:00:00:0b on 00000000-0000-0000-0000-000000000001 via 203.0.113.2 key 456 ip 192.0.2.11"),
        "{text}"
    );
}

#[test]
fn the_older_of_two_claims_on_a_port_wins_and_the_younger_is_told() {
    let mut rows = picture();
    rows.extend([network(3, 124), attachment(40, 10, 3, 0)]);
    let text = described(&intent(&rows), &["bgw"]);
    assert!(
        text.contains("binding bgw:border vlan 0 to 00000000-0000-0000-0000-000000000001"),
        "{text}"
    );
    assert!(
        text.contains("conflict: bgw:border vlan 0 already carries network 00000000-0000-0000-0000-000000000001"),
        "{text}"
    );
}

#[test]
fn a_network_that_is_not_vxlan_is_not_attached() {
    let mut rows = picture();
    rows[0].set("provider:network_type", "flat".into());
    assert_eq!(
        described(&intent(&rows), &["bgw"]),
        "conflict: network 00000000-0000-0000-0000-000000000001 is not a VXLAN network\n"
    );
}

#[test]
fn changing_a_remote_gateways_address_moves_what_leads_there() {
    let mut intent = intent(&picture());
    intent.put(&remote_gateway(20, "203.0.113.9")).unwrap();
    let text = described(&intent, &["bgw"]);
    assert!(!text.contains("203.0.113.2 "), "{text}");
    assert_eq!(text.matches("203.0.113.9 key 456").count(), 2, "{text}");
}

#[test]
fn a_tunnel_is_watched_where_one_of_the_remote_gateways_of_its_address_asks_for_it() {
    for (older, younger) in [(true, false), (false, true), (false, false)] {
        let mut rows = picture();
        let mut second = remote_gateway(30, "203.0.113.2");
        second.set("bfd", Value::Bool(younger));
        rows.extend([second, connection(31, 1, 30, 457, true)]);
        rows[4].set("bfd", Value::Bool(older));
        let desired = intent(&rows).desired(&switches(&["bgw"]));
        let asked = BTreeMap::from([("203.0.113.2".parse().unwrap(), older || younger)]);
        assert_eq!(desired.bfd, asked, "older: {older}, younger: {younger}");
    }
}

#[test]
fn deleting_a_connection_takes_its_macs_along() {
    let mut with = intent(&picture());
    with.remove(Kind::L2RemoteGatewayConnection, id(21));
    let without: Vec<_> = picture().into_iter().take(5).collect();
    assert_eq!(with, intent(&without));
}

#[test]
fn deleting_a_network_takes_its_attachments_along() {
    let mut with = intent(&picture()[..4]);
    with.remove(Kind::Port, id(2));
    with.remove(Kind::Network, id(1));
    assert_eq!(with, intent(&picture()[2..3]));
}

#[test]
fn a_mac_deleted_and_declared_anew_is_there() {
    let mut intent = intent(&picture());
    // The feed shows deletions first.
    intent.remove(Kind::L2RemoteMac, id(22));
    intent
        .put(&remote_mac(23, 21, "00:00:00:00:00:0b", None))
        .unwrap();
    let text = described(&intent, &["bgw"]);
    assert!(
        text.contains(
            "00:00:00:00:00:0b on 00000000-0000-0000-0000-000000000001 via 203.0.113.2 key 456\n"
        ),
        "{text}"
    );
}

#[test]
fn as_many_macs_take_as_much_room_however_many_came_and_went() {
    let mut intent = intent(&picture());
    // As unordered as the ids of a database.
    let scattered = |n: u128| n.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    let declare = |intent: &mut Intent, n: u128| {
        let address = MacAddress::from_u64(0x0200_0000_0000 + u64::try_from(n).unwrap());
        let mut row = remote_mac(1, 21, &address.to_string(), None);
        row.set("id", Value::Uuid(id(scattered(n))));
        intent.put(&row).unwrap();
    };
    for n in 0..10_000 {
        declare(&mut intent, n);
    }
    let room = intent.remote_macs.capacity();
    for n in 0..100_000 {
        declare(&mut intent, n + 10_000);
        intent.remove(Kind::L2RemoteMac, id(scattered(n)));
    }
    assert_eq!(intent.remote_macs.capacity(), room);
}

#[test]
fn a_row_the_database_corrupted_is_an_error_and_changes_nothing() {
    let mut held = intent(&picture());
    let before = held.clone();
    assert!(held.put(&gateway(10, "[{")).is_err());
    assert_eq!(held, before);
}

proptest! {
    #[test]
    fn the_order_of_rows_does_not_matter(rows in Just(picture()).prop_shuffle()) {
        prop_assert_eq!(intent(&rows), intent(&picture()));
    }

    #[test]
    fn taking_a_row_twice_is_taking_it_once(again in 0..7_usize) {
        let mut twice = intent(&picture());
        twice.put(&picture()[again]).unwrap();
        prop_assert_eq!(twice, intent(&picture()));
    }
}

/// Two networks on the gateway, the first one with two connections, each with its own remote gateway; a port, and a network
/// that is nowhere.
fn ground() -> Vec<Row> {
    let mut rows = picture();
    rows.extend([
        network(3, 124),
        attachment(12, 10, 3, 7),
        network(4, 125),
        remote_gateway(30, "203.0.113.3"),
        connection(31, 1, 30, 457, false),
        connection(41, 3, 20, 458, true),
        connection(51, 4, 20, 459, true),
    ]);
    rows
}

fn address(n: u8) -> MacAddress {
    MacAddress::new([0, 0, 0, 0, 0, n])
}

/// Declares a MAC behind one of the ground's connections, or takes it back.
fn change_mac(intent: &mut Intent, (connection, n, there): (u128, u8, bool)) -> Touch {
    let number = connection * 100 + u128::from(n);
    if there {
        let text = address(n).to_string();
        let station = (n % 2 == 0).then_some("192.0.2.77");
        intent
            .put(&remote_mac(number, connection, &text, station))
            .unwrap()
    } else {
        intent.remove(Kind::L2RemoteMac, id(number))
    }
}

proptest! {
    /// What is told of one MAC is what everything says of it, and what is not told of did not change.
    #[test]
    fn looking_at_the_macs_that_were_touched_is_looking_at_everything(
        before in proptest::collection::vec((prop::sample::select(vec![21_u128, 31, 41, 51]), 9..14_u8, any::<bool>()), 0..12),
        after in proptest::collection::vec((prop::sample::select(vec![21_u128, 31, 41, 51]), 9..14_u8, any::<bool>()), 0..6),
    ) {
        let mut intent = intent(&ground());
        for change in before {
            change_mac(&mut intent, change);
        }
        let on = switches(&["bgw"]);
        let old = intent.desired(&on);
        let mut patched = old.state.clone();
        let mut contested = false;
        let touched: Vec<_> = after.into_iter().map(|change| change_mac(&mut intent, change)).collect();
        for touch in touched {
            let key = match touch {
                Touch::Mac(key) => key,
                Touch::Nothing => continue,
                Touch::Everything => panic!("a MAC touches a MAC"),
            };
            let Some(network) = patched.logical_switches.get_mut(&key.0) else {
                // Nothing of it is on this switch.
                prop_assert_eq!(&key.0, &LogicalSwitchName::new(id(4).to_string()));
                continue;
            };
            match intent.desired_mac(&old, &key) {
                Ok(Some(mac)) => drop(network.macs.insert(key.1, mac)),
                Ok(None) => drop(network.macs.remove(&key.1)),
                Err(Contested) => contested = true,
            }
        }
        let new = intent.desired(&on);
        if contested {
            prop_assert!(!(old.conflicts.is_empty() && new.conflicts.is_empty()));
        } else {
            prop_assert_eq!(patched, new.state);
            prop_assert_eq!(old.conflicts, new.conflicts);
        }
    }
}

#[test]
fn what_more_than_macs_depend_on_touches_everything() {
    let mut intent = intent(&ground());
    let rows = ground();
    let structural = rows
        .iter()
        .filter(|row| row.resource.kind != Kind::L2RemoteMac);
    for row in structural {
        assert_eq!(intent.put(row).unwrap(), Touch::Everything, "{row:?}");
    }
    // The port below the remote MACs comes to light when they go.
    let of_port = "00:00:00:00:00:0a";
    intent.put(&remote_mac(90, 21, of_port, None)).unwrap();
    let desired = intent.desired(&switches(&["bgw"]));
    let touch = intent.remove(Kind::L2RemoteMac, id(90));
    let key = (
        LogicalSwitchName::new(id(1).to_string()),
        of_port.parse().unwrap(),
    );
    assert_eq!(touch, Touch::Mac(key.clone()));
    let now = intent.desired_mac(&desired, &key).unwrap().unwrap();
    assert_eq!(now.locator.to_string(), "10.1.0.1");
}
