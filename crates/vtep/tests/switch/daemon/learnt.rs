//! Stations learnt on physical ports are told in the database.

use std::time::Instant;

use testkit::capture::send_evenly;

use super::*;

#[test]
fn learnt_stations_are_told_and_move_and_age_out() {
    in_namespace(|| async {
        let [first, second] = bare_metal();
        let mut switch = Switch::new();
        switch.start("--vlan-form 8021q --port one=eth9 --port two=eth8");
        let controller = switch.controller();
        let mut wanted = picture();
        add(&mut wanted, "net-b", 124);
        bind(&mut wanted, "net-a", "one", 0);
        bind(&mut wanted, "net-b", "two", 0);
        write(&controller, &wanted).await;
        forwards(&wanted).await;
        is_heard(&first, "eth9").await;
        is_heard(&second, "eth8").await;

        says_hello(&first, mac(0xaa));
        says_hello(&first, mac(0xab));
        // Declared behind an inside host: it can't be learnt elsewhere.
        says_hello(&first, mac(1));
        learnt(&controller, &[(mac(0xaa), "net-a"), (mac(0xab), "net-a")]).await;

        // It moves to another network; the old one is told to forget it, as a switch's ageing would in time.
        says_hello(&second, mac(0xaa));
        run("bridge", &format!("fdb del {} dev eth9 master", mac(0xaa)));
        learnt(&controller, &[(mac(0xaa), "net-b"), (mac(0xab), "net-a")]).await;

        // The kernel forgets who is silent.
        let bridge = vtep::kernel::name::InterfaceName::bridge(&name("net-a"));
        ip(&format!("link set {bridge} type bridge ageing_time 100"));
        learnt(&controller, &[(mac(0xaa), "net-b")]).await;

        // Nor is anything told of a port that was taken out.
        wanted
            .bindings
            .retain(|_, network| *network != name("net-b"));
        write(&controller, &wanted).await;
        learnt(&controller, &[]).await;
    });
}

/// Some more than CI's machine learns without breathing hard; the product is to stand 10,000 a second.
const STATIONS: u32 = 10_000;
const PER_SECOND: u32 = 10_000;

#[test]
fn ten_thousand_stations_that_speak_within_a_second_starve_nobody() {
    in_namespace(|| async {
        let [server, _other] = bare_metal();
        let mut wanted = picture();
        bind(&mut wanted, "net-a", "one", 0);
        let (_switch, controller) = forwarding("--vlan-form 8021q --port one=eth9", &wanted).await;
        is_heard(&server, "eth9").await;

        let numbers = 0x1_0000..0x1_0000 + STATIONS;
        let stations: Vec<_> = numbers.map(|number| (mac(number), "net-a")).collect();
        let frames: Vec<_> = stations
            .iter()
            .map(|(station, _)| hello(*station))
            .collect();
        let begun = Instant::now();
        let sending = tokio::task::spawn_blocking(move || {
            send_evenly(&server, "eth0", &frames, PER_SECOND).unwrap();
            (server, begun.elapsed())
        });
        // Meanwhile somebody declares stations one by one, and somebody else breaks something.
        let mut slowest = Duration::ZERO;
        for number in 0..5 {
            let declared = Instant::now();
            station(
                &mut wanted,
                "net-a",
                mac(0x90 + number),
                wan("192.0.2.2", 456),
                None,
            );
            write(&controller, &wanted).await;
            forwards(&wanted).await;
            slowest = slowest.max(declared.elapsed());
        }
        let broken = Instant::now();
        run("nft", "flush ruleset");
        forwards(&wanted).await;
        let repaired = broken.elapsed();
        let (_server, sent) = sending.await.unwrap();
        learnt(&controller, &stations).await;
        println!(
            "{STATIONS} stations spoke within {sent:?}; all were told {:?} after the first; meanwhile the slowest of 5 \
             declared ones took {slowest:?}, a repair {repaired:?}",
            begun.elapsed()
        );

        // All are forgotten at once.
        let bridge = vtep::kernel::name::InterfaceName::bridge(&name("net-a"));
        ip(&format!("link set {bridge} type bridge fdb_flush"));
        forwards(&wanted).await;
        learnt(&controller, &[]).await;
    });
}
