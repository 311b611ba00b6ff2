//! Tests of the page's content.

use std::time::Duration;

use source_host::blame::Blame;
use source_host::contract::{Failure, Reaction};

use super::words::next;
use super::*;
use crate::collector::{ExpiringRow, LeftOutRow, NextAttempt, SnapshotRow};
use crate::overview::history::{Part, RowHistory};
use crate::overview::{ListedScope, choose};
use crate::sink::SinkTrouble;
use crate::sink::delivery::SinkRow;
use crate::sink::ledger::{DeadLetters, Failing};
use crate::store::{Points, Waiting};

const NOW: u64 = 1_790_000_000_000;

fn row(scope: &str, failure: Option<Failure>) -> SnapshotRow {
    SnapshotRow {
        tenant: "contoso".to_owned(),
        feed: "prod".to_owned(),
        scope: Some(scope.to_owned()),
        id: Some(scope.to_owned()),
        contact: None,
        blame: failure.as_ref().map(Failure::blame),
        failure,
        since: None,
        next: Some(NextAttempt::At(NOW + 30_000)),
        interval: Duration::from_secs(3_600),
        last_good: Some(NOW - 60_000),
        figure: Some(Points { value: 23.5, maximum: 39.0, weight: 1.0 }),
    }
}

fn forbidden() -> Failure {
    Failure {
        fix: Some("give <b>Reader</b>".to_owned()),
        ..Failure::new(Reaction::FixScope, "forbidden", "no role".to_owned())
    }
}

/// Answers a question about these rows, with whatever else the snapshot has.
fn answered(rows: &[SnapshotRow], query: Query, snapshot: StatusSnapshot) -> Page {
    let candidates: Vec<_> = rows.iter().map(|row| ListedScope { figure: row.figure, ..row.listed() }).collect();
    let choice = choose(&candidates, &query);
    let rows = choice.rows.iter().map(|number| rows[*number].clone()).collect();
    Page { query, snapshot: StatusSnapshot { rows, choice, ..snapshot }, now: NOW, ..Page::default() }
}

fn all(rows: &[SnapshotRow], snapshot: StatusSnapshot) -> Page {
    answered(rows, Query::default(), snapshot)
}

/// Returns the text of a page, one line for each element that is no mere emphasis.
fn words(page: &Page) -> String {
    let text = page.text();
    let mut body = text.split_once("<body>").unwrap().1.to_owned();
    for inline in ["<span class=\"bad\">", "<span class=\"fix\">", "</span>", "</time>", "</strong>", "<b>", "</b>"] {
        body = body.replace(inline, "");
    }
    for tag in ["<time", "<strong"] {
        while let Some((before, after)) = body.clone().split_once(tag) {
            body = format!("{before}{}", after.split_once('>').unwrap_or_default().1);
        }
    }
    body = body.replace('\u{a0}', " ");
    let texts = body.split('<').filter_map(|part| part.split_once('>')).map(|(_, text)| text);
    texts.filter(|text| !text.trim().is_empty()).collect::<Vec<_>>().join("|")
}

