//! What is counted, for Prometheus: by tenant and feed, and by nothing that grows with what a tenant has. Kept as plain
//! numbers, since thousands of feeds are idle most of the time.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::contract::{Failure, Notice, Reaction};
use crate::feed::Usage;
use crate::limits::NOTICE_CODES;
use crate::sink::delivery::Waiting;

/// Upper bounds of lateness, in seconds.
const LATENESS: [f64; 10] = [0.05, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0];

/// What came of a poll, as a label: `collected`, and a word for each reaction.
const OUTCOMES: [&str; 10] = [
    "collected",
    "wait",
    "try-later",
    "renew-token",
    "mend-feed",
    "mend-scope",
    "no-data",
    "mend-plugin",
    "restart",
    "state-unusable",
];

/// Classes of status, as a label.
const STATUSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// Everything that is counted.
#[derive(Debug, Default)]
pub struct Metrics {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// By tenant and feed. Boxed: the nodes of the map are half empty.
    feeds: BTreeMap<(Box<str>, Box<str>), Box<Counts>>,
    /// By sink and tenant.
    sinks: BTreeMap<(Box<str>, Box<str>), SinkCounts>,
    lateness: [u64; LATENESS.len() + 1],
    lateness_sum: Duration,
    store_failures: u64,
    left_out: usize,
    reloads: [u64; 2],
}

/// What is counted of one feed.
#[derive(Debug, Clone, Default)]
pub struct Counts {
    /// Polls by outcome.
    pub polls: [u64; OUTCOMES.len()],
    /// Searches for scopes by outcome.
    pub searches: [u64; OUTCOMES.len()],
    /// Events of its polls.
    pub events: u64,
    /// Requests by class of status.
    pub requests: [u64; STATUSES.len()],
    /// Bytes of answers.
    pub response_bytes: u64,
    /// Answers that asked to wait.
    pub throttles: u64,
    /// Time in which calls of the plugin were worked at.
    pub busy: Duration,
    /// The most memory that a call had.
    pub memory_bytes: u64,
    /// When data was last collected of the scope of which that is longest ago, in Unix milliseconds.
    pub last_collected: Option<u64>,
    /// How late the last poll began.
    pub lateness: Duration,
    /// When the token runs out, in Unix milliseconds.
    pub token_expires: Option<u64>,
    /// When credentials run out, by setting, in Unix milliseconds.
    pub credentials_expire: Vec<(String, u64)>,
    /// Warnings by code.
    pub notices: BTreeMap<String, u64>,
    /// Events that a sink refused for good.
    pub dead_letters: u64,
    /// Scopes that are polled.
    pub scopes: u64,
}

/// What is counted of the events of one tenant at one sink.
#[derive(Debug, Clone, Copy, Default)]
pub struct SinkCounts {
    /// Events that the sink took.
    pub delivered: u64,
    /// Batches that it did not take.
    pub failures: u64,
    /// Events that it refused for good.
    pub dead_letters: u64,
    /// When it last took some, in Unix milliseconds.
    pub last_delivered: Option<u64>,
}

impl Counts {
    /// Counts a poll and what came of it.
    pub fn polled(&mut self, outcome: Option<&Failure>, events: usize, notices: &[Notice]) {
        self.polls[outcome.map_or(0, |failure| 1 + index(failure.reaction))] += 1;
        self.events += events as u64;
        for notice in notices {
            // The code is a plugin's word, and becomes a label.
            let plain =
                notice.code.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
            let room = self.notices.len() < NOTICE_CODES || self.notices.contains_key(&notice.code);
            let code = if plain && room && notice.code.len() <= 64 { notice.code.as_str() } else { "other" };
            *self.notices.entry(code.to_owned()).or_default() += 1;
        }
    }

    /// Counts a search and what came of it.
    pub fn searched(&mut self, failure: Option<&Failure>) {
        self.searches[failure.map_or(0, |failure| 1 + index(failure.reaction))] += 1;
    }

