//! Who asks, and what they may do: with a token file, which needs no Keystone.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use server::Server;
use server::auth::options::AuthOptions;
use tempfile::TempDir;

use crate::fixture::{Fixture, Reply, error, id, options};

const ADMIN: &str = "admins-token-0123";
const MEMBER: &str = "members-token-012";
const UNKNOWN: &str = "5f0d0f6a-0000-4000-8000-000000000000";
const FORBIDDEN: &str =
    "User does not have admin privileges: Cannot GET resource for non admin tenant.";

fn token_file(directory: &Path) -> std::path::PathBuf {
    let path = directory.join("tokens.yaml");
    let text = format!(
        "- {{token: {ADMIN}, user: root, project_id: ops, roles: [admin]}}\n- {{token: {MEMBER}, user: alice, project_id: p1, roles: [member]}}\n"
    );
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path
}

/// A server with a token file and this policy.
async fn server(directory: &TempDir, policy: Option<&str>) -> Fixture {
    let policy_file = policy.map(|text| {
        let path = directory.path().join("policy.yaml");
        std::fs::write(&path, text).unwrap();
        path
    });
    let token_file = Some(token_file(directory.path()));
    Fixture::with(|options| {
        options.allow_unknown_devices = true;
        options.auth = AuthOptions {
            token_file,
            policy_file,
            ..AuthOptions::default()
        };
    })
    .await
}

