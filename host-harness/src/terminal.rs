//! Output on a terminal: one decision about colours for the log, the usage and all other escape codes, and a readable
//! form of events.

use std::borrow::Cow;
use std::ffi::OsString;
use std::io::{self, IsTerminal};

use serde_json::Value;
use source_host::text;

/// Whether escape codes may be written, by the environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colours {
    /// Never.
    Never,
    /// Only to a terminal.
    OnTerminals,
    /// Also to files and pipes.
    Always,
}

impl Colours {
    /// Reads the variables that people set for all their programs: `NO_COLOR` (<https://no-color.org>),
    /// `CLICOLOR_FORCE`, `CLICOLOR` and `TERM`.
    pub fn of(variable: impl Fn(&str) -> Option<OsString>) -> Colours {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        if set("NO_COLOR").is_some() {
            return Colours::Never;
        }
        if set("CLICOLOR_FORCE").is_some_and(|value| value != "0") {
            return Colours::Always;
        }
        let is_capable = set("TERM").is_some_and(|terminal| terminal != "dumb");
        if is_capable && set("CLICOLOR").is_none_or(|value| value != "0") {
            Colours::OnTerminals
        } else {
            Colours::Never
        }
    }

    /// Says whether escape codes may go to this stream.
    pub fn on(self, stream: &impl IsTerminal) -> bool {
        match self {
            Colours::Never => false,
            Colours::OnTerminals => stream.is_terminal(),
            Colours::Always => true,
        }
    }
}

/// The width of standard output in characters, if it is a terminal: the variable `COLUMNS`, or what the terminal says.
pub fn width(columns: Option<OsString>) -> Option<usize> {
    let out = io::stdout();
    let named = columns.and_then(|columns| columns.to_str()?.parse().ok());
    let size = || rustix::termios::tcgetwinsize(&out).ok().map(|size| usize::from(size.ws_col));
    out.is_terminal()
        .then(|| named.or_else(size))
        .flatten()
        .filter(|width| *width > 0)
        .map(|width| width.min(MOST_COLUMNS))
}

/// Largest width of a table or a chart. A larger value of `COLUMNS` is a mistake, and would take its bytes of memory.
const MOST_COLUMNS: usize = 1_000;

/// Lays out a table for a terminal of this width. Cells that are too long are shortened in the middle: the widest column
/// first, but none below eight characters.
pub fn table<const COLUMNS: usize>(rows: &[[String; COLUMNS]], width: usize) -> String {
    let length = |cell: &String| text::plain(cell).chars().count();
    let mut widths: [usize; COLUMNS] =
        std::array::from_fn(|column| rows.iter().map(|row| length(&row[column])).max().unwrap_or(0));
    while widths.iter().sum::<usize>() + 2 * (COLUMNS - 1) > width {
        let Some(widest) = widths.iter_mut().max().filter(|widest| **widest > LEAST_COLUMN) else { break };
        *widest -= 1;
    }
    let line = |row: &[String; COLUMNS]| {
        let cell = |(cell, width): (&String, &usize)| {
            let plain = text::plain(cell);
            let short = shortened(&plain, *width);
            format!("{short:<width$}")
        };
        row.iter().zip(&widths).map(cell).collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

/// Width below which no column of a table is shortened.
const LEAST_COLUMN: usize = 8;

/// Shortens a name in the middle, so that both its ends are seen.
pub fn shortened(name: &str, most: usize) -> Cow<'_, str> {
    let count = name.chars().count();
    if count <= most {
        return name.into();
    }
    let (before, after) = (most / 2, most.saturating_sub(most / 2 + 1));
    let head: String = name.chars().take(before).collect();
    let tail: String = name.chars().skip(count - after).collect();
    format!("{head}…{tail}").into()
}

/// Draws a course in percent as a chart of characters, with a scale on the left, in so many columns.
pub fn chart(course: &[Option<f64>], width: usize) -> String {
    let known = || course.iter().flatten().copied();
    let (low, high) =
        known().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), one| (low.min(one), high.max(one)));
    if low > high {
        return "no history yet\n".to_owned();
    }
    let missing = (CHART_LINES as f64 - (high - low)).max(0.0) / 2.0;
    let (low, high) = ((low - missing).max(0.0).floor(), (high + missing).ceil());
    let columns = width.saturating_sub(CHART_SCALE).max(1);
    let column = |place: usize| {
        // The last point of each column stands for the column, so that the right end is now.
        let at = ((place + 1) * course.len()).div_ceil(columns).clamp(1, course.len());
        course[at - 1].map(|value| ((value - low) / (high - low) * (CHART_LINES - 1) as f64).round() as usize)
    };
    let heights: Vec<Option<usize>> = (0..columns).map(column).collect();
    let line = |line: usize| {
        let value = low + (high - low) * line as f64 / (CHART_LINES - 1) as f64;
        let points = heights.iter().map(|height| if *height == Some(line) { '*' } else { ' ' });
        format!("{value:>5.1} % |{}", points.collect::<String>()).trim_end().to_owned() + "\n"
    };
    (0..CHART_LINES).rev().map(line).collect()
}

