//! What the switches really hold of a resource, as the API shows it.

use std::fmt;

/// The state of a remote resource, read back from the switches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    /// Every switch that should hold it does.
    Active,
    /// On its way to a switch.
    Build,
    /// A switch that should hold it is away.
    Down,
    /// A switch refuses it.
    Error,
}

impl Status {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "ACTIVE",
            Self::Build => "BUILD",
            Self::Down => "DOWN",
            Self::Error => "ERROR",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A status and, unless it is [`Status::Active`], the reason in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The status.
    pub status: Status,
    /// Why it is not ACTIVE.
    pub reason: Option<String>,
}

impl Report {
    /// All switches hold it.
    pub const ACTIVE: Self = Self {
        status: Status::Active,
        reason: None,
    };

    /// A status that needs explaining.
    pub fn because(status: Status, reason: impl Into<String>) -> Self {
        Self {
            status,
            reason: Some(reason.into()),
        }
    }

    /// What is to be said of a resource on several switches: the worst status, ERROR before DOWN before BUILD before
    /// ACTIVE, and what each of them has to say, once.
    #[must_use]
    pub fn of_all(reports: impl IntoIterator<Item = Self>) -> Self {
        let mut status = Status::Active;
        let mut reasons: Vec<String> = Vec::new();
        let mut further = 0;
        for report in reports {
            status = status.max(report.status);
            match report.reason {
                Some(reason) if reasons.contains(&reason) => {}
                Some(reason) if reasons.len() < MOST_REASONS => reasons.push(reason),
                Some(_) => further += 1,
                None => {}
            }
        }
        if further > 0 {
            reasons.push(format!("and {further} more"));
        }
        Self {
            status,
            reason: (!reasons.is_empty()).then(|| reasons.join("; ")),
        }
    }
}

/// Nobody reads more in one line.
const MOST_REASONS: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_lack_something_are_named_once_under_the_worst_status() {
        let build = || Report::because(Status::Build, "on its way to switch a");
        let error = Report::because(Status::Error, "switch b reports fire");
        assert_eq!(
            Report::of_all([Report::ACTIVE, Report::ACTIVE]),
            Report::ACTIVE
        );
        assert_eq!(Report::of_all([]), Report::ACTIVE);
        assert_eq!(
            Report::of_all([build(), Report::ACTIVE, error, build()]),
            Report::because(
                Status::Error,
                "on its way to switch a; switch b reports fire"
            )
        );
    }

    #[test]
    fn of_very_many_some_are_named_and_the_others_counted() {
        let reports =
            (0..1000).map(|n| Report::because(Status::Down, format!("switch {n} is away")));
        let reason = Report::of_all(reports).reason.unwrap();
        assert!(
            reason.ends_with("switch 7 is away; and 992 more"),
            "{reason}"
        );
    }
}
