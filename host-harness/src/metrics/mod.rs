//! Counts for Prometheus, by tenant or by feed, and by nothing that grows with a tenant's data. The counts are plain
//! numbers, because thousands of feeds are idle most of the time.

pub mod process;

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use source_host::blame::Blame;
use source_host::contract::{Failure, Notice, Reaction};
use source_host::feed::{StatusClass, Usage};
use source_host::limits::milliseconds;

use crate::fleet::summary::summary;
use crate::limits::NOTICE_CODES;
use crate::metrics::kinds::Kinds;
use crate::metrics::process::ProcessUsage;
use crate::overview::figures::Average;
use crate::store::fleet::Fleet;
use crate::store::space::FreeSpace;
use crate::store::{Outboxes, Waiting};

mod exposition;
mod kinds;

pub use exposition::{CONTENT_TYPE, Scrape};

/// Upper bounds of lateness, in seconds.
const LATENESS: [f64; 10] = [0.05, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0];

/// The outcome of a poll or a search.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OutcomeLabel {
    Collected,
    Wait,
    TryLater,
    RenewToken,
    FixFeed,
    FixScope,
    NoData,
    FixPlugin,
    Restart,
    StateUnusable,
}

impl OutcomeLabel {
    const ALL: [OutcomeLabel; 10] = [
        OutcomeLabel::Collected,
        OutcomeLabel::Wait,
        OutcomeLabel::TryLater,
        OutcomeLabel::RenewToken,
        OutcomeLabel::FixFeed,
        OutcomeLabel::FixScope,
        OutcomeLabel::NoData,
        OutcomeLabel::FixPlugin,
        OutcomeLabel::Restart,
        OutcomeLabel::StateUnusable,
    ];

    fn of(failure: Option<&Failure>) -> OutcomeLabel {
        match failure.map(|failure| failure.reaction) {
            None => OutcomeLabel::Collected,
            Some(Reaction::Wait) => OutcomeLabel::Wait,
            Some(Reaction::TryLater) => OutcomeLabel::TryLater,
            Some(Reaction::RenewToken) => OutcomeLabel::RenewToken,
            Some(Reaction::FixFeed) => OutcomeLabel::FixFeed,
            Some(Reaction::FixScope) => OutcomeLabel::FixScope,
            Some(Reaction::NoData) => OutcomeLabel::NoData,
            Some(Reaction::FixPlugin) => OutcomeLabel::FixPlugin,
            Some(Reaction::Restart) => OutcomeLabel::Restart,
            Some(Reaction::StateUnusable) => OutcomeLabel::StateUnusable,
        }
    }

    /// The word in labels: `collected`, or the contract's word for the reaction.
    const fn word(self) -> &'static str {
        match self {
            OutcomeLabel::Collected => "collected",
            OutcomeLabel::Wait => "wait",
            OutcomeLabel::TryLater => "try-later",
            OutcomeLabel::RenewToken => "renew-token",
            OutcomeLabel::FixFeed => "fix-feed",
            OutcomeLabel::FixScope => "fix-scope",
            OutcomeLabel::NoData => "no-data",
            OutcomeLabel::FixPlugin => "fix-plugin",
            OutcomeLabel::Restart => "restart",
            OutcomeLabel::StateUnusable => "state-unusable",
        }
    }
}

/// All counts.
#[derive(Default)]
pub struct Metrics {
    inner: Mutex<Counters>,
    space: Option<FreeSpace>,
}

