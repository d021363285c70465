//! What no HTTP client library would do: broken heads, half requests, silence, and more connections than there is room
//! for. Each test speaks to the socket itself.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use server::api::Limits;
use server::http::Bounds;
use store::Store;
use tokio::task::spawn_blocking;

use crate::fixture::{Fixture, answering};

/// Longer than anything here takes on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(60);

const GET: &[u8] = b"GET /v2.0/networks HTTP/1.1\r\nHost: x\r\n\r\n";

const CLOSING: &[u8] = b"GET /v2.0/networks HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

fn connected(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Everything that the server says until it closes the connection.
fn rest(mut stream: &TcpStream) -> String {
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Ok(_) => {}
        // What was sent after the answer met a closed door, which is the sender's own affair.
        Err(error) if error.kind() == ErrorKind::ConnectionReset && !answer.is_empty() => {}
        Err(error) => panic!("{error}"),
    }
    String::from_utf8(answer).unwrap()
}

/// What the server says to these bytes until it closes the connection.
fn said_to(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = connected(address);
    stream.write_all(bytes).unwrap();
    rest(&stream)
}

/// One answer to a request on a connection that stays.
fn one_answer(mut stream: &TcpStream, end: &str) -> String {
    let mut answer = String::new();
    while !answer.ends_with(end) {
        let mut bytes = [0; 4096];
        let read = stream.read(&mut bytes).unwrap();
        assert_ne!(read, 0, "{answer}");
        answer.push_str(std::str::from_utf8(&bytes[..read]).unwrap());
    }
    answer
}

/// Status, type and message of the last answer, after a look at its form.
fn refusal(answer: &str) -> (u16, String, String) {
    let last = answer
        .rfind("HTTP/1.1 ")
        .unwrap_or_else(|| panic!("{answer:?}"));
    let (head, body) = answer[last..].split_once("\r\n\r\n").unwrap();
    let head = head.to_ascii_lowercase();
    for line in [
        "content-type: application/json",
        "x-openstack-request-id: req-",
    ] {
        assert!(head.contains(line), "{head}");
    }
    let body: Value = serde_json::from_str(body).unwrap_or_else(|_| panic!("{body:?}"));
    let error = &body["NeutronError"];
    assert_eq!(error["detail"], "");
    let text = |key: &str| error[key].as_str().unwrap().to_owned();
    let status = head["http/1.1 ".len()..][..3].parse().unwrap();
    (status, text("type"), text("message"))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    spawn_blocking(work).await.unwrap()
}

