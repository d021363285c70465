//! A look at everything beside the passes, against a real kernel.

use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use model::switch::SwitchState;
use vtep::kernel::Kernel;
use vtep::kernel::name::InterfaceName;

use crate::support::*;

fn converge(kernel: &mut Kernel, switch: &SwitchState) -> usize {
    let never = AtomicBool::new(false);
    let report = kernel.converge(&wanted(switch), &never).unwrap();
    assert!(report.failures.is_empty(), "{:?}", report.failures);
    report.plan.steps.len()
}

/// A kernel that has what is wanted, and has told of it.
fn at_rest(switch: &SwitchState) -> Kernel {
    namespace();
    let mut kernel = open();
    converge(&mut kernel, switch);
    settle(&mut kernel);
    assert_eq!(converge(&mut kernel, switch), 0);
    kernel
}

/// What the kernel tells is lost, until it has told nothing for a while: of a carrier that goes it tells later, on a busy machine
/// much later.
fn hear_nothing(kernel: &Kernel) {
    let mut buffer = Vec::with_capacity(1 << 16);
    let mut news = Instant::now();
    while news.elapsed() < Duration::from_millis(300) {
        std::thread::sleep(Duration::from_millis(20));
        for socket in kernel.notifications() {
            while socket.recv(&mut buffer, 0).is_ok() {
                buffer.clear();
                news = Instant::now();
            }
        }
    }
}

#[test]
fn what_nobody_told_of_is_found_and_put_right() {
    let switch = picture();
    let mut kernel = at_rest(&switch);
    let bridge = InterfaceName::bridge(&name("net-a"));
    let (inside, wan) = (InterfaceName::inside(&name("net-a")), "02:00:00:00:00:02");
    let changes = [
        ("ip", format!("link set {inside} mtu 1400")),
        ("ip", format!("link set {bridge} down")),
        ("ip", format!("link del {inside}")),
        ("ip", format!("neigh del 172.16.0.2 dev {bridge}")),
        ("bridge", format!("link set dev {inside} isolated on")),
        (
            "bridge",
            format!("fdb del {wan} dev {} master", device(456)),
        ),
        ("bridge", format!("fdb del {wan} dev {} self", device(456))),
        (
            "bridge",
            format!(
                "fdb append 00:00:00:00:00:00 dev {} dst 192.0.2.77",
                device(456)
            ),
        ),
        ("nft", "delete table inet l2gw".to_owned()),
    ];
    for (program, change) in changes {
        run(program, &change);
        hear_nothing(&kernel);
        assert!(!kernel.is_stale().unwrap(), "{change}: heard of");
        let mut survey = kernel.surveyor().look().unwrap();
        kernel.compare(&mut survey);
        assert!(kernel.is_stale().unwrap(), "{change}: not found");
        assert!(converge(&mut kernel, &switch) > 0, "{change}");
        assert_same(&seen(), &wanted(&switch));
        settle(&mut kernel);
        converge(&mut kernel, &switch);
    }
}

#[test]
fn what_we_change_during_a_survey_is_no_finding() {
    let mut switch = picture();
    flood(&mut switch, "net-a", wan("192.0.2.3", 456));
    let mut kernel = at_rest(&switch);
    let surveyor = kernel.surveyor();
    let mut survey = surveyor.look().unwrap();
    // It was seen as it was before all that.
    let far_end = wan("192.0.2.2", 456);
    for last in 10..20 {
        let ip = format!("172.16.0.{last}");
        station(&mut switch, "net-a", mac(last), far_end, Some(&ip));
    }
    let network = switch.logical_switches.get_mut(&name("net-a")).unwrap();
    network.macs.remove(&mac(2));
    network.flood.remove(&far_end);
    assert!(converge(&mut kernel, &switch) > 0);
    settle(&mut kernel);
    kernel.compare(&mut survey);
    assert!(!kernel.is_stale().unwrap());

    // And with nothing else under way it finds nothing.
    let mut survey = kernel.surveyor().look().unwrap();
    kernel.compare(&mut survey);
    assert!(!kernel.is_stale().unwrap());
}

/// The device of the network towards the WAN with this key.
fn device(key: u32) -> InterfaceName {
    let key = model::value::Vni::new(key).unwrap();
    InterfaceName::wan(&name("net-a"), key)
}
