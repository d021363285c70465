//! `/metrics` of the switch, in the OpenMetrics text format that Prometheus reads.
//!
//! Rules as for the server's: names carry their unit, labels have few values. Passes are counted as they happen; everything
//! else is looked at when somebody asks, so that it costs nothing while nobody does. What a port or a tunnel counted is the
//! kernel's own count of its device: it begins again with the device. What went through the tunnels of a device by remote gateway
//! is counted by the packet filter ([`traffic`](crate::kernel::traffic)): there are as many series as tunnels declared.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use hardware_vtep::{Database, LearntMacs};
use ovsdb::{Connection, Link};
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::bfd::Board;
use crate::bfd::engine::Traffic as BfdTraffic;
use crate::bfd::packet::State as BfdState;
use crate::daemon::{Pass, Wake};
use crate::error::Error;
use crate::kernel::Kernel;
use crate::kernel::counters::{self, Counters};
use crate::kernel::desired::NodeConfig;
use crate::kernel::name::InterfaceName;
use crate::kernel::netns::Underlays;
use crate::kernel::outline::Outline;
use crate::kernel::traffic::{Traffic, TunnelTraffic};
use crate::kernel::underlay::Side;
use crate::loops::Cuts;

/// Upper bounds in seconds: a MAC takes a millisecond, 100,000 of them a second, a thousand networks three.
const DURATIONS: [f64; 12] = [
    0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0, 2.5, 10.0, 60.0,
];

