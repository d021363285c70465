//! Who asks: found out before any handler runs.

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::Api;
use super::errors::Refused;
pub(crate) use crate::auth::Caller;
use crate::auth::{Auth, Operation, Stopped};

/// Finds out who asks and puts the [`Caller`] among the request's extensions. The list of versions is for everybody, as
/// in Neutron: clients look at it before they log in.
pub(super) async fn identify(
    State(api): State<Api>,
    mut request: Request,
    next: Next,
) -> Result<Response, Response> {
    let for_everybody = request.uri().path() == "/" && api.auth.tells_callers_apart();
    if for_everybody {
        return Ok(next.run(request).await);
    }
    let caller = {
        let caller = api.auth.identify(request.headers()).await;
        caller.map_err(|stopped| match stopped {
            Stopped::Unauthenticated(challenge) => Stopped::unauthenticated(challenge),
            Stopped::Fault(fault) => Refused(fault).into_response(),
        })?
    };
    request.extensions_mut().insert(caller.clone());
    let mut response = next.run(request).await;
    // For the log.
    response.extensions_mut().insert(caller);
    Ok(response)
}

/// Lets administrators through alone.
pub(super) async fn administrators(request: Request, next: Next) -> Result<Response, Refused> {
    let caller = super::handlers::caller(&request)?;
    let operation = match request.method().as_str() {
        "GET" | "HEAD" => Operation::Get,
        "POST" => Operation::Create,
        "DELETE" => Operation::Delete,
        _ => Operation::Update,
    };
    Auth::check_admin(&caller, operation)?;
    Ok(next.run(request).await)
}
