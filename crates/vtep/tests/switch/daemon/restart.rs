//! Parts that die and come back: forwarding goes on.

use std::time::Duration;

use super::*;

#[test]
fn a_restart_changes_nothing_in_the_kernel() {
    in_namespace(|| async {
        let (mut switch, controller) = forwarding("", &picture()).await;
        switch.kill().await;
        let server = switch.server();
        assert!(server.is_some(), "the database must outlive the daemon");

        let mut watcher = open();
        settle(&mut watcher);
        assert_same(watcher.observe().unwrap(), &wanted(&picture()));
        switch.start("");
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(
            !watcher.is_stale().unwrap(),
            "the restart wrote to the kernel"
        );
        assert_eq!(switch.server(), server);

        // And it is at work again.
        let mut less = picture();
        less.logical_switches
            .values_mut()
            .for_each(|l| l.macs.clear());
        write(&controller, &less).await;
        forwards(&less).await;
    });
}

#[test]
fn a_database_server_that_dies_is_started_again_and_forwarding_goes_on() {
    in_namespace(|| async {
        let (switch, _controller) = forwarding("", &picture()).await;
        let first = switch.server().unwrap();
        let mut watcher = open();
        settle(&mut watcher);
        run("kill", &format!("-KILL {first}"));
        for _ in 0..400 {
            if switch.server().is_some_and(|server| server != first) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        assert_ne!(switch.server().as_ref(), Some(&first));
        let mut less = picture();
        less.logical_switches
            .values_mut()
            .for_each(|l| l.macs.clear());
        assert!(!watcher.is_stale().unwrap(), "the kernel was touched");
        let controller = switch.controller();
        write(&controller, &less).await;
        forwards(&less).await;
    });
}

#[test]
fn a_lost_database_does_not_stop_forwarding() {
    in_namespace(|| async {
        let mut lost = Switch::new();
        lost.start("");
        write(&lost.controller(), &picture()).await;
        forwards(&picture()).await;
        lost.kill().await;

        let mut switch = Switch::new();
        switch.start("");
        let controller = switch.controller();
        until(&controller, "the switch", |held| held.switch_names().next()).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_same(&seen(), &wanted(&picture()));

        // The first network a controller asks for ends that.
        let mut other = SwitchState::default();
        add(&mut other, "net-z", 999);
        write(&controller, &other).await;
        forwards(&other).await;
        // Then silence is an order.
        write(&controller, &SwitchState::default()).await;
        forwards(&SwitchState::default()).await;
    });
}