#[test]
fn the_page_shows_what_mends_a_scope_and_lets_no_markup_through() {
    let failing = SnapshotRow {
        since: Some(NOW - 3_600_000),
        contact: Some("Cloud <security>".to_owned()),
        ..row("<script>", Some(forbidden()))
    };
    let snapshot =
        StatusSnapshot { scopes: 1, failing_scopes: 1, notes: vec!["a < b".to_owned()], ..Default::default() };
    let mut page = all(&[failing, row("good", None)], snapshot);
    let part = Part {
        title: "<img src=x onerror=alert(1)>\u{202e}".to_owned(),
        points: Points { value: 1.0, maximum: 4.0, weight: 1.0 },
        since: NOW,
    };
    let history = RowHistory { course: vec![Some(50.0); 91], failing: vec![part], failing_total: 1 };
    page.history.rows = vec![history; page.snapshot.rows.len()];
    page.trouble = Some("<b>".to_owned());
    let text = page.text();
    for part in [
        "forbidden",
        "give &lt;b&gt;Reader",
        "&lt;script&gt;",
        "in 30 s",
        "60 s ago",
        "23.50 / 39",
        "60.3 %",
        "a &lt; b",
        "contact: Cloud &lt;security&gt;",
        "&lt;img src=x onerror=alert(1)&gt; ",
        "<b>3.00</b>",
        "scope?feed=prod&amp;scope=%3Cscript%3E",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(!text.contains("<script") && !text.contains("<img") && !text.contains('\u{202e}'), "{text}");
    assert!(!text.contains("http://") && !text.contains("https://"), "nothing is loaded from elsewhere: {text}");
    assert!(
        text.contains(r#"since <time datetime="2026-09-21T13:13:20Z""#) && text.contains("tenant can mend it"),
        "{text}"
    );
}

#[test]
fn what_needs_a_person_comes_before_everything_else() {
    let throttled = Failure::new(Reaction::Wait, "throttled", "too many".to_owned());
    let rows = [row("good", None), row("waits", Some(throttled)), row("bad", Some(forbidden()))];
    let expiring = vec![ExpiringRow {
        tenant: "contoso".to_owned(),
        feed: "prod".to_owned(),
        contact: Some("ops@contoso.example".to_owned()),
        setting: "client_secret".to_owned(),
        end: NOW + 3 * 86_400_000,
    }];
    let snapshot = StatusSnapshot { expiring, expiring_total: 1, ..StatusSnapshot::default() };
    let words = words(&all(&rows, snapshot));
    let places: Vec<usize> = [
        "What needs a person",
        "forbidden",
        "`client_secret` expires in 3 days",
        "contact: ops@contoso.example",
        "What the collector tries again by itself",
        "throttled",
        "Tenants|",
        "Scopes of contoso",
    ]
    .iter()
    .map(|part| {
        words[words.find("What needs a person").unwrap_or(0)..]
            .find(part)
            .unwrap_or_else(|| panic!("{part} in {words}"))
    })
    .collect();
    assert!(places.is_sorted(), "{places:?} in {words}");
    let quiet = self::words(&all(&[row("good", None)], StatusSnapshot::default()));
    assert!(quiet.contains("Nothing needs a person.") && !quiet.contains("tries again by itself"), "{quiet}");
}

#[test]
fn a_feed_that_fails_is_no_scope() {
    let of_feed = SnapshotRow { scope: None, id: None, ..row("", Some(forbidden())) };
    let snapshot = StatusSnapshot { feeds: 3, failing_feeds: 1, scopes: 1, total: 2, ..StatusSnapshot::default() };
    let words = words(&all(&[of_feed, row("one", None)], snapshot));
    let summary = "3 feeds, 1 of them failing, and 0 left out; 1 scope, 0 of them without data; 0 in flight";
    assert!(words.contains(summary), "{words}");
    assert!(words.contains("the whole feed"), "{words}");
}

#[test]
fn a_tenant_and_a_scope_have_a_page_of_their_own() {
    let rows =
        [row("one", None), row("two", Some(forbidden())), SnapshotRow { tenant: "other".to_owned(), ..row("x", None) }];
    let page = |path: &str, query: &str| {
        let (query, _) = question(path, query).unwrap();
        answered(&rows, query, StatusSnapshot::default())
    };
    let tenant = words(&page("/tenant", "tenant=contoso"));
    assert!(tenant.contains("Scopes of contoso") && !tenant.contains("|other|"), "{tenant}");
    let filtered = words(&page("/tenant", "tenant=contoso&state=needs-person"));
    assert!(filtered.contains("two") && !filtered.contains("|one|"), "{filtered}");
    let scope = words(&page("/scope", "feed=prod&scope=one"));
    assert!(scope.contains("60.3 %") && scope.contains("last good poll|60 s ago"), "{scope}");
    for (path, query, expected) in [
        ("/tenant", "tenant=%3Cb%3E", "no scope of a tenant with this id"),
        ("/scope", "feed=prod&scope=three", "no such scope in the feed"),
        ("/scope", "", "no such scope in the feed"),
    ] {
        let text = page(path, query).text();
        assert!(text.contains(expected) && !text.contains("<b>"), "{path} {query}: {text}");
    }
    assert!(question("/else", "").is_none());
}

#[test]
fn an_address_has_everything_that_its_question_has() {
    for (path, query, address) in [
        ("/", "", "./"),
        (
            "/",
            "find=a+b&state=failing&sort=score&page=3&reload=1",
            "./?find=a+b&state=failing&sort=score&page=3&reload=1",
        ),
        ("/", "state=odd&sort=odd&page=-1", "./"),
        ("/tenant", "tenant=contoso&page=2", "tenant?tenant=contoso&page=2"),
        ("/scope", "feed=prod&scope=a&state=failing&page=2", "scope?feed=prod&scope=a"),
        ("/scope", "feed=prod&scope=a%2Fb%26c", "scope?feed=prod&scope=a%2Fb%26c"),
    ] {
        let (question, reloads) = question(path, query).unwrap();
        assert_eq!(super::address(&question, reloads), address, "{path}?{query}");
    }
}

#[test]
fn a_page_of_a_hundred_thousand_scopes_is_small() {
    let named = |number: usize| SnapshotRow {
        tenant: format!("tenant-{:05}", number / 10),
        ..row(&format!("{:0>200}", number), number.is_multiple_of(2).then(forbidden))
    };
    let rows: Vec<SnapshotRow> = (0..100_000).map(named).collect();
    let mut page = all(&rows, StatusSnapshot::default());
    page.history.tenants = vec![(0..91).map(|day| Some(f64::from(day % 7) * 10.0)).collect(); 25];
    let bytes = page.text().len();
    assert!((100_000..1_000_000).contains(&bytes), "{bytes} bytes");
    assert!(words(&page).contains("The first 100 of 50000 scopes and feeds that fail are shown"));
}

#[test]
fn the_counts_say_how_much_there_is_and_not_how_much_is_shown() {
    let throttled = || Failure::new(Reaction::Wait, "throttled", "too many".to_owned());
    let more = limits::STATUS_ROWS + 7;
    let named = |number: usize, failure: Failure| row(&format!("{number:03}"), Some(failure));
    let few = StatusSnapshot { left_out_total: 200, expiring_total: 300, ..StatusSnapshot::default() };
    let person = (0..more).map(|number| named(number, forbidden()));
    let again = (0..30).map(|number| named(more + number, throttled()));
    let shown = words(&all(&person.chain(again).collect::<Vec<_>>(), few));
    for part in [
        "What needs a person |607|",
        "|None of 200 feeds that are left out are shown.|",
        "|None of 300 credentials that end soon are shown.|",
        "|The first 100 of 107 scopes and feeds that fail are shown.|",
        "What the collector tries again by itself |30|None of 30 scopes and feeds that are tried again are shown.|",
    ] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    let rows: Vec<_> = (0..more).map(|number| named(number, throttled())).collect();
    let shown = words(&all(&rows, StatusSnapshot::default()));
    for part in
        ["tries again by itself |107|", "|The first 100 of 107 scopes and feeds that are tried again are shown.|"]
    {
        assert!(shown.contains(part), "{part} in {shown}");
    }
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
    let failing =
        Failing { trouble: trouble("answered-503"), since: NOW - 60_000, again: NOW + 40_000, is_told: false };
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
    let mut page = all(&[], StatusSnapshot { sinks: rows, ..StatusSnapshot::default() });
    page.sinks = vec![
        SinkSummary {
            sink: "lake".to_owned(),
            waiting: Waiting { events: 1, bytes: 900 },
            delivered: 17,
            last_delivered: Some(NOW - 5_000),
            ..SinkSummary::default()
        },
        SinkSummary { sink: "siem".to_owned(), trouble: Some("answered-503".to_owned()), ..SinkSummary::default() },
    ];
    let words = words(&page);
    for part in [
        "sink siem · all tenants|answered-503 since 2026-09-21 14:12: https://siem.example answered-503",
        "the receiver can mend it · tried again in 40 s",
        "sink siem · |contoso|outbox full since 2026-09-21 14:12",
        "2 dead letters since 2026-09-21 14:11, in dead-letters-siem.ndjson; the last: https://siem.example answered-400",
        "fabrikam|not configured",
        "waiting: 1204 events, 5000 kB",
        "lake|1 event, 900 bytes|17 events|0|took events 5 s ago",
        "siem|0 events, 0 bytes|0 events|0|answered-503",
    ] {
        assert!(words.contains(part), "{part} in {words}");
    }
}

#[test]
fn feeds_that_are_left_out_stand_on_the_page_with_their_reason() {
    let left_out = vec![LeftOutRow {
        tenant: "contoso".to_owned(),
        feed: "test".to_owned(),
        code: "credential-unreadable",
        words: vec!["feed test: settings.client_secret: found no variable TEST".to_owned()],
        since: NOW,
        goes_on: false,
        may_pass: false,
    }];
    let snapshot = StatusSnapshot { feeds: 1, left_out, left_out_total: 1, ..StatusSnapshot::default() };
    let words = words(&all(&[], snapshot));
    let row = " · test|credential-unreadable since 2026-09-21 14:13: the feed is left out|feed test: settings.";
    assert!(words.contains(row), "{words}");
    assert!(words.contains("1 feed, 0 of them failing, and 1 left out"), "{words}");
}
