//! What is counted: metrics, and counters of ports in the database.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use super::*;

/// Every metric that the switch tells, with its type: dashboards and alarms depend on them.
const NAMES: &str = "\
l2gw_build info
l2gw_vtep_bfd_discarded_packets counter
l2gw_vtep_bfd_losses counter
l2gw_vtep_bfd_received_packets counter
l2gw_vtep_bfd_sent_packets counter
l2gw_vtep_bfd_up gauge
l2gw_vtep_cut_networks gauge
l2gw_vtep_cut_ports gauge
l2gw_vtep_database_connected gauge
l2gw_vtep_declared_macs gauge
l2gw_vtep_faults gauge
l2gw_vtep_kernel_writes counter
l2gw_vtep_learnt_macs gauge
l2gw_vtep_lost_notifications counter
l2gw_vtep_networks gauge
l2gw_vtep_pass_duration_seconds histogram
l2gw_vtep_port_received_bytes counter
l2gw_vtep_port_received_dropped_packets counter
l2gw_vtep_port_received_packets counter
l2gw_vtep_port_sent_bytes counter
l2gw_vtep_port_sent_dropped_packets counter
l2gw_vtep_port_sent_packets counter
l2gw_vtep_port_vlans gauge
l2gw_vtep_refused_steps counter
l2gw_vtep_remote_gateway_flood_dropped_packets counter
l2gw_vtep_remote_gateway_received_bytes counter
l2gw_vtep_remote_gateway_received_packets counter
l2gw_vtep_remote_gateway_sent_bytes counter
l2gw_vtep_remote_gateway_sent_packets counter
l2gw_vtep_repairs counter
l2gw_vtep_steps counter
l2gw_vtep_tunnel_devices gauge
l2gw_vtep_tunnel_received_bytes counter
l2gw_vtep_tunnel_received_dropped_packets counter
l2gw_vtep_tunnel_received_packets counter
l2gw_vtep_tunnel_sent_bytes counter
l2gw_vtep_tunnel_sent_dropped_packets counter
l2gw_vtep_tunnel_sent_packets counter
l2gw_vtep_undeclared_dropped_packets counter
process_open_fds gauge
process_resident_memory_bytes gauge
process_start_time_seconds gauge
process_virtual_memory_bytes gauge
";

fn scrape() -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", 9_720)).unwrap();
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    assert!(reply.starts_with("HTTP/1.1 200"), "{reply}");
    assert!(reply.contains("application/openmetrics-text"), "{reply}");
    reply
}

fn value(scrape: &str, sample: &str) -> f64 {
    let line = scrape
        .lines()
        .find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
    let line = line.unwrap_or_else(|| panic!("no {sample} in\n{scrape}"));
    line.parse().unwrap()
}

