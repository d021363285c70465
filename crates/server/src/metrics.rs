//! `/metrics`, in the OpenMetrics text format that Prometheus reads.
//!
//! Rules:
//! - Names carry their unit, and labels have few values: a route is its template, a method nobody knows is `other`.
//! - Only requests are counted as they happen. Everything else is looked at when somebody asks, so that it costs nothing
//!   while nobody does.

mod census;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::Response;
use axum::routing::get;
use ovsdb::Budget;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use store::Store;

use crate::account::{Account, Tally};
use crate::api::{Bodies, method_not_allowed};
use crate::audit::Audit;
use crate::status::Board;

use self::census::Census;

/// Upper bounds in seconds: a read takes half a millisecond, a bulk of 100,000 MACs a second.
const LATENCIES: [f64; 14] = [
    0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// What is measured, and what is looked at when somebody asks.
pub struct Metrics {
    requests: Family<RequestLabels, Histogram, fn() -> Histogram>,
    board: Arc<Board>,
    census: Census,
    audit: Option<Audit>,
    bodies: Bodies,
    callers: Budget,
    started: jiff::Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    method: &'static str,
    route: String,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SwitchLabels {
    target: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallerLabels {
    expected: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ClosedLabels {
    cause: &'static str,
}

/// `/metrics`, for everybody who can connect.
pub fn routes(metrics: Arc<Metrics>) -> Router {
    Router::new()
        .route("/metrics", get(show))
        .method_not_allowed_fallback(async || method_not_allowed())
        .with_state(metrics)
}

/// Measures the requests that pass through, by the route that their replies name. A list counts as answered when its
/// first byte can be sent.
pub async fn measure(
    State(metrics): State<Arc<Metrics>>,
    request: Request,
    next: Next,
) -> Response {
    let method = label(request.method());
    let start = Instant::now();
    let response = next.run(request).await;
    let route = response.extensions().get::<MatchedPath>();
    let labels = RequestLabels {
        method,
        route: route.map_or("unmatched", MatchedPath::as_str).to_owned(),
        status: response.status().as_u16(),
    };
    let taken = start.elapsed().as_secs_f64();
    metrics.requests.get_or_create(&labels).observe(taken);
    response
}

/// Clients may invent methods; they must not invent time series.
fn label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::PATCH => "PATCH",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

async fn show(State(metrics): State<Arc<Metrics>>) -> Response {
    exposition::answer(metrics.exposition().await)
}

impl Metrics {
    /// Of a server with this database and these controllers.
    pub fn new(
        store: Store,
        board: Arc<Board>,
        audit: Option<Audit>,
        bodies: Bodies,
        callers: Budget,
    ) -> Self {
        Self {
            requests: Family::new_with_constructor(|| Histogram::new(LATENCIES)),
            census: Census::new(store, Arc::clone(&board)),
            board,
            audit,
            bodies,
            callers,
            started: jiff::Timestamp::now(),
        }
    }

    async fn exposition(&self) -> Result<String, String> {
        let mut registry = Registry::with_prefix("l2gw");
        registry.register(
            "build",
            "Which program this is",
            Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]),
        );
        registry.register_with_unit(
            "http_request_duration",
            "Time from a request's head to the head of its reply",
            Unit::Seconds,
            self.requests.clone(),
        );
        // Without a database the rest is still worth telling, and most of all then.
        match self.census.resources().await {
            Ok(resources) => registry.register(
                "resources",
                "Resources, by kind and by what the switches hold of them",
                resources,
            ),
            Err(fault) => tracing::error!(%fault, "the resources cannot be counted"),
        }
        if let Some(audit) = &self.audit {
            let lines = Counter::<u64>::default();
            lines.inc_by(audit.written());
            registry.register("audit_log_lines", "Lines of the audit log", lines);
            let failing = Gauge::<i64>::default();
            failing.set(i64::from(audit.is_failing()));
            registry.register(
                "audit_log_failing",
                "Whether the audit log cannot be written, so that no change is accepted",
                failing,
            );
        }
        self.register_bodies(&mut registry);
        self.register_callers(&mut registry);
        let (accounts, tallies) = (self.board.accounts(), self.board.tallies());
        // Comparing 100,000 rows takes some milliseconds.
        let registry = tokio::task::spawn_blocking(move || {
            register_switches(&mut registry, &accounts, &tallies);
            registry
        })
        .await
        .map_err(|error| error.to_string())?;
        exposition::text(&registry, self.started)
    }

    /// What there is of the room that large bodies share.
    fn register_bodies(&self, registry: &mut Registry) {
        let gauge = |value: usize| {
            let gauge = Gauge::<i64>::default();
            gauge.set(rows(value));
            gauge
        };
        registry.register_with_unit(
            "http_bodies_room",
            "Room that the large bodies of all requests have together",
            Unit::Bytes,
            gauge(self.bodies.all()),
        );
        registry.register_with_unit(
            "http_bodies_room_taken",
            "Room that bodies have of it until their requests are answered",
            Unit::Bytes,
            gauge(self.bodies.taken()),
        );
        registry.register(
            "http_bodies_waiting",
            "Bodies that wait for room",
            gauge(self.bodies.waiting()),
        );
    }

    /// What those have who dialled us.
    fn register_callers(&self, registry: &mut Registry) {
        let usage = self.callers.usage();
        let connections = Family::<CallerLabels, Gauge>::default();
        let bytes = Family::<CallerLabels, Gauge>::default();
        for (expected, count, taken) in [
            ("true", usage.expected, usage.expected_bytes),
            ("false", usage.strangers, usage.strangers_bytes),
        ] {
            let labels = CallerLabels { expected };
            connections.get_or_create(&labels).set(rows(count));
            bytes.get_or_create(&labels).set(rows(taken));
        }
        let closed = Family::<ClosedLabels, Counter>::default();
        for (cause, count) in [
            ("memory", usage.closed.for_bytes),
            ("connections", usage.closed.for_connections),
        ] {
            closed.get_or_create(&ClosedLabels { cause }).inc_by(count);
        }
        let room = Gauge::<i64>::default();
        room.set(rows(usage.bounds.bytes));
        registry.register_with_unit(
            "callers_room",
            "Memory that those who dial us may have together (--ovsdb-listen-memory)",
            Unit::Bytes,
            room,
        );
        registry.register_with_unit(
            "callers_room_taken",
            "Memory that they have of it; expected are switches that a gateway names",
            Unit::Bytes,
            bytes,
        );
        registry.register(
            "callers",
            "Connections of those who dialled us",
            connections,
        );
        registry.register(
            "callers_closed",
            "Connections that had to go because all of them together had too much memory, or were too many",
            closed,
        );
    }
}

/// What the controllers tell of their targets.
fn register_switches(
    registry: &mut Registry,
    accounts: &[Arc<Account>],
    tallies: &BTreeMap<String, Arc<Tally>>,
) {
    let gauge = Family::<SwitchLabels, Gauge>::default;
    let seconds = Family::<SwitchLabels, Gauge<f64, std::sync::atomic::AtomicU64>>::default;
    let counter = Family::<SwitchLabels, Counter>::default;
    let (connected, wanted, held, steps) = (gauge(), gauge(), gauge(), gauge());
    let (planning, delay) = (seconds(), seconds());
    let (refused, lost) = (counter(), counter());
    for (label, tally) in tallies {
        let target = SwitchLabels {
            target: label.clone(),
        };
        // A switch that had dialled us and is gone has no account, and must not be missed in silence.
        connected.get_or_create(&target).set(0);
        refused.get_or_create(&target).inc_by(tally.refused_steps());
        lost.get_or_create(&target).inc_by(tally.sessions_lost());
    }
    for account in accounts {
        let told = account.told();
        let target = SwitchLabels {
            target: account.label.clone(),
        };
        let up = i64::from(told.connected_since.is_some());
        connected.get_or_create(&target).set(up);
        if let Some(found) = account.compare() {
            wanted.get_or_create(&target).set(rows(found.wanted));
            held.get_or_create(&target).set(rows(found.held));
        }
        if let Some(planned) = told.planned {
            steps.get_or_create(&target).set(rows(planned.steps));
            let taken = planned.took.as_secs_f64();
            planning.get_or_create(&target).set(taken);
        }
        if let Some(waited) = told.queue_delay {
            delay.get_or_create(&target).set(waited.as_secs_f64());
        }
    }
    let mut switch = |name: &str, help: &str, metric| registry.register(name, help, metric);
    switch(
        "switch_connected",
        "Whether the session with the switch database is up",
        connected,
    );
    switch(
        "switch_rows_wanted",
        "Rows that the switch database should hold",
        wanted,
    );
    switch(
        "switch_rows_held",
        "Rows of ours that the switch database holds, or last held",
        held,
    );
    switch(
        "switch_plan_steps",
        "Steps of the last plan; 0 when the switch holds it all",
        steps,
    );
    registry.register_with_unit(
        "switch_plan_duration",
        "Time that making the last plan took",
        Unit::Seconds,
        planning,
    );
    registry.register_with_unit(
        "switch_queue_delay",
        "Time from the last change's commit until the controller looked at it",
        Unit::Seconds,
        delay,
    );
    registry.register(
        "switch_refused_steps",
        "Steps that the switch database refused",
        refused,
    );
    registry.register(
        "switch_sessions_lost",
        "Sessions with the switch database that ended",
        lost,
    );
}

fn rows(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
