//! One end of a BFD session (RFC 5880 section 6): packets and time in, packets and state out. No socket, no clock.
//!
//! The owner hands in every packet that came before it lets time pass ([`Session::tick`]): a session must not be found
//! dead because its owner was busy while the packets waited.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::packet::{ControlPacket, Diagnostic, State};

/// While not up, nobody sends more often (RFC 5880 section 6.8.3).
const SLOW: Duration = Duration::from_secs(1);

/// What one end wants of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Params {
    /// The shortest interval at which to send.
    pub min_tx: Duration,
    /// The shortest interval at which to receive. Not 0: something is to be heard.
    pub min_rx: Duration,
    /// How many packets may be lost before the other end finds us dead. Not 0.
    pub multiplier: u8,
    /// Tell the other end not to send traffic though we are heard.
    pub path_down: bool,
}

impl Default for Params {
    /// Found dead after 3 × 300 ms.
    fn default() -> Self {
        Self {
            min_tx: Duration::from_millis(300),
            min_rx: Duration::from_millis(300),
            multiplier: 3,
            path_down: false,
        }
    }
}

/// What is known of the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Remote {
    /// 0 while it is not known.
    discriminator: u32,
    state: State,
    diagnostic: Diagnostic,
    min_tx: Duration,
    min_rx: Duration,
    multiplier: u8,
    demand: bool,
}

impl Default for Remote {
    fn default() -> Self {
        Self {
            discriminator: 0,
            state: State::Down,
            diagnostic: Diagnostic::NONE,
            min_tx: SLOW,
            // RFC 5880 section 6.8.1.
            min_rx: Duration::from_micros(1),
            multiplier: 1,
            demand: false,
        }
    }
}

/// What a restarted end must know to go on as if nothing had been.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    discriminator: NonZeroU32,
    remote: Remote,
    params: Params,
}

/// What a session says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// Our state.
    pub state: State,
    /// Why we last left a state.
    pub diagnostic: Diagnostic,
    /// The other end's state, as it last told.
    pub remote_state: State,
    /// Why the other end last left a state.
    pub remote_diagnostic: Diagnostic,
}

impl Status {
    /// Whether traffic may be sent.
    pub fn is_forwarding(&self) -> bool {
        self.state == State::Up && !self.remote_diagnostic.is_path_down()
    }
}

/// One end of a session.
#[derive(Clone, Debug)]
pub struct Session {
    params: Params,
    discriminator: NonZeroU32,
    state: State,
    diagnostic: Diagnostic,
    remote: Remote,
    /// Intervals before the change that a Poll Sequence is telling the other end of, while it has not answered.
    polling: Option<Intervals>,
    /// When something was last heard; nothing once that is longer ago than the detection time.
    heard: Option<Instant>,
    next_tx: Instant,
    /// Taken over from an earlier run, and not heard yet.
    unconfirmed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Intervals {
    min_tx: Duration,
    min_rx: Duration,
}

impl Session {
    /// A session that begins. The discriminator is to be random and none of another session of ours.
    pub fn new(params: Params, discriminator: NonZeroU32, now: Instant) -> Self {
        Self {
            params,
            discriminator,
            state: State::Down,
            diagnostic: Diagnostic::NONE,
            remote: Remote::default(),
            polling: None,
            heard: None,
            next_tx: now,
            unconfirmed: false,
        }
    }

    /// A session that was up when an earlier run of ours ended: the other end may not have noticed. If it has, it says
    /// so, and if it is gone, the detection time tells.
    pub fn resume(memory: Memory, now: Instant) -> Self {
        Self {
            state: State::Up,
            remote: memory.remote,
            heard: Some(now),
            unconfirmed: true,
            ..Self::new(memory.params, memory.discriminator, now)
        }
    }

    /// What to keep for [`Self::resume`], while up.
    pub fn memory(&self) -> Option<Memory> {
        (self.state == State::Up).then_some(Memory {
            discriminator: self.discriminator,
            remote: self.remote,
            params: self.params,
        })
    }

    /// What it says; nothing while it knows no better than the run before.
    pub fn status(&self) -> Option<Status> {
        (!self.unconfirmed).then_some(Status {
            state: self.state,
            diagnostic: self.diagnostic,
            remote_state: self.remote.state,
            remote_diagnostic: self.remote.diagnostic,
        })
    }

    /// Our number of the session.
    pub fn discriminator(&self) -> NonZeroU32 {
        self.discriminator
    }

    /// How long nothing may be heard until the other end counts as lost.
    pub fn detection_time(&self) -> Duration {
        // A shorter interval counts once the other end has said that it knows (section 6.8.3).
        let before = self.polling.filter(|_| self.state == State::Up);
        let min_rx = before.map_or(self.params.min_rx, |it| it.min_rx.max(self.params.min_rx));
        min_rx.max(self.remote.min_tx) * u32::from(self.remote.multiplier)
    }

    /// When [`Self::tick`] has something to do next.
    pub fn deadline(&self) -> Instant {
        let detection = self.heard.map(|heard| heard + self.detection_time());
        match detection {
            Some(detection) if !self.sends() => detection,
            Some(detection) => detection.min(self.next_tx),
            None => self.next_tx,
        }
    }

    /// Wants something else of the session from now on.
    pub fn set_params(&mut self, params: Params, now: Instant) {
        if params == self.params {
            return;
        }
        let before = self.intervals();
        self.params = params;
        self.poll_if_changed(before);
        self.next_tx = now;
    }

