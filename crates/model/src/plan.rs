//! The difference between two switch states, as ordered steps.
//!
//! [`plan`] is pure and total, and keeps these laws (each is a property test below):
//!
//! 1. Applying `plan(desired, actual)` to `actual` gives `desired` on everything we own, but for what is [`Blocked`].
//! 2. `plan(desired, desired)` is empty: a second run writes nothing.
//! 3. Any prefix of a plan, then a new plan, still converges: being interrupted costs nothing.
//! 4. What we do not own is never touched, and no network is joined with one of another controller: see `keys`.
//! 5. No step leaves a dangling reference: every state on the way is one the database would accept.
//!
//! The order is make before break: logical switches, then where their frames go, then bindings, and only then removals.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::fmt;
use std::iter::Peekable;

use crate::switch::{
    Locator, LogicalSwitch, LogicalSwitchName, PortVlan, RemoteMac, Surplus, SwitchState,
};
use crate::trail::MacKey;
use crate::value::{MacAddress, Vni};

pub use self::keys::foreign_with_key;

mod keys;

/// One change to a switch. Each is idempotent and names everything it needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Insert a logical switch, marked ours.
    CreateLogicalSwitch {
        /// Its name.
        name: LogicalSwitchName,
        /// Its key towards inside hosts.
        tunnel_key: Option<Vni>,
        /// The longest packets of its stations, in bytes.
        mtu: Option<u16>,
    },
    /// Mark a logical switch that somebody else left under our network's name as ours.
    AdoptLogicalSwitch {
        /// Its name.
        name: LogicalSwitchName,
    },
    /// Change the key towards inside hosts.
    RekeyLogicalSwitch {
        /// Its name.
        name: LogicalSwitchName,
        /// The key it has.
        was: Option<Vni>,
        /// The key it should have.
        tunnel_key: Option<Vni>,
    },
    /// Change what is said of the longest packets of its stations.
    SetMtu {
        /// Its name.
        name: LogicalSwitchName,
        /// What is said, in bytes.
        was: Option<u16>,
        /// What should be.
        mtu: Option<u16>,
    },
    /// Insert or replace a remote MAC.
    PutMac {
        /// The logical switch it is on.
        logical_switch: LogicalSwitchName,
        /// The address.
        mac: MacAddress,
        /// What the switch holds for it.
        was: Option<RemoteMac>,
        /// What it should hold.
        remote: RemoteMac,
    },
    /// Set the whole list of flood destinations; an empty one removes the row.
    SetFlood {
        /// The logical switch it is for.
        logical_switch: LogicalSwitchName,
        /// What the switch holds.
        was: BTreeSet<Locator>,
        /// What it should hold.
        locators: BTreeSet<Locator>,
    },
    /// Bind a VLAN of a port to a logical switch, replacing a binding of ours.
    Bind {
        /// The port and VLAN.
        port_vlan: PortVlan,
        /// What it is bound to.
        was: Option<LogicalSwitchName>,
        /// What it should be bound to.
        logical_switch: LogicalSwitchName,
    },
    /// Remove a binding of ours.
    Unbind {
        /// The port and VLAN.
        port_vlan: PortVlan,
        /// What it is bound to.
        was: LogicalSwitchName,
    },
    /// Remove a remote MAC.
    RemoveMac {
        /// The logical switch it is on.
        logical_switch: LogicalSwitchName,
        /// The address.
        mac: MacAddress,
        /// What the switch holds for it.
        was: RemoteMac,
    },
    /// Remove rows that no state has.
    RemoveSurplus(
        /// Which.
        Surplus,
    ),
    /// Delete a logical switch of ours with all its MAC rows, the switch's own included.
    DeleteLogicalSwitch {
        /// Its name.
        name: LogicalSwitchName,
    },
}

impl Step {
    /// Whether the step leaves everything that the switch holds where it is.
    pub fn only_adds(&self) -> bool {
        match self {
            Self::CreateLogicalSwitch { .. } => true,
            Self::PutMac { was, .. } => was.is_none(),
            Self::SetFlood { was, locators, .. } => was.is_subset(locators),
            Self::Bind { was, .. } => was.is_none(),
            // What is adopted is changed: from then on it is ours to remove.
            Self::AdoptLogicalSwitch { .. }
            | Self::RekeyLogicalSwitch { .. }
            | Self::SetMtu { .. }
            | Self::Unbind { .. }
            | Self::RemoveMac { .. }
            | Self::RemoveSurplus(_)
            | Self::DeleteLogicalSwitch { .. } => false,
        }
    }

