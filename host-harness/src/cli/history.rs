//! `history`: the course of one scope's score as a chart of characters, its controls, and what moved the score.

use std::io::{self, Write};

use anyhow::Context;
use host_harness::collector::SnapshotRow;
use host_harness::config::Config;
use host_harness::environment;
use host_harness::overview::history::{self, ScopeHistory};
use host_harness::run::page::words::{day, moment, points};
use host_harness::{limits, terminal};
use serde_json::json;
use source_host::limits::{DAY, milliseconds};
use source_host::text;

use super::status::{DAYS, StoredRows, figure_object, trends};
use super::{STDOUT, UsageError, problems_of};

/// Width of a chart in a file or a pipe.
const PLAIN_WIDTH: usize = 80;

/// Number of controls that are listed.
const CONTROLS: usize = 10;

/// Prints the history of a scope. Returns the exit status.
pub fn history(
    config: &Config,
    feed: Option<&str>,
    scope: &str,
    days: usize,
    json: bool,
    now: u64,
) -> anyhow::Result<u8> {
    let is_wrong = problems_of(config);
    let Some(stored) = StoredRows::read(config)? else {
        say!("there is no history yet: there is no state in {}", config.collector.state);
        return Ok(if is_wrong { 2 } else { 1 });
    };
    let row = find(&stored.rows, feed, scope)?;
    let (feed, id) = row.key().unwrap_or_default();
    // The changes in 30 and 90 days are told however few days are drawn.
    let mut history = history::of_scope(&*stored.reader, feed, id, days.max(DAYS[1]), now)?;
    let search = stored.search(feed);
    history.clean(|title| search.words(title));
    let trends = trends(&history.course);
    history.course.drain(..history.course.len().saturating_sub(days + 1));
    let first = now.saturating_sub(days as u64 * milliseconds(DAY));
    history.changes.retain(|change| change.time >= first);
    let text = match json {
        true => object(row, &history, now) + "\n",
        false => shown(row, &history, trends, first, now),
    };
    io::stdout().write_all(text.as_bytes()).context(STDOUT)?;
    let is_empty = history.course.iter().all(Option::is_none) && history.parts.is_empty();
    Ok(if is_wrong { 2 } else { u8::from(is_empty) })
}

/// Finds the scope with this id, or the only one whose name or id contains the text.
fn find<'a>(rows: &'a [SnapshotRow], feed: Option<&str>, scope: &str) -> anyhow::Result<&'a SnapshotRow> {
    let of_feed = || rows.iter().filter(|row| feed.is_none_or(|feed| row.feed == feed));
    let exact: Vec<_> = of_feed().filter(|row| row.id.as_deref() == Some(scope)).collect();
    let sought = scope.to_lowercase();
    let contains = |row: &&SnapshotRow| row.scope.as_ref().is_some_and(|name| name.to_lowercase().contains(&sought));
    let found = if exact.is_empty() { of_feed().filter(contains).collect() } else { exact };
    match &*found {
        [only] => Ok(only),
        [] => Err(UsageError(format!(
            "--scope: found no scope {scope:?} in the state; `status` lists those that there are"
        ))
        .into()),
        several => {
            let names: Vec<String> = several
                .iter()
                .take(limits::CHANGES_TOLD)
                .map(|row| {
                    let [scope, feed] = [row.scope.as_deref().unwrap_or_default(), &row.feed].map(text::plain);
                    format!("  {scope} of feed {feed}")
                })
                .collect();
            let count = several.len();
            let message =
                format!("--scope: found {count} scopes {scope:?}, expected one; add --feed or more of the name");
            Err(UsageError(format!("{message}\n{}", names.join("\n"))).into())
        }
    }
}

fn shown(row: &SnapshotRow, history: &ScopeHistory, trends: [String; 2], first: u64, now: u64) -> String {
    let width = terminal::width(environment::variable("COLUMNS")).unwrap_or(PLAIN_WIDTH);
    // Each text is made plain by itself: a line break in a name must not begin a line.
    let [tenant, feed, scope] = [&row.tenant, &row.feed, row.scope.as_deref().unwrap_or_default()].map(text::plain);
    let mut text = format!("{tenant} · {feed} · {scope}\n");
    match row.figure {
        Some(figure) => text += &format!("score {} points", points(figure)),
        None => text += "no score",
    }
    let [month, quarter] = trends;
    text += &format!("; 30 days {month}, 90 days {quarter}\n\n");
    let (course, [begin, end]) = match &history.beginning {
        Some(beginning) => (&beginning.course, [beginning.since, now].map(moment)),
        None => (&history.course, [first, now].map(day)),
    };
    text += &terminal::chart(course, width);
    text +=
        &format!("        {begin}{end:>space$}\n", space = width.saturating_sub(8 + begin.len()).max(end.len() + 1));
    if !history.parts.is_empty() {
        text += "\ncontrols by points at stake\n";
        let mut table = vec![["at stake", "points", "control"].map(str::to_owned)];
        for part in history.parts.iter().take(CONTROLS) {
            table.push([format!("{:.2}", part.at_stake()), points(part.points), part.title.clone()]);
        }
        text += &terminal::table(&table, width);
        let more = history.parts_total.saturating_sub(CONTROLS);
        if more > 0 {
            text += &format!("… {more} more\n");
        }
    }
    if !history.changes.is_empty() {
        text += "\nlast changes\n";
    }
    for change in &history.changes {
        let [before, after] = change.figure;
        text += &format!("{}  {} -> {}\n", moment(change.time), points(before), points(after));
        for (title, before, after) in &change.parts {
            let before = before.map_or_else(|| "new".to_owned(), points);
            text += &format!("    {}: {before} -> {}\n", text::plain(title), points(*after));
        }
        let more = change.parts_total - change.parts.len();
        if more > 0 {
            text += &format!("    {more} more\n");
        }
    }
    text
}

fn object(row: &SnapshotRow, history: &ScopeHistory, now: u64) -> String {
    let last = history.course.len().saturating_sub(1);
    let days = history.course.iter().enumerate().filter_map(|(at, percent)| {
        let time = now.saturating_sub((last - at) as u64 * milliseconds(DAY));
        Some(json!({ "day": day(time), "percent": (*percent)? }))
    });
    let changes = history.changes.iter().map(|change| {
        let parts = change.parts.iter().map(
            |(title, before, after)| json!({ "title": title, "before": before.map(figure_object), "after": figure_object(*after) }),
        );
        json!({
            "time": moment(change.time), "before": figure_object(change.figure[0]), "after": figure_object(change.figure[1]),
            "controls": parts.collect::<Vec<_>>(), "controls_total": change.parts_total,
        })
    });
    let parts = history.parts.iter().map(|part| {
        json!({ "title": part.title, "score": figure_object(part.points), "at_stake": part.at_stake(), "since": moment(part.since) })
    });
    json!({
        "tenant": row.tenant, "feed": row.feed, "scope": row.id, "name": row.scope,
        "score": row.figure.map(figure_object),
        "days": days.collect::<Vec<_>>(), "controls": parts.collect::<Vec<_>>(), "controls_total": history.parts_total,
        "changes": changes.collect::<Vec<_>>(),
    })
    .to_string()
}
