//! Whatever a client sends, the answer is one of the API's own: no 5xx, a refusal in Neutron's shape, and the server goes
//! on. A real server on a real socket is asked; the requests are damaged recordings of what networking-l2gw was sent.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail the test"
)]

mod asked;

use model::resource::Kind;
use model::table;
use serde_json::{Value, json};
use testkit::fuzz;

use self::asked::Asked;

/// The requests that were recorded, see `tests/api/vectors.rs`.
const RECORDED: &str = include_str!("../api/vectors.json");

/// Texts that mean something in bodies.
const BODY_WORDS: [&str; 33] = [
    "null",
    "true",
    "\"\"",
    "[]",
    "{}",
    "[[[[",
    "-1",
    "0",
    "4095",
    "16777216",
    "1e400",
    "123456789012345678901234567890",
    "\"\\ud800\"",
    "\"\\u0000\"",
    "\u{0}",
    "\"l2_gateway\":",
    "\"l2_remote_macs\":",
    "\"remote-mac\":",
    "\"devices\":",
    "\"interfaces\":",
    "\"segmentation_id\":",
    "\"id\":",
    "\"tenant_id\":",
    "\"project_id\":",
    "\"fixed_ips\":",
    "\"binding:profile\":",
    "\"mac\":\"02:00:00:00:00:01\"",
    "\"ipaddr\":\"192.0.2.1\"",
    "\"ff:ff:ff:ff:ff:ff\"",
    "\"::\"",
    "00000000-0000-0000-0000-000000000000",
    "\u{feff}",
    "\\",
];

/// Texts that mean something in queries.
const QUERY_WORDS: [&str; 24] = [
    "&",
    "=",
    "%00",
    "%ff%fe",
    "%zz",
    "+",
    "fields=",
    "fields=id",
    "limit=",
    "limit=1",
    "limit=-1",
    "limit=99999999999999999999",
    "marker=",
    "marker=00000000-0000-0000-0000-000000000000",
    "page_reverse=True",
    "sort_key=",
    "sort_key=name",
    "sort_dir=desc",
    "status=ACTIVE",
    "revision_number=1",
    "created_at=2026-01-01T00:00:00Z",
    "tenant_id=",
    "mac=02:00:00:00:00:01",
    "ipaddr=::1",
];

fn recorded() -> Vec<Value> {
    serde_json::from_str(RECORDED).unwrap()
}

/// Bodies of every resource, with ids of what is there.
fn bodies(asked: &Asked) -> Vec<Vec<u8>> {
    let of_recordings = recorded().into_iter().filter_map(|vector| {
        let raw = vector["raw_body"].as_str().map(str::to_owned);
        let body = vector.get("body").filter(|body| !body.is_null());
        let text = raw.or_else(|| Some(body?.to_string()))?;
        Some(asked.with_ids(&text).into_bytes())
    });
    let own = [
        json!({"network": {"name": "n", "provider:network_type": "vxlan", "provider:segmentation_id": 7, "mtu": 1450}}),
        json!({"port": {"network_id": "{net1}", "mac_address": "02:00:00:00:00:09", "fixed_ips": [{"ip_address": "192.0.2.9"}],
            "binding:host_id": "h", "binding:profile": {"tunneling_ip": "10.0.0.9"}}}),
        json!({"l2_remote_gateway": {"name": "far", "ipaddr": "198.51.100.7", "bfd": true}}),
        json!({"l2_remote_gateway_connection": {"gateway": "{gw_noseg}", "network": "{net1}", "remote_gateway": "{far}",
            "seg_id": "456", "flood": "False"}}),
        json!({"remote-macs": [{"mac": "02:00:00:00:00:01", "ipaddr": "192.0.2.1", "rgw_connection": "{stretch}"},
            {"mac": "02:00:00:00:00:02", "ip_addr": "2001:db8::1", "rgw_connection": "{stretch}"}]}),
        json!({"quota": {"l2_gateway": 10, "l2_remote_mac": -1}}),
    ];
    let own = own
        .into_iter()
        .map(|body| asked.with_ids(&body.to_string()).into_bytes());
    of_recordings.chain(own).collect()
}

