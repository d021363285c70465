//! Looking at a few stations alone, against a real kernel: only when all else is known to be right.

use std::sync::atomic::AtomicBool;

use model::switch::SwitchState;
use vtep::kernel::desired::Wanted;
use vtep::kernel::name::InterfaceName;
use vtep::kernel::scope::Scope;
use vtep::kernel::{Kernel, Report};

use crate::support::*;

/// What a switch asks for, and the kernel that has it, at rest.
fn at_rest() -> (SwitchState, Wanted, Kernel) {
    namespace();
    let switch = picture();
    let wanted = Wanted::new(&switch, &config());
    let mut kernel = open();
    let never = AtomicBool::new(false);
    let report = kernel.converge(&wanted.desired().state, &never).unwrap();
    assert!(report.failures.is_empty(), "{:?}", report.failures);
    settle(&mut kernel);
    // What it found was ours, and ends the doubt.
    kernel.converge(&wanted.desired().state, &never).unwrap();
    (switch, wanted, kernel)
}

/// One more station behind a remote gateway that has some.
fn one_more(switch: &mut SwitchState, wanted: &mut Wanted, last: u32) -> Scope {
    let ip = format!("172.16.0.{last}");
    let far_end = wan("192.0.2.2", 456);
    station(switch, "net-a", mac(last), far_end, Some(&ip));
    let network = name("net-a");
    let scope = wanted.patch(switch, &config(), [(&network, mac(last))]);
    scope.expect("one more station decides nothing else")
}

fn converge(kernel: &mut Kernel, wanted: &Wanted, scope: &Scope, stop: bool) -> Report {
    let stop = AtomicBool::new(stop);
    let report = kernel.converge_within(&wanted.desired().state, scope, &stop);
    let report = report.unwrap();
    assert!(report.failures.is_empty(), "{:?}", report.failures);
    report
}

#[test]
fn one_more_station_is_one_stations_work() {
    let (mut switch, mut wanted, mut kernel) = at_rest();
    let scope = one_more(&mut switch, &mut wanted, 9);
    let report = converge(&mut kernel, &wanted, &scope, false);
    assert_eq!(report.plan.steps.len(), 2, "{}", report.plan);
    assert_same(&seen(), &wanted.desired().state);
    assert!(!kernel.is_stale().unwrap(), "our own doing is news");
    let writes = kernel.writes();
    converge(&mut kernel, &wanted, &scope, false);
    assert_eq!(kernel.writes(), writes);
}

#[test]
fn what_others_broke_is_put_right_with_the_next_station() {
    let (mut switch, mut wanted, mut kernel) = at_rest();
    let bridge = InterfaceName::bridge(&name("net-a"));
    ip(&format!("neigh del 172.16.0.2 dev {bridge}"));
    let scope = one_more(&mut switch, &mut wanted, 9);
    converge(&mut kernel, &wanted, &scope, false);
    assert_same(&seen(), &wanted.desired().state);
}

#[test]
fn what_was_not_done_is_done_with_the_next_station() {
    let (mut switch, mut wanted, mut kernel) = at_rest();
    let scope = one_more(&mut switch, &mut wanted, 8);
    let report = converge(&mut kernel, &wanted, &scope, true);
    assert_eq!(report.left_out, 2);
    let scope = one_more(&mut switch, &mut wanted, 9);
    converge(&mut kernel, &wanted, &scope, false);
    assert_same(&seen(), &wanted.desired().state);
}
