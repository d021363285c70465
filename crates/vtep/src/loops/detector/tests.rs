//! Gateways, segments and WAN tunnels as values: frames are carried by hand, time is a number.

use super::*;

/// A gateway with one network, `net`: bridge 1, ports 11 and 12, a WAN device 21.
struct Gateway {
    detector: Detector,
    ground: Ground,
    /// What its WAN device reaches, and the segment of each port.
    wan: Vec<usize>,
    segments: BTreeMap<u32, &'static str>,
    /// The host has no time for it until then, and what came in for it meanwhile.
    held_up_until: Duration,
    missed: Vec<(Vec<u8>, Option<u32>)>,
    findings: Vec<(Duration, Finding)>,
    /// When it forgot what its ports had learnt.
    forgot: Vec<Duration>,
}

impl Gateway {
    fn is_cut(&self) -> bool {
        self.ground.networks[&1].is_cut
    }

    /// Does as the daemon does, at once. What is to be sent then.
    fn act(&mut self, now: Duration, reaction: Reaction) -> Vec<Outgoing> {
        if !reaction.forget.is_empty() {
            self.forgot.push(now);
        }
        let mut send = reaction.send;
        if let Some(finding) = reaction.finding {
            self.ground.cut(&finding.places);
            self.findings.push((now, finding));
            send.extend(self.look_round(now));
        }
        send
    }

    fn look_round(&mut self, now: Duration) -> Vec<Outgoing> {
        let ground = Arc::new(self.ground.clone());
        let reaction = self.detector.set_ground(now, ground);
        self.act(now, reaction)
    }
}

struct Lab {
    gateways: Vec<Gateway>,
    now: Duration,
    /// Frames put on the WAN.
    on_wan: usize,
}

fn protected(name: &str, ports: &[u32], wan: &[u32]) -> Protected {
    let port = |index: &u32| Port {
        index: *index,
        device: format!("eth{index}").parse().unwrap(),
        label: format!("eth{index}").into(),
        is_cut: false,
        wire: Wire {
            interface: *index,
            vlan: None,
        },
    };
    Protected {
        name: LogicalSwitchName::new(name),
        fingerprint: name.len() as u64,
        ports: ports.iter().map(port).collect(),
        wan: wan.to_vec(),
        remotes: BTreeSet::new(),
        inside: vec![31],
        is_cut: false,
    }
}

