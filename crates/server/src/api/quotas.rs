//! `/v2.0/quotas`: how many resources of each kind a project may have, and has.
//!
//! A quota has the name of its resource; that of gateway connections has dashes, as networking-l2gw registers it. Input
//! takes either spelling.

use std::collections::BTreeMap;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use model::fault::{Fault, FaultKind};
use model::resource::{Kind, Resource, cut};
use model::{table, validate};
use serde_json::{Map, Value, json};

use super::Api;
use super::body;
use super::caller::administrators;
use super::discovery::document;
use super::errors::Refused;
use super::handlers::{caller, having_changed};
use super::router::{InPath, documents};
use crate::audit::Changes;
use crate::rules::quota::{kind, used};

/// Largest limit (`neutron_lib.db.constants.DB_INTEGER_MAX_VALUE`).
const MAX: i64 = 2_147_483_647;

type Answer = Result<Response, Refused>;
type Limits = BTreeMap<Kind, i64>;

pub(super) fn routes() -> Router<Api> {
    let own = Router::new()
        .route("/v2.0/quotas/tenant", documents(get(own_tenant)))
        .route("/v2.0/quotas/project", documents(get(own_project)));
    Router::new()
        .route("/v2.0/quotas", documents(get(list)))
        .route(
            "/v2.0/quotas/{project}",
            documents(get(show).put(update).delete(delete)),
        )
        .route("/v2.0/quotas/{project}/default", documents(get(defaults)))
        .route("/v2.0/quotas/{project}/details", documents(get(details)))
        .route_layer(middleware::from_fn(administrators))
        .merge(own)
}

/// The projects for which something was set.
async fn list(State(api): State<Api>) -> Answer {
    let quotas = api.rules.quotas;
    let all = api.store.read(move |snapshot| {
        let mut all = Vec::new();
        for project in snapshot.projects_with_quotas()? {
            let mut shown = shown(&quotas.of(snapshot, &project)?);
            shown.insert("tenant_id".to_owned(), project.clone().into());
            shown.insert("project_id".to_owned(), project.into());
            all.push(Value::Object(shown));
        }
        Ok(all)
    });
    Ok(document(&json!({"quotas": all.await?})))
}

async fn own_tenant(request: Request) -> Answer {
    let project = caller(&request)?.project_id;
    Ok(document(&json!({"tenant": {"tenant_id": &*project}})))
}

async fn own_project(request: Request) -> Answer {
    let project = caller(&request)?.project_id;
    Ok(document(&json!({"project": {"project_id": &*project}})))
}

async fn show(State(api): State<Api>, InPath(project): InPath) -> Answer {
    named(&project)?;
    let quotas = api.rules.quotas;
    let limits = api
        .store
        .read(move |snapshot| quotas.of(snapshot, &project));
    Ok(quota(&limits.await?))
}

async fn defaults(State(api): State<Api>, InPath(project): InPath) -> Answer {
    named(&project)?;
    Ok(quota(&api.rules.quotas.all()))
}

async fn details(State(api): State<Api>, InPath(project): InPath) -> Answer {
    named(&project)?;
    let quotas = api.rules.quotas;
    let details = api.store.read(move |snapshot| {
        let mut details = Map::new();
        for (kind, limit) in quotas.of(snapshot, &project)? {
            let used = used(snapshot, kind, &project)?;
            details.insert(
                key(kind),
                json!({"limit": limit, "used": used, "reserved": 0}),
            );
        }
        Ok(details)
    });
    Ok(document(&json!({"quota": details.await?})))
}

