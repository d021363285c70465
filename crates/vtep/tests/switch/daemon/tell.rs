//! What `show` and `trace` say.

use super::*;

#[test]
fn show_tells_what_is_forwarded_and_what_is_not() {
    in_namespace(|| async {
        let [server, _other] = bare_metal();
        let mut wanted = picture();
        bind(&mut wanted, "net-a", "one", 0);
        let (mut switch, controller) =
            forwarding("--vlan-form 8021q --port one=eth9", &wanted).await;
        is_heard(&server, "eth9").await;
        says_hello(&server, mac(0xaa));
        learnt(&controller, &[(mac(0xaa), "net-a")]).await;

        let shown = switch.shown().await;
        assert_eq!(shown["database"], true);
        let network = &shown["networks"][0];
        assert_eq!(network["name"], "net-a");
        assert_eq!(network["up"], true);
        assert_eq!(network["bindings"][1], "one vlan 0");
        assert_eq!(network["interfaces"][0]["name"], "eth9");
        let tunnels: Vec<_> = network["tunnels"].as_array().unwrap().iter().collect();
        let told = |tunnel: &serde_json::Value| {
            let [side, ip, key, floods] =
                ["side", "remote_ip", "key", "floods"].map(|column| tunnel[column].to_string());
            format!("{side} {ip} {key} {floods}").replace('"', "")
        };
        let tunnels: Vec<_> = tunnels.into_iter().map(told).collect();
        assert_eq!(
            tunnels,
            [
                "inside 10.0.0.11 123 true",
                "inside 10.0.0.12 123 true",
                "wan 192.0.2.2 456 true",
                "wan 192.0.2.3 456 false"
            ]
        );
        assert_eq!(
            stations(&shown),
            [
                "02:00:00:00:00:01 172.16.0.1 10.0.0.11 declared forwarding",
                "02:00:00:00:00:02 172.16.0.2 192.0.2.2 declared forwarding",
                "02:00:00:00:00:03 fd00::3 192.0.2.3 declared forwarding",
                "02:00:00:00:00:aa null eth9 learnt forwarding",
            ]
        );
        assert!(network["macs"][3]["age"].as_u64().unwrap() < 60);

        // With nobody there to repair it, a loss shows.
        switch.kill().await;
        let key = model::value::Vni::new(456).unwrap();
        let device = vtep::kernel::name::InterfaceName::wan(&name("net-a"), key);
        run("bridge", &format!("fdb del {} dev {device} master", mac(2)));
        assert_eq!(
            stations(&switch.shown().await)[1],
            "02:00:00:00:00:02 172.16.0.2 192.0.2.2 declared missing"
        );

        // And the kernel's side shows without a database.
        run("kill", &format!("-KILL {}", switch.server().unwrap()));
        let shown = switch.shown().await;
        assert_eq!(shown["database"], false);
        assert_eq!(shown["networks"][0]["name"], "net-a");
        assert_eq!(
            stations(&shown)[0],
            "02:00:00:00:00:01 172.16.0.1 10.0.0.11 declared unchecked"
        );
    });
}

#[test]
fn trace_tells_where_a_frame_goes_and_why() {
    in_namespace(|| async {
        let [server, _other] = bare_metal();
        let mut wanted = picture();
        bind(&mut wanted, "net-a", "one", 0);
        let (switch, controller) = forwarding("--vlan-form 8021q --port one=eth9", &wanted).await;
        is_heard(&server, "eth9").await;
        says_hello(&server, mac(0xaa));
        learnt(&controller, &[(mac(0xaa), "net-a")]).await;

        let far = switch.traced("net-a", mac(2), Some("172.16.0.2")).await;
        for reason in [
            "sent to 192.0.2.2 through gw",
            "with key 456 to UDP port 4789",
            "answers from 192.0.2.2 with key 456 are admitted",
            "who asks for 172.16.0.2 is answered by the bridge: 02:00:00:00:00:02",
            "database: a row says 192.0.2.2",
        ] {
            assert!(far.contains(reason), "{reason}: {far}");
        }
        let inside = switch.traced("net-a", mac(1), Some("172.16.0.1")).await;
        assert!(
            inside.contains("02:00:00:00:00:01 is inside, where the question is flooded to"),
            "{inside}"
        );
        assert!(!far.contains("BFD"), "{far}");
        super::tunnels::watch(&controller, true).await;
        let unanswered = |it: &hardware_vtep::Tunnel| it.failure().is_some();
        super::tunnels::tunnel(&controller, "BFD", unanswered).await;
        let far = switch.traced("net-a", mac(2), None).await;
        let said = "BFD: down: the far end is not heard; frames are sent all the same";
        assert!(far.contains(said), "{far}");
        let shown = switch.shown().await;
        let tunnels = shown["networks"][0]["tunnels"].as_array().unwrap();
        let bfd: Vec<_> = tunnels
            .iter()
            .map(|it| it["bfd"].as_str().unwrap_or("-"))
            .collect();
        assert_eq!(bfd, ["-", "-", "down: the far end is not heard", "-"]);
        let port = &shown["networks"][0]["interfaces"][0];
        assert!(port["received_packets"].as_u64().unwrap() > 0, "{port}");

        let near = switch.traced("net-a", mac(0xaa), None).await;
        assert!(near.starts_with("sent to port eth9\nbecause "), "{near}");
        let unknown = switch.traced("net-a", mac(0xbb), Some("172.16.0.9")).await;
        for reason in [
            "flooded: 02:00:00:00:00:bb is neither declared nor learnt",
            "to port eth9\n",
            "to 10.0.0.12 through gl",
            "to 192.0.2.2 through gw",
            "who asks for 172.16.0.9 is not answered by the bridge",
            "database: no row",
        ] {
            assert!(unknown.contains(reason), "{reason}: {unknown}");
        }
        assert!(
            !unknown.contains("192.0.2.3"),
            "it does not flood: {unknown}"
        );
        let nowhere = switch.traced("net-z", mac(2), None).await;
        assert!(
            nowhere.contains("the database has no such logical switch"),
            "{nowhere}"
        );
    });
}

