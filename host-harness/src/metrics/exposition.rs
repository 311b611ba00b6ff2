//! The metrics in the format of Prometheus: names, types and help texts of all families. The encoder of
//! `prometheus-client` writes them, escapes labels, and adds `_total` to counters.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::num::NonZeroU64;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, prometheus_text};
use prometheus_client::metrics::MetricType::{self, Counter, Gauge};
use prometheus_client::registry::Registry;
use source_host::blame::Blame;
use source_host::feed::StatusClass;

use super::{Counters, FeedCounts, FeedOrSink, LATENESS, OutcomeLabel, SinkCounts};
use crate::built_in;
use crate::metrics::process::ProcessUsage;
use crate::store::Outboxes;
use crate::store::Waiting;

/// The content type of `/metrics`.
pub use prometheus_client::encoding::prometheus_text::CONTENT_TYPE;

/// All metrics at one moment.
#[derive(Debug)]
pub struct Scrape {
    pub(super) inner: Counters,
    /// The number of feeds.
    pub(super) feeds: u64,
    /// The number of feeds whose scopes cannot be searched for, by who can mend it.
    pub(super) failing_feeds: [u64; Blame::ALL.len()],
    pub(super) outboxes: Outboxes,
    pub(super) free: Option<u64>,
    pub(super) process: ProcessUsage,
}

impl Scrape {
    /// Writes the metrics piece by piece.
    pub fn write(self, mut output: &mut dyn Write) -> fmt::Result {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(self));
        prometheus_text::encode(&mut output, &registry)
    }
}

/// A value of a counter or a gauge.
enum Value {
    Whole(u64),
    Real(f64),
}

/// Converts Unix milliseconds to Unix seconds; 0 for never.
fn timestamp(milliseconds: Option<u64>) -> Value {
    Value::Whole(milliseconds.unwrap_or_default() / 1_000)
}

/// Name, type, help text and value of a metric with one value for each feed.
type OfFeed = (&'static str, MetricType, &'static str, fn(&FeedCounts) -> Value);

const OF_FEED: &[OfFeed] = &[
    ("collector_events", Counter, "Events that polls gave.", |counts| Value::Whole(counts.events)),
    ("collector_response_bytes", Counter, "Bytes of the service's answers.", |counts| {
        Value::Whole(counts.response_bytes)
    }),
    ("collector_throttles", Counter, "Answers that asked to wait.", |counts| Value::Whole(counts.throttles.into())),
    ("collector_guest_cpu_seconds", Counter, "Processor time of the plugin's calls, without waiting.", |counts| {
        Value::Real(Duration::from_nanos(counts.busy_nanoseconds).as_secs_f64())
    }),
    ("collector_dead_letters", Counter, "Events that a sink refused for good.", |counts| {
        Value::Whole(counts.dead_letters.into())
    }),
    (
        "collector_log_lines_dropped",
        Counter,
        "Lines with words of the plugin that were not logged, because they exceeded the limit of a call or max_log_bytes_per_minute.",
        |counts| Value::Whole(counts.log_lines_dropped),
    ),
    ("collector_scopes", Gauge, "Scopes that are polled.", |counts| Value::Whole(counts.scopes.into())),
    (
        "collector_state_bytes",
        Gauge,
        "Bytes that the state keeps of the feed's scopes, their states and figures; see max_state_bytes_per_feed.",
        |counts| Value::Whole(counts.state_bytes),
    ),
    ("collector_guest_memory_peak_bytes", Gauge, "The largest memory that one call of the plugin used.", |counts| {
        Value::Whole(counts.memory_bytes)
    }),
    (
        "collector_last_collected_timestamp_seconds",
        Gauge,
        "When data was last collected, of the scope for which that is longest ago; 0 if a scope was never collected.",
        |counts| timestamp(counts.last_collected.map(NonZeroU64::get)),
    ),
    ("collector_last_lateness_seconds", Gauge, "How late the last poll began.", |counts| {
        Value::Real(f64::from(counts.lateness_milliseconds) / 1e3)
    }),
    (
        "collector_token_expiry_timestamp_seconds",
        Gauge,
        "When the token expires; 0 before the first token.",
        |counts| timestamp(counts.token_expires.map(NonZeroU64::get)),
    ),
];

/// Name, type, help text and value of a metric with one value for each tenant at each sink.
type OfSink = (&'static str, MetricType, &'static str, fn(&SinkCounts) -> Value);

