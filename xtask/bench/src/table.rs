//! The rows, and the table of their figures.

use serde::{Deserialize, Serialize};

use crate::blocks::{self, Measured, Work};

/// A measurement: work of this project, beside another program that does the same work or the least part of it.
pub struct Row {
    /// The name, as given to `--only`.
    pub name: String,
    /// A description of the work, for people.
    pub what: String,
    /// The unit of the figures.
    pub unit: &'static str,
    /// A description of the other side, for people; empty if there is none.
    pub beside: &'static str,
    /// The goals of the project.
    pub goals: Vec<Goal>,
    /// The number of items that a call reads, where the figures are times of calls.
    pub records: usize,
    /// Takes the figures, with so many pairs where the row has pairs of blocks.
    pub measure: Box<dyn FnOnce(usize) -> Result<Measured, String>>,
}

/// A goal of a row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Goal {
    /// The ratio is at least so large.
    Ratio(f64),
    /// Our figure is at most so large.
    Most(f64),
    /// We read at least so many records in a second.
    Rate(f64),
}

/// The figures of a row.
#[derive(Serialize, Deserialize)]
pub struct Figures {
    /// The name of the row.
    pub row: String,
    /// A description of the work, for people.
    pub what: String,
    /// The unit of the figures.
    pub unit: String,
    /// Our figure.
    pub ours: f64,
    beside: Option<String>,
    other: Option<f64>,
    /// Above 1, ours is better.
    ratio: Option<f64>,
    /// The smallest and the largest ratio of the pairs; without another side, of our figures.
    spread: [f64; 2],
    records_per_second: Option<f64>,
    /// The goals of the project.
    pub goals: Vec<Judged>,
    /// Where the row was measured.
    pub machine: String,
}

/// A goal, and whether the figures reach it.
#[derive(Serialize, Deserialize)]
pub struct Judged {
    goal: String,
    /// Our largest figure that reaches the goal, if the goal is one of our figure.
    pub most: Option<f64>,
    /// Whether the figures reach it.
    pub reached: bool,
}

impl Row {
    /// Makes a row of calls in pairs of blocks, whose figures are microseconds of processor time.
    pub fn of_calls(
        (name, what, beside): (String, String, &'static str),
        goals: Vec<Goal>,
        records: usize,
        mut ours: Box<dyn Work>,
        mut other: Option<Box<dyn Work>>,
    ) -> Row {
        let measure = move |pairs| {
            let other = other.as_mut().map(|other| &mut **other as &mut dyn Work);
            let Measured { ours, other, ratio, spread } = blocks::measure(pairs, &mut *ours, other)?;
            let spread = if ratio.is_some() { spread } else { spread.map(|nanoseconds| nanoseconds / 1e3) };
            Ok(Measured { ours: ours / 1e3, other: other.map(|nanoseconds| nanoseconds / 1e3), ratio, spread })
        };
        Row { name, what, unit: MICROSECONDS, beside, goals, records, measure: Box::new(measure) }
    }

    /// Measures the row on this machine.
    pub fn measured(self, pairs: usize, machine: &str) -> Result<Figures, String> {
        let Measured { ours, other, ratio, spread } = (self.measure)(pairs)?;
        let rate = (self.records > 0).then(|| self.records as f64 / ours * 1e6);
        let judged = |goal: &Goal| match *goal {
            Goal::Ratio(least) => Judged {
                goal: format!("≥ {least:.2} ×"),
                most: None,
                reached: ratio.is_some_and(|ratio| ratio >= least),
            },
            Goal::Most(most) => {
                Judged { goal: format!("≤ {} {}", figure(most), self.unit), most: Some(most), reached: ours <= most }
            }
            Goal::Rate(least) => Judged {
                goal: format!("≥ {} records/s", thousands(least)),
                most: None,
                reached: rate.is_some_and(|rate| rate >= least),
            },
        };
        Ok(Figures {
            row: self.name,
            what: self.what,
            unit: self.unit.to_owned(),
            ours,
            beside: other.map(|_| self.beside.to_owned()),
            other,
            ratio,
            spread,
            records_per_second: rate,
            goals: self.goals.iter().map(judged).collect(),
            machine: machine.to_owned(),
        })
    }
}

/// The unit of calls.
const MICROSECONDS: &str = "µs";

/// Returns the table for people, in Markdown, as `docs/performance.md` has it.
pub fn table(figures: &[&Figures]) -> String {
    let mut table = "| row | what | ours | the other | ratio | spread | goal | reached | records/s |\n".to_owned();
    table += "|---|---|---|---|---|---|---|---|---|\n";
    for one in figures {
        let with_unit = |value: f64| format!("{} {}", figure(value), one.unit);
        let other = match (one.other, &one.beside) {
            (Some(other), Some(beside)) => format!("{} ({beside})", with_unit(other)),
            _ => "–".to_owned(),
        };
        let [lowest, highest] = one.spread;
        let spread = match one.ratio {
            Some(_) => format!("{}–{}", figure(lowest), figure(highest)),
            None => format!("{}–{} {}", figure(lowest), figure(highest), one.unit),
        };
        let goals = |told: fn(&Judged) -> &str| match one.goals.as_slice() {
            [] => "–".to_owned(),
            goals => goals.iter().map(told).collect::<Vec<_>>().join("; "),
        };
        let cells = [
            one.row.clone(),
            one.what.clone(),
            with_unit(one.ours),
            other,
            one.ratio.map_or("–".to_owned(), figure),
            spread,
            goals(|judged| &judged.goal),
            goals(|judged| if judged.reached { "yes" } else { "no" }),
            one.records_per_second.map_or("–".to_owned(), thousands),
        ];
        table += &format!("| {} |\n", cells.join(" | "));
    }
    table
}

/// Returns a number with about three digits that count.
pub fn figure(value: f64) -> String {
    match value.abs() {
        large if large >= 1e3 => thousands(value),
        large if large >= 99.5 => format!("{value:.0}"),
        middle if middle >= 9.95 => format!("{value:.1}"),
        small if small >= 0.0995 || small == 0.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// Returns a whole number with a comma before each three digits.
pub fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_its_figures_its_goals_and_whether_it_reaches_them() {
        let row = |measure: Measured| Row {
            name: "name".to_owned(),
            what: "what".to_owned(),
            unit: "µs",
            beside: "other",
            goals: vec![Goal::Ratio(0.6), Goal::Most(300.0), Goal::Rate(90_000.0)],
            records: 26,
            measure: Box::new(move |_| Ok(measure)),
        };
        let beside = Measured { ours: 1_250.0, other: Some(286.0), ratio: Some(0.2288), spread: [0.2, 0.25] };
        let alone = Measured { ours: 31.46, other: None, ratio: None, spread: [30.0, 33.0] };
        let figures: Vec<Figures> =
            [beside, alone].into_iter().map(|measured| row(measured).measured(7, "here").unwrap()).collect();
        let table = table(&figures.iter().collect::<Vec<_>>());
        let lines: Vec<&str> = table.lines().skip(2).collect();
        assert_eq!(
            lines,
            [
                "| name | what | 1,250 µs | 286 µs (other) | 0.23 | 0.20–0.25 | ≥ 0.60 ×; ≤ 300 µs; ≥ 90,000 records/s \
                 | no; no; no | 20,800 |",
                "| name | what | 31.5 µs | – | – | 30.0–33.0 µs | ≥ 0.60 ×; ≤ 300 µs; ≥ 90,000 records/s \
                 | no; yes; yes | 826,446 |",
            ]
        );
    }
}
