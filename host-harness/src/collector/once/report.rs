//! The result of polling everything: the counts, the exit status, and the scores of two polls as a table.

use std::time::Duration;

use source_host::contract::Measure;

/// The result of polling everything.
#[derive(Debug, Default)]
pub struct Report {
    /// Number of scopes that were collected, or have nothing to collect.
    pub good: usize,
    /// Number of feeds and scopes that failed.
    pub failed: usize,
    /// Number of events that were written.
    pub events: usize,
    /// Number of events that wait for their sinks.
    pub waiting: u64,
    /// Figures of the scopes.
    pub rows: Vec<Figure>,
}

/// A figure with its feed and scope.
#[derive(Debug)]
pub struct Figure {
    /// Id of the feed.
    pub feed: String,
    /// Name of the scope; its id where it has none.
    pub scope: String,
    /// The figure.
    pub measure: Measure,
}

impl Report {
    /// The result on one line.
    pub fn outcome(&self, time: Duration) -> String {
        let Report { events, good, failed, waiting, .. } = self;
        let waiting = if *waiting == 0 { String::new() } else { format!("; {waiting} events wait for their sinks") };
        format!("polled in {:.1} s: {events} events; scopes: {good} good, {failed} failed{waiting}", time.as_secs_f64())
    }

    /// The exit status: 0 done, 1 nothing collected, 3 partly done.
    pub fn status(&self) -> u8 {
        match (self.good, self.failed) {
            (_, 0) if self.waiting == 0 => 0,
            (0, _) => 1,
            _ => 3,
        }
    }
}

/// A table for people with the scores of two polls: those of the later poll, and those that only the earlier poll has.
pub fn table(before: &Report, after: &Report, kind: &str) -> String {
    fn of_kind<'a>(report: &'a Report, kind: &str) -> impl Iterator<Item = &'a Figure> {
        report.rows.iter().filter(move |row| row.measure.kind == kind)
    }
    let same =
        |one: &Figure, other: &Figure| (&one.feed, &one.measure.subject) == (&other.feed, &other.measure.subject);
    let earlier = |row: &Figure| of_kind(before, kind).find(|known| same(known, row));
    let later = |row: &Figure| of_kind(after, kind).find(|known| same(known, row));
    let mut pairs: Vec<(Option<&Figure>, Option<&Figure>)> =
        of_kind(before, kind).map(|row| (Some(row), later(row))).collect();
    pairs.extend(of_kind(after, kind).filter(|row| earlier(row).is_none()).map(|row| (None, Some(row))));
    // A new scope is listed with its feed.
    let feeds: Vec<&str> = pairs.iter().filter_map(|(before, after)| Some(after.or(*before)?.feed.as_str())).collect();
    let place = |row: Option<&Figure>| feeds.iter().position(|feed| row.is_some_and(|row| row.feed == *feed));
    pairs.sort_by_key(|(before, after)| place(after.or(*before)));
    let none = || "-".to_owned();
    let points = |row: &Figure| format!("{:.2} / {}", row.measure.value, row.measure.maximum);
    let percent = |row: &Figure| match row.measure.maximum {
        maximum if maximum > 0.0 => format!("{:.1} %", row.measure.value / maximum * 100.0),
        _ => none(),
    };
    let cells = |(before, after): (Option<&Figure>, Option<&Figure>)| {
        let row = after.or(before)?;
        let change = before.zip(after).map(|(before, after)| after.measure.value - before.measure.value);
        Some([
            row.feed.clone(),
            row.scope.clone(),
            row.measure.title.clone(),
            before.map_or_else(none, points),
            after.map_or_else(none, points),
            after.map_or_else(none, percent),
            change.map_or_else(none, |change| format!("{change:+.2}")),
        ])
    };
    let mut rows: Vec<[String; 7]> = pairs.into_iter().filter_map(cells).collect();
    rows.insert(0, ["feed", "scope", "score", "before", "after", "", "change"].map(str::to_owned));
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..7).map(width).collect();
    let line = |row: &[String; 7]| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_that_wait_are_no_failed_scopes() {
        let report = Report { good: 6, events: 90, waiting: 45, ..Report::default() };
        let outcome = report.outcome(Duration::from_secs(1));
        assert_eq!(outcome, "polled in 1.0 s: 90 events; scopes: 6 good, 0 failed; 45 events wait for their sinks");
        assert_eq!((report.status(), Report { waiting: 0, ..report }.status()), (3, 0));
    }
}
