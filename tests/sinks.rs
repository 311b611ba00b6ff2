//! Delivery to sinks, and the fate of events if a sink is down, refuses them, or is replaced meanwhile.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use host_harness::limits;
use host_harness::metrics::MetricsLevel;
use host_harness::sink::disk::RealDisk;
use host_harness::sink::http::HttpWriter;
use host_harness::sink::{HttpConfig, Preset, SinkConfig, SinkKind, Writer};
use host_harness::store::shards::Lease;
use host_harness::store::{Partition, Queued};
use serde_json::Value;
use source_host::credentials::secret::Secret;
use source_host::network::proxy::Proxy;
use tokio::sync::Semaphore;

use crate::support::deliveries::{
    Collector, NETWORK, SmallDisk, TOKEN, bodies, file, http, posting, sink, store, template,
};
use crate::support::flaky::Flaky;
use crate::support::receiver::{Post, Receiver, Reply, status};
use crate::support::{PATIENCE, noon};

// Delivery over HTTP.

#[tokio::test]
async fn batches_arrive_compressed_in_the_order_of_their_commits() {
    let receiver = Receiver::that_accepts().await;
    let collector = Collector::new(&[http("siem", &receiver.url)]);
    let all = bodies("one", 0..1_200);
    for part in all.chunks(400) {
        collector.poll(&["siem"], part).await;
    }
    collector.delivered().await;
    assert_eq!(receiver.lines(), all);
    let came = receiver.came();
    assert!(came.iter().all(|post| post.headers["content-encoding"] == "gzip"));
    assert!(came.iter().all(|post| post.headers["content-type"] == "application/x-ndjson"));
    assert!(came.iter().all(|post| post.lines().len() <= limits::BATCH_EVENTS));
    assert!(came.iter().all(|post| post.body.ends_with("}\n")));
}

/// Checks the body of one event's delivery, and its authorization.
async fn check_preset(preset: Preset, authorization: &str, body: &str) {
    let receiver = Receiver::that_accepts().await;
    let config = HttpConfig { gzip: false, ..posting(&receiver.url, preset) };
    let collector = Collector::new(&[sink("siem", SinkKind::Http(config))]);
    collector.poll(&["siem"], &bodies("one", 0..1)).await;
    collector.delivered().await;
    let post = &receiver.came()[0];
    assert_eq!(post.headers["authorization"], authorization);
    assert_eq!(post.headers.get("content-encoding"), None);
    assert_eq!(post.body, body);
}

#[tokio::test]
async fn vector_gets_lines_and_a_bearer() {
    check_preset(Preset::Vector, "Bearer a-token-of-tests", "{\"uid\":\"one-0\",\"scope\":\"one\"}\n").await;
}

