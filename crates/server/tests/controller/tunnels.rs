//! Tunnels are watched by BFD where that is asked for, and told to be down when BFD says so.

use std::time::{Duration, Instant};

use model::resource::Kind;
use model::row::Value;
use model::status::Status;

use crate::bench::{Bench, Stretch};

const CONNECTION: Kind = Kind::L2RemoteGatewayConnection;

/// Has the switch show a tunnel to the remote gateway, as one does that has made it; the row's UUID.
fn make_tunnel(bench: &Bench) -> String {
    let find = "--bare --columns=_uuid find Physical_Locator dst_ip=203.0.113.2";
    let remote = ctl(bench, find);
    ctl(
        bench,
        &format!(
            "--id=@here create Physical_Locator dst_ip=192.0.2.9 encapsulation_type=vxlan_over_ipv4 -- \
             --id=@tunnel create Tunnel local=@here remote={remote} -- \
             set Physical_Switch tor tunnels=@tunnel"
        ),
    );
    let tunnels = ctl(bench, "get Physical_Switch tor tunnels");
    tunnels.trim_matches(['[', ']']).to_owned()
}

fn ctl(bench: &Bench, line: &str) -> String {
    bench.vtep_ctl(&line.split_whitespace().collect::<Vec<_>>())
}

async fn until_enabled(bench: &Bench, tunnel: &str, enabled: &str) {
    let begun = Instant::now();
    let expected = format!("{{enable=\"{enabled}\"}}");
    loop {
        let params = ctl(bench, &format!("get Tunnel {tunnel} bfd_params"));
        if params == expected {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{params}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_tunnel_takes_down_what_rides_on_it_until_it_is_back() {
    let bench = Bench::new().await;
    let mut stretch = Stretch::new("p1", 123);
    stretch.remote_gateway.set("bfd", Value::Bool(true));
    bench.insert(stretch.rows()).await;
    let id = stretch.connection.id();
    bench.until_status(CONNECTION, id, Status::Active).await;
    let tunnel = make_tunnel(&bench);
    until_enabled(&bench, &tunnel, "true").await;

    let seen = |state: &str| {
        ctl(
            &bench,
            &format!("set Tunnel {tunnel} bfd_status:state={state}"),
        )
    };
    seen("down");
    let report = bench.until_status(CONNECTION, id, Status::Down).await;
    let reason = "switch tor: tunnel to 203.0.113.2 is down";
    assert_eq!(report.reason.as_deref(), Some(reason));
    let mac = bench.report(Kind::L2RemoteMac, stretch.mac.id()).await;
    assert_eq!(mac, report);
    seen("up");
    bench.until_status(CONNECTION, id, Status::Active).await;

    // Whoever does not want to know any more is not told any more.
    seen("down");
    bench.until_status(CONNECTION, id, Status::Down).await;
    stretch.remote_gateway.set("bfd", Value::Bool(false));
    bench.update(stretch.remote_gateway.clone()).await;
    until_enabled(&bench, &tunnel, "false").await;
    bench.until_status(CONNECTION, id, Status::Active).await;
}
