//! What every bad day must end with.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use model::switch::{Locator, SwitchState};
use model::value::Vni;
use ovsdb::{Operation, Transaction};
use reqwest::Method;
use serde_json::Value;

use crate::act::Act;
use crate::model::{Held, Tunnel};
use crate::world::{PATIENCE, World};

/// Everything that either of us writes or that hangs on it.
const TABLES: [&str; 8] = [
    "Global",
    "Logical_Switch",
    "Ucast_Macs_Remote",
    "Mcast_Macs_Remote",
    "Physical_Locator",
    "Physical_Locator_Set",
    "Physical_Port",
    "Physical_Switch",
];

impl World {
    /// Lets all misfortunes end, and checks what every bad day ends with.
    pub(crate) async fn recover(&mut self) {
        self.suffer(&Act::Release).await;
        let expected = self.model.expected();
        let begun = Instant::now();
        while self.seen() != expected {
            if begun.elapsed() > PATIENCE {
                let (_, device) = self.call(Method::GET, "l2-devices/tor", None).await;
                assert_eq!(self.seen(), expected, "{device}");
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.until_device("converged", |device| device["status"] == "ACTIVE")
            .await;
        self.statuses_tell_so().await;
        for (name, rows) in &self.foreign {
            assert_eq!(self.rows_of(name), *rows, "{name}");
        }
        // A second run writes nothing, be it the same server's or another one's.
        let before = self.versions().await;
        self.kill_server().await;
        self.start_server().await;
        self.until_device("up again", |device| device["status"] == "ACTIVE")
            .await;
        assert_eq!(self.versions().await, before);
        assert_eq!(self.seen(), expected);
        self.statuses_tell_so().await;
    }

    async fn statuses_tell_so(&self) {
        let conflicts = self.model.conflicts();
        let collection = "l2_remote_gateway_connections";
        let path = "l2-remote-gateway-connections";
        let right = |connection: &Value| {
            let lost = conflicts.contains(connection["id"].as_str().unwrap());
            connection["status"] == if lost { "ERROR" } else { "ACTIVE" }
        };
        let begun = Instant::now();
        loop {
            let (_, body) = self.call(Method::GET, path, None).await;
            let connections = body[collection].as_array().unwrap();
            assert_eq!(connections.len(), self.model.connections.len());
            if connections.iter().all(right) {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "{conflicts:?} {body}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Every row with its version, which any write changes.
    async fn versions(&self) -> BTreeSet<String> {
        let (session, _) = self.eyes.up().await;
        let ask = TABLES.map(|table| Operation::select(table, [], ["_uuid", "_version"]));
        let transaction: Transaction = ask.into_iter().collect();
        let outcome = session
            .transact(hardware_vtep::NAME, &transaction)
            .await
            .unwrap();
        let rows = (0..TABLES.len()).flat_map(|index| outcome.rows::<Value>(index).unwrap());
        rows.map(|row| row.to_string()).collect()
    }
}

/// What a state says of logical switches of ours.
pub(crate) fn ours(state: &SwitchState) -> BTreeMap<String, Held> {
    let tunnel = |to: &Locator| -> Tunnel { (to.ip, to.tunnel_key.map(Vni::get)) };
    let owned = state
        .logical_switches
        .iter()
        .filter(|(_, network)| network.owned);
    owned
        .map(|(name, network)| {
            let macs = network.macs.iter();
            let bindings = state.bindings.iter().filter(|(_, bound)| *bound == name);
            let held = Held {
                key: network.tunnel_key.map_or(0, Vni::get),
                flood: network.flood.iter().map(tunnel).collect(),
                macs: macs
                    .map(|(mac, to)| {
                        (
                            u64::from_str_radix(&mac.to_string().replace(':', ""), 16).unwrap(),
                            (tunnel(&to.locator), to.ip),
                        )
                    })
                    .collect(),
                bindings: bindings
                    .map(|(at, _)| (at.port.name.to_string(), at.vlan.get()))
                    .collect(),
            };
            (name.to_string(), held)
        })
        .collect()
}
