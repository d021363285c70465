//! What befalls a world.

use std::process::Command;
use std::time::Duration;

use ovsdb::Session;
use serde_json::Value;
use testkit::ovsdb_server::VTEP_SCHEMA;

use crate::act::{Act, AdminDeletes, Garbage};
use crate::world::{World, pick};

impl World {
    pub(crate) async fn suffer(&mut self, misfortune: &Act) {
        match misfortune {
            Act::Cut => {
                self.switch.control(&["ovsdb-server/reconnect"]).unwrap();
                // The thief's session ended with the others.
                self.thief = None;
            }
            Act::Garbage(garbage) => self.gate.say(match garbage {
                Garbage::Unreadable => b"}{ what is this?",
                Garbage::Strange => br#"{"id":null,"colour":"green"}"#,
                Garbage::Unasked => br#"{"id":987654,"result":[{"count":1}],"error":null}"#,
                Garbage::Senseless => {
                    br#"{"id":null,"method":"update3","params":[["none"],"x",{"Logical_Switch":7}]}"#
                }
            }),
            Act::Convert => self.convert(),
            Act::RestartSwitch => {
                self.switch.kill().unwrap();
                self.thief = None;
                tokio::time::sleep(Duration::from_millis(20)).await;
                self.switch.start_again().unwrap();
            }
            Act::FreezeSwitch => {
                self.switch.freeze().unwrap();
                tokio::time::sleep(Duration::from_millis(50)).await;
                self.switch.thaw().unwrap();
            }
            Act::AdminDeletes { network, what } => {
                let Some(name) = pick(network, &self.model.networks).map(|n| n.id.clone()) else {
                    return;
                };
                let bindings = self.seen().remove(&name).map(|held| held.bindings);
                let unbind = bindings
                    .into_iter()
                    .flatten()
                    .map(|(port, vlan)| format!("unbind-ls tor {port} {vlan} -- "));
                let unbind: String = unbind.collect();
                let line = match what {
                    AdminDeletes::RemoteMacs => format!("clear-remote-macs {name}"),
                    AdminDeletes::Bindings => format!("{unbind}list-ls"),
                    AdminDeletes::Everything => {
                        format!("{unbind}clear-remote-macs {name} -- del-ls {name}")
                    }
                    AdminDeletes::Key => format!("set Logical_Switch {name} tunnel_key=77"),
                };
                // It may not be there yet, or not any more.
                let _ = self.vtep_ctl(&line);
            }
            Act::Foreign => {
                let serial = self.next();
                let name = format!("theirs{serial}");
                self.vtep_ctl(&format!(
                    "add-ls {name} -- set Logical_Switch {name} tunnel_key={serial} -- \
                     add-ucast-remote {name} 02:ff:00:00:00:01 198.51.100.7 -- bind-ls tor p9 {serial} {name}"
                ))
                .unwrap();
                let rows = self.rows_of(&name);
                self.foreign.insert(name, rows);
            }
            Act::Intrude(network) => {
                if let Some(name) = pick(network, &self.model.networks).map(|n| n.id.clone()) {
                    let serial = self.next();
                    let _ = self.vtep_ctl(&format!(
                        "add-ucast-remote {name} 02:fe:00:00:00:{:02x} 198.51.100.8",
                        serial % 256
                    ));
                }
            }
            Act::Steal => {
                let endpoint: ovsdb::Endpoint = self.switch.unix_target().parse().unwrap();
                let options = ovsdb::SessionOptions::default();
                let session = Session::connect(&endpoint.targets()[0], &options)
                    .await
                    .unwrap();
                let lock = session.steal("l2gw").await.unwrap();
                self.thief = Some((session, lock));
            }
            Act::Release => {
                if let Some((session, lock)) = self.thief.take() {
                    session.unlock(lock).await.unwrap();
                }
            }
            Act::KillServer => {
                self.kill_server().await;
                self.start_server().await;
            }
            Act::Wait(milliseconds) => {
                tokio::time::sleep(Duration::from_millis(*milliseconds)).await;
            }
            request => panic!("{request:?} is no misfortune"),
        }
    }

    /// Gives the database another version, with or without a table that nobody uses.
    fn convert(&mut self) {
        let serial = self.next();
        let mut schema: Value =
            serde_json::from_str(&std::fs::read_to_string(VTEP_SCHEMA).unwrap()).unwrap();
        schema["version"] = format!("1.7.{serial}").into();
        if serial.is_multiple_of(2) {
            let tables = schema["tables"].as_object_mut().unwrap();
            tables.remove("Arp_Sources_Remote").unwrap();
        }
        let file = self.directory.path().join("converted.ovsschema");
        std::fs::write(&file, schema.to_string()).unwrap();
        let output = Command::new("ovsdb-client")
            .args(["--timeout=20", "convert", &self.switch.unix_target()])
            .arg(file)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        // Whoever does not know of conversions loses the connection, the thief too.
        self.thief = None;
    }

    /// The UUIDs of somebody's logical switch and of its MAC, and its key.
    pub(crate) fn rows_of(&self, name: &str) -> String {
        let row = self
            .vtep_ctl(&format!(
                "--bare --columns=_uuid,tunnel_key find Logical_Switch name={name}"
            ))
            .unwrap();
        let uuid = row.lines().next().unwrap();
        let mac = self
            .vtep_ctl(&format!(
                "--bare --columns=_uuid,MAC find Ucast_Macs_Remote logical_switch={uuid}"
            ))
            .unwrap();
        format!("{row} {mac}")
    }
}
