//! Answers to what is no request. The router gives them, asked by a request of no method that has the fault with it, so
//! that they have an id, a line in the log and a place in the metrics as all others do.

use std::io;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{Method, Response, Uri};
use axum::middleware::Next;
use axum::response::IntoResponse;
use http_body_util::BodyExt;
use model::fault::{Fault, FaultKind};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tower::ServiceExt;

use super::{Bounds, Peer, Wire};
use crate::api::Refused;

/// Why there is no request.
#[derive(Clone)]
struct Unreadable(Fault);

/// Answers a request that is none; lets all others through.
pub(crate) async fn refused(request: Request, next: Next) -> Response<Body> {
    match request.extensions().get::<Unreadable>() {
        Some(Unreadable(fault)) => Refused::from(fault.clone()).into_response(),
        None => next.run(request).await,
    }
}

/// What to say to a client whose connection ended like this; nothing where it said nothing, or is gone.
pub(super) fn fault<IO>(
    cause: &hyper::Error,
    wire: &Wire<IO>,
    unread: &[u8],
    bounds: Bounds,
) -> Option<Fault>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    if cause.is_timeout() && !unread.is_empty() {
        let within = bounds.head_within;
        return Some(Fault::new(
            FaultKind::RequestTimeout,
            format!("The head of the request did not arrive within {within:?}."),
        ));
    }
    let limit = bounds.head;
    let line = !unread.iter().take(limit).any(|byte| *byte == b'\n');
    Some(match wire.kept_back()? {
        414 => too_long(limit),
        431 if line => too_long(limit),
        431 => Fault::new(
            FaultKind::HeadTooLarge,
            format!("The head of the request has more than {limit} bytes or 100 fields."),
        ),
        _ => Fault::new(
            FaultKind::InvalidRequest,
            format!("Bad HTTP request: {cause}."),
        ),
    })
}

fn too_long(limit: usize) -> Fault {
    Fault::new(
        FaultKind::UriTooLong,
        format!("The request line is longer than {limit} bytes."),
    )
}

/// What to say where every connection is at work.
pub(super) fn crowded(bounds: Bounds) -> Fault {
    let cause = format!("all {} connections are in use", bounds.connections);
    Fault::unavailable("The server", cause)
}

/// Sends the answer, and ends the connection so that the client reads it.
pub(super) async fn answer<IO>(
    wire: &mut Wire<IO>,
    router: Router,
    peer: Peer,
    fault: Fault,
) -> io::Result<()>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let mut request = Request::new(Body::empty());
    *request.method_mut() = Method::from_bytes(b"-").unwrap_or_default();
    *request.uri_mut() = Uri::from_static("*");
    request.extensions_mut().insert(peer);
    request.extensions_mut().insert(Unreadable(fault));
    let Ok(response) = router.oneshot(request).await;
    let (head, body) = response.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let mut bytes = format!(
        "HTTP/1.1 {}\r\nconnection: close\r\ncontent-length: {}\r\n",
        head.status,
        body.len()
    )
    .into_bytes();
    for (name, value) in &head.headers {
        bytes.extend_from_slice(name.as_str().as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(&body);
    wire.write_all(&bytes).await?;
    wire.flush().await?;
    wire.linger().await;
    Ok(())
}

/// A client that does not take its answer is gone; there is nobody else to tell.
pub(super) fn unheard(answered: io::Result<()>) {
    if let Err(cause) = answered {
        tracing::debug!(%cause, "a refusal was not delivered");
    }
}
