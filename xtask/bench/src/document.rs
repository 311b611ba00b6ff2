//! The measured figures in `docs`: the data, the tables of the page, and the plot. New figures replace those of the same
//! rows; a row that was not measured keeps its figures.

use std::fs;
use std::path::{Path, PathBuf};

use crate::groups;
use crate::plot::{self, Panel};
use crate::table::{self, Figures};

const DATA: &str = "performance.json";
const PAGE: &str = "performance.md";
const PLOT: &str = "scale.svg";

/// Writes figures into the folder `docs`.
pub fn write(docs: &Path, measured: Vec<Figures>) -> Result<(), String> {
    let all = merged(figures(&docs.join(DATA))?, measured);
    let data = serde_json::to_string_pretty(&all).map_err(|error| error.to_string())? + "\n";
    put(&docs.join(DATA), &data)?;
    for (file, text) in rendered(docs, &all)? {
        put(&file, &text)?;
    }
    Ok(())
}

/// Returns the files that follow from the data, with their contents.
pub fn rendered(docs: &Path, all: &[Figures]) -> Result<[(PathBuf, String); 2], String> {
    let page = docs.join(PAGE);
    let text = fs::read_to_string(&page).map_err(|error| format!("{}: {error}", page.display()))?;
    let text = replaced(&text, "figures", &table_of_all(all))?;
    let text = replaced(&text, "scale", &table_of_sizes(all))?;
    Ok([(page, text), (docs.join(PLOT), plot::plot(&panels(all)))])
}

/// Returns the figures of a file that `--json` printed, or of the data in `docs`.
pub fn figures(file: &Path) -> Result<Vec<Figures>, String> {
    let text = fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    serde_json::from_str(&text).map_err(|error| format!("{}: {error}", file.display()))
}

/// Returns all figures in the order of the rows.
fn merged(mut all: Vec<Figures>, measured: Vec<Figures>) -> Vec<Figures> {
    all.retain(|old| measured.iter().all(|new| new.row != old.row));
    all.extend(measured);
    let place = |one: &Figures| groups::names().position(|name| name == one.row);
    all.retain(|one| place(one).is_some());
    all.sort_by_key(place);
    all
}

/// Replaces the lines between two comments.
fn replaced(page: &str, name: &str, text: &str) -> Result<String, String> {
    let (begin, end) =
        (format!("<!-- {name}: written by `cargo xtask bench --write` -->\n"), format!("<!-- end of {name} -->"));
    let parts = page.split_once(&begin).and_then(|(before, rest)| Some((before, rest.split_once(&end)?.1)));
    let (before, after) = parts.ok_or_else(|| format!("found no {begin:?} and {end:?} after it in {PAGE}"))?;
    Ok(format!("{before}{begin}\n{text}\n{end}{after}"))
}

/// Returns the number of feeds of a row that belongs to the plot, with the name of the figure.
fn of_size(one: &Figures) -> Option<(&str, usize)> {
    let (figure, size) = one.row.strip_prefix("scale-")?.rsplit_once('-')?;
    Some((figure, size.parse().ok()?))
}

/// Returns the table of all rows, without the rows of the plot that have no goal.
fn table_of_all(all: &[Figures]) -> String {
    let rows: Vec<&Figures> = all.iter().filter(|one| of_size(one).is_none() || !one.goals.is_empty()).collect();
    let goals: Vec<bool> = rows.iter().flat_map(|one| one.goals.iter().map(|goal| goal.reached)).collect();
    let reached = goals.iter().filter(|reached| **reached).count();
    let mut machines: Vec<&str> = rows.iter().map(|one| one.machine.as_str()).collect();
    machines.dedup();
    machines.sort_unstable();
    machines.dedup();
    let summary = format!("{reached} of {} goals are reached. Measured on: {}.", goals.len(), machines.join("; "));
    format!("{}\n\n{}", wrapped(&summary), table::table(&rows))
}

/// The width of the page, in characters.
const WIDTH: usize = 140;

/// Breaks a text at spaces into lines of the page's width.
fn wrapped(text: &str) -> String {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.is_empty() => *line += word,
            Some(line) if line.chars().count() + 1 + word.chars().count() <= WIDTH => *line += &format!(" {word}"),
            _ => lines.push(word.to_owned()),
        }
    }
    lines.join("\n")
}

fn table_of_sizes(all: &[Figures]) -> String {
    let panels = panels(all);
    let titles: String = panels.iter().map(|panel| format!(" {}, {} |", panel.title, panel.unit)).collect();
    let mut text = format!("| feeds |{titles}\n|---|{}\n", "---|".repeat(panels.len()));
    let sizes = panels.first().map(|panel| panel.points.as_slice()).unwrap_or_default();
    for (size, _) in sizes {
        let value = |panel: &Panel| panel.points.iter().find(|(of, _)| of == size).map(|(_, value)| *value);
        let cells: String =
            panels.iter().map(|panel| format!(" {} |", value(panel).map_or("–".to_owned(), table::figure))).collect();
        text += &format!("| {} |{cells}\n", table::thousands(*size as f64));
    }
    text
}

