//! What to send, what to hand on, and what it means when a frame comes back. Knows no clock and no socket.
//!
//! Each network that could close a ring, over WAN tunnels or between ports of its own, is probed out of each port. What then
//! may happen:
//!
//! | what comes in | means | what is done |
//! |---|---|---|
//! | our probe, not relayed | the port it left by and the one it came in on are joined behind our back, be they of one network or of two | the later one of both is cut off |
//! | our probe, not relayed, from inside | a host joins the inside to the port it left by | the port is cut off: frames reach its segment by that host, too |
//! | our probe, relayed | frames go round through those gateways | cut off the WAN, in the order of addresses: others wait for those before them |
//! | another gateway's, from a port | we share a segment with it | handed on over the WAN, where tenants' frames would go |
//! | another gateway's, from the WAN | there is another gateway behind that one | handed on to our ports, if we share a segment |
//!
//! Stations that flap between a port and the inside are a sign of such a ring, too, which several gateways may see at once, and
//! long before a probe came round. They probe at once then, so that those on one segment know of each other, and each waits for
//! the lower ones next to it, on its segments and behind the WAN.
//!
//! Whoever cuts something, or joins it again, says so, as spanning tree tells of a change of the topology (IEEE 802.1D section
//! 17.11): what came round was learnt on ports that its senders are not behind, and would be looked for there for minutes. All
//! who hear of it forget what the network's ports learnt, and hand it on like a probe.
//!
//! A gateway hands on just what its bridge would pass: not while the network, or the port, is cut. Each probe is handed on once in each
//! direction, in a bounded number, over a bounded number of gateways: a ring of gateways doesn't multiply probes.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use model::switch::LogicalSwitchName;
use model::value::MacAddress;

use super::cuts::Place;
use super::ground::{Ground, Port, Protected, Wire};
use super::probe::{Claim, Leg, MOST_RELAYS, Origin, Probe, Signer};

/// Between two probes of a port: three of them fit into the second within which a ring must be cut.
const EVERY: Duration = Duration::from_millis(300);

/// Frames a second that all probing may cost; with more ports to probe it takes longer.
const MOST_PROBES_A_SECOND: u32 = 10_000;

/// How often we wake up in a round with many ports, and how many are probed at once at least: each time costs some ten probes' work
/// before the first.
const WAKES: u32 = 6;
const AT_LEAST: usize = 200;

/// A gateway on our segment is remembered this long: two of its probes may get lost.
const NEIGHBOUR_FOR: Duration = Duration::from_secs(1);

/// How long those before us are given to cut a ring: signs of it that still come after that are ours to act upon. One cut parts
/// a ring, two part the sites.
const TURN: Duration = Duration::from_millis(250);

/// A ring that gave no sign in so many rounds was cut by somebody: what comes later is of another one.
const FORGOTTEN_AFTER: u32 = 3;

/// So often a change is told, in as many rounds.
const TELLINGS: u8 = 3;

/// Told of it by anybody, we forget what was learnt at most this often.
const FORGET_EVERY: Duration = Duration::from_millis(250);

/// Until those on our segment who see the same have said that they are there.
const LISTEN: Duration = Duration::from_millis(50);

/// However many are before us, we wait for so many: the ring is to be cut within a second.
const MOST_TURNS: u32 = 3;

/// Of the gateways next to us, whose own turns we know nothing of.
const MOST_TURNS_OF_NEIGHBOURS: u32 = 2;

/// Gateways remembered on a network's segments.
const MOST_NEIGHBOURS: usize = 32;

/// Probes of others handed on for a network in each [`EVERY`].
const MOST_RELAYED: usize = 32;

/// A frame to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outgoing {
    /// The interface's number.
    pub(crate) interface: u32,
    pub(crate) frame: Vec<u8>,
}

/// What is to be cut off, and how one knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    /// Each with the numbers of its devices that are not off yet, as far as the last pass saw.
    pub(crate) places: Vec<(Place, Vec<u32>)>,
    pub(crate) cause: String,
    /// The network in which a port and the inside are joined, and so the WAN has no part in the ring.
    pub(crate) beside_wan: Option<LogicalSwitchName>,
    /// No probe came back, so nobody knows where the ring closes.
    pub(crate) suspected: bool,
}

