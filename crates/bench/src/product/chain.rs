//! The whole chain on one border gateway in a network namespace: API, database, ovsdb-server, `l2gw vtep`, kernel.

mod gateway;

use anyhow::Result;

use crate::Plan;
use crate::floor;
use crate::measurement::{Budget, Measurement, Samples, Statistic, Unit};
use crate::report::Section;

/// Budgets, in seconds and bytes.
const ALL_WITHIN: Budget = Budget::AtMost(6.0);
const ONE_WITHIN: Budget = Budget::AtMost(0.05);
const KERNEL_WITHIN: Budget = Budget::TimesFloor(2.0);
const NO_WRITES: Budget = Budget::AtMost(0.0);
const SERVER_IDLE: Budget = Budget::AtMost(25e6);
const SERVER_FULL: Budget = Budget::AtMost(150e6);

pub(crate) fn measure(plan: &Plan) -> Section {
    Section {
        title: "From the API into the kernel",
        how: "`l2gw server` and `l2gw vtep` in the network namespace of a border gateway, everything real. One POST; a \
              monitor of the ovsdb-server and a listener to the kernel's own notifications say when the last MAC is \
              there: for the kernel, when each has its entry in the VXLAN device's forwarding database, in the \
              bridge's, and its neighbour entry. Then all are read back and counted. Cold start: all rows are in \
              ovsdb-server, nothing is in the kernel, and `l2gw vtep` is started, so its start and the database's dump are \
              part of the time. Its floor: a dump of the same rows by a client that keeps nothing, and then the same entries by \
              raw batched netlink into a network namespace of its own, seen by the same listener. Restart: changes are \
              those that the kernel notifies, less the MAC that is declared to see it at work again. Answered: the \
              MAC is durable in the database. Memory: at rest.",
        outcome: measure_all(plan),
    }
}

fn measure_all(plan: &Plan) -> Result<Vec<Measurement>> {
    let (size, times) = plan.largest();
    let mut runs = Runs::default();
    for n in 0..times {
        // Each latency is a sample of its own; one run has enough of them.
        let singles = if n == 0 { plan.samples() } else { 0 };
        let dump = gateway::run(plan, size, singles, &mut runs)?;
        runs.dump_and_netlink
            .push_time(dump + floor::netlink::write(size)?);
    }
    Ok(runs.into_measurements(size))
}

/// The samples of all runs.
#[derive(Default)]
struct Runs {
    to_ovsdb: Samples,
    to_kernel: Samples,
    behind_ovsdb: Samples,
    active: Samples,
    one_answered: Samples,
    one_to_ovsdb: Samples,
    one_to_kernel: Samples,
    restart_changes: Samples,
    restart: Samples,
    cold_start: Samples,
    dump_and_netlink: Samples,
    delete: Samples,
    idle: Memories,
    full: Memories,
}

/// The memory of each program.
#[derive(Default)]
struct Memories {
    server: Samples,
    vtep: Samples,
    ovsdb_server: Samples,
}

impl Runs {
    fn into_measurements(self, size: u32) -> Vec<Measurement> {
        let after_post = |what: &str, samples| {
            Measurement::time(format!("{what}, after the POST was sent"), samples)
        };
        let ovsdb = after_post(&format!("{size} MACs in ovsdb-server"), self.to_ovsdb);
        let kernel = after_post(&format!("{size} MACs in the kernel"), self.to_kernel);
        let behind = format!("{size} MACs in the kernel, after ovsdb-server had all");
        let active = after_post("the API says ACTIVE", self.active);
        let one = format!("one MAC on top of {size}");
        let one_answered = after_post(&format!("{one}: answered"), self.one_answered);
        let one_ovsdb = after_post(&format!("{one} in ovsdb-server"), self.one_to_ovsdb);
        let one_kernel = after_post(&format!("{one} in the kernel"), self.one_to_kernel);
        let cold =
            format!("cold start of `l2gw vtep`: {size} MACs from ovsdb-server into the kernel");
        let restart = "restart of `l2gw vtep`, all in place";
        let changes = format!("{restart}: changes in the kernel");
        let next = format!("{restart}: until the next MAC is in the kernel");
        let delete =
            format!("DELETE of the connection with {size} MACs, until the kernel has none");
        let full = format!("with {size} MACs");
        vec![
            ovsdb,
            kernel.budget(ALL_WITHIN, Statistic::Median),
            Measurement::time(behind, self.behind_ovsdb),
            active,
            one_answered,
            one_ovsdb.budget(ONE_WITHIN, Statistic::P99),
            one_kernel.budget(ONE_WITHIN, Statistic::P99),
            Measurement::time(cold, self.cold_start)
                .above("bare dump, then raw netlink", self.dump_and_netlink)
                .budget(KERNEL_WITHIN, Statistic::Median),
            Measurement::new(changes, Unit::Count, self.restart_changes)
                .budget(NO_WRITES, Statistic::Max),
            Measurement::time(next, self.restart),
            Measurement::time(delete, self.delete),
            memory("server", "idle", self.idle.server).budget(SERVER_IDLE, Statistic::Max),
            memory("server", &full, self.full.server).budget(SERVER_FULL, Statistic::Max),
            memory("vtep", "idle", self.idle.vtep),
            memory("vtep", &full, self.full.vtep),
            memory("ovsdb-server", "idle", self.idle.ovsdb_server),
            memory("ovsdb-server", &full, self.full.ovsdb_server),
        ]
    }
}

fn memory(program: &str, when: &str, samples: Samples) -> Measurement {
    Measurement::memory(format!("memory of the {program}, {when} (RSS)"), samples)
}