#[test]
fn what_the_switch_does_is_told_to_prometheus() {
    in_namespace(|| async {
        let [server, _other] = bare_metal();
        let mut wanted = picture();
        bind(&mut wanted, "net-a", "one", 0);
        let options = "--vlan-form 8021q --port one=eth9 --metrics-listen 127.0.0.1:9720";
        let (_switch, controller) = forwarding(options, &wanted).await;
        is_heard(&server, "eth9").await;
        let port = r#"{port="one",vlan="0",network="net-a"}"#;
        let received = format!("l2gw_vtep_port_received_packets_total{port}");
        let before = value(&scrape(), &received);
        for _ in 0..5 {
            says_hello(&server, mac(0xaa));
        }
        learnt(&controller, &[(mac(0xaa), "net-a")]).await;
        let bridge = vtep::kernel::name::InterfaceName::bridge(&name("net-a"));
        ip(&format!("link delete {bridge}"));
        forwards(&wanted).await;
        super::tunnels::watch(&controller, true).await;
        let unanswered = |it: &hardware_vtep::Tunnel| it.failure().is_some();
        super::tunnels::tunnel(&controller, "BFD", unanswered).await;

        let told = scrape();
        let names: BTreeSet<&str> = told
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE "))
            .collect();
        let names: Vec<_> = names.into_iter().collect();
        assert_eq!(names.join("\n") + "\n", NAMES);
        assert!(value(&told, &received) >= before + 5.0);
        for (sample, expected) in [
            ("l2gw_vtep_networks", 1.0),
            ("l2gw_vtep_port_vlans", 1.0),
            ("l2gw_vtep_declared_macs", 3.0),
            ("l2gw_vtep_faults", 0.0),
            ("l2gw_vtep_database_connected", 1.0),
            (r#"l2gw_vtep_bfd_up{remote_ip="192.0.2.2"}"#, 0.0),
            (r#"l2gw_vtep_tunnel_devices{side="wan"}"#, 1.0),
        ] {
            assert_eq!(value(&told, sample), expected, "{sample}");
        }
        assert!(value(&told, "l2gw_vtep_repairs_total") >= 1.0);
        let woken = r#"l2gw_vtep_pass_duration_seconds_count{woken_by="database"}"#;
        assert!(value(&told, woken) >= 1.0);
        let tunnel = r#"{network="net-a",side="wan",key="456"}"#;
        value(&told, &format!("l2gw_vtep_tunnel_sent_bytes_total{tunnel}"));
    });
}

#[test]
fn what_came_from_each_remote_gateway_is_told_and_outlives_the_switch() {
    in_namespace(|| async {
        let [server, remote] = bare_metal();
        ip("link set eth8 up");
        ip("route add 192.0.2.2 dev eth8 src 192.0.2.1");
        remote
            .ip("addr add 192.0.2.2/32 dev eth0\nroute add 192.0.2.1 dev eth0")
            .unwrap();
        let mut wanted = picture();
        bind(&mut wanted, "net-a", "one", 0);
        let options = "--vlan-form 8021q --port one=eth9 --metrics-listen 127.0.0.1:9720";
        let (mut switch, _controller) = forwarding(options, &wanted).await;
        is_heard(&server, "eth9").await;
        let (packet, _) = crate::frames::tunnelled(456);
        let sends = |times: usize| {
            let sent = remote.enter(|| {
                let socket = std::net::UdpSocket::bind(("192.0.2.2", 0))?;
                for _ in 0..times {
                    socket.send_to(&packet, ("192.0.2.1", 4789))?;
                }
                Ok(())
            });
            sent.unwrap();
        };
        let told = |what: &str, remote: &str| {
            let labels = format!(r#"{{network="net-a",key="456",remote_ip="{remote}"}}"#);
            let sample = format!("l2gw_vtep_remote_gateway_{what}_total{labels}");
            value(&scrape(), &sample) as u64
        };
        let received = || told("received_packets", "192.0.2.2");
        let sent = || told("sent_packets", "192.0.2.2");
        for _ in 0..400 {
            sends(1);
            says_hello(&server, mac(0xaa));
            if received() > 0 && sent() > 0 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        // What waited for an address, or for a processor, has been sent when the counters stand still.
        let mut before = [0, 0];
        let mut quiet = 0;
        for _ in 0..200 {
            let now = [received(), sent()];
            quiet = if now == before { quiet + 1 } else { 0 };
            before = now;
            if quiet == 5 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(quiet, 5, "{before:?}");
        assert!(before.iter().all(|count| *count > 0), "{before:?}");
        sends(5);
        for _ in 0..3 {
            says_hello(&server, mac(0xaa));
        }
        let now = [before[0] + 5, before[1] + 3];
        for _ in 0..400 {
            if [received(), sent()] == now {
                break;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        assert_eq!([received(), sent()], now);
        assert_eq!(told("received_packets", "192.0.2.3"), 0);

        switch.kill().await;
        // What listened there ends a moment after it.
        while TcpStream::connect(("127.0.0.1", 9_720)).is_ok() {
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        switch.start(options);
        for _ in 0..1200 {
            if TcpStream::connect(("127.0.0.1", 9_720)).is_ok() && scrape().contains("remote_ip") {
                break;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        assert_eq!([received(), sent()], now);
        let shown = switch.shown().await;
        let tunnels = shown["networks"][0]["tunnels"].as_array().unwrap();
        let shown = tunnels.iter().filter(|it| it["side"] == "wan").map(|it| {
            let traffic = &it["traffic"];
            let packets = |way: &str| traffic[way]["packets"].as_u64().unwrap();
            (
                it["remote_ip"].as_str().unwrap(),
                [packets("received"), packets("sent")],
            )
        });
        let shown: Vec<_> = shown.collect();
        assert_eq!(shown, [("192.0.2.2", now), ("192.0.2.3", [0, 0])]);
    });
}

#[test]
fn an_address_for_metrics_that_is_taken_is_named() {
    in_namespace(|| async {
        let switch = Switch::new();
        let _taken = std::net::TcpListener::bind(("127.0.0.1", 9_720)).unwrap();
        let told = switch.refusal("--metrics-listen 127.0.0.1:9720").await;
        assert!(
            told.starts_with("--metrics-listen 127.0.0.1:9720: Address already in use"),
            "{told}"
        );
    });
}

#[test]
fn what_ports_counted_is_told_in_the_database() {
    in_namespace(|| async {
        let [server, _other] = bare_metal();
        let mut wanted = picture();
        bind(&mut wanted, "net-a", "one", 0);
        let (switch, controller) = forwarding("--vlan-form 8021q --port one=eth9", &wanted).await;
        is_heard(&server, "eth9").await;
        for _ in 0..20 {
            says_hello(&server, mac(0xaa));
        }
        let ctl = |words: &str| {
            let database = format!("--db=unix:{}", switch.socket().display());
            run("vtep-ctl", &format!("{database} {words}"))
        };
        let counted = || {
            let columns = "--columns=packets_from_local,bytes_from_local,packets_to_local";
            ctl(&format!("--bare {columns} list Logical_Binding_Stats"))
        };
        // On a busy machine one telling takes long, and the pause behind it 200 times as long.
        let mut rows = String::new();
        for _ in 0..1200 {
            rows = counted();
            let first = rows.lines().next().and_then(|it| it.parse::<u64>().ok());
            if first.is_some_and(|packets| packets >= 20) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let counts: Vec<u64> = rows.lines().map(|it| it.parse().unwrap()).collect();
        assert!(counts[0] >= 20 && counts[1] >= 20 * 60, "{rows}");
        let ports = ctl("--columns=vlan_stats find Physical_Port name=one");
        assert!(ports.contains("{0="), "{ports}");

        // With the binding go its counters.
        write(&controller, &picture()).await;
        for _ in 0..200 {
            rows = counted();
            if rows.trim().is_empty() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("{rows}");
    });
}
