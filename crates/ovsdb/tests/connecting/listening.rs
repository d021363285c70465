//! ovsdb-servers that dial us, as switches do.

use ovsdb::budget::Bounds;
use ovsdb::{Budget, Connection, Listener, Session, SessionOptions, Target};
use testkit::certificates::CertificateAuthority;
use testkit::ovsdb_server::OvsdbServer;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::fixture::{DB, Names, impatient, insert, names, until_down, until_up, with_tls};

/// More than anybody here takes.
fn plenty() -> Budget {
    Budget::new(Bounds {
        connections: 100,
        bytes: 1 << 30,
        advice: "",
    })
}

/// The target by which others dial a listener.
fn active(listener: &Listener) -> String {
    match listener.target() {
        Target::PassiveTcp(address) => format!("tcp:{address}"),
        Target::PassiveSsl(address) => format!("ssl:{address}"),
        other => other.to_string(),
    }
}

#[tokio::test]
async fn a_switch_that_dials_is_followed_until_it_hangs_up() {
    let target = "ptcp:0:127.0.0.1".parse().unwrap();
    let mut listener = Listener::bind(&target, SessionOptions::default(), &plenty())
        .await
        .unwrap();
    let mut server = OvsdbServer::start().unwrap();
    server
        .restart_with([format!("--remote={}", active(&listener))])
        .unwrap();
    let caller = listener.accept().await;
    assert!(caller.address.starts_with("tcp:127.0.0.1:"));
    assert_eq!(caller.certificate, None);
    let connection: Connection<Names> =
        Connection::accepted(caller, DB, impatient(SessionOptions::default()));
    let session = until_up(&connection).await;
    insert(&session, "net").await;
    assert_eq!(names(&connection), ["net"]);
    assert!(!connection.is_over());
    drop(session);

    server.kill().unwrap();
    let reason = until_down(&connection, "tcp:127.0.0.1:").await;
    let mut wakeups = connection.wakeups();
    while !connection.is_over() {
        wakeups.changed().await.unwrap();
    }
    // It comes back by itself, as another caller.
    server.start_again().unwrap();
    let again = listener.accept().await;
    assert!(again.session.schema(DB).await.is_ok(), "{reason}");
}

#[tokio::test]
async fn a_switch_that_dials_over_tls_is_known_by_its_certificate() {
    let ca = CertificateAuthority::new().unwrap();
    let target = "pssl:0:127.0.0.1".parse().unwrap();
    let options = with_tls(&ca.issue("controller").unwrap());
    let mut listener = Listener::bind(&target, options.clone(), &plenty())
        .await
        .unwrap();
    // Neither somebody who says nothing nor somebody who speaks no TLS holds the switch up.
    let Target::PassiveSsl(address) = listener.target().clone() else {
        panic!("{}", listener.target());
    };
    let _mute = TcpStream::connect(address).await.unwrap();
    let mut stranger = TcpStream::connect(address).await.unwrap();
    stranger.write_all(b"{\"method\":\"echo\"}").await.unwrap();

    let mut server = OvsdbServer::start().unwrap();
    let credentials = ca.issue("tor1, rack \"7\"").unwrap();
    let mut arguments = credentials.arguments().to_vec();
    arguments.push(format!("--remote={}", active(&listener)));
    server.restart_with(arguments).unwrap();
    let caller = listener.accept().await;
    let certificate = caller.certificate.clone().unwrap();
    assert_eq!(certificate.subject, r#"CN=tor1\, rack \"7\""#);
    let printed = std::process::Command::new("openssl")
        .args(["x509", "-noout", "-subject", "-nameopt", "RFC2253"])
        .args(["-fingerprint", "-sha256", "-in"])
        .arg(&credentials.certificate)
        .output()
        .unwrap();
    let printed = String::from_utf8(printed.stdout).unwrap();
    let printed: Vec<_> = printed.lines().collect();
    let [subject, fingerprint] = printed[..] else {
        panic!("{printed:?}");
    };
    assert_eq!(subject, format!("subject={}", certificate.subject));
    assert!(
        fingerprint.ends_with(&certificate.fingerprint),
        "{fingerprint}"
    );
    assert!(caller.session.schema(DB).await.is_ok());
}

#[tokio::test]
async fn a_caller_without_a_certificate_of_the_ca_is_turned_away() {
    let (ours, theirs) = (
        CertificateAuthority::new().unwrap(),
        CertificateAuthority::new().unwrap(),
    );
    let target = "pssl:0:127.0.0.1".parse().unwrap();
    let options = with_tls(&ours.issue("controller").unwrap());
    let mut listener = Listener::bind(&target, options, &plenty()).await.unwrap();
    let target: Target = active(&listener).parse().unwrap();
    let mut strange = crate::fixture::files(&theirs.issue("stranger").unwrap());
    strange.ca_certificate = ours.directory().join("ca.pem");
    let strange = SessionOptions {
        tls: Some(ovsdb::Tls::load(strange).unwrap()),
        ..SessionOptions::default()
    };
    if let Ok(session) = Session::connect(&target, &strange).await {
        session.ended().await;
    }
    let known = with_tls(&ours.issue("known").unwrap());
    let _session = Session::connect(&target, &known).await.unwrap();
    let caller = listener.accept().await;
    assert_eq!(caller.certificate.unwrap().subject, "CN=known");
    // Two that have no subject are two.
    let nameless = with_tls(&ours.issue("").unwrap());
    let _session = Session::connect(&target, &nameless).await.unwrap();
    let certificate = listener.accept().await.certificate.unwrap();
    assert_eq!(certificate.subject, certificate.fingerprint);
}

#[tokio::test]
async fn a_target_that_cannot_be_listened_on_is_named() {
    for (target, words) in [
        ("tcp:127.0.0.1:1", "to dial"),
        ("pssl:0:127.0.0.1", "needs a private key"),
        ("ptcp:1:192.0.2.1", "ptcp:1:192.0.2.1: "),
    ] {
        let error = Listener::bind(
            &target.parse().unwrap(),
            SessionOptions::default(),
            &plenty(),
        )
        .await
        .unwrap_err()
        .to_string();
        assert!(error.contains(words) && error.contains(target), "{error}");
    }
}
