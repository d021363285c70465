//! Why a pass is made, and what the loop waits for until then.

use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use netlink_sys::Socket;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;
use tokio::time::Interval;

use crate::kernel::netns::{Bearer, NetworkNamespace};

/// Why a pass is made; it only decides what need not be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Wake {
    Database,
    Kernel,
    /// The last pass gave way to whoever waited.
    Rest,
    Retry,
    /// Networks are to be cut off the WAN, or joined again.
    Cuts,
    /// It is time to look what was dropped.
    Drops,
    /// A way to a remote gateway carries less than before, or more.
    Paths,
    /// The network namespace for tunnels to remote gateways lost its name, or has it back.
    Namespace,
    /// We have just begun.
    Everything,
    /// Everything was looked at, beside the passes.
    Looked,
    /// What was learnt is due to be told: no pass.
    Learnt,
}

/// Until one of them has something to read; the pass reads them all empty.
pub(super) async fn readable(sockets: &[AsyncFd<Arc<Socket>>], not_before: Instant) {
    tokio::time::sleep_until(not_before.into()).await;
    let any = std::future::poll_fn(|context| {
        let mut any = Poll::Pending;
        for socket in sockets {
            // An error only when the runtime is going down.
            if let Poll::Ready(Ok(mut guard)) = socket.poll_read_ready(context) {
                guard.clear_ready();
                any = Poll::Ready(());
            }
        }
        any
    });
    any.await;
}

/// Who bears the name of a network namespace when it is next looked at.
pub(super) async fn bearer(names: &mut Interval, namespace: Option<&NetworkNamespace>) -> Bearer {
    let Some(namespace) = namespace else {
        return std::future::pending().await;
    };
    names.tick().await;
    namespace.bearer()
}

/// Whether something changed that may be there.
pub(super) async fn changed(changes: &mut Option<watch::Receiver<()>>) -> bool {
    match changes {
        Some(changes) => changes.changed().await.is_ok(),
        None => std::future::pending().await,
    }
}

/// When the time has come, if ever.
pub(super) async fn due(at: Option<(Instant, Wake)>) -> Wake {
    match at {
        Some((time, wake)) => {
            tokio::time::sleep_until(time.into()).await;
            wake
        }
        None => std::future::pending().await,
    }
}
