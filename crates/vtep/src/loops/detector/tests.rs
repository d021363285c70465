//! Gateways, segments and WAN tunnels as values: frames are carried by hand, time is a number.

use super::*;

/// A gateway with one network, `net`: bridge 1, ports 11 and 12, a WAN device 21.
struct Gateway {
    detector: Detector,
    ground: Ground,
    /// What its WAN device reaches, and the segment of each port.
    wan: Vec<usize>,
    segments: BTreeMap<u32, &'static str>,
    findings: Vec<(Duration, Finding)>,
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
        label: format!("eth{index}").into(),
    };
    Protected {
        name: LogicalSwitchName::new(name),
        fingerprint: name.len() as u64,
        ports: ports.iter().map(port).collect(),
        wan: wan.to_vec(),
        is_cut: false,
    }
}

impl Lab {
    /// Gateways 1, 2, …, each with the segments of its ports and the gateways that its WAN tunnels reach.
    fn new(plans: &[(&[&'static str], &[usize])]) -> Self {
        let gateways = (1_u8..).zip(plans).map(|(number, (segments, wan))| {
            let signer = Signer::new(Ipv4Addr::new(192, 0, 2, number)).unwrap();
            let segments: BTreeMap<u32, _> = (11..).zip(segments.iter().copied()).collect();
            let ports: Vec<u32> = segments.keys().copied().collect();
            let ground = Ground {
                networks: [(1, protected("net", &ports, &[21]))].into(),
            };
            let mut detector = Detector::new(signer);
            detector.set_ground(Arc::new(ground.clone()));
            Gateway {
                detector,
                ground,
                wan: wan.to_vec(),
                segments,
                findings: Vec::new(),
            }
        });
        Self {
            gateways: gateways.collect(),
            now: Duration::from_secs(10),
            on_wan: 0,
        }
    }

    /// Lets time pass. Findings cut at once, as the daemon does.
    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            for number in 0..self.gateways.len() {
                let due = self.gateways[number].detector.due(self.now);
                self.carry(number, due);
            }
            self.now += Duration::from_millis(20);
        }
    }

    fn carry(&mut self, from: usize, frames: Vec<Outgoing>) {
        for Outgoing { interface, frame } in frames {
            let segment = self.gateways[from].segments.get(&interface).copied();
            let to: Vec<usize> = match segment {
                None => {
                    self.on_wan += 1;
                    self.gateways[from].wan.clone()
                }
                Some(segment) => {
                    let gateways = self.gateways.iter().enumerate();
                    let there = gateways.flat_map(|(number, gateway)| {
                        let ports = gateway.segments.iter();
                        let ports = ports.filter(move |(port, on)| {
                            **on == segment && (number, **port) != (from, interface)
                        });
                        ports.map(move |_| number)
                    });
                    there.collect()
                }
            };
            for number in to {
                self.arrive(number, &frame, segment.is_none());
            }
        }
    }

    fn arrive(&mut self, number: usize, frame: &[u8], by_wan: bool) {
        let gateway = &mut self.gateways[number];
        // A device that is cut gives the bridge no frame.
        if by_wan && gateway.ground.networks[&1].is_cut {
            return;
        }
        let reaction = gateway.detector.receive(self.now, 1, frame);
        if let Some(finding) = reaction.finding {
            gateway.ground.networks.get_mut(&1).unwrap().is_cut = true;
            gateway
                .detector
                .set_ground(Arc::new(gateway.ground.clone()));
            gateway.findings.push((self.now, finding));
        }
        self.carry(number, reaction.relay);
    }

    /// Who cut, and what the first said.
    fn cut_by(&self) -> Vec<usize> {
        let gateways = self.gateways.iter().enumerate();
        let cut = gateways.filter(|(_, gateway)| !gateway.findings.is_empty());
        cut.map(|(number, _)| number + 1).collect()
    }

    fn first_cause(&self, gateway: usize) -> (Duration, &str) {
        let (at, finding) = &self.gateways[gateway - 1].findings[0];
        (*at - Duration::from_secs(10), &finding.cause)
    }
}

const SECOND: Duration = Duration::from_secs(1);

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
    assert!(cause.contains("out of eth11 comes back"), "{cause}");
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

#[test]
fn two_sites_joined_by_two_pairs_of_gateways_are_found() {
    let mut lab = Lab::new(&[
        (&["a"], &[2]),
        (&["a"], &[3]),
        (&["b"], &[0]),
        (&["b"], &[1]),
    ]);
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
fn networks_that_are_joined_outside_are_both_cut() {
    let signer = Signer::new(Ipv4Addr::new(192, 0, 2, 1)).unwrap();
    let mut detector = Detector::new(signer);
    detector.set_ground(Arc::new(Ground {
        networks: [
            (1, protected("net", &[11], &[21])),
            (2, protected("other", &[12], &[])),
        ]
        .into(),
    }));
    let due = detector.due(SECOND);
    let of = |port| due.iter().find(|sent| sent.interface == port);
    assert_eq!(of(12), None, "what has no WAN has nothing to be cut off");
    let reaction = detector.receive(SECOND, 2, &of(11).unwrap().frame);
    let finding = reaction.finding.unwrap();
    let names: Vec<_> = finding.networks.iter().map(|n| n.as_str()).collect();
    assert_eq!(names, ["net", "other"]);
    assert!(
        finding
            .cause
            .contains("network net sends out of eth11 comes in on network other")
    );
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
    detector.set_ground(Arc::new(Ground {
        networks: (1..=1000).map(network).collect(),
    }));
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
