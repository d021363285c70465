//! Steps for physical ports and the devices of their VLANs.

use super::Planner;
use crate::kernel::name::InterfaceName;
use crate::kernel::state::{BridgePort, Interface, Link};
use crate::kernel::step::Step;
use crate::kernel::vlan::{Steering, VlanDevice, VlanShape};

impl<'a> Planner<'a> {
    /// Before a port comes into a bridge, and after it left.
    pub(super) fn guard(&mut self) {
        let wanted = &self.desired.guard;
        if *wanted == self.actual.guard {
            return;
        }
        let step = Step::PutGuard(wanted.clone().map(Box::new));
        match wanted {
            Some(_) => self.before.push(step),
            None => self.guard_gone = Some(step),
        }
    }

    /// The device of a VLAN as it is and stays.
    fn held_vlan(&self, name: InterfaceName) -> Option<&'a VlanDevice> {
        let held = self.actual.vlans.get(&name)?;
        let wanted = self.desired.vlans.get(&name)?;
        (held.kind == wanted.kind).then_some(held)
    }

    pub(super) fn vlan(&mut self, name: InterfaceName, wanted: &VlanDevice) {
        let held = self.held_vlan(name);
        match held {
            None if wanted.kind.is_second() => {
                // Comes with the first, and with its name and size.
                let first = wanted.kind.other_end();
                let first = first.and_then(|first| self.desired.vlans.get(&first));
                self.relink(name, first.map(|first| &first.link), wanted);
            }
            None => {
                let shape = Box::new(VlanShape {
                    link: wanted.link.clone(),
                    kind: wanted.kind,
                });
                self.vxlans.push(Step::CreateVlan(name, shape));
            }
            Some(held) => self.relink(name, Some(&held.link), wanted),
        }
        if held.is_none_or(|held| held.host != wanted.host) {
            self.ports.push(Step::SetHostSide(name, wanted.host));
        }
        let bridge = held.and_then(|held| held.port.bridge);
        self.detach_from(name, &wanted.port, bridge);
        self.port(name, &wanted.port, held.map(|held| &held.port));
        let steering = held.map_or(&Steering::Nothing, |held| &held.steering);
        if *steering != wanted.steering {
            let steering = Box::new(wanted.steering.clone());
            self.steer_out.push(Step::Steer(name, steering));
        }
        if !held.is_some_and(|held| held.up) {
            self.up.push(Step::BringUp(name));
        }
        let stays = held.filter(|held| held.up && held.link == wanted.link);
        self.cut(name, &wanted.port, stays.map(|held| &held.port));
    }

    fn relink(&mut self, name: InterfaceName, was: Option<&Link>, wanted: &VlanDevice) {
        if let Some(was) = was.filter(|was| **was != wanted.link) {
            self.ports.push(Step::ChangeVlan {
                name,
                was: Box::new(was.clone()),
                link: Box::new(wanted.link.clone()),
            });
        }
    }

    pub(super) fn interface(&mut self, name: InterfaceName, wanted: &Interface) {
        let held = self.actual.interfaces.get(&name);
        let is_steered = held.is_some_and(|held| held.steering != Steering::Nothing);
        let steer = |steering: &Steering| Step::Steer(name, Box::new(steering.clone()));
        match &wanted.steering {
            // Its frames are its bridge's from here on.
            Steering::Nothing if is_steered => self.ports.push(steer(&wanted.steering)),
            Steering::In(devices) => {
                let stay = devices
                    .values()
                    .all(|device| self.held_vlan(*device).is_some());
                let same = held.is_some_and(|held| {
                    (&held.steering, held.promiscuous) == (&wanted.steering, wanted.promiscuous)
                });
                if !stay || !same {
                    self.steer.push(steer(&wanted.steering));
                }
            }
            _ => {}
        }
        let bridge = held.and_then(|held| held.port.bridge);
        let ours = bridge.filter(|bridge| self.actual.bridges.contains_key(bridge));
        self.detach_from(name, &wanted.port, ours);
        self.port(name, &wanted.port, held.map(|held| &held.port));
        if !held.is_some_and(|held| held.up) {
            self.up.push(Step::BringUp(name));
        }
        let stays = held.filter(|held| held.up);
        self.cut(name, &wanted.port, stays.map(|held| &held.port));
    }

    /// Takes an interface that should be in no bridge out of one.
    fn detach_from(
        &mut self,
        interface: InterfaceName,
        wanted: &BridgePort,
        bridge: Option<InterfaceName>,
    ) {
        if let Some(bridge) = bridge.filter(|_| wanted.bridge.is_none()) {
            self.ports.push(Step::Detach { interface, bridge });
        }
    }
}
