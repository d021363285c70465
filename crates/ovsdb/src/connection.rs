//! A session and its replica, kept up: dial, find the leader, read the schema, monitor, and again whenever that ends.

use std::fmt::Display;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::cluster::Standing;
use crate::endpoint::Endpoint;
use crate::listener::Caller;
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
    /// part of it, at least half. After a session that lasted the first attempt comes at once.
    pub first_pause: Duration,
    /// The longest pause while nobody answers. An attempt in vain costs little, and somebody waits for the switch: those
    /// that dial controllers do so every second, too (`Manager.max_backoff` of 1000 ms).
    pub longest_pause: Duration,
    /// The longest time from one session that does not last to the next one: each of them costs the peer a dump, and may be
    /// what it dies of. One that is as old as this has lasted.
    pub longest_rest: Duration,
}

/// The longest pause after a session that lasted, and the shortest of all.
const AT_ONCE: Duration = Duration::from_millis(50);

impl Default for ConnectionOptions {
    fn default() -> Self {
        Self {
            session: SessionOptions::default(),
            first_pause: Duration::from_millis(250),
            longest_pause: Duration::from_secs(1),
            longest_rest: Duration::from_secs(8),
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

/// A connection to one database, kept up until it is dropped.
///
/// While the server says nothing for longer than [`SessionOptions::silence_notice`] the link is down, because nothing is
/// known of it any more. The session is kept all the same, and the link is up again as soon as the server speaks: it
/// may only be busy. The members of a cluster are not waited for that long, the next one is tried.
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
    /// Starts dialling the targets of an endpoint, one after the other. Must be called on a runtime.
    ///
    /// `ssl:` needs [`SessionOptions::tls`].
    pub fn start(endpoint: Endpoint, database: &str, options: ConnectionOptions) -> Self {
        Self::spawn(database, options, |keeper| keeper.dial(endpoint))
    }

    /// Follows the database of a peer that dialled us, as long as its session lasts. Must be called on a runtime.
    pub fn accepted(caller: Caller, database: &str, options: ConnectionOptions) -> Self {
        Self::spawn(database, options, |keeper| keeper.serve(caller))
    }

    fn spawn<F: Future<Output = ()> + Send + 'static>(
        database: &str,
        options: ConnectionOptions,
        run: impl FnOnce(Keeper<R>) -> F,
    ) -> Self {
        let replica = Arc::new(SharedReplica::default());
        let (sender, link) = watch::channel(Link::Connecting);
        let keeper = Keeper {
            database: database.to_owned(),
            options,
            replica: Arc::clone(&replica),
            link: sender,
        };
        let task = tokio::spawn(run(keeper)).abort_handle();
        Self {
            replica,
            link,
            task,
        }
    }

    /// Whether the link is down for good: the peer had dialled us, and only it can dial again.
    pub fn is_over(&self) -> bool {
        self.link.has_changed().is_err()
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
    #[error("{what}: {source}")]
    Request {
        what: &'static str,
        source: RequestError,
    },
    #[error("{0}")]
    Objection(&'static str),
    #[error("no answer for {} s", .0.as_secs_f32())]
    Silence(Duration),
}

/// What became of an attempt, the best last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Attempt {
    /// Nobody was there, or not the one to talk to.
    Unanswered,
    /// The session ended before long.
    ShortLived,
    /// It was good for a while.
    Lasted,
}

struct Keeper<R> {
    database: String,
    options: ConnectionOptions,
    replica: Arc<SharedReplica<R>>,
    link: watch::Sender<Link>,
}

/// A session whose replica holds the database.
struct Opened {
    session: Session,
    schema: Arc<DatabaseSchema>,
    standing: Standing,
}

impl<R: Replica> Keeper<R> {
    async fn dial(self, endpoint: Endpoint) {
        let options = &self.options;
        let mut unanswered = Backoff::new(options.first_pause, options.longest_pause);
        let mut short_lived = Backoff::new(options.first_pause, options.longest_rest);
        // A member of a cluster that is silent is no reason to wait: another one leads, or soon will.
        let patient = endpoint.targets().len() == 1;
        loop {
            let begun = Instant::now();
            let mut best = Attempt::Unanswered;
            for target in endpoint.targets() {
                let (attempt, reason) = self.attempt(target, patient).await;
                best = best.max(attempt);
                self.show_down(reason);
            }
            // A server that hangs up on all its clients would see them all again in the same instant.
            let at_once = AT_ONCE.mul_f64(fastrand::f64());
            let pause = match best {
                Attempt::Unanswered => unanswered.pause(),
                Attempt::ShortLived => {
                    unanswered.reset();
                    short_lived.pause().saturating_sub(begun.elapsed())
                }
                Attempt::Lasted => {
                    unanswered.reset();
                    short_lived.reset();
                    at_once
                }
            };
            tokio::time::sleep(pause.max(at_once)).await;
        }
    }

    async fn serve(self, caller: Caller) {
        let address = caller.address;
        let reason = match self.open(caller.session).await {
            Ok(opened) => self.keep(&address, opened, true).await,
            Err(error) => format!("{address}: {error}"),
        };
        self.show_down(reason);
        let Self { replica, link, .. } = self;
        // Only now is it over, and that is to be noticed, too.
        drop(link);
        replica.wake();
    }

    /// Dials a target, and stays with it as long as it lasts. Returns how that went, and why it is over.
    async fn attempt(&self, target: &Target, patient: bool) -> (Attempt, String) {
        let opened = match self.reach(target, patient).await {
            Ok(opened) => opened,
            // It names the target itself.
            Err(AttemptError::Connect(error)) => return (Attempt::Unanswered, error.to_string()),
            Err(error) => {
                let attempt = match error {
                    AttemptError::Request { .. } => Attempt::ShortLived,
                    _ => Attempt::Unanswered,
                };
                return (attempt, format!("{target}: {error}"));
            }
        };
        let since = Instant::now();
        let reason = self.keep(target, opened, patient).await;
        let lasted = since.elapsed() >= self.options.longest_rest;
        let attempt = if lasted {
            Attempt::Lasted
        } else {
            Attempt::ShortLived
        };
        (attempt, reason)
    }

    async fn reach(&self, target: &Target, patient: bool) -> Result<Opened, AttemptError> {
        let options = &self.options.session;
        let session = Session::connect(target, options).await?;
        tokio::select! {
            opened = self.open(session.clone()) => opened,
            () = until_silent(&session), if !patient => Err(AttemptError::Silence(options.silence_notice)),
        }
    }

    /// Takes a new session to the point where the replica holds the database.
    async fn open(&self, session: Session) -> Result<Opened, AttemptError> {
        let failed = |what| move |source| AttemptError::Request { what, source };
        let standing = Standing::of(&session, &self.database)
            .await
            .map_err(failed("asking for the server's standing"))?;
        if let Some(objection) = standing.objection() {
            return Err(AttemptError::Objection(objection));
        }
        // Again for every session: the schema may have been converted, or the switch replaced.
        let schema = session
            .schema(&self.database)
            .await
            .map_err(failed("reading the schema"))?;
        let schema = Arc::new(schema);
        session
            .monitor(&schema, &self.replica)
            .await
            .map_err(failed("monitoring"))?;
        Ok(Opened {
            session,
            schema,
            standing,
        })
    }

    /// Shows the session as long as it lasts, and returns why it ended.
    async fn keep(&self, peer: impl Display, opened: Opened, patient: bool) -> String {
        let Opened {
            session,
            schema,
            standing,
        } = opened;
        let up = Link::Up {
            session: session.clone(),
            schema,
        };
        self.show(up.clone());
        let mut silence = session.silence();
        loop {
            let notice = self.options.session.silence_notice;
            tokio::select! {
                reason = session.ended() => return format!("{peer}: {reason}"),
                objection = standing.objected() => {
                    session.close(objection);
                    return format!("{peer}: {objection}");
                }
                Ok(()) = silence.changed() => {
                    let silent = *silence.borrow_and_update();
                    let reason = format!("{peer}: {}", AttemptError::Silence(notice));
                    match (silent, patient) {
                        (false, _) => self.show(up.clone()),
                        (true, true) => self.show_down(reason),
                        (true, false) => {
                            session.close(&reason);
                            return reason;
                        }
                    }
                }
            }
        }
    }

    fn show_down(&self, reason: String) {
        tracing::debug!(reason, "OVSDB connection is down");
        self.show(Link::Down {
            reason: reason.into(),
        });
    }

    fn show(&self, link: Link) {
        self.link.send_replace(link);
        self.replica.wake();
    }
}

/// Waits until the peer has been silent for too long.
async fn until_silent(session: &Session) {
    if session.silence().wait_for(|silent| *silent).await.is_err() {
        std::future::pending().await
    }
}