/// Number of lines of a chart.
const CHART_LINES: usize = 12;

/// Number of columns of a chart's scale.
const CHART_SCALE: usize = 9;

/// Returns at most `most` of these lines of events: first one of each kind that reports a change, in their order, and
/// then one of each other kind. Two events have the same kind if class, activity, types of finding and the reason of
/// the change are the same.
pub fn few(events: &str, most: usize) -> Vec<&str> {
    let mut kinds: Vec<[Value; 3]> = Vec::new();
    let (mut changes, mut others) = (Vec::new(), Vec::new());
    for line in events.lines() {
        let Ok(event) = serde_json::from_str::<Value>(line) else { continue };
        let kind = ["/type_uid", "/finding_info/types", "/unmapped/change/reason"];
        let kind = kind.map(|pointer| event.pointer(pointer).cloned().unwrap_or_default());
        if !kinds.contains(&kind) {
            kinds.push(kind);
            if event["activity_id"] == CREATE { others.push(line) } else { changes.push(line) }
        }
    }
    changes.extend(others);
    changes.truncate(most);
    changes
}

/// The OCSF activity of a finding that is reported for the first time.
const CREATE: u64 = 1;

/// Formats JSON for a terminal, with one member on a line.
pub fn pretty(json: &str) -> String {
    laid_out(&text::plain(json))
}

