//! Tunnels are told in the database, and watched by BFD where a controller asks for it.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::time::Instant;

use hardware_vtep::{Tunnel, set_bfd};
use testkit::netns::Netns;
use tokio::sync::watch;
use vtep::bfd::engine::Wish;
use vtep::bfd::frame::Addresses;
use vtep::bfd::packet::State;
use vtep::bfd::session::Params;
use vtep::bfd::{Board, Engine};

use super::*;

const FAR: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const HERE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// The remote gateway 192.0.2.2 at the other end of a cable, as far as BFD is concerned.
pub(super) struct RemoteGateway {
    pub(super) netns: Netns,
    engine: Option<Engine>,
    board: watch::Receiver<Board>,
}

impl RemoteGateway {
    /// Nobody else has VXLAN's port there, so nothing needs to be steered.
    fn new() -> Self {
        Self::behind(|line| drop(ip(line)))
    }

    /// Where `ip` runs ip(8) at our end of the cable.
    pub(super) fn behind(ip: impl Fn(&str)) -> Self {
        let netns = Netns::create(&unique_prefix()).unwrap();
        ip(&format!(
            "link add wan0 type veth peer name wan0 netns {}",
            netns.name()
        ));
        ip("addr del 192.0.2.1/32 dev lo");
        ip("addr add 192.0.2.1/24 dev wan0");
        ip("link set wan0 up");
        netns
            .ip("addr add 192.0.2.2/24 dev wan0\nlink set wan0 up")
            .unwrap();
        let (writer, board) = watch::channel(Board::new());
        let engine = netns
            .enter(|| {
                let socket = UdpSocket::bind((FAR, 4789))?;
                Ok(Engine::start(
                    FAR,
                    socket,
                    BTreeMap::new(),
                    Arc::new(writer),
                )?)
            })
            .unwrap();
        let gateway = Self {
            netns,
            engine: Some(engine),
            board,
        };
        gateway.watch(true);
        gateway
    }

    fn watch(&self, on: bool) {
        self.watch_with(Params::default(), on);
    }

    fn watch_with(&self, params: Params, on: bool) {
        let wish = Wish {
            params,
            to: Addresses::REMOTE,
        };
        let wanted = on.then_some((HERE, wish)).into_iter().collect();
        self.engine.as_ref().unwrap().set(wanted);
    }

    /// How often it lost us.
    fn losses(&self) -> u64 {
        self.board.borrow().get(&HERE).map_or(0, |told| told.losses)
    }

    pub(super) async fn sees(&mut self, state: State) {
        let seen = self.board.wait_for(|board| {
            let status = board.get(&HERE).and_then(|told| told.status);
            status.is_some_and(|status| status.state == state)
        });
        let seen = tokio::time::timeout(Duration::from_secs(20), seen).await;
        seen.unwrap_or_else(|_| panic!("never {state}")).unwrap();
    }
}

pub(super) async fn tunnel(
    controller: &Connection<Database>,
    what: &str,
    test: impl Fn(&Tunnel) -> bool,
) -> Tunnel {
    until(controller, what, |held| {
        held.tunnels()
            .find(|tunnel| tunnel.remote.is_some_and(|end| end.ip == FAR) && test(tunnel))
    })
    .await
}

pub(super) async fn watch(controller: &Connection<Database>, on: bool) {
    tunnel(controller, "the tunnel", |_| true).await;
    let (session, _) = controller.up().await;
    let wanted = [(FAR, on)].into();
    set_bfd(&session, controller.replica(), &wanted, None)
        .await
        .unwrap();
}

async fn ask_for(controller: &Connection<Database>, key: &'static str, value: &'static str) {
    tunnel(controller, "the tunnel", |_| true).await;
    let (session, _) = controller.up().await;
    let asked = ovsdb::Mutation::insert("bfd_params", ovsdb::Datum::map([(key, value)]));
    let all = ovsdb::Operation::Mutate {
        table: "Tunnel".into(),
        r#where: Vec::new(),
        mutations: vec![asked],
    };
    let transaction = [all].into_iter().collect();
    session.transact(NAME, &transaction).await.unwrap();
}

pub(super) fn says(tunnel: &Tunnel, key: &str) -> String {
    tunnel.bfd_status.get(key).cloned().unwrap_or_default()
}

#[test]
fn tunnels_are_told_one_for_each_far_end() {
    in_namespace(|| async {
        let (_switch, controller) = forwarding("", &picture()).await;
        let ends = |held: &Database| {
            let mut ends: Vec<_> = held
                .tunnels()
                .map(|tunnel| (tunnel.local.unwrap().ip, tunnel.remote.unwrap().ip))
                .collect();
            ends.sort();
            ends
        };
        let wanted: Vec<(Ipv4Addr, Ipv4Addr)> = [
            ("10.0.0.1", "10.0.0.11"),
            ("10.0.0.1", "10.0.0.12"),
            ("192.0.2.1", "192.0.2.2"),
            ("192.0.2.1", "192.0.2.3"),
        ]
        .map(|(near, far)| (near.parse().unwrap(), far.parse().unwrap()))
        .into();
        until(&controller, "the tunnels", |held| {
            (ends(held) == wanted).then_some(())
        })
        .await;
        let tunnel = tunnel(&controller, "the tunnel", |_| true).await;
        assert_eq!(tunnel.bfd_config_local["bfd_dst_mac"], "00:23:20:00:00:01");
        assert!(tunnel.bfd_status.is_empty(), "nobody asked");

        // They go with the last network that has them.
        let mut none = picture();
        none.bindings.clear();
        none.logical_switches.clear();
        write(&controller, &none).await;
        until(&controller, "no tunnels", |held| {
            ends(held).is_empty().then_some(())
        })
        .await;
    });
}

