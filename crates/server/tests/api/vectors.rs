//! What networking-l2gw 22.0.0 answered to the same requests, in the same order.
//!
//! `vectors.json` was recorded from it without a switch driver. Left out are requests of callers who are no
//! administrators and what rests on requests that were not recorded. "not found" of a connection names the id, which
//! upstream forgets. What is answered otherwise on purpose stands in [`BETTER`]; `docs/api-compatibility.md` says why.

use std::collections::BTreeMap;

use reqwest::Method;
use serde_json::{Value, json};

use crate::fixture::{Fixture, error, id, member, reply};

/// Requests that upstream refuses for want of a feature: status and part of the answer here.
const BETTER: &[(&str, u64, &str)] = &[
    (
        "bulk create one invalid",
        400,
        "Item 1: Invalid input for devices.",
    ),
    (
        "bulk create plugin-level invalid second",
        409,
        "Item 1: L2 gateway segmentation id must be consistent",
    ),
    (
        "bulk dict",
        400,
        "Object 'l2_gateways' contains invalid data",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn every_recorded_request_is_answered_as_upstream_answers_it() {
    let server = Fixture::start().await;
    let mut names = BTreeMap::new();
    for (name, kind) in [
        ("{net1}", "vxlan"),
        ("{net2}", "vxlan"),
        ("{net3}", "local"),
    ] {
        let network = json!({"name": name, "provider:network_type": kind});
        names.insert(name, id(&server.create("networks", network).await));
    }
    let mut vectors: Vec<Value> = serde_json::from_str(include_str!("vectors.json")).unwrap();
    assert!(vectors.len() > 120, "the recording is not whole");
    for vector in &mut vectors {
        fill(vector, &names);
        let text = |key: &str| vector[key].as_str().unwrap_or_default();
        let method: Method = text("method").parse().unwrap();
        let mut request = server.client.request(method, server.url(text("path")));
        if let Some(body) = vector.get("body") {
            request = request.json(body);
        }
        for (name, value) in vector["headers"].as_object().into_iter().flatten() {
            request = request.header(name, value.as_str().unwrap());
        }
        request = match text("raw_body") {
            "" => request,
            bytes if bytes.starts_with("<bytes>") => {
                request.body(&b"{\"l2_gateway\": {\"name\":\"\xff\"}}"[..])
            }
            raw => request.body(raw.to_owned()),
        };
        let (status, body) = reply(request).await;
        if let Some((_, wanted, part)) = BETTER.iter().find(|(name, ..)| *name == text("name")) {
            let (status, _, message) = error((status, body));
            assert_eq!(u64::from(status), *wanted, "{vector}: {message}");
            assert!(message.contains(part), "{vector}: {message}");
            continue;
        }
        assert_eq!(status.as_u16(), vector["expect_status"], "{vector}: {body}");
        if let Some(kind) = vector["expect_error_type"].as_str() {
            let (_, got, message) = error((status, body.clone()));
            assert_eq!(got, kind, "{vector}");
            let part = text("expect_message_contains");
            assert!(message.contains(part), "{vector}: {message}");
        }
        let name = match text("name") {
            "create ok no seg" => "{gw_noseg}",
            "create ok seg" => "{gw_seg}",
            "create ok multi seg multi if multi dev" => "{gw_multi}",
            "conn ok seg str" => "{conn1}",
            "conn ok gw with seg" => "{conn2}",
            _ => continue,
        };
        let collection = text("path").trim_start_matches("/v2.0/");
        names.insert(name, id(&body[member(collection)]));
    }
}

/// Replaces placeholders by the ids they stand for.
pub(crate) fn fill(value: &mut Value, names: &BTreeMap<&str, String>) {
    match value {
        Value::String(text) => {
            for (name, id) in names {
                *text = text.replace(name, id);
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|item| fill(item, names)),
        Value::Object(object) => object.values_mut().for_each(|item| fill(item, names)),
        _ => {}
    }
}