#[tokio::test]
async fn fluent_bit_gets_an_array_and_a_bearer() {
    check_preset(Preset::FluentBit, "Bearer a-token-of-tests", r#"[{"uid":"one-0","scope":"one"}]"#).await;
}

#[tokio::test]
async fn splunk_gets_envelopes_under_its_own_scheme() {
    let body = "{\"time\":1.500,\"event\":{\"uid\":\"one-0\",\"scope\":\"one\"}}\n";
    check_preset(Preset::SplunkHec, "Splunk a-token-of-tests", body).await;
}

#[tokio::test]
async fn splunk_gets_index_sourcetype_and_source_of_each_tenant() {
    let receiver = Receiver::that_accepts().await;
    let member = |name, text| (name, template(text));
    let envelope = vec![member("index", "sec-{tenant}"), member("sourcetype", "ocsf"), member("source", "a \"b\"")];
    let config = HttpConfig { gzip: false, envelope, ..posting(&receiver.url, Preset::SplunkHec) };
    let collector = Collector::new(&[sink("siem", SinkKind::Http(config))]);
    for tenant in ["contoso", "fabrikam"] {
        collector.poll_of(tenant, tenant, &["siem"], &bodies(tenant, 0..1)).await;
    }
    collector.delivered().await;
    let mut came: Vec<String> = receiver.came().into_iter().map(|post| post.body).collect();
    came.sort();
    let expected = |tenant: &str| {
        format!(
            "{{\"time\":1.500,\"index\":\"sec-{tenant}\",\"sourcetype\":\"ocsf\",\"source\":\"a \\\"b\\\"\",\
             \"event\":{{\"uid\":\"{tenant}-0\",\"scope\":\"{tenant}\"}}}}\n"
        )
    };
    assert_eq!(came, [expected("contoso"), expected("fabrikam")], "each tenant has a batch of its own");
}

#[tokio::test]
async fn tenants_and_feeds_that_are_told_apart_arrive_apart() {
    let receiver = Receiver::that_accepts().await;
    let mut config = posting(&format!("{}/{{tenant}}?feed={{feed}}", receiver.url), Preset::Vector);
    config.headers = vec![(::http::HeaderName::from_static("x-scope-orgid"), template("{tenant}-{feed}"))];
    let collector = Collector::new(&[sink("siem", SinkKind::Http(config))]);
    let feeds =
        [("contoso", "prod", "a"), ("contoso", "test", "b"), ("fabrikam", "main", "c"), ("fabrikam", "prod", "d")];
    for (tenant, feed, scope) in feeds {
        collector.poll_of(tenant, feed, &["siem"], &bodies(scope, 0..3)).await;
    }
    collector.delivered().await;
    for (tenant, feed, scope) in feeds {
        let path = format!("/{tenant}?feed={feed}");
        let came = receiver.came();
        let posts: Vec<&Post> = came.iter().filter(|post| post.path == path).collect();
        let lines: Vec<String> = posts.iter().flat_map(|post| post.lines()).collect();
        assert_eq!(lines, bodies(scope, 0..3), "{path}");
        assert!(posts.iter().all(|post| post.headers["x-scope-orgid"] == format!("{tenant}-{feed}")));
    }
}

#[tokio::test]
async fn a_feed_that_was_given_to_another_tenant_keeps_their_events_apart() {
    let before = Collector::new(&[]);
    before.committed("contoso", "prod", &["lake"], &bodies("a", 0..3)).await;
    before.committed("fabrikam", "prod", &["lake"], &bodies("b", 0..3)).await;
    let collector = before.restarted(&[file("{tenant}/{feed}.ndjson", 1 << 20)]);
    collector.deliveries.resume().await.unwrap();
    collector.delivered().await;
    assert_eq!(collector.read("contoso/prod.ndjson").lines().collect::<Vec<_>>(), bodies("a", 0..3));
    assert_eq!(collector.read("fabrikam/prod.ndjson").lines().collect::<Vec<_>>(), bodies("b", 0..3));
}

/// Delivers a hundred events to a receiver that answers so to more than thirty, and returns the sizes of the batches.
async fn batches_for_thirty(answer: u16) -> Vec<usize> {
    let receiver = Receiver::start(move |_, post| status(if post.lines().len() > 30 { answer } else { 200 })).await;
    let collector = Collector::new(&[http("siem", &receiver.url)]);
    let all = bodies("one", 0..100);
    collector.poll(&["siem"], &all).await;
    collector.delivered().await;
    assert_eq!(receiver.lines(), all);
    assert!(!collector.folder.path().join("dead.ndjson").exists());
    receiver.came().iter().map(|post| post.lines().len()).collect()
}

#[tokio::test]
async fn a_batch_that_is_too_large_is_halved_until_it_fits() {
    let sizes = batches_for_thirty(413).await;
    assert_eq!(sizes, [100, 50, 25, 26, 27, 22], "what fits is remembered, and a little more is tried each time");
}

#[tokio::test]
async fn an_event_that_is_too_large_by_itself_is_a_dead_letter_and_slows_no_other() {
    let receiver = Receiver::start(|_, post| status(if post.body.contains("\"one-40\"") { 413 } else { 200 })).await;
    let collector = Collector::new(&[http("siem", &receiver.url)]);
    let mut all = bodies("one", 0..400);
    collector.poll(&["siem"], &all).await;
    collector.delivered().await;
    let refused = all.remove(40);
    assert_eq!(receiver.lines(), all);
    let letters = collector.dead_letters();
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0]["event"], serde_json::from_str::<Value>(&refused).unwrap());
    assert!(letters[0]["reason"].as_str().unwrap().contains("413"), "{}", letters[0]);
    let posts = receiver.came().len();
    assert!(posts < 40, "{posts} posts for 400 events");
}