    /// Counts what calls used.
    pub fn used(&mut self, usage: &Usage) {
        for (total, more) in self.requests.iter_mut().zip(usage.requests) {
            *total += more;
        }
        self.response_bytes += usage.response_bytes;
        self.throttles += usage.throttles;
        self.busy += usage.cpu;
        self.memory_bytes = self.memory_bytes.max(usage.memory_bytes);
        self.token_expires = usage.token_expires.or(self.token_expires);
    }
}

fn index(reaction: Reaction) -> usize {
    match reaction {
        Reaction::Wait => 0,
        Reaction::TryLater => 1,
        Reaction::RenewToken => 2,
        Reaction::MendFeed => 3,
        Reaction::MendScope => 4,
        Reaction::NoData => 5,
        Reaction::MendPlugin => 6,
        Reaction::Restart => 7,
        Reaction::StateUnusable => 8,
    }
}

impl Metrics {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what is counted of a feed.
    pub fn feed(&self, tenant: &str, feed: &str, change: impl FnOnce(&mut Counts)) {
        change(self.lock().feeds.entry((tenant.into(), feed.into())).or_default());
    }

    /// Changes what is counted of the events of a tenant at a sink.
    pub fn sink(&self, sink: &str, tenant: &str, change: impl FnOnce(&mut SinkCounts)) {
        change(self.lock().sinks.entry((sink.into(), tenant.into())).or_default());
    }

    /// Events that sinks took.
    pub fn delivered(&self) -> u64 {
        self.lock().sinks.values().map(|counts| counts.delivered).sum()
    }

    /// Forgets feeds that are not among these.
    pub fn keep(&self, known: impl Fn(&str, &str) -> bool) {
        self.lock().feeds.retain(|(tenant, feed), _| known(tenant, feed));
    }

    /// A poll began this long after it was due.
    pub fn late(&self, tenant: &str, feed: &str, lateness: Duration) {
        self.feed(tenant, feed, |counts| counts.lateness = lateness);
        let mut inner = self.lock();
        let bucket = LATENESS.iter().position(|bound| lateness.as_secs_f64() <= *bound);
        inner.lateness[bucket.unwrap_or(LATENESS.len())] += 1;
        inner.lateness_sum += lateness;
    }

    /// So many feeds are left out.
    pub fn left_out(&self, feeds: usize) {
        self.lock().left_out = feeds;
    }

    /// The store did not take something.
    pub fn store_failed(&self) {
        self.lock().store_failures += 1;
    }

    /// The configuration was read again.
    pub fn reloaded(&self, good: bool) {
        self.lock().reloads[usize::from(good)] += 1;
    }

