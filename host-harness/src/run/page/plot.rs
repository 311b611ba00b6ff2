//! Courses of figures as SVG within the page, which needs neither a script nor another request.

use std::fmt::Write;

use maud::{Markup, html};
use source_host::limits::{DAY, milliseconds};

use super::words::{day, label, moment};
use crate::overview::history::Beginning;

/// Number of days of a sparkline.
pub const DAYS: usize = 90;

/// Number of days of its last part, which is drawn stronger.
pub const RECENT_DAYS: usize = 30;

/// Draws 90 days in a line of text, the last 30 of them stronger.
pub fn sparkline(course: &[Option<f64>]) -> Markup {
    let recent = course.len().saturating_sub(RECENT_DAYS + 1);
    let known: Vec<f64> = course.iter().flatten().copied().collect();
    if known.is_empty() {
        return html! { span.faint { "no history yet" } };
    }
    let frame = Drawing { width: 120.0, height: 28.0, margin: 4.0, range: range(&known, 4.0) };
    html! {
        svg.spark viewBox="0 0 124 28" width="124" height="28" role="img"
            aria-label={ "course of 90 days, " (latest(course)) } {
            path.past d=(frame.steps(course, 0)) {}
            path.recent d=(frame.steps(course, recent)) {}
            @if let Some(Some(now)) = course.last() { circle cx="120" cy=(frame.y(*now)) r="2.5" {} }
        }
    }
}

