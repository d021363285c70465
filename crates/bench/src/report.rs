//! The report: Markdown that reads as well on a terminal.

use std::fmt::Write as _;

use crate::measurement::{Measurement, Statistic};

/// What belongs together.
#[derive(Debug)]
pub(crate) struct Section {
    pub(crate) title: &'static str,
    /// How it was measured.
    pub(crate) how: &'static str,
    /// What was measured; or why nothing was.
    pub(crate) outcome: anyhow::Result<Vec<Measurement>>,
}

/// The whole of a run.
#[derive(Debug)]
pub(crate) struct Report {
    /// What was typed.
    pub(crate) command: String,
    pub(crate) date: String,
    pub(crate) machine: Vec<(&'static str, String)>,
    pub(crate) sections: Vec<Section>,
}

impl Report {
    fn measurements(&self) -> impl Iterator<Item = &Measurement> {
        let outcomes = self.sections.iter().flat_map(|section| &section.outcome);
        outcomes.flatten()
    }

    /// Whether everything that was to be measured was.
    pub(crate) fn is_complete(&self) -> bool {
        self.sections.iter().all(|section| section.outcome.is_ok())
    }

    pub(crate) fn markdown(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, text: &mut String) -> std::fmt::Result {
        writeln!(text, "# Benchmarks\n")?;
        writeln!(
            text,
            "Written by `{}` on {}; everything below was measured in that one run, floors included.\n",
            self.command, self.date
        )?;
        writeln!(text, "| machine | |\n|---|---|")?;
        for (name, value) in &self.machine {
            writeln!(text, "| {name} | {value} |")?;
        }
        self.write_summary(text)?;
        for section in &self.sections {
            writeln!(text, "\n## {}\n\n{}\n", section.title, section.how)?;
            match &section.outcome {
                Ok(measurements) => write_table(text, measurements)?,
                // Why, is for whoever runs it: it may name paths of this machine.
                Err(_) => writeln!(text, "**Not measured**: it failed.")?,
            }
        }
        writeln!(
            text,
            "\nTime and memory are in decimal units. A floor is the same work without the product around it; its median \
             is shown, and the ratio is that of the medians. Budgets are goals, not tests: a missed one is reported \
             and fails nothing."
        )
    }

    fn write_summary(&self, text: &mut String) -> std::fmt::Result {
        let judged: Vec<_> = self
            .measurements()
            .filter_map(|measurement| Some((measurement, measurement.within()?)))
            .collect();
        let over: Vec<_> = judged.iter().filter(|(_, within)| !within).collect();
        writeln!(
            text,
            "\n{} of {} budgets kept.",
            judged.len() - over.len(),
            judged.len()
        )?;
        for (measurement, _) in over {
            writeln!(
                text,
                "- **over**: {}, {} (budget {})",
                measurement.what,
                shown(measurement),
                measurement.budget_text()
            )?;
        }
        Ok(())
    }
}

/// The median, and the ratio if there is one.
fn shown(measurement: &Measurement) -> String {
    let value = measurement.samples.of(Statistic::Median);
    let value = value.map_or_else(String::new, |value| measurement.unit.show(value));
    match measurement.ratio() {
        Some(ratio) => format!("median {value} = {ratio:.2} × floor"),
        None => format!("median {value}"),
    }
}

fn write_table(text: &mut String, measurements: &[Measurement]) -> std::fmt::Result {
    writeln!(
        text,
        "| what | runs | min | median | p99 | max | floor | ratio | budget | |\n\
         |---|--:|--:|--:|--:|--:|---|--:|---|---|"
    )?;
    for measurement in measurements {
        let of = |statistic| match measurement.samples.of(statistic) {
            Some(value) => measurement.unit.show(value),
            None => "-".to_owned(),
        };
        // Of fewer samples it is the maximum.
        let p99 = if measurement.samples.len() >= 30 {
            of(Statistic::P99)
        } else {
            String::new()
        };
        let floor = measurement
            .floor
            .as_ref()
            .map_or_else(String::new, |floor| {
                let median = floor.samples.of(Statistic::Median);
                let median =
                    median.map_or_else(String::new, |median| measurement.unit.show(median));
                format!("{median} {}", floor.what)
            });
        let ratio = measurement
            .ratio()
            .map_or_else(String::new, |ratio| format!("{ratio:.2}"));
        let verdict = match measurement.within() {
            None => "",
            Some(true) => "within",
            Some(false) => "**over**",
        };
        writeln!(
            text,
            "| {} | {} | {} | {} | {p99} | {} | {floor} | {ratio} | {} | {verdict} |",
            measurement.what,
            measurement.samples.len(),
            of(Statistic::Min),
            of(Statistic::Median),
            of(Statistic::Max),
            measurement.budget_text()
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;
    use crate::measurement::{Budget, Samples};

    fn section(outcome: anyhow::Result<Vec<Measurement>>) -> Section {
        Section {
            title: "T",
            how: "H",
            outcome,
        }
    }

    fn report(sections: Vec<Section>) -> Report {
        Report {
            command: "cargo xtask bench".to_owned(),
            date: "today".to_owned(),
            machine: vec![("Kernel", "Linux".to_owned())],
            sections,
        }
    }

    #[test]
    fn a_missed_budget_is_said_at_the_top_and_in_its_line() {
        let one = |value| Samples::from_iter([value]);
        let slow = Measurement::time("slow", one(2.0))
            .above("bare", one(1.0))
            .budget(Budget::TimesFloor(1.3), Statistic::Median);
        let fine =
            Measurement::time("fine", one(0.01)).budget(Budget::AtMost(0.05), Statistic::Median);
        let report = report(vec![section(Ok(vec![slow, fine]))]);
        assert!(report.is_complete());
        let text = report.markdown();
        for line in [
            "1 of 2 budgets kept.",
            "- **over**: slow, median 2.00 s = 2.00 × floor (budget ≤ 1.3 × floor)",
            "| slow | 1 | 2.00 s | 2.00 s |  | 2.00 s | 1.00 s bare | 2.00 | ≤ 1.3 × floor | **over** |",
            "| fine | 1 | 10.0 ms | 10.0 ms |  | 10.0 ms |  |  | median ≤ 50.0 ms | within |",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        }
    }

    #[test]
    fn what_could_not_be_measured_is_said_too() {
        let report = report(vec![section(Err(anyhow!("why")))]);
        assert!(!report.is_complete());
        assert!(report.markdown().contains("**Not measured**"));
    }
}
