//! Faults as replies: `{"NeutronError": {"type": …, "message": …, "detail": ""}}`.

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use model::encode::write_text;
use model::fault::{Fault, FaultKind};

pub(super) const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Seconds after which a client may try again when Keystone or the database did not answer.
const SOON: HeaderValue = HeaderValue::from_static("5");

/// A fault on its way out. The reply carries it as an extension, so that the log has its detail.
#[derive(Clone, Debug)]
pub(crate) struct Refused(pub(super) Fault);

impl From<Fault> for Refused {
    fn from(fault: Fault) -> Self {
        Self(fault)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let mut body = b"{\"NeutronError\":{\"type\":".to_vec();
        write_text(&mut body, self.0.kind.type_name());
        body.extend_from_slice(b",\"message\":");
        write_text(&mut body, &self.0.message);
        body.extend_from_slice(b",\"detail\":\"\"}}");
        let mut response = Response::new(Body::from(body));
        *response.status_mut() =
            StatusCode::from_u16(self.0.kind.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        response.headers_mut().insert(CONTENT_TYPE, JSON);
        if self.0.kind == FaultKind::Unavailable {
            response.headers_mut().insert(RETRY_AFTER, SOON);
        }
        response.extensions_mut().insert(self);
        response
    }
}

/// The path leads nowhere.
pub(super) fn no_such_path() -> Refused {
    Refused(Fault::new(
        FaultKind::NoSuchPath,
        "The resource could not be found.",
    ))
}

/// The path exists, the method does not.
pub(crate) fn method_not_allowed() -> Refused {
    Refused(Fault::new(
        FaultKind::MethodNotAllowed,
        "The server could not comply with the request since it is either malformed or otherwise incorrect.",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_told_to_come_back_is_told_when() {
        let away = Refused(Fault::unavailable("Keystone", "connection refused"));
        let response = away.into_response();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(response.headers().contains_key(RETRY_AFTER));
        assert!(
            !no_such_path()
                .into_response()
                .headers()
                .contains_key(RETRY_AFTER)
        );
    }
}