#[derive(Debug, Clone, Default)]
struct Counters {
    /// Counts of feeds, by tenant and feed. Boxed, because the nodes of the map are half empty.
    feeds: BTreeMap<FeedOrSink, Box<FeedCounts>>,
    /// Counts that only rise of the feeds that are gone, by tenant, so that no sum of a tenant falls. Kept while the
    /// tenant has a feed.
    gone: BTreeMap<Arc<str>, Box<FeedCounts>>,
    /// Counts of sinks, by sink and tenant.
    sinks: BTreeMap<FeedOrSink, SinkCounts>,
    delivered: u64,
    lateness: [u64; LATENESS.len() + 1],
    lateness_sum: Duration,
    store_failures: u64,
    /// Feeds that are left out: tenant, feed and reason.
    left_out: BTreeSet<(String, String, &'static str)>,
    /// Number of feeds that are still being checked.
    waiting: u64,
    reloads: [u64; 2],
    /// The collectors of the store; `None` if no other can use it.
    fleet: Option<FleetCounts>,
}

/// Counts of the collectors that share a store.
#[derive(Debug, Clone, Copy)]
struct FleetCounts {
    alive: u64,
    silent: u64,
    configurations: u64,
    /// Shards of no living collector.
    free: u64,
    /// Shards of this one.
    held: u64,
}

/// Two names, of which a feed's are shared with the feed.
type FeedOrSink = (Arc<str>, Arc<str>);

/// Counts of one feed. The type is small, because a collector holds thousands.
#[derive(Debug, Clone, Default)]
pub struct FeedCounts {
    /// Polls by outcome.
    pub polls: Kinds<{ OutcomeLabel::ALL.len() }>,
    /// Searches for scopes by outcome.
    pub searches: Kinds<{ OutcomeLabel::ALL.len() }>,
    /// Events of its polls.
    pub events: u64,
    /// Requests by class of status.
    pub requests: Kinds<{ StatusClass::ALL.len() }>,
    /// Bytes of answers.
    pub response_bytes: u64,
    /// Answers that asked to wait.
    pub throttles: u32,
    /// CPU time of the plugin's calls.
    pub busy_nanoseconds: u64,
    /// The largest memory that a call used, in bytes.
    pub memory_bytes: u64,
    /// When data was last collected, in Unix milliseconds, for the scope where that is longest ago; `None` if a scope
    /// was never collected.
    pub last_collected: Option<NonZeroU64>,
    /// Number of scopes whose last poll failed, by the party that can mend the failure.
    pub failing: Kinds<{ Blame::ALL.len() }>,
    /// The party that can mend the search for scopes, if it fails.
    pub search_fault: Option<Blame>,
    /// How late the last poll began.
    pub lateness_milliseconds: u32,
    /// When the token expires, in Unix milliseconds.
    pub token_expires: Option<NonZeroU64>,
    /// When credentials expire, by setting, in Unix milliseconds.
    pub credentials_expire: Box<[(String, u64)]>,
    /// Warnings by code, in the order of the codes.
    pub notices: Box<[(Box<str>, u64)]>,
    /// Events that a sink refused permanently.
    pub dead_letters: u32,
    /// Lines of the log that were dropped.
    pub log_lines_dropped: u64,
    /// The figures of its scopes that count in an average.
    pub score: Average,
    /// Number of scopes that are polled.
    pub scopes: u32,
    /// Bytes in the state for the feed's scopes, their states and figures.
    pub state_bytes: u64,
}

/// The level of the counts of polls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MetricsLevel {
    /// By tenant.
    #[default]
    Tenant,
    /// By tenant and feed: forty samples for each feed.
    Feed,
}

impl MetricsLevel {
    /// The level that a query asks for, such as `by=feed`. The error is the query's unknown level.
    pub fn asked(query: &str) -> Result<MetricsLevel, String> {
        let by = form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == "by");
        match by.as_ref().map(|(_, value)| &**value) {
            None | Some("tenant") => Ok(MetricsLevel::Tenant),
            Some("feed") => Ok(MetricsLevel::Feed),
            Some(other) => Err(other.to_owned()),
        }
    }
}

/// Returns the counts of tenants, under keys without a feed.
fn of_tenants(
    feeds: &BTreeMap<FeedOrSink, Box<FeedCounts>>,
    gone: &BTreeMap<Arc<str>, Box<FeedCounts>>,
) -> BTreeMap<FeedOrSink, Box<FeedCounts>> {
    let mut tenants: BTreeMap<FeedOrSink, Box<FeedCounts>> = BTreeMap::new();
    // The feeds of a tenant follow each other.
    let mut of: Option<(&Arc<str>, Box<FeedCounts>)> = None;
    let key = |tenant: &Arc<str>| (Arc::clone(tenant), "".into());
    for ((tenant, _), counts) in feeds {
        match &mut of {
            Some((last, sum)) if *last == tenant => sum.add(counts),
            _ => {
                let before = of.replace((tenant, counts.clone()));
                tenants.extend(before.map(|(tenant, sum)| (key(tenant), sum)));
            }
        }
    }
    tenants.extend(of.map(|(tenant, sum)| (key(tenant), sum)));
    for ((tenant, _), sum) in &mut tenants {
        if let Some(gone) = gone.get(tenant) {
            sum.add_counters(gone);
        }
    }
    tenants
}