    /// Whether the step only takes something away.
    pub fn only_removes(&self) -> bool {
        match self {
            Self::Unbind { .. }
            | Self::RemoveMac { .. }
            | Self::RemoveSurplus(_)
            | Self::DeleteLogicalSwitch { .. } => true,
            Self::SetFlood { was, locators, .. } => locators.is_subset(was),
            Self::CreateLogicalSwitch { .. }
            | Self::AdoptLogicalSwitch { .. }
            | Self::RekeyLogicalSwitch { .. }
            | Self::SetMtu { .. }
            | Self::PutMac { .. }
            | Self::Bind { .. } => false,
        }
    }

    /// The other logical switch that the step takes something from.
    pub fn displaces(&self) -> Option<&LogicalSwitchName> {
        match self {
            Self::Bind { was, .. } => was.as_ref(),
            _ => None,
        }
    }

    /// The logical switch that the step is about.
    pub fn logical_switch(&self) -> &LogicalSwitchName {
        match self {
            Self::CreateLogicalSwitch { name, .. }
            | Self::AdoptLogicalSwitch { name }
            | Self::RekeyLogicalSwitch { name, .. }
            | Self::SetMtu { name, .. }
            | Self::DeleteLogicalSwitch { name } => name,
            Self::RemoveSurplus(surplus) => surplus.logical_switch(),
            Self::PutMac { logical_switch, .. }
            | Self::SetFlood { logical_switch, .. }
            | Self::Bind { logical_switch, .. }
            | Self::RemoveMac { logical_switch, .. } => logical_switch,
            Self::Unbind { was, .. } => was,
        }
    }
}

/// What is wanted and cannot be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Blocked {
    /// A binding that cannot be made.
    Binding {
        /// The port and VLAN.
        port_vlan: PortVlan,
        /// What should be bound there.
        logical_switch: LogicalSwitchName,
        /// Why it is not.
        reason: BlockedReason,
    },
    /// A network to which nothing can be added, because a logical switch of another controller has its key.
    Network {
        /// Its logical switch, there or not.
        logical_switch: LogicalSwitchName,
        /// The key.
        tunnel_key: Vni,
        /// Their logical switch.
        theirs: LogicalSwitchName,
    },
}

impl Blocked {
    /// The logical switch that it is about.
    pub fn logical_switch(&self) -> &LogicalSwitchName {
        match self {
            Self::Binding { logical_switch, .. } | Self::Network { logical_switch, .. } => {
                logical_switch
            }
        }
    }

    /// Whether it concerns a physical switch: what is said of a network concerns all that share the database.
    pub fn concerns(&self, switch: &str) -> bool {
        match self {
            Self::Binding { port_vlan, .. } => &*port_vlan.port.switch == switch,
            Self::Network { .. } => true,
        }
    }
}

/// Why a binding cannot be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BlockedReason {
    /// The switch has no such port.
    NoSuchPort,
    /// Somebody else bound the VLAN to a logical switch of theirs.
    BoundByOthers(
        /// Their logical switch.
        LogicalSwitchName,
    ),
}

/// What to do, in order, and what cannot be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The changes, in the order in which they must be made.
    pub steps: Vec<Step>,
    /// What is wanted and cannot be had; reported, never retried blindly.
    pub blocked: Vec<Blocked>,
}

impl Plan {
    /// Whether the switch already holds all that it can of what is wanted.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }
}