impl Lab {
    /// Gateways 1, 2, …, each with the segments of its ports and the gateways that its WAN tunnels reach.
    fn new(plans: &[(&[&'static str], &[usize])]) -> Self {
        let gateways = plans.iter().enumerate().map(|(number, (segments, wan))| {
            let signer = Signer::new(address(number)).unwrap();
            let segments: BTreeMap<u32, _> = (11..).zip(segments.iter().copied()).collect();
            let ports: Vec<u32> = segments.keys().copied().collect();
            let mut network = protected("net", &ports, &[21]);
            network.remotes = wan.iter().map(|number| address(*number)).collect();
            let ground = Ground {
                networks: [(1, network)].into(),
            };
            let mut detector = Detector::new(signer);
            detector.set_ground(Duration::ZERO, Arc::new(ground.clone()));
            Gateway {
                detector,
                ground,
                wan: wan.to_vec(),
                segments,
                held_up_until: Duration::ZERO,
                missed: Vec::new(),
                findings: Vec::new(),
                forgot: Vec::new(),
            }
        });
        Self {
            gateways: gateways.collect(),
            now: Duration::from_secs(10),
            on_wan: 0,
        }
    }

    /// Lets time pass.
    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            for number in 0..self.gateways.len() {
                if self.gateways[number].held_up_until > self.now {
                    continue;
                }
                for (frame, by) in std::mem::take(&mut self.gateways[number].missed) {
                    self.arrive(number, &frame, by);
                }
                let due = self.gateways[number].detector.due(self.now);
                self.carry(number, due);
            }
            self.now += Duration::from_millis(20);
        }
    }

    fn carry(&mut self, from: usize, frames: Vec<Outgoing>) {
        for Outgoing { interface, frame } in frames {
            let segment = self.gateways[from].segments.get(&interface).copied();
            let to: Vec<(usize, Option<u32>)> = match segment {
                None => {
                    self.on_wan += 1;
                    let wan = self.gateways[from].wan.iter();
                    wan.map(|number| (*number, None)).collect()
                }
                Some(segment) => {
                    let gateways = self.gateways.iter().enumerate();
                    let there = gateways.flat_map(|(number, gateway)| {
                        let ports = gateway.segments.iter();
                        let ports = ports.filter(move |(port, on)| {
                            **on == segment && (number, **port) != (from, interface)
                        });
                        ports.map(move |(port, _)| (number, Some(*port)))
                    });
                    there.collect()
                }
            };
            for (number, port) in to {
                self.arrive(number, &frame, port);
            }
        }
    }

    /// By a port, or over the WAN.
    fn arrive(&mut self, number: usize, frame: &[u8], by: Option<u32>) {
        let gateway = &mut self.gateways[number];
        if gateway.held_up_until > self.now {
            gateway.missed.push((frame.to_vec(), by));
            return;
        }
        // A device that is cut gives the bridge no frame.
        let network = &gateway.ground.networks[&1];
        let is_cut = match by {
            None => network.is_cut,
            Some(port) => network.ports[port as usize - 11].is_cut,
        };
        if is_cut {
            return;
        }
        let reaction = gateway.detector.receive(self.now, 1, frame, |_| by);
        let send = gateway.act(self.now, reaction);
        self.carry(number, send);
    }

    /// Lets time pass in which a broadcast goes round through all gateways until one cuts: they are told of it in this order.
    fn storm(&mut self, time: Duration, order: &[usize]) {
        let end = self.now + time;
        while self.now < end {
            for number in order {
                let goes_round = !self.gateways.iter().any(Gateway::is_cut);
                let gateway = &mut self.gateways[number - 1];
                if goes_round && gateway.held_up_until <= self.now {
                    let cause = "a station moves".to_owned();
                    let reaction = gateway.detector.flapped(self.now, 1, cause);
                    let send = gateway.act(self.now, reaction);
                    self.carry(number - 1, send);
                }
            }
            self.run(Duration::from_millis(100));
        }
    }

    /// Who cut, and what the first said.
    fn cut_by(&self) -> Vec<usize> {
        let gateways = self.gateways.iter().enumerate();
        let cut = gateways.filter(|(_, gateway)| !gateway.findings.is_empty());
        cut.map(|(number, _)| number + 1).collect()
    }

    /// Which ports of a gateway are off its network.
    fn off(&self, gateway: usize) -> Vec<String> {
        let ports = self.gateways[gateway - 1].ground.networks[&1].ports.iter();
        let off = ports.filter(|port| port.is_cut);
        off.map(|port| port.label.to_string()).collect()
    }

    fn first_cause(&self, gateway: usize) -> (Duration, &str) {
        let (at, finding) = &self.gateways[gateway - 1].findings[0];
        (*at - Duration::from_secs(10), &finding.cause)
    }
}

const SECOND: Duration = Duration::from_secs(1);

fn address(gateway: usize) -> Ipv4Addr {
    Ipv4Addr::new(192, 0, 2, gateway as u8 + 1)
}

#[test]
fn gateways_joined_by_the_wan_alone_stay_joined_and_the_wan_carries_no_probe() {
    let mut lab = Lab::new(&[
        (&["a1", "a2"], &[1, 2]),
        (&["b"], &[0, 2]),
        (&["c"], &[0, 1]),
    ]);
    lab.run(10 * SECOND);
    assert_eq!(lab.cut_by(), Vec::<usize>::new());
    assert_eq!(lab.on_wan, 0);
}

#[test]
fn a_cable_between_two_ports_is_found_within_a_second() {
    let mut lab = Lab::new(&[(&["a", "a"], &[1]), (&["b"], &[0])]);
    lab.run(SECOND);
    assert_eq!(lab.cut_by(), [1]);
    let (after, cause) = lab.first_cause(1);
    assert!(after < SECOND / 2, "{after:?}");
    assert!(
        cause.contains("out of eth11 comes back by eth12"),
        "{cause}"
    );
    assert_eq!(
        lab.off(1),
        ["eth12"],
        "the network stays on the WAN, and on one of both ports"
    );
}

#[test]
fn of_ports_that_are_joined_outside_one_stays_whatever_is_joined_to_what() {
    for (segments, off) in [
        (&["a", "a", "a"][..], &["eth12", "eth13"][..]),
        (&["a", "b", "a", "b"], &["eth13", "eth14"]),
        (&["a", "b", "c", "b"], &["eth14"]),
    ] {
        // Also where there is no WAN at all.
        for wan in [&[1][..], &[]] {
            let mut lab = Lab::new(&[(segments, wan), (&["z"], &[0])]);
            lab.run(3 * SECOND);
            assert_eq!(lab.off(1), off, "{segments:?}");
            assert!(!lab.gateways[0].ground.networks[&1].is_cut);
        }
    }
}

#[test]
fn a_ring_is_seen_as_long_as_it_lasts_though_a_port_of_it_is_off() {
    let mut lab = Lab::new(&[(&["a", "a"], &[1]), (&["b"], &[0])]);
    lab.run(10 * SECOND);
    let (last, _) = lab.gateways[0].findings.last().unwrap();
    assert!(
        lab.now - *last < SECOND,
        "the last sign is {:?} old",
        lab.now - *last
    );
}

/// What comes back by a port that nobody knows, since it was cut and all that was learnt on it forgotten, tells of the ring
/// that was found: not of another one, when the same is closed again a moment later.
#[test]
fn what_is_left_of_a_ring_that_was_cut_does_not_cut_the_other_port_of_the_next() {
    let mut lab = Lab::new(&[(&["one", "two"], &[])]);
    for _ in 0..2 {
        let gateway = &mut lab.gateways[0];
        let [first, second] = [11, 12].map(|port| {
            let probe = gateway.detector.signer.probe(3, port, lab.now);
            probe.frame(gateway.detector.signer.origin, None)
        });
        // Stations that flapped had the second port cut before.
        let by = |port: Option<u32>| move |_| port;
        let found = gateway.detector.receive(lab.now, 1, &second, by(Some(11)));
        let (place, _) = &found.finding.expect("a finding").places[0];
        assert_eq!(place.port.unwrap().to_string(), "eth12");
        let left = gateway.detector.receive(lab.now, 1, &first, by(None));
        assert_eq!(left.finding, None);
        // The cut is seen by a pass, and released by hand.
        for is_cut in [true, false] {
            let network = gateway.ground.networks.get_mut(&1).unwrap();
            network.ports[1].is_cut = is_cut;
            gateway.look_round(lab.now);
        }
        lab.now += Duration::from_secs(1);
    }
}

#[test]
fn a_port_that_is_off_is_no_part_of_a_ring_of_gateways() {
    // The first gateway's ports are joined, and a second line leads to the other gateway: the one ring is cut at a port,
    // the other one at the WAN.
    let mut lab = Lab::new(&[(&["ab", "ab"], &[1]), (&["ab"], &[0])]);
    lab.run(3 * SECOND);
    assert_eq!(lab.off(1), ["eth12"]);
    assert!(lab.gateways[0].ground.networks[&1].is_cut);
    // Without the second line it comes back, while the port is off.
    let lab = &mut lab;
    lab.gateways[1].segments = [(11, "b")].into();
    lab.gateways[0].ground.networks.get_mut(&1).unwrap().is_cut = false;
    lab.gateways[0].look_round(lab.now);
    lab.run(3 * SECOND);
    assert!(!lab.gateways[0].ground.networks[&1].is_cut);
}

#[test]
fn a_second_way_between_two_sites_is_found_and_one_of_them_cuts() {
    let mut lab = Lab::new(&[(&["ab"], &[1]), (&["ab"], &[0])]);
    lab.run(5 * SECOND);
    assert_eq!(lab.cut_by(), [1]);
    let (after, cause) = lab.first_cause(1);
    assert!(after < SECOND, "{after:?}");
    assert!(cause.contains("through the gateways 192.0.2.2"), "{cause}");
}

#[test]
fn who_has_not_the_lowest_address_cuts_if_the_one_that_has_does_not() {
    let mut lab = Lab::new(&[(&["ab"], &[1]), (&["ab"], &[0])]);
    // The first hears nothing of its own: its remote gateway does not flood to it.
    lab.gateways[1].wan.clear();
    lab.run(2 * SECOND);
    assert_eq!(lab.cut_by(), [2]);
    assert!(lab.first_cause(2).0 < SECOND, "{:?}", lab.first_cause(2));
}

/// Two sites, joined by the first gateway and the third, and by the second and the fourth.
fn two_pairs() -> Lab {
    Lab::new(&[
        (&["a"], &[2]),
        (&["a"], &[3]),
        (&["b"], &[0]),
        (&["b"], &[1]),
    ])
}

/// A probe of the detector's that two pairs of gateways handed on, in this order.
fn gone_round(detector: &Detector, sent: Duration, relays: [usize; 3]) -> Vec<u8> {
    let legs = [Leg::Wan, Leg::Local, Leg::Wan];
    let mut probe = detector.signer.probe(3, 11, sent);
    for (leg, relay) in legs.into_iter().zip(relays) {
        probe = probe.relayed(leg, address(relay));
    }
    probe.frame(detector.signer.origin, None)
}

/// All four in every order.
fn orders() -> impl Iterator<Item = [usize; 4]> {
    let all = (0..256).map(|n| [n % 4, n / 4 % 4, n / 16 % 4, n / 64 % 4].map(|k| k + 1));
    all.filter(|order| order.iter().collect::<BTreeSet<_>>().len() == 4)
}

#[test]
fn whoever_sees_stations_flap_first_the_lowest_cuts_and_alone() {
    for order in orders() {
        let mut lab = two_pairs();
        lab.storm(2 * SECOND, &order);
        assert_eq!(lab.cut_by(), [1], "told in the order {order:?}");
        let (after, cause) = lab.first_cause(1);
        assert!(after <= SECOND / 5, "{after:?}: {cause}");
    }
}

#[test]
fn while_the_lowest_is_held_up_another_one_cuts_and_it_does_not_when_it_wakes() {
    for order in orders() {
        let mut lab = two_pairs();
        lab.gateways[0].held_up_until = lab.now + SECOND * 8 / 10;
        lab.storm(5 * SECOND, &order);
        let [cut] = lab.cut_by()[..] else {
            panic!("{:?}, told in the order {order:?}", lab.cut_by());
        };
        let (after, _) = lab.first_cause(cut);
        assert!(cut != 1 && after <= SECOND / 2, "{cut} after {after:?}");
    }
}

#[test]
fn a_ring_that_was_cut_is_no_sign_of_the_next_one_a_second_later() {
    let mut lab = two_pairs();
    let Gateway { detector, .. } = &mut lab.gateways[1];
    let mut found = |after: u64| {
        let now = lab.now + Duration::from_millis(after);
        let frame = gone_round(detector, now, [0, 2, 3]);
        detector.receive(now, 1, &frame, |_| None).finding.is_some()
    };
    assert_eq!([0, 1000].map(&mut found), [false, false]);
    assert!(found(1300), "it goes on");
}

/// What came round was learnt on ports that its senders are not behind.
#[test]
fn a_cut_and_its_end_make_all_gateways_forget_what_their_ports_learnt_once_more_if_a_frame_was_lost()
 {
    let mut lab = two_pairs();
    lab.run(2 * SECOND);
    assert_eq!(lab.cut_by(), [1]);
    let (cut_after, _) = lab.first_cause(1);
    let mut begun = Duration::from_secs(10) + cut_after;
    for times in [1, 2] {
        for (number, gateway) in lab.gateways.iter_mut().enumerate() {
            let forgot = std::mem::take(&mut gateway.forgot);
            let after: Vec<_> = forgot.iter().map(|at| *at - begun).collect();
            // The one that cuts knows of it, the others might have missed it.
            let expected = if number == 0 { 1..=1 } else { 2..=3 };
            assert!(
                expected.contains(&after.len()),
                "{number}: {after:?} at change {times}"
            );
            assert!(
                after[0] <= SECOND / 20,
                "{number}: {after:?} at change {times}"
            );
        }
        // The ring is opened beyond, and the hold time is over.
        lab.gateways[3].segments = [(11, "c")].into();
        lab.gateways[0].ground.networks.get_mut(&1).unwrap().is_cut = false;
        begun = lab.now;
        let told = lab.gateways[0].look_round(begun);
        lab.carry(0, told);
        lab.run(2 * SECOND);
    }
    assert_eq!(lab.cut_by(), [1]);
}

#[test]
fn a_probe_that_was_long_on_its_way_does_not_make_the_lowest_cut_at_once() {
    let mut lab = two_pairs();
    let Gateway { detector, .. } = &mut lab.gateways[0];
    let frame = gone_round(detector, lab.now, [1, 3, 2]);
    let mut found = |after: u64| {
        let now = lab.now + Duration::from_millis(after);
        detector.receive(now, 1, &frame, |_| None).finding.is_some()
    };
    // The second time is another sign, a while after the first.
    assert_eq!([800, 900, 1100].map(&mut found), [false, false, true]);
    assert!(found(100), "one that comes in time is enough");
}

#[test]
fn two_sites_joined_by_two_pairs_of_gateways_are_found() {
    let mut lab = two_pairs();
    lab.run(2 * SECOND);
    assert_eq!(lab.cut_by(), [1]);
    let (after, cause) = lab.first_cause(1);
    assert!(after <= SECOND, "{after:?}");
    assert!(cause.contains("192.0.2.2, 192.0.2.4, 192.0.2.3"), "{cause}");
}

#[test]
fn two_gateways_on_a_segment_that_lead_to_different_sites_are_no_loop() {
    let mut lab = Lab::new(&[
        (&["a"], &[2]),
        (&["a"], &[3]),
        (&["b"], &[0]),
        (&["c"], &[1]),
    ]);
    lab.run(5 * SECOND);
    assert_eq!(lab.cut_by(), Vec::<usize>::new());
    assert!(lab.on_wan > 0, "they do look behind each other");
}

#[test]
fn a_ring_of_many_gateways_does_not_multiply_probes() {
    // Six gateways, all on one segment and all joined with each other.
    let others = |n: usize| (0..6).filter(|m| *m != n).collect::<Vec<_>>();
    let wans: Vec<Vec<usize>> = (0..6).map(others).collect();
    let plans: Vec<(&[&'static str], &[usize])> =
        wans.iter().map(|wan| (&["x"][..], &wan[..])).collect();
    let mut lab = Lab::new(&plans);
    lab.run(SECOND);
    let cut = lab.cut_by().len();
    assert!(cut >= 5, "only one may stay: {cut} of 6 cut");
    lab.on_wan = 0;
    lab.run(10 * SECOND);
    assert!(lab.on_wan < 14 * 5 * 6 * 3, "{} frames", lab.on_wan);
}

#[test]
fn networks_that_are_joined_outside_are_parted_at_one_port() {
    let signer = Signer::new(Ipv4Addr::new(192, 0, 2, 1)).unwrap();
    let mut detector = Detector::new(signer);
    detector.set_ground(
        Duration::ZERO,
        Arc::new(Ground {
            networks: [
                (1, protected("net", &[11], &[21])),
                (2, protected("other", &[12], &[])),
            ]
            .into(),
        }),
    );
    let due = detector.due(SECOND);
    let of = |port| due.iter().find(|sent| sent.interface == port);
    assert_eq!(
        of(12),
        None,
        "what has neither WAN nor a second port closes no ring"
    );
    let probe = &of(11).unwrap().frame;
    let mut places = |after: Duration, by: Option<u32>, network: u32| {
        let now = SECOND + after;
        let finding = detector.receive(now, network, probe, |_| by).finding?;
        let places = finding.places.iter();
        let places: Vec<_> = places.map(|(place, _)| place.to_string()).collect();
        Some((places, finding.cause))
    };
    let (parted, cause) = places(Duration::ZERO, Some(12), 2).unwrap();
    assert_eq!(parted, ["port eth12 is cut off network other"]);
    assert_eq!(
        cause,
        "what network net sends out of eth11 comes in by eth12 of network other: they are joined outside"
    );
    let (parted, cause) = places(Duration::ZERO, Some(11), 1).unwrap();
    assert_eq!(parted, ["port eth11 is cut off network net"]);
    assert!(cause.ends_with("goes round outside"), "{cause}");
    // Where the bridge does not say by which port, and that twice, the one that it left by.
    assert_eq!(places(Duration::ZERO, None, 2), None);
    let (parted, _) = places(SECOND / 3, None, 2).unwrap();
    assert_eq!(parted, ["port eth11 is cut off network net"]);
}

#[test]
fn thousands_of_ports_are_probed_a_share_at_a_time() {
    let signer = Signer::new(Ipv4Addr::new(192, 0, 2, 1)).unwrap();
    let mut detector = Detector::new(signer);
    let network = |n: u32| {
        (
            n,
            protected(&"n".repeat(n as usize), &[10_000 + n], &[20_000 + n]),
        )
    };
    detector.set_ground(
        Duration::ZERO,
        Arc::new(Ground {
            networks: (1..=1000).map(network).collect(),
        }),
    );
    let mut probed: HashMap<u32, Vec<Duration>> = HashMap::new();
    let mut now = SECOND;
    let mut most = 0;
    while now < 11 * SECOND {
        let due = detector.due(now);
        most = most.max(due.len());
        for sent in due {
            probed.entry(sent.interface).or_default().push(now);
        }
        now += detector
            .rest(now)
            .clamp(Duration::from_millis(1), Duration::from_millis(100));
    }
    assert_eq!(probed.len(), 1000);
    assert!(most <= 300, "{most} at once");
    for (port, times) in probed {
        assert!(
            (27..=34).contains(&times.len()),
            "{port}: {} times",
            times.len()
        );
        let longest = times.windows(2).map(|two| two[1] - two[0]).max().unwrap();
        assert!(longest < Duration::from_millis(700), "{port}: {longest:?}");
    }
}
