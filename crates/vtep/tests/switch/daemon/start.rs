//! What it says of itself, where it listens, and what keeps it from starting.

use std::time::Duration;

use super::*;

#[test]
fn what_a_controller_writes_is_forwarded() {
    in_namespace(|| async {
        let mut switch = Switch::new();
        switch.start("");
        let controller = switch.controller();
        let (description, ips, ports) = until(&controller, "the switch", |held| {
            let switch = held.physical_switches().remove("vtep")?;
            let ports: Vec<String> = switch.ports.keys().map(ToString::to_string).collect();
            Some((switch.description, switch.tunnel_ips, ports))
        })
        .await;
        assert_eq!(description, "l2gw software VTEP, WAN 192.0.2.1");
        assert_eq!(ips, ["10.0.0.1".to_owned()].into());
        assert_eq!(ports, ["border"]);

        write(&controller, &picture()).await;
        forwards(&picture()).await;
        let mut more = picture();
        station(
            &mut more,
            "net-a",
            mac(9),
            wan("192.0.2.2", 456),
            Some("172.16.0.9"),
        );
        write(&controller, &more).await;
        forwards(&more).await;
    });
}

#[test]
fn it_listens_where_it_is_told_also_after_a_restart() {
    in_namespace(|| async {
        let reachable = |port: u16| std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
        let mut switch = Switch::new();
        switch.start("--listen ptcp:6641:127.0.0.1");
        let controller = switch.controller();
        let is_up = |held: &hardware_vtep::Database| held.switch_names().next();
        until(&controller, "the switch", is_up).await;
        assert!(reachable(6641));
        switch.kill().await;
        switch.start("--listen ptcp:6642:127.0.0.1");
        for _ in 0..400 {
            if reachable(6642) && !reachable(6641) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("6641: {}, 6642: {}", reachable(6641), reachable(6642));
    });
}

#[test]
fn what_keeps_it_from_starting_is_said_in_a_line() {
    in_namespace(|| async {
        let mut switch = Switch::new();
        assert_eq!(
            switch.refusal("--port up=eth7").await,
            "--port up=eth7: this host has no interface eth7"
        );
        let taken = std::net::TcpListener::bind(("127.0.0.1", 6641)).unwrap();
        let told = switch.refusal("--listen ptcp:6641:127.0.0.1").await;
        assert!(
            told.starts_with("--listen ptcp:6641:127.0.0.1: Address already in use"),
            "{told}"
        );
        drop(taken);

        switch.start("");
        let controller = switch.controller();
        until(&controller, "the switch", |held| held.switch_names().next()).await;
        let told = switch.refusal("").await;
        assert!(told.ends_with("in use by a running l2gw vtep"), "{told}");
    });
}

#[test]
fn it_attaches_to_an_ovsdb_server_that_runs_already_and_leaves_it_to_its_owner() {
    in_namespace(|| async {
        let mut switch = Switch::new();
        let path = |name: &str| switch.path().join(name).display().to_string();
        let schema = "/usr/share/openvswitch/vtep.ovsschema";
        run(
            "ovsdb-tool",
            &format!("create {} {schema}", path("vtep.db")),
        );
        let theirs = format!(
            "{} --remote=punix:{} --detach --no-chdir -vconsole:off -vsyslog:off --pidfile={} --unixctl={} --log-file={}",
            path("vtep.db"),
            path("db.sock"),
            path("theirs.pid"),
            path("theirs.ctl"),
            path("theirs.log"),
        );
        run("ovsdb-server", &theirs);
        let pid = std::fs::read_to_string(path("theirs.pid")).unwrap();

        let told = switch.refusal("--listen ptcp:6641:127.0.0.1").await;
        assert!(
            told.starts_with("--listen ptcp:6641:127.0.0.1: the ovsdb-server at"),
            "{told}"
        );
        switch.start("--manager tcp:127.0.0.1:6642");
        let controller = switch.controller();
        write(&controller, &picture()).await;
        forwards(&picture()).await;
        assert_eq!(switch.server(), None, "it started one of its own");
        switch.kill().await;
        switch.down().await;
        let alive = std::path::Path::new("/proc").join(pid.trim());
        assert!(alive.exists(), "down ended somebody else's ovsdb-server");
        run("kill", &format!("-KILL {}", pid.trim()));
    });
}

#[test]
fn it_dials_the_managers_it_is_given() {
    in_namespace(|| async {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 6643)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let mut switch = Switch::new();
        switch.start("--manager tcp:127.0.0.1:6643");
        for _ in 0..800 {
            if listener.accept().is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("nobody calls");
    });
}