/// What came of a frame.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Reaction {
    pub(crate) send: Vec<Outgoing>,
    pub(crate) finding: Option<Finding>,
    /// Ports, by number, on which what was learnt may be wrong.
    pub(crate) forget: Vec<u32>,
}

/// A port to probe.
#[derive(Clone, Copy, Debug)]
struct Turn {
    /// What probes call its network.
    network: u64,
    /// The number of its interface in the bridge.
    port: u32,
    wire: Wire,
}

/// The state of all networks' protection.
#[derive(Debug)]
pub(crate) struct Detector {
    signer: Signer,
    ground: Arc<Ground>,
    /// Bridges by what probes call their networks.
    bridges: HashMap<u64, u32>,
    /// Ports to probe in turn.
    turns: Vec<Turn>,
    /// The next one.
    turn: usize,
    /// When the round now under way began, once one has.
    round: Option<Duration>,
    /// What was seen of each network, by its bridge.
    seen: HashMap<u32, Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    /// When other gateways were heard on a port, by address.
    neighbours: BTreeMap<Ipv4Addr, Duration>,
    /// When a sign of a ring that we did not act upon came first, and last.
    suspicion: Option<(Duration, Duration)>,
    /// Probes handed on lately, and changes.
    relayed: VecDeque<(Duration, Leg, bool, Claim)>,
    /// How often a change of ours is still to be told.
    tellings: u8,
    /// When we were told of one.
    told: Option<Duration>,
}

impl Seen {
    /// Another gateway, on one of our segments.
    fn hear(&mut self, now: Duration, gateway: Ipv4Addr) {
        self.neighbours
            .retain(|_, at| now.saturating_sub(*at) < NEIGHBOUR_FOR);
        if self.neighbours.len() < MOST_NEIGHBOURS || self.neighbours.contains_key(&gateway) {
            self.neighbours.insert(gateway, now);
        }
    }

    fn neighbours(&self, now: Duration) -> impl Iterator<Item = Ipv4Addr> {
        let lately = move |at: Duration| now.saturating_sub(at) < NEIGHBOUR_FOR;
        let neighbours = self.neighbours.iter();
        neighbours.filter_map(move |(ip, at)| lately(*at).then_some(*ip))
    }
}

impl Detector {
    pub(crate) fn new(signer: Signer) -> Self {
        Self {
            signer,
            ground: Arc::default(),
            bridges: HashMap::new(),
            turns: Vec::new(),
            turn: 0,
            round: None,
            seen: HashMap::new(),
        }
    }

    /// What there is to protect.
    pub(crate) fn ground(&self) -> &Arc<Ground> {
        &self.ground
    }

    /// Takes in what there is to protect now.
    pub(crate) fn set_ground(&mut self, now: Duration, ground: Arc<Ground>) -> Reaction {
        self.bridges = ground
            .networks
            .iter()
            .map(|(bridge, network)| (network.fingerprint, *bridge))
            .collect();
        let could_loop = |n: &Protected| !n.wan.is_empty() || n.ports.len() > 1;
        let probed = ground.networks.values().filter(|n| could_loop(n));
        let turns = probed.flat_map(|n| {
            n.ports.iter().map(|port| Turn {
                network: n.fingerprint,
                port: port.index,
                wire: port.wire,
            })
        });
        self.turns = turns.collect();
        self.turn = self.turn.min(self.turns.len());
        self.seen
            .retain(|bridge, _| ground.networks.contains_key(bridge));
        let mut forget = Vec::new();
        for (bridge, network) in &ground.networks {
            let Some(before) = self.ground.networks.get(bridge).filter(|b| *b != network) else {
                continue;
            };
            let seen = self.seen.entry(*bridge).or_default();
            // A port was cut or joined: what came back before says nothing of what is joined now.
            seen.suspicion = None;
            if !before.off().eq(network.off()) {
                seen.tellings = TELLINGS;
                forget.extend(network.ports());
            }
        }
        self.ground = ground;
        Reaction {
            send: self.tell(now),
            finding: None,
            forget,
        }
    }

