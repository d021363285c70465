//! Request bodies: read within limits, unwrapped, validated one object at a time.
//!
//! A bulk of 100,000 objects is never a tree of values as a whole: the body is cut into the texts of its objects, and
//! each becomes a row before the next is looked at.

use std::collections::BTreeMap;
use std::num::NonZero;
use std::thread;
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody as _};
use axum::extract::Request;
use axum::http::header::EXPECT;
use http_body_util::BodyExt;
use model::fault::{Fault, FaultKind};
use model::resource::Resource;
use model::row::{Row, Value};
use model::validate::{self, Context};
use serde_json::value::RawValue;
use serde_json::{Map, Value as Json};
use tokio::time::Instant;

use super::once::{Members, Object};
use super::room::{Bodies, Room, SMALL};

/// How often a body that is slow is looked at again.
const LOOK: Duration = Duration::from_secs(1);

/// The keys under which objects stand in bodies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wrapper {
    pub(super) member: &'static str,
    pub(super) collection: &'static str,
}

impl Wrapper {
    pub(super) const fn of(resource: &'static Resource) -> Self {
        Self {
            member: resource.member,
            collection: resource.collection,
        }
    }

    /// The keys of a collection below its parent, where the dashed spelling is at home.
    pub(super) fn nested(resource: &'static Resource) -> Self {
        resource.dashed.map_or(Self::of(resource), Self::from)
    }

    /// All keys that are understood, the preferred ones first.
    fn understood(self, resource: &'static Resource) -> impl Iterator<Item = Self> {
        let dashed = resource.dashed.map(Self::from);
        [Some(self), Some(Self::of(resource)), dashed]
            .into_iter()
            .flatten()
    }
}

impl From<(&'static str, &'static str)> for Wrapper {
    fn from((member, collection): (&'static str, &'static str)) -> Self {
        Self { member, collection }
    }
}

/// What a POST asks for.
#[derive(Debug)]
pub(super) struct Posted {
    /// The rows, without ids.
    pub(super) rows: Vec<Row>,
    /// The keys that the client used, for the reply.
    pub(super) wrapper: Wrapper,
    /// Whether it was a list, of however many.
    pub(super) bulk: bool,
}

/// Reads the body of a POST.
///
/// # Errors
/// 400, 409, 408 and 413: see the functions of this module and [`validate::create`].
pub(super) fn posted(
    resource: &'static Resource,
    preferred: Wrapper,
    bytes: &[u8],
    context: Context<'_>,
) -> Result<Posted, Fault> {
    let body = members(bytes)?;
    for wrapper in preferred.understood(resource) {
        let Some(list) = body.get(wrapper.collection) else {
            continue;
        };
        let Ok(items) = serde_json::from_str::<Vec<&RawValue>>(list.get()) else {
            return Err(contains_invalid(wrapper.collection));
        };
        if items.is_empty() {
            return Err(invalid("Resources required"));
        }
        return Ok(Posted {
            rows: rows(resource, wrapper, &items, context)?,
            wrapper,
            bulk: true,
        });
    }
    let (wrapper, object) = one(resource, preferred, &body)?;
    Ok(Posted {
        rows: vec![validate::create(resource, &object, context)?],
        wrapper,
        bulk: false,
    })
}

/// So many objects are worth a thread of their own.
const SHARE: usize = 5_000;

/// The rows that the objects of a list describe, by as many threads as there are processors. The first fault of the list is
/// the answer, whichever thread is faster.
fn rows(
    resource: &'static Resource,
    wrapper: Wrapper,
    items: &[&RawValue],
    context: Context<'_>,
) -> Result<Vec<Row>, Fault> {
    let row = |(index, item): (usize, &&RawValue)| {
        object(wrapper.member, item)
            .and_then(|object| validate::create(resource, &object, context))
            .map_err(|fault| fault.at_index(index))
    };
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    let share = items.len().div_ceil(processors).max(SHARE);
    if items.len() <= share {
        return items.iter().enumerate().map(row).collect();
    }
    thread::scope(|scope| {
        let shares = items.chunks(share).zip((0..).step_by(share));
        let threads: Vec<_> = shares
            .map(|(items, first)| scope.spawn(move || (first..).zip(items).map(row).collect()))
            .collect();
        let mut rows = Vec::with_capacity(items.len());
        for thread in threads {
            let share: Result<Vec<Row>, Fault> = thread
                .join()
                .unwrap_or_else(|_| Err(Fault::internal("reading a body panicked")));
            rows.append(&mut share?);
        }
        Ok(rows)
    })
}

/// Reads the body of a PUT: the keys that the client used, and the changes.
///
/// # Errors
/// 400 and 409: see the functions of this module and [`validate::update`].
pub(super) fn put(
    resource: &'static Resource,
    bytes: &[u8],
) -> Result<(Wrapper, Vec<(usize, Value)>), Fault> {
    let body = put_members(bytes)?;
    let (wrapper, object) = one(resource, Wrapper::of(resource), &body)?;
    Ok((wrapper, validate::update(resource, &object)?))
}

