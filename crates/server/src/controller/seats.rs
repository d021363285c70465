//! Who drives which physical switch: one controller at a time, whatever ways there are to reach it.
//!
//! A seat is a physical switch's name. Who sits there stays while the connection lives, with one exception: **the newest
//! connection of a switch that dials us wins** over an older one of its own. A switch that is also a `--device` is driven
//! over whichever connection was there first, and over the other one when that is gone.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ovsdb::Session;
use tokio::sync::watch;

/// Who sits where, by physical switch name.
#[derive(Default)]
pub(super) struct Seats {
    taken: Mutex<HashMap<Arc<str>, Occupant>>,
}

/// A connection, under each of its switches' names.
#[derive(Clone)]
enum Occupant {
    /// A switch that dialled us.
    Caller(Caller),
    /// An endpoint that we dialled.
    Endpoint(Arc<str>),
}

/// The connection of a switch that dialled us.
#[derive(Clone)]
pub(super) struct Caller {
    pub(super) session: Session,
    pub(super) address: Arc<str>,
    /// The subject of the certificate; `None` without TLS.
    pub(super) subject: Option<Arc<str>>,
    /// Closed when the connection's controller is done.
    pub(super) done: watch::Receiver<()>,
}

impl Caller {
    fn is(&self, other: &Self) -> bool {
        self.done.same_channel(&other.done)
    }

    fn is_there(&self) -> bool {
        self.done.has_changed().is_ok()
    }
}

impl Occupant {
    fn is_endpoint(&self, name: &str) -> bool {
        matches!(self, Self::Endpoint(endpoint) if **endpoint == *name)
    }

    fn is_caller(&self, caller: &Caller) -> bool {
        matches!(self, Self::Caller(held) if held.is(caller))
    }
}

impl Seats {
    fn taken(&self) -> MutexGuard<'_, HashMap<Arc<str>, Occupant>> {
        // Nothing panics while it holds the lock.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes exactly the seats of these names for an endpoint that we dialled.
    ///
    /// # Errors
    /// Somebody else has one of them, in words; then it has none.
    pub(super) fn sit(&self, endpoint: &str, names: &BTreeSet<Arc<str>>) -> Result<(), String> {
        let mut taken = self.taken();
        taken.retain(|_, by| !by.is_endpoint(endpoint));
        for name in names {
            let by = match taken.get(name) {
                Some(Occupant::Caller(caller)) if caller.is_there() => &caller.address,
                Some(Occupant::Endpoint(other)) => other,
                Some(Occupant::Caller(_)) | None => continue,
            };
            return Err(format!("{name} is driven over its connection {by}"));
        }
        let endpoint: Arc<str> = endpoint.into();
        let seats = names.iter().map(|name| {
            let by = Occupant::Endpoint(Arc::clone(&endpoint));
            (Arc::clone(name), by)
        });
        taken.extend(seats);
        Ok(())
    }

    /// Gives up the seats of an endpoint.
    pub(super) fn leave(&self, endpoint: &str) {
        self.taken().retain(|_, by| !by.is_endpoint(endpoint));
    }
}

/// The seats that one caller has; given up when dropped.
pub(super) struct Occupied {
    seats: Arc<Seats>,
    pub(super) caller: Caller,
}

impl Drop for Occupied {
    fn drop(&mut self) {
        self.seats
            .taken()
            .retain(|_, by| !by.is_caller(&self.caller));
    }
}

impl Occupied {
    pub(super) fn none(seats: Arc<Seats>, caller: Caller) -> Self {
        Self { seats, caller }
    }

    /// Takes exactly the seats of these names, and waits for who had to leave them. False if somebody else has one of them
    /// who need not leave: then the session is closed.
    pub(super) async fn take(&self, names: &BTreeSet<Arc<str>>) -> bool {
        let mut leaving = Vec::new();
        {
            let mut taken = self.seats.taken();
            taken.retain(|name, by| !by.is_caller(&self.caller) || names.contains(name));
            let objection = names
                .iter()
                .find_map(|name| self.objection(name, taken.get(name)?));
            if let Some(reason) = objection {
                self.caller.session.close(&reason);
                return false;
            }
            for name in names {
                let own = Occupant::Caller(self.caller.clone());
                if let Some(Occupant::Caller(before)) = taken.insert(Arc::clone(name), own)
                    && !before.is(&self.caller)
                {
                    leaving.push((Arc::clone(name), before));
                }
            }
        }
        for (name, mut older) in leaving {
            tracing::info!(
                switch = &*name,
                older = &*older.address,
                newer = &*self.caller.address,
                "the switch dialled again: its older connection is closed"
            );
            let reason = format!("{name} dialled again from {}", self.caller.address);
            older.session.close(&reason);
            // Nothing is ever sent: this waits for the end.
            while older.done.changed().await.is_ok() {}
        }
        true
    }

    /// Why a seat cannot be had from who has it.
    fn objection(&self, name: &str, by: &Occupant) -> Option<String> {
        match by {
            Occupant::Endpoint(endpoint) => {
                tracing::info!(
                    switch = name,
                    address = &*self.caller.address,
                    endpoint = &**endpoint,
                    "turned away a caller: the switch it names is driven over the endpoint"
                );
                Some(format!("{name} is driven over {endpoint}"))
            }
            Occupant::Caller(held) if held.subject != self.caller.subject && held.is_there() => {
                tracing::warn!(
                    switch = name,
                    address = &*self.caller.address,
                    subject = self.caller.subject.as_deref(),
                    held_by = &*held.address,
                    held_with = held.subject.as_deref(),
                    "turned away a caller: the switch it names is connected with another certificate"
                );
                Some(format!("{name} is connected with another certificate"))
            }
            Occupant::Caller(_) => None,
        }
    }
}
