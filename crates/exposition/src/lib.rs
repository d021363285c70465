//! How both daemons tell Prometheus what they measured: the OpenMetrics text format, and what every process tells.
//!
//! What is measured is theirs. Rules for them: names carry their unit, labels have few values, and whatever can be looked at
//! when somebody asks costs nothing while nobody does.
#![deny(missing_docs)]

pub mod process;

use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::registry::Registry;

/// OpenMetrics 1.0, section "Protocol Negotiation".
const FORMAT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A scrape's answer: the metrics, or in words why they can't be told.
pub fn answer(metrics: Result<String, String>) -> Response {
    match metrics {
        Ok(text) => ([(CONTENT_TYPE, FORMAT)], text).into_response(),
        Err(trouble) => {
            tracing::error!(trouble, "the metrics cannot be told");
            (StatusCode::SERVICE_UNAVAILABLE, trouble).into_response()
        }
    }
}

/// All metrics as text, those of the process behind those of `registry`.
///
/// # Errors
/// In words; it takes a metric that can't be written.
pub fn text(registry: &Registry, started: jiff::Timestamp) -> Result<String, String> {
    let process = process::registry(started);
    let mut text = String::new();
    encode_registry(&mut text, registry)
        .and_then(|()| encode_registry(&mut text, &process))
        .and_then(|()| encode_eof(&mut text))
        .map_err(|error| error.to_string())?;
    Ok(text)
}
