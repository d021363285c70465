//! Frames counted on an interface, as tcpdump would see them, and frames sent as they are.

use std::io::IoSliceMut;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, bind,
    recvmsg, sendto, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeSpec, TimeVal, TimeValLike as _};

use crate::frame::{Ethernet, Vxlan};
use crate::netns::Netns;

/// Room for frames that wait to be read: a burst must not be counted short.
const RECEIVE_BUFFER: usize = 32 << 20;
/// GRO merges frames up to 64 KiB.
const LARGEST_FRAME: usize = 1 << 16;
/// PACKET_OUTGOING of packet(7): sent by this side.
const OUTGOING: u8 = 4;
/// No frame for this long means that what was on its way has arrived.
const QUIET: Duration = Duration::from_millis(300);
/// Frames that never stop, a storm, must not keep the count from ending.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// A frame, and which way it went through the interface.
#[derive(Debug, Clone)]
pub struct Captured {
    /// Sent by the interface's own side rather than received by it.
    pub outgoing: bool,
    /// When it passed, by the kernel's clock, since the epoch: however busy the machine was that read it.
    pub at: Duration,
    /// The frame.
    pub frame: Ethernet,
}

impl Captured {
    /// The VXLAN packet it is, if it is one.
    #[must_use]
    pub fn vxlan(&self) -> Option<Vxlan> {
        self.frame.vxlan()
    }
}

/// A running capture: an AF_PACKET socket (packet(7)) in the interface's namespace, read by a thread.
#[derive(Debug)]
pub struct Capture {
    seen: Arc<Mutex<Vec<Captured>>>,
    /// Set when the capture is to end.
    stop: Arc<OnceLock<Duration>>,
    reader: Option<JoinHandle<Result<()>>>,
}

impl Capture {
    /// Captures on `interface` of `netns`, in both directions. Whatever passes after this returned is seen.
    ///
    /// # Errors
    /// There is no such interface, or not root.
    pub fn start(netns: &Netns, interface: &str) -> Result<Self> {
        let socket = netns
            .enter(|| open(interface))
            .with_context(|| format!("cannot capture on {interface} of {}", netns.name()))?;
        let seen = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(OnceLock::new());
        let reader = std::thread::spawn({
            let (seen, stop) = (Arc::clone(&seen), Arc::clone(&stop));
            move || read(&socket, &seen, &stop)
        });
        Ok(Self {
            seen,
            stop,
            reader: Some(reader),
        })
    }

