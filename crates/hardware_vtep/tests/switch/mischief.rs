//! What somebody else may do to a switch's database.

use std::sync::atomic::{AtomicI64, Ordering};

use ovsdb::{Atom, Datum, Operation, Row, Transaction};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde::Deserialize;
use uuid::Uuid;

use crate::fixture::{Switch, mac};

/// What somebody else may do to the database between two runs.
#[derive(Clone, Debug)]
pub(crate) enum Mischief {
    /// A second row for a MAC or for unknown destinations.
    Repeat(prop::sample::Index),
    /// A row that says nothing usable.
    Nonsense(u8, prop::sample::Index),
    /// Another key for a locator, under all rows that use it.
    Rekey(prop::sample::Index, i64),
    /// A network gets another name, or loses its mark; and another key with it.
    Rename(prop::sample::Index),
    Disown(prop::sample::Index),
}

pub(crate) fn mischief() -> impl Strategy<Value = Mischief> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        index().prop_map(Mischief::Repeat),
        (0..5_u8, index()).prop_map(|(kind, at)| Mischief::Nonsense(kind, at)),
        (index(), prop_oneof![Just(-1), Just(1 << 24), 460..470_i64])
            .prop_map(|(at, key)| Mischief::Rekey(at, key)),
        index().prop_map(Mischief::Rename),
        index().prop_map(Mischief::Disown),
    ]
}

#[derive(Deserialize)]
struct Identity {
    #[serde(rename = "_uuid")]
    uuid: ovsdb::column::Reference,
}

pub(crate) async fn pick(
    switch: &Switch,
    table: &'static str,
    at: prop::sample::Index,
) -> Option<Uuid> {
    let mut rows: Vec<Identity> = switch.select(table, ["_uuid"]).await;
    rows.sort_by_key(|row| row.uuid.0);
    (!rows.is_empty()).then(|| at.get(&rows).uuid.0)
}

pub(crate) fn a_locator_row(ip: &'static str, key: i64) -> Operation {
    let row = Row::new()
        .with("encapsulation_type", "vxlan_over_ipv4")
        .with("dst_ip", ip)
        .with("tunnel_key", key);
    Operation::insert_named("Physical_Locator", "l", row)
}

pub(crate) fn ucast(mac: &str, ip: &'static str, on: Uuid) -> Operation {
    let row = Row::new()
        .with("MAC", mac.to_owned())
        .with("logical_switch", on)
        .with("locator", Atom::NamedUuid("l".into()))
        .with("ipaddr", ip);
    Operation::insert("Ucast_Macs_Remote", row)
}

pub(crate) fn flood(mac: &'static str, on: Uuid) -> [Operation; 2] {
    let set = Row::new().with("locators", Datum::set([Atom::NamedUuid("l".into())]));
    let row = Row::new()
        .with("MAC", mac)
        .with("logical_switch", on)
        .with("locator_set", Atom::NamedUuid("s".into()));
    [
        Operation::insert_named("Physical_Locator_Set", "s", set),
        Operation::insert("Mcast_Macs_Remote", row),
    ]
}

pub(crate) async fn do_mischief(switch: &Switch, mischief: &Mischief) {
    // A locator of its own each time, because the index allows none twice.
    static LAST_KEY: AtomicI64 = AtomicI64::new(1000);
    let key = LAST_KEY.fetch_add(1, Ordering::Relaxed);
    let network = |at| pick(switch, "Logical_Switch", at);
    match *mischief {
        Mischief::Repeat(at) => {
            if let Some(on) = network(at).await {
                let mut operations = vec![a_locator_row("198.51.100.1", key)];
                operations.extend((0..3).map(|n| ucast(&mac(n).to_string(), "", on)));
                operations.extend(flood("unknown-dst", on));
                switch.transact(operations).await;
            }
        }
        Mischief::Nonsense(kind, at) => {
            if let Some(on) = network(at).await {
                let nonsense = match kind {
                    0 => vec![a_locator_row("198.51.100.1", key), ucast("no-mac", "", on)],
                    1 => vec![
                        a_locator_row("no-ip", key),
                        ucast(&mac(1).to_string(), "", on),
                    ],
                    2 => vec![
                        a_locator_row("198.51.100.1", -key),
                        ucast(&mac(2).to_string(), "no-ip", on),
                    ],
                    3 => std::iter::once(a_locator_row("no-ip", key))
                        .chain(flood("unknown-dst", on))
                        .collect(),
                    _ => std::iter::once(a_locator_row("198.51.100.1", key))
                        .chain(flood("01:00:5e:00:00:05", on))
                        .collect(),
                };
                switch.transact(nonsense).await;
            }
        }
        Mischief::Rekey(at, key) => {
            if let Some(uuid) = pick(switch, "Physical_Locator", at).await {
                let row = Row::new().with("tunnel_key", key);
                let update = Operation::update("Physical_Locator", uuid, row);
                // The index may forbid it.
                let _ = switch
                    .session
                    .transact(hardware_vtep::NAME, &Transaction::new().with(update))
                    .await;
            }
        }
        Mischief::Rename(at) => {
            if let Some(uuid) = network(at).await {
                // With a key that nobody wants: nothing may be added to the network whose key it would keep.
                let row = Row::new()
                    .with("name", format!("renamed-{uuid}"))
                    .with("tunnel_key", key);
                switch
                    .transact([Operation::update("Logical_Switch", uuid, row)])
                    .await;
            }
        }
        Mischief::Disown(at) => {
            if let Some(uuid) = network(at).await {
                // With such a key, too: it is somebody else's network from now on.
                let all = Row::new()
                    .with("other_config", Datum::Map(Vec::new()))
                    .with("tunnel_key", key);
                switch
                    .transact([Operation::update("Logical_Switch", uuid, all)])
                    .await;
            }
        }
    }
}

pub(crate) fn index(at: usize) -> prop::sample::Index {
    // An Index is only made by proptest; 0 picks the first of anything.
    assert_eq!(at, 0);
    use proptest::strategy::ValueTree;
    let mut runner = TestRunner::deterministic();
    let mut tree = any::<prop::sample::Index>().new_tree(&mut runner).unwrap();
    while tree.simplify() {}
    tree.current()
}
