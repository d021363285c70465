//! Switches that dial us.
//!
//! Where a connection comes from says nothing about who calls: switches sit behind NAT, change their addresses, and dial
//! again while their last connection, half dead, still looks open. A caller is the physical switches that its database
//! names; over TLS it is also the subject of its certificate.
//!
//! **The newest connection of a switch wins**: the older one is closed, and its controller is done before the new one
//! begins; see [`super::seats`]. A caller that names a switch which somebody with another certificate has at this moment is turned away: any
//! switch's certificate is good for a handshake, but it must not take another switch over.
//!
//! **First the name, then the database.** Of a caller nothing but its names is asked for until it has the seats of them: what is
//! kept of strangers is little, and of those who come as one switch only one brings a whole database. One whose switch some
//! gateway names is expected, and no stranger takes its memory ([`ovsdb::budget`]).

mod partings;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use hardware_vtep::{NAME, SwitchNames};
use ovsdb::{Caller, Connection, ConnectionOptions, Link, Listener, Session};
use tokio::sync::watch;
use tokio::task::JoinSet;

pub(super) use self::partings::Partings;
use super::claims::Claims;
use super::seats::{self, Occupied};
use super::{Place, Workshop};
use crate::lock::read;

/// How often to look whether a gateway names a stranger by now.
const LOOK: Duration = Duration::from_secs(1);

/// Attends to everybody who calls, until it is dropped.
pub(super) async fn attend(mut listener: Listener, workshop: Workshop, claims: Claims) {
    let mut attended = JoinSet::new();
    loop {
        tokio::select! {
            caller = listener.accept() => {
                attended.spawn(serve(caller, workshop.clone(), claims));
            }
            Some(_) = attended.join_next() => {}
        }
    }
}

async fn serve(caller: Caller, mut workshop: Workshop, claims: Claims) {
    let (working, done) = watch::channel(());
    let seat = seats::Caller {
        session: caller.session.clone(),
        address: caller.address.as_str().into(),
        subject: caller
            .certificate
            .as_ref()
            .map(|it| it.subject.as_str().into()),
        done,
    };
    let certificate = caller.certificate.as_ref().map(ToString::to_string);
    tracing::debug!(address = caller.address, certificate, "somebody dialled");
    let (address, certified) = (caller.address.clone(), caller.certificate.clone());
    let share = caller.share.clone();
    let named = Connection::accepted(caller, NAME, ConnectionOptions::default());
    let mut wakeups = named.wakeups();
    let mut names = BTreeSet::new();
    // A switch that was just set up may say who it is only later.
    while names.is_empty() {
        wakeups.borrow_and_update();
        if let Link::Down { reason } = named.link()
            && named.is_over()
        {
            workshop.partings.tell(&reason);
            return;
        }
        names = switches(&named);
        if names.is_empty() && wakeups.changed().await.is_err() {
            return;
        }
    }
    let session = seat.session.clone();
    let credible = |names: &BTreeSet<Arc<str>>| match claims.objection(names) {
        None => true,
        Some(reason) => {
            turn_away(&session, &reason);
            false
        }
    };
    let occupied = Occupied::none(Arc::clone(&workshop.seats), seat);
    // Before the database was read once, nobody knows who is expected.
    if workshop.intent.wait_for(Option::is_some).await.is_err() {
        return;
    }
    if !credible(&names) || !occupied.take(&names).await {
        return;
    }
    let mut expected = workshop.expects(&names);
    tracing::info!(address, certificate, ?names, expected, "a switch dialled");
    share.introduce(expected);
    let connection = Connection::accepted(
        Caller {
            session: session.clone(),
            address: address.clone(),
            certificate: certified,
            share: share.clone(),
        },
        NAME,
        ConnectionOptions::default(),
    );
    let described = names
        .iter()
        .map(|name| &**name)
        .collect::<Vec<_>>()
        .join(", ");
    let place = Place {
        name: format!("{described} at {address}"),
        label: described,
        claims: Some(claims),
    };
    let controller = workshop.controller(place, connection);
    let followed = async {
        // Its fabric may gain switches, a switch change its name, and a gateway name it.
        loop {
            tokio::select! {
                changed = wakeups.changed() => if changed.is_err() {
                    return std::future::pending().await;
                },
                () = tokio::time::sleep(LOOK), if !expected => {}
            }
            let now = switches(&named);
            if now != names {
                names = now;
                if !credible(&names) || !occupied.take(&names).await {
                    return;
                }
                expected = false;
            }
            if !expected {
                expected = workshop.expects(&names);
                share.introduce(expected);
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

/// Ends the session of a caller who claims what cannot be.
pub(super) fn turn_away(session: &Session, reason: &str) {
    tracing::warn!(reason, "turned away a caller");
    session.close(reason);
}

fn switches(connection: &Connection<SwitchNames>) -> BTreeSet<Arc<str>> {
    let names = connection
        .replica()
        .read(|held| held.map(SwitchNames::names));
    names.unwrap_or_default()
}

impl Workshop {
    /// Whether a gateway names one of these physical switches.
    fn expects(&self, names: &BTreeSet<Arc<str>>) -> bool {
        let replica = read(&self.replica);
        names.iter().any(|name| replica.intent.names(name))
    }
}
