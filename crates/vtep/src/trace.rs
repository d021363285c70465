//! `l2gw vtep trace`: what becomes of a frame to a station, and why, as the kernel stands at this moment.
//!
//! The reasons are in the order in which the kernel decides: the bridge, its forwarding database, the VXLAN device's, the
//! packet filter that lets answers in.

use std::collections::BTreeMap;
use std::net::IpAddr;

use model::switch::LogicalSwitchName;
use model::value::MacAddress;

use crate::error::{BadNamespace, Error};
use crate::kernel::name::InterfaceName;
use crate::kernel::state::{Bridge, Destination, KernelState, Peer, Vxlan, VxlanIdentity};
use crate::kernel::{Kernel, LearntStation};
use crate::loops::{self, Cut, on_disk};
use crate::options::TraceOptions;
use crate::places::Places;
use crate::show::{Held, bfd, database};

/// What becomes of a frame, a line for each reason.
///
/// # Errors
/// The kernel can't be read.
pub async fn trace(options: &TraceOptions) -> Result<String, Error> {
    let database = database(&options.state_dir.join("db.sock")).await;
    let (places, bad) = Places::remembered(&options.state_dir)?;
    let (wan, underlays) = (places.wan, places.underlays.clone());
    let work = tokio::task::spawn_blocking(move || {
        let mut kernel = Kernel::open_with(crate::down::nobody(wan), underlays)?;
        let state = kernel.observe()?.clone();
        let learnt = kernel.learnt_in_detail()?;
        Ok((state, learnt))
    });
    let read = work.await.map_err(|error| Error::Runtime(error.into()))?;
    let (kernel, learnt) = read.map_err(Error::Kernel)?;
    let network = LogicalSwitchName::new(options.network.as_str());
    let mut lines = Vec::new();
    let name = InterfaceName::bridge(&network);
    match kernel.bridges.get(&name) {
        None => {
            lines.push(format!(
                "dropped: there is no bridge {name} for network {network}"
            ));
            lines.push(match &database {
                None => "the database does not answer".to_owned(),
                Some(d) if !d.state.logical_switches.contains_key(&network) => {
                    "the database has no such logical switch".to_owned()
                }
                Some(d) if !d.state.bindings.values().any(|bound| *bound == network) => {
                    "the database binds no port to it".to_owned()
                }
                Some(_) => "the database asks for it: see the log of l2gw vtep".to_owned(),
            });
        }
        Some(bridge) if !bridge.up => lines.push(format!("dropped: bridge {name} is down")),
        Some(bridge) => {
            // Without a state directory there is none.
            let cuts = on_disk(&options.state_dir).unwrap_or_default();
            let place = Place {
                kernel: &kernel,
                database: database.as_ref(),
                places: &places,
                bad: &bad,
                cuts: &cuts,
                network: &network,
                name,
                bridge,
            };
            place.frame(options.mac, &learnt, &mut lines);
            lines.extend(options.ip.map(|ip| place.neighbour(options.mac, ip)));
            let row = database.as_ref().map(|database| {
                let held = database.state.logical_switches.get(&network);
                held.and_then(|held| held.macs.get(&options.mac))
            });
            lines.push(match row {
                None => "database: does not answer".to_owned(),
                Some(None) => format!("database: no row for {}", options.mac),
                Some(Some(row)) => format!("database: a row says {}", row.locator.ip),
            });
        }
    }
    Ok(lines.join("\n") + "\n")
}

struct Place<'a> {
    kernel: &'a KernelState,
    database: Option<&'a Held>,
    places: &'a Places,
    /// Network namespaces of tunnels that can't be looked into.
    bad: &'a [BadNamespace],
    /// Why the network is off the WAN.
    cuts: &'a BTreeMap<loops::Place, Cut>,
    network: &'a LogicalSwitchName,
    name: InterfaceName,
    bridge: &'a Bridge,
}