    /// What was seen so far.
    #[must_use]
    pub fn so_far(&self) -> Vec<Captured> {
        self.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Waits until the interface is quiet, ends the capture, and returns all that was seen.
    ///
    /// # Errors
    /// Reading failed.
    pub fn finish(mut self) -> Result<Vec<Captured>> {
        let start = Instant::now();
        let mut before = self.count();
        let mut quiet_since = Instant::now();
        while quiet_since.elapsed() < QUIET && start.elapsed() < LONGEST_WAIT {
            std::thread::sleep(Duration::from_millis(20));
            let now = self.count();
            if now != before {
                (before, quiet_since) = (now, Instant::now());
            }
        }
        self.end();
        if let Some(reader) = self.reader.take() {
            reader
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        }
        Ok(self.so_far())
    }

    /// What passes from now on does not count.
    fn end(&self) {
        // Once is enough.
        let _ = self.stop.set(now());
    }

    fn count(&self) -> usize {
        self.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.end();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

/// A socket on one interface.
#[derive(Debug)]
struct PacketSocket {
    socket: OwnedFd,
    address: LinkAddr,
}

/// Sends one frame out of `interface` of `netns`, as it is.
///
/// # Errors
/// There is no such interface, it is down, or not root.
pub fn send(netns: &Netns, interface: &str, frame: &Ethernet) -> Result<()> {
    send_times(netns, interface, frame, 1)
}

/// Sends one frame many times, as fast as it can be.
///
/// # Errors
/// As [`send`].
pub fn send_times(netns: &Netns, interface: &str, frame: &Ethernet, times: usize) -> Result<()> {
    netns.enter(|| {
        let PacketSocket { socket, address } = open(interface)?;
        let bytes = frame.bytes();
        for _ in 0..times {
            sendto(socket.as_raw_fd(), &bytes, &address, MsgFlags::empty())?;
        }
        Ok(())
    })
}

/// Sends frames out of `interface` of `netns`, evenly, so many in a second.
///
/// # Errors
/// As [`send`].
pub fn send_evenly(
    netns: &Netns,
    interface: &str,
    frames: &[Ethernet],
    per_second: u32,
) -> Result<()> {
    netns.enter(|| {
        let PacketSocket { socket, address } = open(interface)?;
        let begun = Instant::now();
        for (place, frame) in (0_u32..).zip(frames) {
            let due = begun + Duration::from_secs(1) * place / per_second;
            let early = due.saturating_duration_since(Instant::now());
            // A pause costs more than a frame.
            if early > Duration::from_millis(2) {
                std::thread::sleep(early);
            }
            sendto(
                socket.as_raw_fd(),
                &frame.bytes(),
                &address,
                MsgFlags::empty(),
            )?;
        }
        Ok(())
    })
}

/// Opens the socket in the calling thread's namespace.
fn open(interface: &str) -> Result<PacketSocket> {
    let socket = socket(
        AddressFamily::Packet,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::EthAll,
    )?;
    setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER)?;
    setsockopt(&socket, sockopt::ReceiveTimestampns, &true)?;
    setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::milliseconds(50))?;
    let address = getifaddrs()?
        .filter(|found| found.interface_name == interface)
        .find_map(|found| found.address?.as_link_addr().copied())
        .context("no such interface")?;
    bind(socket.as_raw_fd(), &address)?;
    Ok(PacketSocket { socket, address })
}

/// Since the epoch, as the kernel stamps frames.
fn now() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

/// Reads until told to stop, and then what had passed before: on a busy machine frames wait to be read.
fn read(from: &PacketSocket, seen: &Mutex<Vec<Captured>>, stop: &OnceLock<Duration>) -> Result<()> {
    let mut buffer = vec![0; LARGEST_FRAME];
    let mut control = nix::cmsg_space!(TimeSpec);
    loop {
        // Looked at before the socket is: when that has nothing then, nothing is left.
        let stopped = stop.get();
        let (length, sender, at) = {
            let mut slices = [IoSliceMut::new(&mut buffer)];
            match recvmsg::<LinkAddr>(
                from.socket.as_raw_fd(),
                &mut slices,
                Some(&mut control),
                MsgFlags::empty(),
            ) {
                Ok(message) => {
                    let stamp = message.cmsgs()?.find_map(|control| match control {
                        ControlMessageOwned::ScmTimestampns(at) => Some(Duration::from(at)),
                        _ => None,
                    });
                    (
                        message.bytes,
                        message.address,
                        stamp.context("no time stamp")?,
                    )
                }
                Err(Errno::EAGAIN) if stopped.is_some() => return Ok(()),
                Err(Errno::EAGAIN | Errno::EINTR) => continue,
                // The interface was taken away.
                Err(Errno::ENETDOWN) => return Ok(()),
                Err(error) => return Err(error).context("reading frames"),
            }
        };
        if stopped.is_some_and(|stopped| at > *stopped) {
            return Ok(());
        }
        // Between socket(2) and bind(2) frames of the other interfaces came in.
        let Some(sender) = sender.filter(|sender| sender.ifindex() == from.address.ifindex())
        else {
            continue;
        };
        if let Some(frame) = buffer.get(..length).and_then(Ethernet::parse) {
            let outgoing = sender.pkttype() == OUTGOING;
            seen.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(Captured {
                    outgoing,
                    at,
                    frame,
                });
        }
    }
}
