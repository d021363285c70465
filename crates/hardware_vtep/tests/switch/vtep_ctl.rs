//! Beside vtep-ctl(8), the tool of administrators and of other implementations' documentation.

use std::process::Command;

use crate::fixture::{Switch, locator, mac, name, network, networks, port_vlan, via};

/// Runs commands of vtep-ctl, one after the other, and returns what they print.
fn vtep_ctl(switch: &Switch, commands: &[&str]) -> String {
    let mut printed = String::new();
    for command in commands {
        let output = Command::new("vtep-ctl")
            .arg(format!("--db={}", switch.server.unix_target()))
            .args(command.split(' '))
            .output()
            .unwrap();
        assert!(output.status.success(), "{command}: {output:?}");
        printed.push_str(&String::from_utf8(output.stdout).unwrap());
    }
    printed
}

#[tokio::test]
async fn vtep_ctl_lists_what_we_write() {
    let switch = Switch::start().await;
    switch.publish("sw", &["eth1"]).await;
    let (near, far) = (locator(1, None), locator(2, None));
    let mut desired = networks([("net", network(5, [near, far], [(mac(1), via(far))]))]);
    desired
        .bindings
        .insert(port_vlan("sw", "eth1", 100), name("net"));
    switch.reach(&desired).await;
    let printed = vtep_ctl(
        &switch,
        &["list-ls", "list-bindings sw eth1", "list-remote-macs net"],
    );
    let lines: Vec<&str> = printed
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    assert_eq!(
        lines,
        [
            "net",
            "0100 net",
            "ucast-mac-remote",
            "02:00:00:00:00:01 -> vxlan_over_ipv4/192.0.2.2",
            "mcast-mac-remote",
            "unknown-dst -> vxlan_over_ipv4/192.0.2.1",
            "unknown-dst -> vxlan_over_ipv4/192.0.2.2",
        ]
    );
}

#[tokio::test]
async fn we_see_what_vtep_ctl_writes() {
    let switch = Switch::start().await;
    vtep_ctl(
        &switch,
        &[
            "add-ps sw",
            "add-port sw eth1",
            "add-ls net",
            "set Logical_Switch net tunnel_key=5",
            "bind-ls sw eth1 100 net",
            "add-ucast-remote net 02:00:00:00:00:01 192.0.2.2",
            "add-mcast-remote net unknown-dst 192.0.2.1",
            "add-mcast-remote net unknown-dst 192.0.2.2",
        ],
    );
    let (near, far) = (locator(1, None), locator(2, None));
    let mut theirs = network(5, [near, far], [(mac(1), via(far))]);
    theirs.owned = false;
    let mut expected = networks([("net", theirs)]);
    let bound = port_vlan("sw", "eth1", 100);
    expected.ports.insert(bound.port.clone());
    expected.bindings.insert(bound, name("net"));
    let mut wakeups = switch.replica.wakeups();
    while switch.state() != expected {
        let wait = std::time::Duration::from_secs(10);
        let woken = tokio::time::timeout(wait, wakeups.changed()).await;
        assert!(woken.is_ok(), "{:#?}", switch.state());
    }
}
