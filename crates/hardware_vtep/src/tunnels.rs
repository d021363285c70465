//! `Tunnel`: what a switch says of its tunnels, and what it is asked to check them with (BFD, RFC 5880).
//!
//! The switch makes a row for each tunnel that it has. Whether it watches a tunnel is the controller's wish, the key
//! `enable` of `bfd_params`; what it then sees is in `bfd_status`.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use model::switch::Locator;
use ovsdb::{Datum, Lock, Mutation, Operation, Session, SharedReplica, TransactError};
use uuid::Uuid;

use crate::apply::fenced;
use crate::database::Database;
use crate::rows::TunnelRow;
use crate::schema::{NAME, table};

/// The key of `bfd_params` that turns the check on.
const ENABLE: &str = "enable";

/// A tunnel of a physical switch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tunnel {
    /// `Physical_Switch.name`.
    pub switch: Arc<str>,
    /// The switch's end.
    pub local: Option<Locator>,
    /// The other end. Switches have one tunnel for all keys of an address.
    pub remote: Option<Locator>,
    /// `bfd_params`: how it shall be checked.
    pub bfd_params: BTreeMap<String, String>,
    /// `bfd_config_local`: the switch's own addresses for the check.
    pub bfd_config_local: BTreeMap<String, String>,
    /// `bfd_config_remote`: the other end's.
    pub bfd_config_remote: BTreeMap<String, String>,
    /// `bfd_status`: what the check says.
    pub bfd_status: BTreeMap<String, String>,
}

impl Tunnel {
    /// Whether the switch is asked to check the tunnel.
    pub fn is_checked(&self) -> bool {
        self.bfd_params
            .get(ENABLE)
            .is_some_and(|text| text == "true")
    }

    /// Why the check says that the tunnel is down; `None` while it is up, not checked, or the switch has not said
    /// anything about it yet.
    pub fn failure(&self) -> Option<String> {
        let status = |key| self.bfd_status.get(key).map(String::as_str);
        // vtep(5): "enabled" tells that the check runs; "state" is admin_down, down, init or up.
        if !self.is_checked() || status("enabled") == Some("false") {
            return None;
        }
        let state = status("state").filter(|state| *state != "up")?;
        let remote = self.remote.map(|end| end.ip.to_string());
        let mut words = format!("tunnel to {} is {state}", remote.unwrap_or_default());
        if let Some(diagnostic) = status("diagnostic").filter(|it| *it != "No Diagnostic") {
            words = format!("{words}: {diagnostic}");
        }
        Some(words)
    }
}

impl Database {
    /// The tunnels of all physical switches. Empty where the schema has no tunnels (before 1.3.0), or where the switch
    /// shows none.
    pub fn tunnels(&self) -> impl Iterator<Item = Tunnel> {
        self.switches.values().flat_map(|switch| {
            let tunnels = switch.tunnels.0.iter();
            tunnels.filter_map(|uuid| {
                let row = self.tunnels.get(uuid)?;
                Some(Tunnel {
                    switch: Arc::clone(&switch.name),
                    local: self.locator(row.local),
                    remote: self.locator(row.remote),
                    bfd_params: sorted(&row.bfd_params),
                    bfd_config_local: sorted(&row.bfd_config_local),
                    bfd_config_remote: sorted(&row.bfd_config_remote),
                    bfd_status: sorted(&row.bfd_status),
                })
            })
        })
    }

    fn tunnels_to_change(&self, wanted: &BTreeMap<Ipv4Addr, bool>) -> Vec<(Uuid, bool)> {
        let change = |(uuid, row): (&Uuid, &TunnelRow)| {
            let enabled = *wanted.get(&self.locator(row.remote)?.ip)?;
            let text = if enabled { "true" } else { "false" };
            let held = row.bfd_params.get(ENABLE).map(String::as_str);
            // Not to be checked is also what no wish says.
            let right = held == Some(text) || (held.is_none() && !enabled);
            (!right).then_some((*uuid, enabled))
        };
        self.tunnels.iter().filter_map(change).collect()
    }
}

fn sorted(map: &ovsdb::column::Map<String, String>) -> BTreeMap<String, String> {
    map.0.iter().cloned().collect()
}

/// Asks the switches to check the tunnels to these addresses, or to stop it. Other tunnels and other parameters are left
/// alone; tunnels that do not exist yet are found by the next call. With a lock only its owner does it. Returns how many
/// tunnels were changed.
///
/// # Errors
/// See [`TransactError`].
pub async fn set_bfd(
    session: &Session,
    replica: &SharedReplica<Database>,
    wanted: &BTreeMap<Ipv4Addr, bool>,
    fence: Option<&Lock>,
) -> Result<usize, TransactError> {
    let changes = replica
        .read(|database| database.map_or_else(Vec::new, |held| held.tunnels_to_change(wanted)));
    if changes.is_empty() {
        return Ok(0);
    }
    let count = changes.len();
    let operations = changes.into_iter().map(|(tunnel, enabled)| {
        let text = if enabled { "true" } else { "false" };
        let mutations = [
            Mutation::delete("bfd_params", Datum::set([ENABLE])),
            Mutation::insert("bfd_params", Datum::map([(ENABLE, text)])),
        ];
        Operation::mutate(table::TUNNEL, tunnel, mutations)
    });
    session.transact(NAME, &fenced(fence, operations)).await?;
    Ok(count)
}
