//! What of the known state is in doubt: notifications that tell of something else than is known, and refused steps. The next
//! look is at that alone.

use std::collections::BTreeSet;
use std::io;

use super::entries::{FdbEntry, Neighbour};
use super::events::Event;
use super::name::InterfaceName;
use super::state::Pinned;
use super::{Kernel, message};

/// What must be looked at before the next plan.
#[derive(Debug, Default)]
pub(super) struct Stale {
    pub(super) links: bool,
    /// Programs on interfaces; they are told apart by the links there are.
    pub(super) steering: bool,
    pub(super) filter: bool,
    pub(super) entries: bool,
    /// Bridges whose entries, and those of their ports, may have changed.
    pub(super) bridges: BTreeSet<InterfaceName>,
}

impl Stale {
    pub(super) fn everything() -> Self {
        Self {
            links: true,
            steering: true,
            filter: true,
            entries: true,
            bridges: BTreeSet::new(),
        }
    }

    pub(super) fn is_anything(&self) -> bool {
        self.links || self.steering || self.filter || self.entries || !self.bridges.is_empty()
    }
}

impl Kernel {
    /// A refused step may have done half of its work.
    pub(super) fn doubt(&mut self, interface: Option<InterfaceName>) {
        let Some(interface) = interface else {
            self.stale.filter = true;
            self.stale.links = true;
            return;
        };
        self.stale.links = true;
        self.stale.steering = true;
        self.doubt_entries(interface);
    }

    /// Entries of a bridge or of one of its ports; a device in no bridge is in no bridge's look.
    fn doubt_entries(&mut self, interface: InterfaceName) {
        match self.bridge_of(interface) {
            Some(bridge) => {
                self.stale.bridges.insert(bridge);
            }
            None => self.stale.entries = true,
        }
    }

    fn bridge_of(&self, interface: InterfaceName) -> Option<InterfaceName> {
        if self.known.bridges.contains_key(&interface) {
            return Some(interface);
        }
        self.known.bridge_of(interface)
    }

    /// Sorts notifications into what we know already and what must be looked at.
    pub(super) fn take_in(&mut self) -> io::Result<()> {
        self.events.take_in()?;
        if std::mem::take(&mut self.events.overflowed) {
            tracing::debug!("notifications were lost; looking at everything");
            self.losses += 1;
            self.stale = Stale::everything();
            self.learnt.doubt_everything();
        }
        if std::mem::take(&mut self.events.filter_changed) {
            self.stale.filter = true;
        }
        for (at, event) in std::mem::take(&mut self.events.pending) {
            match event {
                Event::Link {
                    index,
                    name,
                    controller,
                } => {
                    let known = |index| self.indexes.name(index).is_some();
                    // By name, because the number of a device we made is not known before it is needed.
                    let ours = |name| self.given.contains(&name) || self.known.has_device(name);
                    self.stale.links |=
                        known(index) || controller.is_some_and(known) || name.is_some_and(ours);
                }
                Event::Steering { index } => {
                    self.stale.steering |= self.indexes.name(index).is_some();
                }
                Event::Fdb { entry, gone } => {
                    let bridge = entry.controller.and_then(|index| self.indexes.name(index));
                    self.strays.note(&entry, gone);
                    if let Some(bridge) = bridge {
                        self.learnt.doubt(bridge);
                        self.flaps.note(&entry, gone, at);
                    }
                    if let Some(device) = self.unexpected_fdb(&entry, gone) {
                        self.doubt_entries(device);
                    }
                }
                Event::Neighbour { entry, gone } => {
                    if let Some(bridge) = self.unexpected_neighbour(&entry, gone) {
                        self.doubt_entries(bridge);
                    }
                }
            }
        }
        Ok(())
    }

    /// The device to look at, if the entry is of ours and not as known.
    fn unexpected_fdb(&self, entry: &FdbEntry, gone: bool) -> Option<InterfaceName> {
        match entry.controller {
            Some(bridge) => self.unexpected_pin(entry, bridge, gone),
            None => self.unexpected_destination(entry, gone),
        }
    }

    /// The bridge's half. Its port may be any: who takes a station of ours to another port tells of that port alone.
    fn unexpected_pin(&self, entry: &FdbEntry, bridge: u32, gone: bool) -> Option<InterfaceName> {
        let name = self.indexes.name(bridge)?;
        let port = self.indexes.name(entry.device)?;
        let known = self.known.bridges.get(&name)?.pinned.get(&entry.mac);
        let told = Pinned {
            port,
            sticky: entry.sticky,
        };
        let ours = self.known.vxlans.contains_key(&port);
        let as_known = if gone {
            known.is_none_or(|known| known.port != port)
        } else if entry.is_static() && ours {
            known == Some(&told)
        } else {
            known.is_none()
        };
        (!as_known).then_some(name)
    }

    /// The VXLAN device's half.
    fn unexpected_destination(&self, entry: &FdbEntry, gone: bool) -> Option<InterfaceName> {
        let port = self.indexes.name(entry.device)?;
        let vxlan = self.known.vxlans.get(&port)?;
        let told = entry.destination(vxlan.identity);
        let stated = !gone && entry.is_static();
        let as_known = if entry.mac == message::UNKNOWN {
            told.is_none_or(|told| vxlan.flood.contains(&told) == stated)
        } else if stated {
            vxlan.fdb.get(&entry.mac) == told.as_ref()
        } else {
            !vxlan.fdb.contains_key(&entry.mac)
        };
        (!as_known).then_some(port)
    }

    fn unexpected_neighbour(&self, entry: &Neighbour, gone: bool) -> Option<InterfaceName> {
        let name = self.indexes.name(entry.device)?;
        let bridge = self.known.bridges.get(&name)?;
        let known = bridge.neighbours.get(&entry.ip);
        let as_known = if gone || !entry.is_ours() {
            known.is_none()
        } else {
            known == Some(&entry.mac)
        };
        (!as_known).then_some(name)
    }
}
