//! References hold, whatever the resource table says they are.

use model::resource::{Attribute, Kind, OnDelete, Resource, Shape};
use model::row::{Row, Value};
use model::table;
use uuid::Uuid;

use crate::engines::{Engine, on_every_engine};
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
