//! References hold, whatever the resource table says they are.

use model::resource::{Attribute, Kind, OnDelete, Resource, Shape};
use model::row::{Row, Value};
use model::table;
use uuid::Uuid;

use crate::engines::{Engine, on_every_engine, psql};
use crate::rows::{all, family, insert};

on_every_engine! {
    what_a_reference_restricts_to_cannot_be_deleted,
    what_cascades_goes_with_what_it_refers_to_unless_something_restricts,
    a_reference_that_leads_nowhere_is_the_targets_not_found,
    what_must_be_unique_is_and_the_fault_says_so,
}

/// Every reference of the table.
fn references() -> impl Iterator<Item = (&'static Resource, &'static Attribute, Kind, OnDelete)> {
    table::ALL.iter().flat_map(|resource| {
        let attributes = resource.attributes.iter();
        attributes.filter_map(move |attribute| match attribute.shape {
            Shape::Reference(target, on_delete) => Some((*resource, attribute, target, on_delete)),
            _ => None,
        })
    })
}

fn target_of(attribute: &Attribute, family: &[Row]) -> Uuid {
    family.last().unwrap().uuid(attribute.name).unwrap()
}

/// Whether a deletion of the target must be refused because of some reference from this kind, directly or through what
/// would go with it.
fn restricted(target: Kind, family: &[Row]) -> bool {
    references().any(|(source, _, to, on_delete)| {
        let present = family.iter().any(|row| row.resource.kind == source.kind);
        present
            && to == target
            && match on_delete {
                OnDelete::Restrict => true,
                OnDelete::Cascade => restricted(source.kind, family),
            }
    })
}

async fn what_a_reference_restricts_to_cannot_be_deleted(engine: Engine) {
    let mut tried = 0;
    for (source, attribute, target, on_delete) in references() {
        if on_delete != OnDelete::Restrict {
            continue;
        }
        let store = engine.open().await;
        let family = family(source.kind);
        let id = target_of(attribute, &family);
        insert(&store, family.clone()).await;
        let fault = store
            .write(move |transaction| transaction.delete(target, id))
            .await
            .unwrap_err();
        let expected = Resource::of(target).in_use.fill(&id.to_string());
        assert_eq!(fault, expected, "{}.{}", source.member, attribute.name);
        let mut left = 0;
        for resource in table::ALL {
            left += all(&store, resource.kind).await.len();
        }
        assert_eq!(left, family.len(), "nothing is gone");
        tried += 1;
    }
    assert!(tried >= 6, "{tried} references");
}

async fn what_cascades_goes_with_what_it_refers_to_unless_something_restricts(engine: Engine) {
    for (source, attribute, target, on_delete) in references() {
        if on_delete != OnDelete::Cascade {
            continue;
        }
        let store = engine.open().await;
        let family = family(source.kind);
        let id = target_of(attribute, &family);
        let refused = restricted(target, &family);
        insert(&store, family).await;
        let deleted = store.write(move |transaction| transaction.delete(target, id));
        let place = format!("{}.{}", source.member, attribute.name);
        match deleted.await {
            Ok(deleted) => assert!(deleted && !refused, "{place}"),
            Err(fault) => assert!(refused && fault.kind.status() == 409, "{place}: {fault}"),
        }
        assert_eq!(
            all(&store, source.kind).await.is_empty(),
            !refused,
            "{place}"
        );
        assert_eq!(all(&store, target).await.is_empty(), !refused, "{place}");
    }
}

async fn a_reference_that_leads_nowhere_is_the_targets_not_found(engine: Engine) {
    for (source, attribute, target, _) in references() {
        let store = engine.open().await;
        let mut family = family(source.kind);
        let row = family.pop().unwrap();
        insert(&store, family).await;
        for (value, text) in [
            (Value::Uuid(Uuid::nil()), Uuid::nil().to_string()),
            (Value::from("no-uuid"), "no-uuid".to_owned()),
        ] {
            let mut row = row.clone();
            row.set(attribute.name, value);
            let fault = store
                .write(move |transaction| transaction.insert(&mut [row]))
                .await
                .unwrap_err();
            let expected = Resource::of(target).not_found.fill(&text);
            assert_eq!(
                (fault.kind, fault.message),
                (expected.kind, expected.message),
                "{}.{}",
                source.member,
                attribute.name
            );
        }
        insert(&store, vec![row]).await;
    }
}

