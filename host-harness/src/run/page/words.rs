//! Numbers, times and names in words, as the page and the terminal show them.

use std::time::Duration;

use maud::{Markup, html};
use source_host::contract::Reaction;
use source_host::limits::milliseconds;
use source_host::text;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::collector::{NextAttempt, SnapshotRow};
use crate::limits;
use crate::overview::figures;
use crate::store::{Points, Waiting};
use crate::terminal::shortened;

/// Returns a count with the name of the counted, in singular or plural.
pub fn number(count: impl TryInto<u64>, name: &str) -> String {
    let count = count.try_into().unwrap_or(u64::MAX);
    if count == 1 { format!("1 {name}") } else { format!("{count} {name}s") }
}

/// Writes a time as in RFC 3339, to the second.
pub fn moment(milliseconds: u64) -> String {
    let seconds = i64::try_from(milliseconds / 1_000).unwrap_or_default();
    OffsetDateTime::from_unix_timestamp(seconds).ok().and_then(|time| time.format(&Rfc3339).ok()).unwrap_or_default()
}

/// Writes the day of a time, such as `2026-09-21`.
pub fn day(milliseconds: u64) -> String {
    moment(milliseconds).chars().take(10).collect()
}

/// Writes a time for people, to the minute, and exactly for programs and in its title.
pub fn instant(milliseconds: u64) -> Markup {
    let exact = moment(milliseconds);
    let told = exact.get(..16).map(|told| told.replace('T', "\u{a0}"));
    html! { time datetime=(exact) title=(exact) { (told.as_deref().unwrap_or_default()) } }
}

/// Says how long it is until a time.
pub fn until(due: u64, now: u64) -> String {
    match due.saturating_sub(now) {
        0 => "now".to_owned(),
        left => format!("in {}", span(left)),
    }
}

/// Says how long ago a time was.
pub fn ago(time: u64, now: u64) -> String {
    format!("{} ago", span(now.saturating_sub(time)))
}

/// Writes a length of time, to two digits or more.
pub fn span(milliseconds: u64) -> String {
    match Duration::from_millis(milliseconds).as_secs() {
        seconds @ 0..=119 => format!("{seconds} s"),
        seconds @ 120..=7_199 => format!("{} min", seconds / 60),
        seconds @ 7_200..=172_799 => format!("{} h", seconds / 3_600),
        seconds => format!("{} d", seconds / 86_400),
    }
}

/// Says how many events wait, and how large they are.
pub fn waiting(Waiting { events, bytes }: Waiting) -> String {
    format!("{}, {}", number(events, "event"), size(bytes))
}

/// Writes a number of bytes, to two digits or more.
pub fn size(bytes: u64) -> String {
    match bytes {
        0..=9_999 => number(bytes, "byte"),
        10_000..=9_999_999 => format!("{} kB", bytes / 1_000),
        _ => format!("{} MB", bytes / 1_000_000),
    }
}

/// The effect of a full outbox.
pub const OUTBOX_FULL: &str = "the tenant's feeds that go there pause";

/// The fate of events whose sink is not configured.
pub const NOT_CONFIGURED: &str = "the events stay until a sink of this name is configured again";

/// The fix of a credential that ends soon.
pub const NEW_CREDENTIAL: &str = "create a new credential before that day, and put it and its date into the settings";

/// Says when a row is tried next. If that is more than an interval away although nothing failed, the interval is added.
pub fn next(row: &SnapshotRow, now: u64) -> String {
    let (time, interval) = (next_time(row, now), milliseconds(row.interval));
    let failed = row.failure.as_ref().is_some_and(|failure| failure.reaction != Reaction::NoData);
    match row.next {
        Some(NextAttempt::At(due)) if !failed && due.saturating_sub(now) > interval => {
            format!("{time}, then every {}", span(interval))
        }
        _ => time,
    }
}

/// The same without the interval.
pub fn next_time(row: &SnapshotRow, now: u64) -> String {
    match &row.next {
        None => String::new(),
        Some(NextAttempt::InFlight) => "now".to_owned(),
        Some(NextAttempt::AfterSearch) => "once the feed's scopes are found".to_owned(),
        Some(NextAttempt::WhenThereIsRoom(sink)) => format!("when {sink} takes events"),
        Some(NextAttempt::At(due)) => until(*due, now),
    }
}

/// Writes a figure with its largest value.
pub fn points(Points { value, maximum, .. }: Points) -> String {
    format!("{value:.2} / {maximum}")
}

/// Writes a figure in percent.
pub fn percent(points: Points) -> String {
    figures::percent(points).map_or_else(|| "nothing measured".to_owned(), |percent| format!("{percent:.1} %"))
}

/// Writes a difference with an arrow and a colour.
pub fn movement(change: f64) -> Markup {
    let words = difference(change);
    let class = match words.chars().next() {
        Some('▲') => "good",
        Some('▼') => "bad",
        _ => "faint",
    };
    html! { span class=(class) { (words) } }
}

/// Writes a difference with its sign, and with an arrow for those who cannot see a colour.
pub fn difference(difference: f64) -> String {
    match (difference * 10.0).round() / 10.0 {
        0.0 => "± 0.0".to_owned(),
        up if up > 0.0 => format!("▲ {up:.1}"),
        down => format!("▼ {:.1}", -down),
    }
}

/// A name of a service or a plugin as plain text, shortened in the middle: for titles and labels.
pub fn label(name: &str) -> String {
    shortened(&text::plain(name), limits::NAME_SHOWN).into_owned()
}

/// A name of a service or a plugin: shortened in the middle, with the whole name in its title.
pub fn name(name: &str) -> Markup {
    let name = text::plain(name);
    let short = shortened(&name, limits::NAME_SHOWN);
    html! {
        @if short.len() == name.len() { (name) } @else { span title=(name) { (short) } }
    }
}

/// The name of a row's scope without its id, which would leave little of a long name; the whole is in the title.
pub fn scope_name(row: &SnapshotRow) -> Markup {
    let whole = text::plain(row.scope.as_deref().unwrap_or("the whole feed"));
    let own = text::plain(row.own_name());
    let short = shortened(&own, limits::NAME_SHOWN);
    html! {
        @if short.len() == whole.len() { (whole) } @else { span title=(whole) { (short) } }
    }
}
