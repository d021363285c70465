//! What create, show, update, delete and list do, for every resource alike.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::header::{CONTENT_TYPE, IF_MATCH};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use model::encode::{Projection, write_text};
use model::fault::{Fault, FaultKind};
use model::resource::{Resource, cut};
use model::row::{Row, Value};
use model::validate::{self, Context};
use store::Snapshot;
use tokio::runtime::Handle;
use uuid::Uuid;

use super::body::{self, Posted, Wrapper};
use super::caller::Caller;
use super::errors::{JSON, Refused, method_not_allowed};
use super::list::{self, CHUNK};
use super::room::Room;
use super::{Api, query};
use crate::audit::{Changes, Recorder, gone_with};
use crate::auth::{Auth, Operation};

/// More rows than these are written down where they keep no other request waiting.
const FEW: usize = 100;

/// The resource that the path of a nested collection names.
#[derive(Debug)]
pub(super) struct Parent {
    pub(super) resource: &'static Resource,
    /// The attribute that refers to it.
    pub(super) attribute: &'static str,
    /// Its id, as the path has it.
    pub(super) id: String,
}

pub(super) async fn create(
    api: Api,
    resource: &'static Resource,
    parent: Option<Parent>,
    request: Request,
) -> Result<Response, Refused> {
    let caller = caller(&request)?;
    let project = Arc::clone(&caller.project_id);
    let arrived = body::read(request, &api.bodies).await?;
    let preferred = wrapper(resource, parent.as_ref());
    let (posted, room) = body::parsed(arrived, move |bytes| {
        let context = Context {
            project: &project,
            parent: parent.as_ref().map(|p| (p.attribute, p.id.as_str())),
        };
        body::posted(resource, preferred, bytes, context)
    })
    .await?;
    let Posted {
        mut rows,
        wrapper,
        bulk,
    } = posted;
    api.auth.check_new(&caller, resource, &rows)?;
    let rules = api.rules.clone();
    let (rows, room) = api
        .store
        .write(move |tx| {
            rules.create(tx, &mut rows, bulk)?;
            Ok((rows, room))
        })
        .await?;
    let (rows, changes) = match &api.audit {
        Some(_) => {
            body::beside(rows.len() > FEW, move || {
                let changes = Recorder::new().created(&rows);
                Ok((rows, Some(changes)))
            })
            .await?
        }
        None => (rows, None),
    };
    let body = match rows.as_slice() {
        [row] if !bulk => Body::from(one(&api, wrapper, &Projection::all(resource), row)),
        _ => many(api, resource, wrapper, rows, room),
    };
    Ok(having_changed(json(StatusCode::CREATED, body), changes))
}

pub(super) async fn show(
    api: Api,
    resource: &'static Resource,
    id: String,
    request: Request,
) -> Result<Response, Refused> {
    let projection = Projection::of(resource, &query::fields(request.uri()));
    let asks = Asks::of(&api, &request, Operation::Get)?;
    let row = found(&api, asks, resource, id).await?;
    let body = one(&api, Wrapper::of(resource), &projection, &row);
    Ok(json(StatusCode::OK, body.into()))
}

pub(super) async fn update(
    api: Api,
    resource: &'static Resource,
    id: String,
    request: Request,
) -> Result<Response, Refused> {
    let precondition = Precondition::of(request.headers())?;
    let asks = Asks::of(&api, &request, Operation::Update)?;
    let arrived = body::read(request, &api.bodies).await?;
    let put = body::parsed(arrived, move |bytes| body::put(resource, bytes));
    let ((wrapper, changes), _room) = put.await?;
    if !resource.updatable {
        return Err(method_not_allowed());
    }
    asks.cheaply(resource)?;
    let rules = api.rules.clone();
    let recorder = api.audit.as_ref().map(|_| Recorder::new());
    let (row, changes) = api
        .store
        .write(move |tx| {
            let mut row = current(tx, &asks, resource, &id)?;
            precondition.holds(&row)?;
            let before = recorder.is_some().then(|| row.clone());
            rules.update(tx, &mut row, changes)?;
            let noted = recorder.zip(before);
            let changes = noted.map(|(recorder, before)| recorder.updated(&before, &row));
            Ok((row, changes))
        })
        .await?;
    let body = one(&api, wrapper, &Projection::all(resource), &row);
    let response = json(StatusCode::OK, body.into());
    Ok(having_changed(response, changes))
}

