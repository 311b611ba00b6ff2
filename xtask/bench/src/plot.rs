//! The figures of many feeds as SVG: a panel for each figure, on a logarithmic scale of feeds.

use std::fmt::Write;

use crate::table::{figure, thousands};

/// A panel of the plot.
pub struct Panel {
    /// The figure, for people.
    pub title: String,
    pub unit: String,
    /// Numbers of feeds with their figures, in rising order.
    pub points: Vec<(usize, f64)>,
    /// The goal, with the number of feeds for which it holds.
    pub most: Option<(usize, f64)>,
}

/// The size of the plot, and of the part of a panel in which points lie.
const WIDTH: f64 = 900.0;
const PANEL: (f64, f64) = (450.0, 236.0);
const FRAME: (f64, f64) = (350.0, 150.0);

/// The place of a frame in its panel.
const PLACE: (f64, f64) = (70.0, 44.0);

/// The space for the legend.
const HEAD: f64 = 34.0;

/// Draws the panels, two in a line.
pub fn plot(panels: &[Panel]) -> String {
    let height = HEAD + panels.len().div_ceil(2) as f64 * PANEL.1;
    let told: Vec<String> = panels.iter().map(Panel::told).collect();
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" \
         aria-labelledby=\"title description\">\n  <title id=\"title\">The collector with many feeds</title>\n  \
         <desc id=\"description\">{}</desc>\n{STYLE}{LEGEND}",
        told.join(" ")
    );
    for (index, panel) in panels.iter().enumerate() {
        let (x, y) = ((index % 2) as f64 * PANEL.0, HEAD + (index / 2) as f64 * PANEL.1);
        let _ = writeln!(svg, "  <g transform=\"translate({x} {y})\">\n{}  </g>", panel.drawn());
    }
    svg + "</svg>\n"
}