#[tokio::test]
async fn an_event_that_is_refused_is_found_and_buried_and_the_others_arrive_in_order() {
    let receiver = Receiver::start(|_, post| match post.body.contains("\"one-77\"") {
        true => Reply::Status(400, format!("line 78 is odd, {TOKEN}")),
        false => status(200),
    })
    .await;
    let collector = Collector::new(&[http("siem", &receiver.url)]);
    let mut all = bodies("one", 0..200);
    collector.poll(&["siem"], &all).await;
    collector.delivered().await;
    let refused = all.remove(77);
    assert_eq!(receiver.lines(), all);
    let [letter] = &collector.dead_letters()[..] else { panic!("one dead letter") };
    for (name, value) in
        [("sink", "siem"), ("tenant", "contoso"), ("feed", "prod"), ("scope", "one"), ("uid", "one-77")]
    {
        assert_eq!(letter[name], value);
    }
    assert_eq!(letter["event"], serde_json::from_str::<Value>(&refused).unwrap());
    let reason = letter["reason"].as_str().unwrap();
    assert!(reason.ends_with("answered 400 Bad Request: line 78 is odd, [redacted]"), "{reason}");
    let metrics = collector.metrics.text(collector.deliveries.outboxes(), MetricsLevel::Feed);
    for line in [
        "collector_dead_letters_total{tenant=\"contoso\",feed=\"prod\"} 1\n",
        "collector_sink_dead_letters_total{sink=\"siem\",tenant=\"contoso\"} 1\n",
        "collector_sink_delivered_events_total{sink=\"siem\",tenant=\"contoso\"} 199\n",
        "collector_sink_last_delivery_timestamp_seconds{sink=\"siem\",tenant=\"contoso\"} 1790000000\n",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
    assert!(!metrics.contains("collector_sink_failures_total{sink=\"siem\",tenant=\"contoso\"} 0\n"), "{metrics}");
}

#[tokio::test]
async fn events_that_are_all_refused_hold_nothing_up() {
    let receiver = Receiver::start(|_, _| status(422)).await;
    let collector = Collector::new(&[http("siem", &receiver.url)]);
    collector.poll(&["siem"], &bodies("one", 0..20)).await;
    collector.delivered().await;
    let uids: Vec<Value> = collector.dead_letters().into_iter().map(|letter| letter["uid"].clone()).collect();
    assert_eq!(uids, (0..20).map(|number| format!("one-{number}")).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_sink_that_is_busy_or_cut_off_gets_the_same_events_again_and_holds_no_other_up() {
    let receiver = Receiver::start(|number, _| match number {
        0 => Reply::RetryAfter(503, "2"),
        2 => Reply::Cut,
        _ => status(200),
    })
    .await;
    let other = Receiver::that_accepts().await;
    let collector = Collector::new(&[http("siem", &receiver.url), http("other", &other.url)]);
    let all = bodies("one", 0..900);
    let begun = Instant::now();
    collector.poll(&["siem", "other"], &all).await;
    other.until(2).await;
    assert_eq!(receiver.came().len(), 1, "the other sink did not wait");
    collector.delivered().await;
    assert_eq!(receiver.lines(), all);
    assert!(begun.elapsed() >= Duration::from_secs(2) + limits::LEAST_DELIVERY_BACKOFF, "what it asks for is obeyed");
    let came = receiver.came();
    assert_eq!(came[0], came[1], "the busy one got the same again");
    assert_eq!(came[2], came[3], "so did the one that was cut off: the uids are the same");
    assert!(!collector.folder.path().join("dead.ndjson").exists());
}

#[tokio::test]
async fn many_tenants_of_a_silent_sink_hold_no_other_sink_up() {
    let gate = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&gate);
    let silent = Receiver::start(move |_, _| Reply::Held(Arc::clone(&held))).await;
    let collector = Collector::new(&[http("siem", &format!("{}/{{tenant}}", silent.url)), file("all.ndjson", 1 << 20)]);
    let tenants: Vec<String> = (0..2 * limits::DELIVERIES).map(|number| format!("tenant-{number}")).collect();
    for tenant in &tenants {
        collector.poll_of(tenant, tenant, &["siem"], &bodies(tenant, 0..1)).await;
    }
    silent.until(limits::DELIVERIES).await;
    collector.poll(&["lake"], &bodies("one", 0..1)).await;
    let path = collector.folder.path().join("all.ndjson");
    let written = async {
        while fs::read_to_string(&path).unwrap_or_default().is_empty() {
            collector.deliveries.moved().await;
        }
    };
    tokio::time::timeout(PATIENCE, written).await.expect("the file is written while the other sink is silent");
    assert_eq!(silent.came().len(), limits::DELIVERIES, "a sink's deliveries at the same time are limited");
    gate.add_permits(tenants.len());
    collector.delivered().await;
}

#[tokio::test]
async fn tenants_whose_receiver_does_not_answer_take_no_place_from_the_others_of_the_sink() {
    let gate = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&gate);
    let tenants: Vec<String> = (0..2 * limits::DELIVERIES).map(|number| format!("tenant-{number}")).collect();
    let first = tenants.len();
    let receiver = Receiver::start(move |number, post| match post.path.contains("good") {
        true => status(200),
        false if number < 2 * first => status(503),
        false => Reply::Held(Arc::clone(&held)),
    })
    .await;
    let collector = Collector::new(&[http("siem", &format!("{}/{{tenant}}", receiver.url))]);
    for tenant in &tenants {
        collector.poll_of(tenant, tenant, &["siem"], &bodies(tenant, 0..1)).await;
    }
    // All are tried again within this time.
    receiver.until(2 * first + limits::RETRIED_DELIVERIES).await;
    tokio::time::sleep(2 * limits::LEAST_DELIVERY_BACKOFF).await;
    collector.poll_of("good", "good", &["siem"], &bodies("good", 0..1)).await;
    let came = async {
        while receiver.lines() != bodies("good", 0..1) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, came).await.expect("the event of another tenant comes");
    gate.add_permits(tenants.len());
    collector.delivered().await;
}

#[tokio::test]
async fn a_receiver_that_has_too_little_time_for_a_batch_gets_smaller_ones() {
    let sizes = batches_for_thirty(504).await;
    assert_eq!(sizes, [100, 50, 25, 26, 27, 22], "the receiver does not get too much again after each success");
}

#[tokio::test]
async fn an_outbox_is_full_at_its_quota_for_the_tenant_that_filled_it_and_not_after_delivery() {
    let gate = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&gate);
    let receiver = Receiver::start(move |_, _| Reply::Held(Arc::clone(&held))).await;
    let all = bodies("one", 0..10);
    let bytes: usize = all.iter().map(String::len).sum();
    let sinks = |quota: usize| {
        let siem = SinkConfig { max_outbox_bytes: quota as u64, ..http("siem", &receiver.url) };
        [siem, http("other", &receiver.url)]
    };
    let names = ["other".to_owned(), "siem".to_owned()];
    let collector = Collector::new(&sinks(bytes));
    assert_eq!(collector.deliveries.full(&names, "contoso"), None);
    collector.poll(&["siem"], &all).await;
    let (sink, waiting) = collector.deliveries.full(&names, "contoso").unwrap();
    assert_eq!((sink.as_str(), waiting.events, waiting.bytes), ("siem", 10, bytes as u64));
    assert_eq!(collector.deliveries.full(&names[..1], "contoso"), None, "another sink has room");
    assert_eq!(collector.deliveries.full(&names, "fabrikam"), None, "another tenant has room");
    collector.configure(&sinks(bytes + 1));
    assert_eq!(collector.deliveries.full(&names, "contoso"), None, "one byte more is room");
    gate.add_permits(2);
    collector.delivered().await;
    collector.configure(&sinks(bytes));
    assert_eq!(collector.deliveries.full(&names, "contoso"), None);
}

