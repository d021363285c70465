//! The frame that finds loops.
//!
//! It is sent to an address that every bridge of every l2gw gateway has as its own and no station has: switches between
//! flood it like any unknown address, stations' network cards ignore it, and a gateway's bridge keeps it instead of
//! passing it on. Its EtherType is the second one for local experiments (IEEE 802 section 9.2.3).
//!
//! ```text
//!  to 6 │ from 6 │ 88b6 │ "l2gw" │ version 1 │ leg 1 │ relays 1 │ change 1 │ origin: WAN address 4, nonce 8 │
//!  network 8 │ port 4 │ sent 8 (ms) │ HMAC-SHA-256 of origin to sent, 32 │ WAN addresses of the relays, 4 each
//! ```
//!
//! Only its origin knows the key, which is new with each start, and only its origin draws conclusions from it: a tenant
//! can neither forge a probe nor use an old one. One who sees probes, which takes a place on a physical port's segment, can
//! send them back: that is a loop, and costs the network it is in its WAN.

use std::net::Ipv4Addr;
use std::time::Duration;

use model::value::MacAddress;
use ring::error::Unspecified;
use ring::hmac;
use ring::rand::{SecureRandom as _, SystemRandom};

/// The address of every bridge of a logical switch: what is sent there ends at the first gateway.
pub(crate) const GATEWAYS: MacAddress = MacAddress::new([0x02, 0x6c, 0x32, 0x67, 0x77, 0x00]);

/// How the source address of a probe begins; the other half is the gateway's and, in a probe of its own, the port's: so the
/// forwarding database of the bridge to which it comes back says by which port.
const SOURCE: [u8; 3] = [0x06, 0x6c, 0x32];

/// EtherType of probes.
pub(crate) const ETHERTYPE: u16 = 0x88b6;

/// What announces the tag of a VLAN (IEEE 802.1Q section 9.6).
const TPID: u16 = 0x8100;

const MAGIC: [u8; 4] = *b"l2gw";
const VERSION: u8 = 1;

/// Places in the frame.
const HEADER: usize = 14;
const CLAIM: usize = HEADER + 8;
const TAG: usize = CLAIM + 32;
const PATH: usize = TAG + 32;

/// With a tag and all relays.
const LONGEST: usize = PATH + 4 + 4 * MOST_RELAYS;

/// Relays a probe may take: no ring of more gateways is looked for.
pub(crate) const MOST_RELAYS: usize = 8;

/// A probe older than this proves nothing about now.
const FRESH: Duration = Duration::from_secs(3);

/// Whether a station's address is that of a probing gateway, which is no tenant's.
pub(crate) fn is_probe_source(mac: MacAddress) -> bool {
    mac.octets().starts_with(&SOURCE)
}

/// Where a probe was put on the wire last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leg {
    /// On a physical port.
    Local = 0,
    /// In a WAN tunnel.
    Wan = 1,
}

/// Who sent a probe: an address for people, and a number for certainty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Origin {
    pub(crate) wan_ip: Ipv4Addr,
    nonce: [u8; 8],
}

/// What a gateway says in a probe, and nobody else can say for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Claim {
    pub(crate) origin: Origin,
    /// A fingerprint of the network.
    pub(crate) network: u64,
    /// The number of the interface it left by.
    pub(crate) port: u32,
    /// Since the origin's start.
    sent: u64,
}

/// A probe as it was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Probe {
    pub(crate) leg: Leg,
    pub(crate) claim: Claim,
    tag: [u8; 32],
    /// It tells those who hear it that its origin cut or joined something, and proves nothing.
    pub(crate) change: bool,
    /// The gateways that relayed it, in order.
    pub(crate) path: Vec<Ipv4Addr>,
}

/// Makes and recognises the probes of one gateway from one start to the next.
#[derive(Debug)]
pub(crate) struct Signer {
    pub(crate) origin: Origin,
    key: hmac::Key,
}

impl Signer {
    pub(crate) fn new(wan_ip: Ipv4Addr) -> Result<Self, Unspecified> {
        let random = SystemRandom::new();
        let mut nonce = [0; 8];
        random.fill(&mut nonce)?;
        Ok(Self {
            origin: Origin { wan_ip, nonce },
            key: hmac::Key::generate(hmac::HMAC_SHA256, &random)?,
        })
    }

