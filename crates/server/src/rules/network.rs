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
use store::{Direction, Query, Snapshot};

use super::collect;

const TYPE: &str = "provider:network_type";
const KEY: &str = "provider:segmentation_id";
const UNDERLAY: &str = "provider:physical_network";
const SEGMENTS: &str = "segments";

pub(super) fn create(tx: &mut dyn Snapshot, row: &mut Row) -> Result<(), Fault> {
    let mut all = segments::parse(row.text(SEGMENTS))?;
    if all.is_empty() {
        all.push(of_providers(row));
    }
    give_keys(tx, &mut all)?;
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
fn give_keys(tx: &mut dyn Snapshot, segments: &mut [Segment]) -> Result<(), Fault> {
    let mut taken = keys_of_several(tx)?;
    let told = segments.len() == 1;
    for key in segments
        .iter()
        .filter(|it| it.is_vxlan())
        .filter_map(|it| it.key)
    {
        let others = Query::all(Kind::Network)
            .matching(TYPE, "vxlan".into())
            .matching(KEY, Value::Integer(key));
        if !taken.insert(key) || (!told && tx.count(&others)? > 0) {
            return Err(in_use(key));
        }
    }
    for segment in segments
        .iter_mut()
        .filter(|it| it.is_vxlan() && it.key.is_none())
    {
        let key = lowest_free(tx, &taken)?;
        taken.insert(key);
        segment.key = Some(key);
    }
    Ok(())
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

fn lowest_free(tx: &mut dyn Snapshot, taken: &BTreeSet<i64>) -> Result<i64, Fault> {
    let behind = |mut key: i64| {
        while taken.contains(&key) {
            key += 1;
        }
        key
    };
    let mut query = Query::all(Kind::Network).matching(TYPE, "vxlan".into());
    let place = Resource::of(Kind::Network).position(KEY);
    query.sort = place
        .map(|place| (place, Direction::Ascending))
        .into_iter()
        .collect();
    let mut free = behind(1);
    tx.select(&query, &mut |row| match row.integer(KEY) {
        Some(taken) if taken > free => ControlFlow::Break(()),
        Some(taken) if taken == free => {
            free = behind(taken + 1);
            ControlFlow::Continue(())
        }
        _ => ControlFlow::Continue(()),
    })?;
    if free > i64::from(Vni::MAX) {
        return Err(Fault::new(
            FaultKind::NoNetworkAvailable,
            "Unable to create the network. Every VXLAN segmentation id is in use.",
        ));
    }
    Ok(free)
}
