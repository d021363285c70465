//! What is forwarded, for people: first what there is of it, then a line for each.

use std::fmt::{self, Write as _};

use super::{Mac, Network, Port, ShownCut, Source, State, Tunnel, View};
use crate::kernel::counters::Counters;
use crate::kernel::traffic::TunnelTraffic;

/// So many stations of a network are listed where nobody asked for the network; those with something wrong come first.
const LISTED: usize = 20;

impl View {
    /// In words. `whole`: every station is listed.
    pub(super) fn text(&self, whole: bool) -> String {
        let mut text = String::new();
        if !self.database {
            text.push_str("the database does not answer: this is the kernel's side alone\n");
        }
        for why in &self.not_looked_at {
            let _ = writeln!(text, "not looked at: {why}");
        }
        if self.networks.is_empty() {
            text.push_str("no networks\n");
        }
        for network in &self.networks {
            // Writing to a string fails for nobody.
            let _ = network.write(&mut text, whole);
        }
        text
    }
}

impl ShownCut {
    /// Since when, until when and why.
    fn rest(&self, network: &str) -> String {
        let left = match self.left {
            Some(left) => format!("for {left} s more unless the loop is seen again"),
            None => "until it is released".to_owned(),
        };
        let missing = if self.in_kernel {
            ""
        } else {
            " (NOT YET in the kernel)"
        };
        format!(
            "{missing} since {} s, {left}: {} (l2gw vtep release {network})",
            self.since, self.cause
        )
    }
}

impl Network {
    fn write(&self, text: &mut String, whole: bool) -> fmt::Result {
        let up = |up| if up { "up" } else { "down" };
        let mtu = match (self.mtu, self.device_mtu) {
            (Some(mtu), Some(devices)) => format!(", mtu {mtu}, devices take {devices}"),
            (None, Some(devices)) => format!(", mtu {devices}"),
            (_, None) => String::new(),
        };
        writeln!(
            text,
            "network {} ({}, {}{mtu})",
            self.name,
            self.bridge,
            up(self.up)
        )?;
        if let Some(cut) = &self.cut {
            writeln!(text, "  CUT OFF THE WAN{}", cut.rest(&self.name))?;
        }
        for binding in &self.bindings {
            writeln!(text, "  binding    {binding}")?;
        }
        for port in &self.interfaces {
            let Port {
                name, up: is_up, ..
            } = port;
            let counted = counted(&port.counted);
            writeln!(text, "  interface  {name:<17} {:<4}  {counted}", up(*is_up))?;
            if let Some(cut) = &port.cut {
                writeln!(text, "  CUT OFF PORT {name}{}", cut.rest(&self.name))?;
            }
        }
        for device in &self.devices {
            let (side, key) = (device.side.as_str(), device.key);
            let counted = counted(&device.counted);
            let undeclared = match device.undeclared_dropped {
                0 => String::new(),
                packets => format!("; {packets} packets of undeclared senders kept out"),
            };
            let place = match &device.netns {
                Some(name) => format!("; in network namespace {name}"),
                None => String::new(),
            };
            writeln!(
                text,
                "  tunnels    {side:<6} key {key:<8}  {counted}{undeclared}{place}"
            )?;
        }
        for Tunnel {
            side,
            remote_ip,
            key,
            floods,
            traffic,
            bfd,
            ..
        } in &self.tunnels
        {
            let (ip, side) = (remote_ip.to_string(), side.as_str());
            let floods = if *floods { "floods" } else { "" };
            let bfd = bfd
                .as_ref()
                .map_or_else(String::new, |said| format!("  BFD {said}"));
            let through = traffic.as_ref().map(through).unwrap_or_default();
            let line =
                format!("  tunnel     {ip:<17} {side:<6} key {key:<8} {floods:<6}{through}{bfd}");
            writeln!(text, "{}", line.trim_end())?;
        }
        if self.flood_dropped > 0 {
            let dropped = self.flood_dropped;
            writeln!(
                text,
                "  bum-limit  {dropped} frames not flooded towards the WAN"
            )?;
        }
        self.write_macs(text, whole)
    }

    fn write_macs(&self, text: &mut String, whole: bool) -> fmt::Result {
        if self.macs.is_empty() {
            return Ok(());
        }
        writeln!(text, "  macs       {}", summary(&self.macs))?;
        let is_right = |mac: &&Mac| mac.state == State::Forwarding;
        let wrong = self.macs.iter().filter(|mac| !is_right(mac));
        let first = wrong.chain(self.macs.iter().filter(is_right));
        let listed = if whole { self.macs.len() } else { LISTED };
        if whole {
            // In order, so that one is found.
            for mac in &self.macs {
                mac.write(text)?;
            }
        } else {
            for mac in first.take(LISTED) {
                mac.write(text)?;
            }
        }
        if let Some(more) = self.macs.len().checked_sub(listed).filter(|more| *more > 0) {
            let name = &self.name;
            writeln!(text, "             {more} more: l2gw vtep show {name}")?;
        }
        Ok(())
    }
}

