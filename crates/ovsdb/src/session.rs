//! One connection to one OVSDB peer.
//!
//! ```text
//!            ┌── reader ── frames, answers echo, probes ──▶ decoder ── replies ──▶ callers
//!   stream ──┤                                                  └───── updates ──▶ replicas
//!            └── writer ◀── outbox ◀── requests, echo replies
//! ```
//!
//! Three tasks, because ovsdb-server stops reading a client that does not read (a client that waits in `write` without
//! reading hangs both for ever), and because it drops a client that does not answer its echo while that client is busy
//! with a dump. The decoder takes messages strictly in the order of their arrival.

mod dispatch;
mod lock;
mod tasks;

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, Stream as AsyncStream, StreamExt};
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::AbortHandle;

use self::dispatch::{MonitorMethod, Shared, Waiter};
use crate::budget::Share;
use crate::framing::{DEFAULT_MESSAGE_LIMIT, FramingError};
use crate::message::{self, Message};
use crate::operation::{TransactParams, Transaction};
use crate::outcome::{Outcome, TransactError};
use crate::replica::{Replica, ReplicaSink, SharedReplica, Sink, monitor_requests};
use crate::schema::DatabaseSchema;
use crate::target::Target;
use crate::tls::Tls;
use crate::transport::{self, ConnectError};

pub use self::lock::Lock;
pub use crate::message::RpcError;

/// The longest schema, in bytes: hardware_vtep's has 12 kB, the longest of Open vSwitch's 60 kB.
const SCHEMA_LIMIT: usize = 4 << 20;

/// How a session treats its peer.
#[derive(Clone, Debug)]
pub struct SessionOptions {
    /// How long dialling may take.
    pub connect_timeout: Duration,
    /// After how much silence to ask whether the peer is still there.
    pub probe_interval: Duration,
    /// After how much silence, in spite of the question, to say so: [`Session::silence`]. The session goes on.
    pub silence_notice: Duration,
    /// After how much silence to give the peer up. ovsdb-server is silent during a long transaction (100,000 rows take
    /// it seconds) and cannot be told from a dead one meanwhile, so this is much longer: a session that is given up too
    /// early costs a busy server another dump.
    pub probe_timeout: Duration,
    /// Who we are and whom we trust, for `ssl:` and `pssl:`.
    pub tls: Option<Tls>,
    /// The longest message to accept, in bytes.
    pub message_limit: usize,
    /// The most rows of a database to keep: a peer that shows more is given up.
    pub row_limit: usize,
}

impl Default for SessionOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            probe_interval: Duration::from_secs(2),
            silence_notice: Duration::from_secs(5),
            probe_timeout: Duration::from_secs(30),
            tls: None,
            message_limit: DEFAULT_MESSAGE_LIMIT,
            row_limit: usize::MAX,
        }
    }
}

