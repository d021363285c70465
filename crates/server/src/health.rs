//! `/healthcheck`: whether a load balancer should send requests here. The shape is oslo.middleware's (its `healthcheck`
//! application), so that what watches other OpenStack services watches this one.
//!
//! Healthy means that the API can answer: the database answers, and no operator took the server out by a file. A switch
//! that is away does not make a server unhealthy — no other server would reach it either — and only shows in the detail.
//! So does Keystone: tokens that are known go on while it is away.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use openstack::Validator;
use serde_json::{Value, json};
use store::Store;

use crate::api::method_not_allowed;
use crate::audit::Audit;
use crate::status::Board;

/// A database that needs longer than this for one small read is of no use to clients.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is looked at.
#[derive(Clone)]
pub struct Health {
    /// Must answer.
    pub store: Store,
    /// What the controllers tell of the switches.
    pub board: Arc<Board>,
    /// Must be written, if there is one: otherwise no change is accepted.
    pub audit: Option<Audit>,
    /// Is asked whose tokens are, if callers have tokens of Keystone's.
    pub keystone: Option<Validator>,
    /// While it exists, the server wants no requests.
    pub disable_file: Option<PathBuf>,
    /// Whether `?detailed` is answered; who may connect from elsewhere must not learn where the switches are.
    pub detailed: bool,
}

/// One thing that was looked at, as oslo.middleware words it.
struct Finding {
    class: &'static str,
    reason: String,
    details: String,
    healthy: bool,
}

impl Finding {
    fn json(&self) -> Value {
        json!({"class": self.class, "details": self.details, "reason": self.reason})
    }
}

/// `/healthcheck`, for everybody who can connect.
pub fn routes(health: Health) -> Router {
    Router::new()
        .route("/healthcheck", get(show).head(head))
        .method_not_allowed_fallback(async || method_not_allowed())
        .with_state(health)
}

async fn show(State(health): State<Health>, uri: Uri, headers: HeaderMap) -> Response {
    let findings = health.essential().await;
    let status = match findings.iter().all(|finding| finding.healthy) {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    let detailed = health.detailed && asks_for_detail(&uri);
    let wants_json = headers
        .get(ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .is_some_and(|accept| accept.contains("application/json"));
    if detailed {
        let keystone = health.keystone().await;
        let findings = findings.into_iter().chain(keystone);
        let findings = findings.chain(health.switches());
        let reasons: Vec<_> = findings.map(|finding| finding.json()).collect();
        return document(status, &json!({"detailed": true, "reasons": reasons}));
    }
    let mut reasons: Vec<_> = findings
        .into_iter()
        .filter(|finding| !finding.healthy)
        .map(|finding| finding.reason)
        .collect();
    if reasons.is_empty() {
        reasons.push("OK".to_owned());
    }
    if wants_json {
        return document(status, &json!({"detailed": false, "reasons": reasons}));
    }
    (status, reasons.join("\n")).into_response()
}

/// oslo.middleware answers HEAD without content.
async fn head(State(health): State<Health>) -> StatusCode {
    match health.essential().await.iter().all(|f| f.healthy) {
        true => StatusCode::NO_CONTENT,
        false => StatusCode::SERVICE_UNAVAILABLE,
    }
}

fn asks_for_detail(uri: &Uri) -> bool {
    let query = uri.query().unwrap_or_default();
    form_urlencoded::parse(query.as_bytes())
        .any(|(key, value)| key == "detailed" && !["0", "false", "False"].contains(&value.as_ref()))
}

fn document(status: StatusCode, document: &Value) -> Response {
    (
        status,
        [(CONTENT_TYPE, "application/json")],
        document.to_string(),
    )
        .into_response()
}

impl Health {
    /// What decides whether the server is healthy.
    async fn essential(&self) -> Vec<Finding> {
        let disabled = match &self.disable_file {
            Some(file) => tokio::fs::try_exists(file).await.unwrap_or(false),
            None => false,
        };
        let mut findings = vec![self.database().await];
        findings.extend(self.audit.as_ref().map(|audit| {
            let failing = audit.is_failing();
            let (reason, details) = match failing {
                true => (
                    "AUDIT LOG UNAVAILABLE",
                    "it cannot be written; no change is accepted",
                ),
                false => ("OK", ""),
            };
            Finding {
                class: "AuditLog",
                reason: reason.to_owned(),
                details: details.to_owned(),
                healthy: !failing,
            }
        }));
        if disabled {
            findings.push(Finding {
                class: "DisableByFileHealthcheck",
                reason: "DISABLED BY FILE".to_owned(),
                details: String::new(),
                healthy: false,
            });
        }
        findings
    }

    async fn database(&self) -> Finding {
        let look = self.store.read(|snapshot| snapshot.seen_devices());
        let trouble = match tokio::time::timeout(PATIENCE, look).await {
            Ok(Ok(_)) => None,
            Ok(Err(fault)) => Some(fault.to_string()),
            Err(_) => Some(format!("no answer within {PATIENCE:?}")),
        };
        if let Some(trouble) = &trouble {
            tracing::error!(trouble, "the database fails its health check");
        }
        let healthy = trouble.is_none();
        Finding {
            class: "Database",
            reason: if healthy {
                "OK"
            } else {
                "DATABASE UNAVAILABLE"
            }
            .to_owned(),
            details: trouble.unwrap_or_default(),
            healthy,
        }
    }

    /// Whether Keystone answers, if it is asked at all.
    async fn keystone(&self) -> Option<Finding> {
        let look = self.keystone.as_ref()?.check();
        let trouble = match tokio::time::timeout(PATIENCE, look).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some(format!("no answer within {PATIENCE:?}")),
        };
        let healthy = trouble.is_none();
        Some(Finding {
            class: "Keystone",
            reason: if healthy {
                "OK"
            } else {
                "KEYSTONE UNAVAILABLE"
            }
            .to_owned(),
            details: trouble.unwrap_or_default(),
            healthy,
        })
    }

    /// One finding for each switch target.
    fn switches(&self) -> Vec<Finding> {
        let accounts = self.board.accounts();
        let found = accounts.iter().map(|account| {
            let told = account.told();
            let devices: Vec<_> = told.devices.iter().map(|name| &**name).collect();
            let connected = told.connected_since.is_some();
            let state = match (connected, told.away) {
                (true, _) => "connected".to_owned(),
                (false, Some(reason)) => format!("away: {reason}"),
                (false, None) => "connecting".to_owned(),
            };
            let devices = match devices.as_slice() {
                [] => "no switch seen yet".to_owned(),
                names => names.join(", "),
            };
            Finding {
                class: "Switch",
                reason: if connected { "OK" } else { "AWAY" }.to_owned(),
                details: format!("{}: {devices}: {state}", account.endpoint),
                healthy: connected,
            }
        });
        found.collect()
    }
}