async fn what_must_be_unique_is_and_the_fault_says_so(engine: Engine) {
    for resource in table::ALL {
        for unique in resource.unique {
            let store = engine.open().await;
            let mut family = family(resource.kind);
            let row = family.last_mut().unwrap();
            for name in unique.attributes {
                if *row.get(name) == Value::Null {
                    let shape = resource.attribute(name).unwrap().shape;
                    row.set(name, crate::rows::value(shape, 1));
                }
            }
            let mut twin = row.clone();
            twin.set("id", Value::Uuid(Uuid::new_v4()));
            let texts: Vec<_> = unique
                .attributes
                .iter()
                .map(|name| row.get(name).text())
                .collect();
            insert(&store, family).await;
            let mut again = [twin.clone()];
            let fault = store
                .write(move |transaction| transaction.insert(&mut again))
                .await
                .unwrap_err();
            let expected = Resource::collision(unique, &texts);
            assert_eq!(
                (fault.kind, fault.message),
                (expected.kind, expected.message)
            );

            // With a null in it, nothing collides.
            let nullable = unique.attributes.iter().find(|name| {
                let attribute = resource.attribute(name).unwrap();
                attribute.post == model::resource::Post::Optional(model::resource::Default::Null)
            });
            if let Some(nullable) = nullable {
                twin.set(nullable, Value::Null);
                let mut other = twin.clone();
                other.set("id", Value::Uuid(Uuid::new_v4()));
                insert(&store, vec![twin, other]).await;
            }
        }
    }
}

/// What SQLite's foreign keys do anyway, and ours of PostgreSQL are made for.
#[tokio::test(flavor = "multi_thread")]
async fn postgres_holds_references_whoever_writes() {
    let nil = Uuid::nil();
    for (source, attribute, target, on_delete) in references() {
        let place = Engine::Postgres.place();
        let store = store::Store::open(&place.url).await.unwrap();
        let family = family(source.kind);
        let id = target_of(attribute, &family);
        let restricted = restricted(target, &family);
        insert(&store, family).await;
        store.close().await;
        let (from, by, to) = (
            source.collection,
            attribute.name,
            Resource::of(target).collection,
        );
        let refused = |sql: &str| psql(&place.url, sql).unwrap_err();

        let error = refused(&format!(
            r#"CREATE TEMP TABLE kept AS SELECT * FROM "{from}"; DELETE FROM "{from}";
               INSERT INTO "{from}" SELECT (jsonb_populate_record(NULL::"{from}", to_jsonb(kept) || '{{"{by}": "{nil}"}}')).* FROM kept"#
        ));
        assert!(
            error.contains(&format!("{by} of {from}: there is no {nil} in {to}")),
            "{error}"
        );
        let error = refused(&format!(r#"UPDATE "{from}" SET "{by}" = '{nil}'"#));
        assert!(error.contains("are for life"), "{error}");
        let delete = format!(r#"DELETE FROM "{to}" WHERE "id" = '{id}'"#);
        let left = || psql(&place.url, &format!(r#"SELECT count(*) FROM "{from}""#)).unwrap();
        if restricted {
            let error = refused(&delete);
            assert!(
                error.contains("something refers to what goes from"),
                "{error}"
            );
            assert_eq!(left(), "1");
        } else {
            assert_eq!(on_delete, OnDelete::Cascade);
            psql(&place.url, &delete).unwrap();
            assert_eq!(left(), "0", "{from}.{by}");
        }
    }
}

/// The schema of version 4, as it is frozen.
const VERSION_4: [&str; 4] = [
    include_str!("../../src/snapshots/store__schema__tests__postgres-v1.snap"),
    include_str!("../../src/snapshots/store__schema__tests__postgres-v2.snap"),
    include_str!("../../src/snapshots/store__schema__tests__postgres-v3.snap"),
    include_str!("../../src/snapshots/store__schema__tests__postgres-v4.snap"),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_postgres_with_foreign_keys_is_brought_up_to_date() {
    let place = Engine::Postgres.place();
    for snapshot in VERSION_4 {
        psql(&place.url, snapshot.splitn(3, "---\n").last().unwrap()).unwrap();
    }
    let network = Uuid::from_u128(1);
    psql(
        &place.url,
        &format!(
            r#"CREATE TABLE l2gw_schema (version bigint NOT NULL); INSERT INTO l2gw_schema VALUES (4);
            INSERT INTO networks (revision, id, name, "provider:network_type", mtu, admin_state_up)
            VALUES (1, '{network}', 'n', 'local', 1500, 1);
            INSERT INTO ports (revision, id, name, network_id, mac_address, fixed_ips, "binding:host_id",
              "binding:profile", admin_state_up, device_owner, device_id)
            VALUES (1, '{}', 'p', '{network}', 1, '[]', '', '{{}}', 1, '', '');
            UPDATE state SET revision = 1"#,
            Uuid::from_u128(2)
        ),
    )
    .unwrap();
    let store = store::Store::open(&place.url).await.unwrap();
    let foreign_keys = "SELECT count(*) FROM pg_constraint WHERE contype = 'f'";
    assert_eq!(psql(&place.url, foreign_keys).unwrap(), "0");
    assert_eq!(all(&store, Kind::Port).await.len(), 1);
    let deleted = store.write(move |transaction| transaction.delete(Kind::Network, network));
    assert_eq!(deleted.await.unwrap_err().kind.status(), 409);
    assert!(psql(&place.url, "DELETE FROM networks").is_err());
}