impl Counters {
    /// Stops counting a feed; its tenant keeps what was counted while it has another feed.
    fn remove(&mut self, tenant: &str, feed: &str) {
        if let Some(counts) = self.feeds.remove(&(tenant.into(), feed.into())) {
            self.gone.entry(tenant.into()).or_default().add_counters(&counts);
        }
        if !has_feed(&self.feeds, &tenant.into()) {
            self.gone.remove(tenant);
        }
    }

    fn forget_tenants(&mut self) {
        let Counters { feeds, gone, .. } = self;
        gone.retain(|tenant, _| has_feed(feeds, tenant));
    }
}

/// Says whether a feed of a tenant is counted.
fn has_feed(feeds: &BTreeMap<FeedOrSink, Box<FeedCounts>>, tenant: &Arc<str>) -> bool {
    let first = feeds.range((Arc::clone(tenant), Arc::from(""))..).next();
    first.is_some_and(|((first, _), _)| first == tenant)
}

/// Counts of one tenant's events at one sink.
#[derive(Debug, Clone, Copy, Default)]
pub struct SinkCounts {
    /// Events that the sink took.
    pub delivered: u64,
    /// Batches that the sink did not take.
    pub failures: u64,
    /// Events that the sink refused permanently.
    pub dead_letters: u64,
    /// When the sink last took events, in Unix milliseconds.
    pub last_delivered: Option<u64>,
}

impl FeedCounts {
    /// Adds the counts of another feed of the tenant. Times are those that need somebody first.
    fn add(&mut self, other: &FeedCounts) {
        self.add_counters(other);
        self.failing.add_all(&other.failing);
        self.memory_bytes = self.memory_bytes.max(other.memory_bytes);
        // A feed that was never collected comes before every time.
        self.last_collected = self.last_collected.min(other.last_collected);
        self.lateness_milliseconds = self.lateness_milliseconds.max(other.lateness_milliseconds);
        self.token_expires = [self.token_expires, other.token_expires].into_iter().flatten().min();
        let mut ends = std::mem::take(&mut self.credentials_expire).into_vec();
        for (setting, end) in &other.credentials_expire {
            match ends.iter_mut().find(|(known, _)| known == setting) {
                Some((_, first)) => *first = (*first).min(*end),
                None => ends.push((setting.clone(), *end)),
            }
        }
        self.credentials_expire = ends.into();
        self.score.merge(other.score);
        self.scopes += other.scopes;
        self.state_bytes += other.state_bytes;
    }

    /// Adds those counts of another feed that only rise.
    fn add_counters(&mut self, other: &FeedCounts) {
        self.polls.add_all(&other.polls);
        self.searches.add_all(&other.searches);
        self.requests.add_all(&other.requests);
        self.events += other.events;
        self.response_bytes += other.response_bytes;
        self.throttles = self.throttles.saturating_add(other.throttles);
        self.busy_nanoseconds += other.busy_nanoseconds;
        for (code, count) in &other.notices {
            self.noticed(code, *count);
        }
        self.dead_letters = self.dead_letters.saturating_add(other.dead_letters);
        self.log_lines_dropped += other.log_lines_dropped;
    }

    /// Counts warnings of one code, or of `other` if there are too many codes.
    fn noticed(&mut self, code: &str, count: u64) {
        let found =
            |notices: &[(Box<str>, u64)], code: &str| notices.binary_search_by(|(known, _)| (**known).cmp(code));
        let is_known = found(&self.notices, code).is_ok();
        let code = if is_known || self.notices.len() < NOTICE_CODES { code } else { "other" };
        match found(&self.notices, code) {
            Ok(place) => self.notices[place].1 += count,
            Err(place) => {
                let mut notices = std::mem::take(&mut self.notices).into_vec();
                notices.insert(place, (code.into(), count));
                self.notices = notices.into();
            }
        }
    }

    /// Counts a poll and its outcome.
    pub fn polled(&mut self, outcome: Option<&Failure>, events: usize, notices: &[Notice]) {
        self.polls.add(OutcomeLabel::of(outcome) as usize, 1);
        self.events += events as u64;
        for notice in notices {
            // The plugin chooses the code, which becomes a label.
            let plain =
                notice.code.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
            self.noticed(if plain && notice.code.len() <= 64 { &notice.code } else { "other" }, 1);
        }
    }