/// Reads the body of a PUT that is no resource: the object below `key`.
///
/// # Errors
/// 400: there is none.
pub(super) fn object_in(bytes: &[u8], key: &str) -> Result<Map<String, Json>, Fault> {
    let body = put_members(bytes)?;
    match body.get(key).filter(|value| value.get() != "null") {
        Some(value) => object(key, value),
        None => Err(unable_to_find(key)),
    }
}

/// A body that has arrived, and its room.
#[derive(Debug)]
pub(super) struct Arrived {
    pub(super) bytes: Bytes,
    room: Room,
}

/// Reads a whole body.
///
/// # Errors
/// 413 for a body over the limit, 503 for one that finds no room, 408 for one that does not arrive, 400 for one that
/// breaks off.
pub(super) async fn read(request: Request, bodies: &Bodies) -> Result<Arrived, Fault> {
    let limit = bodies.limits.body;
    let mut arrival = Arrival::begins(bodies);
    // A client that asks first (RFC 9110 section 10.1.1) sends nothing if it is refused: there is nothing to drain.
    let asks = request.headers().contains_key(EXPECT);
    let mut body = request.into_body();
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    let mut room = Room::default();
    let found = match announced {
        _ if announced > limit => Err(too_large(limit)),
        ..=SMALL => Ok(()),
        _ => arrival.find(&mut room, announced).await,
    };
    if let Err(fault) = found {
        if !asks {
            drain(body, arrival).await;
        }
        return Err(fault);
    }
    let mut bytes = Vec::with_capacity(announced);
    while let Some(part) = arrival.next_part(&mut body).await? {
        let length = bytes.len() + part.len();
        let found = match length {
            _ if length > limit => Err(too_large(limit)),
            // One that does not say how long it is may become as long as any.
            _ if length > SMALL && room.is_none() => arrival.find(&mut room, limit).await,
            _ => Ok(()),
        };
        if let Err(fault) = found {
            drop(bytes);
            drain(body, arrival).await;
            return Err(fault);
        }
        bytes.extend_from_slice(&part);
    }
    room.shrink_to(bytes.len());
    Ok(Arrived {
        bytes: bytes.into(),
        room,
    })
}

/// Runs `parse` on a body: at once if it is small, otherwise where it keeps no other request waiting. The room is for as
/// long as what was parsed is there.
///
/// # Errors
/// What `parse` answers.
pub(super) async fn parsed<T, F>(arrived: Arrived, parse: F) -> Result<(T, Room), Fault>
where
    T: Send + 'static,
    F: FnOnce(&[u8]) -> Result<T, Fault> + Send + 'static,
{
    let Arrived { bytes, room } = arrived;
    let much = bytes.len() > SMALL;
    beside(much, move || Ok((parse(&bytes)?, room))).await
}

/// Runs `work`: where it keeps no other request waiting if there is `much` of it, otherwise at once.
///
/// # Errors
/// What `work` answers.
pub(super) async fn beside<T, F>(much: bool, work: F) -> Result<T, Fault>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, Fault> + Send + 'static,
{
    if !much {
        return work();
    }
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|panic| Err(Fault::internal(panic)))
}

/// A body on its way in: when it must be there.
struct Arrival<'b> {
    bodies: &'b Bodies,
    began: Instant,
    received: usize,
    /// When the last part of it came.
    heard: Instant,
}

impl<'b> Arrival<'b> {
    fn begins(bodies: &'b Bodies) -> Self {
        let now = Instant::now();
        Self {
            bodies,
            began: now,
            received: 0,
            heard: now,
        }
    }

    /// Finds room. The time that this takes is not the client's.
    async fn find(&mut self, room: &mut Room, bytes: usize) -> Result<(), Fault> {
        let began = Instant::now();
        let found = self.bodies.room(bytes).await;
        self.began += began.elapsed();
        self.heard = Instant::now();
        *room = found?;
        Ok(())
    }

    /// When a client has been silent for too long, or as slow as one that means to stay for ever.
    fn deadline(&self) -> Instant {
        let limits = self.bodies.limits;
        let pace = match self.bodies.are_crowded() {
            true if self.received > SMALL => limits.crowded_pace,
            _ => limits.pace,
        };
        let earned = self.received as f64 / f64::from(pace.max(1));
        let overdue = self.began + limits.silence + Duration::from_secs_f64(earned);
        overdue.min(self.heard + limits.silence)
    }

    async fn next_part(&mut self, body: &mut Body) -> Result<Option<Bytes>, Fault> {
        loop {
            // The room may become crowded while nothing comes.
            let look = self.deadline().min(Instant::now() + LOOK);
            let Ok(frame) = tokio::time::timeout_at(look, body.frame()).await else {
                if Instant::now() < self.deadline() {
                    continue;
                }
                return Err(Fault::new(
                    FaultKind::RequestTimeout,
                    "The request body did not arrive in time.",
                ));
            };
            self.heard = Instant::now();
            match frame {
                None => return Ok(None),
                Some(Ok(frame)) => {
                    if let Ok(part) = frame.into_data() {
                        self.received += part.len();
                        return Ok(Some(part));
                    }
                }
                Some(Err(cause)) => {
                    return Err(Fault::new(
                        FaultKind::InvalidRequest,
                        "The request body broke off.",
                    )
                    .with_detail(cause));
                }
            }
        }
    }
}

