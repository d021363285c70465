//! A server that is asked from outside, and what must be true of every answer.

use std::collections::BTreeMap;

use reqwest::{Client, Method};
use serde_json::{Value, json};
use server::controller::connections::SwitchOptions;
use server::operations::OperationsOptions;
use server::{Options, Server};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// A running server with something of every kind.
pub(crate) struct Asked {
    runtime: Runtime,
    client: Client,
    base: String,
    /// The ids of what is there, by the names that recordings use for them.
    ids: BTreeMap<&'static str, String>,
    _directory: TempDir,
}

impl Asked {
    pub(crate) fn start() -> Self {
        let runtime = Runtime::new().unwrap();
        let directory = TempDir::new().unwrap();
        let options = Options {
            listen: "127.0.0.1:0".parse().unwrap(),
            database: Some(directory.path().join("l2gw.db").display().to_string()),
            switches: SwitchOptions::default(),
            allow_unknown_devices: true,
            quota: Vec::new(),
            auth: server::auth::options::AuthOptions::default(),
            tls_certificate: None,
            tls_private_key: None,
            body_limit: 1 << 20,
            body_total_limit: None,
            connection_limit: 100,
            audit: server::audit::AuditOptions::default(),
            operations: OperationsOptions::default(),
        };
        let server = runtime.block_on(Server::start(options)).unwrap();
        let base = format!("http://{}", server.address.unwrap());
        runtime.spawn(server.serve(std::future::pending()));
        let mut asked = Self {
            runtime,
            client: Client::new(),
            base,
            ids: BTreeMap::new(),
            _directory: directory,
        };
        asked.furnish();
        asked
    }

    fn furnish(&mut self) {
        let devices = json!([{"device_name": "d1", "interfaces": [{"name": "p1"}]}]);
        let other = json!([{"device_name": "d2", "interfaces": [{"name": "p1", "segmentation_id": ["100"]}]}]);
        for (name, path, member, object) in [
            ("{net1}", "networks", "network", json!({"name": "net1"})),
            ("{net2}", "networks", "network", json!({"name": "net2"})),
            (
                "{net3}",
                "networks",
                "network",
                json!({"provider:network_type": "local"}),
            ),
            (
                "{gw_noseg}",
                "l2-gateways",
                "l2_gateway",
                json!({"name": "gw1", "devices": devices}),
            ),
            (
                "{gw_seg}",
                "l2-gateways",
                "l2_gateway",
                json!({"name": "gw2", "devices": other}),
            ),
            (
                "{far}",
                "l2-remote-gateways",
                "l2_remote_gateway",
                json!({"name": "far", "ipaddr": "198.51.100.1"}),
            ),
            (
                "{attachment}",
                "l2-gateway-connections",
                "l2_gateway_connection",
                json!({"l2_gateway_id": "{gw_noseg}", "network_id": "{net1}", "segmentation_id": "5"}),
            ),
            (
                "{stretch}",
                "l2-remote-gateway-connections",
                "l2_remote_gateway_connection",
                json!({"gateway": "{gw_noseg}", "network": "{net1}", "remote_gateway": "{far}"}),
            ),
            (
                "{mac}",
                "l2-remote-macs",
                "l2_remote_mac",
                json!({"mac": "02:00:00:00:00:aa", "ipaddr": "192.0.2.170", "rgw_connection": "{stretch}"}),
            ),
        ] {
            let body = self.with_ids(&json!({ member: object }).to_string());
            let (status, answer) = self.ask("POST", &format!("/v2.0/{path}"), body.as_bytes());
            assert_eq!(status, 201, "{answer}");
            let id = answer[member]["id"].as_str().unwrap().to_owned();
            self.ids.insert(name, id);
        }
    }

    /// The text with ids for their names.
    pub(crate) fn with_ids(&self, text: &str) -> String {
        let ids = self.ids.iter();
        ids.fold(text.to_owned(), |text, (name, id)| text.replace(name, id))
    }

    pub(crate) fn get(&self, path: &str) -> Value {
        let (status, answer) = self.ask("GET", path, b"");
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    }

    /// Sends a request and looks at the answer.
    ///
    /// # Panics
    /// It is none of the API's: a 5xx, a refusal without type and message, no JSON.
    pub(crate) fn send(&self, method: &str, path: &str, body: &[u8]) {
        let (status, answer) = self.ask(method, path, body);
        let error = &answer["NeutronError"];
        let words = |key: &str| error[key].as_str().is_some_and(|text| !text.is_empty());
        let proper = match status {
            200 | 201 => error.is_null() && answer.is_object(),
            400 | 404 | 409 | 413 => words("type") && words("message"),
            _ => false,
        };
        assert!(proper, "{method} {path}: {status} {answer}");
    }

    pub(crate) fn still_answers(&self) {
        self.get(&self.with_ids("/v2.0/l2-remote-gateway-connections/{stretch}"));
    }

    fn ask(&self, method: &str, path: &str, body: &[u8]) -> (u16, Value) {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let request = self
            .client
            .request(method, format!("{}{path}", self.base))
            .header("content-type", "application/json")
            .body(body.to_vec());
        self.runtime.block_on(async {
            let response = request.send().await.unwrap();
            let status = response.status().as_u16();
            let body = response.bytes().await.unwrap();
            let body = serde_json::from_slice(&body);
            (
                status,
                body.unwrap_or_else(|error| panic!("{path}: {status}: {error}")),
            )
        })
    }
}
