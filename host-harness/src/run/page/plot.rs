//! Courses of figures as SVG within the page, which needs neither a script nor another request.

use std::fmt::Write;

use maud::{Markup, html};

use super::words::{day, difference, label};
use crate::overview::figures::trend;

/// Number of days of a sparkline.
pub const DAYS: usize = 90;

/// Number of days of its last part, which is drawn stronger.
pub const RECENT_DAYS: usize = 30;

/// Draws 90 days in a line of text, the last 30 of them stronger, and says how much both changed.
pub fn sparkline(course: &[Option<f64>]) -> Markup {
    let recent = course.len().saturating_sub(RECENT_DAYS + 1);
    let known: Vec<f64> = course.iter().flatten().copied().collect();
    let Some(last) = known.last() else { return html! { span.faint { "no history yet" } } };
    let frame = Drawing { width: 120.0, height: 28.0, margin: 3.0, range: range(&known, 4.0) };
    let told = |days: usize, course: &[Option<f64>]| {
        trend(course).map(|change| format!("{} in {days} days", difference(change)))
    };
    let words: Vec<String> = [told(RECENT_DAYS, &course[recent..]), told(DAYS, course)].into_iter().flatten().collect();
    html! {
        svg.spark viewBox="0 0 120 28" width="120" height="28" role="img"
            aria-label={ "course of 90 days, now " (format!("{last:.1} %")) } {
            path.past d=(frame.steps(course, 0)) {}
            path.recent d=(frame.steps(course, recent)) {}
        }
        span.trend { (words.join(", ")) }
    }
}

/// Draws 90 days with a scale and dates.
pub fn plot(course: &[Option<f64>], now: u64, of: &str) -> Markup {
    let known: Vec<f64> = course.iter().flatten().copied().collect();
    if known.is_empty() {
        return html! { p.faint { "There is no history yet: it begins with the first poll that gives a score." } };
    }
    let of = &label(of);
    let range = range(&known, 10.0);
    let frame = Drawing { width: 680.0, height: 200.0, margin: 8.0, range };
    let days = course.len().saturating_sub(1).max(1);
    let lines: Vec<f64> = (0..=4).map(|line| range.0 + (range.1 - range.0) * f64::from(line) / 4.0).collect();
    let dates: Vec<(usize, String)> = (0..=3)
        .map(|part| part * days / 3)
        .map(|at| (at, day(now.saturating_sub((days - at) as u64 * 86_400_000))))
        .collect();
    html! {
        figure {
            svg.plot viewBox="-52 0 740 232" role="img"
                aria-label={ "Score of " (of) " over 90 days, now " (format!("{:.1} %", known[known.len() - 1])) } {
                @for line in lines {
                    @let y = frame.y(line);
                    line.grid x1="0" x2="680" y1=(y) y2=(y) {}
                    text x="-8" y=(y + 4.0) text-anchor="end" { (format!("{line:.0} %")) }
                }
                @for (at, date) in &dates {
                    @let anchor = match *at { 0 => "start", at if at == days => "end", _ => "middle" };
                    text x=(format!("{:.1}", frame.x(*at, course.len()))) y="226" text-anchor=(anchor) { (date) }
                }
                path.recent d=(frame.steps(course, 0)) {}
            }
            figcaption { "Score of " (of) " in percent at the end of each day; the last point is now." }
            details {
                summary { "The same as a table" }
                table {
                    caption.hidden { "Score of " (of) " by day" }
                    thead { tr { th scope="col" { "day" } th scope="col" { "score" } } }
                    tbody {
                        @for (at, value) in course.iter().enumerate().rev() {
                            @if let Some(value) = value {
                                tr {
                                    th scope="row" { (day(now.saturating_sub((days - at) as u64 * 86_400_000))) }
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

    /// Writes a path with a step at each change. Days without a figure are left out.
    fn steps(&self, course: &[Option<f64>], from: usize) -> String {
        let (mut path, mut last) = (String::new(), None);
        for (at, value) in course.iter().enumerate().skip(from) {
            let Some(value) = value else { continue };
            let (x, y) = (self.x(at, course.len()), self.y(*value));
            // Writing to a text does not fail.
            let _ = match last {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_course_is_drawn_in_steps_within_its_frame() {
        let mut course = vec![None; 91];
        course[80..].fill(Some(60.0));
        course[85..].fill(Some(50.0));
        let svg = sparkline(&course).into_string();
        assert!(!svg.contains("in 30 days"), "a course of ten days has no trend of 30: {svg}");
        let mut whole = course.clone();
        whole[..80].fill(Some(60.0));
        let svg = sparkline(&whole).into_string();
        assert!(svg.contains("▼ 10.0 in 30 days, ▼ 10.0 in 90 days"), "{svg}");
        let frame = Drawing { width: 90.0, height: 10.0, margin: 0.0, range: (50.0, 60.0) };
        assert_eq!(frame.steps(&course, 0), "M80.0 0H85.0V10H90.0V10");
        assert!(sparkline(&[None; 91]).into_string().contains("no history yet"));
        assert!(sparkline(&[]).into_string().contains("no history yet"));
        assert_eq!((range(&[50.0], 4.0), range(&[0.5, 1.0], 10.0)), ((48.0, 52.0), (0.0, 10.0)));
    }
}
