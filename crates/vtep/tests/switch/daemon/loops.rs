//! Networks that somebody closes into a ring are cut off the WAN, and joined again.

use vtep::kernel::name::InterfaceName;

use super::*;

/// A switch with bridges in it, plugged into the ports `one` and `two` of ours, and not yet joining them.
struct Outside {
    netns: Netns,
}

impl Outside {
    fn new() -> Self {
        let netns = Netns::create(&unique_prefix()).unwrap();
        netns.without_ipv6().unwrap();
        for interface in ["eth9", "eth8"] {
            let place = netns.name();
            ip(&format!(
                "link add {interface} type veth peer name {interface} netns {place}"
            ));
        }
        netns
            .ip(
                "link add ring type bridge stp_state 0 forward_delay 0 mcast_snooping 0\n\
                 link set ring up\nlink set eth9 master ring\nlink set eth9 up\nlink set eth8 up",
            )
            .unwrap();
        Self { netns }
    }

    fn join(&self) {
        self.netns.ip("link set eth8 master ring").unwrap();
    }

    fn part(&self) {
        self.netns.ip("link set eth8 nomaster").unwrap();
    }
}

/// The picture's network on both ports.
fn on_both_ports() -> SwitchState {
    let mut wanted = picture();
    bind(&mut wanted, "net-a", "one", 0);
    bind(&mut wanted, "net-a", "two", 0);
    wanted
}

fn wan_device() -> InterfaceName {
    let key = model::value::Vni::new(456).unwrap();
    InterfaceName::wan(&name("net-a"), key)
}

fn is_cut() -> bool {
    let shown = run("bridge", &format!("-d link show dev {}", wan_device()));
    shown.contains("state disabled")
}

async fn until_cut(cut: bool) {
    for _ in 0..800 {
        if is_cut() == cut {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    let shown = run("bridge", "-d link show");
    panic!("cut: {}\n{shown}", !cut);
}

async fn fault(controller: &Connection<Database>, word: Option<&str>) {
    let what = format!("the fault {word:?}");
    until(controller, &what, |held| {
        let told = held.faults().into_values().collect::<String>();
        let is_so = match word {
            Some(word) => told.contains(word),
            None => told.is_empty(),
        };
        is_so.then_some(())
    })
    .await;
}

async fn release(switch: &Switch, network: &str) -> Result<(), vtep::Error> {
    let line = format!(
        "vtep release {network} --state-dir {}",
        switch.path().display()
    );
    let options = Line::try_parse_from(line.split_whitespace())
        .unwrap_or_else(|error| panic!("{error}"))
        .options;
    vtep::run(options).await
}

const OPTIONS: &str = "--vlan-form 8021q --port one=eth9 --port two=eth8";

#[test]
fn a_ring_of_two_ports_is_cut_off_the_wan_until_it_is_gone() {
    in_namespace(|| async {
        let outside = Outside::new();
        let wanted = on_both_ports();
        let (switch, controller) = forwarding(&format!("{OPTIONS} --loop-hold 3"), &wanted).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!is_cut(), "there is no ring yet");

        outside.join();
        until_cut(true).await;
        fault(&controller, Some("its ports are joined outside")).await;
        let shown = switch.shown().await;
        let cut = &shown["networks"][0]["cut"];
        assert_eq!(cut["in_kernel"], true, "{shown}");
        // Longer than the hold time: it goes on as long as the ring.
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert!(is_cut());

        outside.part();
        until_cut(false).await;
        fault(&controller, None).await;
        assert_eq!(
            switch.shown().await["networks"][0]["cut"],
            serde_json::Value::Null
        );
    });
}

#[test]
fn a_cut_is_repaired_outlives_the_daemon_and_is_released_by_hand() {
    in_namespace(|| async {
        let outside = Outside::new();
        let wanted = on_both_ports();
        let options = format!("{OPTIONS} --loop-hold 0");
        let (mut switch, controller) = forwarding(&options, &wanted).await;
        outside.join();
        until_cut(true).await;
        fault(&controller, Some("because of a loop")).await;
        outside.part();

        run("bridge", &format!("link set dev {} state 3", wan_device()));
        until_cut(true).await;
        ip(&format!("link set {} down", wan_device()));
        ip(&format!("link set {} up", wan_device()));
        until_cut(true).await;

        switch.kill().await;
        switch.start(&options);
        fault(&controller, Some("because of a loop")).await;
        assert!(is_cut());

        let error = release(&switch, "net-z").await.unwrap_err().to_string();
        assert!(error.contains("net-z is not cut off"), "{error}");
        release(&switch, "net-a").await.unwrap();
        until_cut(false).await;
        fault(&controller, None).await;

        // Where no daemon runs, it is off the list with the next start.
        outside.join();
        until_cut(true).await;
        outside.part();
        switch.kill().await;
        release(&switch, "net-a").await.unwrap();
        assert!(is_cut(), "nobody is there to join it");
        switch.start(&options);
        until_cut(false).await;
    });
}

#[test]
fn a_ring_of_two_networks_is_cut_on_both_sides() {
    in_namespace(|| async {
        let outside = Outside::new();
        let mut wanted = picture();
        add(&mut wanted, "net-b", 124);
        flood(&mut wanted, "net-b", wan("192.0.2.2", 457));
        bind(&mut wanted, "net-a", "one", 0);
        bind(&mut wanted, "net-b", "two", 0);
        let (switch, controller) = forwarding(OPTIONS, &wanted).await;
        outside.join();
        fault(&controller, Some("logical switch net-a: cut off the WAN")).await;
        fault(&controller, Some("logical switch net-b: cut off the WAN")).await;
        until_cut(true).await;
        let shown = switch.shown().await;
        for network in [0, 1] {
            assert!(!shown["networks"][network]["cut"].is_null(), "{shown}");
        }
    });
}

#[test]
fn a_station_that_flaps_between_ports_cuts_its_network_and_one_that_moves_does_not() {
    in_namespace(|| async {
        let [first, second] = bare_metal();
        let (_switch, controller) = forwarding(OPTIONS, &on_both_ports()).await;
        is_heard(&first, "eth9").await;
        is_heard(&second, "eth8").await;
        // Moves of a machine that somebody shifts about as fast as he can.
        for server in [&first, &second, &first, &second] {
            says_hello(server, mac(0xaa));
            tokio::time::sleep(Duration::from_millis(1000)).await;
        }
        assert!(!is_cut());
        for _ in 0..8 {
            says_hello(&first, mac(0xaa));
            says_hello(&second, mac(0xaa));
        }
        until_cut(true).await;
        fault(
            &controller,
            Some("02:00:00:00:00:aa moves back and forth between eth"),
        )
        .await;
    });
}
