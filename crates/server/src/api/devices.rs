//! Devices: what the controllers tell of physical switches, as [`model::view`] has it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use hardware_vtep::{Capabilities, LocalMac};
use model::fault::{Fault, FaultKind};
use model::intent::Declared;
use model::plan::{Blocked, Plan};
use model::status::{Report, Status};
use model::switch::LogicalSwitchName;
use model::view::{L2_DEVICE, L2_DEVICE_PLAN, L2_LOCAL_MAC, View};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use store::Transaction;

use super::errors::{JSON, Refused, method_not_allowed};
use super::handlers::having_changed;
use super::router::InPath;
use super::{Api, body};
use crate::account::{Account, Comparison, Consent, Told};
use crate::audit::Changes;
use crate::rules::device;
use crate::status::{quarrelled, unavailable};

/// The paths of devices.
pub(super) fn routes() -> Router<Api> {
    let all = format!("/v2.0/{}", L2_DEVICE.path);
    let head = async || method_not_allowed();
    Router::new()
        .route(&all, get(list).head(head))
        .route(
            &format!("{all}/{{name}}"),
            get(show).head(head).delete(delete),
        )
        .route(&format!("{all}/{{name}}/plan"), get(plan).head(head))
        .route(
            &format!("{all}/{{name}}/accept-removal"),
            post(accept_removal),
        )
        .route(
            &format!("/v2.0/{}", L2_LOCAL_MAC.path),
            get(local_macs).head(head),
        )
}

async fn list(State(api): State<Api>, uri: Uri) -> Result<Response, Refused> {
    let devices = look(&api, None).await?;
    let wanted = Filters::of(&L2_DEVICE, &uri);
    let records = devices
        .iter()
        .map(|device| record(&L2_DEVICE, |name| device.value(name)));
    let records = records.filter(|record| wanted.matches(record));
    Ok(answer(L2_DEVICE.collection, records.collect()))
}

async fn local_macs(State(api): State<Api>, uri: Uri) -> Result<Response, Refused> {
    let wanted = Filters::of(&L2_LOCAL_MAC, &uri);
    let work = move || {
        let accounts = api.board.accounts();
        let mut macs: Vec<_> = accounts.iter().flat_map(|a| a.local_macs()).collect();
        // In an order that people find their way in, and that stays.
        macs.sort_unstable();
        let records = macs
            .iter()
            .map(|found| record(&L2_LOCAL_MAC, |name| of_local_mac(found, name)));
        let records = records.filter(|record| wanted.matches(record));
        answer(L2_LOCAL_MAC.collection, records.collect())
    };
    let answer = tokio::task::spawn_blocking(work).await;
    Ok(answer.map_err(Fault::internal)?)
}

fn of_local_mac(found: &LocalMac, attribute: &str) -> Value {
    let port = found.port.as_ref();
    match attribute {
        "mac_address" => json!(found.mac.to_string()),
        "ip_address" => json!(found.ip),
        "network_id" => json!(found.logical_switch.as_str()),
        "device" => json!(found.switch.as_deref()),
        "port" => json!(port.map(|bound| &*bound.port.name)),
        "vlan" => json!(port.map(|bound| bound.vlan.get())),
        "tunnel_ip" => json!(found.tunnel_ip),
        _ => Value::Null,
    }
}

/// What records must be: each attribute that the query names has one of the values it gives.
struct Filters(BTreeMap<&'static str, Vec<String>>);

impl Filters {
    fn of(view: &View, uri: &Uri) -> Self {
        let mut filters = BTreeMap::<_, Vec<_>>::new();
        for (key, value) in form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()) {
            if let Some(attribute) = view.attributes.iter().find(|a| a.name == key) {
                let values = filters.entry(attribute.name).or_default();
                values.push(value.into_owned());
            }
        }
        Self(filters)
    }

    fn matches(&self, record: &Value) -> bool {
        self.0.iter().all(|(attribute, values)| {
            let text = match record.get(attribute) {
                Some(Value::String(text)) => text.clone(),
                Some(Value::Null) | None => String::new(),
                Some(other) => other.to_string(),
            };
            values.contains(&text)
        })
    }
}

