//! `redeliver`: puts delivered events that a sink keeps back into the outbox.

use std::collections::BTreeSet;
use std::io::{self, Write};

use anyhow::Context;
use host_harness::config::{self, Config, StateConfig};
#[cfg(feature = "nats")]
use host_harness::sink::SinkKind;
use host_harness::store::postgres::PostgresStore;
use host_harness::store::sqlite::SqliteStore;
use host_harness::store::{DeliveredCount, DeliveredQuery, Store, StoreResult};
use serde_json::json;
use source_host::limits::milliseconds;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{PROGRESS, STDOUT, UsageError, problems_of};

/// Number of names that a message lists.
const LISTED: usize = 10;

/// The chosen sink and events, as the user wrote them.
pub struct RedeliverOptions {
    /// Id of the sink.
    pub sink: String,
    /// Begin of the deliveries.
    pub since: String,
    /// End of the deliveries.
    pub until: Option<String>,
    /// Id of the tenant.
    pub tenant: Option<String>,
    /// Id of the feed.
    pub feed: Option<String>,
}

/// Puts events back, or with `dry_run` counts them alone. Returns the exit status.
pub async fn redeliver(
    config: &Config,
    choice: RedeliverOptions,
    dry_run: bool,
    json: bool,
    now: u64,
) -> anyhow::Result<u8> {
    if problems_of(config) {
        return Ok(2);
    }
    let query = query(config, choice, now)?;
    let Some(mut store) = DeliveredStore::open(&config.collector.state).await? else {
        say!("there is nothing to deliver again: there is no state in {}", config.collector.state);
        return Ok(1);
    };
    let counts = store.count(&query).await?;
    let (events, bytes) =
        counts.iter().fold((0, 0), |(events, bytes), count| (events + count.events, bytes + count.bytes));
    let (mut done, mut last) = (0, 0);
    // An event is in one of the two places, whenever the command ends.
    while !dry_run && done < events {
        let _doing = PROGRESS.begin(format!("{done} of {events} events are back in the outbox"));
        let Some((more, number)) = store.redeliver(&query, last).await? else { break };
        (done, last) = (done + more as u64, number);
    }
    store.close().await?;
    if !dry_run && done < events {
        anyhow::bail!("only {done} of {events} events are back in the outbox: the others are kept no more");
    }
    let text = match json {
        true => object(&query, &counts, dry_run) + "\n",
        false => shown(&query, &counts, dry_run),
    };
    let written = io::stdout().write_all(text.as_bytes()).context(STDOUT);
    // The events are back, whoever reads the numbers.
    if events == 0 {
        say!("{}", nothing(config, &query));
    } else if !dry_run {
        let window = window(config, &query.sink);
        say!("{events} events of {bytes} bytes wait for the sink {}: the next `run` delivers them{window}", query.sink);
    }
    written.map(|()| u8::from(events == 0))
}

/// A store with delivered events, which no collector uses.
enum DeliveredStore {
    File(SqliteStore),
    Server(PostgresStore),
}

impl DeliveredStore {
    /// Opens a store; `None` if there is no state.
    async fn open(state: &StateConfig) -> anyhow::Result<Option<DeliveredStore>> {
        let alone = "`redeliver` needs the state for itself: stop `run`, and start it again afterwards";
        Ok(match state {
            StateConfig::File(file) if !file.exists() => None,
            StateConfig::File(file) => Some(DeliveredStore::File(SqliteStore::open(file).context(alone)?)),
            StateConfig::Server(address) => {
                let store = PostgresStore::open((**address).clone()).await?;
                store.unused().await.context(alone)?;
                Some(DeliveredStore::Server(store))
            }
        })
    }

    async fn count(&mut self, query: &DeliveredQuery) -> StoreResult<Vec<DeliveredCount>> {
        match self {
            DeliveredStore::File(store) => store.count_delivered(query),
            DeliveredStore::Server(store) => store.count_delivered(query).await,
        }
    }

    async fn redeliver(&mut self, query: &DeliveredQuery, after: i64) -> StoreResult<Option<(usize, i64)>> {
        match self {
            DeliveredStore::File(store) => store.redeliver(query, after),
            DeliveredStore::Server(store) => store.redeliver(query, after).await,
        }
    }

    async fn close(&mut self) -> StoreResult<()> {
        match self {
            DeliveredStore::File(store) => store.close(),
            DeliveredStore::Server(store) => store.close().await,
        }
    }
}

fn query(config: &Config, choice: RedeliverOptions, now: u64) -> Result<DeliveredQuery, UsageError> {
    let RedeliverOptions { sink, since, until, tenant, feed } = choice;
    if !config.sinks.iter().any(|known| known.id == sink) {
        let known: Vec<&str> = config.sinks.iter().map(|known| known.id.as_str()).collect();
        return Err(UsageError(format!("--sink: found no sink {sink:?}, expected one of: {}", known.join(", "))));
    }
    let (since, until) = span(&since, until.as_deref(), now)?;
    Ok(DeliveredQuery { sink, since, until, tenant, feed })
}

