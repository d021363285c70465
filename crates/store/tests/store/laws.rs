//! Whatever is done, in whatever order: the store does what a list would do, and whoever follows its changes has the same.

use std::collections::BTreeMap;
use std::iter::Cycle;
use std::vec::IntoIter;

use model::fault::Fault;
use model::resource::{Default, Kind, Post, Resource, Shape};
use model::row::{Row, Value};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select as one_of;
use store::{Change, Direction, Filter, Query, Store};
use uuid::Uuid;

use crate::engines::Engine;
use crate::oracle::{Oracle, doomed, kinds, number, stored_position};
use crate::rows::{all, family, plain, row, select, value};

/// One thing to do; what exactly is in the dice.
#[derive(Clone, Debug)]
enum Step {
    Insert(Vec<Kind>, Dice),
    Update(Dice),
    Delete(Kind, Dice),
    Abandon(Kind, Dice),
    Ask(Kind, Dice),
    Follow,
}

type Dice = Vec<u8>;
type Throws = Cycle<IntoIter<u8>>;

fn step() -> impl Strategy<Value = Step> {
    let kind = || one_of(kinds());
    let dice = || vec(any::<u8>(), 24);
    prop_oneof![
        4 => (vec(kind(), 1..4), dice()).prop_map(|(kinds, dice)| Step::Insert(kinds, dice)),
        2 => dice().prop_map(Step::Update),
        2 => (kind(), dice()).prop_map(|(kind, dice)| Step::Delete(kind, dice)),
        1 => (kind(), dice()).prop_map(|(kind, dice)| Step::Abandon(kind, dice)),
        4 => (kind(), dice()).prop_map(|(kind, dice)| Step::Ask(kind, dice)),
        1 => Just(Step::Follow),
    ]
}

fn throw(throws: &mut Throws) -> u8 {
    throws.next().unwrap()
}

fn pick_any<'r>(rows: &'r [Row], throws: &mut Throws) -> Option<&'r Row> {
    let place = usize::from(throw(throws)).checked_rem(rows.len())?;
    Some(&rows[place])
}

fn pick<'r>(rows: &'r [Row], kind: Kind, throws: &mut Throws) -> Option<&'r Row> {
    let of_kind: Vec<_> = rows
        .iter()
        .filter(|row| row.resource.kind == kind)
        .collect();
    let place = usize::from(throw(throws)).checked_rem(of_kind.len())?;
    Some(of_kind[place])
}

/// A row with few different values, so that they collide; one reference in eight leads nowhere.
fn any_row(kind: Kind, rows: &[Row], throws: &mut Throws) -> Row {
    let mut new = row(kind, throw(throws) % 4, |target| {
        let lost = throw(throws).is_multiple_of(8);
        let target = pick(rows, target, throws).filter(|_| !lost);
        Value::Uuid(target.map_or_else(Uuid::new_v4, Row::id))
    });
    for (position, attribute) in new.resource.attributes.iter().enumerate() {
        let free = !matches!(attribute.shape, Shape::Id | Shape::Reference(..));
        if free && attribute.is_stored() {
            match throw(throws) % 3 {
                0 if attribute.post == Post::Optional(Default::Null) => {
                    new.values[position] = Value::Null;
                }
                1 => new.values[position] = value(attribute.shape, throw(throws) % 4),
                _ => {}
            }
        }
    }
    new
}

fn any_query(kind: Kind, rows: &[Row], throws: &mut Throws) -> Query {
    let resource = Resource::of(kind);
    let positions: Vec<_> = (0..resource.attributes.len())
        .filter(|position| stored_position(resource, *position).is_some())
        .collect();
    let position = |throws: &mut Throws| positions[usize::from(throw(throws)) % positions.len()];
    let mut query = Query::all(kind);
    for _ in 0..throw(throws) % 3 {
        let attribute = position(throws);
        let mut any_of = Vec::new();
        for _ in 0..throw(throws) % 4 {
            let here = stored_position(resource, attribute).unwrap();
            any_of.push(match (throw(throws) % 6, pick(rows, kind, throws)) {
                (0, _) => Value::Null,
                (1, _) => Value::from("of another shape"),
                (_, Some(row)) => row.values[here].clone(),
                (_, None) => Value::Bool(true),
            });
        }
        query.filters.push(Filter { attribute, any_of });
    }
    for _ in 0..throw(throws) % 3 {
        let descending = throw(throws) % 2 == 1;
        query.sort.push((
            position(throws),
            if descending {
                Direction::Descending
            } else {
                Direction::Ascending
            },
        ));
    }
    if throw(throws) % 2 == 1 {
        query.limit = Some(u64::from(throw(throws) % 4));
    }
    query.marker = match throw(throws) % 8 {
        0..4 => None,
        4 => Some(Uuid::new_v4()),
        _ => pick(rows, kind, throws).map(Row::id),
    };
    query.reverse = throw(throws) % 2 == 1;
    query
}

/// Somebody who follows the database by its changes alone.
#[derive(Default)]
struct Follower {
    revision: u64,
    rows: BTreeMap<(Kind, Uuid), Row>,
}

impl Follower {
    async fn catch_up(&mut self, store: &Store) {
        let since = self.revision;
        let mut rows = std::mem::take(&mut self.rows);
        (self.revision, self.rows) = store
            .read(move |snapshot| {
                let now = snapshot.changes(since, &mut |change| match change {
                    Change::Reset => panic!("nothing is forgotten so soon"),
                    Change::Deleted(kind, id) => {
                        let present: Vec<_> = rows.values().cloned().collect();
                        assert!(
                            rows.get(&(kind, id))
                                .is_none_or(|r| r.resource.kind == kind)
                        );
                        let doomed = doomed(&present, id);
                        rows.retain(|(_, id), _| !doomed.contains(id));
                    }
                    Change::Written(row) => {
                        assert!(row.revision > since, "only what is new");
                        rows.insert((row.resource.kind, row.id()), row.clone());
                    }
                })?;
                Ok((now, rows))
            })
            .await
            .unwrap();
    }
}

