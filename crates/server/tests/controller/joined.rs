//! A network whose key a logical switch of another controller has: the two would be one, so it waits.

use model::plan::Blocked;
use model::resource::Kind;
use model::status::Status;
use model::value::Vni;

use crate::bench::{Bench, Stretch};

const CONNECTION: Kind = Kind::L2RemoteGatewayConnection;

fn lines(bench: &Bench, lines: &str) {
    bench.vtep_ctl(&lines.split(' ').collect::<Vec<_>>());
}

/// Whether these words say whose logical switch is in the way, and by what.
fn names_theirs(reason: &str) -> bool {
    reason.starts_with("switch tor: logical switch theirs of another controller has VNI 123 too")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_is_not_put_beside_another_one_of_its_key_and_comes_when_that_is_gone() {
    let bench = Bench::new().await;
    lines(
        &bench,
        "add-ls theirs -- set Logical_Switch theirs tunnel_key=123 -- bind-ls tor p2 9 theirs",
    );
    bench
        .until_held(|held| held.logical_switches.len() == 1)
        .await;
    let before = bench.held(|held| held.logical_switches.clone());
    let stretch = Stretch::new("p1", 123);
    let other = Stretch::new("p2", 124);
    bench.insert(stretch.rows()).await;
    bench.insert(other.rows()).await;
    for (kind, id) in [
        (CONNECTION, stretch.connection.id()),
        (Kind::L2RemoteGateway, stretch.remote_gateway.id()),
        (Kind::L2RemoteMac, stretch.mac.id()),
    ] {
        bench.until_reason(kind, id, names_theirs).await;
        assert_eq!(bench.report(kind, id).await.status, Status::Error);
    }
    // The others don't wait.
    let id = other.connection.id();
    bench.until_status(CONNECTION, id, Status::Active).await;
    bench.until_settled().await;
    bench.held(|held| {
        assert!(!held.logical_switches.contains_key(&stretch.name()));
        for (name, network) in &before {
            assert_eq!(held.logical_switches.get(name), Some(network));
        }
    });
    let blocked = bench.account().compare().unwrap().plan.blocked;
    let in_the_way = Blocked::Network {
        logical_switch: stretch.name(),
        tunnel_key: Vni::new(123).unwrap(),
        theirs: model::switch::LogicalSwitchName::new("theirs"),
    };
    assert_eq!(blocked, [in_the_way]);

    lines(&bench, "unbind-ls tor p2 9 -- del-ls theirs");
    let id = stretch.connection.id();
    bench.until_status(CONNECTION, id, Status::Active).await;
    assert_eq!(bench.account().compare().unwrap().plan.blocked, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_is_there_goes_on_but_gets_nothing_new_while_another_one_has_its_key() {
    let bench = Bench::new().await;
    let stretch = Stretch::new("p1", 123);
    let name = stretch.name();
    bench.insert(stretch.rows()).await;
    let id = stretch.connection.id();
    bench.until_status(CONNECTION, id, Status::Active).await;
    let before = bench.held(|held| held.logical_switches[&name].clone());

    lines(
        &bench,
        "add-ls theirs -- set Logical_Switch theirs tunnel_key=123",
    );
    bench.until_reason(CONNECTION, id, names_theirs).await;
    let mac = Stretch::mac(&stretch.connection, &stretch.attachment, 0x0c);
    bench.insert(vec![mac.clone()]).await;
    bench
        .until_reason(Kind::L2RemoteMac, mac.id(), names_theirs)
        .await;
    // What is there and deleted goes all the same.
    bench.held(|held| assert_eq!(held.logical_switches[&name], before));
    bench.delete(Kind::L2RemoteMac, stretch.mac.id()).await;
    bench
        .until_held(|held| held.logical_switches[&name].macs.is_empty())
        .await;

    // Another key is as good as deletion.
    lines(&bench, "set Logical_Switch theirs tunnel_key=9");
    bench
        .until_status(Kind::L2RemoteMac, mac.id(), Status::Active)
        .await;
    bench.until_status(CONNECTION, id, Status::Active).await;
}
