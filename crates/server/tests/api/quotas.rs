//! Quotas: shown, set, enforced.

use serde_json::{Value, json};

use crate::fixture::{Fixture, error, mac};

async fn set(server: &Fixture, project: &str, quota: Value) {
    let path = format!("/v2.0/quotas/{project}");
    let (status, body) = server.put(&path, json!({"quota": quota})).await;
    assert_eq!(status, 200, "{body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn quotas_are_unlimited_until_they_are_set_and_again_when_they_are_deleted() {
    let server = Fixture::start().await;
    let unlimited = json!({"quota": {
        "network": -1, "port": -1, "l2_gateway": -1, "l2-gateway-connection": -1,
        "l2_remote_gateway": -1, "l2_remote_gateway_connection": -1, "l2_remote_mac": -1,
    }});
    assert_eq!(server.get("/v2.0/quotas").await, json!({"quotas": []}));
    assert_eq!(server.get("/v2.0/quotas/t1").await, unlimited);
    // Either spelling is understood, one is answered.
    set(&server, "t1", json!({"l2_gateway_connection": 3})).await;
    set(&server, "t1", json!({"l2-remote-mac": "7", "network": 0})).await;
    let shown = server.get("/v2.0/quotas/t1.json").await;
    let mut wanted = unlimited.clone();
    wanted["quota"]["l2-gateway-connection"] = 3.into();
    wanted["quota"]["l2_remote_mac"] = 7.into();
    wanted["quota"]["network"] = 0.into();
    assert_eq!(shown, wanted);
    assert_eq!(server.get("/v2.0/quotas/t1/default").await, unlimited);
    assert_eq!(server.get("/v2.0/quotas/t2").await, unlimited);
    let list = server.get("/v2.0/quotas").await;
    assert_eq!(list["quotas"].as_array().unwrap().len(), 1);
    assert_eq!(list["quotas"][0]["project_id"], "t1");
    assert_eq!(list["quotas"][0]["l2_remote_mac"], 7);

    let server = server.restarted().await;
    assert_eq!(server.get("/v2.0/quotas/t1").await, wanted);
    assert_eq!(server.delete("/v2.0/quotas/t1").await.0, 204);
    assert_eq!(server.get("/v2.0/quotas/t1").await, unlimited);
    let (status, kind, message) = error(server.delete("/v2.0/quotas/t1").await);
    assert_eq!((status, kind.as_str()), (404, "TenantQuotaNotFound"));
    assert_eq!(message, "Quota for tenant t1 could not be found.");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_project_over_its_quota_makes_nothing_more() {
    let server = Fixture::start().await;
    set(&server, "t1", json!({"network": 2})).await;
    let of = |tenant: &str| json!({"tenant_id": tenant});
    server.create("networks", of("t1")).await;
    let both = json!({"networks": [of("t1"), of("t1")]});
    let (status, kind, message) = error(server.post("/v2.0/networks", both).await);
    assert_eq!((status, kind.as_str()), (409, "OverQuota"));
    assert_eq!(
        message,
        "Item 1: Quota exceeded for resources: ['network']."
    );
    server.create("networks", of("t1")).await;
    let (status, _, message) = server.refused("networks", of("t1")).await;
    assert_eq!(status, 409);
    assert_eq!(message, "Quota exceeded for resources: ['network'].");
    server.create("networks", of("t2")).await;

    let details = server.get("/v2.0/quotas/t1/details").await;
    assert_eq!(
        details["quota"]["network"],
        json!({"limit": 2, "used": 2, "reserved": 0})
    );
    let network = server.get("/v2.0/networks?tenant_id=t1&fields=id").await;
    let network = network["networks"][0]["id"].as_str().unwrap();
    server.delete(&format!("/v2.0/networks/{network}")).await;
    server.create("networks", of("t1")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_at_the_same_time_do_not_share_the_last_place() {
    let server = Fixture::start().await;
    set(&server, "admin", json!({"l2_remote_gateway": 3})).await;
    let far = |number: u8| json!({"l2_remote_gateway": {"ipaddr": format!("192.0.2.{number}")}});
    let posts = (1..=8).map(|number| server.post("/v2.0/l2-remote-gateways", far(number)));
    let replies = futures_util::future::join_all(posts).await;
    let made = replies.iter().filter(|(status, _)| *status == 201).count();
    assert_eq!(made, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_counts_for_the_project_of_its_gateway() {
    let server = Fixture::start().await;
    let network = server.network(5).await;
    let gateway = server.gateway("tor1", "eth1").await;
    set(&server, "admin", json!({"l2_gateway_connection": 0})).await;
    let connection = json!({
        "l2_gateway_id": gateway, "network_id": network, "segmentation_id": "5",
        "tenant_id": "somebody",
    });
    let (status, kind, _) = server.refused("l2-gateway-connections", connection).await;
    assert_eq!((status, kind.as_str()), (409, "OverQuota"));
}

#[tokio::test(flavor = "multi_thread")]
async fn defaults_are_the_operators() {
    let server = Fixture::with(|options| {
        options.allow_unknown_devices = true;
        options.quota = vec!["l2_remote_mac=1".parse().unwrap()];
    })
    .await;
    let connection = server.stretched(5).await;
    let at = |number| json!({"mac": mac(number), "rgw_connection": connection});
    server.create("l2-remote-macs", at(1)).await;
    assert_eq!(server.refused("l2-remote-macs", at(2)).await.0, 409);
    set(&server, "admin", json!({"l2_remote_mac": -1})).await;
    server.create("l2-remote-macs", at(2)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_quota_is_refused() {
    let server = Fixture::start().await;
    server.network(5).await;
    for (quota, part) in [
        (
            json!({"zzz": 1, "bogus": 1}),
            "Unrecognized attribute(s) 'bogus, zzz'",
        ),
        (
            json!({"network": -2}),
            "Invalid input for network. Reason: '-2' is too small - must be at least '-1'.",
        ),
        (
            json!({"network": 2_147_483_648_u32}),
            "Invalid input for network. Reason: '2147483648' is too large - must be no larger than '2147483647'.",
        ),
        (
            json!({"network": null}),
            "Invalid input for network. Reason: 'None' is not an integer.",
        ),
        (
            json!({"network": 0, "check_limit": true}),
            "Quota limit 0 for network must be greater than or equal to already used 1",
        ),
    ] {
        let body = json!({"quota": quota});
        let (status, _, message) = error(server.put("/v2.0/quotas/admin", body).await);
        assert_eq!((status, message.as_str()), (400, part));
    }
    let (_, _, message) = error(server.put("/v2.0/quotas/t1", json!({"x": 1})).await);
    assert_eq!(message, "Unable to find 'quota' in request body");
    let (status, ..) = error(server.post("/v2.0/quotas/t1", json!({})).await);
    assert_eq!(status, 405);
    set(&server, "admin", json!({"network": 0, "force": true})).await;
}