/// Reads the begin and the end of the deliveries.
fn span(since: &str, until: Option<&str>, now: u64) -> Result<(u64, u64), UsageError> {
    let begin = moment("--since", since, now)?;
    if begin > now {
        return Err(UsageError(format!("--since: found {since:?}, which is to come, expected a time that has passed")));
    }
    let Some(until) = until else { return Ok((begin, u64::MAX >> 1)) };
    let end = moment("--until", until, now)?;
    if end <= begin {
        let message = format!("--until: found {until:?}, expected a time after that of --since, {since:?}");
        return Err(UsageError(message));
    }
    Ok((begin, end))
}

/// Says why there are no events to deliver again. Events of a tenant may be kept that the configuration has no more.
fn nothing(config: &Config, query: &DeliveredQuery) -> String {
    let unknown = |option: &str, chosen: &Option<String>, known: BTreeSet<&str>| {
        let chosen = chosen.as_deref().filter(|chosen| !known.contains(chosen))?;
        let listed: Vec<&str> = known.iter().copied().take(LISTED).collect();
        let more = if known.len() > LISTED { ", …" } else { "" };
        Some(format!("; {option}: the configuration has no {chosen:?}, only: {}{more}", listed.join(", ")))
    };
    let tenants = config.feeds.iter().map(|feed| feed.tenant.as_str()).collect();
    let feeds = config.feeds.iter().map(|feed| feed.id.as_str()).collect();
    let names: String = [unknown("--tenant", &query.tenant, tenants), unknown("--feed", &query.feed, feeds)]
        .into_iter()
        .flatten()
        .collect();
    let keeps = config.sinks.iter().any(|sink| sink.id == query.sink && sink.keep_delivered.is_some());
    match (names.as_str(), keeps) {
        ("", true) => "the state keeps no such events: the sink delivered none of them in that time".to_owned(),
        ("", false) => format!("the state keeps no such events: the sink {} has no `keep_delivered`", query.sink),
        _ => format!("the state keeps no such events{names}"),
    }
}

/// Says how long a stream drops repeats, if the sink publishes to one.
fn window(config: &Config, sink: &str) -> String {
    #[cfg(feature = "nats")]
    if let Some(SinkKind::Nats(nats)) = config.sinks.iter().find(|known| known.id == sink).map(|known| &known.kind) {
        let window = nats.stream.made.as_ref().and_then(|settings| settings.duplicate_window);
        let window = window.map(|window| format!(" of {} s", window.as_secs())).unwrap_or_default();
        return format!(
            "; the stream {} drops ids that it had within its duplicate_window{window}, also those of events that it lost: \
             start `run` when that has passed since their delivery",
            nats.stream.name
        );
    }
    let _ = (config, sink);
    String::new()
}

/// Reads a time, or the duration that lies between it and now.
fn moment(option: &str, text: &str, now: u64) -> Result<u64, UsageError> {
    if let Some(span) = config::duration(text) {
        return Ok(now.saturating_sub(milliseconds(span)));
    }
    let time = OffsetDateTime::parse(text, &Rfc3339).ok();
    let time = time.and_then(|time| u64::try_from(time.unix_timestamp_nanos() / 1_000_000).ok());
    time.ok_or_else(|| {
        UsageError(format!(
            "{option}: found {text:?}, expected a duration such as 2h, or a time such as 2026-11-28T06:00:00Z"
        ))
    })
}

fn shown(query: &DeliveredQuery, counts: &[DeliveredCount], dry_run: bool) -> String {
    let fate = if dry_run { "would be delivered again" } else { "are delivered again" };
    let line = |count: &DeliveredCount| {
        let DeliveredCount { tenant, feed, events, .. } = count;
        format!("{} · {tenant} · {feed}: {events} events {fate}\n", query.sink)
    };
    counts.iter().map(line).collect()
}

fn object(query: &DeliveredQuery, counts: &[DeliveredCount], dry_run: bool) -> String {
    let feeds: Vec<_> = counts
        .iter()
        .map(
            |count| json!({ "tenant": count.tenant, "feed": count.feed, "events": count.events, "bytes": count.bytes }),
        )
        .collect();
    let events: u64 = counts.iter().map(|count| count.events).sum();
    json!({ "sink": query.sink, "events": events, "dry_run": dry_run, "feeds": feeds }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_duration_ago_or_a_time() {
        let moment = |text| moment("--since", text, 10_000_000).map_err(|error| error.0);
        assert_eq!(moment("2h"), Ok(2_800_000));
        assert_eq!(moment("1970-01-01T00:00:01Z"), Ok(1_000));
        assert_eq!(moment("1970-01-01T01:00:01.5+01:00"), Ok(1_500));
        assert!(moment("yesterday").unwrap_err().starts_with("--since: found \"yesterday\", expected a duration"));
    }

    #[test]
    fn a_span_without_a_moment_is_refused() {
        let span = |since, until| span(since, until, 10_000_000).map_err(|error| error.0);
        assert_eq!(span("2h", Some("1h")), Ok((2_800_000, 6_400_000)));
        assert_eq!(span("2h", None).unwrap().0, 2_800_000);
        for (since, until, expected) in [
            ("1h", Some("2h"), "--until: found \"2h\", expected a time after that of --since, \"1h\""),
            ("1h", Some("1h"), "--until: found \"1h\""),
            ("1970-01-01T03:00:00Z", None, "--since: found \"1970-01-01T03:00:00Z\", which is to come"),
        ] {
            let error = span(since, until).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
