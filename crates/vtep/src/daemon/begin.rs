//! Opens all that the switch works with: places, kernel, database, what watches beside the passes, and what tells of it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use hardware_vtep::NAME;
use ovsdb::{Connection, ConnectionOptions, Target};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::drops::Drops;
use super::faults::publication;
use super::interfaces::{check_interfaces, warn_of_foreign_addresses};
use super::look::Looks;
use super::stop::Stop;
use super::tunnels::Sessions;
use super::worker::{Turn, Worker};
use super::{Daemon, FIRST_PAUSE, statistics, tunnels};
use crate::control::Control;
use crate::error::Error;
use crate::kernel::Kernel;
use crate::kernel::desired::NodeConfig;
use crate::learnt::Telling;
use crate::loops::{Cuts, Sentry};
use crate::metrics::{self, Metrics};
use crate::options::SwitchOptions;
use crate::ovsdb_server::{Origin, OvsdbServer, missing_programs};
use crate::path_mtu::PathMtu;
use crate::places::Places;
use crate::state_dir;

/// Opens all that the switch works with.
pub(super) async fn begin(
    options: &SwitchOptions,
    config: NodeConfig,
    halt: &Arc<AtomicBool>,
    stop: &Stop,
) -> Result<Daemon, Error> {
    let vlan_form = config.vlan_form;
    let places = Places::open(options.wan_netns.as_deref(), &options.state_dir)?;
    let config = NodeConfig {
        wan_underlay: places.wan,
        ..config
    };
    let sessions = Sessions::resume(&config, &places.underlays, &options.state_dir).await;
    let vlans = (!options.ports.is_empty()).then_some(vlan_form);
    if let Some(missing) = missing_programs(vlans).next() {
        return Err(missing.into());
    }
    let mut kernel =
        Kernel::open_with(config.clone(), places.underlays.clone()).map_err(Error::Kernel)?;
    check_interfaces(&config, &mut kernel)?;
    warn_of_foreign_addresses(&config, &places);

    let directory = state_dir::absolute(&options.state_dir)?;
    let server = OvsdbServer::new(directory.clone(), options.listen.clone())?;
    let origin = server.ensure()?;
    let target = Target::Unix(server.socket());
    let connection = Connection::start(target.into(), NAME, ConnectionOptions::default());
    let connection = Arc::new(connection);
    let (cuts, sentry) = protection(options, &config, halt)?;
    let path_mtu = places
        .underlays
        .at(config.wan_underlay, || PathMtu::start(config.wan_ip))
        .inspect_err(|error| tracing::warn!(%error, "ways to remote gateways are not measured"))
        .ok();
    let (outline, shown) = watch::channel(None);
    let metrics = Arc::new(Metrics::new(
        Arc::clone(&connection),
        shown.clone(),
        places.underlays.clone(),
        config.clone(),
        sessions.board(),
        sessions.traffic(),
        Arc::clone(&cuts),
    ));
    let mut beside = JoinSet::new();
    if let Some(address) = options.metrics_listen {
        beside.spawn(metrics::serve(address, Arc::clone(&metrics)).await?);
    }
    let switch = || Arc::clone(&config.switch);
    let statistics = statistics::tell(switch(), Arc::clone(&connection), shown.clone());
    beside.spawn(statistics);
    let tunnels = tunnels::tell(sessions, switch(), Arc::clone(&connection), shown);
    beside.spawn(tunnels);
    let control = Control::listen(&directory, Arc::clone(&cuts))?;
    let publication = publication(options, &config);
    tracing::info!(
        name = %config.switch,
        tunnel_ip = %config.tunnel_ip,
        wan_ip = %config.wan_ip,
        wan_netns = options.wan_netns,
        vlan_form = %config.vlan_form,
        socket = %server.socket().display(),
        "switch started"
    );
    Ok(Daemon {
        worker: Some(Worker {
            kernel,
            config: Arc::new(config),
            replica: Arc::clone(connection.replica()),
            stop: Arc::clone(&stop.flag),
            turn: Turn {
                halt: Arc::clone(halt),
                news: connection.wakeups(),
            },
            cuts: Arc::clone(&cuts),
            drops: Drops::default(),
            path_mtu,
            sentry,
            nameless: None,
            asked: None,
            looked: None,
            unwritten: origin == Origin::Created,
        }),
        connection,
        outline,
        metrics,
        beside,
        looks: Looks::every(Duration::from_secs(options.look_every.into())),
        server,
        publication,
        pause: FIRST_PAUSE,
        told: BTreeSet::new(),
        telling: Telling::default(),
        cuts,
        _control: control,
    })
}

/// The list of networks that are cut off the WAN, and what looks for more of them.
fn protection(
    options: &SwitchOptions,
    config: &NodeConfig,
    halt: &Arc<AtomicBool>,
) -> Result<(Arc<Cuts>, Option<Sentry>), Error> {
    let list = Cuts::open(&options.state_dir, options.terms(), Arc::clone(halt));
    let cuts = Arc::new(list.map_err(|source| Error::StateDir {
        path: options.state_dir.clone(),
        source,
    })?);
    if options.no_loop_protection {
        return Ok((cuts, None));
    }
    let sentry = Sentry::start(config, Arc::clone(&cuts)).map_err(Error::LoopProtection)?;
    Ok((cuts, Some(sentry)))
}