    /// What there is to tell of changes of ours.
    fn tell(&mut self, now: Duration) -> Vec<Outgoing> {
        let ground = Arc::clone(&self.ground);
        let mut tell = Vec::new();
        for (bridge, seen) in &mut self.seen {
            let Some(network) = ground.networks.get(bridge).filter(|_| seen.tellings > 0) else {
                continue;
            };
            seen.tellings -= 1;
            for leg in [Leg::Local, Leg::Wan] {
                let mut change = self.signer.probe(network.fingerprint, 0, now);
                (change.leg, change.change) = (leg, true);
                tell.extend(put(self.signer.origin, &change, network.wires(leg)));
            }
        }
        tell
    }

    /// How long a round over all ports takes.
    fn every(&self) -> Duration {
        let ports = u32::try_from(self.turns.len()).unwrap_or(u32::MAX);
        EVERY.max(Duration::from_secs(1) * ports / MOST_PROBES_A_SECOND)
    }

    /// The probes that are due: of a long round, its share until now.
    pub(crate) fn due(&mut self, now: Duration) -> Vec<Outgoing> {
        let every = self.every();
        let mut due = Vec::new();
        let mut round = *self.round.get_or_insert(now);
        if now >= round + every {
            due.extend(self.until(self.turns.len(), now));
            due.extend(self.tell(now));
            self.turn = 0;
            round = now;
            self.round = Some(now);
        }
        let elapsed = now.saturating_sub(round).as_secs_f64() / every.as_secs_f64();
        let share = (elapsed * self.turns.len() as f64) as usize + AT_LEAST;
        due.extend(self.until(share, now));
        due
    }

    fn until(&mut self, end: usize, now: Duration) -> Vec<Outgoing> {
        let end = end.min(self.turns.len());
        let turns = self.turns.get(self.turn..end).unwrap_or_default();
        let probes = turns.iter();
        let probes = probes.map(|turn| self.probe(turn.network, turn.port, turn.wire, now));
        let probes = probes.collect();
        self.turn = self.turn.max(end);
        probes
    }

    fn probe(&self, network: u64, port: u32, wire: Wire, now: Duration) -> Outgoing {
        let probe = self.signer.probe(network, port, now);
        Outgoing {
            interface: wire.interface,
            frame: probe.frame(self.signer.origin, wire.vlan),
        }
    }

    /// How long there is nothing to send.
    pub(crate) fn rest(&self, now: Duration) -> Duration {
        if self.turns.is_empty() {
            return EVERY;
        }
        if self.turn < self.turns.len() {
            return EVERY / WAKES;
        }
        let next = self.round.map_or(now, |round| round + self.every());
        next.saturating_sub(now)
    }

    /// Takes in a frame that came to a bridge. `came_in_by` tells by which port a bridge heard a station last, by number.
    pub(crate) fn receive(
        &mut self,
        now: Duration,
        bridge: u32,
        frame: &[u8],
        came_in_by: impl FnOnce(MacAddress) -> Option<u32>,
    ) -> Reaction {
        let ground = Arc::clone(&self.ground);
        let (Some(probe), Some(network)) = (Probe::parse(frame), ground.networks.get(&bridge))
        else {
            return Reaction::default();
        };
        if probe.change {
            return self.told(now, bridge, &probe, network);
        }
        if self.signer.is_ours(&probe, now) {
            let finding = if probe.path.is_empty() {
                self.came_straight_back(now, &probe, network, came_in_by)
            } else {
                self.came_round(now, &probe, network)
            };
            return Reaction {
                finding,
                ..Reaction::default()
            };
        }
        // Our own from before a restart, or somebody who says to be us.
        if probe.claim.origin.wan_ip == self.signer.origin.wan_ip {
            return Reaction::default();
        }
        Reaction {
            send: self.hand_on(now, bridge, &probe, network),
            ..Reaction::default()
        }
    }

