//! `l2gw …` logs in as any OpenStack client does, and tells what it does without telling secrets.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use testkit::certificates::CertificateAuthority;
use testkit::keystone::{ADMIN, ALICE};
use testkit::shell::Outcome;

use crate::site::{KEYSTONE, Site, failed, printed, program, typed};

/// How every token of this Keystone begins: Fernet's version, and the first bytes of the time (its specification).
const TOKEN: &str = "gAAAA";

/// `l2gw network list` at a site, which an administrator may.
fn list(site: &Site, variables: &[(&str, &str)], options: &[&str]) -> Outcome {
    let mut command = program();
    command
        .args(options)
        .args(["network", "list", "-f", "json"]);
    command.env("OS_AUTH_URL", site.keystone().url());
    command.env("OS_REGION_NAME", site.region());
    command.envs(variables.iter().copied());
    typed(command)
}

#[test]
fn a_token_or_an_application_credential_is_as_good_as_a_password() {
    let site = Site::start();
    let token = site.keystone().token(&ADMIN).unwrap();
    let (id, secret) = site
        .keystone()
        .application_credential(&ADMIN, "l2gw")
        .unwrap();
    let project = [
        ("OS_PROJECT_NAME", "admin"),
        ("OS_PROJECT_DOMAIN_NAME", "Default"),
    ];
    let with = |further: &[(&'static str, &str)]| -> Outcome {
        let variables: Vec<_> = project
            .iter()
            .copied()
            .chain(further.iter().copied())
            .collect();
        list(&site, &variables, &["--debug"])
    };
    let password = ADMIN.password();
    for secrets in [
        vec![("OS_USERNAME", "admin"), ("OS_PASSWORD", &*password)],
        vec![("OS_TOKEN", &*token)],
        vec![("OS_AUTH_TYPE", "v3token"), ("OS_TOKEN", &token)],
        vec![
            ("OS_APPLICATION_CREDENTIAL_ID", &id),
            ("OS_APPLICATION_CREDENTIAL_SECRET", &secret),
        ],
        vec![
            ("OS_AUTH_TYPE", "v3applicationcredential"),
            ("OS_APPLICATION_CREDENTIAL_NAME", "l2gw"),
            ("OS_USERNAME", "admin"),
            ("OS_APPLICATION_CREDENTIAL_SECRET", &secret),
        ],
    ] {
        let outcome = with(&secrets);
        assert_eq!(outcome.code, 0, "{secrets:?}: {}", outcome.err);
        assert_eq!(
            serde_json::from_str::<Value>(&outcome.out).unwrap(),
            json!([])
        );
        // What was asked can be read, and whom, but nothing by which somebody else could ask it.
        let said = &outcome.err;
        assert!(said.contains("/v3/auth/tokens'"), "{said}");
        assert!(said.contains("/v2.0/networks?"), "{said}");
        assert!(said.contains("-H 'X-Auth-Token: ***'"), "{said}");
        for secret in [&*password, &secret, TOKEN] {
            assert!(!said.contains(secret), "{secret}: {said}");
        }
    }
}

#[test]
fn a_token_needs_no_keystone_where_the_server_is_named() {
    let site = Site::start();
    let token = site.keystone().token(&ADMIN).unwrap();
    let types = |token: &str| {
        let mut command = program();
        command.args(["network", "list", "-f", "json", "--debug"]);
        command.env("OS_ENDPOINT", format!("http://{}", site.address));
        command.env("OS_TOKEN", token);
        typed(command)
    };
    let listed = types(&token);
    assert_eq!((listed.code, &*listed.out), (0, "[]\n"), "{}", listed.err);
    assert!(!listed.err.contains(TOKEN), "{}", listed.err);
    let refused = types("made-up");
    let said = "The request you have made requires authentication.\n\
                Neutron server returns request_ids: ['req-";
    assert_eq!((refused.code, &*refused.out), (1, ""));
    assert!(refused.err.contains(said), "{}", refused.err);
}

#[test]
fn clouds_yaml_says_who_and_where() {
    let site = Site::start();
    let directory = tempfile::tempdir().unwrap();
    let clouds = directory.path().join("clouds.yaml");
    let (url, region) = (site.keystone().url(), site.region());
    let text = format!(
        "clouds:\n  here:\n    auth: {{auth_url: '{url}', username: admin, project_name: admin,\n\
         \x20     user_domain_id: default, project_domain_name: Default}}\n    region_name: {region}\n\
         \x20 alices:\n    auth: {{auth_url: '{url}', username: alice, password: {}, project_name: demo,\n\
         \x20     user_domain_id: default, project_domain_id: default}}\n    region_name: {region}\n",
        ALICE.password()
    );
    std::fs::write(&clouds, text).unwrap();
    let secure = directory.path().join("secure.yaml");
    let text = format!(
        "clouds: {{here: {{auth: {{password: {}}}}}}}",
        ADMIN.password()
    );
    std::fs::write(&secure, text).unwrap();
    let types = |cloud: &str, options: &[&str], variable: Option<&str>| {
        let mut command = program();
        command
            .args(options)
            .args(["network", "list", "-f", "json"]);
        command.env("OS_CLIENT_CONFIG_FILE", &clouds);
        command.env("OS_CLIENT_SECURE_FILE", &secure);
        match variable {
            Some(name) => command.env(name, cloud),
            None => command.args(["--os-cloud", cloud]),
        };
        typed(command)
    };
    assert_eq!(printed(&types("here", &[], None)), json!([]));
    assert_eq!(printed(&types("here", &[], Some("OS_CLOUD"))), json!([]));
    let refused = types("alices", &[], None);
    assert_eq!(refused.code, 1);
    let said = "User does not have admin privileges: Cannot GET resource for non admin tenant.\n\
                Neutron server returns request_ids: ['req-";
    assert!(refused.err.starts_with(said), "{}", refused.err);
    // What is typed comes before what the file says.
    let options = ["--os-username", "nobody"];
    let refused = types("here", &options, None);
    failed_at_keystone(&refused);
    let unknown = types("there", &[], None);
    failed(&unknown, 1, "clouds.yaml has here, alices.");
}

/// Keystone's message, its status, and by which id its log can be searched.
fn failed_at_keystone(outcome: &Outcome) {
    assert_eq!((outcome.code, &*outcome.out), (1, ""), "{}", outcome.err);
    let said = "The request you have made requires authentication. (HTTP 401) (Request-ID: req-";
    assert!(outcome.err.starts_with(said), "{}", outcome.err);
}

#[test]
fn what_keystone_or_its_catalogue_lack_is_said() {
    let site = Site::start();
    let mut login = vec![
        ("OS_USERNAME", "admin"),
        ("OS_PASSWORD", "mistyped"),
        ("OS_PROJECT_NAME", "admin"),
    ];
    failed_at_keystone(&list(&site, &login, &[]));
    let password = ADMIN.password();
    login[1] = ("OS_PASSWORD", &password);
    failed(
        &list(&site, &login, &["--os-service-type", "l2gw"]),
        1,
        &format!(
            "public endpoint for l2gw service in {} region not found",
            site.region()
        ),
    );
    let internal = list(&site, &login, &["--os-interface", "internal"]);
    let said = format!(
        "internal endpoint for network service in {} region not found",
        site.region()
    );
    failed(&internal, 1, &said);
    let elsewhere = format!("http://{}", site.address);
    let found = list(
        &site,
        &login,
        &["--os-interface", "internal", "--os-endpoint", &elsewhere],
    );
    assert_eq!(printed(&found), json!([]));
    let nobody = list(&site, &login, &["--os-auth-url", "http://127.0.0.1:1/v3"]);
    failed(
        &nobody,
        1,
        "Unable to reach Keystone at http://127.0.0.1:1: Connection refused.",
    );
}

#[test]
fn a_server_with_tls_is_trusted_by_its_ca_or_without_a_look() {
    let authority = CertificateAuthority::new().unwrap();
    let credentials = authority.issue("127.0.0.1").unwrap();
    let site = Site::with(&KEYSTONE, "https", |command: &mut Command, _: &Path| {
        command
            .arg("--tls-certificate")
            .arg(&credentials.certificate);
        command
            .arg("--tls-private-key")
            .arg(&credentials.private_key);
    });
    let ca = credentials.ca_certificate.display().to_string();
    let types = |further: &str| site.l2gw(&ADMIN, &format!("network list -f json{further}"));
    let distrusted = types("");
    assert_eq!((distrusted.code, &*distrusted.out), (1, ""));
    assert!(distrusted.err.contains("certificate"), "{}", distrusted.err);
    assert_eq!(printed(&types(&format!(" --os-cacert {ca}"))), json!([]));
    assert_eq!(printed(&types(" --insecure")), json!([]));
    let openstack = site.openstack(&ADMIN, &format!("--os-cacert {ca} l2gw list -f json"));
    assert_eq!(printed(&openstack), json!([]));
}
