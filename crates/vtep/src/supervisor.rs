//! Tells the service manager how we are (sd_notify(3)): that the switch works, that it is alive, that it stops.
//!
//! Without one, nobody is told.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior, interval};

/// The service manager, if there is one.
pub(crate) struct Supervisor {
    socket: Option<UnixDatagram>,
    /// When it is to be told that we are alive: twice as often as it asks for.
    alive: Option<Interval>,
}

impl Supervisor {
    /// As the environment says. A service manager that can't be reached is logged and done without.
    pub(crate) fn from_environment() -> Self {
        let socket = env::var_os("NOTIFY_SOCKET");
        let ours =
            env::var("WATCHDOG_PID").map_or(true, |pid| pid == std::process::id().to_string());
        let limit = env::var("WATCHDOG_USEC").ok().filter(|_| ours);
        let limit = limit.and_then(|microseconds| microseconds.parse().ok());
        Self::at(socket.as_deref(), limit.map(Duration::from_micros))
    }

    fn at(address: Option<&OsStr>, limit: Option<Duration>) -> Self {
        let socket = address.and_then(|address| {
            connect(address)
                .inspect_err(|error| tracing::warn!(%error, "the service manager can't be told"))
                .ok()
        });
        let alive = limit.filter(|limit| !limit.is_zero() && socket.is_some());
        let alive = alive.map(|limit| {
            let mut alive = interval(limit / 2);
            alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
            alive
        });
        Self { socket, alive }
    }

    /// Until it is time to tell that we are alive, which then is told.
    pub(crate) async fn keep_told(&mut self) {
        let Some(alive) = &mut self.alive else {
            return std::future::pending().await;
        };
        alive.tick().await;
        self.tell("WATCHDOG=1");
    }

    /// The switch works.
    pub(crate) fn ready(&self) {
        self.tell("READY=1");
    }

    /// The switch stops.
    pub(crate) fn stopping(&self) {
        self.tell("STOPPING=1");
    }

    fn tell(&self, state: &str) {
        if let Some(socket) = &self.socket
            && let Err(error) = socket.send(state.as_bytes())
        {
            tracing::warn!(%error, state, "the service manager was not told");
        }
    }
}

fn connect(address: &OsStr) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    // A service manager that does not read must not hold up a switch.
    socket.set_nonblocking(true)?;
    match address.as_bytes() {
        [b'@', name @ ..] => socket.connect_addr(&SocketAddr::from_abstract_name(name)?)?,
        _ => socket.connect(address)?,
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 64];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    #[tokio::test]
    async fn a_service_manager_hears_of_start_life_and_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let service_manager = UnixDatagram::bind(&path).unwrap();
        let limit = Some(Duration::from_millis(20));
        let mut supervisor = Supervisor::at(Some(path.as_os_str()), limit);
        supervisor.ready();
        assert_eq!(heard(&service_manager), "READY=1");
        for _ in 0..3 {
            supervisor.keep_told().await;
            assert_eq!(heard(&service_manager), "WATCHDOG=1");
        }
        supervisor.stopping();
        assert_eq!(heard(&service_manager), "STOPPING=1");
    }

    #[tokio::test]
    async fn an_abstract_socket_is_found() {
        let name = format!("l2gw-vtep-notify-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let service_manager = UnixDatagram::bind_addr(&address).unwrap();
        Supervisor::at(Some(OsStr::new(&format!("@{name}"))), None).ready();
        assert_eq!(heard(&service_manager), "READY=1");
    }
}
