//! Looking at a few stations alone, against a real kernel: only when all else is known to be right.

use std::sync::atomic::AtomicBool;

use model::switch::SwitchState;
use vtep::kernel::apply::Pace;
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

/// Somebody always waits.
struct Beset;

impl Pace for Beset {
    fn is_over(&self) -> bool {
        false
    }

    fn somebody_waits(&self) -> bool {
        true
    }
}

#[test]
fn deletions_that_gave_way_go_on_behind_the_next_station_and_nothing_else_is_looked_at() {
    let (mut switch, _, mut kernel) = at_rest();
    let names = ["net-w", "net-x", "net-y", "net-z"];
    for (vni, network) in (800..).zip(names) {
        add(&mut switch, network, vni);
        flood(&mut switch, network, inside("10.0.0.11"));
    }
    let wanted = Wanted::new(&switch, &config());
    let never = AtomicBool::new(false);
    let report = kernel.converge(&wanted.desired().state, &never).unwrap();
    assert!(report.failures.is_empty(), "{:?}", report.failures);
    settle(&mut kernel);

    for network in names {
        switch.logical_switches.remove(&name(network));
    }
    let mut wanted = Wanted::new(&switch, &config());
    let mut left = 0;
    for _ in 0..2 {
        let report = kernel.converge(&wanted.desired().state, &Beset).unwrap();
        assert!(report.is_unfinished(), "{}", report.plan);
        left = report.left_out;
        settle(&mut kernel);
    }
    // What it told was of our own doing.
    let report = kernel.converge(&wanted.desired().state, &Beset).unwrap();
    assert!(report.left_out < left, "{}", report.plan);
    left = report.left_out;

    // Another station is wanted, too, but only of the second one we tell.
    one_more(&mut switch, &mut wanted, 8);
    let scope = one_more(&mut switch, &mut wanted, 9);
    let mut scope = Some(scope);
    while left > 0 {
        let (scope, of_station) = scope.take().map_or((Scope::default(), 0), |s| (s, 2));
        let state = &wanted.desired().state;
        let report = kernel.converge_within(state, &scope, &Beset).unwrap();
        assert!(report.failures.is_empty(), "{:?}", report.failures);
        let steps = report.plan.steps.len();
        assert_eq!(steps, left + of_station, "{}", report.plan);
        assert!(report.left_out < left, "{}", report.plan);
        left = report.left_out;
    }
    for network in names {
        let bridge = InterfaceName::bridge(&name(network));
        assert!(!kernel.has_interface(bridge).unwrap(), "{network} is left");
    }
    kernel.distrust();
    let report = converge(&mut kernel, &wanted, &Scope::default(), false);
    assert_eq!(report.plan.steps.len(), 2, "{}", report.plan);
    assert_same(&seen(), &wanted.desired().state);
}