#[tokio::test]
async fn what_is_delivered_before_it_is_told_to_wait_does_not_wait_for_ever() {
    let gate = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&gate);
    let receiver = Receiver::start(move |_, _| Reply::Held(Arc::clone(&held))).await;
    let collector = Collector::new(&[http("siem", &receiver.url)]);
    collector.poll(&["siem"], &bodies("one", 0..3)).await;
    receiver.until(1).await;
    let late = collector.committed("contoso", "prod", &["siem"], &bodies("one", 3..5)).await;
    gate.add_permits(2);
    collector.deliveries.rest().await;
    assert_eq!(receiver.lines(), bodies("one", 0..5));
    collector.deliveries.queued(&late.sinks, "contoso", "prod", &late.events);
    assert_eq!(collector.deliveries.waiting(), []);
}

#[tokio::test]
async fn a_restart_delivers_what_was_left_and_names_what_nobody_takes() {
    let collector = Collector::new(&[]);
    let all = bodies("one", 0..5);
    collector.poll(&["lake", "gone"], &all).await;
    let collector = collector.restarted(&[file("all.ndjson", 1 << 20)]);
    let lost = collector.deliveries.resume().await.unwrap();
    assert_eq!(lost, BTreeMap::from([("gone".to_owned(), 5)]));
    collector.deliveries.rest().await;
    assert_eq!(collector.read("all.ndjson").lines().collect::<Vec<_>>(), all);
    let waiting = collector.deliveries.waiting();
    assert_eq!(
        waiting.iter().map(|((sink, _), waiting)| (sink.as_str(), waiting.events)).collect::<Vec<_>>(),
        [("gone", 5)]
    );
}

#[tokio::test]
async fn a_sink_that_is_configured_again_gets_what_waited_for_it() {
    let collector = Collector::new(&[]);
    collector.deliveries.resume().await.unwrap();
    let all = bodies("one", 0..5);
    collector.poll(&["lake"], &all).await;
    collector.configure(&[file("all.ndjson", 1 << 20)]);
    collector.delivered().await;
    assert_eq!(collector.read("all.ndjson").lines().collect::<Vec<_>>(), all);
}

#[tokio::test]
async fn a_sink_that_is_mended_gets_what_waited_for_it_at_once() {
    let receiver = Receiver::start(|_, _| Reply::RetryAfter(503, "3600")).await;
    let mended = Receiver::that_accepts().await;
    let collector = Collector::new(&[http("siem", &receiver.url)]);
    collector.deliveries.resume().await.unwrap();
    let all = bodies("one", 0..5);
    collector.poll(&["siem"], &all).await;
    receiver.until(1).await;
    // A sink that stays the same is not disturbed.
    collector.configure(&[http("siem", &receiver.url)]);
    collector.configure(&[http("siem", &format!("{}/{{tenant}}", mended.url))]);
    collector.delivered().await;
    assert_eq!(mended.lines(), all);
    assert_eq!(receiver.came().len(), 1);
}