    /// The network that a probe of ours is of, and the port it left by, if they are still there.
    fn left_by<'g>(
        ground: &'g Ground,
        from: u32,
        probe: &Probe,
    ) -> Option<(&'g Protected, Option<&'g Port>)> {
        let network = ground.networks.get(&from)?;
        let mut ports = network.ports.iter();
        Some((network, ports.find(|port| port.index == probe.claim.port)))
    }

    /// Two ports are joined outside, or one with itself. One of two is enough to cut off; always the same one.
    fn came_straight_back(
        &mut self,
        now: Duration,
        probe: &Probe,
        at: &Protected,
        came_in_by: impl FnOnce(MacAddress) -> Option<u32>,
    ) -> Option<Finding> {
        let from = *self.bridges.get(&probe.claim.network)?;
        let ground = Arc::clone(&self.ground);
        let (network, out) = Self::left_by(&ground, from, probe)?;
        let index = came_in_by(probe.source(self.signer.origin));
        let mut ports = at.ports.iter();
        let back = ports.find(|port| Some(port.index) == index);
        let from_inside = index.is_some_and(|index| at.inside.contains(&index));
        // What was learnt on a port that was cut just now is forgotten: of what came in by it before, nothing is known.
        if back.is_none() && !from_inside && self.suspected_for(from, now) < TURN {
            return None;
        }
        let both = [out.map(|port| (network, port)), back.map(|port| (at, port))];
        let both = both.into_iter().flatten();
        let later = both.max_by_key(|(network, port)| (&network.name, &port.label, port.device));
        let label = |port: Option<&Port>| {
            port.map_or_else(|| "a port".into(), |port| Arc::clone(&port.label))
        };
        let (out, back) = (label(out), label(back));
        let cause = if from_inside {
            format!(
                "what network {} sends out of {out} comes back from inside{}: a host joins them",
                network.name,
                match network.name == at.name {
                    true => String::new(),
                    false => format!(" of network {}", at.name),
                }
            )
        } else if network.name != at.name {
            format!(
                "what network {} sends out of {out} comes in by {back} of network {}: they are joined outside",
                network.name, at.name
            )
        } else if out == back {
            format!("what the network sends out of {out} comes back by it: it goes round outside")
        } else {
            format!(
                "what the network sends out of {out} comes back by {back}: its ports are joined outside"
            )
        };
        let places = match later {
            Some((network, port)) => vec![port.place(network)],
            // What nobody knows the ports of can still be kept off the WAN.
            None => [network, at].map(Protected::place).into(),
        };
        let beside_wan = from_inside.then(|| network.name.clone());
        Some(Finding {
            places,
            cause,
            beside_wan,
            suspected: false,
        })
    }

    /// Notes a sign of a loop. How long there have been any.
    fn suspected_for(&mut self, bridge: u32, now: Duration) -> Duration {
        let forgotten_after = self.every() * FORGOTTEN_AFTER;
        let suspicion = &mut self.seen.entry(bridge).or_default().suspicion;
        let since = match suspicion {
            Some((since, last)) if now.saturating_sub(*last) < forgotten_after => *since,
            _ => now,
        };
        *suspicion = Some((since, now));
        now - since
    }

    /// Takes in that a station flaps, and not between physical ports alone.
    pub(crate) fn flapped(&mut self, now: Duration, bridge: u32, cause: String) -> Reaction {
        let ground = Arc::clone(&self.ground);
        let network = ground.networks.get(&bridge);
        let Some(network) = network.filter(|network| !network.wan.is_empty()) else {
            return Reaction::default();
        };
        let ours = self.signer.origin.wan_ip;
        let seen = self.seen.entry(bridge).or_default();
        let neighbours = seen.neighbours(now).collect::<BTreeSet<_>>();
        let lower = network.remotes.union(&neighbours).filter(|ip| **ip < ours);
        let turns = (0..MOST_TURNS_OF_NEIGHBOURS).zip(lower).count();
        let since = self.suspected_for(bridge, now);
        // What goes on after the cut prolongs it.
        if since < LISTEN + TURN * turns as u32 && !network.is_cut {
            let ports = network.ports.iter().filter(|_| since.is_zero());
            let probes = ports.map(|p| self.probe(network.fingerprint, p.index, p.wire, now));
            return Reaction {
                send: probes.collect(),
                ..Reaction::default()
            };
        }
        Reaction {
            finding: Some(Finding {
                places: vec![network.place()],
                cause,
                beside_wan: None,
                suspected: true,
            }),
            ..Reaction::default()
        }
    }

    /// Another gateway cut or joined something.
    fn told(&mut self, now: Duration, bridge: u32, change: &Probe, at: &Protected) -> Reaction {
        if change.claim.origin.wan_ip == self.signer.origin.wan_ip {
            return Reaction::default();
        }
        let told = &mut self.seen.entry(bridge).or_default().told;
        let forget = if told.is_some_and(|told| now.saturating_sub(told) < FORGET_EVERY) {
            Vec::new()
        } else {
            *told = Some(now);
            at.ports()
        };
        Reaction {
            send: self.hand_on(now, bridge, change, at),
            finding: None,
            forget,
        }
    }

    /// Frames go round through other gateways.
    fn came_round(&mut self, now: Duration, probe: &Probe, at: &Protected) -> Option<Finding> {
        let from = *self.bridges.get(&probe.claim.network)?;
        let ground = Arc::clone(&self.ground);
        let (network, out) = Self::left_by(&ground, from, probe)?;
        // A port that is off its network is no part of its ring.
        if out.is_some_and(|port| port.is_cut) {
            return None;
        }
        let ours = self.signer.origin.wan_ip;
        let lower = probe.path.iter().filter(|ip| **ip < ours);
        let before_us = (0..MOST_TURNS).zip(lower).count() as u32;
        // Who was held up does not know what the others did meanwhile.
        let late = u32::from(probe.claim.age(now) >= TURN);
        if self.suspected_for(from, now) < TURN * before_us.max(late) {
            return None;
        }
        self.seen.entry(from).or_default().suspicion = None;
        let through: Vec<_> = probe.path.iter().map(Ipv4Addr::to_string).collect();
        let cause = format!(
            "what network {} sends out of {} comes back through the gateways {}",
            network.name,
            out.map_or("a port", |port| &port.label),
            through.join(", ")
        );
        let mut places = vec![network.place()];
        if network.name != at.name {
            places.push(at.place());
        }
        Some(Finding {
            places,
            cause,
            beside_wan: None,
            suspected: false,
        })
    }

    fn hand_on(
        &mut self,
        now: Duration,
        bridge: u32,
        probe: &Probe,
        network: &Protected,
    ) -> Vec<Outgoing> {
        let seen = self.seen.entry(bridge).or_default();
        let leg = match probe.leg {
            Leg::Local => {
                seen.hear(now, probe.sender());
                Leg::Wan
            }
            Leg::Wan if seen.neighbours(now).next().is_none() => return Vec::new(),
            Leg::Wan => Leg::Local,
        };
        let wires = network.wires(leg);
        if network.is_cut || wires.is_empty() || probe.path.len() >= MOST_RELAYS {
            return Vec::new();
        }
        seen.relayed.retain(|(at, ..)| now - *at < EVERY);
        let known = seen.relayed.iter().any(|(_, of, change, claim)| {
            (*of, *change, *claim) == (leg, probe.change, probe.claim)
        });
        if known || seen.relayed.len() >= MOST_RELAYED {
            return Vec::new();
        }
        seen.relayed
            .push_back((now, leg, probe.change, probe.claim));
        let relayed = probe.relayed(leg, self.signer.origin.wan_ip);
        put(self.signer.origin, &relayed, wires).collect()
    }
}

/// The frames of a probe that the gateway with this origin puts on these wires.
fn put(sender: Origin, probe: &Probe, wires: Vec<Wire>) -> impl Iterator<Item = Outgoing> {
    wires.into_iter().map(move |wire| Outgoing {
        interface: wire.interface,
        frame: probe.frame(sender, wire.vlan),
    })
}

#[cfg(test)]
mod tests;
