//! Remote MACs in bulk through the API alone: no switch is attached, the database is all there is.

use anyhow::Result;

use super::api::timed_list;
use super::server::Server;
use crate::Plan;
use crate::floor::sqlite::{Bare, Table};
use crate::http::Client;
use crate::measurement::{Budget, Measurement, Samples, Statistic};
use crate::memory::{Memory, forget_peak};
use crate::report::Section;

/// For the largest list.
const POST_WITHIN: f64 = 1.5;
const LIST_WITHIN: f64 = 0.3;
const MEMORY: f64 = 150e6;
/// Growth that is no growth: a buffer here, a connection there.
const LIST_GROWS_BY: f64 = 4e6;
/// What the budgets are for.
const BUDGETED: u32 = 100_000;

pub(crate) fn measure(plan: &Plan) -> Section {
    Section {
        title: "Bulk remote MACs through the API",
        how: "`l2gw server` on a loopback port, database on disk, no switch attached, a new database for every run. \
              POST: one request, from its first byte to the last of the answer, which lists what was created. \
              Its floor: the rows the product has just stored, inserted by bare SQLite (one prepared statement, one \
              transaction, WAL, synchronous=FULL) into a copy of the table with the same indexes. \
              List: a raw reader on loopback; its floor: bare SQLite select, JSON written by hand, to the same reader. \
              Growth: VmHWM during the list less VmRSS before it.",
        outcome: measure_all(plan),
    }
}

#[derive(Default)]
struct Runs {
    post: Samples,
    post_floor: Samples,
    list: Samples,
    list_floor: Samples,
    growth: Samples,
    peak: Samples,
    resident: Samples,
}

fn measure_all(plan: &Plan) -> Result<Vec<Measurement>> {
    let (mut posts, mut lists, mut memory) = (Vec::new(), Vec::new(), Vec::new());
    for &(size, times) in plan.sizes() {
        let mut runs = Runs::default();
        for _ in 0..times {
            run(plan, size, &mut runs)?;
        }
        let budget = |measurement: Measurement, within, judged| match size {
            BUDGETED => measurement.budget(Budget::AtMost(within), judged),
            _ => measurement,
        };
        let post = Measurement::time(format!("POST of {size} MACs"), runs.post)
            .above("bare SQLite", runs.post_floor);
        posts.push(budget(post, POST_WITHIN, Statistic::Median));
        let list = Measurement::time(format!("list of {size} MACs"), runs.list)
            .above("bare SQLite and JSON", runs.list_floor);
        lists.push(budget(list, LIST_WITHIN, Statistic::Median));
        let growth = format!("growth of memory by a list of {size}");
        memory.push(
            Measurement::memory(growth, runs.growth)
                .budget(Budget::AtMost(LIST_GROWS_BY), Statistic::Max),
        );
        let resident = format!("server's memory with {size} MACs (RSS)");
        let resident = Measurement::memory(resident, runs.resident);
        memory.push(budget(resident, MEMORY, Statistic::Max));
        memory.push(Measurement::memory(
            format!("its peak, POST of {size} MACs included"),
            runs.peak,
        ));
    }
    posts.append(&mut lists);
    posts.append(&mut memory);
    Ok(posts)
}

fn run(plan: &Plan, size: u32, runs: &mut Runs) -> Result<()> {
    let count = usize::try_from(size)?;
    let server = Server::start(&plan.binary, &["--allow-unknown-devices"])?;
    let mut api = server.api()?;
    let connection = server.explain(api.stretch_network("bench"))?;
    let post = server.explain(api.post_macs(&connection, 0..size))?;
    runs.post.push_time(post.took());
    runs.peak.push(Memory::of(server.pid()?)?.peak);

    let table = Table::read(&server.database())?;
    anyhow::ensure!(table.len() == count, "{} rows in the database", table.len());
    let mut bare = Bare::create(&server.directory().join("bare.sqlite"), &table)?;
    runs.post_floor.push_time(bare.insert(&table)?);

    forget_peak(server.pid()?)?;
    let before = Memory::of(server.pid()?)?;
    let list = server.explain(api.list_macs(count))?;
    let after = Memory::of(server.pid()?)?;
    runs.list.push_time(list.took());
    runs.growth.push((after.peak - before.resident).max(0.0));
    runs.resident.push(after.resident);

    let (address, floor) = bare.serve()?;
    let mut client = Client::over(std::net::TcpStream::connect(address)?)?;
    runs.list_floor
        .push_time(timed_list(&mut client, "/", count)?.took());
    match floor.join() {
        Ok(served) => served,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}
