//! Whose token it is, asked of a Keystone that fails in every way a test needs. The real one is in the server's tests.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "clippy knows tests by their attribute; what they share is test code too"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use openstack::login::Method;
use openstack::{Error, Keystone, Login, Settings, Trust, Validator};
use reqwest::header::HeaderValue;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// What the Keystone does, and how often it was asked.
#[derive(Clone, Default)]
struct Faulty(Arc<Behaviour>);

#[derive(Default)]
struct Behaviour {
    logins: AtomicUsize,
    asked: AtomicUsize,
    /// The status of answers about tokens; 0 for good ones.
    status: AtomicU16,
    delay_ms: AtomicUsize,
    lives_s: AtomicUsize,
}

fn token(lives: u64) -> serde_json::Value {
    let expires = jiff::Timestamp::now() + Duration::from_secs(lives);
    json!({"token": {
        "expires_at": expires.to_string(), "user": {"id": "u", "name": "user"},
        "project": {"id": "p", "name": "project"}, "roles": [{"id": "1", "name": "member"}],
    }})
}

async fn login(State(state): State<Arc<Behaviour>>) -> Response {
    let number = state.logins.fetch_add(1, Ordering::SeqCst);
    let secret = format!("service-{number}");
    (
        StatusCode::CREATED,
        [("x-subject-token", secret)],
        token(3600).to_string(),
    )
        .into_response()
}

async fn inspect(State(state): State<Arc<Behaviour>>, headers: HeaderMap) -> Response {
    state.asked.fetch_add(1, Ordering::SeqCst);
    let delay = state.delay_ms.load(Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(delay as u64)).await;
    let newest = format!("service-{}", state.logins.load(Ordering::SeqCst) - 1);
    let service_is_known = headers["x-auth-token"] == *newest;
    match state.status.load(Ordering::SeqCst) {
        // The service's first token was revoked.
        401 if service_is_known && newest != "service-0" => {}
        0 => {}
        status => return StatusCode::from_u16(status).unwrap().into_response(),
    }
    if headers["x-subject-token"]
        .to_str()
        .unwrap()
        .starts_with("bad")
    {
        return StatusCode::NOT_FOUND.into_response();
    }
    let lives = state.lives_s.load(Ordering::SeqCst);
    token(if lives == 0 { 3600 } else { lives as u64 })
        .to_string()
        .into_response()
}

impl Faulty {
    /// Starts it; a validator that asks it, with this revocation window.
    async fn start(self, window: Duration) -> Validator {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let routes = Router::new()
            .route("/v3/auth/tokens", post(login).get(inspect))
            .with_state(self.0);
        tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        validator(&format!("http://{address}/v3"), window)
    }

    fn says(&self, status: u16) {
        self.0.status.store(status, Ordering::SeqCst);
    }

    fn asked(&self) -> usize {
        self.0.asked.load(Ordering::SeqCst)
    }
}

fn validator(url: &str, window: Duration) -> Validator {
    let mut settings = Settings::default();
    settings.set("username", "l2gw");
    settings.set("password", "secret");
    let login = Login::of(&settings, Method::Password).unwrap();
    let timeout = Duration::from_millis(500);
    let keystone = Keystone::new(url, &Trust::default(), timeout).unwrap();
    Validator::new(keystone, login, window)
}

const WINDOW: Duration = Duration::from_secs(300);

fn value(token: &'static str) -> HeaderValue {
    HeaderValue::from_static(token)
}

