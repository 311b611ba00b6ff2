//! The problems that need a person, and those that the collector tries again by itself.

use std::fmt;

use maud::{Markup, html};
use source_host::contract::Failure;
use source_host::credentials::expiry;
use source_host::text;

use super::words::{label, moment, name, next, number, until};
use super::{MOST, Page, part};
use crate::collector::{ExpiringRow, LeftOutRow, SnapshotRow};
use crate::limits;
use crate::overview::{Condition, Extent, Query};
use crate::sink::delivery::SinkRow;
use crate::sink::ledger::{DeadLetters, Failing};
use crate::terminal::shortened;

impl Page {
    /// Writes what needs a person, and then what is tried again.
    pub(super) fn attention(&self, write: &mut impl FnMut(Markup) -> fmt::Result) -> fmt::Result {
        let snapshot = &self.snapshot;
        let rows = &snapshot.rows[..snapshot.choice.attention];
        let of_person = rows.iter().filter(|row| Condition::of(row.failure.as_ref()) == Condition::Person);
        let of_nobody: Vec<_> =
            rows.iter().filter(|row| Condition::of(row.failure.as_ref()) != Condition::Person).collect();
        let is_all = matches!(self.query.view, Extent::Tenants);
        let (notes, left_out, sinks) = match is_all {
            true => (&*snapshot.notes, &*snapshot.left_out, &*snapshot.sinks),
            false => (&[][..], &[][..], &[][..]),
        };
        let is_quiet = notes.is_empty() && left_out.is_empty() && sinks.is_empty() && snapshot.expiring.is_empty();
        write(html! { section aria-labelledby="needs" {
            h2 #needs { "What needs a person" }
            @if is_quiet && of_person.clone().next().is_none() { p.good { "Nothing needs a person." } }
            @if !is_quiet || of_person.clone().next().is_some() { ol.needs {
                @for note in notes { li { p.bad { (note) } } }
                @for row in left_out { (left_out_feed(row)) }
                @for row in of_person { (self.failing(row)) }
                @for row in &snapshot.expiring { (expiring(row, self.now)) }
                @for row in sinks.iter().take(MOST) { (sink(row, self.now)) }
            } }
            @if is_all {
                (part(left_out.len(), snapshot.left_out_total, "feeds that are left out"))
                (part(sinks.len().min(MOST), sinks.len(), "sinks with problems"))
            }
            (part(snapshot.expiring.len(), snapshot.expiring_total, "credentials that end soon"))
            (part(rows.len(), snapshot.choice.attention_total, "scopes and feeds that fail"))
        } })?;
        if of_nobody.is_empty() {
            return Ok(());
        }
        write(html! { section aria-labelledby="again" {
            h2 #again { "What the collector tries again by itself" }
            ol.needs.again { @for row in of_nobody { (self.failing(row)) } }
        } })
    }

    /// A scope or a feed that fails, with cause, fix and contact.
    pub(super) fn failing(&self, row: &SnapshotRow) -> Markup {
        html! {
            li {
                h3 { (self.link(row)) }
                p { (outcome(row, limits::WORDS_SHOWN)) }
                p.faint {
                    @if let Some(contact) = &row.contact { "contact: " (text::plain(contact)) "; " }
                    @let next = next(row, self.now);
                    @if !next.is_empty() { "tried again " (next) }
                }
            }
        }
    }

    /// The names of a row, with a link to its page.
    pub(super) fn link(&self, row: &SnapshotRow) -> Markup {
        let tenant = Query { view: Extent::Tenant(row.tenant.clone()), ..Query::default() };
        html! {
            a href=(self.address(&tenant)) { (name(&row.tenant)) } " · " (name(&row.feed)) " · "
            @match (&row.id, &row.scope) {
                (Some(id), Some(scope)) => (self.scope_link(&row.feed, id, scope)),
                _ => "the whole feed",
            }
        }
    }

    /// The name of a scope, with a link to its page.
    pub(super) fn scope_link(&self, feed: &str, id: &str, scope: &str) -> Markup {
        let query = Query { view: Extent::Scope(feed.to_owned(), id.to_owned()), ..Query::default() };
        html! { a href=(self.address(&query)) { (name(scope)) } }
    }
}

/// The outcome of the last poll, with at most so many characters of cause and fix each.
pub(super) fn outcome(row: &SnapshotRow, most: usize) -> Markup {
    let Some(failure) = &row.failure else { return html! { span.good { "collected" } } };
    let Failure { code, cause, fix, .. } = failure;
    let state = Condition::of(Some(failure));
    let told = |words: &str| shortened(&text::plain(words), most).into_owned();
    let code = label(code);
    html! {
        @if state == Condition::Empty { span.warn { (code) } } @else { span.bad { (code) } }
        @if let Some(since) = row.since { " since " (moment(since)) }
        ": " (told(cause))
        @if let Some(blame) = row.blame.filter(|_| state != Condition::Empty) {
            br;
            span.fix { (blame) " can mend it" }
        }
        @if let Some(fix) = fix {
            br;
            span.fix { "fix: " (told(fix)) }
        }
    }
}

fn left_out_feed(LeftOutRow { tenant, feed, code, words, since, goes_on, .. }: &LeftOutRow) -> Markup {
    let what = if *goes_on { "a feed keeps its previous configuration" } else { "a feed is left out" };
    html! {
        li {
            h3 { (name(tenant)) " · " (name(feed)) }
            @for words in words { p { span.bad { (code) } " since " (moment(*since)) ": " (what) ": " (words) } }
        }
    }
}

fn expiring(ExpiringRow { tenant, feed, contact, setting, end }: &ExpiringRow, now: u64) -> Markup {
    html! {
        li {
            h3 { (name(tenant)) " · " (name(feed)) }
            p { span.bad { "credential-expires" } ": " (expiry::message(setting, *end, now)) }
            @if let Some(contact) = contact { p.faint { "contact: " (contact) } }
        }
    }
}

fn sink(row: &SinkRow, now: u64) -> Markup {
    html! {
        li {
            h3 { "sink " (name(&row.sink)) " · " (row.tenant.as_deref().map_or_else(|| html! { "all tenants" }, name)) }
            @if !row.is_configured {
                p { span.bad { "not configured" } ": the events stay until a sink of this name is configured again" }
            }
            @if let Some(Failing { trouble, since, again }) = &row.failing {
                p {
                    span.bad { (trouble.code) } " since " (moment(*since)) ": " (trouble.why)
                    br;
                    span.fix { (trouble.blame) " can mend it; it is tried again " (until(*again, now)) }
                }
            }
            @if let Some(since) = row.full_since {
                p { span.bad { "outbox full" } " since " (moment(since)) ": the tenant's feeds that go there pause" }
            }
            @if let Some((DeadLetters { count, since, trouble }, file)) = &row.dead_letters {
                p {
                    span.bad { (number(*count, "dead letter")) } " since " (moment(*since)) ", in " (file.display())
                    "; the last: " (trouble.why)
                    br;
                    span.fix { (trouble.blame) " can mend it" }
                }
            }
            p.faint { "waiting: " (super::words::waiting(row.waiting)) }
        }
    }
}
