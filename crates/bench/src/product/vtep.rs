//! `l2gw vtep` alone on one border gateway in a network namespace: its database is written by a controller as plain as can
//! be, so that what is measured is the way from a commit there to the kernel.

mod database;
mod gateway;

use anyhow::Result;

use crate::Plan;
use crate::floor;
use crate::floor::netlink::Form;
use crate::measurement::{Budget, Measurement, Samples, Statistic, Unit};
use crate::report::Section;

/// Budgets, in seconds, bytes and pieces.
const KERNEL_WITHIN: Budget = Budget::TimesFloor(2.0);
const ONE_WITHIN: Budget = Budget::AtMost(0.01);
const BESIDE_LOOKS_WITHIN: Budget = Budget::AtMost(0.05);
const NETWORKS_WITHIN: Budget = Budget::AtMost(3.0);
const DELETION_WITHIN: Budget = Budget::TimesFloor(1.3);
/// The floor has no database, and programs of one instruction.
const VLANS_WITHIN: Budget = Budget::TimesFloor(3.0);
const RESTART_WITHIN: Budget = Budget::AtMost(3.0);
/// Probes for loops are nearly all of it, and to put one on the port nearly all of a probe (ADR 0014).
const REST_WITHIN: Budget = Budget::TimesFloor(1.5);
const NOTHING: Budget = Budget::AtMost(0.0);
/// A sender that does not get the processor in time makes up for little of it: 1,000 are meant.
const FRAMES_SENT: Budget = Budget::AtLeast(990.0);
const IDLE: Budget = Budget::AtMost(20e6);

/// Bridges that a message of raw netlink deletes: as many as the product's do at most (ADR 0016), and as many as make it no
/// faster, whoever waits.
const BRIDGES_AT_ONCE: usize = 8;
const REGARDLESS: usize = 64;

pub(crate) fn measure(plan: &Plan) -> Section {
    Section {
        title: "From a switch's database into the kernel",
        how: "`l2gw vtep` and its ovsdb-server in the network namespace of a border gateway. A bare OVSDB client writes, \
              and notes when a transaction was committed; a listener to the kernel's own notifications says when a station \
              has its entry in the VXLAN device's forwarding database, in the bridge's, and its neighbour entry, and when a \
              device is up. In small transactions: 100 rows each, 32 under way, and the time begins with the last commit. \
              In one: the time begins with its commit, so it includes what ovsdb-server takes to tell of it, which is as much as the rest; its \
              floor is a dump of the same rows by a client that keeps nothing, and then raw netlink. While everything is looked at: \
              with --look-every 1, so that more often than not such a look is under way. Networks: \
              each has a bridge, a VXLAN device inside and one on the WAN, a host and a remote gateway that flood, and a \
              station with an address. Floors: the same entries, the same devices by raw batched netlink in a namespace of \
              its own. In one run single stations are declared in another network \
              while networks are deleted; in the others nobody waits; their floor deletes as many bridges by a message as the product does at \
              most (more would keep others waiting), and what it takes with more, in the form with a network namespace, stands beside it. With VLANs: each network has \
              one of a physical port, in the form that programs steer; until the last program is in place. In a network \
              namespace: the WAN devices' sockets. Restart: every network \
              has its part of the stations; changes are those that the kernel notifies, less the station that is \
              declared to see it at work again; meanwhile two VMs send each other numbered datagrams across the gateway, \
              evenly, and lost are those that the other one did not get. At rest: every network is probed for loops on its VLAN of a physical port, \
              and nothing else happens; the programs that the daemon runs count. Its floor: as many frames of that length, put on the same port bare.",
        outcome: measure_all(plan),
    }
}

/// How much is to be done.
#[derive(Clone, Copy, Debug)]
struct Size {
    stations: u32,
    networks: u32,
    most_networks: u32,
    singles: usize,
}

fn measure_all(plan: &Plan) -> Result<Vec<Measurement>> {
    let (stations, times) = plan.largest();
    let size = Size {
        stations,
        networks: if plan.quick { 100 } else { 1_000 },
        most_networks: if plan.quick { 200 } else { 4_000 },
        singles: plan.samples(),
    };
    let mut runs = Runs::default();
    for n in 0..times {
        let dump = gateway::stations(plan, size, n == 0, &mut runs)?;
        let netlink = floor::netlink::write(stations)?;
        runs.netlink.push_time(netlink);
        runs.dump_and_netlink.push_time(dump + netlink);
    }
    gateway::beside_looks(plan, size, &mut runs)?;
    // Once with somebody who waits while they are deleted, and without.
    for n in 0..times.max(2) {
        gateway::networks(plan, size, n == 0, &mut runs)?;
        let bare = floor::netlink::networks(size.networks, Form::Plain, BRIDGES_AT_ONCE)?;
        runs.netlink_networks.push_time(bare.made);
        runs.netlink_deletion.push_time(bare.deleted);
    }
    gateway::at_rest(plan, size, &mut runs)?;
    let bare = floor::netlink::networks(size.networks, Form::Vlans, REGARDLESS)?;
    runs.netlink_vlans.push_time(bare.made);
    gateway::elsewhere(plan, size, &mut runs)?;
    let bare = floor::netlink::networks(size.networks, Form::Elsewhere, REGARDLESS)?;
    runs.netlink_elsewhere.push_time(bare.made);
    runs.netlink_deletion_regardless.push_time(bare.deleted);
    gateway::most_networks(plan, size, &mut runs)?;
    Ok(runs.into_measurements(size))
}

