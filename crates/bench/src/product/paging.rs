//! Pages of a list that is long: a million remote MACs, on either engine.
//!
//! What has an index is turned over page by page: from the beginning, and from behind a row in the middle of the order,
//! forwards and backwards. What is looked for is found.

use anyhow::Result;
use testkit::postgres::Postgres;

use super::server::Server;
use crate::Plan;
use crate::measurement::{Budget, Measurement, Samples, Statistic};
use crate::report::Section;
use crate::stations::Station;

/// For each of the pages.
const PAGE_WITHIN: f64 = 0.02;
/// How many MACs a page has.
const PAGE: usize = 1_000;
/// How many are declared with one request.
const BULK: u32 = 100_000;

pub(crate) fn measure(plan: &Plan) -> Section {
    Section {
        title: "Pages of a long list",
        how: "`l2gw server` on a loopback port with a million remote MACs of one connection and one project, without a \
              switch. One request for a page of 1,000 on a connection that is kept alive, until its last byte is read; \
              the page is checked to be whole. Each row of the table is of three pages: the first one, the one behind a row in \
              the middle of the order, and the one before it. The attributes of remote MACs with an index are id, mac, ipaddr, rgw_connection and \
              tenant_id; in every other order and filter the database looks at all rows.",
        outcome: measure_all(plan),
    }
}

fn measure_all(plan: &Plan) -> Result<Vec<Measurement>> {
    let mut measurements = Vec::new();
    let bulks = if plan.quick { 1 } else { 10 };
    let server = Server::start(&plan.binary, &["--allow-unknown-devices"])?;
    pages("SQLite", &server, bulks, plan, &mut measurements)?;
    drop(server);
    let cluster = Postgres::start()?;
    let database = cluster.create_database()?;
    let server = Server::start_on(&plan.binary, &database, &["--allow-unknown-devices"])?;
    pages("PostgreSQL", &server, bulks, plan, &mut measurements)?;
    Ok(measurements)
}

fn pages(
    engine: &str,
    server: &Server,
    bulks: u32,
    plan: &Plan,
    measurements: &mut Vec<Measurement>,
) -> Result<()> {
    let mut api = server.api()?;
    let connection = server.explain(api.stretch_network("bench"))?;
    for bulk in 0..bulks {
        server.explain(api.post_macs(&connection, bulk * BULK..(bulk + 1) * BULK))?;
    }
    let count = bulks * BULK;
    let middle = Station::nth(count / 2);
    let itself = format!("mac={}", middle.mac_text());
    let marker = api.find_mac(&itself, "id")?;
    let project = api.find_mac(&itself, "tenant_id")?;
    let places = [
        String::new(),
        format!("&marker={marker}"),
        format!("&marker={marker}&page_reverse=True"),
    ];
    let mut time = |what: String, query: String, rows: usize, places: &[String]| -> Result<()> {
        let mut samples = Samples::default();
        for place in places {
            let path = format!("?limit={PAGE}{query}{place}");
            for _ in 0..plan.samples() {
                samples.push_time(server.explain(api.page_of_macs(&path, rows))?.took());
            }
        }
        measurements.push(
            Measurement::time(format!("{engine}, {count} MACs, {what}"), samples)
                .budget(Budget::AtMost(PAGE_WITHIN), Statistic::P99),
        );
        Ok(())
    };
    time("as inserted".to_owned(), String::new(), PAGE, &places)?;
    for key in ["id", "mac", "ipaddr", "rgw_connection", "tenant_id"] {
        for direction in ["asc", "desc"] {
            let order = format!("&sort_key={key}&sort_dir={direction}");
            time(format!("by {key} {direction}"), order, PAGE, &places)?;
        }
    }
    for (key, value) in [("rgw_connection", &connection), ("tenant_id", &project)] {
        let filter = format!("&{key}={value}");
        time(format!("all of one {key}"), filter, PAGE, &places)?;
    }
    for (key, value) in [
        ("id", marker),
        ("mac", middle.mac_text()),
        ("ipaddr", middle.ip.to_string()),
    ] {
        let filter = format!("&{key}={value}");
        time(
            format!("the one of this {key}"),
            filter,
            1,
            &[String::new()],
        )?;
    }
    Ok(())
}