const OF_SINK: &[OfSink] = &[
    ("collector_sink_delivered_events", Counter, "Events that a sink took.", |counts| Value::Whole(counts.delivered)),
    (
        "collector_sink_failures",
        Counter,
        "Batches that a sink did not take: sent again later, halved, or refused for good.",
        |counts| Value::Whole(counts.failures),
    ),
    ("collector_sink_dead_letters", Counter, "Events that a sink refused for good.", |counts| {
        Value::Whole(counts.dead_letters)
    }),
    (
        "collector_sink_last_delivery_timestamp_seconds",
        Gauge,
        "When a sink last took events; 0 if it took none since the start.",
        |counts| timestamp(counts.last_delivered),
    ),
];

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut writer = MetricWriter { encoder };
        self.feeds(&mut writer)?;
        self.outboxes(&mut writer)?;
        self.sinks(&mut writer)?;
        self.collector(&mut writer)?;
        self.process(&mut writer)
    }
}

impl Scrape {
    fn feeds(&self, writer: &mut MetricWriter<'_>) -> fmt::Result {
        let outcomes = OutcomeLabel::ALL.map(OutcomeLabel::word);
        let help = "Polls of scopes, by outcome.";
        self.by_word(writer, "collector_polls", help, "outcome", &outcomes, |counts| counts.polls.all())?;
        let help = "Searches for scopes, by outcome.";
        self.by_word(writer, "collector_searches", help, "outcome", &outcomes, |counts| counts.searches.all())?;
        let help = "Requests to the service, by class of status; `none` counts those without an answer.";
        self.by_word(
            writer,
            "collector_requests",
            help,
            "status",
            &StatusClass::ALL.map(StatusClass::word),
            |counts| counts.requests.all(),
        )?;
        for (name, kind, help, value) in OF_FEED {
            let mut family = writer.family(name, *kind, help)?;
            for (key, counts) in &self.inner.feeds {
                family.sample_of(key, None, value(counts))?;
            }
        }
        let help =
            "When a credential expires, by the configuration or its certificate; absent if neither has the date.";
        let mut family = writer.family("collector_credential_expiry_timestamp_seconds", Gauge, help)?;
        for (key, counts) in &self.inner.feeds {
            for (setting, time) in &counts.credentials_expire {
                family.sample_of(key, Some(("setting", setting)), timestamp(Some(*time)))?;
            }
        }
        let help =
            "The average score of the scopes, weighted as Microsoft weights subscriptions; absent without a score.";
        let mut family = writer.family("collector_score_percent", Gauge, help)?;
        for (key, counts) in &self.inner.feeds {
            if let Some(percent) = counts.score.percent() {
                family.sample_of(key, None, Value::Real(percent))?;
            }
        }
        let mut family =
            writer.family("collector_notices", Counter, "Warnings of plugins that changed no data, by code.")?;
        for (key, counts) in &self.inner.feeds {
            for (code, count) in &counts.notices {
                family.sample_of(key, Some(("code", code)), Value::Whole(*count))?;
            }
        }
        Ok(())
    }

    /// Writes a family with a sample for each word, including those that never occurred: an alert needs a value that
    /// can rise.
    fn by_word<const N: usize>(
        &self,
        writer: &mut MetricWriter<'_>,
        name: &str,
        help: &str,
        label: &str,
        words: &[&str; N],
        values: impl Fn(&FeedCounts) -> [u32; N],
    ) -> fmt::Result {
        let mut family = writer.family(name, Counter, help)?;
        for (key, counts) in &self.inner.feeds {
            for (word, value) in words.iter().zip(values(counts)) {
                family.sample_of(key, Some((label, word)), Value::Whole(u64::from(value)))?;
            }
        }
        Ok(())
    }

    /// Writes the outboxes of every configured tenant and sink, even if they are empty.
    fn outboxes(&self, writer: &mut MetricWriter<'_>) -> fmt::Result {
        let mut tenants: BTreeMap<&str, Waiting> = BTreeMap::new();
        let mut sinks: BTreeMap<&str, Waiting> = BTreeMap::new();
        tenants.extend(self.inner.feeds.keys().map(|(tenant, _)| (&**tenant, Waiting::default())));
        sinks.extend(self.inner.sinks.keys().map(|(sink, _)| (&**sink, Waiting::default())));
        for ((sink, tenant), Waiting { events, bytes }) in &self.outboxes.waiting {
            for sum in [tenants.entry(tenant).or_default(), sinks.entry(sink).or_default()] {
                *sum = Waiting { events: sum.events + events, bytes: sum.bytes + bytes };
            }
        }
        for (label, prefix, whose, sums) in [
            ("tenant", "collector_outbox", "for the sinks of a tenant", &tenants),
            ("sink", "collector_sink_outbox", "for a sink", &sinks),
        ] {
            let name = format!("{prefix}_events");
            let mut family = writer.family(&name, Gauge, &format!("Events that wait {whose}."))?;
            for (key, waiting) in sums {
                family.sample(&[(label, key)], Value::Whole(waiting.events))?;
            }
            let name = format!("{prefix}_bytes");
            let mut family = writer.family(&name, Gauge, &format!("Bytes of events that wait {whose}."))?;
            for (key, waiting) in sums {
                family.sample(&[(label, key)], Value::Whole(waiting.bytes))?;
            }
        }
        Ok(())
    }