    /// Holds the session down: the other end is told that this is no failure.
    pub fn shut(&mut self, now: Instant) {
        if self.state != State::AdminDown {
            self.enter(State::AdminDown, Diagnostic::ADMINISTRATIVELY_DOWN, now);
            self.unconfirmed = false;
        }
    }

    /// Begins again after [`Self::shut`].
    pub fn open(&mut self, now: Instant) {
        if self.state == State::AdminDown {
            self.enter(State::Down, Diagnostic::NONE, now);
        }
    }

    /// A packet of the other end has come. Returns the answer that it asks for.
    pub fn receive(&mut self, packet: &ControlPacket, now: Instant) -> Option<ControlPacket> {
        let ours = [0, self.discriminator.get()].contains(&packet.your_discriminator);
        if !ours {
            return None;
        }
        let silent_before = !self.sends();
        let interval_before = self.interval();
        self.remote = Remote {
            discriminator: packet.my_discriminator.get(),
            state: packet.state,
            diagnostic: packet.diagnostic,
            min_tx: packet.desired_min_tx,
            min_rx: packet.required_min_rx,
            multiplier: packet.multiplier,
            demand: packet.demand,
        };
        if packet.r#final {
            self.polling = None;
        }
        if self.state == State::AdminDown {
            return None;
        }
        self.heard = Some(now);
        self.unconfirmed = false;
        match (self.state, packet.state) {
            (State::Init | State::Up, State::AdminDown) | (State::Up, State::Down) => {
                self.enter(State::Down, Diagnostic::NEIGHBOUR_DOWN, now);
            }
            (State::Down, State::Down) => self.enter(State::Init, self.diagnostic, now),
            (State::Down, State::Init) | (State::Init, State::Init | State::Up) => {
                self.enter(State::Up, Diagnostic::NONE, now);
            }
            _ => {}
        }
        if silent_before || self.interval() < interval_before {
            self.next_tx = self.next_tx.min(now + self.interval());
        }
        packet.poll.then(|| ControlPacket {
            poll: false,
            r#final: true,
            ..self.packet()
        })
    }

    /// Time has passed. Returns the packet that is due, if one is. `random` spreads packets, from 0 to 1.
    pub fn tick(&mut self, now: Instant, random: f64) -> Option<ControlPacket> {
        let silent = self
            .heard
            .is_some_and(|heard| now >= heard + self.detection_time());
        if silent {
            self.heard = None;
            self.unconfirmed = false;
            // Section 6.8.1: who is not heard has to introduce itself anew.
            self.remote = Remote {
                diagnostic: self.remote.diagnostic,
                ..Remote::default()
            };
            self.polling = None;
            if matches!(self.state, State::Init | State::Up) {
                self.enter(State::Down, Diagnostic::EXPIRED, now);
            }
        }
        if now < self.next_tx || !self.sends() {
            return None;
        }
        // Section 6.8.7: up to a quarter shorter; a tenth at least where not a single packet may be lost.
        let least = if self.params.multiplier == 1 {
            0.1
        } else {
            0.0
        };
        let shorter = least + (0.25 - least) * random.clamp(0.0, 1.0);
        self.next_tx = now + self.interval().mul_f64(1.0 - shorter);
        Some(self.packet())
    }

    fn enter(&mut self, state: State, diagnostic: Diagnostic, now: Instant) {
        let before = self.intervals();
        self.state = state;
        self.diagnostic = diagnostic;
        self.poll_if_changed(before);
        // The other end is told at once.
        self.next_tx = now;
    }

    fn poll_if_changed(&mut self, before: Intervals) {
        if before != self.intervals() && self.remote.discriminator != 0 {
            self.polling = Some(before);
        }
    }

    /// What we tell the other end.
    fn intervals(&self) -> Intervals {
        let min_tx = match self.state {
            State::Up => self.params.min_tx,
            _ => self.params.min_tx.max(SLOW),
        };
        Intervals {
            min_tx,
            min_rx: self.params.min_rx,
        }
    }

    /// Between two packets, before some of it is left away at random.
    fn interval(&self) -> Duration {
        let wanted = self.intervals().min_tx;
        // A longer interval counts once the other end has said that it knows (section 6.8.3).
        let before = self.polling.filter(|_| self.state == State::Up);
        let ours = before.map_or(wanted, |it| it.min_tx.min(wanted));
        ours.max(self.remote.min_rx)
    }

    /// Whether packets are sent periodically (section 6.8.7).
    fn sends(&self) -> bool {
        let demanded = self.remote.demand
            && self.state == State::Up
            && self.remote.state == State::Up
            && self.polling.is_none();
        !self.remote.min_rx.is_zero() && !demanded
    }

    fn packet(&self) -> ControlPacket {
        let Intervals { min_tx, min_rx } = self.intervals();
        ControlPacket {
            diagnostic: match self.state {
                State::Up if self.params.path_down => Diagnostic::CONCATENATED_PATH_DOWN,
                _ => self.diagnostic,
            },
            state: self.state,
            poll: self.polling.is_some(),
            r#final: false,
            demand: false,
            multiplier: self.params.multiplier,
            my_discriminator: self.discriminator,
            your_discriminator: self.remote.discriminator,
            desired_min_tx: min_tx,
            required_min_rx: min_rx,
        }
    }
}

#[cfg(test)]
mod tests;
