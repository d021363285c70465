//! Switches that dial us.
//!
//! Where a connection comes from says nothing about who calls: switches sit behind NAT, change their addresses, and dial
//! again while their last connection, half dead, still looks open. A caller is the physical switches that its database
//! names; over TLS it is also the subject of its certificate.
//!
//! **The newest connection of a switch wins**: the older one is closed, and its controller is done before the new one
//! begins. A caller that names a switch which somebody with another certificate has at this moment is turned away: any
//! switch's certificate is good for a handshake, but it must not take another switch over.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hardware_vtep::Database;
use ovsdb::{Caller, Connection, ConnectionOptions, Link, Listener, Session};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::Workshop;

/// Who is connected, by physical switch name.
#[derive(Default)]
pub(super) struct Callers {
    seats: Mutex<HashMap<Arc<str>, Seat>>,
}

/// A connection, under each of its switches' names.
#[derive(Clone)]
struct Seat {
    session: Session,
    address: Arc<str>,
    /// The subject of the certificate; `None` without TLS.
    subject: Option<Arc<str>>,
    /// Closed when the connection's controller is done.
    done: watch::Receiver<()>,
}

impl Seat {
    fn is(&self, other: &Self) -> bool {
        self.done.same_channel(&other.done)
    }
}

/// Attends to everybody who calls, until it is dropped.
pub(super) async fn attend(mut listener: Listener, callers: Arc<Callers>, workshop: Workshop) {
    let mut attended = JoinSet::new();
    loop {
        tokio::select! {
            caller = listener.accept() => {
                attended.spawn(serve(caller, Arc::clone(&callers), workshop.clone()));
            }
            Some(_) = attended.join_next() => {}
        }
    }
}

async fn serve(caller: Caller, callers: Arc<Callers>, workshop: Workshop) {
    let (working, done) = watch::channel(());
    let seat = Seat {
        session: caller.session.clone(),
        address: caller.address.as_str().into(),
        subject: caller
            .certificate
            .as_ref()
            .map(|it| it.subject.as_str().into()),
        done,
    };
    let certificate = caller.certificate.as_ref().map(ToString::to_string);
    tracing::info!(address = caller.address, certificate, "a switch dialled");
    let connection =
        Connection::accepted(caller, hardware_vtep::NAME, ConnectionOptions::default());
    let replica = Arc::clone(connection.replica());
    let mut wakeups = connection.wakeups();
    let mut names = BTreeSet::new();
    // A switch that was just set up may say who it is only later.
    while names.is_empty() {
        wakeups.borrow_and_update();
        if let Link::Down { reason } = connection.link()
            && connection.is_over()
        {
            tracing::warn!(%reason, "a switch that dialled is gone before it said who it is");
            return;
        }
        names = switches(&connection);
        if names.is_empty() && wakeups.changed().await.is_err() {
            return;
        }
    }
    let occupied = Occupied { callers, seat };
    if !occupied.take(&names).await {
        return;
    }
    let address = &occupied.seat.address;
    let described = names
        .iter()
        .map(|name| &**name)
        .collect::<Vec<_>>()
        .join(", ");
    let controller = workshop.controller(format!("{described} at {address}"), connection);
    let followed = async {
        // Its fabric may gain switches, or a switch change its name.
        loop {
            if wakeups.changed().await.is_err() {
                return std::future::pending().await;
            }
            let now = replica.read(|held| held.map(|held| held.switch_names().collect()));
            let now: BTreeSet<Arc<str>> = now.unwrap_or_default();
            if now != names {
                names = now;
                if !occupied.take(&names).await {
                    return;
                }
            }
        }
    };
    tokio::select! {
        () = controller => {}
        () = followed => {}
    }
    drop(occupied);
    // Whoever waits for this place may go on.
    drop(working);
}

fn switches(connection: &Connection<Database>) -> BTreeSet<Arc<str>> {
    connection
        .replica()
        .read(|held| held.map(|held| held.switch_names().collect()))
        .unwrap_or_default()
}

/// The seats that one connection has; given up when dropped.
struct Occupied {
    callers: Arc<Callers>,
    seat: Seat,
}

impl Drop for Occupied {
    fn drop(&mut self) {
        self.seats().retain(|_, seat| !seat.is(&self.seat));
    }
}

impl Occupied {
    fn seats(&self) -> MutexGuard<'_, HashMap<Arc<str>, Seat>> {
        // Nothing panics while it holds the lock.
        self.callers
            .seats
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes exactly the seats of these names, and waits for who had to leave them. False if somebody else with another
    /// certificate has one of them: then the session is closed.
    async fn take(&self, names: &BTreeSet<Arc<str>>) -> bool {
        let mut leaving = Vec::new();
        {
            let mut seats = self.seats();
            seats.retain(|name, seat| !seat.is(&self.seat) || names.contains(name));
            for name in names {
                let Some(held) = seats.get(name) else {
                    continue;
                };
                if held.subject != self.seat.subject && held.done.has_changed().is_ok() {
                    tracing::warn!(
                        switch = &**name,
                        address = &*self.seat.address,
                        subject = self.seat.subject.as_deref(),
                        held_by = &*held.address,
                        held_with = held.subject.as_deref(),
                        "turned away a caller: the switch it names is connected with another certificate"
                    );
                    let reason = format!("{name} is connected with another certificate");
                    self.seat.session.close(&reason);
                    return false;
                }
            }
            for name in names {
                let before = seats.insert(Arc::clone(name), self.seat.clone());
                if let Some(before) = before.filter(|before| !before.is(&self.seat)) {
                    leaving.push((Arc::clone(name), before));
                }
            }
        }
        for (name, mut older) in leaving {
            tracing::info!(
                switch = &*name,
                older = &*older.address,
                newer = &*self.seat.address,
                "the switch dialled again: its older connection is closed"
            );
            let reason = format!("{name} dialled again from {}", self.seat.address);
            older.session.close(&reason);
            // Nothing is ever sent: this waits for the end.
            while older.done.changed().await.is_ok() {}
        }
        true
    }
}
