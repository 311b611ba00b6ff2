//! The tenants with their scores, and below each its scopes.

use std::fmt;

use maud::{Markup, html};

use super::attention::brief;
use super::plot::{DAYS, RECENT_DAYS, plot, sparkline};
use super::words::{ago, movement, name, next, number, percent, points};
use super::{Page, choices, stack};
use crate::collector::SnapshotRow;
use crate::limits;
use crate::overview::figures::trend;
use crate::overview::history::RowHistory;
use crate::overview::{Condition, ConditionCounts, Extent, Query, TenantChoice};

/// Number of tenants on a page whose scopes are all shown at once.
const UNFOLDED: usize = 3;

/// Number of failing parts that a row names.
pub(super) const FAILING_SHOWN: usize = 3;

impl Page {
    /// Writes the tenants of one page.
    pub(super) fn tenants(&self, write: &mut impl FnMut(Markup) -> fmt::Result) -> fmt::Result {
        let choice = &self.snapshot.choice;
        write(html! {
            h2 #tenants { "Tenants" }
            search {
                form method="get" action="./" aria-labelledby="tenants" {
                    label { "Tenant" input type="search" name="find" value=(self.query.find) maxlength="64"; }
                    (choices(&self.query, self.reloads))
                }
            }
            p.faint {
                (number(choice.tenants_total, "tenant"))
                @if choice.tenants_total > 0 && choice.page.1 > 1 { ", page " (choice.page.0 + 1) " of " (choice.page.1) }
                @if self.query.find.is_empty() { "; scopes: " } @else { "; scopes of all tenants: " }
                (counts(&choice.counts))
            }
            @if choice.tenants.is_empty() {
                p.quiet {
                    @if choice.counts.iter().sum::<usize>() > 0 { "No tenant fits." }
                    @else if self.snapshot.fleet.as_ref().is_some_and(|fleet| fleet.held.is_empty()) {
                        "This collector has no tenants: it holds no shard of the state."
                    }
                    @else { "No scope was found yet: the first polls begin with the start." }
                }
            }
        })?;
        for (number, tenant) in choice.tenants.iter().enumerate() {
            write(self.tenant_below(number, tenant))?;
        }
        write(self.pages())
    }

    fn tenant_below(&self, number: usize, tenant: &TenantChoice) -> Markup {
        let query = Query { view: Extent::Tenant(tenant.tenant.clone()), ..Query::default() };
        let more = tenant.matching.saturating_sub(tenant.shown.len());
        let [person, failing, ..] = tenant.counts;
        // The rows of a quiet tenant are folded, so that a page of many tenants can be looked over.
        let is_open =
            person + failing > 0 || self.query.state.is_some() || self.snapshot.choice.tenants.len() <= UNFOLDED;
        html! {
            section.tenant aria-labelledby={ "tenant-" (number) } {
                div.head {
                    h3 id={ "tenant-" (number) } { a href=(self.address(&query)) { (name(&tenant.tenant)) } }
                    (score(tenant.score))
                    @if tenant.members.is_empty() && tenant.score.is_some() {
                        span.faint { (without_course(tenant)) }
                    } @else {
                        span.course { (sparkline(self.course(number))) (trends(self.course(number))) }
                    }
                    (badges(&tenant.counts))
                }
                details open[is_open] {
                    summary { "Scopes" span.hidden { " of " (name(&tenant.tenant)) } }
                    (self.rows(tenant))
                    @if more > 0 {
                        p { a href=(self.address(&Query { state: self.query.state, ..query })) { (more) " more of " (name(&tenant.tenant)) } }
                    }
                }
            }
        }
    }

    fn course(&self, tenant: usize) -> &[Option<f64>] {
        self.history.tenants.get(tenant).map_or(&[], Vec::as_slice)
    }

