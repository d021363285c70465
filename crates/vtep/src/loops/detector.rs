//! What to send, what to hand on, and what it means when a frame comes back. Knows no clock and no socket.
//!
//! Each network that could close a ring, over WAN tunnels or between ports of its own, is probed out of each port. What then
//! may happen:
//!
//! | what comes in | means | what is done |
//! |---|---|---|
//! | our probe, not relayed | the port it left by and the one it came in on are joined behind our back, be they of one network or of two | the later one of both is cut off |
//! | our probe, not relayed, from inside | a host joins the inside to the port it left by | the port is cut off: frames reach its segment by that host, too |
//! | our probe, relayed | frames go round through those gateways | cut off the WAN; who has not the lowest address waits for a second proof |
//! | another gateway's, from a port | we share a segment with it | handed on over the WAN, where tenants' frames would go |
//! | another gateway's, from the WAN | there is another gateway behind that one | handed on to our ports, if we share a segment |
//!
//! A gateway hands on just what its bridge would pass: not while the network, or the port, is cut. Each probe is handed on once in each
//! direction, in a bounded number, over a bounded number of gateways: a ring of gateways doesn't multiply probes.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use model::switch::LogicalSwitchName;
use model::value::MacAddress;

use super::cuts::Place;
use super::probe::{Claim, Leg, MOST_RELAYS, Probe, Signer};
use crate::kernel::name::InterfaceName;

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

/// A second proof is one that comes this long after the first, and not much later.
const SECOND_AFTER: Duration = Duration::from_millis(250);
const SECOND_BEFORE: Duration = Duration::from_secs(3);

/// Probes of others handed on for a network in each [`EVERY`].
const MOST_RELAYED: usize = 32;

/// What there is to protect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ground {
    /// By the number of the bridge.
    pub(crate) networks: BTreeMap<u32, Protected>,
}

/// A network as it is in the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Protected {
    pub(crate) name: LogicalSwitchName,
    /// What its probes call it.
    pub(crate) fingerprint: u64,
    pub(crate) ports: Vec<Port>,
    /// Numbers of the devices that lead to remote gateways.
    pub(crate) wan: Vec<u32>,
    /// Numbers of the devices that lead to inside hosts.
    pub(crate) inside: Vec<u32>,
    /// Whether it is off the WAN.
    pub(crate) is_cut: bool,
}

/// A port frames are exchanged through with a segment that is not ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Port {
    /// The number of the interface in the bridge.
    pub(crate) index: u32,
    /// Its device, in the bridge.
    pub(crate) device: InterfaceName,
    /// What people call it.
    pub(crate) label: Arc<str>,
    /// Whether it is off the network.
    pub(crate) is_cut: bool,
    /// Where its frames leave the host.
    pub(crate) wire: Wire,
}

/// An interface's number, and the VLAN whose tag frames bear there, if any. To put a frame there is a fifth of the work it is
/// to send it through the devices that stand for the VLAN, and thousands of networks are probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wire {
    pub(crate) interface: u32,
    pub(crate) vlan: Option<u16>,
}

impl Protected {
    /// Its way to the WAN.
    fn place(&self) -> (Place, Vec<u32>) {
        let network = self.name.clone();
        let place = Place {
            network,
            port: None,
        };
        let devices = if self.is_cut { &[][..] } else { &self.wan };
        (place, devices.to_vec())
    }
}

impl Port {
    fn place(&self, network: &Protected) -> (Place, Vec<u32>) {
        let network = network.name.clone();
        let place = Place {
            network,
            port: Some(self.device),
        };
        let device = (!self.is_cut).then_some(self.index);
        (place, device.into_iter().collect())
    }
}

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
}

/// What came of a frame.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Reaction {
    pub(crate) relay: Vec<Outgoing>,
    pub(crate) finding: Option<Finding>,
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
    /// When another gateway was heard on a port.
    neighbour: Option<Duration>,
    /// When a probe of ours that proves nothing by itself came back first, and last.
    suspicion: Option<(Duration, Duration)>,
    /// Probes handed on lately.
    relayed: VecDeque<(Duration, Leg, Claim)>,
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

    /// Takes in what there is to protect now.
    pub(crate) fn set_ground(&mut self, ground: Arc<Ground>) {
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
        for (bridge, seen) in &mut self.seen {
            // A port was cut or joined: what came back before says nothing of what is joined now.
            if ground.networks.get(bridge) != self.ground.networks.get(bridge) {
                seen.suspicion = None;
            }
        }
        self.ground = ground;
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
        let probes = turns.iter().map(|turn| {
            let probe = self.signer.probe(turn.network, turn.port, now);
            Outgoing {
                interface: turn.wire.interface,
                frame: probe.frame(self.signer.origin, turn.wire.vlan),
            }
        });
        let probes = probes.collect();
        self.turn = self.turn.max(end);
        probes
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
            relay: self.hand_on(now, bridge, &probe, network),
            finding: None,
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
        if back.is_none() && !from_inside && !self.suspect_again(from, now) {
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
        })
    }

    /// Notes a sign of a loop that proves nothing by itself. Whether it is the second one, a while after the first.
    fn suspect_again(&mut self, bridge: u32, now: Duration) -> bool {
        let suspicion = &mut self.seen.entry(bridge).or_default().suspicion;
        let since = match suspicion {
            Some((since, last)) if now.saturating_sub(*last) < SECOND_BEFORE => *since,
            _ => now,
        };
        *suspicion = Some((since, now));
        now - since >= SECOND_AFTER
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
        let first = |path: &[Ipv4Addr]| path.iter().all(|ip| self.signer.origin.wan_ip < *ip);
        let alone = first(&probe.path);
        let again = self.suspect_again(from, now);
        if !alone && !again {
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
        let (leg, wires): (Leg, Vec<Wire>) = match probe.leg {
            Leg::Local => {
                seen.neighbour = Some(now);
                let devices = network.wan.iter().map(|device| Wire {
                    interface: *device,
                    vlan: None,
                });
                (Leg::Wan, devices.collect())
            }
            Leg::Wan => {
                let shares = seen.neighbour.is_some_and(|at| now - at < NEIGHBOUR_FOR);
                let ports = network.ports.iter();
                let ports = ports.filter(|port| shares && !port.is_cut);
                (Leg::Local, ports.map(|port| port.wire).collect())
            }
        };
        if network.is_cut || wires.is_empty() || probe.path.len() >= MOST_RELAYS {
            return Vec::new();
        }
        seen.relayed.retain(|(at, _, _)| now - *at < EVERY);
        let known = seen
            .relayed
            .iter()
            .any(|(_, of, claim)| (*of, *claim) == (leg, probe.claim));
        if known || seen.relayed.len() >= MOST_RELAYED {
            return Vec::new();
        }
        seen.relayed.push_back((now, leg, probe.claim));
        let relayed = probe.relayed(leg, self.signer.origin.wan_ip);
        let origin = self.signer.origin;
        let to = wires.into_iter();
        to.map(|wire| Outgoing {
            interface: wire.interface,
            frame: relayed.frame(origin, wire.vlan),
        })
        .collect()
    }
}

#[cfg(test)]
mod tests;
