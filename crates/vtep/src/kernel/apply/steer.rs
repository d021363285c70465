//! Programs that steer the frames of interfaces, many attached by one run of tc.

use std::collections::BTreeMap;
use std::io;

use super::Applier;
use super::progress::Progress;
use crate::kernel::name::InterfaceName;
use crate::kernel::step::Step;
use crate::kernel::vlan::{self, Steering};
use crate::kernel::{bpf, message, observe, tc};

/// What steers the frames of an interface.
#[derive(Default)]
struct Programmed {
    /// Its program and the section it is in, if it is to have one.
    of: Option<(String, bpf::Program)>,
    /// Why frames of some VLANs find no way: a device of theirs that can't be had.
    lack: Option<io::Error>,
}

impl Applier<'_> {
    /// Sets where programs take what arrives on the interfaces at the head of `steps`, many by one run of tc; returns the steps
    /// behind them.
    pub(super) fn steer<'p>(
        &mut self,
        steps: &'p [Step],
        progress: &mut Progress,
    ) -> io::Result<&'p [Step]> {
        let steered = steps
            .iter()
            .take_while(|step| matches!(step, Step::Steer(..)));
        let count = steered.take(tc::AT_ONCE).count();
        let (steered, rest) = steps.split_at_checked(count).unwrap_or((steps, &[]));
        let mut attached = Vec::new();
        let mut attachments = Vec::new();
        for step in steered {
            let Step::Steer(name, steering) = step else {
                continue;
            };
            if progress.is_hopeless(step) {
                progress.outcome.left_out += 1;
                continue;
            }
            let program = self.existing(*name).and_then(|index| {
                let program = self.program(index, steering)?;
                Ok((index, program))
            });
            match program {
                Ok((index, Programmed { of: Some(of), lack })) => {
                    let (section, program) = of;
                    attached.push((step, lack));
                    attachments.push(tc::Attachment {
                        interface: *name,
                        index,
                        section,
                        program,
                    });
                }
                Ok((_, Programmed { of: None, lack })) => {
                    self.other(step, lack.map_or(Ok(()), Err), progress)?;
                }
                Err(error) => self.other(step, Err(error), progress)?,
            }
        }
        let mut refused = tc::attach(self.netlink, &attachments)?;
        for (place, (step, lack)) in attached.into_iter().enumerate() {
            let done = match refused.remove(&place) {
                Some(said) => Err(io::Error::other(said)),
                None => lack.map_or(Ok(()), Err),
            };
            self.other(step, done, progress)?;
        }
        // Read along, as after any batch.
        self.events.take_in()?;
        Ok(rest)
    }

    /// The program that steers what arrives on an interface; where there is to be none it is taken off.
    fn program(&mut self, index: u32, steering: &Steering) -> io::Result<Programmed> {
        let mut programmed = Programmed::default();
        match steering {
            Steering::Nothing | Steering::Unknown => {
                tc::detach(self.netlink, index)?;
                self.promiscuous(index, false)?;
            }
            Steering::Out { vlan, to } => {
                let port = self.existing(*to)?;
                programmed.of = Some(vlan::outward(*vlan, port));
            }
            Steering::In(devices) => {
                let mut numbered = BTreeMap::new();
                for (vlan, device) in devices {
                    match self.existing(*device) {
                        Ok(device) => {
                            numbered.insert(*vlan, device);
                        }
                        Err(error) => programmed.lack = Some(error),
                    }
                }
                if numbered.is_empty() {
                    tc::detach(self.netlink, index)?;
                } else {
                    self.promiscuous(index, true)?;
                    programmed.of = Some(vlan::inward(&numbered));
                }
            }
        }
        Ok(programmed)
    }

    fn existing(&mut self, name: InterfaceName) -> io::Result<u32> {
        let known = self.indexes.index(name);
        let index = match known {
            Some(index) => Some(index),
            None => observe::index(self.netlink, name)?,
        };
        let index = index.ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::NotFound,
                format!("no such interface: {name}"),
            )
        })?;
        self.indexes.insert(name, index);
        Ok(index)
    }

    fn promiscuous(&mut self, index: u32, on: bool) -> io::Result<()> {
        let request = message::set_promiscuous(index, on);
        match self.netlink.write(vec![request])?.pop() {
            Some((_, error)) => Err(error.into()),
            None => Ok(()),
        }
    }
}
