//! What was measured: samples, the floor beside them, the budget above them.

use std::time::Duration;

/// What a sample counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Seconds.
    Time,
    /// Bytes.
    Memory,
    /// Pieces.
    Count,
    /// Pieces a second.
    Rate,
}

impl Unit {
    /// A value with its unit, three significant digits.
    pub(crate) fn show(self, value: f64) -> String {
        match self {
            Self::Count => format!("{value:.0}"),
            Self::Rate => format!("{value:.0}/s"),
            Self::Memory if value >= 1e9 => format!("{} GB", significant(value / 1e9)),
            Self::Memory => format!("{} MB", significant(value / 1e6)),
            Self::Time if value >= 1.0 => format!("{} s", significant(value)),
            Self::Time if value >= 1e-3 => format!("{} ms", significant(value * 1e3)),
            Self::Time => format!("{} µs", significant(value * 1e6)),
        }
    }
}

/// Three significant digits, none of them cut off before the point.
fn significant(value: f64) -> String {
    let decimals = match value.abs() {
        v if v >= 99.95 => 0,
        v if v >= 9.995 => 1,
        _ => 2,
    };
    format!("{value:.decimals$}")
}

/// The results of several runs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Samples(Vec<f64>);

impl Samples {
    pub(crate) fn push(&mut self, value: f64) {
        let place = self.0.partition_point(|known| *known <= value);
        self.0.insert(place, value);
    }

    pub(crate) fn push_time(&mut self, value: Duration) {
        self.push(value.as_secs_f64());
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The value below which this share of the samples lies (nearest rank); `None` without samples.
    fn quantile(&self, share: f64) -> Option<f64> {
        let rank = (share * self.0.len() as f64).ceil() as usize;
        self.0.get(rank.saturating_sub(1)).copied()
    }

    pub(crate) fn of(&self, statistic: Statistic) -> Option<f64> {
        match statistic {
            Statistic::Min => self.0.first().copied(),
            Statistic::Median => self.quantile(0.5),
            Statistic::P99 => self.quantile(0.99),
            Statistic::Max => self.0.last().copied(),
        }
    }
}

impl FromIterator<f64> for Samples {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Self {
        let mut samples = Self::default();
        values.into_iter().for_each(|value| samples.push(value));
        samples
    }
}

/// One number out of many samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Statistic {
    Min,
    Median,
    P99,
    Max,
}

impl Statistic {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Min => "min",
            Self::Median => "median",
            Self::P99 => "p99",
            Self::Max => "max",
        }
    }
}

/// What the product may take.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Budget {
    /// So much.
    AtMost(f64),
    /// No less than so much.
    AtLeast(f64),
    /// So many times what the floor takes, median against median.
    TimesFloor(f64),
}

/// The same work without the product around it, measured in the same run.
#[derive(Clone, Debug)]
pub(crate) struct Floor {
    pub(crate) what: &'static str,
    pub(crate) samples: Samples,
}

/// One line of the report.
#[derive(Clone, Debug)]
pub(crate) struct Measurement {
    pub(crate) what: String,
    pub(crate) unit: Unit,
    pub(crate) samples: Samples,
    pub(crate) floor: Option<Floor>,
    budget: Option<(Budget, Statistic)>,
}

impl Measurement {
    pub(crate) fn new(what: impl Into<String>, unit: Unit, samples: Samples) -> Self {
        Self {
            what: what.into(),
            unit,
            samples,
            floor: None,
            budget: None,
        }
    }

    pub(crate) fn time(what: impl Into<String>, samples: Samples) -> Self {
        Self::new(what, Unit::Time, samples)
    }

    pub(crate) fn memory(what: impl Into<String>, samples: Samples) -> Self {
        Self::new(what, Unit::Memory, samples)
    }

    #[must_use]
    pub(crate) fn above(mut self, what: &'static str, samples: Samples) -> Self {
        self.floor = Some(Floor { what, samples });
        self
    }

    /// Sets the budget, and which of the numbers has to keep it.
    #[must_use]
    pub(crate) fn budget(mut self, budget: Budget, judged: Statistic) -> Self {
        self.budget = Some((budget, judged));
        self
    }

    /// How many times the floor it took, median against median.
    pub(crate) fn ratio(&self) -> Option<f64> {
        let floor = self.floor.as_ref()?.samples.of(Statistic::Median)?;
        Some(self.samples.of(Statistic::Median)? / floor)
    }

    /// The budget in words; empty if there is none.
    pub(crate) fn budget_text(&self) -> String {
        match self.budget {
            None => String::new(),
            Some((Budget::AtMost(value), judged)) => {
                format!("{} ≤ {}", judged.name(), self.unit.show(value))
            }
            Some((Budget::AtLeast(value), judged)) => {
                format!("{} ≥ {}", judged.name(), self.unit.show(value))
            }
            Some((Budget::TimesFloor(times), _)) => format!("≤ {times} × floor"),
        }
    }

    /// Whether the budget was kept; `None` where there is no budget or nothing was measured.
    pub(crate) fn within(&self) -> Option<bool> {
        match self.budget? {
            (Budget::AtMost(most), judged) => Some(self.samples.of(judged)? <= most),
            (Budget::AtLeast(least), judged) => Some(self.samples.of(judged)? >= least),
            (Budget::TimesFloor(times), _) => Some(self.ratio()? <= times),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_samples_that_were_seen() {
        let samples: Samples = (1..=100).rev().map(f64::from).collect();
        let of = |statistic| samples.of(statistic).unwrap();
        assert_eq!(of(Statistic::Min), 1.0);
        assert_eq!(of(Statistic::Median), 50.0);
        assert_eq!(of(Statistic::P99), 99.0);
        assert_eq!(of(Statistic::Max), 100.0);
        assert_eq!(Samples::default().of(Statistic::Median), None);
        assert_eq!(Samples::from_iter([7.0]).of(Statistic::P99), Some(7.0));
    }

    #[test]
    fn a_ratio_budget_compares_medians() {
        let slow = Measurement::time("x", [2.0, 3.0, 9.0].into_iter().collect())
            .above("bare", [1.0, 2.0, 3.0].into_iter().collect());
        assert_eq!(slow.ratio(), Some(1.5));
        let judged = |times| {
            let budget = Budget::TimesFloor(times);
            slow.clone().budget(budget, Statistic::Median).within()
        };
        assert_eq!((judged(1.5), judged(1.4)), (Some(true), Some(false)));
    }

    #[test]
    fn a_missed_p99_is_missed_though_the_median_is_fine() {
        let samples: Samples = (0..100).map(|n| if n < 97 { 0.01 } else { 0.08 }).collect();
        let measurement = Measurement::time("x", samples);
        let at = |judged| {
            let budget = Budget::AtMost(0.05);
            measurement.clone().budget(budget, judged).within()
        };
        assert_eq!(at(Statistic::Median), Some(true));
        assert_eq!(at(Statistic::P99), Some(false));
    }

    #[test]
    fn values_are_shown_with_three_digits() {
        assert_eq!(Unit::Time.show(1.2345), "1.23 s");
        assert_eq!(Unit::Time.show(0.0999), "99.9 ms");
        assert_eq!(Unit::Time.show(0.00004), "40.0 µs");
        assert_eq!(Unit::Memory.show(149_600_000.0), "150 MB");
        assert_eq!(Unit::Count.show(0.0), "0");
    }
}
