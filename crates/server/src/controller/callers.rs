//! Switches that dial us.
//!
//! Where a connection comes from says nothing about who calls: switches sit behind NAT, change their addresses, and dial
//! again while their last connection, half dead, still looks open. A caller is the physical switches that its database
//! names; over TLS it is also the subject of its certificate.
//!
//! **The newest connection of a switch wins**: the older one is closed, and its controller is done before the new one
//! begins; see [`super::seats`]. A caller that names a switch which somebody with another certificate has at this moment is turned away: any
//! switch's certificate is good for a handshake, but it must not take another switch over.

use std::collections::BTreeSet;
use std::sync::Arc;

use hardware_vtep::Database;
use ovsdb::{Caller, Connection, ConnectionOptions, Link, Listener, Session};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::claims::Claims;
use super::seats::{self, Occupied};
use super::{Place, Workshop};

/// Attends to everybody who calls, until it is dropped.
pub(super) async fn attend(mut listener: Listener, workshop: Workshop, claims: Claims) {
    let mut attended = JoinSet::new();
    let mut full = false;
    loop {
        tokio::select! {
            caller = listener.accept() => {
                let was_full = std::mem::replace(&mut full, attended.len() >= claims.connections());
                if full {
                    if !was_full {
                        tracing::warn!(
                            target = %listener.target(),
                            address = caller.address,
                            connections = attended.len(),
                            "too many callers: further ones are turned away"
                        );
                    }
                    caller.session.close("too many callers");
                } else {
                    attended.spawn(serve(caller, workshop.clone(), claims));
                }
            }
            Some(_) = attended.join_next() => {}
        }
    }
}

async fn serve(caller: Caller, workshop: Workshop, claims: Claims) {
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
    let session = seat.session.clone();
    let credible = |names: &BTreeSet<Arc<str>>| match claims.objection(names) {
        None => true,
        Some(reason) => {
            turn_away(&session, &reason);
            false
        }
    };
    let occupied = Occupied::none(Arc::clone(&workshop.seats), seat);
    if !credible(&names) || !occupied.take(&names).await {
        return;
    }
    let address = &occupied.caller.address;
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
        // Its fabric may gain switches, or a switch change its name.
        loop {
            if wakeups.changed().await.is_err() {
                return std::future::pending().await;
            }
            let now = replica.read(|held| held.map(|held| held.switch_names().collect()));
            let now: BTreeSet<Arc<str>> = now.unwrap_or_default();
            if now != names {
                names = now;
                if !credible(&names) || !occupied.take(&names).await {
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

/// Ends the session of a caller who claims what cannot be.
pub(super) fn turn_away(session: &Session, reason: &str) {
    tracing::warn!(reason, "turned away a caller");
    session.close(reason);
}

fn switches(connection: &Connection<Database>) -> BTreeSet<Arc<str>> {
    connection
        .replica()
        .read(|held| held.map(|held| held.switch_names().collect()))
        .unwrap_or_default()
}
