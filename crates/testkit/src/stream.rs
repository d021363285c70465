//! Numbered datagrams that two stations send each other evenly, and how many of them arrived: what a user of a network loses,
//! finer than pings can tell.
//!
//! Each way counts for itself: an answer does not have to come for a datagram to have arrived. Whatever the sending host
//! itself refuses, as while it knows no MAC address of the other one, is lost.

use std::collections::HashSet;
use std::fmt;
use std::io::ErrorKind;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::socket::{setsockopt, sockopt};

use crate::topology::Station;

/// The UDP port at both ends.
const PORT: u16 = 5001;
/// A datagram's payload: its number, and zeros that make it as long as a voice packet's.
const PAYLOAD: usize = 160;
/// Room for datagrams while the reader does not get the processor.
const RECEIVE_BUFFER: usize = 8 << 20;
/// How often a reader looks whether it is to end.
const LOOK_UP: Duration = Duration::from_millis(20);
/// No datagram for this long means that what was on its way has arrived.
const QUIET: Duration = Duration::from_millis(300);
/// A sender that is late makes up for so many datagrams, not for more: the pace is to be kept, not the number.
const MADE_UP_FOR: u32 = 10;

/// What became of the datagrams of one way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivery {
    /// Datagrams that were sent.
    pub sent: usize,
    /// Those of them that arrived, however often.
    pub arrived: usize,
    /// From the first to the last.
    pub took: Duration,
}

impl Delivery {
    /// Datagrams that did not arrive.
    #[must_use]
    pub fn lost(self) -> usize {
        self.sent.saturating_sub(self.arrived)
    }

    /// Datagrams a second that were sent.
    #[must_use]
    pub fn rate(self) -> f64 {
        self.sent as f64 / self.took.as_secs_f64().max(f64::EPSILON)
    }
}

impl fmt::Display for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sent, lost, rate) = (self.sent, self.lost(), self.rate());
        write!(f, "{sent} sent at {rate:.0}/s, {lost} lost")
    }
}

/// Datagrams that go on both ways in the background until [`Stream::stop`].
#[derive(Debug)]
pub struct Stream {
    sending: Arc<AtomicBool>,
    reading: Arc<AtomicBool>,
    ways: [Way; 2],
}

#[derive(Debug)]
struct Way {
    sender: Option<JoinHandle<(usize, Duration)>>,
    reader: Option<JoinHandle<Result<usize>>>,
    /// So far.
    arrived: Arc<AtomicUsize>,
}

impl Stream {
    /// Starts sending, `per_second` datagrams a second each way.
    ///
    /// # Errors
    /// A namespace can't be entered, or the port is taken.
    pub fn between(one: &Station, other: &Station, per_second: u32) -> Result<Self> {
        let sending = Arc::new(AtomicBool::new(true));
        let reading = Arc::new(AtomicBool::new(true));
        let sockets = [open(one, other)?, open(other, one)?];
        let [one, other] = sockets;
        let way = |from: &UdpSocket, to: &UdpSocket| -> Result<Way> {
            let (from, to) = (from.try_clone()?, to.try_clone()?);
            let arrived = Arc::new(AtomicUsize::new(0));
            let reader = {
                let (arrived, reading) = (Arc::clone(&arrived), Arc::clone(&reading));
                std::thread::spawn(move || read(&to, &arrived, &reading))
            };
            let sending = Arc::clone(&sending);
            let period = Duration::from_secs(1) / per_second;
            let sender = std::thread::spawn(move || send(&from, period, &sending));
            Ok(Way {
                sender: Some(sender),
                reader: Some(reader),
                arrived,
            })
        };
        let ways = [way(&one, &other)?, way(&other, &one)?];
        Ok(Self {
            sending,
            reading,
            ways,
        })
    }