async fn update(State(api): State<Api>, InPath(project): InPath, request: Request) -> Answer {
    let arrived = body::read(request, &api.bodies).await?;
    let (wanted, _room) = body::parsed(arrived, wanted).await?;
    let Wanted {
        limits: wanted,
        check,
    } = wanted;
    named(&project)?;
    let quotas = api.rules.quotas;
    let (limits, changes) = api
        .store
        .write(move |tx| {
            if check {
                for (kind, limit) in &wanted {
                    suffices(*limit, *kind, used(tx, *kind, &project)?)?;
                }
            }
            let before = tx.quotas(&project)?;
            let mut set = before.clone();
            set.extend(wanted);
            tx.put_quotas(&project, &set)?;
            let changes = changed(&project, &before, &set);
            Ok((quotas.of(tx, &project)?, changes))
        })
        .await?;
    Ok(having_changed(quota(&limits), Some(changes)))
}

/// For the audit log: what was set for the project, and what is.
fn changed(project: &str, before: &Limits, after: &Limits) -> Changes {
    let [before, after] = [before, after].map(|limits| match limits.is_empty() {
        true => Value::Null,
        false => Value::Object(shown(limits)),
    });
    Changes::other("quota", project, &before, &after)
}

/// Back to the defaults.
async fn delete(State(api): State<Api>, InPath(project): InPath) -> Answer {
    named(&project)?;
    let changes = api
        .store
        .write(move |tx| {
            let before = tx.quotas(&project)?;
            if before.is_empty() {
                return Err(Fault::new(
                    FaultKind::TenantQuotaNotFound,
                    format!("Quota for tenant {project} could not be found."),
                ));
            }
            let none = Limits::new();
            tx.put_quotas(&project, &none)?;
            Ok(changed(&project, &before, &none))
        })
        .await?;
    let response = StatusCode::NO_CONTENT.into_response();
    Ok(having_changed(response, Some(changes)))
}

/// What a PUT asks for.
struct Wanted {
    limits: Limits,
    /// Whether a limit below what is in use is refused.
    check: bool,
}

fn wanted(bytes: &[u8]) -> Result<Wanted, Fault> {
    let mut body = body::object_in(bytes, "quota")?;
    let check = body.shift_remove("check_limit");
    body.shift_remove("force");
    let mut limits = Limits::new();
    let mut unknown = Vec::new();
    for (name, value) in &body {
        match kind(name) {
            Some(kind) => {
                if let model::row::Value::Integer(limit) = validate::whole(name, value, -1, MAX)? {
                    limits.insert(kind, limit);
                }
            }
            None => unknown.push(name.as_str()),
        }
    }
    if unknown.is_empty() {
        let check = check == Some(Value::Bool(true));
        return Ok(Wanted { limits, check });
    }
    unknown.sort_unstable();
    Err(Fault::new(
        FaultKind::InvalidBody,
        format!("Unrecognized attribute(s) '{}'", cut(&unknown.join(", "))),
    ))
}

/// A project as long as the longest that can own anything.
fn named(project: &str) -> Result<(), Fault> {
    let tenant = Resource::of(Kind::Network).attribute("tenant_id");
    match tenant {
        Some(tenant) => validate::value(tenant, "project", &project.into()).map(drop),
        None => Ok(()),
    }
}

fn suffices(limit: i64, kind: Kind, used: u64) -> Result<(), Fault> {
    match u64::try_from(limit) {
        Ok(limit) if limit < used => Err(Fault::new(
            FaultKind::InvalidBody,
            format!(
                "Quota limit {limit} for {} must be greater than or equal to already used {used}",
                key(kind)
            ),
        )),
        _ => Ok(()),
    }
}

fn quota(limits: &Limits) -> Response {
    document(&json!({"quota": shown(limits)}))
}

fn shown(limits: &Limits) -> Map<String, Value> {
    let in_order = table::ALL.iter().filter_map(|resource| {
        let limit = limits.get(&resource.kind)?;
        Some((key(resource.kind), Value::from(*limit)))
    });
    in_order.collect()
}

/// The name of a quota on output.
pub(super) fn key(kind: Kind) -> String {
    let member = Resource::of(kind).member;
    match kind {
        Kind::L2GatewayConnection => member.replace('_', "-"),
        _ => member.to_owned(),
    }
}
