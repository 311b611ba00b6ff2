//! The page of one scope: its state, its history, its parts, and what moved its figure.

use maud::{Markup, html};
use source_host::text;

use super::attention::outcome;
use super::plot::plot;
use super::tenants::trends;
use super::words::{ago, day, instant, label, movement, name, next, percent, points};
use super::{Page, part, stack};
use crate::overview::figures::{self, FigureChange};
use crate::overview::history::{Part, ScopeHistory};
use crate::store::Points;

impl Page {
    /// The page of one scope.
    pub(super) fn scope(&self, feed: &str, id: &str) -> Markup {
        let rows = &self.snapshot.rows[self.snapshot.choice.attention..];
        let Some(row) = rows.iter().find(|row| row.id.as_deref() == Some(id)) else {
            return html! {
                (self.crumbs(None))
                h1 { (name(id)) }
                p { "The collector has no such scope in the feed " (name(feed)) "." }
            };
        };
        let empty = ScopeHistory::default();
        let ScopeHistory { course, beginning, parts, parts_total, changes } = self.scope.as_ref().unwrap_or(&empty);
        let called = row.scope.as_deref().unwrap_or(id);
        html! {
            (self.crumbs(Some(&row.tenant)))
            h1 { (label(row.own_name())) }
            p.faint { (text::plain(called)) " · feed " (name(feed)) }
            div.head {
                @if let Some(figure) = row.figure { span.score { (percent(figure)) } span { (points(figure)) " points" } }
                (trends(course))
            }
            dl.facts {
                div { dt { "outcome" } dd { (outcome(row, usize::MAX)) } }
                div {
                    dt { "last good poll" }
                    dd { @if let Some(time) = row.last_good { (ago(time, self.now)) } @else { "never" } }
                }
                div { dt { "next poll" } dd { (next(row, self.now)) } }
                @if let Some(contact) = &row.contact { div { dt { "contact" } dd { (text::plain(contact)) } } }
            }
            section aria-labelledby="history" { h2 #history { "History" } (plot(course, beginning.as_ref(), self.now, row.own_name())) }
            section aria-labelledby="parts" { h2 #parts { "Controls" } (table(parts, row.figure)) (part(parts.len(), *parts_total, "controls")) }
            section aria-labelledby="changes" { h2 #changes { "Last changes" } (told(changes)) }
        }
    }
}

/// The parts of a figure, those with the most points at stake first.
fn table(parts: &[Part], figure: Option<Points>) -> Markup {
    if parts.is_empty() {
        return html! { p.faint { "No poll gave a figure of a control yet." } };
    }
    let maximum = figure.map_or(0.0, |figure| figure.maximum);
    stack(
        "parts",
        "Controls by the points at stake",
        &["control", "at stake", "points", "would add", "since"],
        html! {
            @for part in parts {
                tr role="row" {
                    th role="rowheader" scope="row" { (name(&part.title)) }
                    td.number role="cell" data-of="at stake" { (format!("{:.2}", part.at_stake())) }
                    td.number role="cell" data-of="points" { (points(part.points)) }
                    td.number role="cell" data-of="would add" {
                        @if maximum > 0.0 { (format!("{:.1} %", part.at_stake() / maximum * 100.0)) } @else { "–" }
                    }
                    td role="cell" data-of="since" { (day(part.since)) }
                }
            }
        },
    )
}

/// The last changes of a figure, each with the parts that moved it.
fn told(changes: &[FigureChange]) -> Markup {
    if changes.is_empty() {
        return html! { p.faint { "The score did not change in this time." } };
    }
    html! {
        ol.changes {
            @for FigureChange { time, figure: [before, after], parts, parts_total } in changes {
                li {
                    h3 { (instant(*time)) }
                    p {
                        @if let (Some(before), Some(after)) = (figures::percent(*before), figures::percent(*after)) {
                            (movement(after - before)) " percentage points: "
                        }
                        (points(*before)) " → " (points(*after))
                    }
                    @if !parts.is_empty() {
                        ul {
                            @for (title, before, after) in parts {
                                li {
                                    (name(title)) ": "
                                    @match before {
                                        Some(before) => (points(*before)),
                                        None => "new",
                                    }
                                    " → " (points(*after))
                                }
                            }
                            @if parts.len() < *parts_total { li { (parts_total - parts.len()) " more" } }
                        }
                    }
                }
            }
        }
    }
}
