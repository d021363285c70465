//! Many MACs on one TLS session for a long time, while some come and others go.

use std::collections::VecDeque;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use testkit::certificates::CertificateAuthority;
use testkit::port::free_port;

use super::programming::switch;
use super::server::Server;
use crate::Plan;
use crate::measurement::{Budget, Measurement, Samples, Statistic, Unit};
use crate::memory::Memory;
use crate::report::Section;
use crate::watch::ovsdb::OvsdbWatch;

/// So many come in one request, and as many go in single ones.
const AT_ONCE: u32 = 100;
/// Before memory is compared: what a server needs at work it takes in the beginning.
const WARMED_UP: usize = 5;
/// As much may be taken up once: where every row is another one in the end, the heap is another one, too.
const GROWS_BY: f64 = 16e6;
/// Growth that is no growth, of the later half: what is taken up again and again is still taken up then.
const GROWS_LATER_BY: f64 = 4e6;
const SETTLES_IN: Duration = Duration::from_secs(3);

pub(crate) fn measure(plan: &Plan, lasting: Duration) -> Section {
    Section {
        title: "Coming and going on one TLS session",
        how: "`l2gw server` and an ovsdb-server that it dials by `ssl:`, both with certificates of one CA. A POST of 100 new \
              MACs, then 100 DELETEs of the oldest, again and again. At the end a monitor and the server's own comparison \
              count the rows, and `/metrics` the sessions that were lost. Growth: memory at the end less memory after \
              five rounds, and less memory at half time.",
        outcome: run(plan, lasting),
    }
}

fn run(plan: &Plan, lasting: Duration) -> Result<Vec<Measurement>> {
    let (size, _) = plan.largest();
    let authority = CertificateAuthority::new()?;
    let (theirs, ours) = (authority.issue("switch")?, authority.issue("controller")?);
    let mut switch = switch("bench")?;
    let port = free_port()?;
    let mut arguments = vec![format!("--remote=pssl:{port}:127.0.0.1")];
    arguments.extend(theirs.arguments());
    switch.restart_with(arguments)?;
    let file = |path: &std::path::Path| path.display().to_string();
    let device = format!("ssl:127.0.0.1:{port}");
    let arguments = [
        "--allow-unknown-devices".to_owned(),
        format!("--device={device}"),
        format!("--ovsdb-private-key={}", file(&ours.private_key)),
        format!("--ovsdb-certificate={}", file(&ours.certificate)),
        format!("--ovsdb-ca-cert={}", file(&ours.ca_certificate)),
    ];
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let server = Server::start(&plan.binary, &arguments)?;
    let mut api = server.api()?;
    let connection = server.explain(api.stretch_network("bench"))?;
    server.explain(api.wait_active(&connection))?;
    let watch = OvsdbWatch::start(&switch.unix_target())?;
    let mut there: VecDeque<_> = api.declare_macs(&connection, 0..size)?.into();
    server.explain(watch.wait(usize::try_from(size)?))?;

    let (mut next, mut rounds) = (size, 0_u32);
    let mut memory = Vec::new();
    let begun = Instant::now();
    while begun.elapsed() < lasting {
        there.extend(server.explain(api.declare_macs(&connection, next..next + AT_ONCE))?);
        next += AT_ONCE;
        for id in there.drain(..usize::try_from(AT_ONCE)?) {
            server.explain(api.delete_mac(&id))?;
        }
        rounds += 1;
        memory.push(Memory::of(server.pid()?)?.resident);
    }
    let took = begun.elapsed().as_secs_f64();
    server.explain(watch.wait(usize::try_from(size)?))?;
    server.explain(api.wait_active(&connection))?;
    sleep(SETTLES_IN);
    let after = Memory::of(server.pid()?)?.resident;
    let since = |round: usize| (after - memory.get(round).unwrap_or(&after)).max(0.0);
    let lost = api.metric(&format!(
        "l2gw_switch_sessions_lost_total{{target=\"{device}\"}}"
    ))?;
    ensure!(
        watch.rows()? == usize::try_from(size)?,
        "rows came after all was ACTIVE"
    );

    let minutes = took / 60.0;
    let one = |value: f64| Samples::from_iter([value]);
    let what = format!("{size} MACs on one TLS session, {minutes:.1} minutes");
    let changes = f64::from(rounds * AT_ONCE * 2);
    Ok(vec![
        Measurement::new(format!("{what}: changes"), Unit::Rate, one(changes / took)),
        Measurement::new(format!("{what}: sessions lost"), Unit::Count, one(lost))
            .budget(Budget::AtMost(0.0), Statistic::Max),
        Measurement::memory(
            format!("{what}: growth of memory"),
            one(since(WARMED_UP - 1)),
        )
        .budget(Budget::AtMost(GROWS_BY), Statistic::Max),
        Measurement::memory(
            format!("{what}: growth of memory in the later half"),
            one(since(memory.len() / 2)),
        )
        .budget(Budget::AtMost(GROWS_LATER_BY), Statistic::Max),
        Measurement::memory(format!("{what}: memory at the end (RSS)"), one(after)),
    ])
}