/// What is shown of the first network's stations.
pub(super) fn stations(shown: &serde_json::Value) -> Vec<String> {
    let macs = shown["networks"][0]["macs"].as_array().unwrap().iter();
    let columns = ["mac", "ip", "at", "source", "state"];
    macs.map(|mac| {
        let columns = columns.map(|column| mac[column].to_string());
        columns.join(" ").replace('"', "")
    })
    .collect()
}

#[test]
fn a_network_that_floods_beyond_the_limit_is_told_of() {
    in_namespace(|| async {
        let [server, _other] = bare_metal();
        let mut wanted = picture();
        bind(&mut wanted, "net-a", "one", 0);
        let options = "--vlan-form 8021q --port one=eth9 --bum-limit 40";
        let mut switch = Switch::new();
        switch.start(options);
        let controller = switch.controller();
        write(&controller, &wanted).await;
        is_heard(&server, "eth9").await;
        // As far as the limit it must get: there is a way to the remote gateway.
        for line in [
            "link add wan0 type veth peer name wan1",
            "link set wan0 up",
            "link set wan1 up",
            "route add 192.0.2.2 dev wan0",
        ] {
            ip(line);
        }
        let told = async {
            loop {
                let frame = Ethernet {
                    to: BROADCAST,
                    from: mac(0xaa).octets(),
                    ethertype: 0x88b5,
                    payload: vec![1; 60],
                };
                testkit::capture::send_times(&server, "eth0", &frame, 100).unwrap();
                tokio::time::sleep(Duration::from_millis(200)).await;
                let faults = controller.replica().read(|held| held.unwrap().faults());
                if faults
                    .values()
                    .any(|told| told.contains("net-a: floods the WAN beyond"))
                {
                    return;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(60), told)
            .await
            .expect("the fault");
        let shown = switch.shown().await;
        assert!(
            shown["networks"][0]["flood_dropped"].as_u64().unwrap() > 0,
            "{shown}"
        );
    });
}

#[test]
fn a_way_that_carries_too_little_is_told_of_and_one_that_was_mended_is_not() {
    in_namespace(|| async {
        let far = Netns::create(&unique_prefix()).unwrap();
        far.without_ipv6().unwrap();
        let place = far.name();
        for line in [
            &format!("link add wan0 type veth peer name wan0 netns {place}")[..],
            "addr del 192.0.2.1/32 dev lo",
            "addr add 192.0.2.1/24 dev wan0",
            "link set wan0 mtu 1600 up",
        ] {
            ip(line);
        }
        far.ip("addr add 192.0.2.2/24 dev wan0\nlink set wan0 mtu 1492 up")
            .unwrap();
        let (_switch, controller) = forwarding("", &picture()).await;
        let told = "remote gateway 192.0.2.2: the way there carries 1492 bytes, tenants' packets of 1500 need 1550";
        until(&controller, "the fault", |held| {
            let faults = held.faults().into_values().collect::<String>();
            // The other one answers nothing.
            let is_told = faults.contains(told) && !faults.contains("192.0.2.3");
            // What is forwarded lacks nothing: no resource of the API is in error because of it.
            let suffers = held.complaints().of_switch(&"vtep".into(), &name("net-a"));
            (is_told && suffers.is_none()).then_some(())
        })
        .await;

        // Where the network says how long its packets are, that counts.
        let mut wanted = picture();
        let network = wanted.logical_switches.get_mut(&name("net-a")).unwrap();
        network.mtu = Some(1442);
        write(&controller, &wanted).await;
        until(&controller, "no fault", |held| {
            let faults = held.faults().into_values().collect::<String>();
            faults.is_empty().then_some(())
        })
        .await;
        let network = wanted.logical_switches.get_mut(&name("net-a")).unwrap();
        network.mtu = Some(1500);
        write(&controller, &wanted).await;
        until(&controller, "the fault again", |held| {
            let faults = held.faults().into_values().collect::<String>();
            faults.contains(told).then_some(())
        })
        .await;

        far.ip("link set wan0 mtu 1600").unwrap();
        // A remote gateway more makes it look again before the minute is over.
        flood(&mut wanted, "net-a", wan("192.0.2.4", 456));
        write(&controller, &wanted).await;
        until(&controller, "no fault", |held| {
            let faults = held.faults().into_values().collect::<String>();
            faults.is_empty().then_some(())
        })
        .await;
    });
}
