//! The sink `otlp` and a receiver that answers as the specification of OTLP/HTTP says. `tests/otlp.py` reads the same
//! requests with OpenTelemetry's own package.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use host_harness::limits;
use host_harness::sink::{Encoding, HttpConfig, Preset, SinkConfig, SinkKind};
use opentelemetry_proto::tonic::collector::logs::v1::{
    ExportLogsPartialSuccess, ExportLogsServiceRequest, ExportLogsServiceResponse,
};
use prost::Message;
use serde_json::Value;

use crate::support::deliveries::{Collector, SmallDisk, TOKEN, bodies, posting, sink, store};
use crate::support::receiver::{Post, Receiver, Reply, status};

const ENCODINGS: [Encoding; 2] = [Encoding::Protobuf, Encoding::Json];

fn otlp(url: &str, encoding: Encoding) -> SinkConfig {
    sink("otel", SinkKind::Http(HttpConfig { ..posting(&format!("{url}/v1/logs"), Preset::Otlp(encoding)) }))
}

/// Returns the uids of a request's records, in their order.
fn uids(post: &Post) -> Vec<String> {
    let request: ExportLogsServiceRequest = match post.headers["content-type"].as_str() {
        "application/x-protobuf" => ExportLogsServiceRequest::decode(&*post.bytes).unwrap(),
        "application/json" => serde_json::from_slice(&post.bytes).unwrap(),
        other => panic!("{other}"),
    };
    let records = request.resource_logs.iter().flat_map(|logs| &logs.scope_logs).flat_map(|logs| &logs.log_records);
    let uid = |record: &opentelemetry_proto::tonic::logs::v1::LogRecord| {
        assert_eq!(record.attributes[0].key, "log.record.uid");
        let value = record.attributes[0].value.clone().unwrap().value.unwrap();
        match value {
            opentelemetry_proto::tonic::common::v1::any_value::Value::StringValue(uid) => uid,
            other => panic!("{other:?}"),
        }
    };
    records.map(uid).collect()
}

/// Answers as a receiver that rejected some records.
fn partly(encoding: Encoding, rejected: i64, message: &str) -> Reply {
    let error_message = message.to_owned();
    let partial_success = Some(ExportLogsPartialSuccess { rejected_log_records: rejected, error_message });
    let answer = ExportLogsServiceResponse { partial_success };
    Reply::Status(
        200,
        match encoding {
            Encoding::Protobuf => String::from_utf8(answer.encode_to_vec()).unwrap(),
            Encoding::Json => serde_json::to_string(&answer).unwrap(),
        },
    )
}

fn expected(numbers: std::ops::Range<usize>) -> Vec<String> {
    numbers.map(|number| format!("one-{number}")).collect()
}

#[tokio::test]
async fn records_arrive_in_order_in_bounded_requests_of_either_encoding() {
    for encoding in ENCODINGS {
        let receiver = Receiver::that_accepts().await;
        let collector = Collector::new(&[otlp(&receiver.url, encoding)]);
        collector.poll(&["otel"], &bodies("one", 0..1_200)).await;
        collector.delivered().await;
        let came = receiver.came();
        assert_eq!(came.iter().flat_map(uids).collect::<Vec<_>>(), expected(0..1_200));
        assert!(came.iter().all(|post| uids(post).len() <= limits::BATCH_EVENTS));
        for post in came {
            assert_eq!((post.path.as_str(), post.headers["content-encoding"].as_str()), ("/v1/logs", "gzip"));
            assert_eq!(post.headers["authorization"], format!("Bearer {TOKEN}"));
        }
    }
}

#[tokio::test]
async fn records_that_were_rejected_among_others_are_dead_letters_and_are_not_sent_again() {
    for encoding in ENCODINGS {
        // A message may be longer than the part of a refusal that is read; in protobuf, its length would be no text.
        let more = if encoding == Encoding::Json { 2 * limits::REFUSAL_BYTES } else { 0 };
        let odd = move |number, _: &Post| match number {
            0 => partly(encoding, 2, &format!("odd, {TOKEN}{}", " ".repeat(more))),
            _ => status(200),
        };
        let receiver = Receiver::start(odd).await;
        let collector = Collector::new(&[otlp(&receiver.url, encoding)]);
        collector.poll(&["otel"], &bodies("one", 0..limits::BATCH_EVENTS + 3)).await;
        collector.delivered().await;
        let came = receiver.came();
        assert_eq!(came.len(), 2, "no request is repeated");
        assert_eq!(came.iter().flat_map(uids).collect::<Vec<_>>(), expected(0..limits::BATCH_EVENTS + 3));
        let letters = collector.dead_letters();
        let buried: Vec<String> = letters.iter().map(|letter| letter["uid"].as_str().unwrap().to_owned()).collect();
        assert_eq!(buried, expected(0..limits::BATCH_EVENTS), "nobody knows which two they are");
        let reason = letters[0]["reason"].as_str().unwrap();
        let told = format!("rejected 2 of {} events without saying which: odd, [redacted]", limits::BATCH_EVENTS);
        assert!(reason.ends_with(&told), "{reason}");
    }
}

