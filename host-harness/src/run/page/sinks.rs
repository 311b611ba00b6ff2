//! The sinks with what waits and what was delivered, and the feeds that are still being checked.

use maud::{Markup, html};

use super::words::{ago, instant, name, number, waiting};
use super::{MOST, part, stack};
use crate::collector::{StatusSnapshot, WaitingRow};
use crate::store::Waiting;

/// The work of one sink, over all tenants.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SinkSummary {
    /// Id of the sink.
    pub sink: String,
    /// The events that wait.
    pub waiting: Waiting,
    /// Number of events that the sink took since the start.
    pub delivered: u64,
    /// Number of events that the sink refused for good since the start.
    pub refused: u64,
    /// When the sink last took events, in Unix milliseconds.
    pub last_delivered: Option<u64>,
    /// The last answer, if it was a refusal or a fault.
    pub trouble: Option<String>,
}

pub(super) fn summary(rows: &[SinkSummary], now: u64) -> Markup {
    html! {
        @if !rows.is_empty() {
            section aria-labelledby="sinks" {
                h2 #sinks { "Sinks" }
                (stack("sinks", "Events since the start of the collector", &["sink", "waiting", "delivered", "refused", "last answer"], html! {
                    @for row in rows.iter().take(MOST) {
                        tr role="row" {
                            th role="rowheader" scope="row" { (name(&row.sink)) }
                            td role="cell" data-of="waiting" { (waiting(row.waiting)) }
                            td role="cell" data-of="delivered" { (number(row.delivered, "event")) }
                            td role="cell" data-of="refused" { (row.refused) }
                            td role="cell" data-of="last answer" {
                                @match (&row.trouble, row.last_delivered) {
                                    (Some(trouble), _) => span.bad { (trouble) },
                                    (None, Some(time)) => { "took events " (ago(time, now)) },
                                    (None, None) => "none yet",
                                }
                            }
                        }
                    }
                }))
                (part(rows.len().min(MOST), rows.len(), "sinks"))
            }
        }
    }
}

pub(super) fn waiting_feeds(snapshot: &StatusSnapshot) -> Markup {
    let rows = &snapshot.waiting;
    html! {
        @if !rows.is_empty() {
            section aria-labelledby="checked" {
                h2 #checked { "Feeds that are being checked" }
                (stack("checked", "Their plugin is being compiled, or asked about their settings", &["feed", "tenant", "since", "meanwhile"], html! {
                    @for WaitingRow { tenant, feed, since, goes_on } in rows {
                        tr role="row" {
                            th role="rowheader" scope="row" { (name(feed)) }
                            td role="cell" data-of="tenant" { (name(tenant)) }
                            td role="cell" data-of="since" { (instant(*since)) }
                            td role="cell" data-of="meanwhile" {
                                @if *goes_on { "it keeps its previous configuration" } @else { "it is not collected yet" }
                            }
                        }
                    }
                }))
                (part(rows.len(), snapshot.waiting_total, "feeds"))
            }
        }
    }
}