impl Mac {
    fn write(&self, text: &mut String) -> fmt::Result {
        let ip = self.ip.map_or_else(|| "-".to_owned(), |ip| ip.to_string());
        let source = match (self.source, self.age) {
            (Source::Learnt, Some(age)) => format!("learnt, heard {age} s ago"),
            (Source::Learnt, None) => "learnt".to_owned(),
            (Source::Declared, _) => "declared".to_owned(),
        };
        let state = match self.state {
            State::Forwarding => "",
            State::Missing => ", MISSING in the kernel",
            State::Surplus => ", not in the database",
            State::Unchecked => ", not checked",
        };
        let (mac, at) = (&self.mac, &self.at);
        writeln!(
            text,
            "  mac        {mac} {ip:<15} at {at:<15} {source}{state}"
        )
    }
}

fn counted(counters: &Counters) -> String {
    let mut words = format!(
        "in {} packets, {} bytes; out {} packets, {} bytes",
        counters.received_packets,
        counters.received_bytes,
        counters.sent_packets,
        counters.sent_bytes
    );
    let dropped = counters.received_dropped + counters.sent_dropped;
    if dropped > 0 {
        let _ = write!(words, "; {dropped} dropped");
    }
    words
}

/// What went through a tunnel, with its outer headers.
fn through(traffic: &TunnelTraffic) -> String {
    let TunnelTraffic {
        received,
        sent,
        flood_dropped,
    } = traffic;
    let mut words = format!(
        "  in {} packets, {} bytes; out {} packets, {} bytes",
        received.packets, received.bytes, sent.packets, sent.bytes
    );
    if *flood_dropped > 0 {
        let _ = write!(words, "; {flood_dropped} not flooded");
    }
    words
}

fn summary(macs: &[Mac]) -> String {
    let count = |test: &dyn Fn(&Mac) -> bool| macs.iter().filter(|mac| test(mac)).count();
    let mut words = format!(
        "{} declared, {} learnt",
        count(&|mac| mac.source == Source::Declared),
        count(&|mac| mac.source == Source::Learnt)
    );
    for (state, what) in [
        (State::Missing, "MISSING in the kernel"),
        (State::Surplus, "not in the database"),
        (State::Unchecked, "not checked"),
    ] {
        let wrong = count(&|mac| mac.state == state);
        if wrong > 0 {
            let _ = write!(words, "; {wrong} {what}");
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::super::{Device, Side};
    use super::*;
    use crate::kernel::traffic::Count;

    #[test]
    fn of_many_stations_the_wrong_ones_are_told_first_and_the_others_counted() {
        let mac = |number: u32| Mac {
            mac: format!("02:00:00:00:{:02x}:{:02x}", number / 256, number % 256),
            ip: None,
            at: "192.0.2.2".to_owned(),
            source: Source::Declared,
            state: match number {
                9_000 => State::Missing,
                _ => State::Forwarding,
            },
            age: None,
        };
        let view = View {
            database: true,
            not_looked_at: Vec::new(),
            networks: vec![Network {
                name: "blue".to_owned(),
                bridge: "gb0".to_owned(),
                up: true,
                mtu: None,
                device_mtu: Some(1500),
                cut: None,
                flood_dropped: 0,
                bindings: vec!["up vlan 7".to_owned()],
                interfaces: vec![Port {
                    name: "eth1.7".to_owned(),
                    device: "gv0".to_owned(),
                    up: true,
                    cut: None,
                    counted: Counters {
                        received_packets: 3,
                        received_bytes: 300,
                        sent_dropped: 1,
                        ..Counters::default()
                    },
                }],
                tunnels: vec![Tunnel {
                    side: Side::Wan,
                    remote_ip: std::net::Ipv4Addr::new(192, 0, 2, 2),
                    key: 456,
                    device: "gw0".to_owned(),
                    floods: true,
                    traffic: Some(TunnelTraffic {
                        received: Count {
                            packets: 4,
                            bytes: 520,
                        },
                        sent: Count {
                            packets: 1,
                            bytes: 130,
                        },
                        flood_dropped: 2,
                    }),
                    bfd: Some("up".to_owned()),
                }],
                devices: vec![Device {
                    side: Side::Wan,
                    key: 456,
                    device: "gw0".to_owned(),
                    netns: Some("wan".to_owned()),
                    counted: Counters::default(),
                    undeclared_dropped: 9,
                }],
                macs: (0..10_000).map(mac).collect(),
            }],
        };
        let text = view.text(false);
        let head: Vec<_> = text.lines().take(8).collect();
        assert_eq!(
            head.join("\n"),
            "\
network blue (gb0, up, mtu 1500)
  binding    up vlan 7
  interface  eth1.7            up    in 3 packets, 300 bytes; out 0 packets, 0 bytes; 1 dropped
  tunnels    wan    key 456       in 0 packets, 0 bytes; out 0 packets, 0 bytes; 9 packets of undeclared senders kept out; in network namespace wan
  tunnel     192.0.2.2         wan    key 456      floods  in 4 packets, 520 bytes; out 1 packets, 130 bytes; 2 not flooded  BFD up
  macs       10000 declared, 0 learnt; 1 MISSING in the kernel
  mac        02:00:00:00:23:28 -               at 192.0.2.2       declared, MISSING in the kernel
  mac        02:00:00:00:00:00 -               at 192.0.2.2       declared"
        );
        assert_eq!(text.lines().count(), 6 + LISTED + 1);
        assert!(text.ends_with("9980 more: l2gw vtep show blue\n"), "{text}");
        assert_eq!(view.text(true).lines().count(), 6 + 10_000);
    }
}
