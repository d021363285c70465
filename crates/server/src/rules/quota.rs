//! Quotas: how many resources of a kind a project may have.
//!
//! Counted within the transaction that inserts, so two requests cannot share the last free place.

use std::collections::{BTreeMap, HashMap};
use std::str::FromStr;

use model::fault::{Fault, FaultKind};
use model::resource::{Kind, Resource};
use model::row::Row;
use model::table;
use store::{Query, Snapshot, Transaction};

/// As many as it likes.
pub const UNLIMITED: i64 = -1;

/// How many resources of each kind a project may have for which nothing else was set.
#[derive(Clone, Copy, Debug)]
pub struct Quotas {
    /// In the order of the resource table.
    limits: [i64; table::ALL.len()],
}

impl Default for Quotas {
    fn default() -> Self {
        Self {
            limits: [UNLIMITED; table::ALL.len()],
        }
    }
}

impl Quotas {
    /// The defaults of this server.
    pub fn new(defaults: &[Quota]) -> Self {
        let mut quotas = Self::default();
        for quota in defaults {
            for (resource, limit) in table::ALL.iter().zip(&mut quotas.limits) {
                if resource.kind == quota.kind {
                    *limit = quota.limit;
                }
            }
        }
        quotas
    }

    /// Each kind and its limit.
    pub(crate) fn all(self) -> BTreeMap<Kind, i64> {
        let kinds = table::ALL.iter().map(|resource| resource.kind);
        kinds.zip(self.limits).collect()
    }

    /// Each kind and its limit for this project.
    pub(crate) fn of(
        self,
        snapshot: &mut dyn Snapshot,
        project: &str,
    ) -> Result<BTreeMap<Kind, i64>, Fault> {
        let mut limits = self.all();
        limits.extend(snapshot.quotas(project)?);
        Ok(limits)
    }
}

/// `RESOURCE=LIMIT`: one default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Of which resource.
    pub kind: Kind,
    /// How many; negative for "as many as it likes".
    pub limit: i64,
}

impl FromStr for Quota {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, limit) = text.split_once('=').ok_or("expected RESOURCE=LIMIT")?;
        let kind = kind(name).ok_or_else(|| {
            let known: Vec<_> = table::ALL.iter().map(|resource| resource.member).collect();
            format!("no resource '{name}'; there are {}", known.join(", "))
        })?;
        match limit.parse() {
            Ok(limit) if limit >= UNLIMITED => Ok(Self { kind, limit }),
            _ => Err(format!(
                "expected a number from -1 (unlimited) up, not '{limit}'"
            )),
        }
    }
}

/// The resource that a quota is named after, with dashes or underscores.
pub(crate) fn kind(name: &str) -> Option<Kind> {
    let member = name.replace('-', "_");
    let resource = table::ALL.iter().find(|resource| resource.member == member);
    resource.map(|resource| resource.kind)
}

/// How many resources of a kind a project has.
pub(crate) fn used(snapshot: &mut dyn Snapshot, kind: Kind, project: &str) -> Result<u64, Fault> {
    snapshot.count(&Query::all(kind).matching("tenant_id", project.into()))
}

/// What the projects of one request may still make. All its rows are of one kind.
#[derive(Default)]
pub(super) struct Allowance {
    /// By project; none where there is no limit.
    left: HashMap<String, Option<u64>>,
}

impl Allowance {
    /// Takes the place of one more row.
    ///
    /// # Errors
    /// 409: there is none left.
    pub(super) fn take(
        &mut self,
        tx: &mut dyn Transaction,
        defaults: Quotas,
        row: &Row,
    ) -> Result<(), Fault> {
        let kind = row.resource.kind;
        let project = row.text("tenant_id");
        if !self.left.contains_key(project) {
            let limit = defaults.of(tx, project)?.get(&kind).copied();
            let left = match limit.and_then(|limit| u64::try_from(limit).ok()) {
                Some(limit) => Some(limit.saturating_sub(used(tx, kind, project)?)),
                None => None,
            };
            self.left.insert(project.to_owned(), left);
        }
        match self.left.get_mut(project) {
            Some(Some(0)) => Err(Fault::new(
                FaultKind::OverQuota,
                format!(
                    "Quota exceeded for resources: ['{}'].",
                    Resource::of(kind).member
                ),
            )),
            Some(Some(left)) => {
                *left -= 1;
                Ok(())
            }
            Some(None) | None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_default_names_a_resource_in_either_spelling_and_a_limit() {
        let of = |text: &str| text.parse::<Quota>();
        let macs = Quota {
            kind: Kind::L2RemoteMac,
            limit: 5,
        };
        assert_eq!(of("l2_remote_mac=5"), Ok(macs));
        assert_eq!(of("l2-remote-mac=5"), Ok(macs));
        for wrong in [
            "l2_remote_mac",
            "l2_remote_mac=",
            "l2_remote_mac=-2",
            "mac=5",
        ] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
        assert_eq!(Quotas::new(&[macs]).all()[&Kind::L2RemoteMac], 5);
    }
}