async fn asked(
    server: &Fixture,
    token: &str,
    method: Method,
    path: &str,
    body: Option<Value>,
) -> Reply {
    let request = server.client.request(method, server.url(path));
    let mut request = request.header("X-Auth-Token", token);
    if let Some(body) = body {
        request = request.json(&body);
    }
    crate::fixture::reply(request).await
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_good_token_the_answer_is_keystonemiddlewares() {
    let directory = TempDir::new().unwrap();
    let server = server(&directory, None).await;
    for token in [None, Some("made-up-0123456789")] {
        let mut request = server.client.get(server.url("/v2.0/l2-gateways"));
        if let Some(token) = token {
            request = request.header("X-Auth-Token", token);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        let challenge = response.headers()["www-authenticate"].to_str().unwrap();
        assert!(challenge.starts_with("Keystone uri=\""), "{challenge}");
        let body: Value = response.json().await.unwrap();
        assert_eq!(
            body,
            json!({"error": {"code": 401, "title": "Unauthorized",
                "message": "The request you have made requires authentication."}})
        );
    }
    let (status, _) = server.call(Method::GET, "/", None).await;
    assert_eq!(status, 200, "versions are for everybody");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_administrator_may_and_a_member_may_not() {
    let directory = TempDir::new().unwrap();
    let server = server(&directory, None).await;
    let gateway = json!({"l2_gateway": {"name": "g", "devices": [{"device_name": "d", "interfaces": [{"name": "e"}]}]}});
    let path = "/v2.0/l2-gateways";
    let (status, body) = asked(&server, ADMIN, Method::POST, path, Some(gateway.clone())).await;
    assert_eq!(status, 201, "{body}");
    assert_eq!(body["l2_gateway"]["tenant_id"], "ops");
    let known = format!("{path}/{}", id(&body["l2_gateway"]));
    let refused = error(asked(&server, MEMBER, Method::POST, path, Some(gateway)).await);
    assert_eq!((refused.0, &*refused.1), (403, "AdminRequired"));
    assert_eq!(
        refused.2,
        "User does not have admin privileges: Cannot CREATE resource for non admin tenant."
    );
    // The body is looked at first.
    let nonsense = Some(json!({"l2_gateway": {"name": 5}}));
    let refused = error(asked(&server, MEMBER, Method::POST, path, nonsense).await);
    assert_eq!(refused.0, 400);
    // Who may see nothing does not learn what there is.
    let unknown = format!("{path}/{UNKNOWN}");
    let rename = json!({"l2_gateway": {"name": "h"}});
    for path in [
        path,
        &known,
        &unknown,
        "/v2.0/l2-gateways/x",
        "/v2.0/l2-devices",
        "/v2.0/quotas",
    ] {
        let refused = error(asked(&server, MEMBER, Method::GET, path, None).await);
        assert_eq!((refused.0, &*refused.2), (403, FORBIDDEN), "{path}");
    }
    for path in [&known, &unknown] {
        let refused = error(asked(&server, MEMBER, Method::DELETE, path, None).await);
        assert_eq!((refused.0, &*refused.2), (403, FORBIDDEN), "{path}");
        let refused = error(asked(&server, MEMBER, Method::PUT, path, Some(rename.clone())).await);
        assert_eq!((refused.0, &*refused.2), (403, FORBIDDEN), "{path}");
    }
    let (status, _) = asked(&server, ADMIN, Method::DELETE, &known, None).await;
    assert_eq!(status, 204);
    let (status, _) = asked(&server, ADMIN, Method::GET, &known, None).await;
    assert_eq!(status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn owners_have_what_the_policy_gives_them_and_no_more() {
    let directory = TempDir::new().unwrap();
    let policy = "
owner: role:admin or project_id:%(project_id)s
create_network: rule:owner
get_network: rule:owner
delete_network: rule:owner
";
    let server = server(&directory, Some(policy)).await;
    let path = "/v2.0/networks";
    let network = |name: &str| Some(json!({"network": {"name": name}}));
    let (_, theirs) = asked(&server, ADMIN, Method::POST, path, network("ops")).await;
    let (status, mine) = asked(&server, MEMBER, Method::POST, path, network("mine")).await;
    assert_eq!(status, 201, "{mine}");
    assert_eq!(mine["network"]["tenant_id"], "p1");
    let (_, listed) = asked(
        &server,
        MEMBER,
        Method::GET,
        &format!("{path}?fields=name"),
        None,
    )
    .await;
    assert_eq!(listed, json!({"networks": [{"name": "mine"}]}));
    let (_, listed) = asked(
        &server,
        ADMIN,
        Method::GET,
        &format!("{path}?fields=name"),
        None,
    )
    .await;
    assert_eq!(listed["networks"].as_array().unwrap().len(), 2);
    for id in [id(&theirs["network"]), UNKNOWN.to_owned()] {
        let path = format!("{path}/{id}");
        for method in [Method::GET, Method::DELETE] {
            let refused = error(asked(&server, MEMBER, method, &path, None).await);
            assert_eq!((refused.0, &*refused.2), (403, FORBIDDEN));
        }
    }
    let foreign = Some(json!({"network": {"name": "x", "tenant_id": "ops"}}));
    let refused = error(asked(&server, MEMBER, Method::POST, path, foreign).await);
    assert_eq!(refused.0, 403);
    let path = format!("{path}/{}", id(&mine["network"]));
    let (status, _) = asked(&server, MEMBER, Method::DELETE, &path, None).await;
    assert_eq!(status, 204);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_make_no_sense_keep_the_server_from_starting() {
    let directory = TempDir::new().unwrap();
    let policy = directory.path().join("policy.yaml");
    std::fs::write(&policy, "a: '@'\nget_l2_gateway: rule:b\n").unwrap();
    let mut options = options(&directory);
    options.auth.policy_file = Some(policy);
    let why = Server::start(options.clone())
        .await
        .err()
        .unwrap()
        .to_string();
    assert!(
        why.contains("policy.yaml:2: get_l2_gateway: there is no rule 'b'"),
        "{why}"
    );
    options.auth.policy_file = None;
    options.auth.token_file = Some(directory.path().join("none"));
    let why = Server::start(options).await.err().unwrap().to_string();
    assert!(why.contains("none: No such file"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_authenticates_may_listen_to_all_and_encrypt() {
    let directory = TempDir::new().unwrap();
    let authority = testkit::certificates::CertificateAuthority::new().unwrap();
    let credentials = authority.issue("server").unwrap();
    let tokens = token_file(directory.path());
    let server = Fixture::with(|options| {
        options.listen = "0.0.0.0:0".parse().unwrap();
        options.auth.token_file = Some(tokens);
        options.tls_certificate = Some(credentials.certificate.clone());
        options.tls_private_key = Some(credentials.private_key.clone());
    })
    .await;
    // Somebody who connects and never shakes hands keeps nobody waiting.
    let _silent = std::net::TcpStream::connect(("127.0.0.1", server.address.port())).unwrap();
    let client = reqwest::Client::builder()
        .tls_danger_accept_invalid_certs(true)
        .build()
        .unwrap();
    let url = format!("https://127.0.0.1:{}/v2.0/networks", server.address.port());
    let request = client.get(url).header("X-Auth-Token", ADMIN);
    assert_eq!(request.send().await.unwrap().status(), 200);
}

/// What upstream answered to one who is no administrator: 403 in the same words, whether the thing exists or not, and the
/// body first (its vectors with `role: member`, and tempest's negative tests).
#[tokio::test(flavor = "multi_thread")]
async fn members_are_refused_as_upstream_refuses_them() {
    let directory = TempDir::new().unwrap();
    let server = server(&directory, None).await;
    let gateway = json!({"l2_gateway": {"name": "x", "devices": [{"device_name": "d1", "interfaces": [{"name": "p1"}]}]}});
    let made = asked(
        &server,
        ADMIN,
        Method::POST,
        "/v2.0/l2-gateways",
        Some(gateway.clone()),
    )
    .await;
    let known = id(&made.1["l2_gateway"]);
    let connection =
        json!({"l2_gateway_connection": {"l2_gateway_id": known, "network_id": UNKNOWN}});
    let rename = json!({"l2_gateway": {"name": "x"}});
    let nothing = || None;
    let create = FORBIDDEN.replace("GET", "CREATE");
    for (method, path, body, message) in [
        (
            Method::POST,
            "l2-gateways".to_owned(),
            Some(gateway),
            create.as_str(),
        ),
        (Method::GET, "l2-gateways".to_owned(), nothing(), FORBIDDEN),
        (
            Method::GET,
            format!("l2-gateways/{known}"),
            nothing(),
            FORBIDDEN,
        ),
        (
            Method::GET,
            "l2-gateways/nope".to_owned(),
            nothing(),
            FORBIDDEN,
        ),
        (
            Method::PUT,
            format!("l2-gateways/{known}"),
            Some(rename.clone()),
            FORBIDDEN,
        ),
        (
            Method::PUT,
            "l2-gateways/nope".to_owned(),
            Some(rename),
            FORBIDDEN,
        ),
        (
            Method::DELETE,
            format!("l2-gateways/{known}"),
            nothing(),
            FORBIDDEN,
        ),
        (
            Method::DELETE,
            "l2-gateways/nope".to_owned(),
            nothing(),
            FORBIDDEN,
        ),
        (
            Method::POST,
            "l2-gateway-connections".to_owned(),
            Some(connection),
            create.as_str(),
        ),
        (
            Method::GET,
            "l2-gateway-connections".to_owned(),
            nothing(),
            FORBIDDEN,
        ),
        (
            Method::GET,
            "l2-gateway-connections/nope".to_owned(),
            nothing(),
            FORBIDDEN,
        ),
        (
            Method::DELETE,
            "l2-gateway-connections/nope".to_owned(),
            nothing(),
            FORBIDDEN,
        ),
    ] {
        let answer = asked(
            &server,
            MEMBER,
            method.clone(),
            &format!("/v2.0/{path}"),
            body,
        )
        .await;
        let refused = error(answer);
        assert_eq!(
            (refused.0, &*refused.1),
            (403, "AdminRequired"),
            "{method} {path}"
        );
        assert_eq!(refused.2, message, "{method} {path}");
    }
    let bad = json!({"l2_gateway": {"devices": []}});
    let path = "/v2.0/l2-gateways";
    assert_eq!(
        asked(&server, MEMBER, Method::POST, path, Some(bad))
            .await
            .0,
        400
    );
}