/// Draws 90 days, or the first day as long as there is no other, with a scale and dates. The words stand beside the
/// drawing, so that they stay legible when it shrinks.
pub fn plot(course: &[Option<f64>], beginning: Option<&Beginning>, now: u64, of: &str) -> Markup {
    let days = course.len().saturating_sub(1).max(1);
    let (course, since) = match beginning {
        Some(Beginning { since, course }) => (&**course, *since),
        None => (course, now.saturating_sub(days as u64 * milliseconds(DAY))),
    };
    let (reach, points, unit) = match beginning {
        Some(_) => ("since the first score", "in percent since the first score", "time"),
        None => ("over 90 days", "in percent at the end of each day; the last point is now", "day"),
    };
    let known: Vec<f64> = course.iter().flatten().copied().collect();
    if known.is_empty() {
        return html! { p.faint { "There is no history yet: it begins with the first poll that gives a score." } };
    }
    let of = &label(of);
    let levels = levels(&known);
    let range = (levels[0], levels[levels.len() - 1]);
    let frame = Drawing { width: 680.0, height: 200.0, margin: 0.0, range };
    let time = |part: usize, of: usize| {
        let time = since + now.saturating_sub(since) * part as u64 / of.max(1) as u64;
        // A beginning has less than a day, so that its times need no date.
        if beginning.is_some() { moment(time).chars().skip(11).collect() } else { day(time) }
    };
    let dates = (0..=3).map(|part| time(part, 3));
    // A table of the first day has a row for each change, and none for each span without one.
    let changed = |at: usize| beginning.is_none() || at == 0 || course[at] != course[at - 1];
    html! {
        figure {
            div.plot {
                div.levels aria-hidden="true" { @for level in levels.iter().rev() { span { (level) " %" } } }
                svg viewBox="0 0 680 200" preserveAspectRatio="none" role="img"
                    aria-label={ "Score of " (of) " " (reach) ", " (latest(course)) } {
                    @for level in &levels {
                        @let y = frame.y(*level);
                        line.grid x1="0" x2="680" y1=(y) y2=(y) {}
                    }
                    path.recent d=(frame.steps(course, 0)) {}
                }
                div.dates aria-hidden="true" { @for date in dates { span { (date) } } }
            }
            figcaption { "Score of " (of) " " (points) "." }
            details {
                summary { "The same as a table" }
                table {
                    caption.hidden { "Score of " (of) " by " (unit) }
                    thead { tr { th scope="col" { (unit) } th scope="col" { "score" } } }
                    tbody {
                        @for (at, value) in course.iter().enumerate().rev() {
                            @if let Some(value) = value && changed(at) {
                                tr {
                                    th scope="row" { (time(at, course.len() - 1)) }
                                    td.number { (format!("{value:.1} %")) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Tells the last figure of a course, and whether it is that of now.
fn latest(course: &[Option<f64>]) -> String {
    match (course.last(), course.iter().rev().flatten().next()) {
        (Some(Some(now)), _) => format!("now {now:.1} %"),
        (_, Some(last)) => format!("now nothing measured, last {last:.1} %"),
        _ => "nothing measured".to_owned(),
    }
}

/// Width of the line that stands for the first value alone, as a part of the drawing's width.
const LONE_POINT: f64 = 0.02;

/// The place of a drawing, and the values at its lower and its upper edge.
struct Drawing {
    width: f64,
    height: f64,
    margin: f64,
    range: (f64, f64),
}

impl Drawing {
    fn x(&self, at: usize, count: usize) -> f64 {
        at as f64 / count.saturating_sub(1).max(1) as f64 * self.width
    }

    fn y(&self, value: f64) -> f64 {
        let (low, high) = self.range;
        let part = (value - low) / (high - low);
        ((self.height - self.margin - part * (self.height - 2.0 * self.margin)) * 10.0).round() / 10.0
    }

    /// Writes a path with a step at each change. A day without a figure ends the line.
    fn steps(&self, course: &[Option<f64>], from: usize) -> String {
        let (mut path, mut last) = (String::new(), None);
        for (at, value) in course.iter().enumerate().skip(from) {
            let Some(value) = value else {
                if last.take().is_some() {
                    let _ = write!(path, "H{:.1}", self.x(at, course.len()));
                }
                continue;
            };
            let (x, y) = (self.x(at, course.len()), self.y(*value));
            // Writing to a text does not fail.
            let _ = match last {
                // A path of one point would be invisible.
                None if at + 1 == course.len() => write!(path, "M{:.1} {y}H{x:.1}", x - self.width * LONE_POINT),
                None => write!(path, "M{x:.1} {y}"),
                Some(before) if before == y && at + 1 < course.len() => Ok(()),
                Some(_) => write!(path, "H{x:.1}V{y}"),
            };
            last = Some(y);
        }
        path
    }
}

/// Returns a range that holds all values, and is at least so wide that noise stays small.
fn range(values: &[f64], least: f64) -> (f64, f64) {
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let missing = (least - (high - low)).max(0.0) / 2.0;
    let (low, high) = ((low - missing).floor(), (high + missing).ceil());
    if low < 0.0 { (0.0, high.max(least)) } else { (low, high) }
}

/// Returns the levels of a plot's scale: round numbers, with all values between the first and the last of them.
fn levels(values: &[f64]) -> Vec<f64> {
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let missing = (LEAST_RANGE - (high - low)).max(0.0) / 2.0;
    // A scale of percents does not go beyond its ends for the sake of its width.
    let shift = (missing - low).clamp(0.0, missing) - (high + missing - 100.0).clamp(0.0, missing);
    let (low, high) = (low - missing + shift, high + missing + shift);
    let fits = |step: &f64| (high / step).ceil() - (low / step).floor() <= MOST_STEPS;
    let step = STEPS.into_iter().find(fits).unwrap_or(((high - low) / MOST_STEPS * 2.0).ceil());
    let (first, last) = ((low / step).floor() as i64, (high / step).ceil() as i64);
    (first..=last).map(|number| number as f64 * step).collect()
}

/// Width of a plot's scale in percentage points, so that noise stays small.
const LEAST_RANGE: f64 = 10.0;

/// Number of steps from the lowest to the highest level.
const MOST_STEPS: f64 = 5.0;

/// Distances between two levels, in percentage points.
const STEPS: [f64; 5] = [2.0, 5.0, 10.0, 20.0, 50.0];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_course_is_drawn_in_steps_within_its_frame() {
        let mut course = vec![None; 91];
        course[80..].fill(Some(60.0));
        course[85..].fill(Some(50.0));
        let frame = Drawing { width: 90.0, height: 10.0, margin: 0.0, range: (50.0, 60.0) };
        assert_eq!(frame.steps(&course, 0), "M80.0 0H85.0V10H90.0V10");
        course.fill(None);
        course[90] = Some(60.0);
        assert_eq!(frame.steps(&course, 0), "M88.2 0H90.0", "the first value is visible");
        assert!(sparkline(&[None; 91]).into_string().contains("no history yet"));
        assert!(sparkline(&[]).into_string().contains("no history yet"));
        assert_eq!((range(&[50.0], 4.0), range(&[0.5, 1.0], 10.0)), ((48.0, 52.0), (0.0, 10.0)));
    }

    #[test]
    fn the_first_day_is_drawn_by_the_clock() {
        let (now, course) = (1_790_000_600_000, vec![Some(60.0), Some(60.0), Some(50.0)]);
        let beginning = Beginning { since: now - 600_000, course };
        let text = plot(&[None, Some(50.0)], Some(&beginning), now, "prod").into_string();
        for part in ["M0.0 ", "since the first score, now 50.0 %", "<span>14:13:20Z</span>", "<span>14:23:20Z</span>"] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert_eq!(text.matches("<tr>").count(), 3, "a head and two values: {text}");
    }

    #[test]
    fn the_scale_of_a_plot_has_round_numbers_around_all_values() {
        for (values, expected) in [
            (&[50.0][..], &[45.0, 50.0, 55.0][..]),
            (&[59.4, 71.8], &[55.0, 60.0, 65.0, 70.0, 75.0]),
            (&[0.0, 1.0], &[0.0, 2.0, 4.0, 6.0, 8.0, 10.0]),
            (&[100.0], &[90.0, 92.0, 94.0, 96.0, 98.0, 100.0]),
            (&[0.0, 100.0], &[0.0, 20.0, 40.0, 60.0, 80.0, 100.0]),
        ] {
            assert_eq!(levels(values), expected, "{values:?}");
        }
        let wide = levels(&[-900.0, 4_000.0]);
        assert!(wide[0] <= -900.0 && wide[wide.len() - 1] >= 4_000.0 && wide.len() < 8, "{wide:?}");
    }
}