/// Why a session ended.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Disconnected {
    /// The peer closed the connection; also what ovsdb-server does when its schema is converted.
    #[error("the peer closed the connection")]
    Closed,
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Broken(#[source] Arc<io::Error>),
    /// The peer went silent and did not answer a probe.
    #[error("nothing heard from the peer for {} s", .0.as_secs_f32())]
    Silent(Duration),
    /// The peer asks and does not read our answers.
    #[error("the peer does not read: {0} bytes wait for it")]
    Deaf(usize),
    /// We closed the connection, for a reason of our own.
    #[error("we closed the connection: {0}")]
    Abandoned(Arc<str>),
    /// The stream is not OVSDB.
    #[error(transparent)]
    Framing(#[from] FramingError),
    /// A message is not what RFC 7047 describes, or a row not what the schema crate knows.
    #[error("a message of the peer makes no sense: {0}")]
    Malformed(String),
}

/// Why a request has no result.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RequestError {
    /// The connection ended before the reply came.
    #[error("{0}")]
    Disconnected(#[source] Disconnected),
    /// The server refused.
    #[error("{0}")]
    Rejected(#[source] RpcError),
    /// The reply is not what RFC 7047 describes.
    #[error("the reply makes no sense: {0}")]
    Malformed(String),
}

/// One connection. Clones are the same session; it ends when the last of them, and of its replies, is dropped.
#[derive(Clone, Debug)]
pub struct Session {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    tasks: AbortHandle,
    row_limit: usize,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.tasks.abort();
    }
}

impl Session {
    /// Dials an active target.
    ///
    /// # Errors
    /// [`ConnectError`] when the target is of a kind that cannot be dialled, or nobody answers there.
    pub async fn connect(target: &Target, options: &SessionOptions) -> Result<Self, ConnectError> {
        Ok(Self::over(
            transport::dial(target, options.tls.as_ref(), options.connect_timeout).await?,
            options,
        ))
    }

    /// A session over a stream that is connected already: one that a listener accepted. Must be called on a runtime.
    pub fn over<S: AsyncRead + AsyncWrite + Send + 'static>(
        stream: S,
        options: &SessionOptions,
    ) -> Self {
        Self::counted(stream, options, None)
    }

    /// A session with a peer that dialled us, which has a share of what all of them may have.
    pub(crate) fn counted<S: AsyncRead + AsyncWrite + Send + 'static>(
        stream: S,
        options: &SessionOptions,
        share: Option<Share>,
    ) -> Self {
        let (outbox, requests) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared::new(outbox, share));
        let tasks = tasks::spawn(stream, options, requests, Arc::clone(&shared));
        Self {
            inner: Arc::new(Inner {
                shared,
                tasks,
                row_limit: options.row_limit,
            }),
        }
    }

    /// Ends the session now, for all its clones; those who wait for a reply are told the reason.
    pub fn close(&self, reason: &str) {
        self.inner
            .shared
            .end(Disconnected::Abandoned(Arc::from(reason)));
        self.inner.tasks.abort();
    }

    /// Whether the peer has been silent for longer than [`SessionOptions::silence_notice`], now and when it changes. It
    /// may be dead or busy. The last value stays when the session ends.
    pub fn silence(&self) -> watch::Receiver<bool> {
        self.inner.shared.subscribe_silence()
    }

    /// Waits for the end of the session.
    pub async fn ended(&self) -> Disconnected {
        let mut ended = self.inner.shared.subscribe_end();
        let reason = ended.wait_for(Option::is_some).await;
        reason
            .ok()
            .and_then(|reason| reason.clone())
            .unwrap_or(Disconnected::Closed)
    }

    /// The names of the server's databases.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub async fn list_databases(&self) -> Result<Vec<String>, RequestError> {
        read_result(&self.call("list_dbs", &[(); 0]).text().await?)
    }

    /// The schema of a database.
    ///
    /// # Errors
    /// See [`RequestError`]; an unknown database is [`RequestError::Rejected`].
    pub async fn schema(&self, database: &str) -> Result<DatabaseSchema, RequestError> {
        let reply = self.call("get_schema", &[database]).text().await?;
        if reply.len() > SCHEMA_LIMIT {
            return Err(RequestError::Malformed(format!(
                "a schema of {} bytes; {SCHEMA_LIMIT} are the most",
                reply.len()
            )));
        }
        let schema: DatabaseSchema = read_result(&reply)?;
        if let Some(share) = self.inner.shared.share() {
            // It is kept as long as the session. Should the peer have to go for it, that ends by itself.
            let _ = share.add(schema.weight());
        }
        Ok(schema)
    }

    /// Sends a transaction at once and in the order of the calls; the future waits for its outcome.
    ///
    /// Any number may be under way. Dropping the future does not take the transaction back: it happens all the same.
    /// When the outcome is there, every replica of this session already shows it.
    ///
    /// # Errors
    /// See [`TransactError`].
    pub fn transact(
        &self,
        database: &str,
        transaction: &Transaction,
    ) -> impl Future<Output = Result<Outcome, TransactError>> + Send + use<> {
        let operations = transaction.len();
        let reply = self.call("transact", &TransactParams(database, transaction));
        async move {
            let reply = reply.text().await?;
            let raw = result_of(&reply)?;
            Outcome::parse(raw, operations)
        }
    }

    /// Sends transactions with at most `window` of them under way, and yields their outcomes in order.
    ///
    /// A bounded window is what makes bulk fast: ovsdb-server slows down by a factor of three when tens of thousands of
    /// rows wait in its input.
    pub fn pipeline<'a, I>(
        &'a self,
        database: &'a str,
        transactions: I,
        window: usize,
    ) -> impl AsyncStream<Item = Result<Outcome, TransactError>> + use<'a, I>
    where
        I: IntoIterator<Item = Transaction> + 'a,
    {
        stream::iter(transactions)
            .map(move |transaction| self.transact(database, &transaction))
            .buffered(window.max(1))
    }

    /// Monitors what `R` wants and the schema has. When it returns, the replica holds the database; it follows every
    /// change until the session ends.
    ///
    /// Uses the newest of the methods `monitor_cond_since`, `monitor_cond` and `monitor` that the server accepts.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub async fn monitor<R: Replica>(
        &self,
        schema: &Arc<DatabaseSchema>,
        replica: &Arc<SharedReplica<R>>,
    ) -> Result<(), RequestError> {
        let sink: Arc<dyn Sink> = Arc::new(ReplicaSink {
            shared: Arc::clone(replica),
            schema: Arc::clone(schema),
            row_limit: self.inner.row_limit,
            share: self.inner.shared.share().cloned(),
        });
        let requests = monitor_requests::<R>(schema);
        let database = schema.name.as_str();
        // Standalone servers, and so switches, cannot resume: they answer any last transaction id with a full dump.
        let never = uuid::Uuid::nil();
        let mut refusal = None;
        for method in [
            MonitorMethod::CondSince,
            MonitorMethod::Cond,
            MonitorMethod::Plain,
        ] {
            let attempt = self.start_monitor(method, &sink, |id| match method {
                MonitorMethod::CondSince => serde_json::to_value((database, id, &requests, never)),
                MonitorMethod::Cond | MonitorMethod::Plain => {
                    serde_json::to_value((database, id, &requests))
                }
            });
            match attempt.await {
                Err(RequestError::Rejected(error)) => refusal = Some(error),
                outcome => return outcome,
            }
        }
        Err(refusal.map_or(
            RequestError::Disconnected(Disconnected::Closed),
            RequestError::Rejected,
        ))
    }

    async fn start_monitor(
        &self,
        method: MonitorMethod,
        sink: &Arc<dyn Sink>,
        params: impl FnOnce(u64) -> serde_json::Result<serde_json::Value>,
    ) -> Result<(), RequestError> {
        let (done, reply) = oneshot::channel();
        let waiter = Waiter::Monitor {
            method,
            sink: Arc::clone(sink),
            done,
        };
        self.inner.shared.send(waiter, |id| {
            message::request(id, method.name(), &params(id)?)
        });
        match reply.await {
            Ok(outcome) => outcome.map_err(RequestError::Rejected),
            Err(_) => Err(RequestError::Disconnected(self.ended().await)),
        }
    }

    /// Sends a request.
    fn call(&self, method: &str, params: &impl serde::Serialize) -> Reply {
        let (caller, text) = oneshot::channel();
        self.inner.shared.send(Waiter::Caller(caller), |id| {
            message::request(id, method, params)
        });
        Reply {
            text,
            session: self.clone(),
        }
    }
}

/// A reply that may not have come yet.
struct Reply {
    text: oneshot::Receiver<Vec<u8>>,
    session: Session,
}

impl Reply {
    /// The whole message.
    async fn text(self) -> Result<Vec<u8>, RequestError> {
        match self.text.await {
            Ok(text) => Ok(text),
            Err(_) => Err(RequestError::Disconnected(self.session.ended().await)),
        }
    }
}

fn result_of(reply: &[u8]) -> Result<&RawValue, RequestError> {
    Message::parse(reply)
        .map_err(|error| RequestError::Malformed(error.to_string()))?
        .into_result()
        .map_err(RequestError::Rejected)
}

fn read_result<T: DeserializeOwned>(reply: &[u8]) -> Result<T, RequestError> {
    serde_json::from_str(result_of(reply)?.get())
        .map_err(|error| RequestError::Malformed(error.to_string()))
}
