//! VLANs of physical ports, in the form that every kernel has that can load programs.

use model::value::VlanId;
use vtep::kernel::name::InterfaceName;

use super::tell::stations;
use super::*;

/// Waits until the interface is what it should be; how long that took.
pub(super) async fn within(what: &str, mut holds: impl FnMut() -> bool) -> Duration {
    let since = std::time::Instant::now();
    while !holds() {
        assert!(since.elapsed() < Duration::from_secs(20), "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    since.elapsed()
}

#[test]
fn vlans_of_a_port_are_served_shown_repaired_and_taken_back() {
    in_namespace(|| async {
        let [server, _other] = bare_metal();
        let names = || -> Vec<String> {
            let links = links();
            let names = links.lines().filter_map(|line| line.split(": ").nth(1));
            names.map(str::to_owned).collect()
        };
        let before = names();
        let mut switch = Switch::new();
        switch.start("--vlan-form tc --port one=eth9");
        let controller = switch.controller();
        let mut wanted = picture();
        bind(&mut wanted, "net-a", "one", 100);
        write(&controller, &wanted).await;
        let vlan = VlanId::new(100).unwrap();
        let device = InterfaceName::vlan("eth9".parse().unwrap(), vlan);
        let outer = InterfaceName::outer_end("eth9".parse().unwrap(), vlan);
        let steered = || {
            let filters = run("tc", "filter show dev eth9 ingress");
            filters.contains("[l2gw-in-")
        };
        within("steered", steered).await;
        forwards(&wanted).await;

        let tagged = |station: MacAddress| {
            let frame = Ethernet {
                to: BROADCAST,
                from: station.octets(),
                ethertype: 0x8100,
                payload: [&[0, 100, 0x88, 0xb5][..], &[1; 60]].concat(),
            };
            send(&server, "eth0", &frame).unwrap();
        };
        within("learnt", || {
            tagged(mac(0xaa));
            let fdb = run("bridge", &format!("fdb show dev {device}"));
            fdb.contains(&mac(0xaa).to_string())
        })
        .await;
        learnt(&controller, &[(mac(0xaa), "net-a")]).await;
        let shown = switch.shown().await;
        let interface = &shown["networks"][0]["interfaces"][0];
        assert_eq!(interface["name"], "eth9 vlan 100");
        assert_eq!(interface["device"], device.as_str());
        assert_eq!(interface["up"], true);
        assert!(
            stations(&shown)
                .contains(&"02:00:00:00:00:aa null eth9 vlan 100 learnt forwarding".to_owned()),
            "{shown}"
        );
        let near = switch.traced("net-a", mac(0xaa), None).await;
        assert!(near.starts_with("sent to port eth9 vlan 100\n"), "{near}");
        let unknown = switch.traced("net-a", mac(0xbb), None).await;
        assert!(unknown.contains("to port eth9 vlan 100\n"), "{unknown}");

        // Others' hands: mended within a second of the last damage, a truce with whoever did it included.
        let mut took = Vec::new();
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_millis(300)).await;
            run("tc", "filter delete dev eth9 ingress");
            took.push(within("steered again", steered).await);
            tokio::time::sleep(Duration::from_millis(300)).await;
            ip(&format!("link delete {outer}"));
            let there = || links().contains(&format!("{device}@{outer}"));
            took.push(within("there again", there).await);
        }
        took.sort();
        println!("mended after {took:?}");
        assert!(took[took.len() / 2] < Duration::from_secs(1), "{took:?}");
        forwards(&wanted).await;

        switch.kill().await;
        switch.down().await;
        assert_eq!(names(), before);
        assert_eq!(run("tc", "filter show dev eth9 ingress"), "");
    });
}
