//! What operators' tools ask of a running server, beside the API.
//!
//! `/healthcheck` is answered to everybody who can connect, because load balancers have no token. Its detail and
//! `/metrics` tell where the switches are: where the API is open to other machines they have a listener of their own, or
//! none.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use axum::{Router, middleware};
use openstack::Validator;
use ovsdb::Budget;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::api::Api;
use crate::health::{self, Health};
use crate::http::{self, Bounds};
use crate::metrics::{self, Metrics};
use crate::options::Listen;
use crate::serve::StartError;

/// Options of `l2gw server` for those who watch it.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct OperationsOptions {
    /// While this file exists, /healthcheck answers 503: load balancers send no more requests.
    #[arg(long, value_name = "FILE")]
    pub healthcheck_disable_file: Option<PathBuf>,
    /// Where to answer /metrics and the detailed /healthcheck, without authentication. Where left out, the API's address
    /// answers them if it is a loopback address or a unix socket.
    #[arg(long, value_name = "ADDR:PORT")]
    pub metrics_listen: Option<SocketAddr>,
}

/// The API with what operators' tools ask for in front of it, and beside it. Dropping it stops what is beside.
#[derive(Debug)]
pub(crate) struct Operations {
    pub(crate) router: Router,
    /// Where metrics are told, if they have a listener of their own.
    pub(crate) metrics_address: Option<SocketAddr>,
    _beside: JoinSet<()>,
}

/// Puts what operators' tools ask for in front of the API.
pub(crate) async fn in_front_of(
    router: Router,
    options: OperationsOptions,
    listen: &Listen,
    behind: &Api,
    callers: &Budget,
    keystone: Option<&Validator>,
) -> Result<Operations, StartError> {
    let Api {
        store,
        board,
        audit,
        bodies,
        ..
    } = behind;
    let metrics = Arc::new(Metrics::new(
        store.clone(),
        Arc::clone(board),
        audit.clone(),
        bodies.clone(),
        callers.clone(),
    ));
    let health = |detailed| {
        health::routes(Health {
            store: store.clone(),
            board: Arc::clone(board),
            audit: audit.clone(),
            keystone: keystone.cloned(),
            disable_file: options.healthcheck_disable_file.clone(),
            detailed,
        })
    };
    let measured = router.layer(middleware::from_fn_with_state(
        Arc::clone(&metrics),
        metrics::measure,
    ));
    let mut beside = JoinSet::new();
    let mut metrics_address = None;
    let front = match options.metrics_listen {
        Some(address) => {
            let failed = |cause| StartError::Listen {
                address: address.to_string(),
                cause,
            };
            let listener = TcpListener::bind(address).await.map_err(failed)?;
            let bound = listener.local_addr().map_err(failed)?;
            tracing::info!("telling metrics on http://{bound}/metrics");
            metrics_address = Some(bound);
            let router = health(true)
                .merge(metrics::routes(metrics))
                .layer(middleware::from_fn(http::refused));
            beside.spawn(async move {
                http::serve(listener, router, Bounds::DEFAULT, std::future::pending()).await;
            });
            health(is_private(listen))
        }
        None if is_private(listen) => health(true).merge(metrics::routes(metrics)),
        None => health(false),
    };
    Ok(Operations {
        router: front.fallback_service(measured),
        metrics_address,
        _beside: beside,
    })
}

/// Whether only people on this machine can connect.
fn is_private(listen: &Listen) -> bool {
    match listen {
        Listen::Tcp(address) => address.ip().is_loopback(),
        Listen::Unix(_) => true,
    }
}
