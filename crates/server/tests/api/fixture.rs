//! A server of its own for each test.

use std::net::SocketAddr;
use std::sync::Arc;

use model::status::Report;
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use server::api::{Api, Bodies, Limits};
use server::auth::options::AuthOptions;
use server::controller::connections::SwitchOptions;
use server::http::Bounds;
use server::operations::OperationsOptions;
use server::rules::Rules;
use server::{Options, Server, StartError};
use store::Store;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::engine::database_of;

/// A running server, its clients, and the directory with its database.
pub(crate) struct Fixture {
    pub(crate) client: Client,
    pub(crate) address: SocketAddr,
    pub(crate) metrics_address: Option<SocketAddr>,
    directory: TempDir,
    stop: Option<oneshot::Sender<()>>,
    serving: JoinHandle<Result<(), StartError>>,
}

/// A status and a body; null where there was none.
pub(crate) type Reply = (StatusCode, Value);

impl Fixture {
    /// A server that accepts devices it never saw.
    pub(crate) async fn start() -> Self {
        Self::with(|options| options.allow_unknown_devices = true).await
    }

    /// A server with other options than these.
    pub(crate) async fn with(change: impl FnOnce(&mut Options)) -> Self {
        Self::within(TempDir::new().unwrap(), change).await
    }

    /// A server whose controllers have seen these physical switches before.
    pub(crate) async fn that_saw(devices: &[&str]) -> Self {
        let directory = TempDir::new().unwrap();
        let names: Vec<_> = devices.iter().map(ToString::to_string).collect();
        let database = database_of(&directory);
        let store = Store::open(&database).await.unwrap();
        store
            .write(move |tx| tx.remember_devices(&names))
            .await
            .unwrap();
        store.close().await;
        Self::within(directory, |_| {}).await
    }

    async fn within(directory: TempDir, change: impl FnOnce(&mut Options)) -> Self {
        let mut options = options(&directory);
        change(&mut options);
        let server = Server::start(options).await.unwrap();
        let address = server.address.unwrap();
        let metrics_address = server.metrics_address;
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn(server.serve(async {
            let _ = stopped.await;
        }));
        Self {
            client: Client::new(),
            address,
            metrics_address,
            directory,
            stop: Some(stop),
            serving,
        }
    }

    /// Tells the server to end, waits until it has, and starts another one on the same database.
    pub(crate) async fn restarted(mut self) -> Self {
        self.stop.take();
        self.serving.await.unwrap().unwrap();
        Self::within(self.directory, |options| {
            options.allow_unknown_devices = true;
        })
        .await
    }

