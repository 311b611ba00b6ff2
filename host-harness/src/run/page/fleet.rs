//! The collectors that share the store, and what each works on.

use maud::{Markup, html};
use source_host::limits::milliseconds;

use super::stack;
use super::words::{instant, name, span};
use crate::fleet::keeper::FleetState;
use crate::fleet::summary::{MemberSummary, summary};

pub(super) fn collectors(state: &FleetState) -> Markup {
    let rows = summary(&state.fleet);
    let free = state.fleet.shards.len() - rows.iter().map(|row| row.shards).sum::<usize>();
    let columns = ["collector", "version", "since", "last seen", "shards", "polls an hour", "feeds", "configuration"];
    html! {
        section aria-labelledby="collectors" {
            h2 #collectors { "Collectors" }
            @if let Some(trouble) = &state.trouble {
                p.bad { "This page is of a collector that cannot renew its leases: " (trouble.to_string()) }
            }
            (stack("collectors", "They share the store; each works on the tenants of its shards", &columns, html! {
                @for MemberSummary { seen, shards, polls, feeds, is_alive, differs, .. } in &rows {
                    tr role="row" {
                        th role="rowheader" scope="row" { (name(&seen.member.name)) }
                        td role="cell" data-of="version" { (seen.member.version) }
                        td role="cell" data-of="since" { (instant(seen.started)) }
                        td role="cell" data-of="last seen" {
                            @let ago = span(milliseconds(seen.silent));
                            @if *is_alive { (ago) " ago" } @else { span.bad { "silent for " (ago) } }
                        }
                        td role="cell" data-of="shards" { (shards) }
                        td role="cell" data-of="polls an hour" { (polls) }
                        td role="cell" data-of="feeds" { (feeds) }
                        td role="cell" data-of="configuration" {
                            @if *differs { span.bad { "differs" } } @else { "as the others" }
                        }
                    }
                }
            }))
            @if free > 0 { p.bad { (free) " shards are of no living collector: they are taken within a lease." } }
        }
    }
}