#[tokio::test]
async fn dead_letters_of_a_rejected_batch_that_have_no_room_wait_and_are_not_sent_again() {
    let receiver = Receiver::start(|_, _| partly(Encoding::Protobuf, 1, "odd")).await;
    let disk = SmallDisk::default();
    disk.free.store(10_000, std::sync::atomic::Ordering::SeqCst);
    let siem = SinkConfig { min_free_bytes: Some(100_000), ..otlp(&receiver.url, Encoding::Protobuf) };
    let collector = Collector::on(std::sync::Arc::new(disk.clone()), store(), &[siem]);
    collector.poll(&["otel"], &bodies("one", 0..100)).await;
    collector.delivered_but(&["contoso"]).await;
    let buried = collector.dead_letters().len();
    assert!((1..20).contains(&buried), "{buried}");
    collector.poll_of("fabrikam", "test", &["otel"], &bodies("two", 0..2)).await;
    collector.delivered_but(&["contoso"]).await;
    assert_eq!(receiver.came().len(), 2, "the other tenant does not wait, and the batch is not sent again");
    disk.free.store(1 << 30, std::sync::atomic::Ordering::SeqCst);
    collector.delivered().await;
    assert_eq!(receiver.came().len(), 2);
    let letters = collector.dead_letters();
    let uids: BTreeSet<&str> = letters.iter().map(|letter| letter["uid"].as_str().unwrap()).collect();
    assert_eq!((letters.len(), uids.len()), (102, 102));
}

#[tokio::test]
async fn a_warning_of_a_receiver_that_took_everything_buries_nothing() {
    let receiver = Receiver::start(|_, _| partly(Encoding::Json, 0, "use protobuf")).await;
    let collector = Collector::new(&[otlp(&receiver.url, Encoding::Json)]);
    collector.poll(&["otel"], &bodies("one", 0..3)).await;
    collector.delivered().await;
    assert_eq!(receiver.came().len(), 1);
    assert!(!collector.folder.path().join("dead.ndjson").exists());
}

#[tokio::test]
async fn a_receiver_that_is_busy_gets_the_same_records_again_when_it_asks_for_them() {
    for busy in [429, 502, 503, 504] {
        let receiver = Receiver::start(move |number, _| match number {
            0 => Reply::RetryAfter(busy, "2"),
            _ => status(200),
        })
        .await;
        let collector = Collector::new(&[otlp(&receiver.url, Encoding::Protobuf)]);
        let begun = Instant::now();
        collector.poll(&["otel"], &bodies("one", 0..3)).await;
        collector.delivered().await;
        assert!(begun.elapsed() >= Duration::from_secs(2), "{busy}");
        let came = receiver.came();
        assert_eq!(came.iter().map(uids).collect::<Vec<_>>(), [expected(0..3), expected(0..3)]);
    }
}

#[tokio::test]
async fn a_record_that_is_refused_for_good_is_found_and_the_others_arrive() {
    // A `Status` of google.rpc: a code and a message.
    let refusal = String::from_utf8(b"\x08\x03\x12\x0cone is wrong".to_vec()).unwrap();
    let receiver = Receiver::start(move |_, post| match uids(post).contains(&"one-7".to_owned()) {
        true => Reply::Status(400, refusal.clone()),
        false => status(200),
    })
    .await;
    let collector = Collector::new(&[otlp(&receiver.url, Encoding::Protobuf)]);
    collector.poll(&["otel"], &bodies("one", 0..20)).await;
    collector.delivered().await;
    let [letter] = &collector.dead_letters()[..] else { panic!("one dead letter") };
    assert_eq!(letter["uid"], Value::from("one-7"));
    let reason = letter["reason"].as_str().unwrap();
    assert!(reason.ends_with("answered 400 Bad Request: one is wrong"), "{reason}");
}
