//! The status page: the problems that need attention, and the state of every scope.

use std::time::Duration;

use maud::{DOCTYPE, Markup, html};
use source_host::contract::{Failure, Reaction};
use source_host::limits::milliseconds;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::collector::{LeftOutRow, NextAttempt, Points, SnapshotRow, StatusSnapshot, WaitingRow};
use crate::limits;
use crate::sink::delivery::SinkRow;
use crate::sink::ledger::{DeadLetters, Failing};
use crate::store::Waiting;

const STYLE: &str = "body{font:14px/1.4 system-ui,sans-serif;margin:2em;color:#222}table{border-collapse:collapse}\
                     th,td{padding:.3em .8em;text-align:left;vertical-align:top;border-bottom:1px solid #ddd}\
                     h2{font-size:1.1em;margin-top:1.5em}\
                     .bad{color:#a40000}.fix{color:#555}td.number{text-align:right;white-space:nowrap}";

/// Writes the page as HTML. `now` is Unix time in milliseconds.
pub fn page(snapshot: &StatusSnapshot, now: u64) -> String {
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="refresh" content="30";
                title { "Collector" }
                style { (maud::PreEscaped(STYLE)) }
            }
            body {
                h1 { "Collector" }
                p { (summary(snapshot, now)) }
                @for note in &snapshot.notes {
                    p.bad { (note) }
                }
                (left_out(&snapshot.left_out))
                (waiting_feeds(&snapshot.waiting))
                (sinks(&snapshot.sinks, now))
                (scopes(snapshot, now))
            }
        }
    };
    markup.into_string() + "\n"
}

/// Counts feeds, scopes and failures. A feed that finds no scopes is counted as a failing feed, and not as a scope.
fn summary(snapshot: &StatusSnapshot, now: u64) -> String {
    let StatusSnapshot {
        feeds, failing_feeds, in_flight, scopes, failing_scopes, rows, total, left_out, waiting, ..
    } = snapshot;
    let out = left_out.iter().filter(|row| !row.goes_on).count();
    let shown = if rows.len() < *total { format!("; the first {} rows are shown", rows.len()) } else { String::new() };
    let waiting = match waiting.len() {
        0 => String::new(),
        count => format!("; {} being checked", number(count, "feed")),
    };
    format!(
        "{}, {failing_feeds} of them failing, and {out} left out{waiting}; {}, {failing_scopes} of them without data; \
         {in_flight} in flight; {}{shown}",
        number(*feeds, "feed"),
        number(*scopes, "scope"),
        moment(now)
    )
}