#[test]
fn bfd_tells_within_a_second_that_the_wan_is_cut_and_that_it_is_back() {
    in_namespace(|| async {
        let mut far = RemoteGateway::new();
        let (_switch, controller) = forwarding("", &picture()).await;
        watch(&controller, true).await;
        let up = tunnel(&controller, "BFD is up", |it| says(it, "state") == "up").await;
        assert_eq!(says(&up, "enabled"), "true");
        assert_eq!(says(&up, "forwarding"), "true");
        assert_eq!(says(&up, "diagnostic"), "No Diagnostic");
        assert_eq!(up.failure(), None);
        far.sees(State::Up).await;
        // Until the intervals of an up session are agreed on.
        tokio::time::sleep(Duration::from_secs(1)).await;

        let cut = Instant::now();
        far.netns.ip("link set wan0 down").unwrap();
        let down = tunnel(&controller, "BFD is down", |it| says(it, "state") == "down").await;
        let took = cut.elapsed();
        // 900 ms are promised; the rest is for a machine that does other things.
        assert!(took < Duration::from_secs(5), "{took:?}");
        assert_eq!(says(&down, "forwarding"), "false");
        assert_eq!(
            down.failure().unwrap(),
            "tunnel to 192.0.2.2 is down: Control Detection Time Expired"
        );
        far.netns.ip("link set wan0 up").unwrap();
        tunnel(&controller, "BFD is up again", |it| {
            says(it, "state") == "up"
        })
        .await;

        // Turned off there it is no failure of the tunnel, and that is told apart.
        far.watch(false);
        let off = tunnel(&controller, "BFD is off there", |it| {
            says(it, "remote_state") == "admin_down"
        })
        .await;
        assert_eq!(says(&off, "diagnostic"), "Neighbor Signaled Session Down");
        assert_eq!(says(&off, "remote_diagnostic"), "Administratively Down");
        far.watch(true);
        tunnel(&controller, "BFD is up once more", |it| {
            says(it, "state") == "up"
        })
        .await;

        // Turned off here, nothing is said any more.
        watch(&controller, false).await;
        tunnel(&controller, "BFD is off", |it| it.bfd_status.is_empty()).await;
        far.sees(State::Down).await;
    });
}

#[test]
fn a_restart_of_the_daemon_is_not_noticed_at_the_far_end() {
    in_namespace(|| async {
        let mut far = RemoteGateway::new();
        let (mut switch, controller) = forwarding("", &picture()).await;
        // Three packets in four seconds, so that a machine with other things to do starts the daemon in time.
        let patient = Params {
            min_tx: Duration::from_millis(1_300),
            min_rx: Duration::from_millis(1_300),
            ..Params::default()
        };
        far.watch_with(patient, true);
        ask_for(&controller, "min_tx", "1300").await;
        ask_for(&controller, "min_rx", "1300").await;
        watch(&controller, true).await;
        tunnel(&controller, "BFD is up", |it| says(it, "state") == "up").await;
        far.sees(State::Up).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        let losses = far.losses();
        switch.kill().await;
        switch.start("");
        // Longer than the detection time after the start.
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(far.losses(), losses, "the far end lost us");
        tunnel(&controller, "BFD is up", |it| says(it, "state") == "up").await;

        // Away for longer it is missed, and found again.
        switch.kill().await;
        far.sees(State::Down).await;
        switch.start("");
        far.sees(State::Up).await;
        tunnel(&controller, "BFD is up", |it| says(it, "state") == "up").await;
    });
}

#[test]
fn a_daemon_that_works_on_the_kernel_for_long_loses_no_far_end() {
    in_namespace(|| async {
        let mut far = RemoteGateway::new();
        let (_switch, controller) = forwarding("", &picture()).await;
        watch(&controller, true).await;
        far.sees(State::Up).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let losses = far.losses();
        let mut many = picture();
        for network in 0..150 {
            let name = format!("net-{network}");
            add(&mut many, &name, 5_000 + network);
            flood(&mut many, &name, wan("192.0.2.2", 9_000 + network));
        }
        for number in 0..5_000 {
            station(
                &mut many,
                "net-a",
                mac(0x1_0000 + number),
                wan("192.0.2.2", 456),
                None,
            );
        }
        write(&controller, &many).await;
        forwards(&many).await;
        write(&controller, &picture()).await;
        forwards(&picture()).await;
        assert_eq!(far.losses(), losses, "the far end lost us");
        let tunnel = tunnel(&controller, "the tunnel", |_| true).await;
        assert_eq!(says(&tunnel, "state"), "up");
    });
}

#[test]
fn what_bfd_is_asked_for_and_does_not_do_is_told() {
    in_namespace(|| async {
        let (_switch, controller) = forwarding("", &picture()).await;
        watch(&controller, true).await;
        let down = tunnel(&controller, "a state", |it| says(it, "state") == "down").await;
        assert_eq!(says(&down, "info"), "");
        ask_for(&controller, "decay_min_rx", "5000").await;
        ask_for(&controller, "forwarding_if_rx", "true").await;
        let told = "not supported: decay_min_rx=5000, forwarding_if_rx=true";
        let info = tunnel(&controller, "the info", |it| says(it, "info") == told).await;
        assert_eq!(says(&info, "state"), "down");
    });
}
