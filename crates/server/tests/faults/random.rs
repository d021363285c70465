//! Random requests and random misfortunes, in random order.

use proptest::collection::vec;
use proptest::test_runner::{Config, TestRunner};

use crate::act::{Act, act};
use crate::world::World;

/// How many days there are, unless the environment says otherwise.
const DAYS: u32 = 10;
const ENVIRONMENT: &str = "L2GW_BAD_DAYS";

/// What most acts need to have any effect.
fn morning() -> Vec<Act> {
    vec![
        Act::CreateNetwork,
        Act::CreateNetwork,
        Act::CreateGateway { ports: 1 },
        Act::CreateGateway { ports: 6 },
        Act::CreateRemote { host: 1 },
        Act::CreatePort {
            network: 0,
            host: 1,
        },
        Act::Attach {
            gateway: 0,
            network: 0,
            vlan: 0,
        },
        Act::Connect {
            attachment: 0,
            remote: 0,
            key: 1000,
            flood: true,
        },
    ]
}

#[test]
fn whatever_is_asked_and_whatever_befalls_us_the_switch_ends_up_right() {
    let days = std::env::var(ENVIRONMENT).map_or(DAYS, |days| days.parse().unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let config = Config {
        cases: days,
        max_shrink_iters: 60,
        failure_persistence: None,
        ..Config::default()
    };
    TestRunner::new(config)
        .run(&vec(act(), 5..40), |acts| {
            runtime.block_on(async {
                let mut world = World::new().await;
                for act in morning().iter().chain(&acts) {
                    world.happen(act).await;
                }
                world.recover().await;
            });
            Ok(())
        })
        .unwrap();
}
