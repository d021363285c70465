//! A Neutron-style service that gives the answers a test states, and remembers what it was asked.

use std::ffi::OsString;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Bytes, to_bytes};
use axum::extract::Request;
use axum::http::{Response, StatusCode, header};
use axum::routing::any;
use cli::Console;
use serde_json::{Value, json};

/// What a command printed and how it ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) code: u8,
    pub(crate) out: String,
    pub(crate) err: String,
}

#[derive(Debug, Default)]
struct Script {
    /// `GET /v2.0/networks?name=net1` and what is answered to it.
    answers: Vec<(String, u16, Value)>,
    asked: Vec<String>,
}

/// The service, and a command line beside it.
#[derive(Debug)]
pub(crate) struct Service {
    address: String,
    script: Arc<Mutex<Script>>,
}

impl Service {
    pub(crate) async fn start() -> Self {
        let script = Arc::new(Mutex::new(Script::default()));
        let answering = Arc::clone(&script);
        let router = Router::new().fallback(any(move |request: Request| {
            let script = Arc::clone(&answering);
            async move {
                let line = format!("{} {}", request.method(), request.uri());
                let body = to_bytes(request.into_body(), usize::MAX).await.unwrap();
                answer(&mut script.lock().unwrap(), line, &body)
            }
        }));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, script }
    }

    /// States an answer. The request's query may have more behind what is stated.
    pub(crate) fn on(self, request: &str, status: u16, body: Value) -> Self {
        let mut script = self.script.lock().unwrap();
        script.answers.push((request.to_owned(), status, body));
        drop(script);
        self
    }

    /// Types a command. Environment variables play no part.
    pub(crate) async fn types(&self, words: &[&str]) -> Outcome {
        self.types_with_input(words, "").await
    }

    pub(crate) async fn types_with_input(&self, words: &[&str], input: &str) -> Outcome {
        let line = ["l2gw", "--os-endpoint", &self.address];
        run(line.iter().chain(words).copied(), input).await
    }

    /// What was asked since the last call, one request to a line, with its body behind.
    pub(crate) fn asked(&self) -> String {
        std::mem::take(&mut self.script.lock().unwrap().asked).join("\n")
    }
}

/// Runs a command line, as the binary does.
pub(crate) async fn run<'a>(line: impl Iterator<Item = &'a str>, input: &str) -> Outcome {
    let matches = match cli::parse(cli::command(), line.map(OsString::from)) {
        Ok(matches) => matches,
        Err(error) => {
            let (text, code) = (error.to_string(), error.exit_code());
            let (out, err) = if error.use_stderr() {
                (String::new(), text)
            } else {
                (text, String::new())
            };
            let code = u8::try_from(code).unwrap();
            return Outcome { code, out, err };
        }
    };
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut console = Console {
        out: &mut out,
        err: &mut err,
        input: &mut input.as_bytes(),
        width: None,
        watched: false,
    };
    let code = cli::run(&matches, &mut console).await;
    Outcome {
        code,
        out: String::from_utf8(out).unwrap(),
        err: String::from_utf8(err).unwrap(),
    }
}

fn answer(script: &mut Script, line: String, body: &Bytes) -> Response<axum::body::Body> {
    let found = script.answers.iter().find(|(request, ..)| {
        line == *request
            || line.starts_with(&format!("{request}&"))
            || line.starts_with(&format!("{request}?"))
    });
    let (status, answer) = match found {
        Some((_, status, answer)) => (*status, answer.clone()),
        None => (501, refusal("Unexpected", &line)),
    };
    script.asked.push(match std::str::from_utf8(body).unwrap() {
        "" => line,
        body => format!("{line} {body}"),
    });
    let body = if status == 204 {
        String::new()
    } else {
        answer.to_string()
    };
    Response::builder()
        .status(StatusCode::from_u16(status).unwrap())
        .header(header::CONTENT_TYPE, "application/json")
        .header("x-openstack-request-id", "req-7")
        .body(body.into())
        .unwrap()
}

/// The body of a Neutron error.
pub(crate) fn refusal(kind: &str, message: &str) -> Value {
    json!({"NeutronError": {"type": kind, "message": message, "detail": ""}})
}