async fn is_unavailable(validator: &Validator, token: &'static str) -> bool {
    let error = validator.identify(&value(token)).await.unwrap_err();
    match *error {
        Error::NoKeystone { .. } => true,
        ref other => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_with_one_token_at_the_same_time_ask_once() {
    let keystone = Faulty::default();
    let validator = keystone.clone().start(WINDOW).await;
    keystone.0.delay_ms.store(100, Ordering::SeqCst);
    let requests = (0..50).map(|_| {
        let validator = validator.clone();
        tokio::spawn(async move { validator.identify(&value("good")).await.unwrap().unwrap() })
    });
    for request in requests.collect::<Vec<_>>() {
        assert_eq!(request.await.unwrap().user.id, "u");
    }
    assert_eq!(keystone.asked(), 1);
    assert_eq!(keystone.0.logins.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_keystone_fails_known_tokens_go_on_and_unknown_ones_are_not_judged() {
    let keystone = Faulty::default();
    let validator = keystone.clone().start(WINDOW).await;
    assert!(validator.identify(&value("known")).await.unwrap().is_some());
    for status in [500, 503] {
        keystone.says(status);
        assert!(validator.identify(&value("known")).await.unwrap().is_some());
        assert!(is_unavailable(&validator, "new").await);
    }
    keystone.says(0);
    keystone.0.delay_ms.store(2_000, Ordering::SeqCst);
    assert!(is_unavailable(&validator, "new").await, "too slow");
    keystone.0.delay_ms.store(0, Ordering::SeqCst);
    assert!(validator.identify(&value("new")).await.unwrap().is_some());
    let nobody = self::validator("http://127.0.0.1:1", WINDOW);
    assert!(is_unavailable(&nobody, "new").await, "nobody there");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_token_is_good_no_longer_than_the_window() {
    let keystone = Faulty::default();
    // Longer than a busy machine takes from the one question to the other.
    let window = Duration::from_secs(3);
    let validator = keystone.clone().start(window).await;
    assert!(validator.identify(&value("mine")).await.unwrap().is_some());
    keystone.says(404);
    assert!(validator.identify(&value("mine")).await.unwrap().is_some());
    tokio::time::sleep(window).await;
    assert_eq!(validator.identify(&value("mine")).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_not_good_beyond_its_end() {
    let keystone = Faulty::default();
    keystone.0.lives_s.store(3, Ordering::SeqCst);
    let validator = keystone.clone().start(WINDOW).await;
    assert!(validator.identify(&value("short")).await.unwrap().is_some());
    keystone.says(500);
    tokio::time::sleep(Duration::from_millis(3_100)).await;
    assert!(is_unavailable(&validator, "short").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_not_known_is_not_asked_about_again_at_once() {
    let keystone = Faulty::default();
    let validator = keystone.clone().start(WINDOW).await;
    for _ in 0..5 {
        assert_eq!(validator.identify(&value("bad")).await.unwrap(), None);
    }
    assert_eq!(keystone.asked(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_token_that_was_revoked_is_replaced() {
    let keystone = Faulty::default();
    let validator = keystone.clone().start(WINDOW).await;
    assert!(validator.identify(&value("a")).await.unwrap().is_some());
    keystone.says(401);
    assert!(validator.identify(&value("b")).await.unwrap().is_some());
    assert_eq!(keystone.0.logins.load(Ordering::SeqCst), 2);
}

/// uwsgi's `http-socket`, behind which many a Keystone is, answers one request and closes the connection without saying so.
#[tokio::test(flavor = "multi_thread")]
async fn a_keystone_that_closes_connections_unannounced_is_asked_all_the_same() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v3", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            tokio::spawn(answer_once(connection));
        }
    });
    let validator = validator(&url, WINDOW);
    for number in 0..20 {
        let token = HeaderValue::try_from(format!("token-{number}")).unwrap();
        let known = validator.identify(&token).await;
        assert!(known.unwrap().is_some(), "token {number}");
    }
}

async fn answer_once(mut connection: tokio::net::TcpStream) {
    let mut request = Vec::new();
    let ends = |text: &[u8]| {
        let text = String::from_utf8_lossy(text).into_owned();
        // The only body is the login's.
        text.ends_with("\r\n\r\n") && text.starts_with("GET") || text.ends_with("}}")
    };
    while !ends(&request) {
        if connection.read_buf(&mut request).await.unwrap() == 0 {
            return;
        }
    }
    let body = token(3600).to_string();
    let head = format!(
        "HTTP/1.1 201 CREATED\r\nContent-Type: application/json\r\nX-Subject-Token: s\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let answer = format!("{head}{body}");
    connection.write_all(answer.as_bytes()).await.unwrap();
    // A request that comes meanwhile is never read, so the kernel resets the connection.
    tokio::time::sleep(Duration::from_millis(20)).await;
}
