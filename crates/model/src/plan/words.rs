//! Plans as people read them, like a diff.

use std::collections::BTreeSet;
use std::fmt;

use super::{Plan, Step};
use crate::switch::{Locator, Surplus};
use crate::value::Vni;

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