    /// A probe of a network to leave by a port.
    pub(crate) fn probe(&self, network: u64, port: u32, now: Duration) -> Probe {
        let claim = Claim {
            origin: self.origin,
            network,
            port,
            sent: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
        };
        let mut tag = [0; 32];
        let signed = hmac::sign(&self.key, &claim.bytes());
        for (to, from) in tag.iter_mut().zip(signed.as_ref()) {
            *to = *from;
        }
        Probe {
            leg: Leg::Local,
            claim,
            tag,
            change: false,
            path: Vec::new(),
        }
    }

    /// Whether we sent this a moment ago.
    pub(crate) fn is_ours(&self, probe: &Probe, now: Duration) -> bool {
        let sent = Duration::from_millis(probe.claim.sent);
        probe.claim.origin == self.origin
            && sent <= now
            && now - sent <= FRESH
            && hmac::verify(&self.key, &probe.claim.bytes(), &probe.tag).is_ok()
    }
}

impl Claim {
    /// How long ago the origin, whose clock this is, sent it.
    pub(crate) fn age(&self, now: Duration) -> Duration {
        now.saturating_sub(Duration::from_millis(self.sent))
    }

    fn bytes(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        let fields = self
            .origin
            .wan_ip
            .octets()
            .into_iter()
            .chain(self.origin.nonce)
            .chain(self.network.to_be_bytes())
            .chain(self.port.to_be_bytes())
            .chain(self.sent.to_be_bytes());
        for (to, from) in bytes.iter_mut().zip(fields) {
            *to = from;
        }
        bytes
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        Some(Self {
            origin: Origin {
                wan_ip: Ipv4Addr::from(*bytes.first_chunk::<4>()?),
                nonce: *bytes.get(4..)?.first_chunk()?,
            },
            network: u64::from_be_bytes(*bytes.get(12..)?.first_chunk()?),
            port: u32::from_be_bytes(*bytes.get(20..)?.first_chunk()?),
            sent: u64::from_be_bytes(*bytes.get(24..)?.first_chunk()?),
        })
    }
}

impl Probe {
    /// The gateway that put it on the wire last.
    pub(crate) fn sender(&self) -> Ipv4Addr {
        let relay = self.path.last();
        relay.copied().unwrap_or(self.claim.origin.wan_ip)
    }

    /// The probe as the gateway with this address hands it on.
    pub(crate) fn relayed(&self, leg: Leg, by: Ipv4Addr) -> Self {
        let mut relayed = Self {
            leg,
            ..self.clone()
        };
        relayed.path.push(by);
        relayed
    }

    /// The address it is sent from by the gateway with this origin.
    pub(crate) fn source(&self, sender: Origin) -> MacAddress {
        let [a, b, c, ..] = sender.nonce;
        let port = if self.path.is_empty() {
            self.claim.port
        } else {
            0
        };
        let [_, p, q, r] = port.to_be_bytes();
        let [x, y, z] = SOURCE;
        MacAddress::new([x, y, z, a ^ p, b ^ q, c ^ r])
    }

    /// The frame, from the gateway with this origin; with the tag of a VLAN, if there is one.
    pub(crate) fn frame(&self, sender: Origin, vlan: Option<u16>) -> Vec<u8> {
        let relays = u8::try_from(self.path.len()).unwrap_or(u8::MAX);
        let mut frame = Vec::with_capacity(LONGEST);
        frame.extend_from_slice(&GATEWAYS.octets());
        frame.extend_from_slice(&self.source(sender).octets());
        if let Some(vlan) = vlan {
            frame.extend_from_slice(&TPID.to_be_bytes());
            frame.extend_from_slice(&vlan.to_be_bytes());
        }
        frame.extend_from_slice(&ETHERTYPE.to_be_bytes());
        frame.extend_from_slice(&MAGIC);
        frame.extend_from_slice(&[VERSION, self.leg as u8, relays, u8::from(self.change)]);
        frame.extend_from_slice(&self.claim.bytes());
        frame.extend_from_slice(&self.tag);
        for ip in &self.path {
            frame.extend_from_slice(&ip.octets());
        }
        frame
    }