    /// Everything in the text format of Prometheus.
    pub fn text(&self, waiting: &[((String, String), Waiting)], now: u64) -> String {
        let inner = self.lock();
        let mut page = Page::default();
        let until = |time: u64| (time as f64 - now as f64) / 1_000.0;
        let every = |page: &mut Page, name, kind, help, value: &dyn Fn(&Counts) -> Option<f64>| {
            page.family(name, kind, help);
            for ((tenant, feed), counts) in &inner.feeds {
                if let Some(value) = value(counts) {
                    page.sample(name, &[("tenant", tenant), ("feed", feed)], value);
                }
            }
        };
        let labelled =
            |page: &mut Page, name, help, label: &str, words: &[&str], values: &dyn Fn(&Counts) -> Vec<u64>| {
                page.family(name, "counter", help);
                for ((tenant, feed), counts) in &inner.feeds {
                    for (word, value) in words.iter().zip(values(counts)).filter(|(_, value)| *value > 0) {
                        page.sample(name, &[("tenant", tenant), ("feed", feed), (label, word)], value as f64);
                    }
                }
            };
        let help = "Polls of scopes, by what came of them.";
        labelled(&mut page, "collector_polls_total", help, "outcome", &OUTCOMES, &|counts| counts.polls.to_vec());
        let help = "Searches for scopes, by what came of them.";
        labelled(&mut page, "collector_searches_total", help, "outcome", &OUTCOMES, &|counts| counts.searches.to_vec());
        let help = "Requests to the service, by class of status; none: without an answer.";
        labelled(&mut page, "collector_requests_total", help, "status", &STATUSES, &|counts| counts.requests.to_vec());
        let counter = "counter";
        every(&mut page, "collector_events_total", counter, "Events of polls.", &|counts| Some(counts.events as f64));
        every(&mut page, "collector_response_bytes_total", counter, "Bytes of the service's answers.", &|counts| {
            Some(counts.response_bytes as f64)
        });
        every(&mut page, "collector_throttles_total", counter, "Answers that asked to wait.", &|counts| {
            Some(counts.throttles as f64)
        });
        every(
            &mut page,
            "collector_guest_cpu_seconds_total",
            counter,
            "Time in which calls of the plugin were worked at, waiting left out.",
            &|counts| Some(counts.busy.as_secs_f64()),
        );
        every(&mut page, "collector_dead_letters_total", counter, "Events that a sink refused for good.", &|counts| {
            Some(counts.dead_letters as f64)
        });
        let gauge = "gauge";
        every(&mut page, "collector_scopes", gauge, "Scopes that are polled.", &|counts| Some(counts.scopes as f64));
        let help = "The most memory that a call of the plugin had.";
        every(&mut page, "collector_guest_memory_peak_bytes", gauge, help, &|counts| Some(counts.memory_bytes as f64));
        let help = "Time since data was last collected, of the scope of which that is longest ago.";
        every(&mut page, "collector_last_collected_age_seconds", gauge, help, &|counts| {
            counts.last_collected.map(|time| -until(time))
        });
        let help = "How late the last poll began.";
        every(&mut page, "collector_last_lateness_seconds", gauge, help, &|counts| Some(counts.lateness.as_secs_f64()));
        every(&mut page, "collector_token_expiry_seconds", gauge, "Time until the token runs out.", &|counts| {
            counts.token_expires.map(until)
        });
        let name = "collector_credential_expiry_seconds";
        page.family(name, gauge, "Time until a credential runs out, as the configuration says.");
        for ((tenant, feed), counts) in &inner.feeds {
            for (setting, time) in &counts.credentials_expire {
                page.sample(name, &[("tenant", tenant), ("feed", feed), ("setting", setting)], until(*time));
            }
        }
        page.family("collector_notices_total", counter, "Warnings that changed no data, by code.");
        for ((tenant, feed), counts) in &inner.feeds {
            for (code, count) in &counts.notices {
                let labels = [("tenant", &**tenant), ("feed", feed), ("code", code)];
                page.sample("collector_notices_total", &labels, *count as f64);
            }
        }
        page.outbox(waiting);
        page.lateness(&inner);
        page.family("collector_store_failures_total", counter, "What the store did not take.");
        page.sample("collector_store_failures_total", &[], inner.store_failures as f64);
        page.family(
            "collector_feeds_left_out",
            gauge,
            "Feeds that are not collected, because their credentials cannot be read or their plugin breaks down.",
        );
        page.sample("collector_feeds_left_out", &[], inner.left_out as f64);
        page.family("collector_reloads_total", counter, "Configurations read again, by whether they were good.");
        for (good, count) in ["false", "true"].into_iter().zip(inner.reloads) {
            page.sample("collector_reloads_total", &[("good", good)], count as f64);
        }
        page.text
    }
}

