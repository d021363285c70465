//! What was answered is there, whatever happens to the process.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use model::resource::Kind;
use model::row::Value;
use model::value::MacAddress;
use store::{Query, Store};
use uuid::Uuid;

use crate::engines::{Engine, on_every_engine};
use crate::rows::{family, insert, remote_gateway, row, select};

/// Names the database to the process that is going to be killed.
const VICTIM: &str = "STORE_TEST_VICTIM";

/// Rows of one bulk.
const BULK: usize = 200;

/// Writes and tells what was acknowledged, until it is killed: small writes from several sides, and bulks.
async fn write_until_killed(url: &str) {
    let store = Store::open(url).await.unwrap();
    let query = Query::all(Kind::L2RemoteGatewayConnection);
    let parent = store.read(move |snapshot| Ok(select(snapshot, &query).remove(0)));
    let parent = parent.await.unwrap();
    for _ in 0..4 {
        let store = store.clone();
        tokio::spawn(async move {
            loop {
                let row = remote_gateway("small");
                let id = row.id();
                insert(&store, vec![row]).await;
                println!("\nsmall {id}");
            }
        });
    }
    loop {
        let bulk = Uuid::new_v4();
        let first = u64::from_be_bytes(bulk.into_bytes()[..8].try_into().unwrap());
        let rows = (0..BULK as u64).map(|number| {
            let mut mac = row(Kind::L2RemoteMac, 0, |target| match target {
                Kind::L2RemoteGatewayConnection => Value::Uuid(parent.id()),
                _ => parent.get("attachment_id").clone(),
            });
            let address = first.wrapping_add(number) & 0x00ff_ffff_ffff;
            mac.set("mac", Value::Mac(MacAddress::from_u64(address)));
            mac.set("tenant_id", Value::from(bulk.to_string().as_str()));
            mac
        });
        insert(&store, rows.collect()).await;
        println!("\nbulk {bulk}");
        std::io::stdout().flush().unwrap();
    }
}

on_every_engine! {
    a_kill_loses_nothing_that_was_acknowledged_and_leaves_nothing_half_done,
}

async fn a_kill_loses_nothing_that_was_acknowledged_and_leaves_nothing_half_done(engine: Engine) {
    if let Ok(url) = std::env::var(VICTIM) {
        write_until_killed(&url).await;
    }
    let place = engine.place();
    let url = &place.url;
    let store = Store::open(url).await.unwrap();
    insert(&store, family(Kind::L2RemoteGatewayConnection)).await;
    store.close().await;

    let module = match engine {
        Engine::Sqlite => "sqlite",
        Engine::Postgres => "postgres",
    };
    let mut acknowledged = Vec::new();
    for round in 0..10_u64 {
        let mut victim = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture"])
            .arg(format!(
                "durability::{module}::a_kill_loses_nothing_that_was_acknowledged_and_leaves_nothing_half_done"
            ))
            .env(VICTIM, url)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(victim.stdout.take().unwrap()).lines();
        let mut tell = |line: String| {
            acknowledged.extend(
                line.split_once(' ')
                    .map(|(kind, id)| (kind.to_owned(), id.to_owned())),
            )
        };
        // It is at work once it has told something, on a busy machine long before it has told of a bulk; then it lives for
        // some more milliseconds.
        let awaited = ["small ", "bulk "][round as usize % 2];
        for line in lines.by_ref().map_while(Result::ok) {
            let at_work = line.starts_with(awaited);
            tell(line);
            if at_work {
                break;
            }
        }
        let spread = u64::from(Uuid::new_v4().as_bytes()[0]) % 40;
        std::thread::sleep(Duration::from_millis(10 * round + spread));
        victim.kill().unwrap();
        victim.wait().unwrap();
        lines.map_while(Result::ok).for_each(tell);
    }

    let store = Store::open(url).await.unwrap();
    let mut smalls = 0;
    let mut bulks = 0;
    for (kind, id) in acknowledged {
        // The last line of a victim may be cut short.
        let Ok(id) = id.parse::<Uuid>() else { continue };
        match kind.as_str() {
            "small" => {
                let found = store.read(move |s| s.get(Kind::L2RemoteGateway, id)).await;
                assert!(found.unwrap().is_some(), "{id} was acknowledged");
                smalls += 1;
            }
            "bulk" => {
                let tenant = Value::from(id.to_string().as_str());
                let query = Query::all(Kind::L2RemoteMac).matching("tenant_id", tenant);
                let found = store.read(move |s| s.count(&query)).await.unwrap();
                assert_eq!(found, BULK as u64, "all of {id} was acknowledged");
                bulks += 1;
            }
            _ => {}
        }
    }
    assert!(smalls > 0 && bulks > 0, "{smalls} and {bulks} bulks");
    let all = store
        .read(|s| s.count(&Query::all(Kind::L2RemoteMac)))
        .await;
    assert_eq!(all.unwrap() % BULK as u64, 0, "no bulk is half done");
}
