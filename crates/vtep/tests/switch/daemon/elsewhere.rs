//! Tunnels to remote gateways run in a network namespace of their own (`--wan-netns`).

use vtep::bfd::packet::State;
use vtep::kernel::Kernel;
use vtep::kernel::desired::{NodeConfig, desired};
use vtep::kernel::name::InterfaceName;
use vtep::kernel::netns::{NetworkNamespace, Underlays};

use super::tunnels::{RemoteGateway, says, tunnel, watch};
use super::vlans::within;
use super::*;

/// A network namespace that has the switch's address towards remote gateways.
struct Elsewhere {
    netns: Netns,
}

impl Elsewhere {
    fn new() -> Self {
        let netns = Netns::create(&unique_prefix()).unwrap();
        ip("addr del 192.0.2.1/32 dev lo");
        netns.ip("addr add 192.0.2.1/32 dev lo").unwrap();
        Self { netns }
    }

    fn option(&self) -> String {
        format!("--wan-netns {}", self.netns.name())
    }

    fn run(&self, program: &str, arguments: &str) -> String {
        let place = self.netns.name();
        run("ip", &format!("netns exec {place} {program} {arguments}"))
    }

    /// What the daemon works with.
    fn opened(&self) -> (NodeConfig, Underlays) {
        let mut underlays = Underlays::default();
        let namespace = NetworkNamespace::named(self.netns.name()).unwrap();
        let config = NodeConfig {
            wan_underlay: underlays.add(namespace).unwrap(),
            ..config()
        };
        (config, underlays)
    }

    fn kernel(&self) -> Kernel {
        let (config, underlays) = self.opened();
        Kernel::open_with(config, underlays).unwrap()
    }

    fn seen(&self) -> KernelState {
        self.kernel().observe().unwrap().clone()
    }

    fn wanted(&self, switch: &SwitchState) -> KernelState {
        desired(switch, &self.opened().0).state
    }

    async fn forwards(&self, switch: &SwitchState) {
        holds(&self.wanted(switch), || self.seen()).await;
    }

    /// A switch that forwards what a controller has written, and that controller.
    async fn forwarding(&self, wanted: &SwitchState) -> (Switch, Connection<Database>) {
        let mut switch = Switch::new();
        switch.start(&self.option());
        let controller = switch.controller();
        write(&controller, wanted).await;
        self.forwards(wanted).await;
        (switch, controller)
    }
}

/// A WAN key that is the network's inside key, and one that is another network's.
fn equal_keys() -> SwitchState {
    let mut switch = SwitchState::default();
    add(&mut switch, "net-a", 123);
    flood(&mut switch, "net-a", inside("10.0.0.11"));
    flood(&mut switch, "net-a", wan("192.0.2.2", 123));
    flood(&mut switch, "net-a", wan("192.0.2.3", 456));
    let there = wan("192.0.2.2", 123);
    station(&mut switch, "net-a", mac(2), there, Some("172.16.0.2"));
    add(&mut switch, "net-b", 456);
    flood(&mut switch, "net-b", inside("10.0.0.12"));
    switch
}

#[test]
fn equal_keys_are_forwarded_shown_kept_over_a_restart_and_taken_back() {
    in_namespace(|| async {
        let elsewhere = Elsewhere::new();
        let before = links();
        let (mut switch, controller) = elsewhere.forwarding(&equal_keys()).await;
        until(&controller, "the description", |held| {
            let description = held.physical_switches().remove("vtep")?.description;
            let place = format!(
                "WAN 192.0.2.1 in network namespace {}",
                elsewhere.netns.name()
            );
            description.ends_with(&place).then_some(())
        })
        .await;
        let shown = switch.shown().await;
        let devices = shown["networks"].as_array().unwrap().iter();
        let mut places: Vec<_> = devices
            .flat_map(|network| network["devices"].as_array().unwrap())
            .map(|device| format!("{} {} {}", device["side"], device["key"], device["netns"]))
            .collect();
        places.sort();
        let place = elsewhere.netns.name();
        assert_eq!(
            places,
            [
                "\"inside\" 123 null".to_owned(),
                "\"inside\" 456 null".to_owned(),
                format!("\"wan\" 123 \"{place}\""),
                format!("\"wan\" 456 \"{place}\""),
            ]
        );
        let traced = switch.traced("net-a", mac(2), None).await;
        let way = format!(
            "as VXLAN with key 123 to UDP port 4789 in network namespace {place}\n\
             answers from 192.0.2.2 with key 123 are admitted\n"
        );
        assert!(traced.contains(&way), "{traced}");

        switch.kill().await;
        let mut watcher = elsewhere.kernel();
        settle(&mut watcher);
        assert_same(watcher.observe().unwrap(), &elsewhere.wanted(&equal_keys()));
        switch.start(&elsewhere.option());
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(
            !watcher.is_stale().unwrap(),
            "the restart wrote to the kernel"
        );
        let mut less = equal_keys();
        let mut networks = less.logical_switches.values_mut();
        networks.all(|network| network.macs.pop_first().is_some());
        write(&controller, &less).await;
        elsewhere.forwards(&less).await;

        switch.kill().await;
        switch.down().await;
        assert_eq!(links(), before);
        assert_eq!(elsewhere.seen(), KernelState::default());
        assert_eq!(elsewhere.run("nft", "list tables"), "");
        assert!(!switch.path().join("netns.json").exists());
    });
}

