//! What all peers that dial us may have together: connections, and bytes of memory.
//!
//! Each of them is bounded by its session's options, and a thousand strangers who each keep to that still take all the
//! memory there is. So what they have is counted over all listeners that share a [`Budget`]: messages that are not
//! taken in yet, answers they don't read, schemas and replicas.
//!
//! Who goes when it is too much, so that strangers keep no switch out that somebody waits for:
//!
//! - A caller is *unnamed*, then a *stranger* or *expected* ([`Share::introduce`]). Until it is named it may have
//!   [`INTRODUCTION`] bytes, which is plenty for a schema and a name.
//! - Unnamed ones and strangers have a quarter of the bytes and expected ones the rest: neither takes from the other. Of those who
//!   share a part that is too small, **who has most is closed**.
//! - Where none of the strangers has more than it takes to say who it is, and where there are too many connections, **who has been
//!   there longest is closed, of the address that has the most of them**: a flood from one place closes its own, and one from
//!   many places leaves a switch all the time that as many connections take to come. Expected ones are never closed for that.
//!
//! What a closed one had is counted until it is gone, and readers pause meanwhile.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};

/// Bytes that a caller may have before it is named: hardware_vtep's schema has 12 kB, a physical switch's name some hundred.
pub const INTRODUCTION: usize = 512 << 10;

/// Bytes that every connection takes: its tasks and the buffers of TLS and sockets.
const CONNECTION: usize = 32 << 10;

/// The part of the bytes that callers have who are not expected: one in so many.
const STRANGERS_PART: usize = 4;

/// How long readers pause at most for what closed callers had.
const PAUSE: Duration = Duration::from_secs(1);

/// What callers may have together.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Connections at a time.
    pub connections: usize,
    /// Bytes of memory, as far as callers decide on it.
    pub bytes: usize,
    /// What an operator can do about too few bytes, for the reasons that are told.
    pub advice: &'static str,
}

/// What callers have together; clones are the same.
#[derive(Clone, Debug)]
pub struct Budget(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    bounds: Bounds,
    state: Mutex<State>,
    /// Somebody gave something back.
    freed: Notify,
}

#[derive(Debug, Default)]
struct State {
    last: u64,
    /// The oldest first.
    callers: BTreeMap<u64, Entry>,
    strangers: Part,
    expected: Part,
    closed: Closed,
}

/// What those have who share a part of the bytes.
#[derive(Clone, Copy, Debug, Default)]
struct Part {
    connections: usize,
    bytes: usize,
    /// What those still have who were closed.
    leaving: usize,
}

/// Connections that were closed for the others' sake, since the start.
#[derive(Clone, Copy, Debug, Default)]
pub struct Closed {
    /// Because of the bytes they had.
    pub for_bytes: u64,
    /// Because there were too many.
    pub for_connections: u64,
}

/// What callers have now.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// What they may have.
    pub bounds: Bounds,
    /// Connections of callers that are expected.
    pub expected: usize,
    /// Bytes that these have.
    pub expected_bytes: usize,
    /// Connections of all others.
    pub strangers: usize,
    /// Bytes that these have.
    pub strangers_bytes: usize,
    /// Those that had to go.
    pub closed: Closed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// It has not said who it is.
    Unnamed,
    /// Nobody waits for who it says it is.
    Stranger,
    Expected,
}

#[derive(Debug)]
struct Entry {
    source: Option<IpAddr>,
    standing: Standing,
    bytes: usize,
    /// Why it has to go, when it has to.
    end: watch::Sender<Option<Arc<str>>>,
}

impl Entry {
    fn is_expected(&self) -> bool {
        self.standing == Standing::Expected
    }

    fn is_closed(&self) -> bool {
        self.end.borrow().is_some()
    }
}

