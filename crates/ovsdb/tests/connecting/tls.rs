//! `ssl:` to an ovsdb-server that demands a certificate.

use ovsdb::{Connection, Session, SessionOptions, Target, Tls, TlsError};
use testkit::certificates::{CertificateAuthority, Credentials};
use testkit::ovsdb_server::OvsdbServer;
use testkit::port::free_port;

use crate::fixture::{DB, Names, files, impatient, insert, names, until_down, until_up, with_tls};

/// A server with an `ssl:` port beside its others.
fn server(credentials: &Credentials) -> (OvsdbServer, Target) {
    let mut server = OvsdbServer::start().unwrap();
    let port = free_port().unwrap();
    let mut arguments = credentials.arguments().to_vec();
    arguments.push(format!("--remote=pssl:{port}:127.0.0.1"));
    server.restart_with(arguments).unwrap();
    (server, format!("ssl:127.0.0.1:{port}").parse().unwrap())
}

#[tokio::test]
async fn both_sides_show_certificates_of_the_pinned_ca() {
    let ca = CertificateAuthority::new().unwrap();
    let (_server, target) = server(&ca.issue("switch").unwrap());
    let options = impatient(with_tls(&ca.issue("controller").unwrap()));
    let connection: Connection<Names> = Connection::start(target.into(), DB, options);
    let session = until_up(&connection).await;
    insert(&session, "net").await;
    assert_eq!(names(&connection), ["net"]);
}

#[tokio::test]
async fn a_switch_that_another_ca_vouches_for_is_refused() {
    let (ours, theirs) = (
        CertificateAuthority::new().unwrap(),
        CertificateAuthority::new().unwrap(),
    );
    let (_server, target) = server(&theirs.issue("switch").unwrap());
    let options = with_tls(&ours.issue("controller").unwrap());
    let error = Session::connect(&target, &options).await.unwrap_err();
    assert!(error.to_string().contains("certificate"), "{error}");
}

#[tokio::test]
async fn a_switch_refuses_a_controller_that_its_ca_does_not_know() {
    let (ours, theirs) = (
        CertificateAuthority::new().unwrap(),
        CertificateAuthority::new().unwrap(),
    );
    let (_server, target) = server(&theirs.issue("switch").unwrap());
    // We trust the switch, it does not trust us.
    let mut files = files(&ours.issue("controller").unwrap());
    files.ca_certificate = theirs.directory().join("ca.pem");
    let options = SessionOptions {
        tls: Some(Tls::load(files).unwrap()),
        ..SessionOptions::default()
    };
    let connection: Connection<Names> = Connection::start(target.into(), DB, impatient(options));
    // With TLS 1.3 the refusal arrives after our side of the handshake is done.
    let reason = until_down(&connection, "ssl:127.0.0.1").await;
    assert!(
        connection.replica().read(|names| names.is_none()),
        "{reason}"
    );
}

#[tokio::test]
async fn a_certificate_that_is_itself_in_the_ca_file_is_trusted() {
    let (ours, theirs) = (
        CertificateAuthority::new().unwrap(),
        CertificateAuthority::new().unwrap(),
    );
    let switch = theirs.issue("switch").unwrap();
    let controller = ours.issue("controller").unwrap();
    let mut server_side = switch.clone();
    server_side.ca_certificate = controller.ca_certificate.clone();
    let (_server, target) = server(&server_side);
    let mut files = files(&controller);
    files.ca_certificate = switch.certificate;
    let options = SessionOptions {
        tls: Some(Tls::load(files).unwrap()),
        ..SessionOptions::default()
    };
    let session = Session::connect(&target, &options).await.unwrap();
    assert!(session.schema(DB).await.is_ok());
}

#[tokio::test]
async fn replaced_certificates_are_used_for_the_next_handshake() {
    let (old, new) = (
        CertificateAuthority::new().unwrap(),
        CertificateAuthority::new().unwrap(),
    );
    let controller = old.issue("controller").unwrap();
    let options = with_tls(&controller);
    let (_server, target) = server(&new.issue("switch").unwrap());
    assert!(Session::connect(&target, &options).await.is_err());

    let issued = new.issue("controller").unwrap();
    std::fs::copy(issued.private_key, &controller.private_key).unwrap();
    let tls = options.tls.clone().unwrap();
    assert!(
        matches!(tls.reload(), Err(TlsError::Identity { .. })),
        "the new key does not belong to the old certificate"
    );
    std::fs::copy(issued.certificate, &controller.certificate).unwrap();
    std::fs::copy(issued.ca_certificate, &controller.ca_certificate).unwrap();
    let session = Session::connect(&target, &options).await.unwrap();
    assert!(session.schema(DB).await.is_ok());
    assert!(!tls.reload().unwrap(), "the handshake has read them");
}

#[tokio::test]
async fn tls_without_certificates_is_refused_by_name() {
    let target: Target = "ssl:192.0.2.1:6640".parse().unwrap();
    let error = Session::connect(&target, &SessionOptions::default())
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "ssl:192.0.2.1:6640 needs a private key, a certificate and a CA certificate"
    );
}

#[test]
fn files_that_make_no_sense_are_named() {
    let ca = CertificateAuthority::new().unwrap();
    let right = files(&ca.issue("controller").unwrap());
    let mut wrong = right.clone();
    wrong.private_key = ca.directory().join("none");
    let error = Tls::load(wrong).unwrap_err().to_string();
    assert!(error.contains("/none: "), "{error}");
    let mut wrong = right.clone();
    wrong.ca_certificate = right.private_key;
    let error = Tls::load(wrong).unwrap_err().to_string();
    assert!(error.contains("no certificate"), "{error}");
}
