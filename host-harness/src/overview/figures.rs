//! Calculations with figures: averages over scopes, the course of days, and the parts that moved a figure.

use source_host::limits::{DAY, milliseconds};

use crate::limits;
use crate::store::Points;
use crate::store::reading::{Sample, Series};

/// An average of figures over scopes, weighted as Microsoft's official query for management groups does: each figure
/// counts as `round(weight × value / maximum, 2)`, 0 without a maximum, and a weight of 0 divides as 1.
#[derive(Debug, Clone, Copy, Default)]
pub struct Average {
    sum: f64,
    weights: f64,
}

impl Average {
    /// Adds a figure.
    pub fn add(&mut self, Points { value, maximum, weight }: Points) {
        if maximum != 0.0 {
            self.sum += rounded(weight * value / maximum);
        }
        self.weights += if weight == 0.0 { 1.0 } else { weight };
    }

    /// Adds the figures of another average.
    pub fn merge(&mut self, other: Average) {
        self.sum += other.sum;
        self.weights += other.weights;
    }

    /// Returns the average in percent, rounded to two digits.
    pub fn percent(self) -> Option<f64> {
        let percent = rounded(self.sum / self.weights * 100.0);
        (self.weights != 0.0 && percent.is_finite()).then_some(percent)
    }
}

fn rounded(number: f64) -> f64 {
    (number * 100.0).round() / 100.0
}

/// Returns a figure in percent of its largest value; `None` if nothing was measured.
pub fn percent(Points { value, maximum, .. }: Points) -> Option<f64> {
    let percent = value / maximum * 100.0;
    (maximum != 0.0 && percent.is_finite()).then_some(percent)
}

/// Returns the figures at the end of each of the last days, and now: `days` + 1 of them. `None` stands for a day before
/// the first figure.
pub fn daily(samples: &[Sample], days: usize, now: u64) -> Vec<Option<Points>> {
    spaced(samples, days, milliseconds(DAY), now)
}

/// Returns the figures at the end of each of `count` equal spans of time, in milliseconds, the last of which ends now,
/// and the figure at their begin.
pub fn spaced(samples: &[Sample], count: usize, span: u64, now: u64) -> Vec<Option<Points>> {
    let mut rest = samples.iter().peekable();
    let mut last = None;
    let moment = |end: usize| now.saturating_sub((count - end) as u64 * span);
    (0..=count)
        .map(|end| {
            while let Some(sample) = rest.next_if(|sample| sample.time <= moment(end)) {
                last = Some(sample.points);
            }
            last
        })
        .collect()
}

/// Adds the figures of a scope to the averages at the end of each of the last days, and now.
pub fn add_daily(averages: &mut [Average], samples: &[Sample], now: u64) {
    let days = averages.len().saturating_sub(1);
    for (average, points) in averages.iter_mut().zip(daily(samples, days, now)) {
        if let Some(points) = points {
            average.add(points);
        }
    }
}

/// Returns how much a course of days changed from its first day to its last one. `None` for a course that begins later
/// than its first day: its change is that of a shorter time.
pub fn trend(course: &[Option<f64>]) -> Option<f64> {
    let first = course.first().copied().flatten()?;
    course.last().copied().flatten().map(|last| last - first)
}

/// A change of a scope's figure, with the parts that changed at the same poll.
#[derive(Debug, Clone, PartialEq)]
pub struct FigureChange {
    /// Time of the poll, in Unix milliseconds.
    pub time: u64,
    /// The figure before and after.
    pub figure: [Points; 2],
    /// The parts that changed, those that moved the figure most first: title, before and after. A part without a
    /// figure before was new. At most [`limits::MOVED_PARTS`].
    pub parts: Vec<(String, Option<Points>, Points)>,
    /// How many parts changed.
    pub parts_total: usize,
}