    fn sinks(&self, writer: &mut MetricWriter<'_>) -> fmt::Result {
        for (name, kind, help, value) in OF_SINK {
            let mut family = writer.family(name, *kind, help)?;
            for ((sink, tenant), counts) in &self.inner.sinks {
                family.sample(&[("sink", sink), ("tenant", tenant)], value(counts))?;
            }
        }
        let mut full: BTreeMap<&str, u64> = self.inner.sinks.keys().map(|(sink, _)| (&**sink, 0)).collect();
        for (sink, _) in &self.outboxes.full {
            *full.entry(sink).or_default() += 1;
        }
        let help = "Tenants whose outbox of a sink is full, so that their feeds pause.";
        let mut family = writer.family("collector_sink_full_outboxes", Gauge, help)?;
        for (sink, tenants) in full {
            family.sample(&[("sink", sink)], Value::Whole(tenants))?;
        }
        let help = "Free bytes on the disk of the file that a sink last wrote, at that time; see min_free_bytes.";
        let mut family = writer.family("collector_sink_free_bytes", Gauge, help)?;
        for (sink, free) in &self.outboxes.free {
            family.sample(&[("sink", sink)], Value::Whole(*free))?;
        }
        Ok(())
    }

    fn collector(&self, writer: &mut MetricWriter<'_>) -> fmt::Result {
        let Counters { feeds, lateness, lateness_sum, store_failures, left_out, waiting, reloads, .. } = &self.inner;
        let mut failing_scopes = [0_u64; Blame::ALL.len()];
        for counts in feeds.values() {
            failing_scopes.iter_mut().zip(counts.failing.all()).for_each(|(sum, more)| *sum += u64::from(more));
        }
        for (name, help, failing) in [
            (
                "collector_failing_scopes",
                "Scopes whose last poll failed, or that a search no longer finds and `collector_scopes` does not count, by who can mend it.",
                failing_scopes,
            ),
            (
                "collector_failing_feeds",
                "Feeds whose scopes cannot be searched for, by who can mend it.",
                self.failing_feeds,
            ),
        ] {
            let mut family = writer.family(name, Gauge, help)?;
            for (blame, count) in Blame::ALL.into_iter().zip(failing) {
                family.sample(&[("fault", blame.word())], Value::Whole(count))?;
            }
        }
        writer.single("collector_feeds", Gauge, "Feeds that are collected.", Value::Whole(self.feeds))?;
        let help = "Feeds that are not collected, because their credentials cannot be read, their plugin crashes or refuses their settings late, or it differs from its pins.";
        writer.single("collector_feeds_left_out", Gauge, help, Value::Whole(left_out.len() as u64))?;
        let help = "Feeds that are still being checked: their plugin is compiled, or asked about their settings.";
        writer.single("collector_feeds_being_checked", Gauge, help, Value::Whole(*waiting))?;
        let mut family =
            writer.family("collector_feed_left_out", Gauge, "1 for each feed that is left out, by reason.")?;
        for (tenant, feed, reason) in left_out {
            family.sample(&[("tenant", tenant), ("feed", feed), ("reason", reason)], Value::Whole(1))?;
        }
        let counts: u64 = lateness.iter().sum();
        let bounds = LATENESS.iter().copied().chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.zip(lateness.iter().copied()).collect();
        let mut family = writer.family("collector_lateness_seconds", MetricType::Histogram, "How late polls began.")?;
        family.encoder.encode_histogram::<NoLabelSet>(lateness_sum.as_secs_f64(), counts, &buckets, None)?;
        let help = "Writes that the store did not take.";
        writer.single("collector_store_failures", Counter, help, Value::Whole(*store_failures))?;
        let help = "Bytes that the state may still take on its disk, as of the last poll; see min_free_bytes.";
        let mut family = writer.family("collector_state_free_bytes", Gauge, help)?;
        if let Some(free) = self.free {
            family.sample(&[], Value::Whole(free))?;
        }
        if let Some(fleet) = &self.inner.fleet {
            let rows = [
                ("collector_fleet_collectors", "Living collectors that share the store.", fleet.alive),
                (
                    "collector_fleet_silent_collectors",
                    "Collectors that ended without a word within a day.",
                    fleet.silent,
                ),
                (
                    "collector_fleet_configurations",
                    "Different configurations of living collectors; more than 1 means that they differ.",
                    fleet.configurations,
                ),
                ("collector_fleet_free_shards", "Shards of the store that no living collector holds.", fleet.free),
                ("collector_shards", "Shards of the store that this collector holds.", fleet.held),
            ];
            for (name, help, count) in rows {
                writer.single(name, Gauge, help, Value::Whole(count))?;
            }
        }
        let help = "Configurations that were read again, by whether they were good.";
        let mut family = writer.family("collector_reloads", Counter, help)?;
        for (good, count) in ["false", "true"].into_iter().zip(reloads) {
            family.sample(&[("good", good)], Value::Whole(*count))?;
        }
        let help = "Version and commit of the collector, and digest of the built-in plugin.";
        let mut family = writer.family("collector_build", MetricType::Info, help)?;
        let version = env!("CARGO_PKG_VERSION");
        family.encoder.encode_info(&[
            ("version", version),
            ("commit", crate::COMMIT),
            ("plugin_sha256", built_in::SHA256),
        ])
    }

