//! The rows, and how their figures are shown.

use serde::Serialize;

use crate::blocks::{self, Measured};

/// A thing to measure, beside another that does the same work, or the least of it.
pub struct Row {
    /// For `--only`.
    pub name: String,
    /// For people.
    pub what: String,
    /// The other, for people.
    pub beside: &'static str,
    /// The ratio that is aimed at.
    pub goal: Option<f64>,
    /// Items that a call reads.
    pub records: usize,
    /// Bytes of the pages that a call reads.
    pub bytes_in: usize,
    /// Bytes of the events that a call writes.
    pub bytes_out: usize,
    /// One call.
    pub ours: Box<dyn FnMut()>,
    /// One call of the other; none where there is nothing to compare with.
    pub other: Option<Box<dyn FnMut()>>,
}

/// What a row gave. All times are of the process on processors.
#[derive(Serialize)]
pub struct Figures {
    name: String,
    what: String,
    ours_microseconds: f64,
    beside: &'static str,
    other_microseconds: Option<f64>,
    /// The time of the other by ours: above 1, ours is faster.
    ratio: Option<f64>,
    goal: Option<f64>,
    ratio_lowest: Option<f64>,
    ratio_highest: Option<f64>,
    records_per_second: f64,
    megabytes_in_per_second: f64,
    bytes_in: usize,
    bytes_out: usize,
}

impl Row {
    /// Measures it.
    pub fn measure(mut self, pairs: usize) -> Figures {
        let beside_nothing = self.other.is_none();
        let mut other = self.other.take().unwrap_or_else(|| Box::new(std::thread::yield_now));
        let Measured { ours, other, ratio } = blocks::measure(pairs, &mut self.ours, &mut other);
        let compared = |figure: f64| (!beside_nothing).then_some(figure);
        Figures {
            name: self.name,
            what: self.what,
            ours_microseconds: ours / 1e3,
            beside: if beside_nothing { "" } else { self.beside },
            other_microseconds: compared(other / 1e3),
            ratio: compared(ratio[0]),
            goal: self.goal,
            ratio_lowest: compared(ratio[1]),
            ratio_highest: compared(ratio[2]),
            records_per_second: self.records as f64 / ours * 1e9,
            megabytes_in_per_second: self.bytes_in as f64 / ours * 1e3,
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
        }
    }
}

/// The table for people, in Markdown.
pub fn table(figures: &[Figures]) -> String {
    let mut table =
        "| row | what | ours, µs | the other, µs | ratio | goal | spread | records/s | MB/s in |\n".to_owned();
    table += "|---|---|---|---|---|---|---|---|---|\n";
    for one in figures {
        let known = |figure: Option<f64>, digits: usize| figure.map_or("–".to_owned(), |f| format!("{f:.digits$}"));
        let other = match one.other_microseconds {
            Some(other) => format!("{other:.1} ({})", one.beside),
            None => "–".to_owned(),
        };
        let spread = match (one.ratio_lowest, one.ratio_highest) {
            (Some(lowest), Some(highest)) => format!("{lowest:.2}–{highest:.2}"),
            _ => "–".to_owned(),
        };
        table += &format!(
            "| {} | {} | {:.1} | {other} | {} | {} | {spread} | {:.0} | {:.0} |\n",
            one.name,
            one.what,
            one.ours_microseconds,
            known(one.ratio, 2),
            known(one.goal, 2),
            one.records_per_second,
            one.megabytes_in_per_second
        );
    }
    table
}
