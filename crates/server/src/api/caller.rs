//! Who asks.

use std::sync::Arc;

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;

/// The project that owns what is made while there is no authentication. With it, the token's project takes this place.
const PROJECT: &str = "admin";

/// Who asks, as every handler finds it among the request's extensions.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// The project that owns what the caller makes.
    pub(crate) project_id: Arc<str>,
}

/// Finds out who asks. Without authentication whoever reaches the socket is the administrator; that is why the server
/// then listens on loopback or a unix socket alone.
pub(super) async fn identify(mut request: Request, next: Next) -> Response {
    request.extensions_mut().insert(Caller {
        project_id: PROJECT.into(),
    });
    next.run(request).await
}