#[test]
fn what_others_break_there_is_put_right_within_a_second() {
    in_namespace(|| async {
        let elsewhere = Elsewhere::new();
        let (_switch, _controller) = elsewhere.forwarding(&equal_keys()).await;
        let key = model::value::Vni::new(123).unwrap();
        let device = InterfaceName::wan(&name("net-a"), key);
        let breakages: [&dyn Fn(); 3] = [
            &|| drop(elsewhere.run("nft", "flush ruleset")),
            &|| drop(ip(&format!("link delete {device}"))),
            &|| {
                let somebody = "add element inet l2gw wan { 192.0.2.66 . 123 }";
                elsewhere.run("nft", somebody);
            },
        ];
        for (number, breaks) in breakages.into_iter().enumerate() {
            // See the truce of the loop.
            tokio::time::sleep(Duration::from_millis(300)).await;
            let broken = std::time::Instant::now();
            breaks();
            elsewhere.forwards(&equal_keys()).await;
            let took = broken.elapsed();
            // One second is promised; the rest is for a machine that does other things.
            assert!(took < Duration::from_secs(5), "{number}: {took:?}");
        }
    });
}

#[test]
fn a_switch_that_is_started_with_another_option_leaves_nothing_behind() {
    in_namespace(|| async {
        let [first, second] = [(); 2].map(|()| Netns::create(&unique_prefix()).unwrap());
        let [first, second] = [first, second].map(|netns| Elsewhere { netns });
        let (mut switch, _controller) = first.forwarding(&equal_keys()).await;
        for place in [Some(&second), None, Some(&first)] {
            switch.kill().await;
            match place {
                Some(place) => {
                    switch.start(&place.option());
                    place.forwards(&equal_keys()).await;
                }
                None => {
                    switch.start("");
                    forwards(&equal_keys()).await;
                }
            }
            for other in [&first, &second] {
                if place.is_some_and(|place| place.netns.name() == other.netns.name()) {
                    continue;
                }
                within("no packet filter is left", || {
                    other.run("nft", "list tables").is_empty()
                })
                .await;
            }
        }
    });
}

#[test]
fn what_keeps_it_from_tunnelling_elsewhere_is_said_in_a_line() {
    in_namespace(|| async {
        let switch = Switch::new();
        assert_eq!(
            switch.refusal("--wan-netns l2gw-none").await,
            "--wan-netns: this host has no network namespace l2gw-none (`ip netns list` shows them, `ip netns add l2gw-none` \
             makes it)"
        );
        // A name of the one we are in.
        let own = Netns::create(&unique_prefix()).unwrap();
        let handle = format!("/run/netns/{}", own.name());
        run("umount", &handle);
        run("mount", &format!("--bind /proc/self/ns/net {handle}"));
        let told = switch.refusal(&format!("--wan-netns {}", own.name())).await;
        run("umount", &handle);
        assert_eq!(
            told,
            format!(
                "--wan-netns: the switch is in network namespace {} itself; leave the option out",
                own.name()
            )
        );
    });
}

#[test]
fn a_namespace_that_is_deleted_is_told_of_and_one_that_takes_its_name_is_used() {
    in_namespace(|| async {
        let elsewhere = Elsewhere::new();
        let (mut switch, controller) = elsewhere.forwarding(&equal_keys()).await;
        let wanted = elsewhere.wanted(&equal_keys());
        let place = elsewhere.netns.name();
        // Goes with either of the namespaces it leads to.
        ip(&format!(
            "link add cable type veth peer name cable netns {place}"
        ));
        run("ip", &format!("netns delete {place}"));
        let deleted = format!("network namespace {place} was deleted");
        until(&controller, "the fault", |held| {
            held.faults()
                .remove("vtep")
                .filter(|words| words.contains(&deleted))
        })
        .await;
        // Forwarding goes on where it was.
        assert_eq!(seen().vxlans, wanted.vxlans);

        run("ip", &format!("netns add {place}"));
        elsewhere.forwards(&equal_keys()).await;
        until(&controller, "no faults", |held| {
            held.faults().is_empty().then_some(())
        })
        .await;
        assert_ne!(seen().vxlans, wanted.vxlans, "it is another namespace");
        within("the namespace of before is let go of", || {
            !links().contains(" cable@")
        })
        .await;

        // What is left can be taken back without it, too.
        run("ip", &format!("netns delete {place}"));
        switch.kill().await;
        switch.down().await;
        assert_eq!(seen(), KernelState::default());
        run("ip", &format!("netns add {place}"));
    });
}

#[test]
fn remote_gateways_there_are_watched_and_the_ways_to_them_measured() {
    in_namespace(|| async {
        let elsewhere = Elsewhere::new();
        let mut far = RemoteGateway::behind(|line| elsewhere.netns.ip(line).unwrap());
        let (_switch, controller) = elsewhere.forwarding(&equal_keys()).await;
        // The cable carries 1,500 bytes, a tenant's longest packet needs 1,550.
        until(&controller, "the way is too small", |held| {
            let words = held.faults().remove("vtep")?;
            words
                .contains("remote gateway 192.0.2.2: the way there carries 1500 bytes")
                .then_some(())
        })
        .await;
        watch(&controller, true).await;
        tunnel(&controller, "BFD is up", |it| says(it, "state") == "up").await;
        far.sees(State::Up).await;
        far.netns.ip("link set wan0 down").unwrap();
        tunnel(&controller, "BFD is down", |it| says(it, "state") == "down").await;
        far.netns.ip("link set wan0 up").unwrap();
        tunnel(&controller, "BFD is up again", |it| {
            says(it, "state") == "up"
        })
        .await;
    });
}
