//! Networks of the built-in catalogue: a VXLAN network has a key.

use std::ops::ControlFlow;

use model::fault::{Fault, FaultKind};
use model::resource::{Kind, Resource};
use model::row::{Row, Value};
use model::value::Vni;
use store::{Direction, Query, Snapshot};

const TYPE: &str = "provider:network_type";
const KEY: &str = "provider:segmentation_id";

pub(super) fn create(tx: &mut dyn Snapshot, row: &mut Row) -> Result<(), Fault> {
    if row.text(TYPE) == "vxlan" && *row.get(KEY) == Value::Null {
        row.set(KEY, Value::Integer(lowest_free(tx)?));
    }
    Ok(())
}

fn lowest_free(tx: &mut dyn Snapshot) -> Result<i64, Fault> {
    let mut query = Query::all(Kind::Network).matching(TYPE, "vxlan".into());
    let place = Resource::of(Kind::Network).position(KEY);
    query.sort = place
        .map(|place| (place, Direction::Ascending))
        .into_iter()
        .collect();
    let mut free = 1;
    tx.select(&query, &mut |row| match row.integer(KEY) {
        Some(taken) if taken > free => ControlFlow::Break(()),
        Some(taken) => {
            free = taken + 1;
            ControlFlow::Continue(())
        }
        None => ControlFlow::Continue(()),
    })?;
    if free > i64::from(Vni::MAX) {
        return Err(Fault::new(
            FaultKind::NoNetworkAvailable,
            "Unable to create the network. Every VXLAN segmentation id is in use.",
        ));
    }
    Ok(free)
}