    /// Tells the server to end and returns what it is then waiting for.
    pub(crate) fn end(mut self) -> JoinHandle<Result<(), StartError>> {
        self.stop.take();
        self.serving
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Reply {
        let mut request = self.client.request(method, self.url(path));
        if let Some(body) = body {
            request = request.json(body);
        }
        reply(request).await
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        let (status, body) = self.call(Method::GET, path, None).await;
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    pub(crate) async fn delete(&self, path: &str) -> Reply {
        self.call(Method::DELETE, path, None).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Reply {
        self.call(Method::POST, path, Some(&body)).await
    }

    pub(crate) async fn put(&self, path: &str, body: Value) -> Reply {
        self.call(Method::PUT, path, Some(&body)).await
    }

    /// Creates one object and returns it.
    pub(crate) async fn create(&self, collection: &str, object: Value) -> Value {
        let member = member(collection);
        let path = format!("/v2.0/{collection}");
        let (status, mut body) = self.post(&path, json!({&member: object})).await;
        assert_eq!(status, 201, "{path}: {body}");
        body[&member].take()
    }

    /// The refusal of one object: status, type and message.
    pub(crate) async fn refused(&self, collection: &str, object: Value) -> (u16, String, String) {
        let body = json!({member(collection): object});
        error(self.post(&format!("/v2.0/{collection}"), body).await)
    }

    pub(crate) async fn network(&self, vni: u32) -> String {
        let network = json!({"provider:segmentation_id": vni});
        id(&self.create("networks", network).await)
    }

    /// A gateway with one port of one switch.
    pub(crate) async fn gateway(&self, device: &str, port: &str) -> String {
        let devices = json!([{"device_name": device, "interfaces": [{"name": port}]}]);
        id(&self
            .create("l2-gateways", json!({"devices": devices}))
            .await)
    }

    pub(crate) async fn attach(&self, gateway: &str, network: &str, vlan: u16) -> Value {
        let connection = json!({
            "l2_gateway_id": gateway, "network_id": network, "segmentation_id": vlan.to_string(),
        });
        self.create("l2-gateway-connections", connection).await
    }

    pub(crate) async fn remote_gateway(&self, ip: &str) -> String {
        id(&self
            .create("l2-remote-gateways", json!({"name": "far", "ipaddr": ip}))
            .await)
    }

    /// A network that is stretched to a remote gateway, ready for MACs: the id of the remote connection.
    pub(crate) async fn stretched(&self, vni: u32) -> String {
        let network = self.network(vni).await;
        let gateway = self.gateway(&format!("tor{vni}"), "eth1").await;
        self.attach(&gateway, &network, 0).await;
        let remote = self.remote_gateway("192.0.2.1").await;
        let connection = json!({
            "l2_gateway_id": gateway, "network_id": network, "l2_remote_gateway_id": remote,
        });
        id(&self
            .create("l2-remote-gateway-connections", connection)
            .await)
    }
}

/// Options for a server on a free port.
pub(crate) fn options(directory: &TempDir) -> Options {
    Options {
        listen: "127.0.0.1:0".parse().unwrap(),
        database: Some(database_of(directory)),
        switches: SwitchOptions::default(),
        allow_unknown_devices: false,
        quota: Vec::new(),
        auth: AuthOptions::default(),
        tls_certificate: None,
        tls_private_key: None,
        body_limit: 64 << 20,
        body_total_limit: None,
        connection_limit: 4096,
        audit: server::audit::AuditOptions::default(),
        operations: OperationsOptions::default(),
    }
}

pub(crate) async fn reply(request: reqwest::RequestBuilder) -> Reply {
    let response = request.send().await.unwrap();
    let status = response.status();
    let id = response.headers().get("x-openstack-request-id");
    assert!(id.unwrap().to_str().unwrap().starts_with("req-"));
    let bytes = response.bytes().await.unwrap();
    let body = match &bytes[..] {
        [] => Value::Null,
        bytes => serde_json::from_slice(bytes).unwrap(),
    };
    (status, body)
}

/// Status, type and message of a refusal, after a look at the form of its body.
pub(crate) fn error((status, body): Reply) -> (u16, String, String) {
    let error = &body["NeutronError"];
    let text = |key: &str| {
        error[key]
            .as_str()
            .unwrap_or_else(|| panic!("{status} {body}"))
            .to_owned()
    };
    assert_eq!(text("detail"), "");
    (status.as_u16(), text("type"), text("message"))
}

pub(crate) fn id(object: &Value) -> String {
    object["id"].as_str().unwrap().to_owned()
}

/// `l2-gateways` to `l2_gateway`.
pub(crate) fn member(collection: &str) -> String {
    collection.trim_end_matches('s').replace('-', "_")
}

/// The `number`th unicast MAC address.
pub(crate) fn mac(number: usize) -> String {
    let [.., a, b, c, d] = number.to_be_bytes();
    format!("02:00:{a:02x}:{b:02x}:{c:02x}:{d:02x}")
}

/// The object without what every write changes.
pub(crate) fn unstamped(object: &Value) -> Value {
    let mut object = object.clone();
    for name in ["revision_number", "created_at", "updated_at"] {
        object.as_object_mut().unwrap().remove(name).unwrap();
    }
    object
}

/// The object without what follows the switches and so may change between two looks.
pub(crate) fn settled(mut object: Value) -> Value {
    for name in ["status", "status_reason"] {
        object.as_object_mut().unwrap().remove(name).unwrap();
    }
    object
}

/// The address of an API on a store of the test's own, for as long as the test runs.
pub(crate) async fn answering(store: Store, limits: Limits, bounds: Bounds) -> SocketAddr {
    let router = server::api::router(Api {
        store,
        report: Arc::new(|_| Report::ACTIVE),
        board: Arc::default(),
        auth: Arc::new(AuthOptions::default().open().unwrap()),
        rules: Rules::default(),
        audit: None,
        bodies: Bodies::new(limits),
    });
    // Whoever asks it may use `reqwest`, and be the first to do so.
    openstack::tls::choose_cryptography();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(server::http::serve(
        listener,
        router,
        bounds,
        std::future::pending(),
    ));
    address
}