/// The steps that make `actual` hold what `desired` says.
pub fn plan(desired: &SwitchState, actual: &SwitchState) -> Plan {
    let mut phases = Phases::default();
    let taken = keys::taken(desired, actual);
    for (name, wanted, held) in union(&desired.logical_switches, &actual.logical_switches) {
        match (wanted, held) {
            (Some(_), None) if taken.contains_key(name) => {}
            (Some(wanted), Some(held)) if taken.contains_key(name) => {
                let wanted = keys::without_additions(wanted, held);
                phases.logical_switch(name, &wanted, Some(held));
            }
            (Some(wanted), held) => phases.logical_switch(name, wanted, held),
            (None, Some(held)) if held.owned => phases
                .delete
                .push(Step::DeleteLogicalSwitch { name: name.clone() }),
            _ => {}
        }
    }
    // A logical switch is ours when it carries our mark or is about to: adoption takes its bindings along.
    let ours = |name: &LogicalSwitchName| {
        desired.logical_switches.contains_key(name)
            || actual.logical_switches.get(name).is_some_and(|l| l.owned)
    };
    let blocked = taken.iter().map(|(name, (key, theirs))| Blocked::Network {
        logical_switch: (*name).clone(),
        tunnel_key: *key,
        theirs: (*theirs).clone(),
    });
    let mut blocked: Vec<_> = blocked.collect();
    for (port_vlan, wanted, held) in union(&desired.bindings, &actual.bindings) {
        let wanted = wanted.filter(|name| !taken.contains_key(name) || held == Some(name));
        match (wanted, held) {
            (Some(wanted), held) if Some(wanted) != held => {
                let reason = match held {
                    Some(held) if !ours(held) => BlockedReason::BoundByOthers(held.clone()),
                    None if !actual.ports.contains(&port_vlan.port) => BlockedReason::NoSuchPort,
                    _ => {
                        phases.bind.push(Step::Bind {
                            port_vlan: port_vlan.clone(),
                            was: held.cloned(),
                            logical_switch: wanted.clone(),
                        });
                        continue;
                    }
                };
                blocked.push(Blocked::Binding {
                    port_vlan: port_vlan.clone(),
                    logical_switch: wanted.clone(),
                    reason,
                });
            }
            (None, Some(held)) if ours(held) => phases.unbind.push(Step::Unbind {
                port_vlan: port_vlan.clone(),
                was: held.clone(),
            }),
            _ => {}
        }
    }
    for surplus in &actual.surplus {
        if desired
            .logical_switches
            .contains_key(surplus.logical_switch())
        {
            phases.remove.push(Step::RemoveSurplus(surplus.clone()));
        }
    }
    Plan {
        steps: phases.in_order(),
        blocked,
    }
}

/// The steps that make `actual` hold what is wanted of these MACs: what [`plan`] says of them, where nothing else differs.
///
/// Each stands beside what is wanted of it and is on a logical switch that is wanted. If one of those is not there, it takes
/// [`plan`] to make it: then there is no answer.
pub fn plan_macs<'k>(
    wanted: impl IntoIterator<Item = (&'k MacKey, Option<RemoteMac>)>,
    actual: &SwitchState,
) -> Option<Plan> {
    let mut phases = Phases::default();
    let mut surplus = Vec::new();
    for ((name, mac), wanted) in wanted {
        let held = actual.logical_switches.get(name)?;
        phases.mac(name, *mac, wanted.as_ref(), held.macs.get(mac));
        let further = Surplus::Mac(name.clone(), *mac);
        if actual.surplus.contains(&further) {
            surplus.push(Step::RemoveSurplus(further));
        }
    }
    phases.remove.extend(surplus);
    Some(Plan {
        steps: phases.in_order(),
        blocked: Vec::new(),
    })
}

/// Steps collected by kind, so that one walk over both states can put them in an order that never dangles.
#[derive(Default)]
struct Phases {
    create: Vec<Step>,
    forward: Vec<Step>,
    bind: Vec<Step>,
    unbind: Vec<Step>,
    remove: Vec<Step>,
    delete: Vec<Step>,
}

impl Phases {
    fn logical_switch(
        &mut self,
        name: &LogicalSwitchName,
        wanted: &LogicalSwitch,
        held: Option<&LogicalSwitch>,
    ) {
        let nothing = LogicalSwitch::default();
        match held {
            None => self.create.push(Step::CreateLogicalSwitch {
                name: name.clone(),
                tunnel_key: wanted.tunnel_key,
                mtu: wanted.mtu,
            }),
            Some(held) => {
                if !held.owned {
                    self.create
                        .push(Step::AdoptLogicalSwitch { name: name.clone() });
                }
                if held.tunnel_key != wanted.tunnel_key {
                    self.create.push(Step::RekeyLogicalSwitch {
                        name: name.clone(),
                        was: held.tunnel_key,
                        tunnel_key: wanted.tunnel_key,
                    });
                }
                if held.mtu != wanted.mtu {
                    self.create.push(Step::SetMtu {
                        name: name.clone(),
                        was: held.mtu,
                        mtu: wanted.mtu,
                    });
                }
            }
        }
        let held = held.unwrap_or(&nothing);
        for (mac, wanted, held) in union(&wanted.macs, &held.macs) {
            self.mac(name, *mac, wanted, held);
        }
        if wanted.flood != held.flood {
            self.forward.push(Step::SetFlood {
                logical_switch: name.clone(),
                was: held.flood.clone(),
                locators: wanted.flood.clone(),
            });
        }
    }

