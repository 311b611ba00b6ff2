//! The problems that need a person, and those that the collector tries again by itself.

use std::fmt;

use maud::{Markup, html};
use source_host::contract::Failure;
use source_host::credentials::expiry;
use source_host::text;

use super::words::{
    NEW_CREDENTIAL, NOT_CONFIGURED, OUTBOX_FULL, instant, label, name, next, number, scope_name, until,
};
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
        let (refused, notes, sinks) = match &self.query.view {
            Extent::Tenant(tenant) => {
                let of_tenant = |row: &&SinkRow| row.tenant.as_deref().is_none_or(|other| other == tenant);
                (&[][..], &[][..], snapshot.sinks.iter().filter(of_tenant).collect::<Vec<_>>())
            }
            _ => (&*snapshot.refused, &*snapshot.notes, snapshot.sinks.iter().collect()),
        };
        let count = usize::from(!refused.is_empty())
            + notes.len()
            + snapshot.left_out_total
            + snapshot.choice.person_total
            + snapshot.expiring_total
            + sinks.len();
        write(html! { section aria-labelledby="needs" {
            h2 #needs { "What needs a person" @if count > 0 { " " span.count { (count) } } }
            @if count == 0 { p.quiet { "Nothing needs a person." } } @else { ol.needs {
                @if !refused.is_empty() { (refused_configuration(refused)) }
                @for note in notes { li { p.bad { (note) } } }
                @for row in &snapshot.left_out { (self.left_out_feed(row)) }
                @for row in of_person.clone() { (self.failing(row)) }
                @for row in &snapshot.expiring { (self.expiring(row)) }
                @for row in sinks.iter().take(MOST) { (self.sink(row)) }
            } }
            (part(snapshot.left_out.len(), snapshot.left_out_total, "feeds that are left out"))
            (part(sinks.len().min(MOST), sinks.len(), "sinks with problems"))
            (part(snapshot.expiring.len(), snapshot.expiring_total, "credentials that end soon"))
            (part(of_person.count(), snapshot.choice.person_total, "scopes and feeds that fail"))
        } })?;
        let again = snapshot.choice.attention_total - snapshot.choice.person_total;
        if again == 0 {
            return Ok(());
        }
        write(html! { section aria-labelledby="again" {
            h2 #again { "What the collector tries again by itself" " " span.count { (again) } }
            @if !of_nobody.is_empty() { ol.needs.again { @for row in &of_nobody { (self.failing(row)) } } }
            (part(of_nobody.len(), again, "scopes and feeds that are tried again"))
        } })
    }

    /// A scope or a feed that fails, with cause, fix and contact.
    pub(super) fn failing(&self, row: &SnapshotRow) -> Markup {
        html! {
            li {
                h3 { (self.link(row)) }
                p { (outcome(row, limits::WORDS_SHOWN)) }
                p.faint {
                    @if let Some(contact) = &row.contact { "contact: " (text::plain(contact)) " · " }
                    @let next = next(row, self.now);
                    @if !next.is_empty() { "tried again " (next) }
                }
            }
        }
    }

    /// The names of a row, with a link to its page.
    pub(super) fn link(&self, row: &SnapshotRow) -> Markup {
        html! {
            (self.tenant_link(&row.tenant)) " · " (name(&row.feed)) " · " (self.scope_link(row))
        }
    }

    /// The name of a tenant, with a link to its page.
    pub(super) fn tenant_link(&self, tenant: &str) -> Markup {
        let query = Query { view: Extent::Tenant(tenant.to_owned()), ..Query::default() };
        html! { a href=(self.address(&query)) { (name(tenant)) } }
    }

    /// The name of a row's scope, with a link to its page.
    pub(super) fn scope_link(&self, row: &SnapshotRow) -> Markup {
        let Some(id) = &row.id else { return scope_name(row) };
        let query = Query { view: Extent::Scope(row.feed.clone(), id.clone()), ..Query::default() };
        html! { a href=(self.address(&query)) { (scope_name(row)) } }
    }

    fn left_out_feed(&self, row: &LeftOutRow) -> Markup {
        let LeftOutRow { tenant, feed, code, words, since, goes_on, .. } = row;
        let what = if *goes_on { "the feed keeps its previous configuration" } else { "the feed is left out" };
        html! {
            li {
                h3 { (self.tenant_link(tenant)) " · " (name(feed)) }
                p { span.bad { (code) } " since " (instant(*since)) ": " (what) }
                @for words in words { p { (words) } }
            }
        }
    }

    fn expiring(&self, ExpiringRow { tenant, feed, contact, setting, end }: &ExpiringRow) -> Markup {
        html! {
            li {
                h3 { (self.tenant_link(tenant)) " · " (name(feed)) }
                p {
                    span.bad { "credential-expires" } ": " (expiry::message(setting, *end, self.now))
                    br;
                    span.fix { "fix: " (NEW_CREDENTIAL) }
                }
                @if let Some(contact) = contact { p.faint { "contact: " (text::plain(contact)) } }
            }
        }
    }

    fn sink(&self, row: &SinkRow) -> Markup {
        html! {
            li {
                h3 {
                    "sink " (name(&row.sink)) " · "
                    @match &row.tenant {
                        Some(tenant) => (self.tenant_link(tenant)),
                        None => "all tenants",
                    }
                }
                @if !row.is_configured {
                    p { span.bad { "not configured" } ": " (NOT_CONFIGURED) }
                }
                @if let Some(Failing { trouble, since, again, .. }) = &row.failing {
                    p {
                        span.bad { (trouble.code) } " since " (instant(*since)) ": " (trouble.why)
                        br;
                        span.fix { "the " (trouble.blame) " can mend it · tried again " (until(*again, self.now)) }
                    }
                }
                @if let Some(since) = row.full_since {
                    p { span.bad { "outbox full" } " since " (instant(since)) ": " (OUTBOX_FULL) }
                }
                @if let Some((DeadLetters { count, since, trouble }, file)) = &row.dead_letters {
                    p {
                        span.bad { (number(*count, "dead letter")) } " since " (instant(*since)) ", in " (file.display())
                        "; the last: " (trouble.why)
                        br;
                        span.fix { "the " (trouble.blame) " can mend it" }
                    }
                }
                p.faint { "waiting: " (super::words::waiting(row.waiting)) }
            }
        }
    }
}