    /// Counts a search and its outcome.
    pub fn searched(&mut self, failure: Option<&Failure>) {
        self.searches.add(OutcomeLabel::of(failure) as usize, 1);
    }

    /// Counts the resources that calls used.
    pub fn used(&mut self, usage: &Usage) {
        for (class, more) in usage.requests.into_iter().enumerate() {
            self.requests.add(class, u32::try_from(more).unwrap_or(u32::MAX));
        }
        self.response_bytes += usage.response_bytes;
        self.throttles = self.throttles.saturating_add(u32::try_from(usage.throttles).unwrap_or(u32::MAX));
        self.busy_nanoseconds += u64::try_from(usage.cpu.as_nanos()).unwrap_or(u64::MAX);
        self.memory_bytes = self.memory_bytes.max(usage.memory_bytes);
        self.token_expires = usage.token_expires.and_then(NonZeroU64::new).or(self.token_expires);
    }
}

impl Metrics {
    /// Counts these feeds from now on, each with its tenant, its id and its sinks, and forgets others. Their counts
    /// exist at once, as zeros: an alert misses a count that appears with its first event.
    pub fn configure<'a, N: Into<Arc<str>>>(&self, feeds: impl Iterator<Item = (N, N, &'a [String])>) {
        let mut inner = self.inner.lock();
        let (mut counts, mut sink_counts) = (std::mem::take(&mut inner.feeds), std::mem::take(&mut inner.sinks));
        let mut configured = Vec::new();
        for (tenant, feed, sinks) in feeds {
            let key: FeedOrSink = (tenant.into(), feed.into());
            for sink in sinks {
                let key: FeedOrSink = (sink.as_str().into(), Arc::clone(&key.0));
                if let Some(known) = sink_counts.remove(&key) {
                    inner.sinks.insert(key, known);
                } else {
                    inner.sinks.entry(key).or_default();
                }
            }
            let known = counts.remove(&key);
            configured.push((key, known.unwrap_or_default()));
        }
        // A map that is made of all entries at once has full nodes.
        inner.feeds = configured.into_iter().collect();
        for ((tenant, _), counts) in counts {
            inner.gone.entry(tenant).or_default().add_counters(&counts);
        }
        inner.forget_tenants();
    }

    /// Counts one more feed from now on, in place of the one `before`.
    pub fn take_up<N: Into<Arc<str>>>(
        &self,
        before: Option<(&str, &str, &[String])>,
        (tenant, feed, sinks): (N, N, &[String]),
    ) {
        let mut inner = self.inner.lock();
        let key: FeedOrSink = (tenant.into(), feed.into());
        if let Some((tenant, feed, _)) = before.filter(|before| *before.0 != *key.0) {
            inner.remove(tenant, feed);
        }
        for sink in sinks {
            inner.sinks.entry((sink.as_str().into(), Arc::clone(&key.0))).or_default();
        }
        inner.feeds.entry(key).or_default();
    }

    /// Stops counting a feed.
    pub fn forget(&self, tenant: &str, feed: &str) {
        self.inner.lock().remove(tenant, feed);
    }

    /// Counts the collectors that share the store, and the shards that this one holds.
    pub fn share(&self, fleet: &Fleet, held: usize) {
        let rows = summary(fleet);
        let alive = rows.iter().filter(|row| row.is_alive);
        let configurations: BTreeSet<_> =
            alive.clone().filter_map(|row| row.seen.member.told_configuration()).collect();
        let taken: usize = alive.clone().map(|row| row.shards).sum();
        let alive = alive.count();
        self.inner.lock().fleet = Some(FleetCounts {
            alive: alive as u64,
            silent: (rows.len() - alive) as u64,
            configurations: configurations.len() as u64,
            free: fleet.shards.len().saturating_sub(taken) as u64,
            held: held as u64,
        });
    }

    /// Sets the number of feeds that are still being checked.
    pub fn waiting(&self, feeds: usize) {
        self.inner.lock().waiting = feeds as u64;
    }

    /// Changes the counts of a feed, if it is configured: a poll may end after its feed is gone.
    pub fn feed(&self, tenant: &str, feed: &str, change: impl FnOnce(&mut FeedCounts)) {
        if let Some(counts) = self.inner.lock().feeds.get_mut(&(tenant.into(), feed.into())) {
            change(counts);
        }
    }

    /// Changes the counts of a tenant's events at a sink. The counts are published if a feed of the tenant uses the
    /// sink.
    pub fn sink(&self, sink: &str, tenant: &str, change: impl FnOnce(&mut SinkCounts)) {
        let mut inner = self.inner.lock();
        let mut others = SinkCounts::default();
        let counts = inner.sinks.get_mut(&(sink.into(), tenant.into())).unwrap_or(&mut others);
        let before = counts.delivered;
        change(counts);
        let more = counts.delivered - before;
        inner.delivered += more;
    }

    /// The counts of each sink over all tenants, each with an empty outbox to be filled.
    pub fn sinks(&self) -> BTreeMap<String, (SinkCounts, Waiting)> {
        let mut sinks: BTreeMap<String, (SinkCounts, Waiting)> = BTreeMap::new();
        for ((sink, _), counts) in &self.inner.lock().sinks {
            let sum = match sinks.get_mut(&**sink) {
                Some((sum, _)) => sum,
                None => &mut sinks.entry(sink.to_string()).or_default().0,
            };
            sum.delivered += counts.delivered;
            sum.failures += counts.failures;
            sum.dead_letters += counts.dead_letters;
            sum.last_delivered = sum.last_delivered.max(counts.last_delivered);
        }
        sinks
    }

    /// Number of events that sinks took since the start, including those of feeds that are gone.
    pub fn delivered(&self) -> u64 {
        self.inner.lock().delivered
    }

    /// Counts a poll that began this long after it was due.
    pub fn late(&self, tenant: &str, feed: &str, lateness: Duration) {
        let whole = u32::try_from(milliseconds(lateness)).unwrap_or(u32::MAX);
        self.feed(tenant, feed, |counts| counts.lateness_milliseconds = whole);
        let mut inner = self.inner.lock();
        let bucket = LATENESS.iter().position(|bound| lateness.as_secs_f64() <= *bound);
        inner.lateness[bucket.unwrap_or(LATENESS.len())] += 1;
        inner.lateness_sum += lateness;
    }

    /// Sets the feeds that are left out: tenant, id and reason.
    pub fn left_out(&self, feeds: impl IntoIterator<Item = (String, String, &'static str)>) {
        self.inner.lock().left_out = feeds.into_iter().collect();
    }

    /// Adds feeds to those that are left out.
    pub fn leave_out(&self, feeds: impl IntoIterator<Item = (String, String, &'static str)>) {
        self.inner.lock().left_out.extend(feeds);
    }

    /// Makes metrics that include a store's free space.
    pub fn of(space: FreeSpace) -> Metrics {
        Metrics { space: Some(space), ..Metrics::default() }
    }

    /// Counts a failed write to the store.
    pub fn store_failed(&self) {
        self.inner.lock().store_failures += 1;
    }

    /// Counts a reload of the configuration.
    pub fn reloaded(&self, good: bool) {
        self.inner.lock().reloads[usize::from(good)] += 1;
    }

    /// Takes all metrics at this moment, with the outboxes.
    pub fn scrape(&self, outboxes: Outboxes, level: MetricsLevel) -> Scrape {
        let free = self.space.as_ref().and_then(FreeSpace::free);
        let inner = self.inner.lock();
        let mut failing_feeds = [0; Blame::ALL.len()];
        for blame in inner.feeds.values().filter_map(|counts| counts.search_fault) {
            failing_feeds[blame as usize] += 1;
        }
        let feeds = match level {
            MetricsLevel::Feed => inner.feeds.clone(),
            MetricsLevel::Tenant => of_tenants(&inner.feeds, &inner.gone),
        };
        let counters = Counters {
            feeds,
            sinks: inner.sinks.clone(),
            left_out: inner.left_out.clone(),
            gone: BTreeMap::new(),
            ..*inner
        };
        let feeds = inner.feeds.len() as u64;
        Scrape { inner: counters, feeds, failing_feeds, outboxes, free, process: ProcessUsage::now() }
    }

    /// All metrics in the text format of Prometheus.
    pub fn text(&self, outboxes: Outboxes, level: MetricsLevel) -> String {
        let mut text = String::new();
        // Writing to a text does not fail.
        let _ = self.scrape(outboxes, level).write(&mut text);
        text
    }
}

#[cfg(test)]
mod tests {
    use std::fmt;

    use super::*;
    use crate::store::Points;

    /// The number of bytes that were written, and of the longest piece.
    #[derive(Default)]
    struct Pieces {
        all: usize,
        longest: usize,
    }

    impl fmt::Write for Pieces {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            self.all += text.len();
            self.longest = self.longest.max(text.len());
            Ok(())
        }
    }

    #[test]
    fn the_metrics_of_many_feeds_are_written_in_small_pieces() {
        let feeds: Vec<String> = (0..5_000).map(|number| format!("feed-{number}")).collect();
        let metrics = Metrics::default();
        metrics.configure(feeds.iter().map(|feed| ("tenant", feed.as_str(), &[][..])));
        let mut pieces = Pieces::default();
        metrics.scrape(Outboxes::default(), MetricsLevel::Feed).write(&mut pieces).unwrap();
        assert!(pieces.all > 5_000_000, "{} bytes", pieces.all);
        // Some text is gathered before it is written, however many feeds there are.
        assert!(pieces.longest < 8 << 10, "a piece of {} bytes", pieces.longest);
    }

    const SINKS: &[&str] = &["lake"];

    /// Counts one feed of contoso and one of fabrikam, which use one sink.
    fn metrics() -> Metrics {
        let metrics = Metrics::default();
        let sinks: Vec<String> = SINKS.iter().map(|sink| (*sink).to_owned()).collect();
        metrics.configure([("contoso", "prod", &*sinks), ("fabrikam", "main", &*sinks)].into_iter());
        metrics
    }

    fn check(text: &str, lines: &[&str]) {
        for line in lines {
            assert!(text.lines().any(|known| known == *line), "{line} in\n{text}");
        }
    }

    #[test]
    fn a_feed_is_told_by_tenant_and_feed() {
        let metrics = metrics();
        metrics.feed("contoso", "prod", |counts| {
            counts.polled(None, 3, &[]);
            counts.last_collected = NonZeroU64::new(5_000);
            let failure = Failure::new(Reaction::FixScope, "forbidden", String::new());
            counts.polled(Some(&failure), 1, &[Notice { code: "odd".to_owned(), message: String::new() }]);
            counts.used(&Usage { requests: [0, 0, 2, 0, 1, 0], ..Usage::default() });
            counts.token_expires = NonZeroU64::new(65_999);
            counts.credentials_expire = [("client_secret".to_owned(), 1_800_000_000_000)].into();
            counts.failing.add(0, 1);
            counts.state_bytes = 77;
            counts.search_fault = Some(Blame::Operator);
        });
        metrics.late("contoso", "prod", Duration::from_secs(3));
        let key = ("lake".to_owned(), "contoso".to_owned());
        let waiting = vec![(key.clone(), Waiting { events: 2, bytes: 90 })];
        let text = metrics
            .text(Outboxes { waiting, full: vec![key], free: [("lake".to_owned(), 123)].into() }, MetricsLevel::Feed);
        check(
            &text,
            &[
                r#"collector_polls_total{tenant="contoso",feed="prod",outcome="collected"} 1"#,
                r#"collector_polls_total{tenant="contoso",feed="prod",outcome="fix-scope"} 1"#,
                r#"collector_events_total{tenant="contoso",feed="prod"} 4"#,
                r#"collector_requests_total{tenant="contoso",feed="prod",status="4xx"} 1"#,
                r#"collector_last_collected_timestamp_seconds{tenant="contoso",feed="prod"} 5"#,
                r#"collector_token_expiry_timestamp_seconds{tenant="contoso",feed="prod"} 65"#,
                r#"collector_credential_expiry_timestamp_seconds{tenant="contoso",feed="prod",setting="client_secret"} 1800000000"#,
                r#"collector_notices_total{tenant="contoso",feed="prod",code="odd"} 1"#,
                r#"collector_state_bytes{tenant="contoso",feed="prod"} 77"#,
                r#"collector_outbox_events{tenant="contoso"} 2"#,
                r#"collector_sink_outbox_bytes{sink="lake"} 90"#,
                r#"collector_sink_full_outboxes{sink="lake"} 1"#,
                r#"collector_sink_free_bytes{sink="lake"} 123"#,
                r#"collector_lateness_seconds_bucket{le="2"} 0"#,
                r#"collector_lateness_seconds_bucket{le="5"} 1"#,
                r#"collector_lateness_seconds_bucket{le="+Inf"} 1"#,
                "collector_lateness_seconds_sum 3.0",
                r#"collector_failing_scopes{fault="tenant"} 1"#,
                r#"collector_failing_feeds{fault="operator"} 1"#,
            ],
        );
    }

    #[test]
    fn what_never_happened_is_there_with_a_zero() {
        let metrics = metrics();
        let mut lines = vec![
            r#"collector_events_total{tenant="fabrikam",feed="main"} 0"#.to_owned(),
            r#"collector_last_collected_timestamp_seconds{tenant="fabrikam",feed="main"} 0"#.to_owned(),
            r#"collector_token_expiry_timestamp_seconds{tenant="fabrikam",feed="main"} 0"#.to_owned(),
            r#"collector_outbox_events{tenant="fabrikam"} 0"#.to_owned(),
            r#"collector_sink_outbox_events{sink="lake"} 0"#.to_owned(),
            r#"collector_sink_full_outboxes{sink="lake"} 0"#.to_owned(),
            r#"collector_sink_delivered_events_total{sink="lake",tenant="fabrikam"} 0"#.to_owned(),
            r#"collector_sink_failures_total{sink="lake",tenant="fabrikam"} 0"#.to_owned(),
            r#"collector_sink_dead_letters_total{sink="lake",tenant="fabrikam"} 0"#.to_owned(),
            r#"collector_sink_last_delivery_timestamp_seconds{sink="lake",tenant="fabrikam"} 0"#.to_owned(),
            "collector_feeds_left_out 0".to_owned(),
            "collector_store_failures_total 0".to_owned(),
        ];
        for outcome in OutcomeLabel::ALL.map(OutcomeLabel::word) {
            lines.push(format!(r#"collector_polls_total{{tenant="fabrikam",feed="main",outcome="{outcome}"}} 0"#));
        }
        for status in StatusClass::ALL.map(StatusClass::word) {
            lines.push(format!(r#"collector_requests_total{{tenant="fabrikam",feed="main",status="{status}"}} 0"#));
        }
        for blame in Blame::ALL {
            lines.push(format!(r#"collector_failing_scopes{{fault="{blame}"}} 0"#));
        }
        check(
            &metrics.text(Outboxes::default(), MetricsLevel::Feed),
            &lines.iter().map(String::as_str).collect::<Vec<_>>(),
        );
    }

    #[test]
    fn what_is_not_configured_any_more_is_not_told_of_and_does_not_come_back() {
        let metrics = metrics();
        metrics.sink("lake", "contoso", |counts| counts.delivered = 7);
        metrics.feed("contoso", "prod", |counts| counts.events = 7);
        let siem = ["siem".to_owned()];
        metrics.configure([("contoso", "prod", &siem[..])].into_iter());
        // Work that was in flight ends.
        metrics.sink("lake", "contoso", |counts| counts.delivered += 1);
        metrics.feed("fabrikam", "main", |counts| counts.events += 1);
        let text = metrics.text(Outboxes::default(), MetricsLevel::Feed);
        check(
            &text,
            &[
                r#"collector_events_total{tenant="contoso",feed="prod"} 7"#,
                r#"collector_sink_delivered_events_total{sink="siem",tenant="contoso"} 0"#,
            ],
        );
        assert!(!text.contains("fabrikam") && !text.contains("lake"), "{text}");
    }

    #[test]
    fn a_feed_that_is_left_out_is_told_of_by_name_and_reason() {
        let metrics = metrics();
        metrics.left_out([("contoso".to_owned(), "test".to_owned(), "credential-unreadable")]);
        let line = r#"collector_feed_left_out{tenant="contoso",feed="test",reason="credential-unreadable"} 1"#;
        check(&metrics.text(Outboxes::default(), MetricsLevel::Feed), &["collector_feeds_left_out 1", line]);
        metrics.leave_out([("contoso".to_owned(), "late".to_owned(), "plugin-unusable")]);
        check(&metrics.text(Outboxes::default(), MetricsLevel::Feed), &["collector_feeds_left_out 2", line]);
        metrics.left_out([]);
        assert!(!metrics.text(Outboxes::default(), MetricsLevel::Feed).contains("credential-unreadable"));
    }

    #[test]
    fn labels_are_escaped() {
        let metrics = Metrics::default();
        metrics.configure([("a\"b\\c\nd", "feed", &[][..])].into_iter());
        check(
            &metrics.text(Outboxes::default(), MetricsLevel::Feed),
            &[r#"collector_events_total{tenant="a\"b\\c\nd",feed="feed"} 0"#],
        );
    }

    #[test]
    fn what_runs_is_told_of() {
        let text = metrics().text(Outboxes::default(), MetricsLevel::Feed);
        let line = text.lines().find(|line| line.starts_with("collector_build_info{")).unwrap();
        assert!(
            line.ends_with("} 1") && line.contains(&format!("version=\"{}\"", env!("CARGO_PKG_VERSION"))),
            "{line}"
        );
        assert!(line.contains("commit=\"") && line.contains(crate::built_in::SHA256), "{line}");
        let process = |name: &str| text.lines().any(|line| line.starts_with(name));
        assert!(process("process_cpu_seconds_total ") && process("process_start_time_seconds "), "{text}");
    }

    #[test]
    fn a_tenant_has_the_sums_of_its_feeds_and_the_times_that_need_somebody_first() {
        let metrics = Metrics::default();
        metrics.configure([("a", "one", &[][..]), ("a", "two", &[]), ("ab", "one", &[])].into_iter());
        for (tenant, feed, events, collected, end) in
            [("a", "one", 3, Some(9_000), 7_000), ("a", "two", 4, Some(5_000), 6_000), ("ab", "one", 5, None, 8_000)]
        {
            metrics.feed(tenant, feed, |counts| {
                counts.polled(None, events, &[Notice { code: "odd".to_owned(), message: String::new() }]);
                counts.last_collected = collected.and_then(NonZeroU64::new);
                if collected.is_some() {
                    counts.score.add(Points { value: events as f64, maximum: 10.0, weight: 10.0 });
                }
                counts.credentials_expire = [("client_secret".to_owned(), end)].into();
                counts.search_fault = Some(Blame::Tenant);
            });
        }
        let text = metrics.text(Outboxes::default(), MetricsLevel::Tenant);
        check(
            &text,
            &[
                r#"collector_polls_total{tenant="a",outcome="collected"} 2"#,
                r#"collector_events_total{tenant="a"} 7"#,
                r#"collector_events_total{tenant="ab"} 5"#,
                r#"collector_last_collected_timestamp_seconds{tenant="a"} 5"#,
                r#"collector_last_collected_timestamp_seconds{tenant="ab"} 0"#,
                r#"collector_score_percent{tenant="a"} 35.0"#,
                r#"collector_credential_expiry_timestamp_seconds{tenant="a",setting="client_secret"} 6"#,
                r#"collector_notices_total{tenant="a",code="odd"} 2"#,
                r#"collector_failing_feeds{fault="tenant"} 3"#,
                "collector_feeds 3",
            ],
        );
        assert!(!text.contains("feed=\""), "{text}");
        assert!(!text.contains("collector_score_percent{tenant=\"ab\"}"), "a tenant without data has no score: {text}");
        // A removed feed must not make a count of its tenant fall: Prometheus would take that for a restart.
        metrics.forget("a", "one");
        metrics.configure([("a", "two", &[][..])].into_iter());
        let told = || metrics.text(Outboxes::default(), MetricsLevel::Tenant);
        check(&told(), &[r#"collector_events_total{tenant="a"} 7"#, "collector_feeds 1"]);
        assert!(!told().contains("tenant=\"ab\""));
        // The counts of one tenant go with its last feed, and those of others stay.
        metrics.take_up(None, ("ab", "one", &[]));
        metrics.forget("ab", "one");
        check(&told(), &[r#"collector_events_total{tenant="a"} 7"#]);
        metrics.forget("a", "two");
        metrics.configure([("a", "one", &[][..])].into_iter());
        check(&told(), &[r#"collector_events_total{tenant="a"} 0"#]);
        assert_eq!(MetricsLevel::asked("a=b&by=feed"), Ok(MetricsLevel::Feed));
        assert_eq!(MetricsLevel::asked(""), Ok(MetricsLevel::Tenant));
        assert_eq!(MetricsLevel::asked("by=scope"), Err("scope".to_owned()));
    }
}