async fn live(engine: Engine, steps: Vec<Step>) {
    let store = engine.open().await;
    let mut oracle = Oracle::default();
    let mut follower = Follower::default();
    let mut rows = family(Kind::L2RemoteMac);
    oracle.insert(&rows).unwrap();
    store.write(move |t| t.insert(&mut rows)).await.unwrap();

    for step in steps {
        match step {
            Step::Insert(kinds, dice) => {
                let mut throws = dice.into_iter().cycle();
                let mut rows = Vec::new();
                let mut known = oracle.rows.clone();
                for kind in kinds {
                    rows.push(any_row(kind, &known, &mut throws));
                    known.extend(rows.last().cloned());
                }
                let expected = oracle.insert(&rows);
                let result = store
                    .write(move |transaction| {
                        transaction.insert(&mut rows)?;
                        let revision = transaction.revision()?;
                        assert!(rows.iter().all(|row| row.revision == revision));
                        Ok(())
                    })
                    .await;
                assert_same(result, expected);
            }
            Step::Update(dice) => {
                let mut throws = dice.into_iter().cycle();
                let Some(old) = pick_any(&oracle.rows, &mut throws) else {
                    continue;
                };
                let mut new = any_row(old.resource.kind, &oracle.rows, &mut throws);
                for (position, attribute) in new.resource.attributes.iter().enumerate() {
                    if matches!(attribute.shape, Shape::Id | Shape::Reference(..)) {
                        new.values[position] = old.values[position].clone();
                    }
                }
                let expected = oracle.update(&new);
                let result = store
                    .write(move |transaction| {
                        transaction.update(&mut new)?;
                        assert_eq!(new.revision, transaction.revision()?);
                        Ok(())
                    })
                    .await;
                assert_same(result, expected);
            }
            Step::Delete(kind, dice) => {
                let mut throws = dice.into_iter().cycle();
                let id = pick(&oracle.rows, kind, &mut throws).map_or_else(Uuid::new_v4, Row::id);
                let expected = oracle.delete(id);
                let result = store.write(move |t| t.delete(kind, id)).await;
                match (result, expected) {
                    (Ok(deleted), Ok(expected)) => assert_eq!(deleted, expected),
                    (Err(fault), Err(faults)) => assert!(faults.contains(&number(fault.kind))),
                    (result, expected) => panic!("{result:?} instead of {expected:?}"),
                }
            }
            Step::Abandon(kind, dice) => {
                let mut throws = dice.into_iter().cycle();
                let mut rows = [any_row(kind, &oracle.rows, &mut throws)];
                let victim = pick_any(&oracle.rows, &mut throws).cloned();
                let abandoned = store.write(move |transaction| {
                    let _ = transaction.insert(&mut rows);
                    if let Some(victim) = victim {
                        let _ = transaction.delete(victim.resource.kind, victim.id());
                    }
                    Err::<(), _>(Fault::refused("abandoned"))
                });
                assert_eq!(abandoned.await, Err(Fault::refused("abandoned")));
            }
            Step::Ask(kind, dice) => {
                let mut throws = dice.into_iter().cycle();
                let query = any_query(kind, &oracle.rows, &mut throws);
                let expected = oracle.select(&query);
                let asked = query.clone();
                let (rows, count) = store
                    .read(move |snapshot| {
                        let rows = select(snapshot, &asked);
                        Ok((rows, snapshot.count(&asked)?))
                    })
                    .await
                    .unwrap();
                assert_eq!(plain(&rows), plain(&expected), "{query:?}");
                assert_eq!(count, oracle.matching(&query).len() as u64);
                if let Some(row) = expected.first() {
                    let id = row.id();
                    let got = store.read(move |s| s.get(kind, id)).await.unwrap().unwrap();
                    assert_eq!(plain(&[got]), plain(std::slice::from_ref(row)));
                }
            }
            Step::Follow => follower.catch_up(&store).await,
        }
        assert_eq!(*store.revisions().borrow(), oracle.revision);
    }

    follower.catch_up(&store).await;
    let mut present = BTreeMap::new();
    for kind in kinds() {
        let rows = all(&store, kind).await;
        assert_eq!(plain(&rows), plain(&oracle.select(&Query::all(kind))));
        present.extend(rows.into_iter().map(|row| ((kind, row.id()), row)));
    }
    let values = |rows: &BTreeMap<_, Row>| plain(&rows.values().cloned().collect::<Vec<_>>());
    assert_eq!(values(&follower.rows), values(&present));
}

fn assert_same(result: Result<(), Fault>, expected: Result<(), Fault>) {
    let told = |fault: Fault| (fault.kind, fault.message);
    assert_eq!(result.map_err(told), expected.map_err(told));
}

fn run(engine: Engine, steps: Vec<Step>) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .build()
        .unwrap();
    runtime.block_on(live(engine, steps));
}

fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        max_shrink_iters: 400,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(cases(64))]

    #[test]
    fn sqlite_does_what_a_list_would_do(steps in vec(step(), 1..50)) {
        run(Engine::Sqlite, steps);
    }
}

proptest! {
    #![proptest_config(cases(24))]

    #[test]
    fn postgres_does_what_a_list_would_do(steps in vec(step(), 1..50)) {
        run(Engine::Postgres, steps);
    }
}
