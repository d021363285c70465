//! Pages joined are the list, whatever it is sorted by and whichever way they are turned.

use model::resource::Kind;
use model::row::{Row, Value};
use store::{Direction, Query, Store};

use crate::engines::{Engine, on_every_engine};
use crate::oracle::stored_position;
use crate::rows::{insert, plain, row, select};

on_every_engine! {
    pages_joined_are_the_list,
}

/// Networks of which many are equal in name, and some have no segmentation id.
fn networks() -> Vec<Row> {
    let network = |number: u8| {
        let mut network = row(Kind::Network, number, |_| Value::Null);
        network.set("name", Value::from(["b", "", "a"][usize::from(number % 3)]));
        if number % 3 == 1 {
            network.set("provider:segmentation_id", Value::Null);
        }
        if number % 4 == 2 {
            network.set("tenant_id", Value::Null);
        }
        network
    };
    (0..13).map(network).collect()
}

/// All rows, page by page: from the first to the last, or back.
async fn turned(store: &Store, query: &Query, size: u64, reverse: bool) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    loop {
        let end = if reverse { rows.first() } else { rows.last() };
        let page = Query {
            limit: Some(size),
            marker: end.map(Row::id),
            reverse,
            ..query.clone()
        };
        let page = store.read(move |snapshot| Ok(select(snapshot, &page)));
        let page = page.await.unwrap();
        if page.is_empty() {
            return rows;
        }
        assert!(rows.len() < 100, "the same page again and again");
        let place = if reverse { 0 } else { rows.len() };
        rows.splice(place..place, page);
    }
}

async fn pages_joined_are_the_list(engine: Engine) {
    let store = engine.open().await;
    let networks = networks();
    let resource = networks[0].resource;
    insert(&store, networks).await;
    for position in 0..resource.attributes.len() {
        if stored_position(resource, position).is_none() {
            continue;
        }
        for direction in [Direction::Ascending, Direction::Descending] {
            let name = resource.position("name").unwrap();
            let mut query = Query::all(Kind::Network);
            query.sort = vec![(position, direction), (name, Direction::Descending)];
            let whole = query.clone();
            let whole = store.read(move |snapshot| Ok(select(snapshot, &whole)));
            let whole = plain(&whole.await.unwrap());
            assert_eq!(whole.len(), 13);
            for size in [1, 4] {
                for reverse in [false, true] {
                    let pages = plain(&turned(&store, &query, size, reverse).await);
                    assert_eq!(pages, whole, "{query:?} by {size}, reverse: {reverse}");
                }
            }
        }
    }
}
