//! Whose token it is: `l2gw server` asks a real Keystone, believes it for a while, and lives without it for as long.

use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use anyhow::ensure;
use serde_json::{Value, json};
use testkit::keystone::{ADMIN, ALICE, Keystone};
use testkit::run::eventually;

use crate::site::{KEPT, KEYSTONE, Site};

const GATEWAYS: &str = "/v2.0/l2-gateways";
/// How long something may take that Keystone has a part in, on a machine with other things to do.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn without_a_good_token_the_answer_is_keystonemiddlewares() {
    let site = Site::start();
    let uri = site.keystone().url();
    let uri = uri.trim_end_matches("/v3");
    let unscoped = site.keystone().token_without_project(&ADMIN).unwrap();
    let revoked = site.keystone().token(&ADMIN).unwrap();
    site.keystone().revoke(&revoked).unwrap();
    for token in [None, Some("made-up"), Some(&*revoked), Some(&*unscoped)] {
        let answer = site.get(token, GATEWAYS);
        assert_eq!(answer.status, 401, "{token:?}: {}", answer.body);
        let challenge = format!("Keystone uri=\"{uri}\"");
        assert_eq!(answer.header("www-authenticate"), Some(&*challenge));
        let body = json!({"error": {
            "code": 401, "title": "Unauthorized",
            "message": "The request you have made requires authentication.",
        }});
        assert_eq!(answer.json().unwrap(), body);
    }
}

#[test]
fn one_question_serves_all_requests_with_a_token() {
    let site = Site::start();
    let token = site.keystone().token(&ADMIN).unwrap();
    std::thread::scope(|threads| {
        for _ in 0..16 {
            threads.spawn(|| assert_eq!(site.get(Some(&token), GATEWAYS).status, 200));
        }
    });
    assert_eq!(site.get(Some(&token), GATEWAYS).status, 200);
    assert_eq!(site.keystone().inspections(&token).unwrap(), 1);
}

#[test]
fn a_revoked_token_is_good_until_the_cache_time_is_over() {
    let patient = Site::start();
    let hasty = Site::with(&KEYSTONE, "http", |command, _| {
        command.args(["--token-cache-time", "1"]);
    });
    let token = patient.keystone().token(&ADMIN).unwrap();
    for site in [&patient, &hasty] {
        assert_eq!(site.get(Some(&token), GATEWAYS).status, 200);
    }
    patient.keystone().revoke(&token).unwrap();
    let refused = eventually("the revoked token is refused", PATIENCE, || {
        let answer = hasty.get(Some(&token), GATEWAYS);
        ensure!(answer.status == 401, "{} {}", answer.status, answer.body);
        Ok(())
    });
    refused.unwrap();
    assert_eq!(patient.get(Some(&token), GATEWAYS).status, 200);
}

#[test]
fn while_keystone_is_away_known_tokens_go_on_and_unknown_ones_wait() {
    static MORTAL: LazyLock<Keystone> = LazyLock::new(|| Keystone::start(Path::new(KEPT)).unwrap());
    let site = Site::with(&MORTAL, "http", |_, _| {});
    let known = site.keystone().token(&ADMIN).unwrap();
    let unknown = site.keystone().token(&ALICE).unwrap();
    assert_eq!(site.get(Some(&known), GATEWAYS).status, 200);
    assert_eq!(health(&site)["reason"], "OK");
    site.keystone().kill().unwrap();
    assert_eq!(site.get(Some(&known), GATEWAYS).status, 200);
    for token in ["made-up", &unknown] {
        let answer = site.get(Some(token), GATEWAYS);
        assert_eq!(answer.status, 503, "{}", answer.body);
        let seconds = answer.header("retry-after").unwrap();
        assert!(seconds.parse::<u32>().unwrap() > 0, "{seconds}");
        let error = &answer.json().unwrap()["NeutronError"];
        assert_eq!(error["type"], "ServiceUnavailable");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains("Keystone is not available"), "{message}");
    }
    let log = site.log();
    assert!(log.contains("Unable to reach Keystone at http://"), "{log}");
    // Load balancers go on sending requests: no other server would fare better.
    assert_eq!(site.get(None, "/healthcheck").body, "OK");
    assert_eq!(health(&site)["reason"], "KEYSTONE UNAVAILABLE");
    site.keystone().start_again().unwrap();
    assert_eq!(site.get(Some("made-up"), GATEWAYS).status, 401);
    assert_eq!(site.get(Some(&unknown), GATEWAYS).status, 403);
    assert_eq!(site.get(Some(&known), GATEWAYS).status, 200);
    assert_eq!(health(&site)["reason"], "OK");
}

/// What the health check finds of Keystone.
fn health(site: &Site) -> Value {
    let detail = site.get(None, "/healthcheck?detailed").json().unwrap();
    let findings = detail["reasons"].as_array().unwrap();
    let found = findings
        .iter()
        .find(|finding| finding["class"] == "Keystone");
    found.unwrap().clone()
}

#[test]
fn a_service_user_that_keystone_refuses_is_told_in_the_log_at_the_start() {
    let site = Site::with(&KEYSTONE, "http", |command, _| {
        command.env("OS_PASSWORD", "mistyped");
    });
    let said = "cannot be asked whose tokens are, so requests with one get 503: The request you \
                have made requires authentication. (HTTP 401) (Request-ID: req-";
    let told = eventually("it says so", PATIENCE, || {
        ensure!(site.log().contains(said), "{}", site.log());
        Ok(())
    });
    told.unwrap();
    assert!(!site.log().contains("mistyped"), "{}", site.log());
    let token = site.keystone().token(&ADMIN).unwrap();
    assert_eq!(site.get(Some(&token), GATEWAYS).status, 503);
}

#[test]
fn a_policy_opens_to_members_what_it_says_and_403_beats_404() {
    let site = Site::with(&KEYSTONE, "http", |command, directory| {
        let policy = directory.join("policy.yaml");
        let rules = "owner: project_id:%(project_id)s\n\
                     get_network: rule:admin_only or rule:owner\n\
                     create_network: role:member and rule:owner\n";
        std::fs::write(&policy, rules).unwrap();
        command.arg("--policy-file").arg(policy);
    });
    let alice = site.keystone().token(&ALICE).unwrap();
    let admin = site.keystone().token(&ADMIN).unwrap();
    let networks = "/v2.0/networks";
    let create = |token: &str, name: &str| {
        let body = json!({"network": {"name": name}});
        let answer = site.request(Some(token), "POST", networks, Some(&body));
        answer.succeeded().unwrap()["network"].clone()
    };
    let hers = create(&alice, "hers");
    let names = |token: &str| {
        let answer = site.get(Some(token), &format!("{networks}?fields=name"));
        answer.succeeded().unwrap()["networks"].clone()
    };
    assert_eq!(names(&alice), json!([{"name": "hers"}]));
    assert_eq!(names(&admin), json!([{"name": "hers"}]));
    let path = format!("{networks}/{}", hers["id"].as_str().unwrap());
    assert_eq!(site.get(Some(&alice), &path).status, 200);
    // She may not delete, and does not learn what is there.
    for path in [path, format!("{networks}/nope")] {
        let answer = site.request(Some(&alice), "DELETE", &path, None);
        assert_eq!(answer.status, 403, "{}", answer.body);
    }
    assert_eq!(site.get(Some(&alice), "/v2.0/l2-gateways/nope").status, 403);
    assert_eq!(site.get(Some(&admin), "/v2.0/l2-gateways/nope").status, 404);
}
