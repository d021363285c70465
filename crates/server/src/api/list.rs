//! Lists, streamed from the database to the socket.
//!
//! The database's reader writes JSON into chunks and hands them over one by one, so memory does not grow with the list.
//! There are few readers, so none waits for a slow client: after [`HOLD`] it gives up its snapshot, and when the client
//! has caught up another one continues behind the last row that was written. A client that keeps up sees one snapshot.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::time::Duration;

use axum::body::{Body, Bytes};
use futures_util::stream;
use model::encode::{Projection, write_text};
use model::fault::Fault;
use model::resource::Shape;
use model::row::{Row, Value};
use store::{Query, Snapshot};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::SendTimeoutError;
use tokio::time::Instant;
use uuid::Uuid;

use super::Api;
use super::handlers::opening;
use super::query::{Links, Listing};

/// Size of a chunk, in bytes.
pub(super) const CHUNK: usize = 64 << 10;
/// How many chunks wait for the socket at most.
const WAITING: usize = 4;
/// How long a reader of the database is held at most for a client that does not keep up.
const HOLD: Duration = Duration::from_millis(500);

type Chunk = Result<Bytes, Fault>;

/// The body of a list reply.
///
/// # Errors
/// What went wrong before there was anything to send.
pub(super) async fn body(
    api: Api,
    listing: Listing,
    collection: &'static str,
) -> Result<Body, Fault> {
    let (sender, mut chunks) = mpsc::channel(WAITING);
    tokio::spawn(Page::new(listing, collection).send(api, sender));
    // A list that fails at once is an error; one that fails halfway breaks off.
    let first = match chunks.recv().await {
        Some(first) => first?,
        None => return Err(Fault::internal("the list was not written")),
    };
    let Some(second) = chunks.recv().await else {
        return Ok(first.into());
    };
    let started = [Ok(first), second].into_iter();
    Ok(Body::from_stream(stream::unfold(
        (started, chunks),
        async |(mut started, mut chunks)| {
            let chunk = match started.next() {
                Some(chunk) => chunk,
                None => chunks.recv().await?,
            };
            if let Err(fault) = &chunk {
                tracing::error!(%fault, "a list broke off");
            }
            Some((chunk, (started, chunks)))
        },
    )))
}

/// A list on its way out.
struct Page {
    listing: Listing,
    collection: &'static str,
    /// What is not sent yet.
    out: Vec<u8>,
    count: u64,
    first: Option<Uuid>,
    last: Option<Uuid>,
}

/// Why a reader stopped.
enum Stop {
    /// Everything is written.
    End,
    /// The client does not keep up; this is what it should get next.
    Slow(Bytes),
    /// The client went away.
    Gone,
}

impl Page {
    fn new(listing: Listing, collection: &'static str) -> Self {
        let mut out = opening(collection);
        out.push(b'[');
        Self {
            listing,
            collection,
            out,
            count: 0,
            first: None,
            last: None,
        }
    }

    async fn send(mut self, api: Api, sender: mpsc::Sender<Chunk>) {
        if !self.listing.nothing {
            loop {
                let reader = (api.clone(), sender.clone(), Handle::current());
                let read = api.store.read(move |snapshot| {
                    let (api, sender, runtime) = reader;
                    let stop = self.read(snapshot, &api, &sender, &runtime)?;
                    Ok((self, stop))
                });
                match read.await {
                    Ok((page, Stop::End)) => {
                        self = page;
                        break;
                    }
                    Ok((page, Stop::Slow(chunk))) => {
                        if sender.send(Ok(chunk)).await.is_err() {
                            return;
                        }
                        self = page;
                    }
                    Ok((_, Stop::Gone)) => return,
                    Err(fault) => {
                        // Whoever went away meanwhile does not want to know.
                        let _ = sender.send(Err(fault)).await;
                        return;
                    }
                }
            }
        }
        let _ = sender.send(Ok(self.close())).await;
    }

