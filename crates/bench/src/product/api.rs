//! What the bench asks of the REST API.

use std::net::TcpStream;
use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use testkit::run::eventually;

use crate::http::{Answer, Client};
use crate::stations::bulk_body;
use crate::watch::PATIENCE;

/// Path of the remote MACs.
const MACS: &str = "/v2.0/l2-remote-macs";
/// Path of the remote gateway connections.
const CONNECTIONS: &str = "/v2.0/l2-remote-gateway-connections";
/// Path of the gateways.
const GATEWAYS: &str = "/v2.0/l2-gateways";
/// Path of the remote gateways.
const REMOTE_GATEWAYS: &str = "/v2.0/l2-remote-gateways";

/// A client of one server.
#[derive(Debug)]
pub(crate) struct Api {
    client: Client,
}

/// When a request was sent and when its whole answer had come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    pub(crate) sent: Instant,
    pub(crate) answered: Instant,
}

impl Call {
    pub(crate) fn took(self) -> Duration {
        self.answered.duration_since(self.sent)
    }
}

impl Api {
    pub(crate) fn over(stream: TcpStream) -> Result<Self> {
        let client = Client::over(stream)?;
        Ok(Self { client })
    }

    /// Creates one resource and returns its id.
    fn create(&mut self, path: &str, member: &str, attributes: Value) -> Result<String> {
        let mut body = serde_json::Map::new();
        body.insert(member.to_owned(), attributes);
        let body = Value::Object(body).to_string();
        let answer = self.client.request("POST", path, &body)?;
        expect(&answer, 201)?;
        let created: Value = serde_json::from_slice(&answer.body)?;
        let id = created.get(member).and_then(|m| m.get("id")?.as_str());
        Ok(id.context("no id")?.to_owned())
    }

    /// Declares a network, attaches it to the switch `device`, and connects it to a remote gateway that nobody is.
    /// Returns the remote connection's id.
    pub(crate) fn stretch_network(&mut self, device: &str) -> Result<String> {
        self.stretch_network_over(&[device])
    }

    /// The same by a gateway of several switches.
    pub(crate) fn stretch_network_over(&mut self, devices: &[impl AsRef<str>]) -> Result<String> {
        let device = |name: &str| json!({"device_name": name, "interfaces": [{"name": "border"}]});
        let devices: Vec<_> = devices.iter().map(|name| device(name.as_ref())).collect();
        let network = self.create(
            "/v2.0/networks",
            "network",
            json!({"name": "net", "provider:network_type": "vxlan", "provider:segmentation_id": 123}),
        )?;
        let gateway = self.create(
            GATEWAYS,
            "l2_gateway",
            json!({"name": "bgw", "devices": devices}),
        )?;
        // Refused until the server has seen the switch.
        eventually("the gateway's switch is known", PATIENCE, || {
            self.create(
                "/v2.0/l2-gateway-connections",
                "l2_gateway_connection",
                json!({"l2_gateway_id": gateway, "network_id": network, "segmentation_id": "0"}),
            )
        })?;
        let remote = self.create_remote_gateway("10.9.0.99")?;
        self.create(
            CONNECTIONS,
            "l2_remote_gateway_connection",
            json!({
                "l2_gateway_id": gateway, "network_id": network, "l2_remote_gateway_id": remote,
                "segmentation_id": 456, "flood": true,
            }),
        )
    }

    pub(crate) fn create_remote_gateway(&mut self, ip: &str) -> Result<String> {
        let attributes = json!({"name": "rgw", "ipaddr": ip});
        self.create(REMOTE_GATEWAYS, "l2_remote_gateway", attributes)
    }

    /// Moves the only remote gateway there is.
    pub(crate) fn move_remote_gateway(&mut self, ip: &str) -> Result<Call> {
        let answer = self.client.request("GET", REMOTE_GATEWAYS, "")?;
        expect(&answer, 200)?;
        let listed: Value = serde_json::from_slice(&answer.body)?;
        let id = listed.pointer("/l2_remote_gateways/0/id");
        let id = id.and_then(Value::as_str).context("no remote gateway")?;
        let body = json!({"l2_remote_gateway": {"ipaddr": ip}}).to_string();
        let sent = Instant::now();
        let answer = self
            .client
            .request("PUT", &format!("{REMOTE_GATEWAYS}/{id}"), &body)?;
        let answered = Instant::now();
        expect(&answer, 200)?;
        Ok(Call { sent, answered })
    }

    /// Creates so many gateways on the switch `device` in one request.
    pub(crate) fn create_gateways(&mut self, device: &str, count: usize) -> Result<()> {
        let gateway = |n| json!({"name": format!("gw-{n}"), "devices": [{"device_name": device, "interfaces": [{"name": format!("port-{n}")}]}]});
        let gateways: Vec<_> = (0..count).map(gateway).collect();
        let body = json!({ "l2_gateways": gateways }).to_string();
        let answer = self.client.request("POST", GATEWAYS, &body)?;
        expect(&answer, 201)
    }