impl Place<'_> {
    fn frame(&self, mac: MacAddress, learnt: &[LearntStation], lines: &mut Vec<String>) {
        if !mac.is_unicast() {
            lines.push(format!("flooded: {mac} is the address of a group"));
            return self.flood(lines);
        }
        if let Some(pinned) = self.bridge.pinned.get(&mac) {
            let vxlan = self.kernel.vxlans.get(&pinned.port);
            return match vxlan.and_then(|vxlan| Some((vxlan, vxlan.fdb.get(&mac)?))) {
                Some((vxlan, to)) => {
                    lines.push(format!("sent to {} through {}", to.ip, pinned.port));
                    lines.push(format!("because {mac} is declared there: no frame moves it"));
                    self.tunnel(vxlan, to, lines);
                }
                None => lines.push(format!(
                    "not sent to {mac} alone: bridge {} has it on {}, which does not know where it is",
                    self.name, pinned.port
                )),
            };
        }
        let heard = learnt
            .iter()
            .find(|station| station.bridge == self.name && station.mac == mac);
        let Some(station) = heard else {
            lines.push(format!("flooded: {mac} is neither declared nor learnt"));
            return self.flood(lines);
        };
        let to = match station.host {
            Some(host) => format!("sent to {host} through {}", station.port),
            None => format!("sent to port {}", self.kernel.label(station.port)),
        };
        lines.push(to);
        let age = station.age.as_secs();
        lines.push(format!("because {mac} was heard from there {age} s ago"));
    }

    /// Where it comes from is left out: a tunnel's frames are never sent back into the tunnels of the same side.
    fn flood(&self, lines: &mut Vec<String>) {
        let before = lines.len();
        for (name, bridge) in self.kernel.ports() {
            if bridge == self.name {
                let state = match (self.kernel.is_up(name), self.kernel.is_cut(name)) {
                    (false, _) => ", which is down",
                    (true, true) => ", which is cut off",
                    (true, false) => "",
                };
                lines.push(format!("to port {}{state}", self.kernel.label(name)));
                if self.kernel.is_cut(name) {
                    lines.push(format!("  {}", self.why_cut(Some(name))));
                }
            }
        }
        for (name, vxlan) in &self.kernel.vxlans {
            if vxlan.port.bridge == Some(self.name) {
                for to in &vxlan.flood {
                    let cut = if vxlan.port.cut {
                        ", which is cut off"
                    } else {
                        ""
                    };
                    lines.push(format!(
                        "to {} through {name}{cut}, unless it came from {}",
                        to.ip,
                        side(vxlan)
                    ));
                    lines.extend(self.bfd(to).map(|said| format!("  {said}")));
                }
            }
        }
        let wan = self.kernel.vxlans.values();
        if wan
            .filter(|vxlan| vxlan.port.bridge == Some(self.name))
            .any(|vxlan| vxlan.port.cut)
        {
            lines.push(self.why_cut(None));
        }
        if lines.len() == before {
            lines.push("to nobody: the network has no port and no tunnel that floods".to_owned());
        }
    }

    fn tunnel(&self, vxlan: &Vxlan, to: &Destination, lines: &mut Vec<String>) {
        let (key, port) = (to.vni, to.udp_port);
        let VxlanIdentity { underlay, .. } = vxlan.identity;
        let place = match self.places.name(underlay) {
            Some(name) => format!(" in network namespace {name}"),
            None => String::new(),
        };
        lines.push(format!("as VXLAN with key {key} to UDP port {port}{place}"));
        if !vxlan.up {
            lines.push("dropped there: the VXLAN device is down".to_owned());
        }
        if vxlan.port.cut {
            lines.push(format!("dropped instead: {}", self.why_cut(None)));
        }
        lines.extend(self.bfd(to));
        let peer = Peer {
            ip: to.ip,
            vni: key,
        };
        let filter = self.kernel.filters.get(&underlay);
        let side = vxlan.identity.side();
        let admitted = filter.is_some_and(|filter| filter.peers(side).contains(&peer));
        lines.push(match (admitted, filter) {
            (true, _) => format!("answers from {} with key {key} are admitted", to.ip),
            (false, Some(_)) => format!(
                "answers from {} with key {key} are dropped by the filter",
                to.ip
            ),
            (false, None) => match self.bad.first() {
                Some(bad) if self.places.is_elsewhere(underlay) => {
                    format!("the packet filter there is not looked at: {bad}")
                }
                _ => "the packet filter is missing".to_owned(),
            },
        });
    }

    fn why_cut(&self, port: Option<InterfaceName>) -> String {
        let network = self.network.clone();
        let place = loops::Place { network, port };
        match self.cuts.get(&place) {
            Some(cut) => format!("{place}: {} (l2gw vtep release joins it again)", cut.cause),
            None => format!("{place}, and is about to be joined again"),
        }
    }

    /// What BFD says of the tunnel. Frames are sent whatever that is.
    fn bfd(&self, to: &Destination) -> Option<String> {
        let said = bfd(self.database?.tunnels.get(&to.ip)?)?;
        Some(match said.as_str() {
            "up" => "BFD says that the far end is there".to_owned(),
            _ => format!("BFD: {said}; frames are sent all the same"),
        })
    }

    /// Whether the bridge answers for a station: it does for those behind a port that keeps questions to itself, which
    /// are those on the WAN.
    fn answers_for(&self, mac: MacAddress) -> bool {
        let port = self.bridge.pinned.get(&mac).map(|pinned| pinned.port);
        let vxlan = port.and_then(|port| self.kernel.vxlans.get(&port));
        vxlan.is_some_and(|vxlan| vxlan.port.flags.suppresses_neighbours)
    }

    /// What becomes of the question who has `ip`.
    fn neighbour(&self, mac: MacAddress, ip: IpAddr) -> String {
        match self.bridge.neighbours.get(&ip) {
            Some(known) if !self.answers_for(*known) => format!(
                "who asks for {ip} is not answered by the bridge: {known} is inside, where the question is flooded to"
            ),
            Some(known) if *known == mac => {
                format!("who asks for {ip} is answered by the bridge: {mac}")
            }
            Some(other) => {
                format!("who asks for {ip} is answered by the bridge with another station: {other}")
            }
            None => {
                format!("who asks for {ip} is not answered by the bridge: the question is flooded")
            }
        }
    }
}

fn side(vxlan: &Vxlan) -> &'static str {
    if vxlan.is_wan() {
        "the WAN"
    } else {
        "an inside host"
    }
}