async fn show(State(api): State<Api>, InPath(name): InPath) -> Result<Response, Refused> {
    let device = find(&api, &name).await?;
    let record = record(&L2_DEVICE, |name| device.value(name));
    Ok(answer(L2_DEVICE.member, record))
}

async fn plan(State(api): State<Api>, InPath(name): InPath) -> Result<Response, Refused> {
    let device = find(&api, &name).await?;
    let (told, found) = device.compared()?;
    let record = record(&L2_DEVICE_PLAN, |name| {
        let withheld = told.withheld.as_ref();
        let waits = |step: &&model::plan::Step| withheld.is_some_and(|it| it.holds(step));
        let steps = found.plan.steps.iter();
        match name {
            "steps" => texts(steps.filter(|step| !waits(step))),
            "waiting" => texts(steps.filter(waits)),
            "blocked" => found.blocked(),
            "withheld" => json!(told.withheld.as_ref().map(ToString::to_string)),
            other => device.value(other),
        }
    });
    Ok(answer(L2_DEVICE_PLAN.member, record))
}

/// Forgets a device that is gone for good.
async fn delete(State(api): State<Api>, InPath(name): InPath) -> Result<Response, Refused> {
    let board = Arc::clone(&api.board);
    let forgotten = name.clone();
    let forget = move |tx: &mut dyn Transaction| {
        device::forget(tx, &board, &forgotten)?;
        Ok(())
    };
    api.store.write(forget).await?;
    api.board.forget(&name);
    let before = json!({"name": name});
    let changes = Changes::other(L2_DEVICE.member, &name, &before, &Value::Null);
    let response = StatusCode::NO_CONTENT.into_response();
    Ok(having_changed(response, Some(changes)))
}

/// The body of a consent, where there is one.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Agreed {
    /// To what concerns this network alone.
    network_id: Option<String>,
}

async fn accept_removal(
    State(api): State<Api>,
    InPath(name): InPath,
    request: Request,
) -> Result<Response, Refused> {
    let body = body::read(request, &api.bodies).await?.bytes;
    let device = find(&api, &name).await?;
    let (told, _) = device.compared()?;
    // Consent that waits for that would be carried out when nobody thinks of it any more.
    if let Some(why) = told.withheld.as_ref().filter(|why| why.is_everything()) {
        return Err(Fault::new(
            FaultKind::L2GatewayDeviceLocked,
            why.to_string(),
        ))?;
    }
    let agreed: Agreed = match body.is_empty() {
        true => Agreed::default(),
        false => serde_json::from_slice(&body)
            .map_err(|error| Fault::new(FaultKind::MalformedBody, error.to_string()))?,
    };
    let after =
        json!({"removal_accepted": agreed.network_id.as_deref().unwrap_or("every network")});
    let changes = Changes::other(L2_DEVICE.member, &name, &Value::Null, &after);
    let consent = match agreed.network_id {
        None => Consent::ToAll,
        Some(id) => {
            let network = LogicalSwitchName::new(id);
            if !device.seats.iter().any(|seat| seat.account.holds(&network)) {
                let message = format!("Network {network} could not be found on device {name}.");
                return Err(Fault::new(FaultKind::NetworkNotFound, message))?;
            }
            Consent::On([network].into())
        }
    };
    let now = *api.store.revisions().borrow();
    for seat in &device.seats {
        seat.account.consent(consent.clone(), now);
    }
    let response = StatusCode::NO_CONTENT.into_response();
    Ok(having_changed(response, Some(changes)))
}

/// A physical switch, and what the controllers tell of it.
struct Device {
    name: Arc<str>,
    /// Nearly always one. None where the switch has not connected since the server started, or had dialled us and is gone;
    /// two when two endpoints have a switch of the name.
    seats: Vec<Seat>,
    /// Why it is gone.
    away: Option<String>,
    /// What is declared for it, here or not.
    declared: Declared,
}

/// What one controller tells.
struct Seat {
    account: Arc<Account>,
    told: Told,
    found: Option<Arc<Comparison>>,
}