/// The samples of all runs.
#[derive(Default)]
struct Runs {
    idle: Samples,
    small: Samples,
    large: Samples,
    netlink: Samples,
    dump_and_netlink: Samples,
    one: Samples,
    beside_looks: Samples,
    networks: Samples,
    netlink_networks: Samples,
    restart: Samples,
    restart_changes: Samples,
    frames: Samples,
    lost: Samples,
    beside_deletion: Samples,
    waited_for_deletion: Samples,
    deletion: Samples,
    netlink_deletion: Samples,
    netlink_deletion_regardless: Samples,
    vlans: Samples,
    netlink_vlans: Samples,
    rest: Samples,
    bare_rest: Samples,
    elsewhere: Samples,
    netlink_elsewhere: Samples,
    most_networks: Samples,
    memory: Samples,
    most_memory: Samples,
}

impl Runs {
    fn into_measurements(self, size: Size) -> Vec<Measurement> {
        let Size {
            stations,
            networks,
            most_networks,
            ..
        } = size;
        let bare = "raw batched netlink";
        let restart = format!("restart on {stations} MACs in {networks} networks");
        let memory = |when: String, samples| {
            Measurement::memory(format!("memory of the vtep, {when} (RSS)"), samples)
        };
        vec![
            memory("idle".into(), self.idle).budget(IDLE, Statistic::Max),
            Measurement::time(
                format!(
                    "{stations} MACs with addresses in the kernel, committed in small transactions"
                ),
                self.small,
            )
            .above(bare, self.netlink)
            .budget(KERNEL_WITHIN, Statistic::Median),
            Measurement::time(
                format!(
                    "{stations} MACs with addresses in the kernel, committed in one transaction"
                ),
                self.large,
            )
            .above("bare dump, then raw netlink", self.dump_and_netlink)
            .budget(KERNEL_WITHIN, Statistic::Median),
            Measurement::time(
                format!("one MAC on top of {stations} in the kernel, after its commit"),
                self.one,
            )
            .budget(ONE_WITHIN, Statistic::Median),
            Measurement::time(
                format!("one MAC on top of {stations}, while everything is looked at"),
                self.beside_looks,
            )
            .budget(BESIDE_LOOKS_WITHIN, Statistic::P99),
            Measurement::time(
                format!("{networks} networks forwarding, after the transaction was sent"),
                self.networks,
            )
            .above(bare, self.netlink_networks)
            .budget(NETWORKS_WITHIN, Statistic::Median),
            memory(
                format!("with {stations} MACs in {networks} networks"),
                self.memory,
            ),
            Measurement::new(
                format!("{restart}: changes in the kernel"),
                Unit::Count,
                self.restart_changes,
            )
            .budget(NOTHING, Statistic::Max),
            Measurement::time(
                format!("{restart}: until the next MAC is in the kernel"),
                self.restart,
            )
            .budget(RESTART_WITHIN, Statistic::Median),
            Measurement::new(
                format!("{restart}: frames sent a second, each way"),
                Unit::Rate,
                self.frames,
            )
            .budget(FRAMES_SENT, Statistic::Min),
            Measurement::new(
                format!("{restart}: frames lost, each way"),
                Unit::Count,
                self.lost,
            )
            .budget(NOTHING, Statistic::Max),
            Measurement::time(
                format!(
                    "one MAC in the kernel, after its commit, while {networks} networks are deleted"
                ),
                self.beside_deletion,
            ),
            Measurement::time(
                format!("{networks} networks deleted meanwhile, after the commit"),
                self.waited_for_deletion,
            ),
            Measurement::time(
                format!("{networks} networks deleted, after the commit"),
                self.deletion,
            )
            .above(
                "raw netlink, as many bridges by a message",
                self.netlink_deletion,
            )
            .budget(DELETION_WITHIN, Statistic::Median),
            Measurement::time(
                format!(
                    "{networks} networks deleted by raw netlink, {REGARDLESS} bridges by a message"
                ),
                self.netlink_deletion_regardless,
            ),
            Measurement::time(
                format!(
                    "{networks} networks with a VLAN of a port each (tc) forwarding, after the transaction was sent"
                ),
                self.vlans,
            )
            .above("raw batched netlink, and one run of tc", self.netlink_vlans)
            .budget(VLANS_WITHIN, Statistic::Median),
            Measurement::time(
                format!("processor time a minute, {networks} networks with a port, at rest"),
                self.rest,
            )
            .above("as many frames, sent bare", self.bare_rest)
            .budget(REST_WITHIN, Statistic::Median),
            Measurement::time(
                format!(
                    "{networks} networks forwarding, their WAN in a network namespace, after the transaction was sent"
                ),
                self.elsewhere,
            )
            .above(bare, self.netlink_elsewhere)
            .budget(NETWORKS_WITHIN, Statistic::Median),
            Measurement::time(
                format!(
                    "{most_networks} networks forwarding, after the first transaction was sent"
                ),
                self.most_networks,
            ),
            memory(format!("with {most_networks} networks"), self.most_memory),
        ]
    }
}