#[tokio::test]
async fn a_batch_that_is_under_way_ends_before_its_sink_leads_elsewhere() {
    let gate = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&gate);
    let before = Receiver::start(move |_, _| Reply::Held(Arc::clone(&held))).await;
    let after = Receiver::that_accepts().await;
    let collector = Collector::new(&[http("siem", &before.url)]);
    collector.deliveries.resume().await.unwrap();
    collector.poll(&["siem"], &bodies("one", 0..3)).await;
    before.until(1).await;
    collector.configure(&[http("siem", &format!("{}/{{feed}}", after.url))]);
    collector.poll(&["siem"], &bodies("one", 3..6)).await;
    assert!(after.came().is_empty());
    gate.add_permits(1);
    collector.delivered().await;
    assert_eq!(before.lines(), bodies("one", 0..3));
    assert_eq!(after.lines(), bodies("one", 3..6));
}

/// Returns the reason why a batch is not taken at an address.
async fn told(url: &str) -> String {
    told_by(&posting(url, Preset::Vector)).await
}

async fn told_by(config: &HttpConfig) -> String {
    let client = host_harness::sink::http::client(NETWORK.tls(), &Proxy::default()).unwrap();
    let partition = Partition { sink: "siem".to_owned(), tenant: None, feed: None };
    let mut writer = HttpWriter::new((client, noon()), config, &partition, "contoso").unwrap();
    let text = |text: &str| text.to_owned();
    let event = Queued {
        lease: Lease::SOLE,
        number: 1,
        tenant: text("contoso"),
        feed: text("prod"),
        scope: text("one"),
        uid: text("one-0"),
        time: 0,
        body: b"{}".to_vec(),
    };
    writer.take(&[event]).await.unwrap_err().to_string()
}

#[tokio::test]
async fn a_reason_names_the_address_and_never_the_token() {
    let receiver = Receiver::start(|_, post| {
        Reply::Status(403, format!("{{\"text\":\n\"no {}\"}}{}", post.headers["authorization"], "x".repeat(9_000)))
    })
    .await;
    let why = told(&format!("{}/events?key={TOKEN}", receiver.url)).await;
    assert!(why.starts_with(&format!("{}/events answered 403 Forbidden: ", receiver.url)), "{why}");
    assert!(why.contains("no Bearer [redacted]") && !why.contains('\n') && why.len() < 400, "{why}");
    drop(receiver);
    let why = told(&format!("http://127.0.0.1:1/events?key={TOKEN}")).await;
    assert!(why.starts_with("http://127.0.0.1:1/events cannot be reached: ") && !why.contains(TOKEN), "{why}");
}

#[tokio::test]
async fn an_address_that_is_a_secret_is_told_without_its_path() {
    let receiver = Receiver::start(|_, post| Reply::Status(404, format!("cannot POST {}", post.path))).await;
    let url = format!("{}/receiver/v1/{TOKEN}?to=lake", receiver.url);
    let why = told_by(&HttpConfig { is_url_secret: true, ..posting(&url, Preset::Vector) }).await;
    assert!(why.starts_with(&format!("{} answered 404 Not Found: cannot POST /[redacted]", receiver.url)), "{why}");
    assert!(!why.contains(TOKEN) && !why.contains("v1"), "{why}");
}

#[tokio::test]
async fn what_a_receiver_says_begins_no_line_turns_none_and_hides_nothing() {
    let says = "no\r\nERROR tenant=other\u{202e}\u{2066}\u{200f}\u{200b}\u{feff}\u{2028}\u{1b}[2J";
    let receiver = Receiver::start(move |_, _| Reply::Status(403, says.to_owned())).await;
    let why = told(&receiver.url).await;
    assert!(why.contains("no  ERROR tenant=other       [2J; fix: "), "{why:?}");
}

#[tokio::test]
async fn what_a_sink_has_is_not_sent_again_because_the_store_is_full() {
    let is_full = Arc::new(AtomicBool::new(false));
    let (writes, breaks) = (Arc::default(), Arc::default());
    let store = Flaky { store: store(), is_full: Arc::clone(&is_full), writes, breaks };
    let receiver = Receiver::that_accepts().await;
    let collector = Collector::with(Arc::new(store), &[http("a", &receiver.url)]);
    let record = collector.committed("contoso", "prod", &["a"], &bodies("one", 0..3)).await;
    is_full.store(true, Ordering::SeqCst);
    collector.deliveries.queued(&record.sinks, "contoso", "prod", &record.events);
    let told = async {
        let is_told = || {
            let mut failing = collector.deliveries.rows().into_iter().filter_map(|row| row.failing);
            failing.any(|failing| failing.trouble.why.contains("the disk is full"))
        };
        while !is_told() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, told).await.expect("it is told");
    is_full.store(false, Ordering::SeqCst);
    collector.delivered().await;
    assert_eq!(receiver.came().len(), 1);
}

