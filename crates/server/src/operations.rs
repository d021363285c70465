//! What operators' tools ask of a running server, beside the API.

use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use store::Store;

use crate::health::{self, Health};
use crate::options::Listen;
use crate::status::Board;

/// Options of `l2gw server` for those who watch it.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct OperationsOptions {
    /// While this file exists, /healthcheck answers 503: load balancers send no more requests.
    #[arg(long, value_name = "FILE")]
    pub healthcheck_disable_file: Option<PathBuf>,
}

/// Puts what operators' tools ask for in front of the API.
pub(crate) fn in_front_of(
    api: Router,
    options: OperationsOptions,
    listen: &Listen,
    store: &Store,
    board: &Arc<Board>,
) -> Router {
    let health = Health {
        store: store.clone(),
        board: Arc::clone(board),
        disable_file: options.healthcheck_disable_file,
        detailed: is_private(listen),
    };
    health::routes(health).fallback_service(api)
}

/// Whether only people on this machine can connect.
fn is_private(listen: &Listen) -> bool {
    match listen {
        Listen::Tcp(address) => address.ip().is_loopback(),
        Listen::Unix(_) => true,
    }
}
