//! What a controller tells: of its link and its work in its account, of what the switches lack on the board.

use hardware_vtep::Database;
use jiff::Timestamp;

use crate::lock::read;
use crate::status::{Residue, Sighting};

use super::{Controller, Difference};

impl Controller {
    /// The session is up.
    pub(super) fn connected(&self, schema_version: &str) {
        self.account.tell(|told| {
            if told.connected_since.is_none() {
                told.connected_since = Some(Timestamp::now());
                told.away = None;
                told.schema_version = schema_version.to_owned();
            }
        });
    }

    /// Leaves the switches to who drives them, and tells nothing of them.
    pub(super) fn stand(&mut self, elsewhere: &str) {
        if !self.devices.is_empty() || self.account.told().away.as_deref() != Some(elsewhere) {
            tracing::info!(
                target = self.name,
                elsewhere,
                "the switches are left to another connection"
            );
        }
        self.devices.clear();
        self.account.tell(|told| {
            told.devices.clear();
            told.connected_since = None;
            told.away = Some(elsewhere.to_owned());
        });
    }

    /// The session is gone.
    pub(super) fn away(&mut self, reason: &str) {
        if let Some(seats) = &self.seats {
            seats.leave(&self.name);
            self.seated.clear();
        }
        let reason = reason.to_owned();
        self.account.tell(|told| {
            if told.connected_since.take().is_some() {
                self.account.tally.add_lost();
            }
            told.away = Some(reason.clone());
        });
        self.board
            .put(self.devices.iter().cloned(), Sighting::Away { reason });
    }

    /// How long the newest change of the database waited until now, when it is looked at.
    pub(super) fn tell_delay(&mut self) {
        let (revision, committed) = {
            let intent = read(&self.replica);
            (intent.revision, intent.committed)
        };
        if revision != self.looked_at {
            self.looked_at = revision;
            let waited = committed.map(|at| at.elapsed());
            self.account.tell(|told| told.queue_delay = waited);
        }
    }

    /// Puts up what the switches lack, and why.
    pub(super) fn put_up(&self, rest: &Difference) {
        let (complaints, dead_tunnels, capabilities) = self.connection.replica().read(|database| {
            let complaints = database.map(Database::complaints).unwrap_or_default();
            let tunnels = database.into_iter().flat_map(Database::tunnels);
            let dead = tunnels.filter_map(|tunnel| {
                let words = tunnel.failure()?;
                Some(((tunnel.switch, tunnel.remote?.ip), words))
            });
            let capabilities = database.map(Database::capabilities);
            (complaints, dead.collect(), capabilities)
        });
        let desired = self.outlook.desired();
        let conflicts = &desired.conflicts;
        let withheld = rest.withheld.clone();
        let quarrels = self.pauses.quarrels();
        self.account.tell(|told| {
            told.refusals.clone_from(&self.refusals);
            told.quarrels.clone_from(&quarrels);
            told.withheld.clone_from(&withheld);
        });
        let residue = Residue::of(rest.revision, &rest.plan)
            .with_refusals(self.refusals.clone())
            .with_quarrels(quarrels)
            .with_conflicts(conflicts.iter().map(|(id, why)| (*id, why.clone())))
            .with_complaints(complaints)
            .with_dead_tunnels(dead_tunnels)
            .with_capabilities(capabilities, &desired.state)
            .with_withheld(withheld);
        self.board.put(
            self.devices.iter().cloned(),
            Sighting::Compared(Box::new(residue)),
        );
    }
}
