//! The sinks as the store and the disk tell of them: events that wait, full outboxes, dead letters. The reason why a sink
//! takes no events is only in the log and on the page of a collector that runs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use host_harness::config::Config;
use host_harness::limits;
use host_harness::run::page::words::{self, moment};
use host_harness::store::{Backlog, Waiting};
use serde_json::{Value, json};
use source_host::limits::milliseconds;
use source_host::text;

/// A sink with its outboxes, one for each tenant.
#[derive(Debug, Default, PartialEq)]
pub struct StoredSink {
    id: String,
    /// The outboxes that are not empty, by tenant.
    outboxes: BTreeMap<String, Outbox>,
    /// The limits and files of the sink; `None` if it is not configured.
    configured: Option<Configured>,
}

/// The events of one tenant, or of all, that wait for one sink.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Outbox {
    waiting: Waiting,
    /// Time of the oldest event; `None` if there is no event.
    oldest: Option<u64>,
}

#[derive(Debug, PartialEq)]
struct Configured {
    /// The size from which an outbox is full.
    max_outbox_bytes: u64,
    dead_letters: PathBuf,
    dead_letter_bytes: u64,
}

impl Outbox {
    fn add(&mut self, other: Outbox) {
        self.waiting.events += other.waiting.events;
        self.waiting.bytes += other.waiting.bytes;
        self.oldest = self.oldest.into_iter().chain(other.oldest).min();
    }

    /// Says how much waits, and since when.
    fn words(&self) -> String {
        let since = self.oldest.map(|oldest| format!(", the oldest since {}", moment(oldest)));
        format!("{} wait{}", words::waiting(self.waiting), since.unwrap_or_default())
    }
}

/// Returns the sinks with the events of all tenants, or those that one tenant's feeds use, with its events.
pub fn sinks(config: &Config, backlog: Vec<Backlog>, only: Option<&str>) -> Vec<StoredSink> {
    let of_only = |sink: &str| {
        let mut feeds = config.feeds.iter().filter(|feed| only.is_none_or(|only| feed.tenant == only));
        only.is_none() || feeds.any(|feed| feed.sinks.iter().any(|known| known == sink))
    };
    let configured = config.sinks.iter().map(|sink| {
        let dead_letter_bytes = std::fs::metadata(&sink.dead_letters).map_or(0, |file| file.len());
        let (max_outbox_bytes, dead_letters) = (sink.max_outbox_bytes, sink.dead_letters.clone());
        (sink.id.clone(), Configured { max_outbox_bytes, dead_letters, dead_letter_bytes })
    });
    let mut configured: BTreeMap<String, Configured> = configured.collect();
    let backlog: Vec<Backlog> =
        backlog.into_iter().filter(|backlog| only.is_none_or(|only| backlog.tenant == only)).collect();
    let of_config = config.sinks.iter().map(|sink| &sink.id).filter(|sink| of_only(sink));
    let ids: BTreeSet<&String> = of_config.chain(backlog.iter().map(|backlog| &backlog.sink)).collect();
    let mut sinks: BTreeMap<&String, StoredSink> = BTreeMap::new();
    for id in ids {
        let configured = configured.remove(id);
        sinks.insert(id, StoredSink { id: id.clone(), outboxes: BTreeMap::new(), configured });
    }
    for Backlog { sink, tenant, events, bytes, oldest, .. } in &backlog {
        let outboxes = sinks.get_mut(sink).map(|sink| sink.outboxes.entry(tenant.clone()).or_default());
        let waiting = Waiting { events: *events, bytes: *bytes };
        outboxes.into_iter().for_each(|outbox| outbox.add(Outbox { waiting, oldest: Some(*oldest) }));
    }
    sinks.into_values().collect()
}

impl StoredSink {
    fn all(&self) -> Outbox {
        self.outboxes.values().fold(Outbox::default(), |mut sum, outbox| {
            sum.add(*outbox);
            sum
        })
    }

    /// The tenants whose outbox is full.
    fn full(&self) -> impl Iterator<Item = (&str, &Outbox)> {
        let most = self.configured.as_ref().map_or(u64::MAX, |configured| configured.max_outbox_bytes);
        self.outboxes
            .iter()
            .filter(move |(_, outbox)| outbox.waiting.bytes >= most)
            .map(|(tenant, outbox)| (tenant.as_str(), outbox))
    }

    /// Says whether events wait for longer than a sink needs that takes them.
    fn is_late(&self, now: u64) -> bool {
        let late = milliseconds(limits::LATE_DELIVERY);
        self.all().oldest.is_some_and(|oldest| now.saturating_sub(oldest) > late)
    }

    /// The file of dead letters and its size, if there are any.
    fn dead_letters(&self) -> Option<(&Path, u64)> {
        let Configured { dead_letters, dead_letter_bytes, .. } = self.configured.as_ref()?;
        (*dead_letter_bytes > 0).then_some((dead_letters, *dead_letter_bytes))
    }