/// Takes in, and drops, what a client still sends of a body that was refused: a client that is cut off while it sends
/// often never reads the refusal. No more than the limit over again.
async fn drain(mut body: Body, mut arrival: Arrival<'_>) {
    let mut left = arrival.bodies.limits.body;
    while let Ok(Some(part)) = arrival.next_part(&mut body).await {
        match left.checked_sub(part.len()) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}

fn put_members(bytes: &[u8]) -> Result<BTreeMap<String, &RawValue>, Fault> {
    if bytes.is_empty() {
        return Err(Fault::new(
            FaultKind::InvalidRequest,
            "Bad body request: Invalid format: b''.",
        ));
    }
    members(bytes)
}

/// The keys of the body and the JSON below each.
fn members(bytes: &[u8]) -> Result<BTreeMap<String, &RawValue>, Fault> {
    let required = || invalid("Resource body required");
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(required());
    }
    let body: &RawValue = serde_json::from_slice(bytes).map_err(malformed)?;
    if !body.get().starts_with('{') {
        return Err(required());
    }
    let Members(members) = serde_json::from_str(body.get()).map_err(malformed)?;
    if members.is_empty() {
        return Err(required());
    }
    Ok(members)
}

/// The one object of a body.
fn one(
    resource: &'static Resource,
    preferred: Wrapper,
    body: &BTreeMap<String, &RawValue>,
) -> Result<(Wrapper, Map<String, Json>), Fault> {
    let found = preferred.understood(resource).find_map(|wrapper| {
        let value = body.get(wrapper.member)?;
        (value.get() != "null").then_some((wrapper, value))
    });
    let (wrapper, value) = found.ok_or_else(|| unable_to_find(preferred.member))?;
    Ok((wrapper, object(wrapper.member, value)?))
}

fn object(key: &str, value: &RawValue) -> Result<Map<String, Json>, Fault> {
    if !value.get().starts_with('{') {
        return Err(contains_invalid(key));
    }
    let Object(object) = serde_json::from_str(value.get()).map_err(malformed)?;
    Ok(object)
}

fn invalid(message: &str) -> Fault {
    Fault::new(FaultKind::InvalidBody, message)
}

fn unable_to_find(key: &str) -> Fault {
    invalid(&format!("Unable to find '{key}' in request body"))
}

fn contains_invalid(key: &str) -> Fault {
    invalid(&format!("Object '{key}' contains invalid data"))
}

fn malformed(cause: serde_json::Error) -> Fault {
    Fault::new(
        FaultKind::MalformedBody,
        format!("Malformed request body: Cannot understand JSON. ({cause})"),
    )
}

fn too_large(limit: usize) -> Fault {
    Fault::new(
        FaultKind::BodyTooLarge,
        format!("The request body is larger than {limit} bytes."),
    )
}

#[cfg(test)]
mod tests {
    use model::resource::Kind;

    use super::*;

    const OBJECTS: usize = 3 * SHARE;

    /// A bulk that several threads read, with something else in these places.
    fn posted_with(others: &[(usize, &str)]) -> Result<Posted, Fault> {
        let mut objects: Vec<_> = (0..OBJECTS)
            .map(|n| format!(r#"{{"name":"gateway-{n}","ipaddr":"198.51.100.1"}}"#))
            .collect();
        for (place, other) in others {
            objects[*place] = (*other).to_owned();
        }
        let body = format!(r#"{{"l2_remote_gateways":[{}]}}"#, objects.join(","));
        let resource = Resource::of(Kind::L2RemoteGateway);
        let context = Context::default();
        posted(resource, Wrapper::of(resource), body.as_bytes(), context)
    }

    #[test]
    fn the_rows_of_a_large_bulk_are_in_its_order() {
        let posted = posted_with(&[]).unwrap();
        assert!(posted.bulk);
        assert_eq!(posted.rows.len(), OBJECTS);
        for (n, row) in posted.rows.iter().enumerate() {
            assert_eq!(row.text("name"), format!("gateway-{n}"));
        }
    }

    #[test]
    fn the_first_wrong_object_of_a_large_bulk_is_named() {
        let wrong = r#"{"name":"gateway","ipaddr":"no address"}"#;
        for (others, first) in [
            (&[(OBJECTS - 1, wrong), (SHARE + 7, "7")][..], SHARE + 7),
            (&[(OBJECTS - 1, wrong)], OBJECTS - 1),
        ] {
            let fault = posted_with(others).unwrap_err();
            let named = format!("Item {first}: ");
            assert!(fault.message.starts_with(&named), "{fault}");
        }
    }
}
