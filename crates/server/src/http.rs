//! HTTP/1.1 on a listener: connections, their bounds and their ends.
//!
//! Rules:
//! - Whatever is refused is refused with a NeutronError body and a request id, also what hyper cannot read: it then ends
//!   the connection, its own bare answer is kept back (see `wire`), and the router is asked for one instead, so that such
//!   a request is logged and counted like any other.
//! - Nobody holds a connection by being slow. A head must arrive in time, a body too ([`crate::api`] sees to that), and
//!   who does not read what was sent is cut off. An idle connection is closed without a word: whatever was said into it
//!   could be taken for the answer to the next request.
//! - Connections are bounded. When there are no more, those that are idle make room; only when all are at work is a
//!   client turned away, with 503.
//!
//! | module | its one job |
//! |---|---|
//! | `socket` | what listeners accept, and from whom |
//! | `wire` | a connection as hyper uses it |
//! | `watched` | whether a request was read to its end |
//! | `unreadable` | answers to what is no request |

mod socket;
mod unreadable;
mod watched;
mod wire;

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::http::HeaderValue;
use axum::http::header::CONNECTION;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tower::ServiceExt;

use crate::api::{REQUEST_ID, new_request_id};

use self::socket::Socket;
pub(crate) use self::socket::{Peer, Scheme};
pub(crate) use self::unreadable::refused;
use self::watched::{Unread, Watched};
use self::wire::Wire;

/// How long requests in flight may take to finish after the server was told to end.
const GRACE: Duration = Duration::from_secs(10);
/// How long a client waits for an idle connection to make room, before it is turned away.
const ROOM_WITHIN: Duration = Duration::from_millis(250);
/// What hyper reads and writes at once at most, in bytes.
const BUFFER: usize = 400 << 10;

/// What a client may take of the server.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Most connections at a time.
    pub connections: usize,
    /// Largest head of a request, in bytes.
    pub head: usize,
    /// Longest time for a head to arrive; a connection on which none begins is closed after the same time.
    pub head_within: Duration,
    /// A connection on which no request was begun for so long makes room for others.
    pub idle: Duration,
    /// Longest time in which a client takes nothing of what was sent to it.
    pub stalled: Duration,
}

impl Bounds {
    /// Keystone's largest tokens are 8 KiB, and so are the queries of neutronclient, which splits longer ones.
    pub const DEFAULT: Self = Self {
        connections: 4096,
        head: 64 << 10,
        head_within: Duration::from_secs(60),
        idle: Duration::from_secs(1),
        stalled: Duration::from_secs(60),
    };
}

/// Answers what connects to `listener` until `told` is over and requests in flight are finished.
pub async fn serve<L: Socket>(
    mut listener: L,
    router: Router,
    bounds: Bounds,
    told: impl Future<Output = ()> + Send,
) {
    let slots = Arc::new(Semaphore::new(bounds.connections));
    let (ending, ends) = watch::channel(());
    let crowding = watch::Sender::new(());
    let mut connections = JoinSet::new();
    tokio::pin!(told);
    loop {
        let (io, from) = tokio::select! {
            biased;
            () = &mut told => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        let connection = Connection {
            peer: L::admit(&io, &from),
            scheme: L::SCHEME,
            router: router.clone(),
            bounds,
            ends: ends.clone(),
            crowded: crowding.subscribe(),
        };
        let (slots, crowding) = (Arc::clone(&slots), crowding.clone());
        connections.spawn(async move {
            let slot = match Arc::clone(&slots).try_acquire_owned() {
                Ok(slot) => Some(slot),
                Err(_) => {
                    crowding.send_replace(());
                    let room = tokio::time::timeout(ROOM_WITHIN, slots.acquire_owned());
                    room.await.ok().and_then(Result::ok)
                }
            };
            match slot {
                Some(_slot) => connection.answer(io).await,
                None => connection.turn_away(io).await,
            }
        });
    }
    // Who connects now finds nobody, instead of waiting for an answer that does not come.
    drop(listener);
    drop(ending);
    let finished = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(GRACE, finished).await.is_err() {
        tracing::warn!("requests were still in flight after {GRACE:?}, they are cut off");
    }
}

struct Connection {
    peer: Peer,
    scheme: Scheme,
    router: Router,
    bounds: Bounds,
    /// Closes when the server is told to end.
    ends: watch::Receiver<()>,
    /// Changes when somebody waits for a connection to become free.
    crowded: watch::Receiver<()>,
}

impl Connection {
    async fn answer<IO>(mut self, io: IO)
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (router, peer, scheme) = (self.router.clone(), self.peer.clone(), self.scheme);
        let began = Instant::now();
        let heard = Arc::new(AtomicU64::new(0));
        let hears = Arc::clone(&heard);
        let unread = Unread::default();
        let left = unread.clone();
        let milliseconds = move || u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let service = service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
            hears.store(milliseconds(), Ordering::Relaxed);
            request.extensions_mut().insert(peer.clone());
            request.extensions_mut().insert(scheme);
            let unread = left.clone();
            let request = request.map(|body| Body::new(Watched::new(body, unread.clone())));
            let answering = router.clone().oneshot(request);
            Box::pin(async move {
                let Ok(mut response) = answering.await;
                if unread.is_left() {
                    let close = HeaderValue::from_static("close");
                    response.headers_mut().insert(CONNECTION, close);
                }
                // The API gives its own; what is served beside it has one all the same, and so tells itself from hyper.
                let headers = response.headers_mut();
                headers.entry(REQUEST_ID).or_insert_with(new_request_id);
                Ok::<_, Infallible>(response)
            })
        });
        let mut hyper = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.bounds.head_within)
            .max_header_size(self.bounds.head)
            .max_buf_size(BUFFER)
            .serve_connection(TokioIo::new(Wire::new(io, self.bounds.stalled)), service);
        let mut last = false;
        let ended = loop {
            tokio::select! {
                ended = poll_fn(|cx| hyper.poll_without_shutdown(cx)) => break ended,
                // No further request on this connection; if it is idle, this is its end.
                _ = self.ends.changed(), if !last => {}
                Ok(()) = self.crowded.changed(), if !last => {
                    let silent = milliseconds().saturating_sub(heard.load(Ordering::Relaxed));
                    if Duration::from_millis(silent) < self.bounds.idle {
                        continue;
                    }
                }
            }
            last = true;
            Pin::new(&mut hyper).graceful_shutdown();
        };
        let parts = hyper.into_parts();
        let mut wire = parts.io.into_inner();
        if let Err(cause) = ended {
            tracing::debug!(peer = %self.peer, %cause, "connection");
            if let Some(fault) = unreadable::fault(&cause, &wire, &parts.read_buf, self.bounds) {
                let answered = unreadable::answer(&mut wire, self.router, self.peer, fault).await;
                unreadable::unheard(answered);
                return;
            }
        }
        match unread.is_left() {
            true => wire.linger().await,
            false => wire.shut_down().await,
        }
    }

    async fn turn_away<IO>(self, io: IO)
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let mut wire = Wire::new(io, self.bounds.stalled);
        let fault = unreadable::crowded(self.bounds);
        let answered = unreadable::answer(&mut wire, self.router, self.peer, fault).await;
        unreadable::unheard(answered);
    }
}

/// Lets the process have as many open files as it may: each connection is one, and the usual soft limit of 1,024 is for
/// programs that use select(2).
pub(crate) fn raise_file_limit() -> io::Result<()> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?)
}
