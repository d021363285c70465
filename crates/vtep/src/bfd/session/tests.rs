//! Two ends and a wire between them, in time that only the tests let pass.

use proptest::prelude::*;

use super::*;

const STEP: Duration = Duration::from_millis(5);

/// The largest part of a detection time by which ends may differ in what they count from, and by which a step of the
/// tests is late.
const SLACK: Duration = Duration::from_millis(60);

fn number(n: u32) -> NonZeroU32 {
    NonZeroU32::new(n).unwrap()
}

/// Two ends, and what is under way to each.
struct Pair {
    now: Instant,
    ends: [Session; 2],
    wire: Vec<(Instant, usize, ControlPacket)>,
    delay: Duration,
    /// Whether a packet that this end sends arrives.
    passes: [bool; 2],
    random: fastrand::Rng,
    /// How often each end left the state up.
    lost: [u32; 2],
    sent: [u32; 2],
}

impl Pair {
    fn new(params: [Params; 2], seed: u64) -> Self {
        let now = Instant::now();
        let [a, b] = params;
        Self {
            now,
            ends: [
                Session::new(a, number(11), now),
                Session::new(b, number(22), now),
            ],
            wire: Vec::new(),
            delay: Duration::from_millis(10),
            passes: [true; 2],
            random: fastrand::Rng::with_seed(seed),
            lost: [0; 2],
            sent: [0; 2],
        }
    }

