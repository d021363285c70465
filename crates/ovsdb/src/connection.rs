//! A session and its replica, kept up: dial, read the schema, monitor, and again whenever that ends.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::replica::{Replica, SharedReplica};
use crate::schema::DatabaseSchema;
use crate::session::{RequestError, Session, SessionOptions};
use crate::target::Target;
use crate::transport::ConnectError;

/// How a connection is kept up.
#[derive(Clone, Debug)]
pub struct ConnectionOptions {
    /// How each session treats its peer.
    pub session: SessionOptions,
    /// The longest pause before the second attempt; it doubles with every further one. The actual pause is a random
    /// part of it, at least half, so that a hundred controllers do not come back in the same instant.
    pub first_pause: Duration,
    /// The longest pause of all.
    pub longest_pause: Duration,
}

impl Default for ConnectionOptions {
    fn default() -> Self {
        Self {
            session: SessionOptions::default(),
            first_pause: Duration::from_millis(250),
            longest_pause: Duration::from_secs(8),
        }
    }
}

/// What a connection is doing.
#[derive(Clone, Debug)]
pub enum Link {
    /// The first attempt is under way.
    Connecting,
    /// The session is up and the replica follows the database.
    Up {
        /// The session. It may end at any time; what it is asked then fails with the reason.
        session: Session,
        /// What the server has.
        schema: Arc<DatabaseSchema>,
    },
    /// The last session ended, or the last attempt failed; the next attempt comes by itself. The replica, if there is
    /// one, shows what was last known.
    Down {
        /// Why, for people.
        reason: Arc<str>,
    },
}

/// A connection to one database of an active target, kept up until it is dropped.
#[derive(Debug)]
pub struct Connection<R> {
    replica: Arc<SharedReplica<R>>,
    link: watch::Receiver<Link>,
    task: AbortHandle,
}

impl<R> Drop for Connection<R> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl<R: Replica> Connection<R> {
    /// Starts connecting. Must be called on a runtime.
    pub fn start(target: Target, database: &str, options: ConnectionOptions) -> Self {
        let replica = Arc::new(SharedReplica::default());
        let (sender, link) = watch::channel(Link::Connecting);
        let keeper = Keeper {
            target,
            database: database.to_owned(),
            options,
            replica: Arc::clone(&replica),
            link: sender,
        };
        let task = tokio::spawn(keeper.run()).abort_handle();
        Self {
            replica,
            link,
            task,
        }
    }

    /// What the connection is doing now.
    pub fn link(&self) -> Link {
        self.link.borrow().clone()
    }

    /// The replica: what the database holds, or last held.
    pub fn replica(&self) -> &Arc<SharedReplica<R>> {
        &self.replica
    }

    /// Wakes up whenever the link or the replica changed. The number means nothing.
    pub fn wakeups(&self) -> watch::Receiver<u64> {
        self.replica.wakeups()
    }

    /// Waits until the connection is up.
    pub async fn up(&self) -> (Session, Arc<DatabaseSchema>) {
        let mut link = self.link.clone();
        loop {
            if let Link::Up { session, schema } = &*link.borrow_and_update() {
                return (session.clone(), Arc::clone(schema));
            }
            if link.changed().await.is_err() {
                // The keeper runs as long as `self`; on a runtime that is shutting down nothing will come any more.
                std::future::pending::<()>().await;
            }
        }
    }
}

/// Why an attempt failed.
#[derive(Debug, thiserror::Error)]
enum AttemptError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("{target}: {what}: {source}")]
    Request {
        target: Target,
        what: &'static str,
        source: RequestError,
    },
}

struct Keeper<R> {
    target: Target,
    database: String,
    options: ConnectionOptions,
    replica: Arc<SharedReplica<R>>,
    link: watch::Sender<Link>,
}

impl<R: Replica> Keeper<R> {
    async fn run(self) {
        let mut pause = self.options.first_pause;
        loop {
            let reason = match self.attempt().await {
                Ok((session, schema)) => {
                    let since = Instant::now();
                    self.show(Link::Up {
                        session: session.clone(),
                        schema,
                    });
                    let reason = format!("{}: {}", self.target, session.ended().await);
                    // A session that ends as soon as it is up would otherwise cost a dump every quarter of a second.
                    if since.elapsed() >= self.options.longest_pause {
                        pause = self.options.first_pause;
                    }
                    reason
                }
                Err(error) => error.to_string(),
            };
            tracing::debug!(reason, "OVSDB connection is down");
            self.show(Link::Down {
                reason: reason.into(),
            });
            tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
            pause = (pause * 2).min(self.options.longest_pause);
        }
    }

    /// One session, up to the point where the replica holds the database.
    async fn attempt(&self) -> Result<(Session, Arc<DatabaseSchema>), AttemptError> {
        let session = Session::connect(&self.target, &self.options.session).await?;
        let failed = |what| {
            move |source| AttemptError::Request {
                target: self.target.clone(),
                what,
                source,
            }
        };
        // Again on every attempt: the schema may have been converted, or the switch replaced.
        let schema = session
            .schema(&self.database)
            .await
            .map_err(failed("reading the schema"))?;
        let schema = Arc::new(schema);
        session
            .monitor(&schema, &self.replica)
            .await
            .map_err(failed("monitoring"))?;
        Ok((session, schema))
    }

    fn show(&self, link: Link) {
        self.link.send_replace(link);
        self.replica.wake();
    }
}