    fn process(&self, writer: &mut MetricWriter<'_>) -> fmt::Result {
        let ProcessUsage { cpu_seconds, open_fds, max_fds, virtual_bytes, resident_bytes, started } = &self.process;
        let help = "Processor time of the program, and of the system on its behalf.";
        let rows = [
            ("process_cpu_seconds", Counter, help, cpu_seconds.map(Value::Real)),
            ("process_open_fds", Gauge, "File descriptors that are open.", open_fds.map(Value::Whole)),
            ("process_max_fds", Gauge, "File descriptors that may be open.", max_fds.map(Value::Whole)),
            ("process_virtual_memory_bytes", Gauge, "Address space.", virtual_bytes.map(Value::Whole)),
            ("process_resident_memory_bytes", Gauge, "Resident memory.", resident_bytes.map(Value::Whole)),
            (
                "process_start_time_seconds",
                Gauge,
                "When the process started, in Unix seconds.",
                started.map(Value::Real),
            ),
        ];
        for (name, kind, help, value) in rows {
            if let Some(value) = value {
                writer.single(name, kind, help, value)?;
            }
        }
        Ok(())
    }
}

/// Writes families, one after the other.
struct MetricWriter<'a> {
    encoder: DescriptorEncoder<'a>,
}

impl MetricWriter<'_> {
    fn family<'s>(&'s mut self, name: &'s str, kind: MetricType, help: &str) -> Result<Family<'s>, fmt::Error> {
        Ok(Family { encoder: self.encoder.encode_descriptor(name, help, None, kind)?, kind })
    }

    fn single(&mut self, name: &str, kind: MetricType, help: &str, value: Value) -> fmt::Result {
        self.family(name, kind, help)?.sample(&[], value)
    }
}

/// Writes the samples of one family.
struct Family<'a> {
    encoder: MetricEncoder<'a>,
    kind: MetricType,
}

impl Family<'_> {
    /// Writes a sample of a feed, or of a tenant, which has no feed in its key; with one more label, if one is given.
    fn sample_of(&mut self, (tenant, feed): &FeedOrSink, more: Option<(&str, &str)>, value: Value) -> fmt::Result {
        let feed = (!feed.is_empty()).then_some(("feed", &**feed));
        let labels: Vec<(&str, &str)> = [("tenant", &**tenant)].into_iter().chain(feed).chain(more).collect();
        self.sample(&labels, value)
    }

    fn sample(&mut self, labels: &[(&str, &str)], value: Value) -> fmt::Result {
        let mut sample = self.encoder.encode_family(&labels)?;
        match (self.kind, value) {
            (Counter, Value::Whole(value)) => sample.encode_counter::<NoLabelSet, _, u64>(&value, None),
            (Counter, Value::Real(value)) => sample.encode_counter::<NoLabelSet, _, u64>(&value, None),
            (_, Value::Whole(value)) => sample.encode_gauge(&value),
            (_, Value::Real(value)) => sample.encode_gauge(&value),
        }
    }
}