/// An API in memory with other bounds.
async fn bounded(change: impl FnOnce(&mut Bounds, &mut Limits)) -> SocketAddr {
    let (mut bounds, mut limits) = (Bounds::DEFAULT, Limits::DEFAULT);
    change(&mut bounds, &mut limits);
    let store = Store::open("sqlite::memory:").await.unwrap();
    answering(store, limits, bounds).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_request_is_refused_in_the_shape_of_all_refusals() {
    let server = Fixture::start().await;
    let address = server.address;
    let head = |line: &str| format!("GET /v2.0/networks HTTP/1.1\r\nHost: x\r\n{line}\r\n\r\n");
    let cases = [
        (
            "no HTTP at all",
            "hello\r\n\r\n".to_owned(),
            400,
            "BadRequest",
        ),
        (
            "no such version",
            "GET / HTTP/9.9\r\n\r\n".to_owned(),
            400,
            "BadRequest",
        ),
        (
            "a method with a blank",
            "G(T / HTTP/1.1\r\n\r\n".to_owned(),
            400,
            "BadRequest",
        ),
        (
            "a control character in the path",
            "GET /\u{1} HTTP/1.1\r\n\r\n".to_owned(),
            400,
            "BadRequest",
        ),
        (
            "TLS",
            "\u{16}\u{3}\u{1}\u{2}\u{0}\r\n\r\n".to_owned(),
            400,
            "BadRequest",
        ),
        (
            "a field without a colon",
            head("nonsense"),
            400,
            "BadRequest",
        ),
        (
            "a field name with a blank",
            head("X Y: 1"),
            400,
            "BadRequest",
        ),
        ("NUL in a field", head("X: a\u{0}b"), 400, "BadRequest"),
        (
            "a length that is none",
            head("Content-Length: ten"),
            400,
            "BadRequest",
        ),
        (
            "two lengths",
            head("Content-Length: 1\r\nContent-Length: 2"),
            400,
            "BadRequest",
        ),
        (
            "an encoding nobody knows",
            head("Transfer-Encoding: gzip"),
            400,
            "BadRequest",
        ),
        (
            "more fields than fit",
            head(&"A: b\r\n".repeat(101)),
            431,
            "HTTPRequestHeaderFieldsTooLarge",
        ),
        (
            "a field that is too large",
            head(&format!("A: {}", "b".repeat(70_000))),
            431,
            "HTTPRequestHeaderFieldsTooLarge",
        ),
        (
            "a path that is too long",
            format!("GET /{} HTTP/1.1\r\n\r\n", "p".repeat(70_000)),
            414,
            "HTTPRequestURITooLong",
        ),
    ];
    for (what, bytes, status, kind) in cases {
        let answer = blocking(move || said_to(address, bytes.as_bytes())).await;
        let refused = refusal(&answer);
        assert_eq!(
            (refused.0, refused.1.as_str()),
            (status, kind),
            "{what}: {answer}"
        );
        assert!(answer.contains("connection: close"), "{what}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{what}: {answer}");
    }
    // Those who behave go on.
    server.get("/v2.0/networks").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_behind_a_good_request_does_not_spoil_its_answer() {
    let server = Fixture::start().await;
    let address = server.address;
    let answer = blocking(move || said_to(address, &[GET, b"nonsense\r\n\r\n"].concat())).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("{\"networks\":[]}"), "{answer}");
    assert_eq!(refusal(&answer).0, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn unreadable_requests_are_counted_as_all_others() {
    let server = Fixture::start().await;
    let address = server.address;
    blocking(move || said_to(address, b"nonsense\r\n\r\n")).await;
    let metrics = server
        .client
        .get(server.url("/metrics"))
        .send()
        .await
        .unwrap();
    let metrics = metrics.text().await.unwrap();
    let sample = "http_request_duration_seconds_count{method=\"other\",route=\"unmatched\",status=\"400\"} 1";
    assert!(metrics.contains(sample), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_does_not_arrive_is_408_and_an_idle_connection_closes_in_silence() {
    let short = Duration::from_millis(500);
    let address = bounded(|bounds, _| bounds.head_within = short).await;
    let (half, idle, used) = blocking(move || {
        let half = said_to(address, b"GET /v2.0/networks HTTP/1.1\r\nHost:");
        let idle = said_to(address, b"");
        let used = said_to(address, GET);
        (half, idle, used)
    })
    .await;
    let (status, kind, message) = refusal(&half);
    assert_eq!((status, kind.as_str()), (408, "HTTPRequestTimeout"));
    assert!(message.contains("500ms"), "{message}");
    assert_eq!(idle, "");
    assert!(used.ends_with("{\"networks\":[]}"), "{used}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_drips_in_does_not_get_more_time_for_it() {
    let address = bounded(|bounds, _| bounds.head_within = Duration::from_millis(500)).await;
    let answer = blocking(move || {
        let mut stream = connected(address);
        stream
            .write_all(b"GET /v2.0/networks HTTP/1.1\r\n")
            .unwrap();
        let start = Instant::now();
        // Until the server has had enough; then the writing fails or the limit says that it never had.
        while start.elapsed() < PATIENCE && stream.write_all(b"X: y\r\n").is_ok() {
            stream
                .set_read_timeout(Some(Duration::from_millis(50)))
                .unwrap();
            if stream.peek(&mut [0]).is_ok() {
                break;
            }
        }
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        rest(&stream)
    });
    assert_eq!(refusal(&answer.await).0, 408);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_drips_in_is_408() {
    let address = bounded(|_, limits| {
        limits.silence = Duration::from_millis(500);
        limits.pace = 1000;
    })
    .await;
    let answer = blocking(move || {
        let mut stream = connected(address);
        stream
            .write_all(b"POST /v2.0/networks HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n")
            .unwrap();
        stream
            .set_read_timeout(Some(Duration::from_millis(50)))
            .unwrap();
        let start = Instant::now();
        while start.elapsed() < PATIENCE && stream.write_all(b" ").is_ok() {
            if stream.peek(&mut [0]).is_ok() {
                break;
            }
        }
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        rest(&stream)
    });
    assert_eq!(refusal(&answer.await).0, 408);
}

/// A POST of a body of this size that makes no sense.
fn large(size: usize) -> Vec<u8> {
    let mut request = head_of(size).into_bytes();
    request.resize(request.len() + size, b' ');
    request
}

fn head_of(size: usize) -> String {
    format!(
        "POST /v2.0/networks HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {size}\r\n\r\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn large_bodies_share_their_room_and_small_ones_need_none() {
    let size = 1 << 20;
    let address = bounded(|_, limits| {
        limits.body = size;
        limits.bodies = size;
        limits.room_within = Duration::from_millis(300);
    })
    .await;
    blocking(move || {
        let mut first = connected(address);
        let request = large(size);
        let (half, other_half) = request.split_at(size / 2);
        first.write_all(half).unwrap();
        // Until the first one is at home there may be room for another.
        let given_up = Instant::now() + PATIENCE;
        let away = loop {
            let answer = said_to(address, &request);
            if refusal(&answer).0 != 400 {
                break answer;
            }
            assert!(Instant::now() < given_up, "there is always room");
        };
        let (status, kind, message) = refusal(&away);
        assert_eq!((status, kind.as_str()), (503, "ServiceUnavailable"));
        assert!(
            message.starts_with("Room for a request body of 1048576 bytes"),
            "{message}"
        );
        assert!(away.contains("retry-after: "), "{away}");
        // One that does not say how long it is is taken for the longest.
        let chunk = format!("{:x}\r\n{}\r\n0\r\n\r\n", 100_000, " ".repeat(100_000));
        let unknown = head_of(0).replace("Content-Length: 0", "Transfer-Encoding: chunked");
        let answer = said_to(address, format!("{unknown}{chunk}").as_bytes());
        assert_eq!(refusal(&answer).0, 503, "{answer}");
        // Those that ask for little do not notice.
        let small = head_of(14) + "{\"network\":{}}";
        assert!(said_to(address, small.as_bytes()).starts_with("HTTP/1.1 201"));

        first.write_all(other_half).unwrap();
        assert_eq!(refusal(&rest(&first)).0, 400);
        for request in [request, format!("{unknown}{chunk}").into_bytes()] {
            assert_eq!(
                refusal(&said_to(address, &request)).0,
                400,
                "the room is free again"
            );
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_use_its_room_makes_room_for_others() {
    let size = 1 << 20;
    let address = bounded(|_, limits| {
        limits.body = size;
        limits.bodies = size;
        limits.room_within = PATIENCE;
        limits.silence = Duration::from_secs(2);
        // As slow as it likes, as long as nobody waits.
        limits.pace = 1;
        limits.crowded_pace = u32::MAX;
    })
    .await;
    blocking(move || {
        let mut slow = connected(address);
        slow.write_all(&large(size)[..size / 2]).unwrap();
        slow.set_read_timeout(Some(Duration::from_millis(50)))
            .unwrap();
        // By now it would be late, had anybody waited.
        let late = Instant::now() + Duration::from_secs(4);
        while Instant::now() < late {
            slow.write_all(b" ").unwrap();
            assert!(slow.peek(&mut [0]).is_err(), "it is refused for nothing");
        }
        let other = std::thread::spawn(move || said_to(address, &large(size)));
        while slow.write_all(b" ").is_ok() && slow.peek(&mut [0]).is_err() {
            assert!(Instant::now() < late + PATIENCE, "it may go on");
        }
        slow.set_read_timeout(Some(PATIENCE)).unwrap();
        assert_eq!(refusal(&rest(&slow)).0, 408);
        assert_eq!(refusal(&other.join().unwrap()).0, 400, "the other was read");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_closes_halfway_is_forgotten() {
    let server = Fixture::start().await;
    let address = server.address;
    blocking(move || {
        let mut stream = connected(address);
        stream.write_all(b"GET /v2.0/netw").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(rest(&stream), "");
        let mut stream = connected(address);
        let head = b"POST /v2.0/networks HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n{\"net";
        stream.write_all(head).unwrap();
    })
    .await;
    assert_eq!(server.get("/v2.0/networks").await, json!({"networks": []}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_before_the_body_was_read_reaches_who_still_sends_it() {
    let server = Fixture::start().await;
    let address = server.address;
    let answer = blocking(move || {
        let mut stream = connected(address);
        let size = 4_000_000;
        let head = format!(
            "PUT /v2.0/l2-remote-macs/x HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        // Once the answer is there the rest need not be taken.
        let _ = stream.write_all(&vec![b' '; size]);
        rest(&stream)
    });
    let answer = answer.await;
    assert_eq!(refusal(&answer).0, 405);
    assert!(
        answer.to_ascii_lowercase().contains("connection: close"),
        "{answer}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_make_room_and_busy_ones_turn_others_away() {
    let address = bounded(|bounds, _| {
        bounds.connections = 2;
        bounds.idle = Duration::from_millis(500);
    })
    .await;
    let away = blocking(move || {
        // Used once and silent since.
        let idle = [connected(address), connected(address)];
        for mut idle in &idle {
            idle.write_all(GET).unwrap();
            one_answer(idle, "{\"networks\":[]}");
        }
        // They may be about to say something; a little later nobody thinks so any more.
        let given_up = Instant::now() + PATIENCE;
        while !said_to(address, CLOSING).starts_with("HTTP/1.1 200") {
            assert!(Instant::now() < given_up, "the idle ones make no room");
        }
        let [first, second] = idle;
        assert_eq!(rest(&first), "");
        drop(second);

        let half = b"POST /v2.0/networks HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 14\r\n\r\n{\"network\":";
        let busy = [connected(address), connected(address)];
        for mut busy in &busy {
            busy.write_all(half).unwrap();
        }
        let given_up = Instant::now() + PATIENCE;
        let away = loop {
            // The half requests may still be on their way in.
            let answer = said_to(address, CLOSING);
            if answer.starts_with("HTTP/1.1 503") {
                break answer;
            }
            assert!(Instant::now() < given_up, "nobody is turned away");
        };
        for mut busy in &busy {
            busy.write_all(b"{}}").unwrap();
            assert!(rest(busy).starts_with("HTTP/1.1 201"));
        }
        away
    })
    .await;
    let (status, kind, _) = refusal(&away);
    assert_eq!((status, kind.as_str()), (503, "ServiceUnavailable"));
    assert!(away.contains("retry-after: "), "{away}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_connections_that_say_nothing_keep_nobody_waiting() {
    let server = Fixture::start().await;
    let address = server.address;
    let idle: Vec<_> = blocking(move || (0..1000).map(|_| connected(address)).collect()).await;
    for number in 0..10 {
        server
            .create("networks", json!({"name": number.to_string()}))
            .await;
    }
    assert_eq!(idle.len(), 1000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_takes_nothing_is_cut_off() {
    let store = Store::open("sqlite::memory:").await.unwrap();
    let bounds = Bounds {
        stalled: Duration::from_millis(500),
        ..Bounds::DEFAULT
    };
    let address = answering(store, Limits::DEFAULT, bounds).await;
    let far: Vec<_> = (0..20_000)
        .map(|_| json!({"name": "n".repeat(255), "ipaddr": "192.0.2.1"}))
        .collect();
    let posted = reqwest::Client::new().post(format!("http://{address}/v2.0/l2-remote-gateways"));
    let posted = posted
        .json(&json!({"l2_remote_gateways": far}))
        .send()
        .await
        .unwrap();
    assert_eq!(posted.status(), 201);
    blocking(move || {
        // The buffers of both sockets fill, which takes as long as it takes; then nothing is taken for longer than the
        // server waits.
        let cut_off = |stall: u64| {
            let mut stream = connected(address);
            stream.write_all(b"GET /v2.0/l2-remote-gateways HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
            std::thread::sleep(Duration::from_secs(stall));
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer);
            !answer.ends_with(b"0\r\n\r\n")
        };
        assert!([2, 6, 24].into_iter().any(cut_off), "the whole list came");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_served_beside_the_api_refuses_other_methods_in_the_same_shape() {
    let server = Fixture::start().await;
    let address = server.address;
    for path in ["/healthcheck", "/metrics"] {
        for method in ["POST", "TRACE", "DELETE", "OPTIONS"] {
            let request =
                format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
            let answer = blocking(move || said_to(address, request.as_bytes())).await;
            assert_eq!(
                refusal(&answer).1,
                "HTTPMethodNotAllowed",
                "{method} {path}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn head_and_options_are_answered_as_neutron_does() {
    let server = Fixture::start().await;
    let address = server.address;
    for path in [
        "/",
        "/v2.0/",
        "/v2.0/networks",
        "/v2.0/networks/x",
        "/v2.0/quotas",
        "/v2.0/extensions",
    ] {
        let head = format!("HEAD {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let answer = blocking(move || said_to(address, head.as_bytes())).await;
        assert!(answer.starts_with("HTTP/1.1 405"), "{path}: {answer}");
        assert!(answer.ends_with("\r\n\r\n"), "{path}: no body: {answer}");
        let options = format!("OPTIONS {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let answer = blocking(move || said_to(address, options.as_bytes())).await;
        assert_eq!(refusal(&answer).1, "HTTPMethodNotAllowed", "{path}");
        let allow = answer.lines().find(|line| line.starts_with("allow: "));
        assert!(
            allow.is_some_and(|allow| allow.contains("GET")),
            "{path}: {answer}"
        );
    }
}