/// The problems of a configuration that was not taken.
fn refused_configuration(problems: &[String]) -> Markup {
    html! {
        li {
            h3 { "the configuration" }
            p { span.bad { "not accepted" } ": the collector goes on with the previous one" }
            ul { @for problem in problems.iter().take(MOST) { li { (problem) } } }
            (part(problems.len().min(MOST), problems.len(), "problems"))
        }
    }
}

/// The code of an outcome, with at most so many characters of its cause.
pub(super) fn brief(row: &SnapshotRow, most: usize) -> Markup {
    let Some(failure) = &row.failure else { return html! { span.good { "collected" } } };
    html! {
        (code(failure))
        @if let Some(since) = row.since { " since " (instant(since)) }
        ": " (shortened(&text::plain(&failure.cause), most))
    }
}

fn code(failure: &Failure) -> Markup {
    let code = label(&failure.code);
    match Condition::of(Some(failure)) {
        Condition::Empty => html! { span.warn { (code) } },
        _ => html! { span.bad { (code) } },
    }
}

/// The outcome of the last poll with its fix, and at most so many characters of cause and fix each.
pub(super) fn outcome(row: &SnapshotRow, most: usize) -> Markup {
    let state = Condition::of(row.failure.as_ref());
    html! {
        (brief(row, most))
        @if let Some(blame) = row.blame.filter(|_| state != Condition::Empty) {
            br;
            span.fix { "the " (blame) " can mend it" }
        }
        @if let Some(fix) = row.failure.as_ref().and_then(|failure| failure.fix.as_ref()) {
            br;
            span.fix { "fix: " (shortened(&text::plain(fix), most)) }
        }
    }
}