    /// Stops sending, waits for what is on its way, and tells what arrived: of what the one station sent, and the other.
    ///
    /// # Errors
    /// Reading failed.
    pub fn stop(mut self) -> Result<[Delivery; 2]> {
        self.sending.store(false, Ordering::Relaxed);
        let [there, back] = &mut self.ways;
        let [there_sent, back_sent] = [there.sent()?, back.sent()?];
        self.wait_until_quiet();
        self.reading.store(false, Ordering::Relaxed);
        let [there, back] = &mut self.ways;
        Ok([there.delivery(there_sent)?, back.delivery(back_sent)?])
    }

    fn wait_until_quiet(&self) {
        let count = || {
            self.ways
                .each_ref()
                .map(|way| way.arrived.load(Ordering::Relaxed))
        };
        let (mut before, mut since) = (count(), Instant::now());
        while since.elapsed() < QUIET {
            std::thread::sleep(LOOK_UP);
            let now = count();
            if now != before {
                (before, since) = (now, Instant::now());
            }
        }
    }
}

impl Way {
    fn sent(&mut self) -> Result<(usize, Duration)> {
        joined(self.sender.take())
    }

    fn delivery(&mut self, (sent, took): (usize, Duration)) -> Result<Delivery> {
        let arrived = joined(self.reader.take())??;
        Ok(Delivery {
            sent,
            arrived,
            took,
        })
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.sending.store(false, Ordering::Relaxed);
        self.reading.store(false, Ordering::Relaxed);
        for way in &mut self.ways {
            // Whether it ended well is for `stop` to tell.
            let _ = way.sender.take().map(JoinHandle::join);
            let _ = way.reader.take().map(JoinHandle::join);
        }
    }
}

fn joined<T>(thread: Option<JoinHandle<T>>) -> Result<T> {
    let thread = thread.context("ended before")?;
    Ok(thread
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
}

/// A socket of the one station that hears and reaches the other alone.
fn open(one: &Station, other: &Station) -> Result<UdpSocket> {
    one.netns.enter(|| {
        let socket = UdpSocket::bind((one.ip, PORT))?;
        socket.connect((other.ip, PORT))?;
        socket.set_read_timeout(Some(LOOK_UP))?;
        setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER)?;
        Ok(socket)
    })
}

/// Sends until told to stop. Returns how many, and in what time.
fn send(socket: &UdpSocket, period: Duration, sending: &AtomicBool) -> (usize, Duration) {
    let begun = Instant::now();
    let mut due = begun;
    let mut number = 0_u32;
    while sending.load(Ordering::Relaxed) {
        let now = Instant::now();
        std::thread::sleep(due.saturating_duration_since(now));
        due = due.max(now.checked_sub(MADE_UP_FOR * period).unwrap_or(now)) + period;
        let mut payload = [0; PAYLOAD];
        if let Some(place) = payload.first_chunk_mut() {
            *place = number.to_be_bytes();
        }
        number += 1;
        // Refused: the other side will not have it.
        let _ = socket.send(&payload);
    }
    (number as usize, begun.elapsed())
}

/// Counts until told to stop, and then what had arrived before: on a busy machine datagrams wait to be read.
fn read(socket: &UdpSocket, arrived: &AtomicUsize, reading: &AtomicBool) -> Result<usize> {
    let mut numbers = HashSet::new();
    let mut payload = [0; PAYLOAD];
    loop {
        // Looked at before the socket is: when that has nothing then, nothing is left.
        let stopped = !reading.load(Ordering::Relaxed);
        match socket.recv(&mut payload) {
            Ok(_) => {
                let number = payload.first_chunk().copied().map(u32::from_be_bytes);
                numbers.extend(number);
                arrived.store(numbers.len(), Ordering::Relaxed);
            }
            Err(error)
                if stopped
                    && matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
            {
                return Ok(numbers.len());
            }
            // Unreachable is what the sending half of this socket was told.
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::WouldBlock
                        | ErrorKind::TimedOut
                        | ErrorKind::Interrupted
                        | ErrorKind::ConnectionRefused
                        | ErrorKind::HostUnreachable
                        | ErrorKind::NetworkUnreachable
                ) => {}
            Err(error) => return Err(error).context("reading datagrams"),
        }
    }
}