    /// Writes rows and hands over chunks until everything is written or the client is too slow.
    fn read(
        &mut self,
        snapshot: &mut dyn Snapshot,
        api: &Api,
        sender: &mpsc::Sender<Chunk>,
        runtime: &Handle,
    ) -> Result<Stop, Fault> {
        let kind = self.listing.query.kind;
        if let Some(last) = self.last {
            // Behind a row that is gone there would seem to be nothing.
            if snapshot.get(kind, last)?.is_none() {
                return Err(Fault::internal(
                    "the row at which a slow list would continue was deleted",
                ));
            }
        }
        let deadline = Instant::now() + HOLD;
        let mut stop = Stop::End;
        let mut query = self.listing.query.clone();
        let before = self.count;
        // What is compared here is counted here too.
        let mut sifted = (!self.listing.computed.is_empty()).then(|| query.limit.take());
        if query.reverse
            && let Some(Some(limit)) = sifted
        {
            return self.read_backwards(snapshot, &query, limit, api);
        }
        snapshot.select(&query, &mut |row| {
            if let Some(left) = &mut sifted {
                match left {
                    Some(0) => return ControlFlow::Break(()),
                    _ if !self.matches(row, api) => return ControlFlow::Continue(()),
                    Some(left) => *left -= 1,
                    None => {}
                }
            }
            self.append(row, api);
            // A page that ends at its marker cannot be continued behind its last row: it is kept until it is whole.
            if self.out.len() < CHUNK || query.reverse {
                return ControlFlow::Continue(());
            }
            let chunk = Bytes::from(std::mem::replace(
                &mut self.out,
                Vec::with_capacity(CHUNK + CHUNK / 8),
            ));
            let left = deadline.saturating_duration_since(Instant::now());
            match runtime.block_on(sender.send_timeout(Ok(chunk), left)) {
                Ok(()) => return ControlFlow::Continue(()),
                Err(SendTimeoutError::Closed(_)) => stop = Stop::Gone,
                Err(SendTimeoutError::Timeout(chunk)) => match chunk {
                    Ok(chunk) => stop = Stop::Slow(chunk),
                    Err(_) => stop = Stop::Gone,
                },
            }
            ControlFlow::Break(())
        })?;
        if let Stop::Slow(_) = stop {
            self.listing.query.marker = self.last;
            let sent = self.count - before;
            let limit = &mut self.listing.query.limit;
            *limit = limit.map(|limit| limit.saturating_sub(sent));
        }
        Ok(stop)
    }

    /// Writes the last `limit` rows that match, for filters that the database does not know.
    fn read_backwards(
        &mut self,
        snapshot: &mut dyn Snapshot,
        query: &Query,
        limit: u64,
        api: &Api,
    ) -> Result<Stop, Fault> {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let mut last = VecDeque::new();
        snapshot.select(query, &mut |row| {
            if self.matches(row, api) {
                if last.len() == limit {
                    last.pop_front();
                }
                last.push_back(row.clone());
            }
            ControlFlow::Continue(())
        })?;
        for row in &last {
            self.append(row, api);
        }
        Ok(Stop::End)
    }

    /// Whether a row passes the filters on what no database keeps.
    fn matches(&self, row: &Row, api: &Api) -> bool {
        self.listing.computed.iter().all(|filter| {
            let attribute = row.resource.attributes.get(filter.attribute);
            let value = match attribute.map(|attribute| attribute.shape) {
                Some(Shape::Status) => (api.report)(row).status.as_str().into(),
                Some(Shape::Revision) => Value::Integer(row.revision.cast_signed()),
                Some(Shape::CreatedAt) => row.created_at().map_or(Value::Null, Value::Integer),
                _ => Value::Null,
            };
            filter.any_of.contains(&value)
        })
    }

    fn append(&mut self, row: &Row, api: &Api) {
        if self.count > 0 {
            self.out.push(b',');
        }
        let projection: &Projection = &self.listing.projection;
        projection.write(&mut self.out, row, &*api.report);
        self.count += 1;
        self.last = Some(row.id());
        self.first = self.first.or(self.last);
    }

    /// The last chunk.
    fn close(mut self) -> Bytes {
        self.out.push(b']');
        if let Some(links) = &self.listing.links {
            self.out.push(b',');
            write_text(&mut self.out, &format!("{}_links", self.collection));
            self.out.extend_from_slice(b":[");
            write_links(&mut self.out, links, self.count, self.first, self.last);
            self.out.push(b']');
        }
        self.out.push(b'}');
        self.out.into()
    }
}

fn write_links(
    out: &mut Vec<u8>,
    links: &Links,
    count: u64,
    first: Option<Uuid>,
    last: Option<Uuid>,
) {
    for (place, (relation, address)) in links.around(count, first, last).enumerate() {
        out.extend_from_slice(if place == 0 { b"" } else { b"," });
        out.extend_from_slice(b"{\"rel\":");
        write_text(out, relation);
        out.extend_from_slice(b",\"href\":");
        write_text(out, &address);
        out.push(b'}');
    }
}
