//! How fast one TCP stream goes from a VM of one cloud to a VM of another, through both border gateways.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use testkit::installation::Installation;
use testkit::topology::{Station, Topology};

use crate::Plan;
use crate::measurement::{Budget, Measurement, Samples, Statistic};
use crate::report::Section;

/// Bytes that are carried, and bytes written at once.
const CARRIED: usize = 1_000_000_000;
const AT_ONCE: usize = 128 * 1024;
const PORT: u16 = 5201;
const WAN_KEY: u32 = 456;
const WITHIN: Budget = Budget::TimesFloor(1.1);

pub(crate) fn measure(plan: &Plan) -> Section {
    Section {
        title: "Through the border gateways",
        how: "Two clouds in network namespaces: VM, compute host, border gateway, WAN, border gateway, compute host, VM. One TCP \
              stream carries 1 GB from one VM to the other; the time ends when the far end has read all. Floor: the same \
              with both gateways made by hand, of a bridge and two VXLAN devices each, in clouds of their own; turn about. \
              Then both again with the WAN in a network namespace of its own.",
        outcome: measure_all(plan),
    }
}

fn measure_all(plan: &Plan) -> Result<Vec<Measurement>> {
    Ok(vec![between(plan, false)?, between(plan, true)?])
}

/// Between two clouds, whose WAN may be in a network namespace of its own.
fn between(plan: &Plan, elsewhere: bool) -> Result<Measurement> {
    let (mut of_product, mut by_hand) = (Topology::two_clouds()?, Topology::two_clouds()?);
    let clouds = of_product.clouds.iter_mut().chain(&mut by_hand.clouds);
    for cloud in clouds.filter(|_| elsewhere) {
        cloud.move_wan()?;
    }
    let _sites = join(plan, &of_product)?;
    let [a, b] = by_hand.all()?;
    for (here, there) in [(a, b), (b, a)] {
        here.stretch_by_hand(WAN_KEY, &[there.gateway.wan_ip])?;
    }
    let times = if plan.quick { 1 } else { 7 };
    let (mut measured, mut floor) = (Samples::default(), Samples::default());
    // The first runs find the stations.
    let mut discarded = Samples::default();
    for n in 0..=times {
        for (topology, samples) in [(&of_product, &mut measured), (&by_hand, &mut floor)] {
            let [a, b] = topology.all()?;
            let samples = if n == 0 { &mut discarded } else { samples };
            samples.push_time(carry(a.vm()?, b.vm()?)?);
        }
    }
    let rate = |samples: &Samples| {
        let median = samples.of(Statistic::Median).unwrap_or(f64::INFINITY);
        8.0 * CARRIED as f64 / median / 1e9
    };
    let what = format!(
        "1 GB by TCP from VM to VM{} ({:.1} Gbit/s, by hand {:.1})",
        if elsewhere {
            ", WAN in a network namespace"
        } else {
            ""
        },
        rate(&measured),
        rate(&floor)
    );
    Ok(Measurement::time(what, measured)
        .above("gateways made by hand", floor)
        .budget(WITHIN, Statistic::Median))
}

/// Joins both clouds by the product.
fn join<'a>(plan: &Plan, topology: &'a Topology) -> Result<Vec<Installation<'a>>> {
    let [a, b] = topology.all()?;
    let mut installations = Vec::new();
    for (here, there) in [(a, b), (b, a)] {
        let mut installation = Installation::new(&plan.binary, here)?;
        installation.start()?;
        installation.attach_network()?;
        let remote = installation.declare_remote(there)?;
        let connection = installation.connect(&remote, WAN_KEY, true)?;
        let vm = there.vm()?;
        installation.declare_mac(&connection, vm, Some(vm.ip))?;
        installation.wait_active(&connection)?;
        installations.push(installation);
    }
    a.vm()?.wait_until_reaches(b.vm()?)?;
    Ok(installations)
}

/// Carries so many bytes from one station to another.
fn carry(from: &Station, to: &Station) -> Result<Duration> {
    let listener = to.netns.enter(|| Ok(TcpListener::bind((to.ip, PORT))?))?;
    let reader = std::thread::spawn(move || -> Result<usize> {
        let (mut stream, _) = listener.accept()?;
        let mut buffer = vec![0; AT_ONCE];
        let mut read = 0;
        loop {
            match stream.read(&mut buffer)? {
                0 => break,
                more => read += more,
            }
        }
        // All was read: this says so.
        stream.write_all(&[1])?;
        Ok(read)
    });
    let connect = || Ok(TcpStream::connect((to.ip, PORT))?);
    let mut stream = from.netns.enter(connect)?;
    let buffer = vec![0x55; AT_ONCE];
    let start = Instant::now();
    let mut left = CARRIED;
    while left > 0 {
        let piece = buffer.get(..left.min(AT_ONCE)).unwrap_or_default();
        stream.write_all(piece)?;
        left -= piece.len();
    }
    stream.shutdown(std::net::Shutdown::Write)?;
    stream.read_exact(&mut [0])?;
    let took = start.elapsed();
    let read = reader.join().ok().context("the reader panicked")??;
    ensure!(read == CARRIED, "{read} bytes arrived of {CARRIED}");
    Ok(took)
}