/// Formats JSON with one member on a line. Members keep their order, and numbers and texts their spelling.
pub fn laid_out(json: &str) -> String {
    let (mut text, mut depth, mut in_string, mut escaped) = (String::new(), 0_usize, false, false);
    let line = |text: &mut String, depth: usize| *text += &format!("\n{}", "  ".repeat(depth));
    let mut characters = json.chars().peekable();
    while let Some(character) = characters.next() {
        if in_string {
            text.push(character);
            in_string = character != '"' || escaped;
            escaped = character == '\\' && !escaped;
            continue;
        }
        match character {
            '{' | '[' => {
                text.push(character);
                while characters.next_if(char::is_ascii_whitespace).is_some() {}
                if let Some(end) = characters.next_if(|next| matches!(next, '}' | ']')) {
                    text.push(end);
                } else {
                    depth += 1;
                    line(&mut text, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                line(&mut text, depth);
                text.push(character);
            }
            ',' => {
                text.push(character);
                line(&mut text, depth);
            }
            ':' => text += ": ",
            _ if character.is_ascii_whitespace() => {}
            _ => {
                text.push(character);
                in_string = character == '"';
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::Colours::{Always, Never, OnTerminals};
    use super::*;

    #[test]
    fn colours_follow_what_people_set_for_all_their_programs() {
        for (variables, expected) in [
            (&[("TERM", "xterm-256color")][..], OnTerminals),
            (&[], Never),
            (&[("TERM", "")], Never),
            (&[("TERM", "dumb")], Never),
            (&[("TERM", "xterm"), ("NO_COLOR", "1")], Never),
            (&[("TERM", "xterm"), ("NO_COLOR", "0")], Never),
            (&[("TERM", "xterm"), ("NO_COLOR", "")], OnTerminals),
            (&[("TERM", "xterm"), ("CLICOLOR", "0")], Never),
            (&[("TERM", "xterm"), ("CLICOLOR", "1")], OnTerminals),
            (&[("TERM", "dumb"), ("CLICOLOR", "1")], Never),
            (&[("CLICOLOR_FORCE", "1")], Always),
            (&[("TERM", "xterm"), ("CLICOLOR_FORCE", "0")], OnTerminals),
            (&[("NO_COLOR", "1"), ("CLICOLOR_FORCE", "1")], Never),
        ] {
            let variable =
                |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into());
            assert_eq!(Colours::of(variable), expected, "{variables:?}");
        }
    }

    #[test]
    fn pretty_json_has_a_member_a_line_and_leaves_strings_and_numbers_as_they_are() {
        let json = r#"{"b":1.50,"a":[ {"x, {y}":"\"]\\"},[],{ }],"c":1e2}"#;
        let expected = r#"{
  "b": 1.50,
  "a": [
    {
      "x, {y}": "\"]\\"
    },
    [],
    {}
  ],
  "c": 1e2
}"#;
        assert_eq!(pretty(json), expected);
        assert_eq!(pretty("\"\u{9b}2J\u{1b}\u{202e}\""), "\" 2J  \"", "a terminal is not to obey it");
    }

    #[test]
    fn of_each_kind_of_event_one_is_shown_and_changes_first() {
        let event = |activity: u64, types: &str, reason: &str| {
            let json = serde_json::json!({
                "type_uid": 100 + activity, "activity_id": activity,
                "finding_info": { "types": [types] }, "unmapped": { "change": { "reason": reason } },
            });
            json.to_string()
        };
        let (score, control) = (event(1, "score", "baseline"), event(1, "control", "baseline"));
        let (moved, gone) = (event(2, "score", "resources"), event(3, "control", "control removed"));
        let all = [&score, &control, &control, &score, &moved, &moved, &gone].map(String::as_str).join("\n");
        assert_eq!(few(&all, 9), [&moved, &gone, &score, &control]);
        assert_eq!(few(&all, 3), [&moved, &gone, &score]);
        assert!(few("", 3).is_empty());
    }

    #[test]
    fn a_table_fits_its_width_and_shortens_the_widest_column_first() {
        let rows = [["name", "score", "why"], ["contoso production of the north", "51.4 %", "collected"]];
        let rows = rows.map(|row| row.map(str::to_owned));
        let wide = table(&rows, 100);
        assert!(wide.contains("contoso production of the north  51.4 %  collected\n"), "{wide}");
        let narrow = table(&rows, 40);
        assert!(narrow.lines().all(|line| line.chars().count() <= 40), "{narrow}");
        assert!(narrow.contains("contoso pr…") && narrow.contains("collected"), "{narrow}");
        let least = table(&rows, 1);
        assert!(least.contains("cont…rth  51.4 %  coll…ted"), "{least}");
        assert_eq!(table(&[["\u{1b}[2J".to_owned()]], 80), " [2J\n");
    }

    #[test]
    fn a_chart_has_its_last_value_at_its_right_end() {
        let mut course = vec![None; 91];
        course[30..].fill(Some(60.0));
        course[80..].fill(Some(40.0));
        for width in [40, 80, 200] {
            let chart = chart(&course, width);
            assert_eq!(chart.lines().count(), 12, "{chart}");
            assert!(chart.lines().all(|line| line.chars().count() <= width), "{chart}");
            let (first, last) = (chart.lines().next().unwrap(), chart.lines().last().unwrap());
            assert!(first.starts_with(" 60.0 % |") && first.ends_with('*'), "{chart}");
            assert!(last.starts_with(" 40.0 % |") && last.chars().count() == width, "{chart}");
        }
        assert_eq!(chart(&[None, None], 80), "no history yet\n");
        assert_eq!(chart(&[], 80), "no history yet\n");
        assert!(chart(&[Some(0.0)], 1).contains('*'));
    }

    #[test]
    fn a_name_keeps_both_its_ends() {
        assert_eq!(shortened("contoso", 7), "contoso");
        assert_eq!(shortened("contoso-production", 7), "con…ion");
        assert_eq!(shortened("ééééééééé", 4), "éé…é");
    }
}