#[tokio::test]
async fn a_delivery_that_panics_is_told_and_retried() {
    let breaks = Arc::new(AtomicBool::new(true));
    let (is_full, writes) = (Arc::default(), Arc::default());
    let store = Flaky { store: store(), is_full, writes, breaks: Arc::clone(&breaks) };
    let receiver = Receiver::that_accepts().await;
    let collector = Collector::with(Arc::new(store), &[http("a", &receiver.url)]);
    let record = collector.committed("contoso", "prod", &["a"], &bodies("one", 0..3)).await;
    collector.deliveries.queued(&record.sinks, "contoso", "prod", &record.events);
    collector.deliveries.flushed().await;
    let failing = collector.deliveries.rows().into_iter().find_map(|row| row.failing).expect("the panic is told");
    assert_eq!(failing.trouble.code, "host-failed");
    collector.delivered().await;
    assert_eq!(receiver.lines(), bodies("one", 0..3));
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let receiver = Receiver::start(|_, _| status(307)).await;
    assert!(told(&receiver.url).await.contains("answered 307"));
    assert_eq!(receiver.came().len(), 1);
}

#[tokio::test]
async fn a_token_that_no_header_may_have_is_told_without_it() {
    let client = host_harness::sink::http::client(NETWORK.tls(), &Proxy::default()).unwrap();
    let partition = Partition { sink: "siem".to_owned(), tenant: None, feed: None };
    let config = HttpConfig { token: Some(Secret::new("two\nlines")), ..posting("http://127.0.0.1:1", Preset::Vector) };
    let why = HttpWriter::new((client, noon()), &config, &partition, "contoso").err().unwrap();
    assert_eq!(why.to_string(), "the token has characters that no header may have");
}

// Delivery to files and to standard output.

/// Returns the number of rotated files, and the lines of all files, the oldest first.
fn lines_of(folder: &Path, name: &str) -> (usize, Vec<String>) {
    let aside = (1..).map(|number| folder.join(format!("{name}.{number}"))).take_while(|path| path.exists());
    let files: Vec<_> = aside.chain([folder.join(name)]).collect();
    let text: String = files.iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    (files.len(), text.lines().map(str::to_owned).collect())
}

#[tokio::test]
async fn each_tenant_has_its_file_and_rotation_loses_nothing() {
    let collector = Collector::new(&[file("{tenant}/findings.ndjson", 2_000)]);
    for round in 0..10 {
        for tenant in ["contoso", "fabrikam"] {
            collector.poll_of(tenant, tenant, &["lake"], &bodies(tenant, round * 20..(round + 1) * 20)).await;
            if round % 3 == 0 {
                collector.delivered().await;
            }
        }
    }
    collector.delivered().await;
    for tenant in ["contoso", "fabrikam"] {
        let (files, lines) = lines_of(&collector.folder.path().join(tenant), "findings.ndjson");
        assert!(files > 2, "{files}");
        assert_eq!(lines, bodies(tenant, 0..200));
    }
}

#[tokio::test]
async fn a_file_of_an_earlier_day_is_put_aside_before_the_next_event() {
    let mut lake = file("all.ndjson", 1 << 20);
    let SinkKind::File(config) = &mut lake.kind else { unreachable!() };
    config.rotate_every = Some(Duration::from_secs(86_400));
    let collector = Collector::new(&[lake]);
    // The collector's clock stands still; the file is as old as the test makes it.
    let written_before = |age: u64| {
        let path = collector.folder.path().join("all.ndjson");
        let time = Duration::from_millis(noon()()) - Duration::from_secs(age);
        let file = fs::File::options().append(true).open(path).unwrap();
        file.set_modified(std::time::UNIX_EPOCH + time).unwrap();
    };
    for (poll, age) in [(0, 60), (1, 86_400), (2, 0)] {
        collector.poll(&["lake"], &bodies("one", poll * 3..poll * 3 + 3)).await;
        collector.delivered().await;
        written_before(age);
    }
    let (files, lines) = lines_of(collector.folder.path(), "all.ndjson");
    assert_eq!((files, lines), (2, bodies("one", 0..9)));
    assert_eq!(collector.read("all.ndjson").lines().count(), 3);
}

