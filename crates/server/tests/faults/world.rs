//! A server with its REST API, a real ovsdb-server as its switch, and others who write there too.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::process::Command;
use std::time::{Duration, Instant};

use hardware_vtep::Database;
use model::value::MacAddress;
use ovsdb::{Connection, ConnectionOptions, Lock, Session};
use reqwest::{Client, Method};
use serde_json::{Value, json};
use server::{Options, Server, StartError};
use tempfile::TempDir;
use testkit::ovsdb_gate::Gate;
use testkit::ovsdb_server::OvsdbServer;
use tokio::task::JoinHandle;

use crate::act::{Act, Index};
use crate::model::{
    Attachment, Connection as Stretch, Gateway, Held, Model, Network, Port, Remote, RemoteMac,
};
use crate::verdict::ours;

/// How long anything may take on a machine with other things to do.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// The ports that gateways use; others use `p9`.
const PORTS: [&str; 3] = ["p1", "p2", "p3"];
struct Running {
    client: Client,
    url: String,
    serving: JoinHandle<Result<(), StartError>>,
}

pub(crate) struct World {
    pub(crate) model: Model,
    pub(crate) directory: TempDir,
    pub(crate) switch: OvsdbServer,
    /// The server's way to the switch.
    pub(crate) gate: Gate,
    pub(crate) eyes: Connection<Database>,
    running: Option<Running>,
    /// Who has stolen the lock.
    pub(crate) thief: Option<(Session, Lock)>,
    /// Logical switches of others: name, and the UUIDs of the row and its MAC.
    pub(crate) foreign: BTreeMap<String, String>,
    /// Distinguishes what must be distinct.
    pub(crate) serial: u32,
}

impl World {
    pub(crate) async fn new() -> Self {
        let switch = OvsdbServer::start().unwrap();
        let eyes = Connection::start(
            switch.unix_target().parse().unwrap(),
            hardware_vtep::NAME,
            ConnectionOptions::default(),
        );
        let mut world = Self {
            model: Model::default(),
            directory: TempDir::new().unwrap(),
            gate: Gate::start(&switch.socket(), usize::MAX).unwrap(),
            switch,
            eyes,
            running: None,
            thief: None,
            foreign: BTreeMap::new(),
            serial: 0,
        };
        let mut line = "add-ps tor -- add-port tor p9".to_owned();
        for port in PORTS {
            line.push_str(&format!(" -- add-port tor {port}"));
        }
        world.vtep_ctl(&line).unwrap();
        world.eyes.up().await;
        world.start_server().await;
        world
            .until_device("seen", |device| device["status"] == "ACTIVE")
            .await;
        world
    }

