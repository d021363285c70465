//! Where the messages of a session go: replies to who waits for them, updates to replicas.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use tokio::sync::{mpsc, oneshot, watch};

use super::Disconnected;
use crate::budget::Share;
use crate::message::{self, Message, RpcError};
use crate::replica::{Notation, Sink};

/// The methods that start a monitor; all three are in use on switches.
#[derive(Clone, Copy, Debug)]
pub(super) enum MonitorMethod {
    CondSince,
    Cond,
    Plain,
}

impl MonitorMethod {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::CondSince => "monitor_cond_since",
            Self::Cond => "monitor_cond",
            Self::Plain => "monitor",
        }
    }

    /// The dump in the result of the reply.
    fn dump(self, result: &RawValue) -> serde_json::Result<(&RawValue, Notation)> {
        match self {
            // [found, last transaction id, <table-updates2>]
            Self::CondSince => {
                serde_json::from_str::<(IgnoredAny, IgnoredAny, &RawValue)>(result.get())
                    .map(|(_, _, dump)| (dump, Notation::Differences))
            }
            Self::Cond => Ok((result, Notation::Differences)),
            Self::Plain => Ok((result, Notation::Rows)),
        }
    }
}

/// Bytes that may wait for the peer to read before its questions are answered no more. What we ask ourselves is far less.
const OUTBOX_LIMIT: usize = 64 << 20;

/// Bytes that a message takes beside its text while it waits somewhere.
pub(super) const ENVELOPE: usize = 128;

/// Who waits for a reply.
pub(super) enum Waiter {
    /// A caller, who reads the reply itself.
    Caller(oneshot::Sender<Vec<u8>>),
    /// A monitor: its dump must be in the replica before any later message is looked at.
    Monitor {
        method: MonitorMethod,
        sink: Arc<dyn Sink>,
        done: oneshot::Sender<Result<(), RpcError>>,
    },
    /// A lock: whether it is owned must be known before a later message says that it was stolen.
    Lock {
        name: String,
        done: oneshot::Sender<Result<watch::Receiver<bool>, RpcError>>,
    },
}

/// What the tasks of a session and its callers share.
#[derive(Debug)]
pub(super) struct Shared {
    outbox: mpsc::UnboundedSender<Vec<u8>>,
    /// Bytes in the outbox.
    unsent: AtomicUsize,
    /// What the peer may have, if it dialled us.
    share: Option<Share>,
    state: Mutex<State>,
    ended: watch::Sender<Option<Disconnected>>,
    silence: watch::Sender<bool>,
}

#[derive(Default)]
struct State {
    over: bool,
    last_id: u64,
    waiters: HashMap<u64, Waiter>,
    /// By monitor id, which is the id of the request that started it.
    monitors: HashMap<u64, Arc<dyn Sink>>,
    /// Whether each lock that was asked for is owned.
    locks: HashMap<String, watch::Sender<bool>>,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("over", &self.over)
            .field("waiting", &self.waiters.len())
            .finish_non_exhaustive()
    }
}

impl Shared {
    pub(super) fn new(outbox: mpsc::UnboundedSender<Vec<u8>>, share: Option<Share>) -> Self {
        Self {
            outbox,
            unsent: AtomicUsize::new(0),
            share,
            state: Mutex::default(),
            ended: watch::Sender::new(None),
            silence: watch::Sender::new(false),
        }
    }

    /// What the peer may have, if it dialled us.
    pub(super) fn share(&self) -> Option<&Share> {
        self.share.as_ref()
    }

    /// Leaves a message for the writer.
    pub(super) fn post(&self, message: Vec<u8>) {
        let bytes = message.len() + ENVELOPE;
        self.unsent.fetch_add(bytes, Ordering::Relaxed);
        if let Some(share) = &self.share {
            // Should it have to go for it, the session ends by itself.
            let _ = share.add(bytes);
        }
        let _ = self.outbox.send(message);
    }

    /// The writer has passed on a message of so many bytes.
    pub(super) fn posted(&self, bytes: usize) {
        let bytes = bytes + ENVELOPE;
        self.unsent.fetch_sub(bytes, Ordering::Relaxed);
        if let Some(share) = &self.share {
            share.give_back(bytes);
        }
    }

    /// Leaves an answer for the writer, unless the peer does not take those that it has asked for before.
    pub(super) fn answer(&self, reply: Vec<u8>) -> Result<(), Disconnected> {
        let unsent = self.unsent.load(Ordering::Relaxed);
        if unsent > OUTBOX_LIMIT {
            return Err(Disconnected::Deaf(unsent));
        }
        self.post(reply);
        Ok(())
    }

    /// Where the reason will stand when the session is over.
    pub(super) fn subscribe_end(&self) -> watch::Receiver<Option<Disconnected>> {
        self.ended.subscribe()
    }

    /// Whether the peer is silent.
    pub(super) fn subscribe_silence(&self) -> watch::Receiver<bool> {
        self.silence.subscribe()
    }

    pub(super) fn set_silence(&self, silent: bool) {
        self.silence
            .send_if_modified(|before| std::mem::replace(before, silent) != silent);
    }

