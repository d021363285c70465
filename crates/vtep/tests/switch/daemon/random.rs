//! Random changes of a database, one after the other, and somebody else's hands on the kernel meanwhile: after each pause
//! the kernel holds what the database says.
//!
//! - `L2GW_CHANGES`: how many changes, 2,000 where it is not set.
//! - `L2GW_FUZZ_SEED`: where the random numbers begin; the test prints it.

use fastrand::Rng;
use model::switch::Locator;

use super::*;

const CHANGES: usize = 2_000;
/// Changes written at once, and between two pauses, at most.
const AT_ONCE: usize = 20;
const UNTIL_PAUSE: usize = 400;
const NETWORKS: u32 = 6;
const STATIONS: u32 = 40;

fn network(rng: &mut Rng) -> u32 {
    rng.u32(..NETWORKS)
}

fn locator(rng: &mut Rng, network: u32) -> Locator {
    let host = rng.u8(1..5);
    match rng.u32(..4) {
        0 => inside(&format!("10.0.0.{}", 10 + host)),
        key => wan(
            &format!("192.0.2.{}", 10 + host),
            1000 + 10 * network + key % 2,
        ),
    }
}

/// One change of what a controller may have there.
fn change(rng: &mut Rng, switch: &mut SwitchState) {
    let number = network(rng);
    let net = format!("net-{number}");
    if !switch.logical_switches.contains_key(&name(&net)) {
        add_at(switch, &net, 100 + number, u16::try_from(number).unwrap());
        return;
    }
    let far_end = locator(rng, number);
    let held = switch.logical_switches.get_mut(&name(&net)).unwrap();
    match rng.u32(..100) {
        0 => {
            switch.logical_switches.remove(&name(&net));
            switch.bindings.retain(|_, bound| *bound != name(&net));
        }
        1 => switch.bindings.retain(|_, bound| *bound != name(&net)),
        2 => bind(switch, &net, "border", u16::try_from(number).unwrap()),
        3..10 => {
            held.flood.insert(far_end);
        }
        10..15 => {
            held.flood.remove(&far_end);
        }
        15..45 => {
            held.macs.remove(&mac(rng.u32(1..STATIONS)));
        }
        _ => {
            let host = rng.u32(1..STATIONS);
            let ip = match rng.u32(..3) {
                0 => None,
                1 => Some(format!("172.16.0.{host}")),
                _ => Some(format!("fd00::{host:x}")),
            };
            station(
                switch,
                &net,
                mac(rng.u32(1..STATIONS)),
                far_end,
                ip.as_deref(),
            );
        }
    }
}

/// What somebody else does who has no business there.
fn meddle(rng: &mut Rng) {
    let devices: Vec<_> = links()
        .lines()
        .filter_map(|line| line.split(": ").nth(1).map(str::to_owned))
        .filter(|name| name.starts_with("gb") || name.starts_with("gw") || name.starts_with("gl"))
        .collect();
    let Some(device) = rng.choice(&devices) else {
        return;
    };
    let (program, line) = match rng.u32(..5) {
        0 => ("ip", format!("link del {device}")),
        1 => ("bridge", format!("fdb flush dev {device}")),
        2 => ("ip", format!("neigh flush nud permanent dev {device}")),
        3 => ("ip", format!("link set {device} down")),
        _ => ("nft", "delete table inet l2gw".to_owned()),
    };
    // It may be gone already: the daemon is at work meanwhile.
    let _ = std::process::Command::new(program)
        .args(line.split_whitespace())
        .output();
}

#[test]
fn after_any_changes_in_a_row_the_kernel_holds_what_the_database_says() {
    in_namespace(|| async {
        let seed = variable("L2GW_FUZZ_SEED").unwrap_or_else(|| fastrand::u64(..));
        let changes = variable("L2GW_CHANGES").unwrap_or(CHANGES);
        println!("{changes} changes from L2GW_FUZZ_SEED={seed}");
        let mut rng = Rng::with_seed(seed);
        let mut wanted = picture();
        let (_switch, controller) = forwarding("--look-every 1", &wanted).await;
        let (mut done, mut since_pause) = (0, 0);
        while done < changes {
            let count = rng.usize(1..=AT_ONCE);
            for _ in 0..count {
                change(&mut rng, &mut wanted);
            }
            write(&controller, &wanted).await;
            done += count;
            since_pause += count;
            if rng.u32(..20) == 0 {
                tokio::task::block_in_place(|| meddle(&mut rng));
            }
            if since_pause >= rng.usize(1..=UNTIL_PAUSE) {
                since_pause = 0;
                forwards(&wanted).await;
            }
        }
        forwards(&wanted).await;
    });
}