    fn mac(
        &mut self,
        name: &LogicalSwitchName,
        mac: MacAddress,
        wanted: Option<&RemoteMac>,
        held: Option<&RemoteMac>,
    ) {
        match (wanted, held) {
            (Some(remote), held) if Some(remote) != held => self.forward.push(Step::PutMac {
                logical_switch: name.clone(),
                mac,
                was: held.copied(),
                remote: *remote,
            }),
            (None, Some(was)) => self.remove.push(Step::RemoveMac {
                logical_switch: name.clone(),
                mac,
                was: *was,
            }),
            _ => {}
        }
    }

    fn in_order(self) -> Vec<Step> {
        let mut steps = self.create;
        for phase in [
            self.forward,
            self.bind,
            self.unbind,
            self.remove,
            self.delete,
        ] {
            steps.extend(phase);
        }
        steps
    }
}

impl SwitchState {
    /// What the state becomes when a switch carries out a step: the meaning of the steps, and the twin of a switch in
    /// tests.
    pub fn apply(&mut self, step: &Step) {
        match step {
            Step::CreateLogicalSwitch {
                name,
                tunnel_key,
                mtu,
            } => {
                let held = self.logical_switches.entry(name.clone()).or_default();
                held.owned = true;
                held.tunnel_key = *tunnel_key;
                held.mtu = *mtu;
            }
            Step::SetMtu { name, mtu, .. } => self.edit(name, |held| held.mtu = *mtu),
            Step::AdoptLogicalSwitch { name } => self.edit(name, |held| held.owned = true),
            Step::RekeyLogicalSwitch {
                name, tunnel_key, ..
            } => self.edit(name, |held| held.tunnel_key = *tunnel_key),
            Step::PutMac {
                logical_switch,
                mac,
                remote,
                ..
            } => self.edit(logical_switch, |held| {
                held.macs.insert(*mac, *remote);
            }),
            Step::SetFlood {
                logical_switch,
                locators,
                ..
            } => self.edit(logical_switch, |held| held.flood.clone_from(locators)),
            Step::Bind {
                port_vlan,
                logical_switch,
                ..
            } => {
                self.bindings
                    .insert(port_vlan.clone(), logical_switch.clone());
            }
            Step::Unbind { port_vlan, .. } => {
                self.bindings.remove(port_vlan);
            }
            Step::RemoveMac {
                logical_switch,
                mac,
                ..
            } => {
                self.edit(logical_switch, |held| {
                    held.macs.remove(mac);
                });
                self.surplus
                    .remove(&Surplus::Mac(logical_switch.clone(), *mac));
            }
            Step::RemoveSurplus(surplus) => {
                self.surplus.remove(surplus);
            }
            Step::DeleteLogicalSwitch { name } => {
                self.logical_switches.remove(name);
                self.surplus
                    .retain(|surplus| surplus.logical_switch() != name);
            }
        }
    }

    fn edit(&mut self, name: &LogicalSwitchName, change: impl FnOnce(&mut LogicalSwitch)) {
        if let Some(held) = self.logical_switches.get_mut(name) {
            change(held);
        }
    }
}

/// Walks the union of the keys of two sorted maps, so that what only one side has is seen too.
fn union<'a, K: Ord, V>(
    left: &'a std::collections::BTreeMap<K, V>,
    right: &'a std::collections::BTreeMap<K, V>,
) -> impl Iterator<Item = (&'a K, Option<&'a V>, Option<&'a V>)> {
    struct Union<L: Iterator, R: Iterator>(Peekable<L>, Peekable<R>);
    impl<'a, K: Ord + 'a, V: 'a, L, R> Iterator for Union<L, R>
    where
        L: Iterator<Item = (&'a K, &'a V)>,
        R: Iterator<Item = (&'a K, &'a V)>,
    {
        type Item = (&'a K, Option<&'a V>, Option<&'a V>);

        fn next(&mut self) -> Option<Self::Item> {
            let order = match (self.0.peek(), self.1.peek()) {
                (Some((left, _)), Some((right, _))) => left.cmp(right),
                (Some(_), None) => Ordering::Less,
                (None, _) => Ordering::Greater,
            };
            match order {
                Ordering::Less => self.0.next().map(|(k, l)| (k, Some(l), None)),
                Ordering::Greater => self.1.next().map(|(k, r)| (k, None, Some(r))),
                Ordering::Equal => self
                    .0
                    .next()
                    .zip(self.1.next())
                    .map(|((k, l), (_, r))| (k, Some(l), Some(r))),
            }
        }
    }
    Union(left.iter().peekable(), right.iter().peekable())
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in &self.steps {
            writeln!(f, "{step}")?;
        }
        for blocked in &self.blocked {
            writeln!(f, "{blocked}")?;
        }
        Ok(())
    }
}