fn left_out(rows: &[LeftOutRow]) -> Markup {
    html! {
        @if !rows.is_empty() {
            h2 { "Feeds that are left out" }
            table {
                tr { th { "tenant" } th { "feed" } th { "since" } th { "code" } th { "why" } }
                @for LeftOutRow { tenant, feed, code, words, since, goes_on, .. } in rows {
                    tr {
                        td { (tenant) }
                        td { (feed) }
                        td.number { (moment(*since)) }
                        td.bad { (code) }
                        td {
                            @for words in words {
                                @let what = if *goes_on { "a feed keeps its previous configuration" } else { "a feed is left out" };
                                div { (what) ": " (words) }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn waiting_feeds(rows: &[WaitingRow]) -> Markup {
    html! {
        @if !rows.is_empty() {
            h2 { "Feeds that are being checked" }
            @if rows.len() > limits::STATUS_ROWS {
                p { "The first " (limits::STATUS_ROWS) " of " (rows.len()) " rows are shown." }
            }
            table {
                tr { th { "tenant" } th { "feed" } th { "since" } th { "meanwhile" } }
                @for WaitingRow { tenant, feed, since, goes_on } in rows.iter().take(limits::STATUS_ROWS) {
                    tr {
                        td { (tenant) }
                        td { (feed) }
                        td.number { (moment(*since)) }
                        td { @if *goes_on { "it keeps its previous configuration" } @else { "it is not collected yet" } }
                    }
                }
            }
        }
    }
}

fn sinks(rows: &[SinkRow], now: u64) -> Markup {
    html! {
        @if !rows.is_empty() {
            h2 { "Sinks" }
            @if rows.len() > limits::STATUS_ROWS {
                p { "The first " (limits::STATUS_ROWS) " of " (rows.len()) " rows are shown." }
            }
            table {
                tr { th { "sink" } th { "tenant" } th { "waiting" } th { "what is wrong" } }
                @for row in rows.iter().take(limits::STATUS_ROWS) {
                    tr {
                        td { (row.sink) }
                        td { (row.tenant.as_deref().unwrap_or("all")) }
                        td.number { (waiting(row.waiting)) }
                        td { (sink_troubles(row, now)) }
                    }
                }
            }
        }
    }
}

fn sink_troubles(row: &SinkRow, now: u64) -> Markup {
    html! {
        @if !row.is_configured {
            div { span.bad { "not configured" } ": the events stay until a sink of this name is configured again" }
        }
        @if let Some(Failing { trouble, since, again }) = &row.failing {
            div {
                span.bad { (trouble.code) } " since " (moment(*since)) ": " (trouble.why)
                br;
                span.fix { (trouble.blame) " can mend it; it is tried again " (until(*again, now)) }
            }
        }
        @if let Some(since) = row.full_since {
            div {
                span.bad { "outbox full" } " since " (moment(since)) ": the tenant's feeds that go there pause"
            }
        }
        @if let Some((DeadLetters { count, since, trouble }, file)) = &row.dead_letters {
            div {
                span.bad { (number(*count, "dead letter")) } " since " (moment(*since)) ", in " (file.display())
                "; the last: " (trouble.why)
                br;
                span.fix { (trouble.blame) " can mend it" }
            }
        }
    }
}

fn scopes(snapshot: &StatusSnapshot, now: u64) -> Markup {
    html! {
        h2 { "Scopes" }
        table {
            tr {
                th { "tenant" } th { "feed" } th { "scope" } th { "score" } th { "collected" } th { "next" }
                th { "outcome" }
            }
            @for row in &snapshot.rows {
                tr {
                    td { (row.tenant) }
                    td {
                        (row.feed)
                        @if let Some(contact) = &row.contact {
                            br;
                            span.fix { (contact) }
                        }
                    }
                    td { (row.scope.as_deref().unwrap_or("the whole feed")) }
                    td.number {
                        @if let Some(Points { value, maximum }) = row.figure { (format!("{value:.2} / {maximum}")) }
                    }
                    td.number {
                        @if let Some(time) = row.last_good { (span(now.saturating_sub(time))) " ago" }
                    }
                    td.number { (next(row, now)) }
                    td { (outcome(row)) }
                }
            }
        }
        p.fix {
            "Each scope is polled once an interval, at its own place in it. The time from the first poll to the \
             next one is between half an interval and one and a half."
        }
    }
}

fn outcome(row: &SnapshotRow) -> Markup {
    let Some(failure) = &row.failure else { return html! { "collected" } };
    let Failure { code, cause, fix, reaction, .. } = failure;
    html! {
        span.bad { (code) }
        @if let Some(since) = row.since { " since " (moment(since)) }
        ": " (cause)
        @if let Some(blame) = row.blame && *reaction != Reaction::NoData {
            br;
            span.fix { (blame) " can mend it" }
        }
        @if let Some(fix) = fix {
            br;
            span.fix { (fix) }
        }
    }
}

/// Says when a row is tried next. If that is more than an interval away although nothing failed, the interval is added.
fn next(row: &SnapshotRow, now: u64) -> String {
    match &row.next {
        None => String::new(),
        Some(NextAttempt::InFlight) => "now".to_owned(),
        Some(NextAttempt::AfterSearch) => "once the feed's scopes are found".to_owned(),
        Some(NextAttempt::WhenThereIsRoom(sink)) => format!("when {sink} takes events"),
        Some(NextAttempt::At(due)) => {
            let failed = row.failure.as_ref().is_some_and(|failure| failure.reaction != Reaction::NoData);
            let interval = milliseconds(row.interval);
            match !failed && due.saturating_sub(now) > interval {
                true => format!("{}, then every {}", until(*due, now), span(interval)),
                false => until(*due, now),
            }
        }
    }
}

fn waiting(waiting: Waiting) -> String {
    let Waiting { events, bytes } = waiting;
    match bytes {
        0..=9_999 => format!("{}, {bytes} bytes", number(events, "event")),
        10_000..=9_999_999 => format!("{}, {} kB", number(events, "event"), bytes / 1_000),
        _ => format!("{}, {} MB", number(events, "event"), bytes / 1_000_000),
    }
}

/// Returns a count with the name of the counted, in singular or plural.
pub(super) fn number(count: impl TryInto<u64>, name: &str) -> String {
    let count = count.try_into().unwrap_or(u64::MAX);
    if count == 1 { format!("1 {name}") } else { format!("{count} {name}s") }
}

/// Writes a time as in RFC 3339, to the second.
fn moment(milliseconds: u64) -> String {
    let seconds = i64::try_from(milliseconds / 1_000).unwrap_or_default();
    OffsetDateTime::from_unix_timestamp(seconds).ok().and_then(|time| time.format(&Rfc3339).ok()).unwrap_or_default()
}

fn until(due: u64, now: u64) -> String {
    match due.saturating_sub(now) {
        0 => "now".to_owned(),
        left => format!("in {}", span(left)),
    }
}

fn span(milliseconds: u64) -> String {
    match Duration::from_millis(milliseconds).as_secs() {
        seconds @ 0..=119 => format!("{seconds} s"),
        seconds @ 120..=7_199 => format!("{} min", seconds / 60),
        seconds @ 7_200..=172_799 => format!("{} h", seconds / 3_600),
        seconds => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use source_host::blame::Blame;

    use super::*;
    use crate::sink::SinkTrouble;

    const NOW: u64 = 1_790_000_000_000;

    fn row(scope: &str, failure: Option<Failure>) -> SnapshotRow {
        SnapshotRow {
            tenant: "contoso".to_owned(),
            feed: "prod".to_owned(),
            scope: Some(scope.to_owned()),
            contact: None,
            blame: failure.as_ref().map(Failure::blame),
            failure,
            since: None,
            next: Some(NextAttempt::At(NOW + 30_000)),
            interval: Duration::from_secs(3_600),
            last_good: Some(NOW - 60_000),
            figure: Some(Points { value: 23.5, maximum: 39.0 }),
        }
    }

    fn forbidden() -> Failure {
        Failure {
            fix: Some("give <b>Reader</b>".to_owned()),
            ..Failure::new(Reaction::FixScope, "forbidden", "no role".to_owned())
        }
    }

    /// Returns the text of the page, one line for each cell.
    fn words(snapshot: &StatusSnapshot) -> String {
        let page = page(snapshot, NOW);
        let mut body = page.split_once("<body>").unwrap().1.to_owned();
        for inline in ["<span class=\"bad\">", "<span class=\"fix\">", "</span>"] {
            body = body.replace(inline, "");
        }
        let texts = body.split('<').filter_map(|part| part.split_once('>')).map(|(_, text)| text);
        texts.filter(|text| !text.trim().is_empty()).collect::<Vec<_>>().join("|")
    }

    #[test]
    fn the_page_shows_what_mends_a_scope_and_lets_no_markup_through() {
        let rows = vec![SnapshotRow { since: Some(NOW - 3_600_000), ..row("<script>", Some(forbidden())) }];
        let notes = vec!["a < b".to_owned()];
        let snapshot = StatusSnapshot {
            feeds: 1,
            scopes: 1,
            failing_scopes: 1,
            total: 1,
            rows,
            notes,
            ..StatusSnapshot::default()
        };
        let page = page(&snapshot, NOW);
        for part in
            ["forbidden", "give &lt;b&gt;Reader", "&lt;script&gt;", "in 30 s", "60 s ago", "23.50 / 39", "a &lt; b"]
        {
            assert!(page.contains(part), "{part} in {page}");
        }
        assert!(!page.contains("<script>"));
        assert!(page.contains("since 2026-09-21T13:13:20Z") && page.contains("tenant can mend it"), "{page}");
    }

    #[test]
    fn a_feed_that_fails_is_no_scope() {
        let of_feed = SnapshotRow { scope: None, ..row("", Some(forbidden())) };
        let snapshot = StatusSnapshot {
            feeds: 3,
            failing_feeds: 1,
            scopes: 1,
            total: 2,
            rows: vec![of_feed, row("one", None)],
            ..StatusSnapshot::default()
        };
        let words = words(&snapshot);
        let summary = "3 feeds, 1 of them failing, and 0 left out; 1 scope, 0 of them without data; 0 in flight";
        assert!(words.contains(summary), "{words}");
        assert!(words.contains("the whole feed"), "{words}");
    }

    #[test]
    fn the_next_poll_is_told_as_it_is_planned() {
        let hour = 3_600_000;
        let throttled = Failure::new(Reaction::Wait, "throttled", String::new());
        for (failure, due, expected) in [
            (None, NextAttempt::At(NOW + hour / 2), "in 30 min"),
            (None, NextAttempt::At(NOW + hour * 81 / 60), "in 81 min, then every 60 min"),
            (Some(throttled), NextAttempt::At(NOW + 2 * hour), "in 2 h"),
            (None, NextAttempt::At(NOW - 5), "now"),
            (None, NextAttempt::InFlight, "now"),
            (Some(forbidden()), NextAttempt::AfterSearch, "once the feed's scopes are found"),
            (None, NextAttempt::WhenThereIsRoom("siem".to_owned()), "when siem takes events"),
        ] {
            assert_eq!(next(&SnapshotRow { next: Some(due), ..row("one", failure) }, NOW), expected);
        }
        assert_eq!(next(&SnapshotRow { next: None, ..row("one", None) }, NOW), "");
    }

    #[test]
    fn sinks_that_do_not_take_everything_stand_on_the_page() {
        let trouble = |code: &str| SinkTrouble::new(code, Blame::Receiver, format!("https://siem.example {code}"));
        let sink = |tenant: Option<&str>| SinkRow {
            sink: "siem".to_owned(),
            tenant: tenant.map(str::to_owned),
            waiting: Waiting { events: 1_204, bytes: 5_000_000 },
            failing: None,
            full_since: None,
            dead_letters: None,
            is_configured: true,
        };
        let failing = Failing { trouble: trouble("answered-503"), since: NOW - 60_000, again: NOW + 40_000 };
        let letters = DeadLetters { count: 2, since: NOW - 120_000, trouble: trouble("answered-400") };
        let rows = vec![
            SinkRow { failing: Some(failing), ..sink(None) },
            SinkRow {
                full_since: Some(NOW - 60_000),
                dead_letters: Some((letters, "dead-letters-siem.ndjson".into())),
                ..sink(Some("contoso"))
            },
            SinkRow { is_configured: false, ..sink(Some("fabrikam")) },
        ];
        let words = words(&StatusSnapshot { sinks: rows, ..StatusSnapshot::default() });
        for part in [
            "siem|all|1204 events, 5000 kB|answered-503 since 2026-09-21T14:12:20Z: https://siem.example answered-503",
            "receiver can mend it; it is tried again in 40 s",
            "siem|contoso|1204 events, 5000 kB|outbox full since 2026-09-21T14:12:20Z",
            "2 dead letters since 2026-09-21T14:11:20Z, in dead-letters-siem.ndjson; the last: https://siem.example answered-400",
            "fabrikam|1204 events, 5000 kB|not configured",
        ] {
            assert!(words.contains(part), "{part} in {words}");
        }
    }

    #[test]
    fn feeds_that_are_left_out_stand_on_the_page_with_their_reason() {
        let left_out = vec![LeftOutRow {
            may_pass: false,
            tenant: "contoso".to_owned(),
            feed: "test".to_owned(),
            code: "credential-unreadable",
            words: vec!["feed test: settings.client_secret: found no variable TEST".to_owned()],
            since: NOW,
            goes_on: false,
        }];
        let words = words(&StatusSnapshot { feeds: 1, left_out, ..StatusSnapshot::default() });
        let row = "contoso|test|2026-09-21T14:13:20Z|credential-unreadable|a feed is left out: feed test: settings.";
        assert!(words.contains(row), "{words}");
        assert!(words.contains("1 feed, 0 of them failing, and 1 left out"), "{words}");
    }
}
