//! The rows, and the table of their figures.

use serde::Serialize;

use crate::blocks::{self, Measured};

/// A measurement: work of the plugin, beside another program that does the same work or the least part of it.
pub struct Row {
    /// The name, as given to `--only`.
    pub name: String,
    /// A description of the work, for people.
    pub what: String,
    /// A description of the other side, for people.
    pub beside: &'static str,
    /// The intended ratio.
    pub goal: Option<f64>,
    /// The number of items that a call reads.
    pub records: usize,
    /// The number of bytes of the pages that a call reads.
    pub bytes_in: usize,
    /// The number of bytes of the events that a call writes.
    pub bytes_out: usize,
    /// One call of the plugin.
    pub ours: Box<dyn FnMut()>,
    /// One call of the other side, or `None` if there is nothing to compare with.
    pub other: Option<Box<dyn FnMut()>>,
}

/// The figures of a row. All times are CPU times of the process.
#[derive(Serialize)]
pub struct Figures {
    name: String,
    what: String,
    ours_microseconds: f64,
    beside: &'static str,
    other_microseconds: Option<f64>,
    /// The time of the other side divided by the plugin's: above 1, the plugin is faster.
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
    /// Measures the row.
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

/// Returns the table for people, in Markdown.
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