pub(super) async fn delete(
    api: Api,
    resource: &'static Resource,
    id: String,
    request: Request,
) -> Result<Response, Refused> {
    let precondition = Precondition::of(request.headers())?;
    let asks = Asks::of(&api, &request, Operation::Delete)?;
    asks.cheaply(resource)?;
    // What goes is written down beside, while the database deletes it: all other writes wait for the thread that does.
    let beside = api.audit.as_ref().map(|_| Handle::current());
    let recording = api
        .store
        .write(move |tx| {
            let row = current(tx, &asks, resource, &id)?;
            precondition.holds(&row)?;
            let id = row.id();
            let recording = match beside {
                Some(beside) => {
                    let gone = gone_with(tx, row)?;
                    Some(beside.spawn_blocking(move || Recorder::new().deleted(&gone)))
                }
                None => None,
            };
            tx.delete(resource.kind, id)?;
            Ok(recording)
        })
        .await?;
    let changes = match recording {
        Some(recording) => Some(recording.await.map_err(Fault::internal)?),
        None => None,
    };
    let response = StatusCode::NO_CONTENT.into_response();
    Ok(having_changed(response, changes))
}

pub(super) async fn list(
    api: Api,
    resource: &'static Resource,
    parent: Option<Parent>,
    request: Request,
) -> Result<Response, Refused> {
    let mut listing = query::listing(
        resource,
        request.uri(),
        request.headers(),
        request.extensions(),
    )?;
    let wrapper = wrapper(resource, parent.as_ref());
    let asks = Asks::of(&api, &request, Operation::List)?;
    if let Some(owner) = asks.whose(resource)? {
        listing.query = listing.query.matching("tenant_id", owner);
    }
    if let Some(Parent {
        resource: above,
        attribute,
        id,
    }) = parent
    {
        let asks = Asks::of(&api, &request, Operation::Get)?;
        let row = found(&api, asks, above, id).await?;
        listing.query = listing.query.matching(attribute, Value::Uuid(row.id()));
    }
    Ok(json(
        StatusCode::OK,
        list::body(api, listing, wrapper.collection).await?,
    ))
}

/// The reply with what was changed, for the audit log.
pub(super) fn having_changed(mut response: Response, changes: Option<Changes>) -> Response {
    if let Some(changes) = changes {
        response.extensions_mut().insert(changes);
    }
    response
}

fn wrapper(resource: &'static Resource, parent: Option<&Parent>) -> Wrapper {
    match parent {
        Some(_) => Wrapper::nested(resource),
        None => Wrapper::of(resource),
    }
}

pub(super) fn caller(request: &Request) -> Result<Caller, Fault> {
    let caller = request.extensions().get::<Caller>().cloned();
    caller.ok_or_else(|| Fault::internal("nobody found out who asks"))
}

/// The id that a path names, unless no resource can have it.
fn known(id: &str) -> Option<Uuid> {
    match validate::reference(id) {
        Value::Uuid(id) => Some(id),
        _ => None,
    }
}

async fn found(
    api: &Api,
    asks: Asks,
    resource: &'static Resource,
    id: String,
) -> Result<Row, Fault> {
    asks.cheaply(resource)?;
    match known(&id) {
        Some(_) => {
            let read = move |snapshot: &mut dyn Snapshot| current(snapshot, &asks, resource, &id);
            api.store.read(read).await
        }
        None => Err(asks.missing(resource, &id)),
    }
}

/// The row of this id, if the caller may do with it what is asked.
fn current(
    snapshot: &mut (impl Snapshot + ?Sized),
    asks: &Asks,
    resource: &'static Resource,
    id: &str,
) -> Result<Row, Fault> {
    let row = match known(id) {
        Some(known) => snapshot.get(resource.kind, known)?,
        None => None,
    };
    let row = row.ok_or_else(|| asks.missing(resource, id))?;
    asks.check(resource, &row)?;
    Ok(row)
}

/// Who asks to do what.
struct Asks {
    auth: Arc<Auth>,
    caller: Caller,
    operation: Operation,
}

impl Asks {
    fn of(api: &Api, request: &Request, operation: Operation) -> Result<Self, Fault> {
        Ok(Self {
            auth: Arc::clone(&api.auth),
            caller: caller(request)?,
            operation,
        })
    }

