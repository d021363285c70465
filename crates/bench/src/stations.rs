//! The stations behind the remote gateway: the n-th has the same MAC and IP address in every measurement and floor.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::ops::Range;

/// A MAC address.
pub(crate) type Mac = [u8; 6];

/// How the stations' MAC addresses start (locally administered); nothing else on the bench has such a one.
pub(crate) const MAC_PREFIX: [u8; 2] = [0x02, 0xb0];

/// One station.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Station {
    pub(crate) mac: Mac,
    pub(crate) ip: Ipv4Addr,
}

impl Station {
    /// The n-th station. Its MAC address ends in n; so does its IP address, beyond 100.64.0.0 (RFC 6598).
    pub(crate) fn nth(n: u32) -> Self {
        let [a, b] = MAC_PREFIX;
        let [c, d, e, f] = n.to_be_bytes();
        Self {
            mac: [a, b, c, d, e, f],
            ip: Ipv4Addr::from_bits(Ipv4Addr::new(100, 64, 0, 1).to_bits() + n),
        }
    }

    /// The MAC address in lower case with colons.
    pub(crate) fn mac_text(&self) -> String {
        let [a, b, c, d, e, f] = self.mac;
        format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
    }
}

/// The stations with these numbers.
pub(crate) fn stations(numbers: Range<u32>) -> impl ExactSizeIterator<Item = Station> + Clone {
    numbers.map(Station::nth)
}

/// The body of the request that declares them all behind one remote gateway connection.
pub(crate) fn bulk_body(connection: &str, numbers: Range<u32>) -> String {
    let mut body = String::from(r#"{"l2_remote_macs":["#);
    for (place, station) in stations(numbers).enumerate() {
        let comma = if place == 0 { "" } else { "," };
        let (mac, ip) = (station.mac_text(), station.ip);
        // Writing to a string does not fail.
        let _ = write!(
            body,
            r#"{comma}{{"mac":"{mac}","ipaddr":"{ip}","rgw_connection":"{connection}"}}"#
        );
    }
    body.push_str("]}");
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stations_differ_in_both_addresses() {
        let all: Vec<_> = stations(0..100_001).collect();
        let macs: std::collections::BTreeSet<_> = all.iter().map(|s| s.mac).collect();
        let ips: std::collections::BTreeSet<_> = all.iter().map(|s| s.ip).collect();
        assert_eq!((macs.len(), ips.len()), (100_001, 100_001));
        assert_eq!(Station::nth(258).mac_text(), "02:b0:00:00:01:02");
        assert_eq!(Station::nth(258).ip.to_string(), "100.64.1.3");
    }

    #[test]
    fn a_body_declares_every_station_once() {
        let body: serde_json::Value = serde_json::from_str(&bulk_body("c", 5..8)).unwrap();
        let macs = body["l2_remote_macs"].as_array().unwrap();
        assert_eq!(macs.len(), 3);
        assert_eq!(macs[2]["mac"], "02:b0:00:00:00:07");
        assert_eq!(macs[2]["rgw_connection"], "c");
    }
}