    /// Writes the page of one tenant.
    pub(super) fn tenant(&self, id: &str, write: &mut impl FnMut(Markup) -> fmt::Result) -> fmt::Result {
        write(html! { (self.crumbs(None)) h1 { (name(id)) } })?;
        let Some(tenant) = self.snapshot.choice.tenants.first() else {
            write(html! { p { "The collector has no scope of a tenant with this id." } })?;
            return if self.snapshot.left_out.is_empty() { Ok(()) } else { self.attention(write) };
        };
        let course = self.course(0);
        write(html! { div.head { (score(tenant.score)) (trends(course)) (badges(&tenant.counts)) } })?;
        self.attention(write)?;
        write(html! {
            h2 { "History" }
            @if tenant.members.is_empty() && tenant.score.is_some() {
                p.faint { "The history of so many scopes is not drawn." }
            } @else {
                (plot(course, None, self.now, id))
            }
            h2 #scopes { "Scopes" }
            search {
                form method="get" action="tenant" aria-labelledby="scopes" {
                    input type="hidden" name="tenant" value=(id);
                    (choices(&self.query, self.reloads))
                }
            }
        })?;
        write(self.rows(tenant))?;
        write(self.pages())
    }

    fn rows(&self, tenant: &TenantChoice) -> Markup {
        if tenant.shown.is_empty() {
            return html! { p.faint { "No scope fits." } };
        }
        stack(
            "scopes",
            html! { "Scopes of " (name(&tenant.tenant)) },
            &["scope", "score", "90 days", "points at stake", "last good poll", "next poll", "outcome"],
            html! {
                @for number in tenant.shown.clone() {
                    @if let Some(row) = self.snapshot.rows.get(number) { (self.row(row, self.history.rows.get(number))) }
                }
            },
        )
    }

    fn row(&self, row: &SnapshotRow, history: Option<&RowHistory>) -> Markup {
        let empty = RowHistory::default();
        let RowHistory { course, failing, failing_total } = history.unwrap_or(&empty);
        html! {
            tr role="row" {
                th role="rowheader" scope="row" {
                    (self.scope_link(row))
                    br;
                    span.faint { (name(&row.feed)) }
                }
                td.number role="cell" data-of="score" {
                    @if let Some(figure) = row.figure { b { (percent(figure)) } " " span.faint { (points(figure)) } } @else { "–" }
                }
                td role="cell" data-of="90 days" { span.course { (sparkline(course)) (trends(course)) } }
                td.wide role="cell" data-of="points at stake" {
                    @if failing.is_empty() { "–" } @else {
                        ul {
                            @for part in failing.iter().take(FAILING_SHOWN) {
                                li { b { (format!("{:.2}", part.at_stake())) } " " (name(&part.title)) }
                            }
                            @if *failing_total > FAILING_SHOWN { li { (failing_total - FAILING_SHOWN) " more" } }
                        }
                    }
                }
                td role="cell" data-of="last good poll" {
                    @if let Some(time) = row.last_good { (ago(time, self.now)) } @else { "never" }
                }
                td role="cell" data-of="next poll" { (next(row, self.now)) }
                td.wide role="cell" data-of="outcome" { (brief(row, limits::NAME_SHOWN * 2)) }
            }
        }
    }
}

/// Says where the history of a tenant is whose scopes are too many for this page.
fn without_course(tenant: &TenantChoice) -> &'static str {
    match tenant.counts.iter().sum::<usize>() > limits::TENANT_HISTORIES {
        true => "the history of so many scopes is not drawn",
        false => "history on its own page",
    }
}

/// A score in percent.
fn score(percent: Option<f64>) -> Markup {
    html! {
        @match percent {
            Some(percent) => span.score { (format!("{percent:.1} %")) },
            None => span.faint { "no score" },
        }
    }
}

/// How much a course changed in 30 and 90 days.
pub(super) fn trends(course: &[Option<f64>]) -> Markup {
    let recent = &course[course.len().saturating_sub(RECENT_DAYS + 1)..];
    html! {
        @for (days, course) in [(RECENT_DAYS, recent), (DAYS, course)] {
            @if let Some(change) = trend(course) { span.trend { (movement(change)) " in " (days) " d" } }
        }
    }
}

/// The numbers of scopes in each state as labels of the state's colour.
fn badges(counts: &ConditionCounts) -> Markup {
    let told = Condition::ALL.into_iter().zip(counts).filter(|(_, count)| **count > 0);
    html! { span.badges { @for (state, count) in told { span.badge.(state.word()) { (count) " " (state.title()) } } } }
}

/// The numbers of scopes in each state, without zeros.
pub(super) fn counts(counts: &ConditionCounts) -> String {
    let told = Condition::ALL.iter().zip(counts).filter(|(_, count)| **count > 0);
    let told: Vec<String> = told.map(|(state, count)| format!("{count} {}", state.title())).collect();
    if told.is_empty() { "none".to_owned() } else { told.join(", ") }
}