/// Returns the last changes of a figure, the newest first.
pub fn changes(figure: &[Sample], parts: &[Series], most: usize) -> Vec<FigureChange> {
    let pairs = figure.windows(2).rev().take(most);
    let change = |pair: &[Sample]| {
        let [before, after] = pair else { return None };
        let moved = parts.iter().filter_map(|series| {
            let place = series.samples.iter().position(|sample| sample.time == after.time)?;
            let previous = place.checked_sub(1).map(|place| series.samples[place].points);
            Some((&series.title, previous, series.samples[place].points))
        });
        let mut moved: Vec<_> = moved.filter(|(_, before, after)| by(*before, *after) != 0.0).collect();
        moved.sort_by(|one, other| by(other.1, other.2).abs().total_cmp(&by(one.1, one.2).abs()));
        let parts_total = moved.len();
        let parts = moved.into_iter().take(limits::MOVED_PARTS);
        let parts = parts.map(|(title, before, after)| (title.clone(), before, after)).collect();
        Some(FigureChange { time: after.time, figure: [before.points, after.points], parts, parts_total })
    };
    pairs.filter_map(change).collect()
}

/// Returns by how much a part moved the figure; a change of its largest value alone counts, too.
fn by(before: Option<Points>, after: Points) -> f64 {
    let (value, maximum) = before.map_or((0.0, 0.0), |before| (before.value, before.maximum));
    if after.value == value { after.maximum - maximum } else { after.value - value }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAYS: u64 = 86_400_000;
    const NOW: u64 = 100 * DAYS;

    fn sample(day: u64, value: f64, maximum: f64) -> Sample {
        Sample { time: day * DAYS, points: Points { value, maximum, weight: 1.0 } }
    }

    fn average(figures: &[(f64, f64, f64)]) -> Option<f64> {
        let mut average = Average::default();
        for (value, maximum, weight) in figures {
            average.add(Points { value: *value, maximum: *maximum, weight: *weight });
        }
        average.percent()
    }

    #[test]
    fn an_average_follows_the_official_query() {
        assert_eq!(average(&[(38.84, 56.0, 881.0), (34.3, 60.0, 245.0)]), Some(66.71));
        assert_eq!(average(&[(10.0, 20.0, 3.0), (0.0, 0.0, 1.0)]), Some(37.5), "nothing assessed counts as 0");
        assert_eq!(average(&[(10.0, 20.0, 1.0), (10.0, 20.0, 0.0)]), Some(25.0), "a weight of 0 divides as 1");
        assert_eq!(average(&[]), None);
        assert_eq!(average(&[(1.0, 2.0, f64::MAX), (1.0, 2.0, f64::MAX)]), None, "no figure of a plugin overflows");
    }

    #[test]
    fn a_day_has_the_last_figure_before_its_end() {
        let samples = [sample(97, 1.0, 10.0), sample(99, 2.0, 10.0), sample(99, 3.0, 10.0)];
        let course: Vec<_> = daily(&samples, 4, NOW).iter().map(|points| points.map(|points| points.value)).collect();
        assert_eq!(course, [None, Some(1.0), Some(1.0), Some(3.0), Some(3.0)]);
        let other = [sample(98, 0.0, 0.0)];
        let mut averages = vec![Average::default(); 5];
        add_daily(&mut averages, &samples, NOW);
        add_daily(&mut averages, &other, NOW);
        let average: Vec<_> = averages.into_iter().map(Average::percent).collect();
        assert_eq!(average, [None, Some(10.0), Some(5.0), Some(15.0), Some(15.0)]);
        assert_eq!((trend(&average[1..]), trend(&average), trend(&[None]), trend(&[])), (Some(5.0), None, None, None));
    }

    #[test]
    fn a_change_names_the_parts_that_moved_it() {
        let series = |title: &str, samples: &[Sample]| Series {
            subject: title.to_owned(),
            title: title.to_owned(),
            samples: samples.to_vec(),
        };
        let figure = [sample(1, 5.0, 10.0), sample(2, 3.0, 10.0), sample(3, 3.0, 12.0)];
        let parts = [
            series("small", &[sample(1, 1.0, 5.0), sample(2, 0.5, 5.0)]),
            series("large", &[sample(1, 4.0, 5.0), sample(2, 2.5, 5.0)]),
            series("new", &[sample(3, 0.0, 2.0)]),
            series("renamed", &[sample(1, 0.0, 0.0), sample(2, 0.0, 0.0)]),
        ];
        let changes = changes(&figure, &parts, 10);
        let told: Vec<(u64, Vec<&str>)> = changes
            .iter()
            .map(|change| (change.time / DAYS, change.parts.iter().map(|(title, ..)| title.as_str()).collect()))
            .collect();
        assert_eq!(told, [(3, vec!["new"]), (2, vec!["large", "small"])]);
    }
}
