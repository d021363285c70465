//! What happens around every request: it gets an id, the log one line, and the audit log a record if it is there to change
//! something.

use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use model::fault::Fault;
use serde_json::{Map, Value};
use tracing::Instrument;
use uuid::Uuid;

use super::Api;
use super::caller::Caller;
use super::errors::Refused;
use crate::audit::{Audit, Changes, Outcome, Record};
use crate::http::Peer;

pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-openstack-request-id");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Longest list of addresses that a record repeats, in bytes.
const MAX_FORWARDED: usize = 200;

/// What is told of a request.
struct Asked {
    id: HeaderValue,
    global_id: Option<String>,
    peer: Option<String>,
    /// What a proxy says of where it comes from, and what anybody else may say as well.
    forwarded_for: Option<String>,
    method: Method,
    path: String,
    start: Instant,
}

impl Asked {
    fn of(request: &Request) -> Self {
        let headers = request.headers();
        let forwarded_for = headers.get(FORWARDED_FOR);
        let forwarded_for = forwarded_for.and_then(|addresses| addresses.to_str().ok());
        Self {
            id: new_request_id(),
            global_id: global_id(headers),
            peer: request.extensions().get::<Peer>().map(Peer::to_string),
            forwarded_for: forwarded_for.map(|it| it.chars().take(MAX_FORWARDED).collect()),
            method: request.method().clone(),
            path: request.uri().path().to_owned(),
            start: Instant::now(),
        }
    }

    fn id(&self) -> &str {
        self.id.to_str().unwrap_or_default()
    }

    /// Whether it is there to change something (RFC 9110 section 9.2.1).
    fn changes(&self) -> bool {
        let methods = [Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
        methods.contains(&self.method)
    }

    fn action(&self) -> &'static str {
        match self.method {
            Method::POST => "create",
            Method::DELETE => "delete",
            _ => "update",
        }
    }

    /// For the audit log.
    fn told(&self) -> Map<String, Value> {
        let mut told = Map::new();
        let texts = [
            ("global_request_id", self.global_id.as_deref()),
            ("source", self.peer.as_deref()),
            ("forwarded_for", self.forwarded_for.as_deref()),
            ("action", Some(self.action())),
            ("method", Some(self.method.as_str())),
            ("path", Some(&self.path)),
        ];
        for (name, text) in texts {
            if let Some(text) = text {
                told.insert(name.to_owned(), text.into());
            }
        }
        told
    }
}

/// Gives every request an id, the log one line, and the audit log a record of every change and every refused one.
pub(super) async fn identified_and_logged(
    State(api): State<Api>,
    request: Request,
    next: Next,
) -> Response {
    let asked = Asked::of(&request);
    // Whatever is logged on the way carries the id, at any level.
    let span = tracing::error_span!("request", id = asked.id());
    let Some(audit) = api.audit.filter(|_| asked.changes()) else {
        let response = next.run(request).instrument(span).await;
        return asked.logged(response);
    };
    // A client that goes away takes its request along, but not what is already being changed, nor the record of it.
    let answering = async move {
        let response = match audit.begin() {
            Ok(_under_way) => {
                let response = next.run(request).await;
                asked.recorded(&audit, response).await
            }
            Err(fault) => Refused::from(fault).into_response(),
        };
        asked.logged(response)
    };
    match tokio::spawn(answering.instrument(span)).await {
        Ok(response) => response,
        Err(panic) => Refused::from(Fault::internal(panic)).into_response(),
    }
}

impl Asked {
    /// Records what came of it. A change that is not recorded is not answered as one.
    async fn recorded(&self, audit: &Audit, mut response: Response) -> Response {
        let extensions = response.extensions_mut();
        let changes = extensions.remove::<Changes>();
        let refusal = extensions
            .get::<Refused>()
            .map(|Refused(fault)| (fault.kind.type_name(), fault.message.clone()));
        let status = response.status();
        let outcome = Outcome {
            status: status.as_u16(),
            refusal,
        };
        let caller = response.extensions().get::<Caller>();
        let record = Record::of_request(self.id(), self.told(), caller, outcome, changes);
        if !status.is_success() {
            audit.note(record).await;
            return response;
        }
        match audit.made(record).await {
            Ok(()) => response,
            Err(fault) => Refused::from(fault).into_response(),
        }
    }

    /// Gives the log its line and the reply its id.
    fn logged(self, mut response: Response) -> Response {
        let id = self.id();
        let Self {
            global_id,
            peer,
            method,
            path,
            start,
            ..
        } = &self;
        let status = response.status().as_u16();
        let took: Duration = start.elapsed();
        let caller = response.extensions_mut().remove::<Caller>();
        let user = caller.as_ref().map(|caller| &*caller.user);
        match response.extensions_mut().remove::<Refused>() {
            Some(Refused(fault)) => {
                // Messages repeat what clients sent: one request must not look like two in the log.
                let fault = fault.to_string().replace(char::is_control, " ");
                if response.status().is_server_error() {
                    tracing::error!(%id, global_id, peer, %method, path, user, status, ?took, fault);
                } else {
                    tracing::info!(%id, global_id, peer, %method, path, user, status, ?took, fault);
                }
            }
            None => tracing::info!(%id, global_id, peer, %method, path, user, status, ?took),
        }
        response.headers_mut().insert(REQUEST_ID, self.id);
        response
    }
}

/// An id that no other request has.
pub(crate) fn new_request_id() -> HeaderValue {
    let id = format!("req-{}", Uuid::new_v4());
    HeaderValue::try_from(id).unwrap_or_else(|_| HeaderValue::from_static("req-"))
}

/// The id under which a client follows a request through several services: `req-` and a UUID, as oslo.middleware takes it.
fn global_id(headers: &HeaderMap) -> Option<String> {
    let id = headers.get(REQUEST_ID)?.to_str().ok()?;
    let uuid = id.strip_prefix("req-")?;
    let usual = uuid.len() == uuid::fmt::Hyphenated::LENGTH && Uuid::try_parse(uuid).is_ok();
    usual.then(|| id.to_owned())
}