#[tokio::test]
async fn a_tenant_named_like_a_rotated_file_of_another_keeps_its_file() {
    let tenants = ["acme", "acme.1", "acme.2", "acme.1.1"];
    let mut lake = file("{tenant}", 1_000);
    let SinkKind::File(config) = &mut lake.kind else { unreachable!() };
    config.keep_files = Some(20);
    let collector = Collector::new(&[lake]);
    for round in 0..10 {
        for tenant in tenants {
            collector.poll_of(tenant, tenant, &["lake"], &bodies(tenant, round * 20..(round + 1) * 20)).await;
            collector.delivered().await;
        }
    }
    for tenant in tenants {
        let aside = |number: &usize| collector.folder.path().join(format!("{tenant}.{number}~"));
        let names: Vec<_> = (1..).take_while(|number| aside(number).exists()).map(|number| aside(&number)).collect();
        let files = names.into_iter().chain([collector.folder.path().join(tenant)]);
        let text: String = files.map(|path| fs::read_to_string(path).unwrap()).collect();
        assert!(aside(&1).exists());
        assert_eq!(text.lines().collect::<Vec<_>>(), bodies(tenant, 0..200), "{tenant}");
    }
}

/// Has the tenant `much` fill a nearly full disk through `sink`, and returns the collector, once its other tenant has
/// everything and the first one waits.
async fn on_a_nearly_full_disk(disk: &SmallDisk, sink: SinkConfig) -> Collector {
    let sink = SinkConfig { min_free_bytes: Some(100_000), ..sink };
    let id = sink.id.clone();
    let collector = Collector::on(Arc::new(disk.clone()), store(), &[sink]);
    collector.poll_of("much", "prod", &[&id], &bodies("much", 0..100)).await;
    collector.poll_of("little", "test", &[&id], &bodies("little", 0..2)).await;
    collector.delivered_but(&["much"]).await;
    let [row] = &collector.deliveries.rows()[..] else { panic!("one row") };
    let failing = row.failing.clone().unwrap();
    assert_eq!((row.tenant.as_deref(), failing.trouble.code.as_str()), (Some("much"), "space-low"));
    let why = failing.trouble.why;
    assert!(
        why.contains("more bytes, less than 100000 (min_free_bytes), and the next event of the tenant does not fit"),
        "{why}"
    );
    assert_eq!(collector.deliveries.outboxes().free.keys().collect::<Vec<_>>(), [&id]);
    collector
}

#[tokio::test]
async fn on_a_nearly_full_disk_whoever_wrote_its_share_waits_and_the_others_do_not() {
    for path in ["all.ndjson", "{tenant}.ndjson"] {
        let disk = SmallDisk::default();
        disk.free.store(2_000, Ordering::SeqCst);
        let collector = on_a_nearly_full_disk(&disk, file(path, 1 << 20)).await;
        // Seven lines of 32 bytes fit into an eighth of the 1,808 bytes that six of them leave; an eighth line does not.
        let (much, little) = (bodies("much", 0..7), bodies("little", 0..2));
        match path {
            "all.ndjson" => {
                assert_eq!(collector.read(path).lines().collect::<Vec<_>>(), [&*much, &*little].concat());
            }
            _ => {
                assert_eq!(collector.read("much.ndjson").lines().collect::<Vec<_>>(), much);
                assert_eq!(collector.read("little.ndjson").lines().collect::<Vec<_>>(), little);
            }
        }
        // Later events of the other tenant do not wait either, and with room nothing is missing.
        collector.poll_of("little", "test", &["lake"], &bodies("little", 2..4)).await;
        collector.delivered_but(&["much"]).await;
        disk.free.store(1 << 30, Ordering::SeqCst);
        collector.delivered().await;
        let files = if path == "all.ndjson" { vec!["all.ndjson"] } else { vec!["much.ndjson", "little.ndjson"] };
        let text: String = files.into_iter().map(|file| collector.read(file)).collect();
        let of = |tenant: &str| text.lines().filter(|line| line.contains(tenant)).collect::<Vec<_>>();
        assert_eq!((of("much"), of("little").len()), (bodies("much", 0..100).iter().map(|it| &**it).collect(), 4));
        assert!(collector.deliveries.rows().is_empty());
        collector.configure(&[]);
        assert!(collector.deliveries.outboxes().free.is_empty(), "a removed sink has no disk");
    }
}

#[tokio::test]
async fn on_a_nearly_full_disk_a_file_goes_on_if_the_room_suffices_until_rotation_removes_as_much() {
    for (keep_files, free, waits) in [(Some(2), 15_500, false), (Some(2), 13_000, true), (None, 15_500, true)] {
        let mut lake = SinkConfig { min_free_bytes: Some(100_000), ..file("all.ndjson", 1_000) };
        let SinkKind::File(config) = &mut lake.kind else { unreachable!() };
        config.keep_files = keep_files;
        let disk = SmallDisk::default();
        disk.free.store(free, Ordering::SeqCst);
        let collector = Collector::on(Arc::new(disk), store(), &[lake]);
        collector.poll(&["lake"], &bodies("one", 0..100)).await;
        collector.delivered_but(if waits { &["contoso"] } else { &[] }).await;
        assert_eq!(collector.deliveries.rows().is_empty(), !waits, "{keep_files:?}, {free} bytes");
    }
}