    /// Reads a frame; nothing if it is no probe.
    pub(crate) fn parse(frame: &[u8]) -> Option<Self> {
        if *frame.first_chunk()? != GATEWAYS.octets()
            || frame.get(12..HEADER)? != ETHERTYPE.to_be_bytes()
            || frame.get(HEADER..HEADER + 4)? != MAGIC
        {
            return None;
        }
        let [version, leg, relays, change] = *frame.get(HEADER + 4..)?.first_chunk()?;
        let relays = usize::from(relays);
        if version != VERSION || relays > MOST_RELAYS {
            return None;
        }
        let path = frame.get(PATH..PATH + 4 * relays)?.chunks_exact(4);
        Some(Self {
            leg: if leg == Leg::Wan as u8 {
                Leg::Wan
            } else {
                Leg::Local
            },
            claim: Claim::parse(frame.get(CLAIM..TAG)?)?,
            tag: *frame.get(TAG..)?.first_chunk()?,
            change: change != 0,
            path: path
                .filter_map(|ip| Some(Ipv4Addr::from(*ip.first_chunk::<4>()?)))
                .collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(100);

    fn signer(last: u8) -> Signer {
        Signer::new(Ipv4Addr::new(192, 0, 2, last)).unwrap()
    }

    #[test]
    fn a_probe_comes_back_as_it_was_sent_and_is_known_for_ours() {
        let (us, them) = (signer(1), signer(2));
        let probe = us.probe(7, 3, NOW);
        let relayed = probe.relayed(Leg::Wan, them.origin.wan_ip);
        let back = Probe::parse(&relayed.frame(them.origin, None)).unwrap();
        assert_eq!(back, relayed);
        assert_eq!(back.path, [Ipv4Addr::new(192, 0, 2, 2)]);
        assert!(us.is_ours(&back, NOW + Duration::from_secs(1)));
        assert!(!them.is_ours(&back, NOW));
    }

    #[test]
    fn the_tag_of_a_vlan_stands_behind_the_addresses() {
        let us = signer(1);
        let probe = us.probe(7, 3, NOW);
        let (plain, tagged) = (
            probe.frame(us.origin, None),
            probe.frame(us.origin, Some(300)),
        );
        assert_eq!(tagged[..12], plain[..12]);
        assert_eq!(tagged[12..16], [0x81, 0, 1, 44]);
        assert_eq!(tagged[16..], plain[12..]);
    }

    #[test]
    fn nobody_forges_a_probe_or_uses_an_old_one() {
        let us = signer(1);
        let probe = us.probe(7, 3, NOW);
        assert!(!us.is_ours(&probe, NOW + Duration::from_secs(4)), "old");
        assert!(!us.is_ours(&probe, NOW - Duration::from_secs(1)), "early");
        let frame = probe.frame(us.origin, None);
        for place in CLAIM..PATH {
            let mut forged = frame.clone();
            forged[place] ^= 1;
            let forged = Probe::parse(&forged).unwrap();
            assert!(!us.is_ours(&forged, NOW), "byte {place} was changed");
        }
        // The same gateway after a restart.
        assert!(!signer(1).is_ours(&probe, NOW));
    }

    #[test]
    fn what_is_no_probe_is_none() {
        let us = signer(1);
        let frame = us.probe(7, 3, NOW).frame(us.origin, None);
        assert!(Probe::parse(&frame).is_some());
        for cut in 0..frame.len() {
            assert_eq!(Probe::parse(&frame[..cut]), None, "{cut} bytes of it");
        }
        let mut endless = frame.clone();
        endless[HEADER + 6] = 255;
        endless.resize(2000, 0);
        assert_eq!(Probe::parse(&endless), None);
        // Padding, which Ethernet adds to short frames, does no harm.
        let padded = [&frame[..], &[0; 9]].concat();
        assert_eq!(Probe::parse(&padded), Probe::parse(&frame));
    }
}