/// `+` adds, `~` changes, `-` removes.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CreateLogicalSwitch {
                name,
                tunnel_key,
                mtu,
            } => {
                write!(f, "+ logical switch {name} key {}", Key(*tunnel_key))?;
                mtu.map_or(Ok(()), |mtu| write!(f, " mtu {mtu}"))
            }
            Self::SetMtu { name, was, mtu } => {
                let text = |mtu: &Option<u16>| mtu.map_or("none".into(), |mtu| mtu.to_string());
                write!(
                    f,
                    "~ logical switch {name} mtu {} -> {}",
                    text(was),
                    text(mtu)
                )
            }
            Self::AdoptLogicalSwitch { name } => {
                write!(f, "~ logical switch {name} adopted")
            }
            Self::RekeyLogicalSwitch {
                name,
                was,
                tunnel_key,
            } => write!(
                f,
                "~ logical switch {name} key {} -> {}",
                Key(*was),
                Key(*tunnel_key)
            ),
            Self::PutMac {
                logical_switch,
                mac,
                was: None,
                remote,
            } => write!(f, "+ mac {mac} on {logical_switch} {remote}"),
            Self::PutMac {
                logical_switch,
                mac,
                was: Some(was),
                remote,
            } => write!(f, "~ mac {mac} on {logical_switch} {was} -> {remote}"),
            Self::SetFlood {
                logical_switch,
                was,
                locators,
            } => write!(
                f,
                "{} flood on {logical_switch} {} -> {}",
                match (was.is_empty(), locators.is_empty()) {
                    (true, _) => '+',
                    (_, true) => '-',
                    _ => '~',
                },
                List(was),
                List(locators)
            ),
            Self::Bind {
                port_vlan,
                was: None,
                logical_switch,
            } => write!(f, "+ binding {port_vlan} to {logical_switch}"),
            Self::Bind {
                port_vlan,
                was: Some(was),
                logical_switch,
            } => write!(f, "~ binding {port_vlan} to {was} -> {logical_switch}"),
            Self::Unbind { port_vlan, was } => write!(f, "- binding {port_vlan} to {was}"),
            Self::RemoveMac {
                logical_switch,
                mac,
                was,
            } => write!(f, "- mac {mac} on {logical_switch} {was}"),
            Self::RemoveSurplus(Surplus::Flood(name)) => {
                write!(f, "- further flood rows on {name}")
            }
            Self::RemoveSurplus(Surplus::Mac(name, mac)) => {
                write!(f, "- further rows for mac {mac} on {name}")
            }
            Self::RemoveSurplus(Surplus::Stray(name)) => {
                write!(f, "- stray rows on {name}")
            }
            Self::DeleteLogicalSwitch { name } => write!(f, "- logical switch {name}"),
        }
    }
}

/// `!` cannot be done.
impl fmt::Display for Blocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Binding {
                port_vlan,
                logical_switch,
                reason,
            } => write!(f, "! binding {port_vlan} to {logical_switch}: {reason}"),
            Self::Network {
                logical_switch,
                tunnel_key,
                theirs,
            } => write!(
                f,
                "! network {logical_switch}: {}",
                KeyTaken(*tunnel_key, theirs)
            ),
        }
    }
}

impl fmt::Display for BlockedReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchPort => f.write_str("the switch has no such port"),
            Self::BoundByOthers(theirs) => {
                write!(f, "bound to {theirs} by another controller")
            }
        }
    }
}

/// That a logical switch of another controller has a key, and what can be done, in words.
#[derive(Clone, Copy, Debug)]
pub struct KeyTaken<'a>(
    /// The key.
    pub Vni,
    /// Their logical switch.
    pub &'a LogicalSwitchName,
);

impl fmt::Display for KeyTaken<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(key, theirs) = self;
        write!(
            f,
            "logical switch {theirs} of another controller has VNI {key} too, and the two networks would be one; nothing is \
             added until it is deleted there or one of the two has another VNI"
        )
    }
}

struct Key(Option<Vni>);

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(key) => key.fmt(f),
            None => f.write_str("none"),
        }
    }
}

struct List<'a>(&'a BTreeSet<Locator>);

impl fmt::Display for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("nowhere");
        }
        for (place, locator) in self.0.iter().enumerate() {
            let comma = if place == 0 { "" } else { ", " };
            write!(f, "{comma}{locator}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