#[tokio::test]
async fn a_sink_that_is_replaced_while_its_disk_is_looked_at_leaves_no_trouble_behind() {
    let disk = SmallDisk::default();
    let collector = Collector::on(Arc::new(disk.clone()), store(), &[file("all.ndjson", 1 << 20)]);
    let (deliveries, changed) = (collector.deliveries.clone(), collector.placed(file("all.ndjson", 1 << 21)));
    let free = Arc::clone(&disk.free);
    *disk.meanwhile.lock() = Some(Box::new(move || {
        deliveries.replace(&[changed]).unwrap();
        free.store(1 << 40, Ordering::SeqCst);
    }));
    collector.poll(&["lake"], &bodies("one", 0..3)).await;
    collector.delivered().await;
    assert!(collector.deliveries.rows().is_empty());
}

#[tokio::test]
async fn on_a_nearly_full_disk_the_dead_letters_of_one_tenant_keep_nobody_else() {
    let refuse = |_, post: &Post| status(if post.body.contains("\"much") { 400 } else { 200 });
    let receiver = Receiver::start(refuse).await;
    let disk = SmallDisk::default();
    disk.free.store(10_000, Ordering::SeqCst);
    let collector = on_a_nearly_full_disk(&disk, http("siem", &receiver.url)).await;
    assert_eq!(receiver.lines().iter().filter(|line| line.contains("little")).count(), 2);
    let buried = collector.dead_letters().len();
    assert!((1..20).contains(&buried), "{buried}");
    disk.free.store(1 << 30, Ordering::SeqCst);
    collector.delivered().await;
    let buried: Vec<Value> = collector.dead_letters().into_iter().map(|letter| letter["uid"].clone()).collect();
    assert_eq!(buried, (0..100).map(|number| format!("much-{number}")).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_half_line_of_a_crash_is_cut_before_the_next_event() {
    let collector = Collector::new(&[file("all.ndjson", 1 << 20)]);
    fs::write(collector.folder.path().join("all.ndjson"), "{\"uid\":\"before\"}\n{\"uid\":\"ha").unwrap();
    collector.poll(&["lake"], &bodies("one", 0..1)).await;
    collector.delivered().await;
    assert_eq!(collector.read("all.ndjson"), format!("{{\"uid\":\"before\"}}\n{}\n", bodies("one", 0..1)[0]));
}

#[tokio::test]
async fn a_file_that_cannot_be_written_is_told_and_tried_again() {
    let collector = Collector::new(&[file("folder/all.ndjson", 1 << 20)]);
    let folder = collector.folder.path().join("folder");
    fs::write(&folder, "in the way").unwrap();
    let SinkKind::File(config) = collector.placed(file("folder/all.ndjson", 1)).kind else { unreachable!() };
    let path = config.path.filled("", "");
    let line = host_harness::sink::file::LineFile::new(Arc::new(RealDisk), path.clone().into(), None);
    let why = host_harness::sink::file::FileWriter::new(line, noon()).take(&[]).await.unwrap_err().to_string();
    assert!(why.starts_with(&format!("cannot write {path}: ")), "{why}");
    collector.poll(&["lake"], &bodies("one", 0..3)).await;
    fs::remove_file(&folder).unwrap();
    collector.delivered().await;
    assert_eq!(collector.read("folder/all.ndjson").lines().collect::<Vec<_>>(), bodies("one", 0..3));
}

#[tokio::test]
async fn standard_output_gets_lines_and_is_missed_when_it_is_closed() {
    let collector = Collector::new(&[sink("stdout", SinkKind::Stdout)]);
    collector.poll(&["stdout"], &bodies("one", 0..3)).await;
    collector.delivered().await;
    assert_eq!(collector.deliveries.closed(), None);
    collector.stdout.lock().is_closed = true;
    collector.poll(&["stdout"], &bodies("one", 3..6)).await;
    tokio::time::timeout(PATIENCE, collector.deliveries.rest()).await.unwrap();
    let why = collector.deliveries.closed().unwrap().to_string();
    assert!(why.starts_with("standard output: "), "{why}");
    assert_eq!(collector.deliveries.waiting()[0].1.events, 3, "they stay in the outbox");
    let written = String::from_utf8(collector.stdout.lock().written.clone()).unwrap();
    assert_eq!(written.lines().collect::<Vec<_>>(), bodies("one", 0..3));
}