    /// A lock that was asked for and not given back.
    pub(super) fn lock_asked_for(&self, name: &str) -> Option<watch::Receiver<bool>> {
        self.state().locks.get(name).map(watch::Sender::subscribe)
    }

    pub(super) fn forget_lock(&self, name: &str) {
        self.state().locks.remove(name);
    }

    /// Notes who owns a lock. The server says "locked" to an owner again when one that only waits goes away.
    fn note_lock(&self, name: &str, owned: bool) {
        if let Some(lock) = self.state().locks.get(name) {
            lock.send_if_modified(|before| std::mem::replace(before, owned) != owned);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in this file panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a request. A waiter whose request cannot be sent is dropped, which its caller notices.
    pub(super) fn send(
        &self,
        waiter: Waiter,
        text: impl FnOnce(u64) -> serde_json::Result<Vec<u8>>,
    ) {
        let mut state = self.state();
        if state.over {
            return;
        }
        state.last_id += 1;
        let id = state.last_id;
        // Under the lock, so that requests are sent in the order of their ids.
        match text(id) {
            Ok(text) => {
                state.waiters.insert(id, waiter);
                self.post(text);
            }
            Err(error) => {
                drop(state);
                self.end(Disconnected::Malformed(format!(
                    "a request cannot be written: {error}"
                )));
            }
        }
    }

    /// Ends the session: every caller is told the reason, the first one given.
    pub(super) fn end(&self, reason: Disconnected) {
        self.ended.send_if_modified(|ended| {
            let first = ended.is_none();
            ended.get_or_insert(reason);
            first
        });
        let mut state = self.state();
        state.over = true;
        let waiters = std::mem::take(&mut state.waiters);
        state.monitors.clear();
        for (_, lock) in state.locks.drain() {
            lock.send_replace(false);
        }
        drop(state);
        drop(waiters);
    }

    /// Takes one message to whoever it concerns.
    pub(super) fn dispatch(&self, text: Vec<u8>) -> Result<(), Disconnected> {
        let message = Message::parse(&text).map_err(malformed)?;
        if let Some(method) = message.method.as_deref() {
            return match message.id {
                Some(id) => self.refuse(id),
                None => self.dispatch_notification(method, message.params),
            };
        }
        // Replies to probes, whose id is no number of ours, were heard by the reader: that is all they are for.
        let Some(id) = message.own_id() else {
            return Ok(());
        };
        let waiter = self.state().waiters.remove(&id);
        match waiter {
            Some(Waiter::Caller(caller)) => {
                // A caller that is gone does not want the reply any more.
                let _ = caller.send(text);
            }
            Some(Waiter::Monitor { method, sink, done }) => {
                let outcome = match message.into_result() {
                    Ok(result) => {
                        let (dump, notation) = method.dump(result).map_err(malformed)?;
                        sink.start(dump, notation).map_err(malformed)?;
                        self.state().monitors.insert(id, sink);
                        Ok(())
                    }
                    Err(error) => Err(error),
                };
                let _ = done.send(outcome);
            }
            Some(Waiter::Lock { name, done }) => {
                #[derive(serde::Deserialize)]
                struct Locked {
                    locked: bool,
                }
                let outcome = match message.into_result() {
                    Ok(result) => {
                        let Locked { locked } =
                            serde_json::from_str(result.get()).map_err(malformed)?;
                        let mut state = self.state();
                        let lock = state.locks.entry(name);
                        let lock = lock.or_insert_with(|| watch::Sender::new(false));
                        lock.send_replace(locked);
                        Ok(lock.subscribe())
                    }
                    Err(error) => Err(error),
                };
                let _ = done.send(outcome);
            }
            None => tracing::debug!(id, "ignored a reply that nobody waits for"),
        }
        Ok(())
    }

    fn refuse(&self, id: &RawValue) -> Result<(), Disconnected> {
        let refusal = message::reply(id, None, Some("unknown method")).map_err(malformed)?;
        self.answer(refusal)
    }

    fn dispatch_notification(
        &self,
        method: &str,
        params: Option<&RawValue>,
    ) -> Result<(), Disconnected> {
        let params = params.map_or("null", RawValue::get);
        if let "locked" | "stolen" = method {
            let (name,): (String,) = serde_json::from_str(params).map_err(malformed)?;
            self.note_lock(&name, method == "locked");
            return Ok(());
        }
        let (id, updates, notation) = match method {
            "update3" => serde_json::from_str::<(u64, IgnoredAny, &RawValue)>(params)
                .map(|(id, _, updates)| (id, updates, Notation::Differences)),
            "update2" => serde_json::from_str::<(u64, &RawValue)>(params)
                .map(|(id, updates)| (id, updates, Notation::Differences)),
            "update" => serde_json::from_str::<(u64, &RawValue)>(params)
                .map(|(id, updates)| (id, updates, Notation::Rows)),
            _ => {
                tracing::debug!(method, "ignored a notification");
                return Ok(());
            }
        }
        .map_err(malformed)?;
        let sink = self.state().monitors.get(&id).cloned();
        sink.map_or(Ok(()), |sink| sink.update(updates, notation))
            .map_err(malformed)
    }
}

fn malformed(error: serde_json::Error) -> Disconnected {
    Disconnected::Malformed(error.to_string())
}