    pub(crate) async fn start_server(&mut self) {
        let begun = Instant::now();
        let server = loop {
            match Server::start(self.options()).await {
                Ok(server) => break server,
                // Threads of the server before may not have let go of the database yet.
                Err(error) => assert!(begun.elapsed() < PATIENCE, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        self.running = Some(Running {
            client: Client::new(),
            url: format!("http://{}", server.address.unwrap()),
            serving: tokio::spawn(server.serve(std::future::pending())),
        });
    }

    fn options(&self) -> Options {
        let database = self.directory.path().join("l2gw.db");
        let device = self.gate.target();
        options(&database.display().to_string(), &["--device", &device])
    }

    pub(crate) async fn kill_server(&mut self) {
        if let Some(running) = self.running.take() {
            running.serving.abort();
            // The connections of its clients keep what answers them.
            drop(running.client);
            let _ = running.serving.await;
        }
    }

    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> (u16, Value) {
        let running = self.running.as_ref().unwrap();
        let mut request = running
            .client
            .request(method.clone(), format!("{}/v2.0/{path}", running.url));
        if let Some(body) = &body {
            request = request.json(body);
        }
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        let text = response.text().await.unwrap();
        assert!(status < 500, "{method} {path} {body:?}: {status} {text}");
        (status, serde_json::from_str(&text).unwrap_or_default())
    }

    /// Creates something, if the server allows it: its id.
    async fn create(&self, collection: &str, object: Value) -> Option<String> {
        let member = collection.trim_end_matches('s').replace('-', "_");
        let body = json!({&member: object});
        let (status, body) = self.call(Method::POST, collection, Some(body)).await;
        (status == 201).then(|| body[&member]["id"].as_str().unwrap().to_owned())
    }

    async fn delete(&self, collection: &str, id: &str) -> bool {
        let path = format!("{collection}/{id}");
        self.call(Method::DELETE, &path, None).await.0 == 204
    }

    pub(crate) fn next(&mut self) -> u32 {
        self.serial += 1;
        self.serial
    }

    pub(crate) fn vtep_ctl(&self, line: &str) -> Result<String, String> {
        let output = Command::new("vtep-ctl")
            .args([
                format!("--db={}", self.switch.unix_target()),
                "--timeout=10".to_owned(),
            ])
            .args(line.split(' '))
            .output()
            .unwrap();
        match output.status.success() {
            true => Ok(String::from_utf8(output.stdout).unwrap().trim().to_owned()),
            false => Err(String::from_utf8(output.stderr).unwrap()),
        }
    }

    /// Has something happen, to the model too.
    pub(crate) async fn happen(&mut self, act: &Act) {
        match act {
            Act::CreateNetwork => {
                let key = 5000 + self.next();
                let object = json!({"provider:segmentation_id": key});
                if let Some(id) = self.create("networks", object).await {
                    self.model.networks.push(Network { id, key });
                }
            }
            Act::CreatePort { network, host } => {
                let serial = self.next();
                let Some(network) = pick(network, &self.model.networks).map(|n| n.id.clone())
                else {
                    return;
                };
                let mac = 0x0200_0100_0000 + u64::from(serial);
                let ip = Ipv4Addr::from(0x0a00_0000 + serial);
                let host = Ipv4Addr::new(192, 0, 2, *host);
                let object = json!({
                    "network_id": network, "mac_address": MacAddress::from_u64(mac).to_string(),
                    "fixed_ips": [{"ip_address": ip}], "binding:profile": {"tunneling_ip": host},
                });
                if let Some(id) = self.create("ports", object).await {
                    self.model.ports.push(Port {
                        id,
                        network,
                        mac,
                        ip,
                        host,
                    });
                }
            }
            Act::CreateGateway { ports } => {
                let object = json!({"devices": devices(*ports)});
                if let Some(id) = self.create("l2-gateways", object).await {
                    let ports = named(*ports);
                    self.model.gateways.push(Gateway { id, ports });
                }
            }
            Act::ChangeGateway { gateway, ports } => {
                let Some(id) = pick(gateway, &self.model.gateways).map(|g| g.id.clone()) else {
                    return;
                };
                let body = json!({"l2_gateway": {"devices": devices(*ports)}});
                let path = format!("l2-gateways/{id}");
                if self.call(Method::PUT, &path, Some(body)).await.0 == 200 {
                    let mut gateways = self.model.gateways.iter_mut();
                    gateways.find(|g| g.id == id).unwrap().ports = named(*ports);
                }
            }
            Act::Attach {
                gateway,
                network,
                vlan,
            } => {
                let gateway = pick(gateway, &self.model.gateways);
                let network = pick(network, &self.model.networks);
                let Some((gateway, network)) = gateway.zip(network) else {
                    return;
                };
                let (gateway, network) = (gateway.id.clone(), network.id.clone());
                let object = json!({
                    "l2_gateway_id": gateway, "network_id": network, "segmentation_id": vlan.to_string(),
                });
                if let Some(id) = self.create("l2-gateway-connections", object).await {
                    let vlan = *vlan;
                    self.model.attachments.push(Attachment {
                        id,
                        gateway,
                        network,
                        vlan,
                    });
                }
            }
            Act::CreateRemote { host } => {
                let ip = Ipv4Addr::new(203, 0, 113, *host);
                let object = json!({"name": "far", "ipaddr": ip});
                if let Some(id) = self.create("l2-remote-gateways", object).await {
                    self.model.remotes.push(Remote { id, ip });
                }
            }
            Act::MoveRemote { remote, host } => {
                let Some(id) = pick(remote, &self.model.remotes).map(|r| r.id.clone()) else {
                    return;
                };
                let ip = Ipv4Addr::new(203, 0, 113, *host);
                let body = json!({"l2_remote_gateway": {"ipaddr": ip}});
                let path = format!("l2-remote-gateways/{id}");
                if self.call(Method::PUT, &path, Some(body)).await.0 == 200 {
                    let mut remotes = self.model.remotes.iter_mut();
                    remotes.find(|r| r.id == id).unwrap().ip = ip;
                }
            }
            Act::Connect {
                attachment,
                remote,
                key,
                flood,
            } => {
                let attachment = pick(attachment, &self.model.attachments);
                let remote = pick(remote, &self.model.remotes);
                let Some((attachment, remote)) = attachment.zip(remote) else {
                    return;
                };
                let (gateway, network) = (attachment.gateway.clone(), attachment.network.clone());
                let remote = remote.id.clone();
                let object = json!({
                    "l2_gateway_id": gateway, "network_id": network, "l2_remote_gateway_id": remote,
                    "segmentation_id": key, "flood": flood,
                });
                if let Some(id) = self.create("l2-remote-gateway-connections", object).await {
                    let (key, flood) = (*key, *flood);
                    let connections = &mut self.model.connections;
                    connections.push(Stretch {
                        id,
                        network,
                        remote,
                        key,
                        flood,
                    });
                }
            }
            Act::AddMac { connection, port } => {
                let serial = self.next();
                let Some(connection) = pick(connection, &self.model.connections) else {
                    return;
                };
                let ports = self.model.ports.iter();
                let ports: Vec<_> = ports.filter(|p| p.network == connection.network).collect();
                let port = port.as_ref().and_then(|index| pick(index, &ports));
                let mac = port.map_or(0x0200_0200_0000 + u64::from(serial), |port| port.mac);
                let id = connection.id.clone();
                let ip = Ipv4Addr::from(0x0b00_0000 + serial);
                self.add_macs(&id, vec![(mac, Some(ip.into()))]).await;
            }
            Act::AddMacs { connection, count } => {
                let Some(id) = pick(connection, &self.model.connections).map(|c| c.id.clone())
                else {
                    return;
                };
                let first = u64::from(self.next()) << 16;
                let macs = (0..u64::from(*count)).map(|n| (0x0204_0000_0000 + first + n, None));
                self.add_macs(&id, macs.collect()).await;
            }
            Act::DeleteNetwork(index) => {
                if let Some(id) = pick(index, &self.model.networks).map(|n| n.id.clone())
                    && self.delete("networks", &id).await
                {
                    self.model.delete_network(&id);
                }
            }
            Act::DeletePort(index) => {
                if let Some(id) = pick(index, &self.model.ports).map(|p| p.id.clone())
                    && self.delete("ports", &id).await
                {
                    self.model.ports.retain(|port| port.id != id);
                }
            }
            Act::DeleteGateway(index) => {
                if let Some(id) = pick(index, &self.model.gateways).map(|g| g.id.clone())
                    && self.delete("l2-gateways", &id).await
                {
                    self.model.gateways.retain(|gateway| gateway.id != id);
                }
            }
            Act::Detach(index) => {
                if let Some(id) = pick(index, &self.model.attachments).map(|a| a.id.clone())
                    && self.delete("l2-gateway-connections", &id).await
                {
                    self.model
                        .attachments
                        .retain(|attachment| attachment.id != id);
                }
            }
            Act::DeleteRemote(index) => {
                if let Some(id) = pick(index, &self.model.remotes).map(|r| r.id.clone())
                    && self.delete("l2-remote-gateways", &id).await
                {
                    self.model.remotes.retain(|remote| remote.id != id);
                }
            }
            Act::Disconnect(index) => {
                if let Some(id) = pick(index, &self.model.connections).map(|c| c.id.clone())
                    && self.delete("l2-remote-gateway-connections", &id).await
                {
                    self.model.disconnect(&id);
                }
            }
            Act::DeleteMac(index) => {
                if let Some(id) = pick(index, &self.model.macs).map(|m| m.id.clone())
                    && self.delete("l2-remote-macs", &id).await
                {
                    self.model.macs.retain(|mac| mac.id != id);
                }
            }
            misfortune => self.suffer(misfortune).await,
        }
    }

    async fn add_macs(&mut self, connection: &str, macs: Vec<(u64, Option<std::net::IpAddr>)>) {
        let object = |(mac, ip): &(u64, Option<std::net::IpAddr>)| match ip {
            Some(ip) => json!({
                "mac": MacAddress::from_u64(*mac).to_string(), "ipaddr": ip, "rgw_connection": connection,
            }),
            None => json!({
                "mac": MacAddress::from_u64(*mac).to_string(), "rgw_connection": connection,
            }),
        };
        let objects: Vec<_> = macs.iter().map(object).collect();
        let body = json!({"l2_remote_macs": objects});
        let (status, body) = self.call(Method::POST, "l2-remote-macs", Some(body)).await;
        if status != 201 {
            return;
        }
        let created = body["l2_remote_macs"].as_array().unwrap().iter();
        for ((mac, ip), object) in macs.into_iter().zip(created) {
            self.model.macs.push(RemoteMac {
                id: object["id"].as_str().unwrap().to_owned(),
                connection: connection.to_owned(),
                mac,
                ip,
            });
        }
    }

    /// What the switch holds of networks of ours.
    pub(crate) fn seen(&self) -> BTreeMap<String, Held> {
        let state = self
            .eyes
            .replica()
            .read(|held| held.map(|held| held.state().clone()));
        ours(&state.unwrap_or_default())
    }

    pub(crate) async fn until_device(&self, what: &str, right: impl Fn(&Value) -> bool) {
        let begun = Instant::now();
        loop {
            let (_, body) = self.call(Method::GET, "l2-devices/tor", None).await;
            if right(&body["l2_device"]) {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "not {what}: {body}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.serving.abort();
        }
    }
}

pub(crate) fn pick<'a, T>(index: &Index, from: &'a [T]) -> Option<&'a T> {
    from.get(usize::from(*index).checked_rem(from.len())?)
}

/// The ports that a number stands for.
fn named(ports: u8) -> Vec<String> {
    let chosen = PORTS
        .iter()
        .enumerate()
        .filter(|(bit, _)| ports & (1 << bit) != 0);
    chosen.map(|(_, name)| (*name).to_owned()).collect()
}

fn devices(ports: u8) -> Value {
    let interfaces: Vec<_> = named(ports)
        .iter()
        .map(|name| json!({"name": name}))
        .collect();
    json!([{"device_name": "tor", "interfaces": interfaces}])
}

/// Options of a server on a free port and this database, as they are typed.
pub(crate) fn options(database: &str, further: &[&str]) -> Options {
    use clap::Parser;
    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }
    let line = ["l2gw", "--listen", "127.0.0.1:0", "--database", database];
    Line::parse_from(line.iter().chain(further)).options
}