/// The text format as it is written.
#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// Label values are ids, codes and words without anything to escape.
    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.text.push_str(name);
        for (index, (label, text)) in labels.iter().enumerate() {
            let _ = write!(self.text, "{}{label}={text:?}", if index == 0 { '{' } else { ',' });
        }
        let _ = writeln!(self.text, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }

    fn outbox(&mut self, waiting: &[((String, String), Waiting)]) {
        let by = |key: fn(&(String, String)) -> &String| {
            let mut sums: BTreeMap<&str, Waiting> = BTreeMap::new();
            for (names, waiting) in waiting {
                let sum = sums.entry(key(names)).or_default();
                *sum = Waiting { events: sum.events + waiting.events, bytes: sum.bytes + waiting.bytes };
            }
            sums
        };
        for (label, name, sums) in [
            ("tenant", "collector_outbox", by(|(_, tenant)| tenant)),
            ("sink", "collector_sink_outbox", by(|(sink, _)| sink)),
        ] {
            self.family(&format!("{name}_events"), "gauge", "Events that wait for sinks.");
            for (key, waiting) in &sums {
                self.sample(&format!("{name}_events"), &[(label, key)], waiting.events as f64);
            }
            self.family(&format!("{name}_bytes"), "gauge", "Bytes of events that wait for sinks.");
            for (key, waiting) in &sums {
                self.sample(&format!("{name}_bytes"), &[(label, key)], waiting.bytes as f64);
            }
        }
    }

    fn lateness(&mut self, inner: &Inner) {
        let name = "collector_lateness_seconds";
        self.family(name, "histogram", "How late polls began.");
        let mut sum = 0;
        for (index, count) in inner.lateness.iter().enumerate() {
            sum += count;
            let bound = LATENESS.get(index).map_or("+Inf".to_owned(), f64::to_string);
            self.sample(&format!("{name}_bucket"), &[("le", &bound)], sum as f64);
        }
        self.sample(&format!("{name}_sum"), &[], inner.lateness_sum.as_secs_f64());
        self.sample(&format!("{name}_count"), &[], sum as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_feed_is_told_by_tenant_and_feed() {
        let metrics = Metrics::default();
        metrics.feed("contoso", "prod", |counts| {
            counts.polled(None, 3, &[]);
            counts.last_collected = Some(5_000);
            let failure = Failure::of_host(Reaction::MendScope, "forbidden", String::new());
            counts.polled(Some(&failure), 1, &[Notice { code: "odd".to_owned(), message: String::new() }]);
            counts.used(&Usage { requests: [0, 0, 2, 0, 1, 0], ..Usage::default() });
            counts.token_expires = Some(65_000);
        });
        metrics.late("contoso", "prod", Duration::from_secs(3));
        let waiting = Waiting { events: 2, bytes: 90 };
        let text = metrics.text(&[(("lake".to_owned(), "contoso".to_owned()), waiting)], 35_000);
        for line in [
            r#"collector_polls_total{tenant="contoso",feed="prod",outcome="collected"} 1"#,
            r#"collector_polls_total{tenant="contoso",feed="prod",outcome="mend-scope"} 1"#,
            r#"collector_events_total{tenant="contoso",feed="prod"} 4"#,
            r#"collector_requests_total{tenant="contoso",feed="prod",status="4xx"} 1"#,
            r#"collector_last_collected_age_seconds{tenant="contoso",feed="prod"} 30"#,
            r#"collector_token_expiry_seconds{tenant="contoso",feed="prod"} 30"#,
            r#"collector_notices_total{tenant="contoso",feed="prod",code="odd"} 1"#,
            r#"collector_outbox_events{tenant="contoso"} 2"#,
            r#"collector_sink_outbox_bytes{sink="lake"} 90"#,
            r#"collector_lateness_seconds_bucket{le="2"} 0"#,
            r#"collector_lateness_seconds_bucket{le="5"} 1"#,
            r#"collector_lateness_seconds_bucket{le="+Inf"} 1"#,
            "collector_lateness_seconds_sum 3",
        ] {
            assert!(text.lines().any(|known| known == line), "{line} in\n{text}");
        }
        assert!(text.lines().all(|line| line.starts_with('#') || line.starts_with("collector_")));
        metrics.keep(|_, feed| feed != "prod");
        assert!(!metrics.text(&[], 0).contains("contoso"));
    }
}