impl Device {
    /// What its controller found, if it is there.
    fn compared(&self) -> Result<(&Told, &Comparison), Fault> {
        let up = self.seats.iter().find(|s| s.told.connected_since.is_some());
        let found = up.and_then(|seat| Some((&seat.told, seat.found.as_deref()?)));
        found.ok_or_else(|| {
            let reason = self.report().reason.unwrap_or_default();
            Fault::new(FaultKind::L2GatewayDeviceAway, reason)
        })
    }

    fn report(&self) -> Report {
        if self.seats.is_empty() {
            let reason = match &self.away {
                Some(reason) => format!("switch {} is away: {reason}", self.name),
                None => format!(
                    "switch {} has not connected since the server started",
                    self.name
                ),
            };
            return Report::because(Status::Down, reason);
        }
        Report::of_all(self.seats.iter().map(|seat| seat.report(&self.name)))
    }

    fn value(&self, attribute: &str) -> Value {
        match attribute {
            "name" => json!(&*self.name),
            "status" => json!(self.report().status.as_str()),
            "status_reason" => json!(self.report().reason),
            "networks" => json!(self.declared.networks),
            "connections" => json!(self.declared.connections),
            "remote_macs" => json!(self.declared.remote_macs),
            other => match self.seats.first() {
                Some(seat) => seat.value(&self.name, other),
                None => Value::Null,
            },
        }
    }
}

impl Seat {
    fn report(&self, name: &str) -> Report {
        let told = &self.told;
        if let Some(reason) = &told.away {
            return Report::because(Status::Down, format!("switch {name} is away: {reason}"));
        }
        let Some(found) = &self.found else {
            return Report::because(Status::Build, "its database is being read");
        };
        let complaint = found
            .faults
            .get(name)
            .map(|fault| format!("it reports {fault}"));
        let refused = told.refusals.iter().next();
        let blocked = found
            .plan
            .blocked
            .iter()
            .find(|blocked| blocked.concerns(name));
        let error = complaint
            .or_else(|| {
                let withheld = told.withheld.as_ref();
                withheld.map(|why| match why.is_everything() {
                    true => format!("nothing is written: {why}"),
                    false => format!("removals are withheld: {why}"),
                })
            })
            .or_else(|| refused.map(|(on, words)| format!("it refused {on}: {words}")))
            .or_else(|| {
                blocked.map(|blocked| match blocked {
                    Blocked::Binding { .. } => unavailable(blocked),
                    Blocked::Network { logical_switch, .. } => {
                        format!("network {logical_switch}: {}", unavailable(blocked))
                    }
                })
            })
            .or_else(|| {
                let (on, reason) = found.unable.first()?;
                Some(format!("network {on}: {reason}"))
            })
            .or_else(|| {
                let (on, times) = told.quarrels.iter().next()?;
                Some(format!("network {on}: {}", quarrelled(*times)))
            });
        match error {
            Some(reason) => Report::because(Status::Error, reason),
            None if found.plan.is_empty() => Report::ACTIVE,
            None => Report::because(Status::Build, "rows are on their way"),
        }
    }

    fn value(&self, name: &str, attribute: &str) -> Value {
        let told = &self.told;
        let found = self.found.as_deref();
        let switch = found.and_then(|found| found.switches.get(name));
        let time = |at: Option<jiff::Timestamp>| {
            json!(at.map(|at| at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()))
        };
        match attribute {
            "endpoint" => json!(self.account.endpoint),
            "connected_since" => time(told.connected_since),
            "written_at" => time(told.written_at),
            "schema_version" => json!(told.schema_version),
            "capabilities" => json!(found.map(|found| capabilities(found.capabilities))),
            "tunnel_ips" => json!(switch.map(|switch| &switch.tunnel_ips)),
            "ports" => match switch {
                Some(switch) => texts(switch.ports.keys()),
                None => Value::Null,
            },
            "rows_wanted" => json!(found.map(|found| found.wanted)),
            "rows_held" => json!(found.map(|found| found.held)),
            "lacking" => json!(found.map(|found| found.plan.steps.len() - removals(&found.plan))),
            "extra" => json!(found.map(|found| removals(&found.plan))),
            "faults" => json!(found.and_then(|found| found.faults.get(name))),
            "blocked" => found.map_or(Value::Null, Comparison::blocked),
            "refused" => texts(
                told.refusals
                    .iter()
                    .map(|(on, words)| format!("{on}: {words}")),
            ),
            "withheld" => json!(told.withheld.as_ref().map(ToString::to_string)),
            _ => Value::Null,
        }
    }
}

