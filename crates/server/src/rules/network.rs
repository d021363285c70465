//! Networks of the built-in catalogue: a VXLAN network has a key, and a key is one network's.
//!
//! Of a network with several segments the provider attributes tell what a gateway can use of it: the VXLAN segment if there
//! is one, a VXLAN network without a key if there are several.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use model::fault::{Fault, FaultKind};
use model::resource::{Kind, Resource};
use model::row::{Row, Value};
use model::segments::{self, Segment};
use model::value::Vni;
use store::{Query, Snapshot};

use super::collect;

const TYPE: &str = "provider:network_type";
const KEY: &str = "provider:segmentation_id";
const UNDERLAY: &str = "provider:physical_network";
const SEGMENTS: &str = "segments";

pub(super) fn create(tx: &mut dyn Snapshot, keys: &mut Keys, row: &mut Row) -> Result<(), Fault> {
    let mut all = segments::parse(row.text(SEGMENTS))?;
    if all.is_empty() {
        all.push(of_providers(row));
    }
    give_keys(tx, keys, &mut all)?;
    let all_of_them: Vec<&Segment> = all.iter().collect();
    let vxlan: Vec<&Segment> = all.iter().filter(|it| it.is_vxlan()).collect();
    match (all_of_them.as_slice(), vxlan.as_slice()) {
        ([only], _) | (_, [only]) => tell(row, only),
        ([first, ..], []) => row.set(TYPE, first.network_type.as_str().into()),
        _ => row.set(TYPE, "vxlan".into()),
    }
    let shown = match all.as_slice() {
        [_] => Value::Null,
        several => Value::Text(segments::to_text(several)?.into()),
    };
    row.set(SEGMENTS, shown);
    Ok(())
}

fn of_providers(row: &Row) -> Segment {
    Segment {
        network_type: row.text(TYPE).to_owned(),
        physical_network: Some(row.text(UNDERLAY).to_owned()).filter(|name| !name.is_empty()),
        key: row.integer(KEY),
    }
}

fn tell(row: &mut Row, segment: &Segment) {
    let underlay = segment.physical_network.as_deref();
    row.set(TYPE, segment.network_type.as_str().into());
    row.set(KEY, segment.key.map_or(Value::Null, Value::Integer));
    row.set(UNDERLAY, underlay.map_or(Value::Null, Value::from));
}

/// Gives a key to each VXLAN segment that has none, and makes sure that no other network has one of the keys. What one
/// network tells of itself the database keeps apart from what others tell.
fn give_keys(
    tx: &mut dyn Snapshot,
    keys: &mut Keys,
    segments: &mut [Segment],
) -> Result<(), Fault> {
    let told = segments.len() == 1;
    for key in segments
        .iter()
        .filter(|it| it.is_vxlan())
        .filter_map(|it| it.key)
    {
        keys.take(tx, key, told)?;
    }
    for segment in segments
        .iter_mut()
        .filter(|it| it.is_vxlan() && it.key.is_none())
    {
        segment.key = Some(keys.lowest_free(tx)?);
    }
    Ok(())
}

/// The keys that VXLAN networks have, those of the same request included. The database is asked for all of them once, and
/// only by who needs them: otherwise a bulk of networks would look for its keys from the beginning each time.
#[derive(Debug)]
pub(super) struct Keys {
    taken: BTreeSet<i64>,
    known: Known,
    /// All below are taken.
    lowest: i64,
}

/// What [`Keys`] knows of the database: the keys of no network, of those that no column tells, of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Known {
    Nothing,
    SeveralSegments,
    Everything,
}

impl Default for Keys {
    fn default() -> Self {
        Self {
            taken: BTreeSet::new(),
            known: Known::Nothing,
            lowest: 1,
        }
    }
}

impl Keys {
    /// Takes a key that was asked for. Whether another network tells it of itself is the database's to say where this
    /// one does, too.
    fn take(&mut self, tx: &mut dyn Snapshot, key: i64, told: bool) -> Result<(), Fault> {
        self.know(tx, Known::SeveralSegments)?;
        let others = Query::all(Kind::Network)
            .matching(TYPE, "vxlan".into())
            .matching(KEY, Value::Integer(key));
        if !self.taken.insert(key) || (!told && tx.count(&others)? > 0) {
            return Err(in_use(key));
        }
        Ok(())
    }

    /// Takes the lowest that nobody has.
    fn lowest_free(&mut self, tx: &mut dyn Snapshot) -> Result<i64, Fault> {
        self.know(tx, Known::Everything)?;
        self.next().ok_or_else(|| {
            Fault::new(
                FaultKind::NoNetworkAvailable,
                "Unable to create the network. Every VXLAN segmentation id is in use.",
            )
        })
    }

    fn next(&mut self) -> Option<i64> {
        while self.taken.contains(&self.lowest) {
            self.lowest += 1;
        }
        let free = (self.lowest <= i64::from(Vni::MAX)).then_some(self.lowest);
        self.taken.extend(free);
        free
    }

    fn know(&mut self, tx: &mut dyn Snapshot, wanted: Known) -> Result<(), Fault> {
        if self.known < Known::SeveralSegments {
            self.taken.extend(keys_of_several(tx)?);
            self.known = Known::SeveralSegments;
        }
        if self.known < wanted {
            let networks = Query::all(Kind::Network).matching(TYPE, "vxlan".into());
            tx.select(&networks, &mut |row| {
                self.taken.extend(row.integer(KEY));
                ControlFlow::Continue(())
            })?;
            self.known = wanted;
        }
        Ok(())
    }
}

/// The keys of networks with several VXLAN segments, which no column tells.
fn keys_of_several(tx: &mut dyn Snapshot) -> Result<BTreeSet<i64>, Fault> {
    let query = Query::all(Kind::Network)
        .matching(TYPE, "vxlan".into())
        .matching(KEY, Value::Null);
    let mut keys = BTreeSet::new();
    for network in collect(tx, &query)? {
        let segments = segments::parse(network.text(SEGMENTS))?.into_iter();
        keys.extend(segments.filter(Segment::is_vxlan).filter_map(|it| it.key));
    }
    Ok(keys)
}

fn in_use(key: i64) -> Fault {
    let values = ["vxlan".to_owned(), key.to_string()];
    let unique = Resource::of(Kind::Network).unique.first();
    unique.map_or_else(
        || Fault::internal("networks have no key"),
        |unique| Resource::collision(unique, &values),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever looked from the beginning for each would look at 5,000,000,000 keys.
    #[test]
    fn every_key_is_given_once_and_the_lowest_first() {
        let mut keys = Keys {
            taken: (1..200_000).step_by(2).collect(),
            ..Keys::default()
        };
        for free in (2..200_000).step_by(2).chain(200_000..200_010) {
            assert_eq!(keys.next(), Some(free));
        }
    }

    #[test]
    fn there_are_no_keys_beyond_the_last() {
        let last = i64::from(Vni::MAX);
        let mut keys = Keys {
            lowest: last - 1,
            ..Keys::default()
        };
        let given = [(); 4].map(|()| keys.next());
        assert_eq!(given, [Some(last - 1), Some(last), None, None]);
    }
}