    /// Returns what a person should look at, a line for each.
    pub fn problems(&self, now: u64) -> Vec<String> {
        let sink = text::plain(&self.id);
        let all = self.all();
        let mut lines = Vec::new();
        if self.configured.is_none() {
            return vec![format!("sink {sink}: not configured: {}; {}", all.words(), words::NOT_CONFIGURED)];
        }
        for (tenant, outbox) in self.full().take(limits::STATUS_ROWS) {
            let (tenant, waiting) = (text::plain(tenant), outbox.words());
            lines.push(format!("sink {sink} · {tenant}: outbox full: {waiting}; {}", words::OUTBOX_FULL));
        }
        let more = self.full().count().saturating_sub(limits::STATUS_ROWS);
        if more > 0 {
            lines.push(format!("sink {sink}: … and {more} more full outboxes"));
        }
        if self.is_late(now) {
            let waiting = all.words();
            lines.push(format!("sink {sink}: does not take events: {waiting}; the log of the collector says why"));
        }
        if let Some((file, bytes)) = self.dead_letters() {
            lines
                .push(format!("sink {sink}: dead letters in {} ({bytes} bytes)", text::plain(&file.to_string_lossy())));
        }
        lines
    }

    /// Says in one line how much waits, and how much may.
    pub fn summary(&self) -> String {
        let most = self
            .configured
            .as_ref()
            .map(|configured| format!("; a tenant's outbox is full from {}", words::size(configured.max_outbox_bytes)));
        format!("sink {}: {}{}", text::plain(&self.id), self.all().words(), most.unwrap_or_default())
    }

    /// The sink for programs.
    pub fn object(&self, now: u64) -> Value {
        let all = self.all();
        let most = self.configured.as_ref().map(|configured| configured.max_outbox_bytes);
        let outbox = |(tenant, Outbox { waiting, oldest }): (&String, &Outbox)| {
            json!({
                "tenant": tenant, "waiting_events": waiting.events, "waiting_bytes": waiting.bytes,
                "oldest": oldest.map(moment), "full": most.is_some_and(|most| waiting.bytes >= most),
            })
        };
        json!({
            "sink": self.id, "configured": self.configured.is_some(), "late": self.is_late(now),
            "waiting_events": all.waiting.events, "waiting_bytes": all.waiting.bytes, "oldest": all.oldest.map(moment),
            "max_outbox_bytes": most, "outboxes": self.outboxes.iter().map(outbox).collect::<Vec<_>>(),
            "dead_letter_bytes": self.configured.as_ref().map_or(0, |configured| configured.dead_letter_bytes),
            "dead_letters": self.configured.as_ref().map(|configured| configured.dead_letters.display().to_string()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_790_000_000_000;

    fn sink(outboxes: &[(&str, u64, u64)], max_outbox_bytes: Option<u64>) -> StoredSink {
        let outbox = |(tenant, bytes, age): &(&str, u64, u64)| {
            let waiting = Waiting { events: 2, bytes: *bytes };
            ((*tenant).to_owned(), Outbox { waiting, oldest: Some(NOW - age * 1_000) })
        };
        let configured = max_outbox_bytes.map(|max_outbox_bytes| Configured {
            max_outbox_bytes,
            dead_letters: "dead.ndjson".into(),
            dead_letter_bytes: 7,
        });
        StoredSink { id: "siem".to_owned(), outboxes: outboxes.iter().map(outbox).collect(), configured }
    }

    #[test]
    fn full_outboxes_and_old_events_and_dead_letters_need_a_person() {
        let full = sink(&[("a", 99, 5), ("b", 100, 10)], Some(100));
        let dead = "sink siem: dead letters in dead.ndjson (7 bytes)";
        assert_eq!(
            full.problems(NOW),
            [
                "sink siem · b: outbox full: 2 events, 100 bytes wait, the oldest since 2026-09-21T14:13:10Z; the \
                 tenant's feeds that go there pause",
                dead
            ]
        );
        assert_eq!(
            full.summary(),
            "sink siem: 4 events, 199 bytes wait, the oldest since 2026-09-21T14:13:10Z; a tenant's outbox is full from 100 bytes"
        );
        let object = full.object(NOW);
        assert_eq!((&object["outboxes"][0]["full"], &object["outboxes"][1]["full"]), (&false.into(), &true.into()));
        assert_eq!((&object["late"], &object["oldest"]), (&false.into(), &"2026-09-21T14:13:10Z".into()));
        let late = limits::LATE_DELIVERY.as_secs();
        assert_eq!(sink(&[("a", 9, late)], Some(100)).problems(NOW), [dead]);
        let problems = sink(&[("a", 9, late + 1)], Some(100)).problems(NOW);
        assert!(problems[0].starts_with("sink siem: does not take events: 2 events, 9 bytes wait, "), "{problems:?}");
    }

    #[test]
    fn events_of_a_sink_that_is_not_configured_stay() {
        let problems = sink(&[("a", 9, 1)], None).problems(NOW);
        assert!(problems[0].starts_with("sink siem: not configured: 2 events, 9 bytes wait, "), "{problems:?}");
        assert!(problems[0].ends_with("the events stay until a sink of this name is configured again"), "{problems:?}");
        assert_eq!(
            sink(&[], Some(1)).summary(),
            "sink siem: 0 events, 0 bytes wait; a tenant's outbox is full from 1 byte"
        );
    }
}