    /// Lists all gateways.
    pub(crate) fn list_gateways(&mut self, count: usize) -> Result<Call> {
        let sent = Instant::now();
        let answer = self.client.request("GET", GATEWAYS, "")?;
        let answered = Instant::now();
        expect(&answer, 200)?;
        let listed = occurrences(&answer.body, br#""device_name":"#);
        ensure!(listed == count, "{listed} gateways listed, not {count}");
        Ok(Call { sent, answered })
    }

    /// Declares stations behind a remote connection in one request.
    pub(crate) fn post_macs(&mut self, connection: &str, numbers: Range<u32>) -> Result<Call> {
        let count = numbers.len();
        let body = bulk_body(connection, numbers);
        let sent = Instant::now();
        let answer = self.client.request("POST", MACS, &body)?;
        let answered = Instant::now();
        expect(&answer, 201)?;
        let created = count_macs(&answer.body);
        ensure!(created == count, "{created} MACs created, not {count}");
        Ok(Call { sent, answered })
    }

    /// The same, and the ids that they were given.
    pub(crate) fn declare_macs(
        &mut self,
        connection: &str,
        numbers: Range<u32>,
    ) -> Result<Vec<String>> {
        let body = bulk_body(connection, numbers);
        let answer = self.client.request("POST", MACS, &body)?;
        expect(&answer, 201)?;
        let created: Value = serde_json::from_slice(&answer.body)?;
        let created = created.get("l2_remote_macs").and_then(Value::as_array);
        let ids = created.into_iter().flatten();
        ids.map(|mac| {
            Ok(mac
                .get("id")
                .and_then(Value::as_str)
                .context("no id")?
                .to_owned())
        })
        .collect()
    }

    /// Deletes one MAC.
    pub(crate) fn delete_mac(&mut self, id: &str) -> Result<()> {
        let answer = self.client.request("DELETE", &format!("{MACS}/{id}"), "")?;
        expect(&answer, 204)
    }

    /// Deletes a remote connection, and with it the MACs behind it.
    pub(crate) fn delete_connection(&mut self, connection: &str) -> Result<Call> {
        let path = format!("{CONNECTIONS}/{connection}");
        let sent = Instant::now();
        let answer = self.client.request("DELETE", &path, "")?;
        let answered = Instant::now();
        expect(&answer, 204)?;
        Ok(Call { sent, answered })
    }

    /// Asks for a page of the MACs that must have so many.
    pub(crate) fn page_of_macs(&mut self, query: &str, rows: usize) -> Result<Call> {
        let listed = timed_list(&mut self.client, &format!("{MACS}{query}"), rows);
        listed.with_context(|| query.to_owned())
    }

    /// An attribute of the MAC that a query finds.
    pub(crate) fn find_mac(&mut self, query: &str, attribute: &str) -> Result<String> {
        let answer = self.client.request("GET", &format!("{MACS}?{query}"), "")?;
        expect(&answer, 200)?;
        let found: Value = serde_json::from_slice(&answer.body)?;
        let value = found.pointer(&format!("/l2_remote_macs/0/{attribute}"));
        let value = value.and_then(Value::as_str);
        Ok(value
            .with_context(|| format!("no {attribute} for {query}"))?
            .to_owned())
    }

    /// Lists all MACs.
    pub(crate) fn list_macs(&mut self, count: usize) -> Result<Call> {
        timed_list(&mut self.client, MACS, count)
    }

    /// Waits for an answer of any content.
    pub(crate) fn ping(&mut self) -> Result<()> {
        let answer = self.client.request("GET", REMOTE_GATEWAYS, "")?;
        expect(&answer, 200)
    }

    /// Waits until the switch holds a remote connection: the way to it is up, and what was declared before is done.
    pub(crate) fn wait_active(&mut self, connection: &str) -> Result<()> {
        eventually("the connection is ACTIVE", PATIENCE, || {
            let status = self.status(connection)?;
            ensure!(status == "ACTIVE", "it is {status}");
            Ok(())
        })
    }

    /// The value of the metric that a line of `/metrics` starts with.
    pub(crate) fn metric(&mut self, line: &str) -> Result<f64> {
        let answer = self.client.request("GET", "/metrics", "")?;
        expect(&answer, 200)?;
        let text = String::from_utf8(answer.body)?;
        let value = text.lines().find_map(|told| told.strip_prefix(line));
        let value = value.with_context(|| format!("no metric {line}"))?;
        Ok(value.trim().parse()?)
    }

    /// What the API says of a remote connection.
    pub(crate) fn status(&mut self, connection: &str) -> Result<String> {
        let path = format!("{CONNECTIONS}/{connection}");
        let answer = self.client.request("GET", &path, "")?;
        expect(&answer, 200)?;
        let shown: Value = serde_json::from_slice(&answer.body)?;
        let status = shown.get("l2_remote_gateway_connection");
        let status = status.and_then(|connection| connection.get("status")?.as_str());
        Ok(status.context("no status")?.to_owned())
    }
}

/// Gets a list of MACs that must be so long.
pub(crate) fn timed_list(client: &mut Client, path: &str, count: usize) -> Result<Call> {
    let sent = Instant::now();
    let answer = client.request("GET", path, "")?;
    let answered = Instant::now();
    expect(&answer, 200)?;
    let listed = count_macs(&answer.body);
    ensure!(listed == count, "{listed} MACs listed, not {count}");
    Ok(Call { sent, answered })
}

fn expect(answer: &Answer, status: u16) -> Result<()> {
    ensure!(
        answer.status == status,
        "{}: {}",
        answer.status,
        String::from_utf8_lossy(answer.body.get(..500).unwrap_or(&answer.body))
    );
    Ok(())
}

/// How many objects of a body have a key `mac`.
fn count_macs(body: &[u8]) -> usize {
    occurrences(body, br#""mac":"#)
}

/// An answer may have 35 MB, and what is measured goes on while we count.
fn occurrences(body: &[u8], key: &[u8]) -> usize {
    memchr::memmem::find_iter(body, key).count()
}