fn panels(all: &[Figures]) -> Vec<Panel> {
    let mut panels: Vec<(&str, Panel)> = Vec::new();
    for one in all {
        let Some((name, size)) = of_size(one) else { continue };
        let most = one.goals.iter().find_map(|goal| goal.most).map(|most| (size, most));
        match panels.iter_mut().find(|(known, _)| *known == name) {
            Some((_, panel)) => {
                panel.points.push((size, one.ours));
                panel.most = panel.most.or(most);
            }
            None => {
                let title = one.what.rsplit_once(", ").map_or(one.what.as_str(), |(title, _)| title).to_owned();
                panels.push((name, Panel { title, unit: one.unit.clone(), points: vec![(size, one.ours)], most }));
            }
        }
    }
    panels.into_iter().map(|(_, panel)| panel).collect()
}

fn put(file: &Path, text: &str) -> Result<(), String> {
    fs::write(file, text).map_err(|error| format!("{}: {error}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blocks::{Better, alone, paired};
    use crate::table::{Goal, Row};

    fn one(name: &str, what: &str, goals: Vec<Goal>, ours: f64) -> Figures {
        let row = Row {
            name: name.to_owned(),
            what: what.to_owned(),
            unit: "MB",
            beside: "10 feeds",
            goals,
            records: 0,
            measure: Box::new(move |_| {
                Ok(if ours > 100.0 { alone(&[ours]) } else { paired(Better::Smaller, &[[ours, 40.0]]) })
            }),
        };
        row.measured(7, "a machine").unwrap()
    }

    #[test]
    fn new_figures_replace_those_of_their_rows_and_rows_keep_their_order() {
        let old = vec![
            one("native-poll", "old", vec![], 1.0),
            one("gone", "old", vec![], 1.0),
            one("mapping-jq", "old", vec![], 1.0),
        ];
        let new = vec![one("mapping-vrl", "new", vec![], 2.0), one("mapping-jq", "new", vec![], 2.0)];
        let all: Vec<(String, String)> = merged(old, new).into_iter().map(|one| (one.row, one.what)).collect();
        let expected = [("native-poll", "old"), ("mapping-vrl", "new"), ("mapping-jq", "new")];
        assert_eq!(all, expected.map(|(row, what)| (row.to_owned(), what.to_owned())));
    }

    #[test]
    fn rows_of_sizes_stand_in_their_own_table_and_with_a_goal_in_both() {
        let all = [
            one("scale-memory-10", "memory, 10 feeds", vec![], 40.0),
            one("scale-memory-100000", "memory, 100000 feeds", vec![Goal::Most(150.0)], 180.0),
            one("scale-idle", "a feed", vec![Goal::Most(2.0)], 1.5),
        ];
        let (table, sizes) = (table_of_all(&all), table_of_sizes(&all));
        assert!(table.starts_with("1 of 2 goals are reached. Measured on: a machine.\n\n| row |"), "{table}");
        assert!(table.contains("| scale-memory-100000 |") && !table.contains("| scale-memory-10 |"), "{table}");
        assert_eq!(sizes, "| feeds | memory, MB |\n|---|---|\n| 10 | 40.0 |\n| 100,000 | 180 |\n");
        let panels = panels(&all);
        assert_eq!((panels.len(), panels[0].most), (1, Some((100_000, 150.0))));
    }

    #[test]
    fn a_long_text_is_broken_at_spaces() {
        let text = ["word"; 60].join(" ");
        let lines: Vec<usize> = wrapped(&text).lines().map(|line| line.chars().count()).collect();
        assert_eq!(lines, [139, 139, 19]);
        assert_eq!(wrapped(&text).replace('\n', " "), text);
    }

    #[test]
    fn text_between_two_comments_is_replaced() {
        let page = |text: &str| {
            format!("a\n<!-- x: written by `cargo xtask bench --write` -->\n{text}\n<!-- end of x -->\nb\n")
        };
        assert_eq!(replaced(&page("old"), "x", "new\n"), Ok(page("\nnew\n")));
        assert!(replaced("no comment", "x", "new").is_err());
    }

    /// Rewrites the page and the plot if `UPDATE_EXPECT` is set.
    #[cfg(feature = "sandbox")]
    #[test]
    fn the_page_and_the_plot_follow_from_the_data() {
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
        let all = figures(&docs.join(DATA)).unwrap();
        for (file, expected) in rendered(&docs, &all).unwrap() {
            if host_harness::environment::text("UPDATE_EXPECT").is_some() {
                fs::write(&file, &expected).unwrap();
            }
            let found = fs::read_to_string(&file).unwrap_or_default();
            assert!(found == expected, "{} differs from {DATA}: UPDATE_EXPECT=1 writes it", file.display());
        }
    }
}
