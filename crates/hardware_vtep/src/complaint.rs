//! What switches complain about in `switch_fault_status` and `port_fault_status`, and whom it concerns.
//!
//! vtep(5) makes these columns sets of texts, some of them given (`mac_table_exhaustion`), others of the switch's own. A
//! text that begins with `logical switch NAME: ` is about that one alone; any other, as all that vtep(5) gives and hardware
//! says, concerns whatever the switch or the port forwards. One that begins with `warning: ` is no fault: nothing is lacking
//! because of it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use model::switch::{LogicalSwitchName, PhysicalPort};

const WARNING: &str = "warning: ";
const ABOUT: &str = "logical switch ";
const COLON: &str = ": ";

/// One text of a fault column. Faults come before warnings, and what concerns everything before the rest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Complaint {
    /// Whether all is forwarded in spite of it.
    pub is_warning: bool,
    /// The one logical switch that it is about; nothing: everything.
    pub about: Option<LogicalSwitchName>,
    /// The rest of the text.
    pub words: String,
}

impl Complaint {
    /// One that concerns everything.
    pub fn general(words: impl Into<String>) -> Self {
        Self {
            is_warning: false,
            about: None,
            words: words.into(),
        }
    }

    /// One that is about a logical switch.
    pub fn about(name: LogicalSwitchName, words: impl Into<String>) -> Self {
        Self {
            about: Some(name),
            ..Self::general(words)
        }
    }

    /// As a warning.
    #[must_use]
    pub fn warning(self) -> Self {
        Self {
            is_warning: true,
            ..self
        }
    }

    /// Reads a text. Any is one: what does not name a logical switch concerns everything.
    pub fn read(text: &str) -> Self {
        let (is_warning, text) = match text.strip_prefix(WARNING) {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let named = text.strip_prefix(ABOUT);
        let (about, words) = match named.and_then(|rest| rest.split_once(COLON)) {
            Some((name, words)) => (Some(LogicalSwitchName::new(name)), words),
            None => (None, text),
        };
        Self {
            is_warning,
            about,
            words: words.to_owned(),
        }
    }

    /// Whether what the switch forwards for a network suffers from it.
    pub fn concerns(&self, network: &LogicalSwitchName) -> bool {
        !self.is_warning && self.about.as_ref().is_none_or(|about| about == network)
    }
}

/// The text.
impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_warning {
            f.write_str(WARNING)?;
        }
        if let Some(name) = &self.about {
            write!(f, "{ABOUT}{name}{COLON}")?;
        }
        f.write_str(&self.words)
    }
}

/// The faults of all switches of a database and of their ports, by whom they concern. Warnings are not among them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Complaints {
    switches: BTreeMap<Arc<str>, Texts>,
    ports: BTreeMap<PhysicalPort, Texts>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Texts {
    general: Vec<String>,
    about: BTreeMap<LogicalSwitchName, Vec<String>>,
}

impl Complaints {
    pub(crate) fn add_of_switch(&mut self, switch: &Arc<str>, text: &str) {
        let texts = self.switches.entry(Arc::clone(switch)).or_default();
        texts.add(text, text.to_owned());
    }

    pub(crate) fn add_of_port(&mut self, port: &PhysicalPort, text: &str) {
        let texts = self.ports.entry(port.clone()).or_default();
        texts.add(text, format!("{text} on port {}", port.name));
    }

    /// What a switch complains about that concerns a network, in words.
    pub fn of_switch(&self, switch: &Arc<str>, network: &LogicalSwitchName) -> Option<String> {
        self.switches.get(switch)?.concerning(network)
    }

    /// The same of the first of its ports that are in use and have any.
    pub fn of_ports(
        &self,
        switch: &Arc<str>,
        network: &LogicalSwitchName,
        in_use: impl Fn(&PhysicalPort) -> bool,
    ) -> Option<String> {
        let ports = self.ports.iter();
        let mut ports = ports.filter(|(port, _)| port.switch == *switch && in_use(port));
        ports.find_map(|(_, texts)| texts.concerning(network))
    }
}

impl Texts {
    fn add(&mut self, text: &str, told: String) {
        let complaint = Complaint::read(text);
        match complaint.about {
            _ if complaint.is_warning => {}
            Some(name) => self.about.entry(name).or_default().push(told),
            None => self.general.push(told),
        }
    }

    fn concerning(&self, network: &LogicalSwitchName) -> Option<String> {
        let about = self.about.get(network).into_iter().flatten();
        let texts: Vec<_> = self
            .general
            .iter()
            .chain(about)
            .map(String::as_str)
            .collect();
        (!texts.is_empty()).then(|| texts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(name: &str) -> LogicalSwitchName {
        LogicalSwitchName::new(name)
    }

    #[test]
    fn a_text_that_names_a_logical_switch_concerns_no_other() {
        let written = Complaint::about(net("n1"), "cut: twice").to_string();
        assert_eq!(written, "logical switch n1: cut: twice");
        let read = Complaint::read(&written);
        assert_eq!(read.words, "cut: twice");
        assert!(read.concerns(&net("n1")));
        assert!(!read.concerns(&net("n2")));
    }

    #[test]
    fn what_names_none_concerns_all() {
        for text in [
            "mac_table_exhaustion",
            "logical switch table is full",
            "out of memory: logical switch n1: not forwarded",
        ] {
            let read = Complaint::read(text);
            assert!(read.concerns(&net("n1")) && read.concerns(&net("n2")));
            assert_eq!(read.to_string(), text);
        }
    }

    #[test]
    fn a_warning_concerns_nobody() {
        let warning = Complaint::about(net("n1"), "floods").warning();
        assert_eq!(warning.to_string(), "warning: logical switch n1: floods");
        assert_eq!(Complaint::read(&warning.to_string()), warning);
        assert!(!warning.concerns(&net("n1")));
    }
}