impl Budget {
    /// Nobody has anything yet.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        Self(Arc::new(Inner {
            bounds,
            state: Mutex::default(),
            freed: Notify::new(),
        }))
    }

    /// What callers have now.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let state = self.0.state();
        let bytes = |part: Part| part.bytes.saturating_add(part.leaving);
        Usage {
            bounds: self.0.bounds,
            expected: state.expected.connections,
            expected_bytes: bytes(state.expected),
            strangers: state.strangers.connections,
            strangers_bytes: bytes(state.strangers),
            closed: state.closed,
        }
    }

    /// A share for one who calls from there.
    ///
    /// # Errors
    /// There are too many connections, all of them expected; in words.
    pub(crate) fn admit(&self, source: Option<IpAddr>) -> Result<Share, String> {
        let mut state = self.0.state();
        let most = self.0.bounds.connections;
        let there = state.strangers.connections + state.expected.connections;
        if there >= most {
            let Some((id, of_source)) = state.oldest_of_the_most() else {
                state.closed.for_connections += 1;
                return Err(format!(
                    "there are {there} connections of switches that dialled, and {most} are the most"
                ));
            };
            state.closed.for_connections += 1;
            let reason = format!(
                "there are {there} connections of callers, and {most} are the most; \
                 of {of_source} from its address that nobody expects it has been there longest"
            );
            state.close(id, reason);
        }
        state.last += 1;
        let id = state.last;
        let (end, ended) = watch::channel(None);
        let entry = Entry {
            source: source.map(network),
            standing: Standing::Unnamed,
            bytes: 0,
            end,
        };
        state.callers.insert(id, entry);
        state.strangers.connections += 1;
        drop(state);
        let share = Share(Arc::new(Caller {
            budget: Arc::clone(&self.0),
            id,
            ended,
        }));
        // Who may have to go for it is told by itself.
        let _ = share.add(CONNECTION);
        Ok(share)
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sees to it that nobody has more than there is.
    fn settle(&self, state: &mut State, id: u64) {
        let Bounds { bytes, advice, .. } = self.bounds;
        if let Some(entry) = state.callers.get(&id)
            && entry.standing == Standing::Unnamed
            && entry.bytes > INTRODUCTION
            && !entry.is_closed()
        {
            let reason = format!(
                "it has {} bytes and has not said who it is: {INTRODUCTION} are the most until then",
                entry.bytes
            );
            state.closed.for_bytes += 1;
            state.close(id, reason);
        }
        let strangers = bytes / STRANGERS_PART;
        while state.strangers.bytes > strangers {
            let total = state.strangers.bytes;
            let largest = state.largest(false).filter(|(_, own)| *own > INTRODUCTION);
            let (id, which) = match (largest, state.oldest_of_the_most()) {
                (Some((id, own)), _) => (id, format!("it has the most, {own} bytes")),
                (None, Some((id, of_source))) => (
                    id,
                    format!("of {of_source} from its address it has been there longest"),
                ),
                (None, None) => break,
            };
            let reason = format!(
                "callers that nobody expects have {total} bytes together, and {strangers} are the most; {which}{advice}"
            );
            state.closed.for_bytes += 1;
            state.close(id, reason);
        }
        let rest = bytes - strangers;
        while state.expected.bytes > rest {
            let total = state.expected.bytes;
            let Some((id, own)) = state.largest(true) else {
                break;
            };
            let reason = format!(
                "switches that dialled have {total} bytes together, and {rest} are the most; it has the most, {own} bytes{advice}"
            );
            state.closed.for_bytes += 1;
            state.close(id, reason);
        }
    }

    /// Whether callers who are closed, beside all others, have more than there is.
    fn is_crowded(&self, id: u64) -> bool {
        let state = self.state();
        let Some(entry) = state.callers.get(&id) else {
            return false;
        };
        let strangers = self.bounds.bytes / STRANGERS_PART;
        let (part, all) = match entry.is_expected() {
            true => (state.expected, self.bounds.bytes - strangers),
            false => (state.strangers, strangers),
        };
        part.leaving > 0 && part.bytes.saturating_add(part.leaving) > all
    }
}

impl State {
    fn part(&mut self, expected: bool) -> &mut Part {
        match expected {
            true => &mut self.expected,
            false => &mut self.strangers,
        }
    }

    fn close(&mut self, id: u64, reason: String) {
        let Some(entry) = self.callers.get(&id) else {
            return;
        };
        let (expected, bytes) = (entry.is_expected(), entry.bytes);
        entry.end.send_replace(Some(reason.into()));
        let part = self.part(expected);
        part.connections = part.connections.saturating_sub(1);
        part.bytes = part.bytes.saturating_sub(bytes);
        part.leaving = part.leaving.saturating_add(bytes);
    }

    fn open(&self, expected: bool) -> impl Iterator<Item = (u64, &Entry)> {
        let callers = self.callers.iter().map(|(id, entry)| (*id, entry));
        callers.filter(move |(_, entry)| entry.is_expected() == expected && !entry.is_closed())
    }

    /// Who has most.
    fn largest(&self, expected: bool) -> Option<(u64, usize)> {
        let sizes = self.open(expected).map(|(id, entry)| (id, entry.bytes));
        sizes.max_by_key(|(_, bytes)| *bytes)
    }

    /// Who, of those that nobody expects, has been there longest of the address that has the most of them, and how many
    /// these are.
    fn oldest_of_the_most(&self) -> Option<(u64, usize)> {
        let mut sources: HashMap<Option<IpAddr>, (u64, usize)> = HashMap::new();
        for (id, entry) in self.open(false) {
            sources.entry(entry.source).or_insert((id, 0)).1 += 1;
        }
        let most = |(id, count): &(u64, usize)| (*count, std::cmp::Reverse(*id));
        sources.into_values().max_by_key(most)
    }
}

/// What counts as one address: one site has a /64 of IPv6 to itself (RFC 4291 section 2.5.1).
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let prefix = address.to_bits() >> 64 << 64;
            IpAddr::V6(Ipv6Addr::from_bits(prefix))
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// What one caller has, until the last clone is dropped.
#[derive(Clone, Debug)]
pub struct Share(Arc<Caller>);

#[derive(Debug)]
struct Caller {
    budget: Arc<Inner>,
    id: u64,
    ended: watch::Receiver<Option<Arc<str>>>,
}