    fn step(&mut self, mut loses: impl FnMut(usize) -> bool) {
        self.now += STEP;
        let (due, later): (Vec<_>, Vec<_>) =
            self.wire.drain(..).partition(|(at, ..)| *at <= self.now);
        self.wire = later;
        let up = self.states().map(|state| state == State::Up);
        for (_, to, packet) in due {
            // All that is sent can be read.
            let packet = ControlPacket::decode(&packet.encode()).unwrap();
            assert!(!(packet.poll && packet.r#final));
            let answer = self.ends[to].receive(&packet, self.now);
            self.send(to, answer, &mut loses);
        }
        for end in 0..2 {
            let random = self.random.f64();
            let packet = self.ends[end].tick(self.now, random);
            self.send(end, packet, &mut loses);
        }
        for ((lost, was_up), end) in self.lost.iter_mut().zip(up).zip(&self.ends) {
            *lost += u32::from(was_up && end.state != State::Up);
        }
    }

    fn send(
        &mut self,
        from: usize,
        packet: Option<ControlPacket>,
        loses: &mut impl FnMut(usize) -> bool,
    ) {
        let Some(packet) = packet else { return };
        self.sent[from] += 1;
        if self.passes[from] && !loses(from) {
            self.wire.push((self.now + self.delay, 1 - from, packet));
        }
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.step(|_| false);
        }
    }

    fn states(&self) -> [State; 2] {
        [self.ends[0].state, self.ends[1].state]
    }

    fn until(&mut self, states: [State; 2], within: Duration) -> Duration {
        let begun = self.now;
        while self.states() != states {
            assert!(self.now - begun <= within, "{:?}", self.states());
            self.step(|_| false);
        }
        self.now - begun
    }
}

fn up(seed: u64) -> Pair {
    let mut pair = Pair::new([Params::default(); 2], seed);
    pair.until([State::Up; 2], Duration::from_secs(4));
    // Until the intervals have been agreed on.
    pair.pass(Duration::from_secs(2));
    pair
}

#[test]
fn an_up_session_sends_and_expects_every_300_ms() {
    let mut pair = up(1);
    for end in &pair.ends {
        assert_eq!(end.detection_time(), Duration::from_millis(900));
    }
    pair.sent = [0; 2];
    pair.pass(Duration::from_secs(30));
    for sent in pair.sent {
        // 225 to 300 ms apart.
        assert!((98..=134).contains(&sent), "{sent}");
    }
    assert_eq!(pair.lost, [0; 2]);
}

#[test]
fn one_deaf_end_takes_both_down_and_says_why() {
    let mut pair = up(2);
    pair.passes[0] = false;
    let within = Duration::from_millis(900) + SLACK;
    pair.until([State::Up, State::Down], within);
    assert_eq!(pair.ends[1].diagnostic, Diagnostic::EXPIRED);
    // It says so to the one it still reaches.
    pair.until([State::Down, State::Down], SLACK);
    assert_eq!(pair.ends[0].diagnostic, Diagnostic::NEIGHBOUR_DOWN);
    let status = pair.ends[0].status().unwrap();
    assert_eq!(status.remote_diagnostic, Diagnostic::EXPIRED);
    assert!(!status.is_forwarding());
    // Half a wire is none.
    pair.pass(Duration::from_secs(10));
    assert_ne!(pair.states(), [State::Up; 2]);
    pair.passes = [true; 2];
    pair.until([State::Up; 2], Duration::from_secs(4));
}

#[test]
fn an_end_that_is_shut_is_told_apart_from_one_that_failed() {
    let mut pair = up(3);
    let now = pair.now;
    pair.ends[0].shut(now);
    pair.until([State::AdminDown, State::Down], SLACK);
    let status = pair.ends[1].status().unwrap();
    assert_eq!(status.diagnostic, Diagnostic::NEIGHBOUR_DOWN);
    assert_eq!(status.remote_state, State::AdminDown);
    assert_eq!(status.remote_diagnostic.as_str(), "Administratively Down");
    pair.pass(Duration::from_secs(5));
    assert_eq!(pair.states(), [State::AdminDown, State::Down]);
    let now = pair.now;
    pair.ends[0].open(now);
    pair.until([State::Up; 2], Duration::from_secs(4));
}

#[test]
fn a_path_that_is_down_behind_us_is_told_without_losing_the_session() {
    let mut pair = up(4);
    let now = pair.now;
    let params = Params {
        path_down: true,
        ..Params::default()
    };
    pair.ends[0].set_params(params, now);
    pair.pass(Duration::from_secs(1));
    let status = pair.ends[1].status().unwrap();
    assert_eq!((status.state, status.is_forwarding()), (State::Up, false));
    let now = pair.now;
    pair.ends[0].set_params(Params::default(), now);
    pair.pass(Duration::from_secs(1));
    assert!(pair.ends[1].status().unwrap().is_forwarding());
    assert_eq!(pair.lost, [0; 2]);
}

#[test]
fn an_end_that_comes_back_in_time_is_not_missed() {
    let mut pair = up(5);
    let memory = pair.ends[0].memory().unwrap();
    let gone = Duration::from_millis(500);
    let end = pair.now + gone;
    while pair.now < end {
        pair.passes[0] = false;
        pair.step(|_| false);
    }
    pair.passes = [true; 2];
    pair.ends[0] = Session::resume(memory, pair.now);
    assert_eq!(pair.ends[0].status(), None, "it has heard nothing itself");
    pair.pass(Duration::from_secs(5));
    assert_eq!(pair.lost, [0; 2]);
    assert_eq!(pair.ends[0].status().unwrap().state, State::Up);
}

#[test]
fn an_end_that_comes_back_too_late_begins_anew() {
    let mut pair = up(6);
    let memory = pair.ends[0].memory().unwrap();
    pair.passes = [false; 2];
    pair.pass(Duration::from_secs(5));
    assert_eq!(pair.states(), [State::Down; 2]);
    pair.passes = [true; 2];
    pair.ends[0] = Session::resume(memory, pair.now);
    pair.until([State::Up; 2], Duration::from_secs(5));
    // And with nobody there any more it says so when the detection time is over.
    pair.passes = [false; 2];
    pair.ends[0] = Session::resume(memory, pair.now);
    pair.pass(Duration::from_millis(900) + SLACK);
    let status = pair.ends[0].status().unwrap();
    assert_eq!(status.diagnostic, Diagnostic::EXPIRED);
}

#[test]
fn who_is_asked_to_be_silent_is_and_still_notices_nothing_wrong() {
    let mut pair = up(7);
    let mut asks = pair.ends[0].packet();
    asks.demand = true;
    let now = pair.now;
    pair.ends[1].receive(&asks, now);
    assert!(!pair.ends[1].sends());
    assert!(pair.ends[1].tick(now + SLOW / 2, 0.0).is_none());
    let mut wants_nothing = pair.ends[1].packet();
    wants_nothing.required_min_rx = Duration::ZERO;
    pair.ends[0].receive(&wants_nothing, now);
    assert!(pair.ends[0].tick(now + SLOW / 2, 0.0).is_none());
}

#[test]
fn nobody_comes_up_on_another_sessions_packets() {
    let now = Instant::now();
    let mut session = Session::new(Params::default(), number(7), now);
    let mut packet = Session::new(Params::default(), number(9), now).packet();
    packet.state = State::Init;
    packet.your_discriminator = 8;
    assert_eq!(session.receive(&packet, now), None);
    assert_eq!(session.state, State::Down);
    // Up says that it heard us, which from here it can't have.
    packet.state = State::Up;
    packet.your_discriminator = 7;
    session.receive(&packet, now);
    assert_eq!(session.state, State::Down);
}

fn params() -> impl Strategy<Value = Params> {
    (20_u64..2_000, 20_u64..2_000, 1_u8..6).prop_map(|(tx, rx, multiplier)| Params {
        min_tx: Duration::from_millis(tx),
        min_rx: Duration::from_millis(rx),
        multiplier,
        path_down: false,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever both want: they come up, a cut is found within the agreed time by both, and they come up again.
    #[test]
    fn cuts_are_found_in_time(a in params(), b in params(), seed: u64) {
        let mut pair = Pair::new([a, b], seed);
        let slowest = 3 * (SLOW + a.min_tx.max(b.min_rx) + b.min_tx.max(a.min_rx));
        pair.until([State::Up; 2], slowest);
        pair.pass(slowest);
        prop_assert_eq!(pair.lost, [0; 2]);
        let interval = [a.min_tx.max(b.min_rx), b.min_tx.max(a.min_rx)];
        prop_assert_eq!(pair.ends[1].detection_time(), interval[0] * u32::from(a.multiplier));
        prop_assert_eq!(pair.ends[0].detection_time(), interval[1] * u32::from(b.multiplier));
        let within = pair.ends[0].detection_time().max(pair.ends[1].detection_time());
        pair.passes = [false; 2];
        pair.until([State::Down; 2], within + SLACK);
        pair.passes = [true; 2];
        pair.until([State::Up; 2], slowest);
    }

    /// Of three packets one arrives: nothing is found dead.
    #[test]
    fn losses_below_the_multiplier_are_no_failure(seed: u64, pattern in prop::collection::vec(any::<bool>(), 60)) {
        let mut pair = up(seed);
        pair.lost = [0; 2];
        let (mut place, mut row) = (0, [0; 2]);
        let end = pair.now + Duration::from_secs(10);
        while pair.now < end {
            pair.step(|from| {
                place += 1;
                let loses = pattern[place % pattern.len()] && row[from] < 1;
                row[from] = if loses { row[from] + 1 } else { 0 };
                loses
            });
        }
        prop_assert_eq!(pair.lost, [0; 2]);
    }

    /// Packets of any content at any time: no panic, no time in the past, and up only after the other end was heard to
    /// hear us.
    #[test]
    fn no_packet_does_harm(packets in prop::collection::vec((any::<[u8; 24]>(), 0_u64..3_000), 1..60)) {
        let mut now = Instant::now();
        let mut session = Session::new(Params::default(), number(7), now);
        let mut heard_us = false;
        for (mut bytes, wait) in packets {
            now += Duration::from_millis(wait);
            (bytes[0], bytes[1], bytes[3]) = (1 << 5 | bytes[0] & 0x1f, bytes[1] & !5, 24);
            if bytes[2] % 2 == 0 {
                bytes[8..12].copy_from_slice(&[0, 0, 0, 7]);
            }
            if let Ok(packet) = ControlPacket::decode(&bytes) {
                heard_us |= packet.state == State::Init || packet.your_discriminator == 7;
                session.receive(&packet, now);
            }
            session.tick(now, 0.5);
            prop_assert!(session.state != State::Up || heard_us);
            prop_assert!(session.deadline() > now || !session.sends());
            session.memory();
        }
    }
}