const STYLE: &str = "  <style>
    text { font: 12px system-ui, -apple-system, \"Segoe UI\", Helvetica, Arial, \"DejaVu Sans\", sans-serif; fill: #59636e; }
    .head { font-size: 14px; font-weight: 600; fill: #1f2328; }
    .middle { text-anchor: middle; }
    .end { text-anchor: end; }
    .grid { stroke: #d1d9e0; }
    .line { fill: none; stroke: #0969da; stroke-width: 2; }
    .point { fill: #0969da; }
    .value { text-anchor: middle; fill: #1f2328; }
    .goal { stroke: #bc4c00; stroke-width: 1.6; stroke-dasharray: 6 4; }
    @media (prefers-color-scheme: dark) {
      text { fill: #9198a1; }
      .head, .value { fill: #f0f6fc; }
      .grid { stroke: #3d444d; }
      .line { stroke: #58a6ff; }
      .point { fill: #58a6ff; }
      .goal { stroke: #f0883e; }
    }
  </style>
";

const LEGEND: &str = "  <path class=\"line\" d=\"M70 18H100\"/><circle class=\"point\" cx=\"85\" cy=\"18\" r=\"3.5\"/>
  <text x=\"108\" y=\"22\">measured</text>
  <path class=\"goal\" d=\"M190 18H220\"/><text x=\"228\" y=\"22\">goal: at most</text>
";

impl Panel {
    /// Says the figures in a sentence.
    fn told(&self) -> String {
        let points = self
            .points
            .iter()
            .map(|(feeds, value)| format!("{} {} with {} feeds", figure(*value), self.unit, thousands(*feeds as f64)));
        format!("{}: {}.", self.title, points.collect::<Vec<_>>().join(", "))
    }

    fn drawn(&self) -> String {
        let largest = self.points.iter().map(|(_, value)| *value).fold(0.0, f64::max);
        // A goal far beyond the figures would press them together.
        let goal = self.most.filter(|(_, most)| *most <= largest * 3.0);
        let (step, top) = scale(goal.map_or(largest, |(_, most)| largest.max(most)) * 1.08);
        let first = self.points.first().map_or(1.0, |(feeds, _)| (*feeds as f64).log10());
        let decades = self.points.last().map_or(1.0, |(feeds, _)| (*feeds as f64).log10() - first).max(1.0);
        let x = |feeds: usize| PLACE.0 + ((feeds as f64).log10() - first) / decades * FRAME.0;
        let y = |value: f64| PLACE.1 + FRAME.1 - value / top * FRAME.1;
        let (left, right, bottom) = (PLACE.0, PLACE.0 + FRAME.0, PLACE.1 + FRAME.1);
        let mut svg = format!("    <text class=\"head\" x=\"{left}\" y=\"24\">{}, {}</text>\n", self.title, self.unit);
        for line in 0..=(top / step).round() as usize {
            let (value, at) = (line as f64 * step, y(line as f64 * step));
            let _ = writeln!(
                svg,
                "    <path class=\"grid\" d=\"M{left} {at:.1}H{right}\"/><text class=\"end\" x=\"{}\" y=\"{:.1}\">{}</text>",
                left - 8.0,
                at + 4.0,
                thousands(value)
            );
        }
        for (feeds, _) in &self.points {
            let (at, feeds) = (x(*feeds), thousands(*feeds as f64));
            let _ = writeln!(svg, "    <text class=\"middle\" x=\"{at:.1}\" y=\"{:.1}\">{feeds}</text>", bottom + 18.0);
        }
        let _ = writeln!(
            svg,
            "    <text class=\"middle\" x=\"{:.1}\" y=\"{:.1}\">feeds</text>",
            left + FRAME.0 / 2.0,
            bottom + 36.0
        );
        if let Some((_, most)) = goal {
            let _ = writeln!(svg, "    <path class=\"goal\" d=\"M{left} {0:.1}H{right}\"/>", y(most));
        }
        if let Some((feeds, most)) = self.most {
            let _ = writeln!(
                svg,
                "    <text class=\"end\" x=\"{right}\" y=\"{:.1}\">goal with {}: {}</text>",
                bottom + 36.0,
                thousands(feeds as f64),
                thousands(most)
            );
        }
        let line: Vec<String> =
            self.points.iter().map(|(feeds, value)| format!("{:.1} {:.1}", x(*feeds), y(*value))).collect();
        let _ = writeln!(svg, "    <path class=\"line\" d=\"M{}\"/>", line.join("L"));
        for (feeds, value) in &self.points {
            let (x, y, value) = (x(*feeds), y(*value), figure(*value));
            let _ = writeln!(
                svg,
                "    <circle class=\"point\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\"/>\
                 <text class=\"value\" x=\"{x:.1}\" y=\"{:.1}\">{value}</text>",
                y - 9.0
            );
        }
        svg
    }
}

/// Returns the distance of lines, which is 1, 2 or 5 with zeros, and the end of a scale of three to six such steps that
/// has room for a value.
fn scale(value: f64) -> (f64, f64) {
    let decade = 10_f64.powf(value.max(1.0).log10().floor() - 1.0).max(1.0);
    let steps = [1.0, 2.0, 5.0, 10.0, 20.0, 50.0].map(|step| step * decade);
    let step = steps.into_iter().find(|step| value / step <= 5.0).unwrap_or(decade * 100.0);
    (step, (value / step).ceil().max(1.0) * step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_has_few_lines_and_room_for_the_value() {
        assert_eq!(scale(0.3), (1.0, 1.0));
        assert_eq!(scale(7.0), (2.0, 8.0));
        assert_eq!(scale(162.0), (50.0, 200.0));
        assert_eq!(scale(2_100.0), (500.0, 2_500.0));
        for value in [1.0, 9.9, 10.0, 99.0, 100.0, 640.0, 12_345.0] {
            let (step, top) = scale(value);
            assert!(top >= value && (1.0..=5.0).contains(&(top / step).round()), "{value}: {step}, {top}");
        }
    }

    #[test]
    fn a_panel_shows_each_point_with_its_value_and_the_goal() {
        let panel = |most| Panel {
            title: "resident memory".to_owned(),
            unit: "MB".to_owned(),
            points: vec![(10, 40.0), (1_000, 42.0), (100_000, 180.0)],
            most,
        };
        let near = plot(&[panel(Some((100_000, 150.0)))]);
        for part in [
            "resident memory: 40.0 MB with 10 feeds, 42.0 MB with 1,000 feeds, 180 MB with 100,000 feeds.",
            "<text class=\"head\" x=\"70\" y=\"24\">resident memory, MB</text>",
            // The middle of the frame, and a fifth of its height.
            "<circle class=\"point\" cx=\"245.0\" cy=\"162.5\" r=\"3.5\"/>",
            "goal with 100,000: 150</text>",
            "<path class=\"goal\" d=\"M70 81.5H420\"/>",
            "prefers-color-scheme: dark",
        ] {
            assert!(near.contains(part), "{part} in {near}");
        }
        let far = plot(&[panel(Some((10_000, 5_000.0)))]);
        assert!(
            far.contains("goal with 10,000: 5,000</text>") && !far.contains("H420\"/>\n    <path class=\"line\""),
            "{far}"
        );
        assert_eq!(near.matches("<circle class=\"point\" cx").count(), 4, "three points, and one of the legend");
    }
}
