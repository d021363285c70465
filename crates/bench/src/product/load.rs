//! Many at once: clients that create side by side, bulks, long lists; on either engine.

use std::time::Instant;

use anyhow::{Context, Result, anyhow};
use tempfile::TempDir;
use testkit::postgres::Postgres;

use super::server::Server;
use crate::Plan;
use crate::floor::postgres::bulk_copy;
use crate::measurement::{Budget, Measurement, Samples, Statistic, Unit};
use crate::report::Section;

/// Clients that create side by side, each on a connection of its own.
const CLIENTS: usize = 64;
const CREATES_PER_SECOND: f64 = 3_000.0;
/// For a bulk into PostgreSQL.
const POST_WITHIN: f64 = 2.0;
/// For a bulk into SQLite, the same as without an audit log.
const AUDITED_WITHIN: f64 = 1.5;
const GATEWAYS: usize = 10_000;
const GATEWAYS_WITHIN: f64 = 0.05;

pub(crate) fn measure(plan: &Plan) -> Section {
    Section {
        title: "Many at once, and PostgreSQL",
        how: "`l2gw server` on a loopback port without a switch; PostgreSQL of Debian on the same machine, by its Unix \
              socket, with fsync. Concurrent creates: 64 clients, each on a connection of its own that is kept alive, \
              post remote gateways one by one, every answer durable; the clients share the two cores with the server. \
              POST into PostgreSQL: one request as above; its floor: the rows the product has just stored, copied by \
              psql's \\copy into a table with the same indexes. Audit log: a file on the disk of temporary files; its floor \
              is the same without one, turn about. Gateways: a list of 10,000 with a device each.",
        outcome: measure_all(plan),
    }
}

fn measure_all(plan: &Plan) -> Result<Vec<Measurement>> {
    let mut measurements = Vec::new();
    let server = Server::start(&plan.binary, &[])?;
    measurements.push(server.explain(creates("SQLite", &server, plan))?);
    let cluster = Postgres::start()?;
    let server = Server::start_on(&plan.binary, &cluster.create_database()?, &[])?;
    measurements.push(server.explain(creates("PostgreSQL", &server, plan))?);
    drop(server);
    measurements.push(bulk(&cluster, plan)?);
    measurements.extend(audited(plan)?);
    measurements.push(gateways(plan)?);
    Ok(measurements)
}

fn creates(engine: &str, server: &Server, plan: &Plan) -> Result<Measurement> {
    let each = plan.samples();
    let mut rates = Samples::default();
    for _ in 0..3 {
        let clients: Vec<_> = (0..CLIENTS).map(|_| server.api()).collect::<Result<_>>()?;
        let begun = Instant::now();
        std::thread::scope(|scope| {
            let threads: Vec<_> = clients
                .into_iter()
                .map(|mut api| {
                    scope.spawn(move || -> Result<()> {
                        for n in 0..each {
                            api.create_remote_gateway(&format!("203.0.113.{}", n % 250 + 1))?;
                        }
                        Ok(())
                    })
                })
                .collect();
            threads
                .into_iter()
                .try_for_each(|thread| thread.join().map_err(|_| anyhow!("a client panicked"))?)
        })?;
        rates.push((CLIENTS * each) as f64 / begun.elapsed().as_secs_f64());
    }
    let what = format!("creates by {CLIENTS} clients side by side, {engine}");
    Ok(Measurement::new(what, Unit::Rate, rates)
        .budget(Budget::AtLeast(CREATES_PER_SECOND), Statistic::Median))
}

fn bulk(cluster: &Postgres, plan: &Plan) -> Result<Measurement> {
    let (size, times) = plan.largest();
    let (mut post, mut floor) = (Samples::default(), Samples::default());
    for _ in 0..times {
        let url = cluster.create_database()?;
        let (_, database) = url.rsplit_once('/').context("a URL names a database")?;
        let server = Server::start_on(&plan.binary, &url, &["--allow-unknown-devices"])?;
        let mut api = server.api()?;
        let connection = server.explain(api.stretch_network("bench"))?;
        let call = server.explain(api.post_macs(&connection, 0..size))?;
        post.push_time(call.took());
        floor.push_time(bulk_copy(cluster, database, server.directory())?);
    }
    let post = Measurement::time(format!("POST of {size} MACs into PostgreSQL"), post)
        .above("psql's copy", floor);
    Ok(post.budget(Budget::AtMost(POST_WITHIN), Statistic::Median))
}

/// What the audit log costs: a second file that is synced before each answer.
fn audited(plan: &Plan) -> Result<Vec<Measurement>> {
    let directory = TempDir::new()?;
    let log = directory.path().join("audit.log");
    let log = log.to_str().context("a path that is text")?;
    let server = Server::start(&plan.binary, &["--audit-log", log])?;
    let creates = server.explain(creates("SQLite, audit log", &server, plan))?;
    drop(server);
    let (size, times) = plan.largest();
    let (mut with, mut without) = (Samples::default(), Samples::default());
    let (mut deleted, mut deleted_without) = (Samples::default(), Samples::default());
    for _ in 0..times {
        for (options, posts, deletions) in [
            (
                &["--allow-unknown-devices"][..],
                &mut without,
                &mut deleted_without,
            ),
            (
                &["--allow-unknown-devices", "--audit-log", log],
                &mut with,
                &mut deleted,
            ),
        ] {
            let server = Server::start(&plan.binary, options)?;
            let mut api = server.api()?;
            let connection = server.explain(api.stretch_network("bench"))?;
            let post = server.explain(api.post_macs(&connection, 0..size))?;
            posts.push_time(post.took());
            let deletion = server.explain(api.delete_connection(&connection))?;
            deletions.push_time(deletion.took());
        }
    }
    let post = format!("POST of {size} MACs with an audit log");
    let delete = format!("DELETE of a connection with {size} MACs with an audit log");
    Ok(vec![
        creates,
        Measurement::time(post, with)
            .above("without one", without)
            .budget(Budget::AtMost(AUDITED_WITHIN), Statistic::Median),
        Measurement::time(delete, deleted).above("without one", deleted_without),
    ])
}

fn gateways(plan: &Plan) -> Result<Measurement> {
    let server = Server::start(&plan.binary, &["--allow-unknown-devices"])?;
    let mut api = server.api()?;
    server.explain(api.create_gateways("bench", GATEWAYS))?;
    let mut samples = Samples::default();
    for _ in 0..plan.samples() {
        samples.push_time(server.explain(api.list_gateways(GATEWAYS))?.took());
    }
    let list = Measurement::time(format!("list of {GATEWAYS} gateways"), samples);
    Ok(list.budget(Budget::AtMost(GATEWAYS_WITHIN), Statistic::Median))
}