fn queries(asked: &Asked) -> Vec<Vec<u8>> {
    let of_recordings = recorded().into_iter().filter_map(|vector| {
        let (_, query) = vector["path"].as_str()?.split_once('?')?;
        Some(asked.with_ids(query).into_bytes())
    });
    let own = [
        "sort_key=name&sort_key=id&sort_dir=asc&sort_dir=desc&limit=3",
        "limit=2&marker={gw_noseg}&page_reverse=True&sort_key=tenant_id&sort_dir=desc",
        "mac=02:00:00:00:00:01&mac=02-00-00-00-00-02&fields=mac&fields=status",
        "status=ERROR&status=BUILD&limit=5&page_reverse=True",
    ];
    let own = own.map(|query| asked.with_ids(query).into_bytes());
    of_recordings.chain(own).collect()
}

#[test]
fn any_body_is_taken_or_refused_in_words() {
    let asked = Asked::start();
    let paths: Vec<_> = table::ALL
        .iter()
        .map(|resource| format!("/v2.0/{}", resource.path))
        .chain([asked.with_ids("/v2.0/l2-remote-gateway-connections/{stretch}/remote-macs")])
        .map(|path| ("POST", path))
        .chain([
            ("PUT", asked.with_ids("/v2.0/l2-gateways/{gw_noseg}")),
            ("PUT", asked.with_ids("/v2.0/l2-remote-gateways/{far}")),
            ("PUT", asked.with_ids("/v2.0/networks/{net1}")),
            ("PUT", "/v2.0/quotas/p1".to_owned()),
        ])
        .collect();
    let mut turn = 0;
    let tried = fuzz::run(&bodies(&asked), &BODY_WORDS, |body| {
        // Where the body belongs, mostly; else it is one more wrong body.
        let member = |path: &str| {
            let resource = table::ALL.iter().find(|r| path.ends_with(r.path));
            let named = |key: &str| body.windows(key.len()).any(|w| w == key.as_bytes());
            resource.is_some_and(|r| named(r.member) || named(r.collection))
        };
        turn += 1;
        let fitting: Vec<_> = paths.iter().filter(|(_, path)| member(path)).collect();
        let (method, path) = match fitting.get(turn % (fitting.len() + 1)) {
            Some(fitting) => fitting,
            None => &paths[turn % paths.len()],
        };
        asked.send(method, path, body);
    });
    assert!(tried > 50, "{tried}");
    asked.still_answers();
}

#[test]
fn any_query_is_answered_or_refused_in_words() {
    let asked = Asked::start();
    let mut paths: Vec<_> = table::ALL
        .iter()
        .map(|resource| format!("/v2.0/{}", resource.path))
        .collect();
    paths.push(asked.with_ids("/v2.0/l2-gateways/{gw_noseg}"));
    paths.push("/v2.0/extensions".to_owned());
    paths.push("/v2.0/l2-devices".to_owned());
    paths.push("/v2.0/l2-local-macs".to_owned());
    let mut turn = 0;
    let tried = fuzz::run(&queries(&asked), &QUERY_WORDS, |query| {
        turn += 1;
        let path = &paths[turn % paths.len()];
        let query = String::from_utf8_lossy(query);
        asked.send("GET", &format!("{path}?{query}"), b"");
    });
    assert!(tried > 50, "{tried}");
    asked.still_answers();
}

#[test]
fn the_fixtures_reach_every_kind_of_resource() {
    let asked = Asked::start();
    for resource in table::ALL {
        if resource.kind != Kind::Port {
            let listed = asked.get(&format!("/v2.0/{}", resource.path));
            let rows = listed[resource.collection].as_array().unwrap();
            assert!(!rows.is_empty(), "{}", resource.path);
        }
    }
}