/// What is measured, and what is looked at when somebody asks.
pub(crate) struct Metrics {
    started: jiff::Timestamp,
    connection: Arc<Connection<Database>>,
    outline: watch::Receiver<Option<Arc<Outline>>>,
    underlays: Underlays,
    config: NodeConfig,
    bfd: watch::Receiver<Board>,
    bfd_traffic: Vec<(Ipv4Addr, Arc<BfdTraffic>)>,
    cuts: Arc<Cuts>,
    passes: Family<WakeLabels, Histogram, fn() -> Histogram>,
    steps: Family<WakeLabels, Counter>,
    repairs: Counter,
    refused: Counter,
    faults: Gauge,
    learnt: Gauge,
    kernel_writes: Arc<AtomicU64>,
    lost_notifications: Arc<AtomicU64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WakeLabels {
    woken_by: Wake,
}

impl EncodeLabelValue for Wake {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), fmt::Error> {
        let text = match self {
            Self::Database => "database",
            Self::Kernel => "kernel",
            Self::Cuts => "loops",
            Self::Drops => "flood_limit",
            Self::Paths => "paths",
            Self::Namespace => "namespace",
            Self::Rest => "rest",
            Self::Retry => "retry",
            Self::Everything => "start",
            Self::Looked => "clock",
            Self::Learnt => "learnt",
        };
        EncodeLabelValue::encode(&text, encoder)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FarEndLabels {
    remote_ip: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LocalLabels {
    local_ip: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SideLabels {
    side: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PortLabels {
    port: String,
    vlan: u16,
    network: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TunnelLabels {
    network: String,
    side: &'static str,
    key: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RemoteGatewayLabels {
    network: String,
    key: u32,
    remote_ip: String,
}

/// Answers `/metrics` at the address, as long as what is returned is polled.
pub(crate) async fn serve(
    address: SocketAddr,
    metrics: Arc<Metrics>,
) -> Result<impl Future<Output = ()> + Send + 'static, Error> {
    let failed = |source| Error::MetricsListen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    tracing::info!("telling metrics on http://{bound}/metrics");
    let router = Router::new()
        .route("/metrics", get(show))
        .with_state(metrics);
    Ok(async move {
        if let Err(cause) = axum::serve(listener, router).await {
            tracing::error!(%cause, "metrics are no longer told");
        }
    })
}

async fn show(State(metrics): State<Arc<Metrics>>) -> Response {
    // Looking at thousands of devices takes some milliseconds.
    let work = tokio::task::spawn_blocking(move || metrics.exposition());
    let metrics = work.await.unwrap_or_else(|error| Err(error.to_string()));
    exposition::answer(metrics)
}

impl Metrics {
    pub(crate) fn new(
        connection: Arc<Connection<Database>>,
        outline: watch::Receiver<Option<Arc<Outline>>>,
        underlays: Underlays,
        config: NodeConfig,
        bfd: watch::Receiver<Board>,
        bfd_traffic: Vec<(Ipv4Addr, Arc<BfdTraffic>)>,
        cuts: Arc<Cuts>,
    ) -> Self {
        Self {
            started: jiff::Timestamp::now(),
            connection,
            outline,
            underlays,
            config,
            bfd,
            bfd_traffic,
            cuts,
            passes: Family::new_with_constructor(|| Histogram::new(DURATIONS)),
            steps: Family::default(),
            repairs: Counter::default(),
            refused: Counter::default(),
            faults: Gauge::default(),
            learnt: Gauge::default(),
            kernel_writes: Arc::default(),
            lost_notifications: Arc::default(),
        }
    }

    /// A pass was made.
    pub(crate) fn pass(&self, woken_by: Wake, took: Duration, pass: &Pass) {
        let labels = WakeLabels { woken_by };
        self.passes
            .get_or_create(&labels)
            .observe(took.as_secs_f64());
        let steps = pass.report.plan.steps.len();
        self.steps.get_or_create(&labels).inc_by(number(steps));
        if woken_by == Wake::Kernel && steps > 0 {
            self.repairs.inc();
        }
        let failures = pass.report.failures.len();
        self.refused.inc_by(number(failures));
        self.faults.set(gauge(failures + pass.refusals.len()));
    }

    /// What the kernel's side has come to.
    pub(crate) fn kernel(&self, kernel: &Kernel) {
        self.kernel_writes.store(kernel.writes(), Ordering::Relaxed);
        self.lost_notifications
            .store(kernel.losses(), Ordering::Relaxed);
    }

    /// These stations are learnt on ports.
    pub(crate) fn learnt(&self, learnt: &LearntMacs) {
        let count = learnt.values().map(BTreeMap::len).sum();
        self.learnt.set(gauge(count));
    }

    fn exposition(&self) -> Result<String, String> {
        let mut registry = Registry::with_prefix("l2gw");
        registry.register(
            "build",
            "Which program this is",
            Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]),
        );
        let vtep = registry.sub_registry_with_prefix("vtep");
        self.register_passes(vtep);
        self.register_what_is_there(vtep);
        self.register_bfd(vtep);
        if let Some(outline) = &*self.outline.borrow() {
            match counters::read() {
                Ok(counted) => register_counters(vtep, outline, &counted),
                Err(error) => tracing::error!(%error, "counters can't be read"),
            }
            match Traffic::read(&self.underlays, &self.config) {
                Ok(traffic) => register_traffic(vtep, outline, &traffic),
                Err(error) => tracing::error!(%error, "counters of remote gateways can't be read"),
            }
        }
        exposition::text(&registry, self.started)
    }

    fn register_passes(&self, registry: &mut Registry) {
        registry.register_with_unit(
            "pass_duration",
            "Time to make the kernel match the database, by what woke the switch",
            Unit::Seconds,
            self.passes.clone(),
        );
        registry.register(
            "steps",
            "Changes to the kernel that were planned, by what woke the switch",
            self.steps.clone(),
        );
        registry.register(
            "repairs",
            "Passes that put right what somebody else had changed in the kernel",
            self.repairs.clone(),
        );
        registry.register(
            "refused_steps",
            "Changes that the kernel refused",
            self.refused.clone(),
        );
        registry.register(
            "faults",
            "What of the database the switch can't have, as of the last pass",
            self.faults.clone(),
        );
        let counted = |count: &AtomicU64| {
            let counter = Counter::<u64>::default();
            counter.inc_by(count.load(Ordering::Relaxed));
            counter
        };
        registry.register(
            "kernel_writes",
            "Changes sent to the kernel",
            counted(&self.kernel_writes),
        );
        registry.register(
            "lost_notifications",
            "Times the kernel had more to tell than was listened to, so that everything was looked at",
            counted(&self.lost_notifications),
        );
    }

    fn register_what_is_there(&self, registry: &mut Registry) {
        let connected: Gauge = Gauge::default();
        let up = matches!(self.connection.link(), Link::Up { .. });
        connected.set(i64::from(up));
        registry.register(
            "database_connected",
            "Whether the switch's database answers",
            connected,
        );
        let (networks, ports, declared): (Gauge, Gauge, Gauge) = Default::default();
        let tunnels = Family::<SideLabels, Gauge>::default();
        if let Some(outline) = &*self.outline.borrow() {
            networks.set(gauge(outline.networks.len()));
            ports.set(gauge(outline.ports.len()));
            for side in [Side::Inside, Side::Wan] {
                let devices = outline.tunnels.iter().filter(|it| it.side == side);
                let labels = SideLabels {
                    side: side.as_str(),
                };
                tunnels.get_or_create(&labels).set(gauge(devices.count()));
            }
            let macs = self.connection.replica().read(|database| {
                let switches = database.map(|held| &held.state().logical_switches);
                let of = |name| Some(switches?.get(name)?.macs.len());
                outline.networks.iter().filter_map(of).sum::<usize>()
            });
            declared.set(gauge(macs));
        }
        let cuts = self.cuts.all();
        let ports_off = cuts.keys().filter(|place| place.port.is_some()).count();
        let cut: Gauge = Gauge::default();
        cut.set(gauge(cuts.len() - ports_off));
        registry.register(
            "cut_networks",
            "Networks cut off the WAN, because somebody closed them into a ring",
            cut,
        );
        let cut: Gauge = Gauge::default();
        cut.set(gauge(ports_off));
        registry.register(
            "cut_ports",
            "Ports cut off a network, because somebody joined them to another port outside",
            cut,
        );
        registry.register("networks", "Networks that have a bridge", networks);
        registry.register("port_vlans", "VLANs of physical ports in a bridge", ports);
        registry.register(
            "tunnel_devices",
            "VXLAN devices: one for each network and key",
            tunnels,
        );
        registry.register(
            "declared_macs",
            "Stations that the database names, in networks that have a bridge",
            declared,
        );
        registry.register(
            "learnt_macs",
            "Stations learnt on physical ports",
            self.learnt.clone(),
        );
    }

    fn register_bfd(&self, registry: &mut Registry) {
        let up = Family::<FarEndLabels, Gauge>::default();
        let losses = Family::<FarEndLabels, Counter>::default();
        for (far, told) in &*self.bfd.borrow() {
            let labels = FarEndLabels {
                remote_ip: far.to_string(),
            };
            if let Some(status) = told.status {
                let is_up = i64::from(status.state == BfdState::Up);
                up.get_or_create(&labels).set(is_up);
            }
            losses.get_or_create(&labels).inc_by(told.losses);
        }
        registry.register("bfd_up", "Whether a watched tunnel is up", up);
        registry.register(
            "bfd_losses",
            "Times a watched tunnel was up and no more is",
            losses,
        );
        let families: [Family<LocalLabels, Counter>; 3] = Default::default();
        let [sent, received, discarded] = families;
        for (local, traffic) in &self.bfd_traffic {
            let labels = LocalLabels {
                local_ip: local.to_string(),
            };
            for (family, count) in [
                (&sent, &traffic.sent),
                (&received, &traffic.received),
                (&discarded, &traffic.discarded),
            ] {
                let count = count.load(Ordering::Relaxed);
                family.get_or_create(&labels).inc_by(count);
            }
        }
        for (name, help, metric) in [
            ("bfd_sent_packets", "BFD packets sent", sent),
            (
                "bfd_received_packets",
                "BFD packets that a session took",
                received,
            ),
            (
                "bfd_discarded_packets",
                "Datagrams that were no BFD packet, or of no session",
                discarded,
            ),
        ] {
            registry.register(name, help, metric);
        }
    }
}

/// One of the things devices count.
type Count = fn(&Counters) -> u64;

/// What devices counted, and under which name.
const COUNTED: [(&str, &str, Count); 6] = [
    ("received_packets", "Packets from it", |it| {
        it.received_packets
    }),
    ("received_bytes", "Bytes from it", |it| it.received_bytes),
    (
        "received_dropped_packets",
        "Packets from it dropped",
        |it| it.received_dropped,
    ),
    ("sent_packets", "Packets to it", |it| it.sent_packets),
    ("sent_bytes", "Bytes to it", |it| it.sent_bytes),
    ("sent_dropped_packets", "Packets to it dropped", |it| {
        it.sent_dropped
    }),
];

fn register_counters(
    registry: &mut Registry,
    outline: &Outline,
    counted: &HashMap<InterfaceName, Counters>,
) {
    for (name, help, value) in COUNTED {
        let ports = Family::<PortLabels, Counter>::default();
        for port in &outline.ports {
            let Some(counters) = counted.get(&port.device) else {
                continue;
            };
            let labels = PortLabels {
                port: port.port.to_string(),
                vlan: port.vlan.get(),
                network: port.network.to_string(),
            };
            ports.get_or_create(&labels).inc_by(value(counters));
        }
        let tunnels = Family::<TunnelLabels, Counter>::default();
        for tunnel in &outline.tunnels {
            let Some(counters) = counted.get(&tunnel.device) else {
                continue;
            };
            let labels = TunnelLabels {
                network: tunnel.network.to_string(),
                side: tunnel.side.as_str(),
                key: tunnel.key,
            };
            tunnels.get_or_create(&labels).inc_by(value(counters));
        }
        let of_ports = format!("{help}: a VLAN of a physical port");
        registry.register(format!("port_{name}"), of_ports, ports);
        let of_tunnels = format!("{help}: all tunnels of a network with one key");
        registry.register(format!("tunnel_{name}"), of_tunnels, tunnels);
    }
}

/// One of the things that are counted of a remote gateway.
type Share = fn(&TunnelTraffic) -> u64;

/// What is counted of each remote gateway, and under which name.
const OF_REMOTE_GATEWAYS: [(&str, &str, Share); 5] = [
    (
        "received_packets",
        "Packets from it that were let in",
        |it| it.received.packets,
    ),
    (
        "received_bytes",
        "Bytes from it that were let in, from the outer IP header on",
        |it| it.received.bytes,
    ),
    ("sent_packets", "Packets to it", |it| it.sent.packets),
    (
        "sent_bytes",
        "Bytes to it, from the outer IP header on",
        |it| it.sent.bytes,
    ),
    (
        "flood_dropped_packets",
        "Packets that were not flooded to it, beyond --bum-limit",
        |it| it.flood_dropped,
    ),
];

fn register_traffic(registry: &mut Registry, outline: &Outline, traffic: &Traffic) {
    let networks: HashMap<(Side, u32), &str> = outline
        .tunnels
        .iter()
        .map(|tunnel| ((tunnel.side, tunnel.key), tunnel.network.as_str()))
        .collect();
    for (name, help, value) in OF_REMOTE_GATEWAYS {
        let family = Family::<RemoteGatewayLabels, Counter>::default();
        for (tunnel, counted) in &traffic.tunnels {
            // What the database asks for now and what is in place may be a moment apart.
            let Some(network) = networks.get(&(Side::Wan, tunnel.vni)) else {
                continue;
            };
            let labels = RemoteGatewayLabels {
                network: (*network).to_owned(),
                key: tunnel.vni,
                remote_ip: tunnel.ip.to_string(),
            };
            family.get_or_create(&labels).inc_by(value(counted));
        }
        let help = format!("{help}: a remote gateway, by network and key");
        registry.register(format!("remote_gateway_{name}"), help, family);
    }
    let undeclared = Family::<TunnelLabels, Counter>::default();
    for ((side, key), packets) in &traffic.undeclared {
        let Some(network) = networks.get(&(*side, *key)) else {
            continue;
        };
        let labels = TunnelLabels {
            network: (*network).to_owned(),
            side: side.as_str(),
            key: *key,
        };
        undeclared.get_or_create(&labels).inc_by(*packets);
    }
    registry.register(
        "undeclared_dropped_packets",
        "Packets with a key of a network from an address that is not declared for it",
        undeclared,
    );
}

fn number(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

fn gauge(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
