//! The software VTEP: a plain Linux server as a hardware_vtep switch.
//!
//! | module | its one job |
//! |---|---|
//! | [`options`] | the command line |
//! | `daemon` | the loop: database and kernel are made to match |
//! | `learnt` | what the kernel learnt is told in the database |
//! | `ovsdb_server` | the database's server |
//! | `state_dir` | where it keeps things, one daemon at a time |
//! | `places` | the network namespaces its tunnels run in |
//! | `path_mtu` | whether the ways to remote gateways carry tenants' packets |
//! | `loops` | networks that loop are cut off the WAN |
//! | [`kernel`] | bridges, VXLAN devices, forwarding entries, packet filter: desired − actual = plan |
//! | [`bfd`] | whether the far ends of tunnels are there |
//! | `check` | what the host lacks |
//! | `metrics` | what Prometheus reads |
//! | `supervisor` | the service manager is told how we are |
//! | [`show`] | what is forwarded |
//! | `control` | what an operator tells the running daemon |
//! | [`trace`] | what becomes of a frame |
//! | `down` | takes everything back |

use std::io::{self, Write as _};

pub mod bfd;
mod check;
mod control;
mod daemon;
mod down;
mod error;
pub mod kernel;
mod learnt;
mod loops;
mod metrics;
pub mod options;
mod ovsdb_server;
mod path_mtu;
mod places;
pub mod show;
mod state_dir;
mod supervisor;
pub mod trace;

pub use error::Error;
pub use options::Options;

/// Runs `l2gw vtep` until SIGTERM or SIGINT. Must be called on a multi-threaded runtime all of whose threads are in the
/// network namespace of the switch.
///
/// # Errors
/// Why it could not start or go on, in one line.
pub async fn run(options: Options) -> Result<(), Error> {
    match (options.command, options.switch) {
        (Some(options::Command::Down { state_dir }), _) => {
            let work = tokio::task::spawn_blocking(move || down::down(&state_dir));
            work.await.map_err(|error| Error::Runtime(error.into()))?
        }
        (Some(options::Command::Check(options)), _) => {
            let work = tokio::task::spawn_blocking(move || check::check(&options));
            work.await.map_err(|error| Error::Runtime(error.into()))?
        }
        (Some(options::Command::Release(options)), _) => print(&control::release(&options).await?),
        (Some(options::Command::Show(options)), _) => print(&show::show(&options).await?),
        (Some(options::Command::Trace(options)), _) => print(&trace::trace(&options).await?),
        (None, Some(switch)) => daemon::serve(switch).await,
        // clap asks for a name before it comes to this.
        (None, None) => Ok(()),
    }
}

fn print(text: &str) -> Result<(), Error> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).map_err(Error::Output)
}