impl Drop for Caller {
    fn drop(&mut self) {
        let mut state = self.budget.state();
        if let Some(entry) = state.callers.remove(&self.id) {
            let part = state.part(entry.is_expected());
            if entry.is_closed() {
                part.leaving = part.leaving.saturating_sub(entry.bytes);
            } else {
                part.bytes = part.bytes.saturating_sub(entry.bytes);
                part.connections = part.connections.saturating_sub(1);
            }
        }
        drop(state);
        self.budget.freed.notify_waiters();
    }
}

impl Share {
    /// The caller has said who it is, and whether somebody waits for that one. That may be said again.
    pub fn introduce(&self, expected: bool) {
        let mut state = self.0.budget.state();
        let Some(entry) = state.callers.get_mut(&self.0.id) else {
            return;
        };
        let (was_expected, bytes) = (entry.is_expected(), entry.bytes);
        entry.standing = match expected {
            true => Standing::Expected,
            false => Standing::Stranger,
        };
        let closed = entry.is_closed();
        if was_expected == expected {
            return;
        }
        for (expected, comes) in [(was_expected, false), (expected, true)] {
            let part = state.part(expected);
            let change = |number: usize, by: usize| match comes {
                true => number.saturating_add(by),
                false => number.saturating_sub(by),
            };
            if closed {
                part.leaving = change(part.leaving, bytes);
            } else {
                part.bytes = change(part.bytes, bytes);
                part.connections = change(part.connections, 1);
            }
        }
        self.0.budget.settle(&mut state, self.0.id);
    }

    /// The caller has so many bytes more.
    ///
    /// # Errors
    /// It has to go, for this reason. It has them all the same until they are given back.
    pub(crate) fn add(&self, bytes: usize) -> Result<(), Arc<str>> {
        let mut state = self.0.budget.state();
        let Some(entry) = state.callers.get_mut(&self.0.id) else {
            return Ok(());
        };
        entry.bytes = entry.bytes.saturating_add(bytes);
        let (expected, closed) = (entry.is_expected(), entry.is_closed());
        let part = state.part(expected);
        if closed {
            part.leaving = part.leaving.saturating_add(bytes);
        } else {
            part.bytes = part.bytes.saturating_add(bytes);
            self.0.budget.settle(&mut state, self.0.id);
        }
        drop(state);
        self.0.ended.borrow().clone().map_or(Ok(()), Err)
    }

    /// The caller has so many bytes less.
    pub(crate) fn give_back(&self, bytes: usize) {
        let mut state = self.0.budget.state();
        let Some(entry) = state.callers.get_mut(&self.0.id) else {
            return;
        };
        let bytes = bytes.min(entry.bytes);
        entry.bytes -= bytes;
        let (expected, closed) = (entry.is_expected(), entry.is_closed());
        let part = state.part(expected);
        if closed {
            part.leaving = part.leaving.saturating_sub(bytes);
            drop(state);
            self.0.budget.freed.notify_waiters();
        } else {
            part.bytes = part.bytes.saturating_sub(bytes);
        }
    }

    /// Waits until the caller has to go, and returns why.
    pub(crate) async fn closed(&self) -> Arc<str> {
        let mut ended = self.0.ended.clone();
        let reason = match ended.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone(),
            Err(_) => None,
        };
        match reason {
            Some(reason) => reason,
            // The sender lives as long as `self`.
            None => std::future::pending().await,
        }
    }

    /// Waits while those who were closed still have what others would have then; not for ever, since they may be busy.
    pub(crate) async fn room(&self) {
        let budget = &self.0.budget;
        if !budget.is_crowded(self.0.id) {
            return;
        }
        let freed = async {
            loop {
                let freed = budget.freed.notified();
                if !budget.is_crowded(self.0.id) {
                    return;
                }
                freed.await;
            }
        };
        let _ = tokio::time::timeout(PAUSE, freed).await;
    }
}

/// Bytes that a caller has, until this is dropped. Those of peers that we dial are not counted.
#[derive(Debug, Default)]
pub(crate) struct Held {
    share: Option<Share>,
    bytes: usize,
}

impl Held {
    /// Nothing yet.
    pub(crate) fn by(share: Option<&Share>) -> Self {
        Self {
            share: share.cloned(),
            bytes: 0,
        }
    }

    /// Whether it is counted.
    pub(crate) fn counts(&self) -> bool {
        self.share.is_some()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// It is so many bytes now.
    ///
    /// # Errors
    /// The caller has to go, for this reason.
    pub(crate) fn set(&mut self, bytes: usize) -> Result<(), Arc<str>> {
        let Some(share) = &self.share else {
            return Ok(());
        };
        let before = std::mem::replace(&mut self.bytes, bytes);
        if bytes > before {
            return share.add(bytes - before);
        }
        if bytes < before {
            share.give_back(before - bytes);
        }
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(share) = &self.share
            && self.bytes > 0
        {
            share.give_back(self.bytes);
        }
    }
}

#[cfg(test)]
mod tests;