    /// To change or delete is to see first: upstream fetches what it then refuses to touch, and says GET.
    fn operations(&self) -> impl Iterator<Item = Operation> {
        let first = (self.operation != Operation::List).then_some(Operation::Get);
        first.into_iter().chain([self.operation])
    }

    /// Refuses, before anything is read, those who may do this with no resource at all.
    fn cheaply(&self, resource: &Resource) -> Result<(), Fault> {
        for operation in self.operations() {
            self.auth
                .check_possible(&self.caller, operation, resource)?;
        }
        Ok(())
    }

    fn check(&self, resource: &Resource, row: &Row) -> Result<(), Fault> {
        for operation in self.operations() {
            self.auth
                .check(&self.caller, operation, resource, Some(row))?;
        }
        Ok(())
    }

    /// The refusal for a resource that does not exist: those who could not see it do not learn that.
    fn missing(&self, resource: &Resource, id: &str) -> Fault {
        let allowed = self
            .auth
            .check(&self.caller, Operation::Get, resource, None);
        match allowed {
            Ok(()) => resource.not_found.fill(id),
            Err(forbidden) => forbidden,
        }
    }

    /// Whose resources are listed: everybody's, or the caller's own.
    fn whose(&self, resource: &Resource) -> Result<Option<Value>, Fault> {
        self.cheaply(resource)?;
        let (auth, caller) = (&self.auth, &self.caller);
        let all = auth.check(caller, self.operation, resource, None).is_ok();
        Ok((!all).then(|| (&*caller.project_id).into()))
    }
}

/// `If-Match: revision_number=N`: a client that changes what it has seen, and nothing newer. Whatever else stands in
/// If-Match is ignored, as upstream does.
#[derive(Clone, Copy, Debug)]
struct Precondition(Option<u64>);

impl Precondition {
    fn of(headers: &HeaderMap) -> Result<Self, Fault> {
        let value = headers
            .get(IF_MATCH)
            .map(|value| value.to_str().unwrap_or_default());
        let Some(number) = value.and_then(|value| value.trim().strip_prefix("revision_number="))
        else {
            return Ok(Self(None));
        };
        match number.trim().parse() {
            Ok(number) => Ok(Self(Some(number))),
            Err(_) => Err(Fault::new(
                FaultKind::InvalidRequest,
                format!(
                    "Bad if-match request: '{}' is no revision number.",
                    cut(number)
                ),
            )),
        }
    }

    fn holds(self, row: &Row) -> Result<(), Fault> {
        match self.0 {
            Some(expected) if expected != row.revision => Err(Fault::new(
                FaultKind::RevisionConstraint,
                format!(
                    "Constrained to {expected}, but current revision is {}",
                    row.revision
                ),
            )),
            _ => Ok(()),
        }
    }
}

fn json(status: StatusCode, body: Body) -> Response {
    (status, [(CONTENT_TYPE, JSON)], body).into_response()
}

fn one(api: &Api, wrapper: Wrapper, projection: &Projection, row: &Row) -> Vec<u8> {
    let mut out = opening(wrapper.member);
    projection.write(&mut out, row, &*api.report);
    out.push(b'}');
    out
}

/// The reply to a bulk: written while it is sent, so that it is never whole in memory. The rows are, and have the room of
/// the body that they came from.
fn many(
    api: Api,
    resource: &'static Resource,
    wrapper: Wrapper,
    rows: Vec<Row>,
    room: Room,
) -> Body {
    let mut out = opening(wrapper.collection);
    out.push(b'[');
    let projection = Projection::all(resource);
    let state = (out, rows.into_iter().peekable(), room, false);
    let written = stream::unfold(state, move |(mut out, mut rows, room, ended)| {
        let chunk = (!ended).then(|| {
            while out.len() < CHUNK
                && let Some(row) = rows.next()
            {
                projection.write(&mut out, &row, &*api.report);
                out.extend_from_slice(if rows.peek().is_some() { b"," } else { b"]}" });
            }
            Ok::<_, std::convert::Infallible>(Bytes::from(std::mem::take(&mut out)))
        });
        let ended = rows.peek().is_none();
        std::future::ready(chunk.map(|chunk| (chunk, (out, rows, room, ended))))
    });
    Body::from_stream(written)
}

/// `{"key":`
pub(super) fn opening(key: &str) -> Vec<u8> {
    let mut out = vec![b'{'];
    write_text(&mut out, key);
    out.push(b':');
    out
}