impl Comparison {
    /// What is wanted and cannot be had, in words.
    fn blocked(&self) -> Value {
        let blocked = self.plan.blocked.iter().map(ToString::to_string);
        let unable = self.unable.iter();
        let unable = unable.map(|(on, reason)| format!("! network {on}: {reason}"));
        blocked.chain(unable).collect()
    }
}

fn removals(plan: &Plan) -> usize {
    plan.steps.iter().filter(|step| step.only_removes()).count()
}

fn capabilities(of: Capabilities) -> Vec<&'static str> {
    let columns = [
        (of.locator_tunnel_key, "Physical_Locator.tunnel_key"),
        (
            of.logical_switch_other_config,
            "Logical_Switch.other_config",
        ),
        (of.replication_mode, "Logical_Switch.replication_mode"),
        (of.global_other_config, "Global.other_config"),
        (
            of.switch_fault_status,
            "Physical_Switch.switch_fault_status",
        ),
        (of.port_fault_status, "Physical_Port.port_fault_status"),
        (of.bfd, "Tunnel.bfd_params"),
    ];
    let there = columns.into_iter().filter(|(there, _)| *there);
    there.map(|(_, column)| column).collect()
}

async fn find(api: &Api, name: &str) -> Result<Device, Refused> {
    let found = look(api, Some(name)).await?.pop();
    Ok(found.ok_or_else(|| {
        Fault::new(
            FaultKind::L2GatewayDeviceNotFound,
            format!("L2 Gateway Device {name} could not be found."),
        )
    })?)
}

/// The device of this name, or all devices: those that were ever seen.
async fn look(api: &Api, name: Option<&str>) -> Result<Vec<Device>, Fault> {
    let seen = api.store.read(|snapshot| snapshot.seen_devices()).await?;
    let accounts = api.board.accounts();
    let told: Vec<_> = accounts.iter().map(|account| account.told()).collect();
    let present = told.iter().flat_map(|told| told.devices.iter().cloned());
    let names: BTreeSet<Arc<str>> = seen.into_iter().map(Arc::from).chain(present).collect();
    let names: Vec<_> = names
        .into_iter()
        .filter(|known| name.is_none_or(|name| name == &**known))
        .collect();
    let board = Arc::clone(&api.board);
    let work = move || {
        // Once for each endpoint, however many switches are behind it.
        let needed = accounts
            .into_iter()
            .zip(told)
            .filter(|(_, told)| names.iter().any(|name| told.devices.contains(name)));
        let compared: Vec<_> = needed
            .map(|(account, told)| {
                let found = account.compare().map(Arc::new);
                (account, told, found)
            })
            .collect();
        let device = |name: Arc<str>| {
            let of = compared
                .iter()
                .filter(|(_, told, _)| told.devices.contains(&name));
            let seats = of.map(|(account, told, found)| Seat {
                account: Arc::clone(account),
                told: told.clone(),
                found: found.clone(),
            });
            Device {
                seats: seats.collect(),
                away: board.away(&name),
                declared: board.declared(&name),
                name,
            }
        };
        names.into_iter().map(device).collect()
    };
    // Comparing 100,000 rows takes some milliseconds.
    tokio::task::spawn_blocking(work)
        .await
        .map_err(Fault::internal)
}

fn record(view: &View, value: impl Fn(&str) -> Value) -> Value {
    let attributes = view.attributes.iter();
    let values = attributes.map(|attribute| (attribute.name.to_owned(), value(attribute.name)));
    Value::Object(values.collect::<Map<_, _>>())
}

fn texts(items: impl IntoIterator<Item = impl ToString>) -> Value {
    items
        .into_iter()
        .map(|item| Value::String(item.to_string()))
        .collect()
}

fn answer(key: &str, value: Value) -> Response {
    let document = json!({ key: value });
    ([(CONTENT_TYPE, JSON)], document.to_string()).into_response()
}
