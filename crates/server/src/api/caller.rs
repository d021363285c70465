//! Who asks.

use std::sync::Arc;

use axum::extract::Request;
use axum::http::header::ORIGIN;
use axum::middleware::Next;
use axum::response::Response;
use model::fault::{Fault, FaultKind};

use super::errors::Refused;

/// The project that owns what is made while there is no authentication. With it, the token's project takes this place.
const PROJECT: &str = "admin";

/// Who asks, as every handler finds it among the request's extensions.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// The project that owns what the caller makes.
    pub(crate) project_id: Arc<str>,
}

/// Finds out who asks. Without authentication whoever reaches the socket is the administrator; that is why the server
/// then listens on loopback or a unix socket alone, and does not answer browsers: any page that the administrator visits
/// could make requests to loopback, and they say so by an `Origin` (Fetch standard, section 3.2).
pub(super) async fn identify(mut request: Request, next: Next) -> Result<Response, Refused> {
    if request.headers().contains_key(ORIGIN) {
        return Err(Refused(Fault::new(
            FaultKind::AdminRequired,
            "Requests from web pages are refused while there is no authentication.",
        )));
    }
    request.extensions_mut().insert(Caller {
        project_id: PROJECT.into(),
    });
    Ok(next.run(request).await)
}
